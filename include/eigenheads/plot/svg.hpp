// SPDX-License-Identifier: MIT
#pragma once
// SVG text that is well-formed by construction: elements close themselves in order, and every
// string that enters the file is escaped on its way in. Numbers are written with to_chars, so no
// locale can turn a point into a comma.
#include <charconv>
#include <cstddef>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/version.hpp>  // EIGENHEADS_ABI

namespace eigenheads::inline EIGENHEADS_ABI::detail::plot {

// The point and minus of the C locale; `precision` counts as in printf's %f, %e and %g.
[[nodiscard]] inline std::string number(double value, std::chars_format format, int precision) {
  char buffer[512];  // fixed notation of 1e300 and its decimals
  const auto result = std::to_chars(buffer, buffer + sizeof buffer, value, format, precision);
  std::string text(buffer, result.ptr);
  // Zero has no sign here, nor has what rounding leaves of a small negative number.
  if (text.find_first_of("123456789") == std::string::npos && text[0] == '-') text.erase(0, 1);
  return text;
}

// A length in px, to the hundredth: "12", "12.5", "12.25".
[[nodiscard]] inline std::string pixels(double value) {
  std::string text = number(value, std::chars_format::fixed, 2);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text;
}

// What an XML file can hold of a string. Control characters, which tokenizers have as tokens,
// become their pictures (a newline is U+240A); what is not UTF-8 or not XML 1.0 becomes U+FFFD.
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

[[nodiscard]] inline std::string escaped(std::string_view utf8) {
  std::string xml;
  for (const char32_t rune : readable(utf8)) switch (rune) {
      case U'&':
        xml += "&amp;";
        break;
      case U'<':
        xml += "&lt;";
        break;
      case U'>':
        xml += "&gt;";
        break;
      case U'"':
        xml += "&quot;";
        break;
      case U'\'':
        xml += "&#39;";
        break;
      default:
        append_utf8(xml, rune);
    }
  return xml;
}

// At most `limit` characters, the last of them an ellipsis where some were left out.
[[nodiscard]] inline std::string elided(std::string_view utf8, std::size_t limit) {
  std::u32string runes = readable(utf8);
  if (runes.size() > limit) {
    runes.resize(limit - 1);
    runes += U'\u2026';
  }
  std::string text;
  for (const char32_t rune : runes) append_utf8(text, rune);
  return text;
}

// About how wide a text is in px. There is no font to ask, so this leans to the wide side of
// Helvetica, Arial and DejaVu Sans.
[[nodiscard]] inline double text_width(std::string_view utf8, double font_size) {
  double ems = 0;
  for (const char32_t rune : readable(utf8)) {
    if (rune >= 0x1100)
      ems += rune >= 0x2000 && rune < 0x2E80 ? 0.8 : 1;  // signs and arrows; CJK, emoji
    else if (rune < 0x80 && std::string_view("ijl|!.,:;'` ").find(static_cast<char>(rune)) !=
                                std::string_view::npos)
      ems += 0.32;
    else if (rune < 0x80 &&
             std::string_view("mwMW@%").find(static_cast<char>(rune)) != std::string_view::npos)
      ems += 0.95;
    else
      ems += rune >= U'A' && rune <= U'Z' ? 0.7 : 0.6;
  }
  return ems * font_size;
}

struct Attribute {
  Attribute(std::string_view name_, std::string value_) : name(name_), value(std::move(value_)) {}
  Attribute(std::string_view name_, const char* value_) : name(name_), value(value_) {}
  Attribute(std::string_view name_, double px) : name(name_), value(pixels(px)) {}

  std::string_view name;
  std::string value;
};

class SvgWriter {
 public:
  using Attributes = std::initializer_list<Attribute>;

  SvgWriter(double width, double height) {
    open("svg", {{"xmlns", "http://www.w3.org/2000/svg"},
                 {"xmlns:xlink", "http://www.w3.org/1999/xlink"},
                 {"version", "1.1"},
                 {"width", width},
                 {"height", height},
                 {"viewBox", "0 0 " + pixels(width) + " " + pixels(height)}});
  }

  // Names are string literals: the writer keeps views of them until close().
  void open(std::string_view name, Attributes attributes) {
    begin(name, attributes);
    svg_ += ">\n";
    open_.push_back(name);
  }
  void close() {
    svg_.append("</").append(open_.back()).append(">\n");
    open_.pop_back();
  }
  void leaf(std::string_view name, Attributes attributes) {
    begin(name, attributes);
    svg_ += "/>\n";
  }
  void text(std::string_view name, Attributes attributes, std::string_view utf8) {
    begin(name, attributes);
    svg_.append(">").append(escaped(utf8)).append("</").append(name).append(">\n");
  }
  // The name of the open element, which viewers show on hover.
  void hover(std::string_view utf8) { text("title", {}, utf8); }

  [[nodiscard]] std::string finish() && {
    while (!open_.empty()) close();
    return std::move(svg_);
  }

 private:
  void begin(std::string_view name, Attributes attributes) {
    svg_.append("<").append(name);
    for (const Attribute& attribute : attributes)
      svg_.append(" ").append(attribute.name).append("=\"").append(escaped(attribute.value)) += '"';
  }

  std::string svg_ = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
  std::vector<std::string_view> open_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail::plot
