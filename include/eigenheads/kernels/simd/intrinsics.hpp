// SPDX-License-Identifier: MIT
#pragma once
// The compiler's intrinsics, and which of the register files here this machine can have.
#if defined(__x86_64__)
#define EIGENHEADS_X86 1
#include <immintrin.h>
#elif defined(__aarch64__)
#define EIGENHEADS_NEON 1
#include <arm_neon.h>
#endif
