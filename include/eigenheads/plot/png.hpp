// SPDX-License-Identifier: MIT
#pragma once
// Palette images as PNG files (W3C PNG, third edition), and base64 to put them into a data: URI.
//   The compressor is the smallest that pays: one deflate block (RFC 1951) of fixed Huffman codes
//   whose only matches are runs of one byte. Most attention weights round to the lowest level, and
//   a run of 257 of those takes 18 bits; the worst case is 9 bits for a byte.
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/plot/colormap.hpp>  // Palette

namespace eigenheads::inline EIGENHEADS_ABI::detail::plot {

// PNG's CRC: the reflected polynomial 0xEDB88320.
[[nodiscard]] inline std::uint32_t crc32(std::string_view bytes) {
  std::uint32_t crc = 0xFFFFFFFFu;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1u) != 0 ? 0xEDB88320u : 0u);
  }
  return ~crc;
}

[[nodiscard]] inline std::uint32_t adler32(std::string_view bytes) {
  std::uint32_t a = 1, b = 0;
  for (const char byte : bytes) {
    a = (a + static_cast<unsigned char>(byte)) % 65521;
    b = (b + a) % 65521;
  }
  return b << 16 | a;
}

inline void append_big_endian(std::string& out, std::uint32_t value) {
  for (const int shift : {24, 16, 8, 0}) out += static_cast<char>(value >> shift & 0xFFu);
}

class FixedHuffmanWriter {
 public:
  explicit FixedHuffmanWriter(std::string& out) : out_(out) {
    bits(1, 1);  // the last block
    bits(1, 2);  // of fixed codes
  }
  FixedHuffmanWriter(const FixedHuffmanWriter&) = delete;
  FixedHuffmanWriter& operator=(const FixedHuffmanWriter&) = delete;

  // RFC 1951, 3.2.6
  void symbol(unsigned value) {
    if (value < 144)
      code(0x30 + value, 8);
    else if (value < 256)
      code(0x190 + value - 144, 9);
    else if (value < 280)
      code(value - 256, 7);
    else
      code(0xC0 + value - 280, 8);
  }

  // The previous byte again, `length` times, 3 to 257. RFC 1951 gives 258 a code of its own; to
  // stop before it costs nothing and leaves one formula for the table of 3.2.5.
  void repeat(unsigned length) {
    const unsigned n = length - 3;
    const int extra = n < 8 ? 0 : static_cast<int>(std::bit_width(n)) - 3;
    symbol(257 + 4 * static_cast<unsigned>(extra) + (n >> extra));
    bits(n & ((1u << extra) - 1), extra);
    code(0, 5);  // distance 1
  }

  void finish() {
    symbol(256);
    if (pending_ > 0) bits(0, 8 - pending_);
  }

 private:
  void bits(unsigned value, int count) {
    buffer_ |= value << pending_;
    for (pending_ += count; pending_ >= 8; pending_ -= 8, buffer_ >>= 8)
      out_ += static_cast<char>(buffer_ & 0xFFu);
  }
  // Huffman codes, unlike numbers, start at their highest bit.
  void code(unsigned value, int count) {
    for (int bit = count - 1; bit >= 0; --bit) bits(value >> bit & 1u, 1);
  }

  std::string& out_;
  unsigned buffer_ = 0;
  int pending_ = 0;
};

// `bytes` as a zlib stream (RFC 1950).
[[nodiscard]] inline std::string zlib(std::string_view bytes) {
  std::string out = "\x78\x01";
  FixedHuffmanWriter writer(out);
  for (std::size_t i = 0; i < bytes.size();) {
    std::size_t run = 0;
    if (i > 0)
      while (run < 257 && i + run < bytes.size() && bytes[i + run] == bytes[i - 1]) ++run;
    if (run >= 3) {
      writer.repeat(static_cast<unsigned>(run));
      i += run;
    } else {
      writer.symbol(static_cast<unsigned char>(bytes[i++]));
    }
  }
  writer.finish();
  append_big_endian(out, adler32(bytes));
  return out;
}

// scanlines: height rows of a filter byte and `width` palette indices.
[[nodiscard]] inline std::string indexed_png(std::uint32_t width, std::uint32_t height,
                                             std::string_view scanlines, const Palette& palette) {
  std::string png = "\x89PNG\r\n\x1A\n";
  const auto append_chunk = [&](const std::string& chunk) {  // its four-letter type, then its data
    append_big_endian(png, static_cast<std::uint32_t>(chunk.size() - 4));
    png += chunk;
    append_big_endian(png, crc32(chunk));
  };
  std::string header = "IHDR";
  append_big_endian(header, width);
  append_big_endian(header, height);
  header += {8, 3, 0, 0, 0};  // 8-bit palette indices; deflate, filters, not interlaced
  append_chunk(header);
  std::string colors = "PLTE";
  for (const Rgb& color : palette)
    for (const std::uint8_t channel : {color.red, color.green, color.blue})
      colors += static_cast<char>(channel);
  append_chunk(colors);
  append_chunk("IDAT" + zlib(scanlines));
  append_chunk("IEND");
  return png;
}

[[nodiscard]] inline std::string base64(std::string_view bytes) {
  static constexpr char digits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  text.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t count = (std::min)(bytes.size() - i, std::size_t{3});
    std::uint32_t group = 0;
    for (std::size_t j = 0; j < 3; ++j)
      group = group << 8 | (j < count ? static_cast<unsigned char>(bytes[i + j]) : 0u);
    for (std::size_t j = 0; j < 4; ++j)
      text += j <= count ? digits[group >> (18 - 6 * j) & 63u] : '=';
  }
  return text;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail::plot

#include <eigenheads/detail/macros_on.inl>
