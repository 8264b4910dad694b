// SPDX-License-Identifier: MIT
#pragma once
// Where a call runs: on how many threads, its own or the caller's, and in which scratch memory. A
// Context serves one call at a time: give each calling thread its own. Results do not depend on it
// (contract C3).
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <new>
#include <type_traits>
#include <utility>

#include <eigenheads/detail/arena.hpp>    // Arena
#include <eigenheads/detail/burst.hpp>    // Burst
#include <eigenheads/detail/helpers.hpp>  // Helpers, CallersPool, Task
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/work.hpp>  // Threads, threads_worth
#include <eigenheads/error.hpp>        // refuse, number_text

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
  // Rows that went through a projection, each as often as it did: W_q, W_k, W_v and W_o are four.
  std::atomic<Index> projected_rows{0};

  Counters() = default;
  Counters(Counters&& other) noexcept { *this = std::move(other); }
  Counters& operator=(Counters&& other) noexcept {
    row_by_row = other.row_by_row.load();
    projected_rows = other.projected_rows.load();
    return *this;
  }
};

namespace detail {
class LastContext;
}

class Context {
 public:
  // `threads` counts the calling one. Work too small for all of them is done by fewer, so that each
  // has at least `multiply_adds_per_thread`, about, as estimated from sizes, or a quarter of that while
  // they are still awake from the loops before; 0: all take part in any work. Throws
  // std::invalid_argument below 1 thread or 0 multiply-adds, std::runtime_error if the system does not
  // start so many threads. In the child of a fork, calls run on the calling thread alone.
  explicit Context(int threads = 1,
                   double multiply_adds_per_thread = detail::multiply_adds_per_thread)
      : threads_(threads), multiply_adds_per_thread_(multiply_adds_per_thread) {
    if (threads < 1) detail::refuse({"Context: threads is ", threads, "; expected 1 or more"});
    require_work();
    helpers_ = detail::Helpers(threads - 1);
  }

  // Runs on the caller's pool, an Eigen::ThreadPool or another with its members, which must outlive
  // the context. A call made from inside one of the pool's tasks runs serially: waiting there for
  // other tasks of the pool could wait for ever.
  template <detail::CallersPool Pool>
  explicit Context(Pool& pool, double multiply_adds_per_thread = detail::multiply_adds_per_thread)
      : threads_(pool.NumThreads() + 1),
        multiply_adds_per_thread_(multiply_adds_per_thread),
        helpers_(pool) {
    require_work();
  }

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
  [[nodiscard]] Index projected_row_count() const { return counters_.projected_rows; }

  // For layers that are made of the library's steps: scratch memory, in frames (detail/arena.hpp).
  [[nodiscard]] detail::Arena& arena() { return arena_; }

  // How many of the threads take part in work of so many multiply-adds, at least and at most.
  [[nodiscard]] detail::Threads threads_for(double multiply_adds) const {
    const auto worth = [&](double part) {
      return detail::threads_worth(multiply_adds, part * multiply_adds_per_thread_, threads_);
    };
    return {worth(detail::part_while_awake), worth(1), multiply_adds};
  }

  // body(i) or body(i, thread) for every i in [0, count), in no particular order; thread is in
  // [0, threads()), and bodies that run at the same time have different ones. The first exception
  // that leaves a body reaches the caller once all threads have stopped; bodies not yet begun are
  // then left out. Allocates nothing, and takes no lock where one thread is enough.
  template <class Body>
  void parallel_for(Index count, const Body& body) {
    parallel_for(count, {threads_, threads_}, body);
  }
  // On at most so many of the threads.
  template <class Body>
  void parallel_for(Index count, int threads, const Body& body) {
    parallel_for(count, {threads, threads}, body);
  }
  // On as many as threads_for says; those that sleep are left alone if the work is too small.
  template <class Body>
  void parallel_for(Index count, const detail::Threads& threads, const Body& body) {
    run_all(count, threads, {&body, [](const void* of, Index i, int thread) {
                               if constexpr (std::is_invocable_v<const Body&, Index, int>)
                                 (*static_cast<const Body*>(of))(i, thread);
                               else
                                 (*static_cast<const Body*>(of))(i);
                             }});
  }

 private:
  void require_work() const {
    if (!(multiply_adds_per_thread_ >= 0))
      detail::refuse({"Context: multiply_adds_per_thread is ",
                      detail::number_text(multiply_adds_per_thread_), "; expected 0 or more"});
  }

  void run_all(Index count, detail::Threads threads, detail::Task task) {
    threads.most = static_cast<int>((std::min)(Index{(std::min)(threads.most, threads_)}, count));
    threads.least = (std::min)(threads.least, threads.most);
    using Clock = std::chrono::steady_clock;
    const bool may_share = threads.most > 1 && helpers_.are_free();
    int taken = 1;
    if (may_share)
      taken = burst_.threads_for(threads, multiply_adds_per_thread_, threads_, Clock::now());
    if (taken > 1)
      helpers_.work_on(count, task, taken - 1);
    else
      for (Index i = 0; i < count; ++i) task(i, 0);
    if (may_share) burst_.end_loop(taken, Clock::now());
  }

  friend class detail::LastContext;

  Counters counters_;
  int threads_;
  double multiply_adds_per_thread_;
  detail::Helpers helpers_;
  detail::Burst burst_;
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
// program included. (The first time, the C library takes memory to destroy it one day, and ends the
// program where there is none.)
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
