// SPDX-License-Identifier: MIT
// The members of transformer layers are public: what was replaced by something of another size is
// refused at the door. And whatever is refused has written nothing, activations and gradients included.
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <eigenheads/nn/transformer_decoder.hpp>
#include <eigenheads/nn/transformer_encoder.hpp>
#include <eigenheads/nn/transformer_layer.hpp>

#include "support.hpp"
#include "transformers.hpp"

namespace {

using namespace support;
using eh::DecoderMask, eh::DropoutSeed, eh::FeedForward, eh::LayerNorm, eh::Linear, eh::Mask;
using eh::Sequences, eh::TransformerDecoder, eh::TransformerDecoderLayer;
using eh::TransformerEncoder, eh::TransformerEncoderLayer;

template <class T>
class TransformerRefusals : public testing::Test {};
TYPED_TEST_SUITE(TransformerRefusals, Scalars, ScalarNames);

template <class Module>
[[nodiscard]] std::vector<std::string> names_of(const Module& module) {
  std::vector<std::string> names;
  module.for_each_parameter([&](const auto& parameter) { names.push_back(parameter.name()); });
  return names;
}

// A norm of another size read and wrote beyond the rows.
TYPED_TEST(TransformerRefusals, APartOfAnotherSizeIsRefusedAndNothingWritten) {
  using T = TypeParam;
  const auto x = random_tensor<T>(1, 2, 5, 24), memory = random_tensor<T>(2, 2, 4, 15);
  for (const bool norm_first : {false, true})
    for (const Index size : {0, 8, 64}) {
      auto y = constant_tensor(T(3), 2, 5, 24);
      const std::string is = " is " + std::to_string(size) + "; expected 24";

      TransformerEncoderLayer<T> layer(options_of(norm_first));
      layer.norm2 = LayerNorm<T>({.size = size});
      typename TransformerEncoderLayer<T>::Activations saved;
      EXPECT_EQ(refusal([&] { return layer.forward_into(y, x), 0; }),
                "eigenheads: TransformerEncoderLayer: norm2.size" + is);
      EXPECT_EQ(refusal([&] { return layer.forward(x, {}, saved); }),
                "eigenheads: TransformerEncoderLayer: norm2.size" + is);

      TransformerDecoderLayer<T> decoder(options_of(norm_first));
      decoder.feed_forward = FeedForward<T>({.size = size, .hidden_size = 3});
      EXPECT_EQ(refusal([&] { return decoder.forward_into(y, x, memory), 0; }),
                "eigenheads: TransformerDecoderLayer: feed_forward.size" + is);

      TransformerEncoder<T> encoder(
          {.layer = options_of(norm_first), .num_layers = 2, .final_norm = true});
      encoder.norm = LayerNorm<T>({.size = size});
      typename TransformerEncoder<T>::Activations encoder_saved;
      EXPECT_EQ(refusal([&] { return encoder.forward_into(y, x), 0; }),
                "eigenheads: TransformerEncoder: norm.size" + is);
      EXPECT_EQ(refusal([&] { return encoder.forward(x, {}, encoder_saved); }),
                "eigenheads: TransformerEncoder: norm.size" + is);
      EXPECT_TRUE(all_are(y, T(3)));
    }
}

TYPED_TEST(TransformerRefusals, AProjectionOrAttentionOfAnotherSizeIsRefused) {
  using T = TypeParam;
  const auto x = random_tensor<T>(1, 2, 5, 24);
  TransformerEncoderLayer<T> layer(options_of(false));
  layer.feed_forward.down = Linear<T>({.in_features = 40, .out_features = 64});
  EXPECT_EQ(refusal([&] { return layer(x); }),
            "eigenheads: FeedForward: down.out_features is 64; expected 24");
  layer = TransformerEncoderLayer<T>(options_of(false));
  layer.self_attention = eh::MultiHeadAttention<T>(
      {.num_hiddens = 64, .num_heads = 2, .query_size = 24, .key_size = 24, .value_size = 24});
  typename TransformerEncoderLayer<T>::Activations saved;
  EXPECT_EQ(refusal([&] { return layer.forward(x, {}, saved); }),
            "eigenheads: TransformerEncoderLayer: self_attention.num_hiddens is 64; expected 24");
}

// One that only a later layer refuses, too, though the layers before it have run.
TYPED_TEST(TransformerRefusals, WhatALaterLayerRefusesLeavesTheOutputAsItWas) {
  using T = TypeParam;
  const auto x = random_tensor<T>(1, 2, 5, 24);
  auto y = constant_tensor(T(3), 2, 5, 24);
  TransformerEncoder<T> encoder({.layer = options_of(false), .num_layers = 2});
  encoder.layers[1].self_attention.set_gates(constant_tensor(T(1), 3, 3));  // of 3 sequences
  EXPECT_NE(refusal([&] { return encoder.forward_into(y, x), 0; }), "not refused");
  EXPECT_TRUE(all_are(y, T(3)));
  auto in_place = x;
  EXPECT_NE(refusal([&] { return encoder.forward_into(in_place, in_place), 0; }), "not refused");
  EXPECT_TRUE(same_bits(in_place, x));

  auto other = options_of(false);
  other.num_hiddens = 30;
  encoder.layers[1] = TransformerEncoderLayer<T>(other);
  EXPECT_EQ(refusal([&] { return encoder.forward_into(y, x), 0; }),
            "eigenheads: TransformerEncoder: a layer's num_hiddens is 30; expected 24");
  encoder.layers.clear();
  EXPECT_EQ(refusal([&] { return encoder(x); }),
            "eigenheads: TransformerEncoder: there are 0 layers; expected 1 or more");
  typename TransformerEncoder<T>::Activations saved;
  EXPECT_EQ(refusal([&] { return encoder.forward(x, {}, saved); }),
            "eigenheads: TransformerEncoder: there are 0 layers; expected 1 or more");
  EXPECT_TRUE(all_are(y, T(3)));
}

TYPED_TEST(TransformerRefusals, AForwardPassThatIsRefusedLeavesTheActivationsAsTheyWere) {
  using T = TypeParam;
  const auto x = random_tensor<T>(1, 2, 5, 24), memory = random_tensor<T>(2, 2, 4, 15);
  const Mask too_long{.valid_lens = {5, 6}};
  const auto other = random_tensor<T>(3, 2, 3, 24);
  for (const bool norm_first : {false, true}) {
    const TransformerEncoder<T> encoder(
        {.layer = options_of(norm_first, 0.2), .num_layers = 2, .final_norm = true});
    typename TransformerEncoder<T>::Activations saved;
    (void)encoder.forward(x, {}, saved, {.seed = DropoutSeed{1}});
    const auto expected = values_of<T>(encoder.backward(x, saved));
    EXPECT_NE(
        refusal([&] { return encoder.forward(other, too_long, saved, {.seed = DropoutSeed{2}}); }),
        "not refused");
    EXPECT_NE(refusal([&] { return encoder.forward(other, {}, saved); }), "not refused");
    EXPECT_EQ(values_of<T>(encoder.backward(x, saved)), expected);

    const auto expect_kept = [&](const auto& decoder) {
      typename std::remove_cvref_t<decltype(decoder)>::Activations kept;
      (void)decoder.forward(x, memory, {}, kept, {.seed = DropoutSeed{1}});
      const auto gradients = values_of<T>(decoder.backward(x, kept));
      for (const DecoderMask& masks : {DecoderMask{.self = too_long}, {.memory = too_long}}) {
        EXPECT_NE(refusal([&] {
                    return decoder.forward(other, memory, masks, kept, {.seed = DropoutSeed{2}});
                  }),
                  "not refused");
        EXPECT_EQ(values_of<T>(decoder.backward(x, kept)), gradients);
      }
      EXPECT_NE(refusal([&] { return decoder.forward(other, memory, {}, kept); }), "not refused");
      const TensorView<T, 2> rows(x.data(), {10, 24}), memories(memory.data(), {8, 15});
      EXPECT_NE(refusal([&] {
                  return decoder.forward(rows, Sequences{4, 6}, memories, Sequences{3, 5},
                                         {.memory = {.key_lens = {3, 6}}}, kept,
                                         {.seed = DropoutSeed{2}});
                }),
                "not refused");
      EXPECT_EQ(values_of<T>(decoder.backward(x, kept)), gradients);
    };
    expect_kept(TransformerDecoderLayer<T>(options_of(norm_first, 0.2)));
    expect_kept(TransformerDecoder<T>({.layer = options_of(norm_first, 0.2), .num_layers = 2}));
  }
}

// What a later layer alone refuses, too: it was reached when those before it had been saved.
TYPED_TEST(TransformerRefusals, WhatALaterLayerRefusesLeavesTheActivationsAsTheyWere) {
  using T = TypeParam;
  const auto x = random_tensor<T>(1, 2, 5, 24), memory = random_tensor<T>(2, 2, 4, 15);
  const auto other = random_tensor<T>(3, 2, 3, 24);
  const auto expect_kept = [&](auto& stack, auto& attention, const auto& forward) {
    typename std::remove_cvref_t<decltype(stack)>::Activations saved;
    forward(x, saved);
    const auto expected = values_of<T>(stack.backward(x, saved));
    attention.set_gates(constant_tensor(T(1), 3, 3));  // of 3 sequences
    EXPECT_NE(refusal([&] { return forward(other, saved), 0; }), "not refused");
    attention.clear_gates();
    EXPECT_EQ(values_of<T>(stack.backward(x, saved)), expected);
  };
  TransformerEncoder<T> encoder({.layer = options_of(false), .num_layers = 2});
  expect_kept(encoder, encoder.layers[1].self_attention,
              [&](const auto& from, auto& saved) { (void)encoder.forward(from, {}, saved); });
  TransformerDecoder<T> decoder({.layer = options_of(true), .num_layers = 2});
  expect_kept(decoder, decoder.layers[1].cross_attention, [&](const auto& from, auto& saved) {
    (void)decoder.forward(from, memory, {}, saved);
  });
}

TYPED_TEST(TransformerRefusals, GradientsThatCannotBeAddedToAreRefusedAndNothingIsAdded) {
  using T = TypeParam;
  const auto x = random_tensor<T>(1, 2, 5, 24), memory = random_tensor<T>(2, 2, 4, 15);
  const TransformerEncoder<T> encoder(
      {.layer = options_of(false), .num_layers = 2, .final_norm = true});
  typename TransformerEncoder<T>::Activations saved;
  (void)encoder.forward(x, {}, saved);
  auto gradients = encoder.backward(x, saved);
  gradients.layers[0].norm1.weight = constant_tensor(T(0), 3);  // what is reached last
  auto before = values_of<T>(gradients);
  EXPECT_EQ(refusal([&] { return encoder.backward_into(gradients, x, saved, true), 0; }),
            "eigenheads: gradients: weight has shape [3]; expected [size] = [24]");
  EXPECT_EQ(values_of<T>(gradients), before);
  gradients.layers.pop_back();
  EXPECT_EQ(refusal([&] { return encoder.backward_into(gradients, x, saved, true), 0; }),
            "eigenheads: gradients: there are some of 1 layers; expected 2");
  gradients.layers.resize(2);
  gradients.norm.reset();
  EXPECT_EQ(
      refusal([&] { return encoder.backward_into(gradients, x, saved, true), 0; }),
      "eigenheads: gradients: there are none of a norm; expected those of the last one to add to");

  const TransformerDecoderLayer<T> decoder(options_of(false));
  typename TransformerDecoderLayer<T>::Activations decoder_saved;
  (void)decoder.forward(x, memory, {}, decoder_saved);
  auto of_decoder = decoder.backward(x, decoder_saved);
  of_decoder.self_attention.W_o.bias = constant_tensor(T(0), 3);
  before = values_of<T>(of_decoder);
  EXPECT_EQ(refusal([&] { return decoder.backward_into(of_decoder, x, decoder_saved, true), 0; }),
            "eigenheads: gradients: bias has shape [3]; expected [out_features] = [24]");
  EXPECT_EQ(values_of<T>(of_decoder), before);
}

// Those of parameters that a module does not have would be taken for its own by position.
TYPED_TEST(TransformerRefusals, GradientsOfAnotherModuleBecomeThoseOfThisOne) {
  using T = TypeParam;
  const auto x = random_tensor<T>(1, 2, 5, 24);
  auto gated_options = options_of(false);
  gated_options.gated = true;
  const TransformerEncoder<T> gated({.layer = gated_options, .num_layers = 2, .final_norm = true});
  typename TransformerEncoder<T>::Activations saved;
  (void)gated.forward(x, {}, saved);
  auto gradients = gated.backward(x, saved);
  TransformerEncoder<T> plain({.layer = options_of(false), .num_layers = 1});
  (void)plain.forward(x, {}, saved);
  plain.backward_into(gradients, x, saved);
  EXPECT_EQ(names_of(gradients), names_of(plain));
  EXPECT_EQ(values_of<T>(gradients), values_of<T>(plain.backward(x, saved)));
  // An encoder that got a norm after the forward pass has kept nothing for it.
  plain.norm = LayerNorm<T>({.size = 24});
  EXPECT_EQ(refusal<std::logic_error>([&] { return plain.backward(x, saved); }),
            "eigenheads: TransformerEncoder: the activations are those of other parts");
}

TYPED_TEST(TransformerRefusals, ActivationsThatWereMovedFromAreRefused) {
  using T = TypeParam;
  const auto x = random_tensor<T>(1, 2, 5, 24);
  const TransformerEncoderLayer<T> layer(options_of(true));
  typename TransformerEncoderLayer<T>::Activations saved;
  (void)layer.forward(x, {}, saved);
  const auto expected = values_of<T>(layer.backward(x, saved));
  const auto moved = std::move(saved);
  EXPECT_NE(refusal<std::logic_error>([&] { return layer.backward(x, saved); }),  // NOLINT
            "not refused");
  EXPECT_EQ(values_of<T>(layer.backward(x, moved)), expected);
}

}  // namespace
