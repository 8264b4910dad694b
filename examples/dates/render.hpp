// SPDX-License-Identifier: MIT
#pragma once
// A pattern of templates.hpp becomes text.
#include <cstddef>
#include <string>
#include <string_view>

#include "alphabet.hpp"   // upper
#include "calendar.hpp"   // Date, padded
#include "dice.hpp"       // Dice, item
#include "languages.hpp"  // language

namespace dates {

namespace detail {

// 1st, 1er, 1o: the languages that count on after the first day do so without a mark.
[[nodiscard]] inline std::string ordinal(int day, Locale locale) {
  std::string text = std::to_string(day);
  switch (locale) {
    case Locale::french:
      return day == 1 ? text + "er" : text;
    case Locale::spanish:
    case Locale::italian:
    case Locale::portuguese:
      return day == 1 ? text + 'o' : text;
    case Locale::german:
      return text + '.';
    case Locale::dutch:
      return text + 'e';
    default:
      break;
  }
  const int last = day / 10 == 1 ? 0 : day % 10;
  return text + (last == 1 ? "st" : last == 2 ? "nd" : last == 3 ? "rd" : "th");
}

// Without a point where it is the whole name.
[[nodiscard]] inline std::string with_point(std::string_view abbreviation, std::string_view names) {
  std::string text(abbreviation);
  for (int i = 0; i < count_items(names, '/'); ++i)
    if (item(names, '/', i) == abbreviation) return text;
  return text + '.';
}

[[nodiscard]] inline std::string render_time(Dice& dice) {
  const int hour = dice.below(24), minute = 5 * dice.below(12);
  return padded(hour, dice.one_in(2) ? 2 : 1) + ':' + padded(minute, 2);
}
[[nodiscard]] inline std::string render_seconds(Dice& dice) {
  const std::string hour = padded(dice.below(24), 2), minute = padded(dice.below(60), 2);
  return hour + ':' + minute + ':' + padded(dice.below(60), 2);
}
// No more than ten hours, so that it is no year.
[[nodiscard]] inline std::string render_zone(std::string_view colon, Dice& dice) {
  const std::string sign = dice.one_in(2) ? "+" : "-", hour = padded(dice.below(10), 2);
  return sign + hour + std::string(colon) + (dice.one_in(4) ? "30" : "00");
}
[[nodiscard]] inline std::string render_word(Dice& dice) {
  using namespace std::string_view_literals;
  constexpr std::string_view consonants = "bcdfghjklmnpqrstvwxz", vowels = "aeiouaeiouy";
  std::string word;
  if (dice.one_in(4)) word += dice.one_of(vowels);
  const int syllables = dice.between(2, 4);
  for (int i = 0; i < syllables; ++i) {
    word += dice.one_of(consonants);
    if (dice.one_in(6)) word += dice.one_of("lnrsth"sv);
    word += dice.one_of(vowels);
    if (dice.one_in(3)) word += dice.one_of(consonants);
  }
  if (syllables == 2) word += dice.one_of(consonants);
  if (dice.one_in(3)) word[0] = upper(word[0]);
  return word;
}
// Of the years, only those of the same split: phrases.hpp.
[[nodiscard]] inline int number_of_four_digits(const Date& date, Dice& dice) {
  int number = dice.between(kFirstYear, 9999);
  while (number <= kLastYear && is_test_year(number) != is_test_year(date.year))
    number = dice.between(kFirstYear, 9999);
  return number;
}

[[nodiscard]] inline std::string render_field(char field, Locale locale, const Date& date,
                                              Dice& dice) {
  const Language& words = language(locale);
  // A name in one of its spellings. An impossible date has any weekday.
  const auto month_of = [&](std::string_view names) {
    return dice.one_of(item(names, ' ', date.month - 1), '/');
  };
  const auto weekday_of = [&](std::string_view names) {
    const int day = valid_date(date) ? weekday(date) : dice.below(7);
    return std::string(dice.one_of(item(names, ' ', day), '/'));
  };
  switch (field) {
    case 'd':
      return std::to_string(date.day);
    case 'D':
      return padded(date.day, 2);
    case 'e':
      return (date.day < 10 ? " " : "") + std::to_string(date.day);
    case 'o':
      return ordinal(date.day, locale);
    case 'n':
      return std::to_string(date.month);
    case 'N':
      return padded(date.month, 2);
    case 'B':
      return std::string(month_of(words.months));
    case 'b':
      return std::string(month_of(words.short_months));
    case 'i':
      return std::string(item(words.months, ' ', date.month - 1).substr(0, 3));
    case 'p':
      return with_point(month_of(words.short_months), item(words.months, ' ', date.month - 1));
    case 'y':
      return padded(date.year % 100, 2);
    case 'Y':
      return padded(date.year, 4);
    case 'A':
      return weekday_of(words.weekdays);
    case 'a':
      return weekday_of(words.short_weekdays);
    case 'k':
      return weekday_of(words.weekdays).substr(0, 3);
    case '0':
      return padded(dice.below(100), 2);
    case '1':
      return std::to_string(dice.between(1, 9));
    case '2':
      return std::to_string(dice.between(2, 99));
    case '3':
      return std::to_string(dice.between(100, 999));
    case '4':
      return std::to_string(number_of_four_digits(date, dice));
    case '5':
      return std::to_string(dice.between(10000, 99999));
    case '7':
      return std::to_string(dice.below(10));
    case '9':
      return padded(dice.one_in(3) ? dice.below(kFirstYear) : dice.between(kLastYear + 1, 9999), 4);
    case 't':
      return render_time(dice);
    case 'T':
      return render_seconds(dice);
    case 'h':
      return padded(dice.below(24), 2);
    case 'm':
      return padded(dice.below(60), 2);
    case 'z':
      return render_zone("", dice);
    case 'Z':
      return render_zone(":", dice);
    case 'W':
      return padded(dice.between(1, 53), 2);
    case 'u':
      return std::to_string(dice.between(1, 7));
    case 'j':
      return padded(dice.between(1, 366), 3);
    case 'r':
      return render_word(dice);
    case 'w':
      return std::string(dice.one_of(kWords, ' '));
    case 's':
      return std::string(dice.one_of(kNames, ' '));
    case 'l':
      return dice.one_in(3) ? render_word(dice) : std::string(dice.one_of(words.towns, '|'));
    case 'c':
      return std::string(dice.one_of(kCities, ' '));
    default:
      return std::string(1, field);
  }
}

}  // namespace detail

// The month must be a month wherever the pattern names it.
[[nodiscard]] inline std::string render(std::string_view pattern, Locale locale, const Date& date,
                                        Dice& dice) {
  std::string text;
  for (std::size_t i = 0; i < pattern.size(); ++i)
    if (pattern[i] == '%' && i + 1 < pattern.size())
      text += detail::render_field(pattern[++i], locale, date, dice);
    else
      text += pattern[i];
  return text;
}

}  // namespace dates
