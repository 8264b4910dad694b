// SPDX-License-Identifier: MIT
#pragma once
// Tokens as a text again.
#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

#include "byte_pairs.hpp"  // bytes_of

namespace tokenizers {

class Decoder {
 public:
  enum class Kind { blanks, word_piece, byte_level };  // blanks: one between any two tokens

  Decoder() = default;
  explicit Decoder(Kind kind, std::string prefix = "##", bool cleans_up = true)
      : kind_(kind), prefix_(std::move(prefix)), cleans_up_(cleans_up) {}

  // Adds the next token to a text, which is that of all before it.
  void add(std::string_view token, bool is_first, std::string& text) const {
    switch (kind_) {
      case Kind::blanks:
        if (!is_first) text += ' ';
        text += token;
        break;
      case Kind::byte_level:
        if (const auto bytes = bytes_of(token))
          text += *bytes;
        else
          text += token;
        break;
      case Kind::word_piece: {
        std::string word;
        if (!is_first && !prefix_.empty() && token.starts_with(prefix_))
          word = token.substr(prefix_.size());
        else
          word = (is_first || prefix_.empty() ? "" : " ") + std::string(token);
        text += cleans_up_ ? cleaned(std::move(word)) : word;
        break;
      }
    }
  }

 private:
  // The blanks that English does not write. Each token is cleaned alone, one rule after the other.
  [[nodiscard]] static std::string cleaned(std::string word) {
    struct Rule {
      std::string_view from, to;
    };
    static constexpr std::array<Rule, 11> rules{{{" .", "."},
                                                 {" ?", "?"},
                                                 {" !", "!"},
                                                 {" ,", ","},
                                                 {" ' ", "'"},
                                                 {" n't", "n't"},
                                                 {" 'm", "'m"},
                                                 {" do not", " don't"},
                                                 {" 's", "'s"},
                                                 {" 've", "'ve"},
                                                 {" 're", "'re"}}};
    for (const Rule& rule : rules)
      for (std::size_t at = 0; (at = word.find(rule.from, at)) != word.npos; at += rule.to.size())
        word.replace(at, rule.from.size(), rule.to);
    return word;
  }

  Kind kind_ = Kind::blanks;
  std::string prefix_;
  bool cleans_up_ = true;
};

}  // namespace tokenizers
