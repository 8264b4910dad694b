// SPDX-License-Identifier: MIT
#pragma once
// Where an axis has its ticks, and what stands beside them.
#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/plot/svg.hpp>  // number
#include <eigenheads/tensor.hpp>    // Index

namespace eigenheads::inline EIGENHEADS_ABI::plot {

struct Tick {
  double value;
  std::string text;
};

// Two or more round values between `low` and `high`, which is greater by at least a millionth: at
// most `intervals` steps of 1, 2, 2.5 or 5 times a power of ten where that leaves two.
[[nodiscard]] inline std::vector<Tick> value_ticks(double low, double high, int intervals) {
  const double wanted = (high - low) / intervals;
  const int exponent = static_cast<int>(std::floor(std::log10(wanted)));
  const double power = std::pow(10.0, exponent);
  double step = 10 * power;
  int decimals = -exponent - 1;
  for (const double multiple : {5.0, 2.5, 2.0, 1.0})
    if (multiple * power >= wanted * (1 - 1e-9)) {
      step = multiple * power;
      decimals = -exponent + (multiple == 2.5 ? 1 : 0);
    }
  const double magnitude = (std::max)(std::abs(low), std::abs(high));
  const int digits = static_cast<int>(std::floor(std::log10(magnitude))) + decimals + 1;
  const bool plain = magnitude < 1e6 && decimals <= 5;
  std::vector<Tick> ticks;
  const double slack = 1e-9 * step;
  auto n = static_cast<long long>(std::ceil((low - slack) / step));
  for (; static_cast<double>(n) * step <= high + slack; ++n) {
    const double value = static_cast<double>(n) * step;
    std::string text = plain ? number(value, std::chars_format::fixed, (std::max)(decimals, 0))
                             : number(value, std::chars_format::general, (std::max)(digits, 1));
    for (std::size_t at = 0; (at = text.find('-', at)) != std::string::npos;)
      text.replace(at, 1, "\u2212");
    ticks.push_back({value, text});
  }
  return ticks.size() < 2 ? value_ticks(low, high, 2 * intervals) : ticks;
}

// The first of 1, 2, 5, 10, 20, 50, ... that is at least `least`.
[[nodiscard]] inline Index round_stride(double least) {
  for (Index power = 1;; power *= 10)
    for (const Index multiple : {1, 2, 5})
      if (static_cast<double>(multiple * power) >= least) return multiple * power;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::plot

#include <eigenheads/detail/macros_on.inl>
