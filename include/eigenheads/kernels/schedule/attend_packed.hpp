// SPDX-License-Identifier: MIT
#pragma once
// Shares the attention of packed sequences out over the threads of a context. A head of a short
// sequence is a task; a sequence of long ones is attended by all threads together, as one by itself.
#include <algorithm>
#include <array>
#include <memory>

#include <eigenheads/context.hpp>       // Context
#include <eigenheads/detail/arena.hpp>  // Frame
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kernels/schedule/attend.hpp>  // attend, AttentionRun

namespace eigenheads::inline EIGENHEADS_ABI::detail {

template <class T>
[[nodiscard]] double work_of(const AttentionCall<T>& one) {
  return attention_work(one, rows_of_head(one));
}

// How many threads a packed call is worth, and which of its sequences they attend together.
struct PackedShares {
  Threads threads;
  double most_of_head = 0;  // work of a head that is a task

  template <class Call>
  [[nodiscard]] static PackedShares of(const Call& call, const Context& context) {
    // A head that is more than this part of what a thread has to do would keep the other threads
    // waiting, if it came last.
    constexpr double part = 1.0 / 16;
    if (context.threads() == 1) return {};
    double all = 0;
    for (Index b = 0; b < call.shape.B; ++b) all += work_of(call_of(call, b));
    const Threads threads = context.threads_for(all);
    return {threads, part * all / threads.most};
  }
  template <class Call>
  [[nodiscard]] bool is_shared(const Call& one, const Context& context) const {
    if (threads.least == 1) return false;
    const double work = work_of(one);
    return work / static_cast<double>(one.shape.G) > most_of_head &&
           context.threads_for(work).least == threads.least;
  }
};

// Sequences of a packed call whose heads are one task each.
template <class T>
class HeadTasks {
 public:
  HeadTasks(const AttentionCall<T>& call, const Frame& frame)
      : call_(call), frame_(frame), sequences_(frame.take<Index>(call.shape.B)) {}

  // What it takes in the frame besides the scratch memory of its tasks.
  static void reserve(Index sequences, int threads, const Frame& frame) {
    static_cast<void>(frame.take<Index>(sequences));
    static_cast<void>(frame.take<PackedBlock<T>>(0));
    static_cast<void>(frame.take<Current>(threads));
  }

  void add(const AttentionCall<T>& one) {
    const AttentionPlan plan = detail::plan(one, Threads{});
    sequences_[count_++] = one.first_sequence;
    task_elements_ = (std::max)(task_elements_, plan.task_elements);
    packed_elements_ = (std::max)(packed_elements_, plan.blocks_at_once * plan.block_elements);
    blocks_ = (std::max)(blocks_, plan.blocks_at_once);
  }

  void run(const Threads& threads, Context& context) {
    const Index G = call_.shape.G;
    std::sort(sequences_, sequences_ + count_, [this](Index b, Index other) {
      return std::array{-pairs_of(b), b} < std::array{-pairs_of(other), other};
    });
    const Index elements = task_elements_ + packed_elements_;
    T* const memory = frame_.take<T>(threads.most * elements);
    auto* const blocks = frame_.take<PackedBlock<T>>(threads.most * blocks_);
    Current* const current = frame_.take<Current>(threads.most);
    std::uninitialized_fill_n(current, threads.most, Current{{}, {}, -1});
    context.parallel_for(count_ * G, threads, [&](Index i, int thread) {
      Current& of = current[thread];
      if (const Index b = sequences_[i / G]; of.b != b) {
        of.call = call_of(call_, b);
        of.plan = plan(of.call, Threads{});
        of.b = b;
      }
      T* const scratch = memory + thread * elements;
      attend_head(of, i % G, scratch,
                  {of.plan, scratch + task_elements_, blocks + thread * blocks_});
    });
  }

 private:
  // The sequence that a thread is at: most of its next tasks are of the same one.
  struct Current {
    AttentionCall<T> call;
    AttentionPlan plan;
    Index b;
  };

  [[nodiscard]] Index pairs_of(Index b) const {
    return call_.mask->query_rows().length(b) * call_.mask->key_rows().length(b);
  }
  static void attend_head(const Current& of, Index g, T* scratch, const PackedMemory<T>& memory) {
    const AttentionRun<T> run{of.call, of.plan, attention_kernels<T>(), scratch};
    if (of.plan.path == AttentionPath::packed_once) {
      attend_whole_head(run, g, memory, 0);
      return;
    }
    for (Index block = 0; block < of.plan.row_blocks; ++block) run.attend_rows(g, block, 0);
  }

  const AttentionCall<T>& call_;
  const Frame& frame_;
  Index* sequences_;  // in run(), the longest first
  Index count_ = 0, task_elements_ = 0, packed_elements_ = 0, blocks_ = 0;
};

template <class T>
void attend_packed(AttentionCall<T> call, Context& context) {
  call.row_by_row = &context.counters().row_by_row;
  if (call.shape.G == 0) return;
  const PackedShares shares = PackedShares::of(call, context);
  const Frame frame(context);
  HeadTasks<T> tasks(call, frame);
  for (Index b = 0; b < call.shape.B; ++b) {
    const AttentionCall<T> one = call_of(call, b);
    if (one.shape.Q == 0) continue;
    if (shares.is_shared(one, context))
      attend(one, context);
    else
      tasks.add(one);
  }
  tasks.run(shares.threads, context);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
