// SPDX-License-Identifier: MIT
// What the layer refuses: at the door, with a sentence, and before anything is written.
#include <array>
#include <stdexcept>
#include <string>

#include <eigenheads/multi_head_attention.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::Linear, eh::Mask, eh::MultiHeadAttention, eh::MultiHeadAttentionOptions, eh::TensorSpan;

template <class T>
class MultiHeadAttentionRefusals : public testing::Test {
 protected:
  Tensor<T, 3> q_ = random_tensor<T>(1, 2, 4, 7), k_ = random_tensor<T>(2, 2, 6, 3),
               v_ = random_tensor<T>(3, 2, 6, 9);
  static constexpr MultiHeadAttentionOptions lazy_options{.num_hiddens = 12, .num_heads = 3};
  static constexpr MultiHeadAttentionOptions options{
      .num_hiddens = 12, .num_heads = 3, .query_size = 7, .key_size = 3, .value_size = 9};
  static std::string refused(const MultiHeadAttentionOptions& bad) {
    return refusal([&] { return MultiHeadAttention<T>(bad); });
  }
  static testing::AssertionResult is_lazy(const MultiHeadAttention<T>& layer) {
    for (const auto* linear : {&layer.W_q, &layer.W_k, &layer.W_v})
      if (!linear->is_lazy()) return testing::AssertionFailure() << *linear;
    return testing::AssertionSuccess();
  }
};
TYPED_TEST_SUITE(MultiHeadAttentionRefusals, Scalars, ScalarNames);

TYPED_TEST(MultiHeadAttentionRefusals, AConstLazyLayerCannotInitializeItself) {
  using T = TypeParam;
  const MultiHeadAttention<T> lazy(this->lazy_options);
  auto into = constant_tensor<T>(7, 2, 4, 12);
  const auto expected = [](const std::string& name) {
    return "eigenheads: MultiHeadAttention: the input size of " + name +
           " is not known yet; call initialize(query_size, key_size, value_size), or call the "
           "layer once while it is not const";
  };
  const auto &q = this->q_, &k = this->k_, &v = this->v_;
  using Error = std::logic_error;
  EXPECT_EQ(refusal<Error>([&] { return lazy(q, k, v); }), expected("W_q"));
  EXPECT_EQ(refusal<Error>([&] { return lazy.with_weights(q, k, v); }), expected("W_q"));
  EXPECT_EQ(refusal<Error>([&] { return lazy.forward_into(into, q, k, v), 0; }), expected("W_q"));
  EXPECT_TRUE(all_are(into, 7));
  auto partly = this->lazy_options;
  partly.query_size = 7, partly.key_size = 3;
  const MultiHeadAttention<T> partly_lazy(partly);
  EXPECT_EQ(refusal<Error>([&] { return partly_lazy(q, k, v); }), expected("W_v"));
}

TYPED_TEST(MultiHeadAttentionRefusals, OptionsThatCannotBeAreRefused) {
  const std::string start = "eigenheads: MultiHeadAttention: ";
  EXPECT_EQ(this->refused({}), start + "num_hiddens is 0; expected 1 or more");
  EXPECT_EQ(this->refused({.num_hiddens = 8}), start + "num_heads is 0; expected 1 or more");
  EXPECT_EQ(this->refused({.num_hiddens = 8, .num_heads = -2}),
            start + "num_heads is -2; expected 1 or more");
  EXPECT_EQ(this->refused({.num_hiddens = 100, .num_heads = 8}),
            start + "num_hiddens is 100; expected a multiple of num_heads = 8, or a head_size");
  EXPECT_EQ(this->refused({.num_hiddens = 12, .num_heads = 12, .num_kv_heads = 5}),
            start + "num_kv_heads is 5; expected a divisor of num_heads = 12");
  EXPECT_EQ(this->refused({.num_hiddens = 4, .num_heads = 4, .num_kv_heads = 8}),
            start + "num_kv_heads is 8; expected a divisor of num_heads = 4");
  EXPECT_EQ(this->refused({.num_hiddens = 4, .num_heads = 4, .num_kv_heads = -1}),
            start + "num_kv_heads is -1; expected 0 or more");
  EXPECT_EQ(this->refused({.num_hiddens = 4, .num_heads = 4, .head_size = -1}),
            start + "head_size is -1; expected 0 or more");
  EXPECT_EQ(this->refused({.num_hiddens = 4, .num_heads = 4, .query_size = -1}),
            start + "query_size is -1; expected 0 or more");
  EXPECT_EQ(this->refused({.num_hiddens = 4, .num_heads = 4, .key_size = -1}),
            start + "key_size is -1; expected 0 or more");
  EXPECT_EQ(this->refused({.num_hiddens = 4, .num_heads = 4, .value_size = -1}),
            start + "value_size is -1; expected 0 or more");
  EXPECT_EQ(this->refused({.num_hiddens = 4, .num_heads = 4, .dropout = 1}),
            "eigenheads: dropout is 1; expected 0 <= dropout < 1");
  const Index big = Index{1} << 40;
  EXPECT_NE(this->refused({.num_hiddens = 4, .num_heads = big, .head_size = big}), "not refused");
  EXPECT_NE(this->refused({.num_hiddens = big, .num_heads = 1, .head_size = big}), "not refused");
  EXPECT_EQ(this->refused({.num_hiddens = 100, .num_heads = 8, .head_size = 3}), "not refused");
}

TYPED_TEST(MultiHeadAttentionRefusals, BadCallsAreRefusedByEveryEntryAndNothingIsWritten) {
  using T = TypeParam;
  using Shape = std::array<Index, 3>;
  const MultiHeadAttention<T> layer(this->options);
  const auto memory = random_tensor<T>(1, 200);
  const auto expect = [&](const Shape& q, const Shape& k, const Shape& v, const Mask& mask,
                          const std::string& expected) {
    const TensorView<T, 3> queries(memory.data(), q), keys(memory.data(), k),
        values(memory.data(), v);
    auto into = constant_tensor<T>(7, 2, 4, 12);
    const std::string text = "eigenheads: " + expected;
    EXPECT_EQ(refusal([&] { return layer(queries, keys, values, mask); }), text);
    EXPECT_EQ(refusal([&] { return layer.with_weights(queries, keys, values, mask); }), text);
    EXPECT_EQ(refusal([&] { return layer.forward_into(into, queries, keys, values, mask), 0; }),
              text);
    EXPECT_TRUE(all_are(into, 7));
  };
  const Shape q{2, 4, 7}, k{2, 6, 3}, v{2, 6, 9};
  expect({2, 4, 8}, k, v, {},
         "queries has shape [2, 4, 8]; expected [B, Q, query_size] = [*, *, 7]");
  expect(q, {3, 6, 3}, v, {}, "keys has shape [3, 6, 3]; expected [B, K, key_size] = [2, *, 3]");
  expect(q, {2, 6, 4}, v, {}, "keys has shape [2, 6, 4]; expected [B, K, key_size] = [2, *, 3]");
  expect(q, k, {2, 5, 9}, {},
         "values has shape [2, 5, 9]; expected [B, K, value_size] = [2, 6, 9]");
  expect(q, k, {2, 6, 8}, {},
         "values has shape [2, 6, 8]; expected [B, K, value_size] = [2, 6, 9]");
  expect(q, k, v, {.valid_lens = {3}},
         "valid_lens has shape [1]; expected [B] = [2] or [B, Q] = [2, 4]");
  expect(q, k, v, {.valid_lens = {3, 7}},
         "valid_lens[1] is 7; expected 0 to the number of keys, 6");
  expect(q, k, v, {.valid_lens = {{3, 3, 3, 3}, {3, 3, -1, 3}}},
         "valid_lens[1, 2] is -1; expected 0 to the number of keys, 6");
  expect(q, k, v, {.window = {-2, 0}},
         "window is {-2, 0}; expected -1 (unlimited) or more on either side");
  expect(q, k, v, {.window = {1, 1}},
         "a window over 4 queries and 6 keys needs causal top_left or bottom_right, or "
         "first_positions, to say which key stands beside which query");
  EXPECT_EQ(refusal([&] { return layer(TensorView<T, 3>(nullptr, q), this->k_, this->v_); }),
            "eigenheads: queries has shape [2, 4, 7] but its data pointer is null");
}

TYPED_TEST(MultiHeadAttentionRefusals, AnOutputThatDoesNotFitOrOverlapsIsRefused) {
  using T = TypeParam;
  const MultiHeadAttention<T> layer(
      {.num_hiddens = 6, .num_heads = 3, .query_size = 6, .key_size = 6, .value_size = 6});
  auto memory = random_tensor<T>(1, 300);
  const auto before = memory;
  const auto at = [&](Index offset) { return TensorSpan<T, 3>(memory.data() + offset, {2, 4, 6}); };
  const auto refused = [&](TensorSpan<T, 3> y, Index q, Index k, Index v) {
    return refusal([&] { return layer.forward_into(y, at(q), at(k), at(v)), 0; });
  };
  EXPECT_EQ(refused({memory.data(), {2, 3, 6}}, 48, 96, 144),
            "eigenheads: output has shape [2, 3, 6]; expected [B, Q, num_hiddens] = [2, 4, 6]");
  EXPECT_EQ(refused({nullptr, {2, 4, 6}}, 48, 96, 144),
            "eigenheads: output has shape [2, 4, 6] but its data pointer is null");
  EXPECT_EQ(refused(at(1), 0, 96, 144), "eigenheads: output overlaps queries in memory");
  EXPECT_EQ(refused(at(0), 48, 47, 144), "eigenheads: output overlaps keys in memory");
  EXPECT_EQ(refused(at(0), 0, 0, 144), "eigenheads: output overlaps keys in memory");
  EXPECT_EQ(refused(at(144), 48, 96, 144), "eigenheads: output overlaps values in memory");
  EXPECT_TRUE(same_bits(memory, before));
  EXPECT_EQ(refused(at(0), 48, 96, 96), "not refused");
}

TYPED_TEST(MultiHeadAttentionRefusals, ProjectionsPutInTheirPlaceMustFit) {
  using T = TypeParam;
  const auto refused = [&](Linear<T> MultiHeadAttention<T>::*projection,
                           const eh::LinearOptions& linear) {
    MultiHeadAttention<T> layer(this->options);
    layer.*projection = Linear<T>(linear);
    const std::string text = refusal([&] { return layer(this->q_, this->k_, this->v_); });
    auto into = constant_tensor<T>(7, 2, 4, 12);
    EXPECT_EQ(refusal([&] { return layer.forward_into(into, this->q_, this->k_, this->v_), 0; }),
              text);
    EXPECT_TRUE(all_are(into, 7));
    return text;
  };
  using Layer = MultiHeadAttention<T>;
  const std::string start = "eigenheads: MultiHeadAttention: ";
  EXPECT_EQ(refused(&Layer::W_q, {.in_features = 7, .out_features = 13}),
            start + "W_q.out_features is 13; expected 12");
  EXPECT_EQ(refused(&Layer::W_k, {.in_features = 3, .out_features = 4}),
            start + "W_k.out_features is 4; expected 12");
  EXPECT_EQ(refused(&Layer::W_v, {.in_features = 9, .out_features = 24}),
            start + "W_v.out_features is 24; expected 12");
  EXPECT_EQ(refused(&Layer::W_o, {.in_features = 12, .out_features = 7}),
            start + "W_o.out_features is 7; expected 12");
}

TYPED_TEST(MultiHeadAttentionRefusals, InitializeGivesAllSizesOrNone) {
  using T = TypeParam;
  MultiHeadAttention<T> lazy(this->lazy_options);
  EXPECT_NE(refusal([&] { return lazy.initialize(7, 0, 9), 0; }), "not refused");
  EXPECT_TRUE(this->is_lazy(lazy));
  lazy.initialize(7, 3, 9);
  lazy.initialize(7, 3, 9);
  EXPECT_EQ(refusal([&] { return lazy.initialize(7, 4, 9), 0; }),
            "eigenheads: MultiHeadAttention: key_size is 4; expected 3");
}

TYPED_TEST(MultiHeadAttentionRefusals, AnOutputProjectionOfAnotherInputSizeIsRefusedByItsName) {
  using T = TypeParam;
  MultiHeadAttention<T> layer(this->options);
  layer.W_o = Linear<T>({.in_features = 11, .out_features = 12});
  EXPECT_EQ(refusal([&] { return layer(this->q_, this->k_, this->v_); }),
            "eigenheads: MultiHeadAttention: W_o.in_features is 11; expected 12");
}

// A step of training that has no seed, or a score function without a derivative, padded or packed.
TYPED_TEST(MultiHeadAttentionRefusals, ARefusedFirstStepLeavesALazyLayerLazy) {
  using T = TypeParam;
  auto dropping = this->lazy_options;
  dropping.dropout = 0.5;
  MultiHeadAttention<T> lazy(dropping, 5);
  typename MultiHeadAttention<T>::Activations saved;
  EXPECT_EQ(
      refusal([&] { return lazy.forward(this->q_, this->k_, this->v_, {}, saved); }),
      "eigenheads: MultiHeadAttention: dropout is 0.5; expected a DropoutSeed, {.seed = ...}, "
      "after the activations");
  const TensorView<T, 2> q(this->q_.data(), {8, 7}), k(this->k_.data(), {12, 3});
  const eh::Sequences queries{5, 3}, keys{6, 6};
  EXPECT_NE(refusal([&] { return lazy.forward(q, queries, {}, saved); }), "not refused");
  EXPECT_NE(refusal([&] { return lazy.forward(q, queries, k, k, keys, {}, saved); }),
            "not refused");
  EXPECT_TRUE(this->is_lazy(lazy));
  EXPECT_FALSE(saved.is_saved());
}

// What is refused was never there: the next call may have other sizes.
TYPED_TEST(MultiHeadAttentionRefusals, ARefusedFirstCallLeavesALazyLayerLazy) {
  using T = TypeParam;
  MultiHeadAttention<T> lazy(this->lazy_options, 5);
  const auto other_batch = random_tensor<T>(1, 3, 6, 8), no_features = random_tensor<T>(1, 2, 6, 0),
             five_keys = random_tensor<T>(1, 2, 5, 8);
  const TensorView<T, 3> null(nullptr, {2, 6, 8});
  const auto expect_refused = [&](TensorView<T, 3> k, TensorView<T, 3> v, const Mask& mask) {
    EXPECT_NE(refusal([&] { return lazy(this->q_, k, v, mask); }), "not refused");
    EXPECT_NE(refusal([&] { return lazy.with_weights(this->q_, k, v, mask); }), "not refused");
    Tensor<T, 3> into(2, 4, 12);
    EXPECT_NE(refusal([&] { return lazy.forward_into(into, this->q_, k, v, mask), 0; }),
              "not refused");
    EXPECT_TRUE(this->is_lazy(lazy));
    lazy = MultiHeadAttention<T>(this->lazy_options, 5);
  };
  expect_refused(other_batch, this->v_, {});
  expect_refused(this->k_, other_batch, {});
  expect_refused(this->k_, five_keys, {});
  expect_refused(this->k_, no_features, {});
  expect_refused(this->k_, null, {});
  expect_refused(this->k_, this->v_, {.valid_lens = {3, 7}});
  expect_refused(this->k_, this->v_, {.window = {1, 1}});
  Tensor<T, 3> too_small(2, 4, 11);
  EXPECT_NE(refusal([&] { return lazy.forward_into(too_small, this->q_, this->k_, this->v_), 0; }),
            "not refused");
  EXPECT_TRUE(this->is_lazy(lazy));
}

// Else the others would be drawn at random, without a word.
TYPED_TEST(MultiHeadAttentionRefusals, ALazyLayerOfWhichSomeWeightsWereSetIsNotCalled) {
  using T = TypeParam;
  const auto &q = this->q_, &k = this->k_, &v = this->v_;
  const std::array sizes{Index{7}, Index{3}, Index{9}};
  for (std::size_t set = 0; set < 4; ++set) {
    MultiHeadAttention<T> layer(this->lazy_options);
    const std::array parts{&layer.W_q, &layer.W_k, &layer.W_v, &layer.W_o};
    const std::array names{"W_q", "W_k", "W_v", "W_o"};
    parts[set]->set_weight(random_tensor<T>(1, 12, set == 3 ? 12 : sizes[set]));
    const std::string expected =
        std::string("eigenheads: MultiHeadAttention: ") + names[set] + " was given a weight, and " +
        names[set == 0 ? 1 : 0] +
        " has none; set that too, or call initialize(query_size, key_size, value_size) before, to "
        "keep weights that are drawn";
    auto into = constant_tensor<T>(7, 2, 4, 12);
    typename MultiHeadAttention<T>::Activations saved;
    using Error = std::logic_error;
    EXPECT_EQ(refusal<Error>([&] { return layer(q, k, v); }), expected);
    EXPECT_EQ(refusal<Error>([&] { return layer.with_weights(q, k, v); }), expected);
    EXPECT_EQ(refusal<Error>([&] { return layer.forward_into(into, q, k, v), 0; }), expected);
    EXPECT_EQ(refusal<Error>([&] { return layer.forward(q, k, v, {}, saved); }), expected);
    EXPECT_TRUE(all_are(into, 7));
    EXPECT_FALSE(saved.is_saved());
    layer.initialize(7, 3, 9);
    EXPECT_EQ(layer(q, k, v).size(), 2 * 4 * 12);
  }
}

}  // namespace
