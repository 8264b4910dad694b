// SPDX-License-Identifier: MIT
#pragma once
// The rows of queries that a task of attention works on, and what they see. Here and in
// key_blocks.hpp is what takes no registers: compiled once, not for every instruction set.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include <eigenheads/detail/arena.hpp>       // Cutter, line_bytes
#include <eigenheads/detail/float_bits.hpp>  // infinity
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>           // Range, blocks_of
#include <eigenheads/kernels/attention_call.hpp>  // AttentionCall, query_block

namespace eigenheads::inline EIGENHEADS_ABI::detail {

template <class T>
inline constexpr Index key_block = sizeof(T) == 4 ? largest_key_block : 128;
// Sums over keys run in this many lanes on every CPU, so that no lane count decides an order.
inline constexpr Index sum_lanes = 16;

// Scratch memory of one task, and the state of its rows between two blocks.
template <class T>
struct RowState {
  Index count, padded_V;
  T *queries, *scores, *output;                // [rows, D], [rows, key_block], [rows, padded_V]
  T* product;                                  // [tile_rows, padded_V]
  T *maximum, *sum;                            // m and l
  T *block_maximum, *block_sum, *keep, *take;  // m_b and l_b, e^(m - m') and e^(m_b - m')
  T *packed_keys, *packed_values;  // some panels, and a block's, where there is no PackedHead
  T* block_maxima;                 // m_b of every block, where weights are asked for
  std::uint8_t* seen;              // [rows, key_block], of each key of a block: 0 = hidden
  Range* ranges;
  Range* gaps;          // keys of a row's range that it does not see
  bool has_gaps;        // else they are not there to be read
  bool have_one_range;  // all rows, and one gap
  Index score_stride;   // from one row of scores to the next

  [[nodiscard]] T* score_row(Index i) const { return scores + i * score_stride; }
};

// Room for a row of scores of one block: whole panels, whole groups of lanes, and an odd number of
// cache lines. Rows that a power of two lies between are taken for each other by a CPU that knows a
// load from the stores before it by the last bits of an address, and meet in few sets of the
// first-level cache: 1024 keys take 2 to 3 % longer.
template <class T>
[[nodiscard]] Index score_columns(Index keys, Index panel_width) {
  constexpr Index line = static_cast<Index>(line_bytes / sizeof(T));
  const Index group = (std::max)(panel_width, sum_lanes);
  const Index columns = blocks_of((std::min)(keys, key_block<T>), group) * group;
  return (columns / line | 1) * line;
}

// What one product of registers takes: so many rows, and columns of a panel.
struct TileSize {
  Index rows, columns;
};

// Which parts of a RowState a task needs.
struct RowNeeds {
  bool packs = true;  // there is no PackedHead
  bool weights = false;
};

// Lays a RowState out in `memory`; with null, only counts the elements that it takes.
template <class T>
Index lay_out(RowState<T>& rows, const AttentionShape& shape, RowNeeds needs, TileSize tile,
              T* memory) {
  Cutter<T> cutter(memory);
  rows.padded_V = blocks_of(shape.V, tile.columns) * tile.columns;
  rows.queries = cutter.take(query_block * shape.D);
  rows.score_stride = score_columns<T>(shape.K, tile.columns);
  rows.scores = cutter.take(query_block * rows.score_stride);
  rows.output = cutter.take(query_block * rows.padded_V);
  rows.product = cutter.take(tile.rows * rows.padded_V);
  for (T** row :
       {&rows.maximum, &rows.sum, &rows.block_maximum, &rows.block_sum, &rows.keep, &rows.take})
    *row = cutter.take(query_block);
  rows.packed_keys = cutter.take(needs.packs ? panels_per_row * tile.columns * shape.D : 0);
  rows.packed_values = cutter.take(needs.packs ? key_block<T> * rows.padded_V : 0);
  rows.block_maxima =
      cutter.take(needs.weights ? blocks_of(shape.K, key_block<T>) * query_block : 0);
  rows.seen = cutter.template take_as<std::uint8_t>(query_block * key_block<T>);
  rows.ranges = cutter.template take_as<Range>(query_block);
  rows.gaps = cutter.template take_as<Range>(query_block);
  return cutter.used();
}

// visit(i, count, h, q) for every run of a task's rows: i and the rows after it are queries q and
// those after it, of head h.
template <class T, class Visit>
EIGEN_ALWAYS_INLINE void for_each_run(const AttentionCall<T>& call, const RowTask& task,
                                      const Visit& visit) {
  for (Index i = 0, count = 0; i < task.count; i += count) {
    const Index q = task.query(call.shape, i);
    count = (std::min)(call.shape.Q - q, task.count - i);
    visit(i, count, task.head(call, i), q);
  }
}
// visit(i, h, q) for every row of a task: to divide for each of them would take a tenth of the time
// of a head of 16 keys.
template <class T, class Visit>
EIGEN_ALWAYS_INLINE void for_each_row(const AttentionCall<T>& call, const RowTask& task,
                                      const Visit& visit) {
  for_each_run(call, task, [&](Index first, Index count, Index h, Index q) {
    for (Index i = first; i < first + count; ++i, ++q) visit(i, h, q);
  });
}

// The gaps of the rows' ranges.
template <class T>
[[gnu::noinline]] void find_gaps(const AttentionCall<T>& call, const RowTask& task,
                                 RowState<T>& rows) {
  for_each_row(call, task, [&](Index i, Index, Index q) {
    const bool sees_none = rows.ranges[i].begin == rows.ranges[i].end;
    const Range gap = sees_none ? Range{} : call.mask->gap(task.b, q);
    rows.gaps[i] = gap;
    rows.has_gaps = rows.has_gaps || gap.begin < gap.end;
    if (gap.begin != rows.gaps[0].begin || gap.end != rows.gaps[0].end) rows.have_one_range = false;
  });
}

// What the rows may see.
template <class T>
void find_ranges(const AttentionCall<T>& call, const RowTask& task, RowState<T>& rows) {
  const BoundMask& mask = *call.mask;
  rows.have_one_range = true;
  rows.has_gaps = false;
  // Number by number: g++ copies a Range by one register, just after its halves were stored, and
  // waits for them to reach the cache.
  const auto set = [&rows](Index i, Index begin, Index end) {
    rows.ranges[i].begin = begin;
    rows.ranges[i].end = end;
  };
  if (mask.hides_none()) {
    const Index end = mask.key_rows().length(task.b);
    for (Index i = 0; i < rows.count; ++i) set(i, 0, end);
    return;
  }
  Range first{};
  for_each_row(call, task, [&](Index i, Index h, Index q) {
    const auto [begin, end] = mask.key_range(task.b, call.heads.original(h), q);
    if (i == 0) first = {begin, end};
    if (begin != first.begin || end != first.end) rows.have_one_range = false;
    set(i, begin, end);
  });
  if (mask.has_gaps()) find_gaps(call, task, rows);
}

// Starts what the caller keeps of a row where no key is seen.
template <class T>
void begin_kept(const AttentionCall<T>& call, const RowTask& task) {
  const Index K = call.shape.K;
  for_each_row(call, task, [&](Index, Index h, Index q) {
    if (call.weights.is_given()) std::fill_n(call.weights.at(task.b, h, q), K, T(0));
    if (call.scores.is_given()) std::fill_n(call.scores.at(task.b, h, q), K, -infinity<T>);
  });
}

// As if row i saw no key.
template <class T>
void hide_keys(RowState<T>& rows, Index i) {
  rows.ranges[i] = {};
  rows.have_one_range = rows.count == 1;
}

// The keys that any of the rows [first, first + count) may see, within [begin, end).
template <class T>
[[nodiscard]] Range seen_by(const RowState<T>& rows, Index first, Index count, Index begin,
                            Index end) {
  if (rows.have_one_range) count = (std::min)(count, Index{1});
  Range seen{end, begin};
  for (Index i = first; i < first + count; ++i) {
    const Index from = (std::max)(rows.ranges[i].begin, begin);
    const Index to = (std::min)(rows.ranges[i].end, end);
    if (from >= to) continue;
    const Range keys = rows.has_gaps ? without_ends({from, to}, rows.gaps[i]) : Range{from, to};
    if (keys.begin < keys.end)
      seen = {(std::min)(seen.begin, keys.begin), (std::max)(seen.end, keys.end)};
  }
  return seen;
}

// A row's keys relative to the block's first, cut to [from, to); empty ones lie within it too.
[[nodiscard]] inline Range within(Range row, Index begin, Index from, Index to) {
  const Index first = (std::min)((std::max)(row.begin - begin, from), to);
  return {first, (std::min)((std::max)(row.end - begin, first), to)};
}

// Of row i, from the first that it sees to the last: a gap at an end is cut off, one in their midst is
// not.
template <class T>
[[nodiscard]] EIGEN_ALWAYS_INLINE Range keys_within(const RowState<T>& rows, Index i, Index begin,
                                                    Index from, Index to) {
  const Range keys = within(rows.ranges[i], begin, from, to);
  if (!rows.has_gaps) [[likely]]
    return keys;
  return without_ends(keys, {rows.gaps[i].begin - begin, rows.gaps[i].end - begin});
}

// The gap in the midst of such keys.
template <class T>
[[nodiscard]] Range gap_within(const RowState<T>& rows, Index i, Index begin, Range keys) {
  if (!rows.has_gaps) return {};
  const auto [first, last] = rows.gaps[i];
  const Range gap{(std::max)(first - begin, keys.begin), (std::min)(last - begin, keys.end)};
  return gap.begin < gap.end ? gap : Range{};
}

// What is left of a range beside a gap in its midst; without one, the range and nothing.
[[nodiscard]] inline std::array<Range, 2> sides_of(Range range, Range gap) {
  if (gap.begin == gap.end) return {range, Range{range.end, range.end}};
  return {Range{range.begin, gap.begin}, Range{gap.end, range.end}};
}

// visit({begin, end}) for every block of keys of which any row sees one, as far as the last that is
// seen.
template <class T, class Visit>
EIGEN_ALWAYS_INLINE void for_each_block(const RowState<T>& rows, Range keys, const Visit& visit) {
  const Range seen = seen_by(rows, 0, rows.count, keys.begin, keys.end);
  for (Index begin = seen.begin / key_block<T> * key_block<T>; begin < seen.end;
       begin += key_block<T>) {
    const Range block{begin, (std::min)(begin + key_block<T>, seen.end)};
    if (rows.has_gaps && seen_by(rows, 0, rows.count, block.begin, block.end).count() <= 0)
      continue;  // a gap of all of them
    visit(block);
  }
}

// e^(s - m_b) goes where the weights will be, and m_b is kept until m is known.
template <class T>
void keep_weights(const AttentionCall<T>& call, const RowTask& task, const RowState<T>& rows,
                  Index begin, Index end) {
  const AttentionShape& shape = call.shape;
  std::copy_n(rows.block_maximum, rows.count,
              rows.block_maxima + begin / key_block<T> * query_block);
  for (Index i = 0; i < rows.count; ++i) {
    const Range row = keys_within(rows, i, begin, 0, end - begin);
    std::copy(
        rows.score_row(i) + row.begin, rows.score_row(i) + row.end,
        call.weights.at(task.b, task.head(call, i), task.query(shape, i)) + begin + row.begin);
  }
}

// m, l and O of the rows, as they lie between two blocks: what a task hands to another that goes on.
template <class T>
void save_rows(const RowState<T>& rows, T* partial) {
  std::copy_n(rows.maximum, query_block, partial);
  std::copy_n(rows.sum, query_block, partial + query_block);
  std::copy_n(rows.output, rows.count * rows.padded_V, partial + 2 * query_block);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
