// SPDX-License-Identifier: MIT
// Attention's backward as it is shared out: the gradient of a bias that tasks share, the memory that
// a task takes and where it writes, on any number of threads.
#include <algorithm>
#include <array>
#include <atomic>
#include <cfenv>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <gtest/gtest.h>
#include <string>
#include <thread>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_backward.hpp>
#include <eigenheads/attention_reference.hpp>
#include <eigenheads/multi_head_attention.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::AttentionOptions;
using eh::Causal;
using eh::Context;
using eh::Mask;

// The sizes of a call, and its random inputs.
struct Shape {
  Index B, H, G, Q, K, D, V;
};
template <class T>
struct Inputs {
  Tensor<T, 4> queries, keys, values, grad_output;

  explicit Inputs(const Shape& s)
      : queries(random_tensor<T>(1, s.B, s.H, s.Q, s.D)),
        keys(random_tensor<T>(2, s.B, s.G, s.K, s.D)),
        values(random_tensor<T>(3, s.B, s.G, s.K, s.V)),
        grad_output(random_tensor<T>(4, s.B, s.H, s.Q, s.V)) {}

  [[nodiscard]] auto forward(const Mask& mask = {}, const AttentionOptions<T>& options = {}) const {
    return eh::scaled_dot_product_attention(queries, keys, values, mask, options);
  }
  [[nodiscard]] auto backward(const eh::AttentionResult<T>& result, const Mask& mask,
                              const AttentionOptions<T>& options, Context& context) const {
    return eh::scaled_dot_product_attention_backward<T>(grad_output, queries, keys, values, result,
                                                        mask, options, context);
  }
  [[nodiscard]] auto reference(const Mask& mask, const auto& score) const {
    const T scale = static_cast<T>(1 / std::sqrt(static_cast<double>(queries.dimension(3))));
    return eh::attention_reference_backward<T>(grad_output, queries, keys, values, mask, scale,
                                               score);
  }
};

template <class T>
void expect_same_bits(const eh::AttentionGradients<T>& a, const eh::AttentionGradients<T>& b,
                      const std::string& name) {
  EXPECT_TRUE(same_bits(a.queries, b.queries)) << name;
  EXPECT_TRUE(same_bits(a.keys, b.keys)) << name;
  EXPECT_TRUE(same_bits(a.values, b.values)) << name;
  EXPECT_TRUE(same_bits(a.score_bias, b.score_bias)) << name;
}

// A sum of n products of numbers below 1 in size, each rounded, in another order.
template <class T>
void expect_near(const Tensor<T, 4>& got, const Tensor<T, 4>& expected, Index n,
                 const std::string& name) {
  ASSERT_EQ(got.size(), expected.size()) << name;
  const T bound = T(8) * static_cast<T>(n + 8) * Limits<T>::epsilon();
  for (Index i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got.data()[i], expected.data()[i], bound) << name << '[' << i << ']';
}

// The gradients of scores, summed over what an element of the bias counts for; and the sum of their
// sizes, to which the error of any order of additions is in proportion.
struct Sums {
  Tensor<double, 4> sum, size;
};
template <class T>
[[nodiscard]] Sums sum_over_axes(const Tensor<T, 4>& scores, const std::array<Index, 4>& shape) {
  const auto [b, h, q, k] = shape;
  Sums sums{constant_tensor(0.0, b, h, q, k), constant_tensor(0.0, b, h, q, k)};
  for (Index i = 0; i < scores.dimension(0); ++i)
    for (Index j = 0; j < scores.dimension(1); ++j)
      for (Index l = 0; l < scores.dimension(2); ++l)
        for (Index m = 0; m < scores.dimension(3); ++m) {
          const double x = static_cast<double>(scores(i, j, l, m));
          sums.sum(i % b, j % h, l % q, m % k) += x;
          sums.size(i % b, j % h, l % q, m % k) += std::abs(x);
        }
  return sums;
}

[[nodiscard]] std::string name_of(const std::array<Index, 4>& shape) {
  return testing::PrintToString(shape);
}

// Every axis of the bias as long as the call's, or 1.
template <class Visit>
void for_each_bias_shape(const Shape& s, const Visit& visit) {
  for (int kind = 0; kind < 16; ++kind) {
    const auto length = [kind](int axis, Index n) { return (kind >> axis & 1) != 0 ? n : 1; };
    visit(std::array{length(0, s.B), length(1, s.H), length(2, s.Q), length(3, s.K)});
  }
}

template <class T>
class BackwardSchedule : public testing::Test {};
TYPED_TEST_SUITE(BackwardSchedule, Scalars, ScalarNames);

TYPED_TEST(BackwardSchedule, TheGradientOfABiasOfAnyShapeIsTheReferencesOnAnyNumberOfThreads) {
  using T = TypeParam;
  for (const Shape& s : {Shape{3, 4, 2, 130, 99, 3, 2}, Shape{2, 1, 1, 5, 7, 2, 3},
                         Shape{1, 4, 1, 9, 100, 2, 3}, Shape{1, 3, 3, 9, 7, 2, 3}}) {
    const Inputs<T> x(s);
    const Mask mask{.causal = Causal::bottom_right};
    for_each_bias_shape(s, [&](const std::array<Index, 4>& shape) {
      const auto values = random_tensor<T>(11, shape[0], shape[1], shape[2], shape[3]);
      const eh::ScoreBias<T> bias(values);
      const auto result = x.forward(mask, {.score = bias});
      Context one(1);
      const auto gradients = x.backward(result, mask, {.score = bias}, one);
      const Sums expected = sum_over_axes<T>(x.reference(mask, bias).scores, shape);
      ASSERT_EQ(gradients.score_bias.size(), expected.sum.size());
      for (Index i = 0; i < values.size(); ++i)
        ASSERT_NEAR(static_cast<double>(gradients.score_bias.data()[i]), expected.sum.data()[i],
                    64 * static_cast<double>(Limits<T>::epsilon()) * (1 + expected.size.data()[i]))
            << name_of(shape) << i;
      for (const int threads : {2, 3, 7}) {
        Context context(threads, kAnyWork);
        expect_same_bits(x.backward(result, mask, {.score = bias}, context), gradients,
                         name_of(shape) + " on " + std::to_string(threads));
      }
    });
  }
}

// What a layer adds to gradients that are there: the same bits on any number of threads, and twice
// the gradients, but for roundings.
TYPED_TEST(BackwardSchedule, GradientsOfASharedBiasAreAddedToWhatIsThere) {
  using T = TypeParam;
  const Shape s{3, 4, 2, 20, 20, 4, 4};
  eh::MultiHeadAttention<T> layer(
      {.num_hiddens = 16, .num_heads = s.H, .num_kv_heads = s.G, .head_size = 4}, 7);
  const auto x = random_tensor<T>(5, s.B, s.Q, 16), dy = random_tensor<T>(6, s.B, s.Q, 16);
  for_each_bias_shape(s, [&](const std::array<Index, 4>& shape) {
    const auto values = random_tensor<T>(11, shape[0], shape[1], shape[2], shape[3]);
    typename eh::MultiHeadAttention<T>::Activations saved;
    (void)layer.forward(x, x, x, {}, saved, {.score = eh::ScoreBias<T>(values)});
    const auto once = layer.backward(dy, saved).score_bias;
    std::vector<Tensor<T, 4>> twice;
    for (const int threads : {1, 2, 3, 7}) {
      Context context(threads, kAnyWork);
      auto gradients = layer.backward(dy, saved, context);
      EXPECT_TRUE(same_bits(gradients.score_bias, once)) << name_of(shape) << threads;
      layer.backward_into(gradients, dy, saved, true, context);
      twice.push_back(gradients.score_bias);
      EXPECT_TRUE(same_bits(twice.back(), twice.front())) << name_of(shape) << threads;
    }
    for (Index i = 0; i < once.size(); ++i)
      ASSERT_NEAR(twice[0].data()[i], 2 * once.data()[i],
                  T(256) * Limits<T>::epsilon() * (1 + std::abs(once.data()[i])))
          << name_of(shape);
  });
}

// Waits, where it is told to, until two sequences or two heads have come. It gives up after ten
// seconds: then they come one after the other.
struct Meeting {
  std::atomic<bool> is_on{false}, has_failed{false};
  std::array<std::atomic<bool>, 2> has_come{};
};
template <class T>
struct MeetingScore {
  static constexpr bool adds = true;

  T operator()(T score, eh::ScorePosition at) const {
    if (meeting->is_on) {
      meeting->has_come[static_cast<std::size_t>(at.b + at.h) % 2] = true;
      const auto late = std::chrono::steady_clock::now() + std::chrono::seconds(10);
      while (!(meeting->has_come[0] && meeting->has_come[1]) && !meeting->has_failed) {
        std::this_thread::yield();
        if (std::chrono::steady_clock::now() > late) meeting->has_failed = true;
      }
    }
    return score;
  }

  Meeting* meeting;
};

TYPED_TEST(BackwardSchedule, TasksThatShareABiasOrSeemToRunAtTheSameTime) {
  using T = TypeParam;
  Context context(2, kAnyWork);
  const auto expect_meeting = [&](const Shape& s, const std::array<Index, 4>& shape) {
    const Inputs<T> x(s);
    const auto values = random_tensor<T>(11, shape[0], shape[1], shape[2], shape[3]);
    Meeting meeting;
    const auto score = eh::chain(MeetingScore<T>{&meeting}, eh::ScoreBias<T>(values));
    const auto result = x.forward({}, {.score = score});
    meeting.is_on = true;
    (void)x.backward(result, {}, {.score = score}, context);
    EXPECT_FALSE(meeting.has_failed) << name_of(shape);
  };
  expect_meeting({2, 1, 1, 3, 5, 2, 2}, {1, 1, 3, 5});
  expect_meeting({2, 1, 1, 3, 5, 2, 2}, {2, 1, 3, 5});  // heads are one, and not shared
  expect_meeting({1, 2, 2, 3, 5, 2, 2}, {1, 1, 3, 5});
  expect_meeting({1, 2, 2, 3, 5, 2, 2}, {1, 1, 1, 1});
  expect_meeting({1, 2, 2, 3, 5, 2, 2}, {1, 2, 3, 5});
}

// One task more at a time takes so much more memory, however many keys and queries there are.
TYPED_TEST(BackwardSchedule, WhatAThreadTakesDoesNotDependOnKeysAndQueries) {
  using T = TypeParam;
  const auto taken = [](Index Q, Index K, int threads) {
    const Shape s{1, 4, 4, Q, K, 64, 64};
    const Inputs<T> x(s);
    const Mask mask{.window = {3, 3}, .first_positions = {0}};
    Context context(threads, kAnyWork);
    (void)x.backward(x.forward(mask), mask, {}, context);
    return context.scratch_bytes();
  };
  const auto of_threads = [&](Index Q, Index K) { return taken(Q, K, 4) - taken(Q, K, 1); };
  const Index expected = of_threads(512, 512);
  EXPECT_LE(expected, 3 * 100'000 * static_cast<Index>(sizeof(T)));
  EXPECT_EQ(of_threads(512, 4096), expected);
  EXPECT_EQ(of_threads(4096, 512), expected);
  EXPECT_EQ(of_threads(4096, 4096), expected);
}

// Of panels that are whole, and of those whose last columns are fewer.
TYPED_TEST(BackwardSchedule, IsTheReferencesForHeadsOfAnySizeAroundTheEdgesOfBlocks) {
  using T = TypeParam;
  const std::vector<std::array<Index, 2>> edges{{127, 97}, {129, 95}, {128, 96}, {257, 193}};
  std::size_t edge = 0;
  for (const Index D : {1, 17, 31, 33, 64, 80})
    for (const Index V : {1, 17, 31, 33, 64, 80}) {
      const auto [Q, K] = edges[edge++ % edges.size()];
      const Inputs<T> x({1, 2, 1, Q, K, D, V});
      const Mask mask{.causal = Causal::bottom_right};
      Context context(1);
      const auto got = x.backward(x.forward(mask), mask, {}, context);
      const auto expected = x.reference(mask, eh::PlainScore{});
      const std::string name = std::to_string(D) + 'x' + std::to_string(V);
      expect_near<T>(got.queries, expected.queries, D + V + K, name + " queries");
      expect_near<T>(got.keys, expected.keys, D + V + 2 * Q, name + " keys");
      expect_near<T>(got.values, expected.values, D + V + 2 * Q, name + " values");
    }
}

// Gradients go straight to where they are wanted: rows that lie apart, with NaN between them, which
// is neither read nor written.
TYPED_TEST(BackwardSchedule, NothingIsWrittenBesideTheGradients) {
  using T = TypeParam;
  using Layout = eh::detail::StridedMatrix<T>;
  for (const Index D : {1, 5, 31, 32, 33, 64, 80}) {
    const Shape s{1, 2, 2, 133, 101, D, D};
    const Inputs<T> x(s);
    const Mask mask{.valid_lens = {99}};
    const auto result = x.forward(mask);
    Context context(2, kAnyWork);
    const auto expected = x.backward(result, mask, {}, context);
    const Index apart = D + 3;
    auto queries = constant_tensor(kNan<T>, 1, s.H, s.Q, apart);
    auto keys = constant_tensor(kNan<T>, 1, s.G, s.K, apart), values = keys;
    const auto plain = [&](const Tensor<T, 4>& of) {
      return Layout::heads_apart(const_cast<T*>(of.data()), of.dimension(2), of.dimension(1), D);
    };
    const auto wide = [&](Tensor<T, 4>& of) {
      const Index rows = of.dimension(2);
      return Layout{of.data(), rows, D, of.dimension(1) * rows * apart, apart, rows * apart};
    };
    const eh::BoundMask bound(mask, 1, s.Q, s.K, s.H);
    eh::detail::attend_backward<T>(
        {.shape = {1, s.H, s.G, s.Q, s.K, D, D},
         .scale = eh::detail::default_scale<T>(D),
         .mask = &bound,
         .queries = plain(x.queries),
         .keys = plain(x.keys),
         .values = plain(x.values),
         .lse = eh::detail::StridedMatrix<const T>::heads_apart(result.lse.data(), s.Q, s.H, 1),
         .output = plain(result.output),
         .grad_output = plain(x.grad_output),
         .grad_queries = wide(queries),
         .grad_keys = wide(keys),
         .grad_values = wide(values)},
        context);
    const auto expect_rows = [&](const Tensor<T, 4>& got, const Tensor<T, 4>& rows) {
      for (Index h = 0; h < rows.dimension(1); ++h)
        for (Index i = 0; i < rows.dimension(2); ++i) {
          const T* const from = row(got, 0, h, i).data();
          ASSERT_TRUE(same_bits(TensorView<T, 1>(from, {D}), row(rows, 0, h, i))) << D << ' ' << i;
          ASSERT_TRUE(all_are(TensorView<T, 1>(from + D, {3}), kNan<T>)) << D << ' ' << i;
        }
    };
    expect_rows(queries, expected.queries);
    expect_rows(keys, expected.keys);
    expect_rows(values, expected.values);
  }
}

// A score of -inf hides its key as a mask does, also where the mask shows all: an infinite value of
// such a key, whose dP is infinite, reaches no query.
TYPED_TEST(BackwardSchedule, AScoreOfMinusInfinityHidesItsKey) {
  using T = TypeParam;
  Inputs<T> x({1, 2, 1, 130, 100, 4, 3});
  for (Index i = 0; i < x.queries.size(); ++i)
    x.queries.data()[i] = std::abs(x.queries.data()[i]) + T(1);
  Tensor<bool, 4> allowed(1, 1, 1, 100);
  for (Index k = 0; k < 100; ++k) allowed(0, 0, 0, k) = k != 7;
  const Mask hides{.allowed = allowed};
  Context context(1);
  x.keys(0, 0, 7, 1) = -kInf<T>;
  x.values(0, 0, 7, 2) = kInf<T>;
  const auto result = x.forward(hides);
  expect_same_bits(x.backward(result, {}, {}, context), x.backward(result, hides, {}, context),
                   "gradients");
}

// Queries and keys that see nothing of each other share blocks, and their scores may be anything.
// Nothing is raised but inexact and underflow: the others may be unmasked.
TYPED_TEST(BackwardSchedule, HiddenScoresOfAnySizeRaiseNoFloatingPointException) {
  using T = TypeParam;
  const Shape s{2, 2, 1, 141, 200, 4, 5};
  Inputs<T> x(s);
  for (Index i = 0; i < x.keys.size(); ++i)
    if (i / s.D % s.K % 3 == 1 || i / s.D % s.K >= 150) x.keys.data()[i] *= T(1e30);
  Tensor<bool, 4> pairs(1, 1, s.Q, s.K), keys(1, 1, 1, s.K);
  for (Index k = 0; k < s.K; ++k)
    for (Index q = 0; q < s.Q; ++q) pairs(0, 0, q, k) = keys(0, 0, 0, k) = k % 3 != 1 && k < 150;
  const auto values = random_tensor<T>(11, 1, 1, 1, s.K);
  const eh::ScoreBias<T> bias(values);
  for (const Mask& mask : {Mask{.allowed = keys}, Mask{.causal = Causal::top_left, .allowed = keys},
                           Mask{.valid_lens = {150, 0}, .query_lens = {s.Q, 9}, .allowed = pairs}})
    for (const bool is_biased : {false, true}) {
      AttentionOptions<T> options{.dropout = 0.25, .seed = eh::DropoutSeed{3}};
      if (is_biased) options.score = bias;
      const auto result = x.forward(mask, options);
      Context context(1);
      std::feclearexcept(FE_ALL_EXCEPT);
      (void)x.backward(result, mask, options, context);
      EXPECT_EQ(std::fetestexcept(FE_INVALID | FE_OVERFLOW | FE_DIVBYZERO), 0);
    }
}

}  // namespace
