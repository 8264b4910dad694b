// SPDX-License-Identifier: MIT
// Softmax over the keys that are left: exact, blind to the others, and never made up; and its
// gradient.
#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/softmax.hpp>

#include "support.hpp"
#include "textbook.hpp"

namespace {

using namespace support;
using eh::masked_softmax, eh::masked_softmax_backward, eh::ValidLens;

template <class T>
class SoftmaxTest : public testing::Test {
 protected:
  // One row of scores; its weights.
  static Tensor<T, 3> softmax(const std::vector<T>& scores, const ValidLens& lens = {}) {
    return masked_softmax(
        TensorView<T, 3>(scores.data(), {1, 1, static_cast<Index>(scores.size())}), lens);
  }
  static testing::AssertionResult is(const Tensor<T, 3>& weights, const std::vector<T>& expected) {
    return same_bits(row(weights, 0, 0),
                     TensorView<T, 1>(expected.data(), {static_cast<Index>(expected.size())}));
  }
};
TYPED_TEST_SUITE(SoftmaxTest, Scalars, ScalarNames);

// A weight is off by the rounding of its score's distance to the maximum, of exp and of the sum.
TYPED_TEST(SoftmaxTest, ItIsExactForEveryLengthAndSumsToOne) {
  using T = TypeParam;
  using W = Wide<T>;
  constexpr Index B = 3, Q = 2;
  const W u = W(Limits<T>::epsilon()) / 2;
  for (const Index K : {0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 63, 64, 65, 200, 600})
    for (const int rank : {0, 1, 2})
      for (const T size : {T(1), T(30)}) {
        auto scores = random_tensor<T>(static_cast<std::uint64_t>(K + rank), B, Q, K);
        for (Index i = 0; i < scores.size(); ++i) scores.data()[i] *= size;
        PairMask mask{.Q = Q, .K = K, .lens_rank = rank};
        mask.lens = Tensor<Index, 2>(B, rank == 1 ? 1 : Q);
        Numbers numbers(7);
        for (Index i = 0; i < mask.lens.size(); ++i) mask.lens.data()[i] = numbers.between(0, K);

        Tensor<W, 3> exact(B, Q, K), bound(B, Q, K);
        const Tensor<T, 3> weights = masked_softmax(scores, mask.mask().valid_lens);
        for (Index b = 0; b < B; ++b)
          for (Index q = 0; q < Q; ++q) {
            W sum = 0, total = 0, n = 0;
            for (Index k = 0; k < K; ++k) {
              exact(b, q, k) = mask.visible(b, q, k) ? std::exp(W(scores(b, q, k))) : 0;
              sum += exact(b, q, k);
              n += mask.visible(b, q, k);
            }
            for (Index k = 0; k < K; ++k) {
              if (mask.visible(b, q, k)) exact(b, q, k) /= sum;
              bound(b, q, k) = exact(b, q, k) * u * (8 * (1 + W(size)) + 2 * std::sqrt(n));
              total += W(weights(b, q, k));
            }
            EXPECT_NEAR(static_cast<double>(total), n > 0 ? 1 : 0,
                        static_cast<double>((n + 2) * u));
          }
        ASSERT_TRUE(within(weights, exact, bound)) << K << ' ' << rank;
      }
}

TYPED_TEST(SoftmaxTest, KnownWeights) {
  using T = TypeParam;
  EXPECT_TRUE(this->is(this->softmax({T(-3)}), {1}));
  EXPECT_TRUE(this->is(this->softmax({5, 5, 5, 5}), {T(0.25), T(0.25), T(0.25), T(0.25)}));
  const auto weights = this->softmax({0, T(1.0986122886681098)});  // ln 3
  EXPECT_NEAR(weights(0, 0, 0), 0.25, Limits<T>::epsilon());
  EXPECT_NEAR(weights(0, 0, 1), 0.75, 2 * Limits<T>::epsilon());
}

TYPED_TEST(SoftmaxTest, ScoresOfAnySizeGiveWeights) {
  using T = TypeParam;
  const T big = T(1e30), most = Limits<T>::max();
  for (const T x : {big, -big, most, -most, T(-2e4), Limits<T>::denorm_min()})
    EXPECT_TRUE(this->is(this->softmax({x, x}), {T(0.5), T(0.5)})) << x;
  EXPECT_TRUE(this->is(this->softmax({-big, big, 0}), {0, 1, 0}));
  EXPECT_TRUE(this->is(this->softmax({-most, most}), {0, 1}));
  EXPECT_TRUE(this->is(this->softmax({0, T(1e4), 1}), {0, 1, 0}));
}

TYPED_TEST(SoftmaxTest, ARowWithoutKeysIsZero) {
  using T = TypeParam;
  EXPECT_TRUE(this->is(this->softmax({1, 2, 3}, {0}), {0, 0, 0}));
  EXPECT_TRUE(this->is(this->softmax({kNan<T>, kInf<T>, 3}, {{0}}), {0, 0, 0}));
  const T hidden = -kInf<T>;
  EXPECT_TRUE(this->is(this->softmax({hidden, hidden, hidden}), {0, 0, 0}));
  EXPECT_TRUE(this->is(this->softmax({hidden, hidden, 3}, {2}), {0, 0, 0}));
}

TYPED_TEST(SoftmaxTest, WhatLiesAtAHiddenKeyChangesNothing) {
  using T = TypeParam;
  const auto scores = random_tensor<T>(1, 2, 3, 9);
  const ValidLens lens{{4, 0, 9}, {1, 8, 3}};
  const Tensor<T, 3> weights = masked_softmax(scores, lens);
  for (const T poison : {kNan<T>, -kNan<T>, kInf<T>, -kInf<T>, Limits<T>::max()}) {
    auto poisoned = scores;
    for (Index b = 0; b < 2; ++b)
      for (Index q = 0; q < 3; ++q)
        for (Index k = lens.length(b, q); k < 9; ++k) poisoned(b, q, k) = poison;
    EXPECT_TRUE(same_bits(masked_softmax(poisoned, lens), weights)) << poison;
  }
}

TYPED_TEST(SoftmaxTest, AScoreOfMinusInfinityIsAHiddenKey) {
  using T = TypeParam;
  const T hidden = -kInf<T>;
  const std::vector<T> scores{T(0.5), T(-2), T(1.25), T(3), T(0.1)};
  for (std::size_t length = 0; length <= scores.size(); ++length) {
    auto cut = scores;
    std::fill(cut.begin() + static_cast<std::ptrdiff_t>(length), cut.end(), hidden);
    EXPECT_TRUE(same_bits(this->softmax(cut), this->softmax(scores, {length})));
  }
  const auto with_hole = this->softmax({hidden, T(0.5), hidden, T(-2), hidden}),
             without = this->softmax({T(0.5), T(-2)});
  EXPECT_TRUE(this->is(with_hole, {0, without(0, 0, 0), 0, without(0, 0, 1), 0}));
}

TYPED_TEST(SoftmaxTest, NanAndInfinityReachTheirWholeRowAndNoOther) {
  using T = TypeParam;
  const auto scores = random_tensor<T>(2, 1, 3, 17);
  const Tensor<T, 3> weights = masked_softmax(scores, {12});
  for (Index k = 0; k < 12; ++k)
    for (const T bad : {kNan<T>, -kNan<T>, kInf<T>})
      for (const T others : {T(0), -kInf<T>, T(1e30)}) {  // NaN is not lost beside any of them
        auto with_bad = scores;
        with_bad(0, 1, (k + 5) % 12) = others;
        with_bad(0, 1, k) = bad;
        const Tensor<T, 3> got = masked_softmax(with_bad, {12});
        EXPECT_TRUE(same_bits(row(got, 0, 0), row(weights, 0, 0)));
        EXPECT_TRUE(same_bits(row(got, 0, 2), row(weights, 0, 2)));
        for (Index i = 0; i < 17; ++i)
          EXPECT_EQ(bits(got(0, 1, i)), bits(i < 12 ? kNan<T> : T(0)))
              << bad << ' ' << k << ' ' << i;
      }
}

// Whatever the row's length: of a block of keys, or of several.
TYPED_TEST(SoftmaxTest, ItsBitsAreThoseOfAttentionsWeights) {
  using T = TypeParam;
  for (const Index K : {1, 16, 17, 128, 129, 256, 300, 513, 1000})
    for (const T size : {T(1), T(200)}) {
      auto k = random_tensor<T>(static_cast<std::uint64_t>(K), 2, 1, K, 1);
      for (Index i = 0; i < k.size(); ++i) k.data()[i] *= size;
      k(0, 0, K / 2, 0) = -kInf<T>;
      const auto q = constant_tensor(T(1), 2, 1, 3, 1), v = constant_tensor(T(1), 2, 1, K, 1);
      const ValidLens lens{{K, 0, K / 2}, {1, K / 3, K}};
      Tensor<T, 3> scores(2, 3, K);
      for (Index b = 0; b < 2; ++b)
        for (Index row = 0; row < 3; ++row) std::copy_n(&k(b, 0, 0, 0), K, &scores(b, row, 0));
      const auto result = eh::scaled_dot_product_attention(q, k, v, {.valid_lens = lens},
                                                           {.scale = 1.0, .weights = true});
      EXPECT_TRUE(same_bits(masked_softmax(scores, lens),
                            TensorView<T, 3>(result.weights.data(), {2, 3, K})))
          << K;
    }
}

TYPED_TEST(SoftmaxTest, AnEmptyAxisStaysEmpty) {
  using T = TypeParam;
  for (const auto& shape : {std::array<Index, 3>{0, 2, 3}, {2, 0, 3}, {2, 3, 0}}) {
    const TensorView<T, 3> scores(nullptr, shape);
    EXPECT_EQ(TensorView(masked_softmax(scores)).dimensions(), shape);
    const std::vector<int> lens(static_cast<std::size_t>(shape[0]));
    EXPECT_EQ(TensorView(masked_softmax(scores, lens)).dimensions(), shape);
  }
}

TYPED_TEST(SoftmaxTest, WhatDoesNotFitIsRefused) {
  using T = TypeParam;
  const auto scores = random_tensor<T>(1, 2, 3, 4);
  const auto refused = [&](const ValidLens& lens) {
    return refusal([&] { return masked_softmax(scores, lens); });
  };
  EXPECT_EQ(refused({1, 2, 3}),
            "eigenheads: valid_lens has shape [3]; expected [B] = [2] or [B, Q] = [2, 3]");
  EXPECT_EQ(refused({1, 5}), "eigenheads: valid_lens[1] is 5; expected 0 to the number of keys, 4");
  EXPECT_EQ(refusal([] { return masked_softmax(TensorView<T, 3>(nullptr, {2, 3, 4})); }),
            "eigenheads: masked_softmax: scores has shape [2, 3, 4] but its data pointer is null");
}

// ---- The gradient ------------------------------------------------------------------------------

// (L(S + h) - L(S - h)) / 2h with L = sum dP P. Only one score of a row moves, and |dP| <= 1, so
// |L'''| <= 7, as in attention_reference_backward_test.cpp; and as above a sum of weights is off by
// u (8 (1 + |S|) + 2 sqrt K).
TEST(SoftmaxBackward, IsTheCentralDifference) {
  constexpr double h = 0x1p-17, u = Limits<double>::epsilon() / 2;
  for (const Index K : {1, 2, 5, 33})
    for (const ValidLens& lens : {ValidLens(), ValidLens{0, K}, ValidLens{{K / 2, 1}, {0, K}}}) {
      auto scores = random_tensor<double>(1, 2, 2, K);
      const auto grad_weights = random_tensor<double>(2, 2, 2, K);
      const auto gradient = masked_softmax_backward(masked_softmax(scores, lens), grad_weights);
      const double bound = 7 * h * h / 6 + u * (16 + 2 * std::sqrt(static_cast<double>(K))) / h;
      for (Index i = 0; i < scores.size(); ++i) {
        const double middle = scores.data()[i];
        scores.data()[i] = middle + h;
        const Tensor<double, 3> above = masked_softmax(scores, lens);
        scores.data()[i] = middle - h;
        const Tensor<double, 3> below = masked_softmax(scores, lens);
        scores.data()[i] = middle;
        double difference = 0;
        for (Index j = 0; j < scores.size(); ++j)
          difference += grad_weights.data()[j] * (above.data()[j] - below.data()[j]);
        ASSERT_NEAR(gradient.data()[i], difference / (2 * h), bound) << K << ' ' << i;
      }
    }
}

// By the rounding of sum P dP, of a difference and of a product: |dP| <= 1.
TYPED_TEST(SoftmaxTest, ItsGradientIsExactForEveryLength) {
  using T = TypeParam;
  using W = Wide<T>;
  for (const Index K : {0, 1, 2, 3, 7, 8, 9, 16, 17, 65, 200, 600}) {
    const Tensor<T, 3> weights = masked_softmax(random_tensor<T>(1, 2, 3, K));
    const auto grad_weights = random_tensor<T>(2, 2, 3, K);
    Tensor<W, 3> exact(2, 3, K), bound(2, 3, K);
    for (Index b = 0; b < 2; ++b)
      for (Index q = 0; q < 3; ++q) {
        W mean = 0;
        for (Index k = 0; k < K; ++k) mean += W(weights(b, q, k)) * W(grad_weights(b, q, k));
        for (Index k = 0; k < K; ++k) {
          exact(b, q, k) = W(weights(b, q, k)) * (W(grad_weights(b, q, k)) - mean);
          bound(b, q, k) = W(weights(b, q, k)) * W(K + 5) * W(Limits<T>::epsilon());
        }
      }
    ASSERT_TRUE(within(masked_softmax_backward(weights, grad_weights), exact, bound)) << K;
  }
}

// Hidden keys weigh nothing: nobody looks at the gradient of their weights, and theirs is 0.
TYPED_TEST(SoftmaxTest, HiddenKeysHaveNoGradientAndGiveNone) {
  using T = TypeParam;
  const ValidLens lens{{4, 0, 9}, {1, 8, 3}};
  const Tensor<T, 3> weights = masked_softmax(random_tensor<T>(1, 2, 3, 9), lens);
  auto grad_weights = random_tensor<T>(2, 2, 3, 9);
  const Tensor<T, 3> clean = masked_softmax_backward(weights, grad_weights);
  for (Index b = 0; b < 2; ++b)
    for (Index q = 0; q < 3; ++q)
      for (Index k = lens.length(b, q); k < 9; ++k) {
        EXPECT_EQ(bits(clean(b, q, k)), bits(T(0)));
        grad_weights(b, q, k) = kNan<T>;
      }
  EXPECT_TRUE(same_bits(masked_softmax_backward(weights, grad_weights), clean));
}

TYPED_TEST(SoftmaxTest, NanInAGradientReachesTheKeysThatWeigh) {
  using T = TypeParam;
  const Tensor<T, 3> weights = masked_softmax(random_tensor<T>(1, 1, 3, 9), {7});
  auto grad_weights = random_tensor<T>(2, 1, 3, 9);
  const Tensor<T, 3> clean = masked_softmax_backward(weights, grad_weights);
  grad_weights(0, 1, 6) = kNan<T>;
  const Tensor<T, 3> got = masked_softmax_backward(weights, grad_weights);
  EXPECT_TRUE(same_bits(row(got, 0, 0), row(clean, 0, 0)));
  EXPECT_TRUE(same_bits(row(got, 0, 2), row(clean, 0, 2)));
  for (Index k = 0; k < 9; ++k) EXPECT_EQ(bits(got(0, 1, k)), bits(k < 7 ? kNan<T> : T(0)));
}

TYPED_TEST(SoftmaxTest, GradientsThatDoNotFitAreRefused) {
  using T = TypeParam;
  const auto weights = random_tensor<T>(1, 2, 3, 4), shorter = random_tensor<T>(1, 2, 3, 3);
  EXPECT_EQ(
      refusal([&] { return masked_softmax_backward(weights, shorter); }),
      "eigenheads: masked_softmax_backward: grad_weights has shape [2, 3, 3]; expected [B, Q, "
      "K] = [2, 3, 4]");
  EXPECT_EQ(refusal([&] {
              return masked_softmax_backward(TensorView<T, 3>(nullptr, {2, 3, 4}), weights);
            }),
            "eigenheads: masked_softmax_backward: weights has shape [2, 3, 4] but its data pointer "
            "is null");
}

}  // namespace
