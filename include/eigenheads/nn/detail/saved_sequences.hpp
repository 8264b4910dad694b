// SPDX-License-Identifier: MIT
#pragma once
// Which sequences the rows of a call were of, kept until its backward pass.
#include <array>
#include <cstddef>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/sequence_rows.hpp>  // SequenceRows
#include <eigenheads/sequences.hpp>             // Sequences
#include <eigenheads/tensor.hpp>                // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

class SavedSequences {
 public:
  SavedSequences() = default;
  // What the last two axes of a tensor hold is a sequence.
  template <std::size_t Rank>
  explicit SavedSequences(const std::array<Index, Rank>& shape) {
    if constexpr (Rank > 1) length_ = shape[Rank - 2];
    for (std::size_t axis = 0; axis + 2 < Rank; ++axis) count_ *= shape[axis];
  }
  explicit SavedSequences(const Sequences& packed) : is_packed_(true), packed_(packed) {}

  [[nodiscard]] bool is_packed() const { return is_packed_; }
  // Whether a tensor of this shape has these rows, of the same sequences.
  template <std::size_t Rank>
  [[nodiscard]] bool are_of(const std::array<Index, Rank>& shape) const {
    if (is_packed_) return Rank == 2 && shape[0] == packed_.rows();
    const SavedSequences other(shape);
    return count_ == other.count_ && length_ == other.length_;
  }
  // Refers to this object.
  [[nodiscard]] SequenceRows rows() const {
    return is_packed_ ? packed_.as_rows() : SequenceRows(count_, length_);
  }
  // Of a tensor of such rows: [B, L, size], or, packed, [1, N, size].
  [[nodiscard]] std::array<Index, 3> shape(Index size) const {
    const SequenceRows rows = this->rows();
    return {rows.blocks(), rows.rows_per_block(), size};
  }

 private:
  Index count_ = 1, length_ = 1;
  bool is_packed_ = false;
  Sequences packed_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
