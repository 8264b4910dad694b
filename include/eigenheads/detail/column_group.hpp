// SPDX-License-Identifier: MIT
#pragma once
// Some columns of a matrix, so few that their sums stay in registers while its rows go by. Loops over
// them have one fixed length: compilers vectorise them at -O2 too (in run_on_this_cpu, for the CPU).
#include <algorithm>
#include <array>
#include <cstddef>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/tensor.hpp>  // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

inline constexpr Index group_columns = 32;
// What a task takes of a row.
inline constexpr Index columns_per_task = 4 * group_columns;

template <class T>
struct ColumnGroup {
  std::array<T, static_cast<std::size_t>(group_columns)> values{};

  // `width` numbers of a row, then zeros.
  [[nodiscard]] static EIGEN_ALWAYS_INLINE ColumnGroup of(const T* row, Index width) {
    ColumnGroup group;
    if (width == group_columns)
      std::copy_n(row, group_columns, group.values.begin());
    else
      std::copy_n(row, width, group.values.begin());
    return group;
  }
  EIGEN_ALWAYS_INLINE void add(const ColumnGroup& other) {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] += other.values[i];
  }
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
