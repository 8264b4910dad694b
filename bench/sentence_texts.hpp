// SPDX-License-Identifier: MIT
#pragma once
// Sentences of so many tokens, the special ones counted, by integer arithmetic: words that one token
// or several stand for, and full stops where the next word would be too long.
#include <array>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "../examples/tokenizers/tokenizer.hpp"  // Tokenizer
#include "encoder_cases.hpp"                     // encoder_cases
#include "inputs.hpp"                            // number_below

namespace bench {

struct SentenceCase {
  std::string name;
  std::vector<std::string> texts;
};

[[nodiscard]] inline std::string sentence_of(const tokenizers::Tokenizer& tokenizer, Index tokens,
                                             Index number) {
  static constexpr std::array<std::string_view, 64> words{
      "the",        "a",          "of",       "and",        "to",           "in",       "is",
      "was",        "for",        "with",     "that",       "on",           "It",       "she",
      "they",       "not",        "river",    "market",     "weather",      "children", "yesterday",
      "quickly",    "house",      "music",    "government", "green",        "seven",    "1987",
      "company",    "unbearable", "kitchen",  "photograph", "thermostat",   "London",   "Anna",
      "translated", "mountains",  "evening,", "problem,",   "question;",    "old",      "new",
      "beautiful",  "rewriting",  "bicycles", "umbrellas",  "unexpectedly", "bread",    "walked",
      "asked",      "sold",       "found",    "because",    "although",     "never",    "always",
      "tomatoes",   "caf\u00e9",  "don't",    "high-speed", "spreadsheets", "Q3",       "\"why\"",
      "(perhaps)"};
  const auto count = [&](const std::string& text) {
    return static_cast<Index>(tokenizer.encode(text).ids.size());
  };
  std::string text(words[0]);
  for (Index i = 0; count(text) < tokens; ++i) {
    const auto word =
        static_cast<std::size_t>(number_below(std::ssize(words), Stream::keys, 1000 * number + i));
    const std::string longer = text + ' ' + std::string(words[word]);
    text = count(longer) <= tokens ? longer : text + '.';
  }
  if (count(text) != tokens)
    throw std::runtime_error("no sentence has " + std::to_string(tokens) + " tokens");
  return text;
}

// As the cases of encoders have them, in the order in which they come; and some of one length.
[[nodiscard]] inline std::vector<SentenceCase> sentence_cases(
    const tokenizers::Tokenizer& tokenizer) {
  std::vector<SentenceCase> cases{{"128 sentences of 5 to 60 tokens", {}},
                                  {"64 sentences of 64 tokens", {}}};
  Index number = 0;
  for (const auto& lens : encoder_cases()[0].batches)
    for (const Index n : lens) cases[0].texts.push_back(sentence_of(tokenizer, n, number++));
  for (int i = 0; i < 64; ++i) cases[1].texts.push_back(sentence_of(tokenizer, 64, number++));
  return cases;
}

}  // namespace bench
