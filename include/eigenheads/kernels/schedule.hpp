// SPDX-License-Identifier: MIT
#pragma once
// Shares the work of one projection or one attention out over the threads of a context. What a task
// computes does not depend on who computes it, nor on how many tasks there are (contract C3).
#include <algorithm>
#include <array>
#include <cstddef>
#include <new>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>            // Context, Scratch
#include <eigenheads/kernels/arguments.hpp>  // AttentionCall, HeadLayout
#include <eigenheads/kernels/targets.hpp>    // with_kernels
#include <eigenheads/tensor.hpp>             // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// Memory that begins where a cache line and the widest register do.
template <class T>
struct LineAllocator {
  using value_type = T;
  LineAllocator() = default;
  template <class U>
  LineAllocator(const LineAllocator<U>&) {}  // NOLINT
  [[nodiscard]] T* allocate(std::size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t{64}));
  }
  void deallocate(T* memory, std::size_t) { ::operator delete(memory, std::align_val_t{64}); }
  friend bool operator==(const LineAllocator&, const LineAllocator&) { return true; }
};
template <class T>
using AlignedVector = std::vector<T, LineAllocator<T>>;

[[nodiscard]] constexpr Index blocks_of(Index count, Index size) {
  return (count + size - 1) / size;
}

// Rows [begin, end) of every sequence of `length`, as few pieces.
template <class RangeOf>
std::span<const RowPiece> rows_of(Index B, Index length, const RangeOf& range_of,
                                  RowPiece* pieces) {
  std::size_t count = 0;
  for (Index b = 0; b < B; ++b) {
    const auto [begin, end] = range_of(b);
    if (begin == end) continue;
    if (count > 0 && pieces[count - 1].first + pieces[count - 1].count == b * length + begin)
      pieces[count - 1].count += end - begin;
    else
      pieces[count++] = {b * length + begin, end - begin};
  }
  return {pieces, count};
}

// The rows [first, first + count) of all that the pieces hold together.
template <std::size_t Capacity>
std::span<const RowPiece> cut(std::span<const RowPiece> pieces, Index first, Index count,
                              std::array<RowPiece, Capacity>& part) {
  std::size_t parts = 0;
  for (const RowPiece& piece : pieces) {
    const Index skipped = (std::min)(first, piece.count);
    const Index taken = (std::min)(piece.count - skipped, count);
    if (taken > 0) part[parts++] = {piece.first + skipped, taken};
    first -= skipped;
    count -= taken;
    if (count == 0) break;
  }
  return {part.data(), parts};
}

// So many that the last ones to end leave little waiting: of 11 tasks, two threads take 6 and 5.
inline constexpr Index tasks_a_thread = 16;

// Calls run(begin, end) for the panels of [first, last) that hold any of the wanted columns, as few
// times as can be. The pieces are in order.
template <class Run>
void for_each_run(std::span<const RowPiece> columns, Index panel_width, Index first, Index last,
                  const Run& run) {
  Index begin = first, end = first;
  for (const auto& [column, count] : columns) {
    const Index from = (std::max)(end, column / panel_width);
    const Index to = (std::min)(last, blocks_of(column + count, panel_width));
    if (from >= to) continue;
    if (from > end) {
      if (begin < end) run(begin, end);
      begin = from;
    }
    end = to;
  }
  if (begin < end) run(begin, end);
}

// What a projection is to compute: rows of x, and of W, [out_features, in_features], some columns
// and (whole panels of) rows. What lies outside of `inputs` counts as 0.
struct ProjectedPart {
  std::span<const RowPiece> rows, inputs, outputs;
};

// y = x W^T + b. x: [*, in_features], W in panels, bias: null or [out_features].
template <class T>
void project(const T* x, const ProjectedPart& wanted, const T* panels, Index in_features,
             Index out_features, const T* bias, const HeadLayout<T>& y, Context& context) {
  const std::span<const RowPiece> pieces = wanted.rows;
  Index rows = 0;
  for (const RowPiece& piece : pieces) rows += piece.count;
  const ProjectionKernels<T> kernels = projection_kernels<T>();
  const Index W = kernels.panel_width, block = matmul_rows;
  const Index row_blocks = blocks_of(rows, block), panel_count = blocks_of(out_features, W);
  if (row_blocks == 0) return;
  // Blocks of rows are cut along the panels too, where there are too few of them for the threads.
  const Index cuts =
      context.threads() == 1
          ? 1
          : (std::min)(panel_count, blocks_of(tasks_a_thread * context.threads(), row_blocks));
  const Index gathered = pieces.size() == 1 ? 0 : block * in_features;
  T* scratch = context.scratch<T>(Scratch::tasks, context.threads() * (block * W + gathered));
  context.parallel_for(row_blocks * cuts, [&](Index task, int thread) {
    const Index first = task / cuts * block, cut_number = task % cuts;
    std::array<RowPiece, static_cast<std::size_t>(matmul_rows)> storage;
    const auto part = cut(pieces, first, (std::min)(block, rows - first), storage);
    T* product = scratch + thread * (block * W + gathered);
    const T* rows_of_x = x + part[0].first * in_features;
    if (part.size() > 1) {  // tiles want their rows one after the other
      T* to = product + block * W;
      rows_of_x = to;
      for (const RowPiece& piece : part)
        to = std::copy_n(x + piece.first * in_features, piece.count * in_features, to);
    }
    for_each_run(wanted.outputs, W, panel_count * cut_number / cuts,
                 panel_count * (cut_number + 1) / cuts, [&](Index begin, Index end) {
                   kernels.multiply(rows_of_x, part, wanted.inputs, panels, in_features,
                                    out_features, bias, begin, end, y, product);
                 });
  });
}

// Keys and values are packed for as many heads at once as these bytes hold, and at least for one:
// so much is read again soon enough to be in a cache.
inline constexpr Index packed_bytes = Index{1} << 20;

template <class T>
void attend(AttentionCall<T> call, Context& context) {
  call.row_by_row = &context.row_by_row_;
  const AttentionKernels<T> kernels = attention_kernels<T>();
  const AttentionShape& shape = call.shape;
  const HeadTable& table = call.heads;
  const Index rows = table.most(shape) * shape.Q, heads = rows == 0 ? 0 : shape.B * shape.G;
  const Index row_blocks = blocks_of(rows, query_block);
  const Index W = kernels.panel_width, key_block = kernels.key_block;
  const bool packs_itself = row_blocks == 1 || shape.K == 0;
  const Index task_size = kernels.task_size(call, packs_itself);
  T* tasks = context.scratch<T>(Scratch::tasks, context.threads() * task_size);
  const auto rows_of_head = [&](Index head) {
    return table.count(shape, head / shape.G, head % shape.G) * shape.Q;
  };
  const auto attend_rows = [&](Index head, Index block, const PackedHead<T>& packed, int thread) {
    const Index first = block * query_block, left = rows_of_head(head) - first;
    const RowsOf which{head / shape.G, head % shape.G, first, (std::min)(query_block, left)};
    if (left > 0) kernels.attend(call, which, packed, tasks + thread * task_size);
  };
  // Few tasks of many keys are cut along the keys: each block by itself, then merged in order.
  const Index key_blocks = blocks_of(shape.K, key_block);
  if (packs_itself && heads < context.threads() && key_blocks > 1 && call.weights == nullptr) {
    const Index size = kernels.partial_elements(call);
    T* partials = context.scratch<T>(Scratch::panels, heads * key_blocks * size);
    const auto which = [&](Index head) {
      return RowsOf{head / shape.G, head % shape.G, 0, rows_of_head(head)};
    };
    context.parallel_for(heads * key_blocks, [&](Index task, int thread) {
      if (rows_of_head(task / key_blocks) == 0) return;
      kernels.attend_block_alone(call, which(task / key_blocks), task % key_blocks,
                                 partials + task * size, tasks + thread * task_size);
    });
    context.parallel_for(heads, [&](Index head, int thread) {
      if (rows_of_head(head) == 0) return;
      kernels.merge(call, which(head), partials + head * key_blocks * size,
                    tasks + thread * task_size);
    });
    return;
  }
  if (packs_itself) {
    context.parallel_for(heads * row_blocks, [&](Index task, int thread) {
      attend_rows(task / row_blocks, task % row_blocks, PackedHead<T>{}, thread);
    });
    return;
  }

  const Index keys_size = blocks_of(shape.K, W) * W * shape.D;
  const Index values_size = blocks_of(shape.V, W) * W * shape.K;
  const Index head_bytes = (keys_size + values_size) * static_cast<Index>(sizeof(T));
  const Index at_once = (std::clamp)(packed_bytes / (std::max)(head_bytes, Index{1}), Index{1},
                                     (std::max)(heads, Index{1}));
  T* panels = context.scratch<T>(Scratch::panels, at_once * (keys_size + values_size));
  bool* finite = context.scratch<bool>(Scratch::flags, at_once * key_blocks);
  const auto packed_of = [&](Index slot) {
    T* keys = panels + slot * (keys_size + values_size);
    return std::tuple{keys, keys + keys_size, finite + slot * key_blocks};
  };
  for (Index first = 0; first < heads; first += at_once) {
    const Index count = (std::min)(at_once, heads - first);
    context.parallel_for(count * key_blocks, [&](Index task) {
      const Index slot = task / key_blocks, number = task % key_blocks, head = first + slot;
      if (rows_of_head(head) == 0) return;
      const KeyRange seen = call.mask->seen_keys(head / shape.G);
      const Index begin = (std::max)(number * key_block, seen.begin);
      const Index end = (std::min)((number + 1) * key_block, seen.end);
      if (begin >= end) return;
      const T* values = call.values + (head * shape.K + begin) * shape.V;
      const auto [packed_keys, packed_values, finite_blocks] = packed_of(slot);
      kernels.pack_rows(call.keys + head * shape.K * shape.D, shape.D, begin, end, shape.D,
                        packed_keys);
      finite_blocks[number] = kernels.pack_values(values, shape.V, end - begin, shape.V,
                                                  packed_values + begin * W, shape.K * W);
    });
    context.parallel_for(count * row_blocks, [&](Index task, int thread) {
      const auto [keys, values, finite_blocks] = packed_of(task / row_blocks);
      attend_rows(first + task / row_blocks, task % row_blocks,
                  PackedHead<T>{keys, values, finite_blocks}, thread);
    });
  }
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail
