// SPDX-License-Identifier: MIT
#pragma once
// One loop, shared out between the calling thread and those of a pool that come to help.
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <unsupported/Eigen/CXX11/ThreadPool>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/tensor.hpp>  // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// A body without its type, so that the loop is compiled once.
struct Task {
  const void* body;
  void (*run)(const void* body, Index i, int thread);
  void operator()(Index i, int thread) const { run(body, i, thread); }
};

// The work of one parallel_for, on the caller's stack.
class Work {
 public:
  Work(Index count, Task task) : count_(count), task_(task) {}

  void take_part(int thread) {
#if defined(__cpp_exceptions)
    try {
      take_all(thread);
    } catch (...) {
      next_ = count_;
      const std::lock_guard lock(mutex_);
      if (!error_) error_ = std::current_exception();
    }
#else
    take_all(thread);
#endif
  }
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  void take_all(int thread) {
    for (Index i = next_++; i < count_; i = next_++) task_(i, thread);
  }

  const Index count_;
  const Task task_;
  std::atomic<Index> next_{0};
  std::mutex mutex_;
  std::exception_ptr error_;
};

// Helpers may come late, or never if the caller's pool is busy for ever: the caller waits for
// none that has not begun. One that comes too late finds other work or none, so what it looks at
// outlives the context: whoever leaves last deletes it.
class Crew {
 public:
  void work_on(Work& work, Eigen::ThreadPoolInterface& pool, Index helpers) {
    {
      const std::lock_guard lock(mutex_);
      work_ = &work;
      number_ = ++works_;
      joined_ = 0;
    }
    const Closing closing{this};
    for (Index i = 0; i < helpers; ++i) {
      Reference reference(this);
      pool.Schedule([crew = this, number = number_] { crew->help(number); });
      reference.crew = nullptr;  // it is the helper's now
    }
    work.take_part(0);
  }

  void leave() {
    bool is_last;
    {
      const std::lock_guard lock(mutex_);
      is_last = --references_ == 0;
    }
    if (is_last) delete this;
  }

 private:
  struct Reference {
    explicit Reference(Crew* joined) : crew(joined) {
      const std::lock_guard lock(crew->mutex_);
      ++crew->references_;
    }
    ~Reference() {
      if (crew != nullptr) crew->leave();
    }
    Crew* crew;
  };
  // No helper begins any more, and all that did have finished.
  struct Closing {
    Crew* crew;
    ~Closing() {
      std::unique_lock lock(crew->mutex_);
      crew->work_ = nullptr;
      crew->all_done_.wait(lock, [this] { return crew->at_work_ == 0; });
    }
  };

  void help(std::uint64_t number) {
    Work* work = nullptr;
    int thread = 0;
    {
      const std::lock_guard lock(mutex_);
      if (work_ != nullptr && number_ == number) {
        work = work_;
        thread = ++joined_;
        ++at_work_;
      }
    }
    if (work != nullptr) {
      work->take_part(thread);
      const std::lock_guard lock(mutex_);
      --at_work_;
      all_done_.notify_one();
    }
    leave();
  }

  std::mutex mutex_;
  std::condition_variable all_done_;
  Work* work_ = nullptr;
  std::uint64_t number_ = 0, works_ = 0;
  int joined_ = 0, at_work_ = 0, references_ = 1;
};
struct Leave {
  void operator()(Crew* crew) const { crew->leave(); }
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
