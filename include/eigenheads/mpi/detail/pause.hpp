// SPDX-License-Identifier: MIT
#pragma once
// Between two looks at what has not come yet.
#include <chrono>
#include <thread>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/version.hpp>  // EIGENHEADS_ABI

namespace eigenheads::inline EIGENHEADS_ABI::mpi::detail {

// First looks again at once, as most messages take microseconds; then lets others run, as there may be
// more ranks than cores; then sleeps, so that a rank that waits for long takes nothing from those that
// work. A sleep takes some 100 microseconds, whatever shorter time is asked for.
class Pause {
 public:
  explicit Pause(std::chrono::milliseconds patience) : patience_(patience) {}

  // False if nothing has come for longer than the patience.
  [[nodiscard]] bool operator()() {
    ++looks_;
    if (looks_ <= looks_at_once) return true;
    if (looks_ <= looks_before_sleep) {
      std::this_thread::yield();
      return true;
    }
    const auto now = std::chrono::steady_clock::now();
    if (looks_ == looks_before_sleep + 1) begin_ = now;
    if (now - begin_ > patience_) return false;
    std::this_thread::sleep_for(std::chrono::microseconds(50));
    return true;
  }
  // Something has come.
  void reset() { looks_ = 0; }

 private:
  static constexpr int looks_at_once = 64, looks_before_sleep = 512;

  std::chrono::milliseconds patience_;
  std::chrono::steady_clock::time_point begin_;
  int looks_ = 0;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi::detail

#include <eigenheads/detail/macros_on.inl>
