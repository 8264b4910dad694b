// SPDX-License-Identifier: MIT
#pragma once
// Labels in a terminal, by the columns that they take.
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/plot/character_width.hpp>  // columns_of, first_cluster
#include <eigenheads/plot/text.hpp>             // readable, elided

namespace eigenheads::inline EIGENHEADS_ABI::detail::plot {

// Without control characters, and unable to join or turn what stands beside it. Controls of
// direction are shown as U+FFFD, for terminals know few of them: what is printed gets an isolate of
// its own. What begins with a character that has no column, such as a combining mark, gets a
// dotted circle to stand on.
[[nodiscard]] inline std::u32string printable(std::string_view utf8) {
  std::u32string text = readable(utf8);
  for (char32_t& rune : text)
    if (begins_isolate(rune) || begins_embedding(rune) || rune == pop_isolate ||
        rune == pop_embedding)
      rune = 0xFFFD;
  if (!text.empty() && columns_of(text[0]) == 0) text.insert(0, 1, U'\u25CC');
  return text;
}

// At most so many columns, the last of them an ellipsis where some were left out, and not more than
// 64 code points, for there is no end to marks that take no column.
[[nodiscard]] inline std::u32string fitted(std::u32string_view whole, int columns) {
  std::u32string text = elided(whole, 64);
  if (columns_of(text) <= columns) return text;
  std::size_t size = 0;
  for (int used = 0;;) {
    const Cluster next = first_cluster(std::u32string_view(text).substr(size));
    used += next.columns;
    if (used > columns - 1) break;
    size += next.size;
  }
  return text.substr(0, size) + U'\u2026';
}

[[nodiscard]] inline std::vector<std::u32string> clusters(std::u32string_view text) {
  std::vector<std::u32string> parts;
  for (; !text.empty(); text.remove_prefix(parts.back().size()))
    parts.emplace_back(text.substr(0, first_cluster(text).size));
  return parts;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail::plot

#include <eigenheads/detail/macros_on.inl>
