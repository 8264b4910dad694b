// SPDX-License-Identifier: MIT
#pragma once
// What layers of a transformer and their stacks give that are asked for attention weights too. An
// encoder's layer gives what its attention does (attention_result.hpp).
#include <algorithm>
#include <type_traits>
#include <utility>
#include <vector>

#include <eigenheads/attention_result.hpp>  // AttentionOutput, PackedAttentionOutput
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/tensor.hpp>  // Tensor

namespace eigenheads::inline EIGENHEADS_ABI {

// Of one attention: [B, H, Q, K]; or of packed rows, Rank = 2, for each sequence [H, Q, K].
template <Scalar T, int Rank = 3>
using HeadWeights = std::conditional_t<Rank == 3, Tensor<T, 4>, std::vector<Tensor<T, 3>>>;

template <Scalar T, int Rank = 3>
struct TransformerEncoderOutput {
  Tensor<T, Rank> output;                     // [B, L, E], or packed, [N, E]
  std::vector<HeadWeights<T, Rank>> weights;  // of each layer
};

// Of the rows' own tokens, and of the memory.
template <Scalar T, int Rank = 3>
struct TransformerDecoderLayerOutput {
  Tensor<T, Rank> output;
  HeadWeights<T, Rank> weights, memory_weights;
};
template <Scalar T, int Rank = 3>
struct TransformerDecoderOutput {
  Tensor<T, Rank> output;
  std::vector<HeadWeights<T, Rank>> weights, memory_weights;  // of each layer
};

namespace detail {

// What an attention gives to such rows.
template <class T, int Rank>
using WeightedOutput = std::conditional_t<Rank == 3, AttentionOutput<T>, PackedAttentionOutput<T>>;

// The two apart: the output to where the next step of the layer reads it.
template <class T, class Output, class Weights>
void keep_weights(Output attended, Weights& weights, T* output) {
  std::copy_n(attended.output.data(), attended.output.size(), output);
  weights = std::move(attended.weights);
}

}  // namespace detail

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
