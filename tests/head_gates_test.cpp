// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include <eigenheads/eigenheads.hpp>

#include "layers.hpp"
#include "support.hpp"

namespace {

namespace eh = eigenheads;
using eh::Index, eh::Mask, eh::MultiHeadAttention, eh::Tensor;
using support::kAnyWork, support::kNan, support::Limits, support::random_tensor, support::refusal,
    support::same_bits;

constexpr Index B = 3, Q = 10, K = 12, H = 6, G = 3, D = 5, E = 14;

template <class T>
class HeadGates : public testing::Test {
 protected:
  HeadGates()
      : layer_(support::make_layer<T>(
            E, {.num_hiddens = E, .num_heads = H, .bias = true, .num_kv_heads = G, .head_size = D},
            3)) {}

  MultiHeadAttention<T> layer_;
  const Tensor<T, 3> x_ = random_tensor<T>(11, B, Q, E), m_ = random_tensor<T>(12, B, K, E),
                     dy_ = random_tensor<T>(13, B, Q, E);
  const Mask mask_{.valid_lens = {7, 12, 3}, .query_lens = {10, 4, 9}};

  using Activations = typename MultiHeadAttention<T>::Activations;

  // sum over q and e of dy[b, q, e] (y of gates with 1 at [b, h] and 0 elsewhere - b_o): what the
  // head adds to the loss sum dy y, and so the slope of that loss with respect to its gate.
  double slope_directly(Index b, Index h) const {
    MultiHeadAttention<T> one = layer_;
    Tensor<T, 2> gates(B, H);
    gates.setZero();
    gates(b, h) = 1;
    one.set_gates(gates);
    const auto y = one(x_, m_, m_, mask_);
    double sum = 0;
    for (Index q = 0; q < Q; ++q)
      for (Index e = 0; e < E; ++e)
        sum += static_cast<double>(dy_(b, q, e)) *
               (static_cast<double>(y(b, q, e)) - static_cast<double>(layer_.W_o.bias()(e)));
    return sum;
  }
};
TYPED_TEST_SUITE(HeadGates, support::Scalars, support::ScalarNames);

TYPED_TEST(HeadGates, OnesChangeNothing) {
  using T = TypeParam;
  const auto expected = this->layer_(this->x_, this->m_, this->m_, this->mask_);
  auto gated = this->layer_;
  gated.set_gates({1, 1, 1, 1, 1, 1});
  EXPECT_TRUE(same_bits(gated(this->x_, this->m_, this->m_, this->mask_), expected));
  gated.set_gates(support::constant_tensor(T(1), B, H));
  EXPECT_TRUE(same_bits(gated(this->x_, this->m_, this->m_, this->mask_), expected));
  gated.set_gates({T(0.5), 1, 1, 1, 1, 0});
  EXPECT_FALSE(same_bits(gated(this->x_, this->m_, this->m_, this->mask_), expected));
  gated.clear_gates();
  EXPECT_EQ(gated.gates().size(), 0);
  EXPECT_TRUE(same_bits(gated(this->x_, this->m_, this->m_, this->mask_), expected));
}

// y - b_o is linear in the gates, and powers of two are exact.
TYPED_TEST(HeadGates, MultiplyTheHeadsBeforeTheOutput) {
  using T = TypeParam;
  auto halves = this->layer_;
  halves.set_gates(std::vector<T>(H, T(0.5)));
  auto one = this->layer_;
  auto weight = this->layer_.W_o.weight();
  for (Index i = 0; i < weight.size(); ++i) weight.data()[i] *= T(0.5);
  one.W_o.set_weight(weight);
  EXPECT_TRUE(same_bits(halves(this->x_, this->m_, this->m_, this->mask_),
                        one(this->x_, this->m_, this->m_, this->mask_)));
}

TYPED_TEST(HeadGates, OfASequenceAreThoseOfACallOfItsOwn) {
  using T = TypeParam;
  Tensor<T, 2> gates = random_tensor<T>(31, B, H);
  gates(0, 2) = gates(1, 0) = gates(1, 1) = gates(1, 5) = gates(2, 5) = 0;
  auto all = this->layer_;
  all.set_gates(gates);
  for (const int threads : {1, 2}) {
    eh::Context context(threads, kAnyWork);
    const auto y = all(this->x_, this->m_, this->m_, Mask{}, context);
    for (Index b = 0; b < B; ++b) {
      auto alone = this->layer_;
      alone.set_gates(support::row(gates, b));
      const auto x = support::sequence(this->x_, b), m = support::sequence(this->m_, b);
      EXPECT_TRUE(same_bits(support::sequence(y, b), alone(x, m, m))) << b;
    }
  }
}

TYPED_TEST(HeadGates, TrainingComputesTheSameOutput) {
  using T = TypeParam;
  Tensor<T, 2> gates = random_tensor<T>(31, B, H);
  gates(0, 2) = gates(1, 0) = 0;
  auto gated = this->layer_;
  for (int round = 0; round < 2; ++round) {
    gated.set_gates(gates);
    typename TestFixture::Activations saved;
    EXPECT_TRUE(same_bits(gated.forward(this->x_, this->m_, this->m_, this->mask_, saved),
                          gated(this->x_, this->m_, this->m_, this->mask_)));
    for (Index i = 0; i < gates.size(); ++i) gates.data()[i] = i % 3 == 0 ? T(0) : T(1);
  }
}

TYPED_TEST(HeadGates, HaveTheSlopeOfTheLoss) {
  using T = TypeParam;
  // Whatever the gates are: the loss is linear in them.
  std::vector<Tensor<T, 2>> settings{support::constant_tensor(T(1), B, H),
                                     support::constant_tensor(T(0), B, H),
                                     random_tensor<T>(41, B, H)};
  for (const auto& gates : settings) {
    auto gated = this->layer_;
    gated.set_gates(gates);
    typename TestFixture::Activations saved;
    (void)gated.forward(this->x_, this->m_, this->m_, this->mask_, saved);
    const auto slopes = gated.backward(this->dy_, saved);
    ASSERT_EQ(slopes.gates.dimension(0), B);
    ASSERT_EQ(slopes.gates.dimension(1), H);
    // Sums of Q * (E + D) products of numbers below 4.
    const double tolerance = 16 * Q * (E + D) * static_cast<double>(Limits<T>::epsilon());
    for (Index b = 0; b < B; ++b)
      for (Index h = 0; h < H; ++h)
        EXPECT_NEAR(static_cast<double>(slopes.gates(b, h)), this->slope_directly(b, h), tolerance)
            << b << ' ' << h;
  }
}

// A gate is a factor of W_o's columns, so everything behind it has the slopes of such a layer.
TYPED_TEST(HeadGates, GradientsAreThoseOfScaledColumns) {
  using T = TypeParam;
  const std::vector<T> gates{T(0.5), T(-2), 1, 4, T(0.25), T(-1)};  // exact
  auto gated = this->layer_, scaled = this->layer_;
  gated.set_gates(gates);
  auto weight = this->layer_.W_o.weight();
  for (Index e = 0; e < E; ++e)
    for (Index i = 0; i < H * D; ++i) weight(e, i) *= gates[static_cast<std::size_t>(i / D)];
  scaled.W_o.set_weight(weight);
  typename TestFixture::Activations saved, saved_scaled;
  (void)gated.forward(this->x_, this->m_, this->m_, this->mask_, saved);
  (void)scaled.forward(this->x_, this->m_, this->m_, this->mask_, saved_scaled);
  const auto slopes = gated.backward(this->dy_, saved);
  const auto expected = scaled.backward(this->dy_, saved_scaled);
  EXPECT_TRUE(same_bits(slopes.queries, expected.queries));
  EXPECT_TRUE(same_bits(slopes.keys, expected.keys));
  EXPECT_TRUE(same_bits(slopes.values, expected.values));
  EXPECT_TRUE(same_bits(slopes.W_q.weight, expected.W_q.weight));
  EXPECT_TRUE(same_bits(slopes.W_k.bias, expected.W_k.bias));
  EXPECT_TRUE(same_bits(slopes.W_v.weight, expected.W_v.weight));
  for (Index e = 0; e < E; ++e)
    for (Index i = 0; i < H * D; ++i)
      EXPECT_EQ(support::bits(slopes.W_o.weight(e, i)),
                support::bits(gates[static_cast<std::size_t>(i / D)] * expected.W_o.weight(e, i)));
}

TYPED_TEST(HeadGates, SlopesDoNotDependOnThreadsOrPadding) {
  using T = TypeParam;
  auto gated = this->layer_;
  gated.set_gates(random_tensor<T>(51, B, H));
  typename TestFixture::Activations saved;
  (void)gated.forward(this->x_, this->m_, this->m_, this->mask_, saved);
  const auto slopes = gated.backward(this->dy_, saved);
  eh::Context two(2, kAnyWork);
  EXPECT_TRUE(same_bits(gated.backward(this->dy_, saved, two).gates, slopes.gates));
  auto x = this->x_, m = this->m_;
  for (Index e = 0; e < E; ++e) x(1, 7, e) = m(2, 3, e) = m(0, 11, e) = kNan<T>;
  (void)gated.forward(x, m, m, this->mask_, saved);
  EXPECT_TRUE(same_bits(gated.backward(this->dy_, saved).gates, slopes.gates));
}

TYPED_TEST(HeadGates, SlopesAreAddedOnRequest) {
  using T = TypeParam;
  typename TestFixture::Activations saved;
  (void)this->layer_.forward(this->x_, this->m_, this->m_, this->mask_, saved);
  auto slopes = this->layer_.backward(this->dy_, saved);
  const Tensor<T, 2> once = slopes.gates;
  this->layer_.backward_into(slopes, this->dy_, saved, true);
  for (Index i = 0; i < once.size(); ++i) EXPECT_EQ(slopes.gates.data()[i], 2 * once.data()[i]);
}

// A head that is gated off takes no part: what its weights hold reaches nobody.
TYPED_TEST(HeadGates, ZeroHidesEvenNaN) {
  using T = TypeParam;
  auto broken = this->layer_;
  auto W_q = broken.W_q.weight(), W_o = broken.W_o.weight();
  for (Index d = 0; d < D; ++d) {
    W_q(2 * D + d, 0) = kNan<T>;
    W_o(3, 2 * D + d) = kNan<T>;
  }
  broken.W_q.set_weight(W_q);
  broken.W_o.set_weight(W_o);
  auto whole = this->layer_;
  broken.set_gates({1, 1, 0, 1, 1, 1});
  whole.set_gates({1, 1, 0, 1, 1, 1});
  const auto expected = whole(this->x_, this->m_, this->m_, this->mask_);
  EXPECT_TRUE(same_bits(broken(this->x_, this->m_, this->m_, this->mask_), expected));
  EXPECT_TRUE(
      same_bits(broken.with_weights(this->x_, this->m_, this->m_, this->mask_).output, expected));
  typename TestFixture::Activations saved, saved_whole;
  EXPECT_TRUE(
      same_bits(broken.forward(this->x_, this->m_, this->m_, this->mask_, saved), expected));
  (void)whole.forward(this->x_, this->m_, this->m_, this->mask_, saved_whole);
  EXPECT_TRUE(same_bits(broken.backward(this->dy_, saved).queries,
                        whole.backward(this->dy_, saved_whole).queries));
}

TYPED_TEST(HeadGates, WeightsAreThoseWithoutGates) {
  auto gated = this->layer_;
  gated.set_gates({0, 1, 0, 0, 1, 0});
  EXPECT_TRUE(
      same_bits(gated.with_weights(this->x_, this->m_, this->m_, this->mask_).weights,
                this->layer_.with_weights(this->x_, this->m_, this->m_, this->mask_).weights));
}

TYPED_TEST(HeadGates, OneQueryOfManyKeys) {
  using T = TypeParam;
  const auto x = random_tensor<T>(61, 1, 1, E), m = random_tensor<T>(62, 1, 700, E);
  auto gated = this->layer_;
  gated.set_gates({0, 0, 1, 0, T(0.5), 1});
  eh::Context one(1), four(4);
  EXPECT_TRUE(same_bits(gated(x, m, m, Mask{}, one), gated(x, m, m, Mask{}, four)));
}

TYPED_TEST(HeadGates, CanBeTakenOutAndPutBack) {
  using T = TypeParam;
  const Tensor<T, 2> none = this->layer_.gates();
  this->layer_.set_gates({0, 1, 0, 1, 0, 1});
  this->layer_.set_gates(none);
  EXPECT_EQ(this->layer_.gates().size(), 0);
  // Of its own tensor, a part.
  const auto gates = random_tensor<T>(71, B, H);
  this->layer_.set_gates(gates);
  this->layer_.set_gates(support::row(this->layer_.gates(), 2));
  EXPECT_TRUE(same_bits(support::row(this->layer_.gates(), 0), support::row(gates, 2)));
}

TYPED_TEST(HeadGates, ASequenceWithoutHeadsHasTheBiasOfTheOutput) {
  using T = TypeParam;
  auto gates = support::constant_tensor(T(1), B, H);
  for (Index h = 0; h < H; ++h) gates(1, h) = 0;
  this->layer_.set_gates(gates);
  auto x = this->x_, m = this->m_;  // of which nothing is read there
  for (Index e = 0; e < E; ++e) x(1, 2, e) = m(1, 3, e) = kNan<T>;
  const auto y = this->layer_(x, m, m);
  for (Index q = 0; q < Q; ++q)
    EXPECT_TRUE(same_bits(support::row(y, 1, q), this->layer_.W_o.bias()));
}

TYPED_TEST(HeadGates, SayWhatIsWrong) {
  using T = TypeParam;
  auto& layer = this->layer_;
  EXPECT_EQ(refusal([&] { layer.set_gates({1, 0}); }),
            "eigenheads: gates has shape [2]; expected [H] = [6]");
  EXPECT_EQ(refusal([&] { layer.set_gates(support::constant_tensor(T(1), B, 5)); }),
            "eigenheads: gates has shape [3, 5]; expected [B, H] = [*, 6]");
  EXPECT_EQ(refusal([&] { layer.set_gates({1, 1, kNan<T>, 1, 1, 1}); }),
            "eigenheads: gates: that of sequence 0, head 2 is nan; expected a finite number");
  layer.set_gates(support::constant_tensor(T(1), 2, H));
  EXPECT_EQ(refusal([&] { return layer(this->x_, this->m_, this->m_); }),
            "eigenheads: gates has shape [2, 6]; expected [B, H] = [3, 6], or one row for all "
            "sequences");
  EXPECT_EQ(refusal([&] { return eh::explain<T>(this->layer_, this->x_, this->m_); }),
            "eigenheads: gates has shape [2, 6]; expected [B, H] = [3, 6], or one row for all "
            "sequences");
}

}  // namespace
