// SPDX-License-Identifier: MIT
#pragma once
// Ranges of rows or columns: what a mask or a gate leaves of a matrix is a few of them.
#include <algorithm>
#include <array>
#include <cstddef>
#include <span>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/sequence_rows.hpp>  // SequenceRows
#include <eigenheads/version.hpp>               // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

struct Range {
  Index begin, end;  // [begin, end); Range{} is empty, and arrays of them are not set to 0

  [[nodiscard]] Index count() const { return end - begin; }
};

// Without what `gap` hides at its ends; a gap in its midst stays. Of an empty range, an empty one.
[[nodiscard]] constexpr Range without_ends(Range range, Range gap) {
  if (gap.begin <= range.begin && range.begin < gap.end)
    range.begin = (std::min)(gap.end, range.end);
  if (gap.begin < range.end && range.end <= gap.end) range.end = (std::max)(gap.begin, range.begin);
  return range;
}

// No kernel meets keys in one block that lie further apart.
inline constexpr Index largest_key_block = 256;

[[nodiscard]] constexpr Index blocks_of(Index count, Index size) {
  return (count + size - 1) / size;
}

[[nodiscard]] inline Index total(std::span<const Range> ranges) {
  Index rows = 0;
  for (const Range& range : ranges) rows += range.count();
  return rows;
}

// Ranges one after the other, those that touch in one.
struct JoinedRanges {
  Range* ranges;
  std::size_t count = 0;

  void add(Range range, Index first) {
    if (range.begin == range.end) return;
    if (count > 0 && ranges[count - 1].end == first + range.begin)
      ranges[count - 1].end = first + range.end;
    else
      ranges[count++] = {first + range.begin, first + range.end};
  }
};

// range_of(i), counted from the first row of part i, for all parts, in as few ranges as can be.
// `ranges` has room for one a part.
template <class RangeOf>
std::span<const Range> join_ranges(const SequenceRows& parts, const RangeOf& range_of,
                                   Range* ranges) {
  JoinedRanges joined{ranges};
  for (Index part = 0; part < parts.count(); ++part) joined.add(range_of(part), parts.begin(part));
  return {ranges, joined.count};
}
// The same of two ranges of each part: one, without a gap inside of it. `ranges` has room for both.
template <class RangeOf, class GapOf>
std::span<const Range> join_ranges(const SequenceRows& parts, const RangeOf& range_of,
                                   const GapOf& gap_of, Range* ranges) {
  JoinedRanges joined{ranges};
  for (Index part = 0; part < parts.count(); ++part) {
    const Range range = range_of(part), gap = gap_of(part);
    const bool has_gap = range.begin < range.end && gap.begin < gap.end;
    if (has_gap) joined.add({range.begin, gap.begin}, parts.begin(part));
    joined.add({has_gap ? gap.end : range.begin, range.end}, parts.begin(part));
  }
  return {ranges, joined.count};
}

// Rows [first, first + count), counted in what the ranges hold together.
template <std::size_t Capacity>
std::span<const Range> cut_ranges(std::span<const Range> ranges, Index first, Index count,
                                  std::array<Range, Capacity>& part) {
  std::size_t parts = 0;
  for (const Range& range : ranges) {
    const Index skipped = (std::min)(first, range.count());
    const Index taken = (std::min)(range.count() - skipped, count);
    if (taken > 0) part[parts++] = {range.begin + skipped, range.begin + skipped + taken};
    first -= skipped;
    count -= taken;
    if (count == 0) break;
  }
  return {part.data(), parts};
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
