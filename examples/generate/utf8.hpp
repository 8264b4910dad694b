// SPDX-License-Identifier: MIT
#pragma once
// Bytes as a terminal can show them: whole UTF-8 characters, as soon as they are whole. What is none
// becomes U+FFFD, as the Unicode Standard (3.9, "maximal subparts") has it.
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>

namespace byte_model {

// What the first bytes of a text are.
struct Utf8Character {
  std::size_t size = 0;  // bytes, 1 to 4: of a character, or of what is none
  enum { whole, unfinished, broken } state = whole;
};

// text: not empty. The Unicode Standard, table 3-7: no surrogates, nothing too long or too large.
[[nodiscard]] inline Utf8Character first_character(std::string_view text) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned lead = byte(0);
  std::size_t size = 1;
  unsigned least = 0x80, most = 0xBF;  // of the second byte
  if (lead < 0x80) return {1, Utf8Character::whole};
  if (lead >= 0xC2 && lead <= 0xDF) size = 2;
  if (lead >= 0xE0 && lead <= 0xEF) size = 3;
  if (lead >= 0xF0 && lead <= 0xF4) size = 4;
  if (lead == 0xE0) least = 0xA0;
  if (lead == 0xED) most = 0x9F;
  if (lead == 0xF0) least = 0x90;
  if (lead == 0xF4) most = 0x8F;
  if (size == 1) return {1, Utf8Character::broken};
  for (std::size_t i = 1; i < size; ++i, least = 0x80, most = 0xBF) {
    if (i == text.size()) return {i, Utf8Character::unfinished};
    if (byte(i) < least || byte(i) > most) return {i, Utf8Character::broken};
  }
  return {size, Utf8Character::whole};
}

// Where the first byte that is no UTF-8 stands; npos: nowhere.
[[nodiscard]] inline std::size_t find_broken(std::string_view text) {
  for (std::size_t at = 0; at < text.size();) {
    const Utf8Character next = first_character(text.substr(at));
    if (next.state != Utf8Character::whole) return at;
    at += next.size;
  }
  return std::string_view::npos;
}

class Utf8Stream {
 public:
  // What can be shown once this byte has come.
  [[nodiscard]] std::string add(char byte) {
    pending_ += byte;
    return take(false);
  }
  // What is left of a character that never became whole.
  [[nodiscard]] std::string finish() { return take(true); }

 private:
  [[nodiscard]] std::string take(bool is_end) {
    std::string shown;
    while (!pending_.empty()) {
      const Utf8Character next = first_character(pending_);
      if (next.state == Utf8Character::unfinished && !is_end) break;
      shown += next.state == Utf8Character::whole ? pending_.substr(0, next.size) : "\uFFFD";
      pending_.erase(0, next.size);
    }
    return shown;
  }

  std::string pending_;
};

}  // namespace byte_model
