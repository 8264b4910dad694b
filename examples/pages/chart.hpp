// SPDX-License-Identifier: MIT
#pragma once
// Lines and scattered points as SVG that stands in a page: colours come from its style sheet by
// class (c0 to c6 set `color`), so that they follow the page into the dark and onto paper. What is
// told apart by colour is told apart by the shape of its marks too.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/plot/svg.hpp>  // SvgWriter, pixels, text_width

#include "axis.hpp"  // Axis

namespace pages {

enum class Mark { none, circle, square, triangle, diamond, cross };

struct Point {
  double x, y, error = 0;  // of y, to either side
  std::string hover{};
};

struct Series {
  std::string label;
  const char* colour;  // a class
  Mark mark = Mark::circle;
  bool is_line = true, is_dashed = false;
  std::vector<Point> points{};
};

struct Chart {
  std::string title;  // above it, where there is one
  Axis x, y;
  Series band{"", "c0"};  // the area of y - error to y + error
  std::vector<Series> series{};
  double width = 640, height = 380;
  bool labels_lines = true;    // otherwise nothing says which is which
  bool labels_inside = false;  // where the lines are apart, and not at their ends
};

namespace detail {

using plot::pixels, plot::SvgWriter;

inline void draw_mark(SvgWriter& svg, Mark mark, double x, double y, double r) {
  const auto at = [&](double dx, double dy) {
    return pixels(x + dx * r) + ' ' + pixels(y + dy * r);
  };
  std::string d;
  if (mark == Mark::circle)
    return svg.leaf("circle", {{"class", "mark"}, {"cx", x}, {"cy", y}, {"r", r}});
  if (mark == Mark::square)
    d = "M" + at(-.9, -.9) + 'L' + at(.9, -.9) + 'L' + at(.9, .9) + 'L' + at(-.9, .9) + 'Z';
  if (mark == Mark::triangle) d = "M" + at(0, -1.2) + 'L' + at(1.1, .8) + 'L' + at(-1.1, .8) + 'Z';
  if (mark == Mark::diamond)
    d = "M" + at(0, -1.3) + 'L' + at(1.3, 0) + 'L' + at(0, 1.3) + 'L' + at(-1.3, 0) + 'Z';
  if (mark == Mark::cross)
    d = "M" + at(-1, -1) + 'L' + at(1, 1) + 'M' + at(1, -1) + 'L' + at(-1, 1);
  if (!d.empty()) svg.leaf("path", {{"class", mark == Mark::cross ? "line" : "mark"}, {"d", d}});
}

// Labels in the order of their heights, pushed apart until none covers another.
struct LineLabel {
  std::string text;
  const char* colour;
  double x, y, wanted;
};
inline void push_apart(std::vector<LineLabel>& labels, double low, double high, double distance) {
  std::ranges::stable_sort(labels, {}, &LineLabel::wanted);
  double free = low;
  for (LineLabel& label : labels) {
    label.y = (std::max)(label.wanted, free);
    free = label.y + distance;
  }
  double limit = high;
  for (std::size_t i = labels.size(); i-- > 0;) {
    labels[i].y = (std::min)(labels[i].y, limit);
    limit = labels[i].y - distance;
  }
}

// The last place at which the lines, of as many points each, are about as far apart as anywhere.
[[nodiscard]] inline std::size_t place_apart(const std::vector<Series>& all) {
  std::vector<double> spread;
  for (std::size_t i = 0; i < all.front().points.size(); ++i) {
    double low = HUGE_VAL, high = -HUGE_VAL;
    for (const Series& series : all) {
      low = (std::min)(low, series.points[i].y);
      high = (std::max)(high, series.points[i].y);
    }
    spread.push_back(high - low);
  }
  std::size_t place = 0;
  for (std::size_t i = 0; i < spread.size(); ++i)
    if (spread[i] >= 0.7 * *std::ranges::max_element(spread)) place = i;
  return place;
}

// The text of an SVG as an element of a page, with a name for those who cannot see it.
[[nodiscard]] inline std::string in_page(std::string svg, std::string_view name) {
  svg.erase(0, svg.find("<svg"));
  return "<svg role=\"img\" aria-label=\"" + plot::escaped(name) + '"' + svg.substr(4);
}

}  // namespace detail

// `name`: what the chart is, for those who cannot see it.
[[nodiscard]] inline std::string draw(const Chart& chart, const std::string& name) {
  using detail::pixels, detail::SvgWriter;
  using plot::text_width;
  constexpr double font = 12, left = 62, bottom = 50;
  const double top = chart.title.empty() ? 12 : 30;
  double right = 14;
  if (chart.labels_lines && !chart.labels_inside) {
    for (const Series& series : chart.series)
      right = (std::max)(right, 28 + text_width(series.label, font));
    right = (std::max)(right, 28 + text_width(chart.band.label, font));
  }
  const double wide = chart.width - left - right, high = chart.height - top - bottom;
  const auto x_of = [&](double x) { return left + wide * chart.x.at(x); };
  const auto y_of = [&](double y) { return top + high * (1 - chart.y.at(y)); };

  SvgWriter svg(chart.width, chart.height);
  svg.open("g", {{"font-size", font}});
  if (!chart.title.empty())
    svg.text("text", {{"class", "title"}, {"x", left}, {"y", 18.0}}, chart.title);
  for (const auto& tick : chart.y.ticks()) {
    const double y = y_of(tick.value);
    svg.leaf("line", {{"class", "grid"}, {"x1", left}, {"x2", left + wide}, {"y1", y}, {"y2", y}});
    svg.text("text", {{"class", "tick"}, {"x", left - 7}, {"y", y + 4}, {"text-anchor", "end"}},
             tick.text);
  }
  for (const auto& tick : chart.x.ticks()) {
    const double x = x_of(tick.value), base = top + high;
    svg.leaf("line", {{"class", "axis"}, {"x1", x}, {"x2", x}, {"y1", base}, {"y2", base + 4}});
    svg.text("text", {{"class", "tick"}, {"x", x}, {"y", base + 18}, {"text-anchor", "middle"}},
             tick.text);
  }
  svg.leaf("line", {{"class", "axis"},
                    {"x1", left},
                    {"x2", left + wide},
                    {"y1", top + high},
                    {"y2", top + high}});
  svg.text("text", {{"x", left + wide / 2}, {"y", chart.height - 10}, {"text-anchor", "middle"}},
           chart.x.title);
  svg.text("text",
           {{"transform", "translate(15 " + pixels(top + high / 2) + ") rotate(-90)"},
            {"text-anchor", "middle"}},
           chart.y.title);

  std::vector<detail::LineLabel> labels;
  const std::size_t place = chart.labels_inside ? detail::place_apart(chart.series) : 0;
  const auto label_line = [&](const Series& series) {
    if (!chart.labels_lines || series.points.empty()) return;
    const Point& point = chart.labels_inside ? series.points[place] : series.points.back();
    const double y = y_of(point.y);
    labels.push_back(
        {series.label, series.colour, chart.labels_inside ? x_of(point.x) : left + wide, y, y});
  };
  if (!chart.band.points.empty()) {
    std::string upper, lower, middle;
    for (const Point& p : chart.band.points) {
      const std::string x = pixels(x_of(p.x));
      upper += (upper.empty() ? "M" : "L") + x + ' ' + pixels(y_of(p.y + p.error));
      middle += (middle.empty() ? "M" : "L") + x + ' ' + pixels(y_of(p.y));
      lower.insert(0, "L" + x + ' ' + pixels(y_of(p.y - p.error)));
    }
    svg.open("g", {{"class", chart.band.colour}});
    svg.leaf("path", {{"class", "band"}, {"d", upper + lower + 'Z'}});
    svg.leaf("path", {{"class", "line"}, {"d", middle}, {"stroke-width", "1.5"}});
    svg.close();
    label_line(chart.band);
  }
  for (const Series& series : chart.series) {
    svg.open("g", {{"class", series.colour}});
    std::string path;
    for (const Point& p : series.points) {
      const std::string x = pixels(x_of(p.x));
      path += (path.empty() ? "M" : "L") + x + ' ' + pixels(y_of(p.y));
      if (p.error > 0)
        svg.leaf("path", {{"class", "error"},
                          {"d", "M" + x + ' ' + pixels(y_of(p.y - p.error)) + "V" +
                                    pixels(y_of(p.y + p.error))}});
    }
    if (series.is_line && !path.empty())
      svg.leaf("path", {{"class", "line"},
                        {"d", path},
                        {"stroke-dasharray", series.is_dashed ? "6 4" : "none"}});
    for (const Point& p : series.points) {
      svg.open("g", {});
      svg.hover(p.hover.empty() ? series.label : p.hover);
      detail::draw_mark(svg, series.mark, x_of(p.x), y_of(p.y), series.is_line ? 3.5 : 4);
      svg.close();
    }
    svg.close();
    label_line(series);
  }
  detail::push_apart(labels, top + 4, top + high - 4, font + 3);
  for (const detail::LineLabel& label : labels) {
    svg.open("g", {{"class", label.colour}});
    svg.leaf("path", {{"class", "leader"},
                      {"d", "M" + pixels(label.x + 5) + ' ' + pixels(label.wanted) + 'L' +
                                pixels(label.x + 20) + ' ' + pixels(label.y)}});
    svg.text("text", {{"class", "label"}, {"x", label.x + 23}, {"y", label.y + 4}}, label.text);
    svg.close();
  }
  svg.close();
  return detail::in_page(std::move(svg).finish(), name);
}

// What stands for what, for charts that do not label their lines.
[[nodiscard]] inline std::string legend(const std::vector<Series>& all) {
  std::string html = "<p class=\"legend\">";
  for (const Series& series : all) {
    detail::SvgWriter svg(30, 14);
    svg.open("g", {{"class", series.colour}});
    if (series.is_line)
      svg.leaf("path", {{"class", "line"},
                        {"d", "M1 7H29"},
                        {"stroke-dasharray", series.is_dashed ? "6 4" : "none"}});
    detail::draw_mark(svg, series.mark, 15, 7, 4);
    svg.close();
    std::string key = std::move(svg).finish();
    key.erase(0, key.find("<svg"));
    html += "<span>" + key.insert(4, " aria-hidden=\"true\"") + plot::escaped(series.label) +
            "</span> ";
  }
  return html + "</p>\n";
}

}  // namespace pages
