// SPDX-License-Identifier: MIT
#pragma once
// How one call of attention is cut into tasks: made once, executed by attend(), printed by explain().
// No plan changes a bit of the result (contract C3): it says who computes a block, never in which
// order a row's blocks are merged.
#include <algorithm>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>   // blocks_of
#include <eigenheads/kernels/chosen.hpp>  // attention_kernels

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// Keys and values are packed for as many heads at once as these bytes hold, and at least for one:
// so much is read again soon enough to be in a cache.
inline constexpr Index packed_bytes = Index{1} << 20;

enum class AttentionPath {
  // A head's rows are one task, or there are no keys: it packs every block of keys when it gets
  // there, since nobody else would read what it packs.
  packed_by_task,
  // Few rows over many keys, and fewer heads than threads (decoding): each block of keys is a task
  // of its own, and the blocks are merged in their order afterwards. Not where weights or scores are
  // kept: the pieces would start the caller's rows anew.
  cut_along_keys,
  // A head's rows are several tasks: its keys and values are packed first, block by block, for as
  // many heads as `packed_bytes` hold, and all tasks read them.
  packed_once,
};

struct AttentionPlan {
  AttentionPath path = AttentionPath::packed_by_task;
  Index heads = 0;       // key/value heads of all sequences
  Index row_blocks = 0;  // tasks per head
  Index key_blocks = 0;
  int threads = 1;
  // Elements of scratch memory: of a task's, of a block's partial result or its packed keys and
  // values, and of how many blocks at once.
  Index task_elements = 0, block_elements = 0, blocks_at_once = 0;
  // packed_once: heads whose keys and values are packed at once, keys that a packed block has room
  // for, and its elements that are keys.
  Index heads_at_once = 0, block_capacity = 0, key_elements = 0;

  [[nodiscard]] Index scratch_elements() const {
    return threads * task_elements + blocks_at_once * block_elements;
  }
};

template <class T>
[[nodiscard]] AttentionPlan plan(const AttentionCall<T>& call, int threads) {
  const AttentionKernels<T> kernels = attention_kernels<T>();
  const AttentionShape& shape = call.shape;
  const Index rows = call.heads.most(shape) * shape.Q;
  AttentionPlan plan;
  plan.threads = threads;
  plan.heads = rows == 0 ? 0 : shape.B * shape.G;
  plan.row_blocks = blocks_of(rows, query_block);
  plan.key_blocks = blocks_of(shape.K, kernels.key_block);
  const bool is_one_task = plan.row_blocks <= 1 || shape.K == 0;
  plan.task_elements = kernels.attend_scratch(call, is_one_task);
  if (is_one_task) {
    if (plan.heads < threads && plan.key_blocks > 1 && call.weights == nullptr &&
        call.scores == nullptr) {
      plan.path = AttentionPath::cut_along_keys;
      plan.block_elements = kernels.partial_size(shape);
      plan.blocks_at_once = plan.heads * plan.key_blocks;
    }
    return plan;
  }
  plan.path = AttentionPath::packed_once;
  const Index W = kernels.panel_width;
  plan.block_capacity = blocks_of((std::min)(shape.K, kernels.key_block), W) * W;
  plan.key_elements = plan.block_capacity * shape.D;
  plan.block_elements = plan.key_elements + plan.block_capacity * (blocks_of(shape.V, W) * W);
  const Index head_bytes = plan.key_blocks * plan.block_elements * static_cast<Index>(sizeof(T));
  plan.heads_at_once =
      (std::clamp)(packed_bytes / head_bytes, Index{1}, (std::max)(plan.heads, Index{1}));
  plan.blocks_at_once = plan.heads_at_once * plan.key_blocks;
  return plan;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
