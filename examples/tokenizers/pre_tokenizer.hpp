// SPDX-License-Identifier: MIT
#pragma once
// How a text is cut into words, none of which a token crosses.
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "scanners.hpp"  // Scanner
#include "text.hpp"      // Text, Span
#include "unicode.hpp"   // is_space, is_bert_punctuation

namespace tokenizers {

using Words = std::vector<Span>;  // in a Text

// Spaces are left out, punctuation is a word character by character.
struct BertPreTokenizer {
  void operator()(const Text& text, Span all, Words& words) const {
    std::uint32_t begin = all.begin;
    const auto end_word = [&](std::uint32_t at) {
      if (begin < at) words.push_back({begin, at});
    };
    for (std::uint32_t at = all.begin; at < all.end;) {
      const Character c = character_at(text.bytes, at);
      const bool is_blank = is_space(c.code), is_sign = !is_blank && is_bert_punctuation(c.code);
      if (is_blank || is_sign) {
        end_word(at);
        begin = at + c.size;
        if (is_sign) words.push_back({at, begin});
      }
      at += c.size;
    }
    end_word(all.end);
  }
};

struct WhitespaceSplit {
  void operator()(const Text& text, Span all, Words& words) const {
    std::uint32_t begin = all.begin;
    for (std::uint32_t at = all.begin; at < all.end;) {
      const Character c = character_at(text.bytes, at);
      if (is_space(c.code)) {
        if (begin < at) words.push_back({begin, at});
        begin = at + c.size;
      }
      at += c.size;
    }
    if (begin < all.end) words.push_back({begin, all.end});
  }
};

// By one of the patterns that scanners.hpp knows. They match every character of a text, so that
// nothing lies between the words.
struct ScannerSplit {
  Scanner scan;

  void operator()(const Text& text, Span all, Words& words) const {
    const std::string_view bytes = part(text.bytes, all);
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t end = scan(bytes, at);
      words.push_back({all.begin + static_cast<std::uint32_t>(at),
                       all.begin + static_cast<std::uint32_t>(end)});
      at = end;
    }
  }
};

// Every word that does not begin with a blank gets one: the only step that changes the text.
struct PrefixSpace {
  void operator()(Text& text, Words& words) const {
    Text result;
    for (Span& word : words) {
      const auto begin = static_cast<std::uint32_t>(result.bytes.size());
      const std::uint32_t first = text.sources[word.begin].begin;
      if (text.bytes[word.begin] != ' ') result.add(' ', {first, first});
      result.bytes += part(text.bytes, word);
      result.sources.insert(result.sources.end(), text.sources.begin() + word.begin,
                            text.sources.begin() + word.end);
      word = {begin, static_cast<std::uint32_t>(result.bytes.size())};
    }
    text = std::move(result);
  }
};

class PreTokenizer {
 public:
  using Step = std::variant<BertPreTokenizer, WhitespaceSplit, ScannerSplit, PrefixSpace>;

  void add(Step step) { steps_.push_back(step); }

  // The words of a text, none of which is empty.
  [[nodiscard]] Words operator()(Text& text) const {
    Words words, finer;
    if (!text.bytes.empty()) words.push_back({0, static_cast<std::uint32_t>(text.bytes.size())});
    for (const Step& step : steps_) {
      if (const auto* prefix = std::get_if<PrefixSpace>(&step)) {
        (*prefix)(text, words);
        continue;
      }
      finer.clear();
      for (const Span word : words)
        std::visit(
            [&](const auto& split) {
              if constexpr (requires { split(text, word, finer); }) split(text, word, finer);
            },
            step);
      words.swap(finer);
    }
    return words;
  }

 private:
  std::vector<Step> steps_;
};

}  // namespace tokenizers
