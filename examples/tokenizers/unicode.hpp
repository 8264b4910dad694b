// SPDX-License-Identifier: MIT
#pragma once
// Characters as Hugging Face's tokenizers see them. utf8proc knows those of Unicode 8; for all others,
// of which tokenizers' own tables differ from one another, unicode_ranges.inl holds what they say.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utf8proc.h>

#include "../generate/utf8.hpp"  // first_character

namespace tokenizers {

// ---- UTF-8 --------------------------------------------------------------------------------------

struct Character {
  char32_t code = 0;
  std::uint32_t size = 1;  // bytes
};

// text: UTF-8; at: where a character begins.
[[nodiscard]] inline Character character_at(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[at + i]); };
  const char32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const auto tail = [&](std::size_t i) -> char32_t { return byte(i) & 0x3F; };
  if (lead < 0xE0) return {(lead & 0x1F) << 6 | tail(1), 2};
  if (lead < 0xF0) return {(lead & 0x0F) << 12 | tail(1) << 6 | tail(2), 3};
  return {(lead & 0x07) << 18 | tail(1) << 12 | tail(2) << 6 | tail(3), 4};
}

// The character that ends before `end`, which is not 0.
[[nodiscard]] inline Character character_before(std::string_view text, std::size_t end) {
  std::size_t at = end - 1;
  while ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) --at;
  return character_at(text, at);
}

inline void append(std::string& text, char32_t code) {
  const auto add = [&](char32_t byte) { text += static_cast<char>(byte); };
  const auto tail = [&](int shift) { add(0x80 | (code >> shift & 0x3F)); };
  if (code < 0x80) return add(code);
  if (code < 0x800) {
    add(0xC0 | code >> 6);
  } else {
    if (code < 0x10000) {
      add(0xE0 | code >> 12);
    } else {
      add(0xF0 | code >> 18);
      tail(12);
    }
    tail(6);
  }
  tail(0);
}

[[nodiscard]] inline std::size_t count_characters(std::string_view text) {
  return static_cast<std::size_t>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

// Where the first byte at or after `at` stands that is not ASCII.
[[nodiscard]] inline std::size_t skip_ascii(std::string_view text, std::size_t at) {
  while (at < text.size() && static_cast<unsigned char>(text[at]) < 0x80) ++at;
  return at;
}

[[nodiscard]] inline bool is_utf8(std::string_view text) {
  for (std::size_t at = skip_ascii(text, 0); at < text.size(); at = skip_ascii(text, at)) {
    const auto next = byte_model::first_character(text.substr(at));
    if (next.state != byte_model::Utf8Character::whole) return false;
    at += next.size;
  }
  return true;
}

// ---- Properties ---------------------------------------------------------------------------------

namespace detail {

struct Range {
  char32_t first, last;
};
struct Shift {
  char32_t first, last;
  std::int32_t by;
};

#include "unicode_ranges.inl"

// The range of a sorted table that holds this character, or null.
template <class Row>
[[nodiscard]] const Row* row_of(char32_t c, std::span<const Row> table) {
  const auto row = std::ranges::lower_bound(table, c, {}, &Row::last);
  return row != table.end() && row->first <= c ? &*row : nullptr;
}
template <class Row, std::size_t N>
[[nodiscard]] const Row* row_of(char32_t c, const Row (&table)[N]) {
  return row_of(c, std::span<const Row>(table));
}

// Whether utf8proc is asked. First the long ranges in which nearly all text stands.
[[nodiscard]] inline bool is_of_unicode_8(char32_t c) {
  return c < 0x378 || (c >= 0x3400 && c <= 0x4DB5) || (c >= 0x4E00 && c <= 0x9FD5) ||
         (c >= 0xAC00 && c <= 0xD7A3) || row_of(c, kUnicode8) != nullptr;
}

[[nodiscard]] inline utf8proc_category_t category(char32_t c) {
  return utf8proc_category(static_cast<utf8proc_int32_t>(c));
}

}  // namespace detail

// White_Space; \s of regular expressions.
[[nodiscard]] inline bool is_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 ||
         c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

// \p{L}
[[nodiscard]] inline bool is_letter(char32_t c) {
  if (c < 0x80) return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
  if (!detail::is_of_unicode_8(c)) return detail::row_of(c, detail::kLetters) != nullptr;
  const auto category = detail::category(c);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LO;
}

// \p{N}
[[nodiscard]] inline bool is_number(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  if (!detail::is_of_unicode_8(c)) return detail::row_of(c, detail::kNumbers) != nullptr;
  const auto category = detail::category(c);
  return category >= UTF8PROC_CATEGORY_ND && category <= UTF8PROC_CATEGORY_NO;
}

// What BERT sets apart: P, and the signs of ASCII.
[[nodiscard]] inline bool is_bert_punctuation(char32_t c) {
  if (c < 0x80) return c > ' ' && c < 0x7F && !is_letter(c) && !is_number(c);
  if (c == 0x166D || c == 0x111C9) return true;  // P in Unicode 8 only
  if (!detail::is_of_unicode_8(c)) return false;
  const auto category = detail::category(c);
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

// What BERT removes: Cc, Cf, Co, and U+FFFD. Tabulators and ends of lines are spaces to it.
[[nodiscard]] inline bool is_bert_control(char32_t c) {
  if (c < 0x80) return (c < ' ' || c == 0x7F) && c != '\t' && c != '\n' && c != '\r';
  if (c == 0xFFFD) return true;
  if (!detail::is_of_unicode_8(c)) return false;
  const auto category = detail::category(c);
  return category == UTF8PROC_CATEGORY_CC || category == UTF8PROC_CATEGORY_CF ||
         category == UTF8PROC_CATEGORY_CO;
}

// Mn: the accents that BERT removes.
[[nodiscard]] inline bool is_bert_accent(char32_t c) {
  if (c < 0x300) return false;
  if (c == 0x1734) return true;                                                 // not Mn any more
  if (c == 0x1885 || c == 0x1886 || c == 0xA9BD || c == 0x111C9) return false;  // not yet
  return detail::is_of_unicode_8(c) && detail::category(c) == UTF8PROC_CATEGORY_MN;
}

// M: the accents that the normalizer StripAccents removes.
[[nodiscard]] inline bool is_accent(char32_t c) {
  if (c < 0x300 || c == 0x111C9) return false;  // not yet in Unicode 9
  if (c == 0x1CF2 || c == 0x1CF3) return true;  // not M any more
  if (!detail::is_of_unicode_8(c)) return detail::row_of(c, detail::kMarks) != nullptr;
  const auto category = detail::category(c);
  return category >= UTF8PROC_CATEGORY_MN && category <= UTF8PROC_CATEGORY_ME;
}

// What BERT writes spaces around. The gap from U+2B820 to U+2B91F is that of tokenizers.
[[nodiscard]] inline bool is_ideograph(char32_t c) {
  return (c >= 0x4E00 && c <= 0x9FFF) || (c >= 0x3400 && c <= 0x4DBF) ||
         (c >= 0xF900 && c <= 0xFAFF) || (c >= 0x20000 && c <= 0x2A6DF) ||
         (c >= 0x2A700 && c <= 0x2B81F) || (c >= 0x2B920 && c <= 0x2CEAF) ||
         (c >= 0x2F800 && c <= 0x2FA1F);
}

// \w: what a token that is a single word may not touch.
[[nodiscard]] inline bool is_word(char32_t c) {
  if (c < 0x80) return is_letter(c) || is_number(c) || c == '_';
  if (is_letter(c) || is_accent(c) || c == 0x200C || c == 0x200D) return true;
  if ((c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
      (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189))
    return true;  // letters in circles and squares are alphabetic
  const auto category = detail::category(c);
  return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL ||
         category == UTF8PROC_CATEGORY_PC;
}

// In lower case, character by character: a final sigma is no other, and the locale does not matter.
// U+0130 alone becomes two (i, U+0307).
[[nodiscard]] inline char32_t lower(char32_t c) {
  if (c < 0x80) return c >= 'A' && c <= 'Z' ? c + 32 : c;
  if (detail::is_of_unicode_8(c))
    return static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
  const detail::Shift* row = detail::row_of(c, detail::kLower);
  return row == nullptr ? c : static_cast<char32_t>(static_cast<std::int32_t>(c) + row->by);
}

[[nodiscard]] inline int combining_class(char32_t c) {
  if (c < 0x300) return 0;
  if (detail::is_of_unicode_8(c))
    return utf8proc_get_property(static_cast<utf8proc_int32_t>(c))->combining_class;
  const detail::Shift* row = detail::row_of(c, detail::kCombining);
  return row == nullptr ? 0 : row->by;
}

// The full decomposition of one character, of at most 18: canonical, or compatible as well.
struct Decomposed {
  std::array<utf8proc_int32_t, 32> codes{};
  std::size_t count = 0;
};
[[nodiscard]] inline Decomposed decompose(char32_t c, bool is_compatible) {
  Decomposed result;
  result.codes[0] = static_cast<utf8proc_int32_t>(c);
  result.count = 1;
  if (c < 0xA0) return result;
  if (!detail::is_of_unicode_8(c)) {
    const detail::Shift* row = is_compatible ? detail::row_of(c, detail::kCompatible) : nullptr;
    if (row != nullptr) result.codes[0] += row->by;
    return result;
  }
  int last_class = 0;
  const auto options =
      static_cast<utf8proc_option_t>(UTF8PROC_DECOMPOSE | (is_compatible ? UTF8PROC_COMPAT : 0));
  const auto count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(c), result.codes.data(),
                                             static_cast<utf8proc_ssize_t>(result.codes.size()),
                                             options, &last_class);
  if (count > 0) result.count = static_cast<std::size_t>(count);
  return result;
}

}  // namespace tokenizers
