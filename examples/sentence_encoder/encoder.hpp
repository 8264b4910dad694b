// SPDX-License-Identifier: MIT
#pragma once
// A BERT-like encoder: the vectors of tokens, of their places and of their type, added up and
// normalised, then layers of attention. Texts are packed, so there is no padding, and the vectors of
// a text are the same to the bit whatever stands beside it, on any number of threads.
//   Devlin et al., "BERT: Pre-training of Deep Bidirectional Transformers", 2019
#include <algorithm>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>                 // Context
#include <eigenheads/nn/layer_norm.hpp>           // LayerNorm
#include <eigenheads/nn/transformer_encoder.hpp>  // TransformerEncoder
#include <eigenheads/parameter.hpp>               // Parameter
#include <eigenheads/prune_heads.hpp>             // prune_heads
#include <eigenheads/sequences.hpp>               // Sequences
#include <eigenheads/tensor.hpp>                  // Tensor, TensorView

#include "config.hpp"  // EncoderConfig

namespace sentences {

using eigenheads::Context, eigenheads::Sequences, eigenheads::Tensor, eigenheads::TensorView;
using Ids = std::vector<Index>;

// A table of vectors. (An Embedding draws numbers first, which takes longer than to read those of a
// file.)
struct Table {
  Table(Index count, Index size) : weight(count, size) {}

  Tensor<float, 2> weight;

  [[nodiscard]] const float* row(Index i) const { return weight.data() + i * weight.dimension(1); }

  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    visit(eigenheads::Parameter<float>(std::string(prefix) + "weight", weight));
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    visit(eigenheads::Parameter<const float>(std::string(prefix) + "weight", weight));
  }
};

class Encoder {
 public:
  // With weights that mean nothing: encoder_weights.hpp reads those of a file.
  explicit Encoder(const EncoderConfig& config)
      : words(config.vocab_size, config.size()),
        positions(config.num_positions, config.size()),
        types(config.num_types, config.size()),
        norm({.size = config.size(), .eps = config.embedding_norm_eps}),
        stack({.layer = config.encoder.layer, .num_layers = 1}),
        config_(config) {
    // Only the first layer's weights are drawn: that takes longer than to read those of all.
    stack.layers.resize(static_cast<std::size_t>(config.encoder.num_layers), stack.layers.front());
    for (std::size_t l = 0; l < stack.layers.size(); ++l)
      if (const auto& pruned = config.pruned_heads[l]; !pruned.empty())
        stack.layers[l].self_attention =
            eigenheads::prune_heads(stack.layers[l].self_attention, pruned);
  }

  Table words, positions, types;  // [vocab_size, num_positions or num_types, size]
  eigenheads::LayerNorm<float> norm;
  eigenheads::TransformerEncoder<float> stack;

  [[nodiscard]] const EncoderConfig& config() const { return config_; }
  [[nodiscard]] std::size_t num_layers() const { return stack.layers.size(); }
  // Of a layer, by their numbers in the whole model.
  [[nodiscard]] const std::vector<Index>& heads_left(std::size_t layer) const {
    return stack.layers[layer].self_attention.original_heads();
  }

  // What the first layer reads. ids: those of all texts one after the other, [N] -> [N, size].
  // Throws std::runtime_error for an id that the table of words does not have, or for a text of more
  // tokens than there are places.
  [[nodiscard]] Tensor<float, 2> embed(const Ids& ids, const Sequences& texts,
                                       Context& context) const {
    require(ids, texts);
    const Index E = config_.size();
    Tensor<float, 2> x(texts.rows(), E);
    for (Index b = 0; b < texts.count(); ++b) {
      Index position = config_.first_position;
      for (Index row = texts.begin(b); row < texts.begin(b + 1); ++row) {
        const Index id = ids[static_cast<std::size_t>(row)];
        // In RoBERTa's count, padding that stands in a text takes no place.
        const bool is_padding = config_.first_position > 0 && id == config_.padding_id;
        const float *const word = words.row(id), *const place =
                                                     positions.row(is_padding ? id : position);
        position += is_padding ? 0 : 1;
        float* const to = x.data() + row * E;
        if (config_.num_types == 0)
          for (Index e = 0; e < E; ++e) to[e] = word[e] + place[e];
        else
          for (Index e = 0; e < E; ++e) to[e] = word[e] + types.row(0)[e] + place[e];
      }
    }
    norm.forward_into(x, x, context);
    return x;
  }

  // The vectors of all tokens: [N, size].
  [[nodiscard]] Tensor<float, 2> operator()(const Ids& ids, const Sequences& texts,
                                            Context& context) const {
    Tensor<float, 2> x = embed(ids, texts, context);
    stack.forward_into(x, x, texts, {}, {.context = context});
    return x;
  }

 private:
  void require(const Ids& ids, const Sequences& texts) const {
    if (texts.longest() > config_.max_tokens())
      throw std::runtime_error("a text has " + std::to_string(texts.longest()) +
                               " tokens; the model has places for " +
                               std::to_string(config_.max_tokens()));
    for (const Index id : ids)
      if (id < 0 || id >= config_.vocab_size)
        throw std::runtime_error("a token has the id " + std::to_string(id) +
                                 "; the model has ids from 0 to " +
                                 std::to_string(config_.vocab_size - 1));
  }

  EncoderConfig config_;
};

}  // namespace sentences
