// SPDX-License-Identifier: MIT
#pragma once
// Which of a context's threads are awake, so that small loops that follow each other are shared out
// too, and none that comes alone waits for a thread that sleeps.
#include <algorithm>
#include <chrono>

#include <eigenheads/detail/crew.hpp>  // awake_time
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/work.hpp>  // Threads, threads_worth
#include <eigenheads/version.hpp>      // EIGENHEADS_ABI

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// Loops that follow each other within `awake_time`, and the threads that helped in the last one.
class Burst {
 public:
  using Time = std::chrono::steady_clock::time_point;

  // How many threads, of `all`, take part in a loop that begins now. Threads that sleep are woken once a
  // burst has done as much work without them as is worth waking them for: at worst it ends then, and
  // has lost as much again as waking them at its begin would have saved. A loop that shares its Threads
  // with those before it counts all of their work again, and wakes others the earlier.
  [[nodiscard]] int threads_for(const Threads& loop, double work_per_thread, int all, Time now) {
    if (now - last_end_ > awake_time) awake_ = 1, unpaid_work_ = 0;
    unpaid_work_ += loop.work;
    const int paid = threads_worth(unpaid_work_, work_per_thread, all);
    const int threads = (std::min)(loop.most, (std::max)({awake_, loop.least, paid}));
    if (threads > awake_ || threads == all) unpaid_work_ = 0;
    return threads;
  }
  void end_loop(int threads, Time now) {
    awake_ = threads;
    last_end_ = now;
  }

 private:
  Time last_end_{};
  double unpaid_work_ = 0;  // without all threads, since one was woken
  int awake_ = 1;           // and the calling thread
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
