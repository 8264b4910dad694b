// SPDX-License-Identifier: MIT
// README's "Coming from PyTorch, d2l, Keras, Hugging Face": each of its rows against what these
// libraries computed (tests/golden/make_peers.py).
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include <eigenheads/eigenheads.hpp>
#include <eigenheads/io/safetensors.hpp>
#include <eigenheads/nn/activation.hpp>
#include <eigenheads/nn/layer_norm.hpp>
#include <eigenheads/nn/left_padding.hpp>
#include <eigenheads/nn/parameters.hpp>

#include "support.hpp"

namespace {

using namespace support;

class Peers : public testing::Test {
 protected:
  [[nodiscard]] static const std::string& text(const std::string& name) {
    return file().metadata().at(name);
  }
  template <int Rank>
  [[nodiscard]] static Tensor<double, Rank> tensor(const std::string& name) {
    if (file().type(name) == eh::SafetensorsType::float64) return file().tensor<double, Rank>(name);
    return Tensor<double, Rank>(file().tensor<float, Rank>(name).template cast<double>());
  }
  [[nodiscard]] static Tensor<std::int64_t, 2> integers(const std::string& name) {
    return file().tensor<std::int64_t, 2>(name);
  }
  [[nodiscard]] static eh::Allowed seen() {  // what `hidden` hides, negated
    const auto hidden = file().tensor<bool, 2>("hidden");
    Tensor<bool, 2> seen(hidden.dimensions());
    std::transform(hidden.data(), hidden.data() + hidden.size(), seen.data(),
                   [](bool is_hidden) { return !is_hidden; });
    return seen;
  }
  [[nodiscard]] static eh::MultiHeadAttention<double> layer(bool has_bias) {
    eh::MultiHeadAttention<double> layer({.num_hiddens = 8, .num_heads = 2, .bias = has_bias});
    layer.initialize(8, 8, 8);
    for (auto [projection, name] :
         {std::pair{&layer.W_q, "q"}, {&layer.W_k, "k"}, {&layer.W_v, "v"}, {&layer.W_o, "o"}}) {
      projection->set_weight(tensor<2>(std::string("W_") + name));
      if (has_bias) projection->set_bias(tensor<1>(std::string("b_") + name));
    }
    return layer;
  }
  const Tensor<double, 3> x_ = tensor<3>("x"), memory_ = tensor<3>("memory");

  // A softmax and three products in double, of numbers of at most 20.
  template <int Rank>
  static void expect_near(const Tensor<double, Rank>& found, const Tensor<double, Rank>& expected) {
    ASSERT_EQ(found.dimensions(), expected.dimensions());
    for (Index i = 0; i < found.size(); ++i)
      EXPECT_NEAR(found.data()[i], expected.data()[i], 1e-13) << i;
  }

 private:
  [[nodiscard]] static const eh::Safetensors& file() {
    static const eh::Safetensors file = eh::read_safetensors(
        std::filesystem::path(EIGENHEADS_SOURCE_DIR) / "tests" / "golden" / "peers.safetensors");
    return file;
  }
};

TEST_F(Peers, BiasesAreOnByDefaultInPyTorchKerasAndBert) {
  EXPECT_FALSE(eh::MultiHeadAttentionOptions{}.bias);
  EXPECT_EQ(text("d2l_parameters"), "W_q.weight W_k.weight W_v.weight W_o.weight");
  for (const char* peer : {"torch_bias", "keras_bias", "bert_bias"})
    EXPECT_EQ(text(peer), "True") << peer;
}

TEST_F(Peers, TheBatchComesFirstNotAsInPyTorch) { EXPECT_EQ(text("torch_batch_first"), "False"); }

TEST_F(Peers, PaddingIsSaidByLengths) {
  const eh::ValidLens lens{5, 2};
  const auto torch = layer(true).with_weights(x_, memory_, memory_, {.valid_lens = lens});
  expect_near(torch.output, tensor<3>("torch_padding"));
  const auto bert = layer(true).with_weights(memory_, memory_, memory_, {.valid_lens = lens});
  expect_near(bert.output, tensor<3>("bert_real"));
  expect_near(bert.weights, tensor<4>("bert_real_weights"));
  const auto d2l = layer(false).with_weights(x_, memory_, memory_, {.valid_lens = lens});
  expect_near(d2l.output, tensor<3>("d2l_lens"));
  expect_near(d2l.weights, tensor<4>("d2l_lens_weights"));
}

TEST_F(Peers, PromptsThatArePaddedOnTheLeftArePacked) {
  const Tensor<std::int64_t, 2> mask = integers("bert_left_mask");
  const auto [rows, sequences] = eh::remove_padding(tensor<3>("memory_left"), mask);
  const auto expected = eh::remove_padding(tensor<3>("bert_left"), mask);
  expect_near(layer(true)(rows, sequences), expected.rows);
}

// Not for want of a rate: that of 0.5 is for training.
TEST_F(Peers, ACallDropsNothing) {
  eh::MultiHeadAttention<double> plain = layer(true);
  eh::MultiHeadAttention<double> layer(
      {.num_hiddens = 8, .num_heads = 2, .dropout = 0.5, .bias = true});
  layer.initialize(8, 8, 8);
  eh::copy_parameters(plain, layer);
  expect_near(layer(x_, memory_, memory_, {.valid_lens = {5, 2}}), tensor<3>("torch_padding"));
}

TEST_F(Peers, PyTorchsLayerGivesTheMeanOfTheHeadsWeights) {
  const auto weights =
      layer(true).with_weights(x_, memory_, memory_, {.valid_lens = {5, 2}}).weights;
  Tensor<double, 3> mean(weights.dimension(0), weights.dimension(2), weights.dimension(3));
  mean = (weights.chip(0, 1) + weights.chip(1, 1)) / 2.0;
  expect_near(mean, tensor<3>("torch_padding_weights"));
}

// True is "hidden" in PyTorch's layer alone; in its function, in Keras and here it is "seen". A query that
// sees nothing (1, of each sequence): NaN in PyTorch's layer.
TEST_F(Peers, TrueIsSeenButInPyTorchsLayer) {
  const Tensor<double, 3> y = layer(true)(x_, memory_, memory_, {.allowed = seen()});
  expect_near(y, tensor<3>("sdpa_seen"));
  expect_near(y, tensor<3>("keras_seen"));
  const Tensor<double, 3> torch = tensor<3>("torch_hidden");
  for (Index b = 0; b < 2; ++b)
    for (Index q = 0; q < 3; ++q)
      for (Index e = 0; e < 8; ++e) {
        if (q == 1)
          EXPECT_TRUE(std::isnan(torch(b, q, e)));
        else
          EXPECT_NEAR(y(b, q, e), torch(b, q, e), 1e-13);
      }
}

TEST_F(Peers, AQueryThatSeesNothingHasWeightsOfZero) {
  const auto mine = layer(true).with_weights(x_, memory_, memory_, {.allowed = seen()});
  expect_near(mine.weights, tensor<4>("keras_seen_weights"));
  const auto none = layer(false).with_weights(x_, memory_, memory_, {.valid_lens = {0, 2}}).weights;
  const Tensor<double, 3> d2l = tensor<3>("d2l_empty_weights");
  for (Index i = 0; i < d2l.size(); ++i) {
    EXPECT_EQ(none.data()[i], 0);
    EXPECT_NEAR(d2l.data()[i], 1 / 5.0, 1e-15);  // the mean of all values
  }
}

TEST_F(Peers, ACausalMaskIsSaidWhichCornerItIsAlignedTo) {
  expect_near(layer(true)(x_, memory_, memory_, {.causal = eh::Causal::top_left}),
              tensor<3>("sdpa_causal"));
}

TEST_F(Peers, EpsilonsOfNormsDiffer) {
  EXPECT_EQ(eh::LayerNormOptions{}.eps, 1e-5);
  EXPECT_EQ(text("torch_layer_norm_eps"), "1e-05");
  EXPECT_EQ(text("keras_layer_norm_eps"), "0.001");
  EXPECT_EQ(text("bert_layer_norm_eps"), "1e-12");
}

TEST_F(Peers, GeluIsTheExactOneUnlessItsNameSaysOtherwise) {
  const Tensor<double, 1> numbers = tensor<1>("numbers");
  const auto expect_gelu = [&](eh::Activation activation, const std::string& peer) {
    const Tensor<double, 1> y = eh::activate(activation, numbers);
    const Tensor<double, 1> expected = tensor<1>(peer);
    for (Index i = 0; i < y.size(); ++i)
      EXPECT_NEAR(y(i), expected(i), 4e-15) << peer << ' ' << numbers(i);
  };
  for (const char* exact : {"torch_gelu", "keras_gelu", "hf_gelu"})
    expect_gelu(eh::activation_named("gelu"), exact);
  expect_gelu(eh::activation_named("gelu_new"), "hf_gelu_new");
}

}  // namespace
