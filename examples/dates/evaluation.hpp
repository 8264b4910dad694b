// SPDX-License-Identifier: MIT
#pragma once
// What a model reads, in tables: dates by the century of their year and by language, texts without a
// date by their kind, each in templates that training has seen and in those that it has not; and the
// formats of held_out.hpp. The phrases are none of training's: those in its templates are of another
// seed.
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include <eigenheads/context.hpp>  // Context
#include <eigenheads/tensor.hpp>   // Index, Scalar

#include "held_out.hpp"   // kHeldOutFormats
#include "languages.hpp"  // Locale
#include "model.hpp"      // Model
#include "phrases.hpp"    // Phrases, Kind
#include "reading.hpp"    // Score, read_each, evaluate
#include "templates.hpp"  // templates, kKindNames

namespace dates {

inline constexpr int kCenturies = (kLastYear + 1 - kFirstYear) / 100;
inline constexpr std::array<std::string_view, 8> kLocaleNames{
    "numbers alone", "English", "German", "French", "Spanish", "Italian", "Dutch", "Portuguese"};
inline constexpr std::uint64_t kTestSeed = 2;

// Of one split.
struct SplitScores {
  Score four_digits, two_digits;            // by how the year is written
  std::array<Score, kCenturies> centuries;  // of the years of four digits
  std::array<Score, kLocaleNames.size()> languages;
  std::array<Score, kKindNames.size()> kinds;  // the first, of dates, is empty
};

// `count` dates, and a tenth of that of each kind of text without one.
template <Scalar T>
[[nodiscard]] SplitScores score_split(const Model<T>& model, Split split, Index count,
                                      Context& context) {
  SplitScores scores;
  const Phrases phrases(split, kTestSeed);
  const auto add = [&](const Phrase& phrase, const Reading& reading) {
    const Template& form = templates()[static_cast<std::size_t>(phrase.template_id)];
    const bool is_short = form.pattern.find("%y") != form.pattern.npos;
    (is_short ? scores.two_digits : scores.four_digits).add(phrase, reading);
    scores.languages[static_cast<std::size_t>(form.locale)].add(phrase, reading);
    if (!is_short)
      scores.centuries[static_cast<std::size_t>((phrase.written->year - kFirstYear) / 100)].add(
          phrase, reading);
  };
  read_each(model, [&](std::uint64_t i) { return phrases.of(Kind::date, i); }, count, add, context);
  for (std::size_t kind = 1; kind < kKindNames.size(); ++kind)
    scores.kinds[kind] = evaluate(
        model, [&](std::uint64_t i) { return phrases.of(static_cast<Kind>(kind), i); }, count / 10,
        context);
  return scores;
}

// Of each format, in their order.
template <Scalar T>
[[nodiscard]] std::vector<Score> score_formats(const Model<T>& model, Index count,
                                               Context& context) {
  std::vector<Score> scores;
  for (const HeldOutFormat& format : kHeldOutFormats)
    scores.push_back(evaluate(
        model, [&](std::uint64_t i) { return held_out_phrase(format, i); }, count, context));
  return scores;
}

}  // namespace dates
