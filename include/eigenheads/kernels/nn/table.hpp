// SPDX-License-Identifier: MIT
#pragma once
// The kernels of nn/ behind pointers (see kernels/table.hpp): who names the table compiles all of
// them, and a program that includes nothing of nn/ compiles none.
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kernels/nn/calls.hpp>  // Activation

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
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
