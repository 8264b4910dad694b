// SPDX-License-Identifier: MIT
// What holds of a layer whatever it is asked: random sizes, masks, score functions, gates, sinks and a
// rotary.
#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include <eigenheads/kv_cache.hpp>
#include <eigenheads/multi_head_attention.hpp>
#include <eigenheads/rotary.hpp>

#include "../layers.hpp"
#include "calls.hpp"

namespace {

using namespace support;
using eh::Causal, eh::Context, eh::Mask, eh::MultiHeadAttention;

template <class T>
class LayerProperties : public testing::Test {};
TYPED_TEST_SUITE(LayerProperties, Scalars, ScalarNames);

// A causal call of one tensor.
template <class T>
struct LayerCall {
  explicit LayerCall(std::uint64_t seed) : LayerCall(seed, Numbers(seed)) {}

  [[nodiscard]] Tensor<T, 3> operator()(const Tensor<T, 3>& of, Context& context) const {
    return layer(of, of, of, mask, {.score = eh::ScoreRef<T>(softcap), .context = context});
  }

  Index B, L, E;
  int threads;
  MultiHeadAttention<T> layer;
  Tensor<T, 3> x;
  Mask mask;
  eh::Softcap<T> softcap{T(2)};

 private:
  LayerCall(std::uint64_t seed, Numbers numbers)
      : B(numbers.between(1, 3)),
        L(one_of(numbers, std::array<Index, 8>{1, 2, 3, 7, 17, 61, 131, 263})),
        E(one_of(numbers, std::array<Index, 5>{1, 5, 13, 29, 53})),
        threads(static_cast<int>(numbers.between(1, 8))),
        layer(made(seed, numbers, E)),
        x(random_tensor<T>(seed + 1, B, L, E)) {
    mask.causal = coin(numbers) ? Causal::top_left : Causal::bottom_right;
    if (coin(numbers)) mask.window.left = numbers.between(0, L);
    mask.sinks = numbers.between(0, 3);
    Tensor<T, 2> gates = random_tensor<T>(seed + 2, Index{1}, layer.num_heads());
    layer.set_gates(gates);
  }

  [[nodiscard]] static MultiHeadAttention<T> made(std::uint64_t seed, Numbers& numbers, Index E) {
    const Index G = numbers.between(1, 3);
    eh::MultiHeadAttentionOptions options{
        .num_hiddens = one_of(numbers, std::array<Index, 3>{1, 11, 23}),
        .num_heads = G * numbers.between(1, 3),
        .bias = true,
        .num_kv_heads = G,
        .head_size = 2 * one_of(numbers, std::array<Index, 4>{1, 3, 5, 11}),
        .sink_logits = true};
    if (coin(numbers)) options.rotary = eh::RotaryOptions{.max_positions = 300};
    auto layer = make_layer<T>(E, options, seed);
    layer.sink_logits = random_tensor<T>(seed + 3, options.num_heads);
    return layer;
  }
};

// P14: what comes later, be it NaN, changes no row.
TYPED_TEST(LayerProperties, ARowOfACausalCallKnowsNothingOfLaterOnes) {
  using T = TypeParam;
  for_each_case(201, [](std::uint64_t seed) {
    Numbers numbers(seed);
    const LayerCall<T> call(seed);
    Context one, context(call.threads, kAnyWork);
    const auto y = call(call.x, one);
    auto other = call.x;
    const Index t = numbers.between(0, call.L - 1);
    for (Index b = 0; b < call.B; ++b)
      std::fill_n(&other(b, t, 0), (call.L - t) * call.E,
                  coin(numbers) ? kNan<T> : numbers.symmetric<T>());
    const auto got = call(other, context);
    for (Index b = 0; b < call.B; ++b)
      for (Index i = 0; i < t; ++i) ASSERT_TRUE(same_bits(row(got, b, i), row(y, b, i))) << i;
  });
}

// P23, P24: a prompt in chunks and then single tokens, cut anywhere, are the call as a whole.
TYPED_TEST(LayerProperties, StepsOfAnyLengthAreTheWholeCall) {
  using T = TypeParam;
  for_each_case(202, [](std::uint64_t seed) {
    Numbers numbers(seed);
    LayerCall<T> call(seed);
    call.mask.causal = Causal::top_left;
    Context one, context(call.threads, kAnyWork);
    const auto y = call(call.x, one);
    eh::KvCache<T> cache({.batch_size = call.B,
                          .num_kv_heads = call.layer.num_kv_heads(),
                          .head_size = call.layer.head_size(),
                          .capacity = call.L});
    for (Index t = 0, n = 0; t < call.L; t += n) {
      n = coin(numbers) ? 1 : numbers.between(1, call.L - t);
      Tensor<T, 3> tokens(call.B, n, call.E);
      for (Index b = 0; b < call.B; ++b)
        std::copy_n(&call.x(b, t, 0), n * call.E, &tokens(b, 0, 0));
      const auto rows =
          call.layer.step(tokens, cache, {.window = call.mask.window, .sinks = call.mask.sinks},
                          {.score = eh::ScoreRef<T>(call.softcap), .context = context});
      for (Index b = 0; b < call.B; ++b)
        for (Index i = 0; i < n; ++i)
          ASSERT_TRUE(same_bits(row(rows, b, i), row(y, b, t + i))) << t + i;
    }
  });
}

// P35: queries, keys and values of one projection are those of three.
TYPED_TEST(LayerProperties, ProjectionsBelowEachOtherAreOne) {
  using T = TypeParam;
  for_each_case(203, [](std::uint64_t seed) {
    Numbers numbers(seed);
    const std::array<Index, 7> sizes{1, 3, 5, 17, 31, 67, 131};
    const Index E = one_of(numbers, sizes), rows = one_of(numbers, sizes);
    const std::array<Index, 3> parts{one_of(numbers, sizes), one_of(numbers, sizes),
                                     one_of(numbers, sizes)};
    const Index all = parts[0] + parts[1] + parts[2];
    const auto weight = random_tensor<T>(seed + 1, all, E), x = random_tensor<T>(seed + 2, rows, E);
    const auto bias = random_tensor<T>(seed + 3, all);
    const auto projected = [&](Index first, Index count) {
      eh::Linear<T> linear({.in_features = E, .out_features = count, .bias = true});
      linear.set_weight(TensorView<T, 2>(weight.data() + first * E, {count, E}));
      linear.set_bias(TensorView<T, 1>(bias.data() + first, {count}));
      return linear(x);
    };
    const auto merged = projected(0, all);
    Index first = 0;
    for (const Index count : parts) {
      const auto separate = projected(first, count);
      for (Index i = 0; i < rows; ++i)
        ASSERT_TRUE(same_bits(row(separate, i),
                              TensorView<T, 1>(merged.data() + i * all + first, {count})));
      first += count;
    }
  });
}

// P39: a copy goes its own way, and a layer goes on where it was moved to.
TYPED_TEST(LayerProperties, CopiesAreIndependentAndMovedLayersGoOn) {
  using T = TypeParam;
  for_each_case(204, [](std::uint64_t seed) {
    LayerCall<T> call(seed), other(seed + 7);
    Context context;
    const auto y = call(call.x, context), z = other(other.x, context);
    auto copy = call;
    copy.layer.W_v.set_weight(
        constant_tensor<T>(1, copy.layer.W_v.out_features(), copy.layer.W_v.in_features()));
    copy.layer.W_o.set_bias(constant_tensor<T>(7, copy.layer.num_hiddens()));
    copy.layer.clear_gates();
    copy.layer.sink_logits = constant_tensor<T>(-3, copy.layer.num_heads());
    ASSERT_FALSE(same_bits(copy(copy.x, context), y));
    ASSERT_TRUE(same_bits(call(call.x, context), y));
    copy.layer = call.layer;
    ASSERT_TRUE(same_bits(copy(copy.x, context), y));
    std::swap(call.layer, other.layer);
    std::swap(call.layer, other.layer);
    MultiHeadAttention<T> moved = std::move(call.layer);
    call.layer = std::move(other.layer);
    other.layer = std::move(moved);
    std::swap(call.layer, other.layer);
    ASSERT_TRUE(same_bits(call(call.x, context), y));
    ASSERT_TRUE(same_bits(other(other.x, context), z));
  });
}

}  // namespace
