// SPDX-License-Identifier: MIT
#pragma once
// A model without some of its heads, in a folder as the whole one's.
#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <system_error>
#include <utility>

#include <eigenheads/io/config_fields.hpp>  // parse_json_object
#include <eigenheads/io/file.hpp>           // read_file, write_file, refuse_file
#include <eigenheads/prune_heads.hpp>       // prune_heads

#include "encoder_weights.hpp"  // save_weights
#include "head_sample.hpp"      // by_layer
#include "model.hpp"            // Model

namespace sentences {

// The folder must be empty or not there. Throws eigenheads::FileError if it is not.
inline void require_new(const path& folder) {
  std::error_code error;
  if (exists(folder, error) && !(is_directory(folder, error) && is_empty(folder, error)))
    eigenheads::detail::refuse_file(folder, "is there already; expected a new folder");
}

// config.json says which heads are gone, as those of Hugging Face do ("pruned_heads", counted in the
// whole model); the weights are those that are left, and all else is copied. The encoder that reads the
// folder has, to the bit, the vectors that this one has with the gates of those heads closed.
inline void save_without(const Model& model, std::span<const std::size_t> removed,
                         const path& folder) {
  require_new(folder);
  Encoder encoder = model.encoder.encoder;
  const auto of_layers = by_layer(encoder, removed);
  const path config_file = model.folder() / "config.json";
  auto config =
      eigenheads::detail::parse_json_object(config_file, eigenheads::read_file(config_file));
  auto pruned = nlohmann::json::object();
  for (std::size_t l = 0; l < of_layers.size(); ++l) {
    auto& attention = encoder.stack.layers[l].self_attention;
    attention = eigenheads::prune_heads(attention, of_layers[l]);
    auto gone = nlohmann::json::array();
    const auto& left = encoder.heads_left(l);
    for (Index h = 0; h < encoder.config().num_heads(); ++h)
      if (std::ranges::find(left, h) == left.end()) gone.push_back(h);
    if (!gone.empty()) pruned[std::to_string(l)] = std::move(gone);
  }
  config["pruned_heads"] = std::move(pruned);

  std::filesystem::create_directories(folder);
  for (const path& name : std::initializer_list<path>{
           "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt",
           "vocab.json", "merges.txt", "modules.json", "sentence_bert_config.json",
           "config_sentence_transformers.json", model.encoder.pipeline.pooling_file})
    if (const path from = model.folder() / name; is_regular_file(from)) {
      std::filesystem::create_directories((folder / name).parent_path());
      eigenheads::write_file(folder / name, eigenheads::read_file(from));
    }
  save_weights(encoder, folder / "model.safetensors");
  eigenheads::write_file(folder / "config.json", config.dump(2) + '\n');
}

}  // namespace sentences
