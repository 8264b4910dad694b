// SPDX-License-Identifier: MIT
#pragma once
// The regular expressions that byte-level tokenizers cut texts with, written out: there are few of
// them, and a scanner of one is several times as fast as an engine of all.
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "unicode.hpp"  // is_letter, is_number, is_space

namespace tokenizers {

// A pattern that matches at every position of a text.
struct Scanner {
  enum Family : std::uint8_t { gpt2, llama3 } family = gpt2;
  std::uint8_t digits = 3;  // llama3: how many numbers stand together at most

  // Where the match ends that begins at `at`, which is not the end.
  [[nodiscard]] std::size_t operator()(std::string_view text, std::size_t at) const;
};

// The scanner of a pattern, if it is known.
[[nodiscard]] inline std::optional<Scanner> scanner_of(std::string_view pattern) {
  struct Known {
    std::string_view pattern;
    Scanner scanner;
  };
  static constexpr Known known[] = {
      {R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
       {Scanner::gpt2}},
      {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
       R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
       {Scanner::llama3, 3}},
      {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"  // Qwen 2
       R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
       {Scanner::llama3, 1}},
  };
  for (const Known& row : known)
    if (row.pattern == pattern) return row.scanner;
  return std::nullopt;
}

namespace detail {

enum class Class : std::uint8_t { letter, number, space, other };

[[nodiscard]] constexpr Class class_of_ascii(unsigned char c) {
  if ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') return Class::letter;
  if (c >= '0' && c <= '9') return Class::number;
  return c == ' ' || (c >= '\t' && c <= '\r') ? Class::space : Class::other;
}
inline constexpr auto kAsciiClasses = [] {
  std::array<Class, 128> classes{};
  for (std::size_t c = 0; c < 128; ++c) classes[c] = class_of_ascii(static_cast<unsigned char>(c));
  return classes;
}();

// A place in a text.
class Cursor {
 public:
  Cursor(std::string_view text, std::size_t at) : text_(text), at_(at) { look(); }

  [[nodiscard]] std::size_t at() const { return at_; }
  [[nodiscard]] bool is_end() const { return at_ >= text_.size(); }
  [[nodiscard]] bool is(Class wanted) const { return !is_end() && class_ == wanted; }
  [[nodiscard]] bool is_blank() const { return !is_end() && text_[at_] == ' '; }
  [[nodiscard]] bool is_line_end() const {
    return !is_end() && (text_[at_] == '\n' || text_[at_] == '\r');
  }
  void step() {
    at_ += size_;
    look();
  }
  void skip(Class wanted) {
    while (is(wanted)) step();
  }

 private:
  void look() {
    if (is_end()) return;
    const auto byte = static_cast<unsigned char>(text_[at_]);
    size_ = 1;
    if (byte < 0x80) {
      class_ = kAsciiClasses[byte];
      return;
    }
    const Character c = character_at(text_, at_);
    size_ = c.size;
    class_ = is_letter(c.code)   ? Class::letter
             : is_number(c.code) ? Class::number
             : is_space(c.code)  ? Class::space
                                 : Class::other;
  }

  std::string_view text_;
  std::size_t at_, size_ = 1;
  Class class_ = Class::other;
};

// Where 's, 't, 're, 've, 'm, 'll or 'd at the beginning of the text ends; 0 if there is none. In any
// case U+017F is an s, too.
[[nodiscard]] inline std::size_t contraction_end(std::string_view text, bool is_any_case) {
  if (text.size() < 2 || text[0] != '\'') return 0;
  const auto letter = [&](std::size_t i) {
    const char c = i < text.size() ? text[i] : '\0';
    return is_any_case && c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  };
  const char first = letter(1), second = letter(2);
  if (first == 's' || first == 't' || first == 'm' || first == 'd') return 2;
  if (((first == 'r' || first == 'v') && second == 'e') || (first == 'l' && second == 'l'))
    return 3;
  return is_any_case && text.substr(1).starts_with("\u017F") ? 3 : 0;
}

// \s+(?!\S)|\s+: leaves the last of several spaces to the word that follows.
[[nodiscard]] inline std::size_t end_of_spaces(Cursor cursor) {
  std::size_t last = cursor.at();
  const std::size_t begin = last;
  while (cursor.is(Class::space)) {
    last = cursor.at();
    cursor.step();
  }
  return cursor.is_end() || last == begin ? cursor.at() : last;
}

[[nodiscard]] inline std::size_t gpt2_end(std::string_view text, std::size_t at) {
  if (const std::size_t size = contraction_end(text.substr(at), false)) return at + size;
  Cursor cursor(text, at);
  if (cursor.is_blank()) cursor.step();  // " ?", if a word follows
  if (cursor.is_end() || cursor.is(Class::space)) return end_of_spaces({text, at});
  for (const Class kind : {Class::letter, Class::number, Class::other})
    if (cursor.is(kind)) {
      cursor.skip(kind);
      return cursor.at();
    }
  return end_of_spaces({text, at});
}

[[nodiscard]] inline std::size_t llama3_end(std::string_view text, std::size_t at,
                                            std::size_t digits) {
  if (const std::size_t size = contraction_end(text.substr(at), true)) return at + size;
  Cursor cursor(text, at);
  if (cursor.is(Class::number)) {
    for (std::size_t i = 0; i < digits && cursor.is(Class::number); ++i) cursor.step();
    return cursor.at();
  }
  Cursor next = cursor;  // after the one character that may stand before a word
  if (!cursor.is(Class::letter)) next.step();
  if (next.is(Class::letter) && !cursor.is_line_end()) {
    next.skip(Class::letter);
    return next.at();
  }
  next = cursor;
  if (next.is_blank()) next.step();
  if (next.is(Class::other)) {
    next.skip(Class::other);
    while (next.is_line_end()) next.step();
    return next.at();
  }
  std::size_t end_of_lines = at;  // \s*[\r\n]+
  for (next = cursor; next.is(Class::space);) {
    const bool is_line_end = next.is_line_end();
    next.step();
    if (is_line_end) end_of_lines = next.at();
  }
  return end_of_lines > at ? end_of_lines : end_of_spaces(cursor);
}

}  // namespace detail

inline std::size_t Scanner::operator()(std::string_view text, std::size_t at) const {
  return family == gpt2 ? detail::gpt2_end(text, at) : detail::llama3_end(text, at, digits);
}

}  // namespace tokenizers
