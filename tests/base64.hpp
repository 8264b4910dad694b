// SPDX-License-Identifier: MIT
#pragma once
#include <string>
#include <string_view>

namespace support {

[[nodiscard]] inline std::string decode_base64(std::string_view text) {
  const std::string_view digits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string bytes;
  unsigned buffer = 0;
  int bits = 0;
  for (const char digit : text.substr(0, text.find('='))) {
    buffer = (buffer << 6 | static_cast<unsigned>(digits.find(digit))) & 0xFFFFu;
    if ((bits += 6) >= 8) bytes += static_cast<char>(buffer >> (bits -= 8) & 0xFFu);
  }
  return bytes;
}

}  // namespace support
