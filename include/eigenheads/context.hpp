// SPDX-License-Identifier: MIT
#pragma once
// Where a call runs: on how many threads, its own or the caller's, and in which scratch memory. A
// Context serves one call at a time: give each calling thread its own. Results do not depend on it
// (contract C3).
#include <algorithm>
#include <array>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <new>
#include <string>
#include <type_traits>
#include <unsupported/Eigen/CXX11/ThreadPool>

#include <eigenheads/shape.hpp>   // refuse
#include <eigenheads/tensor.hpp>  // Index

namespace eigenheads::inline EIGENHEADS_ABI {

namespace detail {

// What scratch memory is for; one piece of memory each.
enum class Scratch { projections, pieces, panels, flags, tasks, count };

// Bytes that grow and are kept.
class Buffer {
 public:
  [[nodiscard]] std::byte* at_least(Index bytes) {
    if (bytes > bytes_) {
      memory_.reset();  // before the new one, not beside it
      bytes_ = 0;
      memory_.reset(static_cast<std::byte*>(::operator new(static_cast<std::size_t>(bytes), line)));
      bytes_ = bytes;
    }
    return memory_.get();
  }
  [[nodiscard]] Index bytes() const { return bytes_; }

 private:
  static constexpr std::align_val_t line{64};  // a cache line, and the widest register
  struct Free {
    void operator()(std::byte* memory) const { ::operator delete(memory, line); }
  };
  std::unique_ptr<std::byte, Free> memory_;
  Index bytes_ = 0;
};

}  // namespace detail

class Context;
namespace detail {
template <class T>
struct AttentionCall;
template <class T, class Score>
void attend(AttentionCall<T> call, const Score& score, Context& context);
}  // namespace detail

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

  // Bytes of scratch memory that are kept for the next call, and their release.
  [[nodiscard]] Index scratch_bytes() const {
    Index bytes = 0;
    for (const auto& buffer : scratch_) bytes += buffer.bytes();
    return bytes;
  }
  void release() { scratch_ = {}; }

  // Rows of attention that were multiplied key by key, because a value that one of them may not see
  // is NaN or infinite. 0 so far: every call took the fast path.
  [[nodiscard]] Index row_by_row_count() const { return row_by_row_; }

  // Uninitialised memory, aligned to 64 bytes. What was handed out before for the same purpose is
  // gone. Not from inside parallel_for.
  template <class T>
  [[nodiscard]] T* scratch(detail::Scratch purpose, Index count) {
    auto& buffer = scratch_[static_cast<std::size_t>(purpose)];
    return reinterpret_cast<T*>(buffer.at_least(count * static_cast<Index>(sizeof(T))));
  }

  // body(i) or body(i, thread) for every i in [0, count), in no particular order; thread is in
  // [0, threads()), and bodies that run at the same time have different ones. The first exception
  // that leaves a body reaches the caller once all threads have stopped; bodies not yet begun are
  // then left out. Allocates nothing, and takes no lock where one thread is enough.
  template <class Body>
  void parallel_for(Index count, const Body& body) {
    const Index helpers = (std::min)(static_cast<Index>(threads_ - 1), count - 1);
    if (helpers <= 0 || pool_->CurrentThreadId() >= 0) {
      for (Index i = 0; i < count; ++i) run(body, i, 0);
      return;
    }
    Loop<Body> loop(count, body);
    crew_->work_on(loop, *pool_, helpers);
    loop.rethrow();
  }

 private:
  template <class Body>
  static void run(const Body& body, Index i, int thread) {
    if constexpr (std::is_invocable_v<const Body&, Index, int>)
      body(i, thread);
    else
      body(i);
  }

  // The work of one parallel_for, on the caller's stack.
  struct Work {
    virtual void take_part(int thread) = 0;

   protected:
    ~Work() = default;
  };

  template <class Body>
  class Loop final : public Work {
   public:
    Loop(Index count, const Body& body) : count_(count), body_(body) {}

    void take_part(int thread) override {
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
      for (Index i = next_++; i < count_; i = next_++) run(body_, i, thread);
    }

    const Index count_;
    const Body& body_;
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

  template <class T, class Score>
  friend void detail::attend(detail::AttentionCall<T>, const Score&, Context&);

  std::atomic<Index> row_by_row_{0};
  int threads_;
  std::unique_ptr<Crew, Leave> crew_{new Crew};
  std::unique_ptr<Eigen::ThreadPool> own_pool_;  // its threads end before the crew is left
  Eigen::ThreadPoolInterface* pool_ = nullptr;
  std::array<detail::Buffer, static_cast<std::size_t>(detail::Scratch::count)> scratch_;
};

// The calling thread's own context: one thread.
[[nodiscard]] inline Context& default_context() {
  thread_local Context context;
  return context;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI
