// SPDX-License-Identifier: MIT
#pragma once
// Bytes and messages of a backward pass, from the plans that it executes.
#include <array>
#include <vector>

#include <eigenheads/context.hpp>  // Context
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/layer/forward.hpp>                  // LayerParts
#include <eigenheads/mpi/block_stream.hpp>               // cost_of
#include <eigenheads/mpi/collective_traffic.hpp>         // broadcast_traffic
#include <eigenheads/mpi/detail/attention_backward.hpp>  // QueryBlocks, count_head_sums
#include <eigenheads/mpi/detail/dealt_layer.hpp>         // needed_blocks
#include <eigenheads/mpi/detail/dealt_parameters.hpp>    // outputs_per_part

namespace eigenheads::inline EIGENHEADS_ABI::detail {

template <class T>
[[nodiscard]] mpi::Traffic backward_cost(const LayerParts<T>& layer, Index head_size,
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
  mpi::Traffic traffic = cost_of(mpi::steps_of(needed, rank, ranks));
  traffic += cost_of(mpi::steps_of(queries, rank, ranks));
  const std::vector<RowRun> runs = runs_of(dealing);
  if (runs.empty()) return traffic;

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
      traffic += mpi::broadcast_traffic(sums, runs.back().owner, rank, ranks);
  }
  std::vector<Index> head_sums = count_head_sums(dealing, shape.H);
  for (Index& count : head_sums) count *= Index{sizeof(double)};
  traffic += mpi::all_gather_traffic(head_sums, rank);
  traffic += chain_traffic(runs, rank, bytes, messages);
  return traffic;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
