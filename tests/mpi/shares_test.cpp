// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include <eigenheads/mpi/shares.hpp>

#include "support.hpp"

namespace {

namespace mpi = eigenheads::mpi;
using namespace support;
using eh::detail::HeadSet;
using mpi::Shares;

[[nodiscard]] std::vector<Index> counts(const Shares& shares) {
  std::vector<Index> counts;
  for (int rank = 0; rank < shares.ranks(); ++rank) counts.push_back(shares.count(rank));
  return counts;
}
using Counts = std::vector<Index>;

TEST(Shares, AsEvenAsCanBeAndInTheOrderOfTheRanks) {
  EXPECT_EQ(counts(Shares::even(10, 4)), (Counts{3, 3, 2, 2}));
  EXPECT_EQ(counts(Shares::even(2, 4)), (Counts{1, 1, 0, 0}));
  EXPECT_EQ(counts(Shares::even(0, 2)), (Counts{0, 0}));
  for (Index total = 0; total < 20; ++total)
    for (int ranks = 1; ranks < 9; ++ranks) {
      const Shares shares = Shares::even(total, ranks);
      EXPECT_EQ(shares.total(), total);
      EXPECT_EQ(shares.of(0).begin, 0);
      for (int rank = 1; rank < ranks; ++rank)
        EXPECT_EQ(shares.of(rank).begin, shares.of(rank - 1).end);
    }
  EXPECT_EQ(counts(Shares::even(3, 2).times(5)), (Counts{10, 5}));
}

TEST(Shares, KeyValueHeadsKeepTheHeadsThatReadThem) {
  EXPECT_EQ(counts(mpi::head_shares(HeadSet(8, 2), 4).heads), (Counts{4, 4, 0, 0}));
  EXPECT_EQ(counts(mpi::head_shares(HeadSet(6, 3), 2).heads), (Counts{4, 2}));
  EXPECT_EQ(counts(mpi::head_shares(HeadSet(6, 6), 4).heads), (Counts{2, 2, 1, 1}));
  // Heads 0 and 5 to 7 are left, which read 0, 2 and 3 of what was 4.
  const HeadSet whole(8, 4);
  const HeadSet pruned = whole.part(whole.without({1, 2, 3, 4}));
  const auto shares = mpi::head_shares(pruned, 2);
  EXPECT_EQ(counts(shares.kv_heads), (Counts{2, 1}));
  EXPECT_EQ(counts(shares.heads), (Counts{2, 2}));
  const HeadSet second = mpi::heads_of(pruned, shares, 1);
  EXPECT_EQ(second.originals(), (std::vector<Index>{6, 7}));
  EXPECT_EQ(second.original_count(), 8);
  EXPECT_EQ(second.kv_heads(), (std::vector<Index>{0, 0}));
}

TEST(Shares, WhatIsNoShareIsRefused) {
  EXPECT_NE(refusal([] { return Shares::even(-1, 2); }).find("-1 things"), std::string::npos);
  EXPECT_NE(refusal([] { return Shares::even(1, 0); }).find("over 0 ranks"), std::string::npos);
  for (const auto& begins : {Counts{}, Counts{0}, Counts{1, 2}, Counts{0, 3, 2}})
    EXPECT_NE(refusal([&] { return Shares::from_begins(begins); }).find("where the share"),
              std::string::npos);
}

}  // namespace
