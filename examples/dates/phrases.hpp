// SPDX-License-Identifier: MIT
#pragma once
// Dates as people write them, without end, and texts that hold none:
//   Phrases(Split::train, seed)(i) is, say, {"due Sat, 21st of Nov 2026", Date{2026, 11, 21}, ...}
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
  Kind kind = Kind::date;

  // None also where there is no such day.
  [[nodiscard]] std::optional<Date> date() const {
    return written && valid_date(*written) ? written : std::nullopt;
  }
};

// Of a thousand phrases; the others hold a date.
struct Mix {
  int impossible = 50, incomplete = 20, numbers = 20, wrong_year = 15, other = 15;
};

class Phrases {
 public:
  Phrases(Split split, std::uint64_t seed, const Mix& mix = {})
      : split_(split), seed_(seed), mix_(mix) {
    for (int year = kFirstYear; year <= kLastYear; ++year)
      if (is_test_year(year) == (split == Split::test)) {
        years_.push_back(year);  // as many of each century
        if (year >= kFirstShortYear && year <= kLastShortYear) short_years_.push_back(year);
      }
    for (std::size_t id = 0; id < templates().size(); ++id) {
      const Template& form = templates()[id];
      if (form.split != split) continue;
      auto& groups = groups_[static_cast<std::size_t>(form.kind)];
      if (groups.empty() ||
          templates()[static_cast<std::size_t>(groups.back()[0])].group != form.group)
        groups.emplace_back();
      groups.back().push_back(static_cast<int>(id));
    }
    // Numbers alone and English are what is written most: such a group is taken twice as often.
    for (auto& groups : groups_)
      for (std::size_t i = 0, count = groups.size(); i < count; ++i)
        if (templates()[static_cast<std::size_t>(groups[i][0])].locale <= Locale::english)
          groups.push_back(groups[i]);
  }

  [[nodiscard]] const std::vector<int>& years() const { return years_; }

  // Of all kinds, in the shares of the mix.
  [[nodiscard]] Phrase operator()(std::uint64_t index) const {
    Dice dice(seed_, static_cast<std::uint32_t>(split_), index);
    return make(kind_of(dice), dice);
  }
  // Of one kind.
  [[nodiscard]] Phrase of(Kind kind, std::uint64_t index) const {
    constexpr std::uint32_t first_stream = 16;
    Dice dice(
        seed_,
        first_stream + 2 * static_cast<std::uint32_t>(kind) + static_cast<std::uint32_t>(split_),
        index);
    return make(kind, dice);
  }

 private:
  // First a group, then one of its templates.
  [[nodiscard]] int some_template(Kind kind, Dice& dice) const {
    return dice.one_of(dice.one_of(groups_[static_cast<std::size_t>(kind)]));
  }

  [[nodiscard]] Kind kind_of(Dice& dice) const {
    using enum Kind;
    int lot = dice.below(1000);
    const auto takes = [&](int share) { return (lot -= share) < 0; };
    if (takes(mix_.impossible)) return impossible;
    if (takes(mix_.incomplete)) return incomplete;
    if (takes(mix_.numbers))
      return dice.one_of(std::array{year, version, amount, phone, page, code});
    if (takes(mix_.wrong_year)) return dice.one_of(std::array{three_digits, five_digits, far_year});
    return takes(mix_.other) ? other : date;
  }

  [[nodiscard]] Phrase make(Kind kind, Dice& dice) const {
    const bool from_date = kind == Kind::date || static_cast<std::size_t>(kind) >= kTemplateKinds;
    const bool has_wrong_year = from_date && kind != Kind::date && kind != Kind::impossible;
    int id = 0;
    Date date;
    std::string text;
    do {
      id = some_template(from_date ? Kind::date : kind, dice);
      while (has_wrong_year && !takes_wrong_year(id, kind)) id = some_template(Kind::date, dice);
      const Template& form = templates()[static_cast<std::size_t>(id)];
      const std::string pattern =
          has_wrong_year ? with_wrong_year(form.pattern, kind, dice) : std::string(form.pattern);
      date = kind == Kind::impossible ? impossible_date(pattern, dice) : some_date(pattern, dice);
      text = render(pattern, form.locale, date, dice);
    } while (text.size() > kMaxLength);
    const Locale locale = templates()[static_cast<std::size_t>(id)].locale;
    text = add_noise(std::move(text), locale, date, from_date, dice);
    const bool is_written = kind == Kind::date || kind == Kind::impossible;
    return {std::move(text), is_written ? std::optional(date) : std::nullopt, id, kind};
  }

  // Three digits before those of a month and a day are seven, which say nothing.
  [[nodiscard]] static bool takes_wrong_year(int id, Kind kind) {
    const std::string_view pattern = templates()[static_cast<std::size_t>(id)].pattern;
    const bool is_run = pattern.find("%Y%N%D") != pattern.npos;
    return pattern.find("%Y") != pattern.npos && !(is_run && kind == Kind::three_digits);
  }
  // A year with a digit too many is mostly one that would be read without it.
  [[nodiscard]] static std::string with_wrong_year(std::string_view pattern, Kind kind,
                                                   Dice& dice) {
    std::string result(pattern);
    const std::string_view year = kind == Kind::three_digits ? "%3"
                                  : kind == Kind::far_year   ? "%9"
                                  : dice.one_in(2)           ? "%5"
                                                             : "%Y%7";
    return result.replace(result.find("%Y"), 2, year);
  }

  // Years as many from each century; where there are but two digits, from 1950 to 2049.
  [[nodiscard]] int some_year(std::string_view pattern, Dice& dice) const {
    return dice.one_of(pattern.find("%y") != pattern.npos ? short_years_ : years_);
  }
  [[nodiscard]] int some_year(std::string_view pattern, bool leap, Dice& dice) const {
    int year = some_year(pattern, dice);
    while (is_leap(year) != leap) year = some_year(pattern, dice);
    return year;
  }

  // The ends of the months come more often than by chance, most of all February 29.
  [[nodiscard]] Date some_date(std::string_view pattern, Dice& dice) const {
    if (dice.one_in(40)) return {some_year(pattern, true, dice), 2, 29};
    const int year = some_year(pattern, dice), month = dice.between(1, 12);
    const int days = days_in_month(year, month);
    return {year, month, dice.one_in(8) ? days : dice.between(1, days)};
  }

  // Wrong in one way, and not right in another: 5.13.99 might be May 13, and 32.5.12 and 0.5.12
  // the 12th of May, so there the day is above 12 and the year is none that could be a day.
  [[nodiscard]] Date impossible_date(std::string_view pattern, Dice& dice) const {
    const auto has = [&](std::string_view part) { return pattern.find(part) != pattern.npos; };
    const bool names_month = has("%B") || has("%b") || has("%p") || has("%i"),
               is_run = has("%Y%N%D");
    const int lot = dice.below(100);
    if (lot < 25) return {some_year(pattern, false, dice), 2, 29};
    const int year = some_year(pattern, dice);
    if (lot < 45) return {year, 2, dice.between(30, 31)};
    if (lot < 70) return {year, dice.one_of(std::array{4, 6, 9, 11}), 31};
    if (lot < 82 && !names_month && !is_run)
      return {year, dice.one_in(3) ? 0 : dice.between(13, 19), dice.between(13, 31)};
    Date date{year, dice.between(1, 12), dice.one_in(3) ? 0 : dice.between(32, 39)};
    while (has("%y") && date.year % 100 >= 1 && date.year % 100 <= 31)
      date.year = some_year(pattern, dice);
    return date;
  }

  Split split_;
  std::uint64_t seed_;
  Mix mix_;
  std::vector<int> years_, short_years_;
  std::array<std::vector<std::vector<int>>, kTemplateKinds> groups_;  // of template ids
};

}  // namespace dates
