// SPDX-License-Identifier: MIT
#pragma once
// What the kernels of nn/ are asked for.
#include <cstdint>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>  // Range
#include <eigenheads/version.hpp>        // Index

namespace eigenheads::inline EIGENHEADS_ABI {

// What is applied to every number by itself (nn/activation.hpp).
enum class Activation { identity, relu, gelu, gelu_tanh, silu, tanh };

namespace detail {

// Rows of `size` numbers, each made to have mean 0 (if it is centered) and mean square 1:
//   y = (x - mean) / sqrt(variance + eps) * weight + bias,   variance = mean of (x - mean)^2
// Rows lie one below the other. All of the outputs may be an input.
template <class T>
struct NormCall {
  const T* x;              // [rows, size]
  const T* residual;       // [rows, size]: x + residual takes the place of x; or null
  T* sum;                  // [rows, size]: where x + residual goes; null: nowhere
  T* y;                    // [rows, size]
  const T *weight, *bias;  // [size], or null: 1 and 0
  Index size;
  T eps;
  bool is_centered;
};

// The gradient of y goes to those of x, and, by norm_parameter_sums, to those of weight and bias.
// A row whose grad_y is all 0 is left out: x may be anything there, and its gradient is 0.
template <class T>
struct NormBackwardCall {
  const T *x, *grad_y;  // [rows, size]
  const T* weight;      // [size], or null: 1
  const T* added;       // [rows, size]: joins grad_x, of which it may be the memory; or null
  T* grad_x;            // [rows, size], may be grad_y
  // Of each row, for norm_parameter_sums, whose x - mean is (x - row[0]) - shift:
  T *shifts, *scales;  // [rows]
  std::uint8_t* kept;  // [rows]
  Index size;
  T eps;
  bool is_centered;
};

}  // namespace detail
}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
