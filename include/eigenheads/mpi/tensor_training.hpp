// SPDX-License-Identifier: MIT
#pragma once
// What layers that are shared out over ranks keep in training.
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/layer/activations.hpp>         // LayerActivations
#include <eigenheads/nn/feed_forward_training.hpp>  // FeedForwardActivations
#include <eigenheads/tensor.hpp>                    // Tensor

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

// Of an attention: its inputs, this rank's heads, and what W_o was given of all.
template <Scalar T>
struct TensorParallelAttentionActivations {
  LayerActivations<T> own;
  Tensor<T, 2> heads{0, 0};  // [rows, H * V], after the gates
  eigenheads::detail::HeadGates<T> gates;
  Index of_call = 0;  // a digest of lengths, masks, gates and the seed, alike on all ranks
  bool is_saved = false;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
