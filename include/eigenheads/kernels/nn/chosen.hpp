// SPDX-License-Identifier: MIT
#pragma once
// The kernels of nn/ of this process (see kernels/chosen.hpp).
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kernels/nn/table.hpp>  // NnKernels, AdditiveKernels

namespace eigenheads::inline EIGENHEADS_ABI::detail {

template <class T>
[[nodiscard]] NnKernels<T> nn_kernels();
template <class T>
[[nodiscard]] AdditiveKernels<T> additive_kernels();

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>

#if !defined(EIGENHEADS_KERNELS_ARE_ELSEWHERE)
#include <eigenheads/kernels/nn/targets.hpp>
#endif
