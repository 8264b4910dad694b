// SPDX-License-Identifier: MIT
#pragma once
// What the report says and draws, computed from the results: nothing here is written down before.
#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "measures.hpp"  // kMeasures, Evidence
#include "pages.hpp"     // mean, spearman, tests
#include "results.hpp"   // Results, kLevels

namespace pruning {

struct Spread {
  double mean, deviation, error;  // standard deviation, and that of the mean
};
[[nodiscard]] inline Spread spread_of(const std::vector<double>& x) {
  return {mean(x), standard_deviation(x), standard_error(x)};
}

[[nodiscard]] inline std::vector<double> whole_accuracies(const Results& results) {
  std::vector<double> values;
  for (const Quality& quality : results.whole) values.push_back(quality.accuracy());
  return values;
}

// Of an order, the mean accuracy over all levels: [split].
[[nodiscard]] inline std::vector<double> over_levels(const Results& results,
                                                     const std::string& order) {
  std::vector<double> sums(results.whole.size());
  for (const Candidate& c : results.candidates)
    if (c.order == order) sums[c.split] += c.quality.accuracy() / kLevels.size();
  return sums;
}

// An order against another one on the same test samples.
struct Comparison {
  double difference;  // of the mean accuracies
  RankTest groups;    // Mann and Whitney's: each split of one against each of the other
  RankTest pairs;     // Wilcoxon's: on the same test sample
};
[[nodiscard]] inline Comparison compare(const std::vector<double>& x,
                                        const std::vector<double>& y) {
  std::vector<double> differences;
  for (std::size_t i = 0; i < x.size(); ++i) differences.push_back(x[i] - y[i]);
  return {mean(differences), mann_whitney_test(x, y), signed_rank_test(differences)};
}
[[nodiscard]] inline Comparison compare_at(const Results& results, const std::string& order,
                                           const std::string& other, int level) {
  return compare(results.accuracies(order, level), results.accuracies(other, level));
}
[[nodiscard]] inline Comparison compare_over_levels(const Results& results,
                                                    const std::string& order,
                                                    const std::string& other) {
  return compare(over_levels(results, order), over_levels(results, other));
}

// Of all measures, or of those that look at one thing, the one with the highest accuracy over the
// levels.
[[nodiscard]] inline std::size_t best_measure(const Results& results,
                                              std::optional<Evidence> evidence = {}) {
  std::size_t best = kMeasures.size();
  double most = -1;
  for (std::size_t m = 0; m < kMeasures.size(); ++m) {
    if (evidence && kMeasures[m].evidence != *evidence) continue;
    if (const double of_m = mean(over_levels(results, kMeasures[m].name)); of_m > most) {
      most = of_m;
      best = m;
    }
  }
  return best;
}

// Spearman's correlation of a measure between all pairs of splits.
struct Agreement {
  double mean, least, most;
};
[[nodiscard]] inline std::optional<Agreement> agreement(const Results& results,
                                                        std::size_t measure) {
  const auto& splits = results.importance[measure];
  std::vector<double> all;
  for (std::size_t s = 0; s < splits.size(); ++s)
    for (std::size_t t = s + 1; t < splits.size(); ++t)
      if (const auto rho = spearman(splits[s], splits[t])) all.push_back(*rho);
  if (all.empty()) return std::nullopt;
  return Agreement{mean(all), *std::ranges::min_element(all), *std::ranges::max_element(all)};
}

// Of each head, the accuracy that the test samples lose without it alone, on average.
[[nodiscard]] inline std::vector<double> mean_alone(const Results& results) {
  std::vector<double> sums(results.heads.size());
  for (const auto& split : results.alone)
    for (std::size_t h = 0; h < sums.size(); ++h)
      sums[h] += split[h] / static_cast<double>(results.alone.size());
  return sums;
}

// How well a measure foretells what a head is worth alone.
[[nodiscard]] inline std::optional<double> foretells(const Results& results, std::size_t measure) {
  return spearman(results.oriented_importance(measure), mean_alone(results));
}

[[nodiscard]] inline std::string head_name(const Results& results, std::size_t head) {
  return results.layers[results.heads[head].layer] + ", head " +
         std::to_string(results.heads[head].index + 1);
}

// Of fine-tuned models of an order at a level, before or after.
[[nodiscard]] inline std::vector<double> tuned_accuracies(const Results& results,
                                                          const std::string& order, int level,
                                                          bool is_after) {
  std::vector<double> values;
  for (const Tuned& t : results.tuned)
    if (t.order == order && t.level == level)
      values.push_back((is_after ? t.after : t.before).accuracy());
  return values;
}

}  // namespace pruning
