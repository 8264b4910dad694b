// SPDX-License-Identifier: MIT
#pragma once
// A table of comma-separated values (RFC 4180).
#include <charconv>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>

namespace pages {

class Csv {
 public:
  template <class... Cells>
  void row(const Cells&... cells) {
    std::size_t column = 0;
    ((csv_ += column++ > 0 ? "," : "", csv_ += text(cells)), ...);
    csv_ += "\r\n";
  }
  [[nodiscard]] const std::string& str() const { return csv_; }

 private:
  [[nodiscard]] static std::string text(std::string_view cell) {
    if (cell.find_first_of(",\"\r\n") == cell.npos) return std::string(cell);
    std::string quoted = "\"";
    for (const char c : cell) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
    return quoted + '"';
  }
  // The fewest digits that read back as the same number.
  template <class Number>
  requires std::is_arithmetic_v<Number>
  [[nodiscard]] static std::string text(Number number) {
    char buffer[64];
    return {buffer, std::to_chars(buffer, buffer + sizeof buffer, number).ptr};
  }
  [[nodiscard]] static std::string text(std::optional<double> number) {
    return number ? text(*number) : "";
  }

  std::string csv_;
};

}  // namespace pages
