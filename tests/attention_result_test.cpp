// SPDX-License-Identifier: MIT
// What scaled_dot_product_attention gives when more than the output is asked for, where it is put,
// and where its inputs may lie.
#include <gtest/gtest.h>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_backward.hpp>
#include <eigenheads/attention_reference.hpp>
#include <eigenheads/dot_product_attention.hpp>

#include "contract.hpp"
#include "support.hpp"

namespace {

using namespace support;
using eh::Mask, eh::scaled_dot_product_attention, eh::scaled_dot_product_attention_into;

template <class T>
class AttentionResultTest : public testing::Test {
 protected:
  static constexpr Index B = 2, H = 4, G = 2, Q = 9, K = 300, D = 7, V = 5;
  Tensor<T, 4> q = random_tensor<T>(1, B, H, Q, D), k = random_tensor<T>(2, B, G, K, D),
               v = random_tensor<T>(3, B, G, K, V);
  Tensor<bool, 4> holes = [] {
    Tensor<bool, 4> pairs(1, H, Q, K);
    for (Index i = 0; i < pairs.size(); ++i) pairs.data()[i] = i * 7919 % 11 < 6;
    return pairs;
  }();
  std::vector<Mask> masks{{},
                          {.valid_lens = {0, 290}},
                          {.causal = eh::Causal::bottom_right, .window = {270, -1}},
                          {.query_lens = {4, 9}, .allowed = holes}};
};
TYPED_TEST_SUITE(AttentionResultTest, Scalars, ScalarNames);

TYPED_TEST(AttentionResultTest, WhatIsNotAskedForIsEmpty) {
  const auto result = scaled_dot_product_attention(this->q, this->k, this->v);
  EXPECT_EQ(result.weights.size(), 0);
  EXPECT_EQ(result.scores.size(), 0);
}

TYPED_TEST(AttentionResultTest, WeightsAndScoresChangeNothingAndAreTheReferences) {
  using T = TypeParam;
  const eh::Softcap<T> cap(T(0.75));
  const auto bias = random_tensor<T>(4, 1, this->H, this->Q, this->K);
  const auto score = eh::chain(cap, eh::ScoreBias<T>(bias));
  const T scale = eh::detail::default_scale<T>(this->D);
  for (const int threads : {1, 9})
    for (const Mask& mask : this->masks) {
      eh::Context context(threads, kAnyWork);
      const auto plain =
          scaled_dot_product_attention(this->q, this->k, this->v, mask, {.score = score}, context);
      const auto reference =
          eh::attention_reference<T>(this->q, this->k, this->v, mask, scale, score);
      const auto check = [&](const eh::ScoreRef<T>& after, const auto& of_score) {
        const auto result = scaled_dot_product_attention(
            this->q, this->k, this->v, mask,
            {.score = score, .weights = true, .scores_after = after}, context);
        EXPECT_TRUE(same_bits(result, plain));
        for (Index i = 0; i < result.weights.size(); ++i)
          ASSERT_NEAR(result.weights.data()[i], reference.weights.data()[i],
                      20 * Limits<T>::epsilon());
        const eh::BoundMask bound(mask, this->B, this->Q, this->K, this->H);
        for (Index b = 0; b < this->B; ++b)
          for (Index h = 0; h < this->H; ++h)
            for (Index i = 0; i < this->Q; ++i) {
              const auto [begin, end] = bound.key_range(b, h, i);
              const auto* allowed = bound.allowed_row(b, h, i);
              for (Index j = 0; j < this->K; ++j) {
                const T got = result.scores(b, h, i, j);
                if (j < begin || j >= end || (allowed != nullptr && allowed[j] == 0)) {
                  ASSERT_EQ(got, -kInf<T>) << b << h << i << j;
                  continue;
                }
                T z = 0;
                for (Index d = 0; d < this->D; ++d)
                  z += this->q(b, h, i, d) * this->k(b, h / 2, j, d);
                const eh::ScorePosition at =
                    eh::detail::score_position(b, h, i, j, bound.aligned(b, i));
                ASSERT_NEAR(got, of_score(scale * z, at), 40 * Limits<T>::epsilon());
              }
            }
      };
      check(eh::PlainScore{}, [](T z, eh::ScorePosition) { return z; });
      check(cap, cap);
      check(score, score);
    }
}

TYPED_TEST(AttentionResultTest, AResultIsUsedAgain) {
  using T = TypeParam;
  eh::AttentionResult<T> result;
  scaled_dot_product_attention_into(result, this->q, this->k, this->v, {}, {.weights = true});
  const T *const output = result.output.data(), *const weights = result.weights.data();
  scaled_dot_product_attention_into(result, this->q, this->k, this->v, {}, {.weights = true});
  EXPECT_EQ(result.output.data(), output);
  EXPECT_EQ(result.weights.data(), weights);
  EXPECT_TRUE(same_bits(result, scaled_dot_product_attention(this->q, this->k, this->v)));
  scaled_dot_product_attention_into(result, this->q, this->k, this->v);
  EXPECT_EQ(result.weights.size(), 0);
}

TYPED_TEST(AttentionResultTest, AnOutputOfTheCallersIsWrittenTo) {
  using T = TypeParam;
  const auto expected = scaled_dot_product_attention(this->q, this->k, this->v).output;
  Tensor<T, 4> output = constant_tensor<T>(kNan<T>, this->B, this->H, this->Q, this->V);
  scaled_dot_product_attention_into(output, this->q, this->k, this->v);
  EXPECT_TRUE(same_bits(output, expected));
  Tensor<T, 4> wrong(this->B, this->H, this->Q, this->V + 1);
  EXPECT_EQ(refusal([&] {
              scaled_dot_product_attention_into(wrong, this->q, this->k, this->v);
              return 0;
            }),
            "eigenheads: output has shape [2, 4, 9, 6]; expected [B, H, Q, V] = [2, 4, 9, 5]");
  EXPECT_EQ(refusal([&] {
              scaled_dot_product_attention_into(this->q, this->q, this->k,
                                                random_tensor<T>(1, 2, 2, this->K, this->D));
              return 0;
            }),
            "eigenheads: output overlaps queries in memory");
  EXPECT_NE(refusal([&] {
              scaled_dot_product_attention_into(output, this->q, this->k, this->v, {},
                                                {.weights = true});
              return 0;
            }).find("expected an AttentionResult"),
            std::string::npos);
}

// x: [B, H, rows, D] as [B, rows, H, D].
template <class T>
Tensor<T, 4> with_heads_together(const Tensor<T, 4>& x) {
  Tensor<T, 4> y(x.dimension(0), x.dimension(2), x.dimension(1), x.dimension(3));
  for (Index b = 0; b < x.dimension(0); ++b)
    for (Index h = 0; h < x.dimension(1); ++h)
      for (Index i = 0; i < x.dimension(2); ++i)
        for (Index d = 0; d < x.dimension(3); ++d) y(b, i, h, d) = x(b, h, i, d);
  return y;
}

TYPED_TEST(AttentionResultTest, InputsMayLieWithAnyStrides) {
  const auto q_together = with_heads_together(this->q), k_together = with_heads_together(this->k),
             v_together = with_heads_together(this->v);
  for (const int threads : {1, 9})
    for (const Mask& mask : this->masks) {
      eh::Context context(threads, kAnyWork);
      const auto apart = scaled_dot_product_attention(this->q, this->k, this->v, mask, {}, context);
      const auto together = scaled_dot_product_attention(
          eh::heads_side_by_side(q_together), eh::heads_side_by_side(k_together),
          eh::heads_side_by_side(v_together), mask, {}, context);
      EXPECT_TRUE(same_bits(apart, together));
      const auto dy = random_tensor<TypeParam>(9, this->B, this->H, this->Q, this->V);
      const auto a = eh::scaled_dot_product_attention_backward(dy, this->q, this->k, this->v, apart,
                                                               mask, {}, context);
      const auto b = eh::scaled_dot_product_attention_backward(
          dy, eh::heads_side_by_side(q_together), eh::heads_side_by_side(k_together),
          eh::heads_side_by_side(v_together), apart, mask, {}, context);
      EXPECT_TRUE(same_bits(a.queries, b.queries));
      EXPECT_TRUE(same_bits(a.keys, b.keys));
      EXPECT_TRUE(same_bits(a.values, b.values));
    }
}

// Rows of whole panels are read where they are, few of them in decoding.
TYPED_TEST(AttentionResultTest, FewRowsReadStridedValuesWhereTheyAre) {
  using T = TypeParam;
  for (const Index rows : {1, 3, 60}) {
    const auto x = random_tensor<T>(1, 2, rows, 3, 2, 64);  // [B, T, 3, H, D]
    const auto [queries, keys, values] = eh::unpack_qkv(x);
    const auto copy = [](const eh::StridedView<T>& from) {
      Tensor<T, 4> to(from.dimension(0), from.dimension(1), from.dimension(2), from.dimension(3));
      for (Index b = 0; b < to.dimension(0); ++b)
        for (Index h = 0; h < to.dimension(1); ++h)
          for (Index i = 0; i < to.dimension(2); ++i)
            for (Index d = 0; d < to.dimension(3); ++d) to(b, h, i, d) = from(b, h, i, d);
      return to;
    };
    EXPECT_TRUE(same_bits(scaled_dot_product_attention(queries, keys, values),
                          scaled_dot_product_attention(copy(queries), copy(keys), copy(values))));
  }
}

TYPED_TEST(AttentionResultTest, DotProductAttentionTakesMasksAndScoreFunctions) {
  using T = TypeParam;
  const auto x = random_tensor<T>(1, 2, 6, 8);
  const eh::DotProductAttention<T> attention;
  const Mask causal{.causal = eh::Causal::top_left};
  const eh::Softcap<T> cap(T(0.5));
  const TensorView<T, 4> heads(x.data(), {2, 1, 6, 8});
  const auto expected = scaled_dot_product_attention(heads, heads, heads, causal, {.score = cap});
  const auto got = attention(x, x, x, causal, {.score = cap});
  EXPECT_TRUE(same_bits(got, TensorView<T, 3>(expected.output.data(), {2, 6, 8})));
  const auto [output, weights] = attention.with_weights(x, x, x, causal, {.score = cap});
  EXPECT_TRUE(same_bits(output, got));
  EXPECT_EQ(weights(0, 0, 1), T(0));
  typename eh::DotProductAttention<T>::Activations saved;
  EXPECT_TRUE(
      same_bits(attention.forward(x, x, x, causal, saved, {.score = eh::Softcap<T>(T(0.5))}), got));
  const auto gradients = attention.backward(x, saved);
  const auto of_heads = eh::scaled_dot_product_attention_backward(heads, heads, heads, heads,
                                                                  expected, causal, {.score = cap});
  EXPECT_TRUE(same_bits(gradients.keys, TensorView<T, 3>(of_heads.keys.data(), {2, 6, 8})));
}

}  // namespace
