// SPDX-License-Identifier: MIT
#pragma once
// Attention to keys that are spread over ranks, each of which has the queries of its own rows. Blocks of
// keys and values come from left to right and are merged into each row as they come, which is what one
// process does with them: the bits are the same, whatever the dealing and the number of ranks.
//   Liu, Zaharia and Abbeel, "Ring Attention with Blockwise Transformers for Near-Infinite Context",
//   2023, sends all keys around a ring and merges them in the order of their coming, which is another
//   one on every rank; here blocks have one order, and go only where they are seen.
// Keys and values travel as rows, and are packed where they arrive: that takes 1 / 300 of the time of
// 2048 rows that attend to them, fewer bytes where a head's size is no multiple of a panel, and ranks
// need not have the same instruction set.
#include <algorithm>
#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include <eigenheads/context.hpp>       // Context
#include <eigenheads/detail/arena.hpp>  // Frame
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/work.hpp>               // product
#include <eigenheads/kernels/chosen.hpp>            // attention_kernels, attention_part_kernels
#include <eigenheads/mpi/block_stream.hpp>          // BlockStream
#include <eigenheads/mpi/detail/dealt_rows.hpp>     // DealtRows, of_piece
#include <eigenheads/mpi/detail/needed_blocks.hpp>  // NeededBlocks
#include <eigenheads/mpi/detail/sent_rows.hpp>      // pack_seen_keys

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// A call of attention of which a rank has a part.
template <class T>
struct DealtCall {
  // Sizes and mask are those of all sequences; queries, output and lse of this rank's rows, heads
  // apart or together; keys and values likewise, and only of its own. No weights.
  AttentionCall<T> attention;
  const DealtRows& rows;
  const NeededBlocks& needed;
  T* const* weights = nullptr;  // [B]: [H, this rank's rows of the sequence, K]; null: none
  // Told, by the thread that calls, how much of this rank's work is done, of 1; null: not asked for.
  const std::function<void(double)>* on_progress = nullptr;
};

// Bytes of a key and its value in all heads, as they travel.
template <class T>
[[nodiscard]] Index key_bytes(const AttentionShape& shape) {
  return shape.G * (shape.D + shape.V) * static_cast<Index>(sizeof(T));
}

// Up to query_block neighbouring rows of one head in one piece.
struct DealtTask {
  RowTask rows;
  Index piece;
  SeenRanges seen;
};

template <class T>
class DealtAttention {
 public:
  DealtAttention(const DealtCall<T>& call, Context& context) : call_(call), context_(context) {
    call_.attention.row_by_row = &context.counters().row_by_row;
    add_pieces();
  }

  // Within a round of the ranks.
  void run(mpi::Ranks& ranks) {
    const std::vector<mpi::BlockStep> steps =
        mpi::steps_of(call_.needed, ranks.rank(), ranks.size());
    const Frame frame(context_);
    const Index bytes = mpi::stream_buffers * mpi::buffer_bytes(steps);
    auto* const buffers = frame.take<std::byte>(bytes);
    states_ = frame.take<T>(std::ssize(tasks_) * state_elements_);
    scratch_ = frame.take<T>(context_.threads() * scratch_elements_);
    packed_ = frame.take<T>(call_.attention.shape.G * packed_elements());
    packed_blocks_.resize(static_cast<std::size_t>(call_.attention.shape.G));
    const AttentionCall<T>& all = call_.attention;
    const auto pack = [&](Index i, std::span<std::byte> to) {
      pack_seen_keys<T>({all.keys, all.values, all.shape.G}, call_.needed, i, to);
    };
    mpi::BlockStream stream(ranks, steps, {buffers, static_cast<std::size_t>(bytes)}, pack);
    stream.run([&](Index i, std::span<const std::byte> block) {
      pack_keys(i, block);
      attend(i, stream);
      if (call_.on_progress != nullptr && *call_.on_progress)
        (*call_.on_progress)(done_ < all_work_ ? done_ / all_work_ : 1.0);
    });
    context_.parallel_for(std::ssize(tasks_), threads_for(call_.rows.count(), 1),
                          [&](Index i, int thread) {
                            const DealtTask& task = tasks_[static_cast<std::size_t>(i)];
                            parts_.end_parts(calls_[static_cast<std::size_t>(task.piece)],
                                             task.rows, memory_of(i, thread));
                          });
  }

 private:
  [[nodiscard]] Index panel(Index columns) const {
    return blocks_of(columns, kernels_.panel_width) * kernels_.panel_width;
  }
  [[nodiscard]] Index key_elements() const { return kernels_.key_block * call_.attention.shape.D; }
  [[nodiscard]] Index packed_elements() const {
    return key_elements() + kernels_.key_block * panel(call_.attention.shape.V);
  }
  [[nodiscard]] PartMemory<T> memory_of(Index task, int thread) const {
    return {states_ + task * state_elements_, scratch_ + thread * scratch_elements_};
  }
  [[nodiscard]] Threads threads_for(Index rows, Index keys) const {
    const AttentionShape& shape = call_.attention.shape;
    return context_.threads_for(floats_per<T> * product(rows, shape.H, keys) *
                                (static_cast<double>(shape.D + shape.V) + multiply_adds_per_score));
  }

  // The call as each piece sees it, and its tasks.
  void add_pieces() {
    const AttentionCall<T>& all = call_.attention;
    const BoundMask& mask = *all.mask;
    const auto pieces = call_.rows.pieces();
    const Index B = mask.query_rows().count();
    first_task_.assign(static_cast<std::size_t>(B) + 1, 0);
    calls_.reserve(pieces.size());
    for (const mpi::Dealing::Block& piece : pieces) {
      AttentionCall<T> one = all;
      one.shape.B = 1;
      one.shape.Q = mask.query_rows().length(piece.b);
      one.shape.K = mask.is_packed() ? mask.keys(piece.b) : all.shape.K;
      one.first_sequence = piece.b;
      one.queries = of_piece(all.queries, piece);
      one.output = of_piece(all.output, piece);
      one.lse = of_piece(all.lse, piece);
      if (call_.weights != nullptr) {
        const Range of_sequence = call_.rows.of_sequence(piece.b);
        one.weights = StridedMatrix<T>::heads_apart(call_.weights[piece.b], of_sequence.count(),
                                                    all.shape.H, one.shape.K)
                          .of_sequence(piece.local - of_sequence.begin - piece.begin);
      }
      add_tasks(one, piece, std::ssize(calls_));
      state_elements_ = (std::max)(state_elements_, parts_.part_state(one));
      scratch_elements_ = (std::max)(scratch_elements_, parts_.part_scratch(one));
      calls_.push_back(one);
    }
    for (const DealtTask& task : tasks_) ++first_task_[static_cast<std::size_t>(task.rows.b) + 1];
    for (std::size_t b = 1; b < first_task_.size(); ++b) first_task_[b] += first_task_[b - 1];
  }
  void add_tasks(const AttentionCall<T>& one, const mpi::Dealing::Block& piece, Index number) {
    for (Index first = piece.begin, count = 0; first < piece.end; first += count) {
      count = (std::min)(query_block, piece.end - first);
      const auto seen = SeenRanges::of(*one.mask, piece.b, {first, first + count});
      const std::size_t tasks_before = tasks_.size();
      for (Index g = 0; g < one.shape.G; ++g)
        for (Index i = 0; i < one.heads.count(call_.attention.shape, piece.b, g); ++i)
          tasks_.push_back({{piece.b, g, i * one.shape.Q + first, count}, number, seen});
      const auto heads = static_cast<Index>(tasks_.size() - tasks_before);  // that take part
      for (Index i = call_.needed.first_block(piece.b); i < call_.needed.end_block(piece.b); ++i)
        if (const Range keys = call_.needed.seen(i);
            call_.on_progress != nullptr && seen.meet(keys))
          all_work_ += product(count, heads, keys.count());
    }
  }

  void pack_keys(Index i, std::span<const std::byte> bytes) {
    const AttentionShape& shape = call_.attention.shape;
    const Index W = kernels_.panel_width, G = shape.G, D = shape.D, V = shape.V;
    const Index begin = call_.needed.seen(i).begin - call_.needed.block(i).begin,
                count = call_.needed.seen(i).count();
    const T* const keys = reinterpret_cast<const T*>(bytes.data());
    const T* const values = keys + G * count * D;
    const auto threads =
        context_.threads_for(floats_per<T> * multiply_adds_per_packed * product(G, count, D + V));
    context_.parallel_for(G, threads, [&](Index g) {
      T* const panels = packed_ + g * packed_elements();
      T* const columns = panels + key_elements();
      kernels_.pack_panels(keys + (g * count - begin) * D, D, {begin, begin + count}, D, panels);
      const bool is_finite = kernels_.pack_columns({.matrix = values + g * count * V,
                                                    .stride = V,
                                                    .rows = count,
                                                    .columns = V,
                                                    .panels = columns + begin * W,
                                                    .panel_stride = kernels_.key_block * W});
      packed_blocks_[static_cast<std::size_t>(g)] = {panels, columns, kernels_.key_block * W,
                                                     is_finite};
    });
  }
  template <class Stream>
  void attend(Index i, Stream& stream) {
    const mpi::Dealing::Block& block = call_.needed.block(i);
    const Range seen = call_.needed.seen(i), keys{block.begin, block.end};
    const Index first = first_task_[static_cast<std::size_t>(block.b)];
    const Index count = first_task_[static_cast<std::size_t>(block.b) + 1] - first;
    Index rows = 0;
    for (Index t = first; t < first + count; ++t)
      if (const DealtTask& task = tasks_[static_cast<std::size_t>(t)]; task.seen.meet(seen))
        rows += task.rows.count;
    const Index heads = (std::max)(call_.attention.shape.H, Index{1});
    done_ += product(rows, seen.count());
    context_.parallel_for(
        count, threads_for(blocks_of(rows, heads), seen.count()), [&](Index t, int thread) {
          const DealtTask& task = tasks_[static_cast<std::size_t>(first + t)];
          if (task.seen.meet(seen))
            parts_.attend_part(calls_[static_cast<std::size_t>(task.piece)], task.rows,
                               {.blocks = &packed_blocks_[static_cast<std::size_t>(task.rows.g)],
                                .dropped = block.begin / kernels_.key_block},
                               keys, memory_of(first + t, thread));
          if (thread == 0) stream.advance();
        });
  }

  DealtCall<T> call_;
  Context& context_;
  const AttentionKernels<T> kernels_ = attention_kernels<T>();
  const AttentionPartKernels<T> parts_ = attention_part_kernels<T>();
  std::vector<AttentionCall<T>> calls_;  // of each piece
  std::vector<DealtTask> tasks_;
  std::vector<Index> first_task_;  // [B + 1]
  Index state_elements_ = 0, scratch_elements_ = 0;
  T *states_ = nullptr, *scratch_ = nullptr, *packed_ = nullptr;
  std::vector<PackedBlock<T>> packed_blocks_;  // [G], of the block at hand
  double done_ = 0, all_work_ = 0;             // pairs of rows of heads and keys
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
