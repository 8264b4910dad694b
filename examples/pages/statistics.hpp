// SPDX-License-Identifier: MIT
#pragma once
// Of small samples: means, ranks and their correlation, and the two rank tests, exactly.
//   Spearman, "The Proof and Measurement of Association between Two Things", 1904
//   Wilcoxon, "Individual Comparisons by Ranking Methods", 1945: signed ranks, and the rank sum
//   that is Mann and Whitney's U, 1947
// Ties share the mean of their ranks, and the tests' distributions are those of the ranks that are
// there, so that no p-value is an approximation.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <optional>
#include <span>
#include <vector>

namespace pages {

[[nodiscard]] inline double mean(std::span<const double> x) {
  return x.empty() ? 0 : std::accumulate(x.begin(), x.end(), 0.0) / static_cast<double>(x.size());
}

// Of the sample, with n - 1; 0 below two values.
[[nodiscard]] inline double standard_deviation(std::span<const double> x) {
  if (x.size() < 2) return 0;
  const double centre = mean(x);
  double sum = 0;
  for (const double value : x) sum += (value - centre) * (value - centre);
  return std::sqrt(sum / static_cast<double>(x.size() - 1));
}

// Of the mean.
[[nodiscard]] inline double standard_error(std::span<const double> x) {
  return x.empty() ? 0 : standard_deviation(x) / std::sqrt(static_cast<double>(x.size()));
}

[[nodiscard]] inline double median(std::vector<double> x) {
  if (x.empty()) return 0;
  std::ranges::sort(x);
  return (x[(x.size() - 1) / 2] + x[x.size() / 2]) / 2;
}

// 1 for the least; equal values share the mean of theirs.
[[nodiscard]] inline std::vector<double> ranks(std::span<const double> x) {
  std::vector<std::size_t> order(x.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return x[i]; });
  std::vector<double> result(x.size());
  for (std::size_t first = 0, last = 0; first < order.size(); first = last) {
    while (last < order.size() && !(x[order[first]] < x[order[last]])) ++last;
    for (std::size_t i = first; i < last; ++i)
      result[order[i]] = static_cast<double>(first + 1 + last) / 2;
  }
  return result;
}

// -1 to 1; none if one of the two is constant, or below two values. x and y have the same size.
[[nodiscard]] inline std::optional<double> spearman(std::span<const double> x,
                                                    std::span<const double> y) {
  const std::vector<double> a = ranks(x), b = ranks(y);
  const double mean_a = mean(a), mean_b = mean(b);
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ab += (a[i] - mean_a) * (b[i] - mean_b);
    aa += (a[i] - mean_a) * (a[i] - mean_a);
    bb += (b[i] - mean_b) * (b[i] - mean_b);
  }
  if (aa == 0 || bb == 0) return std::nullopt;
  return std::clamp(ab / std::sqrt(aa * bb), -1.0, 1.0);
}

struct RankTest {
  double statistic = 0;
  double p_greater = 1;    // of a statistic this large or larger, if there is no difference
  double p_two_sided = 1;  // twice the smaller tail, at most 1
};

namespace detail {

// Ways to reach each sum; ranks are counted in halves, so that ties keep them whole numbers.
[[nodiscard]] inline std::size_t halves(double rank) {
  return static_cast<std::size_t>(std::lround(2 * rank));
}

[[nodiscard]] inline RankTest test_of(const std::vector<double>& ways, std::size_t sum) {
  double below = 0, above = 0, all = 0;
  for (std::size_t s = 0; s < ways.size(); ++s) {
    all += ways[s];
    if (s <= sum) below += ways[s];
    if (s >= sum) above += ways[s];
  }
  const double two_sided = (std::min)(1.0, 2 * (std::min)(below, above) / all);
  return {static_cast<double>(sum) / 2, above / all, two_sided};
}

}  // namespace detail

// Wilcoxon's signed-rank test of pairs by their differences. The statistic is the sum of the ranks
// of |difference| where it is positive; differences of 0 are left out.
[[nodiscard]] inline RankTest signed_rank_test(std::span<const double> differences) {
  std::vector<double> sizes, signs;
  for (const double d : differences)
    if (d != 0) {
      sizes.push_back(std::abs(d));
      signs.push_back(d);
    }
  if (sizes.empty()) return {};
  std::size_t positive = 0;
  std::vector<double> ways{1};  // by the sum of the ranks that got a plus
  const std::vector<double> rank = ranks(sizes);
  for (std::size_t i = 0; i < rank.size(); ++i) {
    const std::size_t step = detail::halves(rank[i]);
    if (signs[i] > 0) positive += step;
    ways.resize(ways.size() + step);
    for (std::size_t s = ways.size(); s-- > step;) ways[s] += ways[s - step];
  }
  return detail::test_of(ways, positive);
}

// Whether x tends to be above y. The statistic is U: of the pairs of one of each, those in which x
// is above, and half of those in which the two are equal.
[[nodiscard]] inline RankTest mann_whitney_test(std::span<const double> x,
                                                std::span<const double> y) {
  if (x.empty() || y.empty()) return {};
  std::vector<double> both(x.begin(), x.end());
  both.insert(both.end(), y.begin(), y.end());
  const std::vector<double> rank = ranks(both);
  std::size_t total = 0, of_x = 0;
  for (std::size_t i = 0; i < rank.size(); ++i) {
    total += detail::halves(rank[i]);
    if (i < x.size()) of_x += detail::halves(rank[i]);
  }
  // ways[n][s]: to choose n of the ranks with the sum s
  std::vector<std::vector<double>> ways(x.size() + 1, std::vector<double>(total + 1));
  ways[0][0] = 1;
  for (const double r : rank) {
    const std::size_t step = detail::halves(r);
    for (std::size_t n = x.size(); n > 0; --n)
      for (std::size_t s = total + 1; s-- > step;) ways[n][s] += ways[n - 1][s - step];
  }
  RankTest test = detail::test_of(ways[x.size()], of_x);
  test.statistic -= static_cast<double>(x.size() * (x.size() + 1)) / 2;
  return test;
}

}  // namespace pages
