// SPDX-License-Identifier: MIT
// Steps of transformer layers and of their stacks have the bits of one causal call.
#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include <eigenheads/key_values.hpp>
#include <eigenheads/kv_cache.hpp>
#include <eigenheads/nn/transformer_cache.hpp>
#include <eigenheads/nn/transformer_decoder.hpp>
#include <eigenheads/nn/transformer_encoder.hpp>
#include <eigenheads/sequences.hpp>

#include "../support.hpp"
#include "transformers.hpp"

namespace {

using namespace support;
using eh::Causal, eh::Context, eh::Mask;
using Lens = std::vector<Index>;

constexpr Index kFeatures = 24, kLength = 270;

template <class T>
class TransformerSteps : public testing::Test {};
TYPED_TEST_SUITE(TransformerSteps, Scalars, ScalarNames);

template <class T>
[[nodiscard]] Tensor<T, 3> part(const Tensor<T, 3>& x, Index first, Index count) {
  Tensor<T, 3> tokens(x.dimension(0), count, kFeatures);
  for (Index b = 0; b < x.dimension(0); ++b)
    std::copy_n(x.data() + (b * x.dimension(1) + first) * kFeatures, count * kFeatures,
                tokens.data() + b * count * kFeatures);
  return tokens;
}

const Mask kCausal{.causal = Causal::top_left};

TYPED_TEST(TransformerSteps, HaveTheBitsOfOneCausalCall) {
  using T = TypeParam;
  const auto x = random_tensor<T>(1, 2, kLength, kFeatures);
  for (const bool norm_first : {false, true})
    for (const auto& options : {stack_of(norm_first), rms_stack_of(norm_first)}) {
      const auto encoder = make<eh::TransformerEncoder<T>>(options);
      const Tensor<T, 3> whole = encoder(x, kCausal);
      for (const int threads : {1, 3}) {
        Context context(threads, kAnyWork);
        eh::TransformerCache<T> cache(encoder, {.batch_size = 2, .capacity = kLength});
        EXPECT_TRUE(
            same_bits(encoder.step(part(x, 0, 255), cache, {}, context), part(whole, 0, 255)));
        for (Index t = 255; t < kLength; t += 5) {
          auto tokens = part(x, t, 5);
          encoder.step_into(tokens, tokens, cache, {}, context);
          EXPECT_TRUE(same_bits(tokens, part(whole, t, 5)));
        }
        cache.truncate(0, 100);
        cache.fork(0, 1);
        Tensor<T, 2> rows(9, kFeatures);
        std::copy_n(&x(0, 100, 0), 5 * kFeatures, rows.data());
        std::copy_n(&x(0, 100, 0), 4 * kFeatures, rows.data() + 5 * kFeatures);
        const Tensor<T, 2> y = encoder.step(rows, Lens{5, 4}, cache, {}, context);
        for (Index i = 0; i < 9; ++i)
          EXPECT_TRUE(same_bits(row(y, i), row(whole, Index{0}, 100 + i % 5)));
      }
    }
}

TYPED_TEST(TransformerSteps, OfOneLayerHaveThemToo) {
  using T = TypeParam;
  const auto x = random_tensor<T>(1, 1, 40, kFeatures);
  const auto layer = make<eh::TransformerEncoderLayer<T>>(options_of(true));
  const Tensor<T, 3> whole = layer(x, kCausal);
  eh::KvCache<T> cache({.batch_size = 1,
                        .num_kv_heads = layer.self_attention.num_kv_heads(),
                        .head_size = layer.self_attention.head_size(),
                        .capacity = 40});
  for (Index t = 0; t < 40; t += 4)
    EXPECT_TRUE(same_bits(layer.step(part(x, t, 4), cache), part(whole, t, 4)));
}

TYPED_TEST(TransformerSteps, OfADecoderReadItsMemoryProjectedOnce) {
  using T = TypeParam;
  const Index K = 11, M = 15;
  const auto x = random_tensor<T>(1, 2, 40, kFeatures);
  const auto memory = random_tensor<T>(2, 2, K, M);
  for (const bool norm_first : {false, true}) {
    const auto decoder = make<eh::TransformerDecoder<T>>(stack_of(norm_first));
    const Tensor<T, 3> whole =
        decoder(x, memory, {.self = kCausal, .memory = {.key_lens = {K, 4}}});
    const auto projected = decoder.project(memory, {K, 4});
    eh::TransformerCache<T> cache(decoder, {.batch_size = 2, .capacity = 40});
    for (Index t = 0; t < 40; t += 8) {
      auto tokens = part(x, t, 8);
      if (t == 16) {  // packed
        Tensor<T, 2> rows(16, kFeatures);
        std::copy_n(tokens.data(), tokens.size(), rows.data());
        decoder.step_into(rows, rows, Lens{8, 8}, cache, projected);
        std::copy_n(rows.data(), rows.size(), tokens.data());
      } else {
        decoder.step_into(tokens, tokens, cache, projected);
      }
      EXPECT_TRUE(same_bits(tokens, part(whole, t, 8)));
    }
    auto next = part(x, 0, 1);
    EXPECT_NE(refusal([&] { decoder.step_into(next, next, cache, {}); }).find("0 layers"),
              std::string::npos);
    cache.reset();
    EXPECT_NE(refusal([&] {
                decoder.step_into(next, next, cache, projected, {.memory = {.key_lens = {1, 1}}});
              }).find("key_lens"),
              std::string::npos);
    EXPECT_EQ(cache.length(0), 0);
  }
}

// [B, n, E] -> [B * n, E]
template <class T>
[[nodiscard]] TensorView<T, 2> rows_of(const Tensor<T, 3>& x) {
  return {x.data(), {x.dimension(0) * x.dimension(1), x.dimension(2)}};
}

// weights: [B, H, n, K], of a step whose first token is number `first`; all: [B, H, L, L], of the whole
// call.
template <class T>
[[nodiscard]] bool are_of(const Tensor<T, 4>& weights, const Tensor<T, 4>& all, Index first) {
  const Index K = weights.dimension(3);
  for (Index b = 0; b < weights.dimension(0); ++b)
    for (Index h = 0; h < weights.dimension(1); ++h)
      for (Index q = 0; q < weights.dimension(2); ++q)
        if (!std::equal(&weights(b, h, q, 0), &weights(b, h, q, 0) + K, &all(b, h, first + q, 0)))
          return false;
  return K == first + weights.dimension(2);
}
// packed: of each sequence, [H, n, K].
template <class T>
[[nodiscard]] bool are_alike(const std::vector<Tensor<T, 3>>& packed, const Tensor<T, 4>& padded) {
  bool are = std::ssize(packed) == padded.dimension(0);
  for (Index b = 0; are && b < padded.dimension(0); ++b) {
    const auto& of_one = packed[static_cast<std::size_t>(b)];
    are = of_one.size() == padded.size() / padded.dimension(0) &&
          std::equal(of_one.data(), of_one.data() + of_one.size(), &padded(b, 0, 0, 0));
  }
  return are;
}

TYPED_TEST(TransformerSteps, WeightsAreThoseOfTheWholeCallLayerByLayer) {
  using T = TypeParam;
  const auto x = random_tensor<T>(1, 2, 40, kFeatures);
  for (const bool has_sinks : {false, true}) {
    auto options = stack_of(true);
    options.layer.sink_logits = has_sinks;
    const auto encoder = make<eh::TransformerEncoder<T>>(options);
    EXPECT_EQ(encoder.layers[0].self_attention.sink_logits.size(), has_sinks ? 3 : 0);
    const auto whole = encoder.with_weights(x, kCausal);
    EXPECT_TRUE(same_bits(whole.output, encoder(x, kCausal)));
    ASSERT_EQ(whole.weights.size(), 3U);
    const T first = whole.weights[1](0, 0, 0, 0);  // of one key
    EXPECT_EQ(first < 1, has_sinks);
    Context context(3, kAnyWork);
    eh::TransformerCache<T> cache(encoder, {.batch_size = 2, .capacity = 40});
    for (Index t = 0; t < 40; t += 8) {
      auto other = cache.copy();
      const auto padded = encoder.step_with_weights(part(x, t, 8), cache, {}, context);
      EXPECT_TRUE(same_bits(padded.output, part(whole.output, t, 8)));
      const auto tokens = part(x, t, 8);
      const TensorView<T, 2> rows(tokens.data(), {16, kFeatures});
      const auto packed = encoder.step_with_weights(rows, Lens{8, 8}, other);
      EXPECT_TRUE(same_bits(packed.output, rows_of(padded.output)));
      ASSERT_EQ(padded.weights.size(), 3U);
      ASSERT_EQ(packed.weights.size(), 3U);
      for (std::size_t i = 0; i < 3; ++i) {
        EXPECT_TRUE(are_of(padded.weights[i], whole.weights[i], t));
        EXPECT_TRUE(are_alike(packed.weights[i], padded.weights[i]));
      }
    }
    EXPECT_NE(
        refusal([&] { (void)encoder.step_with_weights(part(x, 0, 1), cache); }).find("capacity"),
        std::string::npos);
    EXPECT_EQ(cache.length(0), 40);
  }
}

TYPED_TEST(TransformerSteps, WeightsOfADecoderAreThoseOfItsTokensAndOfItsMemory) {
  using T = TypeParam;
  const Index K = 11, M = 15, B = 2, L = 20;
  const auto x = random_tensor<T>(1, B, L, kFeatures);
  const auto memory = random_tensor<T>(2, B, K, M);
  const eh::Sequences sequences(Lens{L, L}), memory_sequences(Lens{K, 4});
  const auto packed_memory = eh::pack(memory, memory_sequences);
  const auto decoder = make<eh::TransformerDecoder<T>>(stack_of(true));
  const eh::DecoderMask masks{.self = kCausal, .memory = {.key_lens = {K, 4}}};
  const auto whole = decoder.with_weights(x, memory, masks);
  EXPECT_TRUE(same_bits(whole.output, decoder(x, memory, masks)));
  const auto packed_whole =
      decoder.with_weights(rows_of(x), sequences, packed_memory, memory_sequences);
  EXPECT_TRUE(same_bits(packed_whole.output, rows_of(whole.output)));
  eh::TransformerCache<T> cache(decoder, {.batch_size = B, .capacity = L});
  const auto projected = decoder.project(memory, {K, 4}),
             packed_projected = decoder.project(packed_memory, memory_sequences);
  for (Index t = 0; t < L; t += 5) {
    auto other = cache.copy(), third = cache.copy();
    const auto padded = decoder.step_with_weights(part(x, t, 5), cache, projected);
    EXPECT_TRUE(same_bits(padded.output, part(whole.output, t, 5)));
    EXPECT_TRUE(same_bits(decoder.step(part(x, t, 5), third, packed_projected), padded.output));
    const auto tokens = part(x, t, 5);
    const TensorView<T, 2> rows(tokens.data(), {10, kFeatures});
    const auto packed = decoder.step_with_weights(rows, Lens{5, 5}, other, packed_projected);
    EXPECT_TRUE(same_bits(packed.output, rows_of(padded.output)));
    ASSERT_EQ(padded.weights.size(), 3U);
    ASSERT_EQ(padded.memory_weights.size(), 3U);
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_TRUE(are_of(padded.weights[i], whole.weights[i], t));
      EXPECT_TRUE(are_alike(packed.weights[i], padded.weights[i]));
      for (Index b = 0; b < B; ++b)
        for (Index h = 0; h < 3; ++h)
          for (Index q = 0; q < 5; ++q) {
            const T* const all = &whole.memory_weights[i](b, h, t + q, 0);
            const Index keys = memory_sequences.length(b);
            EXPECT_TRUE(std::equal(all, all + K, &padded.memory_weights[i](b, h, q, 0)));
            const auto& of_sequence = packed.memory_weights[i][static_cast<std::size_t>(b)];
            EXPECT_TRUE(std::equal(all, all + keys, &of_sequence(h, q, 0)));
            const auto& of_whole = packed_whole.memory_weights[i][static_cast<std::size_t>(b)];
            EXPECT_TRUE(std::equal(all, all + keys, &of_whole(h, t + q, 0)));
          }
    }
  }
}

template <class T>
struct Throws {
  T operator()(T score, eh::ScorePosition at) const {
    if (at.k > 12) throw std::runtime_error("no further");
    return score;
  }
};

// A function that throws when it is called for the last time.
template <class T>
struct ThrowsLater {
  int* calls_left;
  T operator()(T score, eh::ScorePosition) const {
    if (--*calls_left == 0) throw std::runtime_error("no further");
    return score;
  }
};

TYPED_TEST(TransformerSteps, LayersOfARingThatCannotGoBackAreEmptyTogether) {
  using T = TypeParam;
  auto options = stack_of(true);
  options.layer.rotary->max_positions = 1000;
  const auto encoder = make<eh::TransformerEncoder<T>>(options);
  Context context;
  for (const Index n : {5, 600}) {  // the ring has room for 5 beside what it holds, not for 600
    const auto x = random_tensor<T>(1, 2, 7 + n, kFeatures);
    const eh::KvCacheOptions ring{.batch_size = 2, .capacity = 4, .window = 4};
    eh::TransformerCache<T> cache(encoder, ring);
    (void)encoder.step(part(x, 0, 7), cache, {}, context);
    auto counted = cache.copy(), failed = cache.copy();
    int calls = 0;
    const ThrowsLater<T> counts{&calls};
    (void)encoder.step(part(x, 7, n), counted, {}, {.score = counts, .context = context});
    calls = -calls / 3 + 2;  // the second call of the second layer
    const ThrowsLater<T> throws{&calls};
    EXPECT_EQ(refusal<std::runtime_error>([&] {
                (void)encoder.step(part(x, 7, n), failed, {},
                                   {.score = throws, .context = context});
              }),
              "no further");
    for (Index i = 0; i < failed.num_layers(); ++i)
      for (Index b = 0; b < 2; ++b) EXPECT_EQ(failed.layer(i).length(b), n == 5 ? 7 : 0);
    if (n == 600) cache.reset();
    EXPECT_TRUE(same_bits(encoder.step(part(x, 7, 5), failed, {}, context),
                          encoder.step(part(x, 7, 5), cache, {}, context)));
  }
}

TYPED_TEST(TransformerSteps, WhatFailsLeavesTheCacheAsItWas) {
  using T = TypeParam;
  const auto x = random_tensor<T>(1, 1, 20, kFeatures);
  auto encoder = make<eh::TransformerEncoder<T>>(stack_of(true));
  const Tensor<T, 3> whole = encoder(x, kCausal);
  eh::TransformerCache<T> cache(encoder, {.batch_size = 1, .capacity = 20});
  (void)encoder.step(part(x, 0, 10), cache);
  EXPECT_EQ(refusal<std::runtime_error>(
                [&] { (void)encoder.step(part(x, 10, 4), cache, {}, {.score = Throws<T>{}}); }),
            "no further");
  EXPECT_NE(refusal([&] { (void)encoder.step(part(x, 0, 11), cache); }).find("capacity"),
            std::string::npos);
  for (Index i = 0; i < cache.num_layers(); ++i) EXPECT_EQ(cache.layer(i).length(0), 10);
  EXPECT_TRUE(same_bits(encoder.step(part(x, 10, 10), cache), part(whole, 10, 10)));
  cache.layer(1).truncate(0, 3);
  EXPECT_EQ(refusal([&] { (void)encoder.step(part(x, 0, 1), cache); }),
            "eigenheads: TransformerEncoder: layer 1 of the cache has 3 tokens of sequence 0; "
            "expected 20, as layer 0 has");
  encoder.layers.pop_back();
  EXPECT_NE(refusal([&] { (void)encoder.step(part(x, 0, 1), cache); }).find("layers"),
            std::string::npos);
  const eh::TransformerCache<T> moved = std::move(cache);
  EXPECT_EQ(cache.batch_size(), 0);  // NOLINT
  const std::string none =
      "eigenheads: TransformerCache: it was moved from, and has no layers; expected 1 or more";
  EXPECT_EQ(refusal([&] { return cache.length(0); }), none);
  EXPECT_EQ(refusal([&] { return cache.capacity(); }), none);
  EXPECT_EQ(refusal([&] { return cache.window() + cache.sinks(); }), none);
  EXPECT_EQ(refusal([&] { return cache.shortest(0); }), none);
  EXPECT_EQ(refusal([&] { return cache.truncate(0, 0), 0; }), none);
  EXPECT_EQ(refusal([&] { return cache.reset(0), 0; }), none);
  EXPECT_EQ(refusal([&] { return cache.fork(0, 0), 0; }), none);
  EXPECT_EQ(refusal([&] { return cache.reorder({0}), 0; }), none);
  EXPECT_EQ(moved.batch_size(), 1);
  encoder.layers.clear();
  EXPECT_EQ(refusal([&] { (void)eh::TransformerCache<T>(encoder, {.batch_size = 1}); }),
            "eigenheads: TransformerCache: there are 0 layers; expected 1 or more");
}

}  // namespace
