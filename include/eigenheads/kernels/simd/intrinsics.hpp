// SPDX-License-Identifier: MIT
#pragma once
// The compiler's intrinsics, of the architecture that this is compiled for. g++ takes longer to read
// all of <immintrin.h> than all of Eigen/Core, so of version 12, whose parts are known, only those
// are read that avx2.inl calls; each part has its own guard, so <immintrin.h> can follow. The part of
// AVX-512 alone takes a tenth of the time of Eigen's Tensor header: avx512_builtins.inl does without.
#include <eigenheads/isa.hpp>  // EIGENHEADS_X86, EIGENHEADS_NEON

#if defined(EIGENHEADS_X86)
#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ == 12
#define EIGENHEADS_AVX512_BY_BUILTINS 1
#endif
#if defined(EIGENHEADS_AVX512_BY_BUILTINS) && !defined(_IMMINTRIN_H_INCLUDED)
#define _IMMINTRIN_H_INCLUDED  // NOLINT: the parts ask for it
// clang-format off
#include <smmintrin.h>
#include <avxintrin.h>
#include <avx2intrin.h>
#include <fmaintrin.h>
// clang-format on
#undef _IMMINTRIN_H_INCLUDED
#else
#include <immintrin.h>
#endif
#elif defined(EIGENHEADS_NEON)
#include <arm_neon.h>
#endif
