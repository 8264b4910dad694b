// SPDX-License-Identifier: MIT
#pragma once
// Language models of other libraries: a Hugging Face folder of the GPT-2 or Llama family, with
// config.json and the weights beside it, in one file or several.
#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <eigenheads/io/checkpoints.hpp>    // load_checkpoint, ModuleParts
#include <eigenheads/io/config_fields.hpp>  // ConfigFields
#include <eigenheads/io/model_config.hpp>   // ModelConfig

#include "language_model.hpp"  // Model, ModelOptions, Ids

namespace language_model {

struct Pretrained {
  Model<float> model;
  Ids end_ids{};  // any of them ends a text
  eigenheads::CheckpointReport report{};
};

namespace detail {

// `most`: the tokens that there is to be room for, if there are positions for as many.
[[nodiscard]] inline ModelOptions options_of(const eigenheads::ModelConfig& config,
                                             const std::filesystem::path& folder, Index most) {
  if (!config.is_causal)
    eigenheads::detail::refuse_file(folder / "config.json", "model_type is \"" + config.model_type +
                                                                "\"; expected one that writes");
  ModelOptions options{.vocabulary = config.vocab_size,
                       .encoder = config.encoder,
                       .learnt_positions = config.num_positions,
                       .window = config.window,
                       .longest = config.num_positions};
  if (auto& rotary = options.encoder.layer.rotary) {
    options.longest = rotary->max_positions;
    rotary->max_positions = (std::min)(rotary->max_positions, (std::max)(most, Index{1}));
  }
  return options;
}

[[nodiscard]] inline Ids end_ids(const std::filesystem::path& folder, Index vocabulary) {
  // What a text ends with is said anew where there are settings for writing.
  for (const char* file : {"generation_config.json", "config.json"}) {
    if (!std::filesystem::exists(folder / file)) continue;
    const eigenheads::ConfigFields config(folder / file);
    const auto* const value = config.find("eos_token_id");
    if (value == nullptr) continue;
    Ids ids;
    for (const auto& id : value->is_array() ? *value : nlohmann::json::array({*value})) {
      const double number = id.is_number_integer() ? id.get<double>() : -1;
      if (!(number >= 0 && number < static_cast<double>(vocabulary)))
        config.refuse("eos_token_id", "tokens, below " + std::to_string(vocabulary));
      ids.push_back(id.get<Index>());
    }
    return ids;
  }
  return {};
}

}  // namespace detail

// For texts of at most `most` tokens, which fewer positions may be made for. Throws
// eigenheads::FileError for files that cannot be read or say something else than is computed here.
[[nodiscard]] inline Pretrained load_pretrained(const std::filesystem::path& folder, Index most) {
  const eigenheads::ModelConfig config = eigenheads::read_model_config(folder);
  Pretrained result{.model = Model<float>(detail::options_of(config, folder, most), 0),
                    .end_ids = detail::end_ids(folder, config.vocab_size)};
  Model<float>& model = result.model;
  eigenheads::ModuleParts parts;
  parts.add("token_embedding.", model.embedding).add("encoder.", model.encoder);
  if (model.positions) parts.add("position_embedding.", *model.positions);
  parts.add("lm_head.", model.head);
  result.report = eigenheads::load_checkpoint(eigenheads::SafetensorsFiles(folder), *config.family,
                                              parts, {.tied = config.tied});
  return result;
}

}  // namespace language_model
