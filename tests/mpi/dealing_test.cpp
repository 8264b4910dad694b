// SPDX-License-Identifier: MIT
// Which rank has which rows: each row once, blocks whole, work shared as the three ways of dealing say.
#include <algorithm>
#include <numeric>
#include <vector>

#include <eigenheads/mpi/dealing.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::mpi::Deal, eh::mpi::Dealing;

constexpr Deal kDeals[] = {Deal::contiguous, Deal::early_and_late, Deal::cyclic};

[[nodiscard]] Index pairs(const eh::Mask& mask, const Dealing& dealing, int rank) {
  const eh::detail::SequenceRows rows = dealing.as_rows();
  return visible_pairs(eh::BoundMask(mask, rows, rows), dealing, rank);
}

TEST(Dealing, GivesEachRowToOneRankInWholeBlocks) {
  for (const auto& lengths : std::vector<std::vector<Index>>{
           {}, {0}, {1}, {3}, {2999}, {7, 0, 8, 9, 0}, {0, 0, 33}, {16, 0, 0}, {8, 8, 8, 8, 8}})
    for (const Deal deal : kDeals)
      for (int ranks = 1; ranks <= 9; ++ranks) {
        const eh::Sequences sequences(lengths);
        const Dealing dealing(sequences, {.ranks = ranks, .block = 8, .deal = deal});
        std::vector<int> owners(static_cast<std::size_t>(sequences.rows()), -1);
        for (int rank = 0; rank < ranks; ++rank) {
          Index rows = 0;
          for (const auto& range : dealing.rows_of(rank))
            for (Index row = range.begin; row < range.end; ++row, ++rows) {
              ASSERT_EQ(owners[static_cast<std::size_t>(row)], -1);
              owners[static_cast<std::size_t>(row)] = rank;
            }
          ASSERT_EQ(rows, dealing.local_rows(rank));
        }
        ASSERT_EQ(std::count(owners.begin(), owners.end(), -1), 0);
        for (const Dealing::Block& block : dealing.blocks()) {
          ASSERT_EQ(block.begin % 8, 0);
          ASSERT_LE(block.count(), 8);
          for (Index row = block.begin; row < block.end; ++row)
            ASSERT_EQ(owners[static_cast<std::size_t>(sequences.begin(block.b) + row)],
                      block.owner);
        }
      }
}

TEST(Dealing, NoRankHasMoreThanItsBlocks) {
  const auto blocks_of_rank = [](const Dealing& dealing, int rank) {
    return std::count_if(dealing.blocks().begin(), dealing.blocks().end(),
                         [&](const Dealing::Block& block) { return block.owner == rank; });
  };
  for (const Deal deal : kDeals)
    for (int ranks = 1; ranks <= 5; ++ranks)
      for (Index blocks = 0; blocks < 30; ++blocks) {
        const Dealing dealing({8 * blocks}, {.ranks = ranks, .block = 8, .deal = deal});
        const Index most = (blocks + ranks - 1) / ranks + (deal == Deal::early_and_late ? 1 : 0);
        for (int rank = 0; rank < ranks; ++rank) EXPECT_LE(blocks_of_rank(dealing, rank), most);
      }
}

// 8 rows, 2 ranks, 4 chunks of 2.
TEST(Dealing, EarlyAndLateChunksAreTheSameWork) {
  const eh::Mask causal{.causal = eh::Causal::top_left};
  const Dealing dealing({8}, {.ranks = 2, .block = 2, .deal = Deal::early_and_late});
  const auto rows = dealing.rows_of(0);
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].begin, 0);
  EXPECT_EQ(rows[0].end, 2);
  EXPECT_EQ(rows[1].begin, 6);
  EXPECT_EQ(rows[1].end, 8);
  EXPECT_EQ(pairs(causal, dealing, 0), 18);
  EXPECT_EQ(pairs(causal, dealing, 1), 18);
  const Dealing halves({8}, {.ranks = 2, .block = 2, .deal = Deal::contiguous});
  EXPECT_EQ(pairs(causal, halves, 0), 10);
  EXPECT_EQ(pairs(causal, halves, 1), 26);
  for (const int ranks : {1, 2, 3, 4, 8}) {
    const Dealing even({48 * ranks}, {.ranks = ranks, .block = 8, .deal = Deal::early_and_late});
    for (int rank = 0; rank < ranks; ++rank)
      EXPECT_EQ(pairs(causal, even, rank), 48 * (48 * ranks + 1) / 2) << rank << " of " << ranks;
  }
}

// By the time when block i of keys is at work, ranks have computed nearly the same.
TEST(Dealing, CyclicBlocksAreTheSameWorkAtEveryMoment) {
  const int ranks = 4;
  const Dealing dealing({8 * 64}, {.ranks = ranks, .block = 8, .deal = Deal::cyclic});
  for (Index key = 0; key < 64; ++key) {
    std::vector<Index> seeing(ranks);  // blocks of rows that see block `key` of keys
    for (const Dealing::Block& block : dealing.blocks())
      if (block.begin >= 8 * key) ++seeing[static_cast<std::size_t>(block.owner)];
    const auto [least, most] = std::minmax_element(seeing.begin(), seeing.end());
    EXPECT_LE(*most - *least, 1);
  }
}

TEST(Dealing, ShortSequencesAreSharedOutToo) {
  for (const Deal deal : kDeals) {
    const Dealing dealing(std::vector<Index>(12, 5), {.ranks = 4, .block = 8, .deal = deal});
    for (int rank = 0; rank < 4; ++rank) EXPECT_EQ(dealing.local_rows(rank), 15);
  }
}

TEST(Dealing, ThreeRowsOnEightRanks) {
  for (const Deal deal : kDeals) {
    const auto dealing = Dealing::of<float>({3}, 8, deal);
    EXPECT_EQ(std::accumulate(dealing.local_rows().begin(), dealing.local_rows().end(), Index{0}),
              3);
    EXPECT_EQ(std::count(dealing.local_rows().begin(), dealing.local_rows().end(), 0), 7);
  }
}

TEST(Dealing, RowsAreTakenAndPutBack) {
  const eh::Sequences sequences{20, 0, 3, 17};
  const auto x = random_tensor<double>(1, sequences.rows(), 5);
  for (const Deal deal : kDeals) {
    const Dealing dealing(sequences, {.ranks = 3, .block = 4, .deal = deal});
    auto y = constant_tensor(0.0, sequences.rows(), 5);
    for (int rank = 0; rank < 3; ++rank) put_rows(y, take_rows(x, dealing, rank), dealing, rank);
    EXPECT_TRUE(same_bits(y, x));
  }
}

TEST(Dealing, RefusesNoRanksAndRowsOfAnotherBatch) {
  EXPECT_EQ(refusal([] { return Dealing({8}, {.ranks = 0, .block = 8}); }),
            "eigenheads: Dealing: ranks is 0; expected 1 or more");
  EXPECT_EQ(refusal([] { return Dealing({8}, {.ranks = 1, .block = 0}); }),
            "eigenheads: Dealing: block is 0; expected 1 or more");
  EXPECT_EQ(refusal([] { return Dealing({8}, {.ranks = 1, .block = 8, .together = 0}); }),
            "eigenheads: Dealing: together is 0; expected 1 or more");
  EXPECT_EQ(refusal([] { return Dealing::of_padded<float>(-1, 5, 2); }),
            "eigenheads: Dealing: of_padded gets B = -1 and L = 5; expected 0 or more of both");
  EXPECT_EQ(refusal([] { return Dealing::of_padded<float>(0, -5, 2); }),
            "eigenheads: Dealing: of_padded gets B = 0 and L = -5; expected 0 or more of both");
  const Dealing dealing({8}, {.ranks = 2, .block = 4});
  EXPECT_EQ(refusal([&] { return take_rows(random_tensor<float>(1, 7, 2), dealing, 0); }),
            "eigenheads: x has 7 rows; expected 8, those of its 1 sequences");
}

}  // namespace
