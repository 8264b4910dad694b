// SPDX-License-Identifier: MIT
#pragma once
// What a BERT-like encoder is made of, as the config.json of its folder says. Whatever would make it
// another function than the one that is computed here is refused.
#include <algorithm>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include <eigenheads/nn/activation.hpp>  // Activation, activation_named
#include <eigenheads/tensor.hpp>         // Index

#include "../json_fields.hpp"  // JsonFields

namespace sentences {

using eigenheads::Activation, eigenheads::Index;
using std::filesystem::path;

enum class Family { bert, roberta, distilbert };

struct EncoderConfig {
  Family family = Family::bert;
  Index vocab_size = 0, hidden_size = 0, num_heads = 0, num_layers = 0, intermediate_size = 0;
  Index max_positions = 0;   // rows of the table of positions
  Index first_position = 0;  // the row of a text's first token: RoBERTa's tables begin with others
  Index token_types = 0;     // rows of the table of token types; 0: there is none
  Index pad_id = 0;
  Activation activation = Activation::gelu;
  double norm_eps = 1e-12;
  std::vector<std::vector<Index>> pruned_heads{};  // of each layer, counted in the whole one

  [[nodiscard]] Index head_size() const { return hidden_size / num_heads; }
  [[nodiscard]] Index max_tokens() const { return max_positions - first_position; }
};

namespace detail {

[[nodiscard]] inline Family family_of(const JsonFields& config) {
  const std::string type = config.text("model_type");
  if (type == "bert") return Family::bert;
  for (const char* same : {"roberta", "xlm-roberta", "camembert"})
    if (type == same) return Family::roberta;
  if (type == "distilbert") return Family::distilbert;
  config.refuse("model_type", "bert, roberta, xlm-roberta, camembert or distilbert");
}

[[nodiscard]] inline Activation activation_of(const JsonFields& config, const std::string& name) {
  try {
    return eigenheads::activation_named(config.text(name, "gelu"));
  } catch (const std::invalid_argument&) {
    config.refuse(name, "a function that this library has, as gelu, gelu_new, relu or silu");
  }
}

// {"0": [2, 5]}: heads 2 and 5 of the first layer are not in the file.
[[nodiscard]] inline std::vector<std::vector<Index>> pruned_heads_of(const JsonFields& config,
                                                                     Index layers, Index heads) {
  const std::string name = "pruned_heads";
  std::vector<std::vector<Index>> pruned(static_cast<std::size_t>(layers));
  const JsonFields::Json* const given = config.find(name);
  if (given == nullptr) return pruned;
  const auto refuse = [&] {
    config.refuse(name, "an object of layers, 0 to " + std::to_string(layers - 1) +
                            ", with arrays of different heads, 0 to " + std::to_string(heads - 1));
  };
  if (!given->is_object()) refuse();
  for (const auto& [key, value] : given->items()) {
    std::size_t layer = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), layer);
    if (error != std::errc() || end != key.data() + key.size() || layer >= pruned.size() ||
        !value.is_array())
      refuse();
    for (const auto& head : value) {
      if (!head.is_number_unsigned() ||
          head.get<std::uint64_t>() >= static_cast<std::uint64_t>(heads))
        refuse();
      pruned[layer].push_back(head.get<Index>());
    }
    std::ranges::sort(pruned[layer]);
    if (std::ranges::adjacent_find(pruned[layer]) != pruned[layer].end()) refuse();
  }
  return pruned;
}

}  // namespace detail

// Throws eigenheads::FileError.
[[nodiscard]] inline EncoderConfig read_config(const path& file) {
  const JsonFields config(file);
  constexpr Index most = 1 << 20;  // so that no product of two overflows
  EncoderConfig result;
  result.family = detail::family_of(config);
  const bool is_distil = result.family == Family::distilbert;
  const bool is_roberta = result.family == Family::roberta;
  const auto count = [&](const char* name, const char* distil_name) {
    return config.count(is_distil ? distil_name : name, 1, most);
  };
  result.vocab_size = config.count("vocab_size", 1, 16 * most);
  result.hidden_size = count("hidden_size", "dim");
  result.num_heads = count("num_attention_heads", "n_heads");
  result.num_layers = count("num_hidden_layers", "n_layers");
  result.intermediate_size = count("intermediate_size", "hidden_dim");
  if (result.hidden_size % result.num_heads != 0)
    config.refuse(is_distil ? "dim" : "hidden_size",
                  "a multiple of the " + std::to_string(result.num_heads) + " heads");
  result.activation = detail::activation_of(config, is_distil ? "activation" : "hidden_act");
  if (!is_distil) {
    result.norm_eps = config.number("layer_norm_eps", 1e-12);
    result.token_types = config.count("type_vocab_size", 1, most, 2);
    if (config.text("position_embedding_type", "absolute") != "absolute")
      config.refuse("position_embedding_type", "absolute");
    for (const char* decoding : {"is_decoder", "add_cross_attention"})
      if (config.flag(decoding, false)) config.refuse(decoding, "false: an encoder");
  }
  result.pad_id = config.count("pad_token_id", 0, result.vocab_size - 1, is_roberta ? 1 : 0);
  result.first_position = is_roberta ? result.pad_id + 1 : 0;
  result.max_positions = config.count("max_position_embeddings", result.first_position + 1, most);
  result.pruned_heads = detail::pruned_heads_of(config, result.num_layers, result.num_heads);
  return result;
}

}  // namespace sentences
