// SPDX-License-Identifier: MIT
#pragma once
// Who helps a context's calling thread: nobody, threads of its own, or those of the caller's pool.
#include <algorithm>
#include <concepts>
#include <utility>

#include <eigenheads/detail/crew.hpp>  // Crew, Task
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/thread_pool.hpp>  // ThreadPool
#include <eigenheads/version.hpp>             // EIGENHEADS_ABI, Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// A pool as Eigen::ThreadPoolInterface: tasks of any kind that a std::function<void()> holds, and -1
// for a thread that is not one of its own. Known by what it does: Eigen's header is not included.
template <class Pool>
concept CallersPool = requires(Pool& pool, void (*task)()) {
  pool.Schedule(task);
  { pool.NumThreads() } -> std::convertible_to<int>;
  { pool.CurrentThreadId() } -> std::convertible_to<int>;
};

class Helpers {
 public:
  Helpers() = default;
  // `threads` of their own; 0: nobody.
  explicit Helpers(int threads) : Helpers() {  // so that ~Helpers runs if no threads start
    if (threads == 0) return;
    crew_ = new Crew;
    own_ = new ThreadPool(threads, *crew_);
  }
  template <CallersPool Pool>
  explicit Helpers(Pool& pool)
      : crew_(new Crew), pool_(&pool), schedule_(schedule<Pool>), is_inside_(is_inside<Pool>) {}

  Helpers(Helpers&& other) noexcept { swap(other); }
  Helpers& operator=(Helpers&& other) noexcept {
    Helpers moved(std::move(other));
    swap(moved);
    return *this;
  }
  ~Helpers() {
    if (own_ != nullptr && !own_->is_running()) return;  // they would be waited for
    delete own_;
    if (crew_ != nullptr) crew_->leave();
  }

  // Whether anybody comes when this thread calls. Not from inside one of their tasks: waiting there
  // for others could wait for ever.
  [[nodiscard]] bool are_free() const {
    if (crew_ == nullptr || crew_->is_at_work()) return false;
    return own_ != nullptr ? own_->is_running() : !is_inside_(pool_);
  }

  void work_on(Index count, Task task, int helpers) const {
    crew_->work_on(count, task, helpers, [&] {
      if (own_ != nullptr)
        own_->call(helpers);
      else
        for (int i = 0; i < helpers; ++i) schedule_(pool_, crew_);
    });
  }

 private:
  template <class Pool>
  static void schedule(void* pool, Crew* crew) {
    struct Reference {
      Crew* crew;
      explicit Reference(Crew* joined) : crew(joined) { crew->join(); }
      ~Reference() {
        if (crew != nullptr) crew->leave();
      }
    } reference(crew);
    static_cast<Pool*>(pool)->Schedule([crew] {
      crew->help();
      crew->leave();
    });
    reference.crew = nullptr;  // it is the helper's now
  }
  template <class Pool>
  static bool is_inside(void* pool) {
    return static_cast<Pool*>(pool)->CurrentThreadId() >= 0;
  }

  void swap(Helpers& other) noexcept {
    std::swap(crew_, other.crew_);
    std::swap(own_, other.own_);
    std::swap(pool_, other.pool_);
    std::swap(schedule_, other.schedule_);
    std::swap(is_inside_, other.is_inside_);
  }

  Crew* crew_ = nullptr;
  ThreadPool* own_ = nullptr;
  void* pool_ = nullptr;  // without its type
  void (*schedule_)(void* pool, Crew* crew) = nullptr;
  bool (*is_inside_)(void* pool) = nullptr;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
