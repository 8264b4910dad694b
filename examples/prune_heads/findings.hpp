// SPDX-License-Identifier: MIT
#pragma once
// The report's summary: sentences that are made of the results, whichever way they came out.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "analysis.hpp"
#include "pages.hpp"  // fixed, percent, points, counted
#include "results.hpp"

namespace pruning {

inline constexpr double kSignificant = 0.05;  // two-sided

[[nodiscard]] inline std::string p_text(double p) {
  return p < 0.001 ? "p\u00A0<\u00A00.001" : "p\u00A0=\u00A0" + fixed(p, 3);
}
[[nodiscard]] inline std::string with_error(const std::vector<double>& differences) {
  const Spread spread = spread_of(differences);
  return fixed(100 * spread.mean, 2) + "\u00A0\u00B1\u00A0" + points(spread.error);
}
// "a, b and c"
[[nodiscard]] inline std::string enumerated(const std::vector<std::string>& items) {
  std::string text;
  for (std::size_t i = 0; i < items.size(); ++i)
    text += (i == 0 ? "" : i + 1 < items.size() ? ", " : " and ") + items[i];
  return text;
}

namespace detail {

[[nodiscard]] inline std::string verdict(const std::vector<double>& lost) {
  const Spread spread = spread_of(lost);
  if (spread.mean >= kMostLost) return "does not hold";
  return spread.mean + spread.error < kMostLost ? "holds"
                                                : "holds, though not by more than that error";
}

[[nodiscard]] inline std::string threshold_finding(const Results& results) {
  const Threshold& chosen = results.threshold;
  const std::string all = counted(results.heads.size(), "head"), limit = points(kMostLost, 0);
  if (chosen.count == 0)
    return "On the validation no measure lets even one of the " + all + " go for less than " +
           limit + " of accuracy.";
  return "Pruned in the order of " + std::string(kMeasures[chosen.measure].name) +
         ", the best practical measure on the validation, " + std::to_string(chosen.count) +
         " of the " + all + " (" +
         percent(static_cast<double>(chosen.count) / static_cast<double>(results.heads.size()), 0) +
         ") can go for less than " + limit + " of accuracy there. On the test that costs " +
         with_error(chosen.test_lost) + ": the threshold " + verdict(chosen.test_lost) + '.';
}

[[nodiscard]] inline std::string tuned_threshold_finding(const Results& results) {
  const Threshold& chosen = results.threshold;
  std::string text =
      "Fine-tuned for " +
      counted(static_cast<std::size_t>(results.settings.longer_tuning().steps), "step") +
      ", the model with " +
      (chosen.count == 0 ? "none" : "the same " + std::to_string(chosen.count)) +
      " of its heads pruned loses " + with_error(chosen.tuned_same) + " on the test. ";
  if (chosen.tuned_count > chosen.count)
    return text + "With fine-tuning the validation allows " + std::to_string(chosen.tuned_count) +
           " heads to go, which costs " + with_error(chosen.tuned_larger) +
           " on the test: that threshold " + verdict(chosen.tuned_larger) + '.';
  return text + "The validation allows no further head to go with it.";
}

[[nodiscard]] inline std::string orders_finding(const Results& results) {
  const std::size_t best = best_measure(results);
  const auto accuracy = [&](const std::string& order) {
    return percent(mean(over_levels(results, order)), 1);
  };
  const std::string name = kMeasures[best].name;
  std::string text = "On average over the five levels, the test accuracy is " + accuracy(name) +
                     " in the order of " + name + ", which is the best of the " +
                     counted(kMeasures.size(), "measure") + "; " + accuracy("oracle") +
                     " after the greedy search" +
                     (mean(over_levels(results, name)) > mean(over_levels(results, "oracle"))
                          ? " (which is no upper bound, then), "
                          : ", ") +
                     accuracy("random") + " in random order, and " +
                     percent(mean(whole_accuracies(results)), 2) + " for the whole model. ";
  std::vector<std::string> worse;
  for (const Measure& measure : kMeasures)
    if (mean(over_levels(results, measure.name)) < mean(over_levels(results, "random")))
      worse.emplace_back(measure.name);
  if (worse.empty()) return text + "Every measure is above chance.";
  return text + "Below chance: " + enumerated(worse) + '.';
}

// `measure` is a gradient, and `of` what it is the gradient of.
[[nodiscard]] inline std::string gradient_finding(const Results& results, const char* measure,
                                                  const std::string& of) {
  std::vector<std::string> above, below;
  for (const int level : kLevels) {
    const Comparison c = compare_at(results, measure, "random", level);
    if (c.difference == 0) continue;
    (c.difference > 0 ? above : below).push_back(std::to_string(level) + "\u00A0%");
  }
  const Comparison all = compare_over_levels(results, measure, "random");
  const bool is_clear = all.groups.p_two_sided < kSignificant;
  std::string text =
      "Does the gradient of the " + of + " (" + measure + ") choose better than chance? ";
  text += !is_clear            ? "The samples do not tell. "
          : all.difference > 0 ? "Yes. "
                               : "No: it chooses worse. ";
  text += "Over all levels the difference is " + points(all.difference, 1) +
          " (Mann\u2013Whitney U = " + fixed(all.groups.statistic, 1) + ", exact " +
          p_text(all.groups.p_two_sided) + "; signed ranks on the same phrases, exact " +
          p_text(all.pairs.p_two_sided) + ", both two-sided). ";
  if (!above.empty()) text += "It is ahead at " + enumerated(above) + " pruned";
  if (!below.empty())
    text += (above.empty() ? "It is behind at " : ", and behind at ") + enumerated(below) +
            (above.empty() ? " pruned" : "");
  return above.empty() && below.empty() ? text + "It is level with it throughout." : text + '.';
}

// Why the gradient does as it does.
[[nodiscard]] inline std::string margin_finding(const Results& results) {
  const auto over = [&](const char* order) {
    return percent(mean(over_levels(results, order)), 1);
  };
  return "A hundredth of the phrases makes " + percent(mean(results.gradient_of_few), 0) +
         " of the gradient of the loss: where the model is sure of the right answer, the loss is "
         "flat. Its order comes to " +
         over("gradient") + " over the levels, without the scale of each layer to " +
         over("gradient_unscaled") + "; that of the margin, which is flat nowhere, comes to " +
         over("margin_gradient") + '.';
}

[[nodiscard]] inline std::string heads_finding(const Results& results) {
  const std::vector<double> alone = mean_alone(results);
  const auto most = static_cast<std::size_t>(std::ranges::max_element(alone) - alone.begin());
  const auto cheap = static_cast<std::size_t>(
      std::ranges::count_if(alone, [](double lost) { return lost < 0.001; }));
  std::string text = "The head that is worth most alone is " + head_name(results, most) +
                     ": without it the test accuracy falls by " + points(alone[most], 1) + ". " +
                     std::to_string(cheap) + " of the " + std::to_string(alone.size()) +
                     " heads cost less than " + points(0.001, 1) + " each, taken alone. ";
  std::size_t best = 0;
  double highest = -2;
  for (std::size_t m = 0; m < kMeasures.size(); ++m)
    if (const auto rho = foretells(results, m); rho && *rho > highest) {
      highest = *rho;
      best = m;
    }
  if (highest < -1) return text;
  return text + "What a head is worth alone is best foretold by " + kMeasures[best].name +
         " (Spearman " + fixed(highest, 2) + ").";
}

[[nodiscard]] inline std::string tuning_finding(const Results& results) {
  double most = -2;
  int level = 0;
  std::string order;
  for (const char* name : {kGradient, "random"})
    for (const int at : kLevels) {
      const double gain = mean(tuned_accuracies(results, name, at, true)) -
                          mean(tuned_accuracies(results, name, at, false));
      if (gain > most) {
        most = gain;
        level = at;
        order = name;
      }
    }
  const auto after = [&](const char* name) {
    double sum = 0;
    for (const int at : kLevels) sum += mean(tuned_accuracies(results, name, at, true));
    return sum / kLevels.size();
  };
  const double gradient = after(kGradient), random = after("random");
  return "Fine-tuning gains most at " + std::to_string(level) + "\u00A0% pruned in the order of " +
         order + ": " + points(most, 1) + ". After it, the accuracy over the levels is " +
         percent(gradient, 1) + " in the order of " + kGradient + " and " + percent(random, 1) +
         " in random order" + (gradient > random ? "." : ": so that order is no better then.");
}

[[nodiscard]] inline std::string speed_finding(const Results& results) {
  const Speed *whole = nullptr, *half = nullptr, *large = nullptr, *large_half = nullptr;
  for (const Speed& row : results.speed) {
    if (row.model > 0 && row.level == 0) whole = &row;
    if (row.model > 0 && row.level == 50) half = &row;
    if (row.model == 0) (row.level == 0 ? large : large_half) = &row;
  }
  if (whole == nullptr || half == nullptr || large == nullptr || large_half == nullptr) return "";
  return "With half of the heads pruned, the model's forward pass takes " +
         percent(half->model / whole->model, 0) + " of its time, its layers of attention " +
         percent(half->attention / whole->attention, 0) +
         ", and a large layer (768 wide, 12 heads) " +
         percent(large_half->attention / large->attention, 0) + '.';
}

[[nodiscard]] inline std::string stability_finding(const Results& results) {
  std::size_t best = 0, worst = 0;
  double most = -2, least = 2;
  for (std::size_t m = 0; m < kMeasures.size(); ++m)
    if (const auto a = agreement(results, m)) {
      if (a->mean > most) most = a->mean, best = m;
      if (a->mean < least) least = a->mean, worst = m;
    }
  if (most < -1) return "";
  return "Between the splits of the phrases the heads' ranks agree best by " +
         std::string(kMeasures[best].name) + " (Spearman " + fixed(most, 3) +
         " on average) and least by " + kMeasures[worst].name + " (" + fixed(least, 3) + ").";
}

}  // namespace detail

[[nodiscard]] inline std::vector<std::string> findings(const Results& results) {
  std::vector<std::string> all{detail::threshold_finding(results),
                               detail::tuned_threshold_finding(results),
                               detail::orders_finding(results),
                               detail::gradient_finding(results, kGradient, "margin"),
                               detail::gradient_finding(results, "gradient", "loss"),
                               detail::margin_finding(results),
                               detail::heads_finding(results),
                               detail::tuning_finding(results),
                               detail::speed_finding(results),
                               detail::stability_finding(results)};
  std::erase(all, "");
  return all;
}

}  // namespace pruning
