// SPDX-License-Identifier: MIT
// What holds of gradients whatever attention is asked: on the random calls of calls.hpp.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_backward.hpp>
#include <eigenheads/attention_reference.hpp>
#include <eigenheads/dropout.hpp>

#include "calls.hpp"

namespace {

using namespace support;
using eh::AttentionGradients, eh::Context;

template <class T>
class GradientProperties : public testing::Test {};
TYPED_TEST_SUITE(GradientProperties, Scalars, ScalarNames);

// P15: of one output row, the keys and values that it sees have a gradient, all else has exactly 0.
TYPED_TEST(GradientProperties, ReachWhatIsVisibleAndNothingElse) {
  using T = TypeParam;
  for_each_case(101, [](std::uint64_t seed) {
    Numbers numbers(seed);
    RandomCall<T> call(seed);
    const Index b = numbers.between(0, call.B - 1), h = numbers.between(0, call.H - 1),
                i = numbers.between(0, call.Q - 1);
    const auto full = call.dy;
    std::fill_n(call.dy.data(), call.dy.size(), T(0));
    for (Index c = 0; c < call.V; ++c) call.dy(b, h, i, c) = full(b, h, i, c);
    const auto gradients = call.backward();
    for (Index sequence = 0; sequence < call.B; ++sequence)
      for (Index g = 0; g < call.G; ++g)
        for (Index j = 0; j < call.K; ++j) {
          const bool is_seen =
              sequence == b && g == h * call.G / call.H && call.mask.visible(b, h, i, j);
          for (Index c = 0; c < call.V; ++c)
            ASSERT_EQ(gradients.values(sequence, g, j, c) != 0, is_seen) << j;
          if (!is_seen) {
            ASSERT_TRUE(all_are(row(gradients.keys, sequence, g, j), T(0))) << j;
          }
        }
    for_each_query(call, [&](Index sequence, Index head, Index query) {
      const bool is_it = sequence == b && head == h && query == i;
      if (!is_it || !call.sees(b, h, i)) {
        ASSERT_TRUE(all_are(row(gradients.queries, sequence, head, query), T(0)));
      }
      for (Index j = 0; j < call.K; ++j)
        if (!is_it || !call.mask.visible(b, h, i, j)) {
          ASSERT_EQ(gradients.score_bias(sequence, head, query, j), T(0));
        }
    });
    for (Index head = 0; head < call.H; ++head)
      if (head != h || !call.sees(b, h, i)) {
        ASSERT_EQ(gradients.sink_logits(head), T(0));
      }
  });
}

// P33: what no query sees may be NaN; its gradient is exactly 0, and no other moves.
TYPED_TEST(GradientProperties, OfWhatNoQuerySeesAreZeroWhateverItHolds) {
  using T = TypeParam;
  for_each_case(102, [](std::uint64_t seed) {
    Numbers numbers(seed);
    RandomCall<T> call(seed);
    call.dropout = static_cast<double>(numbers.between(0, 2)) / 4;
    const auto clean = call.backward();
    Tensor<bool, 3> seen = constant_tensor<bool>(false, call.B, call.G, call.K);
    for_each_query(call, [&](Index b, Index h, Index i) {
      for (Index j = 0; j < call.K; ++j)
        if (call.mask.visible(b, h, i, j))
          seen(b, h * call.G / call.H, j) = true;
        else
          call.bias(b, h, i, j) = kNan<T>;
    });
    for (Index b = 0; b < call.B; ++b)
      for (Index g = 0; g < call.G; ++g)
        for (Index j = 0; j < call.K; ++j) {
          if (seen(b, g, j)) continue;
          std::fill_n(&call.k(b, g, j, 0), call.D, kNan<T>);
          std::fill_n(&call.v(b, g, j, 0), call.V, kInf<T>);
          ASSERT_TRUE(all_are(row(clean.keys, b, g, j), T(0)));
          ASSERT_TRUE(all_are(row(clean.values, b, g, j), T(0)));
        }
    ASSERT_TRUE(same_gradients(call.backward(), clean));
  });
}

// P34, and P25 and P41 of the way back: threads, sequences alone, and a context that is full of NaN.
TYPED_TEST(GradientProperties, ThreadsBatchesAndUsedMemoryChangeNoBit) {
  using T = TypeParam;
  for_each_case(103, [](std::uint64_t seed) {
    Numbers numbers(seed);
    RandomCall<T> call(seed);
    auto result = call.backward();
    for (Index b = 0; b < call.B; ++b) {
      const auto alone = call.of_sequence(b).backward();
      ASSERT_TRUE(same_bits(alone.queries, sequence(result.queries, b)));
      ASSERT_TRUE(same_bits(alone.keys, sequence(result.keys, b)));
      ASSERT_TRUE(same_bits(alone.values, sequence(result.values, b)));
      ASSERT_TRUE(same_bits(alone.score_bias, sequence(result.score_bias, b)));
    }
    call.dropout = static_cast<double>(numbers.between(0, 2)) / 4;
    result = call.backward();
    RandomCall<T> dirty(seed ^ 0x5555, 60'000);
    for (auto* x : {&dirty.q, &dirty.k, &dirty.v, &dirty.dy})
      std::fill_n(x->data(), x->size(), kNan<T>);
    for (const int threads : {1, call.threads}) {
      Context context(threads, kAnyWork);
      (void)dirty.backward(context);
      for (int repeat = 0; repeat < 2; ++repeat)
        ASSERT_TRUE(same_gradients(call.backward(context), result)) << threads << " threads";
    }
  });
}

// P30: the softmax is blind to what is added to all scores of a row. What a sink gets, too, is taken
// from the keys.
TYPED_TEST(GradientProperties, OfTheScoresOfARowSumToZero) {
  using T = TypeParam;
  using W = Wide<T>;
  for_each_case(104, [](std::uint64_t seed) {
    const RandomCall<T> with_sinks(seed);
    const auto call = with_sinks.without_sinks();
    const auto gradients = call.backward(), shared = with_sinks.backward();
    const auto exact = call.exact();
    Tensor<W, 1> of_head = constant_tensor<W>(0, call.H), bound_of_head = of_head;
    for (Index h = 0; h < call.H; ++h) of_head(h) = W(shared.sink_logits(h));
    for_each_query(call, [&](Index b, Index h, Index i) {
      // Each is p (dP - mean of dP), and p is as exact as the textbook says. dP is a chain of V.
      W sum = 0, bound = 0, mean = 0;
      for (Index c = 0; c < call.V; ++c) mean += std::abs(W(call.dy(b, h, i, c)));
      for (Index j = 0; j < call.K; ++j) {
        sum += W(gradients.score_bias(b, h, i, j));
        of_head(h) += W(shared.score_bias(b, h, i, j));
        bound += 2 * mean *
                 (exact.weights_bound(b, h, i, j) +
                  kUnit<T> * (W(call.V) + 8) * exact.weights(b, h, i, j));
      }
      ASSERT_LE(std::abs(sum), bound);
      bound_of_head(h) += 2 * bound + kUnit<T> * W(call.Q) * mean;
    });
    for (Index h = 0; h < call.H; ++h) ASSERT_LE(std::abs(of_head(h)), bound_of_head(h));
  });
}

// P31: the weights of a row sum to 1, so that all of its gradient arrives at the values.
TYPED_TEST(GradientProperties, OfValuesSumToThoseOfTheOutputs) {
  using T = TypeParam;
  using W = Wide<T>;
  for_each_case(105, [](std::uint64_t seed) {
    const auto call = RandomCall<T>(seed).without_sinks();
    const auto gradients = call.backward();
    const auto exact = call.exact();
    const Index heads = call.H / call.G;
    for (Index b = 0; b < call.B; ++b)
      for (Index g = 0; g < call.G; ++g)
        for (Index c = 0; c < call.V; ++c) {
          W difference = 0, bound = 0;
          for (Index j = 0; j < call.K; ++j) difference += W(gradients.values(b, g, j, c));
          for (Index h = g * heads; h < (g + 1) * heads; ++h)
            for (Index i = 0; i < call.Q; ++i) {
              if (!call.sees(b, h, i)) continue;
              const W grad = W(call.dy(b, h, i, c));
              difference -= grad;
              // Here weights come from the log-sum-exp: off by as much.
              bound += std::abs(grad) * (exact.lse_bound(b, h, i) +
                                         kUnit<T> * (2 * std::sqrt(W(call.Q * heads)) + 8));
            }
          ASSERT_LE(std::abs(difference), bound);
        }
  });
}

// P29, P32: L(t) = <dy, attention(x + t u)> for a random direction u of all inputs together. With
// D(h) = (L(h) - L(-h)) / 2h, R(h) = (4 D(h/2) - D(h)) / 3 is off by a multiple of h^4: by a sixteenth
// if h is halved, down to what rounding leaves.
TEST(GradientPropertiesOfDouble, AreTheSlopesInRandomDirections) {
  for_each_case(106, [](std::uint64_t seed) {
    Numbers numbers(seed);
    RandomCall<double> call(seed, 600);
    call.dropout = static_cast<double>(numbers.between(0, 1)) / 4;
    const auto gradients = call.backward();
    for (int direction = 0; direction < 8; ++direction) {
      const auto middle = call;
      double slope = 0, size = 1;
      auto moved = call;
      const auto [B, H, G, Q, K, D, V] =
          std::array{call.B, call.H, call.G, call.Q, call.K, call.D, call.V};
      const auto made = [&](auto... lengths) {
        return random_tensor<double>(numbers.next(), lengths...);
      };
      const auto u_q = made(B, H, Q, D), u_k = made(B, G, K, D), u_v = made(B, G, K, V),
                 u_bias = made(B, H, Q, K);
      const auto u_sinks = made(H);
      const auto add = [&](const auto& gradient, const auto& u) {
        for (Index i = 0; i < u.size(); ++i) slope += gradient.data()[i] * u.data()[i];
      };
      add(gradients.queries, u_q);
      add(gradients.keys, u_k);
      add(gradients.values, u_v);
      add(gradients.score_bias, u_bias);
      add(gradients.sink_logits, u_sinks);
      for (Index i = 0; i < call.dy.size(); ++i) size += std::abs(call.dy.data()[i]);
      const auto outputs = [&](double t) {
        const auto step = [t](auto& x, const auto& from, const auto& u) {
          for (Index i = 0; i < u.size(); ++i) x.data()[i] = from.data()[i] + t * u.data()[i];
        };
        step(moved.q, middle.q, u_q);
        step(moved.k, middle.k, u_k);
        step(moved.v, middle.v, u_v);
        step(moved.bias, middle.bias, u_bias);
        step(moved.sinks, middle.sinks, u_sinks);
        return moved.attend().output;
      };
      const auto difference = [&](double h) {  // D(h)
        const auto above = outputs(h), below = outputs(-h);
        double sum = 0;
        for (Index i = 0; i < above.size(); ++i)
          sum += call.dy.data()[i] * (above.data()[i] - below.data()[i]);
        return sum / (2 * h);
      };
      const double h = 0x1p-7;
      const double coarse = difference(h), fine = difference(h / 2), finest = difference(h / 4);
      const double error = std::abs((4 * fine - coarse) / 3 - slope),
                   less = std::abs((4 * finest - fine) / 3 - slope);
      const double rounding = 0x1p-53 * 64 * 9 / h * size;
      ASSERT_LE(less, error / 8 + rounding) << "direction " << direction;
      ASSERT_LE(less, 1e-6 * size) << "direction " << direction;
    }
  });
}

// P37: nothing is dropped at 0, to the bit; and what is dropped is made up for on average. A weight is
// kept with probability 1 - p and then divided by it, so that an output has the variance
// p / (1 - p) sum_j (w_j v_j)^2.
TYPED_TEST(GradientProperties, DropoutIsNothingAtZeroAndNothingOnAverage) {
  using T = TypeParam;
  constexpr int seeds = 400;
  for_each_case(107, [](std::uint64_t seed) {
    RandomCall<T> call(seed, 200);
    const auto result = call.attend(true);
    const auto gradients = call.backward();
    call.seed = eh::DropoutSeed{seed + 1};
    ASSERT_TRUE(same_bits(call.attend(), result));
    ASSERT_TRUE(same_gradients(call.backward(), gradients));
    call.dropout = 0.25;
    auto sums = constant_tensor<double>(0, call.B, call.H, call.Q, call.V);
    Context context;
    for (int draw = 0; draw < seeds; ++draw) {
      call.seed = eh::DropoutSeed{seed * 1000 + static_cast<std::uint64_t>(draw)};
      const auto output = call.attend(context).output;
      for (Index i = 0; i < sums.size(); ++i)
        sums.data()[i] += static_cast<double>(output.data()[i]);
    }
    for_each_query(call, [&](Index b, Index h, Index i) {
      for (Index c = 0; c < call.V; ++c) {
        double variance = 0;
        for (Index j = 0; j < call.K; ++j)
          variance += std::pow(static_cast<double>(result.weights(b, h, i, j)) *
                                   static_cast<double>(call.v(b, h * call.G / call.H, j, c)),
                               2) /
                      3;
        // Some 10^4 numbers in 50 cases: 6 standard deviations happen once in 10^5 runs of them.
        ASSERT_NEAR(sums(b, h, i, c) / seeds, result.output(b, h, i, c),
                    6 * std::sqrt(variance / seeds) + 1e-5);
      }
    });
  });
}

// How exact gradients are (P27): FlashAttention's rule, three times the error of the plain computation,
// with sinks and dropout. accuracy_test.cpp has double, and twice.
TEST(GradientPropertiesOfFloat, ErrorsAreAtMostThreeTimesThoseOfThePlainComputation) {
  for_each_case(108, [](std::uint64_t seed) {
    Numbers numbers(seed);
    RandomCall<float> call(seed, 8'000);
    call.dropout = static_cast<double>(numbers.between(0, 1)) / 4;
    const auto got = call.backward();
    const auto plain_in = [&]<class S>(S) {
      const auto as = [](const auto& x) {
        Tensor<S, std::remove_cvref_t<decltype(x)>::NumDimensions> y(x.dimensions());
        for (Index i = 0; i < x.size(); ++i) y.data()[i] = S(x.data()[i]);
        return y;
      };
      const auto q = as(call.q), k = as(call.k), v = as(call.v), dy = as(call.dy),
                 bias = as(call.bias);
      const auto sinks = as(call.sinks);
      return eh::attention_reference_backward<S>(
          dy, q, k, v, call.mask.mask(), static_cast<S>(call.scale),
          eh::chain(eh::Softcap<S>(S(call.cap)), eh::ScoreBias<S>(bias)),
          eh::DropoutMask<S>::of(eh::Dropout(call.dropout), call.seed),
          std::span<const S>(sinks.data(), static_cast<std::size_t>(call.H)));
    };
    const auto plain = plain_in(float());
    const auto exact = plain_in(double());
    const auto expect = [](const char* what, const auto& ours, const auto& theirs, const auto& of) {
      double largest = 0, most = 0, size = 0;
      for (Index i = 0; i < ours.size(); ++i) {
        const double value = of.data()[i];
        largest = std::max(largest, std::abs(ours.data()[i] - value));
        most = std::max(most, std::abs(theirs.data()[i] - value));
        size = std::max(size, std::abs(value));
      }
      // The plain one may be lucky where there are few numbers: some roundings of the largest are allowed.
      ASSERT_LE(largest, 3 * most + 4 * kUnit<float> * size) << what;
    };
    expect("queries", got.queries, plain.queries, exact.queries);
    expect("keys", got.keys, plain.keys, exact.keys);
    expect("values", got.values, plain.values, exact.values);
  });
}

}  // namespace
