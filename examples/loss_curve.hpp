// SPDX-License-Identifier: MIT
#pragma once
// The loss of every step as a picture: each step, their running mean, and a logarithmic axis; as points,
// the loss on something else after some of the steps.
#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/plot/svg.hpp>  // SvgWriter, pixels

struct LossAt {
  std::size_t step = 0;
  double loss = 0;
};

[[nodiscard]] inline std::string loss_curve(const std::vector<double>& losses,
                                            const std::string& title,
                                            const std::vector<LossAt>& points = {}) {
  using eigenheads::plot::pixels, eigenheads::plot::SvgWriter;
  constexpr double width = 720, height = 360, left = 56, right = 16, top = 40, bottom = 40;
  std::vector<double> all = losses;
  for (const LossAt& point : points) all.push_back(point.loss);
  const auto [least, most] = std::ranges::minmax_element(all);
  const double low = all.empty() ? -4 : std::floor(std::log10((std::max)(*least, 1e-6)));
  const double high = all.empty() ? 1 : std::ceil(std::log10((std::max)(*most, 1e-6)) + 1e-9);
  const double steps = static_cast<double>((std::max)(losses.size(), std::size_t{2}) - 1);
  const auto x_of = [&](double step) { return left + (width - left - right) * step / steps; };
  const auto y_of = [&](double loss) {
    const double at = (std::log10((std::max)(loss, 1e-6)) - low) / (high - low);
    return height - bottom - (height - top - bottom) * at;
  };

  SvgWriter svg(width, height);
  svg.leaf("rect", {{"width", "100%"}, {"height", "100%"}, {"fill", "#ffffff"}});
  svg.open(
      "g",
      {{"font-family", "Helvetica, Arial, sans-serif"}, {"font-size", 12.0}, {"fill", "#222222"}});
  svg.text("text", {{"x", left}, {"y", 24.0}, {"font-size", 15.0}, {"font-weight", "bold"}}, title);
  for (double power = low; power <= high; ++power) {
    const double y = y_of(std::pow(10.0, power));
    svg.leaf("line",
             {{"x1", left}, {"x2", width - right}, {"y1", y}, {"y2", y}, {"stroke", "#dddddd"}});
    svg.text("text", {{"x", left - 8}, {"y", y + 4}, {"text-anchor", "end"}, {"fill", "#777777"}},
             "1e" + std::to_string(static_cast<int>(power)));
  }
  for (int part = 0; part <= 4; ++part)
    svg.text(
        "text",
        {{"x", x_of(steps * part / 4)},
         {"y", height - bottom + 20},
         {"text-anchor", part == 4 ? "end" : "middle"},
         {"fill", "#777777"}},
        std::to_string(static_cast<long>(steps * part / 4 + 0.5)) + (part == 4 ? " steps" : ""));

  // At most a point a pixel: the mean of the steps that fall on it.
  const std::size_t columns = (std::min)(losses.size(), static_cast<std::size_t>(width));
  std::string each, smooth;
  double mean = losses.empty() ? 0 : losses.front();
  for (std::size_t point = 0; point < columns; ++point) {
    const std::size_t begin = point * losses.size() / columns;
    const std::size_t end = (point + 1) * losses.size() / columns;
    double sum = 0;
    for (std::size_t i = begin; i < end; ++i) {
      sum += losses[i];
      mean += (losses[i] - mean) / 100;
    }
    const std::string x = pixels(x_of(static_cast<double>(end - 1)));
    const char* move = point == 0 ? "M" : "L";
    each += move + x + ' ' + pixels(y_of(sum / static_cast<double>(end - begin)));
    smooth += move + x + ' ' + pixels(y_of(mean));
  }
  const auto draw = [&](const std::string& path, const char* colour, double line_width) {
    if (!path.empty())
      svg.leaf("path",
               {{"d", path}, {"fill", "none"}, {"stroke", colour}, {"stroke-width", line_width}});
  };
  draw(each, "#f2b5bc", 1);
  draw(smooth, "#d1495b", 2);
  for (const LossAt& point : points)
    svg.leaf("circle", {{"cx", x_of(static_cast<double>(point.step))},
                        {"cy", y_of(point.loss)},
                        {"r", 3.0},
                        {"fill", "#2e6f95"}});
  svg.close();
  return std::move(svg).finish();
}
