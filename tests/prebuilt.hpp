// SPDX-License-Identifier: MIT
#pragma once
// Included before every test program: the kernels and the layers of float and double are compiled
// once, in prebuilt.cpp, and not in each of them again. That halves the time that the tests take to
// build.
#include <eigenheads/kernels/targets.hpp>
#include <eigenheads/linear.hpp>
#include <eigenheads/multi_head_attention.hpp>

#if !defined(PREBUILT)
#define PREBUILT extern template
#endif

namespace eigenheads::inline EIGENHEADS_ABI {

PREBUILT class Linear<float>;
PREBUILT class Linear<double>;
PREBUILT class MultiHeadAttention<float>;
PREBUILT class MultiHeadAttention<double>;

namespace detail {

PREBUILT ProjectionKernels<float> projection_kernels<float>();
PREBUILT ProjectionKernels<double> projection_kernels<double>();
PREBUILT AttentionKernels<float> attention_kernels<float>();
PREBUILT AttentionKernels<double> attention_kernels<double>();
PREBUILT BackwardKernels<float> backward_kernels<float>();
PREBUILT BackwardKernels<double> backward_kernels<double>();
PREBUILT StatisticsKernels<float> statistics_kernels<float>();
PREBUILT StatisticsKernels<double> statistics_kernels<double>();

}  // namespace detail
}  // namespace eigenheads::inline EIGENHEADS_ABI
