// SPDX-License-Identifier: MIT
// NaN that a result depends on makes it NaN, in every lane, on the way back too: also where a compiler
// may assume that there is none, for this is compiled with -ffast-math as well (flags_fast_math_nn),
// and run on every instruction set. So what is asked here is asked of the bits.
#include <algorithm>
#include <array>
#include <span>

#include <eigenheads/nn/activation.hpp>
#include <eigenheads/nn/additive_attention.hpp>
#include <eigenheads/nn/elementary.hpp>
#include <eigenheads/nn/feed_forward.hpp>
#include <eigenheads/nn/layer_norm.hpp>
#include <eigenheads/nn/normalize.hpp>
#include <eigenheads/nn/pooling.hpp>

#include "lesser_isas.hpp"
#include "support.hpp"

namespace {

using namespace support;
using eh::Activation, eh::Pooling;

template <class T>
class NanTest : public testing::Test {};
TYPED_TEST_SUITE(NanTest, Scalars, ScalarNames);

constexpr std::array kActivations{Activation::relu, Activation::gelu, Activation::gelu_tanh,
                                  Activation::silu, Activation::tanh};

// How many of all are NaN.
template <class X>
[[nodiscard]] Index nans(const X& x) {
  const TensorView view(x);
  return std::count_if(view.data(), view.data() + view.size(),
                       [](const auto& value) { return eh::detail::is_nan(value); });
}
// That of those of `x` the one at `place` is NaN, and no other.
template <class X>
[[nodiscard]] testing::AssertionResult only_nan_is_at(Index place, const X& x) {
  if (nans(x) == 1 && eh::detail::is_nan(x.data()[place])) return testing::AssertionSuccess();
  return testing::AssertionFailure()
         << nans(x) << " are NaN, and the one at " << place << " is " << x.data()[place];
}

TYPED_TEST(NanTest, FunctionsHandItOnInEveryLane) {
  using T = TypeParam;
  for (const Index count : {1, 3, 16, 37})
    for (Index place = 0; place < count; ++place) {
      SCOPED_TRACE(place);
      auto x = random_tensor<T>(1, count);
      const auto grad_y = random_tensor<T>(2, count);
      auto spoilt = grad_y;
      spoilt(place) = kNan<T>;
      EXPECT_EQ(nans(eh::tanh(x)), 0);
      x(place) = place % 2 == 0 ? kNan<T> : -kNan<T>;
      for (const Activation activation : kActivations) {
        EXPECT_TRUE(only_nan_is_at(place, eh::activate(activation, x))) << activation;
        EXPECT_TRUE(only_nan_is_at(place, eh::activate_backward(activation, x, grad_y)))
            << activation;
        const auto above = constant_tensor(T(0.5), count);  // where relu has a slope
        EXPECT_TRUE(only_nan_is_at(place, eh::activate_backward(activation, above, spoilt)))
            << activation;
      }
      using Span = std::span<const T>;
      using Function = void(Span, std::span<T>);
      for (Function* function : std::array<Function*, 4>{eh::erf, eh::tanh, eh::sin, eh::cos}) {
        auto y = x;
        function(Span(x.data(), x.data() + count), std::span<T>(y.data(), y.data() + count));
        EXPECT_TRUE(only_nan_is_at(place, y));
      }
    }
}

TYPED_TEST(NanTest, ANormHandsItOnToItsRow) {
  using T = TypeParam;
  for (const Index size : {1, 3, 16, 37})
    for (const Index place : {Index{0}, size / 2, size - 1}) {
      SCOPED_TRACE(place);
      const auto check = [&](auto norm) {
        auto x = random_tensor<T>(1, 5, size), grad_y = random_tensor<T>(2, 5, size);
        eh::NormGradients<T> gradients;
        x(3, place) = kNan<T>;
        const auto y = norm(x);
        EXPECT_EQ(nans(row(y, 3)), size);
        EXPECT_EQ(nans(y), size);
        const auto of_spoilt_x = norm.backward(x, grad_y, gradients);
        EXPECT_EQ(nans(row(of_spoilt_x, 3)), size);
        EXPECT_EQ(nans(of_spoilt_x), size);
        EXPECT_EQ(nans(gradients.weight), size);

        x = random_tensor<T>(1, 5, size);
        std::fill_n(grad_y.data() + size, size, kNan<T>);  // is no row without a gradient
        const auto grad_x = norm.backward(x, grad_y, gradients);
        EXPECT_EQ(nans(row(grad_x, 1)), size);
        EXPECT_EQ(nans(grad_x), size);
        EXPECT_EQ(nans(gradients.weight), size);
      };
      check(eh::LayerNorm<T>({.size = size}));
      check(eh::RmsNorm<T>({.size = size}));
    }
}

TYPED_TEST(NanTest, PoolingHandsItOnToItsFeature) {
  using T = TypeParam;
  for (const Pooling pooling : {Pooling::mean, Pooling::max})
    for (Index feature = 0; feature < 37; ++feature)
      for (const Index row : {0, 2, 4}) {
        auto x = random_tensor<T>(1, 1, 5, 37);
        x(0, row, feature) = kNan<T>;
        EXPECT_TRUE(only_nan_is_at(feature, eh::pool(x, pooling))) << row;
        if (pooling == Pooling::mean) continue;
        const auto grad_x = eh::pool_backward(constant_tensor(T(1), 1, 37), x, pooling);
        EXPECT_EQ(bits(grad_x(0, row, feature)), bits(T(1)));  // to the row that is the maximum
      }
}

TYPED_TEST(NanTest, ANormalisedRowIsNan) {
  using T = TypeParam;
  for (const Index size : {1, 16, 37}) {
    auto x = random_tensor<T>(1, 3, size);
    x(1, size / 2) = kNan<T>;
    const auto y = eh::normalize(x);
    EXPECT_EQ(nans(row(y, 1)), size);
    EXPECT_EQ(nans(y), size);
    const auto grad_x = eh::normalize_backward(random_tensor<T>(2, 3, size), x);
    EXPECT_EQ(nans(row(grad_x, 1)), size);
    EXPECT_EQ(nans(grad_x), size);
  }
}

TYPED_TEST(NanTest, AGradientOfNanIsNoneOfZero) {
  using T = TypeParam;
  for (const bool gated : {false, true}) {
    const eh::FeedForward<T> layer(
        {.size = 8, .hidden_size = 20, .activation = Activation::silu, .gated = gated});
    typename eh::FeedForward<T>::Activations saved;
    (void)layer.forward(random_tensor<T>(1, 5, 8), saved);
    auto grad_y = random_tensor<T>(2, 5, 8);
    std::fill_n(grad_y.data() + 16, 8, kNan<T>);
    const auto gradients = layer.backward(grad_y, saved);
    EXPECT_EQ(nans(gradients.x), 8);
    EXPECT_EQ(nans(TensorView<T, 1>(gradients.x.data() + 16, {8})), 8);
    EXPECT_EQ(nans(gradients.up.weight), gradients.up.weight.size());
    EXPECT_EQ(nans(gradients.down.weight), gradients.down.weight.size());
  }
}

// Of a key, to the queries that see it: the first three do not.
TYPED_TEST(NanTest, AdditiveAttentionHandsItOnToTheQueriesThatSeeIt) {
  using T = TypeParam;
  for (const Index K : {1, 5, 40, 300}) {
    const eh::AdditiveAttention<T> attention({.num_hiddens = 9, .query_size = 6, .key_size = 4});
    const auto queries = random_tensor<T>(1, 1, 7, 6), values = random_tensor<T>(2, 1, K, 11);
    const auto grad_output = random_tensor<T>(3, 1, 7, 11);
    for (const Index key : {Index{0}, K / 2, K - 1}) {
      SCOPED_TRACE(key);
      Tensor<bool, 4> allowed(1, 1, 7, K);
      for (Index q = 0; q < 7; ++q)
        for (Index k = 0; k < K; ++k) allowed(0, 0, q, k) = q >= 3 || k != key;
      const eh::Mask mask{.allowed = allowed};
      auto keys = random_tensor<T>(4, 1, K, 4);
      const auto clean = attention(queries, keys, values, mask);
      keys(0, key, 1) = kNan<T>;
      const auto result = attention.with_weights(queries, keys, values, mask);
      typename eh::AdditiveAttention<T>::Activations saved;
      (void)attention.forward(queries, keys, values, mask, saved);
      const auto gradients = attention.backward(grad_output, saved);
      for (Index q = 0; q < 7; ++q) {
        SCOPED_TRACE(q);
        EXPECT_EQ(nans(row(result.output, 0, q)), q < 3 ? 0 : 11);
        EXPECT_EQ(nans(row(result.weights, 0, q)), q < 3 ? 0 : K);
        EXPECT_EQ(nans(row(gradients.queries, 0, q)), q < 3 ? 0 : 6);
        EXPECT_EQ(q < 3, same_bits(row(result.output, 0, q), row(clean, 0, q)));
      }
      EXPECT_EQ(nans(gradients.w_v.weight), 9);
      EXPECT_EQ(nans(gradients.keys), gradients.keys.size());
      EXPECT_EQ(nans(gradients.values), gradients.values.size());
    }
  }
}

// All of the above once more, on each instruction set that this CPU has beside the best.
TEST(NanElsewhere, OnLesserInstructionSetsToo) { run_on_lesser_instruction_sets("NanElsewhere*"); }

}  // namespace
