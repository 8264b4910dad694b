// SPDX-License-Identifier: MIT
#pragma once
// Which instruction set the kernels run on: asked of the CPU once, at the first call.
#include <array>
#include <cstddef>
#include <cstdlib>
#include <string_view>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>    // refuse
#include <eigenheads/version.hpp>  // EIGENHEADS_ABI

#if defined(__x86_64__)
#define EIGENHEADS_X86 1
#elif defined(__aarch64__)
#define EIGENHEADS_NEON 1
#endif

namespace eigenheads::inline EIGENHEADS_ABI {

// In the order of preference.
enum class InstructionSet { portable, neon, avx2, avx512 };

[[nodiscard]] constexpr const char* name_of(InstructionSet set) {
  constexpr std::array names{"portable", "neon", "avx2", "avx512"};
  return names[static_cast<std::size_t>(set)];
}

namespace detail {

[[nodiscard]] inline bool runs_here(InstructionSet set) {
#if defined(EIGENHEADS_X86)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (set == InstructionSet::avx2) return avx2;
  if (set == InstructionSet::avx512)
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#elif defined(EIGENHEADS_NEON)
  if (set == InstructionSet::neon) return true;
#endif
  return set == InstructionSet::portable;
}

// EIGENHEADS_ISA=portable|neon|avx2|avx512 asks for less than the CPU has, for tests and
// comparisons.
[[nodiscard]] inline InstructionSet choose_instruction_set() {
  using enum InstructionSet;
  const char* asked = std::getenv("EIGENHEADS_ISA");
  for (const InstructionSet set : {avx512, avx2, neon, portable})
    if (runs_here(set) && (asked == nullptr || std::string_view(asked) == name_of(set))) return set;
  refuse({"EIGENHEADS_ISA is ", asked,
          "; expected portable, neon, avx2 or avx512, and one that this CPU has"});
}

}  // namespace detail

// The one that all kernels of this process run on: chosen at the first call.
[[nodiscard]] inline InstructionSet instruction_set() {
  static const InstructionSet chosen = detail::choose_instruction_set();
  return chosen;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
