// SPDX-License-Identifier: MIT
#pragma once
// The threads of a context that has its own: Eigen's pool, where a system that starts no more
// threads is an exception, and a fork is survived.
#include <functional>
#include <memory>
#include <stdexcept>
#include <system_error>
#include <thread>
#include <unsupported/Eigen/CXX11/ThreadPool>
#include <utility>
#if __has_include(<unistd.h>)
#include <unistd.h>  // getpid
#endif

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>    // refuse
#include <eigenheads/version.hpp>  // EIGENHEADS_ABI

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// How Eigen's pool starts its threads. One that the system refuses is noted and left out: an
// exception there would leave a pool behind whose destructor waits for ever.
struct ThreadEnvironment : Eigen::StlThreadEnvironment {
  struct EnvThread {
    std::thread thread;
    ~EnvThread() {
      if (thread.joinable()) thread.join();
    }
    void OnCancel() {}
  };
  EnvThread* CreateThread(std::function<void()> work) {
#if defined(__cpp_exceptions)
    try {
      return new EnvThread{std::thread(std::move(work))};
    } catch (const std::system_error&) {
      *is_complete = false;
      return new EnvThread{};
    }
#else
    return new EnvThread{std::thread(std::move(work))};
#endif
  }
  bool* is_complete;
};

// Threads that belong to one context.
class ThreadPool {
 public:
  explicit ThreadPool(int threads) {
    bool is_complete = true;
    pool_ = std::make_unique<Pool>(threads, ThreadEnvironment{{}, &is_complete});
    if (is_complete) return;
    pool_->Cancel();  // the threads that did start wait for all to be idle, else
    refuse<std::runtime_error>({"Context: the system starts no more threads; asked for ", threads,
                                " beside the calling one"});
  }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool() {
    if (!is_running()) static_cast<void>(pool_.release());  // it would wait for them to end
  }
  [[nodiscard]] Eigen::ThreadPoolInterface* get() { return pool_.get(); }

  // Whether the threads are there: a fork leaves them behind.
  [[nodiscard]] bool is_running() const {
#if __has_include(<unistd.h>)
    return getpid() == owner_;
#else
    return true;
#endif
  }

 private:
  using Pool = Eigen::ThreadPoolTempl<ThreadEnvironment>;
  std::unique_ptr<Pool> pool_;
#if __has_include(<unistd.h>)
  pid_t owner_ = getpid();
#endif
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
