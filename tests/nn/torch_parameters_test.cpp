// SPDX-License-Identifier: MIT
// Parameters by PyTorch's names: all of them, with their shapes, and no others, or nothing changes.
// That each comes to its place, transformer_golden_test.cpp shows.
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/io/safetensors.hpp>
#include <eigenheads/nn/torch_parameters.hpp>
#include <eigenheads/nn/transformer_encoder.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::Safetensors;

template <class T>
[[nodiscard]] eh::TransformerEncoder<T> make_encoder(bool final_norm = true) {
  return eh::TransformerEncoder<T>(
      {.layer = {.num_hiddens = 6, .num_heads = 2, .feed_forward_size = 10},
       .num_layers = 2,
       .final_norm = final_norm},
      3);
}

using Shapes = std::vector<std::pair<std::string, std::vector<Index>>>;

// Of torch.nn.TransformerEncoder(layer, 2, norm).
[[nodiscard]] Shapes torch_shapes() {
  Shapes shapes;
  for (const std::string start : {"layers.0.", "layers.1."})
    shapes.insert(shapes.end(), {{start + "self_attn.in_proj_weight", {18, 6}},
                                 {start + "self_attn.in_proj_bias", {18}},
                                 {start + "self_attn.out_proj.weight", {6, 6}},
                                 {start + "self_attn.out_proj.bias", {6}},
                                 {start + "linear1.weight", {10, 6}},
                                 {start + "linear1.bias", {10}},
                                 {start + "linear2.weight", {6, 10}},
                                 {start + "linear2.bias", {6}},
                                 {start + "norm1.weight", {6}},
                                 {start + "norm1.bias", {6}},
                                 {start + "norm2.weight", {6}},
                                 {start + "norm2.bias", {6}}});
  shapes.insert(shapes.end(), {{"norm.weight", {6}}, {"norm.bias", {6}}});
  return shapes;
}
template <class T>
[[nodiscard]] Safetensors file_of(const Shapes& shapes, const std::string& prefix = "") {
  Safetensors file;
  std::uint64_t seed = 1;
  for (const auto& [name, shape] : shapes)
    if (shape.size() == 1)
      file.add(prefix + name, random_tensor<T>(seed++, shape[0]));
    else
      file.add(prefix + name, random_tensor<T>(seed++, shape[0], shape[1]));
  return file;
}

TEST(TorchParameters, FloatsAreReadAsDoublesToo) {
  const auto file = file_of<float>(torch_shapes(), "encoder.");
  auto floats = make_encoder<float>();
  auto doubles = make_encoder<double>();
  eh::load_torch_parameters(floats, file, "encoder.");
  eh::load_torch_parameters(doubles, file, "encoder.");
  const auto in_proj = file.tensor<float, 2>("encoder.layers.1.self_attn.in_proj_weight");
  EXPECT_TRUE(same_bits(floats.layers[1].self_attention.W_v.weight(),
                        TensorView<float, 2>(&in_proj(12, 0), {6, 6})));
  const auto weight = doubles.layers[1].self_attention.W_v.weight();
  for (Index i = 0; i < 36; ++i)
    EXPECT_EQ(weight.data()[i], static_cast<double>((&in_proj(12, 0))[i]));
  ASSERT_TRUE(floats.norm.has_value());
  EXPECT_TRUE(same_bits(floats.norm->bias(), file.tensor<float, 1>("encoder.norm.bias")));
}

TEST(TorchParameters, AFileOfAnotherModuleIsRefusedAndNothingWritten) {
  auto encoder = make_encoder<float>();
  const auto x = random_tensor<float>(1, 1, 4, 6);
  const auto before = encoder(x);
  const auto load = [&](const Safetensors& file) {
    return refusal<eh::FileError>([&] { return eh::load_torch_parameters(encoder, file), 0; });
  };
  auto shapes = torch_shapes();
  shapes.pop_back();
  EXPECT_EQ(load(file_of<float>(shapes)), "eigenheads: (not from a file): no tensor \"norm.bias\"");
  shapes = torch_shapes();
  shapes[12].second = {18, 5};
  EXPECT_EQ(
      load(file_of<float>(shapes)),
      "eigenheads: (not from a file): tensor \"layers.1.self_attn.in_proj_weight\" is F32 [18, "
      "5]; expected F32 [18, 6]");
  shapes = torch_shapes();
  shapes.emplace_back("norm3.weight", std::vector<Index>{6});
  EXPECT_EQ(load(file_of<float>(shapes)),
            "eigenheads: the file has norm3.weight, which is no parameter of the module");
  EXPECT_EQ(
      load(file_of<double>(torch_shapes())),
      "eigenheads: (not from a file): tensor \"layers.0.self_attn.in_proj_weight\" is F64 [18, "
      "6]; expected F32 [18, 6]");
  EXPECT_TRUE(same_bits(encoder(x), before));
}

}  // namespace
