// SPDX-License-Identifier: MIT
// Score functions: those that ship and a caller's own, in attention and in the layer, against a
// textbook; what they may not change; scores at the ends of what numbers can say; and derivatives.
#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <type_traits>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_reference.hpp>

#include "contract.hpp"
#include "support.hpp"
#include "textbook.hpp"

namespace {

using namespace support;
using eh::Alibi, eh::chain, eh::Context, eh::Mask, eh::PlainScore, eh::ScoreBias;
using eh::scaled_dot_product_attention, eh::ScorePosition, eh::Softcap;

constexpr Index B = 2, H = 4, G = 2, D = 6, V = 5;

template <class T>
struct Inputs {
  Inputs(Index queries, Index keys)
      : Q(queries),
        K(keys),
        q(random_tensor<T>(1, B, H, Q, D)),
        k(random_tensor<T>(2, B, G, K, D)),
        v(random_tensor<T>(3, B, G, K, V)),
        bias(random_tensor<T>(4, B, H, Q, K)),
        slopes(random_tensor<T>(5, H)) {}

  Index Q, K;
  Tensor<T, 4> q, k, v, bias;
  Tensor<T, 1> slopes;

  // Scores up to 12, so that a cap of 3 is felt.
  template <class Score>
  [[nodiscard]] eh::AttentionResult<T> attend(const Mask& mask, const Score& score) const {
    return scaled_dot_product_attention(q, k, v, mask, {.scale = 2, .score = score});
  }
  [[nodiscard]] eh::AttentionResult<T> attend(const Mask& mask = {}) const {
    return scaled_dot_product_attention(q, k, v, mask, {.scale = 2});
  }
};

// Few rows, one task and several; one block of keys and several.
template <class T>
std::vector<Inputs<T>> calls() {
  return {{3, 5}, {1, 300}, {2, 129}, {13, 65}, {20, 270}};
}

template <class T>
class Scores : public testing::Test {};
TYPED_TEST_SUITE(Scores, Scalars, ScalarNames);

// The same function in twice the precision stands beside each.
template <class T, class Visit>
void for_each_score(const Inputs<T>& call, const Visit& visit) {
  using W = Wide<T>;
  const T cap = 3;
  const auto softcap = [cap](W s) { return W(cap) * std::tanh(s / W(cap)); };
  const auto alibi = [&](W s, ScorePosition at) {
    return s - W(call.slopes(at.h)) * std::abs(W(at.aligned - at.k));
  };
  const auto bias = [&](W s, ScorePosition at) { return s + W(call.bias(at.b, at.h, at.q, at.k)); };
  const Alibi<T> our_alibi(call.slopes);
  visit("softcap", Softcap<T>(cap), [&](W s, ScorePosition) { return softcap(s); });
  visit("alibi", our_alibi, alibi);
  visit("bias", ScoreBias<T>(call.bias), bias);
  visit("softcap, then bias", chain(Softcap<T>(cap), ScoreBias<T>(call.bias)),
        [&](W s, ScorePosition at) { return bias(softcap(s), at); });
  visit("bias, then softcap", chain(ScoreBias<T>(call.bias), Softcap<T>(cap)),
        [&](W s, ScorePosition at) { return softcap(bias(s, at)); });
  visit("three", chain(our_alibi, Softcap<T>(cap), our_alibi),
        [&](W s, ScorePosition at) { return alibi(softcap(alibi(s, at)), at); });
  // Each coordinate of the position counts.
  const auto own = [](auto s, ScorePosition at) {
    using S = decltype(s);
    return s + S(at.b + 2 * at.h) / 4 - S((3 * at.q + at.k) % 7) / 8 + S(at.aligned % 5) / 16;
  };
  visit("a caller's own", own, own);
}

TYPED_TEST(Scores, AreWhatTheTextbookSays) {
  using T = TypeParam;
  for (const auto& call : calls<T>())
    for_each_score(call, [&](const char* name, const auto& score, const auto& exact_score) {
      for (PairMask& pairs : example_masks(B, call.Q, call.K, 6)) {
        SCOPED_TRACE(name + (": " + pairs.text()));
        const auto got = call.attend(pairs.mask(), score);
        const auto exact = textbook<T>(call.q, call.k, call.v, pairs, 2, exact_score);
        ASSERT_TRUE(within(got.output, exact.output, exact.output_bound));
        ASSERT_TRUE(within(got.lse, exact.lse, exact.lse_bound));
        const auto reference =
            eh::attention_reference<T>(call.q, call.k, call.v, pairs.mask(), T(2), score);
        ASSERT_TRUE(within(reference.output, exact.output, exact.output_bound));
        ASSERT_TRUE(within(reference.weights, exact.weights, exact.weights_bound));
      }
    });
}

TYPED_TEST(Scores, OfNoEffectChangeNoBit) {
  using T = TypeParam;
  for (const auto& call : calls<T>())
    for (const PairMask& pairs : example_masks(B, call.Q, call.K, 6)) {
      SCOPED_TRACE(pairs.text());
      const Mask mask = pairs.mask();
      const auto plain = call.attend(mask);
      const auto zeros = constant_tensor<T>(0, B, H, call.Q, call.K);
      const auto zero = constant_tensor<T>(0, 1, 1, 1, 1);
      const auto no_slopes = constant_tensor<T>(0, H);
      ASSERT_TRUE(same_bits(call.attend(mask, PlainScore{}), plain));
      ASSERT_TRUE(same_bits(call.attend(mask, ScoreBias<T>(zeros)), plain));
      ASSERT_TRUE(same_bits(call.attend(mask, ScoreBias<T>(zero)), plain));
      ASSERT_TRUE(same_bits(call.attend(mask, Alibi<T>(no_slopes)), plain));
      ASSERT_TRUE(same_bits(call.attend(mask, chain(PlainScore{}, ScoreBias<T>(zeros))), plain));
      ASSERT_TRUE(same_bits(call.attend(mask, [](T s, ScorePosition) { return s; }), plain));
    }
}

TYPED_TEST(Scores, ABiasOfEveryBroadcastShapeIsTheWholeBias) {
  using T = TypeParam;
  for (const auto& call : calls<T>())
    for (int axes = 0; axes < 16; ++axes) {
      const auto one_or = [axes](int axis, Index n) { return (axes >> axis & 1) != 0 ? 1 : n; };
      const auto bias =
          random_tensor<T>(7, one_or(0, B), one_or(1, H), one_or(2, call.Q), one_or(3, call.K));
      SCOPED_TRACE(testing::PrintToString(bias.dimensions()));
      Tensor<T, 4> whole(B, H, call.Q, call.K);
      const auto at = [&](std::size_t axis, Index i) { return bias.dimension(axis) == 1 ? 0 : i; };
      for (Index b = 0; b < B; ++b)
        for (Index h = 0; h < H; ++h)
          for (Index q = 0; q < call.Q; ++q)
            for (Index k = 0; k < call.K; ++k)
              whole(b, h, q, k) = bias(at(0, b), at(1, h), at(2, q), at(3, k));
      for (const PairMask& pairs : example_masks(B, call.Q, call.K, 6))
        ASSERT_TRUE(same_bits(call.attend(pairs.mask(), ScoreBias<T>(bias)),
                              call.attend(pairs.mask(), ScoreBias<T>(whole))));
    }
}

// -inf hides a key, as `allowed` does, a whole row of keys too.
TYPED_TEST(Scores, MinusInfinityHidesAKey) {
  using T = TypeParam;
  for (const auto& call : calls<T>()) {
    auto allowed = constant_tensor<bool>(true, B, H, call.Q, call.K);
    auto bias = constant_tensor<T>(0, B, H, call.Q, call.K);
    for (Index i = 0; i < bias.size(); ++i)
      if (i % 7 % 2 == 0 || i / call.K % 5 == 3) {
        allowed.data()[i] = false;
        bias.data()[i] = -kInf<T>;
      }
    for (const PairMask& pairs : example_masks(B, call.Q, call.K, 6)) {
      SCOPED_TRACE(pairs.text());
      Mask mask = pairs.mask();
      const auto by_bias = call.attend(mask, ScoreBias<T>(bias));
      mask.allowed = allowed;
      ASSERT_TRUE(same_bits(by_bias, call.attend(mask)));
    }
  }
}

// What hides a key hides its value too: half of the keys are hidden from all.
TYPED_TEST(Scores, WhatLiesBehindMinusInfinityIsNotObservable) {
  using T = TypeParam;
  for (auto& call : calls<T>()) {
    auto bias = call.bias;
    for (Index i = 0; i < bias.size(); ++i)
      if (i % call.K % 2 == 0) bias.data()[i] = -kInf<T>;
    const auto clean = call.attend({}, ScoreBias<T>(bias));
    for (Index i = 0; i < call.v.size(); ++i)
      if (i / V % call.K % 2 == 0) call.v.data()[i] = i % 3 == 0 ? kNan<T> : kInf<T>;
    ASSERT_TRUE(same_bits(call.attend({}, ScoreBias<T>(bias)), clean)) << "K " << call.K;
  }
}

TYPED_TEST(Scores, InfinityAndNanReachTheirQueryAlone) {
  using T = TypeParam;
  for (const auto& call : calls<T>()) {
    const auto clean = call.attend({}, ScoreBias<T>(call.bias));
    for (const T bad : {kInf<T>, kNan<T>})
      for (const Index key : {Index{0}, call.K / 2, call.K - 1}) {
        auto bias = call.bias;
        bias(1, 2, call.Q / 2, key) = bad;
        const auto got = call.attend({}, ScoreBias<T>(bias));
        for (Index b = 0; b < B; ++b)
          for (Index h = 0; h < H; ++h)
            for (Index q = 0; q < call.Q; ++q)
              if (b == 1 && h == 2 && q == call.Q / 2)
                ASSERT_TRUE(all_are(row(got.output, b, h, q), kNan<T>)) << bad << ' ' << key;
              else
                ASSERT_TRUE(same_bits(row(got.output, b, h, q), row(clean.output, b, h, q)));
      }
  }
}

// Biases that leave nothing of the scores, or of the other keys.
TYPED_TEST(Scores, HugeBiases) {
  using T = TypeParam;
  for (const auto& call : calls<T>())
    for (const PairMask& pairs : example_masks(B, call.Q, call.K, 6)) {
      SCOPED_TRACE(pairs.text());
      const auto lowest = constant_tensor<T>(Limits<T>::lowest(), 1, 1, 1, 1);
      auto no_scores = call;
      std::fill_n(no_scores.q.data(), no_scores.q.size(), T(0));
      const auto mean = no_scores.attend(pairs.mask());
      const auto got = call.attend(pairs.mask(), ScoreBias<T>(lowest));
      ASSERT_TRUE(same_bits(got.output, mean.output));
      auto bias = constant_tensor<T>(-Limits<T>::max() * T(0.9), 1, 1, 1, call.K);
      const Index key = call.K * 2 / 3;
      bias(0, 0, 0, key) = Limits<T>::max() * T(0.9);
      const auto one = call.attend(pairs.mask(), ScoreBias<T>(bias));
      for (Index b = 0; b < B; ++b)
        for (Index q = 0; q < call.Q; ++q)
          if (pairs.visible(b, q, key)) {
            ASSERT_TRUE(same_bits(row(one.output, b, 3, q), row(call.v, b, 1, key)));
          } else {
            ASSERT_TRUE(same_bits(row(one.output, b, 3, q), row(mean.output, b, 3, q)));
          }
    }
}

// 1 / cap may overflow, or lose bits.
TYPED_TEST(Scores, ACapOfAnySizeGivesNumbers) {
  using T = TypeParam;
  for (const T cap : {Limits<T>::denorm_min(), Limits<T>::min(), T(1), Limits<T>::max()})
    for (const T score : {T(0), Limits<T>::min(), T(1), T(-1e30)}) {
      const T got = Softcap<T>(cap)(score, ScorePosition{});
      EXPECT_LE(std::abs(got), std::min(cap, std::abs(score) * (1 + 4 * Limits<T>::epsilon())))
          << cap << ' ' << score;
      EXPECT_TRUE(score == 0 || got == 0 || (got < 0) == (score < 0));
    }
}

// ---- Positions ---------------------------------------------------------------------------------

// The distance is counted from the key that the mask puts beside the query.
TYPED_TEST(Scores, AlibiCountsFromTheKeyBesideTheQuery) {
  using T = TypeParam;
  const Inputs<T> call(3, 5);
  const Alibi alibi(call.slopes);
  static_assert(std::is_same_v<decltype(alibi), const Alibi<T>>);
  EXPECT_EQ(alibi(T(0), {.h = 1, .q = 2, .k = 7, .aligned = 4}), -3 * call.slopes(1));
  const auto by_hand = [&](std::array<Index, 2> first) {
    auto bias = constant_tensor<T>(0, B, H, call.Q, call.K);
    for (Index b = 0; b < B; ++b)
      for (Index h = 0; h < H; ++h)
        for (Index q = 0; q < call.Q; ++q)
          for (Index k = 0; k < call.K; ++k)
            bias(b, h, q, k) = -call.slopes(h) *
                               static_cast<T>(std::abs(first[static_cast<std::size_t>(b)] + q - k));
    return bias;
  };
  const auto expect = [&](const Mask& mask, std::array<Index, 2> first) {
    const auto bias = by_hand(first);
    const auto got = call.attend(mask, alibi), expected = call.attend(mask, ScoreBias(bias));
    for (Index i = 0; i < got.output.size(); ++i)
      ASSERT_NEAR(got.output.data()[i], expected.output.data()[i], 64 * Limits<T>::epsilon());
  };
  expect({}, {0, 0});
  expect({.causal = eh::Causal::bottom_right}, {2, 2});
  expect({.causal = eh::Causal::bottom_right, .key_lens = {5, 3}}, {2, 0});
  expect({.causal = eh::Causal::bottom_right, .query_lens = {3, 1}, .key_lens = {4, 3}}, {1, 2});
  expect({.first_positions = {7, 1}}, {7, 1});
  expect({.causal = eh::Causal::top_left, .first_positions = {1, 3}}, {1, 3});
}

// Views, maps and named tensors; what must not compile is in compile_fail/.
TYPED_TEST(Scores, DeduceTheirScalarFromTheirTensor) {
  using T = TypeParam;
  const auto slopes = random_tensor<T>(5, H);
  const auto bias = random_tensor<T>(4, 1, H, 1, 5);
  const Eigen::Map<const Eigen::VectorX<T>> map(slopes.data(), H);
  const ScorePosition at{0, 2, 0, 3, 1};
  const T expected = Alibi<T>(slopes)(T(1), at);
  const Alibi named(slopes), view{TensorView(slopes)}, of_map(map), of_view{TensorView(map)},
      temporary_map(Eigen::TensorMap<const Tensor<T, 1>>(slopes.data(), H));
  for (const Alibi<T>& alibi : {named, view, of_map, of_view, temporary_map})
    EXPECT_EQ(alibi(T(1), at), expected);
  const ScoreBias of_bias(bias), of_its_view{TensorView(bias)};
  for (const ScoreBias<T>& added : {of_bias, of_its_view})
    EXPECT_EQ(added(T(1), at), T(1) + bias(0, 2, 0, 3));
}

// ---- Derivatives -------------------------------------------------------------------------------

// tanh is within 2 ulp, eps at most, and moves with its rounded argument: twice over in 1 - tanh^2.
TYPED_TEST(Scores, ASoftcapsDerivativeIsExact) {
  using T = TypeParam;
  using W = Wide<T>;
  for (const T cap : {T(0.5), T(1), T(30)}) {
    const Softcap<T> softcap(cap);
    for (int i = -400; i <= 400; ++i) {
      const T score = T(i) / 32 * cap;
      const W tanh = std::tanh(W(score) / W(cap));
      EXPECT_NEAR(static_cast<double>(eh::score_derivative(softcap, score, ScorePosition{})),
                  static_cast<double>((1 - tanh) * (1 + tanh)),
                  4 * static_cast<double>(Limits<T>::epsilon()))
          << cap << ' ' << score;
    }
    EXPECT_EQ(softcap.derivative(T(0), {}), T(1));
    for (const T far : {T(1000), Limits<T>::max(), kInf<T>})
      for (const T score : {far, -far}) EXPECT_EQ(softcap.derivative(score, {}), T(0)) << score;
    EXPECT_EQ(bits(softcap.derivative(kNan<T>, {})), bits(kNan<T>));
  }
}

struct AddsItsQuery {
  static constexpr bool adds = true;
  template <class T>
  T operator()(T score, ScorePosition at) const {
    return score + T(at.q);
  }
};
struct SaysNothing {
  template <class T>
  T operator()(T score, ScorePosition) const {
    return score;
  }
};
struct TimesItsKey {
  template <class T>
  T operator()(T score, ScorePosition at) const {
    return score * T(at.k);
  }
  template <class T>
  T derivative(T, ScorePosition at) const {
    return T(at.k);
  }
};

TYPED_TEST(Scores, WhatOnlyAddsHasTheDerivativeOne) {
  using T = TypeParam;
  using eh::AddsToScore, eh::ScoreChain;
  static_assert(AddsToScore<PlainScore> && AddsToScore<Alibi<T>> && AddsToScore<ScoreBias<T>> &&
                AddsToScore<AddsItsQuery> && AddsToScore<ScoreChain<>> &&
                AddsToScore<ScoreChain<Alibi<T>, ScoreBias<T>>>);
  static_assert(!AddsToScore<Softcap<T>> && !AddsToScore<SaysNothing> &&
                !AddsToScore<TimesItsKey> && !AddsToScore<ScoreChain<Alibi<T>, Softcap<T>>>);
  const auto slopes = constant_tensor<T>(T(0.5), H);
  const auto bias = constant_tensor<T>(T(3), 1, 1, 1, 1);
  const Alibi<T> alibi(slopes);
  const ScoreBias<T> biased(bias);
  const ScorePosition at{1, 2, 3, 4, 5};
  for (const T score : {T(0), T(-7), T(1e30)}) {
    EXPECT_EQ(eh::score_derivative(PlainScore{}, score, at), T(1));
    EXPECT_EQ(eh::score_derivative(alibi, score, at), T(1));
    EXPECT_EQ(eh::score_derivative(biased, score, at), T(1));
    EXPECT_EQ(eh::score_derivative(AddsItsQuery{}, score, at), T(1));
    EXPECT_EQ(eh::score_derivative(chain(), score, at), T(1));
    EXPECT_EQ(eh::score_derivative(chain(alibi, biased, AddsItsQuery{}), score, at), T(1));
  }
}

// Each link at the score that reaches it, and at the place of the pair.
TYPED_TEST(Scores, AChainsDerivativeIsTheProduct) {
  using T = TypeParam;
  const Softcap<T> first(2), second(4);
  const auto bias = constant_tensor<T>(T(1.5), 1, 1, 1, 1);
  const ScoreBias<T> biased(bias);
  const ScorePosition at{0, 0, 0, 3, 0};
  for (const T score : {T(-5), T(-0.25), T(0), T(1), T(3)}) {
    const T added = biased(first(score, at), at);
    EXPECT_EQ(eh::score_derivative(chain(first, biased, TimesItsKey{}, second), score, at),
              first.derivative(score, at) * 3 * second.derivative(added * 3, at));
    EXPECT_EQ(eh::score_derivative(chain(chain(first, biased), second), score, at),
              first.derivative(score, at) * second.derivative(added, at));
  }
}

}  // namespace
