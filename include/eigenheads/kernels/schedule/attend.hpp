// SPDX-License-Identifier: MIT
#pragma once
// Shares the work of one attention out over the threads of a context, as its plan says.
#include <algorithm>
#include <atomic>
#include <new>

#include <eigenheads/context.hpp>       // Context
#include <eigenheads/detail/arena.hpp>  // Frame
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>          // Range
#include <eigenheads/kernels/chosen.hpp>         // attention_kernels
#include <eigenheads/kernels/schedule/plan.hpp>  // AttentionPlan

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// One call while it is executed: the kernels, the plan, and the threads' scratch memory.
template <class T>
struct AttentionRun {
  const AttentionCall<T>& call;
  const AttentionPlan& plan;
  const AttentionKernels<T> kernels;
  T* scratch;  // plan.task_elements for each thread

  [[nodiscard]] T* scratch_of(int thread) const { return scratch + thread * plan.task_elements; }

  // Block `block` of the rows of key/value head `head` of all sequences; count is 0 or less where
  // the head has fewer.
  [[nodiscard]] RowTask task(Index head, Index block) const {
    const AttentionShape& shape = call.shape;
    const Index b = call.first_sequence + head / shape.G, g = head % shape.G;
    const Index first = block * query_block;
    const Index left = call.heads.count(shape, b, g) * shape.Q - first;
    return {b, g, first, (std::min)(query_block, left)};
  }
  void attend_rows(Index head, Index block, const PackedHead<T>& packed, int thread) const {
    const RowTask rows = task(head, block);
    if (rows.count > 0) kernels.attend_rows(call, rows, packed, scratch_of(thread));
  }
  // Where nothing is packed for the call: by the task itself, or long before.
  void attend_rows(Index head, Index block, int thread) const {
    const RowTask rows = task(head, block);
    if (rows.count > 0)
      kernels.attend_rows(call, rows, call.cached_head(rows.b, rows.g), scratch_of(thread));
  }
};

// Parts of a head that are not done yet.
using PartsLeft = std::atomic<int>;

[[nodiscard]] inline PartsLeft* take_parts_left(const Frame& frame, Index heads, Index parts) {
  PartsLeft* const left = frame.take<PartsLeft>(heads);
  for (Index head = 0; head < heads; ++head) new (left + head) PartsLeft(static_cast<int>(parts));
  return left;
}
inline void wait_for(const PartsLeft& left) {
  for (int parts = left.load(); parts != 0;) parts = wait_for_change(left, parts);
}
// One part is done when its scope ends, by an exception of a score function too: somebody waits.
struct PartDone {
  PartsLeft& left;
  ~PartDone() {
    if (--left == 0) left.notify_all();
  }
};

template <class T>
void attend_cut_along_keys(const AttentionRun<T>& run, T* partials, PartsLeft* left,
                           Context& context) {
  const AttentionPlan& plan = run.plan;
  context.parallel_for(plan.heads * plan.key_blocks, plan.threads, [&](Index i, int thread) {
    const Index head = i / plan.key_blocks, number = i % plan.key_blocks;
    const RowTask rows = run.task(head, 0);
    if (rows.count <= 0) return;
    const Index seen = SeenBlocks::of(*run.call.mask, rows.b, run.kernels.key_block).first;
    T* const first = partials + head * plan.key_blocks * plan.block_elements;
    run.kernels.attend_block_alone(run.call, rows, seen + number,
                                   first + number * plan.block_elements, run.scratch_of(thread));
    if (--left[head] == 0) run.kernels.merge_blocks(run.call, rows, first, run.scratch_of(thread));
  });
}

// Packs what is seen of block `number` of a head; a block of which nothing is seen is not looked at.
template <class T>
void pack_block(const AttentionRun<T>& run, Index head, Index number, T* memory,
                PackedBlock<T>& block) {
  const AttentionCall<T>& call = run.call;
  const Index b = call.first_sequence + head / call.shape.G, g = head % call.shape.G;
  const Index W = run.kernels.panel_width, first = number * run.kernels.key_block;
  const Range seen = call.mask->seen_keys(b, {first, first + run.kernels.key_block});
  const Index begin = seen.begin - first, end = seen.end - first;
  T* const values = memory + run.plan.key_elements;
  block = {memory, values, run.plan.block_capacity * W, true};
  if (begin >= end) return;
  run.kernels.pack_panels(call.keys.at(b, g, first), call.keys.row_stride, {begin, end},
                          call.shape.D, memory);
  block.is_finite = run.kernels.pack_columns({.matrix = call.values.at(b, g, first + begin),
                                              .stride = call.values.row_stride,
                                              .rows = end - begin,
                                              .columns = call.shape.V,
                                              .panels = values + begin * W,
                                              .panel_stride = block.value_panel_stride});
}

// Where heads are packed: first those of the threads, then those that are shared.
template <class T>
struct PackedMemory {
  const AttentionPlan& plan;
  T* elements;
  PackedBlock<T>* blocks;

  void pack(const AttentionRun<T>& run, Index head, Index number, Index slot) const {
    const Index i = slot * plan.key_blocks + number;
    pack_block(run, head, number, elements + i * plan.block_elements, blocks[i]);
  }
  [[nodiscard]] PackedHead<T> head(Index slot) const { return {blocks + slot * plan.key_blocks}; }
};

template <class T>
void attend_whole_head(const AttentionRun<T>& run, Index head, const PackedMemory<T>& memory,
                       int thread) {
  if (run.task(head, 0).count <= 0) return;
  for (Index number = 0; number < run.plan.key_blocks; ++number)
    memory.pack(run, head, number, thread);
  for (Index block = 0; block < run.plan.row_blocks; ++block)
    run.attend_rows(head, block, memory.head(thread), thread);
}

// The heads that are shared, in groups of as many as are packed at once: first the blocks of all of
// a group, then their rows. A part waits for nothing but parts before it, which somebody has begun:
// rows for their head's blocks, blocks for the rows of the head whose memory they take over.
template <class T>
struct SharedHeads {
  const AttentionRun<T>& run;
  const PackedMemory<T>& memory;
  PartsLeft *blocks_left, *rows_left;

  [[nodiscard]] Index parts() const {
    return run.plan.shared_heads() * (run.plan.key_blocks + run.plan.row_blocks);
  }
  void do_part(Index i, int thread) const {
    const AttentionPlan& plan = run.plan;
    const Index group_parts = plan.shared_at_once * (plan.key_blocks + plan.row_blocks);
    const Index first = i / group_parts * plan.shared_at_once;
    const Index part = i % group_parts;
    const Index blocks =
        (std::min)(plan.shared_at_once, plan.shared_heads() - first) * plan.key_blocks;
    if (part < blocks)
      pack(first + part / plan.key_blocks, part % plan.key_blocks);
    else
      attend(first + (part - blocks) / plan.row_blocks, (part - blocks) % plan.row_blocks, thread);
  }

 private:
  [[nodiscard]] Index slot(Index shared) const {
    return (run.plan.whole_heads > 0 ? run.plan.threads.most : 0) +
           shared % run.plan.shared_at_once;
  }
  void pack(Index shared, Index number) const {
    const PartDone done{blocks_left[shared]};
    if (shared >= run.plan.shared_at_once) wait_for(rows_left[shared - run.plan.shared_at_once]);
    const Index head = run.plan.whole_heads + shared;
    if (run.task(head, 0).count > 0) memory.pack(run, head, number, slot(shared));
  }
  void attend(Index shared, Index block, int thread) const {
    const PartDone done{rows_left[shared]};
    wait_for(blocks_left[shared]);
    run.attend_rows(run.plan.whole_heads + shared, block, memory.head(slot(shared)), thread);
  }
};

// One loop, without a barrier.
template <class T>
void attend_packed_once(const AttentionRun<T>& run, const PackedMemory<T>& memory,
                        const Frame& frame, Context& context) {
  const AttentionPlan& plan = run.plan;
  const SharedHeads<T> shared{run, memory,
                              take_parts_left(frame, plan.shared_heads(), plan.key_blocks),
                              take_parts_left(frame, plan.shared_heads(), plan.row_blocks)};
  context.parallel_for(plan.whole_heads + shared.parts(), plan.threads, [&](Index i, int thread) {
    if (i < plan.whole_heads)
      attend_whole_head(run, i, memory, thread);
    else
      shared.do_part(i - plan.whole_heads, thread);
  });
}

template <class T>
void attend(AttentionCall<T> call, Context& context) {
  call.row_by_row = &context.counters().row_by_row;
  const AttentionPlan plan = detail::plan(call, context);
  if (plan.heads == 0) return;
  const Frame frame(context);
  T* const scratch = frame.take<T>(plan.threads.most * plan.task_elements);
  T* const memory = frame.take<T>(plan.blocks_at_once * plan.block_elements);
  const AttentionRun<T> run{call, plan, attention_kernels<T>(), scratch};
  switch (plan.path) {
    case AttentionPath::packed_by_task:
    case AttentionPath::cached:
      context.parallel_for(plan.heads * plan.row_blocks, plan.threads, [&](Index i, int thread) {
        run.attend_rows(i / plan.row_blocks, i % plan.row_blocks, thread);
      });
      return;
    case AttentionPath::cut_along_keys:
      attend_cut_along_keys(run, memory, take_parts_left(frame, plan.heads, plan.key_blocks),
                            context);
      return;
    case AttentionPath::packed_once:
      attend_packed_once(run, {plan, memory, frame.take<PackedBlock<T>>(plan.blocks_at_once)},
                         frame, context);
      return;
  }
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
