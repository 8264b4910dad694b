// SPDX-License-Identifier: MIT
// Which keys a query may see: every small case of it, and what no call can mean.
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include <eigenheads/mask.hpp>

#include "support.hpp"
#include "textbook.hpp"

namespace {

using namespace support;
using eh::Causal, eh::Mask, eh::ValidLens, eh::Window;

// The refusal of a mask in a call of B = 2 sequences, Q = 4 queries and K = 6 keys.
std::string refused(const Mask& mask, Index B = 2, Index Q = 4, Index K = 6) {
  return refusal([&] { return eh::BoundMask(mask, B, Q, K); });
}

TEST(BoundMask, LengthsThatFitAreAccepted) {
  for (const ValidLens& lens :
       {ValidLens(), ValidLens{0, 6}, ValidLens{{0, 1, 2, 6}, {6, 6, 0, 3}}})
    EXPECT_EQ(refused({.valid_lens = lens}), "not refused");
  EXPECT_EQ(refused({.valid_lens = std::vector<int>{}}, 0, 4, 6), "not refused");
  EXPECT_EQ(refused({.valid_lens = Tensor<Index, 2>(2, 0)}, 2, 0, 6), "not refused");
}

TEST(BoundMask, LengthsOfAnotherShapeAreRefused) {
  const std::string expected = "; expected [B] = [2] or [B, Q] = [2, 4]";
  const std::string start = "eigenheads: valid_lens has shape ";
  EXPECT_EQ(refused({.valid_lens = {3}}), start + "[1]" + expected);
  EXPECT_EQ(refused({.valid_lens = {3, 3, 3}}), start + "[3]" + expected);
  EXPECT_EQ(refused({.valid_lens = std::vector<int>{}}), start + "[0]" + expected);
  EXPECT_EQ(refused({.valid_lens = {{1}, {2}}}), start + "[2, 1]" + expected);
  EXPECT_EQ(refused({.valid_lens = {{1, 2, 3, 4}}}), start + "[1, 4]" + expected);
  EXPECT_EQ(refused({.valid_lens = ValidLens{3, 2}.repeat_interleave(5)}),
            start + "[10]" + expected);
}

TEST(BoundMask, LengthsOfNoCallAreRefusedWithTheirPlace) {
  const std::string expected = "; expected 0 to the number of keys, 6";
  const std::string start = "eigenheads: valid_lens";
  EXPECT_EQ(refused({.valid_lens = {6, 7}}), start + "[1] is 7" + expected);
  EXPECT_EQ(refused({.valid_lens = {-1, 7}}), start + "[0] is -1" + expected);
  EXPECT_EQ(refused({.valid_lens = {{1, 2, 3, 4}, {1, 2, 8, -1}}}),
            start + "[1, 2] is 8" + expected);
  EXPECT_EQ(refused({.valid_lens = {{0, 0, 0, -9}, {0, 0, 0, 0}}}),
            start + "[0, 3] is -9" + expected);
  EXPECT_NE(refused({.valid_lens = std::vector<std::uint64_t>{1, ~std::uint64_t{0}}}),
            "not refused");
}

TEST(BoundMask, WindowsThatCannotBeAreRefused) {
  const std::string expected = "; expected -1 (unlimited) or more on either side";
  EXPECT_EQ(refused({.window = {-2, 0}}), "eigenheads: window is {-2, 0}" + expected);
  EXPECT_EQ(refused({.causal = Causal::top_left, .window = {3, -7}}),
            "eigenheads: window is {3, -7}" + expected);
  const std::string unnamed =
      "eigenheads: a window over 4 queries and 6 keys needs causal top_left or bottom_right, or "
      "first_positions, to say which key stands beside which query";
  EXPECT_EQ(refused({.window = {0, -1}}), unnamed);
  EXPECT_EQ(refused({.window = {-1, 0}}), unnamed);
  EXPECT_EQ(refused({.window = {-1, -1}}), "not refused");
  EXPECT_EQ(refused({.window = {1, 1}}, 2, 6, 6), "not refused");
  EXPECT_EQ(refused({.causal = Causal::bottom_right, .window = {1, 1}}), "not refused");
  EXPECT_EQ(refused({.window = {1, 1}, .first_positions = {0, 9}}), "not refused");
}

TEST(BoundMask, KeyLensAndPositionsThatNoCallHasAreRefused) {
  const std::string keys = "eigenheads: key_lens", first = "eigenheads: first_positions";
  const std::string shape = "; expected [B] = [2]";
  EXPECT_EQ(refused({.key_lens = {6, 7}}), keys + "[1] is 7; expected 0 to the number of keys, 6");
  EXPECT_EQ(refused({.key_lens = {-1, 6}}),
            keys + "[0] is -1; expected 0 to the number of keys, 6");
  EXPECT_EQ(refused({.key_lens = {6}}), keys + " has shape [1]" + shape);
  EXPECT_EQ(refused({.key_lens = {{1, 2, 3, 4}, {1, 2, 3, 4}}}),
            keys + " has one length a query" + shape);
  EXPECT_EQ(refused({.key_lens = {0, 6}}), "not refused");

  EXPECT_EQ(refused({.first_positions = {0, -1}}), first + "[1] is -1; expected 0 to 2147483643");
  constexpr Index most = Limits<Index>::max();
  EXPECT_EQ(refused({.first_positions = {most, Index{0}}}),
            first + "[0] is " + std::to_string(most) + "; expected 0 to 2147483643");
  EXPECT_EQ(refused({.first_positions = {1, 2, 3}}), first + " has shape [3]" + shape);
  EXPECT_EQ(refused({.first_positions = {{1, 2, 3, 4}, {1, 2, 3, 4}}}),
            first + " has one length a query" + shape);
  EXPECT_EQ(refused({.causal = Causal::bottom_right, .first_positions = {0, 0}}),
            "eigenheads: first_positions are given with causal bottom_right, which places the "
            "queries at the end of the keys; expected top_left or none");
  EXPECT_EQ(refused({.causal = Causal::top_left, .first_positions = {0, 2147483643}}),
            "not refused");
}

// It looks at the mask that it was made from.
static_assert(std::is_constructible_v<eh::BoundMask, const Mask&, Index, Index, Index>);
static_assert(!std::is_constructible_v<eh::BoundMask, Mask, Index, Index, Index>);

// key_range against the question about one pair, for every query and key of a call.
void expect_key_ranges(const PairMask& pairs, Index B) {
  const Mask mask = pairs.mask();
  const bool aligned = pairs.causal != Causal::none || pairs.Q == pairs.K ||
                       !pairs.first_positions.empty() ||
                       (pairs.window.left < 0 && pairs.window.right < 0);
  if (!aligned) {
    ASSERT_NE(refused(mask, B, pairs.Q, pairs.K), "not refused");
    return;
  }
  const eh::BoundMask bound(mask, B, pairs.Q, pairs.K);
  for (Index b = 0; b < B; ++b)
    for (Index q = 0; q < pairs.Q; ++q) {
      ASSERT_EQ(bound.aligned(b, q), pairs.aligned(b, q));
      const auto [begin, end] = bound.key_range(b, q);
      const auto [first, last] = bound.gap(b, q);
      ASSERT_TRUE(0 <= begin && begin <= end && end <= pairs.K) << begin << ' ' << end;
      ASSERT_TRUE(first == last || (begin < first && first < last && last <= end)) << pairs.text();
      for (Index k = 0; k < pairs.K; ++k)
        ASSERT_EQ(begin <= k && k < end && (k < first || k >= last), pairs.visible(b, q, k))
            << "Q " << pairs.Q << ", K " << pairs.K << ", query " << q << ", key " << k
            << ", causal " << static_cast<int>(pairs.causal) << ", window " << pairs.window.left
            << ' ' << pairs.window.right << ", range " << begin << ' ' << end << ", "
            << pairs.text();
    }
  for (Index b = 0; b < B; ++b) {
    const auto [begin, end] = bound.seen_keys(b);
    for (Index q = 0; q < pairs.Q; ++q)
      for (Index k = 0; k < pairs.K; ++k)
        ASSERT_TRUE(!pairs.visible(b, q, k) || (begin <= k && k < end)) << pairs.text();
  }
}

// Every mask of up to four queries and four keys: each query has every length.
TEST(BoundMask, KeyRangeIsWhatThePairsSayInEverySmallCase) {
  constexpr Index huge = Limits<Index>::max();
  for (Index Q = 0; Q <= 4; ++Q)
    for (Index K = 0; K <= 4; ++K)
      for (const Causal causal : {Causal::none, Causal::top_left, Causal::bottom_right})
        for (const Index left : {Index{-1}, Index{0}, Index{1}, Index{2}, huge})
          for (const Index right : {Index{-1}, Index{0}, Index{1}, Index{2}, huge}) {
            PairMask pairs{.Q = Q, .K = K, .causal = causal, .window = {left, right}};
            expect_key_ranges(pairs, 1);
            pairs.lens_rank = 1;
            for (Index length = 0; length <= K; ++length) {
              pairs.lens = constant_tensor<Index>(length, 1, 1);
              expect_key_ranges(pairs, 1);
            }
            pairs.lens_rank = 2;
            Index combinations = 1;
            for (Index q = 0; q < Q; ++q) combinations *= K + 1;
            for (Index combination = 0; combination < combinations; ++combination) {
              pairs.lens = Tensor<Index, 2>(1, Q);
              for (Index q = 0, rest = combination; q < Q; ++q, rest /= K + 1)
                pairs.lens(0, q) = rest % (K + 1);
              expect_key_ranges(pairs, 1);
            }
            if (HasFatalFailure()) return;
          }
}

// Every key count, every number of queries that count, and positions before and after the end.
TEST(BoundMask, KeyCountsAndPositionsAreWhatThePairsSayInEverySmallCase) {
  constexpr Index huge = Limits<Index>::max();
  for (Index Q = 0; Q <= 4; ++Q)
    for (Index K = 0; K <= 4; ++K)
      for (const Causal causal : {Causal::none, Causal::top_left, Causal::bottom_right})
        for (const Index left : {Index{-1}, Index{0}, Index{1}, huge})
          for (const Index right : {Index{-1}, Index{0}, Index{1}, huge})
            for (Index keys = 0; keys <= K; ++keys)
              for (Index queries = 0; queries <= Q; ++queries)
                for (Index length = 0; length <= K; ++length)
                  for (const Index first :
                       {Index{-1}, Index{0}, Index{1}, Index{3}, Index{6}, Index{2147483600}}) {
                    PairMask pairs{.Q = Q,
                                   .K = K,
                                   .lens_rank = 1,
                                   .lens = constant_tensor<Index>(length, 1, 1),
                                   .causal = causal,
                                   .window = {left, right},
                                   .query_lens = {queries},
                                   .key_lens = {keys}};
                    if (first >= 0 && causal == Causal::bottom_right) continue;
                    if (first >= 0) pairs.first_positions = {first};
                    expect_key_ranges(pairs, 1);
                    if (HasFatalFailure()) return;
                  }
}

// Sinks and prefixes of every length, under every window.
TEST(BoundMask, SinksAndPrefixesAreWhatThePairsSayInEverySmallCase) {
  constexpr Index huge = Limits<Index>::max();
  for (Index Q = 0; Q <= 4; ++Q)
    for (Index K = 0; K <= 5; ++K)
      for (const Causal causal : {Causal::none, Causal::top_left, Causal::bottom_right})
        for (const Index left : {Index{-1}, Index{0}, Index{1}, huge})
          for (const Index right : {Index{-1}, Index{0}, Index{1}, huge})
            for (const Index sinks : {Index{0}, Index{1}, Index{2}, Index{7}, huge})
              for (Index prefix = causal == Causal::none ? K : 0; prefix <= K; ++prefix)
                for (const Index first : {Index{-1}, Index{0}, Index{2}, Index{6}, Index{900}})
                  for (Index length = K; length >= 0 && length >= K - 2; --length) {
                    PairMask pairs{.Q = Q,
                                   .K = K,
                                   .lens_rank = 1,
                                   .lens = constant_tensor<Index>(length, 1, 1),
                                   .causal = causal,
                                   .window = {left, right},
                                   .sinks = sinks};
                    if (first >= 0 && causal == Causal::bottom_right) continue;
                    if (first >= 0) pairs.first_positions = {first};
                    if (causal != Causal::none) pairs.prefix_lens = {prefix};
                    expect_key_ranges(pairs, 1);
                    if (HasFatalFailure()) return;
                  }
}

// What no query sees is left out of what is read, but where one block of keys may hold both sides.
TEST(BoundMask, AGapOfAllQueriesIsNotAmongTheSeenKeys) {
  for (const Index sinks : {Index{1}, Index{4}, Index{300}})
    for (const Index first : {Index{0}, Index{259}, Index{264}, Index{700}})
      for (const Index left : {Index{0}, Index{5}}) {
        const PairMask pairs{.Q = 7,
                             .K = 720,
                             .causal = Causal::top_left,
                             .window = {left, -1},
                             .first_positions = {first},
                             .sinks = sinks};
        expect_key_ranges(pairs, 1);
        const Mask mask = pairs.mask();
        const eh::BoundMask bound(mask, 1, pairs.Q, pairs.K);
        const auto [begin, end] = bound.unseen_gap(0);
        const Index gap = first - left - sinks;
        EXPECT_EQ(end - begin, gap < 256 ? 0 : gap);
        for (Index k = begin; k < end; ++k)
          for (Index q = 0; q < pairs.Q; ++q) ASSERT_FALSE(pairs.visible(0, q, k));
        for (Index from = 0; from < pairs.K; from += 256) {
          const auto part = bound.seen_keys(0, {from, from + 256});
          for (Index k = from; k < from + 256 && k < pairs.K; ++k)
            for (Index q = 0; q < pairs.Q; ++q)
              ASSERT_TRUE(!pairs.visible(0, q, k) || (part.begin <= k && k < part.end));
          ASSERT_TRUE(part.begin == part.end || part.begin >= end || part.end <= begin ||
                      begin == end);
        }
      }
}

TEST(BoundMask, SinksAndPrefixesThatNoCallHasAreRefused) {
  const auto refused_causal = [](ValidLens prefix_lens, ValidLens key_lens = {}) {
    return refused({.causal = Causal::top_left,
                    .key_lens = std::move(key_lens),
                    .prefix_lens = std::move(prefix_lens)},
                   2, 4, 6);
  };
  const std::string prefix = "eigenheads: prefix_lens";
  EXPECT_EQ(refused({.sinks = -1}), "eigenheads: sinks is -1; expected 0 or more");
  EXPECT_EQ(refused({.sinks = 1000}), "not refused");  // of a cache that fills up
  EXPECT_EQ(refused_causal({6, 0}), "not refused");
  EXPECT_EQ(refused_causal({6, 7}), prefix + "[1] is 7; expected 0 to the number of keys, 6");
  EXPECT_EQ(refused_causal({6, -1}), prefix + "[1] is -1; expected 0 to the number of keys, 6");
  EXPECT_EQ(refused_causal({6}), prefix + " has shape [1]; expected [B] = [2]");
  EXPECT_EQ(refused_causal({6, 3}, {6, 2}),
            prefix + "[1] is 3; expected at most the keys of its sequence, 2");
  EXPECT_EQ(refused({.prefix_lens = {1, 1}}, 2, 4, 6),
            prefix +
                " are given without a causal mask, which is what they make an exception of; "
                "expected causal top_left or bottom_right");
}

// A sequence's last query, of those that count, beside its own last key.
TEST(BoundMask, BottomRightIsWhereTheSequenceEnds) {
  const Mask mask{.valid_lens = {1, 1},
                  .causal = Causal::bottom_right,
                  .query_lens = {4, 2},
                  .key_lens = {5, 1}};
  const eh::BoundMask bound(mask, 2, 4, 6);
  EXPECT_EQ(bound.keys(0), 5);
  EXPECT_EQ(bound.keys(1), 1);
  EXPECT_EQ(bound.aligned(0, 3), 4);
  EXPECT_EQ(bound.aligned(1, 1), 0);
  EXPECT_EQ(bound.aligned(1, 0), -1);  // before the first key: it sees none
  const Mask of_the_call{
      .valid_lens = {1, 1}, .causal = Causal::bottom_right, .query_lens = {4, 2}};
  const eh::BoundMask whole(of_the_call, 2, 4, 6);
  EXPECT_EQ(whole.aligned(1, 1), 3);
}

TEST(BoundMask, EverySequenceHasItsOwnLengthsAndPositions) {
  Numbers numbers(1);
  for (const Index Q : {1, 3, 70})
    for (const Index K : {1, 5, 90})
      for (const int rank : {1, 2})
        for (const Causal causal : {Causal::none, Causal::top_left, Causal::bottom_right}) {
          PairMask pairs{.Q = Q, .K = K, .lens_rank = rank, .causal = causal};
          pairs.lens = Tensor<Index, 2>(4, rank == 1 ? 1 : Q);
          for (Index i = 0; i < pairs.lens.size(); ++i)
            pairs.lens.data()[i] = numbers.between(0, K);
          if (causal != Causal::none) pairs.window.left = numbers.between(0, K);
          expect_key_ranges(pairs, 4);
          for (int b = 0; b < 4; ++b) pairs.key_lens.push_back(numbers.between(0, K));
          for (int b = 0; b < 4; ++b) pairs.query_lens.push_back(numbers.between(0, Q));
          expect_key_ranges(pairs, 4);
          if (causal == Causal::bottom_right) continue;
          for (int b = 0; b < 4; ++b) pairs.first_positions.push_back(numbers.between(0, K + 2));
          expect_key_ranges(pairs, 4);
        }
}

}  // namespace
