// SPDX-License-Identifier: MIT
#pragma once
// The weights of an Encoder in a model.safetensors.
#include <array>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/io/safetensors.hpp>

#include "encoder.hpp"

namespace sentences {

namespace detail {
struct NameRule { std::string_view ours, theirs; };
inline constexpr std::array<NameRule, 10> kBert{{
    {"self_attention.W_q.", "attention.self.query."},
    {"self_attention.W_k.", "attention.self.key."},
    {"self_attention.W_v.", "attention.self.value."},
    {"self_attention.W_o.", "attention.output.dense."},
    {"norm1.", "attention.output.LayerNorm."},
    {"feed_forward.up.", "intermediate.dense."},
    {"feed_forward.down.", "output.dense."},
    {"norm2.", "output.LayerNorm."},
    {"", ""}, {"", ""}}};
}

inline void load_weights(Encoder& encoder, const path& file) {
  const eigenheads::Safetensors weights = eigenheads::read_safetensors(file);
  const Index E = encoder.config().hidden_size;
  encoder.words = std::make_shared<const Tensor<float, 2>>(weights.tensor<float, 2>("embeddings.word_embeddings.weight", {encoder.config().vocab_size, E}));
  encoder.positions = weights.tensor<float, 2>("embeddings.position_embeddings.weight", {encoder.config().max_positions, E});
  encoder.types = weights.tensor<float, 2>("embeddings.token_type_embeddings.weight", {encoder.config().token_types, E});
  const auto read = [&](const auto& parameter, const std::string& name) {
    std::vector<float> values(static_cast<std::size_t>(parameter.size()));
    if (parameter.shape().size() == 1) {
      const auto t = weights.tensor<float, 1>(name, {parameter.size()});
      parameter.copy_from({t.data(), static_cast<std::size_t>(t.size())});
    } else {
      const auto t = weights.tensor<float, 2>(name, {parameter.shape()[0], parameter.shape()[1]});
      parameter.copy_from({t.data(), static_cast<std::size_t>(t.size())});
    }
  };
  encoder.norm.for_each_parameter([&](const auto& p) { read(p, "embeddings.LayerNorm." + p.name()); });
  for (std::size_t l = 0; l < encoder.num_layers(); ++l)
    encoder.stack.layers[l].for_each_parameter([&](const auto& p) {
      for (const auto& rule : detail::kBert)
        if (!rule.ours.empty() && p.name().starts_with(rule.ours))
          return read(p, "encoder.layer." + std::to_string(l) + '.' + std::string(rule.theirs) + p.name().substr(rule.ours.size()));
    });
}

}  // namespace sentences
