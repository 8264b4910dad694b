// SPDX-License-Identifier: MIT
#pragma once
// An axis of a chart, linear or logarithmic.
#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include <eigenheads/plot/svg.hpp>    // number
#include <eigenheads/plot/ticks.hpp>  // value_ticks, Tick

namespace pages {

namespace plot = eigenheads::plot;

struct Axis {
  std::string title;  // with its unit
  double low = 0, high = 1;
  bool is_log = false;  // then low > 0, and what is below it is drawn there
  int intervals = 5;

  // 0 at the low end, 1 at the high one.
  [[nodiscard]] double at(double value) const {
    const double inside = std::clamp(value, low, high);
    return is_log ? std::log(inside / low) / std::log(high / low) : (inside - low) / (high - low);
  }
  [[nodiscard]] std::vector<plot::Tick> ticks() const {
    if (!is_log) return plot::value_ticks(low, high, intervals);
    // Powers of ten, at most five of them.
    std::vector<plot::Tick> result;
    const int first = static_cast<int>(std::ceil(std::log10(low) - 1e-9));
    const int last = static_cast<int>(std::floor(std::log10(high) + 1e-9));
    for (int power = first; power <= last; power += 1 + (last - first) / 5) {
      const double value = std::pow(10, power);
      std::string text = plot::number(value, std::chars_format::fixed, (std::max)(-power, 0));
      if (power < -2) {
        constexpr std::array digits{"\u2070", "\u00B9", "\u00B2", "\u00B3", "\u2074",
                                    "\u2075", "\u2076", "\u2077", "\u2078", "\u2079"};
        text = "10\u207B";
        for (const char digit : std::to_string(-power))
          text += digits[static_cast<std::size_t>(digit - '0')];
      }
      result.push_back({value, (power == first ? "\u2264 " : "") + text});
    }
    return result;
  }
};

}  // namespace pages
