// SPDX-License-Identifier: MIT
// The layer: the chapter's examples, and what it is made of.
#include <array>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>

#include <eigenheads/attention.hpp>
#include <eigenheads/multi_head_attention.hpp>
#include <eigenheads/transpose.hpp>

#include "layers.hpp"
#include "support.hpp"

namespace {

using namespace support;
using eh::Causal, eh::Linear, eh::Mask, eh::MultiHeadAttention, eh::MultiHeadAttentionOptions,
    eh::TensorSpan;

template <class T>
class MultiHeadAttentionTest : public testing::Test {
 protected:
  // Two sequences of four queries and six keys, all sizes different.
  Tensor<T, 3> q_ = random_tensor<T>(1, 2, 4, 7), k_ = random_tensor<T>(2, 2, 6, 3),
               v_ = random_tensor<T>(3, 2, 6, 9);
  static constexpr MultiHeadAttentionOptions lazy_options{
      .num_hiddens = 12, .num_heads = 3, .bias = true};
  static constexpr MultiHeadAttentionOptions options{.num_hiddens = 12,
                                                     .num_heads = 3,
                                                     .bias = true,
                                                     .query_size = 7,
                                                     .key_size = 3,
                                                     .value_size = 9};
};
TYPED_TEST_SUITE(MultiHeadAttentionTest, Scalars, ScalarNames);

// X and Y are ones. Section 11.5: 100 hiddens, X (2, 4, 100), Y (2, 6, 100), valid_lens (3, 2);
// and with sizes taken from the inputs: 10 hiddens, X (1, 4, 10), Y (1, 6, 10), valid_lens (3).
TYPED_TEST(MultiHeadAttentionTest, TheChaptersExamples) {
  using T = TypeParam;
  struct Example {
    Index B, E;
    eh::ValidLens lens;
  };
  for (const Example& example : {Example{2, 100, {3, 2}}, {1, 10, {3}}}) {
    const auto& [B, E, lens] = example;
    MultiHeadAttention<T> attention({.num_hiddens = E, .num_heads = 5, .dropout = 0.5});
    const auto X = constant_tensor<T>(1, B, 4, E), Y = constant_tensor<T>(1, B, 6, E);
    const Tensor<T, 3> output = attention(X, Y, Y, {.valid_lens = lens});
    const Tensor<T, 4> weights = attention.with_weights(X, Y, Y, {.valid_lens = lens}).weights;
    EXPECT_EQ(TensorView(output).dimensions(), (std::array<Index, 3>{B, 4, E}));
    EXPECT_EQ(TensorView(weights).dimensions(), (std::array<Index, 4>{B, 5, 4, 6}));
    const double eps = static_cast<double>(Limits<T>::epsilon());
    // The keys are all alike, so the weights of those that count are; and every query gets W_o
    // W_v 1.
    const Tensor<T, 1> expected = attention.W_o(attention.W_v(constant_tensor<T>(1, E)));
    for (Index b = 0; b < B; ++b)
      for (Index i = 0; i < 4; ++i) {
        for (Index h = 0; h < 5; ++h)
          for (Index j = 0; j < 6; ++j) {
            const auto length = static_cast<double>(lens.length(b, i));
            EXPECT_NEAR(weights(b, h, i, j), j < lens.length(b, i) ? 1 / length : 0, eps);
          }
        for (Index e = 0; e < E; ++e) EXPECT_NEAR(output(b, i, e), expected(e), 200 * eps);
      }
  }
}

// The layer is its parts, one after the other, to the bit.
TYPED_TEST(MultiHeadAttentionTest, ItIsProjectionHeadsAttentionHeadsProjection) {
  using T = TypeParam;
  struct Heads {
    Index num_heads, num_kv_heads, head_size;
  };
  for (const auto& [H, G, D] : {Heads{3, 3, 4}, {6, 2, 2}, {4, 1, 3}, {2, 2, 5}, {1, 1, 1}}) {
    auto opts = this->options;
    opts.num_heads = H, opts.num_kv_heads = G, opts.head_size = D;
    MultiHeadAttention<T> layer(opts, 5);
    set_random_biases(layer, 4);
    for (const Mask& mask :
         {Mask{}, Mask{.valid_lens = {0, 5}}, Mask{.causal = Causal::top_left}}) {
      const auto q = eh::transpose_qkv(layer.W_q(this->q_), H),
                 k = eh::transpose_qkv(layer.W_k(this->k_), G),
                 v = eh::transpose_qkv(layer.W_v(this->v_), G);
      const auto heads =
          eh::scaled_dot_product_attention(TensorView<T, 4>(q.data(), {2, H, 4, D}),
                                           TensorView<T, 4>(k.data(), {2, G, 6, D}),
                                           TensorView<T, 4>(v.data(), {2, G, 6, D}), mask)
              .output;
      const auto joined = eh::transpose_output(TensorView<T, 3>(heads.data(), {2 * H, 4, D}), H);
      EXPECT_TRUE(same_bits(layer(this->q_, this->k_, this->v_, mask), layer.W_o(joined)));
      Tensor<T, 2> identity(H * D, H * D);
      identity.setZero();
      for (Index i = 0; i < H * D; ++i) identity(i, i) = 1;
      MultiHeadAttention<T> bare(
          {.num_hiddens = H * D, .num_heads = H, .num_kv_heads = G, .head_size = D});
      bare.W_q = layer.W_q, bare.W_k = layer.W_k, bare.W_v = layer.W_v;
      bare.W_o.set_weight(identity);
      EXPECT_TRUE(same_bits(bare(this->q_, this->k_, this->v_, mask), joined));
    }
  }
}

TYPED_TEST(MultiHeadAttentionTest, AllEntriesGiveTheSameBits) {
  using T = TypeParam;
  const MultiHeadAttention<T> layer(this->options, 5);
  const Mask mask{.valid_lens = {{0, 1, 6, 3}, {2, 2, 2, 2}}, .causal = Causal::bottom_right};
  const Tensor<T, 3> y = layer(this->q_, this->k_, this->v_, mask);
  EXPECT_TRUE(same_bits(layer.with_weights(this->q_, this->k_, this->v_, mask).output, y));
  for (const int threads : {1, 3}) {
    eh::Context context(threads, kAnyWork);
    auto into = constant_tensor<T>(kNan<T>, 2, 4, 12);
    layer.forward_into(into, this->q_, this->k_, this->v_, mask, context);
    EXPECT_TRUE(same_bits(into, y));
  }
  MultiHeadAttention<T> in_place_layer(
      {.num_hiddens = 7, .num_heads = 1, .query_size = 7, .key_size = 3, .value_size = 9});
  const Tensor<T, 3> expected = in_place_layer(this->q_, this->k_, this->v_);
  Tensor<T, 3> x = this->q_;
  in_place_layer.forward_into(x, x, this->k_, this->v_);
  EXPECT_TRUE(same_bits(x, expected));
}

TYPED_TEST(MultiHeadAttentionTest, LazyLayersEndWithTheBitsOfEagerOnes) {
  using T = TypeParam;
  const MultiHeadAttention<T> eager(this->options, 5);
  const Tensor<T, 3> y = eager(this->q_, this->k_, this->v_);
  const auto expect = [&](auto first_call) {
    MultiHeadAttention<T> lazy(this->lazy_options, 5);
    EXPECT_TRUE(lazy.W_q.is_lazy() && lazy.W_k.is_lazy() && lazy.W_v.is_lazy());
    EXPECT_EQ(lazy.W_o.in_features(), 12);
    first_call(lazy);
    EXPECT_TRUE(same_bits(std::as_const(lazy)(this->q_, this->k_, this->v_), y));
    EXPECT_TRUE(same_bits(lazy.W_q.weight(), eager.W_q.weight()));
  };
  expect([&](auto& lazy) { EXPECT_TRUE(same_bits(lazy(this->q_, this->k_, this->v_), y)); });
  expect([&](auto& lazy) { (void)lazy.with_weights(this->q_, this->k_, this->v_); });
  expect([&](auto& lazy) { lazy.initialize(7, 3, 9); });
  expect([&](auto& lazy) {
    Tensor<T, 3> into(2, 4, 12);
    lazy.forward_into(into, this->q_, this->k_, this->v_);
  });
  for (const auto& [name, linear, in] : {std::tuple{"W_q", &eager.W_q, 7},
                                         {"W_k", &eager.W_k, 3},
                                         {"W_v", &eager.W_v, 9},
                                         {"W_o", &eager.W_o, 12}}) {
    const Linear<T> alone({.in_features = in, .out_features = 12, .bias = true}, 5, name);
    EXPECT_TRUE(same_bits(linear->weight(), alone.weight())) << name;
    EXPECT_TRUE(all_are(linear->bias(), 0)) << name;
  }
}

TYPED_TEST(MultiHeadAttentionTest, ItsSizesAreWhatTheZerosStandFor) {
  const MultiHeadAttention<TypeParam> plain({.num_hiddens = 12, .num_heads = 3}),
      shared(
          {.num_hiddens = 10, .num_heads = 4, .dropout = 0.25, .num_kv_heads = 2, .head_size = 3});
  EXPECT_EQ(plain.num_kv_heads(), 3);
  EXPECT_EQ(plain.head_size(), 4);
  EXPECT_EQ(shared.num_hiddens(), 10);
  EXPECT_EQ(shared.num_heads(), 4);
  EXPECT_EQ(shared.num_kv_heads(), 2);
  EXPECT_EQ(shared.head_size(), 3);
  EXPECT_EQ(shared.dropout().p(), 0.25);
  EXPECT_EQ(shared.W_q.out_features(), 12);
  EXPECT_EQ(shared.W_k.out_features(), 6);
  EXPECT_EQ(shared.W_v.out_features(), 6);
  EXPECT_EQ(shared.W_o.in_features(), 12);
  EXPECT_EQ(shared.W_o.out_features(), 10);
}

TYPED_TEST(MultiHeadAttentionTest, EmptyBatchesAndNoQueriesAndNoKeys) {
  using T = TypeParam;
  MultiHeadAttention<T> layer(this->options, 1);
  layer.W_o.set_bias(random_tensor<T>(1, 12));
  const auto shape = [&](Index B, Index Q, Index K) {
    const auto y = layer.with_weights(random_tensor<T>(1, B, Q, 7), random_tensor<T>(2, B, K, 3),
                                      random_tensor<T>(3, B, K, 9));
    EXPECT_EQ(TensorView(y.weights).dimensions(), (std::array<Index, 4>{B, 3, Q, K}));
    for (Index b = 0; b < B && K == 0; ++b)
      for (Index i = 0; i < Q; ++i) EXPECT_TRUE(same_bits(row(y.output, b, i), layer.W_o.bias()));
    return TensorView(y.output).dimensions();
  };
  EXPECT_EQ(shape(0, 4, 6), (std::array<Index, 3>{0, 4, 12}));
  EXPECT_EQ(shape(2, 0, 6), (std::array<Index, 3>{2, 0, 12}));
  EXPECT_EQ(shape(2, 4, 0), (std::array<Index, 3>{2, 4, 12}));
}

TYPED_TEST(MultiHeadAttentionTest, PrintsAsPyTorchDoes) {
  using T = TypeParam;
  std::ostringstream out;
  out << MultiHeadAttention<T>({.num_hiddens = 100,
                                .num_heads = 5,
                                .dropout = 0.5,
                                .query_size = 100,
                                .key_size = 100,
                                .value_size = 100});
  EXPECT_EQ(out.str(),
            "MultiHeadAttention(\n"
            "  (attention): DotProductAttention(\n"
            "    (dropout): Dropout(p=0.5, inplace=False)\n"
            "  )\n"
            "  (W_q): Linear(in_features=100, out_features=100, bias=False)\n"
            "  (W_k): Linear(in_features=100, out_features=100, bias=False)\n"
            "  (W_v): Linear(in_features=100, out_features=100, bias=False)\n"
            "  (W_o): Linear(in_features=100, out_features=100, bias=False)\n"
            ")");
  out.str("");
  out << MultiHeadAttention<T>({.num_hiddens = 10, .num_heads = 5, .dropout = 0.5, .bias = true});
  EXPECT_EQ(out.str(),
            "MultiHeadAttention(\n"
            "  (attention): DotProductAttention(\n"
            "    (dropout): Dropout(p=0.5, inplace=False)\n"
            "  )\n"
            "  (W_q): LazyLinear(in_features=0, out_features=10, bias=True)\n"
            "  (W_k): LazyLinear(in_features=0, out_features=10, bias=True)\n"
            "  (W_v): LazyLinear(in_features=0, out_features=10, bias=True)\n"
            "  (W_o): Linear(in_features=10, out_features=10, bias=True)\n"
            ")");
}

}  // namespace
