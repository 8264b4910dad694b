// SPDX-License-Identifier: MIT
#pragma once
// What the backward kernels of attention and of a projection are given.
#include <array>
#include <cstddef>
#include <span>

#include <eigenheads/kernels/attention_call.hpp>  // AttentionShape, HeadTable, GateTable

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// Backward form of ScoreForward: for one key and queries at.q + i, i in [begin, end), scores[i]
// becomes the function's value and slopes[i] its derivative.
template <class T>
struct ScoreBackward {
  const void* score = nullptr;
  void (*apply)(const void* score, T* scores, T* slopes, Index begin, Index end,
                const ScorePosition& at) = nullptr;
  T* grad_bias = nullptr;  // to which the gradients of the scores are added, at these strides
  std::array<Index, 4> bias_strides{};
};

// The gradients of one call, from those of its output. lse, output: what the call gave, before the
// gates; grad_output: after them.
template <class T>
struct AttentionBackwardCall {
  AttentionShape shape;
  T scale;
  const BoundMask* mask;
  StridedMatrix<const T> queries, keys, values;
  const T* lse;  // [B, H, Q]
  StridedMatrix<const T> output, grad_output;
  StridedMatrix<T> grad_queries, grad_keys, grad_values;
  const DropoutMask<T>* dropout = nullptr;
  ScoreBackward<T> score{};
  HeadTable heads{};
  GateTable<T> gates{};
  T* grad_gates = nullptr;  // [B, H], added to

  [[nodiscard]] Index row(Index b, Index h, Index q) const {
    return (b * shape.H + h) * shape.Q + q;
  }
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail
