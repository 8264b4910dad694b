// SPDX-License-Identifier: MIT
#pragma once
// Shares the backward pass of a projection and of attention out over the threads of a context. No
// two tasks that run at the same time add to the same number: any number of threads gives the same
// bits.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <iterator>
#include <memory>
#include <span>

#include <eigenheads/context.hpp>            // Context
#include <eigenheads/detail/arena.hpp>       // Frame
#include <eigenheads/detail/float_bits.hpp>  // is_zero
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>             // Range, blocks_of
#include <eigenheads/detail/work.hpp>               // projection_work, product
#include <eigenheads/kernels/chosen.hpp>            // backward_kernels
#include <eigenheads/kernels/schedule/project.hpp>  // project, cuts_for

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// A projection that was made, y = x W^T + b, and the gradient of what it gave.
template <class T>
struct Projected {
  Panels<const T> weight;  // W, [out, in]
  SequenceRows rows;
  const T *x, *dy;  // [rows, in], [rows, out]
};

// Rows of dy that are not 0. What the rows of x hold for the others makes no difference.
struct KeptRows {
  std::span<const Index> rows;
  std::span<const Range> ranges;
};
template <class T>
[[nodiscard]] KeptRows keep_rows(const Projected<T>& y, const Frame& frame) {
  const Index all = y.rows.total(), out = y.weight.rows;
  Index* const rows = frame.take<Index>(all);
  auto* const ranges = frame.take<Range>(all);
  std::size_t count = 0, range_count = 0;
  for (Index row = 0; row < all; ++row) {
    const T* values = y.dy + row * out;
    if (std::all_of(values, values + out, [](const T& value) { return is_zero(value); })) continue;
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
  const auto threads = context.threads_for(projection_work<T>(0, in, out));
  context.parallel_for(panel_count, threads, [&](Index panel) {
    kernels.transpose_panels(y.weight, {panel, panel + 1}, across);
  });
  const Index rows = y.rows.total();
  T* const to = adds ? frame.take<T>(rows * in) : dx;
  if (total(kept.rows) < rows) std::fill_n(to, rows * in, T(0));
  const Range all_inputs{0, in};
  const ProjectCall<T> call{.x = y.dy,
                            .weight = {across, in, out, W},
                            .bias = nullptr,
                            .y = StridedMatrix<T>::plain(to, rows, in)};
  project(call, {kept.rows, kept.inputs, {&all_inputs, 1}}, context);
  for (Index i = 0; adds && i < rows * in; ++i) dx[i] += to[i];
}

// Where the gradients of a weight and a bias go; db is null for a projection without one.
template <class T>
struct ParameterGradients {
  T *dW, *db;  // [out, in], [out]
  bool adds;
  bool goes_on = false;  // sums begin with what is there, those of the rows before
};

// Where blocks of the rows end among those that are kept. Rows are counted in their sequence: one
// that is left out moves no other into another block.
template <class T>
[[nodiscard]] std::span<const Index> end_blocks(const Projected<T>& y, std::span<const Index> rows,
                                                const Frame& frame) {
  Index* const ends = frame.take<Index>(std::ssize(rows));
  std::size_t count = 0;
  Index block_end = 0;  // the first row after the current one
  for (std::size_t r = 0; r < rows.size(); ++r) {
    if (rows[r] >= block_end) {
      const Index b = y.rows.sequence_of(rows[r]), end = y.rows.begin(b + 1);
      const Index block = (rows[r] - y.rows.begin(b)) / gradient_rows;
      block_end = (std::min)(end, y.rows.begin(b) + (block + 1) * gradient_rows);
      ++count;
    }
    ends[count - 1] = static_cast<Index>(r + 1);
  }
  return {ends, count};
}

// The rows that the gradients of parameters are made of: which they are, where blocks of them end, and
// those of x in panels of columns.
template <class T>
struct PackedGradientRows {
  std::span<const Index> rows, ends;
  const T* columns;  // [in / W][rows][W]
};
template <class T>
[[nodiscard]] PackedGradientRows<T> pack_gradient_rows(const Projected<T>& y,
                                                       std::span<const Index> rows,
                                                       const Frame& frame, Context& context) {
  const BackwardKernels<T> kernels = backward_kernels<T>();
  const Index in = y.weight.columns, W = kernels.panel_width, count = std::ssize(rows);
  const auto row = [&](Index r) { return rows[static_cast<std::size_t>(r)]; };
  const std::span<const Index> ends = end_blocks(y, rows, frame);
  T* const columns = frame.take<T>(blocks_of(in, W) * W * count);
  const auto threads = context.threads_for(projection_work<T>(count, in, y.weight.rows));
  constexpr Index rows_per_task = 64;
  context.parallel_for(blocks_of(count, rows_per_task), threads, [&](Index task) {
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
  return {rows, ends, columns};
}

// Those of `outputs`: rows of dW, and elements of db.
template <class T>
void parameter_gradients(const Projected<T>& y, const PackedGradientRows<T>& packed, Range outputs,
                         const ParameterGradients<T>& gradients, Context& context) {
  const BackwardKernels<T> kernels = backward_kernels<T>();
  const Index in = y.weight.columns, out = y.weight.rows, W = kernels.panel_width;
  const Index panel_count = blocks_of(in, W), count = std::ssize(packed.rows);
  const auto threads = context.threads_for(projection_work<T>(count, in, outputs.count()));
  constexpr Index tasks_per_thread = 4;  // each gathers its rows of dy anew
  const Index outputs_per_task = kernels.gradient_outputs;
  const Index blocks = blocks_of(outputs.count(), outputs_per_task);
  const Index cuts = cuts_for(blocks, panel_count, threads.most, tasks_per_thread);
  const Index block_size = gradient_rows * outputs_per_task;
  const Index size = block_size + outputs_per_task * (blocks_of(panel_count, cuts) * W + 1);
  const Frame frame(context);
  T* const scratch = frame.take<T>(threads.most * size);
  context.parallel_for(blocks * cuts, threads, [&](Index task, int thread) {
    const Index first = outputs.begin + task / cuts * outputs_per_task;
    const Index taken = (std::min)(outputs_per_task, outputs.end - first);
    const Index begin = panel_count * (task % cuts) / cuts;
    const Index end = panel_count * (task % cuts + 1) / cuts;
    T* const block = scratch + thread * size;
    T *const bias = block + block_size, *const sums = bias + outputs_per_task;
    const bool has_bias = gradients.db != nullptr && task % cuts == 0;
    const Index columns_taken = (end - begin) * W, width = (std::min)(end * W, in) - begin * W;
    T* const to = gradients.dW + first * in + begin * W;
    // Whole panels are summed where they belong (1 % of a layer's training step, 3 % of it on two
    // threads); a narrower one would reach into the next row.
    const bool is_in_place = !gradients.adds && width == columns_taken && count > 0;
    std::fill_n(bias, outputs_per_task, T(0));
    if (!is_in_place) std::fill_n(sums, taken * columns_taken, T(0));
    // visit(sums of the task, how many, where they go)
    const auto for_each_sum = [&](const auto& visit) {
      for (Index o = 0; !is_in_place && o < taken; ++o)
        visit(sums + o * columns_taken, width, to + o * in);
      if (has_bias) visit(bias, taken, gradients.db + first);
    };
    if (gradients.goes_on)
      for_each_sum([](T* sum, Index n, const T* from) { std::copy_n(from, n, sum); });
    kernels.weight_gradient({.dy = y.dy,
                             .dy_stride = out,
                             .rows = packed.rows,
                             .ends = packed.ends,
                             .x = packed.columns,
                             .outputs = {first, first + taken},
                             .panels = {begin, end},
                             .sums = is_in_place ? to : sums,
                             .sums_stride = is_in_place ? in : columns_taken,
                             .goes_on = !is_in_place || gradients.goes_on,
                             .bias = has_bias ? bias : nullptr},
                            block);
    for_each_sum([&](const T* sum, Index n, T* to_sum) {
      for (Index i = 0; i < n; ++i) to_sum[i] = gradients.adds ? to_sum[i] + sum[i] : sum[i];
    });
  });
}

// dW = dy^T x, db = sum of the rows of dy; or added to what is there.
template <class T>
void parameter_gradients(const Projected<T>& y, std::span<const Index> rows,
                         const ParameterGradients<T>& gradients, Context& context) {
  const Frame frame(context);
  const PackedGradientRows<T> packed = pack_gradient_rows(y, rows, frame, context);
  parameter_gradients(y, packed, {0, y.weight.rows}, gradients, context);
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

// The gradient of a bias by the heads of a round, each by itself.
template <class T>
struct BiasPartials {
  const AttentionBackwardCall<T>& call;
  Index plane_size = call.score.bias_plane_size;
  Index planes = call.score.has_plane_per_head() ? call.most_heads() : 1;  // of a head
  T* memory = nullptr;

  [[nodiscard]] Index head_size() const { return planes * plane_size; }
  [[nodiscard]] T* of(Index i) const {
    return memory == nullptr ? nullptr : memory + i * head_size();
  }
};

// Adds those of heads [heads.begin, heads.end), which are partials 0 and on, to the gradient: one
// after the other for each element, whoever adds it.
template <class T>
void add_bias_partials(const BiasPartials<T>& partials, Range heads, Context& context) {
  constexpr Index chunk = 4096;
  const AttentionBackwardCall<T>& call = partials.call;
  const AttentionShape& shape = call.shape;
  context.parallel_for(blocks_of(partials.plane_size, chunk), [&](Index number) {
    const Index begin = number * chunk, end = (std::min)(begin + chunk, partials.plane_size);
    for (Index head = heads.begin; head < heads.end; ++head) {
      const Index b = call.first_sequence + head / shape.G, g = head % shape.G;
      const BackwardTask<T> partial{.b = b, .g = g, .bias_planes = partials.of(head - heads.begin)};
      const BackwardTask<T> whole{.b = b, .g = g};
      const Index count = (std::min)(partials.planes, call.heads.count(shape, b, g));
      for (Index i = 0; i < count; ++i) {
        const T* const from = partial.bias_plane(call, i);
        T* const to = whole.bias_plane(call, i);
        for (Index j = begin; j < end; ++j) to[j] += from[j];
      }
    }
  });
}

// Into how many ranges of keys each key/value head is cut: 1 where heads are enough to keep all
// threads busy, for each range packs a block of queries anew. Else more than threads: under a causal
// mask, the first blocks of queries see the first range alone, and have one thread to work on them.
// One causal head of 4096 keys on two threads: 1.72 times as fast as on one with 4 ranges, 1.88 times
// with 8.
template <class T>
[[nodiscard]] Index ranges_of_keys(const AttentionBackwardCall<T>& call, int threads) {
  constexpr Index ranges_per_thread = 4, least_blocks = 2;
  const Index heads = call.shape.B * call.shape.G, rounds = blocks_of(heads, threads);
  if (10 * heads >= 9 * rounds * threads) return 1;
  // Elements that all keys share are added to in the order of the keys.
  if (call.score.grad_bias != nullptr && call.score.bias_strides[3] == 0) return 1;
  const Index most = blocks_of(call.shape.K, backward_keys) / least_blocks;
  return (std::clamp)(ranges_per_thread * threads, Index{1}, (std::max)(most, Index{1}));
}

// The tasks of one round of key/value heads.
template <class T>
class CutHeads {
 public:
  // heads: as many as are worked on at once; ranges: of keys, 1 if heads are not cut.
  CutHeads(const AttentionBackwardCall<T>& call, Index heads, Index ranges, const Frame& frame)
      : call_(call),
        ranges_(ranges),
        blocks_((std::max)(call.most_heads() * call.blocks_per_head(), Index{1})) {
    if (ranges == 1) return;
    sums_size_ = backward_kernels<T>().shared_sums(call);
    sums_ = frame.take<T>(heads * sums_size_);
    of_heads_ = frame.take<HeadSums>(heads);
    done_ = frame.take<std::atomic<Index>>(heads * ranges);
  }

  [[nodiscard]] Index tasks_per_head() const {
    return ranges_ == 1 ? 1 : (blocks_ + ranges_ - 1) * ranges_;
  }
  void start(Index heads) {
    if (ranges_ > 1) std::uninitialized_value_construct_n(done_, heads * ranges_);
  }

  // run(task) for task `number` of the head that is number i of the round. Tasks come in diagonals of
  // ranges and blocks: each stands one diagonal behind the two that it waits for.
  template <class Run>
  void run(BackwardTask<T> task, Index i, Index number, const Run& run) const {
    const Index all = call_.heads.count(call_.shape, task.b, task.g) * call_.blocks_per_head();
    if (ranges_ == 1) {
      task.keys = {0, call_.shape.K};
      task.blocks = {0, all};
      run(task);
      return;
    }
    const Index range = number % ranges_, block = number / ranges_ - range;
    if (block < 0 || block >= (std::max)(all, Index{1})) return;
    task.keys = {range_begin(range), range_begin(range + 1)};
    task.blocks = {block, (std::min)(block + 1, all)};
    task.cut = {.done = done_ + i * ranges_,
                .of_head = of_heads_ + i,
                .sums = sums_ + i * sums_size_,
                .range = range};
    // A score function that throws keeps nobody waiting.
    const struct Ending {
      std::atomic<Index>& done;
      Index blocks;
      ~Ending() { done.store(blocks, std::memory_order_release); }
    } ending{task.cut.done[range], block + 1};
    run(task);
  }

 private:
  [[nodiscard]] Index range_begin(Index range) const {
    const Index K = call_.shape.K;
    return (std::min)(blocks_of(K, backward_keys) * range / ranges_ * backward_keys, K);
  }

  const AttentionBackwardCall<T>& call_;
  Index ranges_, blocks_, sums_size_ = 0;
  T* sums_ = nullptr;
  HeadSums* of_heads_ = nullptr;
  std::atomic<Index>* done_ = nullptr;
};

// Five products where the forward pass has two.
template <class T>
[[nodiscard]] double work_of(const AttentionBackwardCall<T>& call) {
  const AttentionShape& shape = call.shape;
  const double width = 2.5 * static_cast<double>(shape.D + shape.V) + multiply_adds_per_score;
  return floats_per<T> * width * product(shape.B, shape.H, shape.Q, shape.K);
}

// run(heads) for all heads, in rounds of so many. Where they share the gradient of a bias, each has its
// own part of it from zero, and the parts are added from left to right.
template <class T, class Run>
void in_rounds(const BiasPartials<T>& partials, Index heads, Index round, const Run& run,
               Context& context) {
  const bool shares_bias = partials.memory != nullptr;
  for (Index first = 0; first < heads; first += round) {
    const Range these{first, (std::min)(first + round, heads)};
    if (shares_bias)
      context.parallel_for(
          these.count(), [&](Index i) { std::fill_n(partials.of(i), partials.head_size(), T(0)); });
    run(these);
    if (shares_bias) add_bias_partials(partials, these, context);
  }
}

// A task is a key/value head of a sequence, or, where those are too few for all threads, a range of
// its keys and a block of queries. Where heads share the gradient of a bias, a round is of as many as
// there are threads, so that there are no more parts than threads. None of this changes a bit.
template <class T>
void attend_backward(const AttentionBackwardCall<T>& call, Context& context) {
  const BackwardKernels<T> kernels = backward_kernels<T>();
  const AttentionShape& shape = call.shape;
  const Index heads = shape.B * shape.G;
  const auto threads = context.threads_for(work_of(call));
  const Frame frame(context);
  BiasPartials<T> partials{call};
  const bool shares_bias = do_tasks_share_bias(call);
  const Index round = shares_bias ? (std::min)(Index{threads.most}, heads) : heads;
  if (shares_bias) partials.memory = frame.take<T>(round * partials.head_size());
  CutHeads<T> cut(call, round, ranges_of_keys(call, threads.most), frame);
  const Index tasks = cut.tasks_per_head();
  const Index size = kernels.attend_backward_scratch(shape, call.dropout != nullptr);
  T* const scratch = frame.take<T>((std::min)(Index{threads.most}, round * tasks) * size);
  const auto run = [&](Range these) {
    cut.start(these.count());
    context.parallel_for(these.count() * tasks, threads, [&](Index number, int thread) {
      const Index i = number / tasks, head = these.begin + i;
      cut.run({.b = call.first_sequence + head / shape.G,
               .g = head % shape.G,
               .bias_planes = partials.of(i)},
              i, number % tasks, [&](const BackwardTask<T>& task) {
                kernels.attend_backward(call, task, scratch + thread * size);
              });
    });
  };
  in_rounds(partials, heads, round, run, context);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
