// SPDX-License-Identifier: MIT
#pragma once
// The storage format of what stands on the right of a product: a matrix in panels of `width` rows.
//   panels[p][k][j] = matrix[p * width + j][k],  rows beyond the last are 0
// A register tile reads one panel from front to back. This is the one place that knows the formula
// element by element; kernels/panels.inl writes whole panels.
#include <type_traits>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>  // blocks_of
#include <eigenheads/version.hpp>        // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// A view: it does not own. T is const for one that is only read.
template <class T>
struct Panels {
  T* data = nullptr;
  Index rows = 0, columns = 0, width = 1;

  operator Panels<const T>() const  // NOLINT: as a pointer becomes one to const
  requires(!std::is_const_v<T>)
  {
    return {data, rows, columns, width};
  }

  [[nodiscard]] Index count() const { return blocks_of(rows, width); }
  [[nodiscard]] Index size() const { return count() * width * columns; }  // with the rows of 0
  [[nodiscard]] T* panel(Index p) const { return data + p * width * columns; }
  // Element (row, column) is at row_data(row)[column * width].
  [[nodiscard]] T* row_data(Index row) const { return panel(row / width) + row % width; }
  [[nodiscard]] T& at(Index row, Index column) const { return row_data(row)[column * width]; }
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
