// SPDX-License-Identifier: MIT
#pragma once
// Cuts heads out of a layer for good. What is left is a smaller layer, with the output, to the bit,
// that the whole one has with the gates of those heads at 0:
//   W_q, W_k, W_v lose rows (and biases), W_o loses columns
// It computes and trains as any other. Dive into Deep Learning, section 11.5, exercise 2.
#include <cstddef>
#include <numeric>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/layer/checks.hpp>          // require_initialized, require_projections
#include <eigenheads/multi_head_attention.hpp>  // MultiHeadAttention
#include <eigenheads/tensor.hpp>                // Index

namespace eigenheads::inline EIGENHEADS_ABI {

// `heads` are positions in `layer`, counted from 0, in any order; all of them leave a layer that
// gives b_o. A key/value head that no query head reads any more goes too. The others keep their
// gates, and their number in the layer as it was made: original_heads(). Throws std::invalid_argument
// for a head that the layer does not have or that is named twice, or a projection or sink logits of
// another size, std::logic_error for a lazy layer.
template <Scalar T>
[[nodiscard]] MultiHeadAttention<T> prune_heads(const MultiHeadAttention<T>& layer,
                                                const std::vector<Index>& heads) {
  const auto kept = layer.heads_.without(heads);
  detail::require_initialized(layer.parts());
  detail::require_projections(layer.parts(), layer.head_size(), layer.num_hiddens());
  const auto columns_of = [&layer](const std::vector<Index>& which) {
    std::vector<Index> columns;
    for (const Index h : which)
      for (Index d = 0; d < layer.head_size(); ++d) columns.push_back(h * layer.head_size() + d);
    return columns;
  };
  const auto all = [](Index count) {
    std::vector<Index> indices(static_cast<std::size_t>(count));
    std::iota(indices.begin(), indices.end(), Index{0});
    return indices;
  };
  const auto columns = columns_of(kept.heads), kv_columns = columns_of(kept.kv_heads);
  MultiHeadAttention<T> pruned(layer);
  pruned.W_q = layer.W_q.part(columns, all(layer.W_q.in_features()));
  pruned.W_k = layer.W_k.part(kv_columns, all(layer.W_k.in_features()));
  pruned.W_v = layer.W_v.part(kv_columns, all(layer.W_v.in_features()));
  pruned.W_o = layer.W_o.part(all(layer.W_o.out_features()), columns);
  if (layer.sink_logits.size() > 0) {
    pruned.sink_logits = Tensor<T, 1>(static_cast<Index>(kept.heads.size()));
    for (Index h = 0; h < pruned.sink_logits.size(); ++h)
      pruned.sink_logits(h) = layer.sink_logits(kept.heads[static_cast<std::size_t>(h)]);
  }
  pruned.heads_ = layer.heads_.part(kept);
  pruned.gates_ = layer.gates_.part(kept.heads);
  return pruned;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
