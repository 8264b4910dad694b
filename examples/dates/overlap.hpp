// SPDX-License-Identifier: MIT
#pragma once
// What two sources of phrases have in common: counted from what they give, not from their tables.
#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <unordered_set>

#include "alphabet.hpp"  // lower
#include "phrases.hpp"   // Phrases

namespace dates {

// As the model sees them: without upper case.
[[nodiscard]] inline std::string lower(std::string text) {
  for (char& c : text) c = lower(c);
  return text;
}

struct Overlap {
  std::size_t templates = 0, years = 0;  // that occur in both
  std::size_t texts = 0;                 // different ones that occur in both
};

// Of the first n phrases of each.
[[nodiscard]] inline Overlap count_overlap(const Phrases& a, const Phrases& b, std::uint64_t n) {
  struct Seen {
    std::set<int> templates, years;
    std::unordered_set<std::string> texts;
  };
  const auto look = [n](const Phrases& phrases) {
    Seen seen;
    for (std::uint64_t i = 0; i < n; ++i) {
      const Phrase phrase = phrases(i);
      seen.templates.insert(phrase.template_id);
      if (phrase.date()) seen.years.insert(phrase.date()->year);
      seen.texts.insert(lower(phrase.text));
    }
    return seen;
  };
  const auto shared = [](const auto& left, const auto& right) {
    std::size_t count = 0;
    for (const auto& element : left) count += right.count(element);
    return count;
  };
  const Seen left = look(a), right = look(b);
  return {shared(left.templates, right.templates), shared(left.years, right.years),
          shared(left.texts, right.texts)};
}

}  // namespace dates
