// SPDX-License-Identifier: MIT
#pragma once
// Memory that runs out where a test says: the n-th allocation of all threads fails, alone or with all
// that follow it. Defines malloc and its like: for one file of a program. operator new and Eigen's
// allocations end here too.
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <gtest/gtest.h>
#include <new>
#include <string>

// A sanitizer's own beginnings come here too, before it can look at memory: so these functions, and
// what they call, are left alone.
#define EIGENHEADS_TEST_RAW [[gnu::no_sanitize_address, gnu::no_sanitize_thread]]

namespace {

constexpr long kNever = -1;
// Of all threads, by what compilers make atomic themselves.
long allowed = kNever;  // allocations that succeed before one fails
bool for_good = false;  // all that follow fail too
long failures = 0;      // so far
long live = 0;          // blocks that were taken and not given back
long largest = 0;       // the most bytes that were asked for at once

EIGENHEADS_TEST_RAW [[nodiscard]] bool fails(std::size_t bytes) {
  const long size = static_cast<long>(bytes);
  if (size > __atomic_load_n(&largest, __ATOMIC_RELAXED))
    __atomic_store_n(&largest, size, __ATOMIC_RELAXED);
  long now = __atomic_load_n(&allowed, __ATOMIC_RELAXED);
  while (now > 0 && !__atomic_compare_exchange_n(&allowed, &now, now - 1, true, __ATOMIC_RELAXED,
                                                 __ATOMIC_RELAXED)) {
  }
  if (now != 0) return false;
  if (__atomic_fetch_add(&failures, 1, __ATOMIC_RELAXED) > 0 && !for_good) return false;
  errno = ENOMEM;
  return true;
}
EIGENHEADS_TEST_RAW void note(const void* memory, long blocks) {
  if (memory != nullptr) __atomic_fetch_add(&live, blocks, __ATOMIC_RELAXED);
}

}  // namespace

#if defined(__has_feature)
#define EIGENHEADS_TEST_FEATURE(name) __has_feature(name)
#else
#define EIGENHEADS_TEST_FEATURE(name) 0
#endif
// What stands behind these names: glibc's own, or a sanitizer's.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || \
    EIGENHEADS_TEST_FEATURE(address_sanitizer) || EIGENHEADS_TEST_FEATURE(thread_sanitizer)
#define EIGENHEADS_TEST_REAL(name) __interceptor_##name
#define EIGENHEADS_TEST_SANITIZER
#else
#define EIGENHEADS_TEST_REAL(name) __libc_##name
#endif

extern "C" {
void* EIGENHEADS_TEST_REAL(malloc)(std::size_t);
void* EIGENHEADS_TEST_REAL(calloc)(std::size_t, std::size_t);
void* EIGENHEADS_TEST_REAL(realloc)(void*, std::size_t);
void* EIGENHEADS_TEST_REAL(memalign)(std::size_t, std::size_t);
void EIGENHEADS_TEST_REAL(free)(void*);

EIGENHEADS_TEST_RAW void* malloc(std::size_t bytes) {
  void* const memory = fails(bytes) ? nullptr : EIGENHEADS_TEST_REAL(malloc)(bytes);
  note(memory, 1);
  return memory;
}
EIGENHEADS_TEST_RAW void* calloc(std::size_t number, std::size_t bytes) {
  void* const memory =
      fails(number * bytes) ? nullptr : EIGENHEADS_TEST_REAL(calloc)(number, bytes);
  note(memory, 1);
  return memory;
}
EIGENHEADS_TEST_RAW void* realloc(void* memory, std::size_t bytes) {
  if (fails(bytes)) return nullptr;
  void* const moved = EIGENHEADS_TEST_REAL(realloc)(memory, bytes);
  if (memory == nullptr) note(moved, 1);
  return moved;
}
EIGENHEADS_TEST_RAW void* memalign(std::size_t alignment, std::size_t bytes) {
  void* const memory = fails(bytes) ? nullptr : EIGENHEADS_TEST_REAL(memalign)(alignment, bytes);
  note(memory, 1);
  return memory;
}
EIGENHEADS_TEST_RAW void* aligned_alloc(std::size_t alignment, std::size_t bytes) {
  return memalign(alignment, bytes);
}
EIGENHEADS_TEST_RAW int posix_memalign(void** memory, std::size_t alignment, std::size_t bytes) {
  void* const given = memalign(alignment, bytes);
  if (given == nullptr) return ENOMEM;
  *memory = given;
  return 0;
}
EIGENHEADS_TEST_RAW void free(void* memory) {
  note(memory, -1);
  EIGENHEADS_TEST_REAL(free)(memory);
}
}

#if defined(EIGENHEADS_TEST_SANITIZER)  // a sanitizer's own does not call malloc
namespace {
constexpr bool kThreadsCanFail = false;  // a thread that starts without memory ends the program
[[nodiscard]] void* given(void* memory) {
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
}  // namespace
// clang-format off
void* operator new(std::size_t n) { return given(malloc(n)); }
void* operator new[](std::size_t n) { return given(malloc(n)); }
void* operator new(std::size_t n, std::align_val_t a) { return given(memalign(static_cast<std::size_t>(a), n)); }
void* operator new[](std::size_t n, std::align_val_t a) { return given(memalign(static_cast<std::size_t>(a), n)); }
void* operator new(std::size_t n, const std::nothrow_t&) noexcept { return malloc(n); }
void* operator new[](std::size_t n, const std::nothrow_t&) noexcept { return malloc(n); }
void* operator new(std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept { return memalign(static_cast<std::size_t>(a), n); }
void* operator new[](std::size_t n, std::align_val_t a, const std::nothrow_t&) noexcept { return memalign(static_cast<std::size_t>(a), n); }
void operator delete(void* p) noexcept { free(p); }
void operator delete[](void* p) noexcept { free(p); }
void operator delete(void* p, std::size_t) noexcept { free(p); }
void operator delete[](void* p, std::size_t) noexcept { free(p); }
void operator delete(void* p, std::align_val_t) noexcept { free(p); }
void operator delete[](void* p, std::align_val_t) noexcept { free(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { free(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { free(p); }
void operator delete(void* p, const std::nothrow_t&) noexcept { free(p); }
void operator delete[](void* p, const std::nothrow_t&) noexcept { free(p); }
void operator delete(void* p, std::align_val_t, const std::nothrow_t&) noexcept { free(p); }
void operator delete[](void* p, std::align_val_t, const std::nothrow_t&) noexcept { free(p); }
// clang-format on
#else
constexpr bool kThreadsCanFail = true;
#endif

namespace {

// While it lives, allocation `number` (the first is 0) fails, alone or with all after it.
class FailingMemory {
 public:
  FailingMemory(long number, bool with_all_after_it) {
    failures = 0;
    for_good = with_all_after_it;
    allowed = number;
  }
  FailingMemory(const FailingMemory&) = delete;
  FailingMemory& operator=(const FailingMemory&) = delete;
  ~FailingMemory() { allowed = kNever; }
};

// How a call ends when an allocation fails. `Documented`: what else it may throw then.
enum class End { returned, failed };
template <class Documented, class Call>
[[nodiscard]] End end_of(long number, bool with_all_after_it, const Call& call) {
  try {
    const FailingMemory failing(number, with_all_after_it);
    call();
    return End::returned;
  } catch (const std::bad_alloc&) {
  } catch (const Documented&) {
  }
  return End::failed;
}

struct NothingElse {};

// A thing that is called with one allocation failing, each in its turn, until none is left to fail.
// make() gives the thing, in a state that is the same each time; call(thing) is what may fail;
// as_before(thing) checks what a call that failed leaves, and as_after(thing) what one leaves that did
// not, which comes next. stays_away: it is also tried with all allocations after that one failing, as
// long as the call lasts. Returns how many allocations there were. Nothing may leak; that is looked at
// unless the call starts threads, whose memory the C library keeps for later ones.
template <class Documented = NothingElse, class Make, class Call, class AsBefore, class AsAfter>
long fails_at_each_allocation(const Make& make, const Call& call, const AsBefore& as_before,
                              const AsAfter& as_after, bool stays_away = true,
                              bool starts_threads = false) {
  long count = 0;
  for (const bool with_all_after_it : {false, true})
    for (long number = 0; !with_all_after_it || stays_away; ++number) {
      SCOPED_TRACE(testing::Message()
                   << "allocation " << number << (with_all_after_it ? " and all after it" : ""));
      const long before = live;
      bool is_over = false;
      {
        auto thing = make();
        const End end = end_of<Documented>(number, with_all_after_it, [&] { call(thing); });
        is_over = failures == 0;
        if (end == End::failed) {
          if (is_over) ADD_FAILURE() << "it fails though memory does not";
          as_before(thing);
          call(thing);
        }
        as_after(thing);
      }
      if (number > 1 && live > before && !starts_threads)
        ADD_FAILURE() << live - before << " blocks were not given back";
      if (testing::Test::HasFailure()) return count;
      if (is_over) {
        count = number;
        break;
      }
    }
  return count;
}

}  // namespace
