// SPDX-License-Identifier: MIT
// Score functions after the mask in every call of the layer; what they see and what they do not;
// and the ones that are refused.
#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <string>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_reference.hpp>
#include <eigenheads/multi_head_attention.hpp>
#include <eigenheads/transpose.hpp>

#include "contract.hpp"
#include "support.hpp"
#include "textbook.hpp"

namespace {

using namespace support;
using eh::Alibi, eh::chain, eh::Context, eh::Mask, eh::PlainScore, eh::ScoreBias;
using eh::scaled_dot_product_attention, eh::ScorePosition, eh::Softcap;

constexpr Index B = 2, Q = 7, K = 19, H = 4, E = kFeatures;

template <class T>
class LayerScores : public testing::Test {
 protected:
  const eh::MultiHeadAttention<T> layer = make_layer<T>();
  const Tensor<T, 3> q = random_tensor<T>(1, B, Q, E), k = random_tensor<T>(2, B, K, E),
                     v = random_tensor<T>(3, B, K, E);
  const Tensor<T, 4> bias = random_tensor<T>(4, B, H, Q, K);
  const Tensor<T, 1> slopes = random_tensor<T>(5, H);

  // visit(score function), each kind of them.
  template <class Visit>
  void for_each_score(const Visit& visit) const {
    visit(PlainScore{});
    visit(Softcap<T>(T(0.75)));
    visit(Alibi<T>(slopes));
    visit(ScoreBias<T>(bias));
    visit(chain(Softcap<T>(T(0.75)), Alibi<T>(slopes), ScoreBias<T>(bias)));
    visit([](T score, ScorePosition at) { return score - T(at.h) / 8; });
  }
};
TYPED_TEST_SUITE(LayerScores, Scalars, ScalarNames);

template <class T>
Tensor<T, 4> heads_of(const Tensor<T, 3>& x, Index heads) {
  const Tensor<T, 3> split = eh::transpose_qkv(x, heads);  // [B * heads, rows, D]
  Tensor<T, 4> apart(x.dimension(0), heads, x.dimension(1), split.dimension(2));
  std::copy_n(split.data(), split.size(), apart.data());
  return apart;
}

TYPED_TEST(LayerScores, EveryDoorTakesThemAndGivesTheSameBits) {
  using T = TypeParam;
  const auto& attention = this->layer;
  const auto &x = this->q, &y = this->k, &z = this->v;
  const auto heads_q = heads_of<T>(attention.W_q(x), H), heads_k = heads_of<T>(attention.W_k(y), 2),
             heads_v = heads_of<T>(attention.W_v(z), 2);
  this->for_each_score([&](const auto& score) {
    for (const PairMask& pairs : example_masks(B, Q, K, 3)) {
      SCOPED_TRACE(pairs.text());
      const Mask mask = pairs.mask();
      const auto attended =
          scaled_dot_product_attention(heads_q, heads_k, heads_v, mask, {.score = score});
      Tensor<T, 3> together(B * H, Q, attention.head_size());
      std::copy_n(attended.output.data(), together.size(), together.data());
      const Tensor<T, 3> expected = attention.W_o(eh::transpose_output(together, H));

      Context context(2, kAnyWork);
      ASSERT_TRUE(same_bits(attention(x, y, z, mask, {.score = score}), expected));
      ASSERT_TRUE(
          same_bits(attention(x, y, z, mask, {.score = score, .context = context}), expected));
      Tensor<T, 3> into(B, Q, attention.num_hiddens());
      attention.forward_into(into, x, y, z, mask, {.score = score});
      ASSERT_TRUE(same_bits(into, expected));
      const auto [output, weights] =
          attention.with_weights(x, y, z, mask, {.score = score, .context = context});
      ASSERT_TRUE(same_bits(output, expected));
      const auto exact = eh::attention_reference<T>(
          heads_q, heads_k, heads_v, mask, T(1 / std::sqrt(double(attention.head_size()))), score);
      for (Index i = 0; i < weights.size(); ++i)
        ASSERT_NEAR(weights.data()[i], exact.weights.data()[i], 16 * Limits<T>::epsilon()) << i;
    }
  });
}

// A lazy layer takes its sizes from a call with a score function too, and none if it is refused.
TYPED_TEST(LayerScores, ALazyLayerTakesThem) {
  using T = TypeParam;
  const eh::MultiHeadAttentionOptions options{.num_hiddens = 12, .num_heads = H};
  eh::MultiHeadAttention<T> lazy(options, 5), eager(options, 5);
  const auto wrong = random_tensor<T>(4, B, H, Q, K - 1);
  EXPECT_NE(
      refusal([&] { return lazy(this->q, this->k, this->v, {}, {.score = ScoreBias<T>(wrong)}); }),
      "not refused");
  EXPECT_TRUE(lazy.W_q.is_lazy() && lazy.W_k.is_lazy() && lazy.W_v.is_lazy());
  eager.initialize(E, E, E);
  const ScoreBias<T> score(this->bias);
  EXPECT_TRUE(same_bits(lazy(this->q, this->k, this->v, {}, {.score = score}),
                        eager(this->q, this->k, this->v, {}, {.score = score})));
}

// A caller's function sees each pair that the mask leaves once, and no other; where the pairs are
// named one by one it may be asked for one that `allowed` hides, but for none beyond the range.
TYPED_TEST(LayerScores, AFunctionSeesWhatTheMaskLeaves) {
  using T = TypeParam;
  for (const Index many : {Q, Index{60}})  // one task, and several
    for (PairMask& pairs : example_masks(B, many, K, 3))
      for (const bool has_pairs : {false, true}) {
        if (has_pairs) {
          pairs.allowed = constant_tensor<bool>(true, B, H, many, K);
          for (Index i = 0; i < pairs.allowed.size(); i += 3) pairs.allowed.data()[i] = false;
        }
        SCOPED_TRACE(pairs.text());
        std::vector<std::atomic<int>> asked(static_cast<std::size_t>(B * H * many * K));
        const auto at = [&](Index b, Index h, Index i, Index key) -> std::atomic<int>& {
          return asked[static_cast<std::size_t>(((b * H + h) * many + i) * K + key)];
        };
        const auto count = [&](T score, ScorePosition p) {
          const bool is_inside = p.b >= 0 && p.b < B && p.h >= 0 && p.h < H && p.q >= 0 &&
                                 p.q < many && p.k >= 0 && p.k < K;
          EXPECT_TRUE(is_inside) << p.b << ' ' << p.h << ' ' << p.q << ' ' << p.k;
          if (is_inside) ++at(p.b, p.h, p.q, p.k);
          return score;
        };
        const auto x = random_tensor<T>(1, B, many, E);
        Context context(2, kAnyWork);
        (void)this->layer(x, this->k, this->v, pairs.mask(), {.score = count, .context = context});
        for (Index b = 0; b < B; ++b)
          for (Index h = 0; h < H; ++h)
            for (Index i = 0; i < many; ++i)
              for (Index key = 0; key < K; ++key) {
                const int times = at(b, h, i, key);
                ASSERT_LE(times, pairs.visible(b, i, key)) << b << h << ' ' << i << ' ' << key;
                ASSERT_GE(times, pairs.visible(b, h, i, key)) << b << h << ' ' << i << ' ' << key;
              }
      }
}

// C1: a bias, a position or a value that the mask hides changes no bit.
TYPED_TEST(LayerScores, WhatTheMaskHidesStaysHidden) {
  using T = TypeParam;
  for (PairMask& pairs : example_masks(B, Q, K, 3)) {
    pairs.allowed = constant_tensor<bool>(true, B, 1, Q, K);
    for (Index i = 0; i < pairs.allowed.size(); i += 3) pairs.allowed.data()[i] = false;
    SCOPED_TRACE(pairs.text());
    auto dirty_bias = this->bias;
    auto dirty_v = this->v;
    for (Index b = 0; b < B; ++b)
      for (Index key = 0; key < K; ++key) {
        bool is_seen = false;
        for (Index i = 0; i < Q; ++i) {
          is_seen = is_seen || pairs.visible(b, 0, i, key);
          for (Index h = 0; h < H && !pairs.visible(b, 0, i, key); ++h)
            dirty_bias(b, h, i, key) = key % 2 == 0 ? kNan<T> : kInf<T>;
        }
        if (!is_seen) std::fill_n(&dirty_v(b, key, 0), E, T(1e30));
      }
    const Mask mask = pairs.mask();
    const auto expect_same = [&](const auto& clean, const auto& dirty) {
      EXPECT_TRUE(same_bits(this->layer(this->q, this->k, this->v, mask, {.score = clean}),
                            this->layer(this->q, this->k, dirty_v, mask, {.score = dirty})));
    };
    const Softcap<T> cap(T(5));
    expect_same(cap, cap);
    expect_same(ScoreBias<T>(this->bias), ScoreBias<T>(dirty_bias));
    expect_same(chain(cap, ScoreBias<T>(this->bias)), chain(cap, ScoreBias<T>(dirty_bias)));
  }
}

// ---- Refusals ----------------------------------------------------------------------------------

TYPED_TEST(LayerScores, ABiasOfAnotherShapeIsRefusedByEveryDoor) {
  using T = TypeParam;
  const auto expected = [](const std::string& shape) {
    return "eigenheads: score bias has shape " + shape +
           "; expected [B, H, Q, K] = [2, 4, 7, 19], or 1 for any of them";
  };
  const auto expect_refused = [&](const std::array<Index, 4>& shape, const std::string& message) {
    const auto wrong = random_tensor<T>(1, shape[0], shape[1], shape[2], shape[3]);
    const ScoreBias<T> score(wrong);
    const auto refused = [&](const auto& call) { EXPECT_EQ(refusal(call), message); };
    refused([&] { return this->layer(this->q, this->k, this->v, {}, {.score = score}); });
    refused([&] {
      return this->layer(this->q, this->k, this->v, {}, {.score = chain(PlainScore{}, score)});
    });
    refused(
        [&] { return this->layer.with_weights(this->q, this->k, this->v, {}, {.score = score}); });
    auto y = constant_tensor<T>(7, B, Q, this->layer.num_hiddens());
    refused([&] {
      return this->layer.forward_into(y, this->q, this->k, this->v, {}, {.score = score}), 0;
    });
    EXPECT_TRUE(all_are(y, T(7)));
    refused([&] {
      return scaled_dot_product_attention(random_tensor<T>(1, B, H, Q, 3),
                                          random_tensor<T>(1, B, 2, K, 3),
                                          random_tensor<T>(1, B, 2, K, 3), {}, {.score = score});
    });
  };
  expect_refused({2, 4, 7, 18}, expected("[2, 4, 7, 18]"));
  expect_refused({2, 2, 7, 19}, expected("[2, 2, 7, 19]"));
  expect_refused({3, 1, 1, 1}, expected("[3, 1, 1, 1]"));
  expect_refused({1, 1, 0, 1}, expected("[1, 1, 0, 1]"));
}

TYPED_TEST(LayerScores, FunctionsThatCannotBeAreRefused) {
  using T = TypeParam;
  for (const T cap : {T(0), T(-1), kNan<T>, kInf<T>})
    EXPECT_EQ(refusal([&] { return Softcap<T>(cap); }),
              "eigenheads: Softcap: cap is " + std::to_string(cap) + "; expected more than 0");
  // A slope for every head of the call: there is none to read beyond them.
  const auto few = random_tensor<T>(1, H - 1);
  EXPECT_EQ(
      refusal([&] { return this->layer(this->q, this->k, this->v, {}, {.score = Alibi<T>(few)}); }),
      "eigenheads: Alibi: slopes has shape [3]; expected [H] = [4]");
  EXPECT_NE(refusal([&] { return ScoreBias<T>(TensorView<T, 4>(nullptr, {1, 1, Q, K})); }),
            "not refused");
}

}  // namespace
