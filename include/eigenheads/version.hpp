// SPDX-License-Identifier: MIT
#pragma once
// The version, and the inline namespace that everything lives in.
//   Two translation units that were compiled with another alignment, instruction set, fast-math or
//   exception setting hold different code (and Eigen types of different layout) under one name; the
//   linker would keep either. So the namespace carries those settings, and such units do not mix.
//   While the major version is 0, a minor one may change anything, so it is part of the name too.
#include <Eigen/Core>  // EIGEN_MAX_ALIGN_BYTES
#include <cstddef>

#define EIGENHEADS_VERSION_MAJOR 0
#define EIGENHEADS_VERSION_MINOR 2
#define EIGENHEADS_VERSION_PATCH 0

#if defined(_MSC_VER) && !defined(__clang__)
#error "Eigenheads needs g++ 12, clang 14 or newer: MSVC cannot compile its kernels for each CPU."
#endif
#if defined(__i386__) && !defined(__SSE2_MATH__)
#error "Eigenheads needs -msse2 -mfpmath=sse on 32-bit x86: x87 rounds as registers are spilled."
#endif
#if !EIGEN_VERSION_AT_LEAST(3, 4, 0)
#error "Eigenheads needs Eigen 3.4.0 or newer."
#endif

#if EIGEN_MAX_ALIGN_BYTES >= 64
#define EIGENHEADS_ABI_ALIGNMENT align64
#elif EIGEN_MAX_ALIGN_BYTES >= 32
#define EIGENHEADS_ABI_ALIGNMENT align32
#elif EIGEN_MAX_ALIGN_BYTES >= 16
#define EIGENHEADS_ABI_ALIGNMENT align16
#else
#define EIGENHEADS_ABI_ALIGNMENT align0
#endif

#if !defined(EIGEN_VECTORIZE)
#define EIGENHEADS_ABI_ISA scalar
#elif defined(__AVX512F__)
#define EIGENHEADS_ABI_ISA avx512
#elif defined(__AVX2__) && defined(__FMA__)
#define EIGENHEADS_ABI_ISA avx2fma
#elif defined(__AVX2__)
#define EIGENHEADS_ABI_ISA avx2
#elif defined(__AVX__) && defined(__FMA__)
#define EIGENHEADS_ABI_ISA avxfma
#elif defined(__AVX__)
#define EIGENHEADS_ABI_ISA avx
#elif defined(__SSE4_1__)
#define EIGENHEADS_ABI_ISA sse4
#else
#define EIGENHEADS_ABI_ISA baseline
#endif

#if defined(__FAST_MATH__) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__) || \
    defined(__ASSOCIATIVE_MATH__) || defined(__RECIPROCAL_MATH__)
#define EIGENHEADS_ABI_MATH fast
#else
#define EIGENHEADS_ABI_MATH strict
#endif

#if defined(__cpp_exceptions)
#define EIGENHEADS_ABI_ERRORS throws
#else
#define EIGENHEADS_ABI_ERRORS aborts
#endif

// clang-format off
#define EIGENHEADS_ABI_JOIN(major, minor, align, isa, math, errors) \
  v##major##_##minor##_##align##_##isa##_##math##_##errors
#define EIGENHEADS_ABI_EXPAND(...) EIGENHEADS_ABI_JOIN(__VA_ARGS__)
#define EIGENHEADS_ABI                                                        \
  EIGENHEADS_ABI_EXPAND(EIGENHEADS_VERSION_MAJOR, EIGENHEADS_VERSION_MINOR,   \
                        EIGENHEADS_ABI_ALIGNMENT, EIGENHEADS_ABI_ISA,         \
                        EIGENHEADS_ABI_MATH, EIGENHEADS_ABI_ERRORS)
// clang-format on

namespace eigenheads::inline EIGENHEADS_ABI {

// Sizes and positions. Not Eigen::Index: with another EIGEN_DEFAULT_DENSE_INDEX_TYPE that is another
// type under the same name, and two translation units would disagree about every class that holds
// one.
using Index = std::ptrdiff_t;

}  // namespace eigenheads::inline EIGENHEADS_ABI
