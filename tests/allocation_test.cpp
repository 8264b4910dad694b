// SPDX-License-Identifier: MIT
// Once warm, a call allocates nothing, counted where all memory comes from, on all threads; with
// one thread it takes no lock; and memory grows with queries plus keys, never with their product.
#include <array>
#include <atomic>
#include <cstdlib>
#include <dlfcn.h>
#include <mutex>
#include <new>
#include <pthread.h>
#include <utility>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/multi_head_attention.hpp>

#include "support.hpp"

// ---- What is counted ---------------------------------------------------------------------------

namespace {

std::atomic<bool> is_counting{false};
std::atomic<long> allocations{0}, allocated_bytes{0}, locks{0};

void count(std::size_t bytes) {
  if (!is_counting) return;
  ++allocations;
  allocated_bytes += static_cast<long>(bytes);
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
#include <sanitizer/allocator_interface.h>
static const int hooks = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, std::size_t bytes) { count(bytes); }, [](const volatile void*) {});
constexpr bool kCountsLocks = false;

#else

constexpr bool kCountsLocks = true;
static const int hooks = 1;

// glibc's own, under their other names. operator new and Eigen's allocations end here too.
extern "C" {
void* __libc_malloc(std::size_t);
void* __libc_calloc(std::size_t, std::size_t);
void* __libc_realloc(void*, std::size_t);
void* __libc_memalign(std::size_t, std::size_t);

void* malloc(std::size_t bytes) {
  count(bytes);
  return __libc_malloc(bytes);
}
void* calloc(std::size_t number, std::size_t bytes) {
  count(number * bytes);
  return __libc_calloc(number, bytes);
}
void* realloc(void* memory, std::size_t bytes) {
  count(bytes);
  return __libc_realloc(memory, bytes);
}
void* memalign(std::size_t alignment, std::size_t bytes) {
  count(bytes);
  return __libc_memalign(alignment, bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) { return memalign(alignment, bytes); }
int posix_memalign(void** memory, std::size_t alignment, std::size_t bytes) {
  *memory = memalign(alignment, bytes);
  return *memory == nullptr ? 12 : 0;  // ENOMEM
}
int pthread_mutex_lock(pthread_mutex_t* mutex) {
  static const auto next =
      reinterpret_cast<int (*)(pthread_mutex_t*)>(dlsym(RTLD_NEXT, "pthread_mutex_lock"));
  if (is_counting) ++locks;
  return next(mutex);
}
}

#endif

namespace {

using namespace support;
using eh::Context, eh::Mask;

struct Counted {
  long allocations, bytes, locks;
};

template <class Call>
Counted counted(const Call& call) {
  allocations = allocated_bytes = locks = 0;
  is_counting = true;
  call();
  is_counting = false;
  return {allocations, allocated_bytes, locks};
}

TEST(Counting, SeesAllocationsAndLocks) {
  ASSERT_EQ(hooks, 1);
  std::mutex mutex;
  void* volatile kept = nullptr;
  const auto seen = counted([&] {
    const std::lock_guard lock(mutex);
    for (const auto make :
         {+[] { return std::malloc(100); }, +[] { return std::calloc(10, 10); },
          +[] { return std::aligned_alloc(64, 128); }, +[] { return ::operator new(100); }}) {
      kept = make();
      std::free(kept);
    }
    kept = ::operator new (100, std::align_val_t{64});
    ::operator delete (kept, std::align_val_t{64});
    const Eigen::Tensor<float, 1> tensor(25);
    kept = const_cast<float*>(tensor.data());
    EXPECT_EQ(posix_memalign(const_cast<void**>(&kept), 64, 100), 0);
    std::free(kept);
  });
  EXPECT_GE(seen.allocations, 7);
  EXPECT_GE(seen.bytes, 700);
  EXPECT_EQ(seen.locks, kCountsLocks ? 1 : 0);
}

// ---- Warm calls --------------------------------------------------------------------------------

template <class T>
class Allocation : public testing::Test {};
TYPED_TEST_SUITE(Allocation, Scalars, ScalarNames);

struct Shape {
  Index B, Q, K, E, H, G;
};

// Of calls of a shape that the context has seen.
template <class T, class... Score>
void expect_none(const Shape& shape, const Mask& mask, int threads, const Score&... score) {
  const auto& [B, Q, K, E, H, G] = shape;
  SCOPED_TRACE(testing::Message() << B << " x " << Q << " x " << K << ", " << threads
                                  << " threads");
  const eh::MultiHeadAttention<T> layer({.num_hiddens = E,
                                         .num_heads = H,
                                         .bias = true,
                                         .query_size = E,
                                         .key_size = E,
                                         .value_size = E,
                                         .num_kv_heads = G});
  const auto q = random_tensor<T>(1, B, Q, E), k = random_tensor<T>(2, B, K, E);
  Tensor<T, 3> y(B, Q, E);
  Context context(threads);
  const auto call = [&] { layer.forward_into(y, q, k, k, mask, score..., context); };
  for (int warm = 0; warm < 3; ++warm) call();
  for (int repeat = 0; repeat < 20; ++repeat) {
    const Counted seen = counted(call);
    ASSERT_EQ(seen.allocations, 0) << seen.bytes << " bytes";
    ASSERT_TRUE(seen.locks == 0 || threads > 1) << seen.locks;
  }
}

TYPED_TEST(Allocation, AWarmCallDoesNoneUnderAnyMaskAndScore) {
  using T = TypeParam;
  const Index Q = 70, K = 90;
  const Shape shape{2, Q, K, 24, 4, 2};
  const auto pairs = constant_tensor<bool>(true, 2, 1, Q, K);
  const auto slopes = random_tensor<T>(3, 4);
  const auto bias = random_tensor<T>(4, 1, 4, Q, K);
  const std::vector<Mask> masks{{},
                                {.valid_lens = {K, 5}},
                                {.causal = eh::Causal::bottom_right, .window = {7, -1}},
                                {.query_lens = {Q, 3}},
                                {.allowed = pairs},
                                {.valid_lens = {0, K},
                                 .causal = eh::Causal::top_left,
                                 .query_lens = {3, Q},
                                 .allowed = pairs}};
  for (const int threads : {1, 2})
    for (const Mask& mask : masks) {
      expect_none<T>(shape, mask, threads);
      expect_none<T>(shape, mask, threads, eh::Softcap<T>(T(5)));
      expect_none<T>(shape, mask, threads, eh::chain(eh::Alibi<T>(slopes), eh::ScoreBias<T>(bias)));
    }
}

// Among them decoding: one query, few or many keys, in several blocks.
TYPED_TEST(Allocation, AWarmCallDoesNoneInAnyShape) {
  using T = TypeParam;
  for (const int threads : {1, 2})
    for (const Shape& shape : std::vector<Shape>{{1, 1, 1, 8, 1, 1},
                                                 {1, 1, 1500, 32, 4, 4},
                                                 {4, 1, 700, 32, 4, 1},
                                                 {2, 4, 600, 16, 2, 2},
                                                 {1, 49, 3, 16, 2, 2},
                                                 {3, 200, 700, 16, 2, 1},
                                                 {8, 128, 1, 48, 6, 3}})
      for (const Mask& mask : {Mask{}, Mask{.causal = eh::Causal::bottom_right}})
        expect_none<T>(shape, mask, threads);
}

TYPED_TEST(Allocation, ShapesThatWereSeenBeforeMayComeInAnyOrder) {
  using T = TypeParam;
  const eh::MultiHeadAttention<T> layer(
      {.num_hiddens = 32, .num_heads = 4, .query_size = 32, .key_size = 32, .value_size = 32});
  Context context(2);
  for (const bool is_warm : {false, true})
    for (const Index n :
         is_warm ? std::array<Index, 4>{1, 300, 40, 150} : std::array<Index, 4>{150, 1, 300, 40}) {
      const auto x = random_tensor<T>(1, 2, n, 32);
      auto y = x;
      const auto seen = counted([&] { layer.forward_into(y, x, x, x, Mask{}, context); });
      EXPECT_TRUE(seen.allocations == 0 || !is_warm) << n;
    }
}

// ---- How much ----------------------------------------------------------------------------------

// One head of 64: besides the result, packed keys and values, and 2 MiB a thread. A window keeps it
// short; memory knows nothing of it.
TYPED_TEST(Allocation, LongSequencesTakeLittleMoreThanTheirKeysAndValues) {
  using T = TypeParam;
  constexpr Index D = 64;
  for (const auto& [Q, K] : {std::pair<Index, Index>{16384, 16384}, {96, 65536}, {1, 65536}}) {
    const auto q = random_tensor<T>(1, 1, 1, Q, D), k = random_tensor<T>(2, 1, 1, K, D);
    const Mask mask{.causal = eh::Causal::bottom_right, .window = {64, -1}};
    for (const int threads : {1, 2}) {
      Context context(threads);
      const long packed = 2 * K * D * Index{sizeof(T)};
      const long result = Q * (D + 1) * Index{sizeof(T)};
      const Counted seen =
          counted([&] { (void)eh::scaled_dot_product_attention(q, k, k, mask, {}, context); });
      const long most = packed + threads * (2L << 20);
      EXPECT_LE(context.scratch_bytes(), most) << Q << " x " << K;
      EXPECT_LE(seen.bytes, most + result + 4096) << Q << " x " << K;
    }
  }
}

}  // namespace
