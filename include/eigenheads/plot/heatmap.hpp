// SPDX-License-Identifier: MIT
#pragma once
// Grids of attention weights as heat maps, in the manner of d2l.show_heatmaps (Dive into Deep
// Learning, 11.1), as plain SVG 1.1.
//   One colour scale and one colour bar for the whole grid. Every cell tells its value on hover, by
//   its own indices in the tensor: "Head 2 / query 1 'cat', key 3 'sat': 0.1234".
//   NaN is grey; infinities have the colours of the ends. The same input gives the same bytes.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <eigenheads/io/file.hpp>              // write_file
#include <eigenheads/plot/colormap.hpp>        // Palette, palette_of
#include <eigenheads/plot/heatmap_layout.hpp>  // HeatmapOptions, Layout
#include <eigenheads/plot/png.hpp>             // indexed_png, base64
#include <eigenheads/plot/scale.hpp>           // Scale, sample_of, value_text
#include <eigenheads/plot/svg.hpp>             // SvgWriter
#include <eigenheads/shape.hpp>                // require_shape
#include <eigenheads/tensor.hpp>               // TensorOfRank, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {
namespace detail::plot {

inline constexpr const char *ink = "#262626", *line_ink = "#595959";

template <Scalar T>
class HeatmapDrawing {
 public:
  HeatmapDrawing(TensorView<T, 4> matrices, const HeatmapOptions& options)
      : matrices_(matrices),
        options_(options),
        scale_(scale_of(matrices, options.minimum, options.maximum)),
        palette_(palette_of(options.colormap)),
        has_nan_(std::any_of(matrices.data(), matrices.data() + matrices.size(),
                             [](const T& x) { return sample_of(x).is_nan; })),
        layout_(matrices.dimensions(), options, scale_, has_nan_),
        svg_(layout_.width, layout_.height) {
    for (std::size_t level = 0; level < fills_.size(); ++level)
      fills_[level] = hex(palette_[level]);
  }

  [[nodiscard]] std::string draw() && {
    // Viewers with a dark page show it through wherever nothing is drawn.
    svg_.leaf("rect", {{"width", "100%"}, {"height", "100%"}, {"fill", "#ffffff"}});
    svg_.open("g",
              {{"font-family", "'Helvetica Neue', Helvetica, Arial, 'DejaVu Sans', sans-serif"},
               {"fill", ink}});
    if (!options_.title.empty())
      svg_.text("text",
                {{"class", "title"},
                 {"x", layout_.width / 2},
                 {"y", Layout::margin + title_font - 2},
                 {"font-size", title_font},
                 {"text-anchor", "middle"}},
                elided(options_.title, 60));
    for (Index row = 0; row < layout_.rows; ++row)
      for (Index column = 0; column < layout_.columns; ++column) draw_panel(row, column);
    draw_bar();
    return std::move(svg_).finish();
  }

 private:
  void draw_panel(Index row, Index column) {
    svg_.open("g",
              {{"class", "panel"},
               {"transform", translation(layout_.panel_left(column), layout_.panel_top(row))}});
    if (matrices_.size() > (std::max)(options_.max_cells, Index{0}))
      draw_image(row, column);
    else if (matrices_.size() > 0)
      draw_cells(row, column);
    // Half a pixel outside the cells, so that a line of 1 px is sharp and covers none of them.
    svg_.leaf("rect", {{"class", "frame"},
                       {"x", -0.5},
                       {"y", -0.5},
                       {"width", layout_.panel_width + 1},
                       {"height", layout_.panel_height + 1},
                       {"fill", "none"},
                       {"stroke", line_ink}});
    if (row == 0 && !options_.titles.empty())
      svg_.text("text",
                {{"class", "column-title"},
                 {"x", layout_.panel_width / 2},
                 {"y", -7.0},
                 {"font-size", column_font},
                 {"text-anchor", "middle"}},
                elided(options_.titles[static_cast<std::size_t>(column)], 60));
    if (row == layout_.rows - 1) draw_key_axis();
    if (column == 0) draw_query_axis();
    svg_.close();
  }

  void draw_cells(Index row, Index column) {
    const std::string panel = panel_name(row, column);
    svg_.open("g", {{"class", "cells"}, {"shape-rendering", "crispEdges"}});
    for (Index q = 0; q < layout_.queries; ++q) {
      const std::string query = panel + "query " + position_name(options_.query_labels, q);
      for (Index k = 0; k < layout_.keys; ++k) {
        const Sample sample = sample_of(matrices_(row, column, q, k));
        svg_.open("rect", {{"x", static_cast<double>(k) * layout_.cell_width},
                           {"y", static_cast<double>(q) * layout_.cell_height},
                           {"width", layout_.cell_width},
                           {"height", layout_.cell_height},
                           {"fill", fills_[static_cast<std::size_t>(scale_.level(sample))]}});
        svg_.hover(query + ", key " + position_name(options_.key_labels, k) + ": " +
                   value_text(sample));
        svg_.close();
      }
    }
    svg_.close();
  }

  void draw_image(Index row, Index column) {
    // Some viewers (librsvg 2.54) blur what they enlarge and know no image-rendering, so a cell is
    // two pixels for each px of the drawing. Rows that repeat cost next to nothing.
    const auto pixels_of = [](double cell) {
      return std::clamp(static_cast<Index>(2 * cell), Index{1}, Index{16});
    };
    const Index across = pixels_of(layout_.cell_width), down = pixels_of(layout_.cell_height);
    const auto width = static_cast<std::size_t>(layout_.keys * across);
    std::string scanlines;
    scanlines.reserve((width + 1) * static_cast<std::size_t>(layout_.queries * down));
    for (Index q = 0; q < layout_.queries; ++q) {
      scanlines += '\0';  // PNG's filter "None"
      for (Index k = 0; k < layout_.keys; ++k) {
        const int level = scale_.level(sample_of(matrices_(row, column, q, k)));
        scanlines.append(static_cast<std::size_t>(across), static_cast<char>(level));
      }
      for (Index copy = 1; copy < down; ++copy)
        (scanlines += '\2').append(width, '\0');  // "Up": no difference to the row above
    }
    const std::string png =
        indexed_png(static_cast<std::uint32_t>(width),
                    static_cast<std::uint32_t>(layout_.queries * down), scanlines, palette_);
    // Cells below a pixel are averaged; larger ones keep their edges ("optimizeSpeed" is SVG 1.1's
    // word for it, "pixelated" today's).
    const bool shrunk = layout_.cell_width < 1 || layout_.cell_height < 1;
    svg_.open("image",
              {{"width", layout_.panel_width},
               {"height", layout_.panel_height},
               {"preserveAspectRatio", "none"},
               {"style", shrunk ? "image-rendering:auto"
                                : "image-rendering:optimizeSpeed;image-rendering:pixelated"},
               {"xlink:href", "data:image/png;base64," + base64(png)}});
    svg_.hover(panel_name(row, column) + std::to_string(layout_.queries) + " queries, " +
               std::to_string(layout_.keys) + " keys");
    svg_.close();
  }

  void draw_key_axis() {
    const double bottom = layout_.panel_height + 1;
    std::string marks;
    svg_.open("g", {{"class", "key-ticks"},
                    {"font-size", tick_font},
                    {"text-anchor", layout_.slanted ? "end" : "middle"}});
    for (Index k = 0; k < layout_.keys; k += layout_.key_stride) {
      const double x = (static_cast<double>(k) + 0.5) * layout_.cell_width;
      marks += mark(x, bottom, 'v', tick_length);
      if (layout_.slanted) {
        const std::string turned = translation(x + 3, bottom + tick_length + 8) + " rotate(-45)";
        svg_.text("text", {{"transform", turned}}, tick_text(options_.key_labels, k));
      } else {
        svg_.text("text", {{"x", x}, {"y", bottom + tick_length + 2 + tick_font * 0.8}},
                  tick_text(options_.key_labels, k));
      }
    }
    svg_.close();
    draw_marks(marks);
    if (!options_.xlabel.empty())
      svg_.text("text",
                {{"class", "xlabel"},
                 {"x", layout_.panel_width / 2},
                 {"y", bottom + tick_length + 6 + layout_.key_label_height + label_font},
                 {"font-size", label_font},
                 {"text-anchor", "middle"}},
                options_.xlabel);
  }

  void draw_query_axis() {
    std::string marks;
    svg_.open("g", {{"class", "query-ticks"}, {"font-size", tick_font}, {"text-anchor", "end"}});
    for (Index q = 0; q < layout_.queries; q += layout_.query_stride) {
      const double y = (static_cast<double>(q) + 0.5) * layout_.cell_height;
      marks += mark(-1, y, 'h', -tick_length);
      svg_.text("text", {{"x", -tick_length - 4}, {"y", y + tick_font * 0.35}},
                tick_text(options_.query_labels, q));
    }
    svg_.close();
    draw_marks(marks);
    if (!options_.ylabel.empty()) {
      const double x = -tick_length - 4 - layout_.query_label_width - 8;
      svg_.text("text",
                {{"class", "ylabel"},
                 {"transform", translation(x, layout_.panel_height / 2) + " rotate(-90)"},
                 {"font-size", label_font},
                 {"text-anchor", "middle"}},
                options_.ylabel);
    }
  }

  void draw_bar() {
    svg_.open("g", {{"class", "colorbar"},
                    {"transform", translation(layout_.bar_left, layout_.bar_top)}});
    // Two drawings in one page that share the name share the colours too.
    const std::string gradient =
        options_.colormap == Colormap::viridis ? "eigenheads-viridis" : "eigenheads-reds";
    svg_.open("linearGradient",
              {{"id", gradient}, {"x1", "0"}, {"y1", "1"}, {"x2", "0"}, {"y2", "0"}});
    const std::span<const Rgb> anchors = anchors_of(options_.colormap);
    for (std::size_t i = 0; i < anchors.size(); ++i) {
      const double percent =
          100.0 * static_cast<double>(i) / static_cast<double>(anchors.size() - 1);
      svg_.leaf("stop", {{"offset", pixels(percent) + "%"}, {"stop-color", hex(anchors[i])}});
    }
    svg_.close();
    svg_.leaf("rect", {{"x", -0.5},
                       {"y", -0.5},
                       {"width", bar_width + 1},
                       {"height", layout_.bar_height + 1},
                       {"fill", "url(#" + gradient + ")"},
                       {"stroke", line_ink}});
    std::string marks;
    svg_.open("g", {{"font-size", tick_font}});
    for (const Tick& tick : layout_.bar_ticks) {
      const double y =
          layout_.bar_height * (scale_.maximum - tick.value) / (scale_.maximum - scale_.minimum);
      marks += mark(bar_width + 1, y, 'h', tick_length);
      draw_bar_text(y, tick.text);
    }
    if (has_nan_) {
      const double y = layout_.bar_height + 10;
      svg_.leaf("rect", {{"class", "nan"},
                         {"x", -0.5},
                         {"y", y - 0.5},
                         {"width", bar_width + 1},
                         {"height", swatch_size + 1},
                         {"fill", fills_[nan_level]},
                         {"stroke", line_ink}});
      draw_bar_text(y + swatch_size / 2, "NaN");
    }
    svg_.close();
    draw_marks(marks);
    svg_.close();
  }

  void draw_bar_text(double y, std::string_view text) {
    svg_.text("text", {{"x", bar_width + tick_length + 4}, {"y", y + tick_font * 0.35}}, text);
  }
  void draw_marks(const std::string& path) {
    if (!path.empty()) svg_.leaf("path", {{"d", path}, {"stroke", line_ink}});
  }

  // One tick mark as a part of a path: "M12 34v3".
  [[nodiscard]] static std::string mark(double x, double y, char direction, double length) {
    std::string path = "M";
    path.append(pixels(x)).append(" ").append(pixels(y));
    return path.append(1, direction).append(pixels(length));
  }
  [[nodiscard]] static std::string translation(double x, double y) {
    return "translate(" + pixels(x) + "," + pixels(y) + ")";
  }
  // "3 'sat'", or "3" of an axis without labels.
  [[nodiscard]] static std::string position_name(const std::vector<std::string>& labels, Index at) {
    if (labels.empty()) return std::to_string(at);
    return std::to_string(at) + " '" + labels[static_cast<std::size_t>(at)] + "'";
  }
  // What hover texts begin with: "Head 2 / ", "Head 2, row 1 / ", "row 1, column 0 / ", or nothing
  // for a panel that is alone.
  [[nodiscard]] std::string panel_name(Index row, Index column) const {
    const std::string row_name = "row " + std::to_string(row);
    if (!options_.titles.empty())
      return options_.titles[static_cast<std::size_t>(column)] +
             (layout_.rows > 1 ? ", " + row_name : "") + " / ";
    if (layout_.rows * layout_.columns == 1) return "";
    return row_name + ", column " + std::to_string(column) + " / ";
  }

  TensorView<T, 4> matrices_;  // [rows, columns, Q, K]
  const HeatmapOptions& options_;
  Scale scale_;
  Palette palette_;
  std::array<std::string, 256> fills_;
  bool has_nan_;
  Layout layout_;
  SvgWriter svg_;
};

}  // namespace detail::plot

// matrices: [rows, columns, Q, K], a panel for each [Q, K]; any of the four may be 0. The text of
// an SVG file. Throws std::invalid_argument if a list of strings is not as long as its axis, or
// for numbers in the options that cannot be.
template <TensorOfRank<4> Matrices>
[[nodiscard]] std::string heatmaps_svg(const Matrices& matrices,
                                       const HeatmapOptions& options = {}) {
  using T = element_of<Matrices>;
  static_assert(Scalar<T>, "heatmaps_svg takes matrices of float or double.");
  const TensorView<T, 4> view(matrices);
  require_shape("matrices", view, "[rows, columns, Q, K]",
                {any_size, any_size, any_size, any_size});
  return detail::plot::HeatmapDrawing<T>(view, options).draw();
}

// Writes heatmaps_svg to a file; by custom its name ends in ".svg". Throws FileError if it cannot
// be written, and then leaves what was there.
template <TensorOfRank<4> Matrices>
void write_heatmaps(const std::filesystem::path& path, const Matrices& matrices,
                    const HeatmapOptions& options = {}) {
  write_file(path, heatmaps_svg(matrices, options));
}

}  // namespace eigenheads::inline EIGENHEADS_ABI
