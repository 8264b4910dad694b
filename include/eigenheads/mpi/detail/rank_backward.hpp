// SPDX-License-Identifier: MIT
#pragma once
// What a rank has of attention's backward pass, as the kernels see it: a call whose matrices have the
// rows that were dealt to the rank, and tasks of it. Everything else is as in one process.
#include <algorithm>
#include <cstddef>
#include <vector>

#include <eigenheads/context.hpp>       // Context
#include <eigenheads/detail/arena.hpp>  // Frame
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/work.hpp>                // product
#include <eigenheads/kernels/schedule/backward.hpp>  // backward_kernels
#include <eigenheads/mpi/dealing.hpp>                // Dealing
#include <eigenheads/mpi/detail/dealt_rows.hpp>      // DealtRows, of_piece
#include <eigenheads/mpi/detail/needed_blocks.hpp>   // NeededBlocks

namespace eigenheads::inline EIGENHEADS_ABI::detail {

template <class T>
struct RankBackward {
  const DealtRows& rows;
  const NeededBlocks& needed;  // of keys
  int rank;
  // Matrices of this rank's rows, one below the other; mask and shape are those of all rows.
  AttentionBackwardCall<T> call;

  // As the kernels see sequence b, with nothing of it here yet.
  [[nodiscard]] AttentionBackwardCall<T> of_sequence(Index b) const {
    AttentionBackwardCall<T> one = call;
    one.shape.B = 1;
    one.shape.Q = call.mask->query_rows().length(b);
    one.shape.K = call.mask->key_rows().length(b);
    one.first_sequence = b;
    return one;
  }
  // With this rank's rows of a block, or a piece, at their places.
  void place_queries(AttentionBackwardCall<T>& one, const mpi::Dealing::Block& piece) const {
    for (auto* matrix : {&one.queries, &one.lse, &one.delta, &one.output, &one.grad_output})
      *matrix = of_piece(*matrix, piece);
    one.grad_queries = of_piece(call.grad_queries, piece);
  }
  void place_keys(AttentionBackwardCall<T>& one, const mpi::Dealing::Block& piece) const {
    for (auto* matrix : {&one.keys, &one.values}) *matrix = of_piece(*matrix, piece);
    for (auto* matrix : {&one.grad_keys, &one.grad_values}) *matrix = of_piece(*matrix, piece);
  }
  // Of a rank that has all rows: the call of one process.
  [[nodiscard]] AttentionBackwardCall<T> whole() const {
    AttentionBackwardCall<T> one = call;
    const auto put = [&](auto& matrix) {
      if (!call.mask->is_packed())
        matrix.sequence_stride = call.mask->query_rows().longest() * matrix.row_stride;
    };
    for (auto* matrix : {&one.queries, &one.keys, &one.values, &one.lse, &one.delta, &one.output,
                         &one.grad_output})
      put(*matrix);
    for (auto* matrix : {&one.grad_queries, &one.grad_keys, &one.grad_values}) put(*matrix);
    return one;
  }
};

// Tasks that run at once, on any number of threads: none adds to what another one adds to.
template <class T>
class RankTasks {
 public:
  RankTasks(const RankBackward<T>& local, const Frame& frame, Context& context)
      : context_(context),
        scratch_size_(
            kernels_.attend_backward_scratch(local.call.shape, local.call.dropout != nullptr)),
        scratch_(frame.take<T>(context.threads() * scratch_size_)),
        work_per_pair_(floats_per<T> *
                       (1.5 * static_cast<double>(local.call.shape.D + local.call.shape.V) +
                        multiply_adds_per_score)) {}

  // What the tasks that are added next are of.
  void set_call(const AttentionBackwardCall<T>& call) { calls_.push_back(call); }
  void add(const BackwardTask<T>& task) {
    tasks_.push_back({calls_.size() - 1, task});
    work_ += work_per_pair_ * product(task.keys.count(), task.blocks.count(), backward_queries);
  }
  void run() {
    run([] {});
  }
  // Calls advance() now and then, by the thread that calls this.
  template <class Advance>
  void run(const Advance& advance) {
    context_.parallel_for(
        std::ssize(tasks_), context_.threads_for(work_), [&](Index i, int thread) {
          const Task& task = tasks_[static_cast<std::size_t>(i)];
          kernels_.attend_backward(calls_[task.call], task.task, scratch_ + thread * scratch_size_);
          if (thread == 0) advance();
        });
    calls_.clear();
    tasks_.clear();
    work_ = 0;
  }

 private:
  struct Task {
    std::size_t call;
    BackwardTask<T> task;
  };

  BackwardKernels<T> kernels_ = backward_kernels<T>();
  Context& context_;
  Index scratch_size_;
  T* scratch_;
  double work_per_pair_, work_ = 0;
  std::vector<AttentionBackwardCall<T>> calls_;
  std::vector<Task> tasks_;
};

// [heads, rows, columns], of which row 0 is row `first` of its sequence.
template <class T>
[[nodiscard]] StridedMatrix<T> placed(T* data, Index rows, Index columns, Index first) {
  return StridedMatrix<T>{data, rows, columns, 0, columns, rows * columns}.of_sequence(-first);
}

// to[h, row] = delta of all queries of the rank: [H, rows].
template <class T>
void find_deltas(const RankBackward<T>& local, Index rows, T* to, Context& context) {
  constexpr Index rows_per_task = 256;
  const BackwardKernels<T> kernels = backward_kernels<T>();
  const AttentionBackwardCall<T>& call = local.call;
  const Index cuts = blocks_of(rows, rows_per_task);
  const auto threads =
      context.threads_for(multiply_adds_per_packed * product(call.shape.H, rows, call.shape.V));
  context.parallel_for(call.shape.H * cuts, threads, [&](Index task) {
    const Index h = task / cuts, first = task % cuts * rows_per_task;
    kernels.find_deltas(call, 0, h, {first, (std::min)(first + rows_per_task, rows)},
                        to + h * rows + first);
  });
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
