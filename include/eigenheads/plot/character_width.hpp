// SPDX-License-Identifier: MIT
#pragma once
// How many columns a terminal gives to text, by what a reader takes for one character: a letter
// with its marks, a syllable of Hangul, a flag, a family of emoji.
//   Terminals disagree about spacing marks (category Mc, such as the vowel sign in Hindi "hi"):
//   none or one column each. Here one after a letter takes a column, as in glibc, xterm and VTE; a
//   second one there takes none, and consonants that a virama joins take two columns at most with
//   all of their marks, as in wcwidth (https://github.com/jquast/wcwidth), with which the rest
//   agrees too.
#include <algorithm>
#include <cstddef>
#include <span>
#include <string_view>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/plot/character_width_tables.hpp>  // CharacterRange, *_ranges

namespace eigenheads::inline EIGENHEADS_ABI::detail::plot {

[[nodiscard]] inline bool is_within(std::span<const CharacterRange> ranges, char32_t rune) {
  const auto behind = std::partition_point(
      ranges.begin(), ranges.end(), [&](const CharacterRange& range) { return range.last < rune; });
  return behind != ranges.end() && behind->first <= rune;
}

[[nodiscard]] inline int columns_of(char32_t rune) {
  if (rune < 0x300) return rune == 0 ? 0 : 1;
  if (is_within(zero_width_ranges, rune) || is_within(spacing_mark_ranges, rune)) return 0;
  return is_within(wide_ranges, rune) ? 2 : 1;
}

// What a reader takes for one character, at the beginning of a text.
struct Cluster {
  std::size_t size;  // in code points
  int columns;
};

// The first cluster of a text that is not empty.
[[nodiscard]] inline Cluster first_cluster(std::u32string_view runes) {
  constexpr char32_t joiner = 0x200D, emoji_style = 0xFE0F;
  const auto is_flag_half = [](char32_t rune) { return rune >= 0x1F1E6 && rune <= 0x1F1FF; };
  const auto is_skin_tone = [](char32_t rune) { return rune >= 0x1F3FB && rune <= 0x1F3FF; };
  const bool is_emoji = is_within(pictograph_ranges, runes[0]);
  Cluster cluster{1, columns_of(runes[0])};
  if (is_flag_half(runes[0]) && runes.size() > 1 && is_flag_half(runes[1])) cluster.size = 2;
  char32_t virama = 0;  // if it is the last character that was seen
  bool has_spacing_mark = false, has_conjunct = false;
  for (; cluster.size < runes.size(); ++cluster.size) {
    const char32_t rune = runes[cluster.size];
    const bool is_joined = is_emoji && runes[cluster.size - 1] == joiner;
    if (rune == emoji_style) {
      if (cluster.columns == 1 && is_within(narrow_emoji_ranges, runes[0])) cluster.columns = 2;
    } else if (is_within(spacing_mark_ranges, rune)) {
      if (cluster.columns > 0 && !has_spacing_mark) ++cluster.columns;
      has_spacing_mark = true;
      has_conjunct = false;
      virama = 0;
    } else if (columns_of(rune) == 0) {
      if (rune != joiner) virama = is_within(virama_ranges, rune) ? rune : 0;
    } else if (virama != 0 && cluster.columns > 0 && rune >> 7 == virama >> 7) {  // of one script
      has_spacing_mark = false;
      has_conjunct = true;
      virama = 0;
    } else if (!(is_emoji && is_skin_tone(rune)) &&
               !(is_joined && is_within(pictograph_ranges, rune))) {
      break;
    }
  }
  if (has_conjunct) ++cluster.columns;
  return cluster;
}

[[nodiscard]] inline int columns_of(std::u32string_view runes) {
  int columns = 0;
  while (!runes.empty()) {
    const Cluster cluster = first_cluster(runes);
    columns += cluster.columns;
    runes.remove_prefix(cluster.size);
  }
  return columns;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail::plot

#include <eigenheads/detail/macros_on.inl>
