// SPDX-License-Identifier: MIT
#pragma once
// dK and dV of a rank's keys: queries pass them, with what their gradients are made of, in the order in
// which one process adds them up: those of the first query head of every group, from left to right,
// then those of the second, and so on.
#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/mpi/detail/rank_backward.hpp>  // RankBackward, RankTasks

namespace eigenheads::inline EIGENHEADS_ABI::detail {

template <class T>
class KeyGradients {
 public:
  KeyGradients(const RankBackward<T>& local, RankTasks<T>& tasks)
      : local_(local), tasks_(tasks), ranks_(dealing().ranks()) {
    find_needs();
    const AttentionBackwardCall<T>& call = local.call;
    for (Index b = 0; b < call.shape.B; ++b)
      for (Index i = 0, slots = 0; i < most_heads(b); ++i) {
        slots = 0;
        for_each_slot(b, i, [&](Index, Index) { ++slots; });
        for (Index block = dealing().first_block(b); slots > 0 && block < dealing().end_block(b);
             ++block)
          steps_.push_back({block, i, slots});
      }
    for (const mpi::Dealing::Block& piece : local.rows.pieces())
      for (Index g = 0; g < call.shape.G; ++g)
        for (Index k = piece.local; k < piece.local + piece.count(); ++k) {
          std::fill_n(call.grad_keys.at(0, g, k), call.shape.D, T(0));
          std::fill_n(call.grad_values.at(0, g, k), call.shape.V, T(0));
        }
  }

  // ---- The plan: blocks of queries, once for each query head of a group ----

  [[nodiscard]] Index count() const { return std::ssize(steps_); }
  [[nodiscard]] int owner(Index n) const { return block(n).owner; }
  [[nodiscard]] Index bytes(Index n) const {
    const auto& shape = local_.call.shape;
    return block(n).count() * step(n).slots * (shape.D + shape.V + 2) * Index{sizeof(T)};
  }
  [[nodiscard]] bool needs(Index n, int rank) const {
    return needs_[static_cast<std::size_t>(step(n).block * ranks_ + rank)];
  }

  // By heads: q, dO, lse and delta of the rows.
  void pack(Index n, std::span<std::byte> bytes) const {
    T* to = reinterpret_cast<T*>(bytes.data());
    const AttentionBackwardCall<T>& call = local_.call;
    for_each_slot(block(n).b, step(n).head, [&](Index, Index h) {
      for (const auto* matrix : {&call.queries, &call.grad_output, &call.lse, &call.delta})
        to = copy_rows(*matrix, h, {block(n).local, block(n).local + block(n).count()}, to);
    });
  }

  void use(Index n, std::span<const std::byte> bytes) {
    const T* from = reinterpret_cast<const T*>(bytes.data());
    const mpi::Dealing::Block& queries = block(n);
    const Index rows = queries.count();
    AttentionBackwardCall<T> call = local_.of_sequence(queries.b);
    const Index first = step(n).head * call.blocks_per_head() + queries.begin / backward_queries;
    const Range blocks{first, first + blocks_of(rows, backward_queries)};
    for_each_slot(queries.b, step(n).head, [&](Index g, Index) {
      // The message has one head: the same whatever the call's number of it is.
      for (auto* matrix : {&call.queries, &call.grad_output, &call.lse, &call.delta}) {
        const Index columns = matrix->head_size;
        *matrix = placed(from, rows, columns, queries.begin);
        matrix->head_stride = 0;
        from += rows * columns;
      }
      add_tasks(n, call, {.b = queries.b, .g = g, .blocks = blocks, .side = BackwardSide::keys});
    });
    tasks_.run();
  }

 private:
  struct Step {
    Index block;  // of the queries' dealing
    Index head;   // of each group of query heads
    Index slots;  // heads that are sent
  };

  // Keys that a task adds to. Each packs the queries anew.
  static constexpr Index keys_per_task = 8 * backward_keys;

  [[nodiscard]] const Step& step(Index n) const { return steps_[static_cast<std::size_t>(n)]; }
  [[nodiscard]] const mpi::Dealing::Block& block(Index n) const {
    return local_.needed.block(step(n).block);
  }
  [[nodiscard]] const mpi::Dealing& dealing() const { return local_.rows.dealing(); }

  // Which ranks have a key that queries of a block see.
  void find_needs() {
    const NeededBlocks& needed = local_.needed;
    needs_.resize(static_cast<std::size_t>(needed.count() * ranks_));
    for (Index i = 0; i < needed.count(); ++i) {
      const Index b = needed.block(i).b, first = dealing().first_block(b);
      const Index end = dealing().end_block(b), size = dealing().block_size();
      for (const Range& keys : {needed.seen_by(i).before, needed.seen_by(i).keys})
        for (Index j = first + keys.begin / size;
             keys.count() > 0 && j < (std::min)(first + blocks_of(keys.end, size), end); ++j)
          needs_[static_cast<std::size_t>(i * ranks_ + needed.owner(j))] = true;
    }
  }
  [[nodiscard]] Index most_heads(Index b) const {
    Index most = 0;
    for (Index g = 0; g < local_.call.shape.G; ++g)
      most = (std::max)(most, local_.call.heads.count(local_.call.shape, b, g));
    return most;
  }
  // visit(g, h) for head number i of each group, unless its gate lets nothing through.
  template <class Visit>
  void for_each_slot(Index b, Index i, const Visit& visit) const {
    const AttentionBackwardCall<T>& call = local_.call;
    for (Index g = 0; g < call.shape.G; ++g) {
      if (i >= call.heads.count(call.shape, b, g)) continue;
      const Index h = call.heads.head(call.shape, b, g, i);
      if (call.gates.at(b, h) != 0) visit(g, h);
    }
  }

  void add_tasks(Index n, const AttentionBackwardCall<T>& call, BackwardTask<T> task) {
    const SeenRanges& seen = local_.needed.seen_by(step(n).block);
    for (const mpi::Dealing::Block& piece : local_.rows.pieces()) {
      if (piece.b != task.b || !seen.meet({piece.begin, piece.end})) continue;
      AttentionBackwardCall<T> of_piece = call;
      local_.place_keys(of_piece, piece);
      tasks_.set_call(of_piece);
      for (Index k = piece.begin; k < piece.end; k = task.keys.end) {
        task.keys = {k, (std::min)(k / backward_keys * backward_keys + keys_per_task, piece.end)};
        if (seen.meet(task.keys)) tasks_.add(task);
      }
    }
  }

  const RankBackward<T>& local_;
  RankTasks<T>& tasks_;
  Index ranks_;
  std::vector<bool> needs_;  // [blocks, ranks]
  std::vector<Step> steps_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
