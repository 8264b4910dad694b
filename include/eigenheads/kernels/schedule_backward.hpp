// SPDX-License-Identifier: MIT
#pragma once
// Shares the work behind a projection and behind an attention out over the threads of a context. No
// two tasks add to the same number: any number of threads gives the same bits.
#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>
#include <span>

#include <eigenheads/context.hpp>            // Context, Scratch
#include <eigenheads/kernels/arguments.hpp>  // AttentionBackwardCall, HeadLayout
#include <eigenheads/kernels/schedule.hpp>   // project, blocks_of
#include <eigenheads/kernels/targets.hpp>    // backward_kernels
#include <eigenheads/tensor.hpp>             // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// A projection that was made, and the gradient of what it gave. x: [rows, in], dy: [rows, out].
template <class T>
struct Projected {
  const T* panels;  // W
  Index in, out, rows;
  const T *x, *dy;
};

// Rows of dy that are not 0, in scratch memory of the context. What the rows of x hold for the
// others makes no difference.
struct KeptRows {
  std::span<const Index> rows;
  std::span<const RowPiece> pieces;
};
template <class T>
[[nodiscard]] KeptRows keep_rows(const Projected<T>& y, Context& context) {
  Index* rows = context.scratch<Index>(Scratch::rows, y.rows);
  auto* pieces = context.scratch<RowPiece>(Scratch::pieces, y.rows);
  std::size_t count = 0, piece_count = 0;
  for (Index row = 0; row < y.rows; ++row) {
    const T* values = y.dy + row * y.out;
    if (std::all_of(values, values + y.out, [](T value) { return value == 0; })) continue;
    if (count > 0 && rows[count - 1] == row - 1)
      ++pieces[piece_count - 1].count;
    else
      pieces[piece_count++] = {row, 1};
    rows[count++] = row;
  }
  return {{rows, count}, {pieces, piece_count}};
}

// dx = dy W, [rows, in]. What lies outside of `outputs` counts as 0.
template <class T>
void input_gradient(const Projected<T>& y, const KeptRows& kept, std::span<const RowPiece> outputs,
                    T* dx, bool adds, Context& context) {
  const BackwardKernels<T> kernels = backward_kernels<T>();
  const Index panel_count = blocks_of(y.in, kernels.panel_width);
  T* across = context.scratch<T>(Scratch::columns, panel_count * kernels.panel_width * y.out);
  context.parallel_for(panel_count, [&](Index panel) {
    kernels.turn(y.panels, y.out, y.in, panel, panel + 1, across);
  });
  T* to = adds ? context.scratch<T>(Scratch::panels, y.rows * y.in) : dx;
  if (std::ssize(kept.rows) < y.rows) std::fill_n(to, y.rows * y.in, T(0));
  const RowPiece all_inputs{0, y.in};
  project(y.dy, {kept.pieces, outputs, {&all_inputs, 1}}, across, y.out, y.in,
          static_cast<const T*>(nullptr), HeadLayout<T>::heads_together(to, y.rows, 1, y.in),
          context);
  for (Index i = 0; adds && i < y.rows * y.in; ++i) dx[i] += to[i];
}

// dW = dy^T x, [out, in]; db = sum of the rows of dy, [out], unless it is null.
template <class T>
void parameter_gradients(const Projected<T>& y, const KeptRows& kept, T* dW, T* db, bool adds,
                         Context& context) {
  const BackwardKernels<T> kernels = backward_kernels<T>();
  const Index W = kernels.panel_width, panel_count = blocks_of(y.in, W);
  const Index count = std::ssize(kept.rows);
  const auto row = [&](Index r) { return kept.rows[static_cast<std::size_t>(r)]; };
  T* columns = context.scratch<T>(Scratch::columns, panel_count * W * count);
  constexpr Index rows_a_task = 64;
  context.parallel_for(blocks_of(count, rows_a_task), [&](Index task) {
    for (Index r = task * rows_a_task, end = (std::min)(count, r + rows_a_task); r < end;) {
      Index run = 1;
      while (r + run < end && row(r + run) == row(r) + run) ++run;
      kernels.pack_columns(y.x + row(r) * y.in, y.in, run, y.in, columns + r * W, count * W);
      r += run;
    }
  });

  const Index outputs = kernels.outputs_a_task, blocks = blocks_of(y.out, outputs);
  // Blocks of outputs are cut along the panels too, where there are too few for the threads.
  const Index most = blocks_of(4 * context.threads(), (std::max)(blocks, Index{1}));
  const Index cuts =
      context.threads() == 1 ? 1 : (std::clamp)(most, Index{1}, (std::max)(panel_count, Index{1}));
  const Index size = kernels.turned_block + outputs * (blocks_of(panel_count, cuts) * W + 1);
  T* scratch = context.scratch<T>(Scratch::tasks, context.threads() * size);
  context.parallel_for(blocks * cuts, [&](Index task, int thread) {
    const Index first = task / cuts * outputs, taken = (std::min)(outputs, y.out - first);
    const Index begin = panel_count * (task % cuts) / cuts;
    const Index end = panel_count * (task % cuts + 1) / cuts;
    T* block = scratch + thread * size;
    T *bias = block + kernels.turned_block, *sums = bias + outputs;
    const bool has_bias = db != nullptr && task % cuts == 0;
    kernels.multiply_weights(y.dy, y.out, kept.rows, columns, first, taken, begin, end, block, sums,
                             has_bias ? bias : nullptr);
    const auto put = [&](const T* from, Index n, T* to) {
      for (Index i = 0; i < n; ++i) to[i] = adds ? to[i] + from[i] : from[i];
    };
    const Index width = (std::min)(end * W, y.in) - begin * W;
    for (Index o = 0; o < taken; ++o)
      put(sums + o * (end - begin) * W, width, dW + (first + o) * y.in + begin * W);
    if (has_bias) put(bias, taken, db + first);
  });
}

template <class T>
void attend_backward(const AttentionBackwardCall<T>& call, Context& context) {
  const BackwardKernels<T> kernels = backward_kernels<T>();
  const AttentionShape& shape = call.shape;
  const Index size = kernels.backward_size(shape, call.dropout != nullptr);
  T* scratch = context.scratch<T>(Scratch::tasks, context.threads() * size);
  const auto run = [&](Index task, int thread) {
    kernels.attend_backward(call, task / shape.G, task % shape.G, scratch + thread * size);
  };
  // Tasks that add to the same gradients of a bias come one after the other.
  const bool is_shared = call.score.is_shared(0) || call.score.is_shared(1);
  if (!is_shared) {
    context.parallel_for(shape.B * shape.G, run);
  } else if (call.score.is_shared(1)) {
    for (Index task = 0; task < shape.B * shape.G; ++task) run(task, 0);
  } else {
    for (Index b = 0; b < shape.B; ++b)
      context.parallel_for(shape.G, [&](Index g, int thread) { run(b * shape.G + g, thread); });
  }
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail
