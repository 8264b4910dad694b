// SPDX-License-Identifier: MIT
#pragma once
// What each rank does in a call of SequenceParallel (sequence_layer.hpp), without weights or ranks.
#include <array>
#include <cstddef>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>             // blocks_of
#include <eigenheads/kernels/chosen.hpp>            // attention_kernels, attention_part_kernels
#include <eigenheads/mpi/block_stream.hpp>          // steps_of, cost_of
#include <eigenheads/mpi/dealing.hpp>               // Dealing, visible_pairs
#include <eigenheads/mpi/detail/needed_blocks.hpp>  // NeededBlocks
#include <eigenheads/mpi/plan.hpp>                  // LayerSizes, RankPlan
#include <eigenheads/mpi/sequence_attention.hpp>    // key_bytes

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

template <Scalar T>
class SequencePlan {
 public:
  SequencePlan(const LayerSizes& sizes, const Dealing& dealing, const Mask& mask = {})
      : sizes_(sizes),
        dealing_(dealing),
        mask_(mask),
        bound_(mask_, dealing_.as_rows(), dealing_.as_rows(), sizes.num_heads),
        needed_(bound_, dealing_, eigenheads::detail::key_bytes<T>(shape())) {}
  SequencePlan(const SequencePlan&) = delete;
  SequencePlan& operator=(const SequencePlan&) = delete;

  [[nodiscard]] int ranks() const { return dealing_.ranks(); }

  // Of an inference; a rank has one thread.
  [[nodiscard]] RankPlan of(int rank) const {
    const std::vector<BlockStep> steps = steps_of(needed_, rank, ranks());
    RankPlan plan;
    plan.traffic = cost_of(steps);

    const auto n = static_cast<double>(dealing_.local_rows(rank)), element = double{sizeof(T)},
               weights = static_cast<double>(sizes_.weights()),
               columns = static_cast<double>(sizes_.columns()),
               kv_columns = static_cast<double>(sizes_.kv_columns());
    plan.flops_meanwhile = 4 * columns * static_cast<double>(visible_pairs(bound_, dealing_, rank));
    plan.flops = plan.flops_meanwhile + 2 * n * weights;
    plan.weight_bytes = element * weights;
    // x and y; q, k, v and the heads; and what is known so far of each row's softmax.
    plan.data_bytes =
        element *
        (n * (2 * static_cast<double>(sizes_.num_hiddens) + 2 * columns + 2 * kv_columns) +
         state_elements(rank));
    plan.buffer_bytes =
        static_cast<double>(stream_buffers * buffer_bytes(steps)) + element * work_elements(n > 0);
    // The first block comes along a chain.
    for (const BlockStep& step : steps) {
      if (step.from < 0) continue;
      plan.hops = (rank - needed_.owner(step.number) + ranks()) % ranks() - 1;
      plan.hop_bytes = step.bytes;
      break;
    }
    return plan;
  }

 private:
  [[nodiscard]] eigenheads::detail::AttentionShape shape() const {
    const auto rows = dealing_.as_rows();
    return {rows.count(),   sizes_.num_heads, sizes_.num_kv_heads, rows.longest(),
            rows.longest(), sizes_.head_size, sizes_.head_size};
  }
  [[nodiscard]] eigenheads::detail::AttentionCall<T> call() const {
    eigenheads::detail::AttentionCall<T> call{};
    call.shape = shape();
    call.shape.B = 1;
    return call;
  }
  [[nodiscard]] double state_elements(int rank) const {
    Index tasks = 0;
    for (const Dealing::Block& piece : dealing_.pieces_of(rank))
      tasks += eigenheads::detail::blocks_of(piece.count(), eigenheads::detail::query_block);
    const auto parts = eigenheads::detail::attention_part_kernels<T>();
    return static_cast<double>(tasks * sizes_.num_heads * parts.part_state(call()));
  }
  // Of one thread, and of the block at hand, as the kernels read it.
  [[nodiscard]] double work_elements(bool has_rows) const {
    const auto kernels = eigenheads::detail::attention_kernels<T>();
    const auto parts = eigenheads::detail::attention_part_kernels<T>();
    const Index D = sizes_.head_size,
                wide = eigenheads::detail::blocks_of(D, kernels.panel_width) * kernels.panel_width;
    return static_cast<double>((has_rows ? parts.part_scratch(call()) : 0) +
                               sizes_.num_kv_heads * kernels.key_block * (D + wide));
  }

  LayerSizes sizes_;
  Dealing dealing_;
  Mask mask_;
  BoundMask bound_;
  eigenheads::detail::NeededBlocks needed_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
