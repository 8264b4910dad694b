// SPDX-License-Identifier: MIT
#pragma once
// What a BERT-like encoder is made of, as the config.json of its folder says: io/model_config.hpp reads
// most of it, and refuses what would be another function than the one that is computed here.
#include <algorithm>
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <eigenheads/io/config_fields.hpp>  // ConfigFields
#include <eigenheads/io/model_config.hpp>   // ModelConfig, read_model_config
#include <eigenheads/tensor.hpp>            // Index

namespace sentences {

using eigenheads::ConfigFields, eigenheads::Index;
using std::filesystem::path;

struct EncoderConfig : eigenheads::ModelConfig {
  std::vector<std::vector<Index>> pruned_heads{};  // of each layer, counted in the whole one

  [[nodiscard]] Index size() const { return encoder.layer.num_hiddens; }
  [[nodiscard]] Index num_heads() const { return encoder.layer.num_heads; }  // of a whole layer
  [[nodiscard]] Index max_tokens() const { return num_positions - first_position; }  // of a text
};

namespace detail {

// {"0": [2, 5]}: heads 2 and 5 of the first layer are not in the file.
[[nodiscard]] inline std::vector<std::vector<Index>> pruned_heads_of(const ConfigFields& config,
                                                                     Index layers, Index heads) {
  const std::string name = "pruned_heads";
  std::vector<std::vector<Index>> pruned(static_cast<std::size_t>(layers));
  const auto* const given = config.find(name);
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
  EncoderConfig result{eigenheads::read_model_config(file)};
  const ConfigFields config(file);
  if (result.is_causal || result.relative_buckets > 0 || !result.embedding_norm)
    config.refuse("model_type", "bert, roberta, xlm-roberta, camembert or distilbert");
  constexpr Index most = 1 << 20;  // so that no product of two overflows
  for (const auto& [name, count] : {std::pair{"size", result.size()},
                                    {"number of heads", result.num_heads()},
                                    {"number of layers", 1024 * result.encoder.num_layers},
                                    {"size between", result.encoder.layer.feed_forward_size},
                                    {"number of tokens", result.vocab_size / 16},
                                    {"number of positions", result.num_positions},
                                    {"number of token types", result.num_types}})
    if (count > most) config.refuse(std::string("the ") + name + " is more than any encoder's");
  if (result.max_tokens() < 1)
    config.refuse("max_position_embeddings",
                  std::to_string(result.first_position + 1) + " or more");
  result.pruned_heads =
      detail::pruned_heads_of(config, result.encoder.num_layers, result.num_heads());
  return result;
}

}  // namespace sentences
