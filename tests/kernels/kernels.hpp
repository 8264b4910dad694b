// SPDX-License-Identifier: MIT
#pragma once
// What the tests of the kernels share: the kernels of every instruction set that runs here, and
// arithmetic that loses subnormal numbers.
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include <cstdint>

#include <eigenheads/kernels/targets.hpp>

#include "../support.hpp"

namespace support {

// visit(Kernels, InstructionSet): those with a fused multiply-add, then the portable ones.
template <class Visit>
void for_each_instruction_set(const Visit& visit) {
  using Set = eh::InstructionSet;
#if defined(EIGENHEADS_X86)
  if (eh::detail::runs_here(Set::avx2)) visit(eh::detail::avx2::Kernels{}, Set::avx2);
  if (eh::detail::runs_here(Set::avx512)) visit(eh::detail::avx512::Kernels{}, Set::avx512);
#elif defined(EIGENHEADS_NEON)
  visit(eh::detail::neon::Kernels{}, Set::neon);
#endif
  visit(eh::detail::portable::Kernels{}, Set::portable);
}

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
