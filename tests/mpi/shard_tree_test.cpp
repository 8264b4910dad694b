// SPDX-License-Identifier: MIT
// Whoever adds up which shards, the sum of all is one expression.
#include <gtest/gtest.h>
#include <limits>
#include <string>
#include <vector>

#include <eigenheads/mpi/shard_tree.hpp>

namespace {

using eigenheads::Index;
using eigenheads::mpi::detail::even_part, eigenheads::mpi::detail::nodes_of,
    eigenheads::mpi::detail::Range, eigenheads::mpi::detail::ShardNode,
    eigenheads::mpi::detail::ShardTree;

// Sums as they are written down.
class Expressions {
 public:
  explicit Expressions(Index shards) : tree_(shards) {}

  void add(const ShardNode& node, const std::string& text) {
    texts_.push_back(text);
    for (int merges = tree_.add(node); merges > 0; --merges) {
      const std::string last = texts_.back();
      texts_.pop_back();
      texts_.back() = '(' + texts_.back() + '+' + last + ')';
    }
  }
  [[nodiscard]] const std::vector<ShardNode>& nodes() const { return tree_.nodes(); }
  [[nodiscard]] const std::vector<std::string>& texts() const { return texts_; }

 private:
  ShardTree tree_;
  std::vector<std::string> texts_;
};

[[nodiscard]] Expressions of_range(Range range, Index shards) {
  Expressions sums(shards);
  for (Index shard = range.begin; shard < range.end; ++shard)
    sums.add({0, shard}, std::to_string(shard));
  return sums;
}

TEST(ShardTree, NeighboursAreAddedInPairs) {
  const auto whole = [](Index shards) { return of_range({0, shards}, shards).texts(); };
  EXPECT_EQ(whole(1), std::vector<std::string>{"0"});
  EXPECT_EQ(whole(5), std::vector<std::string>{"(((0+1)+(2+3))+4)"});
  EXPECT_EQ(whole(6), std::vector<std::string>{"(((0+1)+(2+3))+(4+5))"});
  EXPECT_EQ(whole(8), std::vector<std::string>{"(((0+1)+(2+3))+((4+5)+(6+7)))"});
}

TEST(ShardTree, TheSumIsTheSameOnAnyNumberOfRanks) {
  for (Index shards = 1; shards <= 33; ++shards) {
    const auto expected = of_range({0, shards}, shards).texts();
    for (Index ranks = 1; ranks <= 40; ++ranks) {
      Expressions all(shards);
      for (Index rank = 0; rank < ranks; ++rank) {
        const Range mine = even_part(shards, ranks, rank);
        const Expressions own = of_range(mine, shards);
        ASSERT_EQ(own.nodes(), nodes_of(mine, shards));
        for (std::size_t i = 0; i < own.nodes().size(); ++i)
          all.add(own.nodes()[i], own.texts()[i]);
      }
      EXPECT_EQ(all.texts(), expected) << shards << " shards, " << ranks << " ranks";
    }
  }
}

TEST(ShardTree, ARankOfWholeSubtreesSendsOneSum) {
  for (const Index ranks : {1, 2, 4, 8})
    for (Index rank = 0; rank < ranks; ++rank)
      EXPECT_EQ(nodes_of(even_part(8, ranks, rank), 8).size(), 1U);
  EXPECT_EQ(nodes_of({1, 8}, 8).size(), 3U);
  EXPECT_TRUE(nodes_of({3, 3}, 8).empty());
}

TEST(ShardTree, PartsAreEvenAndCoverTheWhole) {
  for (Index count = 0; count <= 20; ++count)
    for (Index parts = 1; parts <= 9; ++parts) {
      Index next = 0;
      for (Index i = 0; i < parts; ++i) {
        const Range part = even_part(count, parts, i);
        EXPECT_EQ(part.begin, next);
        EXPECT_TRUE(part.count() == count / parts || part.count() == (count + parts - 1) / parts);
        next = part.end;
      }
      EXPECT_EQ(next, count);
    }
  EXPECT_EQ(even_part(1, 3, 0).count(), 1);
  constexpr Index most = std::numeric_limits<Index>::max();
  EXPECT_EQ(even_part(most, 1024, 1023).end, most);
}

}  // namespace
