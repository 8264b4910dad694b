// SPDX-License-Identifier: MIT
#pragma once
// What is done to a text before it is cut into words, step after step.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include "text.hpp"     // Text
#include "unicode.hpp"  // decompose, lower, ...

namespace tokenizers {

namespace detail {

// Characters on their way into a text in canonical order: marks wait for all that belong to the same
// letter, and are sorted by their combining class.
class CanonicalOrder {
 public:
  explicit CanonicalOrder(Text& text) : text_(text) {}

  void add(char32_t code, Span source) {
    const int combining = combining_class(code);
    if (combining == 0) {
      flush();
      text_.add(code, source);
    } else {
      waiting_.push_back({combining, code, source});
    }
  }
  void flush() {
    std::ranges::stable_sort(waiting_, {}, &Mark::combining);
    for (const Mark& mark : waiting_) text_.add(mark.code, mark.source);
    waiting_.clear();
  }

 private:
  struct Mark {
    int combining;
    char32_t code;
    Span source;
  };
  Text& text_;
  std::vector<Mark> waiting_;
};

// visit(code, source) for each character.
template <class Visit>
void for_each_character(const Text& text, const Visit& visit) {
  for (std::uint32_t at = 0; at < text.bytes.size();) {
    const Character c = character_at(text.bytes, at);
    visit(c.code, text.source({at, at + c.size}));
    at += c.size;
  }
}

// Lower case that may be two characters.
template <class Add>
void add_lower(char32_t code, Span source, const Add& add) {
  add(code == 0x130 ? U'i' : lower(code), source);
  if (code == 0x130) add(0x307, source);
}

}  // namespace detail

// BERT's: controls are removed, spaces made blanks, ideographs set apart, accents removed after
// decomposition, then lower case; in this order.
struct BertNormalizer {
  bool cleans = true, sets_ideographs_apart = true, strips_accents = true, lowers = true;

  [[nodiscard]] Text operator()(const Text& text) const {
    Text result;
    result.bytes.reserve(text.bytes.size() + text.bytes.size() / 8);
    result.sources.reserve(text.bytes.size() + text.bytes.size() / 8);
    detail::CanonicalOrder ordered(result);
    const auto lowered = [&](char32_t code, Span source) {
      const auto add = [&](char32_t c, Span from) {
        strips_accents ? ordered.add(c, from) : result.add(c, from);
      };
      lowers ? detail::add_lower(code, source, add) : add(code, source);
    };
    const auto stripped = [&](char32_t code, Span source) {
      if (!strips_accents) return lowered(code, source);
      const Decomposed parts = decompose(code, false);
      for (std::size_t i = 0; i < parts.count; ++i)
        if (const auto c = static_cast<char32_t>(parts.codes[i]); !is_bert_accent(c))
          lowered(c, source);
    };
    for (std::uint32_t at = 0; at < text.bytes.size();) {
      const auto byte = static_cast<unsigned char>(text.bytes[at]);
      if (byte > ' ' && byte < 0x7F) {
        ordered.flush();
        const bool is_capital = byte >= 'A' && byte <= 'Z';
        result.add(static_cast<char>(byte + (lowers && is_capital ? 32 : 0)), text.sources[at++]);
        continue;
      }
      const Character c = character_at(text.bytes, at);
      const Span source = text.source({at, at + c.size});
      at += c.size;
      if (cleans && (c.code == 0 || is_bert_control(c.code))) continue;
      if (cleans && is_space(c.code)) {
        stripped(U' ', source);
      } else if (sets_ideographs_apart && is_ideograph(c.code)) {
        stripped(U' ', source);
        stripped(c.code, source);
        stripped(U' ', source);
      } else {
        stripped(c.code, source);
      }
    }
    ordered.flush();
    return result;
  }
};

struct Lowercase {
  [[nodiscard]] Text operator()(const Text& text) const {
    Text result;
    const auto add = [&](char32_t c, Span from) { result.add(c, from); };
    detail::for_each_character(
        text, [&](char32_t code, Span source) { detail::add_lower(code, source, add); });
    return result;
  }
};

struct StripAccents {
  [[nodiscard]] Text operator()(const Text& text) const {
    Text result;
    detail::for_each_character(text, [&](char32_t code, Span source) {
      if (!is_accent(code)) result.add(code, source);
    });
    return result;
  }
};

// NFD, NFKD, NFC, NFKC
struct UnicodeForm {
  bool is_compatible = false, is_composed = false;

  [[nodiscard]] Text operator()(const Text& text) const {
    if (skip_ascii(text.bytes, 0) == text.bytes.size()) return text;
    Text decomposed;
    detail::CanonicalOrder ordered(decomposed);
    detail::for_each_character(text, [&](char32_t code, Span source) {
      const Decomposed parts = decompose(code, is_compatible);
      for (std::size_t i = 0; i < parts.count; ++i)
        ordered.add(static_cast<char32_t>(parts.codes[i]), source);
    });
    ordered.flush();
    return is_composed ? composed(decomposed) : decomposed;
  }

 private:
  // utf8proc composes what lies between characters that nothing composes with over their left side;
  // what comes of it has all of that as its source.
  [[nodiscard]] static Text composed(const Text& text) {
    Text result;
    std::vector<utf8proc_int32_t> codes;
    Span source;
    const auto flush = [&] {
      if (codes.empty()) return;
      const auto count =
          codes.size() == 1
              ? 1
              : utf8proc_normalize_utf32(
                    codes.data(), static_cast<utf8proc_ssize_t>(codes.size()),
                    static_cast<utf8proc_option_t>(UTF8PROC_COMPOSE | UTF8PROC_STABLE));
      codes.resize(static_cast<std::size_t>(std::max<utf8proc_ssize_t>(count, 0)));
      for (const utf8proc_int32_t code : codes) result.add(static_cast<char32_t>(code), source);
      codes.clear();
    };
    detail::for_each_character(text, [&](char32_t code, Span from) {
      const bool is_old = detail::is_of_unicode_8(code);
      if (!composes_with_what_is_before(code)) flush();
      source = codes.empty()
                   ? from
                   : Span{std::min(source.begin, from.begin), std::max(source.end, from.end)};
      codes.push_back(static_cast<utf8proc_int32_t>(code));
      // U+1DFA is a mark that nothing is composed across, as in tokenizers.
      if ((!is_old && combining_class(code) == 0) || code == 0x1DFA) flush();
    });
    flush();
    return result;
  }

  // Marks, and the vowels and last consonants of Hangul. No younger letter does.
  [[nodiscard]] static bool composes_with_what_is_before(char32_t c) {
    return c >= 0x300 && (combining_class(c) != 0 || (c >= 0x1161 && c <= 0x11C2) ||
                          (detail::is_of_unicode_8(c) && is_accent(c)));
  }
};

namespace detail {

// Of what a text may become: steps that each double it would take all memory, a few of them.
[[nodiscard]] inline std::size_t most_bytes(std::size_t text) {
  constexpr std::size_t growth = 64, few = std::size_t{1} << 20;
  return std::min(growth * text + few,
                  std::size_t{std::numeric_limits<std::uint32_t>::max()});  // spans hold no more
}
inline void require_at_most(std::size_t most, std::size_t size) {
  if (size > most)
    throw std::runtime_error("the text grew over " + std::to_string(most) +
                             " bytes as it was normalized");
}

}  // namespace detail

// Every occurrence of a text, from the left, becomes another.
struct Replace {
  std::string pattern, content;

  [[nodiscard]] Text operator()(const Text& text, std::size_t most) const {
    Text result;
    for (std::size_t at = 0; at < text.bytes.size();) {
      const std::size_t found = std::min(text.bytes.find(pattern, at), text.bytes.size());
      for (; at < found; ++at) result.add(text.bytes[at], text.sources[at]);
      if (at == text.bytes.size()) break;
      const auto begin = static_cast<std::uint32_t>(at);
      const auto end = static_cast<std::uint32_t>(at + pattern.size());
      result.add(content, text.source({begin, end}));
      detail::require_at_most(most, result.bytes.size());
      at = end;
    }
    return result;
  }
};

struct Prepend {
  std::string content;

  [[nodiscard]] Text operator()(const Text& text) const {
    if (text.bytes.empty()) return text;
    Text result;
    result.add(content, {text.sources[0].begin, text.sources[0].begin});
    result.bytes += text.bytes;
    result.sources.insert(result.sources.end(), text.sources.begin(), text.sources.end());
    return result;
  }
};

class Normalizer {
 public:
  using Step = std::variant<BertNormalizer, Lowercase, StripAccents, UnicodeForm, Replace, Prepend>;

  void add(Step step) { steps_.push_back(std::move(step)); }

  // Throws std::runtime_error for a text that becomes 64 times as long, and a MiB longer.
  [[nodiscard]] Text operator()(Text text) const {
    const std::size_t most = detail::most_bytes(text.bytes.size());
    for (const Step& step : steps_) {
      text = std::visit(
          [&](const auto& normalize) {
            if constexpr (std::is_invocable_v<decltype(normalize), const Text&, std::size_t>)
              return normalize(text, most);
            else
              return normalize(text);
          },
          step);
      detail::require_at_most(most, text.bytes.size());
    }
    return text;
  }

 private:
  std::vector<Step> steps_;
};

}  // namespace tokenizers
