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
#include <eigenheads/mpi/detail/sent_rows.hpp>      // copy_rows

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// Which query heads of a call read which key/value head, and their gates.
template <class T>
struct QueryHeads {
  AttentionShape shape;
  HeadTable heads;
  GateTable<T> gates;

  // In sequence b, of any key/value head.
  [[nodiscard]] Index most(Index b) const {
    Index most = 0;
    for (Index g = 0; g < shape.G; ++g) most = (std::max)(most, heads.count(shape, b, g));
    return most;
  }
  // visit(g, h) for head number i of each group, unless its gate lets nothing through.
  template <class Visit>
  void for_each(Index b, Index i, const Visit& visit) const {
    for (Index g = 0; g < shape.G; ++g) {
      if (i >= heads.count(shape, b, g)) continue;
      const Index h = heads.head(shape, b, g, i);
      if (gates.at(b, h) != 0) visit(g, h);
    }
  }
};

// The plan of the stream (block_stream.hpp): all blocks of rows, once for each query head of a group.
template <class T>
class QueryBlocks {
 public:
  QueryBlocks(const QueryHeads<T>& heads, const NeededBlocks& needed, const mpi::Dealing& dealing)
      : heads_(heads), needed_(needed), ranks_(dealing.ranks()) {
    for (Index b = 0; b < heads.shape.B; ++b)
      for (Index i = 0; i < heads.most(b); ++i) {
        Index count = 0;
        heads.for_each(b, i, [&](Index, Index) { ++count; });
        for (Index block = dealing.first_block(b); count > 0 && block < dealing.end_block(b);
             ++block)
          steps_.push_back({block, i, count});
      }
    needs_.resize(static_cast<std::size_t>(needed.count() * ranks_));
    // owned[i]: how many of the first i blocks of all are the rank's.
    std::vector<Index> owned(static_cast<std::size_t>(needed.count()) + 1);
    for (int rank = 0; rank < ranks_; ++rank) {
      for (Index i = 0; i < needed.count(); ++i)
        owned[static_cast<std::size_t>(i) + 1] =
            owned[static_cast<std::size_t>(i)] + (needed.owner(i) == rank ? 1 : 0);
      for (Index i = 0; i < needed.count(); ++i) {
        const Index b = needed.block(i).b, first = dealing.first_block(b);
        const Index end = dealing.end_block(b), size = dealing.block_size();
        for (const Range& keys : {needed.seen_by(i).before, needed.seen_by(i).keys}) {
          if (keys.count() <= 0) continue;
          const Index from = (std::min)(first + keys.begin / size, end),
                      to = (std::min)(first + blocks_of(keys.end, size), end);
          if (owned[static_cast<std::size_t>(from)] < owned[static_cast<std::size_t>(to)])
            needs_[static_cast<std::size_t>(i * ranks_ + rank)] = true;
        }
      }
    }
  }

  [[nodiscard]] Index count() const { return std::ssize(steps_); }
  [[nodiscard]] int owner(Index n) const { return block(n).owner; }
  [[nodiscard]] Index bytes(Index n) const {
    const Index numbers = heads_.shape.D + heads_.shape.V + 2;
    return block(n).count() * step(n).heads * numbers * Index{sizeof(T)};
  }
  [[nodiscard]] bool needs(Index n, int rank) const {
    return needs_[static_cast<std::size_t>(step(n).block * ranks_ + rank)];
  }

  [[nodiscard]] const mpi::Dealing::Block& block(Index n) const {
    return needed_.block(step(n).block);
  }
  // What the rows see.
  [[nodiscard]] const SeenRanges& seen_by(Index n) const { return needed_.seen_by(step(n).block); }
  // Which head of each group it is.
  [[nodiscard]] Index head(Index n) const { return step(n).head; }
  template <class Visit>
  void for_each_head(Index n, const Visit& visit) const {
    heads_.for_each(block(n).b, head(n), visit);
  }

 private:
  struct Step {
    Index block, head;
    Index heads;  // that are sent
  };
  [[nodiscard]] const Step& step(Index n) const { return steps_[static_cast<std::size_t>(n)]; }

  QueryHeads<T> heads_;
  const NeededBlocks& needed_;
  Index ranks_;
  std::vector<bool> needs_;  // [blocks, ranks]: those that have a key that the rows see
  std::vector<Step> steps_;
};

template <class T>
class KeyGradients {
 public:
  // dK and dV begin with 0.
  KeyGradients(const RankBackward<T>& local, const QueryBlocks<T>& blocks, RankTasks<T>& tasks)
      : local_(local), blocks_(blocks), tasks_(tasks) {
    const AttentionBackwardCall<T>& call = local.call;
    for (Index k = 0; k < local.rows.count(); ++k)
      for (Index g = 0; g < call.shape.G; ++g) {
        std::fill_n(call.grad_keys.at(0, g, k), call.shape.D, T(0));
        std::fill_n(call.grad_values.at(0, g, k), call.shape.V, T(0));
      }
  }

  // By heads: q, dO, lse and delta of the rows.
  void pack(Index n, std::span<std::byte> bytes) const {
    T* to = reinterpret_cast<T*>(bytes.data());
    const AttentionBackwardCall<T>& call = local_.call;
    const mpi::Dealing::Block& block = blocks_.block(n);
    blocks_.for_each_head(n, [&](Index, Index h) {
      for (const auto* matrix : {&call.queries, &call.grad_output, &call.lse, &call.delta})
        to = copy_rows(*matrix, h, {block.local, block.local + block.count()}, to);
    });
  }

  template <class Advance>
  void use(Index n, std::span<const std::byte> bytes, const Advance& advance) {
    const T* from = reinterpret_cast<const T*>(bytes.data());
    const mpi::Dealing::Block& queries = blocks_.block(n);
    const Index rows = queries.count();
    AttentionBackwardCall<T> call = local_.of_sequence(queries.b);
    const Index first = blocks_.head(n) * call.blocks_per_head() + queries.begin / backward_queries;
    const Range blocks{first, first + blocks_of(rows, backward_queries)};
    blocks_.for_each_head(n, [&](Index g, Index) {
      for (auto* matrix : {&call.queries, &call.grad_output, &call.lse, &call.delta}) {
        const Index columns = matrix->head_size;
        *matrix = placed(from, rows, columns, queries.begin);
        matrix->head_stride = 0;  // it is the only one, whatever the call's number of it is
        from += rows * columns;
      }
      add_tasks(call, {.b = queries.b, .g = g, .blocks = blocks, .side = BackwardSide::keys},
                blocks_.seen_by(n));
    });
    tasks_.run(advance);
  }

 private:
  // Keys that a task adds to. Each packs the queries anew.
  static constexpr Index keys_per_task = 8 * backward_keys;

  void add_tasks(const AttentionBackwardCall<T>& call, BackwardTask<T> task,
                 const SeenRanges& seen) {
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
  const QueryBlocks<T>& blocks_;
  RankTasks<T>& tasks_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
