// SPDX-License-Identifier: MIT
#pragma once
// The kernels of nn/ behind pointers (see kernels/table.hpp): who names the table compiles all of
// them, and a program that includes nothing of nn/ compiles none.
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kernels/nn/additive_call.hpp>  // AdditiveCall
#include <eigenheads/kernels/nn/calls.hpp>          // Activation, NormCall

namespace eigenheads::inline EIGENHEADS_ABI::detail {

template <class T>
struct NnKernels {
  // elementary.inl: y[i] = f(x[i]); y may be x.
  void (*erf_array)(const T* x, T* y, Index count);
  void (*tanh_array)(const T* x, T* y, Index count);
  void (*sin_array)(const T* x, T* y, Index count);
  void (*cos_array)(const T* x, T* y, Index count);
  // activation.inl: y may be x, and grad_x either of the inputs.
  void (*activate)(Activation activation, const T* x, T* y, Index count);
  void (*activate_backward)(Activation activation, const T* x, const T* grad_y, T* grad_x,
                            Index count);
  // norm.inl
  void (*norm_rows)(const NormCall<T>& call, Range rows);
  void (*norm_backward_rows)(const NormBackwardCall<T>& call, Range rows);
  void (*norm_parameter_sums)(const NormBackwardCall<T>& call, Range rows, Range columns,
                              T* of_weight, T* of_bias);
};

// A table of its own: few programs need it.
template <class T>
struct AdditiveKernels {  // additive.inl, additive_backward.inl
  void (*pack_groups)(const T* matrix, Range seen, Index features, T* groups);
  Index (*scratch)(const AdditiveShape& shape);
  void (*attend)(const AdditiveCall<T>& call, Index b, Range queries, T* memory);
  Index (*backward_scratch)(const AdditiveShape& shape);
  void (*backward)(const AdditiveBackwardCall<T>& call, const AdditiveBackwardTask& task,
                   T* memory);
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
