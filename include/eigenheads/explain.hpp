// SPDX-License-Identifier: MIT
#pragma once
// What a call would do, without doing it: which kernels, in which pieces, for how many operations.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <ostream>
#include <string>
#include <vector>

#include <eigenheads/context.hpp>               // Context
#include <eigenheads/kernels/schedule.hpp>      // with_kernels, query_block
#include <eigenheads/mask.hpp>                  // Mask, BoundMask
#include <eigenheads/multi_head_attention.hpp>  // MultiHeadAttention

namespace eigenheads::inline EIGENHEADS_ABI {

// Operations count 2 for a multiply-add, and only those that the mask leaves; softmax and packing
// count 0.
struct Explanation {
  InstructionSet instruction_set{};
  const char* path = "";  // of the attention
  Index tile_rows = 0, tile_columns = 0;
  Index query_block = 0, key_block = 0;  // rows that share a task, keys between two merges
  double projection_flops = 0, attention_flops = 0;
  Index projected_queries = 0, projected_keys = 0;  // rows; the mask hides the others
  Index scratch_bytes = 0;  // that the context holds afterwards, without the panels
};

// queries: [B, Q, query_size], keys: [B, K, key_size], of a call that the layer would take. O(B H
// Q), times K with `allowed`.
template <Scalar T>
[[nodiscard]] Explanation explain(const MultiHeadAttention<T>& layer, TensorView<T, 3> queries,
                                  TensorView<T, 3> keys, const Mask& mask = {},
                                  const Context& context = default_context()) {
  const Index B = queries.dimension(0), Q = queries.dimension(1), K = keys.dimension(1);
  const Index H = layer.num_heads(), G = layer.num_kv_heads(), D = layer.head_size();
  const Tensor<T, 2>& gates = layer.gates();
  if (gates.dimension(0) > 1) require_shape("gates", TensorView<T, 2>(gates), "[B, H]", {B, H});
  const auto is_open = [&gates](Index b, Index h) {
    return gates.size() == 0 || gates(gates.dimension(0) > 1 ? b : 0, h) != 0;
  };
  const BoundMask bound(mask, B, Q, K, layer.num_heads_made());
  Explanation told;
  told.instruction_set = instruction_set();
  double pairs = 0;
  Index open_queries = 0;                                // of all heads
  std::vector<Index> open(static_cast<std::size_t>(H));  // of each head, in how many sequences
  for (Index b = 0; b < B; ++b) {
    told.projected_queries += bound.query_count(b);
    const auto [begin, end] = bound.seen_keys(b);
    told.projected_keys += end - begin;
    for (Index h = 0; h < H; ++h) {
      if (!is_open(b, h)) continue;
      ++open[static_cast<std::size_t>(h)];
      open_queries += bound.query_count(b);
      const Index number = layer.head_indices()[static_cast<std::size_t>(h)];
      for (Index q = 0; q < Q; ++q) {
        const KeyRange range = bound.key_range(b, number, q);
        const std::uint8_t* allowed = bound.allowed_row(b, number, q);
        for (Index k = range.begin; allowed != nullptr && k < range.end; ++k)
          pairs += allowed[k] != 0 ? 1 : 0;
        if (allowed == nullptr) pairs += static_cast<double>(range.end - range.begin);
      }
    }
  }
  // A projection is made for a head that any sequence needs; W_o takes what is open.
  Index heads = 0, kv_heads = 0, most_heads = 0;
  for (Index g = 0; g < G; ++g) {
    Index read = 0;
    for (Index h = 0; h < H; ++h)
      read += layer.kv_head(h) == g && open[static_cast<std::size_t>(h)] > 0;
    heads += read;
    kv_heads += read > 0;
    most_heads = (std::max)(most_heads, read);
  }
  const auto product = [](Index rows, Index in, Index out) {
    return 2.0 * static_cast<double>(rows) * static_cast<double>(in) * static_cast<double>(out);
  };
  told.attention_flops = 4 * pairs * static_cast<double>(D);
  told.projection_flops = product(told.projected_queries, queries.dimension(2), heads * D) +
                          product(told.projected_keys, keys.dimension(2), kv_heads * D) +
                          product(told.projected_keys, layer.W_v.in_features(), kv_heads * D) +
                          product(open_queries, D, layer.num_hiddens());
  const auto kernels = detail::attention_kernels<T>();
  const Index rows = most_heads * Q;
  const bool packs_itself = rows <= detail::query_block;
  told.path = !packs_itself              ? "packed once"
              : rows <= detail::few_rows ? "direct"
                                         : "packed block by block";
  told.tile_rows = kernels.tile_rows;
  told.tile_columns = kernels.panel_width;
  told.query_block = detail::query_block;
  told.key_block = kernels.key_block;
  detail::AttentionCall<T> call{};
  call.shape = {B, H, G, Q, K, D, D};
  told.scratch_bytes =
      static_cast<Index>(sizeof(T)) * (2 * B * H * Q * D + 2 * B * G * K * D +
                                       context.threads() * kernels.task_size(call, packs_itself));
  return told;
}

inline std::ostream& operator<<(std::ostream& out, const Explanation& told) {
  return out << "instruction set  " << name_of(told.instruction_set) << ", tiles of "
             << told.tile_rows << " x " << told.tile_columns << "\nattention        keys "
             << told.path << ", " << told.query_block << " rows by " << told.key_block
             << " keys at a time, " << told.attention_flops / 1e6 << " Mflop\nprojections      "
             << told.projected_queries << " rows of queries, " << told.projected_keys
             << " of keys, " << told.projection_flops / 1e6 << " Mflop\nscratch memory   "
             << static_cast<double>(told.scratch_bytes) / 1024 << " KiB";
}

}  // namespace eigenheads::inline EIGENHEADS_ABI
