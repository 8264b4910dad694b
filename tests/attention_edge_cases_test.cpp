// SPDX-License-Identifier: MIT
// Shapes and numbers that broke attention elsewhere: each line of a table is somebody's bug.
#include <array>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_reference.hpp>

#include "support.hpp"
#include "textbook.hpp"

namespace {

using namespace support;
using eh::Causal, eh::Mask, eh::scaled_dot_product_attention;

template <class T>
class AttentionEdgeCases : public testing::Test {
 protected:
  // One query of size 1, so that the keys are the scores.
  static eh::AttentionResult<T> attend(const std::vector<T>& scores, const std::vector<T>& values,
                                       const Mask& mask = {}) {
    const auto K = static_cast<Index>(scores.size());
    return scaled_dot_product_attention(
        constant_tensor<T>(1, 1, 1, 1, 1), TensorView<T, 4>(scores.data(), {1, 1, K, 1}),
        TensorView<T, 4>(values.data(), {1, 1, K, 1}), mask, {.scale = 1});
  }
  static T output(const std::vector<T>& scores, const std::vector<T>& values) {
    return attend(scores, values).output(0, 0, 0, 0);
  }
};
TYPED_TEST_SUITE(AttentionEdgeCases, Scalars, ScalarNames);

TYPED_TEST(AttentionEdgeCases, AnEmptyAxisStaysEmptyAndNoKeyIsNothing) {
  using T = TypeParam;
  struct Shape {
    Index B, H, Q, K, V;
  };
  for (const auto& [B, H, Q, K, V] : {Shape{0, 2, 3, 4, 8},
                                      {2, 0, 3, 4, 8},
                                      {2, 2, 0, 4, 8},
                                      {2, 2, 3, 0, 8},
                                      {2, 2, 3, 4, 0},
                                      {0, 0, 0, 0, 0}})
    for (const int threads : {1, 4})
      for (const Causal causal : {Causal::none, Causal::top_left, Causal::bottom_right}) {
        eh::Context context(threads, kAnyWork);
        const auto got = scaled_dot_product_attention(
            random_tensor<T>(1, B, H, Q, 5), random_tensor<T>(2, B, H, K, 5),
            random_tensor<T>(3, B, H, K, V), {.causal = causal}, {}, context);
        EXPECT_EQ(TensorView(got.output).dimensions(), (std::array<Index, 4>{B, H, Q, V}));
        EXPECT_EQ(TensorView(got.lse).dimensions(), (std::array<Index, 3>{B, H, Q}));
        if (K == 0) {
          EXPECT_TRUE(all_are(got.output, 0));
          EXPECT_TRUE(all_are(got.lse, -kInf<T>));
        }
      }
}

TYPED_TEST(AttentionEdgeCases, OneKeyIsItsValue) {
  using T = TypeParam;
  const auto got = this->attend({T(6)}, {T(5)});
  EXPECT_EQ(got.output(0, 0, 0, 0), T(5));
  EXPECT_EQ(got.lse(0, 0, 0), T(6));
  const auto q = random_tensor<T>(1, 2, 2, 513, 3), k = random_tensor<T>(2, 2, 2, 1, 3),
             v = random_tensor<T>(3, 2, 2, 1, 5);
  const auto output = scaled_dot_product_attention(q, k, v).output;
  for (Index i = 0; i < 513; ++i) EXPECT_TRUE(same_bits(row(output, 1, 0, i), row(v, 1, 0, 0)));
}

// The mask leaves each query one key, another one: its value, to the bit.
TYPED_TEST(AttentionEdgeCases, OneVisibleKeyIsItsValue) {
  using T = TypeParam;
  for (const Index n : {1, 2, 17, 65}) {
    const auto q = random_tensor<T>(1, 1, 2, n, 4), k = random_tensor<T>(2, 1, 2, n, 4),
               v = random_tensor<T>(3, 1, 2, n, 6);
    EXPECT_TRUE(same_bits(scaled_dot_product_attention(q, k, v, {.window = {0, 0}}).output, v));
  }
}

// A query of zero weighs all keys alike; the logarithm is the natural one.
TYPED_TEST(AttentionEdgeCases, EqualScoresGiveTheMeanAndTheLogarithmOfTheirNumber) {
  using T = TypeParam;
  const double eps = static_cast<double>(Limits<T>::epsilon());
  EXPECT_EQ(this->output({0, 0, 0, 0}, {1, 2, 3, 6}), T(3));
  for (const Index n : {1, 2, 3, 64, 65, 1000}) {
    const auto k = random_tensor<T>(1, 1, 1, n, 3);
    const auto got = scaled_dot_product_attention(constant_tensor<T>(0, 1, 1, 1, 3), k, k);
    EXPECT_NEAR(got.lse(0, 0, 0), std::log(static_cast<double>(n)), 8 * eps) << n;
  }
  for (const T score : {T(-2e4), T(-1e30), T(1e30), Limits<T>::lowest(), Limits<T>::max()}) {
    EXPECT_EQ(this->output({score, score, score, score}, {1, 2, 3, 6}), T(3)) << score;
    EXPECT_EQ(this->attend({score, score}, {1, 1}).lse(0, 0, 0),
              score + T(0.6931471805599453))  // ln 2
        << score;
  }
}

TYPED_TEST(AttentionEdgeCases, AScoreFarAboveTheOthersIsItsValue) {
  using T = TypeParam;
  const T value = T(0.3);
  for (const T far : {T(1e4), T(1e30), Limits<T>::max()}) {
    EXPECT_EQ(this->output({0, far, 0}, {7, value, -9}), value) << far;
    EXPECT_EQ(this->output({-far, 0, -far}, {7, value, -9}), value) << far;
    EXPECT_EQ(this->output({-far, far, 0}, {7, value, -9}), value) << far;
  }
}

// The second of two weights down to where it vanishes: gradually or at once, but to zero.
TYPED_TEST(AttentionEdgeCases, AWeightVanishesWithTheDistanceOfItsScore) {
  using T = TypeParam;
  using W = Wide<T>;
  const std::vector<double> distances =
      sizeof(T) == 4 ? std::vector<double>{1, 20, 87, 88, 88.4, 88.8, 100, 104, 150, 1e4}
                     : std::vector<double>{1, 20, 700, 708, 708.5, 709, 720, 745, 750, 1e4};
  for (const double distance : distances) {
    const T score = static_cast<T>(-distance);
    const W exact = std::exp(W(score)) / (1 + std::exp(W(score))),
            got = this->output({0, score}, {0, 1});
    const W off = exact * W(Limits<T>::epsilon()) * (4 * (1 - W(score)) + 2);
    if (exact >= W(Limits<T>::min()))
      EXPECT_LE(std::abs(got - exact), off) << distance;
    else
      EXPECT_TRUE(got == 0 || std::abs(got - exact) <= off + W(Limits<T>::denorm_min()))
          << distance;
  }
  EXPECT_EQ(this->output({0, T(-2000)}, {0, Limits<T>::max()}), T(0));
}

TYPED_TEST(AttentionEdgeCases, NanInAValueReachesItsColumnInTheRowsThatSeeIt) {
  using T = TypeParam;
  const auto q = random_tensor<T>(1, 1, 1, 20, 4), k = random_tensor<T>(2, 1, 1, 20, 4),
             v = random_tensor<T>(3, 1, 1, 20, 9);
  const PairMask mask{.Q = 20, .K = 20, .causal = Causal::top_left, .window = {6, -1}};
  const auto clean = scaled_dot_product_attention(q, k, v, mask.mask()).output;
  for (Index key = 0; key < 20; ++key)
    for (const T bad : {kNan<T>, kInf<T>, -kInf<T>}) {
      auto with_bad = v;
      with_bad(0, 0, key, key % 9) = bad;
      const auto got = scaled_dot_product_attention(q, k, with_bad, mask.mask()).output;
      for (Index i = 0; i < 20; ++i)
        for (Index c = 0; c < 9; ++c) {
          const bool reached = mask.visible(0, i, key) && c == key % 9;
          ASSERT_EQ(bits(got(0, 0, i, c)), bits(reached ? bad : clean(0, 0, i, c)));
        }
    }
  EXPECT_EQ(bits(this->output({0, 0}, {kInf<T>, -kInf<T>})), bits(kNan<T>));
}

TYPED_TEST(AttentionEdgeCases, NanInAQueryOrAKeyReachesItsRows) {
  using T = TypeParam;
  const auto q = random_tensor<T>(1, 1, 1, 7, 4), k = random_tensor<T>(2, 1, 1, 9, 4),
             v = random_tensor<T>(3, 1, 1, 9, 5);
  const PairMask mask{.Q = 7, .K = 9, .causal = Causal::bottom_right, .window = {3, -1}};
  const auto clean = scaled_dot_product_attention(q, k, v, mask.mask());
  const auto expect = [&](const Tensor<T, 4>& bad_q, const Tensor<T, 4>& bad_k, auto reached) {
    const auto got = scaled_dot_product_attention(bad_q, bad_k, v, mask.mask());
    for (Index i = 0; i < 7; ++i) {
      EXPECT_EQ(bits(got.lse(0, 0, i)), bits(reached(i) ? kNan<T> : clean.lse(0, 0, i)));
      if (reached(i))
        EXPECT_TRUE(all_are(row(got.output, 0, 0, i), kNan<T>));
      else
        EXPECT_TRUE(same_bits(row(got.output, 0, 0, i), row(clean.output, 0, 0, i)));
    }
  };
  for (Index i = 0; i < 7; ++i) {
    auto bad = q;
    bad(0, 0, i, i % 4) = kNan<T>;
    expect(bad, k, [&](Index query) { return query == i; });
  }
  for (Index j = 0; j < 9; ++j) {
    auto bad = k;
    bad(0, 0, j, j % 4) = kNan<T>;
    expect(q, bad, [&](Index query) { return mask.visible(0, query, j); });
  }
}

TYPED_TEST(AttentionEdgeCases, NumbersAtTheEndsOfTheRange) {
  using T = TypeParam;
  EXPECT_EQ(this->output({T(-0.0), T(0)}, {T(-0.0), T(-0.0)}), T(0));
  EXPECT_EQ(bits(this->attend({kInf<T>, 0}, {1, 1}).output(0, 0, 0, 0)), bits(kNan<T>));
  for (const Index K : {2, 7, 64}) {
    const auto q = constant_tensor<T>(0, 1, 1, 1, 1), k = constant_tensor<T>(0, 1, 1, K, 1),
               v = constant_tensor<T>(Limits<T>::max() / static_cast<T>(K), 1, 1, K, 3);
    const auto exact = textbook<T>(q, k, v, {.Q = 1, .K = K}, 1);
    const auto got = scaled_dot_product_attention(q, k, v).output;
    EXPECT_TRUE(within(got, exact.output, exact.output_bound)) << K;
  }
  auto q = random_tensor<T>(1, 1, 1, 3, 8), k = random_tensor<T>(2, 1, 1, 5, 8), v = k;
  for (auto* x : {&q, &k, &v})
    for (Index i = 0; i < x->size(); ++i) x->data()[i] *= Limits<T>::min();  // subnormal
  const auto exact = textbook<T>(q, k, v, {.Q = 3, .K = 5}, 1);
  EXPECT_TRUE(within(scaled_dot_product_attention(q, k, v, {}, {.scale = 1}).output, exact.output,
                     exact.output_bound));
}

// Whole blocks of keys are hidden, at either side of what is seen.
TYPED_TEST(AttentionEdgeCases, AWindowInALongSequence) {
  using T = TypeParam;
  const auto q = random_tensor<T>(1, 1, 1, 640, 8), k = random_tensor<T>(2, 1, 1, 640, 8),
             v = random_tensor<T>(3, 1, 1, 640, 3);
  const PairMask mask{.Q = 640, .K = 640, .causal = Causal::bottom_right, .window = {9, -1}};
  const auto exact = textbook<T>(q, k, v, mask, Wide<T>(0.5));
  EXPECT_TRUE(within(scaled_dot_product_attention(q, k, v, mask.mask(), {.scale = 0.5}).output,
                     exact.output, exact.output_bound));
}

TYPED_TEST(AttentionEdgeCases, ASumOverVeryManyKeys) {
  using T = TypeParam;
  constexpr Index K = 131072;
  auto v = random_tensor<T>(3, 1, 1, K, 1);
  for (Index i = 0; i < K; ++i) v.data()[i] = (v.data()[i] + 1) / 2;  // of one sign
  const auto q = constant_tensor<T>(0, 1, 1, 1, 1), k = constant_tensor<T>(0, 1, 1, K, 1);
  const auto exact = textbook<T>(q, k, v, {.Q = 1, .K = K}, 1);
  const auto got = scaled_dot_product_attention(q, k, v);
  EXPECT_TRUE(within(got.output, exact.output, exact.output_bound));
  EXPECT_TRUE(within(got.lse, exact.lse, exact.lse_bound));
}

// However it came: by an infinite key, or by a product that overflows. Its value, infinite too, stays
// out of the row, whichever rows are multiplied together.
TYPED_TEST(AttentionEdgeCases, AScoreOfMinusInfinityHidesItsKey) {
  using T = TypeParam;
  for (const Index Q : {1, 3, 49, 129})
    for (const Index K : {97, 300})
      for (const Index V : {64, 5})
        for (const auto& mask : {eh::Mask{}, eh::Mask{.causal = eh::Causal::bottom_right}}) {
          auto q = random_tensor<T>(1, 1, 2, Q, 32), k = random_tensor<T>(2, 1, 2, K, 32),
               v = random_tensor<T>(3, 1, 2, K, V);
          const Index hidden = K - 20;
          k(0, 1, hidden, 7) = kInf<T>;
          v(0, 1, hidden, 2) = kInf<T>;
          for (Index i = 0; i < Q; i += 2) q(0, 1, i, 7) = T(-1);  // the others see +inf: NaN
          const auto got = scaled_dot_product_attention(q, k, v, mask);
          eh::Context context(5, kAnyWork);
          EXPECT_TRUE(same_bits(got, scaled_dot_product_attention(q, k, v, mask, {}, context)));
          const auto expected =
              eh::attention_reference<T>(q, k, v, mask, eh::detail::default_scale<T>(32));
          for (Index i = 0; i < Q; i += 2)
            for (Index j = 0; j < V; ++j)
              ASSERT_NEAR(got.output(0, 1, i, j), expected.output(0, 1, i, j), T(1e-5)) << i;
        }
}

}  // namespace
