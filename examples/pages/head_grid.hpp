// SPDX-License-Identifier: MIT
#pragma once
// Heads as cells: their ranks by some measures.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/plot/svg.hpp>  // SvgWriter
#include <eigenheads/tensor.hpp>    // Index

#include "chart.hpp"       // in_page
#include "html.hpp"        // fixed
#include "statistics.hpp"  // ranks

namespace pages {

using eigenheads::Index;

struct Head {
  std::size_t layer;
  Index index;  // in the layer, from 0
};

namespace detail {

inline void draw_cell(SvgWriter& svg, double x, double y, double width, double height,
                      double opacity) {
  svg.leaf("rect", {{"class", "cell"},
                    {"x", x},
                    {"y", y},
                    {"width", width},
                    {"height", height},
                    {"fill-opacity", opacity}});
}
inline void draw_text(SvgWriter& svg, double x, double y, const char* anchor,
                      const std::string& text, const char* css = "tick") {
  svg.text("text", {{"class", css}, {"x", x}, {"y", y}, {"text-anchor", anchor}}, text);
}

}  // namespace detail

struct GridRow {
  std::string measure;
  std::vector<double> importance{};  // of each head; high is important
};

// One row a measure, one column a head, in the order of their layers; 1 is the most important, and the
// darkest.
[[nodiscard]] inline std::string draw_rank_grid(std::span<const std::string> layers,
                                                std::span<const Head> heads,
                                                std::span<const GridRow> rows) {
  using namespace detail;
  constexpr double left = 158, top = 44, width = 27, height = 24, gap = 10;
  const auto x_of = [&](std::size_t head) {
    return left + width * static_cast<double>(head) + gap * static_cast<double>(heads[head].layer);
  };
  const double right = x_of(heads.size() - 1) + width;
  SvgWriter svg(right + 4, top + height * static_cast<double>(rows.size()) + 4);
  svg.open("g", {{"font-size", 12.0}});
  for (std::size_t h = 0; h < heads.size(); ++h) {
    if (heads[h].index == 0) draw_text(svg, x_of(h), 14, "start", layers[heads[h].layer], "title");
    draw_text(svg, x_of(h) + width / 2, 34, "middle", std::to_string(heads[h].index + 1));
  }
  for (std::size_t m = 0; m < rows.size(); ++m) {
    const double y = top + height * static_cast<double>(m);
    draw_text(svg, left - 8, y + 16, "end", rows[m].measure, "name");
    std::vector<double> importance = rows[m].importance;
    for (double& value : importance) value = -value;
    const std::vector<double> rank = ranks(importance);
    for (std::size_t h = 0; h < rank.size(); ++h) {
      const auto count = static_cast<double>(rank.size());
      svg.open("g", {});
      svg.hover(rows[m].measure + ", " + layers[heads[h].layer] + ", head " +
                std::to_string(heads[h].index + 1) + ": rank " + fixed(rank[h], 0) + ", " +
                fixed(std::abs(importance[h]), 4));
      draw_cell(svg, x_of(h), y, width - 2, height - 2,
                0.04 + 0.56 * (count - rank[h]) / (std::max)(count - 1, 1.0));
      draw_text(svg, x_of(h) + width / 2 - 1, y + 16, "middle", fixed(rank[h], 0), "rank");
      svg.close();
    }
  }
  svg.close();
  return in_page(std::move(svg).finish(),
                 "Ranks of the heads by each measure; the values are in importance.csv");
}

}  // namespace pages
