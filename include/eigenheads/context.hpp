// SPDX-License-Identifier: MIT
#pragma once
// Where a call runs: on how many threads, its own or the caller's, and in which scratch memory. A
// Context serves one call at a time: give each calling thread its own. Results do not depend on it
// (contract C3).
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>
#include <unsupported/Eigen/CXX11/ThreadPool>
#include <utility>

#include <eigenheads/detail/arena.hpp>  // Arena
#include <eigenheads/detail/crew.hpp>   // Crew, Work, Task
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/thread_pool.hpp>  // ThreadPool
#include <eigenheads/error.hpp>               // refuse

namespace eigenheads::inline EIGENHEADS_ABI {

template <class T>
struct CallOptions;
template <class T>
struct TrainingOptions;

// What is counted while calls run.
struct Counters {
  // Rows of attention that were multiplied key by key, because a value that one of them may not see
  // is NaN or infinite. 0 so far: every call took the fast path.
  std::atomic<Index> row_by_row{0};

  Counters() = default;
  Counters(Counters&& other) noexcept : row_by_row(other.row_by_row.load()) {}
  Counters& operator=(Counters&& other) noexcept {
    row_by_row = other.row_by_row.load();
    return *this;
  }
};

namespace detail {
class LastContext;
}

class Context {
 public:
  // `threads` counts the calling one. Throws std::invalid_argument below 1, std::runtime_error if
  // the system does not start so many. In the child of a fork, calls run on the calling thread
  // alone.
  explicit Context(int threads = 1) : threads_(threads) {
    if (threads < 1) detail::refuse({"Context: threads is ", threads, "; expected 1 or more"});
    if (threads > 1) {
      crew_.reset(new detail::Crew);
      own_pool_ = std::make_unique<detail::ThreadPool>(threads - 1);
      pool_ = own_pool_->get();
    }
  }

  // Runs on the caller's pool, which must outlive the context. A call made from inside one of the
  // pool's tasks runs serially: waiting there for other tasks of the pool could wait for ever.
  explicit Context(Eigen::ThreadPoolInterface& pool)
      : threads_(pool.NumThreads() + 1), crew_(new detail::Crew), pool_(&pool) {}

  // Not while a call runs. One that was moved from may only be assigned to or destroyed.
  Context(Context&&) noexcept = default;
  Context& operator=(Context&&) noexcept = default;

  // So that a context stands where a call takes options (call_options.hpp).
  template <class T>
  operator CallOptions<T>() {  // NOLINT: implicit
    return {.context = *this};
  }
  template <class T>
  operator TrainingOptions<T>() {  // NOLINT: implicit
    return {.context = *this};
  }

  [[nodiscard]] int threads() const { return threads_; }

  // Bytes of scratch memory that are kept for the next call, and their release.
  [[nodiscard]] Index scratch_bytes() const { return arena_.bytes(); }
  void release() { arena_.release(); }

  [[nodiscard]] Counters& counters() { return counters_; }
  [[nodiscard]] Index row_by_row_count() const { return counters_.row_by_row; }

  // For layers that are made of the library's steps: scratch memory, in frames (detail/arena.hpp).
  [[nodiscard]] detail::Arena& arena() { return arena_; }

  // body(i) or body(i, thread) for every i in [0, count), in no particular order; thread is in
  // [0, threads()), and bodies that run at the same time have different ones. The first exception
  // that leaves a body reaches the caller once all threads have stopped; bodies not yet begun are
  // then left out. Allocates nothing, and takes no lock where one thread is enough.
  template <class Body>
  void parallel_for(Index count, const Body& body) {
    run_all(count, {&body, [](const void* of, Index i, int thread) {
                      if constexpr (std::is_invocable_v<const Body&, Index, int>)
                        (*static_cast<const Body*>(of))(i, thread);
                      else
                        (*static_cast<const Body*>(of))(i);
                    }});
  }

 private:
  void run_all(Index count, detail::Task task) {
    const Index helpers = (std::min)(static_cast<Index>(threads_ - 1), count - 1);
    if (helpers <= 0 || pool_->CurrentThreadId() >= 0 ||
        (own_pool_ != nullptr && !own_pool_->is_running())) {
      for (Index i = 0; i < count; ++i) task(i, 0);
      return;
    }
    detail::Work work(count, task);
    crew_->work_on(work, *pool_, helpers);
    work.rethrow();
  }

  friend class detail::LastContext;

  Counters counters_;
  int threads_;
  std::unique_ptr<detail::Crew, detail::Leave> crew_;  // null on one thread
  std::unique_ptr<detail::ThreadPool> own_pool_;       // its threads end before the crew is left
  Eigen::ThreadPoolInterface* pool_ = nullptr;
  detail::Arena arena_;
};

namespace detail {

// A context for a thread whose own has been destroyed already: for a call from the destructor of a
// static object, at the end of the program. It keeps no memory, so it needs no destructor.
class LastContext {
 public:
  [[nodiscard]] Context& get() {
    if (!is_made_) {
      new (memory_) Context;
      is_made_ = true;
      context().arena_.keep_nothing();
    }
    return context();
  }

 private:
  [[nodiscard]] Context& context() { return *std::launder(reinterpret_cast<Context*>(memory_)); }

  alignas(Context) std::byte memory_[sizeof(Context)] = {};
  bool is_made_ = false;
};

}  // namespace detail

// The calling thread's own context: one thread. It may be asked for at any time, the end of the
// program included.
[[nodiscard]] inline Context& default_context() {
  // Both are there until the thread's memory is: nothing destroys them.
  static thread_local constinit bool is_destroyed = false;
  static thread_local constinit detail::LastContext last;
  struct Own {
    Context context;
    ~Own() { is_destroyed = true; }
  };
  if (is_destroyed) return last.get();
  static thread_local Own own;
  return own.context;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
