// SPDX-License-Identifier: MIT
#pragma once
// A text as the model of bytes reads it, and how many of the stories that it ends are right.
#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>      // Context
#include <eigenheads/nn/generate.hpp>  // GenerateOptions, SamplingOptions

#include "model.hpp"    // Model
#include "stories.hpp"  // Verdict, judge
#include "train.hpp"    // to_id, to_ids
#include "voice.hpp"    // Voice
#include "writing.hpp"  // write_after

namespace byte_model {

[[nodiscard]] inline std::string to_text(std::span<const Index> ids) {
  std::string text;
  for (const Index id : ids) text += static_cast<char>(static_cast<unsigned char>(id));
  return text;
}

// A prompt begins a line, so the model reads the end of another before it.
[[nodiscard]] inline Ids prompt_ids(std::string_view prompt) {
  return to_ids(std::string(1, '\n').append(prompt));
}

[[nodiscard]] inline language_model::Voice voice_of(Model<float> model) {
  return {.model = std::move(model),
          .ids_of = [](const std::string& prompt) { return prompt_ids(prompt); },
          .bytes_of = [](Index id) { return to_text({&id, 1}); }};
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
    std::vector<Ids> prompts;
    for (Index i = first; i < (std::min)(first + at_once, count); ++i) {
      const std::string whole = story(seed, static_cast<std::uint64_t>(i));
      openings.push_back(whole.substr(0, whole.find('.') + 1));
      prompts.push_back(prompt_ids(openings.back()));
    }
    const auto endings =
        language_model::write_after(model, prompts,
                                    {.sampling = sampling,
                                     .max_new_tokens = 400,
                                     .stop_ids = {to_id('\n')},
                                     .first_sequence = static_cast<std::uint64_t>(first)},
                                    context);
    for (std::size_t i = 0; i < openings.size(); ++i) {
      const std::string written = openings[i] + to_text(endings[i]);
      const Verdict verdict = judge(written);
      score.add(verdict);
      tell(written, verdict);
    }
  }
  return score;
}

}  // namespace byte_model
