// SPDX-License-Identifier: MIT
#pragma once
// Shares additive attention out over the threads of a context. What a task computes does not depend
// on who computes it (contract C3).
#include <algorithm>

#include <eigenheads/context.hpp>           // Context
#include <eigenheads/detail/arena.hpp>      // Frame
#include <eigenheads/detail/block_sum.hpp>  // BlockSum
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>        // Range, blocks_of
#include <eigenheads/detail/work.hpp>          // product
#include <eigenheads/kernels/matmul_call.hpp>  // gradient_rows
#include <eigenheads/kernels/nn/chosen.hpp>    // additive_kernels, row_kernels

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// A tanh of a pair of query and key takes as long as so many multiply-adds.
inline constexpr double multiply_adds_per_tanh = 24;

template <class T>
[[nodiscard]] double additive_work(const AdditiveShape& shape) {
  const double features = multiply_adds_per_tanh * static_cast<double>(shape.H);
  return floats_per<T> * product(shape.B, shape.Q, shape.K) *
         (features + static_cast<double>(shape.V) + multiply_adds_per_score);
}

// matrix: [B, K, features] -> its groups, of the keys that any query sees. The others are 0 where they
// share a group with one that is seen; no others are written.
template <class T>
void group_keys_of(const AdditiveShape& shape, const BoundMask& mask, const T* matrix,
                   Index features, T* groups, Context& context) {
  const AdditiveKernels<T> kernels = additive_kernels<T>();
  constexpr Index keys_per_task = 16 * group_keys;
  const Index cuts = blocks_of(shape.K, keys_per_task);
  const auto threads =
      context.threads_for(floats_per<T> * multiply_adds_per_packed * product(shape.B, shape.K) *
                          static_cast<double>(features));
  context.parallel_for(shape.B * cuts, threads, [&](Index task) {
    const Index b = task / cuts, first = task % cuts * keys_per_task;
    const Range part = mask.seen_keys(b, {first, first + keys_per_task});
    if (part.begin < part.end)
      kernels.pack_groups(matrix + b * shape.K * features, part, features,
                          groups + b * shape.grouped(features));
  });
}

// The way back, of all keys: groups of [B, K, H] -> [B, K, H].
template <class T>
void ungroup_keys_of(const AdditiveShape& shape, const T* groups, T* matrix, Context& context) {
  const Index K = shape.K, H = shape.H;
  const auto threads =
      context.threads_for(floats_per<T> * multiply_adds_per_packed * product(shape.B, K, H));
  context.parallel_for(shape.B * shape.groups(), threads, [&](Index task) {
    const Index b = task / shape.groups(), first = task % shape.groups() * group_keys;
    const T* const group = groups + b * shape.grouped(H) + first * H;
    for (Index i = 0, end = (std::min)(group_keys, K - first); i < end; ++i)
      for (Index h = 0; h < H; ++h) matrix[(b * K + first + i) * H + h] = group[h * group_keys + i];
  });
}

template <class T>
void additive_attend(const AdditiveCall<T>& call, Context& context) {
  const AdditiveKernels<T> kernels = additive_kernels<T>();
  const AdditiveShape& shape = call.shape;
  constexpr Index queries_per_task = 8;
  const Index cuts = blocks_of(shape.Q, queries_per_task), size = kernels.scratch(shape);
  const auto threads = context.threads_for(additive_work<T>(shape));
  const Frame frame(context);
  T* const scratch = frame.take<T>(threads.most * size);
  context.parallel_for(shape.B * cuts, threads, [&](Index task, int thread) {
    const Index first = task % cuts * queries_per_task;
    kernels.attend(call, task / cuts, {first, (std::min)(first + queries_per_task, shape.Q)},
                   scratch + thread * size);
  });
}

// A task is a sequence, or, where those are too few for all threads, some of its queries, for what
// belongs to queries, or some of its keys, for what belongs to keys: then every tanh is taken twice.
template <class T>
void additive_backward(const AdditiveBackwardCall<T>& call, Context& context) {
  const AdditiveKernels<T> kernels = additive_kernels<T>();
  const AdditiveShape& shape = call.shape;
  const Index keys = shape.groups() * group_keys, size = kernels.backward_scratch(shape);
  const auto threads = context.threads_for(2 * additive_work<T>(shape));
  const Frame frame(context);
  T* const scratch = frame.take<T>(threads.most * size);
  // Two sequences on three threads: as long as one of them, or two thirds of both, twice.
  if (3 * shape.B >= 4 * threads.most || threads.most == 1) {
    context.parallel_for(shape.B, threads, [&](Index b, int thread) {
      kernels.backward(call, {b, {0, shape.Q}, {0, keys}, true, true}, scratch + thread * size);
    });
    return;
  }
  constexpr Index queries_per_task = 16, keys_per_task = 2 * group_keys;
  const Index query_tasks = blocks_of(shape.Q, queries_per_task);
  const Index tasks = query_tasks + blocks_of(keys, keys_per_task);
  context.parallel_for(shape.B * tasks, threads, [&](Index number, int thread) {
    AdditiveBackwardTask task{number / tasks, {0, shape.Q}, {0, keys}, false, false};
    const Index part = number % tasks;
    task.for_queries = part < query_tasks;
    task.for_keys = !task.for_queries;
    if (task.for_queries)
      task.queries = {part * queries_per_task, (std::min)((part + 1) * queries_per_task, shape.Q)};
    else
      task.keys = {(part - query_tasks) * keys_per_task,
                   (std::min)((part - query_tasks + 1) * keys_per_task, keys)};
    kernels.backward(call, task, scratch + thread * size);
  });
}

// sums[h] = the sum of the rows of all sequences, [B, Q, H], or sums[h] += that: in blocks of
// gradient_rows rows of a sequence, as the gradient of a bias.
template <class T>
void sum_rows(const AdditiveShape& shape, const T* rows, bool adds, T* sums, Context& context) {
  const Index B = shape.B, Q = shape.Q, H = shape.H;
  const auto threads =
      context.threads_for(floats_per<T> * multiply_adds_per_packed * product(B, Q, H));
  const RowKernels<T> kernels = row_kernels<T>();
  context.parallel_for(blocks_of(H, columns_per_task), threads, [&](Index task) {
    const Index first = task * columns_per_task, columns = (std::min)(columns_per_task, H - first);
    BlockSum<T> sum(kernels, columns);
    for (Index b = 0; b < B; ++b)
      for (Index begin = 0; begin < Q; begin += gradient_rows) {
        for (Index q = begin, end = (std::min)(begin + gradient_rows, Q); q < end; ++q)
          sum.add(rows + (b * Q + q) * H + first);
        sum.end_block();
      }
    if (adds)
      kernels.add_array(sum.get(), sums + first, sums + first, columns);
    else
      std::copy_n(sum.get(), columns, sums + first);
  });
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
