// SPDX-License-Identifier: MIT
#pragma once
// A text to learn from that is nobody's: short stories of somebody who has things, gets some and gives
// some away, made by patterns and dice. Whether a story is right can be checked, whoever wrote it:
// names, pronouns, things and sums agree. The patterns that write stories also read them.
//   Mira has 7 apples. Tom gives her 5 more, and now she has 12 apples. In the end Mira has 12 apples.
#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <system_error>

#include "../dates/dice.hpp"  // Dice, item, count_items

namespace byte_model {

// In a pattern %A is the hero and %B another, %S, %s and %o are She, she and her or He, he and him, %m
// is how many come or go, %N how many there are then, %n the same and of what ("12 apples"), %p where.
struct Pattern {
  std::string_view text;
  int sign = 0;  // of what comes (1) or goes (-1)
};
inline constexpr std::array<Pattern, 3> kOpenings{
    {{"%A has %n."}, {"%A finds %n %p."}, {"Once %A had %n."}}};
inline constexpr std::array<Pattern, 6> kEvents{{{"%B gives %o %m more, and now %s has %n.", 1},
                                                 {"%S finds %m more %p, which makes %N.", 1},
                                                 {"%S buys %m at the market and has %n.", 1},
                                                 {"%S gives %m to %B and keeps %N.", -1},
                                                 {"%S loses %m %p and has %N left.", -1},
                                                 {"%B takes %m from %o, so %s has %n.", -1}}};
inline constexpr std::array<Pattern, 3> kClosings{
    {{"In the end %A has %n."}, {"\"I have %n,\" says %A."}, {"So %A goes home with %n."}}};

// The first half of the names are women's.
inline constexpr std::string_view kNames =
    "Ada Mira Lena Ruth Vera Ines Zoe Greta Tom Karl Otto Hugo Emil Jan Paul Nils";
inline constexpr int kWomen = 8;
inline constexpr std::string_view kThings =
    "apple pear plum nut egg coin stamp shell marble button pencil book";
inline constexpr std::string_view kPlaces =
    "in the garden|under the table|behind the house|on the beach|in the kitchen|near the river";
inline constexpr int kMost = 12;       // things that somebody has, and at least one
inline constexpr int kMostMoved = 6;   // that come or go at once
inline constexpr int kMostEvents = 3;  // of a story, and at least one

namespace detail {

using dates::Dice, dates::count_items, dates::item;

// What the slots of a sentence hold; -1: it has no such slot.
struct Slots {
  int hero = -1, other = -1, woman = -1, amount = -1, total = -1, thing = -1, place = -1;
  bool is_plural = false, pronouns_agree = true;
};

[[nodiscard]] inline std::string write(std::string_view pattern, const Slots& slots) {
  const auto pronoun = [&](const char* she, const char* he) { return slots.woman == 1 ? she : he; };
  std::string text;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%') {
      text += pattern[i];
      continue;
    }
    switch (pattern[++i]) {
      case 'A':
        text += item(kNames, ' ', slots.hero);
        break;
      case 'B':
        text += item(kNames, ' ', slots.other);
        break;
      case 'S':
        text += pronoun("She", "He");
        break;
      case 's':
        text += pronoun("she", "he");
        break;
      case 'o':
        text += pronoun("her", "him");
        break;
      case 'm':
        text += std::to_string(slots.amount);
        break;
      case 'N':
        text += std::to_string(slots.total);
        break;
      case 'p':
        text += item(kPlaces, '|', slots.place);
        break;
      default:
        text.append(std::to_string(slots.total))
            .append(" ")
            .append(item(kThings, ' ', slots.thing));
        if (slots.total != 1) text += 's';
    }
  }
  return text;
}

[[nodiscard]] inline bool skip(std::string_view& text, std::string_view word) {
  if (!text.starts_with(word)) return false;
  text.remove_prefix(word.size());
  return true;
}
// Which of a list the text begins with. None of a list is the beginning of another.
[[nodiscard]] inline bool read_item(std::string_view& text, std::string_view list, char separator,
                                    int& which) {
  for (which = 0; which < count_items(list, separator); ++which)
    if (skip(text, item(list, separator, which))) return true;
  return false;
}
[[nodiscard]] inline bool read_number(std::string_view& text, int& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc()) return false;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return true;
}

// The slots of a sentence that the text begins with, and which then is gone.
[[nodiscard]] inline std::optional<Slots> read(std::string_view pattern, std::string_view& text) {
  Slots slots;
  std::string_view rest = text;
  const auto pronoun = [&](const char* he_she) {
    const int before = slots.woman;
    if (!read_item(rest, he_she, ' ', slots.woman)) return false;
    slots.pronouns_agree &= before < 0 || before == slots.woman;
    return true;
  };
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    bool fits = false;
    if (pattern[i] != '%') {
      fits = skip(rest, pattern.substr(i, 1));
    } else {
      switch (pattern[++i]) {
        case 'A':
          fits = read_item(rest, kNames, ' ', slots.hero);
          break;
        case 'B':
          fits = read_item(rest, kNames, ' ', slots.other);
          break;
        case 'S':
          fits = pronoun("He She");
          break;
        case 's':
          fits = pronoun("he she");
          break;
        case 'o':
          fits = pronoun("him her");
          break;
        case 'm':
          fits = read_number(rest, slots.amount);
          break;
        case 'N':
          fits = read_number(rest, slots.total);
          break;
        case 'p':
          fits = read_item(rest, kPlaces, '|', slots.place);
          break;
        default:
          fits = read_number(rest, slots.total) && skip(rest, " ") &&
                 read_item(rest, kThings, ' ', slots.thing);
          slots.is_plural = fits && skip(rest, "s");
      }
    }
    if (!fits) return std::nullopt;
  }
  text = rest;
  return slots;
}

}  // namespace detail

// Story `index`, one line, a function of (seed, index) alone.
[[nodiscard]] inline std::string story(std::uint64_t seed, std::uint64_t index) {
  detail::Dice dice(seed, 0x570B1E5, index);
  const int names = dates::count_items(kNames, ' ');
  detail::Slots slots{.hero = dice.below(names),
                      .total = dice.between(1, kMost),
                      .thing = dice.below(dates::count_items(kThings, ' '))};
  slots.woman = slots.hero < kWomen ? 1 : 0;
  const auto sentence = [&](const Pattern& pattern) {
    slots.other = (slots.hero + dice.between(1, names - 1)) % names;
    slots.place = dice.below(dates::count_items(kPlaces, '|'));
    return detail::write(pattern.text, slots);
  };
  std::string text = sentence(dice.one_of(kOpenings));
  for (int left = dice.between(1, kMostEvents); left > 0; --left) {
    const Pattern* event = &dice.one_of(kEvents);
    int room = event->sign > 0 ? kMost - slots.total : slots.total - 1;
    while (room == 0) {
      event = &dice.one_of(kEvents);
      room = event->sign > 0 ? kMost - slots.total : slots.total - 1;
    }
    slots.amount = dice.between(1, (std::min)(room, kMostMoved));
    slots.total += event->sign * slots.amount;
    text += ' ' + sentence(*event);
  }
  return text + ' ' + sentence(dice.one_of(kClosings)) + '\n';
}

// Stories 0 to count - 1.
[[nodiscard]] inline std::string stories(std::uint64_t seed, std::uint64_t count) {
  std::string text;
  for (std::uint64_t i = 0; i < count; ++i) text += story(seed, i);
  return text;
}

// What is right about a story.
struct Verdict {
  bool is_formed = false;  // sentences of the patterns, from an opening to a closing
  bool names = true, pronouns = true, things = true, sums = true;

  [[nodiscard]] bool is_right() const { return is_formed && names && pronouns && things && sums; }
};

[[nodiscard]] inline Verdict judge(std::string_view text) {
  if (text.ends_with('\n')) text.remove_suffix(1);
  Verdict verdict;
  detail::Slots first;  // of the opening, and how many there are by now
  const auto judge_sentence = [&](const detail::Slots& slots, int sign) {
    if (slots.hero >= 0) verdict.names &= slots.hero == first.hero;
    if (slots.other >= 0) verdict.names &= slots.other != first.hero;
    if (slots.woman >= 0)
      verdict.pronouns &= slots.pronouns_agree && slots.woman == (first.hero < kWomen ? 1 : 0);
    if (slots.thing >= 0)
      verdict.things &= slots.thing == first.thing && slots.is_plural == (slots.total != 1);
    verdict.sums &= slots.total == first.total + sign * slots.amount;
    first.total = slots.total;
  };
  const auto read_one = [&](std::span<const Pattern> patterns) {
    for (const Pattern& pattern : patterns) {
      const auto slots = detail::read(pattern.text, text);
      if (!slots) continue;
      if (first.hero < 0) first = *slots;
      judge_sentence(*slots, pattern.sign);
      return true;
    }
    return false;
  };
  if (!read_one(kOpenings)) return verdict;
  bool has_event = false;
  while (detail::skip(text, " ")) {
    if (read_one(kEvents)) {
      has_event = true;
      continue;
    }
    verdict.is_formed = has_event && read_one(kClosings) && text.empty();
    break;
  }
  return verdict;
}

}  // namespace byte_model
