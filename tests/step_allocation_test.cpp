// SPDX-License-Identifier: MIT
// From the second on, a step allocates nothing, up to the cache's capacity, on all threads, and with one
// thread takes no lock; it projects and packs its own tokens and no other. So does a call that reads
// keys and values which were projected before.
#include <array>
#include <numeric>
#include <vector>

#include <eigenheads/key_values.hpp>
#include <eigenheads/kv_cache.hpp>

#include "context.hpp"
#include "counting.hpp"
#include "layers.hpp"
#include "support.hpp"

namespace {

using namespace support;
using eh::Context, eh::KvCache, eh::Mask, eh::Sequences;

constexpr Index kSize = 16;

template <class T>
class StepAllocation : public testing::Test {};
TYPED_TEST_SUITE(StepAllocation, Scalars, ScalarNames);

template <class T>
[[nodiscard]] eh::MultiHeadAttention<T> layer_of(Index H, Index G) {
  return make_layer<T>(kSize,
                       {.num_hiddens = kSize, .num_heads = H, .bias = true, .num_kv_heads = G});
}

void expect_none(const Counted& seen, int threads) {
  EXPECT_EQ(seen.allocations, 0) << seen.bytes << " bytes";
  EXPECT_TRUE(seen.locks == 0 || threads > 1) << seen.locks;
}

struct Cache {
  Index B, H, G, capacity, window, steps;
};

// A prompt in another context, then one token after the other, of which the first warms up; up to the
// capacity, or on through a ring.
template <class T, class Storage, class Step>
void expect_none_from_the_second_step_on(const Cache& cache_of, const Step& step) {
  const auto& [B, H, G, capacity, window, steps] = cache_of;
  const auto layer = layer_of<T>(H, G);
  for (const int threads : {1, 2}) {
    SCOPED_TRACE(testing::Message() << B << " sequences, capacity " << capacity << ", window "
                                    << window << ", " << threads << " threads");
    KvCache<T, Storage> cache({.batch_size = B,
                               .num_kv_heads = G,
                               .head_size = kSize / H,
                               .capacity = capacity,
                               .window = window});
    Context context(threads, kAnyWork);
    start_threads(context);
    (void)layer.step(random_tensor<T>(1, B, 3, kSize), cache);
    step(layer, cache, context);
    for (Index n = 1; n < steps; ++n) {
      const Counted seen = counted([&] { step(layer, cache, context); });
      ASSERT_EQ(seen.allocations, 0) << seen.bytes << " bytes in step " << n;
      ASSERT_TRUE(seen.locks == 0 || threads > 1) << seen.locks;
    }
    EXPECT_EQ(cache.length(0), 3 + steps);
  }
}

// Full caches of one page, and of several, to the last token; rings that let go of pages.
const std::vector<Cache> kCaches{{1, 4, 2, 20, 0, 17},   {2, 2, 2, 600, 0, 597},
                                 {1, 2, 1, 600, 0, 597}, {2, 2, 1, 600, 0, 597},
                                 {3, 4, 1, 10, 7, 600},  {1, 2, 1, 270, 260, 900}};

template <class T, class Storage>
void expect_padded_steps_to_do_none() {
  for (const Cache& cache_of : kCaches) {
    const auto x = random_tensor<T>(2, cache_of.B, 1, kSize);
    auto y = x;
    expect_none_from_the_second_step_on<T, Storage>(
        cache_of, [&](const auto& layer, eh::AnyKvCache<T>& cache, Context& context) {
          layer.step_into(y, x, cache, Mask{}, context);
        });
  }
}
template <class T, class Storage>
void expect_packed_steps_to_do_none() {
  for (const Cache& cache_of : kCaches) {
    const Sequences sequences(std::vector<Index>(static_cast<std::size_t>(cache_of.B), 1));
    const auto x = random_tensor<T>(2, cache_of.B, kSize);
    auto y = x;
    expect_none_from_the_second_step_on<T, Storage>(
        cache_of, [&](const auto& layer, eh::AnyKvCache<T>& cache, Context& context) {
          layer.step_into(y, x, sequences, cache, Mask{}, context);
        });
  }
}

TYPED_TEST(StepAllocation, PaddedStepsDoNone) {
  expect_padded_steps_to_do_none<TypeParam, TypeParam>();
}
TYPED_TEST(StepAllocation, PackedStepsDoNone) {
  expect_packed_steps_to_do_none<TypeParam, TypeParam>();
}
// Their numbers are widened in scratch memory.
TEST(StoredStepAllocation, StepsDoNoneWhateverTheStorage) {
  expect_padded_steps_to_do_none<float, eh::BFloat16>();
  expect_packed_steps_to_do_none<float, eh::BFloat16>();
  expect_packed_steps_to_do_none<float, eh::Half>();
}

// Nor what makes room for others: each shares its pages with the one that it was, until it writes.
TYPED_TEST(StepAllocation, ForksAndReorderedBeamsDoNone) {
  using T = TypeParam;
  const auto layer = layer_of<T>(2, 1);
  KvCache<T> cache({.batch_size = 3, .num_kv_heads = 1, .head_size = kSize / 2, .capacity = 700});
  const auto prompt = random_tensor<T>(1, 3, 300, kSize), x = random_tensor<T>(2, 3, 1, kSize);
  auto y = x;
  const std::vector<Index> parents{2, 2, 0};
  Context context;
  (void)layer.step(prompt, cache, context);
  for (const bool is_warm : {false, true})
    for (int n = 0; n < 40; ++n) {
      const Counted seen = counted([&] {
        cache.reorder(parents);
        cache.fork(0, 1);
        layer.step_into(y, x, cache, Mask{}, context);
        if (n % 3 == 0) cache.truncate(1, cache.length(1) - 1);
      });
      if (is_warm) expect_none(seen, 1);
    }
}

TYPED_TEST(StepAllocation, AttentionToProjectedKeysDoesNone) {
  using T = TypeParam;
  const auto layer = layer_of<T>(4, 2);
  const Index K = 600;
  const std::vector<Index> key_lens{K, 7, 0};
  const auto keys = random_tensor<T>(1, 3, K, kSize);
  for (const int threads : {1, 2})
    for (const Index Q : {1, 70}) {
      Context context(threads, kAnyWork);
      start_threads(context);
      const auto projected = layer.project(keys, keys, key_lens, context);
      const auto x = random_tensor<T>(2, 3, Q, kSize);
      const auto rows = random_tensor<T>(3, Q + 4, kSize);
      const Sequences sequences{Q, Index{0}, Index{4}};
      auto y = x;
      auto packed_y = rows;
      const Mask mask{.causal = eh::Causal::bottom_right, .window = {300, -1}};
      const auto call = [&] { layer.attend_into(y, x, projected, mask, context); };
      const auto packed_call = [&] {
        layer.attend_into(packed_y, rows, sequences, projected, mask, context);
      };
      for (int warm = 0; warm < 3; ++warm) call(), packed_call();
      for (int repeat = 0; repeat < 10; ++repeat) {
        expect_none(counted(call), threads);
        expect_none(counted(packed_call), threads);
      }
    }
}

// ---- What a step projects and packs --------------------------------------------------------------

TYPED_TEST(StepAllocation, AStepProjectsAndPacksItsOwnTokensAndNoOther) {
  using T = TypeParam;
  const auto layer = layer_of<T>(4, 2);
  for (const Index window : {0, 30}) {
    KvCache<T> cache({.batch_size = 2,
                      .num_kv_heads = 2,
                      .head_size = kSize / 4,
                      .capacity = window > 0 ? 40 : 900,
                      .window = window});
    Context context;
    Index tokens = 0;
    const auto step = [&](Index first, Index second) {
      const std::vector<Index> counts{first, second};
      (void)layer.step(random_tensor<T>(1, first + second, kSize), Sequences(counts), cache, {},
                       context);
      tokens += first + second;
      // Through W_q, W_k, W_v and W_o; keys and values of two heads.
      EXPECT_EQ(context.projected_row_count(), 4 * tokens);
      EXPECT_EQ(cache.heads().rows_written(), 2 * tokens);
    };
    for (const Index n : {300, 1, 1, 3, 1, 260, 1}) step(n, n % 3);
    cache.fork(0, 1);
    for (int n = 0; n < 5; ++n) step(1, 1);
    cache.truncate(0, cache.length(0) - 2);
    step(2, 0);
  }
}

}  // namespace
