// SPDX-License-Identifier: MIT
#pragma once
// The order in which what belongs to all shards of a batch is added up: neighbours in pairs, the
// sums of pairs in pairs, and so on, whoever does it:
//   8 shards   ((0 + 1) + (2 + 3)) + ((4 + 5) + (6 + 7))
//   5 shards   ((0 + 1) + (2 + 3)) + 4
// A rank that has neighbouring shards adds up whole nodes of this tree by itself, and sends those
// alone: of one order from left to right it would have to send every shard, or wait for the rank
// before it.
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>  // Range
#include <eigenheads/version.hpp>        // Index

namespace eigenheads::inline EIGENHEADS_ABI::mpi::detail {

using eigenheads::detail::Range;

// Part i when `count` things are cut into `parts`, as even as they go, the first of one where they
// are one.
[[nodiscard]] constexpr Range even_part(Index count, Index parts, Index i) {
  const Index least = count / parts, more = count % parts;  // count * i might overflow
  const auto begin = [&](Index part) { return least * part + (more * part + parts - 1) / parts; };
  return {begin(i), begin(i + 1)};
}

// The shards [place 2^level, (place + 1) 2^level), as far as there are such.
struct ShardNode {
  int level = 0;
  Index place = 0;

  friend bool operator==(const ShardNode&, const ShardNode&) = default;
};

// Nodes that come from left to right and are added up as soon as they can be. What they stand for
// is the caller's, who keeps a sum for each of nodes(), in their order.
class ShardTree {
 public:
  explicit ShardTree(Index shards) : shards_(shards) {}

  [[nodiscard]] const std::vector<ShardNode>& nodes() const { return nodes_; }

  // Returns how many times the last two sums then are to be replaced by the sum of both.
  int add(ShardNode node) {
    int merges = 0;
    for (;; ++node.level, node.place /= 2) {
      if (node.place % 2 == 1) {
        if (nodes_.empty() || nodes_.back() != ShardNode{node.level, node.place - 1}) break;
        nodes_.pop_back();
        ++merges;
      } else if (node.place == 0 || (node.place + 1) << node.level < shards_) {
        break;  // the whole, or what is to its right has yet to come
      }
    }
    nodes_.push_back(node);
    return merges;
  }

 private:
  Index shards_;
  std::vector<ShardNode> nodes_;
};

// What is left of shards that are added up: the fewest nodes that are the whole range.
[[nodiscard]] inline std::vector<ShardNode> nodes_of(Range range, Index shards) {
  ShardTree tree(shards);
  for (Index shard = range.begin; shard < range.end; ++shard) tree.add({0, shard});
  return tree.nodes();
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi::detail

#include <eigenheads/detail/macros_on.inl>
