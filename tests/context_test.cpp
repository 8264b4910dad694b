// SPDX-License-Identifier: MIT
// Every index once, on however many threads; what is thrown arrives; and scratch memory is kept.
#include "context.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <unsupported/Eigen/CXX11/ThreadPool>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::Context;

TEST(Context, HandsOutEveryIndexOnce) {
  for (const int threads : {1, 2, 3, 4, 8}) {
    Context context(threads);
    EXPECT_EQ(context.threads(), threads);
    for (const Index count : {0, 1, 2, 3, 4, 5, 64, 1000})
      for (int repeat = 0; repeat < 20; ++repeat)
        ASSERT_TRUE(each_once(context, count)) << threads << " threads, " << count;
  }
}

TEST(Context, UsesTheThreadsItHas) {
  Context context(2);
  std::atomic<int> here{0};
  finishes([&] {  // each body waits for the other
    context.parallel_for(2, [&](Index) {
      ++here;
      while (here < 2) std::this_thread::yield();
    });
  });
  EXPECT_EQ(here, 2);
}

TEST(Context, OneThreadIsTheCallersAndGoesInOrder) {
  Context context;
  EXPECT_EQ(context.threads(), 1);
  const auto caller = std::this_thread::get_id();
  std::vector<Index> order;
  context.parallel_for(5, [&](Index i) {
    EXPECT_EQ(std::this_thread::get_id(), caller);
    order.push_back(i);
  });
  EXPECT_EQ(order, (std::vector<Index>{0, 1, 2, 3, 4}));
}

TEST(Context, FewerThanOneThreadIsRefused) {
  const auto refused = [](int threads) {
    return refusal([&] { return std::make_unique<Context>(threads); });
  };
  EXPECT_EQ(refused(0), "eigenheads: Context: threads is 0; expected 1 or more");
  EXPECT_EQ(refused(-3), "eigenheads: Context: threads is -3; expected 1 or more");
}

TEST(Context, WorkOfLessThanNothingIsRefused) {
  const std::string expected =
      "eigenheads: Context: multiply_adds_per_thread is -1; expected 0 or more";
  EXPECT_EQ(refusal([] { return std::make_unique<Context>(2, -1); }), expected);
  Eigen::ThreadPool pool(1);
  EXPECT_EQ(refusal([&] { return std::make_unique<Context>(pool, -1); }), expected);
  EXPECT_NE(refusal([] { return std::make_unique<Context>(1, kNan<double>); }), "");
}

TEST(Context, HasAsManyThreadsForWorkAsItIsWorth) {
  const Context context(3, 100), all(3, 0), one(3, kInf<double>);
  const auto least_and_most = [](const Context& of, double work) {
    const auto threads = of.threads_for(work);
    EXPECT_EQ(threads.work, work);
    return std::pair{threads.least, threads.most};
  };
  using Pair = std::pair<int, int>;
  EXPECT_EQ(least_and_most(context, 0), Pair(1, 1));
  EXPECT_EQ(least_and_most(context, 49), Pair(1, 1));
  EXPECT_EQ(least_and_most(context, 50), Pair(1, 2));  // a quarter each, if the others are awake
  EXPECT_EQ(least_and_most(context, 75), Pair(1, 3));
  EXPECT_EQ(least_and_most(context, 199), Pair(1, 3));
  EXPECT_EQ(least_and_most(context, 200), Pair(2, 3));
  EXPECT_EQ(least_and_most(context, 300), Pair(3, 3));
  EXPECT_EQ(least_and_most(context, 1e300), Pair(3, 3));
  EXPECT_EQ(least_and_most(all, 0), Pair(3, 3));
  EXPECT_EQ(least_and_most(one, 1e300), Pair(1, 1));
}

TEST(Context, SmallLoopsAreSharedIfTheyFollowEachOther) {
  Context context(2, 1000);
  const auto has_help = [&](double work) {  // a helper that comes is waited for
    const auto caller = std::this_thread::get_id();
    std::atomic<bool> came{false};
    context.parallel_for(2, context.threads_for(work), [&](Index) {
      if (std::this_thread::get_id() != caller) came = true;
      const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(1);
      while (!came && std::chrono::steady_clock::now() < end) std::this_thread::yield();
    });
    return came.load();
  };
  for (int repeat = 0; repeat < 5; ++repeat) {
    std::this_thread::sleep_for(2 * eh::detail::awake_time);
    EXPECT_FALSE(has_help(1999));  // those who sleep are left alone
  }
  for (int repeat = 0; repeat < 5; ++repeat) EXPECT_FALSE(has_help(499));
  // A loop after another one, unless the system has let this thread wait in between.
  bool was_helped = false;
  for (int repeat = 0; repeat < 1000 && !was_helped; ++repeat) was_helped = has_help(1999);
  EXPECT_TRUE(was_helped);
}

TEST(Context, AnExceptionReachesTheCallerAndTheThreadsGoOn) {
  struct Mine : std::runtime_error {
    using std::runtime_error::runtime_error;
  };
  for (const int threads : {1, 2, 4}) {
    Context context(threads);
    for (Index thrower = 0; thrower < 50; ++thrower) {
      EXPECT_EQ(refusal<Mine>([&] {
                  context.parallel_for(50, [&](Index i) {
                    if (i == thrower) throw Mine(std::to_string(i));
                  });
                  return 0;
                }),
                std::to_string(thrower));
      ASSERT_TRUE(each_once(context, 50));
    }
  }
}

TEST(Context, AWorkersExceptionReachesTheCaller) {
  Eigen::ThreadPool pool(1);
  Context own(2), of_caller(pool);
  for (Context* context : {&own, &of_caller}) {
    const auto caller = std::this_thread::get_id();
    std::atomic<bool> worker_came{false};
    EXPECT_EQ(refusal<std::bad_alloc>([&] {
                context->parallel_for(2, [&](Index) {
                  if (std::this_thread::get_id() != caller) {
                    worker_came = true;
                    throw std::bad_alloc();
                  }
                  while (!worker_came) std::this_thread::yield();
                });
                return 0;
              }),
              std::bad_alloc().what());
    EXPECT_TRUE(each_once(*context, 100));
  }
}

TEST(Context, OfManyExceptionsOneArrives) {
  Context context(4);
  for (int repeat = 0; repeat < 100; ++repeat)
    ASSERT_EQ(refusal<std::runtime_error>([&] {
                context.parallel_for(1000, [](Index) { throw std::runtime_error("each"); });
                return 0;
              }),
              "each");
}

TEST(Context, BodiesNotYetBegunAreLeftOutAfterAnException) {
  for (const int threads : {1, 2}) {
    Context context(threads);
    std::atomic<int> begun{0};
    const auto body = [&](Index i) {
      ++begun;
      if (i == 2) {
        // Until another thread, if there is one, is at work.
        const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(10);
        while (threads > 1 && begun < 6 && std::chrono::steady_clock::now() < end)
          std::this_thread::yield();
        throw std::runtime_error("third");
      }
      if (i > 2) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    };
    EXPECT_EQ(refusal<std::runtime_error>([&] { return context.parallel_for(2000, body), 0; }),
              "third");
    EXPECT_LT(begun, 2000);
  }
}

TEST(Context, ABodyMayUseAContextOfItsOwn) {
  finishes([] {
    Context context(3);
    std::vector<int> inner(6);
    context.parallel_for(6, [&](Index i) {
      Context another(2);
      inner[static_cast<std::size_t>(i)] = each_once(another, 20);
    });
    EXPECT_EQ(inner, std::vector<int>(6, 1));
  });
}

// ---- body(i, thread) --------------------------------------------------------------------------

// What a body keeps for its thread, no other body touches meanwhile.
TEST(Context, BodiesThatRunAtOnceHaveDifferentThreads) {
  for (const int threads : {1, 2, 3, 5}) {
    Context context(threads);
    for (const Index count : {1, 2, 7, 500}) {
      std::vector<std::atomic<bool>> is_taken(static_cast<std::size_t>(threads));
      std::vector<int> visits(static_cast<std::size_t>(count));
      std::atomic<int> wrong{0};
      context.parallel_for(count, [&](Index i, int thread) {
        if (thread < 0 || thread >= threads) {
          ++wrong;
          return;
        }
        auto& mine = is_taken[static_cast<std::size_t>(thread)];
        wrong += mine.exchange(true);
        ++visits[static_cast<std::size_t>(i)];
        if (i % 50 == 0) std::this_thread::sleep_for(std::chrono::microseconds(200));
        mine = false;
      });
      EXPECT_EQ(wrong, 0) << threads << " threads, " << count;
      EXPECT_EQ(visits, std::vector<int>(static_cast<std::size_t>(count), 1));
    }
  }
}

TEST(Context, TheOnlyThreadIsNumberZero) {
  Context context;
  context.parallel_for(3, [](Index, int thread) { EXPECT_EQ(thread, 0); });
}

TEST(Context, NoMoreThreadsTakePartThanAreAskedFor) {
  Context context(4);
  for (int repeat = 0; repeat < 100; ++repeat) {
    std::atomic<int> wrong{0};
    context.parallel_for(100, 2, [&](Index, int thread) { wrong += thread < 0 || thread > 1; });
    ASSERT_EQ(wrong, 0);
    const auto caller = std::this_thread::get_id();
    context.parallel_for(100, 1, [&](Index) { wrong += std::this_thread::get_id() != caller; });
    ASSERT_EQ(wrong, 0);
  }
}

// A body may not know that it is in one.
TEST(Context, ACallFromInsideABodyRunsSerially) {
  finishes([] {
    Context context(3);
    std::atomic<int> count{0};
    context.parallel_for(20, [&](Index) {
      const auto here = std::this_thread::get_id();
      context.parallel_for(10, [&](Index) { count += std::this_thread::get_id() == here; });
    });
    EXPECT_EQ(count, 200);
  });
}

// Threads that sleep are woken; what ends a context wakes them too.
TEST(Context, ThreadsThatSleptGoOn) {
  finishes([] {
    for (int repeat = 0; repeat < 20; ++repeat) {
      Context context(3);
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      EXPECT_TRUE(each_once(context, 30));
      std::this_thread::sleep_for(std::chrono::milliseconds(repeat % 3));
    }
  });
}

// ---- Scratch memory ----------------------------------------------------------------------------

using eh::detail::Frame;

TEST(Context, ScratchMemoryIsKeptAndReleased) {
  Context context;
  EXPECT_EQ(context.scratch_bytes(), 0);
  const float* first = nullptr;
  {
    const Frame frame(context);
    first = frame.take<float>(1000);
    EXPECT_GE(context.scratch_bytes(), 4000);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(first) % 64, 0u);
  }
  const Index bytes = context.scratch_bytes();
  for (const Index smaller : {1000, 10, 0, 999}) {
    const Frame frame(context);
    EXPECT_EQ(frame.take<float>(smaller), first);
    EXPECT_EQ(context.scratch_bytes(), bytes);
  }
  {
    const Frame frame(context);
    std::fill_n(frame.take<double>(1000), 1000, 1.0);  // all of it is there
    EXPECT_GE(context.scratch_bytes(), 8000);
  }
  context.release();
  EXPECT_EQ(context.scratch_bytes(), 0);
  const Frame frame(context);
  std::fill_n(frame.take<float>(5), 5, 1.0f);
  EXPECT_GE(context.scratch_bytes(), 20);
}

TEST(Context, AMovedContextKeepsItsThreadsAndItsMemory) {
  std::vector<Context> contexts;
  for (int threads = 1; threads < 5; ++threads) contexts.emplace_back(threads);  // it moves them
  for (int threads = 1; threads < 5; ++threads) {
    Context moved = std::move(contexts[static_cast<std::size_t>(threads - 1)]);
    EXPECT_EQ(moved.threads(), threads);
    std::atomic<Index> sum = 0;
    moved.parallel_for(100, [&](Index i) { sum += i; });
    EXPECT_EQ(sum, 4950);
    { static_cast<void>(Frame(moved).take<int>(1000)); }
    Context again;
    again = std::move(moved);
    EXPECT_GE(again.scratch_bytes(), 4000);
    again.parallel_for(100, [&](Index i) { sum -= i; });
    EXPECT_EQ(sum, 0);
  }
}

TEST(DefaultContext, IsTheThreadsOwnAndHasOneThread) {
  Context* const mine = &eh::default_context();
  EXPECT_EQ(mine->threads(), 1);
  EXPECT_EQ(&eh::default_context(), mine);
  Context* other = nullptr;
  std::thread([&] { other = &eh::default_context(); }).join();
  EXPECT_NE(other, mine);
}

}  // namespace
