// SPDX-License-Identifier: MIT
#pragma once
// A processor that has lost its subnormal numbers.
#include <cstdint>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace support {

// Subnormal operands and results count as 0 while it lives: what linking one library that was built
// with -ffast-math does to a whole process.
class SubnormalsAreLost {
 public:
  SubnormalsAreLost() : before_(get()) { set(before_ | mask); }
  SubnormalsAreLost(const SubnormalsAreLost&) = delete;
  SubnormalsAreLost& operator=(const SubnormalsAreLost&) = delete;
  ~SubnormalsAreLost() { set(before_); }

 private:
#if defined(__x86_64__)
  static constexpr std::uint64_t mask = 0x8040;  // FTZ and DAZ
  static std::uint64_t get() { return _mm_getcsr(); }
  static void set(std::uint64_t bits) { _mm_setcsr(static_cast<unsigned>(bits)); }
#elif defined(__aarch64__)
  static constexpr std::uint64_t mask = 1 << 24;  // FZ
  static std::uint64_t get() {
    std::uint64_t bits;
    asm volatile("mrs %0, fpcr" : "=r"(bits));
    return bits;
  }
  static void set(std::uint64_t bits) { asm volatile("msr fpcr, %0" : : "r"(bits) : "memory"); }
#else
  static constexpr std::uint64_t mask = 0;
  static std::uint64_t get() { return 0; }
  static void set(std::uint64_t) {}
#endif
  std::uint64_t before_;
};

}  // namespace support
