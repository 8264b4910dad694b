// SPDX-License-Identifier: MIT
#pragma once
// The kernels of this process, of the instruction set that was chosen for it: what the schedules
// call. A translation unit whose program has them compiled elsewhere sees no more than this
// (prebuilt.hpp, which defines the macro).
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kernels/table.hpp>  // AttentionKernels
#include <eigenheads/storage.hpp>        // StoredAs

namespace eigenheads::inline EIGENHEADS_ABI::detail {

template <class T>
[[nodiscard]] ProjectionKernels<T> projection_kernels();
template <class T>
[[nodiscard]] ElementaryKernels<T> elementary_kernels();
template <class T>
[[nodiscard]] RotaryKernels<T> rotary_kernels();
template <class T>
[[nodiscard]] AttentionKernels<T> attention_kernels();
template <class T>
[[nodiscard]] AttentionPartKernels<T> attention_part_kernels();
// Null: of type T itself.
template <class T>
[[nodiscard]] const StoredKernels<T>* stored_kernels(StoredAs stored_as);
template <class T>
[[nodiscard]] BackwardKernels<T> backward_kernels();
template <class T>
[[nodiscard]] StatisticsKernels<T> statistics_kernels();

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>

#if !defined(EIGENHEADS_KERNELS_ARE_ELSEWHERE)
#include <eigenheads/kernels/targets.hpp>
#endif
