// SPDX-License-Identifier: MIT
// Every index once, on however many threads, whoever owns them; and what is thrown arrives.
#include <algorithm>
#include <atomic>
#include <functional>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include <eigenheads/context.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::Context;

// How often each index was handed out. Not atomic: a body owns its index, and what it wrote is
// there once parallel_for has returned.
std::vector<int> visits(Context& context, Index count) {
  std::vector<int> visits(static_cast<std::size_t>(count));
  context.parallel_for(count, [&](Index i) { ++visits[static_cast<std::size_t>(i)]; });
  return visits;
}

bool each_once(Context& context, Index count) {
  const auto all = visits(context, count);
  return std::all_of(all.begin(), all.end(), [](int n) { return n == 1; });
}

TEST(Context, HandsOutEveryIndexOnce) {
  for (const int threads : {1, 2, 3, 4, 8}) {
    Context context(threads);
    EXPECT_EQ(context.threads(), threads);
    for (const Index count : {0, 1, 2, 3, 4, 5, 64, 1000})
      for (int repeat = 0; repeat < 20; ++repeat)
        ASSERT_TRUE(each_once(context, count)) << threads << " threads, " << count;
  }
}

TEST(Context, HandsOutEveryIndexOnceOnTheCallersPool) {
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

TEST(Context, HandsOutEveryIndexOnceOnAPoolThatRunsTasksAtOnce) {
  AtOnce pool;
  Context context(pool);
  for (const Index count : {0, 1, 2, 5, 1000}) EXPECT_TRUE(each_once(context, count));
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
    std::atomic<bool> thrown{false};
    const auto body = [&](Index i) {
      ++begun;
      if (i == 2) {
        thrown = true;
        throw std::runtime_error("third");
      }
      if (thrown) std::this_thread::sleep_for(std::chrono::milliseconds(1));
    };
    EXPECT_EQ(refusal<std::runtime_error>([&] { return context.parallel_for(2000, body), 0; }),
              "third");
    EXPECT_LT(begun, 2000);
  }
}

// Waiting inside a task for other tasks of the pool would wait for ever.
TEST(Context, ACallFromATaskOfTheCallersPoolReturns) {
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
TEST(Context, ACallThatFailsToGetHelpersReturnsOnlyWhenThoseItGotHaveLeft) {
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

TEST(DefaultContext, IsTheThreadsOwnAndHasOneThread) {
  Context* const mine = &eh::default_context();
  EXPECT_EQ(mine->threads(), 1);
  EXPECT_EQ(&eh::default_context(), mine);
  Context* other = nullptr;
  std::thread([&] { other = &eh::default_context(); }).join();
  EXPECT_NE(other, mine);
}

}  // namespace
