// SPDX-License-Identifier: MIT
// The parts of a mask that are no range of keys: `allowed`, pair by pair, and `query_lens`, the
// queries that count. Alone, together with the others, and over what may not be observed.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_reference.hpp>

#include "contract.hpp"
#include "support.hpp"
#include "textbook.hpp"

namespace {

using namespace support;
using eh::Causal, eh::Context, eh::Mask, eh::scaled_dot_product_attention;
using Pairs = Tensor<bool, 4>;

constexpr Index B = 2, H = 4, G = 2, D = 5, V = 6;

// Half of all pairs.
Pairs random_pairs(std::uint64_t seed, Index b, Index h, Index q, Index k) {
  Pairs pairs(b, h, q, k);
  Numbers numbers(seed);
  for (Index i = 0; i < pairs.size(); ++i) pairs.data()[i] = numbers.next() % 2 == 0;
  return pairs;
}

// [B, H, Q, K], true where the mask lets a query of a head see a key.
Pairs materialised(const PairMask& mask, Index heads = H) {
  Pairs pairs(B, heads, mask.Q, mask.K);
  for (Index b = 0; b < B; ++b)
    for (Index h = 0; h < heads; ++h)
      for (Index q = 0; q < mask.Q; ++q)
        for (Index k = 0; k < mask.K; ++k) pairs(b, h, q, k) = mask.visible(b, h, q, k);
  return pairs;
}

template <class T>
struct Inputs {
  Inputs(Index queries, Index keys)
      : Q(queries),
        K(keys),
        q(random_tensor<T>(1, B, H, Q, D)),
        k(random_tensor<T>(2, B, G, K, D)),
        v(random_tensor<T>(3, B, G, K, V)) {}

  Index Q, K;
  Tensor<T, 4> q, k, v;

  [[nodiscard]] eh::AttentionResult<T> attend(const Mask& mask, int threads = 1) const {
    Context context(threads, kAnyWork);
    return scaled_dot_product_attention(q, k, v, mask, {.scale = 0.5}, context);
  }
  [[nodiscard]] Textbook<T> exact(const PairMask& mask) const {
    return textbook<T>(q, k, v, mask, Wide<T>(0.5));
  }
};

// Few queries, one task, and several; one block of keys and several.
template <class T>
std::vector<Inputs<T>> calls() {
  return {{3, 5}, {1, 300}, {4, 129}, {13, 65}, {50, 270}};
}

template <class T>
class MaskPairs : public testing::Test {};
TYPED_TEST_SUITE(MaskPairs, Scalars, ScalarNames);

TYPED_TEST(MaskPairs, EveryBroadcastShapeIsTheMaterialisedMask) {
  for (const auto& call : calls<TypeParam>())
    for (int axes = 0; axes < 16; ++axes) {
      const auto one_or = [axes](int axis, Index n) { return (axes >> axis & 1) != 0 ? 1 : n; };
      PairMask mask{.Q = call.Q, .K = call.K};
      mask.allowed =
          random_pairs(7, one_or(0, B), one_or(1, H), one_or(2, call.Q), one_or(3, call.K));
      SCOPED_TRACE(testing::PrintToString(mask.allowed.dimensions()));
      const auto got = call.attend(mask.mask()), all = call.attend({.allowed = materialised(mask)});
      ASSERT_TRUE(same_bits(got, all));
      const auto exact = call.exact(mask);
      ASSERT_TRUE(within(got.output, exact.output, exact.output_bound));
      ASSERT_TRUE(within(got.lse, exact.lse, exact.lse_bound));
      if (mask.allowed.dimension(0) * mask.allowed.dimension(1) > 1) continue;
      Tensor<bool, 2> pairs(mask.allowed.dimension(2), mask.allowed.dimension(3));  // [Q, K]
      std::copy_n(mask.allowed.data(), pairs.size(), pairs.data());
      ASSERT_TRUE(same_bits(call.attend({.allowed = pairs}), got));
    }
}

// Lengths, causality and windows said pair by pair: key blocks stand where they stood.
TYPED_TEST(MaskPairs, AllowedSaysWhatTheOtherPartsSay) {
  for (const auto& call : calls<TypeParam>())
    for (const PairMask& mask : example_masks(B, call.Q, call.K, 5)) {
      SCOPED_TRACE(mask.text());
      ASSERT_TRUE(
          same_bits(call.attend({.allowed = materialised(mask, 1)}), call.attend(mask.mask())));
    }
}

// All parts at once, against the textbook and the library's own reference.
TYPED_TEST(MaskPairs, AllPartsTogether) {
  using T = TypeParam;
  Numbers numbers(1);
  for (const auto& call : calls<TypeParam>())
    for (PairMask& mask : example_masks(B, call.Q, call.K, 6)) {
      mask.allowed = random_pairs(8, numbers.between(1, 2), numbers.between(0, 1) * (H - 1) + 1,
                                  call.Q, call.K);
      mask.query_lens = {numbers.between(0, call.Q), call.Q};
      SCOPED_TRACE(mask.text());
      const auto got = call.attend(mask.mask());
      const auto exact = call.exact(mask);
      ASSERT_TRUE(within(got.output, exact.output, exact.output_bound));
      ASSERT_TRUE(within(got.lse, exact.lse, exact.lse_bound));
      const auto reference =
          eh::attention_reference<T>(call.q, call.k, call.v, mask.mask(), T(0.5));
      ASSERT_TRUE(within(reference.output, exact.output, exact.output_bound));
      ASSERT_TRUE(within(reference.weights, exact.weights, exact.weights_bound));
      for (const int threads : {2, 3})
        ASSERT_TRUE(same_bits(call.attend(mask.mask(), threads), got));
    }
}

// C2, pair by pair: rows that allow nothing, and rows that allow one key.
TYPED_TEST(MaskPairs, ARowThatAllowsNothingIsZeroAndOneKeyIsItsValue) {
  using T = TypeParam;
  for (const auto& call : calls<TypeParam>()) {
    PairMask mask{.Q = call.Q, .K = call.K};
    mask.allowed = random_pairs(9, B, 1, call.Q, call.K);
    const auto full = call.attend(mask.mask());
    const Index empty = call.Q / 2;
    for (Index k = 0; k < call.K; ++k) mask.allowed(1, 0, empty, k) = false;
    const auto got = call.attend(mask.mask());
    for (Index h = 0; h < H; ++h)
      for (Index b = 0; b < B; ++b)
        for (Index q = 0; q < call.Q; ++q)
          if (b == 1 && q == empty) {
            ASSERT_TRUE(all_are(row(got.output, b, h, q), T(0)));
            ASSERT_EQ(got.lse(b, h, q), -kInf<T>);
          } else {
            ASSERT_TRUE(same_bits(row(got.output, b, h, q), row(full.output, b, h, q)));
          }
    for (Index i = 0; i < mask.allowed.size(); ++i)
      mask.allowed.data()[i] = i % call.K == i / call.K * 7 % call.K;
    const auto alone = call.attend(mask.mask());
    for (Index b = 0; b < B; ++b)
      for (Index q = 0; q < call.Q; ++q)
        ASSERT_TRUE(same_bits(row(alone.output, b, 3, q),
                              row(call.v, b, 1, (b * call.Q + q) * 7 % call.K)));
  }
}

// Each query's holes are poisoned in turn: what lies there is not observed there.
TYPED_TEST(MaskPairs, WhatLiesInAHoleIsNotObservable) {
  using T = TypeParam;
  static constexpr T poison[] = {kNan<T>, kInf<T>, -kInf<T>, Limits<T>::max(), -kNan<T>};
  for (auto& call : calls<TypeParam>())
    for (PairMask& mask : example_masks(B, call.Q, call.K, 6)) {
      mask.allowed = random_pairs(8, B, H, call.Q, call.K);
      SCOPED_TRACE(mask.text());
      const auto clean = call.attend(mask.mask());
      for (const Index q : {Index{0}, call.Q / 2, call.Q - 1}) {
        auto poisoned = call;
        for (Index b = 0; b < B; ++b)
          for (Index k = 0; k < call.K; ++k)
            for (Index g = 0; g < G; ++g)  // heads 2 g and 2 g + 1 read it
              if (!mask.visible(b, 2 * g, q, k) && !mask.visible(b, 2 * g + 1, q, k)) {
                std::fill_n(&poisoned.k(b, g, k, 0), D, poison[k % 5]);
                std::fill_n(&poisoned.v(b, g, k, 0), V, poison[(k + 1) % 5]);
              }
        const auto got = poisoned.attend(mask.mask());
        for (Index b = 0; b < B; ++b)
          for (Index h = 0; h < H; ++h) {
            ASSERT_TRUE(same_bits(row(got.output, b, h, q), row(clean.output, b, h, q))) << q;
            ASSERT_EQ(bits(got.lse(b, h, q)), bits(clean.lse(b, h, q)));
          }
      }
    }
}

TYPED_TEST(MaskPairs, NanInAValueReachesItsColumnOfTheQueriesThatSeeIt) {
  using T = TypeParam;
  for (auto& call : calls<TypeParam>()) {
    PairMask mask{.Q = call.Q, .K = call.K};
    mask.allowed = random_pairs(8, B, H, call.Q, call.K);
    const auto clean = call.attend(mask.mask());
    for (const Index key : {Index{0}, call.K / 2, call.K - 1})
      for (const bool in_values : {false, true}) {
        auto with_nan = call;
        (in_values ? with_nan.v : with_nan.k)(1, 1, key, 4) = kNan<T>;
        const auto got = with_nan.attend(mask.mask());
        for (Index h = 0; h < H; ++h)
          for (Index q = 0; q < call.Q; ++q) {
            const bool sees = h >= 2 && mask.visible(1, h, q, key);
            ASSERT_TRUE(same_bits(row(got.output, 0, h, q), row(clean.output, 0, h, q)));
            for (Index c = 0; c < V; ++c)
              ASSERT_EQ(bits(got.output(1, h, q, c)),
                        bits(sees && (!in_values || c == 4) ? kNan<T> : clean.output(1, h, q, c)))
                  << "key " << key << ", head " << h << ", query " << q;
          }
      }
  }
}

// Row by row is for what is not finite where it may not be seen: never without need.
TYPED_TEST(MaskPairs, FiniteValuesAreNeverMultipliedRowByRow) {
  using T = TypeParam;
  int mixed_tiles = 0;
  for (const auto& call : calls<T>())
    for (PairMask& mask : example_masks(B, call.Q, call.K, 6))
      for (const bool has_pairs : {false, true}) {
        if (has_pairs) mask.allowed = random_pairs(8, B, H, call.Q, call.K);
        SCOPED_TRACE(mask.text());
        Context context(2, kAnyWork);
        const auto attend = [&](const Tensor<T, 4>& v) {
          return scaled_dot_product_attention(call.q, call.k, v, mask.mask(), {}, context);
        };
        const auto clean = attend(call.v);
        ASSERT_EQ(context.row_by_row_count(), 0);
        auto v = call.v;
        v(1, 1, call.K - 1, 0) = kNan<T>;
        (void)attend(v);
        bool is_hidden = false, is_seen = false;
        for (Index q = 0; q < call.Q; ++q)
          for (const Index h : {2, 3})
            (mask.visible(1, h, q, call.K - 1) ? is_seen : is_hidden) = true;
        // Seen by some and hidden from others of a tile, which holds 4 rows or more.
        if (call.Q * 2 <= 4 && is_hidden && is_seen) {
          EXPECT_GT(context.row_by_row_count(), 0);
          ++mixed_tiles;
        }
        ASSERT_TRUE(same_bits(attend(call.v), clean));
      }
  EXPECT_GT(mixed_tiles, 0);
}

// Every other row sees a key whose value is NaN, so each tile holds a row that does not: then all
// rows of that sequence and key/value head, and no others, are multiplied key by key, in the block
// of that key alone.
TYPED_TEST(MaskPairs, AHiddenNanMakesTheRowsOfItsTilesGoKeyByKeyAndNoOthers) {
  using T = TypeParam;
  for (const auto& call : calls<T>())
    for (const int threads : {1, 5}) {
      PairMask mask{.Q = call.Q, .K = call.K};
      mask.allowed = constant_tensor<bool>(true, 1, H, call.Q, call.K);
      for (Index h = 0; h < H; ++h)
        for (Index q = 0; q < call.Q; ++q) mask.allowed(0, h, q, call.K - 1) = (h + q) % 2 == 0;
      auto v = call.v;
      v(1, 1, call.K - 1, 0) = kNan<T>;
      Context context(threads, kAnyWork);
      const auto got =
          scaled_dot_product_attention(call.q, call.k, v, mask.mask(), {.scale = 0.5}, context);
      EXPECT_EQ(context.row_by_row_count(), H / G * call.Q) << call.Q << ' ' << call.K;
      const auto clean = call.attend(mask.mask());
      for (Index h = 0; h < H; ++h)
        for (Index q = 0; q < call.Q; ++q)
          if (h >= H / G && (h + q) % 2 == 0) {
            EXPECT_EQ(bits(got.output(1, h, q, 0)), bits(kNan<T>));
          } else {
            EXPECT_TRUE(same_bits(row(got.output, 1, h, q), row(clean.output, 1, h, q)));
          }
    }
}

// Where the rows of a tile see the same keys, whole tiles hand NaN on to the right rows.
TYPED_TEST(MaskPairs, NanThatAllRowsSeeMakesNothingSlow) {
  using T = TypeParam;
  for (const auto& call : calls<T>())
    for (const PairMask& mask : {PairMask{.Q = call.Q, .K = call.K},
                                 PairMask{.Q = call.Q,
                                          .K = call.K,
                                          .lens_rank = 1,
                                          .lens = constant_tensor<Index>(call.K - 1, B, 1)}})
      for (const int threads : {1, 5}) {
        auto v = call.v;
        v(1, 1, call.K / 2, 0) = kNan<T>;
        Context context(threads, kAnyWork);
        const auto got =
            scaled_dot_product_attention(call.q, call.k, v, mask.mask(), {.scale = 0.5}, context);
        EXPECT_EQ(context.row_by_row_count(), 0);
        const auto clean = call.attend(mask.mask());
        for (Index h = 0; h < H; ++h)
          for (Index q = 0; q < call.Q; ++q)
            for (Index c = 0; c < V; ++c) {
              const T expected = h >= H / G && c == 0 ? kNan<T> : clean.output(1, h, q, c);
              ASSERT_EQ(bits(got.output(1, h, q, c)), bits(expected)) << h << ' ' << q << ' ' << c;
            }
      }
}

// ---- What a bound mask says of pairs ------------------------------------------------------------

TEST(BoundMaskOfPairs, ARowIsThatOfTheSequenceTheHeadAndTheQueryOrOfAll) {
  const Index Q = 3, K = 5;
  for (int axes = 0; axes < 8; ++axes) {
    const auto one_or = [axes](int axis, Index n) { return (axes >> axis & 1) != 0 ? 1 : n; };
    PairMask pairs{.Q = Q, .K = K};
    pairs.allowed = random_pairs(11, one_or(0, B), one_or(1, H), one_or(2, Q), K);
    const Mask mask = pairs.mask();
    const eh::BoundMask bound(mask, B, Q, K, H);
    EXPECT_TRUE(bound.hides_single_keys());
    for (Index b = 0; b < B; ++b)
      for (Index h = 0; h < H; ++h)
        for (Index q = 0; q < Q; ++q) {
          const std::uint8_t* row = bound.allowed_row(b, h, q);
          ASSERT_NE(row, nullptr);
          for (Index k = 0; k < K; ++k) ASSERT_EQ(row[k] != 0, pairs.visible(b, h, q, k));
        }
  }
}

TEST(BoundMaskOfPairs, WhereARangeSaysItAllThereIsNoRow) {
  const Index Q = 3, K = 5;
  const Mask lengths{.valid_lens = {5, 2}, .causal = Causal::top_left};
  EXPECT_EQ(eh::BoundMask(lengths, B, Q, K, H).allowed_row(1, 2, 1), nullptr);
  EXPECT_FALSE(eh::BoundMask(lengths, B, Q, K, H).hides_single_keys());
  // One for all keys: each row has them all, or none.
  const auto heads = random_pairs(11, B, H, Q, 1);
  const Mask mask{.allowed = heads};
  const eh::BoundMask bound(mask, B, Q, K, H);
  EXPECT_FALSE(bound.hides_single_keys());
  for (Index b = 0; b < B; ++b)
    for (Index h = 0; h < H; ++h)
      for (Index q = 0; q < Q; ++q) {
        EXPECT_EQ(bound.allowed_row(b, h, q), nullptr);
        const eh::KeyRange range = bound.key_range(b, h, q);
        EXPECT_EQ(range.end - range.begin, heads(b, h, q, 0) ? K : 0);
      }
}

}  // namespace
