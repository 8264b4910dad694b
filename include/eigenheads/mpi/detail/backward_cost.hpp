// SPDX-License-Identifier: MIT
#pragma once
// Bytes and messages of a backward pass, from the plans that it executes.
#include <array>
#include <cstddef>
#include <vector>

#include <eigenheads/context.hpp>  // Context
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/layer/forward.hpp>                  // LayerParts
#include <eigenheads/mpi/block_stream.hpp>               // StreamCost, cost_of
#include <eigenheads/mpi/detail/attention_backward.hpp>  // QueryBlocks, gathered_head_sums
#include <eigenheads/mpi/detail/dealt_layer.hpp>         // needed_blocks
#include <eigenheads/mpi/detail/dealt_parameters.hpp>    // outputs_per_part

namespace eigenheads::inline EIGENHEADS_ABI::detail {

[[nodiscard]] inline mpi::StreamCost operator+(const mpi::StreamCost& a, const mpi::StreamCost& b) {
  return {a.messages_sent + b.messages_sent, a.bytes_sent + b.bytes_sent,
          a.messages_received + b.messages_received, a.bytes_received + b.bytes_received};
}

// Of Ranks::broadcast(): a binomial tree.
[[nodiscard]] inline mpi::StreamCost broadcast_cost(Index bytes, int root, int rank, int ranks) {
  mpi::StreamCost cost;
  if (bytes == 0) return cost;
  const int place = (rank - root + ranks) % ranks;
  int responsible = 1;
  while (place == 0 ? responsible < ranks : (place & responsible) == 0) responsible *= 2;
  if (place > 0) ++cost.messages_received, cost.bytes_received += bytes;
  for (int half = responsible / 2; half > 0; half /= 2)
    if (place + half < ranks) ++cost.messages_sent, cost.bytes_sent += bytes;
  return cost;
}
// Of Ranks::all_gather(): round a ring, each part but the next rank's is sent once.
[[nodiscard]] inline mpi::StreamCost all_gather_cost(const std::vector<Index>& bytes, int rank) {
  mpi::StreamCost cost;
  const auto ranks = static_cast<int>(bytes.size());
  for (int r = 0; r < ranks; ++r) {
    const Index of_r = bytes[static_cast<std::size_t>(r)];
    if (of_r == 0) continue;
    if (r != (rank + 1) % ranks) ++cost.messages_sent, cost.bytes_sent += of_r;
    if (r != rank) ++cost.messages_received, cost.bytes_received += of_r;
  }
  return cost;
}

template <class T>
[[nodiscard]] mpi::StreamCost backward_cost(const LayerParts<T>& layer, Index head_size,
                                            const mpi::Dealing& dealing, const Mask& mask, int rank,
                                            Context& context) {
  const SequenceRows rows = dealing.as_rows();
  const int ranks = dealing.ranks();
  const AttentionShape shape{rows.count(),   layer.heads.count(), layer.heads.kv_count(),
                             rows.longest(), rows.longest(),      head_size,
                             head_size};
  const BoundMask bound(mask, rows, rows, layer.heads.original_count());
  const Frame frame(context);
  const HeadTable heads =
      head_table<T>({shape, bound, layer.heads, layer.gates, Mode::training}, frame);
  const NeededBlocks needed = needed_blocks(layer, bound, shape, Mode::training, dealing);
  const QueryBlocks<T> queries({shape, heads, layer.gates.table()}, needed, dealing);
  mpi::StreamCost cost =
      cost_of(mpi::steps_of(needed, rank, ranks)) + cost_of(mpi::steps_of(queries, rank, ranks));
  const std::vector<RowRun> runs = runs_of(dealing);
  if (runs.empty()) return cost;

  const std::array projections{&layer.W_o, &layer.W_q, &layer.W_k, &layer.W_v};
  Index outputs = 0, bytes = shape.H * Index{sizeof(HeadSums)}, messages = shape.H > 0 ? 1 : 0;
  for (const auto* linear : projections) outputs += linear->out_features();
  const Index part = outputs_per_part(outputs, backward_kernels<T>().gradient_outputs, ranks);
  for (const auto* linear : projections) {
    const Index out = linear->out_features(),
                weight = out * linear->in_features() * Index{sizeof(T)};
    const Index bias = linear->has_bias() ? out * Index{sizeof(T)} : 0,
                parts = blocks_of(out, part);
    bytes += weight + bias;
    messages += (weight > 0 ? parts : 0) + (bias > 0 ? parts : 0);
    for (const Index sums : {weight, bias})
      cost = cost + broadcast_cost(sums, runs.back().owner, rank, ranks);
  }
  std::vector<Index> head_sums = count_head_sums(dealing, shape.H);
  for (Index& count : head_sums) count *= Index{sizeof(double)};
  return cost + chain_cost(runs, rank, bytes, messages) + all_gather_cost(head_sums, rank);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
