// SPDX-License-Identifier: MIT
#pragma once
// Which sequences the rows of a call were of, kept until its backward pass.
#include <array>
#include <cstddef>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/sequence_rows.hpp>  // SequenceRows

namespace eigenheads::inline EIGENHEADS_ABI::detail {

class SavedSequences {
 public:
  SavedSequences() = default;
  explicit SavedSequences(const SequenceRows& rows) { keep(rows); }
  // What the last two axes of a tensor hold is a sequence.
  template <std::size_t Rank>
  explicit SavedSequences(const std::array<Index, Rank>& shape) : count_(1), longest_(1) {
    if constexpr (Rank > 1) longest_ = shape[Rank - 2];
    for (std::size_t axis = 0; axis + 2 < Rank; ++axis) count_ *= shape[axis];
  }

  // A copy; memory is used again by the next.
  void keep(const SequenceRows& rows) {
    count_ = rows.count();
    longest_ = rows.longest();
    begins_.clear();
    for (Index b = 0; rows.is_packed() && b <= count_; ++b) begins_.push_back(rows.begin(b));
  }

  [[nodiscard]] bool is_packed() const { return !begins_.empty(); }
  // Whether a tensor of this shape has these rows, of the same sequences.
  template <std::size_t Rank>
  [[nodiscard]] bool are_of(const std::array<Index, Rank>& shape) const {
    if (is_packed()) return Rank == 2 && shape[0] == rows().total();
    const SavedSequences other(shape);
    return count_ == other.count_ && longest_ == other.longest_;
  }
  // Refers to this object.
  [[nodiscard]] SequenceRows rows() const {
    return is_packed() ? SequenceRows(count_, longest_, begins_.data())
                       : SequenceRows(count_, longest_);
  }
  // Of a tensor of such rows: [B, L, size], or, packed, [1, N, size].
  [[nodiscard]] std::array<Index, 3> shape(Index size) const {
    const SequenceRows rows = this->rows();
    return {rows.blocks(), rows.rows_per_block(), size};
  }

 private:
  Index count_ = 0, longest_ = 0;
  std::vector<Index> begins_;  // [count + 1] of packed sequences
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
