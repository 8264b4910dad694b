// SPDX-License-Identifier: MIT
#pragma once
// Counts allocations where all memory comes from, on all threads, and locks. Defines malloc and its
// like: for one file of a program.
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>

namespace {

std::atomic<bool> is_counting{false};
std::atomic<long> allocations{0}, allocated_bytes{0}, locks{0};
std::atomic<long> live_bytes{0}, most_live_bytes{0};  // since counting began

void count(std::size_t bytes) {
  if (!is_counting) return;
  ++allocations;
  allocated_bytes += static_cast<long>(bytes);
}
void hold(std::size_t bytes) {
  if (!is_counting) return;
  const long live = live_bytes += static_cast<long>(bytes);
  long most = most_live_bytes;
  while (live > most && !most_live_bytes.compare_exchange_weak(most, live)) {
  }
}
void let_go(std::size_t bytes) {
  if (is_counting) live_bytes -= static_cast<long>(bytes);
}

}  // namespace

#if defined(__has_feature)
#define EIGENHEADS_TEST_FEATURE(name) __has_feature(name)
#else
#define EIGENHEADS_TEST_FEATURE(name) 0
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
    EIGENHEADS_TEST_FEATURE(address_sanitizer) || EIGENHEADS_TEST_FEATURE(thread_sanitizer)

// A sanitizer stands where malloc was, and tells of each call.
extern "C" int __sanitizer_install_malloc_and_free_hooks(void (*)(const volatile void*,
                                                                  std::size_t),
                                                         void (*)(const volatile void*));
extern "C" std::size_t __sanitizer_get_allocated_size(const volatile void*);
[[maybe_unused]] static const int hooks = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, std::size_t bytes) { count(bytes), hold(bytes); },
    [](const volatile void* memory) {
      if (memory != nullptr) let_go(__sanitizer_get_allocated_size(memory));
    });
constexpr bool kCountsAll = false;  // not every aligned allocation
constexpr bool kCountsLocks = false;

#else

constexpr bool kCountsAll = true;
#if defined(_GLIBCXX_DEBUG)
constexpr bool kCountsLocks = false;  // iterators of libstdc++'s debug mode take some of their own
#else
constexpr bool kCountsLocks = true;
#endif
[[maybe_unused]] static const int hooks = 1;

// glibc's own, under their other names. operator new and Eigen's allocations end here too.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);
void __libc_free(void*);

void* malloc(std::size_t bytes) {
  count(bytes);
  void* const memory = __libc_malloc(bytes);
  hold(malloc_usable_size(memory));
  return memory;
}
void* calloc(std::size_t number, std::size_t bytes) {
  count(number * bytes);
  void* const memory = __libc_calloc(number, bytes);
  hold(malloc_usable_size(memory));
  return memory;
}
void* realloc(void* memory, std::size_t bytes) {
  count(bytes);
  let_go(malloc_usable_size(memory));
  void* const moved = __libc_realloc(memory, bytes);
  hold(malloc_usable_size(moved));
  return moved;
}
void* memalign(std::size_t alignment, std::size_t bytes) {
  count(bytes);
  void* const memory = __libc_memalign(alignment, bytes);
  hold(malloc_usable_size(memory));
  return memory;
}
void free(void* memory) {
  let_go(malloc_usable_size(memory));
  __libc_free(memory);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) { return memalign(alignment, bytes); }
int posix_memalign(void** memory, std::size_t alignment, std::size_t bytes) {
  *memory = memalign(alignment, bytes);
  return *memory == nullptr ? 12 : 0;  // ENOMEM
}
int pthread_mutex_lock(pthread_mutex_t* mutex) {
  static const auto next =
      reinterpret_cast<int (*)(pthread_mutex_t*)>(dlsym(RTLD_NEXT, "pthread_mutex_lock"));
  if (kCountsLocks && is_counting) ++locks;
  return next(mutex);
}
}

#endif

namespace {

struct Counted {
  long allocations, bytes, locks;
  long peak;  // the most bytes that were held at one time, of those allocated while it was counted
};

template <class Call>
Counted counted(const Call& call) {
  allocations = allocated_bytes = locks = live_bytes = most_live_bytes = 0;
  is_counting = true;
  call();
  is_counting = false;
  return {allocations, allocated_bytes, locks, most_live_bytes};
}

}  // namespace
