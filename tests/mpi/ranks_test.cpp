// SPDX-License-Identifier: MIT
// Ranks that are threads; the same rounds under mpirun are in ranks/rounds.cpp.
#include <atomic>
#include <chrono>
#include <gtest/gtest.h>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#include <eigenheads/mpi/local_transport.hpp>

#include "rounds.hpp"

namespace {

using rounds::Index, rounds::Ranks, rounds::ring, rounds::thrown_by, rounds::expect_text;
namespace mpi = eigenheads::mpi;
using std::chrono::milliseconds, std::chrono::steady_clock;

constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();

// Messages are copied as they are sent: all of them, the short ones, or none but what ranks say to each
// other.
class Rounds : public testing::TestWithParam<std::size_t> {
 protected:
  static void run(int size, const std::function<void(Ranks&)>& call,
                  mpi::RanksOptions options = {}) {
    mpi::run_locally(mpi::local_transports(size, {.eager_bytes = GetParam()}), call, options);
  }
};
INSTANTIATE_TEST_SUITE_P(Eager, Rounds, testing::Values(kAll, std::size_t{4096}, std::size_t{0}),
                         [](const auto& test) {
                           return std::to_string(test.index) +
                                  (test.param == kAll ? "All" : "Some");
                         });

TEST_P(Rounds, OneThatThrowsInAnyPhaseEndsAllAndTheNextIsWhole) {
  for (const int size : {2, 3, 4}) run(size, rounds::one_throws);
}
TEST_P(Rounds, OfTwoThatThrowEachThrowsItsOwn) {
  for (const int size : {2, 3, 8}) run(size, rounds::two_throw);
}
TEST_P(Rounds, WhatIsNoExceptionIsThrownOn) { run(3, rounds::something_else_is_thrown); }
TEST_P(Rounds, AMessageThatNobodyReceivesHoldsNobodyUp) {
  for (const int size : {3, 4}) run(size, rounds::nobody_receives);
}
TEST_P(Rounds, CallsThatDifferAreRefusedByAllInOneSentence) {
  for (const int size : {2, 3, 8}) run(size, rounds::calls_differ);
}
TEST_P(Rounds, AThousandOfThemFailByChance) {
  run(4, [](Ranks& ranks) { rounds::random_failures(ranks, 1000); });
  run(1, [](Ranks& ranks) { rounds::random_failures(ranks, 20); });
  run(8, [](Ranks& ranks) { rounds::random_failures(ranks, 50); });
}

// ---- Patience ------------------------------------------------------------------------------------

TEST(Patience, EndsForAllAndForGood) {
  for (const bool within : {true, false}) {  // the round, or before its begin
    std::atomic<int> left = 2;               // ranks that still wait
    mpi::run_locally(
        3,
        [&](Ranks& ranks) {
          std::vector<int> numbers(3000);
          const auto be_late = [&](bool now) {  // until the others have lost patience
            while (ranks.rank() == 2 && now && left > 0)
              std::this_thread::sleep_for(milliseconds(1));
          };
          const std::string thrown = thrown_by([&] {
            be_late(!within);
            ranks.together("late", {}, [&] {
              be_late(within);
              if (ranks.rank() == 0) {
                Ranks::Pending received =
                    ranks.receive(2, std::as_writable_bytes(std::span(numbers)));
                ranks.wait(received);
              } else if (ranks.rank() == 2) {
                Ranks::Pending sent = ranks.send(0, std::as_bytes(std::span(numbers)));
                ranks.wait(sent);
              }
            });
          });
          if (ranks.rank() != 2) --left;
          // It names rank 2, but for a machine that has too much to do.
          EXPECT_TRUE(thrown.starts_with("RankError: eigenheads: rank ")) << thrown;
          EXPECT_NE(thrown.find(" gave no sign for 250 ms, for which rank "), std::string::npos)
              << thrown;
          EXPECT_EQ(thrown_by([&] { ring(ranks, 5, 1); }), thrown);
        },
        {.patience = milliseconds(250)});
  }
}

TEST(Patience, OfAnyLengthIsTaken) {
  mpi::run_locally(3, [](Ranks& ranks) { ring(ranks, 5000, 1); },
                   {.patience = milliseconds::max()});
}

TEST_P(Rounds, WhoHasLeftIsNotWaitedFor) {
  const auto begin = steady_clock::now();
  try {
    run(4, [](Ranks& ranks) {
      ring(ranks, 2000, 1);
      if (ranks.rank() == 2) throw std::runtime_error("outside a round");
      EXPECT_EQ(thrown_by([&] { ring(ranks, 2000, 2); }),
                "RankError: eigenheads: rank 2 has left: outside a round");
    });
    ADD_FAILURE();
  } catch (const std::runtime_error& error) {
    EXPECT_STREQ(error.what(), "outside a round");
  }
  run(3, [](Ranks& ranks) {
    if (ranks.rank() == 0) return;
    EXPECT_EQ(thrown_by([&] { ring(ranks, 5, 1); }),
              "RankError: eigenheads: rank 0 has left: it has returned");
  });
  EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(30));  // of a patience of 60
}

// ---- What a round is made of ---------------------------------------------------------------------

TEST_P(Rounds, OneWithinAnotherIsPartOfIt) {
  run(3, [](Ranks& ranks) {
    const Index control = ranks.traffic().control_messages_sent;
    ranks.together("outer", {}, [&] { ring(ranks, 5000, 1); });
    EXPECT_EQ(ranks.traffic().control_messages_sent - control, ranks.rank() == 0 ? 4 : 2);
  });
}

TEST_P(Rounds, APendingThatIsLetGoIsWaitedFor) {
  run(3, [](Ranks& ranks) {
    const std::vector<int> mine = rounds::payload(9000, ranks.rank(), 1);
    std::vector<int> theirs(9000);
    ranks.together("let go", {}, [&] {
      const int n = ranks.size();
      Ranks::Pending received =
          ranks.receive((ranks.rank() + n - 1) % n, std::as_writable_bytes(std::span(theirs)));
      const Ranks::Pending sent =
          ranks.send((ranks.rank() + 1) % n, std::as_bytes(std::span(mine)));
      received = {};
      EXPECT_EQ(theirs, rounds::payload(9000, (ranks.rank() + n - 1) % n, 1));
    });
  });
}

TEST_P(Rounds, AMessageOfAnotherLengthFailsTheRound) {
  for (const std::size_t sent_size : {std::size_t{999}, std::size_t{1001}, std::size_t{3000}})
    run(3, [&](Ranks& ranks) {
      std::vector<int> numbers(3000);
      const std::string thrown = thrown_by([&] {
        ranks.together("lengths", {}, [&] {
          if (ranks.rank() == 1) {
            Ranks::Pending sent = ranks.send(2, std::as_bytes(std::span(numbers).first(sent_size)));
            ranks.wait(sent);
          } else if (ranks.rank() == 2) {
            Ranks::Pending received =
                ranks.receive(1, std::as_writable_bytes(std::span(numbers).first(1000)));
            ranks.wait(received);
          }
        });
      });
      const std::string sentence =
          "rank 2 was sent " + std::to_string(4 * sent_size) + " bytes by rank 1; expected 4000";
      EXPECT_EQ(thrown, ranks.rank() == 2 ? "eigenheads: " + sentence
                                          : "RankError: eigenheads: rank 2 threw: " + sentence);
      ring(ranks, 1000, 1);
    });
}

TEST_P(Rounds, AnExceptionThatIsCaughtWithinStillEndsItsMessages) {
  run(2, [](Ranks& ranks) {
    std::vector<int> numbers(3000);
    const std::string thrown = thrown_by([&] {
      ranks.together("caught", {}, [&] {
        try {
          Ranks::Pending received =
              ranks.receive(1 - ranks.rank(), std::as_writable_bytes(std::span(numbers)));
          if (ranks.rank() == 0) throw std::runtime_error("caught");
          ranks.wait(received);
        } catch (const std::runtime_error& error) {
          if (ranks.rank() == 1) throw;
        }
      });
    });
    EXPECT_TRUE(thrown.find("an exception ended messages of the round") != std::string::npos)
        << thrown;
    ring(ranks, 1000, 1);
  });
}

TEST_P(Rounds, APendingThatOutlivesItsRoundFailsThatOneAlone) {
  run(2, [](Ranks& ranks) {
    const std::vector<int> mine(3000);
    std::vector<int> theirs(3000);
    {
      Ranks::Pending received;
      const std::string thrown = thrown_by([&] {
        ranks.together("outlived", {}, [&] {
          received = ranks.receive(1 - ranks.rank(), std::as_writable_bytes(std::span(theirs)));
          Ranks::Pending sent = ranks.send(1 - ranks.rank(), std::as_bytes(std::span(mine)));
          ranks.wait(sent);
        });
      });
      EXPECT_NE(thrown.find("a message is still under way as the round of rank "),
                std::string::npos)
          << thrown;
    }
    ring(ranks, 1000, 1);
  });
}

TEST(Ranks, MessagesThatNobodyHasReceivedAreFoundAtTheEnd) {
  mpi::run_locally(3, [](Ranks& ranks) {
    const int number = 3;
    const std::string thrown = thrown_by([&] {
      ranks.together("too many", {}, [&] {
        if (ranks.rank() == 1) {
          Ranks::Pending sent = ranks.send(2, std::as_bytes(std::span(&number, 1)));
          ranks.wait(sent);
        }
      });
    });
    EXPECT_TRUE(
        thrown.ends_with("1 more messages were sent than received; expected as many of both"))
        << thrown;
    EXPECT_EQ(thrown_by([&] { ring(ranks, 5, 1); }), "RankError: " + thrown);
  });
}

TEST(Ranks, MessagesOutsideARoundAreRefused) {
  mpi::run_locally(2, [](Ranks& ranks) {
    int number = 0;
    const auto bytes = std::as_writable_bytes(std::span(&number, 1));
    EXPECT_EQ(thrown_by([&] { static_cast<void>(ranks.send(0, bytes)); }),
              "eigenheads: a message of rank " + std::to_string(ranks.rank()) +
                  " outside a round; expected it within together()");
    EXPECT_NE(thrown_by([&] { static_cast<void>(ranks.receive(0, bytes)); }), "");
    EXPECT_NE(thrown_by([&] { ranks.progress(); }), "");
    EXPECT_EQ(thrown_by([&] {
                ranks.together("to nobody", {}, [&] { static_cast<void>(ranks.send(2, bytes)); });
              }),
              ranks.rank() == 0
                  ? "invalid_argument: eigenheads: there is no rank 2; expected 0 to 1"
                  : "invalid_argument: eigenheads: there is no rank 2; expected 0 to 1");
  });
}

TEST(Ranks, OneThatComputesHearsOfAFailure) {
  std::atomic<bool> is_over = false;
  mpi::run_locally(2, [&](Ranks& ranks) {
    const std::string thrown = thrown_by([&] {
      ranks.together("computing", {}, [&] {
        if (ranks.rank() == 1) throw std::runtime_error("enough");
        while (true) ranks.progress();
      });
    });
    EXPECT_EQ(thrown, ranks.rank() == 1 ? "enough" : "RankError: eigenheads: rank 1 threw: enough");
    is_over = true;
  });
  EXPECT_TRUE(is_over);
}

TEST(RunLocally, ThrowsWhatTheLowestThatFailedByItselfThrew) {
  const auto thrown = [](const std::function<void(Ranks&)>& run) {
    return thrown_by([&] { mpi::run_locally(4, run); });
  };
  EXPECT_EQ(thrown([](Ranks& ranks) {
              ring(ranks, 5, 1, [&](rounds::Phase) {
                if (ranks.rank() >= 2)
                  throw std::runtime_error("by rank " + std::to_string(ranks.rank()));
              });
            }).substr(0, 8),
            "by rank ");
  EXPECT_EQ(thrown([](Ranks&) { throw 17; }), "the number 17");
  EXPECT_EQ(thrown([](Ranks&) {}), "");
  EXPECT_EQ(thrown_by([] { mpi::run_locally(0, [](Ranks&) {}); }),
            "invalid_argument: eigenheads: there are 0 ranks; expected 1 or more");
}

TEST(RunLocally, NeedsTransports) {
  EXPECT_EQ(
      thrown_by(
          [] { mpi::run_locally(std::vector<std::unique_ptr<mpi::Transport>>(), [](Ranks&) {}); }),
      "invalid_argument: eigenheads: run_locally: there are 0 transports; expected 1 or more");
}

}  // namespace
