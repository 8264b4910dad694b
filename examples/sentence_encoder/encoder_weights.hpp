// SPDX-License-Identifier: MIT
#pragma once
// The weights of an Encoder under the names that Hugging Face's models give them, which may all stand
// behind the name of the model, "bert.", and in old files are "gamma" and "beta" in a norm.
#include <algorithm>
#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/io/safetensors.hpp>        // Safetensors
#include <eigenheads/io/safetensors_files.hpp>  // SafetensorsFiles
#include <eigenheads/tensor.hpp>                // Tensor

#include "encoder.hpp"  // Encoder

namespace sentences {

namespace detail {

struct NameRule {
  std::string_view ours, bert, distilbert;
};
inline constexpr std::array kLayerNames{
    NameRule{"self_attention.W_q.", "attention.self.query.", "attention.q_lin."},
    NameRule{"self_attention.W_k.", "attention.self.key.", "attention.k_lin."},
    NameRule{"self_attention.W_v.", "attention.self.value.", "attention.v_lin."},
    NameRule{"self_attention.W_o.", "attention.output.dense.", "attention.out_lin."},
    NameRule{"norm1.", "attention.output.LayerNorm.", "sa_layer_norm."},
    NameRule{"feed_forward.up.", "intermediate.dense.", "ffn.lin1."},
    NameRule{"feed_forward.down.", "output.dense.", "ffn.lin2."},
    NameRule{"norm2.", "output.LayerNorm.", "output_layer_norm."},
};

inline constexpr std::string_view kWords = "embeddings.word_embeddings.weight",
                                  kPositions = "embeddings.position_embeddings.weight",
                                  kTypes = "embeddings.token_type_embeddings.weight",
                                  kNorm = "embeddings.LayerNorm.";

// name: as for_each_parameter of a layer says it.
[[nodiscard]] inline std::string file_name(Family family, std::size_t layer, std::string_view name) {
  const bool is_distil = family == Family::distilbert;
  const auto rule = std::ranges::find_if(
      kLayerNames, [&](const NameRule& r) { return name.starts_with(r.ours); });
  return (is_distil ? "transformer.layer." : "encoder.layer.") + std::to_string(layer) + '.' +
         std::string(is_distil ? rule->distilbert : rule->bert) +
         std::string(name.substr(rule->ours.size()));
}

// visit(name in a file without a prefix, Parameter) for all that are no tables.
template <class AnyEncoder, class Visit>
void for_each_named(AnyEncoder& encoder, const Visit& visit) {
  encoder.norm.for_each_parameter(
      [&](const auto& parameter) { visit(std::string(kNorm) + parameter.name(), parameter); });
  for (std::size_t l = 0; l < encoder.num_layers(); ++l)
    encoder.stack.layers[l].for_each_parameter([&](const auto& parameter) {
      visit(file_name(encoder.config().family, l, parameter.name()), parameter);
    });
}

class NamedWeights {
 public:
  explicit NamedWeights(const path& folder) : files_(folder) {
    for (const std::string& name : files_.names())
      if (const std::size_t at = name.find(kWords);
          at != name.npos && at + kWords.size() == name.size()) {
        if (is_found_)
          eigenheads::detail::refuse_file(files_.path(), "has a \"" + prefix_ + std::string(kWords) +
                                                             "\" and a \"" + name +
                                                             "\"; expected one of them");
        prefix_ = name.substr(0, at);
        is_found_ = true;
      }
  }

  [[nodiscard]] Tensor<float, 2> matrix(std::string_view name, Index rows, Index columns) const {
    return files_.tensor<float, 2>(prefix_ + std::string(name), {rows, columns});
  }
  [[nodiscard]] std::vector<float> values(const std::string& name,
                                          std::span<const Index> shape) const {
    const std::string full = full_name(name);
    if (shape.size() == 1) return values_of(files_.tensor<float, 1>(full, {shape[0]}));
    return values_of(files_.tensor<float, 2>(full, {shape[0], shape[1]}));
  }

 private:
  template <class X>
  [[nodiscard]] static std::vector<float> values_of(const X& tensor) {
    return {tensor.data(), tensor.data() + tensor.size()};
  }
  // Where a norm's parameters are called by both names, the new one counts.
  [[nodiscard]] std::string full_name(const std::string& name) const {
    const std::string full = prefix_ + name;
    if (files_.contains(full)) return full;
    for (const auto& [ours, old] : {std::pair<std::string_view, std::string_view>{"weight", "gamma"},
                                    {"bias", "beta"}})
      if (full.ends_with("LayerNorm." + std::string(ours)))
        if (const auto found = full.substr(0, full.size() - ours.size()) + std::string(old);
            files_.contains(found))
          return found;
    return full;
  }

  eigenheads::SafetensorsFiles files_;
  std::string prefix_;
  bool is_found_ = false;
};

}  // namespace detail

// From model.safetensors in the folder, or from several files with an index. Others than those of the
// encoder, such as those of a head that guesses words, are left alone. Throws eigenheads::FileError
// for a weight that is not there, or of another shape.
inline void load_weights(Encoder& encoder, const path& folder) {
  const detail::NamedWeights weights(folder);
  const EncoderConfig& config = encoder.config();
  const Index E = config.hidden_size;
  encoder.words = std::make_shared<const Tensor<float, 2>>(
      weights.matrix(detail::kWords, config.vocab_size, E));
  encoder.positions = weights.matrix(detail::kPositions, config.max_positions, E);
  if (config.token_types > 0)
    encoder.types = weights.matrix(detail::kTypes, config.token_types, E);
  detail::for_each_named(encoder, [&](const std::string& name, const auto& parameter) {
    parameter.copy_from(weights.values(name, parameter.shape()));
  });
}

// All of an encoder's weights, as load_weights reads them.
[[nodiscard]] inline eigenheads::Safetensors weights_of(const Encoder& encoder) {
  eigenheads::Safetensors file;
  file.set_metadata("format", "pt");
  file.add(std::string(detail::kWords), *encoder.words);
  file.add(std::string(detail::kPositions), encoder.positions);
  if (encoder.config().token_types > 0) file.add(std::string(detail::kTypes), encoder.types);
  detail::for_each_named(encoder, [&](const std::string& name, const auto& parameter) {
    std::vector<float> values(static_cast<std::size_t>(parameter.size()));
    parameter.copy_to(values);
    const auto shape = parameter.shape();
    if (shape.size() == 1)
      file.add(name, TensorView<float, 1>(values.data(), {shape[0]}));
    else
      file.add(name, TensorView<float, 2>(values.data(), {shape[0], shape[1]}));
  });
  return file;
}

}  // namespace sentences
