// SPDX-License-Identifier: MIT
#pragma once
// Dates as people write them, without end, and texts that hold none:
//   Phrases(Split::train, seed)(i) is, say, {"due Sat, 21st of Nov 2026", Date{2026, 11, 21}, 39}
// Reading and judging are two things: "30 Feb 1999" is written as {1999, 2, 30}, and no date.
// The two splits share neither a template nor a year. Phrase i is a function of (split, seed, i).
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "calendar.hpp"   // Date
#include "dice.hpp"       // Dice
#include "noise.hpp"      // add_noise
#include "render.hpp"     // render
#include "templates.hpp"  // Split, Template

namespace dates {

struct Phrase {
  std::string text;             // ASCII, kMinLength to kMaxLength characters
  std::optional<Date> written;  // none: the text holds no date, or a part of one
  int template_id = 0;

  // None also where there is no such day.
  [[nodiscard]] std::optional<Date> date() const {
    return written && valid_date(*written) ? written : std::nullopt;
  }
};

// A fifth of the years are for the test: two of each decade, two of each last digit, and five of
// the 25 leap years. So every digit of a test year was seen in its place, but never that year.
[[nodiscard]] constexpr bool is_test_year(int year) {
  const int decade = (year - kFirstYear) / 10, digit = year % 10;
  return digit == (3 * decade + 1) % 10 || digit == (7 * decade + 4) % 10;
}

// Of a thousand phrases; the others hold a date.
struct Mix {
  int impossible = 60, incomplete = 30, other = 30;
};

class Phrases {
 public:
  Phrases(Split split, std::uint64_t seed, const Mix& mix = {})
      : split_(split), seed_(seed), mix_(mix) {
    for (int year = kFirstYear; year <= kLastYear; ++year)
      if (is_test_year(year) == (split == Split::test)) {
        years_.push_back(year);
        (is_leap(year) ? leap_years_ : common_years_).push_back(year);
      }
    for (std::size_t id = 0; id < templates().size(); ++id)
      if (templates()[id].split == split)
        ids_[static_cast<std::size_t>(templates()[id].kind)].push_back(static_cast<int>(id));
  }

  [[nodiscard]] const std::vector<int>& years() const { return years_; }
  [[nodiscard]] const std::vector<int>& template_ids(Kind kind) const {
    return ids_[static_cast<std::size_t>(kind)];
  }

  [[nodiscard]] Phrase operator()(std::uint64_t index) const {
    Dice dice(seed_, static_cast<std::uint32_t>(split_), index);
    const int lot = dice.below(1000);
    const bool impossible = lot < mix_.impossible;
    const int incomplete = mix_.impossible + mix_.incomplete, other = incomplete + mix_.other;
    const Kind kind = impossible         ? Kind::date
                      : lot < incomplete ? Kind::incomplete
                      : lot < other      ? Kind::other
                                         : Kind::date;
    const int id = dice.one_of(template_ids(kind));
    const Template& form = templates()[static_cast<std::size_t>(id)];
    const Date date = impossible ? impossible_date(form.pattern, dice) : some_date(dice);
    std::string text = render(form.pattern, form.locale, date, dice);
    text = add_noise(std::move(text), form.locale, date, kind == Kind::date, dice);
    if (text.size() < kMinLength) text.insert(0, "at ");
    return {std::move(text), kind == Kind::date ? std::optional(date) : std::nullopt, id};
  }

 private:
  // The ends of the months come more often than by chance, most of all February 29.
  [[nodiscard]] Date some_date(Dice& dice) const {
    if (dice.one_in(40)) return {dice.one_of(leap_years_), 2, 29};
    const int year = dice.one_of(years_), month = dice.between(1, 12);
    const int days = days_in_month(year, month);
    return {year, month, dice.one_in(8) ? days : dice.between(1, days)};
  }

  // Wrong in one way, and not right in another: 5.13.99 might be May 13, and 32.5.12 and 0.5.12
  // the 12th of May, so there the day is above 12 and the year is none that could be a day.
  [[nodiscard]] Date impossible_date(std::string_view pattern, Dice& dice) const {
    const auto has = [&](std::string_view part) { return pattern.find(part) != pattern.npos; };
    const bool names_month = has("%B") || has("%b") || has("%p"), is_run = has("%Y%N%D");
    const int lot = dice.below(100);
    if (lot < 25) return {dice.one_of(common_years_), 2, 29};
    if (lot < 45) return {dice.one_of(years_), 2, dice.between(30, 31)};
    if (lot < 70) return {dice.one_of(years_), dice.one_of(std::array{4, 6, 9, 11}), 31};
    if (lot < 82 && !names_month && !is_run)
      return {dice.one_of(years_), dice.one_in(3) ? 0 : dice.between(13, 19), dice.between(13, 31)};
    Date date{dice.one_of(years_), dice.between(1, 12), dice.one_in(3) ? 0 : dice.between(32, 39)};
    while (has("%y") && date.year % 100 >= 1 && date.year % 100 <= 31)
      date.year = dice.one_of(years_);
    return date;
  }

  Split split_;
  std::uint64_t seed_;
  Mix mix_;
  std::vector<int> years_, leap_years_, common_years_;
  std::array<std::vector<int>, 3> ids_;  // of each Kind
};

}  // namespace dates
