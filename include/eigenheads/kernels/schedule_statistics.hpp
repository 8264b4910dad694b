// SPDX-License-Identifier: MIT
#pragma once
// Shares what is measured of heads out over the threads of a context. Sums over rows are made in
// the order of the rows, for each head by itself: any number of threads, and any way to cut the
// sequences into batches, gives the same bits.
#include <algorithm>
#include <cstddef>
#include <span>

#include <eigenheads/context.hpp>            // Context, Scratch
#include <eigenheads/kernels/arguments.hpp>  // AttentionStatisticsCall, ContributionCall
#include <eigenheads/kernels/schedule.hpp>   // blocks_of
#include <eigenheads/kernels/targets.hpp>    // statistics_kernels
#include <eigenheads/tensor.hpp>             // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

inline void add(const RowStatistics& row, RowStatistics& to) {
  to.rows += row.rows;
  to.l1_norm += row.l1_norm;
  to.l2_norm += row.l2_norm;
  to.entropy += row.entropy;
  to.variance += row.variance;
  to.confidence += row.confidence;
  to.previous += row.previous;
  to.next += row.next;
  to.same += row.same;
}

// Adds those of all rows that see a key to `to`, [H]. The call's own rows are left to this.
template <class T>
void add_statistics(AttentionStatisticsCall<T> call, std::span<RowStatistics> to,
                    Context& context) {
  const StatisticsKernels<T> kernels = statistics_kernels<T>();
  const AttentionShape& shape = call.attention.shape;
  call.rows = context.scratch<RowStatistics>(Scratch::rows, shape.B * shape.H * shape.Q);
  const Index size = kernels.statistics_size(shape);
  T* scratch = context.scratch<T>(Scratch::tasks, context.threads() * size);
  const HeadTable& table = call.attention.heads;
  const Index row_blocks = blocks_of(table.most(shape) * shape.Q, query_block);
  context.parallel_for(shape.B * shape.G * row_blocks, [&](Index task, int thread) {
    const Index b = task / row_blocks / shape.G, g = task / row_blocks % shape.G;
    const Index first = task % row_blocks * query_block;
    const Index left = table.count(shape, b, g) * shape.Q - first;
    if (left > 0)
      kernels.measure(call, {b, g, first, (std::min)(query_block, left)}, scratch + thread * size);
  });
  context.parallel_for(shape.H, [&](Index h) {
    for (Index b = 0; b < shape.B; ++b)
      for (Index q = 0; q < shape.Q; ++q)
        add(call.rows[call.attention.row(b, h, q)], to[static_cast<std::size_t>(h)]);
  });
}

// Adds those of all queries that are not padding to `to`, [H].
template <class T>
void add_contributions(const ContributionCall<T>& call, std::span<Contributions> to,
                       Context& context) {
  const StatisticsKernels<T> kernels = statistics_kernels<T>();
  const auto [B, H, G, Q, K, D, V] = call.shape;
  const Index size = kernels.contribution_size(call.E);
  T* scratch = context.scratch<T>(Scratch::tasks, context.threads() * size);
  auto* sums = context.scratch<Contributions>(Scratch::rows, B * H);
  double* means = context.scratch<double>(Scratch::gradients, B * H * call.E);
  std::fill_n(means, B * H * call.E, 0.0);
  context.parallel_for(B * H, [&](Index task, int thread) {
    sums[task] = {0, 0, 0, means + task * call.E};
    kernels.contribute_to(call, task / call.shape.H, task % call.shape.H, scratch + thread * size,
                          sums[task]);
  });
  context.parallel_for(H, [&](Index h) {
    for (Index b = 0; b < call.shape.B; ++b)
      kernels.merge_contributions(sums[b * call.shape.H + h], call.E,
                                  to[static_cast<std::size_t>(h)]);
  });
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail
