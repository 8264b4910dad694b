// SPDX-License-Identifier: MIT
#pragma once
// How one call of attention is cut into tasks: made once, executed by attend(), printed by explain().
// No plan changes a bit of the result (contract C3): it says who computes a block, never in which
// order a row's blocks are merged.
#include <algorithm>

#include <eigenheads/context.hpp>  // Context
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>   // blocks_of
#include <eigenheads/detail/work.hpp>     // Threads, floats_per, product
#include <eigenheads/kernels/chosen.hpp>  // attention_kernels
#include <eigenheads/mask.hpp>            // BoundMask

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// A head whose packed keys and values take no more is packed by the thread that takes all its rows:
// they stay in that thread's cache.
inline constexpr Index packed_bytes = Index{1} << 20;

enum class AttentionPath {
  // A head's rows are one task, or there are no keys: it packs every block of keys when it gets
  // there, since nobody else would read what it packs.
  packed_by_task,
  // Few rows over many keys, and fewer heads than threads (decoding): each block of keys is a task
  // of its own, and the blocks are merged in their order afterwards. Not where weights or scores are
  // kept: the pieces would start the caller's rows anew.
  cut_along_keys,
  // A head's rows are several blocks: its keys and values are packed first, for all of them. Most
  // heads are one task each; the last ones are shared, so that all threads end together.
  packed_once,
  // Keys and values were packed before the call (a cache): every block of rows is a task.
  cached,
};

struct AttentionPlan {
  AttentionPath path = AttentionPath::packed_by_task;
  Index heads = 0;       // key/value heads of all sequences
  Index row_blocks = 0;  // of a head
  Index key_blocks = 0;  // cut_along_keys: those that a sequence sees, of the one that sees most
  Threads threads;       // that the work is worth
  // Elements of scratch memory: of a task's, of a block's partial result or its packed keys and
  // values, and of how many blocks at once.
  Index task_elements = 0, block_elements = 0, blocks_at_once = 0;
  // packed_once: heads that are one task each, and of those that follow, which are shared, how many
  // are packed at once; keys that a packed block has room for, and its elements that are keys.
  Index whole_heads = 0, shared_at_once = 0, block_capacity = 0, key_elements = 0;

  [[nodiscard]] Index shared_heads() const { return heads - whole_heads; }
  // That can be taken by a thread each.
  [[nodiscard]] Index tasks() const {
    if (path == AttentionPath::cut_along_keys) return heads * key_blocks;
    return path == AttentionPath::packed_once ? whole_heads + shared_heads() * row_blocks
                                              : heads * row_blocks;
  }
  [[nodiscard]] Index scratch_elements() const {
    return threads.most * task_elements + blocks_at_once * block_elements;
  }
};

// Of a call whose heads have so many rows. Nothing is left out for keys that are hidden from some of
// the rows alone.
template <class T>
[[nodiscard]] double attention_work(const AttentionCall<T>& call, Index rows) {
  const AttentionShape& shape = call.shape;
  Index keys = 0;
  for (Index b = call.first_sequence; b < call.first_sequence + shape.B; ++b)
    keys += call.mask->seen_keys(b).count() - call.mask->unseen_gap(b).count();
  const Index width = shape.D + shape.V;
  const double scores = product(rows, keys, shape.G), packed = product(keys, shape.G, width);
  return floats_per<T> * (scores * (static_cast<double>(width) + multiply_adds_per_score) +
                          packed * multiply_adds_per_packed);
}

// Tasks and memory of heads that are packed once, for which there is no other path.
template <class T>
void plan_packing(const AttentionCall<T>& call, AttentionPlan& plan) {
  const AttentionKernels<T> kernels = attention_kernels<T>();
  const AttentionShape& shape = call.shape;
  const Index W = kernels.panel_width;
  plan.path = AttentionPath::packed_once;
  plan.block_capacity = blocks_of((std::min)(shape.K, kernels.key_block), W) * W;
  plan.key_elements = plan.block_capacity * shape.D;
  plan.block_elements = plan.key_elements + plan.block_capacity * (blocks_of(shape.V, W) * W);
  const Index head_bytes = plan.key_blocks * plan.block_elements * static_cast<Index>(sizeof(T));
  if (plan.threads.most == 1)
    plan.whole_heads = plan.heads;
  else if (head_bytes <= packed_bytes)  // all threads come to their last whole head together
    plan.whole_heads = (std::max)(plan.heads / plan.threads.most - 1, Index{0}) * plan.threads.most;
  // Two at least: one is packed while the rows of the one before are still at work.
  plan.shared_at_once =
      (std::min)((std::max)(packed_bytes / head_bytes, Index{2}), plan.shared_heads());
  const Index packing = plan.whole_heads > 0 ? Index{plan.threads.most} : Index{0};
  plan.blocks_at_once = (packing + plan.shared_at_once) * plan.key_blocks;
}

// The first block of which a sequence sees a key, and how many it sees.
struct SeenBlocks {
  Index first, count;

  [[nodiscard]] static SeenBlocks of(const BoundMask& mask, Index b, Index key_block) {
    const auto [begin, end] = mask.seen_keys(b);
    if (begin >= end) return {0, 0};
    const Index first = begin / key_block;
    return {first, blocks_of(end, key_block) - first};
  }
};

// Rows of the key/value head that most query heads read.
template <class T>
[[nodiscard]] Index rows_of_head(const AttentionCall<T>& call) {
  return call.heads.most(call.shape, call.first_sequence) * call.shape.Q;
}

template <class T>
[[nodiscard]] AttentionPlan plan(const AttentionCall<T>& call, const Threads& threads) {
  const AttentionKernels<T> kernels = attention_kernels<T>();
  const AttentionShape& shape = call.shape;
  const Index rows = rows_of_head(call);
  AttentionPlan plan;
  plan.threads = threads;
  plan.heads = rows == 0 ? 0 : shape.B * shape.G;
  plan.row_blocks = blocks_of(rows, query_block);
  plan.key_blocks = blocks_of(shape.K, kernels.key_block);
  const bool is_one_task = plan.row_blocks <= 1 || shape.K == 0;
  const bool is_cached = call.cached != nullptr;
  const bool packs = is_cached ? call.cached->needs_packing() : is_one_task;
  plan.task_elements = kernels.attend_scratch(call, packs);
  if (is_cached) plan.path = AttentionPath::cached;
  if (!is_one_task) {
    if (!is_cached) plan_packing(call, plan);
  } else if (plan.heads < plan.threads.most && plan.key_blocks > 1 && !call.weights.is_given() &&
             !call.scores.is_given()) {
    plan.path = AttentionPath::cut_along_keys;
    plan.block_elements = kernels.partial_size(shape);
    plan.key_blocks = 1;  // of a head that sees none too: somebody must say so
    for (Index b = call.first_sequence; b < call.first_sequence + shape.B; ++b)
      plan.key_blocks =
          (std::max)(plan.key_blocks, SeenBlocks::of(*call.mask, b, kernels.key_block).count);
    plan.blocks_at_once = plan.heads * plan.key_blocks;
  }
  return plan;
}
template <class T>
[[nodiscard]] AttentionPlan plan(const AttentionCall<T>& call, const Context& context) {
  const bool is_one = context.threads() == 1;
  return plan(call,
              is_one ? Threads{} : context.threads_for(attention_work(call, rows_of_head(call))));
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
