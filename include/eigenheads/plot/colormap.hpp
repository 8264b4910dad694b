// SPDX-License-Identifier: MIT
#pragma once
// Colours for the values of a heat map, as matplotlib's maps of the same names.
//   Anchors, evenly spaced, and straight lines in sRGB between them. For Reds (ColorBrewer's nine)
//   that is matplotlib's own definition; viridis stays within 6 of 255 of its table in each
//   channel.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/version.hpp>  // EIGENHEADS_ABI

namespace eigenheads::inline EIGENHEADS_ABI {

enum class Colormap { reds, viridis };

namespace detail::plot {

struct Rgb {
  std::uint8_t red, green, blue;
};

[[nodiscard]] inline std::span<const Rgb> anchors_of(Colormap colormap) {
  static constexpr Rgb reds[] = {{255, 245, 240}, {254, 224, 210}, {252, 187, 161},
                                 {252, 146, 114}, {251, 106, 74},  {239, 59, 44},
                                 {203, 24, 29},   {165, 15, 21},   {103, 0, 13}};
  static constexpr Rgb viridis[] = {{68, 1, 84},    {72, 24, 106},  {71, 45, 123},  {66, 64, 134},
                                    {59, 82, 139},  {51, 99, 141},  {44, 114, 142}, {38, 129, 142},
                                    {33, 144, 140}, {31, 159, 136}, {40, 174, 128}, {62, 188, 116},
                                    {93, 201, 99},  {130, 211, 76}, {171, 220, 50}, {213, 226, 26},
                                    {253, 231, 37}};
  if (colormap == Colormap::viridis) return viridis;
  return reds;
}

// A value is drawn as one of 255 levels, so that with the colour of NaN they make one byte.
inline constexpr int level_count = 255, nan_level = 255;

using Palette = std::array<Rgb, 256>;

[[nodiscard]] inline Palette palette_of(std::span<const Rgb> anchors) {
  const int segments = static_cast<int>(anchors.size()) - 1;
  constexpr int denominator = level_count - 1;
  Palette palette{};
  for (int level = 0; level < level_count; ++level) {
    const int segment = (std::min)(level * segments / denominator, segments - 1);
    const int rest = level * segments - segment * denominator;
    const Rgb& from = anchors[static_cast<std::size_t>(segment)];
    const Rgb& to = anchors[static_cast<std::size_t>(segment) + 1];
    const auto mixed = [&](std::uint8_t a, std::uint8_t b) {
      return static_cast<std::uint8_t>((a * (denominator - rest) + b * rest + denominator / 2) /
                                       denominator);
    };
    palette[static_cast<std::size_t>(level)] = {
        mixed(from.red, to.red), mixed(from.green, to.green), mixed(from.blue, to.blue)};
  }
  palette[nan_level] = {176, 176, 176};
  return palette;
}
[[nodiscard]] inline Palette palette_of(Colormap colormap) {
  return palette_of(anchors_of(colormap));
}

// "#fff5f0"
[[nodiscard]] inline std::string hex(const Rgb& color) {
  static constexpr char digits[] = "0123456789abcdef";
  std::string text = "#";
  for (const unsigned channel : {color.red, color.green, color.blue}) {
    text += digits[channel / 16];
    text += digits[channel % 16];
  }
  return text;
}

}  // namespace detail::plot

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
