// SPDX-License-Identifier: MIT
// Threads that the caller owns: they may be busy, come late, run a task where it stands, or fail;
// and a call may come from one of them.
#include <atomic>
#include <chrono>
#include <functional>
#include <future>
#include <new>
#include <thread>
#include <unsupported/Eigen/CXX11/ThreadPool>
#include <vector>

#include <eigenheads/context.hpp>
#include <eigenheads/multi_head_attention.hpp>

#include "context.hpp"
#include "contract.hpp"
#include "support.hpp"

namespace {

using namespace support;
using eh::Context;

TEST(CallersPool, HandsOutEveryIndexOnceOnTheCallersPool) {
  for (const int size : {1, 2, 3}) {
    Eigen::ThreadPool pool(size);
    Context context(pool);
    EXPECT_EQ(context.threads(), size + 1);  // the calling thread works too
    for (const Index count : {0, 1, 2, 3, 4, 1000}) EXPECT_TRUE(each_once(context, count));
  }
}

// A pool may run a task at once, where it was scheduled: Eigen's does when its queue is full.
class AtOnce : public Eigen::ThreadPoolInterface {
 public:
  void Schedule(std::function<void()> task) override { task(); }
  int NumThreads() const override { return 3; }
  int CurrentThreadId() const override { return -1; }
};

TEST(CallersPool, HandsOutEveryIndexOnceOnAPoolThatRunsTasksAtOnce) {
  AtOnce pool;
  Context context(pool);
  for (const Index count : {0, 1, 2, 5, 1000}) EXPECT_TRUE(each_once(context, count));
}

// Waiting inside a task for other tasks of the pool would wait for ever.
TEST(CallersPool, ACallFromATaskOfTheCallersPoolReturns) {
  for (const int size : {1, 2}) {
    finishes([size] {
      std::vector<std::promise<bool>> done(4);
      Eigen::ThreadPool pool(size);
      for (auto& one : done)
        pool.Schedule([&] {
          Context context(pool);
          one.set_value(each_once(context, 100));
        });
      for (auto& one : done) EXPECT_TRUE(one.get_future().get());
    });
  }
}

// Runs its first task on a thread; once that is at work, it has no memory for a second.
class FailsOnSecondTask : public Eigen::ThreadPoolInterface {
 public:
  void Schedule(std::function<void()> task) override {
    if (!thread_.joinable()) {
      thread_ = std::thread(std::move(task));
    } else {
      while (!at_work) std::this_thread::yield();
      throw std::bad_alloc();
    }
  }
  int NumThreads() const override { return 2; }
  int CurrentThreadId() const override { return -1; }
  void join() { thread_.join(); }

  std::atomic<bool> at_work{false};

 private:
  std::thread thread_;
};

// The helpers work on what lies on the caller's stack.
TEST(CallersPool, ACallThatFailsToGetHelpersReturnsOnlyWhenThoseItGotHaveLeft) {
  finishes([] {
    FailsOnSecondTask pool;
    Context context(pool);
    std::atomic<int> inside{0};
    const auto body = [&](Index) {
      ++inside;
      pool.at_work = true;
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
      --inside;
    };
    try {
      context.parallel_for(3, body);  // refused memory, it may also go on without the second helper
    } catch (const std::bad_alloc&) {
    }
    EXPECT_EQ(inside, 0);
    pool.join();
  });
}

// Threads that are busy for ever: the caller does all of it, and waits for nobody.
TEST(CallersPool, WhoseThreadsAreBusyForEverBlocksNoCall) {
  finishes([] {
    std::promise<void> stop;
    const auto stopped = stop.get_future().share();
    std::atomic<int> busy{0};
    const auto layer = make_layer<float>();
    const auto x = random_tensor<float>(1, 3, 100, kFeatures);
    const Tensor<float, 3> expected = layer(x, x, x);
    Eigen::ThreadPool pool(2);
    for (int thread = 0; thread < 2; ++thread)
      pool.Schedule([&] {
        ++busy;
        stopped.wait();
      });
    while (busy < 2) std::this_thread::yield();
    {
      Context context(pool, kAnyWork);
      for (int repeat = 0; repeat < 20; ++repeat) {
        EXPECT_TRUE(each_once(context, 50));
        EXPECT_TRUE(same_bits(layer(x, x, x, {}, context), expected));
      }
    }  // helpers that come when the context is gone find nothing to do
    stop.set_value();
  });
}

// Helpers of a call that is over come while another is at work, and take no part twice.
TEST(CallersPool, HelpersThatComeLateHelpWhoeverIsThere) {
  finishes([] {
    std::promise<void> stop;
    const auto stopped = stop.get_future().share();
    Eigen::ThreadPool pool(1);
    Context context(pool);
    pool.Schedule([&] { stopped.wait(); });
    for (int repeat = 0; repeat < 100; ++repeat) EXPECT_TRUE(each_once(context, 3));
    std::thread releaser([&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      stop.set_value();
    });
    for (int repeat = 0; repeat < 2000; ++repeat) EXPECT_TRUE(each_once(context, 3));
    releaser.join();
    for (int repeat = 0; repeat < 2000; ++repeat) EXPECT_TRUE(each_once(context, 3));
  });
}

// A pool may have far fewer threads than bodies at once, and several contexts.
TEST(CallersPool, ServesSeveralContextsAtOnce) {
  finishes([] {
    Eigen::ThreadPool pool(2);
    std::vector<std::thread> callers;
    std::atomic<int> right{0};
    for (int caller = 0; caller < 4; ++caller)
      callers.emplace_back([&] {
        Context context(pool);
        for (int repeat = 0; repeat < 200; ++repeat) right += each_once(context, 20);
      });
    for (auto& caller : callers) caller.join();
    EXPECT_EQ(right, 800);
  });
}

}  // namespace
