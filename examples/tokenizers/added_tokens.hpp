// SPDX-License-Identifier: MIT
#pragma once
// Tokens that are cut out of a text before the model sees it: the special ones, and those that were
// added to the vocabulary.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "text.hpp"        // Span
#include "unicode.hpp"     // is_space, is_word
#include "vocabulary.hpp"  // kNoToken

namespace tokenizers {

struct AddedToken {
  std::string content;
  std::int32_t id = 0;
  bool is_single_word = false;  // matches only between characters that are not of words
  bool takes_left = false;      // the spaces before it
  bool takes_right = false;     // and after it
  bool is_normalized = false;   // matches in the normalized text, else in the text as it comes
  bool is_special = false;
  std::string normalized{};  // what it matches, and what decoding makes of it; set by Tokenizer
};

// A part of a text: a token, or what the model is for (id kNoToken).
struct Section {
  Span span;
  std::int32_t id;
};

// Some of the tokens, and where they stand in a text: from the left, the longest that matches.
class TokenMatcher {
 public:
  void add(std::string pattern, const AddedToken& token) {
    if (pattern.empty()) return;
    begins_[static_cast<unsigned char>(pattern[0])] = true;
    tokens_.push_back({std::move(pattern), token});
  }
  // Once all are there. Of equal ones the first stays.
  void sort() {
    std::ranges::stable_sort(tokens_, {}, &Token::pattern);
    const auto is_same = [](const Token& a, const Token& b) { return a.pattern == b.pattern; };
    tokens_.erase(std::unique(tokens_.begin(), tokens_.end(), is_same), tokens_.end());
  }

  // All of the text, section after section; an empty text has none.
  void split(std::string_view text, std::vector<Section>& sections) const {
    std::size_t begin = 0;  // of what is not yet in a section
    const auto add = [&](std::size_t end, std::int32_t id) {
      sections.push_back(
          {{static_cast<std::uint32_t>(begin), static_cast<std::uint32_t>(end)}, id});
    };
    for (std::size_t at = find_begin(text, 0); at < text.size(); at = find_begin(text, at)) {
      const Token* found = longest_at(text, at);
      if (found == nullptr) {
        ++at;
        continue;
      }
      const AddedToken& token = found->token;
      std::size_t first = at, last = at += found->pattern.size();
      if (token.is_single_word && touches_word(text, first, last)) continue;
      if (token.takes_left)
        while (first > begin && is_space(character_before(text, first).code))
          first -= character_before(text, first).size;
      if (token.takes_right)
        while (last < text.size() && is_space(character_at(text, last).code))
          last += character_at(text, last).size;
      if (begin < first) add(first, kNoToken);
      begin = std::max(begin, first);
      add(last, token.id);
      begin = last;
    }
    if (begin < text.size()) add(text.size(), kNoToken);
  }

  [[nodiscard]] bool is_empty() const { return tokens_.empty(); }

 private:
  struct Token {
    std::string pattern;
    AddedToken token;
  };

  [[nodiscard]] std::size_t find_begin(std::string_view text, std::size_t at) const {
    if (tokens_.empty()) return text.size();
    while (at < text.size() && !begins_[static_cast<unsigned char>(text[at])]) ++at;
    return at;
  }

  // Sorted, those that begin alike are neighbours, the shorter ones first: byte by byte, the tokens
  // that are still possible become fewer.
  [[nodiscard]] const Token* longest_at(std::string_view text, std::size_t at) const {
    auto first = tokens_.begin(), last = tokens_.end();
    const Token* longest = nullptr;
    for (std::size_t size = 1; at + size <= text.size() && first != last; ++size) {
      const auto letter = static_cast<unsigned char>(text[at + size - 1]);
      const auto letter_of = [size](const Token& token) {
        return static_cast<int>(static_cast<unsigned char>(token.pattern[size - 1]));
      };
      first = std::ranges::lower_bound(first, last, static_cast<int>(letter), {}, letter_of);
      last = std::ranges::upper_bound(first, last, static_cast<int>(letter), {}, letter_of);
      if (first != last && first->pattern.size() == size) longest = &*first++;
    }
    return longest;
  }

  [[nodiscard]] static bool touches_word(std::string_view text, std::size_t first,
                                         std::size_t last) {
    return (first > 0 && is_word(character_before(text, first).code)) ||
           (last < text.size() && is_word(character_at(text, last).code));
  }

  std::vector<Token> tokens_;
  std::array<bool, 256> begins_{};
};

}  // namespace tokenizers
