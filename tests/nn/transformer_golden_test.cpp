// SPDX-License-Identifier: MIT
// Transformer layers against PyTorch's, computed in float64: tests/golden/make_transformer.py made
// the references. Padded rows are PyTorch's own form; packed rows are the same to the bit.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <type_traits>
#include <vector>

#include <eigenheads/io/safetensors.hpp>
#include <eigenheads/nn/torch_parameters.hpp>
#include <eigenheads/nn/transformer_decoder.hpp>
#include <eigenheads/nn/transformer_encoder.hpp>
#include <eigenheads/nn/transformer_layer.hpp>
#include <eigenheads/sequences.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::Safetensors, eh::Sequences;

// A file of reference tensors and texts.
class Case {
 public:
  explicit Case(const std::string& name)
      : file_(eh::read_safetensors(std::filesystem::path(EIGENHEADS_SOURCE_DIR) / "tests" /
                                   "golden" / "transformer" / (name + ".safetensors"))) {}

  [[nodiscard]] bool has(const std::string& key) const { return file_.metadata().contains(key); }
  [[nodiscard]] std::string text(const std::string& key) const { return file_.metadata().at(key); }
  template <class T, int Rank>
  [[nodiscard]] Tensor<T, Rank> input(const std::string& name) const {
    const auto x = file_.tensor<float, Rank>(name);
    Tensor<T, Rank> result(x.dimensions());
    std::copy_n(x.data(), x.size(), result.data());
    return result;
  }
  template <int Rank>
  [[nodiscard]] Tensor<double, Rank> result(const std::string& name) const {
    return file_.tensor<double, Rank>(name);
  }
  [[nodiscard]] std::vector<Index> lens(const std::string& name) const {
    const auto lens = file_.tensor<std::int64_t, 1>(name);
    return {lens.data(), lens.data() + lens.size()};
  }
  // The parameters alone, by PyTorch's names.
  [[nodiscard]] Safetensors parameters() const {
    Safetensors parameters;
    for (const auto& name : file_.names())
      if (file_.contains("grad_" + name) && name != "x" && name != "memory" && name != "output") {
        if (file_.shape(name).size() == 1)
          parameters.add(name, file_.tensor<float, 1>(name));
        else
          parameters.add(name, file_.tensor<float, 2>(name));
      }
    return parameters;
  }
  [[nodiscard]] eh::TransformerLayerOptions options() const {
    return {
        .num_hiddens = file_.shape("x")[2],
        .num_heads = std::stol(text("nhead")),
        .feed_forward_size =
            file_.shape(has("num_layers") ? "layers.0.linear1.weight" : "linear1.weight")[0],
        .activation = text("activation") == "gelu" ? eh::Activation::gelu : eh::Activation::relu,
        .norm_first = text("norm_first") == "1",
        .norm = has("norm") ? eh::NormKind::rms_norm : eh::NormKind::layer_norm,
        .norm_eps = std::stod(text("layer_norm_eps"))};
  }
  [[nodiscard]] eh::TransformerStackOptions stack_options() const {
    return {.layer = options(), .num_layers = std::stol(text("num_layers")), .final_norm = true};
  }
  [[nodiscard]] eh::Causal causal() const {
    return text("causal") == "1" ? eh::Causal::top_left : eh::Causal::none;
  }
  // Of the parameter that PyTorch keeps it in, the part that is this one's.
  [[nodiscard]] std::vector<double> gradient(const std::string& name, Index size) const {
    const eh::TorchParameter from = eh::torch_parameter(name);
    const std::string of = "grad_" + from.name;
    const auto cut = [&](const auto& whole) {
      EXPECT_EQ(whole.size(), size * from.parts) << name;
      const double* const begin = whole.data() + from.part * size;
      return std::vector<double>(begin, begin + size);
    };
    return file_.shape(of).size() == 1 ? cut(result<1>(of)) : cut(result<2>(of));
  }

 private:
  Safetensors file_;
};

// 2 to 5 times what was seen on any instruction set.
template <class T>
inline constexpr double bound = std::is_same_v<T, float> ? 2e-5 : 2e-13;

template <class T>
void expect_near(const T* got, const double* expected, Index size, const std::string& name) {
  double scale = 1;
  for (Index i = 0; i < size; ++i) scale = std::max(scale, std::abs(expected[i]));
  for (Index i = 0; i < size; ++i)
    ASSERT_NEAR(static_cast<double>(got[i]), expected[i], bound<T> * scale) << name << ", " << i;
}

template <class T, class Gradients>
void expect_parameters(const Gradients& gradients, const Case& c) {
  gradients.for_each_parameter([&](const auto& gradient) {
    std::vector<T> got(static_cast<std::size_t>(gradient.size()));
    gradient.copy_to(got);
    expect_near(got.data(), c.gradient(gradient.name(), gradient.size()).data(), gradient.size(),
                gradient.name());
  });
}
template <class T, class Gradients>
void expect_same_parameters(const Gradients& a, const Gradients& b) {
  std::vector<std::vector<T>> values;
  a.for_each_parameter([&](const auto& gradient) {
    gradient.copy_to(values.emplace_back(static_cast<std::size_t>(gradient.size())));
  });
  std::size_t next = 0;
  b.for_each_parameter([&](const auto& gradient) {
    std::vector<T> got(static_cast<std::size_t>(gradient.size()));
    gradient.copy_to(got);
    const auto& expected = values[next++];
    EXPECT_TRUE(same_bits(TensorView<T, 1>(got.data(), {gradient.size()}),
                          TensorView<T, 1>(expected.data(), {std::ssize(expected)})))
        << gradient.name();
  });
}

// What the rows before the padding hold, one sequence below the other.
template <class T>
void expect_rows(const Tensor<T, 3>& got, const Tensor<double, 3>& expected,
                 const Sequences& sequences, const std::string& name) {
  const auto rows = pack(got, sequences);
  const auto expected_rows = pack(expected, sequences);
  expect_near(rows.data(), expected_rows.data(), rows.size(), name);
}

// [1, N, size] -> [N, size]
template <class T>
[[nodiscard]] TensorView<T, 2> as_rows(const Tensor<T, 3>& x) {
  EXPECT_EQ(x.dimension(0), 1);
  return {x.data(), {x.dimension(1), x.dimension(2)}};
}

template <class T>
class TransformerGolden : public testing::Test {};
TYPED_TEST_SUITE(TransformerGolden, Scalars, ScalarNames);

// A layer or a stack of them.
template <class T, class Module>
void expect_encoder(Module&& layer, const Case& c) {
  using Kind = std::remove_cvref_t<Module>;
  eh::load_torch_parameters(layer, c.parameters());
  const auto x = c.input<T, 3>("x"), grad_output = c.input<T, 3>("grad_output");
  const Sequences sequences(c.lens("lens"));
  const eh::Mask mask{.valid_lens = c.lens("lens"), .causal = c.causal()};
  typename Kind::Activations saved;
  const auto output = layer.forward(x, mask, saved);
  EXPECT_TRUE(same_bits(layer(x, mask), output));
  expect_rows(output, c.result<3>("output"), sequences, "output");
  const auto gradients = layer.backward(grad_output, saved);
  expect_rows(gradients.x, c.result<3>("grad_x"), sequences, "x");
  expect_parameters<T>(gradients, c);

  const auto packed = pack(x, sequences);
  const eh::Mask of_packed{.causal = c.causal()};
  EXPECT_TRUE(same_bits(layer(packed, sequences, of_packed), pack(output, sequences)));
  EXPECT_TRUE(
      same_bits(layer.forward(packed, sequences, of_packed, saved), pack(output, sequences)));
  const auto packed_gradients = layer.backward(pack(grad_output, sequences), saved);
  EXPECT_TRUE(same_bits(as_rows(packed_gradients.x), pack(gradients.x, sequences)));
  expect_same_parameters<T>(packed_gradients, gradients);
}
template <class T, class Module>
void expect_decoder(Module&& layer, const Case& c) {
  using Kind = std::remove_cvref_t<Module>;
  eh::load_torch_parameters(layer, c.parameters());
  const auto x = c.input<T, 3>("x"), memory = c.input<T, 3>("memory");
  const auto grad_output = c.input<T, 3>("grad_output");
  const Sequences sequences(c.lens("lens")), memory_sequences(c.lens("memory_lens"));
  const eh::DecoderMask masks{
      .self = {.valid_lens = c.lens("lens"), .causal = eh::Causal::top_left},
      .memory = {.valid_lens = c.lens("memory_lens")}};
  typename Kind::Activations saved;
  const auto output = layer.forward(x, memory, masks, saved);
  EXPECT_TRUE(same_bits(layer(x, memory, masks), output));
  expect_rows(output, c.result<3>("output"), sequences, "output");
  const auto gradients = layer.backward(grad_output, saved);
  expect_rows(gradients.x, c.result<3>("grad_x"), sequences, "x");
  expect_rows(gradients.memory, c.result<3>("grad_memory"), memory_sequences, "memory");
  expect_parameters<T>(gradients, c);

  const auto packed = pack(x, sequences), packed_memory = pack(memory, memory_sequences);
  EXPECT_TRUE(same_bits(layer(packed, sequences, packed_memory, memory_sequences),
                        pack(output, sequences)));
  EXPECT_TRUE(
      same_bits(layer.forward(packed, sequences, packed_memory, memory_sequences, {}, saved),
                pack(output, sequences)));
  const auto packed_gradients = layer.backward(pack(grad_output, sequences), saved);
  EXPECT_TRUE(same_bits(as_rows(packed_gradients.x), pack(gradients.x, sequences)));
  EXPECT_TRUE(
      same_bits(as_rows(packed_gradients.memory), pack(gradients.memory, memory_sequences)));
  expect_same_parameters<T>(packed_gradients, gradients);
}

TEST(TorchParameter, ANameThatPyTorchDoesNotHaveStaysAsItIs) {
  const auto of = [](const char* name) { return eh::torch_parameter(name); };
  EXPECT_EQ(of("layers.0.self_attention.W_k.weight").name, "layers.0.self_attn.in_proj_weight");
  EXPECT_EQ(of("layers.0.self_attention.W_k.weight").part, 1);
  EXPECT_EQ(of("layers.0.feed_forward.gate.weight").name, "layers.0.feed_forward.gate.weight");
  EXPECT_EQ(of("layers.0.feed_forward.gate.weight").parts, 1);
}

TYPED_TEST(TransformerGolden, EncoderLayers) {
  using T = TypeParam;
  for (const char* name : {"encoder_norm_last_relu", "encoder_norm_last_gelu",
                           "encoder_norm_first_relu", "encoder_norm_first_gelu"}) {
    SCOPED_TRACE(name);
    const Case c(name);
    expect_encoder<T>(eh::TransformerEncoderLayer<T>(c.options()), c);
  }
}

TYPED_TEST(TransformerGolden, DecoderLayers) {
  using T = TypeParam;
  for (const char* name : {"decoder_norm_last_relu", "decoder_norm_last_gelu",
                           "decoder_norm_first_relu", "decoder_norm_first_gelu"}) {
    SCOPED_TRACE(name);
    const Case c(name);
    expect_decoder<T>(eh::TransformerDecoderLayer<T>(c.options()), c);
  }
}

TYPED_TEST(TransformerGolden, StacksOfLayers) {
  using T = TypeParam;
  const Case encoder("encoder_stack_rms_norm");
  expect_encoder<T>(eh::TransformerEncoder<T>(encoder.stack_options()), encoder);
  for (const char* name : {"decoder_stack", "decoder_stack_rms_norm"}) {
    SCOPED_TRACE(name);
    const Case c(name);
    expect_decoder<T>(eh::TransformerDecoder<T>(c.stack_options()), c);
  }
}

}  // namespace
