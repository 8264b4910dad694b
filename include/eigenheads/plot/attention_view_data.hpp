// SPDX-License-Identifier: MIT
#pragma once
// What the pages of attention_view.hpp embed, and how: strings and numbers as JSON, a head's
// weights as bytes, palettes.
#include <bit>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <eigenheads/detail/float_bits.hpp>  // is_finite, BitsOf
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/plot/colormap.hpp>  // Colormap, Palette, palette_of
#include <eigenheads/plot/png.hpp>       // base64
#include <eigenheads/plot/text.hpp>      // readable, isolated, append_utf8
#include <eigenheads/tensor.hpp>         // Index, Scalar

namespace eigenheads::inline EIGENHEADS_ABI::detail::plot {

// 360 MB of page; browsers give up soon after.
inline constexpr Index most_view_weights = Index{1} << 26;

// Inside <script> nothing but "<" could end the element, and readable() leaves no control
// characters. The page puts these strings together with its own words, so they are isolated.
inline void append_json(std::string& json, std::string_view utf8) {
  json += '"';
  for (const char32_t rune : isolated(readable(utf8))) {
    if (rune == U'<') {
      json += "\\u003c";
      continue;
    }
    if (rune == U'"' || rune == U'\\') json += '\\';
    append_utf8(json, rune);
  }
  json += '"';
}
inline void append_json(std::string& json, Index number) { json += std::to_string(number); }
inline void append_json(std::string& json, double number) {  // the shortest that reads back
  char buffer[32];
  json.append(buffer, std::to_chars(buffer, buffer + sizeof buffer, number).ptr);
}
inline void append_json(std::string& json, const std::vector<std::string>& strings) {
  json += '[';
  for (std::size_t i = 0; i < strings.size(); ++i) {
    if (i > 0) json += ',';
    append_json(json, strings[i]);
  }
  json += ']';
}

template <class Bits>
void append_little_endian(std::string& out, Bits bits) {
  for (std::size_t byte = 0; byte < sizeof(Bits); ++byte)
    out += static_cast<char>(bits >> (8 * byte) & 0xFFu);
}

// The head's rows, little-endian. What surrounds a row's weights other than 0, which is what masks
// leave, is not stored: first Q pairs of 32 bits, the keys [begin, end) that are, then their
// weights.
template <class Stored, Scalar T>
[[nodiscard]] std::string packed_rows(const T* weights, Index Q, Index K) {
  using Bits = BitsOf<Stored>;
  const auto bits_of = [](const T& x) { return std::bit_cast<Bits>(static_cast<Stored>(x)); };
  std::string bounds, values;
  for (Index q = 0; q < Q; ++q) {
    const T* row = weights + q * K;
    Index begin = 0, end = K;
    while (end > 0 && bits_of(row[end - 1]) == 0) --end;
    while (begin < end && bits_of(row[begin]) == 0) ++begin;
    append_little_endian(bounds, static_cast<std::uint32_t>(begin));
    append_little_endian(bounds, static_cast<std::uint32_t>(end));
    for (Index k = begin; k < end; ++k) append_little_endian(values, bits_of(row[k]));
  }
  return bounds + values;
}

// Whether float holds the number as it holds others: not as 0, infinity or a subnormal.
template <Scalar T>
[[nodiscard]] bool is_float_sized(const T& x) {
  if (!detail::is_finite(x)) return true;
  const double magnitude = std::abs(static_cast<double>(x));
  return magnitude == 0 || (magnitude >= static_cast<double>((std::numeric_limits<float>::min)()) &&
                            magnitude <= static_cast<double>((std::numeric_limits<float>::max)()));
}

// Of a dark page: small weights are as dark as it is, great ones light.
[[nodiscard]] inline Palette dark_palette_of(Colormap colormap) {
  Palette palette = palette_of(colormap);
  if (colormap == Colormap::reds) {
    const std::span<const Rgb> reds = anchors_of(colormap);
    std::vector<Rgb> anchors(reds.rbegin(), reds.rend() - 1);
    anchors[0] = {38, 36, 41};
    palette = palette_of(anchors);
  }
  palette[nan_level] = {118, 118, 118};
  return palette;
}

[[nodiscard]] inline std::string base64(const Palette& palette) {
  std::string bytes;
  for (const Rgb& color : palette)
    for (const std::uint8_t channel : {color.red, color.green, color.blue})
      bytes += static_cast<char>(channel);
  return base64(bytes);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail::plot

#include <eigenheads/detail/macros_on.inl>
