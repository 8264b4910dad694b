// SPDX-License-Identifier: MIT
// Attention as it is shared out: the same bits on any number of threads, heads whole or shared;
// what a score function throws arrives; and how much work is worth a second thread.
#include <gtest/gtest.h>
#include <stdexcept>
#include <unsupported/Eigen/CXX11/ThreadPool>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/context.hpp>
#include <eigenheads/kernels/schedule/plan.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::Context, eh::Mask;
using eh::detail::AttentionPath, eh::detail::AttentionPlan;

struct Shape {
  Index B, H, G, Q, K, D;
};

template <class T>
[[nodiscard]] AttentionPlan plan_of(const Shape& s, const Context& context, const Mask& mask = {}) {
  const eh::BoundMask bound(mask, s.B, s.Q, s.K, s.H);
  eh::detail::AttentionCall<T> call{};
  call.shape = {s.B, s.H, s.G, s.Q, s.K, s.D, s.D};
  call.mask = &bound;
  return eh::detail::plan(call, context);
}

template <class T>
class Attend : public testing::Test {};
TYPED_TEST_SUITE(Attend, Scalars, ScalarNames);

// Whole heads alone, some shared, all shared, and more shared than are packed at once; decoding in
// blocks of keys.
const std::vector<Shape> kShapes{{1, 6, 6, 60, 70, 8},    {1, 7, 7, 100, 300, 16},
                                 {3, 4, 2, 30, 600, 8},   {1, 1, 1, 200, 700, 8},
                                 {1, 5, 5, 50, 2100, 64}, {1, 2, 1, 1, 1500, 16}};

TYPED_TEST(Attend, HasTheSameBitsOnAnyNumberOfThreads) {
  using T = TypeParam;
  Eigen::ThreadPool pool(2);
  for (const Shape& s : kShapes) {
    const auto q = random_tensor<T>(1, s.B, s.H, s.Q, s.D),
               k = random_tensor<T>(2, s.B, s.G, s.K, s.D),
               v = random_tensor<T>(3, s.B, s.G, s.K, s.D);
    std::vector<Mask> masks{{}, {.causal = eh::Causal::bottom_right, .window = {300, -1}}};
    if (s.B == 3) masks.push_back({.valid_lens = {0, s.K, 300}, .query_lens = {s.Q, 0, 7}});
    for (const Mask& mask : masks) {
      Context one;
      const auto expected = eh::scaled_dot_product_attention(q, k, v, mask, {}, one);
      const auto same_on = [&](Context& context) {
        return same_bits(eh::scaled_dot_product_attention(q, k, v, mask, {}, context), expected);
      };
      for (const int threads : {2, 3, 5}) {
        Context context(threads, kAnyWork);
        for (int repeat = 0; repeat < 3; ++repeat)
          ASSERT_TRUE(same_on(context)) << threads << " threads, K = " << s.K;
      }
      Context of_caller(pool, kAnyWork);
      ASSERT_TRUE(same_on(of_caller));
    }
  }
}

TYPED_TEST(Attend, HeadsAreWholeUnlessTheyAreTheLastOrLarge) {
  using T = TypeParam;
  const Context one, two(2, kAnyWork), three(3, kAnyWork);
  const auto whole = [](const Shape& shape, const Context& context) {
    const AttentionPlan plan = plan_of<T>(shape, context);
    EXPECT_EQ(plan.path, AttentionPath::packed_once);
    EXPECT_EQ(plan.threads.least, context.threads());
    return plan.whole_heads;
  };
  EXPECT_EQ(whole({1, 8, 8, 100, 100, 16}, one), 8);
  EXPECT_EQ(whole({1, 8, 8, 100, 100, 16}, two), 6);
  EXPECT_EQ(whole({1, 8, 8, 100, 100, 16}, three), 3);
  EXPECT_EQ(whole({1, 1, 1, 100, 100, 16}, two), 0);
  // Keys and values of more than a cache: packed by all threads together, two heads at most.
  EXPECT_EQ(whole({1, 8, 8, 100, 20000, 16}, one), 8);
  EXPECT_EQ(whole({1, 8, 8, 100, 20000, 16}, two), 0);
  EXPECT_EQ((plan_of<T>({1, 8, 8, 100, 20000, 16}, two).shared_at_once), 2);
}

TYPED_TEST(Attend, WorkTooSmallForItsThreadsIsDoneByFewer) {
  using T = TypeParam;
  const Context context(4);
  EXPECT_EQ((plan_of<T>({2, 5, 5, 4, 6, 20}, context).threads.most), 1);  // the chapter's example
  EXPECT_EQ((plan_of<T>({1, 8, 8, 1024, 1024, 64}, context).threads.least), 4);
  eh::detail::Threads threads;  // more work, no fewer of them
  for (Index n = 1; n < 300; ++n) {
    const auto of_n = plan_of<T>({1, 8, 8, n, n, 64}, context).threads;
    EXPECT_GE(of_n.least, threads.least);
    EXPECT_GE(of_n.most, threads.most);
    EXPECT_GE(of_n.most, of_n.least);
    threads = of_n;
  }
  EXPECT_EQ(threads.least, 4);
  // Keys that no query sees are no work.
  EXPECT_EQ((plan_of<T>({1, 8, 8, 1024, 1024, 64}, context, {.valid_lens = {1}}).threads.least), 1);
}

// From a row of a head that is shared, while others wait for it, from one of a head that is not, and
// from a block of keys.
template <class T>
struct Thrower {
  std::int32_t h, q;
  T operator()(T score, eh::ScorePosition at) const {
    if (at.h == h && at.q == q && at.k > 300) throw std::runtime_error("here");
    return score;
  }
};
TYPED_TEST(Attend, WhatAScoreFunctionThrowsReachesTheCaller) {
  using T = TypeParam;
  const Shape& s = kShapes[4];
  const auto q = random_tensor<T>(1, s.B, s.H, s.Q, s.D),
             k = random_tensor<T>(2, s.B, s.G, s.K, s.D);
  for (const int threads : {1, 2, 3, 4})
    for (std::int32_t h = 0; h < s.H; ++h)
      for (const std::int32_t row : {0, 49})
        finishes([&] {
          Context context(threads, kAnyWork);
          const Thrower<T> score{h, row};
          const auto call = [&](Index rows) {
            const TensorView<T, 4> queries(q.data(), {1, s.H, rows, s.D});
            return refusal<std::runtime_error>([&] {
              return eh::scaled_dot_product_attention(queries, k, k, {}, {.score = score}, context);
            });
          };
          EXPECT_EQ(call(s.Q), "here");
          if (row == 0) {
            EXPECT_EQ(call(1), "here");
          }
        });
}

}  // namespace
