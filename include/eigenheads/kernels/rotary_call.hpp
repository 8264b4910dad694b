// SPDX-License-Identifier: MIT
#pragma once
// What the kernel that rotates pairs of numbers is given.
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/rotary_options.hpp>  // RotaryLayout
#include <eigenheads/version.hpp>         // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// The cosines and sines of positions, row after row, as the kernel reads them: of half_split one for
// each pair, [rotated / 2]; of interleaved one for each number, [rotated], where the sines of the first
// of a pair have the other sign: c c c c and -s s -s s.
template <class T>
struct RotaryTable {
  const T *cos = nullptr, *sin = nullptr;  // of position 0
  Index stride = 0;                        // from one position to the next
  Index positions = 0, rotated = 0;
  RotaryLayout layout = RotaryLayout::half_split;
};

// Some rows, whose first `rotated` numbers are rotated where they are.
template <class T>
struct RotateRows {
  T* x;
  Index stride, count;   // of rows
  RotaryTable<T> table;  // from the first row's position on
  bool one_position;     // of all rows, or each follows the one before
  bool is_inverse;       // by the opposite angles
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
