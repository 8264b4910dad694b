// SPDX-License-Identifier: MIT
#pragma once
// What the model sees of a text: one small number a character, upper case as lower case. And the
// way there from UTF-8: letters with accents become the ASCII letters that people write instead.
#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace dates {

inline constexpr int kPadding = 0, kUnknown = 1;
inline constexpr std::string_view kCharacters =
    "abcdefghijklmnopqrstuvwxyz0123456789 .,/-':;()!?\"*+#&%$@=_<>[]";
inline constexpr int kTokens = 2 + static_cast<int>(kCharacters.size());

[[nodiscard]] constexpr char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}
[[nodiscard]] constexpr char upper(char c) {
  return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
}
[[nodiscard]] constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
[[nodiscard]] constexpr bool is_letter(char c) { return lower(c) >= 'a' && lower(c) <= 'z'; }

// From kUnknown to kTokens - 1.
[[nodiscard]] constexpr int token(char c) {
  const std::size_t place = kCharacters.find(lower(c));
  return place == kCharacters.npos ? kUnknown : 2 + static_cast<int>(place);
}
// The inverse, for display.
[[nodiscard]] constexpr char character(int token) {
  return token < 2 || token >= kTokens ? '?' : kCharacters[static_cast<std::size_t>(token - 2)];
}

[[nodiscard]] inline std::vector<int> tokens(std::string_view ascii) {
  std::vector<int> result;
  result.reserve(ascii.size());
  for (const char c : ascii) result.push_back(token(c));
  return result;
}

namespace detail {

// What fold writes for what it cannot read: its token is kUnknown.
inline constexpr char kSubstitute = '\x1A';

struct Folding {
  std::string_view ascii, letters;  // each of the letters is written as ascii
};
// German umlauts become two letters, as Germans write them where there are none.
inline constexpr std::array kFoldings{
    Folding{"ae", "äæ"}, Folding{"Ae", "ÄÆ"}, Folding{"oe", "öœø"}, Folding{"Oe", "ÖŒØ"},
    Folding{"ue", "ü"}, Folding{"Ue", "Ü"}, Folding{"ss", "ß"}, Folding{"a", "áàâãåª"},
    Folding{"A", "ÁÀÂÃÅ"}, Folding{"c", "çč"}, Folding{"C", "ÇČ"}, Folding{"e", "éèêë"},
    Folding{"E", "ÉÈÊË"}, Folding{"i", "íìîï"}, Folding{"I", "ÍÌÎÏ"}, Folding{"n", "ñ"},
    Folding{"N", "Ñ"}, Folding{"o", "óòôõº°"}, Folding{"O", "ÓÒÔÕ"}, Folding{"s", "š"},
    Folding{"S", "Š"}, Folding{"u", "úùû"}, Folding{"U", "ÚÙÛ"}, Folding{"y", "ýÿ"},
    Folding{"z", "ž"}, Folding{"Z", "Ž"}, Folding{"-", "–—−‐‑"}, Folding{"'", "’‘´ʼ"},
    Folding{"\"", "“”„«»"}, Folding{"/", "⁄∕"}, Folding{"...", "…"}, Folding{"EUR", "€"},
    Folding{"GBP", "£"},
    // Spaces: no-break, thin, narrow no-break; and the diaeresis that follows its letter.
    Folding{" ", "\u00A0\u2009\u202F"}, Folding{"e", "\u0308"},
    // Accents that follow their letters, the soft hyphen, the byte order mark.
    Folding{"", "\u0300\u0301\u0302\u0303\u0327\u00AD\uFEFF"}};

// The bytes of the character that starts here, 1 where none does.
[[nodiscard]] constexpr std::size_t utf8_length(std::string_view text) {
  const auto lead = static_cast<unsigned char>(text[0]);
  const std::size_t length = lead >= 0xF0 ? 4 : lead >= 0xE0 ? 3 : lead >= 0xC0 ? 2 : 1;
  if (length > text.size() || lead >= 0xF8) return 1;
  for (std::size_t i = 1; i < length; ++i)
    if ((static_cast<unsigned char>(text[i]) & 0xC0) != 0x80) return 1;
  return length;
}

[[nodiscard]] constexpr std::string_view fold_letter(std::string_view letter) {
  for (const Folding& folding : kFoldings)
    for (std::string_view rest = folding.letters; !rest.empty();) {
      const std::size_t length = utf8_length(rest);
      if (rest.substr(0, length) == letter) return folding.ascii;
      rest.remove_prefix(length);
    }
  return std::string_view(&kSubstitute, 1);
}

}  // namespace detail

// UTF-8 in ASCII letters: "5. März" is "5. Maerz". White space is a space; whatever else is not
// ASCII becomes a character that is none of the alphabet's, one for each.
[[nodiscard]] inline std::string fold(std::string_view utf8) {
  std::string ascii;
  while (!utf8.empty()) {
    const std::size_t length = detail::utf8_length(utf8);
    const std::string_view letter = utf8.substr(0, length);
    if (static_cast<unsigned char>(letter[0]) >= 0x80)
      ascii += detail::fold_letter(letter);
    else
      ascii += letter[0] == '\t' || letter[0] == '\n' || letter[0] == '\r' ? ' ' : letter[0];
    utf8.remove_prefix(length);
  }
  return ascii;
}

}  // namespace dates
