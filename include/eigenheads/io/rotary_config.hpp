// SPDX-License-Identifier: MIT
#pragma once
// What config.json says of rotary positions (model_config.hpp). Whatever is read makes a Rotary: what
// that would refuse is refused here, by the name of the field.
// Needs nlohmann-json 3.
#include <optional>
#include <string>
#include <vector>

#include <eigenheads/detail/float_bits.hpp>  // is_finite
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>                  // number_text
#include <eigenheads/io/config_fields.hpp>       // ConfigFields
#include <eigenheads/io/safetensors_header.hpp>  // quoted_name
#include <eigenheads/rotary.hpp>                 // what RotaryOptions make
#include <eigenheads/rotary_options.hpp>         // RotaryOptions
#include <eigenheads/tensor.hpp>                 // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

class RotaryConfigReader {
 public:
  // Both are referred to.
  RotaryConfigReader(const ConfigFields& fields, std::vector<std::string>& notes)
      : fields_(fields), notes_(notes) {}

  [[nodiscard]] RotaryOptions read(Index head_size, Index max_positions) {
    if (head_size % 2 != 0)
      fields_.refuse("heads have " + std::to_string(head_size) +
                     " numbers; expected an even number, of which pairs are turned");
    RotaryOptions rotary{.max_positions = max_positions};
    // Newer files say all of it in rope_parameters, older ones the base by itself.
    const auto parameters = fields_.object("rope_parameters");
    const auto older = fields_.object("rope_scaling");
    if (parameters && older && *fields_.find("rope_parameters") != *fields_.find("rope_scaling"))
      fields_.refuse("rope_scaling", "none beside rope_parameters, of which only one would count");
    const auto scaling = parameters ? parameters : older;
    auto base = scaling ? scaling->number("rope_theta") : std::nullopt;
    if (!base) base = fields_.number("rope_theta");
    if (!base) notes_.push_back("rope_theta is not said: it is taken for 10000");
    rotary.base = base.value_or(10000);
    if (!is_finite(static_cast<double>(max_positions) / rotary.base))
      fields_.refuse("rope_theta is " + number_text(rotary.base) +
                     "; expected a number that positions can be divided by");
    require_whole_heads(fields_);
    if (scaling) {
      require_whole_heads(*scaling);
      read_scaling(*scaling, head_size, rotary);
    }
    return rotary;
  }

 private:
  static void require_whole_heads(const ConfigFields& fields) {
    if (fields.number("partial_rotary_factor").value_or(1) != 1)
      fields.refuse("partial_rotary_factor", "1: these families turn whole heads");
  }

  void read_scaling(const ConfigFields& scaling, Index head_size, RotaryOptions& rotary) {
    const char* const key = scaling.has("rope_type") ? "rope_type" : "type";
    const std::string type = scaling.text(key).value_or("default");
    if (scaling.text("type").value_or(type) != type)
      scaling.refuse("type", quoted_name(type) + ", as rope_type is");
    for (const char* const of_layers : {"full_attention", "sliding_attention"})
      if (scaling.has(of_layers))
        scaling.refuse(of_layers, "none: all layers have the same positions here");
    if (type == "default") {
      if (scaling.has("factor") && scaling.number("factor") != 1)
        scaling.refuse("factor", scaling.has(key) ? "none where nothing is scaled"
                                                  : "a rope_type that says what it is of");
    } else if (type == "linear") {
      rotary.scaling = LinearScaling{factor(scaling)};
    } else if (type == "dynamic") {
      if (head_size == 2)
        scaling.refuse(key, "another one for heads of 2 numbers, whose only pair is not scaled");
      // As long as no sequence is longer than those it was trained on, nothing is scaled; longer ones
      // are refused, unless max_positions and length are made those of the sequences to come.
      rotary.scaling = DynamicNtkScaling{.factor = factor(scaling),
                                         .original_positions = rotary.max_positions,
                                         .length = rotary.max_positions};
    } else if (type == "yarn") {
      rotary.scaling = yarn(scaling, rotary);
    } else if (type == "llama3") {
      rotary.scaling = llama3(scaling, rotary);
    } else {
      scaling.refuse(key, "default, linear, dynamic, yarn or llama3");
    }
  }

  [[nodiscard]] static double factor(const ConfigFields& scaling) {
    const double value = scaling.required_number("factor");
    if (value < 1) scaling.refuse("factor", "1 or more");
    return value;
  }
  // The positions that the model was trained on. Some files say them beside the scaling.
  [[nodiscard]] Index original_positions(const ConfigFields& scaling, const RotaryOptions& rotary) {
    constexpr const char* name = "original_max_position_embeddings";
    const auto inside = scaling.integer(name), outside = fields_.integer(name);
    if (inside && outside && *inside != *outside)
      scaling.refuse(name, std::to_string(*outside) + ", as is said beside it");
    if (inside || outside) return inside ? *inside : *outside;
    notes_.push_back(std::string(name) + " is not said: it is taken for max_position_embeddings, " +
                     std::to_string(rotary.max_positions));
    return rotary.max_positions;
  }
  [[nodiscard]] static std::optional<double> mscale(const ConfigFields& scaling, const char* name) {
    const auto value = scaling.number(name);
    if (value && *value > 1e6) scaling.refuse(name, "a number above 0, at most 10^6");
    return value;
  }
  [[nodiscard]] YarnScaling yarn(const ConfigFields& scaling, const RotaryOptions& rotary) {
    YarnScaling yarn{.factor = factor(scaling),
                     .original_positions = original_positions(scaling, rotary)};
    yarn.beta_fast = scaling.number("beta_fast").value_or(yarn.beta_fast);
    yarn.beta_slow = scaling.number("beta_slow").value_or(yarn.beta_slow);
    if (yarn.beta_fast <= yarn.beta_slow)
      scaling.refuse(scaling.has("beta_fast") ? "beta_fast" : "beta_slow",
                     "a beta_fast that is more than beta_slow");
    if (rotary.base <= 1)
      fields_.refuse("rope_theta is " + number_text(rotary.base) +
                     "; expected more than 1 for yarn");
    yarn.attention_factor = scaling.number("attention_factor");
    yarn.mscale = mscale(scaling, "mscale");
    yarn.mscale_all_dim = mscale(scaling, "mscale_all_dim");
    yarn.truncate = scaling.boolean("truncate").value_or(true);
    return yarn;
  }
  [[nodiscard]] Llama3Scaling llama3(const ConfigFields& scaling, const RotaryOptions& rotary) {
    const Llama3Scaling llama{.factor = factor(scaling),
                              .low_frequency_factor = scaling.required_number("low_freq_factor"),
                              .high_frequency_factor = scaling.required_number("high_freq_factor"),
                              .original_positions = original_positions(scaling, rotary)};
    if (llama.low_frequency_factor >= llama.high_frequency_factor)
      scaling.refuse("high_freq_factor", "more than low_freq_factor");
    return llama;
  }

  const ConfigFields& fields_;
  std::vector<std::string>& notes_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
