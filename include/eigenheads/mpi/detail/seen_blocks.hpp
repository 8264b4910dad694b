// SPDX-License-Identifier: MIT
#pragma once
// Which blocks of keys the queries of a block see, by lengths, causality and window: all that a plan
// needs to know of a mask, and the same on every rank.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>  // Range, without_ends
#include <eigenheads/mask.hpp>           // BoundMask
#include <eigenheads/mpi/dealing.hpp>    // Dealing

namespace eigenheads::inline EIGENHEADS_ABI::mpi::detail {

using eigenheads::detail::Range;

class SeenBlocks {
 public:
  // O(queries + pairs of blocks that see each other).
  SeenBlocks(const BoundMask& mask, const Dealing& queries, const Dealing& keys)
      : ranks_(static_cast<std::size_t>(queries.ranks())),
        key_needs_(keys.blocks().size() * ranks_),
        query_needs_(queries.blocks().size() * ranks_) {
    seen_.reserve(queries.blocks().size());
    for (const Dealing::Block& block : queries.blocks()) {
      seen_.push_back(of_queries(mask, block));
      const std::size_t i = seen_.size() - 1;
      for (Index j = keys.first_block(block.b); j < keys.end_block(block.b); ++j) {
        const Dealing::Block& other = keys.blocks()[static_cast<std::size_t>(j)];
        if (!sees(static_cast<Index>(i), {other.begin, other.end})) continue;
        key_needs_[static_cast<std::size_t>(j) * ranks_ + static_cast<std::size_t>(block.owner)] = 1;
        query_needs_[i * ranks_ + static_cast<std::size_t>(other.owner)] = 1;
      }
    }
  }

  // Whether a query of block i may see any of these keys of its sequence.
  [[nodiscard]] bool sees(Index i, Range keys) const {
    const Seen& seen = seen_[static_cast<std::size_t>(i)];
    keys = {(std::max)(keys.begin, seen.keys.begin), (std::min)(keys.end, seen.keys.end)};
    if (keys.begin >= keys.end) return false;
    const Range left = eigenheads::detail::without_ends(keys, seen.gap);
    return left.begin < left.end;
  }
  // Whether any query of the rank sees any key of block j; and any key of it is seen by any query of
  // block i.
  [[nodiscard]] bool needs_keys(Index j, int rank) const { return at(key_needs_, j, rank); }
  [[nodiscard]] bool needs_queries(Index i, int rank) const { return at(query_needs_, i, rank); }

 private:
  struct Seen {
    Range keys, gap;  // of all queries together: what lies in the gap of all of them
  };

  [[nodiscard]] static Seen of_queries(const BoundMask& mask, const Dealing::Block& block) {
    Seen seen{{0, 0}, {0, 0}};
    bool is_first = true;
    for (Index q = block.begin; q < block.end; ++q) {
      const Range keys = mask.key_range(block.b, q), gap = mask.gap(block.b, q);
      if (keys.begin >= keys.end) continue;
      seen.keys = is_first ? keys
                           : Range{(std::min)(seen.keys.begin, keys.begin),
                                   (std::max)(seen.keys.end, keys.end)};
      seen.gap = is_first ? gap
                          : Range{(std::max)(seen.gap.begin, gap.begin),
                                  (std::min)(seen.gap.end, gap.end)};
      is_first = false;
    }
    if (seen.gap.begin >= seen.gap.end) seen.gap = {0, 0};
    return seen;
  }
  [[nodiscard]] bool at(const std::vector<std::uint8_t>& needs, Index block, int rank) const {
    return needs[static_cast<std::size_t>(block) * ranks_ + static_cast<std::size_t>(rank)] != 0;
  }

  std::size_t ranks_;
  std::vector<Seen> seen_;  // of each block of queries
  std::vector<std::uint8_t> key_needs_, query_needs_;  // [blocks, ranks]
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi::detail

#include <eigenheads/detail/macros_on.inl>
