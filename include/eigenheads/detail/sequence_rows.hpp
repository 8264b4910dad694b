// SPDX-License-Identifier: MIT
#pragma once
// Where the rows of each sequence lie in a matrix that holds those of all sequences, one below the
// other: all of one length, or, packed, each of its own.
#include <algorithm>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/version.hpp>  // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

class SequenceRows {
 public:
  SequenceRows() = default;
  // `count` sequences of `length` rows each.
  SequenceRows(Index count, Index length) : count_(count), length_(length) {}
  // Sequence b has rows [begins[b], begins[b + 1]), of at most `longest`. `begins` must outlive it.
  SequenceRows(Index count, Index longest, const Index* begins)
      : count_(count), length_(longest), begins_(begins) {}

  [[nodiscard]] bool is_packed() const { return begins_ != nullptr; }
  [[nodiscard]] Index count() const { return count_; }  // of sequences
  [[nodiscard]] Index longest() const { return length_; }
  // A tensor of the rows is [blocks, rows_per_block, ...]: [B, L, ...] or, packed, [1, N, ...].
  [[nodiscard]] Index blocks() const { return is_packed() ? 1 : count_; }
  [[nodiscard]] Index rows_per_block() const { return is_packed() ? total() : length_; }
  [[nodiscard]] Index total() const { return begin(count_); }
  [[nodiscard]] Index begin(Index b) const { return is_packed() ? begins_[b] : b * length_; }
  [[nodiscard]] Index length(Index b) const {
    return is_packed() ? begins_[b + 1] - begins_[b] : length_;
  }
  // The sequence that a row is one of. O(log count).
  [[nodiscard]] Index sequence_of(Index row) const {
    if (!is_packed()) return row / length_;
    return std::upper_bound(begins_ + 1, begins_ + count_ + 1, row) - (begins_ + 1);
  }

 private:
  Index count_ = 0, length_ = 0;
  const Index* begins_ = nullptr;  // [count + 1]
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
