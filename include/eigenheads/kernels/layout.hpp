// SPDX-License-Identifier: MIT
#pragma once
// Where a matrix of heads lies in memory.
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/sequence_rows.hpp>  // SequenceRows
#include <eigenheads/version.hpp>               // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// A matrix [B * rows, H * D] that lies in memory as [B, rows, H, D], as [B, H, rows, D], or with any
// other strides: where transpose_qkv and transpose_output happen, at no cost. The D numbers of a
// head are next to each other.
template <class T>
struct StridedMatrix {
  T* data = nullptr;
  Index rows_per_sequence = 0, head_size = 0;
  Index sequence_stride = 0, row_stride = 0, head_stride = 0;

  // [rows, columns], next to each other.
  static StridedMatrix plain(T* data, Index rows, Index columns) {
    return {data, rows, columns, rows * columns, columns, 0};
  }
  // [B, H, rows, D]
  static StridedMatrix heads_apart(T* data, Index rows, Index H, Index D) {
    return {data, rows, D, H * rows * D, D, rows * D};
  }
  // [B, rows, H * D]. Without rows, data may be null, from which no step leads: the strides are 0.
  static StridedMatrix heads_together(T* data, Index rows, Index H, Index D) {
    return {data, rows, D, rows * H * D, H * D, rows > 0 ? D : 0};
  }
  // The same for sequences that may be packed: [1, H, N, D] or [1, N, H * D].
  static StridedMatrix heads_apart(T* data, const SequenceRows& rows, Index H, Index D) {
    return heads_apart(data, rows.rows_per_block(), H, D);
  }
  static StridedMatrix heads_together(T* data, const SequenceRows& rows, Index H, Index D) {
    return heads_together(data, rows.rows_per_block(), H, D);
  }
  // The rows of a packed sequence, which begin with row `first`; at() takes them whatever b is.
  [[nodiscard]] StridedMatrix of_sequence(Index first) const {
    StridedMatrix rows = *this;
    if (is_given()) rows.data += first * row_stride;
    rows.sequence_stride = 0;
    return rows;
  }

  operator StridedMatrix<const T>() const  // NOLINT: as a pointer becomes one to const
  {
    return {data, rows_per_sequence, head_size, sequence_stride, row_stride, head_stride};
  }

  // Whether there is one: its data may be null, where it has no element too.
  [[nodiscard]] bool is_given() const { return data != nullptr; }
  [[nodiscard]] T* at(Index b, Index h, Index row) const {
    return data + b * sequence_stride + row * row_stride + h * head_stride;
  }
  [[nodiscard]] Index row_offset(Index row) const {
    return row / rows_per_sequence * sequence_stride + row % rows_per_sequence * row_stride;
  }
  [[nodiscard]] Index column_offset(Index column) const {
    return column / head_size * head_stride + column % head_size;
  }
  [[nodiscard]] Index columns_left_in_head(Index column) const {
    return head_size - column % head_size;
  }
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
