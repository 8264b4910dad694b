// SPDX-License-Identifier: MIT
#pragma once
// The threads of a context that has its own. They wait for its next call themselves: between two
// that follow each other they stay awake, after a while they sleep.
#include <atomic>
#include <cstddef>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <vector>
#if __has_include(<unistd.h>)
#include <unistd.h>  // getpid
#endif

#include <eigenheads/detail/crew.hpp>  // Crew, wait_for_change
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>    // refuse
#include <eigenheads/version.hpp>  // EIGENHEADS_ABI

namespace eigenheads::inline EIGENHEADS_ABI::detail {

class ThreadPool {
 public:
  // Throws std::runtime_error if the system does not start so many. The crew outlives the threads.
  ThreadPool(int threads, Crew& crew) : ThreadPool(crew) {
#if defined(__cpp_exceptions)
    try {
      start(threads);
    } catch (const std::system_error&) {  // the destructor ends those that did start
      refuse<std::runtime_error>({"Context: the system starts no more threads; asked for ", threads,
                                  " beside the calling one"});
    }
#else
    start(threads);
#endif
  }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool() {
    is_ending_ = true;
    ++calls_;
    calls_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  // So many of the threads come to help the crew.
  void call(int helpers) {
    ++calls_;
    for (int i = 0; i < helpers; ++i) calls_.notify_one();
  }

  // Whether the threads are there: a fork leaves them behind. Then nobody may wait for them to end.
  [[nodiscard]] bool is_running() const {
#if __has_include(<unistd.h>)
    return getpid() == owner_;
#else
    return true;
#endif
  }

 private:
  explicit ThreadPool(Crew& crew) : crew_(crew) {}

  void start(int threads) {
    threads_.reserve(static_cast<std::size_t>(threads));
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { help(); });
  }
  void help() {
    for (int seen = wait_for_change(calls_, 0); !is_ending_; seen = wait_for_change(calls_, seen))
      crew_.help();
  }

  Crew& crew_;
  std::atomic<int> calls_{0};  // so far
  std::atomic<bool> is_ending_{false};
  std::vector<std::thread> threads_;
#if __has_include(<unistd.h>)
  pid_t owner_ = getpid();
#endif
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
