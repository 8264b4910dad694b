// SPDX-License-Identifier: MIT
#pragma once
// Whether a context hands out every index once.
#include <algorithm>
#include <vector>

#include <eigenheads/context.hpp>

#include "support.hpp"

namespace support {

// How often each index was handed out. Not atomic: a body owns its index, and what it wrote is
// there once parallel_for has returned.
[[nodiscard]] inline std::vector<int> visits(eh::Context& context, Index count) {
  std::vector<int> visits(static_cast<std::size_t>(count));
  context.parallel_for(count, [&](Index i) { ++visits[static_cast<std::size_t>(i)]; });
  return visits;
}

[[nodiscard]] inline bool each_once(eh::Context& context, Index count) {
  const auto all = visits(context, count);
  return std::all_of(all.begin(), all.end(), [](int n) { return n == 1; });
}

}  // namespace support
