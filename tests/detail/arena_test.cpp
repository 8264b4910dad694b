// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cstdint>
#include <gtest/gtest.h>
#include <limits>
#include <vector>

#include <eigenheads/detail/arena.hpp>

#include "../support.hpp"

namespace {

using eigenheads::Index, eigenheads::detail::Arena, eigenheads::detail::Frame;

struct Owner {
  Arena& arena() { return memory; }
  Arena memory;
};

// In the pieces of a first call, and in the one piece of the next.
TEST(Arena, PartsOfAFrameAreApartAndAligned) {
  Owner owner;
  for (int call = 0; call < 2; ++call) {
    const Frame frame(owner);
    std::vector<int*> parts;
    for (int i = 0; i < 50; ++i) {
      parts.push_back(frame.take<int>(i));
      EXPECT_EQ(reinterpret_cast<std::uintptr_t>(parts.back()) % 64, 0u);
      std::fill_n(parts.back(), i, i);
    }
    for (int i = 0; i < 50; ++i)
      for (int k = 0; k < i; ++k) ASSERT_EQ(parts[static_cast<std::size_t>(i)][k], i) << call;
  }
}

TEST(Arena, AnInnerFrameGivesItsMemoryBack) {
  Owner owner;
  const Frame outer(owner);
  double* const kept = outer.take<double>(10);
  std::fill_n(kept, 10, 1.0);
  const double* first = nullptr;
  {
    const Frame inner(owner);
    first = inner.take<double>(1000);
    std::fill_n(inner.take<double>(3), 3, 2.0);
  }
  EXPECT_EQ(Frame(owner).take<double>(1000), first);
  EXPECT_EQ(std::count(kept, kept + 10, 1.0), 10);
}

TEST(Arena, WhatACallNeededIsOnePieceForTheNext) {
  Owner owner;
  const auto call = [&](Index size) {
    const Frame frame(owner);
    (void)frame.take<float>(size);
    for (const Index n : {size / 2, 3 * size, size / 50}) {
      const Frame step(owner);
      (void)step.take<float>(n);
    }
  };
  call(1000);
  const Index bytes = owner.memory.bytes();
  EXPECT_GE(bytes, 4000 * 4);
  EXPECT_LE(bytes, 4000 * 4 + 2 * 64);  // the most at one time, not the sum
  for (const Index size : {1000, 10, 999}) {
    call(size);
    EXPECT_EQ(owner.memory.bytes(), bytes);
  }
}

TEST(Arena, CallsThatGrowLeaveNoMoreThanTheLargestBehind) {
  Owner owner;
  for (Index size = 100; size < 10000; size += 77) {
    {
      const Frame frame(owner);
      for (int part = 0; part < 4; ++part) (void)frame.take<float>(size);
      const Index inside = owner.memory.bytes();
      EXPECT_LE(inside, 2 * 4 * (4 * size + 64)) << size;
    }
    ASSERT_LE(owner.memory.bytes(), 4 * (4 * size + 64)) << size;
  }
}

TEST(Arena, MayKeepNothing) {
  Owner owner;
  owner.memory.keep_nothing();
  { (void)Frame(owner).take<float>(1000); }
  EXPECT_EQ(owner.memory.bytes(), 0);
}

TEST(Arena, RefusesWhatMemoryCannotHold) {
  Owner owner;
  const Frame frame(owner);
  constexpr Index most = std::numeric_limits<Index>::max();
  for (const Index count : {most, most / 4, Index{-1}})
    EXPECT_NE(support::refusal([&] { return frame.take<double>(count); }).find("more than memory"),
              std::string::npos);
}

}  // namespace
