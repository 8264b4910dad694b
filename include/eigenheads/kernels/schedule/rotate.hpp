// SPDX-License-Identifier: MIT
#pragma once
// Shares the rotation of heads by their rows' positions out over the threads of a context. What a row
// gets depends on its position alone (contract C3).
#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include <eigenheads/context.hpp>  // Context
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>         // Range, cut_ranges, blocks_of
#include <eigenheads/detail/sequence_rows.hpp>  // SequenceRows
#include <eigenheads/detail/work.hpp>           // product
#include <eigenheads/kernels/chosen.hpp>        // rotary_kernels
#include <eigenheads/kernels/layout.hpp>        // StridedMatrix

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// Which heads are rotated where they are: of `rows`, counted over all sequences, and `columns`, whole
// heads. Nothing else is read or written.
template <class T>
struct RotateCall {
  StridedMatrix<T> heads;
  const SequenceRows& sequences;
  std::span<const Range> rows, columns;
  // [B]: the position of row 0 of each sequence; null: 0. A row before position 0 is left as it is:
  // the query beside a key that lies before the first sees none. No row lies beyond the table.
  const Index* first_positions = nullptr;
  bool is_inverse = false;  // the gradient's way
  RotaryTable<T> table{};
};

template <class T>
void rotate(const RotateCall<T>& call, Context& context) {
  constexpr Index rows_per_task = 64;
  const RotaryKernels<T> kernels = rotary_kernels<T>();
  const StridedMatrix<T>& heads = call.heads;
  const Index rows = total(call.rows), D = heads.head_size;
  const auto threads = context.threads_for(floats_per<T> * multiply_adds_per_packed *
                                           product(rows, total(call.columns)));
  // Rows [begin, end) of one sequence, whose row 0 has position `first`.
  const auto rotate_rows = [&](Index begin, Index end, Index first_row, Index first) {
    const Index from = (std::clamp)(first_row - first, begin, end);
    if (from == end) return;
    RotaryTable<T> table = call.table;
    table.cos += (first + from - first_row) * table.stride;
    table.sin += (first + from - first_row) * table.stride;
    for (const Range& column : call.columns)
      for (Index h = column.begin / D; h < column.end / D; ++h)
        kernels.rotate_rows({.x = heads.data + heads.row_offset(from) + h * heads.head_stride,
                             .stride = heads.row_stride,
                             .count = end - from,
                             .table = table,
                             .one_position = false,
                             .is_inverse = call.is_inverse});
  };
  context.parallel_for(blocks_of(rows, rows_per_task), threads, [&](Index task) {
    std::array<Range, static_cast<std::size_t>(rows_per_task)> storage;
    const Index first = task * rows_per_task;
    for (const Range& range :
         cut_ranges(call.rows, first, (std::min)(rows_per_task, rows - first), storage))
      for (Index begin = range.begin; begin < range.end;) {
        const Index b = call.sequences.sequence_of(begin), first_row = call.sequences.begin(b);
        const Index end = (std::min)(range.end, first_row + call.sequences.length(b));
        rotate_rows(begin, end, first_row,
                    call.first_positions == nullptr ? 0 : call.first_positions[b]);
        begin = end;
      }
  });
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
