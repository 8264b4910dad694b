// SPDX-License-Identifier: MIT
#pragma once
// Texts that a model writes after a prompt: drawn token by token, or the likeliest that a beam search
// finds; and what each token of a text looked at.
#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>              // Context
#include <eigenheads/nn/beam_search.hpp>       // BeamSearch
#include <eigenheads/nn/generate.hpp>          // generate
#include <eigenheads/nn/log_softmax.hpp>       // log_softmax
#include <eigenheads/plot/attention_view.hpp>  // AttentionViewLayer
#include <eigenheads/tensor.hpp>               // Tensor

#include "language_model.hpp"  // Model, Reader, Ids

namespace language_model {

// What follows each prompt.
template <Scalar T>
[[nodiscard]] std::vector<Ids> write_after(const Model<T>& model, const std::vector<Ids>& prompts,
                                           const eigenheads::GenerateOptions& options,
                                           Context& context) {
  Index longest = 0;
  for (const Ids& prompt : prompts) longest = (std::max)(longest, Index{std::ssize(prompt)});
  Reader<T> reader(model, std::ssize(prompts), longest + options.max_new_tokens, context);
  std::vector<Ids> texts;
  for (auto& written : eigenheads::generate(reader, prompts, options, context))
    texts.push_back(std::move(written.ids));
  return texts;
}

struct BeamText {
  Ids ids{};
  double log_probability = 0;
};

// The likeliest texts after a prompt, the best first; each ends with one of stop_ids, or after `most`
// tokens. The beams share the prompt, which is read once.
struct BeamOptions {
  Index beams = 1, most = 1;
  std::vector<Index> stop_ids{};
};
template <Scalar T>
[[nodiscard]] std::vector<BeamText> search_after(const Model<T>& model, const Ids& prompt,
                                                 const BeamOptions& options, Context& context) {
  eigenheads::BeamSearch search(
      1, {.num_beams = options.beams, .stop_ids = options.stop_ids, .max_length = options.most});
  Reader<T> reader(model, options.beams, std::ssize(prompt) + options.most, context);
  const auto advance = [&](const Ids& ids, const Sequences& sequences) {
    search.advance(eigenheads::log_softmax(reader(view_of(ids), sequences), context));
  };
  std::vector<Index> lengths(static_cast<std::size_t>(options.beams));
  lengths.front() = std::ssize(prompt);
  advance(prompt, lengths);
  while (!search.is_done()) {
    reader.cache.reorder(search.parents());
    advance(search.tokens(), search.sequences());
  }
  std::vector<BeamText> texts;
  for (Index rank = 0; rank < options.beams; ++rank) {
    const double log_probability = search.beams(0)[static_cast<std::size_t>(rank)].log_probability;
    if (log_probability > eigenheads::Beam::none)
      texts.push_back({search.ids(0, rank), log_probability});
  }
  return texts;
}

// What every head of every layer looks at as the model reads a text; labels: of its tokens.
template <Scalar T>
[[nodiscard]] std::vector<eigenheads::AttentionViewLayer<T>> look(
    const Model<T>& model, const Ids& ids, const std::vector<std::string>& labels,
    Context& context) {
  const Sequences one{std::ssize(ids)};
  std::vector<eigenheads::AttentionViewLayer<T>> layers;
  const Tensor<T, 2> x = model.embed(view_of(ids), one, {}, context);
  auto seen = model.encoder.with_weights(x, one, model.mask(), {.context = context});
  for (auto& weights : seen.weights)
    layers.push_back(
        {.weights = std::move(weights.front()), .query_labels = labels, .key_labels = labels});
  return layers;
}

}  // namespace language_model
