// SPDX-License-Identifier: MIT
#pragma once
// Labels, which are whatever a tokenizer has as tokens, as text that can be shown: valid UTF-8,
// without control characters, and without effect on the order of the text around them.
#include <cstddef>
#include <string>
#include <string_view>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/plot/character_width.hpp>  // first_cluster
#include <eigenheads/version.hpp>               // EIGENHEADS_ABI

namespace eigenheads::inline EIGENHEADS_ABI::plot {

// What XML, HTML and terminals can hold of a string. Control characters become their pictures (a
// newline is U+240A, and so are the separators of lines and paragraphs U+2424); what is not UTF-8
// or not XML 1.0, and the control characters from 0x80 to 0x9F, become U+FFFD.
[[nodiscard]] inline std::u32string readable(std::string_view utf8) {
  std::u32string runes;
  for (std::size_t i = 0; i < utf8.size();) {
    const auto byte_at = [&](std::size_t at) {
      return static_cast<char32_t>(static_cast<unsigned char>(utf8[at]));
    };
    const char32_t lead = byte_at(i++);
    const int following = lead < 0x80 ? 0 : lead < 0xE0 ? 1 : lead < 0xF0 ? 2 : 3;
    static constexpr char32_t mask[] = {0x7F, 0x1F, 0x0F, 0x07};
    static constexpr char32_t smallest[] = {0, 0x80, 0x800, 0x10000};
    bool valid = lead < 0x80 || (lead >= 0xC2 && lead <= 0xF4);
    char32_t rune = lead & mask[following];
    for (int n = 0; valid && n < following; ++n) {
      valid = i < utf8.size() && (byte_at(i) & 0xC0) == 0x80;
      if (valid) rune = rune << 6 | (byte_at(i++) & 0x3F);
    }
    valid = valid && rune >= smallest[following] && rune <= 0x10FFFF && rune != 0xFFFE &&
            rune != 0xFFFF && !(rune >= 0xD800 && rune < 0xE000) && !(rune >= 0x80 && rune < 0xA0);
    if (valid && rune < 0x20) rune += 0x2400;
    if (valid && rune == 0x7F) rune = 0x2421;
    if (valid && (rune == 0x2028 || rune == 0x2029)) rune = 0x2424;
    runes += valid ? rune : char32_t{0xFFFD};
  }
  return runes;
}

inline void append_utf8(std::string& out, char32_t rune) {
  const auto append = [&](char32_t byte) { out += static_cast<char>(byte); };
  if (rune < 0x80) return append(rune);
  if (rune < 0x800) {
    append(0xC0 | rune >> 6);
  } else {
    if (rune < 0x10000) {
      append(0xE0 | rune >> 12);
    } else {
      append(0xF0 | rune >> 18);
      append(0x80 | (rune >> 12 & 0x3F));
    }
    append(0x80 | (rune >> 6 & 0x3F));
  }
  append(0x80 | (rune & 0x3F));
}

[[nodiscard]] inline std::string to_utf8(std::u32string_view runes) {
  std::string text;
  for (const char32_t rune : runes) append_utf8(text, rune);
  return text;
}

// At most `limit` code points, the last of them an ellipsis where some were left out; what a reader
// takes for one character is left out as a whole.
[[nodiscard]] inline std::u32string elided(std::u32string_view runes, std::size_t limit) {
  if (runes.size() <= limit) return std::u32string(runes);
  if (limit == 0) return {};
  std::size_t size = 0;
  for (std::size_t next = 0; next < limit;) {
    size = next;
    next += detail::plot::first_cluster(runes.substr(next)).size;
  }
  if (size == 0) size = limit - 1;  // one with more marks than that
  return std::u32string(runes.substr(0, size)) + U'\u2026';
}
[[nodiscard]] inline std::string elided(std::string_view utf8, std::size_t limit) {
  return to_utf8(elided(readable(utf8), limit));
}

// The controls of Unicode's bidirectional algorithm (UAX 9) that begin something and end it.
inline constexpr char32_t first_strong_isolate = 0x2068, pop_isolate = 0x2069,
                          pop_embedding = 0x202C;

[[nodiscard]] inline bool begins_isolate(char32_t rune) {
  return rune >= 0x2066 && rune <= first_strong_isolate;
}
[[nodiscard]] inline bool begins_embedding(char32_t rune) {
  return rune >= 0x202A && rune <= 0x202E && rune != pop_embedding;
}

// What the text begins, it ends; what it ends without having begun it is left out. So between
// "<bdi>" and "</bdi>", or within an isolate, it cannot reach what stands outside.
[[nodiscard]] inline std::u32string balanced(std::u32string_view runes) {
  std::u32string text, ends;  // ends: of all that is open
  for (const char32_t rune : runes) {
    if (begins_isolate(rune)) {
      ends += pop_isolate;
    } else if (begins_embedding(rune)) {
      ends += pop_embedding;
    } else if (rune == pop_embedding) {
      if (ends.empty() || ends.back() != pop_embedding) continue;
      ends.pop_back();
    } else if (rune == pop_isolate) {
      const std::size_t isolate = ends.rfind(pop_isolate);
      if (isolate == std::u32string::npos) continue;
      text.append(ends.size() - isolate - 1, pop_embedding);  // the embeddings within it
      ends.resize(isolate);
    }
    text += rune;
  }
  return text.append(ends.rbegin(), ends.rend());
}

// Whether text beside the character may be laid out otherwise because of it: it is written from
// right to left, or controls that. Unicode keeps these ranges for such characters.
[[nodiscard]] inline bool is_right_to_left(char32_t rune) {
  const auto within = [&](char32_t first, char32_t last) { return first <= rune && rune <= last; };
  return within(0x0590, 0x08FF) || within(0x200E, 0x200F) || within(0x202A, 0x202E) ||
         within(0x2066, 0x2069) || within(0xFB1D, 0xFDFF) || within(0xFE70, 0xFEFE) ||
         within(0x10800, 0x10FFF) || within(0x1E800, 0x1EFFF);
}

// Balanced, and between U+2068 and U+2069 if it has a character that is_right_to_left: so the text
// around it stays where it is.
[[nodiscard]] inline std::u32string isolated(std::u32string_view runes) {
  for (const char32_t rune : runes)
    if (is_right_to_left(rune)) return first_strong_isolate + balanced(runes) + pop_isolate;
  return std::u32string(runes);
}
[[nodiscard]] inline std::string isolated(std::string_view utf8) {
  return to_utf8(isolated(readable(utf8)));
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::plot

namespace eigenheads::inline EIGENHEADS_ABI::detail::plot {
using namespace eigenheads::plot;  // NOLINT: what the plots are written with
}

#include <eigenheads/detail/macros_on.inl>
