// SPDX-License-Identifier: MIT
#pragma once
// Rows as bars: how much of what the machine can do each implementation reaches.
#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include <eigenheads/plot/svg.hpp>  // SvgWriter, text_width

#include "rows.hpp"

namespace bench {

[[nodiscard]] inline std::string bars(const Rows& all, const std::string& scalar, int threads) {
  using eigenheads::plot::SvgWriter;
  using eigenheads::plot::text_width;
  constexpr double font = 12, bar = 11, gap = 12, margin = 16, scale_width = 520, top = 78;
  // The library in a strong colour; who it is measured against in quiet ones.
  constexpr std::array colours{"#d1495b", "#9aa5b1", "#30638e", "#66a182", "#edae49", "#7d5ba6"};
  const auto colour_of = [&](std::size_t i) { return colours[(std::min)(i, colours.size() - 1)]; };

  std::vector<const Row*> rows;
  double label_width = 0, height = top;
  for (const Row& row : all.rows) {
    if (row.what().scalar != scalar || row.what().threads != threads) continue;
    rows.push_back(&row);
    label_width = (std::max)(label_width, text_width(row.what().work, font));
    height += static_cast<double>(row.summaries.size()) * bar + gap;
  }
  const double left = margin + label_width + 8;

  SvgWriter svg(left + scale_width + 60, height + margin);
  svg.leaf("rect", {{"width", "100%"}, {"height", "100%"}, {"fill", "#ffffff"}});
  svg.open(
      "g",
      {{"font-family", "Helvetica, Arial, sans-serif"}, {"font-size", font}, {"fill", "#222222"}});
  svg.text("text", {{"x", margin}, {"y", 24.0}, {"font-size", 15.0}, {"font-weight", "bold"}},
           "Share of the multiply-add peak (decode: of read bandwidth), " + scalar + ", " +
               std::to_string(threads) + (threads == 1 ? " thread" : " threads"));

  double x = margin;
  for (std::size_t i = 0; i < all.implementations.size(); ++i) {
    svg.leaf("rect",
             {{"x", x}, {"y", 38.0}, {"width", 12.0}, {"height", 12.0}, {"fill", colour_of(i)}});
    svg.text("text", {{"x", x + 17}, {"y", 48.0}}, all.implementations[i]);
    x += 17 + text_width(all.implementations[i], font) + 16;
  }
  for (const double share : {0.0, 0.25, 0.5, 0.75, 1.0}) {
    const double at = left + share * scale_width;
    svg.leaf("line",
             {{"x1", at}, {"x2", at}, {"y1", top - 6}, {"y2", height}, {"stroke", "#dddddd"}});
    svg.text("text", {{"x", at}, {"y", top - 10}, {"text-anchor", "middle"}, {"fill", "#777777"}},
             std::to_string(static_cast<int>(100 * share)) + " %");
  }

  double y = top;
  for (const Row* row : rows) {
    const double group = static_cast<double>(row->summaries.size()) * bar;
    svg.text("text", {{"x", left - 8}, {"y", y + group / 2 + 4}, {"text-anchor", "end"}},
             row->what().work);
    for (std::size_t i = 0; i < all.implementations.size(); ++i) {
      const Summary* s = row->of(all.implementations[i]);
      if (s == nullptr) continue;
      const double width = (std::min)(s->share(), 1.05) * scale_width;
      svg.open("g", {});
      svg.hover(all.implementations[i] + ": " + time_text(*s) + " ms, " + rate_text(*s));
      svg.leaf(
          "rect",
          {{"x", left}, {"y", y}, {"width", width}, {"height", bar - 1}, {"fill", colour_of(i)}});
      svg.text("text", {{"x", left + width + 4}, {"y", y + bar - 2}, {"font-size", 9.0}},
               share_text(s->share()));
      svg.close();
      y += bar;
    }
    y += gap;
  }
  return std::move(svg).finish();
}

}  // namespace bench
