// SPDX-License-Identifier: MIT
#pragma once
// What people do to a text, without a change to what it says. Nothing makes it longer than
// kMaxLength: what does not fit is left out.
#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "alphabet.hpp"   // is_digit, is_letter, lower, upper
#include "dice.hpp"       // Dice
#include "languages.hpp"  // language
#include "render.hpp"     // render

namespace dates {

inline constexpr std::size_t kMinLength = 1, kMaxLength = 40;

namespace detail {

[[nodiscard]] inline bool has_field(std::string_view pattern, std::string_view fields) {
  return std::ranges::any_of(
      fields, [&](char field) { return pattern.find(std::string{'%', field}) != pattern.npos; });
}
[[nodiscard]] inline bool has_four_digits(std::string_view text) {
  std::size_t digits = 0;
  for (const char c : text) {
    if (!is_digit(c))
      digits = 0;
    else if (++digits == 4)
      return true;
  }
  return false;
}

// Words around it. A number among them is unmistakable beside a whole date, not beside a part; and a
// word that says nothing is, beside a year of four digits.
inline void add_context(std::string& text, Locale locale, const Date& date, bool numbers,
                        Dice& dice) {
  const bool any_words = has_four_digits(text);
  const auto choose = [&](std::string_view list) {
    const std::string_view pattern = dice.one_of(list, '|');
    const bool fits =
        (numbers || !has_field(pattern, "12345")) && (any_words || !has_field(pattern, "rw"));
    return fits ? render(pattern, locale, date, dice) : std::string();
  };
  if (dice.one_in(3)) {
    const std::string before = choose(language(locale).before);
    if (!before.empty() && before.size() + 1 + text.size() <= kMaxLength)
      text.insert(0, before + ' ');
  }
  if (dice.one_in(4)) {
    const std::string after = choose(language(locale).after);
    if (text.size() + after.size() <= kMaxLength) text += after;
  }
}

// Spaces lost, but never one that keeps two numbers or two words apart.
inline void drop_spaces(std::string& text, Dice& dice) {
  for (std::size_t i = 1; i + 1 < text.size(); ++i) {
    const char left = text[i - 1], right = text[i + 1];
    const bool parts = (is_digit(left) && is_digit(right)) || (is_letter(left) && is_letter(right));
    if (text[i] == ' ' && !parts && !dice.one_in(3)) text.erase(i, 1);
  }
}

// Spaces beside one of the marks between numbers, never beside all of them: "5. 3.1999".
inline void part_numbers(std::string& text, Dice& dice) {
  std::vector<std::size_t> marks;
  for (std::size_t i = 1; i + 1 < text.size(); ++i)
    if ((text[i] == '.' || text[i] == '/' || text[i] == '-') && is_digit(text[i - 1]) &&
        is_digit(text[i + 1]))
      marks.push_back(i);
  if (marks.size() < 2 || text.size() + 2 > kMaxLength) return;
  const std::size_t mark = dice.one_of(marks);
  const int manner = dice.below(3);
  if (manner != 0) text.insert(mark + 1, 1, ' ');
  if (manner != 1) text.insert(mark, 1, ' ');
}

inline void double_spaces(std::string& text, Dice& dice) {
  for (std::size_t i = 0; i < text.size() && text.size() < kMaxLength; ++i)
    if (text[i] == ' ' && dice.one_in(2)) text.insert(i++, 1, ' ');
}

inline void add_punctuation(std::string& text, Dice& dice) {
  const char last = text.back();
  if (dice.one_in(8) && text.size() < kMaxLength && (is_digit(last) || is_letter(last)))
    text += dice.one_of(std::string_view(".,;!?:"));
  if (dice.one_in(24) && text.size() + 2 <= kMaxLength) {
    const std::string_view pair = dice.one_of("()|[]|\"\"|**|<>", '|');
    text.insert(0, 1, pair[0]);
    text += pair[1];
  }
}

inline void change_case(std::string& text, Dice& dice) {
  const int manner = dice.below(16);
  for (char& c : text)
    if (manner == 0)
      c = upper(c);
    else if (manner <= 2)
      c = lower(c);
    else if (manner == 3 && dice.one_in(3))
      c = is_letter(c) && c == lower(c) ? upper(c) : lower(c);
}

}  // namespace detail

// numbers: whether the text is a whole date, so that other numbers may stand beside it. date: for
// the context's patterns.
[[nodiscard]] inline std::string add_noise(std::string text, Locale locale, const Date& date,
                                           bool numbers, Dice& dice) {
  if (dice.one_in(10)) detail::drop_spaces(text, dice);
  if (numbers && dice.one_in(5)) detail::part_numbers(text, dice);
  detail::add_context(text, locale, date, numbers, dice);
  detail::add_punctuation(text, dice);
  detail::change_case(text, dice);
  if (dice.one_in(10)) detail::double_spaces(text, dice);
  return text;
}

}  // namespace dates
