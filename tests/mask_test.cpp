// SPDX-License-Identifier: MIT
// Which keys a query may see: every way to say it, and every small case of it.
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
using Rows = std::vector<std::vector<Index>>;

// Lengths [B, 1] of rank 1, or [B, Q] of rank 2.
void expect_lens(const ValidLens& lens, int rank, const Rows& rows) {
  ASSERT_EQ(lens.rank(), rank);
  ASSERT_EQ(lens.sequences(), static_cast<Index>(rows.size()));
  for (std::size_t b = 0; b < rows.size(); ++b) {
    if (rank == 2) {
      ASSERT_EQ(lens.queries(), static_cast<Index>(rows[b].size()));
    }
    for (std::size_t q = 0; q < rows[b].size(); ++q)
      EXPECT_EQ(lens.length(static_cast<Index>(b), static_cast<Index>(q)), rows[b][q]);
  }
}

TEST(ValidLens, OneLengthForEachSequence) {
  const int three = 3;
  expect_lens({3, 2}, 1, {{3}, {2}});
  expect_lens({3}, 1, {{3}});
  expect_lens({three, 2u, std::int64_t{0}}, 1, {{3}, {2}, {0}});
  expect_lens(Mask{.valid_lens = {3, 2}}.valid_lens, 1, {{3}, {2}});
  expect_lens(Mask{.valid_lens = {3}}.valid_lens, 1, {{3}});
}

TEST(ValidLens, OneLengthForEachQuery) {
  const int three = 3;
  expect_lens({{1, 4}, {2, 2}}, 2, {{1, 4}, {2, 2}});
  expect_lens({{1}, {2}}, 2, {{1}, {2}});
  expect_lens({{three}}, 2, {{3}});
  expect_lens({{1, 2, 3}}, 2, {{1, 2, 3}});
  expect_lens(ValidLens{{1}, {2}}, 2, {{1}, {2}});
  expect_lens(ValidLens{{3}}, 2, {{3}});
  expect_lens(Mask{.valid_lens = {{1, 4}, {2, 2}}}.valid_lens, 2, {{1, 4}, {2, 2}});
  expect_lens(Mask{.valid_lens = {{1}, {2}}}.valid_lens, 2, {{1}, {2}});
  expect_lens(Mask{.valid_lens = {{3}}}.valid_lens, 2, {{3}});
}

template <class Length>
class ValidLensOf : public testing::Test {};
using Integers = testing::Types<std::int32_t, Index, unsigned, std::uint8_t, std::uint64_t>;
struct IntegerNames {
  template <class T>
  static std::string GetName(int) {
    return (std::is_signed_v<T> ? "Int" : "Unsigned") + std::to_string(8 * sizeof(T));
  }
};
TYPED_TEST_SUITE(ValidLensOf, Integers, IntegerNames);

TYPED_TEST(ValidLensOf, Vectors) {
  using Length = TypeParam;
  const std::vector<Length> lens{3, 2}, none;
  const std::vector<std::vector<Length>> rows{{1, 4}, {2, 2}}, no_queries{{}, {}};
  expect_lens(lens, 1, {{3}, {2}});
  expect_lens(rows, 2, {{1, 4}, {2, 2}});
  expect_lens(no_queries, 2, {{}, {}});
  expect_lens(none, 1, {});  // no sequences, which is not "no lengths"
  expect_lens(Mask{.valid_lens = lens}.valid_lens, 1, {{3}, {2}});
  expect_lens(Mask{.valid_lens = rows}.valid_lens, 2, {{1, 4}, {2, 2}});
  expect_lens(Mask{.valid_lens = none}.valid_lens, 1, {});
}

TYPED_TEST(ValidLensOf, Tensors) {
  using Length = TypeParam;
  Tensor<Length, 1> lens(2);
  lens.setValues({3, 2});
  Tensor<Length, 2> rows(2, 3);
  rows.setValues({{1, 4, 2}, {2, 0, 5}});
  expect_lens(lens, 1, {{3}, {2}});
  expect_lens(rows, 2, {{1, 4, 2}, {2, 0, 5}});
  expect_lens(Eigen::TensorMap<const Tensor<Length, 1>>(lens.data(), 2), 1, {{3}, {2}});
  expect_lens(TensorView(rows), 2, {{1, 4, 2}, {2, 0, 5}});
  expect_lens(Tensor<Length, 1>(0), 1, {});
  expect_lens(Tensor<Length, 2>(2, 0), 2, {{}, {}});
  expect_lens(Mask{.valid_lens = rows}.valid_lens, 2, {{1, 4, 2}, {2, 0, 5}});
}

TEST(ValidLens, NoneIsNoRestriction) {
  EXPECT_EQ(ValidLens().rank(), 0);
  EXPECT_EQ(ValidLens{}.rank(), 0);
  EXPECT_EQ(Mask{}.valid_lens.rank(), 0);
  EXPECT_EQ(Mask{.valid_lens = {}}.valid_lens.rank(), 0);
  EXPECT_NO_THROW(ValidLens().require_fits(2, 3, 4));
}

TEST(ValidLens, RepeatInterleaveRepeatsEverySequence) {
  expect_lens(ValidLens{3, 2}.repeat_interleave(3), 1, {{3}, {3}, {3}, {2}, {2}, {2}});
  expect_lens(ValidLens{{1, 4}, {2, 2}}.repeat_interleave(2), 2, {{1, 4}, {1, 4}, {2, 2}, {2, 2}});
  expect_lens(ValidLens{{1}, {2}}.repeat_interleave(1), 2, {{1}, {2}});
  EXPECT_EQ(ValidLens().repeat_interleave(3).rank(), 0);
  expect_lens(ValidLens{3, 2}.repeat_interleave(0), 1, {});
  const ValidLens none = ValidLens{{1, 4}, {2, 2}}.repeat_interleave(0);
  expect_lens(none, 2, {});
  EXPECT_EQ(none.queries(), 2);
  expect_lens(ValidLens(Rows{{}, {}}).repeat_interleave(2), 2, {{}, {}, {}, {}});
  EXPECT_EQ(refusal([] { return ValidLens{3}.repeat_interleave(-1); }),
            "eigenheads: repeat_interleave: n is -1; expected 0 or more");
}

TEST(ValidLens, RaggedRowsAreRefused) {
  EXPECT_EQ(refusal([] { return ValidLens{{1, 2}, {3}}; }),
            "eigenheads: valid_lens: row 1 has 1 lengths; expected 2 as in the rows before it");
  EXPECT_EQ(refusal([] { return ValidLens{{}, {3}}; }),
            "eigenheads: valid_lens: row 1 has 1 lengths; expected 0 as in the rows before it");
  EXPECT_EQ(refusal([] { return ValidLens(Rows{{1}, {2}, {}}); }),
            "eigenheads: valid_lens: row 2 has 0 lengths; expected 1 as in the rows before it");
}

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
      "eigenheads: a window over 4 queries and 6 keys needs causal top_left or bottom_right, to "
      "say which key stands beside which query";
  EXPECT_EQ(refused({.window = {0, -1}}), unnamed);
  EXPECT_EQ(refused({.window = {-1, 0}}), unnamed);
  EXPECT_EQ(refused({.window = {-1, -1}}), "not refused");
  EXPECT_EQ(refused({.window = {1, 1}}, 2, 6, 6), "not refused");
  EXPECT_EQ(refused({.causal = Causal::bottom_right, .window = {1, 1}}), "not refused");
}

// It looks at the mask that it was made from.
static_assert(std::is_constructible_v<eh::BoundMask, const Mask&, Index, Index, Index>);
static_assert(!std::is_constructible_v<eh::BoundMask, Mask, Index, Index, Index>);

// key_range against the question about one pair, for every query and key of a call.
void expect_key_ranges(const PairMask& pairs, Index B) {
  const Mask mask = pairs.mask();
  const bool aligned = pairs.causal != Causal::none || pairs.Q == pairs.K ||
                       (pairs.window.left < 0 && pairs.window.right < 0);
  if (!aligned) {
    ASSERT_NE(refused(mask, B, pairs.Q, pairs.K), "not refused");
    return;
  }
  const eh::BoundMask bound(mask, B, pairs.Q, pairs.K);
  for (Index b = 0; b < B; ++b)
    for (Index q = 0; q < pairs.Q; ++q) {
      const auto [begin, end] = bound.key_range(b, q);
      ASSERT_TRUE(0 <= begin && begin <= end && end <= pairs.K) << begin << ' ' << end;
      for (Index k = 0; k < pairs.K; ++k)
        ASSERT_EQ(begin <= k && k < end, pairs.visible(b, q, k))
            << "Q " << pairs.Q << ", K " << pairs.K << ", query " << q << ", key " << k
            << ", causal " << static_cast<int>(pairs.causal) << ", window " << pairs.window.left
            << ' ' << pairs.window.right << ", range " << begin << ' ' << end;
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

TEST(BoundMask, EverySequenceHasItsOwnLengths) {
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
        }
}

TEST(ValidLens, ATensorOfNegativeLengthIsRefused) {
  const std::vector<Index> lengths(8, 1);
  EXPECT_EQ(refusal([&] { return ValidLens(TensorView<Index, 1>(&lengths[4], {-3})); }),
            "eigenheads: valid_lens has a negative dimension: [-3]");
}

// The last test: what is not refused here reads from address 0.
TEST(ValidLens, ANullPointerIsRefused) {
  EXPECT_EQ(refusal([] { return ValidLens(TensorView<Index, 1>(nullptr, {3})); }),
            "eigenheads: valid_lens has shape [3] but its data pointer is null");
}

}  // namespace
