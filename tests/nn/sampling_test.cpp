// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/nn/sampling.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::Context, eh::Sampler, eh::SamplingDraw, eh::SamplingOptions;
using Ids = std::vector<Index>;

template <class T>
class Sampling : public testing::Test {};
TYPED_TEST_SUITE(Sampling, Scalars, ScalarNames);

template <class T>
[[nodiscard]] Tensor<T, 1> row_of(const std::vector<double>& values) {
  Tensor<T, 1> x(std::ssize(values));
  std::transform(values.begin(), values.end(), x.data(),
                 [](double v) { return static_cast<T>(v); });
  return x;
}

template <class T>
[[nodiscard]] std::vector<double> probabilities(const SamplingOptions& options,
                                                const Tensor<T, 1>& logits, const Ids& seen = {}) {
  Tensor<double, 1> p(logits.size());
  Sampler(options).probabilities_into(p, logits, seen);
  return {p.data(), p.data() + p.size()};
}

// The ids that may be drawn.
template <class T>
[[nodiscard]] Ids kept(const SamplingOptions& options, const Tensor<T, 1>& logits,
                       const Ids& seen = {}) {
  const auto p = probabilities(options, logits, seen);
  Ids ids;
  for (Index id = 0; id < std::ssize(p); ++id)
    if (p[static_cast<std::size_t>(id)] > 0) ids.push_back(id);
  return ids;
}

// The filters in so many words, on sorted lists, with libm.
template <class T>
[[nodiscard]] std::vector<double> plain(const SamplingOptions& options, const Tensor<T, 1>& logits,
                                        const Ids& seen) {
  struct Item {
    long double logit;
    std::size_t id;
  };
  std::vector<Item> items;
  for (std::size_t id = 0; id < static_cast<std::size_t>(logits.size()); ++id) {
    long double x = logits.data()[id];
    const auto r = static_cast<long double>(options.repetition_penalty);
    if (std::ranges::find(seen, static_cast<Index>(id)) != seen.end()) x = x > 0 ? x / r : x * r;
    items.push_back({x / options.temperature, id});
  }
  std::ranges::stable_sort(items, std::greater(), &Item::logit);
  if (options.top_k > 0 && options.top_k < std::ssize(items))
    items.resize(static_cast<std::size_t>(options.top_k));
  const long double most = items.front().logit;
  const auto weights_of = [&] {
    std::vector<long double> weights;
    weights.reserve(items.size());
    for (const Item& item : items) weights.push_back(std::exp(item.logit - most));
    return weights;
  };
  auto w = weights_of();
  const long double mass = std::accumulate(w.begin(), w.end(), 0.0L) * options.top_p;
  std::size_t count = 0;
  for (long double sum = 0; count < w.size() && (count == 0 || sum < mass);) sum += w[count++];
  if (options.top_p < 1) items.resize(count);
  while (std::exp(items.back().logit - most) < options.min_p) items.pop_back();
  w = weights_of();
  const long double sum = std::accumulate(w.begin(), w.end(), 0.0L);
  std::vector<double> p(static_cast<std::size_t>(logits.size()), 0.0);
  for (std::size_t i = 0; i < items.size(); ++i) p[items[i].id] = static_cast<double>(w[i] / sum);
  return p;
}

// chi^2 exceeds this with a probability below e^-16 = 1.1e-7 (Laurent, Massart, 2000, lemma 1), if
// numbers are random.
[[nodiscard]] double chi_square_bound(double freedom) {
  return freedom + 2 * std::sqrt(16 * freedom) + 2 * 16;
}
void expect_drawn_from(const std::vector<double>& p, const std::vector<double>& counts) {
  const double draws = std::accumulate(counts.begin(), counts.end(), 0.0);
  double chi_square = 0, freedom = -1;
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (p[i] == 0) {
      EXPECT_EQ(counts[i], 0) << i;
      continue;
    }
    ASSERT_GE(draws * p[i], 5) << "too few draws to tell";
    chi_square += (counts[i] - draws * p[i]) * (counts[i] - draws * p[i]) / (draws * p[i]);
    ++freedom;
  }
  EXPECT_LT(chi_square, chi_square_bound(freedom));
  EXPECT_GT(chi_square, 0);
}

// T8.01: 1 - 1e-8 rounds to 1 in float.
TYPED_TEST(Sampling, ATopPKeepsAtLeastTheLargest) {
  using T = TypeParam;
  Tensor<T, 1> x = random_tensor<T>(1, 4096);
  x(1234) = T(1.5);
  for (const double top_p : {1e-8, 0.0}) EXPECT_EQ(kept({.top_p = top_p}, x), Ids{1234}) << top_p;
  const Sampler off({.top_p = 1, .seed = 5}), none({.seed = 5});
  for (Index position = 0; position < 50; ++position)
    EXPECT_EQ(off(x, {.position = position}), none(x, {.position = position}));
  EXPECT_EQ(probabilities({.top_p = 1}, x), probabilities({}, x));
  EXPECT_EQ(std::ssize(kept({.top_p = 1}, x)), 4096);
  EXPECT_EQ(refusal([] { return Sampler({.top_p = 1.5}); }),
            "eigenheads: Sampler: top_p is 1.5; expected 0 to 1");
  EXPECT_EQ(refusal([] { return Sampler({.top_p = kNan<double>}); }),
            "eigenheads: Sampler: top_p is nan; expected 0 to 1");
}

// T8.02
TYPED_TEST(Sampling, TheFewestWithTheMassAndOfEqualOnesTheLowerIds) {
  using T = TypeParam;
  for (const double shift : {0.0, 0.1, 3.7, -41.3}) {
    const auto x =
        row_of<double>({std::log(0.5) + shift, std::log(0.25) + shift, std::log(0.25) + shift});
    EXPECT_EQ(kept({.top_p = 0.5}, x), Ids{0}) << shift;
  }
  EXPECT_EQ(kept({.top_p = 0.5}, row_of<T>({std::log(0.5), std::log(0.25), std::log(0.25)})),
            Ids{0});
  const auto equal = row_of<T>({2, 2, 2, 2});
  EXPECT_EQ(kept({.top_p = 0.5}, equal), (Ids{0, 1}));
  EXPECT_EQ(kept({.top_k = 2}, equal), (Ids{0, 1}));
  EXPECT_EQ(kept({.top_k = 3, .top_p = 0.6}, equal), (Ids{0, 1}));
  EXPECT_EQ(kept({.top_k = 4}, equal), (Ids{0, 1, 2, 3}));
  EXPECT_EQ(kept({.top_k = 9}, equal), (Ids{0, 1, 2, 3}));
  EXPECT_EQ(kept({.min_p = 1}, row_of<T>({1, 2, 2, 0})), (Ids{1, 2}));

  // Wherever the large ones stand, and however many equal ones there are.
  Numbers numbers(3);
  for (const Index V : {70, 1500, 5000}) {
    Ids order(static_cast<std::size_t>(V));
    std::iota(order.begin(), order.end(), 0);
    for (std::size_t i = order.size() - 1; i > 0; --i)
      std::swap(order[i],
                order[static_cast<std::size_t>(numbers.between(0, static_cast<Index>(i)))]);
    Tensor<T, 1> x(V), shuffled(V);
    for (Index i = 0; i < V; ++i) x(i) = static_cast<T>(i * 7 % 23) / T(4);
    for (Index i = 0; i < V; ++i) shuffled(order[static_cast<std::size_t>(i)]) = x(i);
    for (const SamplingOptions& options :
         {SamplingOptions{.top_k = 30}, SamplingOptions{.top_p = 0.4},
          SamplingOptions{.top_k = 50, .top_p = 0.7}}) {
      const auto values = [&](const Tensor<T, 1>& of) {
        std::vector<T> found;
        for (const Index id : kept(options, of)) found.push_back(of(id));
        std::ranges::sort(found);
        return found;
      };
      EXPECT_EQ(values(x), values(shuffled)) << V;
      // Of those that equal the smallest kept one, the first.
      const Ids ids = kept(options, shuffled);
      const T smallest = values(shuffled).front();
      Index last = -1;
      for (const Index id : ids)
        if (shuffled(id) == smallest) last = id;
      for (Index id = 0; id < last; ++id)
        ASSERT_TRUE(shuffled(id) != smallest || std::ranges::binary_search(ids, id)) << id;
    }
  }
}

// T8.03
TYPED_TEST(Sampling, ATemperatureOf0TakesTheLargestAndASmallOneDividesNothingByZero) {
  using T = TypeParam;
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    EXPECT_EQ(Sampler({.temperature = 0, .seed = seed})(row_of<T>({1, 3, 3})), 1);
    for (const double temperature : {1e-30, 1e-300, 5e-324})
      EXPECT_EQ(Sampler({.temperature = temperature, .seed = seed})(row_of<T>({1, 2})), 1);
  }
  EXPECT_EQ(kept({.temperature = 1e300}, row_of<T>({1, 3, 3})), (Ids{0, 1, 2}));
  for (const double temperature : {-1.0, -1e-300, kNan<double>, kInf<double>})
    EXPECT_EQ(refusal([&] { return Sampler({.temperature = temperature}); }),
              "eigenheads: Sampler: temperature is " + eh::detail::number_text(temperature) +
                  "; expected 0 or more");
}

// T8.04
TYPED_TEST(Sampling, InfiniteLogitsAreLimitsAndNanIsRefusedByItsPlace) {
  using T = TypeParam;
  constexpr double inf = kInf<double>;
  for (const double temperature : {0.0, 0.3, 1.0, 50.0})
    for (const Index top_k : {0, 2})
      for (const double top_p : {1.0, 0.5}) {
        const Sampler sampler({.temperature = temperature, .top_k = top_k, .top_p = top_p});
        EXPECT_EQ(sampler(row_of<T>({-inf, -inf, -1e30, -inf})), 2);
        EXPECT_EQ(sampler(row_of<T>({1, -inf, 2, inf, 3})), 3);
        EXPECT_EQ(
            refusal([&] { return sampler(row_of<T>({-inf, -inf})); }),
            "eigenheads: logits: row 0 has -inf for all ids; expected one or more that can be "
            "drawn");
        EXPECT_EQ(refusal([&] { return sampler(row_of<T>({1, 2, kNan<double>, inf})); }),
                  "eigenheads: logits[0, 2] is NaN; expected a number");
      }
  EXPECT_EQ(probabilities({}, row_of<T>({1, inf, -inf, inf})),
            (std::vector<double>{0, 0.5, 0, 0.5}));
  constexpr double most = Limits<T>::max();
  EXPECT_EQ(probabilities({}, row_of<T>({-most, most, -most})), (std::vector<double>{0, 1, 0}));
  EXPECT_EQ(kept({.top_k = 3}, row_of<T>({-inf, 1, -inf, 0})), (Ids{1, 3}));
  EXPECT_EQ(refusal([] { return Sampler()(Tensor<T, 1>(0)); }),
            "eigenheads: logits: row 0 has no ids; expected one or more that can be drawn");
}

// T8.05
TYPED_TEST(Sampling, APenaltyMakesWhatWasSeenLessLikelyOnceWhateverItsSign) {
  using T = TypeParam;
  constexpr double inf = kInf<double>;
  EXPECT_EQ(eh::detail::penalized(2, 1.5), 2 / 1.5);
  EXPECT_EQ(eh::detail::penalized(-2, 1.5), -3);
  EXPECT_EQ(eh::detail::penalized(0, 1.5), 0);
  EXPECT_EQ(eh::detail::penalized(-inf, 1.5), -inf);
  EXPECT_EQ(eh::detail::penalized(-1.5e308, 1.5), Limits<double>::lowest());
  const auto x = row_of<T>({2, -2, 0, -inf});
  const SamplingOptions penalty{.repetition_penalty = 1.5};
  EXPECT_EQ(probabilities(penalty, x, {0, 1, 2, 3}),
            probabilities({}, row_of<double>({2 / 1.5, -3, 0, -inf})));
  EXPECT_EQ(probabilities(penalty, x, {1, 0, 1, 1, 0}), probabilities(penalty, x, {0, 1}));
  EXPECT_EQ(probabilities(penalty, x), probabilities({}, x));
  // Also of what is not random.
  EXPECT_EQ(
      Sampler({.temperature = 0, .repetition_penalty = 2})(row_of<T>({3, 2}), {.seen = Ids{0}}), 1);
  for (const Index id : {Index{4}, Index{-1}})
    EXPECT_EQ(refusal([&] { return Sampler()(x, {.seen = Ids{0, id}}); }),
              "eigenheads: draw 0: seen[1] is " + std::to_string(id) +
                  "; expected 0 to 3, the last id of the vocabulary");
  for (const char* bad : {"0", "-1", "nan", "inf"})
    EXPECT_EQ(refusal([&] { return Sampler({.repetition_penalty = std::strtod(bad, nullptr)}); }),
              "eigenheads: Sampler: repetition_penalty is " + std::string(bad) +
                  "; expected more than 0");
}

TYPED_TEST(Sampling, TheFiltersAreThoseOfSortedListsOneAfterTheOther) {
  using T = TypeParam;
  Numbers numbers(7);
  for (const Index V : {1, 2, 63, 64, 65, 255, 256, 257, 1100, 4099})
    for (int trial = 0; trial < 30; ++trial) {
      Tensor<T, 1> x = random_tensor<T>(numbers.next(), V);
      for (Index i = 0; i < V; ++i) x(i) *= T(6);
      Ids seen;
      for (Index i = 0; i < V / 3; ++i) seen.push_back(numbers.between(0, V - 1));
      const auto one_of = [&](const auto& values) {
        return values[static_cast<std::size_t>(numbers.next() % values.size())];
      };
      const SamplingOptions options{
          .temperature = one_of(std::array{0.3, 1.0, 2.5, 40.0}),
          .top_k = one_of(std::array{Index{0}, Index{1}, V / 2, Index{40}, V + 3}),
          .top_p = one_of(std::array{1.0, 0.9, 0.3, 0.999}),
          .min_p = one_of(std::array{0.0, 0.05, 0.5}),
          .repetition_penalty = one_of(std::array{1.0, 1.3, 0.7})};
      const auto p = probabilities(options, x, seen), expected = plain(options, x, seen);
      for (std::size_t i = 0; i < p.size(); ++i) {
        ASSERT_EQ(p[i] > 0, expected[i] > 0) << V << ' ' << i;
        // An error of an ulp of the exponent, up to 12 / 0.3 times 1.3, the exponential's 2 ulp, those
        // of a sum and of a quotient.
        ASSERT_LE(std::abs(p[i] - expected[i]), 128 * Limits<double>::epsilon() * expected[i])
            << V << ' ' << i;
      }
    }
}

TYPED_TEST(Sampling, IdsAreDrawnAsOftenAsTheirProbabilitySays) {
  using T = TypeParam;
  constexpr Index V = 60, draws = 20000;
  Tensor<T, 1> x = random_tensor<T>(11, V);
  for (Index i = 0; i < V; ++i) x(i) *= T(2);
  x(7) = -kInf<T>;
  int number = 0;
  for (const SamplingOptions& options :
       {SamplingOptions{}, SamplingOptions{.temperature = 2}, SamplingOptions{.top_k = 20},
        SamplingOptions{.top_p = 0.6}, SamplingOptions{.min_p = 0.3}}) {
    const auto p = probabilities(options, x);
    const Sampler sampler(options);
    std::vector<double> by_position(V, 0.0), by_sequence(V, 0.0), by_seed(V, 0.0);
    SamplingOptions seeded = options;
    for (Index i = 0; i < draws; ++i) {
      ++by_position[static_cast<std::size_t>(sampler(x, {.sequence = 3, .position = i}))];
      ++by_sequence[static_cast<std::size_t>(
          sampler(x, {.sequence = static_cast<std::uint64_t>(i), .position = 3}))];
      seeded.seed = static_cast<std::uint64_t>(i);
      ++by_seed[static_cast<std::size_t>(Sampler(seeded)(x))];
    }
    SCOPED_TRACE(number++);
    expect_drawn_from(p, by_position);
    expect_drawn_from(p, by_sequence);
    expect_drawn_from(p, by_seed);
  }
}

TYPED_TEST(Sampling, NeighboursInAnyDirectionAreDrawnIndependently) {
  using T = TypeParam;
  const auto x = row_of<T>({0, 1, 0.5, -1});
  const auto p = probabilities({}, x);
  std::vector<double> pairs;
  for (const double a : p)
    for (const double b : p) pairs.push_back(a * b);
  std::vector<double> positions(16, 0.0), sequences(16, 0.0), seeds(16, 0.0), diagonals(16, 0.0);
  for (Index i = 0; i < 20000; ++i) {
    const auto at = [&](std::uint64_t seed, std::uint64_t sequence, Index position) {
      return static_cast<std::size_t>(
          Sampler({.seed = seed})(x, {.sequence = sequence, .position = position}));
    };
    const auto n = static_cast<std::uint64_t>(i);
    ++positions[4 * at(1, 5, 2 * i) + at(1, 5, 2 * i + 1)];
    ++sequences[4 * at(1, 2 * n, 6) + at(1, 2 * n + 1, 6)];
    ++seeds[4 * at(2 * n, 0, 6) + at(2 * n + 1, 0, 6)];
    ++diagonals[4 * at(1, n, i + 1) + at(1, n + 1, i)];
  }
  expect_drawn_from(pairs, positions);
  expect_drawn_from(pairs, sequences);
  expect_drawn_from(pairs, seeds);
  expect_drawn_from(pairs, diagonals);
}

TYPED_TEST(Sampling, AnIdDependsOnNoBatchNoPlaceInItAndNoThread) {
  using T = TypeParam;
  constexpr Index B = 24, V = 4000;
  const Tensor<T, 2> logits = random_tensor<T>(5, B, V);
  const Ids seen{3, 3, 3999};
  for (const SamplingOptions& options :
       {SamplingOptions{.seed = 2},
        SamplingOptions{.top_k = 50, .repetition_penalty = 1.2, .seed = 2},
        SamplingOptions{.top_p = 0.8, .min_p = 0.1, .seed = 2},
        SamplingOptions{.temperature = 0}}) {
    const Sampler sampler(options);
    std::vector<SamplingDraw> draws;
    Ids alone;
    for (Index b = 0; b < B; ++b) {
      const auto number = static_cast<std::uint64_t>(100 + b);
      draws.push_back({.row = b, .sequence = number, .position = 7 * b, .seen = seen});
      // Where no register is aligned.
      std::vector<T> apart(V + 1);
      std::copy_n(&logits(b, 0), V, apart.data() + 1);
      alone.push_back(sampler(TensorView<T, 1>(apart.data() + 1, {V}),
                              {.sequence = number, .position = 7 * b, .seen = seen}));
    }
    for (const int threads : {1, 3}) {
      Context context(threads, kAnyWork);
      EXPECT_EQ(sampler(logits, draws, context), alone);
      const std::vector<SamplingDraw> reversed(draws.rbegin(), draws.rend());
      Ids ids = sampler(logits, reversed, context);
      std::ranges::reverse(ids);
      EXPECT_EQ(ids, alone);
    }
  }
}

TYPED_TEST(Sampling, FloatsAreDrawnFromAsDoublesAre) {
  using T = TypeParam;
  const Tensor<float, 1> x = random_tensor<float>(2, 500);
  Tensor<T, 1> y(500);
  std::copy_n(x.data(), 500, y.data());
  for (Index position = 0; position < 100; ++position) {
    const SamplingDraw draw{.position = position};
    EXPECT_EQ(Sampler({.top_p = 0.9})(x, draw), Sampler({.top_p = 0.9})(y, draw));
  }
}

// Made on one machine: of AVX2, AVX-512 and NEON, of every compiler, and of floats and doubles.
TYPED_TEST(Sampling, TheIdsOfASeedAreTheseEverywhere) {
  using T = TypeParam;
  Tensor<T, 1> x(1000);
  for (Index i = 0; i < 1000; ++i) x(i) = static_cast<T>(i * 7919 % 1000) / T(128);
  const auto ids_of = [&](const SamplingOptions& options) {
    Ids ids;
    for (Index position = 0; position < 8; ++position)
      ids.push_back(Sampler(options)(x, {.sequence = 1, .position = position}));
    return ids;
  };
  EXPECT_EQ(ids_of({.seed = 1}), (Ids{359, 805, 729, 238, 852, 597, 815, 670}));
  EXPECT_EQ(ids_of({.temperature = 0.7, .top_k = 40, .seed = 1}),
            (Ids{383, 852, 778, 272, 877, 605, 852, 704}));
  EXPECT_EQ(ids_of({.top_p = 0.9, .seed = 1}), (Ids{359, 805, 729, 238, 852, 596, 815, 670}));
  EXPECT_EQ(ids_of({.min_p = 0.2, .seed = 2}), (Ids{816, 791, 582, 963, 741, 618, 754, 210}));
}

TYPED_TEST(Sampling, OnlyRowsThatAreDrawnFromAreRead) {
  using T = TypeParam;
  auto logits = constant_tensor(kNan<T>, 3, 40);
  for (Index id = 0; id < 40; ++id) logits(1, id) = static_cast<T>(id % 5);
  const std::vector<SamplingDraw> draws{{.row = 1, .position = 1}, {.row = 1, .position = 2}};
  EXPECT_EQ(std::ssize(Sampler()(logits, draws)), 2);
  EXPECT_TRUE(Sampler()(logits, std::vector<SamplingDraw>{}).empty());
  EXPECT_TRUE(Sampler()(Tensor<T, 2>(0, 40), std::vector<SamplingDraw>{}).empty());
  EXPECT_EQ(Sampler({.top_k = 7}).options().top_k, 7);
}

TYPED_TEST(Sampling, ARefusedCallWritesNothing) {
  using T = TypeParam;
  Tensor<T, 2> logits = random_tensor<T>(1, 2, 10);
  Ids ids{-7, -7};
  const auto refused = [&](std::vector<SamplingDraw> draws) {
    std::string sentence = refusal([&] {
      Sampler().sample_into(ids, logits, draws);
      return 0;
    });
    EXPECT_EQ(ids, (Ids{-7, -7}));
    return sentence;
  };
  EXPECT_EQ(refused({{.row = 0}, {.row = 2}}),
            "eigenheads: draw 1 is from row 2; expected 0 to 1, the last row of the logits");
  EXPECT_EQ(refused({{.row = -1}, {.row = 0}}),
            "eigenheads: draw 0 is from row -1; expected 0 to 1, the last row of the logits");
  EXPECT_EQ(refused({{.row = 0}, {.row = 1, .position = -1}}),
            "eigenheads: draw 1 is at position -1; expected 0 or more");
  EXPECT_EQ(refused({{.row = 0}}),
            "eigenheads: ids has 2 elements; expected one for each of 1 draws");
  logits(1, 9) = kNan<T>;
  EXPECT_EQ(refused({{.row = 0}, {.row = 1}}),
            "eigenheads: logits[1, 9] is NaN; expected a number");
  EXPECT_EQ(refusal([] { return Sampler({.top_k = -1}); }),
            "eigenheads: Sampler: top_k is -1; expected 1 or more, or 0 for all");
  EXPECT_EQ(refusal([] { return Sampler({.min_p = 1.5}); }),
            "eigenheads: Sampler: min_p is 1.5; expected 0 to 1");
  Tensor<double, 1> p(9);
  EXPECT_EQ(refusal([&] {
              Sampler().probabilities_into(p, row(logits, 0));
              return 0;
            }),
            "eigenheads: probabilities has shape [9]; expected [vocabulary] = [10]");
}

// Of weights whose sums are exact, every part of the sum is the id that it falls on.
TEST(SamplingRow, EveryPartOfTheSumFallsOnItsId) {
  for (const std::size_t count : {1u, 5u, 255u, 256u, 257u, 700u}) {
    std::vector<double> weights(count);
    for (std::size_t i = 0; i < count; ++i) weights[i] = static_cast<double>(i * 5 % 4);
    weights[count / 2] = 3;
    if (count > 600) std::fill_n(weights.begin() + 256, 256, 0.0);
    const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
    std::vector<double> block_sums(count / 256 + 1);
    double before = 0;
    for (std::size_t i = 0; i < count; before += weights[i++])
      for (int quarter = 1; quarter < static_cast<int>(4 * weights[i]); ++quarter) {
        const double uniform = (before + 0.25 * quarter) / sum;
        ASSERT_EQ(eh::detail::drawn_of(weights, uniform, block_sums.data()), static_cast<Index>(i));
      }
    ASSERT_EQ(before, sum);
    const Index last = eh::detail::drawn_of(weights, 1 - 0x1p-53, block_sums.data());
    EXPECT_TRUE(weights[static_cast<std::size_t>(last)] > 0);
  }
}

TEST(SamplingRow, ABoundIsOfTheNextIdThatWeighsAnything) {
  double block_sum = 0;
  const std::vector<double> weights{0, 1, 0, 1, 2, 0};
  for (const auto& [uniform, id] : std::vector<std::pair<double, Index>>{
           {0.0, 1}, {0.25, 3}, {0.5, 4}, {0.25 - 0x1p-54, 1}, {1 - 0x1p-53, 4}})
    EXPECT_EQ(eh::detail::drawn_of(weights, uniform, &block_sum), id) << uniform;
}

TEST(SamplingRow, TheBestCandidatesAreThoseOfASortedList) {
  Numbers numbers(9);
  for (const Index V : {1, 50, 1024, 1100, 9000}) {
    std::vector<double> values;
    for (Index i = 0; i < V; ++i) values.push_back(static_cast<double>(numbers.between(-40, 40)));
    for (Index i = 0; i < V; i += 9) values[static_cast<std::size_t>(i)] = -kInf<double>;
    std::vector<eh::detail::Candidate> sorted, best(values.size());
    for (Index i = 0; i < V; ++i)
      if (values[static_cast<std::size_t>(i)] > -kInf<double>)
        sorted.push_back({values[static_cast<std::size_t>(i)], i});
    std::ranges::stable_sort(sorted, std::greater(), &eh::detail::Candidate::value);
    for (const Index k : {Index{1}, Index{2}, V / 3 + 1, V}) {
      const Index count = eh::detail::best_candidates(values, k, best.data());
      ASSERT_EQ(count, std::min(k, std::ssize(sorted)));
      for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i)
        ASSERT_EQ(best[i].id, sorted[i].id) << V << ' ' << k << ' ' << i;
    }
  }
}

}  // namespace
