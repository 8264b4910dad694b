// SPDX-License-Identifier: MIT
#pragma once
// Texts that a model writes after a prompt: drawn byte by byte, or the likeliest line that a beam search
// finds; and what each byte of a text looked at.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>              // Context
#include <eigenheads/nn/beam_search.hpp>       // BeamSearch
#include <eigenheads/nn/generate.hpp>          // generate
#include <eigenheads/nn/log_softmax.hpp>       // log_softmax
#include <eigenheads/plot/attention_view.hpp>  // AttentionViewLayer
#include <eigenheads/tensor.hpp>               // Tensor, TensorView

#include "model.hpp"    // Model, Reader
#include "stories.hpp"  // Verdict, judge
#include "train.hpp"    // to_id

namespace byte_model {

[[nodiscard]] inline Ids to_ids(std::string_view text) {
  Ids ids;
  for (const char c : text) ids.push_back(to_id(c));
  return ids;
}
[[nodiscard]] inline std::string to_text(std::span<const Index> ids) {
  std::string text;
  for (const Index id : ids) text += static_cast<char>(static_cast<unsigned char>(id));
  return text;
}

// A prompt begins a line, so the model reads the end of another before it.
[[nodiscard]] inline Ids prompt_ids(std::string_view prompt) {
  return to_ids(std::string(1, '\n').append(prompt));
}

// What follows each prompt.
template <Scalar T>
[[nodiscard]] std::vector<std::string> write_after(const Model<T>& model,
                                                   const std::vector<std::string>& prompts,
                                                   const eigenheads::GenerateOptions& options,
                                                   Context& context) {
  std::vector<Ids> ids;
  for (const std::string& prompt : prompts) ids.push_back(prompt_ids(prompt));
  Reader<T> reader(model, std::ssize(ids), context);
  std::vector<std::string> texts;
  for (const auto& written : eigenheads::generate(reader, ids, options, context))
    texts.push_back(to_text(written.ids));
  return texts;
}

struct BeamText {
  std::string text;
  double log_probability = 0;
};

// The likeliest texts after a prompt, the best first; each ends with its line, or after `most` bytes.
// The beams share the prompt, which is read once.
template <Scalar T>
[[nodiscard]] std::vector<BeamText> search_after(const Model<T>& model, const std::string& prompt,
                                                 Index beams, Index most, Context& context) {
  eigenheads::BeamSearch search(
      1, {.num_beams = beams, .stop_ids = {to_id('\n')}, .max_length = most});
  Reader<T> reader(model, beams, context);
  const auto advance = [&](const Ids& ids, const Sequences& sequences) {
    search.advance(eigenheads::log_softmax(
        reader(TensorView<Index, 1>(ids.data(), {std::ssize(ids)}), sequences), context));
  };
  std::vector<Index> lengths(static_cast<std::size_t>(beams));
  lengths.front() = std::ssize(prompt) + 1;
  advance(prompt_ids(prompt), lengths);
  while (!search.is_done()) {
    reader.cache.reorder(search.parents());
    advance(search.tokens(), search.sequences());
  }
  std::vector<BeamText> texts;
  for (Index rank = 0; rank < beams; ++rank) {
    const double log_probability = search.beams(0)[static_cast<std::size_t>(rank)].log_probability;
    if (log_probability > eigenheads::Beam::none)
      texts.push_back({to_text(search.ids(0, rank)), log_probability});
  }
  return texts;
}

// What every head of every layer looks at as the model reads a text.
template <Scalar T>
[[nodiscard]] std::vector<eigenheads::AttentionViewLayer<T>> look(const Model<T>& model,
                                                                  std::string_view text,
                                                                  Context& context) {
  const Sequences one{std::ssize(text)};
  std::vector<std::string> labels;
  for (const char c : text) {
    constexpr std::string_view digits = "0123456789ABCDEF";
    const auto byte = static_cast<unsigned char>(c);
    labels.push_back(byte < 0x80 ? std::string(1, c)
                                 : std::string{digits[byte / 16], digits[byte % 16]});
  }
  std::vector<eigenheads::AttentionViewLayer<T>> layers;
  const Tensor<T, 2> x = model.embedding(to_ids(text), context);
  auto seen = model.encoder.with_weights(x, one, model.mask(), {.context = context});
  for (auto& weights : seen.weights)
    layers.push_back(
        {.weights = std::move(weights.front()), .query_labels = labels, .key_labels = labels});
  return layers;
}

// How many stories are right that the model ends after openings that are given.
struct Score {
  Index count = 0, formed = 0, names = 0, pronouns = 0, things = 0, sums = 0, right = 0;

  void add(const Verdict& verdict) {
    ++count;
    formed += verdict.is_formed;
    names += verdict.is_formed && verdict.names;
    pronouns += verdict.is_formed && verdict.pronouns;
    things += verdict.is_formed && verdict.things;
    sums += verdict.is_formed && verdict.sums;
    right += verdict.is_right();
  }
};

// tell(story, verdict) is called of each.
template <Scalar T, class Tell>
[[nodiscard]] Score score_stories(const Model<T>& model, Index count,
                                  const eigenheads::SamplingOptions& sampling, const Tell& tell,
                                  Context& context) {
  constexpr std::uint64_t seed = 0x7E57;  // not that of the text that the model learnt from
  constexpr Index at_once = 50;
  Score score;
  for (Index first = 0; first < count; first += at_once) {
    std::vector<std::string> openings;
    for (Index i = first; i < (std::min)(first + at_once, count); ++i) {
      const std::string whole = story(seed, static_cast<std::uint64_t>(i));
      openings.push_back(whole.substr(0, whole.find('.') + 1));
    }
    const auto endings = write_after(model, openings,
                                     {.sampling = sampling,
                                      .max_new_tokens = 400,
                                      .stop_ids = {to_id('\n')},
                                      .first_sequence = static_cast<std::uint64_t>(first)},
                                     context);
    for (std::size_t i = 0; i < openings.size(); ++i) {
      const std::string written = openings[i] + endings[i];
      const Verdict verdict = judge(written);
      score.add(verdict);
      tell(written, verdict);
    }
  }
  return score;
}

}  // namespace byte_model
