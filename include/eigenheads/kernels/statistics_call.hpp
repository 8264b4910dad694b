// SPDX-License-Identifier: MIT
#pragma once
// What the kernels that measure heads are given, and what they give.
#include <array>
#include <cstddef>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/panels.hpp>           // Panels
#include <eigenheads/kernels/attention_call.hpp>  // AttentionCall

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// What one row of attention weights p, over the n keys that it sees, is like; or the sum of that
// over rows. The order is that of RowStatistics::values.
enum class RowMeasure {
  l1_norm,     // sum p
  l2_norm,     // sqrt(sum p^2)
  entropy,     // -sum p ln p
  variance,    // sum (p - 1/n)^2 / n
  confidence,  // max p
  previous,    // whether the first maximum is at the key before,
  next,        // after,
  same,        // or at the one that stands beside the query
  count
};
struct RowStatistics {
  double rows = 0;  // that see a key: 0 of one that does not
  std::array<double, static_cast<std::size_t>(RowMeasure::count)> values{};

  [[nodiscard]] double& operator[](RowMeasure measure) {
    return values[static_cast<std::size_t>(measure)];
  }
};

// The rows of a call that was made, before dropout.
template <class T>
struct AttentionStatisticsCall {
  AttentionCall<T> attention;           // no values, V = 0, and nothing to write to; perhaps packed
  StridedMatrix<const T> lse;           // [B, H, Q, 1]
  StridedMatrix<RowStatistics> rows{};  // [B, H, Q, 1]
};

// A packed call as its sequence b sees it.
template <class T>
[[nodiscard]] AttentionStatisticsCall<T> call_of(const AttentionStatisticsCall<T>& call, Index b) {
  const Index first = call.attention.mask->query_rows().begin(b);
  return {call_of(call.attention, b), call.lse.of_sequence(first), call.rows.of_sequence(first)};
}

// Rows c of what one head adds to an output: how many, sum |c|, sum |c - mean|^2 and their mean, of
// E numbers.
struct Contributions {
  double rows = 0, norms = 0, squares = 0;
  double* mean = nullptr;
};

template <class T>
struct ContributionCall {
  AttentionShape shape;
  const BoundMask* mask;
  const T* heads;          // [B, Q, H * V] or packed, [N, H * V], before the gates
  Panels<const T> weight;  // W_o, [E, H * V]
  GateTable<T> gates{};
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
