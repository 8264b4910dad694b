// SPDX-License-Identifier: MIT
// Who takes part in small loops: those who are awake, or have been waited for long enough.
#include <chrono>
#include <gtest/gtest.h>

#include <eigenheads/detail/burst.hpp>

namespace {

using eigenheads::detail::awake_time, eigenheads::detail::Burst, eigenheads::detail::Threads;

// Loops of eight threads, of whom one is worth 100 of work while they sleep.
class BurstOfLoops : public testing::Test {
 protected:
  // The threads that take part in a loop that begins `pause` after the end of the last one.
  int loop(const Threads& threads, Burst::Time::duration pause = std::chrono::microseconds(1)) {
    now_ += pause;
    const int taken = burst_.threads_for(threads, 100, 8, now_);
    now_ += std::chrono::seconds(1);  // however long it takes
    burst_.end_loop(taken, now_);
    return taken;
  }

  static constexpr auto kLong = awake_time + std::chrono::nanoseconds(1);
  Burst burst_;
  Burst::Time now_ = std::chrono::steady_clock::now();
};

TEST_F(BurstOfLoops, SmallOnesWithPausesAreOnOneThread) {
  for (int repeat = 0; repeat < 10; ++repeat) EXPECT_EQ(loop({4, 1, 199}, kLong), 1);
}

TEST_F(BurstOfLoops, LargeOnesAreOnAllThatTheyAreWorth) {
  EXPECT_EQ(loop({8, 8, 800}, kLong), 8);
  EXPECT_EQ(loop({3, 3, 0}, kLong), 3);
  EXPECT_EQ(loop({4, 2, 250}, kLong), 2);
}

TEST_F(BurstOfLoops, ThoseWhoAreAwakeHelp) {
  EXPECT_EQ(loop({8, 8, 800}), 8);
  EXPECT_EQ(loop({4, 1, 100}), 4);
  EXPECT_EQ(loop({4, 1, 100}, awake_time), 4);
  EXPECT_EQ(loop({4, 1, 100}, kLong), 1);
}

TEST_F(BurstOfLoops, WorkThatWasDoneWithoutThemWakesOneAfterTheOther) {
  EXPECT_EQ(loop({8, 1, 150}, kLong), 1);  // 150 in all
  EXPECT_EQ(loop({8, 1, 150}), 3);         // 300: three threads have 100 each
  EXPECT_EQ(loop({8, 1, 150}), 3);         // 150 since then
  EXPECT_EQ(loop({8, 1, 150}), 3);         // 300
  EXPECT_EQ(loop({8, 1, 150}), 4);         // 450
  EXPECT_EQ(loop({2, 1, 50}), 2);          // no more than it is worth
  EXPECT_EQ(loop({8, 1, 150}), 2);         // the others may have fallen asleep
}

TEST_F(BurstOfLoops, WhatAllHaveDoneIsPaid) {
  for (int repeat = 0; repeat < 3; ++repeat) EXPECT_EQ(loop({8, 8, 800}), 8);
  EXPECT_EQ(loop({2, 2, 200}), 2);
  EXPECT_EQ(loop({8, 1, 150}), 3);  // 350 in all, since there were eight
}

TEST_F(BurstOfLoops, APauseForgetsWhatWasDone) {
  EXPECT_EQ(loop({8, 1, 150}, kLong), 1);
  EXPECT_EQ(loop({2, 2, 0}, kLong), 2);
  EXPECT_EQ(loop({8, 1, 150}), 2);
  EXPECT_EQ(loop({2, 1, 150}, kLong), 1);
  EXPECT_EQ(loop({2, 1, 150}, kLong), 1);
  EXPECT_EQ(loop({2, 1, 150}, awake_time), 2);
}

}  // namespace
