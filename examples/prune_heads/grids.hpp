// SPDX-License-Identifier: MIT
#pragma once
// Heads as cells: their ranks by every measure, and which of them each order keeps at each level.
#include <algorithm>
#include <cstddef>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/plot/svg.hpp>  // SvgWriter

#include "analysis.hpp"  // head_name
#include "pages.hpp"     // in_page, fixed
#include "results.hpp"   // Results

namespace pruning {

// One row a measure, one column a head; 1 is the most important, and the darkest.
[[nodiscard]] inline std::string rank_grid(const Results& results) {
  std::vector<GridRow> rows;
  for (std::size_t m = 0; m < kMeasures.size(); ++m)
    rows.push_back({kMeasures[m].name, results.oriented_importance(m)});
  return draw_rank_grid(results.layers, results.heads, rows);
}

// A grid of layers by heads for each order and level. A cell is the fuller the more of the splits
// (or random orders) keep its head.
[[nodiscard]] inline std::string kept_grids(const Results& results) {
  using namespace detail;
  constexpr double left = 158, top = 44, cell = 12, gap = 14;
  Index most = 0;
  for (const Head& head : results.heads) most = (std::max)(most, head.index + 1);
  const double wide = cell * static_cast<double>(most);
  const double high = cell * static_cast<double>(results.layers.size());
  std::vector<std::string> orders{"oracle"};
  for (const Measure& measure : kMeasures) orders.emplace_back(measure.name);
  orders.emplace_back("random");
  SvgWriter svg(left + (wide + gap) * kLevels.size(),
                top + (high + gap) * static_cast<double>(orders.size()));
  svg.open("g", {{"font-size", 12.0}});
  for (std::size_t column = 0; column < kLevels.size(); ++column) {
    const double x = left + (wide + gap) * static_cast<double>(column);
    draw_text(svg, x, 14, "start", std::to_string(kLevels[column]) + " % pruned", "title");
    draw_text(
        svg, x, 32, "start",
        std::to_string(results.heads.size() - results.count_at(kLevels[column])) + " heads left");
    for (std::size_t row = 0; row < orders.size(); ++row) {
      const double y = top + (high + gap) * static_cast<double>(row);
      if (column == 0) draw_text(svg, left - 10, y + high / 2 + 4, "end", orders[row], "name");
      std::vector<double> gone(results.heads.size());
      double all = 0;
      for (const Candidate& c : results.candidates)
        if (c.order == orders[row] && c.level == kLevels[column]) {
          ++all;
          for (const std::size_t h : c.removed) ++gone[h];
        }
      for (std::size_t h = 0; h < gone.size(); ++h) {
        const double at_x = x + cell * static_cast<double>(results.heads[h].index);
        const double at_y = y + cell * static_cast<double>(results.heads[h].layer);
        svg.open("g", {});
        svg.hover(head_name(results, h) + ": kept by " + fixed(all - gone[h], 0) + " of " +
                  fixed(all, 0));
        svg.leaf("rect", {{"class", "frame"},
                          {"x", at_x + 0.5},
                          {"y", at_y + 0.5},
                          {"width", cell - 2},
                          {"height", cell - 2}});
        if (gone[h] < all)
          draw_cell(svg, at_x + 1, at_y + 1, cell - 3, cell - 3, 1 - gone[h] / all);
        svg.close();
      }
    }
  }
  svg.close();
  return in_page(std::move(svg).finish(),
                 "Which heads each order keeps at each level; the lists are in candidates.csv");
}

// The correlation of measures with each other.
[[nodiscard]] inline std::string correlation_grid(const Results& results) {
  using namespace detail;
  constexpr double left = 158, top = 112, width = 48, height = 26;
  const auto count = static_cast<double>(kMeasures.size());
  SvgWriter svg(left + width * count + 70, top + height * count + 4);
  svg.open("g", {{"font-size", 12.0}});
  for (std::size_t m = 0; m < kMeasures.size(); ++m) {
    const double at = static_cast<double>(m);
    draw_text(svg, left - 8, top + height * at + 17, "end", kMeasures[m].name, "name");
    svg.text("text",
             {{"class", "name"},
              {"transform", "translate(" + pixels(left + width * at + width / 2 + 2) + ' ' +
                                pixels(top - 8) + ") rotate(-40)"}},
             kMeasures[m].name);
    for (std::size_t k = 0; k < kMeasures.size(); ++k) {
      const auto rho = spearman(results.oriented_importance(m), results.oriented_importance(k));
      const double x = left + width * static_cast<double>(k), y = top + height * at;
      svg.open("g", {});
      svg.hover(std::string(kMeasures[m].name) + " and " + kMeasures[k].name);
      draw_cell(svg, x, y, width - 2, height - 2, rho && *rho > 0 ? 0.6 * *rho : 0.02);
      draw_text(svg, x + width / 2 - 1, y + 17, "middle", rho ? fixed(*rho, 2) : "\u2013", "rank");
      svg.close();
    }
  }
  svg.close();
  return in_page(std::move(svg).finish(),
                 "Correlation of the measures' ranks; the values are in rank_correlation.csv");
}

}  // namespace pruning
