// SPDX-License-Identifier: MIT
#pragma once
// Measures of a head's importance, and what speaks for a head in each.
#include <algorithm>
#include <array>
#include <cstddef>
#include <numeric>
#include <vector>

#include <eigenheads/head_importance.hpp>  // HeadMeasures

namespace pages {

// Where a measure looks.
enum class Evidence { attention, position, output, loss };

struct Measure {
  const char* name;
  Evidence evidence;
  bool is_high_important;
  double eigenheads::HeadMeasures::*value;  // null: computed elsewhere
  const char* meaning;
  const char* axis;  // with the unit
};

// Those of HeadImportance that need no loss.
inline constexpr std::array<Measure, 9> kForwardMeasures{{
    {"l2_norm", Evidence::attention, true, &eigenheads::HeadMeasures::l2_norm,
     "L2 norm of a row of attention weights", "L2 norm of a row"},
    {"entropy", Evidence::attention, false, &eigenheads::HeadMeasures::entropy,
     "entropy of a row of attention weights, in nats", "entropy of a row (nats)"},
    {"variance", Evidence::attention, true, &eigenheads::HeadMeasures::variance,
     "variance of the weights of a row", "variance of a row"},
    {"confidence", Evidence::attention, true, &eigenheads::HeadMeasures::confidence,
     "largest weight of a row", "largest weight of a row"},
    {"previous", Evidence::position, true, &eigenheads::HeadMeasures::previous,
     "share of rows whose largest weight is at the position before", "share of rows"},
    {"next", Evidence::position, true, &eigenheads::HeadMeasures::next,
     "share of rows whose largest weight is at the position after", "share of rows"},
    {"same", Evidence::position, true, &eigenheads::HeadMeasures::same,
     "share of rows whose largest weight is at their own position", "share of rows"},
    {"contribution_norm", Evidence::output, true, &eigenheads::HeadMeasures::contribution_norm,
     "L2 norm of what the head adds to its layer's output", "norm (units of the output)"},
    {"contribution_variance", Evidence::output, true,
     &eigenheads::HeadMeasures::contribution_variance,
     "variance of what the head adds to its layer's output", "variance (units squared)"},
}};

// These, and then others.
template <std::size_t N>
[[nodiscard]] constexpr std::array<Measure, kForwardMeasures.size() + N> forward_measures_and(
    const Measure (&others)[N]) {
  std::array<Measure, kForwardMeasures.size() + N> all{};
  std::copy(kForwardMeasures.begin(), kForwardMeasures.end(), all.begin());
  std::copy_n(others, N, all.begin() + kForwardMeasures.size());
  return all;
}

// Places of heads, the least important first; of equals, the first.
[[nodiscard]] inline std::vector<std::size_t> order_by(const Measure& measure,
                                                       const std::vector<double>& values) {
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(
      order, {}, [&](std::size_t i) { return measure.is_high_important ? values[i] : -values[i]; });
  return order;
}

}  // namespace pages
