// SPDX-License-Identifier: MIT
#pragma once
// One loop, shared out between the calling thread and those that come to help.
#include <atomic>
#include <chrono>
#include <exception>
#include <thread>
#include <utility>

#include <eigenheads/detail/float_environment.hpp>  // FloatEnvironment
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/version.hpp>  // EIGENHEADS_ABI, Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// A body without its type, so that the loop is compiled once.
struct Task {
  const void* body;
  void (*run)(const void* body, Index i, int thread);
  void operator()(Index i, int thread) const { run(body, i, thread); }
};

// How long a thread that waits stays awake, giving its core to whoever else wants it at every look:
// longer than the last task of a loop takes, so that those who are done with theirs are there when the
// next loop begins. To wake a thread takes 20 to 30 us, and up to 8 of the one that wakes it. A layer
// of 12 ms on two threads takes 2 % longer with 50 us, and no less with 500.
inline constexpr std::chrono::microseconds awake_time{200};

// What `value` is once it is not `old` any more.
[[nodiscard]] inline int wait_for_change(const std::atomic<int>& value, int old) {
  int now = value.load();
  if (now != old) return now;
  const auto end = std::chrono::steady_clock::now() + awake_time;
  while (std::chrono::steady_clock::now() < end) {
    std::this_thread::yield();
    now = value.load();
    if (now != old) return now;
  }
  value.wait(old);
  return value.load();
}

// Helpers may come late, or never if the caller's pool is busy for ever: the caller waits for none
// that has not taken a seat. One that comes too late finds seats in other work or none, so what it
// looks at outlives the context: whoever leaves last deletes it.
class Crew {
 public:
  // task(i, thread) for every i below count, on this thread, which is number 0, and on at most
  // `helpers` others; call() asks them to come. Rethrows the first exception.
  template <class Call>
  void work_on(Index count, Task task, int helpers, const Call& call) {
    count_ = count;
    task_ = task;
    environment_ = FloatEnvironment();
    next_.store(0, std::memory_order_relaxed);
    left_.store(0, std::memory_order_relaxed);
    has_failed_.store(false, std::memory_order_relaxed);
    error_ = nullptr;  // of a loop that ended with an exception of call()
    is_at_work_ = true;
    {
      const Closing closing{*this, helpers};
      seats_.store(helpers, std::memory_order_release);
      call();
      take_part(0);
    }
    if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  }

  // Takes part in the work that there is, if there is a seat left.
  void help() {
    int seat = seats_.load(std::memory_order_relaxed);
    while (seat > 0 && !seats_.compare_exchange_weak(seat, seat - 1, std::memory_order_acquire,
                                                     std::memory_order_relaxed)) {
    }
    if (seat == 0) return;
    {
      const InFloatEnvironment callers(environment_);
      take_part(seat);
    }
    ++left_;
    left_.notify_one();
  }

  // Asked by the thread that may call work_on, or from inside a body.
  [[nodiscard]] bool is_at_work() const { return is_at_work_; }

  void join() { ++references_; }
  void leave() {
    if (--references_ == 0) delete this;
  }

 private:
  // No helper begins any more, and all that did have finished.
  struct Closing {
    Crew& crew;
    int helpers;
    ~Closing() {
      const int joined = helpers - crew.seats_.exchange(0);
      for (int left = crew.left_.load(); left != joined;) left = wait_for_change(crew.left_, left);
      crew.is_at_work_ = false;
    }
  };

  void take_part(int thread) {
#if defined(__cpp_exceptions)
    try {
      take_all(thread);
    } catch (...) {
      next_ = count_;
      if (!has_failed_.exchange(true)) error_ = std::current_exception();
    }
#else
    take_all(thread);
#endif
  }
  void take_all(int thread) {
    for (Index i = next_++; i < count_; i = next_++) task_(i, thread);
  }

  Index count_ = 0;
  Task task_{};
  FloatEnvironment environment_;
  std::exception_ptr error_;
  bool is_at_work_ = false;
  std::atomic<bool> has_failed_{false};
  std::atomic<Index> next_{0};
  std::atomic<int> seats_{0};  // that are free: their numbers are those of the threads
  std::atomic<int> left_{0};   // helpers that have finished
  std::atomic<int> references_{1};
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
