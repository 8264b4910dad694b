// SPDX-License-Identifier: MIT
#pragma once
// The sections of the report, each with its charts and tables.
#include <cstddef>
#include <string>
#include <vector>

#include "analysis.hpp"
#include "curves.hpp"
#include "findings.hpp"  // enumerated, p_text
#include "grids.hpp"
#include "pages.hpp"
#include "results.hpp"

namespace pruning {

namespace detail {

[[nodiscard]] inline std::string mean_and_deviation(const std::vector<double>& shares) {
  const Spread spread = spread_of(shares);
  return fixed(100 * spread.mean, 2) + " \u00B1 " + fixed(100 * spread.deviation, 2);
}
[[nodiscard]] inline std::string whole_number(Index count) {
  std::string text = std::to_string(count);
  for (std::size_t at = text.size(); at > 3; at -= 3) text.insert(at - 3, "\u2009");
  return text;
}
[[nodiscard]] inline std::vector<std::string> level_columns(const std::string& first) {
  std::vector<std::string> columns{first};
  for (const int level : kLevels) columns.push_back(std::to_string(level) + " %");
  return columns;
}

[[nodiscard]] inline std::string method_section(const Results& results) {
  const Settings& s = results.settings;
  Table table("The measures. A head goes the sooner, the less speaks for it.",
              {"Measure", "Speaks for a head", "What it is, mean over the sample"}, true);
  for (const Measure& measure : kMeasures)
    table.row({measure.name, measure.is_high_important ? "high" : "low", measure.meaning});
  const std::string splits = std::to_string(s.splits);
  return section(
      "method", "How it was measured",
      paragraph(
          "The model reads dates as people write them. Importance is measured on " + splits +
          " disjoint calibration samples of " + whole_number(s.calibration) +
          " phrases each; every measure gives an order of all heads of all layers for each of "
          "them. Pruned models are judged on " +
          splits + " test samples of " + whole_number(s.test) +
          " phrases, split i on sample i; thresholds are chosen on " + whole_number(s.validation) +
          " phrases of a validation sample. All samples are in templates and years that training "
          "has "
          "not seen, and no text is in two of them.") +
          paragraph(
              "Every candidate is a model that was really made smaller, in all of its layers of "
              "attention. The oracle is a greedy search on the calibration sample: at each step "
              "the "
              "head goes without which the loss is least, tried by a gate. Random orders: " +
              splits +
              ". Values after \u00B1 are standard deviations over the samples, but standard "
              "errors of the mean where a cost of pruning is stated.") +
          table.str());
}

[[nodiscard]] inline std::string importance_section(const Results& results) {
  return section(
      "importance", "Importance of each head",
      figure("Ranks of the heads by every measure, by its mean over the calibration "
             "samples: 1 is the most important. The columns are the heads of each layer.",
             "<div class=\"scroll\" tabindex=\"0\">" + rank_grid(results) + "</div>\n") +
          figure("Importance of each head, and the accuracy that the test loses if its "
                 "gate alone is closed; the scale of the loss is logarithmic. Spearman's "
                 "correlation counts what speaks for a head as high.",
                 importance_panels(results)));
}

[[nodiscard]] inline std::string pruning_section(const Results& results) {
  std::vector<std::string> orders{"oracle"};
  for (const Measure& measure : kMeasures) orders.emplace_back(measure.name);
  orders.emplace_back("random");
  Table accuracy(
      "Dates of the test read to the day, in %. Bold: the best of the measures at this "
      "level. The whole model: " +
          mean_and_deviation(whole_accuracies(results)) + ".",
      level_columns("Order"));
  std::vector<std::size_t> best;
  for (const int level : kLevels) {
    std::size_t highest = 0;
    for (std::size_t m = 1; m < kMeasures.size(); ++m)
      if (mean(results.accuracies(kMeasures[m].name, level)) >
          mean(results.accuracies(kMeasures[highest].name, level)))
        highest = m;
    best.push_back(highest + 1);
  }
  Table wrong("Dates of the test read as none, and texts without a date read as one, in % of each.",
              level_columns("Order"));
  for (std::size_t o = 0; o < orders.size(); ++o) {
    std::vector<std::string> row{orders[o]}, wrong_row{orders[o]};
    std::vector<bool> marked{false};
    for (std::size_t l = 0; l < kLevels.size(); ++l) {
      row.push_back(mean_and_deviation(results.accuracies(orders[o], kLevels[l])));
      marked.push_back(best[l] == o);
      std::vector<double> rejects, accepts;
      for (const Candidate& c : results.candidates)
        if (c.order == orders[o] && c.level == kLevels[l]) {
          rejects.push_back(c.quality.score.false_reject_share());
          accepts.push_back(c.quality.score.false_accept_share());
        }
      wrong_row.push_back(fixed(100 * mean(rejects), 1) + " / " + fixed(100 * mean(accepts), 1));
    }
    accuracy.row(row, marked);
    wrong.row(wrong_row);
  }
  return section(
      "pruning", "Pruning by each measure",
      figure("Accuracy by share of heads pruned: chance, the greedy search, and the best measure "
             "of each kind. Bars and the band are standard deviations over the samples.",
             pruning_curves(results)) +
          figure("Every measure beside chance and the greedy search.", measure_panels(results)) +
          accuracy.str() + wrong.str() +
          figure("Which heads are kept: rows of a grid are the layers (" +
                     enumerated(results.layers) +
                     "), columns their heads. The fuller a cell, the more of the samples keep the "
                     "head; an empty frame is a head that all of them prune.",
                 "<div class=\"scroll\" tabindex=\"0\">" + kept_grids(results) + "</div>\n"));
}

[[nodiscard]] inline std::string chance_section(const Results& results) {
  const auto cells = [](const Comparison& c) {
    return std::vector<std::string>{fixed(100 * c.difference, 2), fixed(c.groups.statistic, 1),
                                    fixed(c.groups.p_two_sided, 4), fixed(c.pairs.statistic, 1),
                                    fixed(c.pairs.p_two_sided, 4)};
  };
  const std::vector<std::string> columns{"", "Difference (points)", "U", "p", "W+", "p, paired"};
  const auto add = [&](Table& table, std::string name, const Comparison& comparison) {
    std::vector<std::string> row{std::move(name)};
    for (std::string& cell : cells(comparison)) row.push_back(std::move(cell));
    table.row(row);
  };
  Table levels(
      std::string("The order of ") + kGradient +
          " against random orders: Mann\u2013Whitney U test of all splits "
          "against all random orders, and Wilcoxon signed-rank test of those on the same test "
          "sample; both exact and two-sided.",
      columns);
  for (const int level : kLevels)
    add(levels, std::to_string(level) + " % pruned",
        compare_at(results, kGradient, "random", level));
  add(levels, "mean over the levels", compare_over_levels(results, kGradient, "random"));
  Table all(
      "Every measure against random orders, by the mean accuracy over the levels. The "
      "p-values are not adjusted for how many there are.",
      columns);
  for (const Measure& measure : kMeasures)
    add(all, measure.name, compare_over_levels(results, measure.name, "random"));
  const auto n = static_cast<double>(results.settings.splits);
  const RankTest apart = signed_rank_test(std::vector<double>(results.settings.splits, 1.0));
  return section(
      "chance", "Better than chance?",
      paragraph("With " + fixed(n, 0) + " pairs the signed-rank test cannot say less than " +
                p_text(apart.p_two_sided) + ", however clear the difference is; the U test can.") +
          levels.str() + all.str());
}

[[nodiscard]] inline std::string threshold_section(const Results& results) {
  const Threshold& chosen = results.threshold;
  Table table(
      "Accuracy lost against the whole model on the test, with its standard error: what "
      "was chosen on the validation.",
      {"Model", "Heads pruned", "Share (%)", "Lost on the test (points)"});
  const auto add = [&](const std::string& name, std::size_t count,
                       const std::vector<double>& lost) {
    const Spread spread = spread_of(lost);
    table.row(
        {name, std::to_string(count),
         fixed(100 * static_cast<double>(count) / static_cast<double>(results.heads.size()), 1),
         fixed(100 * spread.mean, 2) + " \u00B1 " + fixed(100 * spread.error, 2)});
  };
  add("pruned", chosen.count, chosen.test_lost);
  add("pruned and fine-tuned", chosen.count, chosen.tuned_same);
  add("more pruned, and fine-tuned", chosen.tuned_count, chosen.tuned_larger);
  return section(
      "threshold", "How much can go?",
      paragraph(
          "One head after the other goes in the order of each measure (by its mean over the "
          "calibration samples). A threshold is the last number of heads up to which less than " +
          points(kMostLost, 0) +
          " of accuracy is lost on the validation; the measure with the highest is taken: " +
          kMeasures[chosen.measure].name + ". Then each model from there on is fine-tuned for " +
          whole_number(results.settings.longer_tuning().steps) + " steps.") +
          figure("Accuracy lost on the validation; the scale is logarithmic.",
                 threshold_chart(results)) +
          table.str());
}

[[nodiscard]] inline std::string tuning_section(const Results& results) {
  const FineTuning& tuning = results.settings.tuning;
  Table table("Dates of the test read to the day, in %, before and after fine-tuning; means over " +
                  counted(results.settings.tuning_seeds, "seed") + ".",
              {"Order", "Pruned", "Before", "After", "Gain (points)"});
  const auto add = [&](const std::string& order, int level) {
    const auto before = tuned_accuracies(results, order, level, false);
    const auto after = tuned_accuracies(results, order, level, true);
    table.row({order, std::to_string(level) + " %", mean_and_deviation(before),
               mean_and_deviation(after), fixed(100 * (mean(after) - mean(before)), 2)});
  };
  add("none", 0);
  for (const char* order : {kGradient, "random"})
    for (const int level : kLevels) add(order, level);
  return section(
      "tuning", "Fine-tuning after pruning",
      paragraph(whole_number(tuning.steps) + " steps of Adam on batches of " +
                whole_number(tuning.batch_size) +
                " training phrases, at a learning rate of at most " +
                fixed(tuning.learning_rate, 4) +
                ". The row \u201Cnone\u201D is the whole model, fine-tuned alike: what "
                "the steps do without any pruning.") +
          figure("Accuracy before and after; bars are standard deviations over the seeds.",
                 tuning_chart(results)) +
          table.str());
}

[[nodiscard]] inline std::string speed_section(const Results& results) {
  Table table(
      "Medians of interleaved repetitions on one thread, and their ratio to the whole in the "
      "same run. The dates model is pruned in the order of " +
          std::string(kGradient) + "; the large layer has B 8, T 128, E 768 and H 12.",
      {"What", "Heads left", "Attention parameters", "Forward (ms)", "of the whole",
       "Attention (ms)", "of the whole"});
  const Speed* whole = nullptr;
  for (const Speed& row : results.speed) {
    if (row.level == 0) whole = &row;
    if (whole == nullptr) continue;
    const bool has_model = row.model > 0;
    table.row({row.what, std::to_string(row.heads), whole_number(row.parameters),
               has_model ? fixed(row.model, 2) : "\u2013",
               has_model ? percent(row.model / whole->model, 0) : "\u2013", fixed(row.attention, 2),
               percent(row.attention / whole->attention, 0)});
  }
  return section("speed", "Speed",
                 figure("Time by share of heads pruned, and how it would fall if all of it were in "
                        "the heads.",
                        speed_chart(results)) +
                     table.str());
}

[[nodiscard]] inline std::string agreement_section(const Results& results) {
  Table table(
      "Spearman's correlation of the heads' importance between the calibration samples, over "
      "all pairs of them; and with the accuracy that the test loses without each head.",
      {"Measure", "Mean", "Least", "Highest", "With the cost alone"});
  for (std::size_t m = 0; m < kMeasures.size(); ++m) {
    const auto a = agreement(results, m);
    const auto rho = foretells(results, m);
    const auto text = [](bool has, double value) { return has ? fixed(value, 3) : "\u2013"; };
    table.row({kMeasures[m].name, text(a.has_value(), a ? a->mean : 0),
               text(a.has_value(), a ? a->least : 0), text(a.has_value(), a ? a->most : 0),
               text(rho.has_value(), rho.value_or(0))});
  }
  return section(
      "agreement", "Do the splits agree?",
      table.str() +
          figure("Correlation of the measures with each other, by their means over the "
                 "samples; what speaks for a head counts as high.",
                 "<div class=\"scroll\" tabindex=\"0\">" + correlation_grid(results) + "</div>\n"));
}

}  // namespace detail

}  // namespace pruning
