// SPDX-License-Identifier: MIT
#pragma once
// The attention of a step over a cache that is spread over ranks (spread_step.hpp).
#include <algorithm>
#include <array>
#include <limits>
#include <span>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kernels/schedule/plan.hpp>  // SeenBlocks
#include <eigenheads/layer/step.hpp>             // AttentionCall, Context
#include <eigenheads/mpi/spread_cache.hpp>       // SpreadCache

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// Up to query_block rows of one key/value head, merged by one rank.
struct SpreadTask {
  RowTask rows;
  SeenBlocks blocks;  // of its sequence
  int merger;
};

// Attention of a step. What lies in the output afterwards is all heads of all tokens, on all ranks.
template <class T>
class SpreadAttention {
 public:
  SpreadAttention(const AttentionCall<T>& call, mpi::SpreadCache<T>& cache, mpi::Ranks& ranks,
                  Context& context)
      : call_(call), cache_(cache), ranks_(ranks), context_(context) {
    call_.row_by_row = &context.counters().row_by_row;
    const Index Q = call.shape.Q;
    for (Index b = 0; b < call.shape.B; ++b)
      for (Index g = 0; g < call.shape.G; ++g)
        for (Index first = 0, all = call.heads.count(call.shape, b, g) * Q; first < all;
             first += query_block)
          tasks_.push_back({{b, g, first, (std::min)(query_block, all - first)},
                            SeenBlocks::of(*call.mask, b, kernels_.key_block),
                            static_cast<int>(std::ssize(tasks_) % ranks.size())});
  }

  // Some tasks at a time: as many as it takes for their partial results to come to this together, so
  // that those of all but the last of them take less.
  void run() {
    constexpr Index enough_bytes = Index{64} << 20;
    for (std::size_t first = 0, last = 0; first < tasks_.size(); first = last) {
      Index bytes = 0;
      do {
        const SpreadTask& task = tasks_[last];
        bytes += elements_of(task) * task.blocks.count * static_cast<Index>(sizeof(T));
      } while (++last < tasks_.size() && bytes < enough_bytes);
      attend({tasks_.data() + first, last - first});
    }
    share_heads();
  }

 private:
  using Tasks = std::span<const SpreadTask>;

  [[nodiscard]] Index elements_of(const SpreadTask& task) const {
    return task.rows.count * (2 + call_.shape.V);
  }
  // Whether anybody sees a key of a block: else its result is nothing, and nobody sends it.
  [[nodiscard]] bool is_seen(const SpreadTask& task, Index block) const {
    const Index begin = block * kernels_.key_block;
    return call_.mask->seen_keys(task.rows.b, {begin, begin + kernels_.key_block}).count() > 0;
  }
  // visit(task, block) for what rank `from` sends to rank `to`, in the order of the message.
  template <class Visit>
  void for_each_result(Tasks tasks, int from, int to, const Visit& visit) const {
    for (const SpreadTask& task : tasks)
      for (Index i = 0; task.merger == to && i < task.blocks.count; ++i)
        if (const Index block = task.blocks.first + i;
            cache_.owner(task.rows.b, block) == from && is_seen(task, block))
          visit(task, block);
  }

  struct Piece {
    const SpreadTask* task;
    Index block;
    T* result;
  };

  void attend(Tasks tasks) {
    const Frame frame(context_);
    std::vector<Piece> mine, others;  // results that this rank computes, and those that it merges
    const auto place = [&](int from, int to, std::vector<Piece>& pieces) {
      Index elements = 0;
      const std::size_t first = pieces.size();
      for_each_result(tasks, from, to, [&](const SpreadTask& task, Index block) {
        pieces.push_back({&task, block, nullptr});
        elements += elements_of(task);
      });
      T* const memory = frame.take<T>(elements);
      T* next = memory;
      for (std::size_t i = first; i < pieces.size(); ++i) {
        pieces[i].result = next;
        next += elements_of(*pieces[i].task);
      }
      return std::span<T>(memory, static_cast<std::size_t>(elements));
    };
    const int me = ranks_.rank(), count = ranks_.size();
    std::vector<std::span<T>> out, in;
    for (int r = 0; r < count; ++r) out.push_back(place(me, r, mine));
    for (int r = 0; r < count; ++r) in.push_back(r == me ? std::span<T>() : place(r, me, others));

    std::vector<mpi::Ranks::Pending> pending;
    for (int r = 0; r < count; ++r)
      if (r != me) pending.push_back(ranks_.receive(r, std::as_writable_bytes(in[at(r)])));
    compute(mine, frame);
    for (int r = 0; r < count; ++r)
      if (r != me) pending.push_back(ranks_.send(r, std::as_bytes(out[at(r)])));
    ranks_.wait(pending);

    for (const Piece& piece : mine)
      if (piece.task->merger == me) others.push_back(piece);
    merge(tasks, others, frame);
  }
  [[nodiscard]] static std::size_t at(int rank) { return static_cast<std::size_t>(rank); }

  // Each piece by itself: m, l and O of its rows, without what pads them.
  void compute(std::span<const Piece> pieces, const Frame& frame) {
    const Index scratch_elements = kernels_.attend_scratch(call_, false);
    const Index partial = kernels_.partial_size(call_.shape), heads = call_.shape.B * call_.shape.G;
    T* const scratch = frame.take<T>(context_.threads() * (scratch_elements + partial));
    auto* const cached = frame.take<PackedHead<T>>(context_.threads() * heads);
    Index rows = 0;
    for (const Piece& piece : pieces) rows += piece.task->rows.count;
    const auto threads = context_.threads_for(
        floats_per<T> * product(rows, kernels_.key_block, call_.shape.D + call_.shape.V));
    context_.parallel_for(std::ssize(pieces), threads, [&](Index i, int thread) {
      const Piece& piece = pieces[static_cast<std::size_t>(i)];
      const RowTask& task = piece.task->rows;
      const Index head = task.b * call_.shape.G + task.g;
      PackedHead<T> packed = cache_.heads().heads()[head];
      packed.blocks += cache_.place_here(piece.block) * packed.stride;
      packed.dropped = piece.block;
      AttentionCall<T> one = call_;
      one.cached = cached + thread * heads;
      cached[thread * heads + head] = packed;
      T* const memory = scratch + thread * (scratch_elements + partial);
      kernels_.attend_block_alone(one, task, piece.block, memory + scratch_elements, memory);
      const T* const from = memory + scratch_elements;
      T* to = std::copy_n(from, task.count, piece.result);
      to = std::copy_n(from + query_block, task.count, to);
      for (Index row = 0; row < task.count; ++row)
        to = std::copy_n(from + 2 * query_block + row * padded_columns(), call_.shape.V, to);
      if (thread == 0) ranks_.progress();
    });
  }
  [[nodiscard]] Index padded_columns() const {
    return blocks_of(call_.shape.V, kernels_.panel_width) * kernels_.panel_width;
  }

  // The tasks of this rank, whose pieces are all there.
  void merge(Tasks tasks, std::vector<Piece>& pieces, const Frame& frame) {
    std::sort(pieces.begin(), pieces.end(), [](const Piece& a, const Piece& b) {
      return a.task != b.task ? a.task < b.task : a.block < b.block;
    });
    Index most = 0;
    for (const SpreadTask& task : tasks) most = (std::max)(most, task.blocks.count);
    const Index size = kernels_.partial_size(call_.shape);
    const Index scratch_elements = kernels_.attend_scratch(call_, true);
    T* const memory = frame.take<T>(most * size + scratch_elements);
    auto next = pieces.begin();
    for (const SpreadTask& task : tasks) {
      if (task.merger != ranks_.rank()) continue;
      for (Index i = 0; i < task.blocks.count; ++i) {
        T* const partial = memory + i * size;
        const bool is_there =
            next != pieces.end() && next->task == &task && next->block == task.blocks.first + i;
        unpack(task, is_there ? (next++)->result : nullptr, partial);
      }
      kernels_.merge_blocks(call_, task.rows, memory, memory + most * size);
    }
  }
  // Null: of a block of which no key is seen.
  void unpack(const SpreadTask& task, const T* result, T* partial) const {
    const Index count = task.rows.count, V = call_.shape.V;
    std::fill_n(partial, query_block, std::numeric_limits<T>::lowest());
    std::fill_n(partial + query_block, query_block, T(0));
    T* const output = partial + 2 * query_block;
    std::fill_n(output, count * padded_columns(), T(0));
    if (result == nullptr) return;
    std::copy_n(result, count, partial);
    std::copy_n(result + count, count, partial + query_block);
    for (Index row = 0; row < count; ++row)
      std::copy_n(result + 2 * count + row * V, V, output + row * padded_columns());
  }

  // All ranks get the rows that each has merged.
  void share_heads() {
    const Index V = call_.shape.V;
    std::vector<Index> counts(at(ranks_.size()));
    for (const SpreadTask& task : tasks_) counts[at(task.merger)] += task.rows.count * V;
    std::vector<Index> next(counts.size());
    Index all = 0;
    for (std::size_t r = 0; r < counts.size(); ++r) {
      next[r] = all;
      all += counts[r];
    }
    const Frame frame(context_);
    T* const rows = frame.take<T>(all);
    const auto for_each = [&](const auto& copy, int only) {
      std::vector<Index> from = next;
      for (const SpreadTask& task : tasks_)
        for (Index row = 0; row < task.rows.count; ++row, from[at(task.merger)] += V)
          if (only < 0 || task.merger == only)
            copy(rows + from[at(task.merger)],
                 call_.output.at(task.rows.b, task.rows.head(call_, row),
                                 task.rows.query(call_.shape, row)));
    };
    const int me = ranks_.rank();
    for_each([&](T* to, const T* from) { std::copy_n(from, V, to); }, me);
    ranks_.all_gather(std::span<const T>(rows + next[at(me)], at(static_cast<int>(counts[at(me)]))),
                      std::span<const Index>(counts),
                      std::span<T>(rows, static_cast<std::size_t>(all)));
    for_each([&](const T* from, T* to) { std::copy_n(from, V, to); }, -1);
  }

  AttentionCall<T> call_;
  mpi::SpreadCache<T>& cache_;
  mpi::Ranks& ranks_;
  Context& context_;
  const AttentionKernels<T> kernels_ = attention_kernels<T>();
  std::vector<SpreadTask> tasks_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
