// SPDX-License-Identifier: MIT
#pragma once
// What attention gives.
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/tensor.hpp>  // Tensor

namespace eigenheads::inline EIGENHEADS_ABI {

// Of one call. A part that was not asked for is empty.
template <Scalar T>
struct AttentionResult {
  Tensor<T, 4> output;  // [B, H, Q, V]
  Tensor<T, 3> lse;     // [B, H, Q], log sum_k exp(score); -inf where a query sees no key
  // [B, H, Q, K], before dropout; each row sums to 1 (beside a sink logit to less), or is all 0.
  Tensor<T, 4> weights{};
  Tensor<T, 4> scores{};  // [B, H, Q, K], -inf where a key is hidden
};

// Of a layer that was asked for weights too. They are per head, before dropout; each row sums to 1
// (beside a sink logit to less), or is all 0.
template <Scalar T, int WeightsRank = 4>
struct AttentionOutput {
  Tensor<T, 3> output;             // [B, Q, E]
  Tensor<T, WeightsRank> weights;  // [B, H, Q, K]; of rank 3 without an axis of heads
};

// The same of packed sequences, each with weights of its own lengths.
template <Scalar T>
struct PackedAttentionOutput {
  Tensor<T, 2> output;                // [N, E]
  std::vector<Tensor<T, 3>> weights;  // of each sequence, [H, Q, K]
};

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
