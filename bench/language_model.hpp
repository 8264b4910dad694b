// SPDX-License-Identifier: MIT
#pragma once
// A language model as it writes: layers with norms first, GELU, rotary positions and heads that share
// keys and values; always the likeliest token next. Buffers are made once, so that a warm run takes no
// memory.
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <eigenheads/context.hpp>                 // Context
#include <eigenheads/io/npy.hpp>                  // save_npy
#include <eigenheads/linear.hpp>                  // Linear
#include <eigenheads/nn/embedding.hpp>            // Embedding
#include <eigenheads/nn/transformer_cache.hpp>    // TransformerCache
#include <eigenheads/nn/transformer_encoder.hpp>  // TransformerEncoder
#include <eigenheads/rotary.hpp>                  // RotaryOptions
#include <eigenheads/tensor.hpp>                  // Tensor, TensorView, TensorSpan

#include "decoding_cases.hpp"
#include "inputs.hpp"

namespace bench {

namespace eh = eigenheads;

inline void save(const std::filesystem::path& path, const std::vector<float>& numbers) {
  eh::save_npy(path, eh::TensorView<float, 1>(numbers.data(), {std::ssize(numbers)}));
}
// Each parameter in a file of its own, "<start>.<its name>.npy".
template <class Module>
void save_parameters_of(const Module& module, const std::filesystem::path& start) {
  module.for_each_parameter([&](const auto& parameter) {
    std::vector<float> values(static_cast<std::size_t>(parameter.size()));
    parameter.copy_to(values);
    save(start.string() + '.' + parameter.name() + ".npy", values);
  });
}

class LanguageModel {
 public:
  explicit LanguageModel(const ModelCase& c)
      : case_(c),
        embedding_({.num_embeddings = c.vocabulary, .embedding_dim = c.E}, 1),
        encoder_({.layer = {.num_hiddens = c.E,
                            .num_heads = c.H,
                            .feed_forward_size = c.hidden,
                            .activation = eh::Activation::gelu,
                            .norm_first = true,
                            .num_kv_heads = c.G,
                            .rotary = eh::RotaryOptions{.max_positions = c.capacity()}},
                  .num_layers = c.layers,
                  .final_norm = true},
                 1),
        head_({c.E, c.vocabulary, true}, 1),
        cache_(encoder_, {.batch_size = c.B, .capacity = c.capacity()}),
        prompt_(c.B, c.prompt),
        ids_(c.B, 1),
        of_prompt_(c.B, c.prompt, c.E),
        x_(c.B, 1, c.E),
        logits_(c.written, c.B, c.vocabulary) {
    for (Index i = 0; i < prompt_.size(); ++i)
      prompt_.data()[i] = number_below(c.vocabulary, Stream::queries, i);
  }

  void read_prompt(eh::Context& context) {
    cache_.reset();
    embedding_.forward_into(of_prompt_, prompt_, context);
    encoder_.step_into(of_prompt_, of_prompt_, cache_, {}, {.context = context});
    for (Index b = 0; b < case_.B; ++b)
      std::copy_n(of_prompt_.data() + ((b + 1) * case_.prompt - 1) * case_.E, case_.E,
                  x_.data() + b * case_.E);
    choose(0, context);
  }
  void write_on(eh::Context& context) {
    for (Index i = 1; i < case_.written; ++i) {
      embedding_.forward_into(x_, ids_, context);
      encoder_.step_into(x_, x_, cache_, {}, {.context = context});
      choose(i, context);
    }
  }

  // For the peers: parameters, the prompt, and the logits of every token that was written.
  void write_files(const std::filesystem::path& start) {
    save_parameters_of(embedding_, start.string() + ".embedding");
    save_parameters_of(encoder_, start);
    save_parameters_of(head_, start.string() + ".head");
    read_prompt(eh::default_context());
    write_on(eh::default_context());
    save(start.string() + "_prompt.npy", {prompt_.data(), prompt_.data() + prompt_.size()});
    save(start.string() + "_y.npy", {logits_.data(), logits_.data() + logits_.size()});
  }

 private:
  // The next token of every sequence, number i of those that are written.
  void choose(Index i, eh::Context& context) {
    const Index B = case_.B, V = case_.vocabulary;
    float* const logits = logits_.data() + i * B * V;
    head_.forward_into(eh::TensorSpan<float, 2>(logits, {B, V}),
                       eh::TensorView<float, 2>(x_.data(), {B, case_.E}), context);
    for (Index b = 0; b < B; ++b) {
      const float* const row = logits + b * V;
      ids_(b, 0) = std::max_element(row, row + V) - row;
    }
  }

  ModelCase case_;
  eh::Embedding<float> embedding_;
  eh::TransformerEncoder<float> encoder_;
  eh::Linear<float> head_;
  eh::TransformerCache<float> cache_;
  eh::Tensor<Index, 2> prompt_, ids_;   // [B, prompt], [B, 1]
  eh::Tensor<float, 3> of_prompt_, x_;  // [B, prompt, E], [B, 1, E]
  eh::Tensor<float, 3> logits_;         // [written, B, vocabulary]
};

}  // namespace bench
