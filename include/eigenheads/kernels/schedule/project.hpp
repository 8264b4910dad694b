// SPDX-License-Identifier: MIT
#pragma once
// Shares the work of one projection, y = x W^T + b, out over the threads of a context. What a task
// computes does not depend on who computes it, nor on how many tasks there are (contract C3).
#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <span>

#include <eigenheads/context.hpp>       // Context
#include <eigenheads/detail/arena.hpp>  // Frame
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>   // Range, cut_ranges, blocks_of
#include <eigenheads/detail/work.hpp>     // projection_work
#include <eigenheads/kernels/chosen.hpp>  // projection_kernels

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// So many that the last ones to end leave little waiting: of 11 tasks, two threads take 6 and 5.
inline constexpr Index project_tasks_per_thread = 16;

// Into how many parts, at most `most`, each of `blocks` tasks is cut to give every thread
// `tasks_per_thread` of them.
[[nodiscard]] inline Index cuts_for(Index blocks, Index most, int threads, Index tasks_per_thread) {
  if (threads == 1 || blocks == 0 || most == 0) return 1;
  return (std::clamp)(blocks_of(tasks_per_thread * threads, blocks), Index{1}, most);
}

// Calls run(range) for the panels of [panels.begin, panels.end) that hold any of the columns, as few
// times as can be. The columns are in order.
template <class Run>
void for_each_run(std::span<const Range> columns, Index panel_width, Range panels, const Run& run) {
  Range pending{panels.begin, panels.begin};
  for (const Range& column : columns) {
    const Index from = (std::max)(pending.end, column.begin / panel_width);
    const Index to = (std::min)(panels.end, blocks_of(column.end, panel_width));
    if (from >= to) continue;
    if (from > pending.end) {
      if (pending.count() > 0) run(pending);
      pending.begin = from;
    }
    pending.end = to;
  }
  if (pending.count() > 0) run(pending);
}

// What a projection is to compute: rows of x, and of W, [out_features, in_features], some columns
// and (whole panels of) rows. What lies outside of `inputs` counts as 0.
struct ProjectedPart {
  std::span<const Range> rows, inputs, outputs;
};

// A projection and what it is of. x: [*, in_features], next to each other; bias: null or
// [out_features].
template <class T>
struct ProjectCall {
  const T* x;
  Panels<const T> weight;
  const T* bias;
  StridedMatrix<T> y;
};

template <class T>
void project(const ProjectCall<T>& call, const ProjectedPart& part, Context& context) {
  const Index rows = total(part.rows), depth = call.weight.columns;
  const ProjectionKernels<T> kernels = projection_kernels<T>();
  const Index W = kernels.panel_width, block = matmul_rows;
  const Index row_blocks = blocks_of(rows, block), panel_count = call.weight.count();
  if (row_blocks == 0) return;
  context.counters().projected_rows.fetch_add(rows, std::memory_order_relaxed);
  const auto threads =
      context.threads_for(projection_work<T>(rows, total(part.inputs), total(part.outputs)));
  const Index cuts = cuts_for(row_blocks, panel_count, threads.most, project_tasks_per_thread);
  const Index gathered = part.rows.size() == 1 ? 0 : block * depth;
  const Frame frame(context);
  T* const scratch = frame.take<T>(threads.most * (block * W + gathered));
  context.parallel_for(row_blocks * cuts, threads, [&](Index task, int thread) {
    const Index first = task / cuts * block, cut = task % cuts;
    std::array<Range, static_cast<std::size_t>(matmul_rows)> storage;
    const auto taken = cut_ranges(part.rows, first, (std::min)(block, rows - first), storage);
    T* const product = scratch + thread * (block * W + gathered);
    const T* x = call.x + taken[0].begin * depth;
    if (taken.size() > 1) {  // tiles want their rows one after the other
      T* to = product + block * W;
      x = to;
      for (const Range& range : taken)
        to = std::copy_n(call.x + range.begin * depth, range.count() * depth, to);
    }
    const MatmulCall<T> matmul{.x = x,
                               .rows = taken,
                               .inputs = part.inputs,
                               .weight = call.weight,
                               .bias = call.bias,
                               .y = call.y};
    for_each_run(part.outputs, W, {panel_count * cut / cuts, panel_count * (cut + 1) / cuts},
                 [&](Range panels) { kernels.matmul(matmul, panels, product); });
  });
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
