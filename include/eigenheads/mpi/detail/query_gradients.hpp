// SPDX-License-Identifier: MIT
#pragma once
// dQ of a rank's queries: keys and values pass them from left to right, block after block
// (block_stream.hpp), and what they add has the order of one process.
//
// Blocks of rows are not multiples of the blocks of keys that dQ is a sum of: keys after the last
// multiple wait here for the next block of rows. So do keys that are few: each time, queries are packed
// anew.
#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/mpi/detail/rank_backward.hpp>  // RankBackward, RankTasks
#include <eigenheads/mpi/detail/sent_rows.hpp>      // pack_seen_keys

namespace eigenheads::inline EIGENHEADS_ABI::detail {

template <class T>
class QueryGradients {
 public:
  QueryGradients(const RankBackward<T>& local, RankTasks<T>& tasks, const Frame& frame)
      : local_(local), tasks_(tasks) {
    const auto [B, H, G, Q, K, D, V] = local.call.shape;
    AttentionBackwardCall<T> one_block = local.call;
    one_block.shape = {1, 1, 1, 1, 1, D, V};
    one_block.heads = {};
    sums_per_block_ = backward_kernels<T>().shared_sums(one_block);
    Index count = 0;
    for (const mpi::Dealing::Block& block : local.rows.dealing().blocks()) {
      first_sum_.push_back(count);
      if (block.owner == local.rank) count += blocks_of(block.count(), backward_queries);
    }
    sums_per_head_ = count * sums_per_block_;
    sums_ = frame.take<T>(H * sums_per_head_);
    std::fill_n(sums_, H * sums_per_head_, T(0));
    room_ = least_keys + backward_keys + local.rows.dealing().block_size();
    keys_ = frame.take<T>(G * room_ * D);
    values_ = frame.take<T>(G * room_ * V);
  }

  void pack(Index j, std::span<std::byte> bytes) const {
    const AttentionBackwardCall<T>& call = local_.call;
    pack_seen_keys<T>({call.keys, call.values, call.shape.G}, local_.needed, j, bytes);
  }

  template <class Advance>
  void use(Index j, std::span<const std::byte> bytes, const Advance& advance) {
    const Index b = block(j).b;
    const Range seen = local_.needed.seen(j);
    if (sequence_ != b || waiting_.end != seen.begin) waiting_ = {seen.begin, seen.begin};
    sequence_ = b;
    put_aside(reinterpret_cast<const T*>(bytes.data()), seen.count());
    const bool goes_on = j + 1 < dealing().end_block(b) &&
                         local_.needed.needs(j + 1, local_.rank) &&
                         local_.needed.seen(j + 1).begin == seen.end;
    const Index end = goes_on ? seen.end / backward_keys * backward_keys : seen.end;
    if (end - waiting_.begin < (goes_on ? least_keys : Index{1})) return;
    add_keys({waiting_.begin, end}, advance);
    drop_before(end);
  }

  // Writes dQ.
  void finish() {
    for (Index i = 0; i < std::ssize(dealing().blocks()); ++i) {
      if (block(i).owner != local_.rank) continue;
      AttentionBackwardCall<T> call = local_.of_sequence(block(i).b);
      call.grad_gates = nullptr;
      call.grad_sinks = nullptr;
      local_.place_queries(call, block(i));
      // No key is left: what remains of the tasks is to end their sums.
      add_tasks(i, call, {call.shape.K, call.shape.K}, BackwardSide::both);
    }
    tasks_.run();
  }

 private:
  // Keys that queries are packed for, if more are to come. D = V = 64 in float makes 4 % of it.
  static constexpr Index least_keys = 5 * backward_keys;

  [[nodiscard]] const mpi::Dealing& dealing() const { return local_.rows.dealing(); }
  [[nodiscard]] const mpi::Dealing::Block& block(Index i) const { return local_.needed.block(i); }

  // Behind the keys that wait.
  void put_aside(const T* from, Index rows) {
    const auto& shape = local_.call.shape;
    const auto put = [&](T* to, Index columns) {
      for (Index g = 0; g < shape.G; ++g, from += rows * columns)
        std::copy_n(from, rows * columns, to + (g * room_ + waiting_.count()) * columns);
    };
    put(keys_, shape.D);
    put(values_, shape.V);
    waiting_.end += rows;
  }
  void drop_before(Index key) {
    const Index dropped = key - waiting_.begin;
    waiting_.begin = key;
    const auto move = [&](T* rows, Index columns) {
      for (Index g = 0; g < local_.call.shape.G; ++g, rows += room_ * columns)
        std::copy_n(rows + dropped * columns, waiting_.count() * columns, rows);
    };
    move(keys_, local_.call.shape.D);
    move(values_, local_.call.shape.V);
  }

  template <class Advance>
  void add_keys(Range keys, const Advance& advance) {
    const auto& shape = local_.call.shape;
    AttentionBackwardCall<T> call = local_.of_sequence(sequence_);
    call.keys = placed<const T>(keys_, room_, shape.D, waiting_.begin);
    call.values = placed<const T>(values_, room_, shape.V, waiting_.begin);
    for (Index i = dealing().first_block(sequence_); i < dealing().end_block(sequence_); ++i) {
      if (block(i).owner != local_.rank || !local_.needed.seen_by(i).meet(keys)) continue;
      AttentionBackwardCall<T> of_block = call;
      local_.place_queries(of_block, block(i));
      add_tasks(i, of_block, keys, BackwardSide::queries);
    }
    tasks_.run(advance);
  }

  // Of every head and every block of queries that the rows of block i are.
  void add_tasks(Index i, const AttentionBackwardCall<T>& call, Range keys, BackwardSide side) {
    const mpi::Dealing::Block& rows = block(i);
    const Index per_head = call.blocks_per_head(), first = rows.begin / backward_queries;
    tasks_.set_call(call);
    for (Index g = 0; g < call.shape.G; ++g)
      for (Index h = 0; h < call.heads.count(call.shape, rows.b, g); ++h)
        for (Index n = 0; n < blocks_of(rows.count(), backward_queries); ++n) {
          const Index index = h * per_head + first + n;
          T* const sums = sums_ + call.heads.head(call.shape, rows.b, g, h) * sums_per_head_ +
                          (first_sum_[static_cast<std::size_t>(i)] + n) * sums_per_block_;
          tasks_.add({.b = rows.b,
                      .g = g,
                      .keys = keys,
                      .blocks = {index, index + 1},
                      .cut = {.sums = sums - index * sums_per_block_},
                      .side = side});
        }
  }

  const RankBackward<T>& local_;
  RankTasks<T>& tasks_;
  Index sums_per_block_ = 0, sums_per_head_ = 0, room_ = 0;
  std::vector<Index> first_sum_;  // by blocks of rows
  T *sums_ = nullptr, *keys_ = nullptr, *values_ = nullptr;
  // The keys that are here, and whose turn has not come.
  Index sequence_ = -1;
  Range waiting_{0, 0};
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
