// SPDX-License-Identifier: MIT
#pragma once
// What the kernels of a projection, y = x W^T + b, are given, and those that pack.
#include <span>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/panels.hpp>   // Panels
#include <eigenheads/detail/ranges.hpp>   // Range
#include <eigenheads/kernels/layout.hpp>  // StridedMatrix

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// Rows of a projection that share a panel while it is in the first-level cache.
inline constexpr Index matmul_rows = 96;

template <class T>
struct MatmulCall {
  const T* x;                     // rows of W's columns, one after the other, at most matmul_rows
  std::span<const Range> rows;    // which rows of y they are
  std::span<const Range> inputs;  // of each, what lies outside of these counts as 0
  Panels<const T> weight;         // W
  const T* bias;                  // null, or [W's rows]
  StridedMatrix<T> y;
};

// A matrix and the panels of its columns that it is packed into (panels.inl).
template <class T>
struct PackColumnsCall {
  const T* matrix;  // [rows, columns], rows `stride` apart
  Index stride, rows, columns;
  T* panels;
  Index panel_stride;
};

// The gradient of a weight or a bias is a sum of blocks: rows of a sequence from a multiple of this
// to the next. Each is one chain from zero, in the order of its rows, and the blocks are added up
// from the first of the first sequence to the last of the last. So padded and packed sequences and
// one sequence at a time have the same bits, and rows can be shared out by blocks.
inline constexpr Index gradient_rows = 256;

// sums[o][j] (+)= sum_r dy[rows[r]][o] x[r][j], block after block, for the outputs o and the panels of
// columns j.
template <class T>
struct WeightGradientCall {
  const T* dy;
  Index dy_stride;
  std::span<const Index> rows;  // of dy
  std::span<const Index> ends;  // of blocks of `rows`, each of gradient_rows rows at most
  const T* x;                   // its rows `rows`, in panels of columns: [in / W][rows][W]
  Range outputs, panels;
  T* sums;  // [outputs, panels * W], `sums_stride` from one output to the next
  Index sums_stride;
  bool goes_on;  // blocks are added to what sums hold; else the first one begins them
  T* bias;       // null, or bias[o] += sum_r dy[rows[r]][o], as long as a whole task of outputs
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
