// SPDX-License-Identifier: MIT
// The oracle's gradients against central differences of its forward pass, and PyTorch's; what
// hidden keys and queries without keys get; and dropout in both passes.
#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <utility>
#include <vector>

#include <eigenheads/attention_reference.hpp>
#include <eigenheads/io/npy.hpp>

#include "support.hpp"
#include "textbook.hpp"

namespace {

using namespace support;
using eh::Alibi, eh::chain, eh::Mask, eh::PlainScore, eh::ScoreBias, eh::ScorePosition, eh::Softcap;
using eh::DropoutSeed;

struct Shape {
  Index B, H, G, Q, K, D, V;
};

template <class T>
struct Call {
  explicit Call(const Shape& shape, eh::Dropout dropped = eh::Dropout())
      : size(shape),
        q(random_tensor<T>(1, size.B, size.H, size.Q, size.D)),
        k(random_tensor<T>(2, size.B, size.G, size.K, size.D)),
        v(random_tensor<T>(3, size.B, size.G, size.K, size.V)),
        grad_output(random_tensor<T>(4, size.B, size.H, size.Q, size.V)),
        dropout(eh::DropoutMask<T>::of(dropped, DropoutSeed{77})) {}

  Shape size;
  Tensor<T, 4> q, k, v, grad_output;
  eh::DropoutMask<T> dropout;
  static constexpr T scale = T(0.75);

  template <class Score = PlainScore>
  [[nodiscard]] auto forward(const Mask& mask, const Score& score = {}) const {
    return eh::attention_reference<T>(q, k, v, mask, scale, score, dropout);
  }
  template <class Score = PlainScore>
  [[nodiscard]] auto backward(const Mask& mask, const Score& score = {}) const {
    return eh::attention_reference_backward<T>(grad_output, q, k, v, mask, scale, score, dropout);
  }
};

template <class T>
[[nodiscard]] testing::AssertionResult same(const eh::AttentionReferenceGradients<T>& a,
                                            const eh::AttentionReferenceGradients<T>& b) {
  if (auto q = same_bits(a.queries, b.queries); !q) return q << " of queries";
  if (auto k = same_bits(a.keys, b.keys); !k) return k << " of keys";
  if (auto v = same_bits(a.values, b.values); !v) return v << " of values";
  return same_bits(a.scores, b.scores) << " of scores";
}

// ---- Central differences -----------------------------------------------------------------------

constexpr double kStep = 0x1p-17;

// Every element of x, a part of the call or of its score function, against
//   (L(x + h) - L(x - h)) / 2h,   L = sum dO O,
// the sum taken over O+ - O-, so that rows which x does not reach take no part in rounding either.
// With |V|, |dO| <= 1 and F <= f, for each of the n rows:
//   - Truncation is h^2 / 6 |L'''|. Let a products' slope be at most `speed`, and t the slope of
//     the scores, |t| <= 3/2 speed, |t'| <= 3/2 speed^2, |t''| <= 4 speed^3 in the functions of
//     these tests. L''' is V f times the weighted, centred
//       (E[t^3 v] - 3 E[t^2] E[t v]) + 3 E[t t' v] + E[t'' v]
//     and so at most (7 (3/2)^3 + 6 (3/2)^2 + 4) speed^3 <= 42 speed^3.
//   - Rounding is that of two outputs, by textbook.hpp u (8 (1 + A) + 2 sqrt K) each, over 2 h. A
//     is the size of a score: scale D, and 6 for what the functions of these tests add.
void expect_central_differences(const Call<double>& call, const Mask& mask, Tensor<double, 4>& x,
                                const Tensor<double, 4>& gradient, double speed, const char* name,
                                const auto& forward) {
  const auto& [B, H, G, Q, K, D, V] = call.size;
  ASSERT_EQ(TensorView(x).dimensions(), TensorView(gradient).dimensions()) << name;
  const auto rows = static_cast<double>(B * H * Q);
  const double f = call.dropout.scale, u = Limits<double>::epsilon() / 2;
  const double truncation = 42 * speed * speed * speed * kStep * kStep / 6;
  const double rounding =
      u / kStep *
      (8 * (1 + call.scale * static_cast<double>(D) + 6) + 2 * std::sqrt(static_cast<double>(K)));
  const double bound = rows * static_cast<double>(V) * f * (truncation + rounding);
  ASSERT_LT(bound, 1e-6);  // gradients are some 1e-2 to 1
  for (Index i = 0; i < x.size(); ++i) {
    const double middle = x.data()[i];
    x.data()[i] = middle + kStep;
    const auto above = forward(mask).output;
    x.data()[i] = middle - kStep;
    const auto below = forward(mask).output;
    x.data()[i] = middle;
    double difference = 0;
    for (Index j = 0; j < above.size(); ++j)
      difference += call.grad_output.data()[j] * (above.data()[j] - below.data()[j]);
    ASSERT_NEAR(gradient.data()[i], difference / (2 * kStep), bound) << name << ", element " << i;
  }
}

// Queries, keys and values, and the scores by what is added to them last.
template <class Score>
void expect_gradients(Call<double> call, const Mask& mask, const Score& score) {
  const auto gradients = call.backward(mask, score);
  const auto forward = [&](const Mask& m) { return call.forward(m, score); };
  expect_central_differences(call, mask, call.q, gradients.queries, call.scale, "queries", forward);
  expect_central_differences(call, mask, call.k, gradients.keys, call.scale, "keys", forward);
  expect_central_differences(call, mask, call.v, gradients.values, 0, "values", forward);
  const auto& [B, H, G, Q, K, D, V] = call.size;
  auto added = constant_tensor<double>(0, B, H, Q, K);
  expect_central_differences(call, mask, added, gradients.scores, 1, "scores", [&](const Mask& m) {
    return call.forward(m, chain(score, ScoreBias<double>(added)));
  });
}

// A square call too, where windows need no causal mask; groups of 4 heads and of 1; one head for
// all; V below and above D.
const std::vector<Shape> kShapes = {
    {2, 2, 2, 3, 5, 4, 3}, {2, 8, 2, 2, 3, 2, 2}, {2, 4, 1, 5, 5, 3, 4}, {2, 3, 3, 4, 2, 1, 2}};

std::vector<PairMask> masks_of(const Shape& size) {
  const auto& [B, H, G, Q, K, D, V] = size;
  auto masks = example_masks(B, Q, K, 6);
  PairMask holes{.Q = Q, .K = K};
  holes.allowed = constant_tensor<bool>(true, B, H, Q, K);
  for (Index i = 0; i < holes.allowed.size(); ++i)
    holes.allowed.data()[i] = i % 3 != 1 && i / K % 4 != 2;
  masks.push_back(holes);
  masks.push_back({.Q = Q, .K = K, .causal = eh::Causal::bottom_right, .query_lens = {Q - 1, 1}});
  return masks;
}

TEST(AttentionReferenceBackward, IsTheCentralDifferenceUnderEveryMask) {
  for (const Shape& size : kShapes)
    for (const double p : {0.0, 0.3})
      for (const PairMask& pairs : masks_of(size)) {
        SCOPED_TRACE(pairs.text());
        expect_gradients(Call<double>(size, eh::Dropout(p)), pairs.mask(), PlainScore{});
        if (HasFatalFailure()) return;
      }
}

// A caller's own: s + s^2 / 16, times something of the place.
struct OwnScore {
  template <class T>
  static T rate(ScorePosition at) {
    return static_cast<T>((3 * at.q + at.k + at.h + at.b) % 5) / 4;
  }
  template <class T>
  T operator()(T score, ScorePosition at) const {
    return rate<T>(at) * (score + score * score / 16);
  }
  template <class T>
  T derivative(T score, ScorePosition at) const {
    return rate<T>(at) * (1 + score / 8);
  }
};

TEST(AttentionReferenceBackward, GoesThroughEveryScoreFunction) {
  for (const Shape& size : kShapes) {
    const auto& [B, H, G, Q, K, D, V] = size;
    const auto bias = random_tensor<double>(5, 1, H, Q, K);
    const auto slopes = random_tensor<double>(6, H);
    const ScoreBias<double> biased(bias);
    const Alibi alibi(slopes);
    const Softcap<double> softcap(1.25);
    for (const PairMask& pairs : {masks_of(size)[2], masks_of(size)[4]}) {
      SCOPED_TRACE(pairs.text());
      const Mask mask = pairs.mask();
      const Call<double> call(size, eh::Dropout(0.3));
      expect_gradients(call, mask, biased);
      expect_gradients(call, mask, alibi);
      expect_gradients(call, mask, softcap);
      expect_gradients(call, mask, chain(softcap, biased));
      expect_gradients(call, mask, chain(biased, softcap));
      expect_gradients(call, mask, chain(alibi, softcap, biased, softcap));
      expect_gradients(call, mask, chain());
      expect_gradients(call, mask, OwnScore{});
      if (HasFatalFailure()) return;
    }
  }
}

// A bias that counts for several pairs has the sum of their gradients.
TEST(AttentionReferenceBackward, ABroadcastBiasGathersItsScores) {
  const Shape size{2, 4, 2, 3, 5, 4, 3};
  const std::array<Index, 4> whole{size.B, size.H, size.Q, size.K};
  for (std::size_t axes = 0; axes < 16; ++axes)
    for (const PairMask& pairs : {masks_of(size)[0], masks_of(size)[2]}) {
      SCOPED_TRACE(axes);
      const Call<double> call(size, eh::Dropout(0.3));
      std::array<Index, 4> shape = whole;
      for (std::size_t axis = 0; axis < 4; ++axis)
        if ((axes >> axis & 1) != 0) shape[axis] = 1;
      auto bias = random_tensor<double>(5, shape[0], shape[1], shape[2], shape[3]);
      const auto forward = [&](const Mask& mask) {
        return call.forward(mask, ScoreBias<double>(bias));
      };
      const Mask mask = pairs.mask();
      const auto scores = call.backward(mask, ScoreBias<double>(bias)).scores;
      auto gradient = constant_tensor<double>(0, shape[0], shape[1], shape[2], shape[3]);
      for (Index b = 0; b < size.B; ++b)
        for (Index h = 0; h < size.H; ++h)
          for (Index q = 0; q < size.Q; ++q)
            for (Index k = 0; k < size.K; ++k)
              gradient(b % shape[0], h % shape[1], q % shape[2], k % shape[3]) +=
                  scores(b, h, q, k);
      expect_central_differences(call, mask, bias, gradient, 1, "bias", forward);
    }
}

// ---- PyTorch's ---------------------------------------------------------------------------------

// Case additive_bias of golden_test.cpp, whose layer stands around the attention here by hand. As
// there, 1e-11 is what float64 leaves of either computation.
TEST(AttentionReferenceBackward, IsPyTorchsOfABiasedLayer) {
  const auto folder =
      std::filesystem::path(EIGENHEADS_SOURCE_DIR) / "tests/golden/cases/additive_bias";
  const auto load_3 = [&](const char* name) { return eh::load_npy<double, 3>(folder / name); };
  const auto load_2 = [&](const char* name) { return eh::load_npy<double, 2>(folder / name); };
  const auto bias = eh::load_npy<double, 4>(folder / "bias.npy");
  const Index H = bias.dimension(1);

  // x W^T of every head: [B, N, E], [E, E] -> [B, H, N, E / H]
  const auto heads_of = [H](const Tensor<double, 3>& x, const Tensor<double, 2>& W) {
    const Index E = W.dimension(0), D = E / H;
    auto heads = constant_tensor<double>(0, x.dimension(0), H, x.dimension(1), D);
    for (Index b = 0; b < x.dimension(0); ++b)
      for (Index n = 0; n < x.dimension(1); ++n)
        for (Index e = 0; e < E; ++e)
          for (Index i = 0; i < W.dimension(1); ++i)
            heads(b, e / D, n, e % D) += x(b, n, i) * W(e, i);
    return heads;
  };
  const auto transposed = [](const Tensor<double, 2>& W) {
    Tensor<double, 2> turned(W.dimension(1), W.dimension(0));
    for (Index i = 0; i < W.dimension(0); ++i)
      for (Index j = 0; j < W.dimension(1); ++j) turned(j, i) = W(i, j);
    return turned;
  };
  // What flows back from heads through W to x, against its gradient.
  const auto expect_gradient = [&](const char* name, const Tensor<double, 4>& heads,
                                   const Tensor<double, 2>& W) {
    const auto expected = load_3(name);
    const Index D = heads.dimension(3);
    for (Index b = 0; b < expected.dimension(0); ++b)
      for (Index n = 0; n < expected.dimension(1); ++n)
        for (Index i = 0; i < expected.dimension(2); ++i) {
          double sum = 0;
          for (Index e = 0; e < W.dimension(0); ++e) sum += heads(b, e / D, n, e % D) * W(e, i);
          EXPECT_NEAR(sum, expected(b, n, i), 1e-11) << name;
        }
  };

  const auto W_q = load_2("W_q.npy"), W_k = load_2("W_k.npy"), W_v = load_2("W_v.npy");
  const auto q = heads_of(load_3("queries.npy"), W_q), k = heads_of(load_3("keys.npy"), W_k),
             v = heads_of(load_3("values.npy"), W_v);
  const auto grad_output = heads_of(load_3("grad_output.npy"), transposed(load_2("W_o.npy")));
  const Mask mask{.valid_lens = {5, 3}};
  const double scale = 1 / std::sqrt(static_cast<double>(q.dimension(3)));
  const auto got = eh::attention_reference_backward<double>(grad_output, q, k, v, mask, scale,
                                                            ScoreBias<double>(bias));
  const auto grad_bias = eh::load_npy<double, 4>(folder / "grad_bias.npy");
  EXPECT_TRUE(within(
      got.scores, grad_bias,
      constant_tensor<double>(1e-11, bias.dimension(0), H, bias.dimension(2), bias.dimension(3))));
  expect_gradient("grad_queries.npy", got.queries, W_q);
  expect_gradient("grad_keys.npy", got.keys, W_k);
  expect_gradient("grad_values.npy", got.values, W_v);
}

// ---- By hand, to the bit, and to the edge ------------------------------------------------------

template <class T>
class AttentionReferenceBackwardTest : public testing::Test {};
TYPED_TEST_SUITE(AttentionReferenceBackwardTest, Scalars, ScalarNames);

// Scores 0 and ln 3 weigh 1/4 and 3/4; values 4 and 8 give 7, from which they are 3 and 1 away.
TYPED_TEST(AttentionReferenceBackwardTest, TwoKeys) {
  using T = TypeParam;
  const auto one = constant_tensor<T>(1, 1, 1, 1, 1);
  const T ln3 = T(1.0986122886681098);
  Tensor<T, 4> k(1, 1, 2, 1), v(1, 1, 2, 1);
  k.setValues({{{{0}, {ln3}}}});
  v.setValues({{{{4}, {8}}}});
  const auto got = eh::attention_reference_backward<T>(one, one, k, v, {}, 1);
  const double eps = 16 * static_cast<double>(Limits<T>::epsilon());
  EXPECT_NEAR(got.values(0, 0, 0, 0), 0.25, eps);
  EXPECT_NEAR(got.values(0, 0, 1, 0), 0.75, eps);
  EXPECT_NEAR(got.scores(0, 0, 0, 0), -0.75, eps);
  EXPECT_NEAR(got.scores(0, 0, 0, 1), 0.75, eps);
  EXPECT_NEAR(got.keys(0, 0, 0, 0), -0.75, eps);
  EXPECT_NEAR(got.keys(0, 0, 1, 0), 0.75, eps);
  EXPECT_NEAR(got.queries(0, 0, 0, 0), 0.75 * ln3, eps);
}

// NaN in all that is hidden from every query, and in queries without keys and their gradient.
TYPED_TEST(AttentionReferenceBackwardTest, WhatIsHiddenHasNoGradientAndGivesNone) {
  using T = TypeParam;
  for (const Shape& size : kShapes)
    for (const PairMask& pairs : masks_of(size)) {
      SCOPED_TRACE(pairs.text());
      const auto& [B, H, G, Q, K, D, V] = size;
      const Mask mask = pairs.mask();
      const Softcap<T> score(2);
      Call<T> call(size, eh::Dropout(0.3));
      const auto clean = call.backward(mask, score);
      const auto visible = [&, heads = H / G](Index b, Index g, Index h, Index q, Index k) {
        return h / heads == g && pairs.visible(b, h, q, k);
      };
      for (Index b = 0; b < B; ++b)
        for (Index h = 0; h < H; ++h)
          for (Index q = 0; q < Q; ++q) {
            bool sees_any = false;
            for (Index k = 0; k < K; ++k) {
              sees_any = sees_any || pairs.visible(b, h, q, k);
              if (!pairs.visible(b, h, q, k)) {
                EXPECT_EQ(clean.scores(b, h, q, k), 0);
              }
            }
            if (sees_any) continue;
            EXPECT_TRUE(all_are(row(clean.queries, b, h, q), 0));
            for (Index d = 0; d < D; ++d) call.q(b, h, q, d) = kNan<T>;
            for (Index v = 0; v < V; ++v) call.grad_output(b, h, q, v) = kNan<T>;
          }
      for (Index b = 0; b < B; ++b)
        for (Index g = 0; g < G; ++g)
          for (Index k = 0; k < K; ++k) {
            bool seen = false;
            for (Index h = 0; h < H; ++h)
              for (Index q = 0; q < Q; ++q) seen = seen || visible(b, g, h, q, k);
            if (seen) continue;
            EXPECT_TRUE(all_are(row(clean.keys, b, g, k), 0));
            EXPECT_TRUE(all_are(row(clean.values, b, g, k), 0));
            for (Index d = 0; d < D; ++d) call.k(b, g, k, d) = kNan<T>;
            for (Index v = 0; v < V; ++v) call.v(b, g, k, v) = kNan<T>;
          }
      ASSERT_TRUE(same(call.backward(mask, score), clean));
    }
}

// C8: it reaches the queries that see it, and no other.
TYPED_TEST(AttentionReferenceBackwardTest, NanReachesTheQueriesThatSeeIt) {
  using T = TypeParam;
  for (const Shape& size : kShapes)
    for (const PairMask& pairs : masks_of(size)) {
      SCOPED_TRACE(pairs.text());
      const auto& [B, H, G, Q, K, D, V] = size;
      const Mask mask = pairs.mask();
      const Call<T> call(size);
      const auto clean = call.backward(mask);
      auto bad = call;
      bad.k(1, 0, K - 1, 0) = kNan<T>;
      auto bad_value = call;
      bad_value.v(1, 0, K - 1, 0) = kNan<T>;
      for (const auto& got : {bad.backward(mask), bad_value.backward(mask)})
        for (Index b = 0; b < B; ++b)
          for (Index h = 0; h < H; ++h)
            for (Index q = 0; q < Q; ++q)
              if (b == 1 && h < H / G && pairs.visible(b, h, q, K - 1)) {
                EXPECT_TRUE(all_are(row(got.queries, b, h, q), kNan<T>));
              } else {
                EXPECT_TRUE(same_bits(row(got.queries, b, h, q), row(clean.queries, b, h, q)));
                EXPECT_TRUE(same_bits(row(got.scores, b, h, q), row(clean.scores, b, h, q)));
              }
    }
}

// A bias of -inf hides a key as the mask does, a whole row of keys too; and its value, where all
// queries have it.
TYPED_TEST(AttentionReferenceBackwardTest, MinusInfinityHidesAKey) {
  using T = TypeParam;
  for (const Shape& size : kShapes) {
    const auto& [B, H, G, Q, K, D, V] = size;
    auto allowed = constant_tensor<bool>(true, B, H, Q, K);
    auto bias = constant_tensor<T>(0, B, H, Q, K);
    for (Index i = 0; i < bias.size(); ++i)
      if (i % K == K / 2 || i / K % 4 == 2) {
        allowed.data()[i] = false;
        bias.data()[i] = -kInf<T>;
      }
    Call<T> call(size, eh::Dropout(0.3));
    const auto masked = call.backward({.allowed = allowed});
    ASSERT_TRUE(same(call.backward({}, ScoreBias<T>(bias)), masked));
    for (Index i = 0; i < call.v.size(); ++i)
      if (i / V % K == K / 2) call.v.data()[i] = kNan<T>;
    ASSERT_TRUE(same(call.backward({}, ScoreBias<T>(bias)), masked));
  }
}

// Keys that are shared have the sum of the gradients that their copies would have.
TYPED_TEST(AttentionReferenceBackwardTest, SharedKeyHeadsGatherThoseOfTheirQueryHeads) {
  using T = TypeParam;
  const Shape size{2, 8, 2, 3, 5, 4, 3}, alone{2, 8, 8, 3, 5, 4, 3};
  const Call<T> shared(size, eh::Dropout(0.3));
  Call<T> many(alone, eh::Dropout(0.3));
  for (Index b = 0; b < 2; ++b)
    for (Index h = 0; h < 8; ++h)
      for (Index k = 0; k < 5; ++k) {
        for (Index d = 0; d < 4; ++d) many.k(b, h, k, d) = shared.k(b, h / 4, k, d);
        for (Index v = 0; v < 3; ++v) many.v(b, h, k, v) = shared.v(b, h / 4, k, v);
      }
  const Mask mask{.valid_lens = {5, 2}};
  const auto got = shared.backward(mask), copies = many.backward(mask);
  EXPECT_TRUE(same_bits(got.queries, copies.queries));
  EXPECT_TRUE(same_bits(got.scores, copies.scores));
  const auto expect_gathered = [](const Tensor<T, 4>& sums, const Tensor<T, 4>& parts) {
    for (Index b = 0; b < 2; ++b)
      for (Index g = 0; g < 2; ++g)
        for (Index k = 0; k < 5; ++k)
          for (Index i = 0; i < sums.dimension(3); ++i) {
            double sum = 0;
            for (Index h = 4 * g; h < 4 * g + 4; ++h) sum += static_cast<double>(parts(b, h, k, i));
            // |P|, |dS| <= 4 a pair, 12 pairs, each rounded when it is added.
            EXPECT_NEAR(sums(b, g, k, i), sum, 12 * 4 * 12 * Limits<T>::epsilon());
          }
  };
  expect_gathered(got.keys, copies.keys);
  expect_gathered(got.values, copies.values);
}

// ---- Dropout -----------------------------------------------------------------------------------

// The weights are those before it; the output is theirs times the factors that dropout_mask gives.
TYPED_TEST(AttentionReferenceBackwardTest, DropoutIsWhatItsMaskSays) {
  using T = TypeParam;
  using W = Wide<T>;
  for (const Shape& size : kShapes) {
    const auto& [B, H, G, Q, K, D, V] = size;
    const Mask mask{.causal = eh::Causal::bottom_right};
    const Call<T> call(size);
    const auto kept = call.forward(mask);
    const auto dropped = Call<T>(size, eh::Dropout(0.3)).forward(mask);
    const auto factors = eh::dropout_mask<T>(0.3, DropoutSeed{77}, B, H, Q, K);
    EXPECT_TRUE(same_bits(dropped.weights, kept.weights));
    EXPECT_TRUE(same_bits(dropped.lse, kept.lse));
    Tensor<W, 4> exact(B, H, Q, V), bound(B, H, Q, V);
    for (Index b = 0; b < B; ++b)
      for (Index h = 0; h < H; ++h)
        for (Index q = 0; q < Q; ++q)
          for (Index v = 0; v < V; ++v) {
            W sum = 0, magnitude = 0;
            for (Index k = 0; k < K; ++k) {
              const W term = W(kept.weights(b, h, q, k)) * W(factors(b, h, q, k)) *
                             W(call.v(b, h / (H / G), k, v));
              sum += term;
              magnitude += std::abs(term);
            }
            exact(b, h, q, v) = sum;
            bound(b, h, q, v) = W(K + 2) * W(Limits<T>::epsilon()) * magnitude;
          }
    EXPECT_TRUE(within(dropped.output, exact, bound));
  }
}

TYPED_TEST(AttentionReferenceBackwardTest, DropoutOfNothingChangesNoBit) {
  using T = TypeParam;
  for (const Shape& size : kShapes)
    for (const PairMask& pairs : masks_of(size)) {
      const Call<T> call(size, eh::Dropout(0));
      const Mask mask = pairs.mask();
      const auto forward = eh::attention_reference<T>(call.q, call.k, call.v, mask, call.scale);
      EXPECT_TRUE(same_bits(call.forward(mask).output, forward.output));
      EXPECT_TRUE(same(call.backward(mask),
                       eh::attention_reference_backward<T>(call.grad_output, call.q, call.k, call.v,
                                                           mask, call.scale)));
    }
}

TYPED_TEST(AttentionReferenceBackwardTest, EmptyAxes) {
  using T = TypeParam;
  for (const Shape& size : std::vector<Shape>{{0, 2, 1, 3, 4, 2, 2},
                                              {2, 2, 1, 0, 4, 2, 2},
                                              {2, 2, 1, 3, 0, 2, 2},
                                              {2, 2, 1, 3, 4, 0, 2},
                                              {2, 2, 1, 3, 4, 2, 0}}) {
    const Call<T> call(size, eh::Dropout(0.3));
    const auto got = call.backward({});
    EXPECT_EQ(TensorView(got.queries).dimensions(), TensorView(call.q).dimensions());
    EXPECT_EQ(TensorView(got.keys).dimensions(), TensorView(call.k).dimensions());
    EXPECT_EQ(TensorView(got.values).dimensions(), TensorView(call.v).dimensions());
    EXPECT_TRUE(all_are(got.queries, 0));
    EXPECT_TRUE(all_are(got.keys, 0));
    if (size.D > 0) {
      EXPECT_TRUE(all_are(got.values, 0));
    }
  }
}

}  // namespace
