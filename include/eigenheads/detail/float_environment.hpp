// SPDX-License-Identifier: MIT
#pragma once
// How a thread computes: which way it rounds, whether it has subnormal numbers, which exceptions it
// traps. A thread of a pool has the environment of the day on which it was started, so those that help
// with a call take the caller's: no bit depends on who computes it.
#include <cfenv>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/version.hpp>  // EIGENHEADS_ABI

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// That of the thread that makes it.
class FloatEnvironment {
 public:
  FloatEnvironment() { std::fegetenv(&value_); }
  void set() const { std::fesetenv(&value_); }

 private:
  std::fenv_t value_;
};

// In another one while it lives.
class InFloatEnvironment {
 public:
  explicit InFloatEnvironment(const FloatEnvironment& other) { other.set(); }
  InFloatEnvironment(const InFloatEnvironment&) = delete;
  InFloatEnvironment& operator=(const InFloatEnvironment&) = delete;
  ~InFloatEnvironment() { own_.set(); }

 private:
  FloatEnvironment own_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
