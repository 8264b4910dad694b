// SPDX-License-Identifier: MIT
#pragma once
// Shares the backward pass of a projection and of attention out over the threads of a context. No
// two tasks that run at the same time add to the same number: any number of threads gives the same
// bits.
#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>
#include <span>

#include <eigenheads/context.hpp>       // Context
#include <eigenheads/detail/arena.hpp>  // Frame
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>             // Range, blocks_of
#include <eigenheads/kernels/chosen.hpp>            // backward_kernels
#include <eigenheads/kernels/schedule/project.hpp>  // project, cuts_for

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// A projection that was made, y = x W^T + b, and the gradient of what it gave.
template <class T>
struct Projected {
  Panels<const T> weight;  // W, [out, in]
  Index rows;
  const T *x, *dy;  // [rows, in], [rows, out]
};

// Rows of dy that are not 0. What the rows of x hold for the others makes no difference.
struct KeptRows {
  std::span<const Index> rows;
  std::span<const Range> ranges;
};
template <class T>
[[nodiscard]] KeptRows keep_rows(const Projected<T>& y, const Frame& frame) {
  Index* const rows = frame.take<Index>(y.rows);
  auto* const ranges = frame.take<Range>(y.rows);
  const Index out = y.weight.rows;
  std::size_t count = 0, range_count = 0;
  for (Index row = 0; row < y.rows; ++row) {
    const T* values = y.dy + row * out;
    if (std::all_of(values, values + out, [](T value) { return value == 0; })) continue;
    if (count > 0 && rows[count - 1] == row - 1)
      ++ranges[range_count - 1].end;
    else
      ranges[range_count++] = {row, row + 1};
    rows[count++] = row;
  }
  return {{rows, count}, {ranges, range_count}};
}

// dx = dy W, [rows, in], or dx += dy W. What lies outside of `outputs` counts as 0.
template <class T>
void input_gradient(const Projected<T>& y, const ProjectedPart& kept, T* dx, bool adds,
                    Context& context) {
  const BackwardKernels<T> kernels = backward_kernels<T>();
  const Index in = y.weight.columns, out = y.weight.rows, W = kernels.panel_width;
  const Index panel_count = blocks_of(in, W);
  const Frame frame(context);
  T* const across = frame.take<T>(panel_count * W * out);
  context.parallel_for(panel_count, [&](Index panel) {
    kernels.transpose_panels(y.weight, {panel, panel + 1}, across);
  });
  T* const to = adds ? frame.take<T>(y.rows * in) : dx;
  if (total(kept.rows) < y.rows) std::fill_n(to, y.rows * in, T(0));
  const Range all_inputs{0, in};
  const ProjectCall<T> call{.x = y.dy,
                            .weight = {across, in, out, W},
                            .bias = nullptr,
                            .y = StridedMatrix<T>::plain(to, y.rows, in)};
  project(call, {kept.rows, kept.inputs, {&all_inputs, 1}}, context);
  for (Index i = 0; adds && i < y.rows * in; ++i) dx[i] += to[i];
}

// Where the gradients of a weight and a bias go; db is null for a projection without one.
template <class T>
struct ParameterGradients {
  T *dW, *db;  // [out, in], [out]
  bool adds;
};

// dW = dy^T x, db = sum of the rows of dy; or added to what is there.
template <class T>
void parameter_gradients(const Projected<T>& y, std::span<const Index> rows,
                         const ParameterGradients<T>& gradients, Context& context) {
  const BackwardKernels<T> kernels = backward_kernels<T>();
  const Index in = y.weight.columns, out = y.weight.rows;
  const Index W = kernels.panel_width, panel_count = blocks_of(in, W), count = std::ssize(rows);
  const auto row = [&](Index r) { return rows[static_cast<std::size_t>(r)]; };
  const Frame frame(context);
  T* const columns = frame.take<T>(panel_count * W * count);
  constexpr Index rows_per_task = 64;
  context.parallel_for(blocks_of(count, rows_per_task), [&](Index task) {
    for (Index r = task * rows_per_task, end = (std::min)(count, r + rows_per_task); r < end;) {
      Index run = 1;
      while (r + run < end && row(r + run) == row(r) + run) ++run;
      kernels.pack_columns({.matrix = y.x + row(r) * in,
                            .stride = in,
                            .rows = run,
                            .columns = in,
                            .panels = columns + r * W,
                            .panel_stride = count * W});
      r += run;
    }
  });

  constexpr Index tasks_per_thread = 4;  // each gathers its rows of dy anew
  const Index outputs = kernels.gradient_outputs, blocks = blocks_of(out, outputs);
  const Index cuts = cuts_for(blocks, panel_count, context.threads(), tasks_per_thread);
  const Index block_size = kernels.gradient_rows * outputs;
  const Index size = block_size + outputs * (blocks_of(panel_count, cuts) * W + 1);
  T* const scratch = frame.take<T>(context.threads() * size);
  context.parallel_for(blocks * cuts, [&](Index task, int thread) {
    const Index first = task / cuts * outputs, taken = (std::min)(outputs, out - first);
    const Index begin = panel_count * (task % cuts) / cuts;
    const Index end = panel_count * (task % cuts + 1) / cuts;
    T* const block = scratch + thread * size;
    T *const bias = block + block_size, *const sums = bias + outputs;
    const bool has_bias = gradients.db != nullptr && task % cuts == 0;
    kernels.weight_gradient({.dy = y.dy,
                             .dy_stride = out,
                             .rows = rows,
                             .x = columns,
                             .outputs = {first, first + taken},
                             .panels = {begin, end},
                             .sums = sums,
                             .bias = has_bias ? bias : nullptr},
                            block);
    const auto put = [&](const T* from, Index n, T* to) {
      for (Index i = 0; i < n; ++i) to[i] = gradients.adds ? to[i] + from[i] : from[i];
    };
    const Index width = (std::min)(end * W, in) - begin * W;
    for (Index o = 0; o < taken; ++o)
      put(sums + o * (end - begin) * W, width, gradients.dW + (first + o) * in + begin * W);
    if (has_bias) put(bias, taken, gradients.db + first);
  });
}

// Whether tasks add to the same elements of the gradient of a bias. An axis of length 1 is shared
// only where the call has more of it.
template <class T>
[[nodiscard]] bool do_tasks_share_bias(const AttentionBackwardCall<T>& call) {
  if (call.score.grad_bias == nullptr) return false;
  const bool by_sequences = call.score.bias_strides[0] == 0 && call.shape.B > 1;
  const bool by_heads = call.score.bias_strides[1] == 0 && call.shape.G > 1;
  return by_sequences || by_heads;
}

// The gradient of a bias by the tasks of a round, each by itself.
template <class T>
struct BiasPartials {
  const AttentionBackwardCall<T>& call;
  Index plane_size = call.score.plane_size(call.shape);
  Index planes = call.score.has_plane_per_head() ? call.heads.most(call.shape) : 1;  // of a task
  T* memory = nullptr;

  [[nodiscard]] Index task_size() const { return planes * plane_size; }
  [[nodiscard]] T* of(Index i) const { return memory + i * task_size(); }
};

// Adds those of tasks [tasks.begin, tasks.end), which are partials 0 and on, to the gradient: one
// after the other for each element, whoever adds it.
template <class T>
void add_bias_partials(const BiasPartials<T>& partials, Range tasks, Context& context) {
  constexpr Index chunk = 4096;
  const AttentionBackwardCall<T>& call = partials.call;
  const AttentionShape& shape = call.shape;
  context.parallel_for(blocks_of(partials.plane_size, chunk), [&](Index number) {
    const Index begin = number * chunk, end = (std::min)(begin + chunk, partials.plane_size);
    for (Index task = tasks.begin; task < tasks.end; ++task) {
      const Index b = task / shape.G, g = task % shape.G;
      const BackwardTask<T> partial{b, g, partials.of(task - tasks.begin)}, whole{b, g};
      const Index count = (std::min)(partials.planes, call.heads.count(shape, b, g));
      for (Index i = 0; i < count; ++i) {
        const T* const from = partial.bias_plane(call, i);
        T* const to = whole.bias_plane(call, i);
        for (Index j = begin; j < end; ++j) to[j] += from[j];
      }
    }
  });
}

// A task is a key/value head of a sequence. Where tasks share the gradient of a bias, each has its
// own part of it from zero, and the parts are added from left to right: in rounds of as many tasks
// as there are threads, so that there are no more parts than threads. Neither changes a bit.
template <class T>
void attend_backward(const AttentionBackwardCall<T>& call, Context& context) {
  const BackwardKernels<T> kernels = backward_kernels<T>();
  const AttentionShape& shape = call.shape;
  const Index tasks = shape.B * shape.G, threads = (std::min)(Index{context.threads()}, tasks);
  const Index size = kernels.attend_backward_scratch(shape, call.dropout != nullptr);
  const Frame frame(context);
  T* const scratch = frame.take<T>(threads * size);
  if (!do_tasks_share_bias(call)) {
    context.parallel_for(tasks, [&](Index task, int thread) {
      kernels.attend_backward(call, {task / shape.G, task % shape.G}, scratch + thread * size);
    });
    return;
  }
  BiasPartials<T> partials{call};
  partials.memory = frame.take<T>(threads * partials.task_size());
  for (Index first = 0; first < tasks; first += threads) {
    const Index end = (std::min)(first + threads, tasks);
    context.parallel_for(end - first, [&](Index i, int thread) {
      const Index task = first + i;
      std::fill_n(partials.of(i), partials.task_size(), T(0));
      kernels.attend_backward(call, {task / shape.G, task % shape.G, partials.of(i)},
                              scratch + thread * size);
    });
    add_bias_partials(partials, {first, end}, context);
  }
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
