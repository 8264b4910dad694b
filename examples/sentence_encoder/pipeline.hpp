// SPDX-License-Identifier: MIT
#pragma once
// What comes before and after the encoder in a folder of sentence-transformers: modules.json names
// the steps, 1_Pooling/config.json says how the tokens of a text become one vector, and
// sentence_bert_config.json how many of them are read. A folder without modules.json is that of the
// encoder alone: the mean of its tokens, of whatever length.
#include <algorithm>
#include <array>
#include <filesystem>
#include <string>
#include <vector>

#include <eigenheads/io/config_fields.hpp>  // ConfigFields, parse_json
#include <eigenheads/nn/pooling.hpp>        // Pooling

#include "config.hpp"  // EncoderConfig

namespace sentences {

struct Pipeline {
  std::vector<eigenheads::Pooling> pooling{};  // one vector beside the other
  bool is_normalized = false;                  // to the length 1
  Index max_tokens = 0;                        // of a text, with the special ones
  path pooling_file{};                         // in the folder; empty: there is none
};

namespace detail {

[[nodiscard]] inline std::vector<eigenheads::Pooling> read_pooling(const path& file, Index size) {
  using eigenheads::Pooling;
  struct Mode {
    const char* name;
    Pooling pooling;
  };
  // The order in which sentence-transformers puts the vectors.
  static constexpr std::array modes{Mode{"pooling_mode_cls_token", Pooling::first},
                                    Mode{"pooling_mode_max_tokens", Pooling::max},
                                    Mode{"pooling_mode_mean_tokens", Pooling::mean}};
  const ConfigFields config(file);
  if (config.integer("word_embedding_dimension").value_or(size) != size)
    config.refuse("word_embedding_dimension", std::to_string(size) + ", that of the encoder");
  for (const char* other : {"pooling_mode_mean_sqrt_len_tokens", "pooling_mode_weightedmean_tokens",
                            "pooling_mode_lasttoken"})
    if (config.boolean(other).value_or(false))
      config.refuse(other, "false: the mean, the maximum or the first");
  std::vector<Pooling> pooling;
  for (const Mode& mode : modes)
    if (config.boolean(mode.name).value_or(false)) pooling.push_back(mode.pooling);
  if (pooling.empty()) config.refuse("no kind of pooling is true; expected one or more");
  return pooling;
}

// Steps that follow the encoder: pooling, then nothing, or a normalisation.
inline void read_modules(const path& folder, Index size, Pipeline& pipeline) {
  const path file = folder / "modules.json";
  const auto refuse = [&](const std::string& what) {
    eigenheads::detail::refuse_file(file, what +
                                              "; expected a Transformer, a Pooling, and after them "
                                              "a Normalize or nothing");
  };
  const auto modules = eigenheads::detail::parse_json(file, eigenheads::read_file(file));
  if (!modules.is_array()) refuse("not an array");
  constexpr std::array<const char*, 3> expected{"Transformer", "Pooling", "Normalize"};
  std::size_t step = 0;
  for (const auto& module : modules) {
    const auto text = [&](const char* name) {
      if (!module.is_object() || !module.contains(name) || !module[name].is_string())
        refuse("module " + std::to_string(step) + " has no \"" + name + '"');
      return module[name].template get<std::string>();
    };
    const std::string type = text("type"), name = type.substr(type.rfind('.') + 1);
    const path place(text("path"));
    if (step >= expected.size() || name != expected[step])
      refuse("module " + std::to_string(step) + " is " + type);
    if (place.is_absolute() || std::ranges::count(place, path("..")) > 0)
      refuse("module " + std::to_string(step) + " lies outside of the folder");
    if (step == 0 && !place.empty())
      refuse("module 0 lies in \"" + place.string() + "\" and not beside this file");
    if (step == 1) {
      pipeline.pooling_file = place / "config.json";
      pipeline.pooling = read_pooling(folder / pipeline.pooling_file, size);
    }
    ++step;
  }
  if (step < 2) refuse("there are " + std::to_string(step) + " modules");
  pipeline.is_normalized = step == 3;
}

}  // namespace detail

// Throws eigenheads::FileError.
[[nodiscard]] inline Pipeline read_pipeline(const path& folder, const EncoderConfig& config) {
  Pipeline pipeline{.pooling = {eigenheads::Pooling::mean}, .max_tokens = config.max_tokens()};
  if (exists(folder / "modules.json")) detail::read_modules(folder, config.size(), pipeline);
  if (const path file = folder / "sentence_bert_config.json"; exists(file)) {
    const ConfigFields limits(file);
    if (limits.boolean("do_lower_case").value_or(false))
      limits.refuse("do_lower_case", "false: what becomes of letters is the tokenizer's to say");
    if (const auto most = limits.integer("max_seq_length", 2))
      pipeline.max_tokens = (std::min)(pipeline.max_tokens, *most);
  }
  return pipeline;
}

}  // namespace sentences
