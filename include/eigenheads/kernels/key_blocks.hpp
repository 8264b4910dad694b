// SPDX-License-Identifier: MIT
#pragma once
// One block of keys as some rows see it: all of the steps between the products that takes no
// registers (rows.hpp).
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include <eigenheads/detail/float_bits.hpp>  // infinity
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kernels/rows.hpp>  // RowState

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// What a row of scores of one block says of its keys: those in [begin, end) are seen, and if
// `allowed` is not null only those whose byte there is not 0 (0 too in lanes outside the range).
struct SeenKeys {
  Index begin, end;
  const std::uint8_t* allowed;
};

// The lanes that a range touches: whole groups of sum_lanes.
[[nodiscard]] inline Range lanes_of(const SeenKeys& seen) {
  return {seen.begin / sum_lanes * sum_lanes, (seen.end + sum_lanes - 1) / sum_lanes * sum_lanes};
}

// Keys [begin, end) of one block, begin a multiple of key_block, as the products read them.
template <class T>
struct KeyBlock {
  Index begin, end;
  // First block of the rows: its product is written straight into O. Merging it with m = lowest and
  // l = 0 would give the same bits.
  bool is_first;
  Range seen;              // by any row, relative to begin
  const T *keys, *values;  // of key `begin`
  // In panels of numbers that are stored in 16 bits; null if they are not, or no longer.
  const void *stored_keys, *stored_values;
  const StoredKernels<T>* stored;
  bool are_keys_packed;  // in panels, stored or not; else they are rows, key_stride apart
  bool is_stream;        // of packed keys and values: they come from memory
  Index key_stride;
  Index value_stride, value_panel_stride;  // from one key to the next, from one panel to the next
  // Keys are hidden by ranges alone: neither one by one, nor by a gap in one, nor by scores of -inf.
  bool hides_by_range;
  bool is_finite;  // all values that are seen are, or are taken to be
  // Nobody has looked at the values, since no range hides a key from one row that another sees.
  bool is_taken_to_be_finite;
};

// Rows that are multiplied together, and the keys of the block at hand that any of them sees.
struct Tile {
  Index first, count;
  Range seen;
};

// The tiles of a task's rows that see any key of a block.
struct TileList {
  std::array<Tile, query_block> tiles;
  std::size_t count = 0;
  Index rows = 0;  // in all of them

  [[nodiscard]] std::span<const Tile> span() const { return {tiles.data(), count}; }
};

template <class T>
[[nodiscard]] bool have_one_range(const RowState<T>& rows, Index first, Index count) {
  if (rows.have_one_range) return true;
  const auto is_as_first = [first](const Range* ranges, Index i) {
    return ranges[i].begin == ranges[first].begin && ranges[i].end == ranges[first].end;
  };
  for (Index i = first + 1; i < first + count; ++i)
    if (!is_as_first(rows.ranges, i) || (rows.has_gaps && !is_as_first(rows.gaps, i))) return false;
  return true;
}

// Row i's keys of a block, relative to its first.
template <class T>
[[nodiscard]] EIGEN_ALWAYS_INLINE Range keys_of_row(const RowState<T>& rows, Index i,
                                                    const KeyBlock<T>& block) {
  return keys_within(rows, i, block.begin, 0, block.end - block.begin);
}

// Whether the keys of a block that a row sees have a gap in their midst.
template <class T>
[[nodiscard]] bool has_gap_in(const RowState<T>& rows, Range block) {
  for (Index i = 0; rows.has_gaps && i < rows.count; ++i) {
    const Range keys = keys_within(rows, i, block.begin, 0, block.count());
    if (gap_within(rows, i, block.begin, keys).count() > 0) return true;
  }
  return false;
}

// The scores of a row's range, relative to the block, to the caller: through the function that they
// are wanted after, those of hidden keys left at -inf.
template <class T>
void keep_scores(const AttentionCall<T>& call, T* to, const T* scores, Range range,
                 const std::uint8_t* allowed, const ScorePosition& at) {
  std::copy(scores + range.begin, scores + range.end, to + range.begin);
  if (call.scores_after.apply != nullptr)
    call.scores_after.apply(call.scores_after.score, to, range.begin, range.end, at);
  for (Index k = range.begin; allowed != nullptr && k < range.end; ++k)
    if (allowed[k] == 0) to[k] = -infinity<T>;
}

// Takes row i's scores through the score function. Where keys are hidden one by one, or lie in a gap
// between others, returns a byte for each of the block, else null.
template <class T>
[[nodiscard]] const std::uint8_t* finish_scores(const AttentionCall<T>& call, const RowTask& task,
                                                const RowState<T>& rows, const KeyBlock<T>& block,
                                                Index i, Range range) {
  const Index head = task.head(call, i), q = task.query(call.shape, i);
  const Index h = call.heads.original(head);
  const ScorePosition at = score_position(task.b, h, call.mask->query_number(q), block.begin,
                                          call.mask->aligned(task.b, q));
  T* const scores = rows.score_row(i);
  const std::uint8_t* allowed = call.mask->allowed_row(task.b, h, q);
  if (allowed != nullptr) allowed += block.begin;
  const Range gap = gap_within(rows, i, block.begin, range);
  for (const Range& side : sides_of(range, gap)) {
    if (side.begin == side.end) continue;
    if (call.scores.is_given())
      keep_scores(call, call.scores.at(task.b, head, q) + block.begin, scores, side, allowed, at);
    if (call.score.apply != nullptr)
      call.score.apply(call.score.score, scores, side.begin, side.end, at);
  }
  if (allowed == nullptr && gap.count() == 0) return nullptr;
  std::uint8_t* const seen = rows.seen + i * key_block<T>;
  const auto [first, last] = lanes_of({range.begin, range.end, nullptr});
  std::fill_n(seen + first, sum_lanes, std::uint8_t{0});
  std::fill_n(seen + last - sum_lanes, sum_lanes, std::uint8_t{0});
  if (allowed != nullptr)
    std::copy(allowed + range.begin, allowed + range.end, seen + range.begin);
  else
    std::fill(seen + range.begin, seen + range.end, std::uint8_t{1});
  std::fill(seen + gap.begin, seen + gap.end, std::uint8_t{0});
  return seen;
}

// The same where not all values are finite: then it matters that a score of -inf hides its key too,
// and rows.seen says it of every key of the range.
template <class T>
[[nodiscard]] const std::uint8_t* finish_scores_strictly(const AttentionCall<T>& call,
                                                         const RowTask& task,
                                                         const RowState<T>& rows,
                                                         const KeyBlock<T>& block, Index i) {
  const Range range = keys_of_row(rows, i, block);
  const std::uint8_t* const allowed = finish_scores(call, task, rows, block, i, range);
  const T* const scores = rows.score_row(i);
  std::uint8_t* const seen = rows.seen + i * key_block<T>;
  for (Index k = range.begin; k < range.end; ++k)
    seen[k] = (allowed == nullptr || seen[k] != 0) && !is_negative_infinity(scores[k]);
  return allowed;
}

// The keys that row i sees, once its scores are what the softmax takes.
template <class T>
[[nodiscard]] EIGEN_ALWAYS_INLINE SeenKeys seen_keys(const AttentionCall<T>& call,
                                                     const RowTask& task, const RowState<T>& rows,
                                                     const KeyBlock<T>& block, Index i) {
  const Range range = keys_of_row(rows, i, block);
  if (range.begin == range.end) return {0, 0, nullptr};
  const std::uint8_t* allowed = nullptr;  // as nearly always
  if (!block.is_finite)
    allowed = finish_scores_strictly(call, task, rows, block, i);
  else if (!block.hides_by_range || call.scores.is_given())
    allowed = finish_scores(call, task, rows, block, i, range);
  return {range.begin, range.end, allowed};
}

template <class T>
[[nodiscard]] bool has_negative_infinity(const T* scores, Index count) {
  for (Index k = 0; k < count; ++k)
    if (is_negative_infinity(scores[k])) return true;
  return false;
}

// Dropout: the weights that the values are multiplied with, and no others, are its.
template <class T>
void drop_weights(const AttentionCall<T>& call, const RowTask& task, const RowState<T>& rows,
                  const KeyBlock<T>& block) {
  T factors[key_block<T>];
  for (Index i = 0; i < rows.count; ++i) {
    const Range range = keys_of_row(rows, i, block);
    if (range.begin == range.end) continue;
    T* weights = rows.score_row(i);
    call.dropout->factors(task.b, call.heads.original(task.head(call, i)),
                          task.query(call.shape, i), block.begin + range.begin,
                          block.begin + range.end, factors);
    for (Index k = range.begin; k < range.end; ++k) weights[k] *= factors[k - range.begin];
  }
}

// Zeros where a row sees less than its tile: what lies in the lanes of its own keys, the softmax has
// written.
template <class T>
void zero_unseen(const RowState<T>& rows, const KeyBlock<T>& block, const Tile& tile) {
  const auto [from, to] = tile.seen;
  for (Index i = tile.first; i < tile.first + tile.count; ++i) {
    const Range range = keys_within(rows, i, block.begin, from, to);
    const bool is_empty = range.begin == range.end;
    const auto [first, last] =
        is_empty ? Range{to, to} : lanes_of({range.begin, range.end, nullptr});
    T* const weights = rows.score_row(i);
    if (from < first) std::fill(weights + from, weights + first, T(0));
    if (last < to) std::fill(weights + last, weights + to, T(0));
  }
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
