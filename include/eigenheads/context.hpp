// SPDX-License-Identifier: MIT
#pragma once
// Where a call runs: on how many threads, its own or the caller's, and in which scratch memory. A
// Context serves one call at a time: give each calling thread its own. Results do not depend on it
// (contract C3).
#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>
#include <unsupported/Eigen/CXX11/ThreadPool>

#include <eigenheads/detail/crew.hpp>         // Crew, Work, Task
#include <eigenheads/detail/thread_pool.hpp>  // ThreadPool
#include <eigenheads/error.hpp>               // refuse
#include <eigenheads/tensor.hpp>              // Index

namespace eigenheads::inline EIGENHEADS_ABI {

namespace detail {

// What scratch memory is for; one piece of memory each.
enum class Scratch {
  projections,
  pieces,
  panels,
  flags,
  tasks,
  rows,
  columns,
  gradients,
  heads,
  head_columns,
  count
};

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
template <class T>
void attend(AttentionCall<T> call, Context& context);
}  // namespace detail

class Context {
 public:
  // `threads` counts the calling one. Throws std::invalid_argument below 1, std::runtime_error if
  // the system does not start so many. In the child of a fork, calls run on the calling thread
  // alone.
  explicit Context(int threads = 1) : threads_(threads) {
    if (threads < 1) detail::refuse({"Context: threads is ", threads, "; expected 1 or more"});
    if (threads > 1) {
      own_pool_ = std::make_unique<detail::ThreadPool>(threads - 1);
      pool_ = own_pool_->get();
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

  template <class T>
  friend void detail::attend(detail::AttentionCall<T>, Context&);

  std::atomic<Index> row_by_row_{0};
  int threads_;
  std::unique_ptr<detail::Crew, detail::Leave> crew_{new detail::Crew};
  std::unique_ptr<detail::ThreadPool> own_pool_;  // its threads end before the crew is left
  Eigen::ThreadPoolInterface* pool_ = nullptr;
  std::array<detail::Buffer, static_cast<std::size_t>(detail::Scratch::count)> scratch_;
};

// The calling thread's own context: one thread.
[[nodiscard]] inline Context& default_context() {
  thread_local Context context;
  return context;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI
