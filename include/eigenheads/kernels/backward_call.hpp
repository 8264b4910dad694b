// SPDX-License-Identifier: MIT
#pragma once
// What the backward kernels of attention are given.
#include <array>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kernels/attention_call.hpp>  // AttentionShape, HeadTable, GateTable

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// Backward form of ScoreForward: for one key and queries at.q + i, i in [begin, end), scores[i]
// becomes the function's value and slopes[i] its derivative.
template <class T>
struct ScoreBackward {
  const void* score = nullptr;
  void (*apply)(const void* score, T* scores, T* slopes, Index begin, Index end,
                const ScorePosition& at) = nullptr;
  // The gradient of the bias, to which those of the scores are added. A stride of 0 is that of an
  // axis of length 1: all the call's sequences, heads, queries or keys add to the same elements.
  T* grad_bias = nullptr;
  std::array<Index, 4> bias_strides{};

  // What the bias has for one head of one sequence, next to each other.
  [[nodiscard]] Index plane_size(const AttentionShape& shape) const {
    return (bias_strides[2] == 0 ? 1 : shape.Q) * (bias_strides[3] == 0 ? 1 : shape.K);
  }
  // h: as masks call the head.
  [[nodiscard]] T* plane(Index b, Index h) const {
    return grad_bias + b * bias_strides[0] + h * bias_strides[1];
  }
  [[nodiscard]] bool has_plane_per_head() const { return bias_strides[1] != 0; }
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

// A task: key/value head g of sequence b, and all queries that read it.
template <class T>
struct BackwardTask {
  Index b, g;
  // Null: gradients of the bias are added to call.score.grad_bias. Else to these planes, one for
  // each query head of the task in turn, or a single one if the bias has no plane a head.
  T* bias_planes = nullptr;

  // Of the task's query head i; null where nobody asks for the gradient of a bias.
  [[nodiscard]] T* bias_plane(const AttentionBackwardCall<T>& call, Index i) const {
    const ScoreBackward<T>& score = call.score;
    if (score.grad_bias == nullptr) return nullptr;
    if (bias_planes == nullptr)
      return score.plane(b, call.heads.original(call.heads.head(call.shape, b, g, i)));
    return bias_planes + (score.has_plane_per_head() ? i * score.plane_size(call.shape) : 0);
  }
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
