// SPDX-License-Identifier: MIT
// First keys that stay visible under a window, and prefixes that see all of themselves: the bits of
// the same mask said pair by pair, wherever the gap between sinks and window lies in its blocks.
#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_backward.hpp>
#include <eigenheads/attention_reference.hpp>
#include <eigenheads/explain.hpp>
#include <eigenheads/head_importance.hpp>
#include <eigenheads/multi_head_attention.hpp>
#include <eigenheads/nn/additive_attention.hpp>

#include "guarded.hpp"
#include "layers.hpp"
#include "support.hpp"
#include "textbook.hpp"

namespace {

using namespace support;
using eh::Causal, eh::Context, eh::Mask, eh::scaled_dot_product_attention;

constexpr Index B = 2, H = 4, G = 2, D = 16;

template <class T>
class AttentionSinks : public testing::Test {};
TYPED_TEST_SUITE(AttentionSinks, Scalars, ScalarNames);

// The same mask, pair by pair.
[[nodiscard]] Mask in_pairs(const PairMask& mask) {
  Tensor<bool, 4> pairs(B, 1, mask.Q, mask.K);
  for (Index b = 0; b < B; ++b)
    for (Index q = 0; q < mask.Q; ++q)
      for (Index k = 0; k < mask.K; ++k) pairs(b, 0, q, k) = mask.visible(b, q, k);
  Mask same{.causal = mask.causal, .allowed = pairs};
  if (!mask.first_positions.empty()) same.first_positions = mask.first_positions;
  if (mask.prefix_lens.empty()) return same;
  same.causal = Causal::none;  // which would hide what a prefix shows
  same.first_positions = {mask.aligned(0, 0), mask.aligned(1, 0)};
  return same;
}

// Gaps inside of a block, over several, from or to the edge of one; of all rows alike and of each its
// own; sinks that are several blocks; windows beyond the keys; prefixes.
[[nodiscard]] std::vector<PairMask> masks(Index Q, Index K) {
  std::vector<PairMask> all;
  for (const Index sinks : {Index{0}, Index{1}, Index{4}, Index{128}, Index{300}})
    for (const Index left : {Index{0}, Index{7}, K / 3})
      all.push_back(
          {.Q = Q, .K = K, .causal = Causal::bottom_right, .window = {left, -1}, .sinks = sinks});
  all.push_back({.Q = Q, .K = K, .window = {2, 3}, .first_positions = {K - 3, K / 2}, .sinks = 5});
  all.push_back({.Q = Q, .K = K, .window = {40, -1}, .first_positions = {K - 30, 131}, .sinks = 3});
  all.push_back({.Q = Q, .K = K, .causal = Causal::bottom_right, .prefix_lens = {K - Q / 2, K}});
  all.push_back({.Q = Q,
                 .K = K,
                 .causal = Causal::top_left,
                 .window = {20, -1},
                 .sinks = 2,
                 .prefix_lens = {K / 2, 9}});
  return all;
}

// visit(mask) for few rows and many, and blocks of 128 and 256 keys.
template <class Visit>
void for_each_mask(const Visit& visit) {
  for (const Index Q : {1, 5, 49})
    for (const Index K : {129, 257, 300, 600})
      for (const PairMask& mask : masks(Q, K)) {
        SCOPED_TRACE(mask.text());
        visit(mask);
        if (testing::Test::HasFailure()) return;
      }
}

template <class T>
struct Inputs {
  explicit Inputs(const PairMask& mask)
      : q(random_tensor<T>(1, B, H, mask.Q, D)),
        k(random_tensor<T>(2, B, G, mask.K, D)),
        v(random_tensor<T>(3, B, G, mask.K, D)),
        dy(random_tensor<T>(4, B, H, mask.Q, D)) {}

  Tensor<T, 4> q, k, v, dy;

  [[nodiscard]] eh::AttentionResult<T> attend(const Mask& mask, int threads = 1,
                                              const eh::AttentionOptions<T>& options = {}) const {
    Context context(threads, kAnyWork);
    return scaled_dot_product_attention(q, k, v, mask, options, context);
  }
};

TYPED_TEST(AttentionSinks, AreTheSameMaskInPairs) {
  using T = TypeParam;
  const eh::Softcap<T> softcap(T(2));
  for_each_mask([&](const PairMask& pairs) {
    const Inputs<T> x(pairs);
    const Mask mask = pairs.mask(), same = in_pairs(pairs);
    const auto expected = x.attend(same);
    for (const int threads : {1, 3}) ASSERT_TRUE(same_bits(x.attend(mask, threads), expected));

    eh::AttentionOptions<T> options{.score = softcap,
                                    .dropout = 0.3,
                                    .seed = eh::DropoutSeed{5},
                                    .weights = true,
                                    .scores_after = softcap};
    const auto all = x.attend(mask, 3, options), all_expected = x.attend(same, 1, options);
    ASSERT_TRUE(same_bits(all, all_expected));
    ASSERT_TRUE(same_bits(all.weights, all_expected.weights));
    ASSERT_TRUE(same_bits(all.scores, all_expected.scores));
    const auto weights = x.attend(mask, 1, {.weights = true});
    ASSERT_TRUE(same_bits(weights, expected));
    ASSERT_TRUE(same_bits(weights.weights, x.attend(same, 1, {.weights = true}).weights));
  });
}

TYPED_TEST(AttentionSinks, AreTheReferenceAndTheTextbook) {
  using T = TypeParam;
  for (const Index K : {40, 300})
    for (const PairMask& pairs : masks(5, K)) {
      SCOPED_TRACE(pairs.text());
      const Inputs<T> x(pairs);
      const auto got = x.attend(pairs.mask(), 1, {.scale = 0.5});
      const auto exact = textbook<T>(x.q, x.k, x.v, pairs, Wide<T>(0.5));
      ASSERT_TRUE(within(got.output, exact.output, exact.output_bound));
      ASSERT_TRUE(within(got.lse, exact.lse, exact.lse_bound));
      const auto reference = eh::attention_reference<T>(x.q, x.k, x.v, pairs.mask(), T(0.5));
      ASSERT_TRUE(within(reference.output, exact.output, exact.output_bound));
    }
}

// NaN where a row does not see it, and where none does: rows take the slow edge, with the same bits.
TYPED_TEST(AttentionSinks, WhatLiesInAGapIsNotObservable) {
  using T = TypeParam;
  for_each_mask([](const PairMask& pairs) {
    const Inputs<T> x(pairs);
    const Mask mask = pairs.mask();
    const auto expected = x.attend(mask), with_weights = x.attend(mask, 1, {.weights = true});
    const auto gradients =
        eh::scaled_dot_product_attention_backward(x.dy, x.q, x.k, x.v, expected, mask);
    for (const Index row : {Index{-1}, Index{0}, pairs.Q / 2}) {
      Inputs<T> dirty = x;
      for (Index b = 0; b < B; ++b)
        for (Index k = 0; k < pairs.K; ++k) {
          bool is_seen = row >= 0 && pairs.visible(b, row, k);
          for (Index q = 0; row < 0 && q < pairs.Q; ++q)
            is_seen = is_seen || pairs.visible(b, q, k);
          for (Index g = 0; g < G && !is_seen; ++g) {
            std::fill_n(&dirty.k(b, g, k, 0), D, kNan<T>);
            std::fill_n(&dirty.v(b, g, k, 0), D, k % 2 == 0 ? kNan<T> : kInf<T>);
          }
        }
      const auto got = dirty.attend(mask), weights = dirty.attend(mask, 3, {.weights = true});
      for (Index b = 0; b < B; ++b)
        for (Index h = 0; h < H; ++h)
          for (Index q = 0; q < pairs.Q; ++q) {
            if (row >= 0 && q != row) continue;
            ASSERT_TRUE(same_bits(support::row(got.output, b, h, q),
                                  support::row(expected.output, b, h, q)));
            ASSERT_TRUE(same_bits(support::row(weights.weights, b, h, q),
                                  support::row(with_weights.weights, b, h, q)));
          }
      if (row >= 0) continue;
      const auto again =
          eh::scaled_dot_product_attention_backward(x.dy, x.q, dirty.k, dirty.v, got, mask);
      ASSERT_TRUE(same_bits(again.queries, gradients.queries));
      ASSERT_TRUE(same_bits(again.keys, gradients.keys));
      ASSERT_TRUE(same_bits(again.values, gradients.values));
    }
  });
}

TYPED_TEST(AttentionSinks, GradientsAreThoseOfTheSameMaskInPairs) {
  using T = TypeParam;
  const eh::Softcap<T> softcap(T(2));
  for_each_mask([&](const PairMask& pairs) {
    const Inputs<T> x(pairs);
    const Mask mask = pairs.mask(), same = in_pairs(pairs);
    for (const eh::AttentionOptions<T>& options :
         {eh::AttentionOptions<T>{},
          eh::AttentionOptions<T>{.score = softcap, .dropout = 0.3, .seed = eh::DropoutSeed{5}}}) {
      const auto result = x.attend(mask, 1, options);
      const auto expected =
          eh::scaled_dot_product_attention_backward(x.dy, x.q, x.k, x.v, result, same, options);
      for (const int threads : {1, 3}) {
        Context context(threads, kAnyWork);
        const auto got = eh::scaled_dot_product_attention_backward(x.dy, x.q, x.k, x.v, result,
                                                                   mask, options, context);
        ASSERT_TRUE(same_bits(got.queries, expected.queries));
        ASSERT_TRUE(same_bits(got.keys, expected.keys));
        ASSERT_TRUE(same_bits(got.values, expected.values));
      }
    }
  });
}

// Of a gap longer than a block nothing is read at all: it lies on pages that end the program.
TYPED_TEST(AttentionSinks, ALongGapIsNotRead) {
  using T = TypeParam;
  const Index K = 6000, width = 64, left = 20;
  for (const Index Q : {1, 5, 60}) {
    const auto q = random_tensor<T>(1, 1, 1, Q, width), k = random_tensor<T>(2, 1, 1, K, width),
               v = random_tensor<T>(3, 1, 1, K, width), dy = random_tensor<T>(4, 1, 1, Q, width);
    for (const Index sinks : {Index{1}, Index{4}, Index{300}}) {
      const Mask mask{.causal = Causal::bottom_right, .window = {left, -1}, .sinks = sinks};
      const auto expected = scaled_dot_product_attention(q, k, v, mask);
      const Index first = sinks * width, last = (K - Q - left) * width;
      const GapOfPages<T> keys(k, first, last), values(v, first, last);
      for (const int threads : {1, 3}) {
        Context context(threads, kAnyWork);
        const auto got =
            scaled_dot_product_attention(q, keys.view(), values.view(), mask, {}, context);
        ASSERT_TRUE(same_bits(got, expected));
        const auto gradients = eh::scaled_dot_product_attention_backward(
            dy, q, keys.view(), values.view(), got, mask, {}, context);
        ASSERT_TRUE(
            same_bits(gradients.keys,
                      eh::scaled_dot_product_attention_backward(dy, q, k, v, expected, mask).keys));
      }
    }
  }
}

// The first 2 keys stay, under a window of 3.
TYPED_TEST(AttentionSinks, T504APositionSeesTheSinksAndItsWindowOnce) {
  using T = TypeParam;
  const Index n = 10;
  const auto zeros = constant_tensor<T>(0, 1, 1, n, 1);
  Tensor<T, 4> v(1, 1, n, 1);
  for (Index j = 0; j < n; ++j) v(0, 0, j, 0) = static_cast<T>(j);
  const auto result = scaled_dot_product_attention(
      zeros, zeros, v, {.causal = Causal::top_left, .window = {2, -1}, .sinks = 2},
      {.weights = true});
  const double expected[] = {0, 0.5, 1, 1.5, 2, 2.6, 3.2, 3.8, 4.4, 5};
  for (Index q = 0; q < n; ++q) {
    EXPECT_NEAR(result.output(0, 0, q, 0), expected[q], 8 * Limits<T>::epsilon()) << q;
    for (Index k = 0; k < n; ++k)
      EXPECT_EQ(result.weights(0, 0, q, k) > 0, k <= q && (k < 2 || q - k < 3)) << q << ' ' << k;
  }
}

TYPED_TEST(AttentionSinks, T505APrefixSeesAllOfItselfAndAPartOfItIsRefused) {
  using T = TypeParam;
  const Index n = 5;
  const auto zeros = constant_tensor<T>(0, 1, 1, n, 1);
  Tensor<T, 4> v(1, 1, n, 1);
  for (Index j = 0; j < n; ++j) v(0, 0, j, 0) = static_cast<T>(j);
  const auto chunk = [&](Index first, Index count) {
    const TensorView<T, 4> q(zeros.data(), {1, 1, count, 1});
    const TensorView<T, 4> seen_keys(zeros.data(), {1, 1, first + count, 1});
    const TensorView<T, 4> seen_values(v.data(), {1, 1, first + count, 1});
    return scaled_dot_product_attention(
        q, seen_keys, seen_values,
        {.causal = Causal::top_left, .first_positions = {first}, .prefix_lens = {3}});
  };
  const auto whole = chunk(0, n);
  const double expected[] = {1, 1, 1, 1.5, 2};
  for (Index q = 0; q < n; ++q)
    EXPECT_NEAR(whole.output(0, 0, q, 0), expected[q], 8 * Limits<T>::epsilon()) << q;
  EXPECT_EQ(refusal([&] { return chunk(0, 2); }),
            "eigenheads: prefix_lens[0] is 3; expected 0 to the number of keys, 2");
  const auto start = chunk(0, 3), rest = chunk(3, 2);
  for (Index q = 0; q < n; ++q)
    EXPECT_TRUE(same_bits(row(whole.output, 0, 0, q),
                          q < 3 ? row(start.output, 0, 0, q) : row(rest.output, 0, 0, q - 3)));
}

// The layer projects no key of a long gap, and its training, its statistics and its weights follow.
TYPED_TEST(AttentionSinks, ALayerFollows) {
  using T = TypeParam;
  constexpr Index size = 12;
  const auto layer = make_layer<T>(
      size, {.num_hiddens = size, .num_heads = 4, .bias = true, .num_kv_heads = 2, .head_size = 8});
  for (const Index Q : {1, 49})
    for (const PairMask& pairs : masks(Q, 600)) {
      SCOPED_TRACE(pairs.text());
      const auto q = random_tensor<T>(1, B, Q, size), k = random_tensor<T>(2, B, pairs.K, size),
                 dy = random_tensor<T>(3, B, Q, size);
      const Mask mask = pairs.mask(), same = in_pairs(pairs);
      const auto expected = layer.with_weights(q, k, k, same);
      ASSERT_TRUE(same_bits(layer(q, k, k, mask), expected.output));
      const auto with_weights = layer.with_weights(q, k, k, mask);
      ASSERT_TRUE(same_bits(with_weights.output, expected.output));
      ASSERT_TRUE(same_bits(with_weights.weights, expected.weights));

      Index seen = 0, pairs_seen = 0;
      for (Index b = 0; b < B; ++b)
        for (Index key = 0; key < pairs.K; ++key) {
          Index queries = 0;
          for (Index i = 0; i < Q; ++i) queries += pairs.visible(b, i, key) ? 1 : 0;
          seen += queries > 0 ? 1 : 0;
          pairs_seen += queries;
        }
      const auto explanation = eh::explain<T>(layer, q, k, mask);
      ASSERT_EQ(explanation.attention_flops, 4.0 * 8 * 4 * static_cast<double>(pairs_seen));
      ASSERT_GE(explanation.projected_keys, seen);
      ASSERT_LT(explanation.projected_keys, seen + B * 256 + 1);

      typename eh::MultiHeadAttention<T>::Activations saved, saved_same;
      ASSERT_TRUE(same_bits(layer.forward(q, k, k, mask, saved), expected.output));
      (void)layer.forward(q, k, k, same, saved_same);
      const auto got = layer.backward(dy, saved), of_pairs = layer.backward(dy, saved_same);
      ASSERT_TRUE(same_bits(got.queries, of_pairs.queries));
      ASSERT_TRUE(same_bits(got.keys, of_pairs.keys));
      ASSERT_TRUE(same_bits(got.W_k.weight, of_pairs.W_k.weight));
      eh::HeadImportance<T> importance(layer), of_same(layer);
      importance.add(layer, saved);
      of_same.add(layer, saved_same);
      for (std::size_t h = 0; h < 4; ++h)
        for (const eh::HeadMeasure& measure : eh::head_measures)
          ASSERT_EQ(bits(importance.measures()[h].*measure.value),
                    bits(of_same.measures()[h].*measure.value))
              << measure.name;
    }
}

TYPED_TEST(AttentionSinks, AdditiveAttentionFollows) {
  using T = TypeParam;
  eh::AdditiveAttention<T> module(
      {.num_hiddens = 9, .query_size = 5, .key_size = 7, .dropout = 0.25}, 3);
  for (const Index Q : {1, 9})
    for (const PairMask& pairs : masks(Q, Q == 1 ? 600 : 300)) {
      SCOPED_TRACE(pairs.text());
      const auto q = random_tensor<T>(1, B, Q, 5), k = random_tensor<T>(2, B, pairs.K, 7),
                 v = random_tensor<T>(3, B, pairs.K, 6), dy = random_tensor<T>(4, B, Q, 6);
      const Mask mask = pairs.mask(), same = in_pairs(pairs);
      const auto expected = module.with_weights(q, k, v, same);
      const auto got = module.with_weights(q, k, v, mask);
      ASSERT_TRUE(same_bits(got.output, expected.output));
      ASSERT_TRUE(same_bits(got.weights, expected.weights));
      typename eh::AdditiveAttention<T>::Activations saved, saved_same;
      const eh::AdditiveTrainingOptions options{.seed = eh::DropoutSeed{1}};
      ASSERT_TRUE(same_bits(module.forward(q, k, v, mask, saved, options),
                            module.forward(q, k, v, same, saved_same, options)));
      const auto gradients = module.backward(dy, saved), of_same = module.backward(dy, saved_same);
      ASSERT_TRUE(same_bits(gradients.queries, of_same.queries));
      ASSERT_TRUE(same_bits(gradients.keys, of_same.keys));
      ASSERT_TRUE(same_bits(gradients.values, of_same.values));
      ASSERT_TRUE(same_bits(gradients.W_k.weight, of_same.W_k.weight));
    }
}

}  // namespace
