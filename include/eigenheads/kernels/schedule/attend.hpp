// SPDX-License-Identifier: MIT
#pragma once
// Shares the work of one attention out over the threads of a context, as its plan says.
#include <algorithm>

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
    const Index b = head / shape.G, g = head % shape.G, first = block * query_block;
    const Index left = call.heads.count(shape, b, g) * shape.Q - first;
    return {b, g, first, (std::min)(query_block, left)};
  }
  void attend_rows(Index head, Index block, const PackedHead<T>& packed, int thread) const {
    const RowTask rows = task(head, block);
    if (rows.count > 0) kernels.attend_rows(call, rows, packed, scratch_of(thread));
  }
};

template <class T>
void attend_cut_along_keys(const AttentionRun<T>& run, T* partials, Context& context) {
  const AttentionPlan& plan = run.plan;
  const auto partials_of = [&](Index head) {
    return partials + head * plan.key_blocks * plan.block_elements;
  };
  context.parallel_for(plan.heads * plan.key_blocks, [&](Index i, int thread) {
    const Index head = i / plan.key_blocks, number = i % plan.key_blocks;
    if (const RowTask rows = run.task(head, 0); rows.count > 0)
      run.kernels.attend_block_alone(run.call, rows, number,
                                     partials_of(head) + number * plan.block_elements,
                                     run.scratch_of(thread));
  });
  context.parallel_for(plan.heads, [&](Index head, int thread) {
    if (const RowTask rows = run.task(head, 0); rows.count > 0)
      run.kernels.merge_blocks(run.call, rows, partials_of(head), run.scratch_of(thread));
  });
}

// Packs what is seen of block `number` of a head; a block of which nothing is seen is not looked at.
template <class T>
void pack_block(const AttentionRun<T>& run, Index head, Index number, T* memory,
                PackedBlock<T>& block) {
  const AttentionCall<T>& call = run.call;
  const Index b = head / call.shape.G, g = head % call.shape.G;
  const Index W = run.kernels.panel_width, first = number * run.kernels.key_block;
  const Range seen = call.mask->seen_keys(b);
  const Index begin = (std::max)(first, seen.begin) - first;
  const Index end = (std::min)(first + run.kernels.key_block, seen.end) - first;
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

template <class T>
void attend_packed_once(const AttentionRun<T>& run, T* memory, PackedBlock<T>* blocks,
                        Context& context) {
  const AttentionPlan& plan = run.plan;
  for (Index first = 0; first < plan.heads; first += plan.heads_at_once) {
    const Index count = (std::min)(plan.heads_at_once, plan.heads - first);
    context.parallel_for(count * plan.key_blocks, [&](Index i) {
      const Index head = first + i / plan.key_blocks;
      if (run.task(head, 0).count > 0)
        pack_block(run, head, i % plan.key_blocks, memory + i * plan.block_elements, blocks[i]);
    });
    context.parallel_for(count * plan.row_blocks, [&](Index i, int thread) {
      const Index slot = i / plan.row_blocks;
      run.attend_rows(first + slot, i % plan.row_blocks, {blocks + slot * plan.key_blocks}, thread);
    });
  }
}

template <class T>
void attend(AttentionCall<T> call, Context& context) {
  call.row_by_row = &context.counters().row_by_row;
  const AttentionPlan plan = detail::plan(call, context.threads());
  if (plan.heads == 0) return;
  const Frame frame(context);
  T* const scratch = frame.take<T>(plan.threads * plan.task_elements);
  T* const memory = frame.take<T>(plan.blocks_at_once * plan.block_elements);
  const AttentionRun<T> run{call, plan, attention_kernels<T>(), scratch};
  switch (plan.path) {
    case AttentionPath::packed_by_task:
      context.parallel_for(plan.heads * plan.row_blocks, [&](Index i, int thread) {
        run.attend_rows(i / plan.row_blocks, i % plan.row_blocks, {}, thread);
      });
      return;
    case AttentionPath::cut_along_keys:
      attend_cut_along_keys(run, memory, context);
      return;
    case AttentionPath::packed_once:
      attend_packed_once(run, memory, frame.take<PackedBlock<T>>(plan.blocks_at_once), context);
      return;
  }
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
