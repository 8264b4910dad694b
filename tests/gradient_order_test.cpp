// SPDX-License-Identifier: MIT
// The order of gradient sums: blocks that stand by themselves, each from zero, added up from left to
// right. So whoever computes a block, and wherever it is cut off, moves no bit.
#include <algorithm>
#include <array>
#include <gtest/gtest.h>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_backward.hpp>
#include <eigenheads/linear.hpp>
#include <eigenheads/multi_head_attention.hpp>

#include "layers.hpp"
#include "support.hpp"

namespace {

using namespace support;
using eh::AttentionGradients;
using eh::AttentionOptions;
using eh::Causal;
using eh::Context;
using eh::Mask;

// Rows [begin, end) of axis `Axis`.
template <int Axis, class T, int Rank>
[[nodiscard]] Tensor<T, Rank> cut(const Tensor<T, Rank>& x, Index begin, Index end) {
  auto shape = x.dimensions();
  Index outer = 1, inner = 1;
  for (int axis = 0; axis < Rank; ++axis) {
    if (axis < Axis) outer *= shape[static_cast<std::size_t>(axis)];
    if (axis > Axis) inner *= shape[static_cast<std::size_t>(axis)];
  }
  const Index length = x.dimension(Axis);
  shape[Axis] = end - begin;
  Tensor<T, Rank> part(shape);
  for (Index i = 0; i < outer; ++i)
    std::copy_n(x.data() + (i * length + begin) * inner, (end - begin) * inner,
                part.data() + i * (end - begin) * inner);
  return part;
}

template <class X>
[[nodiscard]] X sum(X a, const X& b) {
  for (Index i = 0; i < a.size(); ++i) a.data()[i] += b.data()[i];
  return a;
}

template <class T>
[[nodiscard]] testing::AssertionResult same_bits_of(const eh::LinearGradients<T>& a,
                                                    const eh::LinearGradients<T>& b) {
  if (auto same = same_bits(a.weight, b.weight); !same) return same << ", of the weight";
  if (auto same = same_bits(a.bias, b.bias); !same) return same << ", of the bias";
  return testing::AssertionSuccess();
}
template <class T>
[[nodiscard]] testing::AssertionResult same_bits_of(const AttentionGradients<T>& a,
                                                    const AttentionGradients<T>& b) {
  if (auto same = same_bits(a.queries, b.queries); !same) return same << ", of the queries";
  if (auto same = same_bits(a.keys, b.keys); !same) return same << ", of the keys";
  if (auto same = same_bits(a.values, b.values); !same) return same << ", of the values";
  if (auto same = same_bits(a.score_bias, b.score_bias); !same) return same << ", of the bias";
  return testing::AssertionSuccess();
}

template <class T>
class GradientOrder : public testing::Test {};
TYPED_TEST_SUITE(GradientOrder, Scalars, ScalarNames);

TYPED_TEST(GradientOrder, OfAWeightIsBlocksOfRowsOfEachSequenceFromLeftToRight) {
  using T = TypeParam;
  const eh::Linear<T> linear({.in_features = 37, .out_features = 101, .bias = true}, 3);
  for (const auto& [B, rows] : std::vector<std::array<Index, 2>>{
           {1, 1}, {3, 20}, {1, 256}, {2, 255}, {2, 257}, {3, 300}, {2, 600}}) {
    const auto x = random_tensor<T>(1, B, rows, 37);
    auto dy = random_tensor<T>(2, B, rows, 101);
    for (Index b = 0; b < B; ++b)  // rows that take no part move no others into another block
      for (Index r = 0; r < rows; ++r)
        if (r % 7 == 3) std::fill_n(&dy(b, r, 0), 101, T(0));
    eh::LinearGradients<T> whole, by_blocks;
    (void)linear.backward(x, dy, whole);
    for (Index b = 0; b < B; ++b)
      for (Index r = 0; r < rows; r += 256) {
        const Tensor<T, 3> x_b = cut<0>(x, b, b + 1), dy_b = cut<0>(dy, b, b + 1);
        const Index end = std::min(r + 256, rows);
        (void)linear.backward(cut<1>(x_b, r, end), cut<1>(dy_b, r, end), by_blocks, b + r > 0);
      }
    EXPECT_TRUE(same_bits_of(by_blocks, whole)) << B << " x " << rows;
    for (const int threads : {2, 3}) {
      Context context(threads, kAnyWork);
      eh::LinearGradients<T> shared;
      (void)linear.backward(x, dy, shared, false, context);
      EXPECT_TRUE(same_bits_of(shared, whole)) << B << " x " << rows << " on " << threads;
    }
  }
}

// Sequences of several lengths, padded to a batch; each is one block of rows, but several of queries
// and of keys.
TYPED_TEST(GradientOrder, OfAPaddedBatchIsThatOfItsSequencesOneAtATime) {
  using T = TypeParam;
  using Layer = eh::MultiHeadAttention<T>;
  const std::vector<Index> lengths{150, 256, 1, 97, 131};
  const Index B = std::ssize(lengths), rows = 256, E = 24;
  const auto layer =
      make_layer<T>(E, {.num_hiddens = E, .num_heads = 4, .bias = true, .num_kv_heads = 2});
  auto x = random_tensor<T>(1, B, rows, E), dy = random_tensor<T>(2, B, rows, E);
  for (Index b = 0; b < B; ++b)
    for (Index r = lengths[static_cast<std::size_t>(b)]; r < rows; ++r)
      for (Index e = 0; e < E; ++e) x(b, r, e) = kNan<T>, dy(b, r, e) = T(0);
  for (const Causal causal : {Causal::none, Causal::bottom_right}) {
    typename Layer::Activations saved;
    const eh::ValidLens lens(lengths);
    layer.forward(x, x, x, {.causal = causal, .query_lens = lens, .key_lens = lens}, saved);
    const auto whole = layer.backward(dy, saved);
    eh::LinearGradients<T> W_q, W_k, W_v, W_o;
    for (Index b = 0; b < B; ++b) {
      const Index length = lengths[static_cast<std::size_t>(b)];
      const Tensor<T, 3> x_b = cut<1>(cut<0>(x, b, b + 1), 0, length);
      layer.forward(x_b, x_b, x_b, {.causal = causal}, saved);
      const auto alone = layer.backward(cut<1>(cut<0>(dy, b, b + 1), 0, length), saved);
      for (const auto& [of_batch, of_one] : {std::pair{&whole.queries, &alone.queries},
                                             {&whole.keys, &alone.keys},
                                             {&whole.values, &alone.values}})
        EXPECT_TRUE(same_bits(cut<1>(cut<0>(*of_batch, b, b + 1), 0, length), *of_one)) << b;
      for (const auto& [all, one] : {std::pair{&W_q, &alone.W_q},
                                     {&W_k, &alone.W_k},
                                     {&W_v, &alone.W_v},
                                     {&W_o, &alone.W_o}}) {
        all->weight = b == 0 ? one->weight : sum(all->weight, one->weight);
        all->bias = b == 0 ? one->bias : sum(all->bias, one->bias);
      }
    }
    EXPECT_TRUE(same_bits_of(W_q, whole.W_q));
    EXPECT_TRUE(same_bits_of(W_k, whole.W_k));
    EXPECT_TRUE(same_bits_of(W_v, whole.W_v));
    EXPECT_TRUE(same_bits_of(W_o, whole.W_o));
  }
}

// Attention of one sequence; what a part of its keys or queries gives of the gradients.
template <class T>
struct Call {
  Tensor<T, 4> q, k, v, dy;

  Call(Index H, Index G, Index Q, Index K)
      : q(random_tensor<T>(1, 1, H, Q, 16)),
        k(random_tensor<T>(2, 1, G, K, 16)),
        v(random_tensor<T>(3, 1, G, K, 18)),
        dy(random_tensor<T>(4, 1, H, Q, 18)) {}

  [[nodiscard]] AttentionGradients<T> backward(const Mask& mask = {},
                                               const AttentionOptions<T>& options = {},
                                               int threads = 1) const {
    Context context(threads, kAnyWork);
    const auto result = eh::scaled_dot_product_attention(q, k, v, mask, options, context);
    return eh::scaled_dot_product_attention_backward<T>(dy, q, k, v, result, mask, options,
                                                        context);
  }
};

TYPED_TEST(GradientOrder, OfQueriesIsBlocksOfKeysFromLeftToRight) {
  using T = TypeParam;
  constexpr Index block = 96;  // as the contract says, whatever the kernels go by
  const Call<T> call(2, 1, 140, 2 * block + 7);
  const auto result = eh::scaled_dot_product_attention(call.q, call.k, call.v);
  const auto of_keys = [&](Index begin, Index end) {
    return eh::scaled_dot_product_attention_backward<T>(call.dy, call.q, cut<2>(call.k, begin, end),
                                                        cut<2>(call.v, begin, end), result);
  };
  const auto first = of_keys(0, block), second = of_keys(block, 2 * block);
  const auto third = of_keys(2 * block, 2 * block + 7), whole = of_keys(0, 2 * block + 7);
  // The scale is a power of two: it moves no bit whether it comes before the sum or after.
  EXPECT_TRUE(same_bits(sum(sum(first.queries, second.queries), third.queries), whole.queries));
  EXPECT_TRUE(same_bits(cut<2>(whole.keys, block, 2 * block), second.keys));
  EXPECT_TRUE(same_bits(cut<2>(whole.values, block, 2 * block), second.values));
}

TYPED_TEST(GradientOrder, OfKeysAndValuesIsBlocksOfQueriesOfEachHeadFromLeftToRight) {
  using T = TypeParam;
  constexpr Index block = 128;
  const Index Q = block + 9;
  const Call<T> call(3, 1, Q, 200);
  const auto whole = call.backward();
  Tensor<T, 4> keys, values;
  for (Index h = 0; h < 3; ++h)
    for (Index first = 0; first < Q; first += block) {
      const Index end = std::min(first + block, Q);
      Call<T> part = call;
      part.q = cut<2>(cut<1>(call.q, h, h + 1), first, end);
      part.dy = cut<2>(cut<1>(call.dy, h, h + 1), first, end);
      const auto gradients = part.backward();
      keys = h + first == 0 ? gradients.keys : sum(keys, gradients.keys);
      values = h + first == 0 ? gradients.values : sum(values, gradients.values);
    }
  EXPECT_TRUE(same_bits(keys, whole.keys));
  EXPECT_TRUE(same_bits(values, whole.values));
}

// One head on several threads is cut into ranges of keys and blocks of queries.
TYPED_TEST(GradientOrder, IsTheSameWhereKeysAreCut) {
  using T = TypeParam;
  const Index Q = 300, K = 700;
  Tensor<bool, 4> holes(1, 1, Q, K);
  for (Index i = 0; i < holes.size(); ++i) holes.data()[i] = i * 7919 % 11 < 6;
  const std::vector<std::pair<std::string, Mask>> masks{
      {"all", {}},
      {"top_left", {.causal = Causal::top_left}},
      {"bottom_right", {.causal = Causal::bottom_right}},
      {"window", {.window = {40, 3}, .first_positions = {200}}},
      {"valid_lens", {.valid_lens = {250}}},
      {"no key", {.valid_lens = {0}}},
      {"query_lens", {.query_lens = {130}}},
      {"holes", {.allowed = holes}}};
  const auto plane = random_tensor<T>(9, 1, 1, Q, K), column = random_tensor<T>(10, 1, 1, Q, 1);
  const auto row = random_tensor<T>(11, 1, 2, 1, K);
  const eh::ScoreBias<T> of_pairs(plane), of_queries(column), of_keys(row);
  for (const auto& [H, G] : std::vector<std::array<Index, 2>>{{1, 1}, {2, 1}, {6, 3}}) {
    const Call<T> call(H, G, Q, K);
    for (const auto& [name, mask] : masks) {
      std::vector<AttentionOptions<T>> all{
          {}, {.dropout = 0.25, .seed = eh::DropoutSeed{3}}, {.score = of_pairs}};
      if (name == "bottom_right") all.push_back({.score = of_queries});
      if (name == "bottom_right" && H == 2) all.push_back({.score = of_keys});
      for (const auto& options : all) {
        const auto expected = call.backward(mask, options);
        for (const int threads : {2, 4, 7})
          EXPECT_TRUE(same_bits_of(call.backward(mask, options, threads), expected))
              << name << ", " << G << " heads on " << threads;
      }
    }
  }
}

TYPED_TEST(GradientOrder, OfGatesIsTheSameWhereKeysAreCut) {
  using T = TypeParam;
  auto layer = make_layer<T>(16, {.num_hiddens = 16, .num_heads = 4, .num_kv_heads = 1});
  Tensor<T, 2> gates(1, 4);
  gates.setValues({{T(0.5), T(0), T(-2), T(1)}});
  layer.set_gates(gates);
  const auto x = random_tensor<T>(1, 1, 400, 16), dy = random_tensor<T>(2, 1, 400, 16);
  typename eh::MultiHeadAttention<T>::Activations saved;
  layer.forward(x, x, x, {.causal = Causal::top_left}, saved);
  const auto expected = layer.backward(dy, saved);
  for (const int threads : {2, 3}) {
    Context context(threads, kAnyWork);
    const auto got = layer.backward(dy, saved, context);
    EXPECT_TRUE(same_bits(got.gates, expected.gates)) << threads;
    EXPECT_TRUE(same_bits(got.queries, expected.queries)) << threads;
    EXPECT_TRUE(same_bits_of(got.W_q, expected.W_q)) << threads;
  }
}

#if defined(__cpp_exceptions)
// Of the backward pass, at one of its blocks.
template <class T>
struct Throws {
  static constexpr bool adds = true;

  T operator()(T score, eh::ScorePosition at) const {
    if (is_on && at.q == q && at.k == k) throw std::runtime_error("no score");
    return score;
  }

  bool is_on;
  Index q, k;
};

TYPED_TEST(GradientOrder, AScoreFunctionThatThrowsKeepsNoOtherTaskWaiting) {
  using T = TypeParam;
  const Call<T> call(1, 1, 300, 700);
  for (const Index q : {0, 140, 299})
    for (const Index k : {0, 300, 699})
      finishes([&] {
        Context context(3, kAnyWork);
        Throws<T> score{false, q, k};
        const AttentionOptions<T> options{.score = score};
        const auto result =
            eh::scaled_dot_product_attention(call.q, call.k, call.v, {}, options, context);
        score.is_on = true;
        EXPECT_EQ(refusal<std::runtime_error>([&] {
                    return eh::scaled_dot_product_attention_backward<T>(
                        call.dy, call.q, call.k, call.v, result, {}, options, context);
                  }),
                  "no score");
      });
}
#endif

}  // namespace
