// SPDX-License-Identifier: MIT
#pragma once
// The sum of rows, of some of their columns, as the library adds up what belongs to all rows of a
// sequence: in blocks, each from zero and in the order of its rows, which are added up in their
// order (gradient_rows).
#include <algorithm>
#include <array>
#include <cstddef>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kernels/nn/chosen.hpp>  // row_kernels
#include <eigenheads/tensor.hpp>             // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// What a task takes of a row.
inline constexpr Index columns_per_task = 128;

template <class T>
class BlockSum {
 public:
  // Of `columns`, at most columns_per_task.
  BlockSum(const RowKernels<T>& kernels, Index columns) : kernels_(kernels), columns_(columns) {}

  void add(const T* row) { add(row, block_, has_block_); }
  void end_block() {
    if (has_block_) add(block_.data(), sum_, has_sum_);
    has_block_ = false;
  }
  // Of the blocks that have ended.
  [[nodiscard]] const T* get() {
    if (!has_sum_) std::fill_n(sum_.begin(), columns_, T(0));
    return sum_.data();
  }

 private:
  using Row = std::array<T, static_cast<std::size_t>(columns_per_task)>;

  void add(const T* row, Row& to, bool& has_any) {
    if (has_any)
      kernels_.add_array(row, to.data(), to.data(), columns_);
    else
      std::copy_n(row, columns_, to.begin());
    has_any = true;
  }

  const RowKernels<T>& kernels_;
  Index columns_;
  bool has_block_ = false, has_sum_ = false;
  Row block_, sum_;  // as far as there is any
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
