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

[[nodiscard]] constexpr Index blocks_of(Index count, Index size) {
  return (count + size - 1) / size;
}

[[nodiscard]] inline Index total(std::span<const Range> ranges) {
  Index rows = 0;
  for (const Range& range : ranges) rows += range.count();
  return rows;
}

// range_of(i), counted from the first row of part i, for all parts, in as few ranges as can be.
// `ranges` has room for one a part.
template <class RangeOf>
std::span<const Range> join_ranges(const SequenceRows& parts, const RangeOf& range_of,
                                   Range* ranges) {
  std::size_t count = 0;
  for (Index part = 0; part < parts.count(); ++part) {
    const auto [begin, end] = range_of(part);
    if (begin == end) continue;
    const Range range{parts.begin(part) + begin, parts.begin(part) + end};
    if (count > 0 && ranges[count - 1].end == range.begin)
      ranges[count - 1].end = range.end;
    else
      ranges[count++] = range;
  }
  return {ranges, count};
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
