// SPDX-License-Identifier: MIT
#pragma once
// The report's charts.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include "analysis.hpp"
#include "findings.hpp"  // enumerated
#include "pages.hpp"     // fixed, percent, legend
#include "results.hpp"

namespace pruning {

namespace detail {

inline constexpr std::array kLayerColours{"c1", "c2", "c3", "c4", "c5", "c6"};
inline constexpr std::array kMarks{Mark::circle, Mark::square, Mark::triangle, Mark::diamond,
                                   Mark::cross};

[[nodiscard]] inline double share_pruned(const Results& results, int level) {
  return 100 * static_cast<double>(results.count_at(level)) /
         static_cast<double>(results.heads.size());
}

// From the whole model on; errors are standard deviations.
[[nodiscard]] inline Series accuracy_of(const Results& results, const std::string& order,
                                        const char* colour, Mark mark, bool is_dashed = false) {
  Series series{order, colour, mark, true, is_dashed};
  const Spread whole = spread_of(whole_accuracies(results));
  series.points.push_back(
      {0, 100 * whole.mean, 100 * whole.deviation, "whole: " + percent(whole.mean)});
  for (const int level : kLevels) {
    const Spread at = spread_of(results.accuracies(order, level));
    series.points.push_back(
        {share_pruned(results, level), 100 * at.mean, 100 * at.deviation,
         order + ", " + std::to_string(level) + " % pruned: " + percent(at.mean)});
  }
  return series;
}

[[nodiscard]] inline Axis share_axis() { return {"Heads pruned (%)", 0, 100}; }
[[nodiscard]] inline Axis accuracy_axis() { return {"Dates read to the day (%)", 0, 100}; }

}  // namespace detail

// The best measure of each kind, in one chart.
[[nodiscard]] inline std::string pruning_curves(const Results& results) {
  using namespace detail;
  Chart chart{"", share_axis(), accuracy_axis()};
  chart.width = 860;
  chart.height = 440;
  chart.labels_inside = true;
  chart.band = accuracy_of(results, "random", "c0", Mark::none);
  chart.series.push_back(accuracy_of(results, "oracle", "c6", Mark::diamond, true));
  std::vector<std::string> drawn;
  const auto add = [&](std::size_t measure, const char* colour, Mark mark) {
    const std::string name = kMeasures[measure].name;
    if (std::ranges::count(drawn, name) > 0) return;
    drawn.push_back(name);
    chart.series.push_back(accuracy_of(results, name, colour, mark));
  };
  add(measure_index("trial"), "c1", Mark::circle);
  add(measure_index(kGradient), "c7", Mark::square);
  add(measure_index("gradient"), "c2", Mark::square);
  add(best_measure(results, Evidence::output), "c3", Mark::triangle);
  add(best_measure(results, Evidence::attention), "c4", Mark::diamond);
  add(best_measure(results, Evidence::position), "c5", Mark::cross);
  add(best_measure(results, Evidence::loss), "c7", Mark::square);
  std::vector<Series> all = chart.series;
  all.push_back(chart.band);
  return legend(all) +
         draw(chart, "Accuracy by share of heads pruned; the numbers are in the table below");
}

// Each measure beside chance and the greedy search.
[[nodiscard]] inline std::string measure_panels(const Results& results) {
  using namespace detail;
  std::string html = legend({{"measure", "c1", Mark::circle},
                             {"oracle (greedy search)", "c6", Mark::none, true, true},
                             {"random, \u00B1 one standard deviation", "c0", Mark::none}});
  html += "<div class=\"panels\">\n";
  for (const Measure& measure : kMeasures) {
    Chart chart{measure.name, share_axis(), accuracy_axis()};
    chart.width = 300;
    chart.height = 230;
    chart.labels_lines = false;
    chart.band = accuracy_of(results, "random", "c0", Mark::none);
    Series oracle = accuracy_of(results, "oracle", "c6", Mark::none, true);
    for (Point& point : oracle.points) point.error = 0;
    chart.series = {oracle, accuracy_of(results, measure.name, "c1", Mark::circle)};
    html += draw(chart, std::string("Accuracy by share pruned in the order of ") + measure.name);
  }
  return html + "</div>\n";
}

// Importance by each measure against the accuracy that is lost without the head alone.
[[nodiscard]] inline std::string importance_panels(const Results& results) {
  using namespace detail;
  const std::vector<double> alone = mean_alone(results);
  const auto colour_of = [](std::size_t l) { return kLayerColours[l % kLayerColours.size()]; };
  const auto mark_of = [](std::size_t l) { return kMarks[l % kMarks.size()]; };
  std::vector<Series> layers;
  for (std::size_t l = 0; l < results.layers.size(); ++l)
    layers.push_back({results.layers[l], colour_of(l), mark_of(l), false});
  std::string html = legend(layers) + "<div class=\"panels\">\n";
  for (std::size_t m = 0; m < kMeasures.size(); ++m) {
    const std::vector<double> values = results.mean_importance(m);
    const auto rho = foretells(results, m);
    Chart chart{
        std::string(kMeasures[m].name) + ", Spearman " + (rho ? fixed(*rho, 2) : "undefined"),
        {},
        {"Lost without it (points)", 0.01, 100, true}};
    const auto [least, most] = std::ranges::minmax(values);
    const double room = (std::max)(most - least, 1e-6) * 0.05;
    chart.x = {kMeasures[m].axis, least - room, most + room, false, 4};
    if (m == measure_index("trial"))
      chart.x = {kMeasures[m].axis, 1e-5, (std::max)(1.0, most), true};
    chart.width = 300;
    chart.height = 230;
    chart.labels_lines = false;
    chart.series = layers;
    for (std::size_t h = 0; h < values.size(); ++h)
      chart.series[results.heads[h].layer].points.push_back(
          {values[h], 100 * alone[h], 0,
           head_name(results, h) + ": " + fixed(values[h], 4) + ", loses " + points(alone[h])});
    html += draw(chart,
                 std::string(kMeasures[m].name) + " of each head against what is lost without it");
  }
  return html + "</div>\n";
}

// On the validation, head by head.
[[nodiscard]] inline std::string threshold_chart(const Results& results) {
  const Threshold& chosen = results.threshold;
  double most = 100 * kMostLost;
  Series pruned{"pruned", "c1", Mark::circle}, tuned{"and fine-tuned", "c2", Mark::square},
      limit{"limit", "c6", Mark::none, true, true};
  pruned.points.push_back({0, 0});
  const auto& lost = results.sweep[chosen.measure];
  for (std::size_t n = 1; n <= lost.size(); ++n)
    pruned.points.push_back({static_cast<double>(n), 100 * lost[n - 1], 0,
                             counted(n, "head") + " pruned: " + points(lost[n - 1])});
  for (std::size_t i = 0; i < chosen.tuned_lost.size(); ++i)
    tuned.points.push_back({static_cast<double>(chosen.count + i), 100 * chosen.tuned_lost[i], 0,
                            counted(chosen.count + i, "head") +
                                " pruned, fine-tuned: " + points(chosen.tuned_lost[i])});
  for (const Series& series : {pruned, tuned})
    for (const Point& p : series.points) most = (std::max)(most, p.y);
  const auto heads = static_cast<double>(results.heads.size());
  limit.points = {{0, 100 * kMostLost}, {heads, 100 * kMostLost}};
  Chart chart{"",
              {"Heads pruned, in the order of " + std::string(kMeasures[chosen.measure].name), 0,
               heads, false, 12},
              {"Accuracy lost (points)", 0.01, (std::max)(100.0, most), true}};
  chart.width = 760;
  chart.series = {limit, pruned, tuned};
  return draw(chart, "Accuracy lost on the validation by the number of heads pruned");
}

[[nodiscard]] inline std::string tuning_chart(const Results& results) {
  using namespace detail;
  Chart chart{"", share_axis(), accuracy_axis()};
  chart.width = 760;
  chart.labels_inside = true;
  const auto add = [&](const char* order, bool is_after, const char* colour, Mark mark) {
    Series series{std::string(order) + (is_after ? ", fine-tuned" : ", pruned"), colour, mark, true,
                  !is_after};
    for (const int level : kLevels) {
      const Spread at = spread_of(tuned_accuracies(results, order, level, is_after));
      series.points.push_back({share_pruned(results, level), 100 * at.mean, 100 * at.deviation,
                               series.label + ": " + percent(at.mean)});
    }
    chart.series.push_back(std::move(series));
  };
  add(kGradient, true, "c2", Mark::square);
  add("random", true, "c1", Mark::circle);
  add(kGradient, false, "c2", Mark::diamond);
  add("random", false, "c1", Mark::triangle);
  return legend(chart.series) +
         draw(chart, "Accuracy before and after fine-tuning; the numbers are in the table below");
}

[[nodiscard]] inline std::string speed_chart(const Results& results) {
  Series model{"whole forward pass", "c1", Mark::circle},
      attention{"attention alone", "c2", Mark::square},
      ideal{"share of heads left", "c0", Mark::none, true, true};
  const Speed* whole = nullptr;
  double most = 100;
  for (const Speed& row : results.speed) {
    if (row.model == 0) continue;
    if (whole == nullptr) whole = &row;
    const double x = 100 - 100 * static_cast<double>(row.heads) / static_cast<double>(whole->heads);
    model.points.push_back({x, 100 * row.model / whole->model, 0, fixed(row.model, 2) + " ms"});
    attention.points.push_back(
        {x, 100 * row.attention / whole->attention, 0, fixed(row.attention, 2) + " ms"});
    ideal.points.push_back({x, 100 - x});
    for (const Series& series : {model, attention}) most = (std::max)(most, series.points.back().y);
  }
  Chart chart{"", detail::share_axis(), {"Time (% of the whole model's)", 0, most}};
  chart.width = 760;
  chart.height = 340;
  chart.series = {ideal, model, attention};
  return draw(chart, "Time by share of heads pruned; the numbers are in the table below");
}

}  // namespace pruning
