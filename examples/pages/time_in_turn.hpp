// SPDX-License-Identifier: MIT
#pragma once
// How long things take beside each other.
#include <chrono>
#include <cstddef>
#include <functional>
#include <vector>

#include "statistics.hpp"  // median

namespace pages {

// Milliseconds of each: the median of `repetitions`, one of each in turn, after one that does not
// count.
[[nodiscard]] inline std::vector<double> time_in_turn(
    const std::vector<std::function<void()>>& runs, int repetitions) {
  using Clock = std::chrono::steady_clock;
  std::vector<std::vector<double>> times(runs.size());
  for (int i = 0; i <= repetitions; ++i)
    for (std::size_t r = 0; r < runs.size(); ++r) {
      const auto start = Clock::now();
      runs[r]();
      const std::chrono::duration<double, std::milli> passed = Clock::now() - start;
      if (i > 0) times[r].push_back(passed.count());
    }
  std::vector<double> medians;
  for (const auto& of_run : times) medians.push_back(median(of_run));
  return medians;
}

}  // namespace pages
