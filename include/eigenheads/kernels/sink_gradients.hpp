// SPDX-License-Identifier: MIT
#pragma once
// The gradient of the heads' learnt sinks: what the backward kernels find of each sequence, and its
// sum in the order of the sequences, in double, as those of the gates over queries.
#include <algorithm>

#include <eigenheads/detail/arena.hpp>  // Frame
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kernels/heads.hpp>  // AttentionShape

namespace eigenheads::inline EIGENHEADS_ABI::detail {

class SinkGradients {
 public:
  // Takes no memory where there are no sinks.
  SinkGradients(bool are_wanted, const AttentionShape& shape, const Frame& frame)
      : sequences_(shape.B), heads_(shape.H) {
    if (!are_wanted) return;
    of_each_ = frame.take<double>(sequences_ * heads_);
    std::fill_n(of_each_, sequences_ * heads_, 0.0);
  }

  [[nodiscard]] double* of_each() const { return of_each_; }  // [B, H], or null

  // sums[h] = the sum over sequences, or sums[h] += that.
  template <class T>
  void sum_into(T* sums, bool adds) const {
    for (Index h = 0; of_each_ != nullptr && h < heads_; ++h) {
      double sum = 0;
      for (Index b = 0; b < sequences_; ++b) sum += of_each_[b * heads_ + h];
      sums[h] = static_cast<T>(sum) + (adds ? sums[h] : T(0));
    }
  }

 private:
  Index sequences_, heads_;
  double* of_each_ = nullptr;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
