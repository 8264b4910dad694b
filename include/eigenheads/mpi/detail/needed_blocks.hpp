// SPDX-License-Identifier: MIT
#pragma once
// Which ranks need which blocks of keys: those with a row that sees one of their keys. Found by each
// rank for itself from the mask and the dealing, so that nothing need be said.
#include <algorithm>
#include <cstddef>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>  // Range, blocks_of
#include <eigenheads/mask.hpp>           // BoundMask
#include <eigenheads/mpi/dealing.hpp>    // Dealing

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// What neighbouring queries see: a range of keys, and before it those that a gap cuts off (sinks).
struct SeenRanges {
  Range before{0, 0}, keys{0, 0};

  [[nodiscard]] static SeenRanges of(const BoundMask& mask, Index b, Range queries) {
    SeenRanges seen;
    for (Index q = queries.begin; q < queries.end; ++q) {
      const Range range = mask.key_range(b, q);
      const Range gap = range.count() > 0 ? mask.gap(b, q) : Range{};
      if (gap.count() > 0) {
        join(seen.before, {range.begin, gap.begin});
        join(seen.keys, {gap.end, range.end});
      } else {
        join(seen.keys, range);
      }
    }
    return seen;
  }
  [[nodiscard]] bool meet(Range range) const {
    return overlap(before, range) || overlap(keys, range);
  }

 private:
  static void join(Range& all, Range part) {
    if (part.count() <= 0) return;
    all = all.count() == 0
              ? part
              : Range{(std::min)(all.begin, part.begin), (std::max)(all.end, part.end)};
  }
  [[nodiscard]] static bool overlap(Range a, Range b) {
    return (std::max)(a.begin, b.begin) < (std::min)(a.end, b.end);
  }
};

// The plan of a block stream (mpi/block_stream.hpp): the keys of a block that are seen by anybody, of
// `key_bytes` each. O(rows), and a bit for each block and rank.
class NeededBlocks {
 public:
  NeededBlocks(const BoundMask& mask, const mpi::Dealing& dealing, Index key_bytes)
      : NeededBlocks(mask, dealing, key_bytes, [](Index) { return true; }) {}
  // Of sequences for which attends(b) is false, nobody needs anything.
  template <class Attends>
  NeededBlocks(const BoundMask& mask, const mpi::Dealing& dealing, Index key_bytes,
               const Attends& attends)
      : dealing_(dealing),
        key_bytes_(key_bytes),
        needs_(static_cast<std::size_t>(dealing.ranks()) * dealing.blocks().size()) {
    const auto& blocks = dealing.blocks();
    seen_.reserve(blocks.size());
    seen_by_.reserve(blocks.size());
    for (const mpi::Dealing::Block& block : blocks) {
      const Range seen =
          attends(block.b) ? mask.seen_keys(block.b, {block.begin, block.end}) : Range{};
      seen_.push_back(seen.count() > 0 ? seen : Range{block.begin, block.begin});
      seen_by_.push_back(SeenRanges::of(mask, block.b, {block.begin, block.end}));
    }
    std::vector<Index> changes(blocks.size() + 1);
    for (int rank = 0; rank < dealing.ranks(); ++rank) {
      std::fill(changes.begin(), changes.end(), 0);
      for (std::size_t i = 0; i < blocks.size(); ++i)
        if (blocks[i].owner == rank)
          for (const Range& keys : {seen_by_[i].before, seen_by_[i].keys})
            count(blocks[i].b, keys, changes);
      Index seeing = 0;  // blocks of rows of this rank that see block i
      for (std::size_t i = 0; i < blocks.size(); ++i) {
        seeing += changes[i];
        needs_[i * static_cast<std::size_t>(dealing.ranks()) + static_cast<std::size_t>(rank)] =
            seeing > 0 && seen_[i].count() > 0;
      }
    }
  }

  // As a stream asks for it.
  [[nodiscard]] Index count() const { return std::ssize(seen_); }
  [[nodiscard]] int owner(Index i) const { return block(i).owner; }
  [[nodiscard]] Index bytes(Index i) const { return seen(i).count() * key_bytes_; }
  [[nodiscard]] bool needs(Index i, int rank) const {
    return needs_[static_cast<std::size_t>(i * dealing_.ranks() + rank)];
  }

  [[nodiscard]] Index first_block(Index b) const { return dealing_.first_block(b); }
  [[nodiscard]] Index end_block(Index b) const { return dealing_.end_block(b); }
  [[nodiscard]] const mpi::Dealing::Block& block(Index i) const {
    return dealing_.blocks()[static_cast<std::size_t>(i)];
  }
  // Keys of the block, counted in its sequence, that travel.
  [[nodiscard]] const Range& seen(Index i) const { return seen_[static_cast<std::size_t>(i)]; }
  // What rows of block i see.
  [[nodiscard]] const SeenRanges& seen_by(Index i) const {
    return seen_by_[static_cast<std::size_t>(i)];
  }

 private:
  void count(Index b, Range keys, std::vector<Index>& changes) const {
    if (keys.count() <= 0) return;
    const Index first = dealing_.first_block(b), size = dealing_.block_size();
    ++changes[static_cast<std::size_t>(first + keys.begin / size)];
    --changes[static_cast<std::size_t>(first + blocks_of(keys.end, size))];
  }

  const mpi::Dealing& dealing_;
  Index key_bytes_;
  std::vector<Range> seen_;
  std::vector<SeenRanges> seen_by_;
  std::vector<bool> needs_;  // [blocks, ranks]
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
