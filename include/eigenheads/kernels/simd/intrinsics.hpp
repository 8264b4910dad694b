// SPDX-License-Identifier: MIT
#pragma once
// The compiler's intrinsics, of the architecture that this is compiled for.
#include <eigenheads/isa.hpp>  // EIGENHEADS_X86, EIGENHEADS_NEON

#if defined(EIGENHEADS_X86)
#include <immintrin.h>
#elif defined(EIGENHEADS_NEON)
#include <arm_neon.h>
#endif
