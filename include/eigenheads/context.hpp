// SPDX-License-Identifier: MIT
#pragma once
// Where a call runs: on how many threads, its own or the caller's. A Context serves one call at a
// time: give each calling thread its own. Results do not depend on it (contract C3).
#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <unsupported/Eigen/CXX11/ThreadPool>

#include <eigenheads/shape.hpp>   // refuse
#include <eigenheads/tensor.hpp>  // Index

namespace eigenheads::inline EIGENHEADS_ABI {

class Context {
 public:
  // `threads` counts the calling one. Throws std::invalid_argument below 1.
  explicit Context(int threads = 1) : threads_(threads) {
    if (threads < 1)
      detail::refuse("Context: threads is " + std::to_string(threads) + "; expected 1 or more");
    if (threads > 1) {
      own_pool_ = std::make_unique<Eigen::ThreadPool>(threads - 1);
      pool_ = own_pool_.get();
    }
  }

  // Runs on the caller's pool, which must outlive the context. A call made from inside one of the
  // pool's tasks runs serially: waiting there for other tasks of the pool could wait for ever.
  explicit Context(Eigen::ThreadPoolInterface& pool)
      : threads_(pool.NumThreads() + 1), pool_(&pool) {}

  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  [[nodiscard]] int threads() const { return threads_; }

  // body(i) for every i in [0, count), in no particular order. The first exception that leaves a
  // body reaches the caller once all threads have stopped; bodies not yet begun are then left out.
  template <class Body>
  void parallel_for(Index count, const Body& body) {
    const Index helpers = (std::min)(static_cast<Index>(threads_ - 1), count - 1);
    if (helpers <= 0 || pool_->CurrentThreadId() >= 0) {
      for (Index i = 0; i < count; ++i) body(i);
      return;
    }
    Loop<Body> loop(count, body);
    for (Index i = 0; i < helpers; ++i) loop.start_on(*pool_);
    loop.work();
    loop.finish();
  }

 private:
  // One parallel_for under way: lives on the caller's stack until every helper has left it.
  template <class Body>
  class Loop {
   public:
    Loop(Index count, const Body& body) : count_(count), body_(body) {}
    Loop(const Loop&) = delete;
    Loop& operator=(const Loop&) = delete;
    ~Loop() {
      next_ = count_;  // for the case that not all helpers could be started
      wait();
    }

    void start_on(Eigen::ThreadPoolInterface& pool) {
      Place place{this};
      {
        const std::lock_guard lock(mutex_);
        ++helpers_;
      }
      pool.Schedule([this] {
        work();
        leave();
      });
      place.loop = nullptr;
    }

    void work() {
#if defined(__cpp_exceptions)
      try {
        take_all();
      } catch (...) {
        next_ = count_;
        const std::lock_guard lock(mutex_);
        if (!error_) error_ = std::current_exception();
      }
#else
      take_all();
#endif
    }

    void finish() {
      wait();
      if (error_) std::rethrow_exception(error_);
    }

   private:
    // Given back unless the pool took the helper.
    struct Place {
      Loop* loop;
      ~Place() {
        if (loop != nullptr) loop->leave();
      }
    };

    void take_all() {
      for (Index i = next_++; i < count_; i = next_++) body_(i);
    }
    void leave() {
      // Notified under the lock: after it, the caller may destroy the loop.
      const std::lock_guard lock(mutex_);
      --helpers_;
      all_left_.notify_one();
    }
    void wait() {
      std::unique_lock lock(mutex_);
      all_left_.wait(lock, [this] { return helpers_ == 0; });
    }

    const Index count_;
    const Body& body_;
    std::atomic<Index> next_{0};
    std::mutex mutex_;
    std::condition_variable all_left_;
    int helpers_ = 0;
    std::exception_ptr error_;
  };

  int threads_;
  std::unique_ptr<Eigen::ThreadPool> own_pool_;
  Eigen::ThreadPoolInterface* pool_ = nullptr;
};

// The calling thread's own context: one thread.
[[nodiscard]] inline Context& default_context() {
  thread_local Context context;
  return context;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI
