// SPDX-License-Identifier: MIT
#pragma once
// The proleptic Gregorian calendar, years 1 to 9999, and the ISO 8601 way to write its dates.
#include <array>
#include <compare>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace dates {

// Not necessarily one that exists: see valid_date.
struct Date {
  int year = 0, month = 0, day = 0;
  friend constexpr auto operator<=>(const Date&, const Date&) = default;
};

// The years that the model reads. Of those written with two digits, 50 to 99 are of the 20th century
// and 00 to 49 of the 21st.
inline constexpr int kFirstYear = 1000, kLastYear = 2999;
inline constexpr int kFirstShortYear = 1950, kLastShortYear = 2049;

// A fifth of the years are for the test: two of each decade, and two of each last digit in any five
// decades that follow each other. So every digit of a test year was seen in its place, but never
// that year.
[[nodiscard]] constexpr bool is_test_year(int year) {
  const int decade = (year - kFirstYear) / 10, digit = year % 10;
  return digit == (3 * decade + 1) % 10 || digit == (7 * decade + 4) % 10;
}

[[nodiscard]] constexpr bool is_leap(int year) {
  return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

// month: 1 to 12.
[[nodiscard]] constexpr int days_in_month(int year, int month) {
  constexpr std::array<int, 12> days{31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
  return days[static_cast<std::size_t>(month - 1)] + (month == 2 && is_leap(year) ? 1 : 0);
}

[[nodiscard]] constexpr bool valid_date(const Date& date) {
  return date.year >= 1 && date.year <= 9999 && date.month >= 1 && date.month <= 12 &&
         date.day >= 1 && date.day <= days_in_month(date.year, date.month);
}

// Of a valid date; 0 is Monday, as was the first day of the year 1.
[[nodiscard]] constexpr int weekday(const Date& date) {
  const int years = date.year - 1;
  int days = 365 * years + years / 4 - years / 100 + years / 400 + date.day - 1;
  for (int month = 1; month < date.month; ++month) days += days_in_month(date.year, month);
  return days % 7;
}

// Decimal digits, with zeros in front up to the width.
[[nodiscard]] inline std::string padded(int number, std::size_t width) {
  std::string digits = std::to_string(number);
  if (digits.size() < width) digits.insert(0, width - digits.size(), '0');
  return digits;
}

// "2026-11-21"
[[nodiscard]] inline std::string to_iso(const Date& date) {
  return padded(date.year, 4) + '-' + padded(date.month, 2) + '-' + padded(date.day, 2);
}

// The inverse: nothing but ten characters that are a valid date.
[[nodiscard]] constexpr std::optional<Date> from_iso(std::string_view text) {
  if (text.size() != 10) return std::nullopt;
  std::array<int, 3> numbers{};
  std::size_t part = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (i == 4 || i == 7) {
      if (text[i] != '-') return std::nullopt;
      ++part;
    } else {
      if (text[i] < '0' || text[i] > '9') return std::nullopt;
      numbers[part] = numbers[part] * 10 + (text[i] - '0');
    }
  }
  const Date date{numbers[0], numbers[1], numbers[2]};
  return valid_date(date) ? std::optional(date) : std::nullopt;
}

}  // namespace dates
