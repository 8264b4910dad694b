// SPDX-License-Identifier: MIT
#pragma once
// The compiler's intrinsics, of the architecture that this is compiled for. g++ takes longer to read
// all of <immintrin.h> than all of Eigen/Core, so of version 12, whose parts are known, only those
// are read that the files of simd/ call; each part has its own guard, so <immintrin.h> can follow.
#include <eigenheads/isa.hpp>  // EIGENHEADS_X86, EIGENHEADS_NEON

#if defined(EIGENHEADS_X86)
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ == 12 && !defined(_IMMINTRIN_H_INCLUDED)
#define _IMMINTRIN_H_INCLUDED  // NOLINT: the parts ask for it
// clang-format off
#include <smmintrin.h>
#include <avxintrin.h>
#include <avx2intrin.h>
#include <fmaintrin.h>
#include <avx512fintrin.h>
// clang-format on
#undef _IMMINTRIN_H_INCLUDED
#else
#include <immintrin.h>
#endif
#elif defined(EIGENHEADS_NEON)
#include <arm_neon.h>
#endif
