// SPDX-License-Identifier: MIT
// What holds of attention whatever it is asked: on random calls with masks of every part, score
// functions, shared heads, learnt sinks and threads. gradients_test.cpp has the way back.
#include <algorithm>
#include <cfenv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_reference.hpp>
#include <eigenheads/rotary.hpp>

#include "../subnormals.hpp"
#include "calls.hpp"

namespace {

using namespace support;
using eh::Context, eh::scaled_dot_product_attention;

template <class T>
class Properties : public testing::Test {};
TYPED_TEST_SUITE(Properties, Scalars, ScalarNames);

// The longest chain of additions in a row of K keys: within a block, and over the blocks.
template <class T>
[[nodiscard]] Wide<T> longest_chain(Index K) {
  const Index block = sizeof(T) == 4 ? 256 : 128;
  return static_cast<Wide<T>>(std::min(K, block) + (K + block - 1) / block);
}

template <class X>
void each(X& x, const auto& function) {
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = function(x.data()[i]);
}
template <class X>
[[nodiscard]] X sum(const X& a, const X& b) {
  X c = a;
  for (Index i = 0; i < c.size(); ++i) c.data()[i] += b.data()[i];
  return c;
}

// So that what follows is not said of nothing.
TEST(RandomCalls, HaveEveryPartOfAMaskAndRowsThatSeeSomeKeysAndNotAll) {
  std::array<int, 11> with{};
  double rows = 0, seeing = 0, some = 0;
  for (std::uint64_t seed = 0; seed < kUsualCases; ++seed) {
    const RandomCall<float> call(seed);
    const PairMask& mask = call.mask;
    const std::array parts{mask.lens_rank == 1,
                           mask.lens_rank == 2,
                           mask.causal == eh::Causal::top_left,
                           mask.causal == eh::Causal::bottom_right,
                           mask.window.left >= 0 || mask.window.right >= 0,
                           !mask.query_lens.empty(),
                           !mask.key_lens.empty(),
                           !mask.first_positions.empty(),
                           mask.sinks > 0,
                           !mask.prefix_lens.empty(),
                           mask.allowed.size() > 0};
    for (std::size_t i = 0; i < parts.size(); ++i) with[i] += parts[i];
    for_each_query(call, [&](Index b, Index h, Index i) {
      Index count = 0;
      for (Index j = 0; j < call.K; ++j) count += call.mask.visible(b, h, i, j);
      ++rows;
      seeing += count > 0;
      some += count > 1 && count < call.K;
    });
  }
  for (std::size_t i = 0; i < with.size(); ++i) EXPECT_GE(with[i], 5) << i;
  EXPECT_GE(seeing, rows / 3) << rows;
  EXPECT_GE(some, rows / 5) << rows;
}

// P01, P02
TYPED_TEST(Properties, WeightsSumToOneOverWhatIsVisibleAndChangeNoBit) {
  using T = TypeParam;
  for_each_case(1, [](std::uint64_t seed) {
    const auto with_sinks = RandomCall<T>(seed);
    const auto call = with_sinks.without_sinks();
    const auto result = call.attend(true), shared = with_sinks.attend(true);
    ASSERT_TRUE(same_bits(result, call.attend()));
    ASSERT_TRUE(same_bits(shared, with_sinks.attend()));
    for_each_query(call, [&](Index b, Index h, Index i) {
      Wide<T> sum = 0, rest = 0;
      for (Index j = 0; j < call.K; ++j) {
        const bool is_visible = call.mask.visible(b, h, i, j);
        for (const T weight : {result.weights(b, h, i, j), shared.weights(b, h, i, j)})
          ASSERT_TRUE(is_visible ? weight >= 0 && weight <= 1 : weight == 0) << weight;
        sum += Wide<T>(result.weights(b, h, i, j));
        rest += Wide<T>(shared.weights(b, h, i, j));
      }
      const Wide<T> unit = kUnit<T> * Wide<T>(call.K + 2);
      ASSERT_LE(std::abs(sum - (call.sees(b, h, i) ? 1 : 0)), unit);
      // A sink takes its share: 1 / (1 + e^(sink - lse)) is left.
      const Wide<T> gap = Wide<T>(with_sinks.sinks(h)) - Wide<T>(shared.lse(b, h, i));
      ASSERT_LE(std::abs(rest - 1 / (1 + std::exp(gap))), unit * (2 + std::abs(gap)));
    });
  });
}

// P03, P04
TYPED_TEST(Properties, OutputsLieBetweenTheValuesThatAreVisible) {
  using T = TypeParam;
  for_each_case(2, [](std::uint64_t seed) {
    auto call = RandomCall<T>(seed).without_sinks();
    const Wide<T> unit = kUnit<T> * (longest_chain<T>(call.K) + 2);
    const auto y = call.attend().output;
    for_each_query(call, [&](Index b, Index h, Index i) {
      for (Index c = 0; c < call.V; ++c) {
        Wide<T> least = kInf<Wide<T>>, most = -least, largest = 0;
        for (Index j = 0; j < call.K; ++j) {
          if (!call.mask.visible(b, h, i, j)) continue;
          const Wide<T> value = Wide<T>(call.v(b, h * call.G / call.H, j, c));
          least = std::min(least, value);
          most = std::max(most, value);
          largest = std::max(largest, std::abs(value));
        }
        if (!call.sees(b, h, i)) least = most = 0;
        const Wide<T> value = Wide<T>(y(b, h, i, c));
        ASSERT_TRUE(value >= least - unit * largest && value <= most + unit * largest) << value;
      }
    });
    for (const T constant : {T(1), T(-3), T(0.1), T(0)}) {
      each(call.v, [&](T) { return constant; });
      const auto constants = call.attend().output;
      for_each_query(call, [&](Index b, Index h, Index i) {
        const Wide<T> expected = call.sees(b, h, i) ? Wide<T>(constant) : 0;
        for (Index c = 0; c < call.V; ++c)
          ASSERT_LE(std::abs(Wide<T>(constants(b, h, i, c)) - expected), unit * std::abs(expected));
      });
    }
  });
}

// P05, and the second half of P10: keys may be left out anywhere.
TYPED_TEST(Properties, TheOrderOfKeysAndHiddenOnesAmongThemMakeNoDifference) {
  using T = TypeParam;
  for_each_case(3, [](std::uint64_t seed) {
    Numbers numbers(seed);
    auto call = RandomCall<T>(seed).without_sinks().materialised();
    const auto expect = [&](const RandomCall<T>& other, const Textbook<T>& exact) {
      const auto got = other.attend();
      ASSERT_TRUE(within(got.output, exact.output, exact.output_bound));
      ASSERT_TRUE(within(got.lse, exact.lse, exact.lse_bound));
    };
    expect(call.of_keys(shuffled(numbers, call.K)), call.exact());
    std::vector<Index> kept;
    for (Index j = 0; j < call.K; ++j)
      if (j == 0 || numbers.between(0, 2) > 0)
        kept.push_back(j);
      else
        for_each_query(call,
                       [&](Index b, Index h, Index i) { call.mask.allowed(b, h, i, j) = false; });
    const auto exact = call.exact();
    expect(call, exact);
    expect(call.of_keys(kept), exact);
  });
}

// P06, P07
TYPED_TEST(Properties, TheOrderOfQueriesAndOfHeadsMovesTheirRowsAndNoBit) {
  using T = TypeParam;
  for_each_case(4, [](std::uint64_t seed) {
    Numbers numbers(seed);
    const auto call = RandomCall<T>(seed).materialised();
    const auto result = call.attend();
    const auto queries = shuffled(numbers, call.Q), groups = shuffled(numbers, call.G);
    std::vector<Index> heads;
    for (const Index g : groups)
      for (Index h = 0; h < call.H / call.G; ++h) heads.push_back(g * (call.H / call.G) + h);
    auto other = call;
    for (auto part : {&RandomCall<T>::q, &RandomCall<T>::bias})
      other.*part = taken(taken(call.*part, 2, queries), 1, heads);
    other.mask.allowed = taken(taken(call.mask.allowed, 2, queries), 1, heads);
    other.k = taken(call.k, 1, groups);
    other.v = taken(call.v, 1, groups);
    for (Index h = 0; h < call.H; ++h)
      other.sinks(h) = call.sinks(heads[static_cast<std::size_t>(h)]);
    ASSERT_TRUE(
        same_bits(other.attend().output, taken(taken(result.output, 2, queries), 1, heads)));
  });
}

// P08
TYPED_TEST(Properties, ASequenceIsWhatItIsAlone) {
  using T = TypeParam;
  for_each_case(5, [](std::uint64_t seed) {
    const RandomCall<T> call(seed);
    const auto result = call.attend(true);
    for (Index b = 0; b < call.B; ++b) {
      const auto alone = call.of_sequence(b).attend(true);
      ASSERT_TRUE(same_bits(alone.output, sequence(result.output, b)));
      ASSERT_TRUE(same_bits(alone.lse, sequence(result.lse, b)));
      ASSERT_TRUE(same_bits(alone.weights, sequence(result.weights, b)));
    }
  });
}

// P09, and the first half of P10: what is left out at the end may be cut off, or hold anything.
TYPED_TEST(Properties, KeysBeyondTheEndMayBeAnything) {
  using T = TypeParam;
  for_each_case(6, [](std::uint64_t seed) {
    Numbers numbers(seed);
    const auto call = RandomCall<T>(seed).materialised();
    const auto result = call.attend();
    const Index more = call.K + numbers.between(1, 300);
    std::vector<Index> keys(static_cast<std::size_t>(more), 0);
    for (Index j = 0; j < call.K; ++j) keys[static_cast<std::size_t>(j)] = j;
    auto padded = call.of_keys(keys);
    for (auto* x : {&padded.k, &padded.v})
      for (Index row = 0; row < call.B * call.G; ++row)
        for (Index j = call.K; j < more; ++j)
          std::fill_n(x->data() + (row * more + j) * x->dimension(3), x->dimension(3), kNan<T>);
    for (Index row = 0; row < call.B * call.H * call.Q; ++row)
      std::fill_n(padded.bias.data() + row * more + call.K, more - call.K, kNan<T>);
    auto by_pairs = padded, by_lens = padded, by_key_lens = padded;
    for (Index row = 0; row < call.B * call.H * call.Q; ++row)
      std::fill_n(by_pairs.mask.allowed.data() + row * more + call.K, more - call.K, false);
    by_lens.mask.lens_rank = 1;
    by_lens.mask.lens = constant_tensor<Index>(call.K, call.B, 1);
    by_key_lens.mask.key_lens.assign(static_cast<std::size_t>(call.B), call.K);
    for (const auto* other : {&by_pairs, &by_lens, &by_key_lens})
      ASSERT_TRUE(same_bits(other->attend(), result));
  });
}

// P11, P12
TYPED_TEST(Properties, AMaskIsWhatItsPairsSayAndAsABiasOfMinusInfinity) {
  using T = TypeParam;
  for_each_case(7, [](std::uint64_t seed) {
    const RandomCall<T> call(seed);
    SCOPED_TRACE(call.mask.text());
    const auto result = call.attend(true);
    auto other = call.materialised();
    const auto by_pairs = other.attend(true);
    ASSERT_TRUE(same_bits(by_pairs, result));
    ASSERT_TRUE(same_bits(by_pairs.weights, result.weights));
    for (Index i = 0; i < other.bias.size(); ++i)
      if (!other.mask.allowed.data()[i]) other.bias.data()[i] = -kInf<T>;
    other.mask = {.Q = call.Q, .K = call.K};
    const auto by_bias = other.attend(true);
    ASSERT_TRUE(same_bits(by_bias, result));
    ASSERT_TRUE(same_bits(by_bias.weights, result.weights));
  });
}

// P16
TYPED_TEST(Properties, WhatIsAddedToAllScoresOfAQueryMovesItsLogarithmAlone) {
  using T = TypeParam;
  for_each_case(8, [](std::uint64_t seed) {
    Numbers numbers(seed);
    const auto call = RandomCall<T>(seed).without_sinks();
    auto other = call;
    Tensor<T, 3> added(call.B, call.H, call.Q);
    for_each_query(call, [&](Index b, Index h, Index i) {
      added(b, h, i) = static_cast<T>(numbers.between(-8, 8));
      for (Index j = 0; j < call.K; ++j) other.bias(b, h, i, j) += added(b, h, i);
    });
    auto exact = call.exact();
    const auto bounds = other.exact();
    for (Index i = 0; i < added.size(); ++i) exact.lse.data()[i] += Wide<T>(added.data()[i]);
    const auto got = other.attend();
    ASSERT_TRUE(within(got.output, exact.output, bounds.output_bound));
    ASSERT_TRUE(within(got.lse, exact.lse, bounds.lse_bound));
  });
}

// P17, P18
TYPED_TEST(Properties, PowersOfTwoMoveFromQueriesToTheScaleAndThroughValues) {
  using T = TypeParam;
  for_each_case(9, [](std::uint64_t seed) {
    Numbers numbers(seed);
    const RandomCall<T> call(seed);
    const auto result = call.attend();
    auto other = call;
    const int n = static_cast<int>(numbers.between(-9, 9)),
              m = static_cast<int>(numbers.between(-9, 9));
    other.scale = std::ldexp(call.scale, n);
    each(other.q, [n](T x) { return std::ldexp(x, -n); });
    ASSERT_TRUE(same_bits(other.attend(), result));
    each(other.v, [m](T x) { return std::ldexp(x, m); });
    auto expected = result.output;
    each(expected, [m](T x) { return std::ldexp(x, m); });
    ASSERT_TRUE(same_bits(other.attend().output, expected));
  });
}

// P18
TYPED_TEST(Properties, OutputsOfSumsOfValuesAreSums) {
  using T = TypeParam;
  for_each_case(10, [](std::uint64_t seed) {
    auto call = RandomCall<T>(seed).without_sinks();
    const auto first = call.attend().output;
    const auto first_bound = call.exact().output_bound;
    const auto v = call.v;
    call.v = random_tensor<T>(seed + 1, call.B, call.G, call.K, call.V);
    const auto second = call.attend().output;
    const auto second_bound = call.exact().output_bound;
    call.v = sum(call.v, v);
    const auto both = call.attend().output;
    auto bound = sum(sum(first_bound, second_bound), call.exact().output_bound);
    auto expected = constant_tensor<Wide<T>>(0, call.B, call.H, call.Q, call.V);
    for (Index i = 0; i < expected.size(); ++i)
      expected.data()[i] = Wide<T>(first.data()[i]) + Wide<T>(second.data()[i]);
    ASSERT_TRUE(within(both, expected, bound));
  });
}

// P19
TYPED_TEST(Properties, QueriesOfZeroGiveTheMeanAndTheLogarithmOfTheNumber) {
  using T = TypeParam;
  for_each_case(11, [](std::uint64_t seed) {
    auto call = RandomCall<T>(seed);
    each(call.q, [](T) { return T(0); });
    const auto got = scaled_dot_product_attention(call.q, call.k, call.v, call.mask.mask(),
                                                  {.scale = call.scale});
    for_each_query(call, [&](Index b, Index h, Index i) {
      Wide<T> n = 0;
      for (Index j = 0; j < call.K; ++j) n += call.mask.visible(b, h, i, j);
      const Wide<T> unit = kUnit<T> * (8 + 2 * std::sqrt(longest_chain<T>(call.K)));
      if (n == 0) {
        ASSERT_EQ(got.lse(b, h, i), -kInf<T>);
        ASSERT_TRUE(all_are(row(got.output, b, h, i), T(0)));
        return;
      }
      ASSERT_LE(std::abs(Wide<T>(got.lse(b, h, i)) - std::log(n)), unit);
      for (Index c = 0; c < call.V; ++c) {
        Wide<T> mean = 0, magnitude = 0;
        for (Index j = 0; j < call.K; ++j) {
          if (!call.mask.visible(b, h, i, j)) continue;
          const Wide<T> value = Wide<T>(call.v(b, h * call.G / call.H, j, c)) / n;
          mean += value;
          magnitude += std::abs(value);
        }
        ASSERT_LE(std::abs(Wide<T>(got.output(b, h, i, c)) - mean), unit * magnitude);
      }
    });
  });
}

// P20
TYPED_TEST(Properties, SharedHeadsAreRepeatedHeads) {
  using T = TypeParam;
  for_each_case(12, [](std::uint64_t seed) {
    const RandomCall<T> call(seed);
    std::vector<Index> heads;
    for (Index h = 0; h < call.H; ++h) heads.push_back(h * call.G / call.H);
    auto repeated = call;
    repeated.G = call.H;
    repeated.k = taken(call.k, 1, heads);
    repeated.v = taken(call.v, 1, heads);
    ASSERT_TRUE(same_bits(repeated.attend(), call.attend()));
  });
}

// P25, P41: what a context did before is not observable, were it full of NaN.
TYPED_TEST(Properties, ThreadsRepeatsAndUsedMemoryChangeNoBit) {
  using T = TypeParam;
  for_each_case(13, [](std::uint64_t seed) {
    Numbers numbers(seed);
    RandomCall<T> call(seed);
    call.dropout = static_cast<double>(numbers.between(0, 3)) / 4;
    const auto result = call.attend(true);
    RandomCall<T> dirty(seed ^ 0x5555, 60'000);
    for (auto* x : {&dirty.q, &dirty.k, &dirty.v}) each(*x, [](T) { return kNan<T>; });
    for (const int threads : {1, call.threads}) {
      Context context(threads, kAnyWork);
      (void)dirty.attend(context, true);
      for (int repeat = 0; repeat < 2; ++repeat) {
        const auto again = call.attend(context, true);
        ASSERT_TRUE(same_bits(again, result)) << threads << " threads";
        ASSERT_TRUE(same_bits(again.weights, result.weights)) << threads << " threads";
      }
    }
  });
}

// P26: rows apart by any gap, heads and sequences in any order, at any offset of 64 bytes.
TYPED_TEST(Properties, WhereInputsLieChangesNoBit) {
  using T = TypeParam;
  Index place = 0;
  for_each_case(14, [&](std::uint64_t seed) {
    Numbers numbers(seed);
    const RandomCall<T> call(seed);
    constexpr Index line = 64 / sizeof(T);
    std::vector<std::vector<T>> memory;
    memory.reserve(3);
    const auto moved = [&](const Tensor<T, 4>& x) {
      const auto& shape = x.dimensions();
      std::array<Index, 4> strides{0, 0, 0, 1};
      Index stride = shape[3] + numbers.between(0, 9);
      const auto orders =
          std::array<std::array<std::size_t, 3>, 3>{{{2, 1, 0}, {1, 2, 0}, {0, 2, 1}}};
      for (const std::size_t axis : orders[static_cast<std::size_t>(numbers.between(0, 2))]) {
        strides[axis] = stride;
        stride = stride * shape[axis] + numbers.between(0, 9);
      }
      // Where the storage begins is a multiple of 16 bytes at least: over all cases, every offset.
      auto& storage = memory.emplace_back(static_cast<std::size_t>(stride + 2 * line), kNan<T>);
      const auto begin = reinterpret_cast<std::uintptr_t>(storage.data()) % 64 / sizeof(T);
      const Index offset = (line - static_cast<Index>(begin)) % line + place % line;
      for (Index a = 0; a < shape[0]; ++a)
        for (Index b = 0; b < shape[1]; ++b)
          for (Index c = 0; c < shape[2]; ++c)
            for (Index d = 0; d < shape[3]; ++d)
              storage[static_cast<std::size_t>(offset + a * strides[0] + b * strides[1] +
                                               c * strides[2] + d)] = x(a, b, c, d);
      place += numbers.between(1, 2) == 1 ? 1 : 5;
      return eh::StridedView<T, 4>(
          std::span<const T>(storage).subspan(static_cast<std::size_t>(offset)), shape, strides);
    };
    const auto q = moved(call.q), k = moved(call.k), v = moved(call.v);
    const auto function = call.score();
    ASSERT_TRUE(
        same_bits(scaled_dot_product_attention(q, k, v, call.mask.mask(), call.options(function)),
                  call.attend()));
  });
}

// P40. On one thread, which the state of this one counts for. The values are so small that some
// products are subnormal.
TYPED_TEST(Properties, WithoutSubnormalsItIsAsExactAndTheStateIsAsBefore) {
  using T = TypeParam;
  for_each_case(15, [](std::uint64_t seed) {
    Numbers numbers(seed);
    auto call = RandomCall<T>(seed).without_sinks();
    const int n = std::numeric_limits<T>::min_exponent + static_cast<int>(numbers.between(0, 12));
    each(call.v, [n](T x) { return std::ldexp(x, n); });
    const auto exact = call.exact();
    eh::AttentionResult<T> got;
    const auto halved = [] {
      volatile T least = Limits<T>::min();
      least = least / 2;
      return bits(T(least));
    };
    {
      const SubnormalsAreLost lost;
      const auto before = halved();
      got = call.attend();
      ASSERT_EQ(halved(), before);
    }
    ASSERT_TRUE(within(got.output, exact.output, exact.output_bound));
    ASSERT_TRUE(within(got.lse, exact.lse, exact.lse_bound));
    for (const int mode : {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO, FE_TONEAREST}) {
      std::fesetround(mode);
      (void)call.attend();
      const int after = std::fegetround();
      std::fesetround(FE_TONEAREST);
      ASSERT_EQ(after, mode);
    }
  });
}

// P42
TYPED_TEST(Properties, TurningQueriesAndKeysAlikeLeavesTheScores) {
  using T = TypeParam;
  for_each_case(16, [](std::uint64_t seed) {
    Numbers numbers(seed);
    auto call = RandomCall<T>(seed).without_sinks();
    call.D = 2 * one_of(numbers, std::array<Index, 5>{1, 3, 5, 8, 31});
    call.q = random_tensor<T>(seed + 1, call.B, call.H, call.Q, call.D);
    call.k = random_tensor<T>(seed + 2, call.B, call.G, call.K, call.D);
    const eh::Rotary<T> rotary(
        {.head_size = call.D,
         .max_positions = 1000,
         .layout = coin(numbers) ? eh::RotaryLayout::interleaved : eh::RotaryLayout::half_split});
    auto turned = call;
    const auto from = [&](Index first) {
      return std::vector<Index>(static_cast<std::size_t>(call.B), first);
    };
    turned.q = rotary(call.q, from(3));
    turned.k = rotary(call.k, from(0));
    for (Index b = 0; b < call.B; ++b)
      for (Index g = 0; g < call.G; ++g)
        ASSERT_TRUE(same_bits(row(turned.k, b, g, 0), row(call.k, b, g, 0)));
    auto exact = turned.exact();
    const Index offset = numbers.between(1, 400);
    turned.q = rotary(call.q, from(3 + offset));
    turned.k = rotary(call.k, from(offset));
    // An angle at position 1000 is off by 1000 * 2^-51 at most, which tells in double. A score, of D
    // products of numbers below 2, moves by so much; and an output, whose bound is 8 units or more, by
    // twice as much.
    const Wide<T> moved =
        std::abs(Wide<T>(call.scale)) * Wide<T>(call.D) * 4 * 1000 * Wide<T>(0x1p-51);
    each(exact.output_bound, [&](auto x) { return x * (1 + moved / (4 * kUnit<T>)); });
    each(exact.lse_bound, [&](auto x) { return x + moved; });
    const auto got = turned.attend();
    ASSERT_TRUE(within(got.output, exact.output, exact.output_bound));
    ASSERT_TRUE(within(got.lse, exact.lse, exact.lse_bound));
  });
}

// ---- How exact it is (P27) -----------------------------------------------------------------------

struct Ratios {
  double worst = 0;  // error beside bound
  void add(const auto& got, const auto& exact, const auto& bound) {
    for (Index i = 0; i < got.size(); ++i) {
      if (!(bound.data()[i] > 0)) continue;
      using W = std::remove_cvref_t<decltype(exact.data()[0])>;
      worst = std::max(worst, static_cast<double>(std::abs(W(got.data()[i]) - exact.data()[i]) /
                                                  bound.data()[i]));
    }
  }
};

// The worst of the usual cases: the same wherever there is fused multiply-add.
struct Worst {
  double output, lse, weight;
};
template <class T>
constexpr Worst kWorst =
    sizeof(T) == 4 ? Worst{0.195841, 0.180763, 0.236925} : Worst{0.189474, 0.215615, 0.225674};

// The error beside the bound of textbook.hpp may be 1; it has been far below, and if it grows something
// has become worse. Over a tensor errors must not only be small, but cancel: their root mean square is
// at most a quarter of that of the bounds, their mean a sixteenth of the mean bound (of oneDNN's tests).
TYPED_TEST(Properties, ErrorsAreFarWithinTheirBoundsAndOfBothSigns) {
  using T = TypeParam;
  using W = Wide<T>;
  Ratios output, lse, weights;
  for_each_case(17, [&](std::uint64_t seed) {
    const auto call = RandomCall<T>(seed).without_sinks();
    const auto got = call.attend(true);
    const auto exact = call.exact();
    ASSERT_TRUE(within(got.output, exact.output, exact.output_bound));
    ASSERT_TRUE(within(got.lse, exact.lse, exact.lse_bound));
    ASSERT_TRUE(within(got.weights, exact.weights, exact.weights_bound));
    if ((seed & 0xFFFFFFFFu) < kUsualCases) {  // of more cases, the worst is worse
      output.add(got.output, exact.output, exact.output_bound);
      lse.add(got.lse, exact.lse, exact.lse_bound);
      weights.add(got.weights, exact.weights, exact.weights_bound);
    }
    W squares = 0, bound_squares = 0, mean = 0, mean_bound = 0;
    for (Index i = 0; i < got.output.size(); ++i) {
      const W error = W(got.output.data()[i]) - exact.output.data()[i],
              bound = exact.output_bound.data()[i];
      squares += error * error;
      bound_squares += bound * bound;
      mean += error;
      mean_bound += bound;
    }
    ASSERT_LE(4 * std::sqrt(squares), std::sqrt(bound_squares));
    if (got.output.size() >= 64) {
      ASSERT_LE(16 * std::abs(mean), mean_bound);
    }
  });
  testing::Test::RecordProperty("worst_output", std::to_string(output.worst));
  testing::Test::RecordProperty("worst_lse", std::to_string(lse.worst));
  testing::Test::RecordProperty("worst_weight", std::to_string(weights.worst));
  EXPECT_LE(output.worst, 1.5 * kWorst<T>.output);
  EXPECT_LE(lse.worst, 1.5 * kWorst<T>.lse);
  EXPECT_LE(weights.worst, 1.5 * kWorst<T>.weight);
}

// With sinks the plain computation in the same precision is the measure: FlashAttention's rule.
TYPED_TEST(Properties, ErrorsAreAtMostTwiceThoseOfThePlainComputation) {
  using T = TypeParam;
  using W = Wide<T>;
  for_each_case(18, [](std::uint64_t seed) {
    const RandomCall<T> call(seed);
    const auto got = call.attend();
    const auto mask = call.mask.mask();
    const auto plain = eh::attention_reference<T>(
        call.q, call.k, call.v, mask, static_cast<T>(call.scale), call.score(), {},
        std::span<const T>(call.sinks.data(), static_cast<std::size_t>(call.H)));
    const auto exact = call.exact();
    W largest = 0, largest_plain = 0, size = 0;
    for_each_query(call, [&](Index b, Index h, Index i) {
      const W share =
          call.sees(b, h, i) ? 1 / (1 + std::exp(W(call.sinks(h)) - exact.lse(b, h, i))) : W(0);
      for (Index c = 0; c < call.V; ++c) {
        const W expected = exact.output(b, h, i, c) * share;
        largest = std::max(largest, std::abs(W(got.output(b, h, i, c)) - expected));
        largest_plain = std::max(largest_plain, std::abs(W(plain.output(b, h, i, c)) - expected));
        size = std::max(size, std::abs(expected));
      }
    });
    // The plain one may be lucky where there are few numbers.
    ASSERT_LE(largest, 2 * largest_plain + 4 * kUnit<T> * size);
  });
}

}  // namespace
