// SPDX-License-Identifier: MIT
#pragma once
// What a language model of a Hugging Face folder is made of, as its config.json says: GPT-2, Llama, and
// Mistral and Qwen2, which are Llama with a window or with biases. Whatever would make it another
// function than the one that is computed here is refused.
#include <algorithm>
#include <array>
#include <filesystem>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/nn/activation.hpp>  // activation_named
#include <eigenheads/rotary.hpp>         // RotaryOptions
#include <eigenheads/tensor.hpp>         // Index

#include "../json_fields.hpp"  // JsonFields
#include "language_model.hpp"  // ModelOptions, Ids

namespace language_model {

enum class Family { gpt2, llama, mistral, qwen2 };

struct PretrainedConfig {
  Family family = Family::gpt2;
  ModelOptions model{};
  bool has_tied_head = false;  // the head's weights are the embedding's, unless a file has others
  // Which of a layer's projections have a bias; all are made with one if any has.
  bool query_key_value_bias = false, output_bias = false, feed_forward_bias = false;
  Ids end_ids{};  // of a text
};

namespace detail {

[[nodiscard]] inline Family family_of(const JsonFields& config) {
  static constexpr std::array names{std::pair{std::string_view("gpt2"), Family::gpt2},
                                    std::pair{std::string_view("llama"), Family::llama},
                                    std::pair{std::string_view("mistral"), Family::mistral},
                                    std::pair{std::string_view("qwen2"), Family::qwen2}};
  const std::string type = config.text("model_type");
  for (const auto& [name, family] : names)
    if (type == name) return family;
  config.refuse("model_type", "gpt2, llama, mistral or qwen2");
}

[[nodiscard]] inline eigenheads::Activation activation_of(const JsonFields& config,
                                                          const std::string& name,
                                                          const std::string& otherwise) {
  const std::string function = config.text(name, otherwise);
  try {
    return eigenheads::activation_named(function);
  } catch (const std::invalid_argument&) {
    config.refuse(name, "a function that this library has, as gelu, gelu_new, relu or silu");
  }
}

// A setting that has one value here.
inline void require_flag(const JsonFields& config, const std::string& name, bool value) {
  if (config.flag(name, value) != value)
    config.refuse(name,
                  value ? "true, which alone is known here" : "false, which alone is known here");
}

[[nodiscard]] inline Ids end_ids_of(const JsonFields& config, Index vocabulary) {
  const JsonFields::Json* const value = config.find("eos_token_id");
  if (value == nullptr) return {};
  Ids ids;
  for (const auto& id : value->is_array() ? *value : JsonFields::Json::array({*value})) {
    if (!id.is_number_integer() || id.get<double>() < 0 ||
        id.get<double>() >= static_cast<double>(vocabulary))
      config.refuse("eos_token_id", "tokens of the vocabulary");
    ids.push_back(id.get<Index>());
  }
  return ids;
}

inline constexpr Index kMostSize = 1 << 20;  // of an axis: no product of two of them overflows
inline constexpr Index kMostLayers = 1024;

// Of rotary, "rope_scaling" in older files and "rope_parameters" in newer ones.
[[nodiscard]] inline eigenheads::RotaryScaling scaling_of(const JsonFields& rope,
                                                          Index max_positions) {
  const std::string name = rope.find("rope_type") != nullptr ? "rope_type" : "type";
  const std::string type = rope.text(name, "default");
  const auto factor = [&] {
    const double value = rope.number("factor");
    if (!(value >= 1)) rope.refuse("factor", "a number, 1 or more");
    return value;
  };
  const auto original = [&] {
    return rope.count("original_max_position_embeddings", 1, kMostSize * 1024, max_positions);
  };
  const auto optional_number = [&](const std::string& field) -> std::optional<double> {
    if (rope.find(field) == nullptr) return {};
    return rope.number(field);
  };
  if (type == "default") return {};
  if (type == "linear") return eigenheads::LinearScaling{factor()};
  if (type == "llama3")
    return eigenheads::Llama3Scaling{.factor = factor(),
                                     .low_frequency_factor = rope.number("low_freq_factor"),
                                     .high_frequency_factor = rope.number("high_freq_factor"),
                                     .original_positions = original()};
  if (type == "yarn")
    return eigenheads::YarnScaling{.factor = factor(),
                                   .original_positions = original(),
                                   .beta_fast = rope.number("beta_fast", 32),
                                   .beta_slow = rope.number("beta_slow", 1),
                                   .attention_factor = optional_number("attention_factor"),
                                   .mscale = optional_number("mscale"),
                                   .mscale_all_dim = optional_number("mscale_all_dim"),
                                   .truncate = rope.flag("truncate", true)};
  rope.refuse(name, "default, linear, llama3 or yarn");
}

[[nodiscard]] inline eigenheads::RotaryOptions rotary_of(const JsonFields& config,
                                                         Index max_positions, Index head_size) {
  eigenheads::RotaryOptions rotary{.max_positions = max_positions};
  rotary.base = config.number("rope_theta", 10'000);
  double share = config.number("partial_rotary_factor", 1);
  for (const char* name : {"rope_scaling", "rope_parameters"})
    if (const auto rope = config.object(name)) {
      rotary.base = rope->number("rope_theta", rotary.base);
      share = rope->number("partial_rotary_factor", share);
      rotary.scaling = scaling_of(*rope, max_positions);
    }
  rotary.rotated = static_cast<Index>(static_cast<double>(head_size) * share);
  return rotary;
}

// A window of Mistral's and Qwen2's, which all layers have or none.
[[nodiscard]] inline Index window_of(const JsonFields& config, Family family) {
  if (family == Family::llama) return 0;
  if (family == Family::qwen2 && !config.flag("use_sliding_window", false)) return 0;
  const Index window = config.count("sliding_window", 1, kMostSize * 1024, 0);
  if (const JsonFields::Json* const types = config.find("layer_types")) {
    const std::string all = window > 0 ? "sliding_attention" : "full_attention";
    if (!types->is_array() ||
        !std::ranges::all_of(*types, [&](const auto& type) { return type == all; }))
      config.refuse("layer_types", all + " in every layer");
  } else if (family == Family::qwen2 && window > 0) {
    config.refuse("use_sliding_window", "false, or \"layer_types\" that say which layers have one");
  }
  return window;
}

[[nodiscard]] inline PretrainedConfig gpt2_config(const JsonFields& config) {
  const Index E = config.count("n_embd", 1, kMostSize),
              positions = config.count("n_positions", 1, kMostSize * 1024);
  const Index H = config.count("n_head", 1, kMostSize);
  if (E % H != 0) config.refuse("n_head", "a divisor of n_embd, " + std::to_string(E));
  for (const auto& [name, value] :
       {std::pair{"scale_attn_weights", true}, std::pair{"scale_attn_by_inverse_layer_idx", false},
        std::pair{"add_cross_attention", false}})
    require_flag(config, name, value);
  return {.family = Family::gpt2,
          .model = {.vocabulary = config.count("vocab_size", 1, kMostSize * 16),
                    .encoder = {.layer = {.num_hiddens = E,
                                          .num_heads = H,
                                          .feed_forward_size =
                                              config.count("n_inner", 1, kMostSize, 4 * E),
                                          .activation = activation_of(config, "activation_function",
                                                                      "gelu_new"),
                                          .norm_first = true,
                                          .norm_eps = config.number("layer_norm_epsilon", 1e-5)},
                                .num_layers = config.count("n_layer", 1, kMostLayers),
                                .final_norm = true},
                    .learnt_positions = positions,
                    .longest = positions},
          .has_tied_head = config.flag("tie_word_embeddings", true),
          .query_key_value_bias = true,
          .output_bias = true,
          .feed_forward_bias = true};
}

[[nodiscard]] inline PretrainedConfig llama_config(const JsonFields& config, Family family) {
  const Index E = config.count("hidden_size", 1, kMostSize);
  const Index H = config.count("num_attention_heads", 1, kMostSize);
  const Index G = config.count("num_key_value_heads", 1, kMostSize, H);
  if (H % G != 0)
    config.refuse("num_key_value_heads", "a divisor of num_attention_heads, " + std::to_string(H));
  if (config.find("head_dim") == nullptr && E % H != 0)
    config.refuse("num_attention_heads", "a divisor of hidden_size, " + std::to_string(E));
  const Index D = config.count("head_dim", 1, kMostSize, E / H);
  const Index positions = config.count("max_position_embeddings", 1, kMostSize * 1024);
  PretrainedConfig result{.family = family,
                          .has_tied_head = config.flag("tie_word_embeddings", false)};
  if (family == Family::llama) {
    result.query_key_value_bias = result.output_bias = config.flag("attention_bias", false);
    result.feed_forward_bias = config.flag("mlp_bias", false);
  }
  if (family == Family::qwen2) result.query_key_value_bias = true;
  result.model = {
      .vocabulary = config.count("vocab_size", 1, kMostSize * 16),
      .encoder = {.layer = {.num_hiddens = E,
                            .num_heads = H,
                            .feed_forward_size = config.count("intermediate_size", 1, kMostSize),
                            .activation = activation_of(config, "hidden_act", "silu"),
                            .gated = true,
                            .norm_first = true,
                            .norm = eigenheads::NormKind::rms_norm,
                            .norm_eps = config.number("rms_norm_eps", 1e-6),
                            .bias = result.query_key_value_bias || result.feed_forward_bias,
                            .num_kv_heads = G,
                            .head_size = D,
                            .rotary = rotary_of(config, positions, D)},
                  .num_layers = config.count("num_hidden_layers", 1, kMostLayers),
                  .final_norm = true},
      .window = window_of(config, family),
      .longest = positions};
  return result;
}

}  // namespace detail

// Throws eigenheads::FileError, with the field and its value.
[[nodiscard]] inline PretrainedConfig read_config(const std::filesystem::path& path) {
  const JsonFields config(path);
  const Family family = detail::family_of(config);
  PretrainedConfig result =
      family == Family::gpt2 ? detail::gpt2_config(config) : detail::llama_config(config, family);
  result.end_ids = detail::end_ids_of(config, result.model.vocabulary);
  return result;
}

}  // namespace language_model
