// SPDX-License-Identifier: MIT
#pragma once
// A text that is being rewritten, and where each of its bytes came from.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "../generate/utf8.hpp"  // first_character
#include "unicode.hpp"           // append

namespace tokenizers {

// Bytes [begin, end) of a text.
struct Span {
  std::uint32_t begin = 0, end = 0;
  friend bool operator==(const Span&, const Span&) = default;
};

[[nodiscard]] inline std::string_view part(std::string_view text, Span span) {
  return text.substr(span.begin, span.end - span.begin);
}

struct Text {
  std::string bytes;
  std::vector<Span> sources;  // for each byte the character that it came from

  void add(char byte, Span source) {
    bytes += byte;
    sources.push_back(source);
  }
  void add(char32_t code, Span source) {
    append(bytes, code);
    sources.resize(bytes.size(), source);
  }
  void add(std::string_view text, Span source) {
    bytes += text;
    sources.resize(bytes.size(), source);
  }
  // Where bytes `span` of this text came from.
  [[nodiscard]] Span source(Span span) const {
    if (span.begin >= span.end) return {};
    return {sources[span.begin].begin, sources[span.end - 1].end};
  }
};

// A text as it comes. What is no UTF-8 becomes U+FFFD, as bytes.decode(errors="replace") of Python
// makes it.
[[nodiscard]] inline Text text_of(std::string_view bytes) {
  Text result;
  result.bytes.reserve(bytes.size());
  result.sources.reserve(bytes.size());
  for (std::uint32_t at = 0; at < bytes.size();) {
    const auto next = byte_model::first_character(bytes.substr(at));
    const Span source{at, at + static_cast<std::uint32_t>(next.size)};
    const bool is_whole = next.state == byte_model::Utf8Character::whole;
    result.add(is_whole ? bytes.substr(at, next.size) : "\uFFFD", source);
    at = source.end;
  }
  return result;
}

// Bytes [begin, end) of a text.
[[nodiscard]] inline Text part(const Text& text, Span span) {
  return {std::string(part(text.bytes, span)),
          {text.sources.begin() + span.begin, text.sources.begin() + span.end}};
}

}  // namespace tokenizers
