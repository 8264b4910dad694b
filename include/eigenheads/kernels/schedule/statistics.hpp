// SPDX-License-Identifier: MIT
#pragma once
// Shares what is measured of heads out over the threads of a context. Sums over rows are made in
// the order of the rows, for each head by itself: any number of threads, and any way to cut the
// sequences into batches, gives the same bits.
#include <algorithm>
#include <cstddef>
#include <span>

#include <eigenheads/context.hpp>       // Context
#include <eigenheads/detail/arena.hpp>  // Frame
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>   // blocks_of
#include <eigenheads/detail/work.hpp>     // projection_work, product
#include <eigenheads/kernels/chosen.hpp>  // statistics_kernels

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// Adds the statistics of all rows that see a key to `sums`, [H]. call.rows is left to this.
template <class T>
void add_statistics(AttentionStatisticsCall<T> call, std::span<RowStatistics> sums,
                    Context& context) {
  const StatisticsKernels<T> kernels = statistics_kernels<T>();
  const AttentionShape& shape = call.attention.shape;
  const SequenceRows& queries = call.attention.mask->query_rows();
  const bool is_packed = call.attention.mask->is_packed();
  const Frame frame(context);
  call.rows = StridedMatrix<RowStatistics>::heads_apart(
      frame.take<RowStatistics>(queries.total() * shape.H), queries, shape.H, 1);
  const Index size = kernels.measure_scratch(shape);
  const auto threads =
      context.threads_for((static_cast<double>(shape.D + shape.V) + multiply_adds_per_score) *
                          product(shape.B, shape.H, shape.Q, shape.K));
  T* const scratch = frame.take<T>(threads.most * size);
  const HeadTable& table = call.attention.heads;
  const Index row_blocks = blocks_of(table.most(shape, 0) * shape.Q, query_block);
  context.parallel_for(shape.B * shape.G * row_blocks, threads, [&](Index i, int thread) {
    const Index b = i / row_blocks / shape.G, g = i / row_blocks % shape.G;
    const Index first = i % row_blocks * query_block;
    const Index left = table.count(shape, b, g) * queries.length(b) - first;
    if (left <= 0) return;
    const RowTask task{b, g, first, (std::min)(query_block, left)};
    kernels.measure_rows(is_packed ? call_of(call, b) : call, task, scratch + thread * size);
  });
  context.parallel_for(shape.H, threads, [&](Index h) {
    RowStatistics& sum = sums[static_cast<std::size_t>(h)];
    for (Index b = 0; b < shape.B; ++b)
      for (Index q = 0; q < queries.length(b); ++q) {
        const RowStatistics& row =
            is_packed ? *call.rows.at(0, h, queries.begin(b) + q) : *call.rows.at(b, h, q);
        sum.rows += row.rows;
        for (std::size_t i = 0; i < row.values.size(); ++i) sum.values[i] += row.values[i];
      }
  });
}

// Adds the contributions of all queries that are not padding to `sums`, [H].
template <class T>
void add_contributions(const ContributionCall<T>& call, std::span<Contributions> sums,
                       Context& context) {
  const StatisticsKernels<T> kernels = statistics_kernels<T>();
  const Index B = call.shape.B, H = call.shape.H, E = call.weight.rows;
  const Frame frame(context);
  const Index size = kernels.contribute_scratch(E);
  const auto threads =
      context.threads_for(projection_work<T>(call.mask->query_rows().total() * H, call.shape.V, E));
  T* const scratch = frame.take<T>(threads.most * size);
  auto* const parts = frame.take<Contributions>(B * H);
  double* const means = frame.take<double>(B * H * E);
  std::fill_n(means, B * H * E, 0.0);
  context.parallel_for(B * H, threads, [&](Index task, int thread) {
    parts[task] = {.mean = means + task * E};
    kernels.contribute(call, task / H, task % H, scratch + thread * size, parts[task]);
  });
  context.parallel_for(H, threads, [&](Index h) {
    for (Index b = 0; b < B; ++b)
      kernels.merge_contributions(parts[b * H + h], E, sums[static_cast<std::size_t>(h)]);
  });
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
