// SPDX-License-Identifier: MIT
#pragma once
// The results of HeadExperiment as a page and as tables of numbers.
#include <algorithm>
#include <array>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "../pages/chart.hpp"       // Chart, draw, legend
#include "../pages/csv.hpp"         // Csv
#include "../pages/head_grid.hpp"   // draw_rank_grid
#include "../pages/html.hpp"        // section, Table, page
#include "../pages/statistics.hpp"  // ranks
#include "head_experiment.hpp"      // HeadResults

namespace sentences {

namespace detail {

using pages::fixed, pages::percent, pages::counted;

// "layer 1: 3, 7; layer 2: 1"
[[nodiscard]] inline std::string head_list(const HeadResults& results, Heads heads) {
  std::ranges::sort(heads);
  std::string list;
  std::size_t layer = results.layers.size();
  for (const std::size_t i : heads) {
    const Head& head = results.heads[i];
    list +=
        head.layer == layer ? ", " : (list.empty() ? "" : "; ") + results.layers[head.layer] + ": ";
    list += std::to_string(head.index + 1);
    layer = head.layer;
  }
  return list;
}

[[nodiscard]] inline double speed_at(const HeadResults& results, std::size_t pruned) {
  const auto at = std::ranges::find(results.timed, pruned) - results.timed.begin();
  return results.speed[static_cast<std::size_t>(at)];
}

}  // namespace detail

[[nodiscard]] inline std::vector<std::string> head_findings(const HeadResults& results) {
  using namespace detail;
  const std::size_t all = results.heads.size(), gone = results.count;
  const Loss &chosen = results.chosen[gone], &judged = results.judged[gone];
  const std::string best = kMeasures[results.best].name;
  std::vector<std::string> findings{
      std::to_string(gone) + " of " + std::to_string(all) + " heads are pruned, in the order of " +
          best + ": on the " + std::to_string(results.choosing) +
          " texts that this was chosen by, the mean cosine to the whole model's vectors is " +
          fixed(1 - chosen.distance, 4) + " and " + percent(1 - chosen.neighbours, 1) +
          " of the texts keep their nearest neighbour; on the other " +
          std::to_string(results.judging) + ", " + fixed(1 - judged.distance, 4) + " and " +
          percent(1 - judged.neighbours, 1) + ".",
      "Whole, the model reads " + fixed(results.speed.front(), 0) +
          " texts a second on one thread; pruned so, " + fixed(speed_at(results, gone), 0) + "."};
  const Loss measured = results.at(best, 50), random = results.at("random", 50);
  findings.push_back("With half of the heads pruned, the order of " + best + " loses " +
                     fixed(measured.distance, 4) + " of the cosine, and random orders " +
                     fixed(random.distance, 4) + " on average.");
  std::string worse;
  for (const Measure& measure : kMeasures)
    if (results.over_levels(measure.name) > results.over_levels("random"))
      worse += (worse.empty() ? "" : ", ") + std::string(measure.name);
  findings.push_back(
      worse.empty() ? "Over all levels, every measure chooses better than chance."
                    : "Over all levels, these measures choose worse than chance: " + worse + ".");
  return findings;
}

[[nodiscard]] inline std::string head_importance_csv(const HeadResults& results) {
  pages::Csv csv;
  csv.row("measure", "layer", "head", "value", "rank");
  for (std::size_t m = 0; m < kMeasures.size(); ++m) {
    std::vector<double> values = results.oriented_importance(m);
    for (double& value : values) value = -value;
    const std::vector<double> rank = pages::ranks(values);  // 1: the most important
    for (std::size_t h = 0; h < rank.size(); ++h)
      csv.row(kMeasures[m].name, results.layers[results.heads[h].layer], results.heads[h].index + 1,
              results.importance[m][h], rank[h]);
  }
  return csv.str();
}

[[nodiscard]] inline std::string head_pruning_csv(const HeadResults& results) {
  pages::Csv csv;
  csv.row("order", "percent_pruned", "heads_pruned", "distance", "neighbours_lost", "pruned");
  for (const Candidate& c : results.candidates)
    csv.row(c.order, c.level, c.removed.size(), c.loss.distance, c.loss.neighbours,
            detail::head_list(results, c.removed));
  return csv.str();
}

[[nodiscard]] inline std::string head_curve_csv(const HeadResults& results) {
  pages::Csv csv;
  csv.row("heads_pruned", "head", "distance", "neighbours_lost", "distance_of_others",
          "neighbours_lost_of_others");
  for (std::size_t n = 0; n < results.chosen.size(); ++n)
    csv.row(n, n == 0 ? "" : detail::head_list(results, {results.order[n - 1]}),
            results.chosen[n].distance, results.chosen[n].neighbours, results.judged[n].distance,
            results.judged[n].neighbours);
  return csv.str();
}

[[nodiscard]] inline std::string head_speed_csv(const HeadResults& results) {
  pages::Csv csv;
  csv.row("heads_pruned", "texts_a_second");
  for (std::size_t i = 0; i < results.timed.size(); ++i)
    csv.row(results.timed[i], results.speed[i]);
  return csv.str();
}

namespace detail {

[[nodiscard]] inline std::string method_section(const HeadResults& results) {
  pages::Table table("The measures; high values speak for a head, but those of entropy.",
                     {"Measure", "What it is"}, true);
  for (const Measure& measure : kMeasures) table.row({measure.name, measure.meaning});
  return pages::section(
      "method", "Method",
      pages::paragraph(
          "One half of the texts (" + std::to_string(results.choosing) +
          ") measures the heads and chooses which to prune; the other (" +
          std::to_string(results.judging) +
          ") only says what that costs. What is lost is told by two numbers: 1 less the mean "
          "cosine "
          "between a text's vector and the whole model's, and the share of texts of which another "
          "one becomes the nearest. The gradients are those of a contrastive loss: the whole "
          "model's vector of a text is to be found among those of all texts, at a temperature of "
          "0.05.") +
          table.str());
}

[[nodiscard]] inline std::string importance_section(const HeadResults& results) {
  std::vector<pages::GridRow> rows;
  for (std::size_t m = 0; m < kMeasures.size(); ++m)
    rows.push_back({kMeasures[m].name, results.oriented_importance(m)});
  return pages::section(
      "importance", "Importance of each head",
      pages::figure("Ranks of the heads by every measure: 1 is the most important. The columns are "
                    "the heads of each layer.",
                    "<div class=\"scroll\" tabindex=\"0\">" +
                        pages::draw_rank_grid(results.layers, results.heads, rows) + "</div>\n"));
}

[[nodiscard]] inline std::string orders_section(const HeadResults& results) {
  std::vector<std::string> columns{"Order"}, names;
  for (const int level : kLevels) columns.push_back(std::to_string(level) + " % pruned");
  for (const Measure& measure : kMeasures) names.emplace_back(measure.name);
  names.emplace_back("random");
  pages::Table distance("Mean cosine to the whole model's vectors. Bold: the best at this level.",
                        columns);
  pages::Table neighbours(
      "Texts that keep their nearest neighbour, in %. Bold: the most at this level.", columns);
  std::array<double, kLevels.size()> closest{}, most{};
  closest.fill(2);
  most.fill(2);
  for (std::size_t m = 0; m < kMeasures.size(); ++m)
    for (std::size_t l = 0; l < kLevels.size(); ++l) {
      const Loss loss = results.at(kMeasures[m].name, kLevels[l]);
      closest[l] = (std::min)(closest[l], loss.distance);
      most[l] = (std::min)(most[l], loss.neighbours);
    }
  for (const std::string& name : names) {
    std::vector<std::string> row{name}, neighbours_row{name};
    std::vector<bool> marked{false}, neighbours_marked{false};
    for (std::size_t l = 0; l < kLevels.size(); ++l) {
      const Loss loss = results.at(name, kLevels[l]);
      row.push_back(fixed(1 - loss.distance, 4));
      neighbours_row.push_back(fixed(100 * (1 - loss.neighbours), 1));
      marked.push_back(loss.distance <= closest[l]);
      neighbours_marked.push_back(loss.neighbours <= most[l]);
    }
    distance.row(row, marked);
    neighbours.row(neighbours_row, neighbours_marked);
  }
  return pages::section("orders", "Pruning by each measure",
                        pages::paragraph("On the texts that choose; the heads are really cut out. "
                                         "The row \u201Crandom\u201D is the mean of " +
                                         counted(kRandomOrders, "random order") + ".") +
                            distance.str() + neighbours.str());
}

[[nodiscard]] inline std::string curve_section(const HeadResults& results) {
  using pages::Chart, pages::Series, pages::Mark;
  const auto all = static_cast<double>(results.heads.size());
  const std::string order =
      std::string("Heads pruned, in the order of ") + kMeasures[results.best].name;
  Chart distance{"", {order, 0, all, false, 12}, {"Mean cosine to the whole model's", 0, 1}};
  Chart neighbours{"", {order, 0, all, false, 12}, {"Texts that keep their neighbour (%)", 0, 100}};
  const auto add = [&](const std::string& name, const std::vector<Loss>& losses, const char* colour,
                       Mark mark) {
    Series closeness{name, colour, mark}, kept{name, colour, mark};
    for (std::size_t n = 0; n < losses.size(); ++n) {
      const std::string where = counted(n, "head") + " pruned: ";
      const double cosine = 1 - losses[n].distance, share = 1 - losses[n].neighbours;
      closeness.points.push_back({static_cast<double>(n), cosine, 0, where + fixed(cosine, 4)});
      kept.points.push_back({static_cast<double>(n), 100 * share, 0, where + percent(share, 1)});
    }
    distance.series.push_back(std::move(closeness));
    neighbours.series.push_back(std::move(kept));
  };
  add("the half that chooses", results.chosen, "c1", Mark::circle);
  add("the other half", results.judged, "c2", Mark::square);
  for (Chart* chart : {&distance, &neighbours}) {
    chart->width = 860;
    chart->labels_lines = false;
  }
  pages::Table table("What was chosen, on both halves.",
                     {"Texts", "Heads pruned", "Mean cosine", "Neighbours kept (%)"});
  for (const auto& [name, losses] :
       {std::pair{"that choose", &results.chosen}, {"of the other half", &results.judged}}) {
    const Loss& loss = (*losses)[results.count];
    table.row({name, std::to_string(results.count), fixed(1 - loss.distance, 4),
               fixed(100 * (1 - loss.neighbours), 1)});
  }
  return pages::section(
      "curve", "Head by head",
      pages::figure(
          "What is left of the vectors, by the number of heads pruned.",
          pages::legend(distance.series) +
              pages::draw(distance, "Mean cosine by heads pruned; numbers in curve.csv") +
              pages::draw(neighbours, "Neighbours kept by heads pruned; numbers in curve.csv")) +
          table.str() +
          pages::paragraph(
              "Pruned are " +
              (results.count == 0 ? std::string("none") : head_list(results, results.removed())) +
              "."));
}

[[nodiscard]] inline std::string speed_section(const HeadResults& results) {
  pages::Table table("Texts a second on one thread: medians of interleaved repetitions.",
                     {"Heads pruned", "Heads left", "Texts a second", "of the whole"});
  for (std::size_t i = 0; i < results.timed.size(); ++i)
    table.row({std::to_string(results.timed[i]),
               std::to_string(results.heads.size() - results.timed[i]), fixed(results.speed[i], 0),
               fixed(results.speed[i] / results.speed.front(), 2) + "\u00D7"});
  return pages::section("speed", "Speed", table.str());
}

}  // namespace detail

[[nodiscard]] inline std::string head_page(const HeadResults& results) {
  using namespace detail;
  const std::string title = "Which heads of the sentence encoder are important?";
  std::string body = "<header>\n<h1>" + title + "</h1>\n<p class=\"quiet\">" +
                     pages::escaped(counted(results.heads.size(), "head") + " in " +
                                    counted(results.layers.size(), "layer") + ", on " +
                                    counted(results.choosing + results.judging, "text") + ", " +
                                    fixed(results.seconds, 0) + " s.") +
                     "</p>\n<nav aria-label=\"Sections\">";
  constexpr std::array<std::array<const char*, 2>, 5> links{{{"method", "Method"},
                                                             {"importance", "Importance"},
                                                             {"orders", "Measures"},
                                                             {"curve", "Head by head"},
                                                             {"speed", "Speed"}}};
  for (const auto& [id, name] : links)
    body += std::string("<a href=\"#") + id + "\">" + name + "</a> ";
  body +=
      "</nav>\n</header>\n<main>\n<div class=\"summary\">\n" + pages::list(head_findings(results)) +
      "</div>\n" + method_section(results) + importance_section(results) + orders_section(results) +
      curve_section(results) + speed_section(results) +
      pages::section("files", "The numbers",
                     pages::paragraph("All of them are in the tables beside this page: "
                                      "importance.csv, pruning.csv, curve.csv and speed.csv.")) +
      "</main>\n";
  return pages::page(title, body);
}

}  // namespace sentences
