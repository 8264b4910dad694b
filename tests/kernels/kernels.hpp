// SPDX-License-Identifier: MIT
#pragma once
// What the tests of the kernels share: the kernels of every instruction set that runs here.
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

}  // namespace support
