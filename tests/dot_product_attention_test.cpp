// SPDX-License-Identifier: MIT
// The chapter's DotProductAttention is attention with one head. (It is in attention.hpp.)
#include <sstream>
#include <string>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/dot_product_attention.hpp>

#include "support.hpp"
#include "textbook.hpp"

namespace {

using namespace support;
using eh::Causal, eh::scaled_dot_product_attention;

template <class T>
class DotProductAttentionTest : public testing::Test {
 protected:
  Tensor<T, 3> q_ = random_tensor<T>(1, 2, 3, 5), k_ = random_tensor<T>(2, 2, 6, 5),
               v_ = random_tensor<T>(3, 2, 6, 4);
  eh::DotProductAttention<T> attention_{{.dropout = 0.5}};
};
TYPED_TEST_SUITE(DotProductAttentionTest, Scalars, ScalarNames);

TYPED_TEST(DotProductAttentionTest, ItIsAttentionWithOneHead) {
  using T = TypeParam;
  const auto one_head = [](const Tensor<T, 3>& x) {
    return TensorView<T, 4>(x.data(), {x.dimension(0), 1, x.dimension(1), x.dimension(2)});
  };
  const auto q = one_head(this->q_), k = one_head(this->k_), v = one_head(this->v_);
  for (const PairMask& mask : example_masks(2, 3, 6, 1)) {
    if (mask.causal != Causal::none) continue;
    const auto lens = mask.mask().valid_lens;
    const Tensor<T, 3> output = this->attention_(this->q_, this->k_, this->v_, lens);
    const auto core = scaled_dot_product_attention(q, k, v, {.valid_lens = lens}).output;
    EXPECT_TRUE(same_bits(TensorView<T, 4>(output.data(), {2, 1, 3, 4}), core));

    const auto with_weights = this->attention_.with_weights(this->q_, this->k_, this->v_, lens);
    EXPECT_TRUE(same_bits(with_weights.output, output));
    const auto exact = textbook<T>(q, k, v, mask, 1 / std::sqrt(Wide<T>(5)));
    EXPECT_TRUE(within(TensorView<T, 4>(with_weights.weights.data(), {2, 1, 3, 6}), exact.weights,
                       exact.weights_bound));
  }
  eh::Context context(3, kAnyWork);
  EXPECT_TRUE(same_bits(this->attention_(this->q_, this->k_, this->v_, {3, 2}, context),
                        this->attention_(this->q_, this->k_, this->v_, {3, 2})));
}

TYPED_TEST(DotProductAttentionTest, ALearntSinkIsThatOfAttentionWithOneHead) {
  using T = TypeParam;
  const auto one_head = [](const Tensor<T, 3>& x) {
    return TensorView<T, 4>(x.data(), {x.dimension(0), 1, x.dimension(1), x.dimension(2)});
  };
  const auto three = [](const Tensor<T, 4>& x) {
    return TensorView<T, 3>(x.data(), {x.dimension(0), x.dimension(2), x.dimension(3)});
  };
  const auto q = one_head(this->q_), k = one_head(this->k_), v = one_head(this->v_);
  eh::DotProductAttention<T> attention({.sink_logits = true});
  std::vector<std::string> names;
  attention.for_each_parameter(
      [&](const auto& parameter) {
        EXPECT_EQ(parameter.get(0), 0);
        parameter.set(0, T(0.75));
        names.push_back(parameter.name());
      },
      "core.");
  EXPECT_EQ(names, std::vector<std::string>{"core.sink_logits"});
  const eh::AttentionOptions<T> options{.weights = true, .sink_logits = attention.sink_logits};
  const eh::Mask mask{.valid_lens = {4, 6}};
  const auto core = scaled_dot_product_attention(q, k, v, mask, options);
  const auto with_weights = attention.with_weights(this->q_, this->k_, this->v_, mask);
  EXPECT_TRUE(same_bits(attention(this->q_, this->k_, this->v_, mask), three(core.output)));
  EXPECT_TRUE(same_bits(with_weights.output, three(core.output)));
  EXPECT_TRUE(same_bits(with_weights.weights, three(core.weights)));

  typename eh::DotProductAttention<T>::Activations saved;
  EXPECT_TRUE(
      same_bits(attention.forward(this->q_, this->k_, this->v_, mask, saved), three(core.output)));
  attention.sink_logits(0) = -3;  // what was saved stays
  const auto dy = random_tensor<T>(4, 2, 3, 4);
  const auto gradients = attention.backward(dy, saved);
  const Tensor<T, 1> sink = constant_tensor<T>(T(0.75), 1);
  const auto expected = eh::scaled_dot_product_attention_backward(one_head(dy), q, k, v, core, mask,
                                                                  {.sink_logits = sink});
  EXPECT_TRUE(same_bits(gradients.queries, three(expected.queries)));
  EXPECT_TRUE(same_bits(gradients.sink_logits, expected.sink_logits));
  names.clear();
  gradients.for_each_parameter([&](const auto& parameter) { names.push_back(parameter.name()); });
  EXPECT_EQ(names, std::vector<std::string>{"sink_logits"});
  EXPECT_EQ(this->attention_.sink_logits.size(), 0);
}

TYPED_TEST(DotProductAttentionTest, ACopyIsAllOfIt) {
  using T = TypeParam;
  eh::DotProductAttention<T> whole({.dropout = 0.25, .sink_logits = true});
  whole.sink_logits(0) = T(0.5);
  const auto expected = whole(this->q_, this->k_, this->v_);
  const eh::DotProductAttention<T> made = whole;
  eh::DotProductAttention<T> assigned, moved;
  assigned = made;
  moved = eh::DotProductAttention<T>(made);
  whole.sink_logits(0) = T(9);
  for (const eh::DotProductAttention<T>& copy : {made, assigned, moved}) {
    EXPECT_EQ(copy.dropout().p(), 0.25);
    EXPECT_TRUE(same_bits(copy(this->q_, this->k_, this->v_), expected));
  }
}

TYPED_TEST(DotProductAttentionTest, WhatDoesNotFitIsRefused) {
  const auto &q = this->q_, &k = this->k_, &v = this->v_;
  const auto& attention = this->attention_;
  EXPECT_EQ(refusal([&] { return attention(q, v, k); }),
            "eigenheads: keys has shape [2, 6, 4]; expected [B, K, D] = [2, *, 5]");
  EXPECT_EQ(refusal([&] { return attention(q, k, q); }),
            "eigenheads: values has shape [2, 3, 5]; expected [B, K, V] = [2, 6, *]");
  EXPECT_EQ(refusal([&] { return attention.with_weights(q, k, v, {3, 7}); }),
            "eigenheads: valid_lens[1] is 7; expected 0 to the number of keys, 6");
  EXPECT_EQ(refusal([] { return eh::DotProductAttention<TypeParam>({.dropout = 1}); }),
            "eigenheads: dropout is 1; expected 0 <= dropout < 1");
}

TYPED_TEST(DotProductAttentionTest, PrintsAsPyTorchDoes) {
  EXPECT_EQ(this->attention_.dropout().p(), 0.5);
  std::ostringstream out;
  out << this->attention_;
  EXPECT_EQ(out.str(), "DotProductAttention(\n  (dropout): Dropout(p=0.5, inplace=False)\n)");
}

}  // namespace
