// SPDX-License-Identifier: MIT
// Blocks pass the ranks that need them: whoever needs which, whoever is slow, each gets all of its own
// in order, once, and nothing but what a formula says is sent.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <eigenheads/mpi/block_stream.hpp>
#include <eigenheads/mpi/local_transport.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::mpi::BlockStep, eh::mpi::Ranks, eh::mpi::run_locally;

// A plan at random: owners, sizes and needs, among them blocks that nobody needs but their owner, or
// nobody at all.
struct RandomPlan {
  std::vector<int> owners;
  std::vector<Index> sizes;
  std::vector<std::vector<bool>> needed;

  RandomPlan(int ranks, Index blocks, std::uint64_t seed) {
    Numbers numbers(seed);
    const Index density = numbers.between(0, 4);  // of 4
    for (Index i = 0; i < blocks; ++i) {
      owners.push_back(static_cast<int>(numbers.between(0, ranks - 1)));
      sizes.push_back(numbers.between(1, 300));
      needed.emplace_back();
      for (int rank = 0; rank < ranks; ++rank)
        needed.back().push_back(numbers.between(1, 4) <= density);
    }
  }
  [[nodiscard]] Index count() const { return std::ssize(owners); }
  [[nodiscard]] int owner(Index i) const { return owners[static_cast<std::size_t>(i)]; }
  [[nodiscard]] Index bytes(Index i) const { return sizes[static_cast<std::size_t>(i)]; }
  [[nodiscard]] bool needs(Index i, int rank) const {
    return needed[static_cast<std::size_t>(i)][static_cast<std::size_t>(rank)];
  }
};

[[nodiscard]] std::byte content(Index block, std::size_t at) {
  return static_cast<std::byte>(static_cast<std::size_t>(block) * 31 + at * 7);
}

// Whether all that a rank uses is what it needs, in order, as its owner packed it.
void stream(Ranks& ranks, const RandomPlan& plan, std::uint64_t seed) {
  const std::vector<BlockStep> steps = eh::mpi::steps_of(plan, ranks.rank(), ranks.size());
  std::vector<std::byte> buffers(
      static_cast<std::size_t>(eh::mpi::stream_buffers * eh::mpi::buffer_bytes(steps)));
  std::vector<Index> used;
  Numbers numbers(seed + static_cast<std::uint64_t>(ranks.rank()));
  ranks.reset_traffic();
  ranks.together("stream", {{"blocks", plan.count()}}, [&] {
    const auto pack = [](Index block, std::span<std::byte> bytes) {
      for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = content(block, i);
    };
    eh::mpi::BlockStream stream(ranks, steps, buffers, pack);
    stream.run([&](Index block, std::span<const std::byte> bytes) {
      used.push_back(block);
      ASSERT_EQ(std::ssize(bytes), plan.bytes(block));
      for (Index looks = numbers.between(0, 3); looks > 0; --looks) {
        std::this_thread::sleep_for(std::chrono::microseconds(numbers.between(0, 50)));
        stream.advance();
      }
      for (std::size_t i = 0; i < bytes.size(); ++i) ASSERT_EQ(bytes[i], content(block, i));
    });
  });
  std::vector<Index> expected;
  for (Index i = 0; i < plan.count(); ++i)
    if (plan.needs(i, ranks.rank())) expected.push_back(i);
  EXPECT_EQ(used, expected);
  const auto cost = eh::mpi::cost_of(steps);
  EXPECT_EQ(ranks.traffic().messages_sent, cost.messages_sent);
  EXPECT_EQ(ranks.traffic().bytes_sent, cost.bytes_sent);
  EXPECT_EQ(ranks.traffic().messages_received, cost.messages_received);
  EXPECT_EQ(ranks.traffic().bytes_received, cost.bytes_received);
}

TEST(BlockStream, GivesEachRankItsBlocksInOrder) {
  for (int ranks = 1; ranks <= 8; ++ranks)
    for (std::uint64_t seed = 1; seed <= 6; ++seed) {
      const RandomPlan plan(ranks, static_cast<Index>(seed * seed * 3), seed * 100);
      finishes([&] { run_locally(ranks, [&](Ranks& r) { stream(r, plan, seed); }); });
    }
}

// Each rank that needs a block but has not got it receives it once, from a rank that has it.
TEST(BlockStream, SendsNoBlockTwiceToARank) {
  for (int ranks = 1; ranks <= 8; ++ranks) {
    const RandomPlan plan(ranks, 200, 7);
    Index received = 0, sent = 0, needed = 0;
    for (int rank = 0; rank < ranks; ++rank) {
      const auto steps = eh::mpi::steps_of(plan, rank, ranks);
      EXPECT_TRUE(std::ranges::is_sorted(steps, {}, &BlockStep::number));
      received += eh::mpi::cost_of(steps).bytes_received;
      sent += eh::mpi::cost_of(steps).bytes_sent;
      for (const BlockStep& step : steps) {
        EXPECT_NE(step.to, plan.owner(step.number));
        EXPECT_EQ(step.from < 0, plan.owner(step.number) == rank);
      }
      for (Index i = 0; i < plan.count(); ++i)
        if (plan.needs(i, rank) && plan.owner(i) != rank) needed += plan.bytes(i);
    }
    EXPECT_EQ(received, needed);
    EXPECT_EQ(sent, needed);
  }
}

// The others learn of it, in whatever they are at, and all can go on with another round.
TEST(BlockStream, ARankThatThrowsEndsItOnAll) {
  const RandomPlan plan(4, 60, 11);
  run_locally(4, [&](Ranks& ranks) {
    const auto steps = eh::mpi::steps_of(plan, ranks.rank(), ranks.size());
    std::vector<std::byte> buffers(
        static_cast<std::size_t>(eh::mpi::stream_buffers * eh::mpi::buffer_bytes(steps)));
    const auto fail = [&] {
      ranks.together("stream", {}, [&] {
        const auto pack = [](Index, std::span<std::byte>) {};
        eh::mpi::BlockStream stream(ranks, steps, buffers, pack);
        stream.run([&](Index block, std::span<const std::byte>) {
          if (ranks.rank() == 2 && block >= 20) throw std::invalid_argument("the disk is full");
        });
      });
    };
    if (ranks.rank() == 2)
      EXPECT_EQ(refusal(fail), "the disk is full");
    else
      EXPECT_NE(refusal<eh::mpi::RankError>(fail).find("the disk is full"), std::string::npos);
    stream(ranks, plan, 3);
  });
}

}  // namespace
