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
  const auto x = random_tensor<T>(1, 2, 20, kFeatures);
  const auto encoder = make<eh::TransformerEncoder<T>>(stack_of(true));
  Context context;
  for (const Index capacity : {4, 10}) {
    const eh::KvCacheOptions ring{.batch_size = 2, .capacity = capacity, .window = 4};
    eh::TransformerCache<T> cache(encoder, ring);
    (void)encoder.step(part(x, 0, 7), cache, {}, context);
    auto counted = cache.copy(), failed = cache.copy();
    int calls = 0;
    const ThrowsLater<T> counts{&calls};
    (void)encoder.step(part(x, 7, 5), counted, {}, {.score = counts, .context = context});
    calls = -calls / 3 + 2;  // the second call of the second layer
    const ThrowsLater<T> throws{&calls};
    EXPECT_EQ(refusal<std::runtime_error>([&] {
                (void)encoder.step(part(x, 7, 5), failed, {},
                                   {.score = throws, .context = context});
              }),
              "no further");
    // Of 4 tokens, those before the step are gone; of 10, they are there.
    const Index left = capacity == 4 ? 0 : 7;
    for (Index i = 0; i < failed.num_layers(); ++i)
      for (Index b = 0; b < 2; ++b) EXPECT_EQ(failed.layer(i).length(b), left);
    if (left > 0) {
      EXPECT_TRUE(same_bits(encoder.step(part(x, 7, 5), failed, {}, context),
                            encoder.step(part(x, 7, 5), cache, {}, context)));
    }
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
  encoder.layers.pop_back();
  EXPECT_NE(refusal([&] { (void)encoder.step(part(x, 0, 1), cache); }).find("layers"),
            std::string::npos);
}

}  // namespace
