// SPDX-License-Identifier: MIT
#pragma once
// Contexts: whether they hand out every index once, and those whose threads have started.
#include <algorithm>
#include <atomic>
#include <thread>
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

// A thread allocates when it starts: they have, once each waited for the others.
inline void start_threads(eh::Context& context) {
  std::atomic<int> here{0};
  context.parallel_for(context.threads(), [&](Index) {
    ++here;
    while (here < context.threads()) std::this_thread::yield();
  });
}

}  // namespace support
