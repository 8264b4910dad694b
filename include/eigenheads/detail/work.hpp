// SPDX-License-Identifier: MIT
#pragma once
// How much work there is, estimated from sizes alone, and how many threads it is worth.
#include <algorithm>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/version.hpp>  // EIGENHEADS_ABI, Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// Work is counted in multiply-adds of floats. So many take 25 to 50 us; to wake a thread takes 20 to
// 30 us, and the one that wakes it loses up to 8. For one that is awake a part of so many is enough.
// (Zen 4: work of 13, 26 and 36 us on one thread takes 1.04, 0.86 and 0.5 of it on two that are awake.)
inline constexpr double multiply_adds_per_thread = 2e6, part_while_awake = 1.0 / 4;
// What else takes as long as so many of them: to read an element from memory once and pack it, and
// to take the softmax of a score.
inline constexpr double multiply_adds_per_packed = 8, multiply_adds_per_score = 32;

// How many floats one number takes as long as.
template <class T>
inline constexpr double floats_per = sizeof(T) == sizeof(float) ? 1 : 2;

template <class... Sizes>
[[nodiscard]] constexpr double product(Sizes... sizes) {
  return (1.0 * ... * static_cast<double>(sizes));  // of sizes that may overflow an Index
}

// Of y = x W^T + b, for so many rows of x; W is read from memory once.
template <class T>
[[nodiscard]] constexpr double projection_work(Index rows, Index in, Index out) {
  return floats_per<T> * product(in, out) * (static_cast<double>(rows) + multiply_adds_per_packed);
}

// How many threads take part in a loop, the calling one among them: `least` though the others may have
// to be woken, `most` if they are awake or waking them is paid for (burst.hpp). Scratch memory is for
// the most.
struct Threads {
  int most = 1, least = 1;
  double work = 0;  // of the whole loop, in multiply-adds of floats
};

// How many of `most` threads have at least `work_per_thread` to do, and the one that calls.
[[nodiscard]] constexpr int threads_worth(double work, double work_per_thread, int most) {
  if (work >= work_per_thread * most) return most;
  // A compiler may divide before it compares, as clang 19 does: neither the quotient nor the whole number
  // is out of range then, which would raise a floating-point exception.
  const double shares = work / (std::max)(work_per_thread, 1e-200);
  return (std::max)(static_cast<int>((std::min)(shares, static_cast<double>(most))), 1);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
