// SPDX-License-Identifier: MIT
#pragma once
// All heads of a model in one list, across its layers of attention: those of the encoder's blocks,
// from the first on, and then the decoder's. A set of heads is a set of places in that list.
#include <cstddef>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <eigenheads/multi_head_attention.hpp>  // MultiHeadAttention
#include <eigenheads/prune_heads.hpp>           // prune_heads
#include <eigenheads/tensor.hpp>                // Index, Tensor

#include "data.hpp"   // Model
#include "pages.hpp"  // Head

namespace pruning {

using Layer = eh::MultiHeadAttention<float>;

// The layers of attention of a model that may be const.
template <class AnyModel>
[[nodiscard]] auto attention_layers(AnyModel& model) {
  using Pointer = std::conditional_t<std::is_const_v<AnyModel>, const Layer*, Layer*>;
  std::vector<Pointer> layers;
  for (auto& block : model.encoder) layers.push_back(&block.attention);
  layers.push_back(&model.decoder.attention);
  return layers;
}

[[nodiscard]] inline std::vector<Head> heads_of(const Model& model) {
  std::vector<Head> heads;
  const auto layers = attention_layers(model);
  for (std::size_t l = 0; l < layers.size(); ++l)
    for (Index h = 0; h < layers[l]->num_heads(); ++h) heads.push_back({l, h});
  return heads;
}

// "encoder 1", ..., "decoder"
[[nodiscard]] inline std::vector<std::string> layer_names(const Model& model) {
  std::vector<std::string> names;
  for (std::size_t i = 1; i <= model.encoder.size(); ++i)
    names.push_back("encoder " + std::to_string(i));
  names.emplace_back("decoder");
  return names;
}

// Which heads of each layer, by their numbers there.
[[nodiscard]] inline std::vector<std::vector<Index>> by_layer(const Model& model,
                                                              std::span<const std::size_t> which) {
  const std::vector<Head> heads = heads_of(model);
  std::vector<std::vector<Index>> result(attention_layers(model).size());
  for (const std::size_t i : which) result[heads[i].layer].push_back(heads[i].index);
  return result;
}

// The whole model with these heads really gone: every layer is a smaller one.
[[nodiscard]] inline Model without(const Model& whole, std::span<const std::size_t> removed) {
  Model model = whole;
  const auto of_layers = by_layer(whole, removed);
  const auto layers = attention_layers(model);
  for (std::size_t l = 0; l < layers.size(); ++l)
    if (!of_layers[l].empty()) *layers[l] = eh::prune_heads(*layers[l], of_layers[l]);
  return model;
}

// These heads, and no others, count as nothing; the layers keep their sizes.
inline void close_gates(Model& model, std::span<const std::size_t> closed) {
  const auto of_layers = by_layer(model, closed);
  const auto layers = attention_layers(model);
  for (std::size_t l = 0; l < layers.size(); ++l) {
    if (layers[l]->num_heads() == 0) continue;
    eh::Tensor<float, 1> gates(layers[l]->num_heads());
    gates.setConstant(1);
    for (const Index h : of_layers[l]) gates(h) = 0;
    layers[l]->set_gates(gates);
  }
}

// Elements of the parameters of its layers of attention.
[[nodiscard]] inline Index attention_parameters(const Model& model) {
  Index count = 0;
  for (const Layer* layer : attention_layers(model))
    layer->for_each_parameter([&](const auto& parameter) { count += parameter.size(); });
  return count;
}

}  // namespace pruning
