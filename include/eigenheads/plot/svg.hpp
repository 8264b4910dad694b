// SPDX-License-Identifier: MIT
#pragma once
// SVG text that is well-formed by construction: elements close themselves in order, and every
// string that enters the file is escaped on its way in. Numbers are written with to_chars, so no
// locale can turn a point into a comma.
//   SvgWriter svg(200, 100);
//   svg.open("g", {{"fill", "#262626"}});
//   svg.text("text", {{"x", 12.5}, {"y", 20.0}}, isolated(label));
//   write_file("labels.svg", std::move(svg).finish());
#include <charconv>
#include <cstddef>
#include <initializer_list>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>                 // refuse
#include <eigenheads/plot/character_width.hpp>  // columns_of
#include <eigenheads/plot/text.hpp>             // readable, append_utf8
#include <eigenheads/version.hpp>               // EIGENHEADS_ABI

namespace eigenheads::inline EIGENHEADS_ABI::plot {

// The point and minus of the C locale; `precision` counts as in printf's %f, %e and %g.
[[nodiscard]] inline std::string number(double value, std::chars_format format, int precision) {
  char buffer[512];  // fixed notation of 1e300 and its decimals
  auto result = std::to_chars(buffer, buffer + sizeof buffer, value, format, precision);
  std::string text(buffer, result.ptr);
  if (result.ec != std::errc()) {  // of many more decimals
    text.resize(sizeof buffer + static_cast<std::size_t>(precision));
    result = std::to_chars(text.data(), text.data() + text.size(), value, format, precision);
    text.resize(static_cast<std::size_t>(result.ptr - text.data()));
  }
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

// About how wide a text is in px. There is no font to ask, so this leans to the wide side of
// Helvetica, Arial and DejaVu Sans.
[[nodiscard]] inline double text_width(std::string_view utf8, double font_size) {
  double ems = 0;
  for (const char32_t rune : readable(utf8)) {
    if (detail::plot::columns_of(rune) == 0) continue;
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

// A number is a length in px, to the hundredth.
struct SvgAttribute {
  SvgAttribute(std::string_view name_, std::string value_)
      : name(name_), value(std::move(value_)) {}
  SvgAttribute(std::string_view name_, const char* value_) : name(name_), value(value_) {}
  SvgAttribute(std::string_view name_, double px) : name(name_), value(pixels(px)) {}

  std::string_view name;
  std::string value;
};

// Writes elements one after the other, escaped and closed in their order.
class SvgWriter {
 public:
  using Attributes = std::initializer_list<SvgAttribute>;

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
    if (open_.empty())
      detail::refuse<std::logic_error>({"SvgWriter: close without an element that is open"});
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
    for (const SvgAttribute& attribute : attributes)
      svg_.append(" ").append(attribute.name).append("=\"").append(escaped(attribute.value)) += '"';
  }

  std::string svg_ = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
  std::vector<std::string_view> open_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::plot

#include <eigenheads/detail/macros_on.inl>
