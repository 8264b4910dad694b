// SPDX-License-Identifier: MIT
// Loads a torch.nn.MultiheadAttention from the file that Python writes with
//   safetensors.torch.save_file(layer.state_dict(), "layer.safetensors")
// and compares its output with PyTorch's:   torch_layer FOLDER   (examples/sample)
// nlohmann-json 3 is needed for io/safetensors.hpp, and for nothing else in the library.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <exception>
#include <filesystem>
#include <iostream>

#include <eigenheads/eigenheads.hpp>
#include <eigenheads/io/npy.hpp>
#include <eigenheads/io/safetensors.hpp>

namespace eh = eigenheads;

// PyTorch keeps the projections of queries, keys and values one below the other: in_proj_weight,
// [3 E, E], and in_proj_bias, [3 E]. A TensorView looks at a part of such a tensor, or at the data
// of a std::vector, without a copy.
eh::MultiHeadAttention<float> load(const eh::Safetensors& file, eh::Index num_heads) {
  const auto out_bias = file.tensor<float, 1>("out_proj.bias");
  const eh::Index E = out_bias.size();
  const auto in_weight = file.tensor<float, 2>("in_proj_weight", {3 * E, E});
  const auto in_bias = file.tensor<float, 1>("in_proj_bias", {3 * E});
  const auto weight = [&](eh::Index i) {
    return eh::TensorView<float, 2>(&in_weight(i * E, 0), {E, E});
  };
  const auto bias = [&](eh::Index i) { return eh::TensorView<float, 1>(&in_bias(i * E), {E}); };

  eh::MultiHeadAttention<float> layer({.num_hiddens = E, .num_heads = num_heads, .bias = true});
  layer.W_q.set_weight(weight(0));
  layer.W_k.set_weight(weight(1));
  layer.W_v.set_weight(weight(2));
  layer.W_o.set_weight(file.tensor<float, 2>("out_proj.weight", {E, E}));
  layer.W_q.set_bias(bias(0));
  layer.W_k.set_bias(bias(1));
  layer.W_v.set_bias(bias(2));
  layer.W_o.set_bias(out_bias);
  return layer;
}

int main(int argc, char** argv) try {
  const std::filesystem::path folder = argc > 1 ? argv[1] : "examples/sample";
  const eh::Safetensors file = eh::read_safetensors(folder / "layer.safetensors");
  for (const auto& name : file.names())
    std::cout << name << ' ' << eh::name_of(file.type(name)) << '\n';
  const auto layer = load(file, /*num_heads=*/5);

  const auto queries = eh::load_npy<float, 3>(folder / "queries.npy");
  const auto keys = eh::load_npy<float, 3>(folder / "keys.npy");
  const auto values = eh::load_npy<float, 3>(folder / "values.npy");
  const auto lens = eh::load_npy<std::int64_t, 1>(folder / "valid_lens.npy");
  const auto expected = eh::load_npy<float, 3>(folder / "expected_output.npy");
  const auto output = layer(queries, keys, values, {.valid_lens = lens});

  eh::require_shape<float, 3>("expected_output.npy", expected, "[B, Q, E]",
                              {output.dimension(0), output.dimension(1), output.dimension(2)});
  float distance = 0;
  bool is_close = true;  // NaN is not
  for (eh::Index i = 0; i < output.size(); ++i) {
    const float one = std::abs(output.data()[i] - expected.data()[i]);
    distance = std::max(distance, one);
    is_close = is_close && one < 1e-5f;
  }
  std::cout << "The largest distance from PyTorch's output is " << distance << ".\n";
  if (!is_close) std::cout << "Expected one of less than 1e-5 everywhere.\n";
  return is_close ? 0 : 1;
} catch (const std::exception& error) {
  std::cerr << error.what() << '\n';
  return 2;
}
