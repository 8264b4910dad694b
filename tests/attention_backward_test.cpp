// SPDX-License-Identifier: MIT
// The fused gradients of attention against those of attention_reference: masks, score functions,
// dropout, shared heads, and sizes around the edges of every block.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <gtest/gtest.h>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_backward.hpp>
#include <eigenheads/attention_reference.hpp>
#include <eigenheads/dot_product_attention.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::AttentionOptions;
using eh::Causal;
using eh::Context;
using eh::Mask;

template <class T>
struct Inputs {
  eh::Tensor<T, 4> queries, keys, values, grad_output;
};

template <class T>
[[nodiscard]] Inputs<T> inputs(Index B, Index H, Index G, Index Q, Index K, Index D, Index V) {
  return {random_tensor<T>(1, B, H, Q, D), random_tensor<T>(2, B, G, K, D),
          random_tensor<T>(3, B, G, K, V), random_tensor<T>(4, B, H, Q, V)};
}

// A sum of n products of numbers below 1 in size, each rounded, in another order.
template <class T, class A, class B>
void expect_near(const A& got, const B& expected, Index n, const std::string& name) {
  ASSERT_EQ(got.size(), expected.size()) << name;
  const T bound = T(8) * static_cast<T>(n + 8) * Limits<T>::epsilon();
  for (Index i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got.data()[i], expected.data()[i], bound) << name << '[' << i << ']';
}

template <class T>
eh::AttentionGradients<T> expect_reference(const Inputs<T>& x, const Mask& mask, const auto& score,
                                           const AttentionOptions<T>& options = {}) {
  const Index Q = x.queries.dimension(2), D = x.queries.dimension(3), K = x.keys.dimension(2);
  const auto result = eh::scaled_dot_product_attention(x.queries, x.keys, x.values, mask,
                                                       with_score(options, score));
  auto gradients = eh::scaled_dot_product_attention_backward(
      x.grad_output, x.queries, x.keys, x.values, result, mask, with_score(options, score));
  const T scale = static_cast<T>(1 / std::sqrt(static_cast<double>(D)));
  const auto dropout = eh::DropoutMask<T>::of(eh::Dropout(options.dropout), options.seed);
  const auto expected = eh::attention_reference_backward<T>(x.grad_output, x.queries, x.keys,
                                                            x.values, mask, scale, score, dropout);
  const Index n = D + x.values.dimension(3) + 8;
  const Index heads = x.queries.dimension(1) / x.keys.dimension(1);
  expect_near<T>(gradients.queries, expected.queries, n + K, "queries");
  expect_near<T>(gradients.keys, expected.keys, n + heads * Q, "keys");
  expect_near<T>(gradients.values, expected.values, n + heads * Q, "values");
  for (const int threads : {2, 3}) {
    Context context(threads, kAnyWork);
    const auto again = eh::scaled_dot_product_attention_backward(
        x.grad_output, x.queries, x.keys, x.values, result, mask, with_score(options, score),
        context);
    EXPECT_TRUE(same_bits(again.queries, gradients.queries));
    EXPECT_TRUE(same_bits(again.keys, gradients.keys));
    EXPECT_TRUE(same_bits(again.values, gradients.values));
    EXPECT_TRUE(same_bits(again.score_bias, gradients.score_bias));
  }
  return gradients;
}

template <class T>
class AttentionBackward : public testing::Test {};
TYPED_TEST_SUITE(AttentionBackward, Scalars);

TYPED_TEST(AttentionBackward, IsTheReferencesAroundEveryEdge) {
  for (const Index Q : {1, 2, 31, 33, 127, 128, 129})
    for (const Index K : {1, 5, 95, 96, 97, 193})
      expect_reference(inputs<TypeParam>(1, 2, 1, Q, K, 5, 3), {}, eh::PlainScore{});
  for (const Index D : {1, 7, 8, 15, 16, 17, 33, 64})
    expect_reference(inputs<TypeParam>(2, 1, 1, 19, 23, D, D + 1), {}, eh::PlainScore{});
}

TYPED_TEST(AttentionBackward, IsTheReferencesUnderMasks) {
  const Index B = 3, Q = 140, K = 140;
  eh::Tensor<bool, 4> allowed(1, 4, Q, K);
  eh::Tensor<Index, 2> lens(B, Q);
  Numbers numbers(7);
  for (Index i = 0; i < allowed.size(); ++i) allowed.data()[i] = numbers.next() % 2 == 0;
  for (Index i = 0; i < lens.size(); ++i)
    lens.data()[i] = static_cast<Index>(numbers.next() % (K + 1));
  const std::vector<Mask> masks{
      {.valid_lens = {140, 0, 97}},
      {.valid_lens = lens},
      {.causal = Causal::top_left},
      {.valid_lens = {100, 3, 140}, .causal = Causal::bottom_right},
      {.window = {3, 20}},
      {.allowed = allowed},
      {.valid_lens = {99, 1, 140}, .query_lens = {140, 7, 0}},
      {.valid_lens = lens, .causal = Causal::top_left, .allowed = allowed}};
  for (const Mask& mask : masks)
    expect_reference(inputs<TypeParam>(B, 4, 2, Q, K, 6, 9), mask, eh::PlainScore{});
}

// Two queries whose keys begin, or end, one after the other, at every key: at every edge of a block
// there is one that sees all of it and one that misses a key.
TYPED_TEST(AttentionBackward, IsTheReferencesWhereverKeysBeginAndEnd) {
  const Index K = 200;
  const auto x = inputs<TypeParam>(1, 1, 1, 2, K, 3, 2);
  for (Index n = 1; n < K; ++n) {
    expect_reference(x, {.causal = Causal::bottom_right, .window = {n, -1}}, eh::PlainScore{});
    expect_reference(x, {.valid_lens = {{n, n + 1}}}, eh::PlainScore{});
    if (testing::Test::HasFailure()) return;
  }
}

TYPED_TEST(AttentionBackward, IsTheReferencesThroughScoreFunctions) {
  using T = TypeParam;
  const auto x = inputs<T>(2, 4, 2, 20, 130, 6, 5);
  const auto slopes = random_tensor<T>(9, 4);
  const Mask mask{.valid_lens = {130, 60}};
  expect_reference(x, mask, eh::Alibi<T>(slopes));
  expect_reference(x, mask, eh::Softcap<T>(T(0.5)));
  const auto dS = [&](const auto& score) {
    const T scale = static_cast<T>(1 / std::sqrt(6.0));
    return eh::attention_reference_backward<T>(x.grad_output, x.queries, x.keys, x.values, mask,
                                               scale, score)
        .scores;
  };
  for (const auto& size : std::vector<std::array<Index, 4>>{
           {2, 4, 20, 130}, {1, 4, 20, 130}, {1, 1, 20, 130}, {2, 1, 1, 130}, {2, 4, 20, 1}}) {
    const auto values = random_tensor<T>(11, size[0], size[1], size[2], size[3]);
    const eh::ScoreBias<T> bias(values);
    const auto chained = eh::chain(eh::Softcap<T>(T(0.7)), eh::ScoreBias<T>(values));
    const auto expect_sum = [&](const auto& score) {
      const auto gradients = expect_reference(x, mask, score);
      const auto scores = dS(score);
      eh::Tensor<T, 4> sum(size[0], size[1], size[2], size[3]);
      sum.setZero();
      for (Index i = 0; i < 2; ++i)
        for (Index j = 0; j < 4; ++j)
          for (Index l = 0; l < 20; ++l)
            for (Index m = 0; m < 130; ++m)
              sum(i % size[0], j % size[1], l % size[2], m % size[3]) += scores(i, j, l, m);
      expect_near<T>(gradients.score_bias, sum, 200, "score bias");
    };
    expect_sum(bias);
    expect_sum(chained);
  }
  // What comes after the bias and has a slope: then there is no gradient to give.
  const auto values = random_tensor<T>(11, 1, 1, 20, 130);
  const auto score = eh::chain(eh::ScoreBias<T>(values), eh::Softcap<T>(T(2)));
  EXPECT_EQ(expect_reference(x, mask, score).score_bias.size(), 0);
}

TYPED_TEST(AttentionBackward, IsTheReferencesWithDropout) {
  expect_reference(inputs<TypeParam>(2, 4, 2, 20, 300, 6, 5), {.valid_lens = {300, 101}},
                   eh::PlainScore{}, {.dropout = 0.4, .seed = eh::DropoutSeed{5}});
}

// A probability of 0 is no dropout, to the bit.
TYPED_TEST(AttentionBackward, DropsNothingAtZero) {
  const auto x = inputs<TypeParam>(1, 2, 2, 9, 30, 6, 5);
  const auto a = expect_reference(x, {}, eh::PlainScore{});
  const auto b = expect_reference(x, {}, eh::PlainScore{}, {.seed = eh::DropoutSeed{5}});
  EXPECT_TRUE(same_bits(a.queries, b.queries));
  EXPECT_TRUE(same_bits(a.values, b.values));
}

// C1: NaN that a query may not see does not reach its gradient; and a bias of -inf hides as a mask
// does. All keys are seen by the query that sees the NaN, so theirs are NaN by C8: the next test is
// about those.
TYPED_TEST(AttentionBackward, WhatIsHiddenIsAbsent) {
  using T = TypeParam;
  const T nan = Limits<T>::quiet_NaN();
  auto x = inputs<T>(1, 1, 1, 4, 6, 3, 3);
  eh::Tensor<bool, 4> allowed(1, 1, 4, 6);
  auto bias = constant_tensor<T>(T(0), 1, 1, 4, 6);
  for (Index q = 0; q < 4; ++q)
    for (Index k = 0; k < 6; ++k) {
      allowed(0, 0, q, k) = k != 5 || q == 3;  // key 5 is seen by query 3 alone
      if (!allowed(0, 0, q, k)) bias(0, 0, q, k) = -Limits<T>::infinity();
    }
  const auto gradients = [&](const Mask& mask, const auto& score) {
    const auto result =
        eh::scaled_dot_product_attention(x.queries, x.keys, x.values, mask, {.score = score});
    return eh::scaled_dot_product_attention_backward(x.grad_output, x.queries, x.keys, x.values,
                                                     result, mask, {.score = score});
  };
  const auto clean = gradients({.allowed = allowed}, eh::PlainScore{});
  const auto expect_clean = [&](const eh::AttentionGradients<T>& dirty) {
    for (Index q = 0; q < 4; ++q)
      for (Index d = 0; d < 3; ++d)
        if (q < 3)
          EXPECT_EQ(dirty.queries(0, 0, q, d), clean.queries(0, 0, q, d)) << q;
        else
          EXPECT_TRUE(std::isnan(dirty.queries(0, 0, q, d)));
  };
  for (Index d = 0; d < 3; ++d) x.values(0, 0, 5, d) = nan;
  expect_clean(gradients({.allowed = allowed}, eh::PlainScore{}));
  expect_clean(gradients({}, eh::ScoreBias<T>(bias)));
  for (Index d = 0; d < 3; ++d) x.keys(0, 0, 5, d) = nan;
  expect_clean(gradients({.allowed = allowed}, eh::PlainScore{}));
}

// C1 and C8: two sets of queries and keys see nothing of each other, in blocks that they share.
// Where one is NaN or infinite, in any of the inputs, the gradients of the other keep their bits. Its
// own are NaN; infinite ones may be scores of -inf, which hide.
TYPED_TEST(AttentionBackward, WhatIsNotFiniteStaysAmongThoseThatSeeIt) {
  using T = TypeParam;
  const Index H = 2, Q = 140, K = 200, D = 5, V = 6;
  const auto clean = inputs<T>(1, H, 1, Q, K, D, V);
  const auto is_bad = [](Index i) { return i % 3 == 1; };
  eh::Tensor<bool, 4> allowed(1, 1, Q, K);
  for (Index q = 0; q < Q; ++q)
    for (Index k = 0; k < K; ++k) allowed(0, 0, q, k) = is_bad(q) == is_bad(k);
  const Mask mask{.allowed = allowed};
  const auto gradients = [&](const Inputs<T>& x) {
    const auto result = eh::scaled_dot_product_attention(x.queries, x.keys, x.values, mask);
    return eh::scaled_dot_product_attention_backward(x.grad_output, x.queries, x.keys, x.values,
                                                     result, mask);
  };
  const auto expected = gradients(clean);
  using Member = eh::Tensor<T, 4> Inputs<T>::*;
  for (const Member member :
       {&Inputs<T>::queries, &Inputs<T>::keys, &Inputs<T>::values, &Inputs<T>::grad_output})
    for (const T value : {kNan<T>, kInf<T>}) {
      auto x = clean;
      eh::Tensor<T, 4>& bad = x.*member;
      const Index rows = bad.dimension(2), columns = bad.dimension(3);
      for (Index i = 0; i < bad.size(); ++i)
        if (is_bad(i / columns % rows)) bad.data()[i] = value;
      const auto got = gradients(x);
      for (Index h = 0; h < H; ++h)
        for (Index q = 0; q < Q; ++q)
          if (is_bad(q)) {
            ASSERT_TRUE(value == kInf<T> || all_are(row(got.queries, 0, h, q), kNan<T>)) << q;
          } else {
            ASSERT_TRUE(same_bits(row(got.queries, 0, h, q), row(expected.queries, 0, h, q))) << q;
          }
      for (Index k = 0; k < K; ++k)
        if (is_bad(k)) {
          ASSERT_TRUE(value == kInf<T> || all_are(row(got.keys, 0, 0, k), kNan<T>)) << k;
          // dV = P^T dO, which no value takes part in.
          if (member == &Inputs<T>::values) {
            ASSERT_TRUE(same_bits(row(got.values, 0, 0, k), row(expected.values, 0, 0, k))) << k;
          } else {
            ASSERT_TRUE(value == kInf<T> || all_are(row(got.values, 0, 0, k), kNan<T>)) << k;
          }
        } else {
          ASSERT_TRUE(same_bits(row(got.keys, 0, 0, k), row(expected.keys, 0, 0, k))) << k;
          ASSERT_TRUE(same_bits(row(got.values, 0, 0, k), row(expected.values, 0, 0, k))) << k;
        }
    }
}

// C1 and C3, over several blocks of keys and of queries: a sequence alone and cut to the keys that
// it sees has the same gradients, and so has each query alone.
TYPED_TEST(AttentionBackward, ASequenceCutToItsKeysAndAQueryAloneHaveTheSameBits) {
  using T = TypeParam;
  const Index B = 3, H = 2, K = 300;
  const std::vector<Index> lens{300, 97, 210};
  for (const Index Q : {1, 5, 49, 140}) {
    const auto x = inputs<T>(B, H, 1, Q, K, 6, 7);
    const auto gradients = [](TensorView<T, 4> dy, TensorView<T, 4> q, TensorView<T, 4> k,
                              TensorView<T, 4> v, const Mask& mask) {
      return eh::scaled_dot_product_attention_backward<T>(
          dy, q, k, v, eh::scaled_dot_product_attention(q, k, v, mask), mask);
    };
    for (const Mask& mask :
         {Mask{.valid_lens = lens}, Mask{.valid_lens = lens, .causal = Causal::top_left}}) {
      const auto all = gradients(x.grad_output, x.queries, x.keys, x.values, mask);
      for (Index b = 0; b < B; ++b) {
        const Index kept = lens[static_cast<std::size_t>(b)];
        const auto first = [kept](TensorView<T, 4> of) {
          return TensorView<T, 4>(of.data(), {1, 1, kept, of.dimension(3)});
        };
        const auto q = sequence(x.queries, b), dy = sequence(x.grad_output, b);
        const auto k = first(sequence(x.keys, b)), v = first(sequence(x.values, b));
        const auto alone = gradients(dy, q, k, v, {.causal = mask.causal});
        ASSERT_TRUE(same_bits(alone.queries, sequence(all.queries, b))) << Q << ' ' << b;
        ASSERT_TRUE(same_bits(alone.keys, first(sequence(all.keys, b)))) << Q << ' ' << b;
        ASSERT_TRUE(same_bits(alone.values, first(sequence(all.values, b)))) << Q << ' ' << b;
        for (Index h = 0; h < H; ++h)
          for (Index i = 0; i < Q; i += 1 + Q / 8) {
            const auto one = [&](TensorView<T, 4> of) {
              return TensorView<T, 4>(row(of, 0, h, i).data(), {1, 1, 1, of.dimension(3)});
            };
            const Index sees = mask.causal == Causal::none ? kept : std::min(i + 1, kept);
            const auto of_one = gradients(one(dy), one(q), k, v, {.valid_lens = {sees}});
            ASSERT_TRUE(same_bits(row(of_one.queries, 0, 0, 0), row(all.queries, b, h, i)))
                << Q << ' ' << b << ' ' << i;
          }
      }
    }
  }
}

TYPED_TEST(AttentionBackward, AScoreFunctionWithoutADerivativeIsRefused) {
  using T = TypeParam;
  const auto x = inputs<T>(1, 2, 2, 3, 4, 5, 6);
  const auto squared = [](T score, eh::ScorePosition) { return score * score; };
  const AttentionOptions<T> options{.score = squared};
  const auto result = eh::scaled_dot_product_attention(x.queries, x.keys, x.values, {}, options);
  EXPECT_EQ(refusal([&] {
              return eh::scaled_dot_product_attention_backward(x.grad_output, x.queries, x.keys,
                                                               x.values, result, {}, options);
            }),
            "eigenheads: this score function is for inference; to train through it, give it a "
            "member T derivative(T score, ScorePosition) const, or static constexpr bool adds = "
            "true if all it does is to add to the score");
}

TEST(DotProductAttentionBackward, IsThatOfOneHead) {
  const eh::DotProductAttention<double> attention({.dropout = 0.5});
  const auto q = random_tensor<double>(1, 2, 5, 4), k = random_tensor<double>(2, 2, 7, 4),
             v = random_tensor<double>(3, 2, 7, 3), dy = random_tensor<double>(4, 2, 5, 3);
  const eh::ValidLens lens{7, 2};
  eh::DotProductAttention<double>::Activations saved;
  EXPECT_EQ(refusal<std::logic_error>([&] { return attention.backward(dy, saved); }),
            "eigenheads: DotProductAttention: backward needs the activations of a forward call");
  EXPECT_EQ(refusal<std::invalid_argument>([&] { return attention.forward(q, k, v, lens, saved); }),
            "eigenheads: DotProductAttention: dropout is 0.5; expected a DropoutSeed, {.seed = "
            "...}, after the activations");
  const auto y = attention.forward(q, k, v, lens, saved, {.seed = eh::DropoutSeed{3}});
  const auto gradients = attention.backward(dy, saved);
  const auto head = [](const eh::Tensor<double, 3>& x) {
    return eh::TensorView<double, 4>(x.data(), {x.dimension(0), 1, x.dimension(1), x.dimension(2)});
  };
  const auto dropout = eh::DropoutMask<double>::of(eh::Dropout(0.5), eh::DropoutSeed{3});
  const Mask mask{.valid_lens = lens};
  const auto forward = eh::attention_reference<double>(head(q), head(k), head(v), mask, 0.5,
                                                       eh::PlainScore{}, dropout);
  const auto expected = eh::attention_reference_backward<double>(
      head(dy), head(q), head(k), head(v), mask, 0.5, eh::PlainScore{}, dropout);
  expect_near<double>(y, forward.output, 20, "output");
  expect_near<double>(gradients.queries, expected.queries, 20, "queries");
  expect_near<double>(gradients.keys, expected.keys, 20, "keys");
  expect_near<double>(gradients.values, expected.values, 20, "values");
}

}  // namespace
