// SPDX-License-Identifier: MIT
#pragma once
// Grids of attention weights as heat maps, in the manner of d2l.show_heatmaps (Dive into Deep
// Learning, 11.1), as plain SVG 1.1.
//   One colour scale and one colour bar for the whole grid. Every cell tells its value on hover, by
//   its own indices in the tensor: "Head 2 / query 1 'cat', key 3 'sat': 0.1234".
//   Cells narrower than a px share one, which shows the greatest of them and names it on hover.
//   NaN is grey; infinities have the colours of the ends. The same input gives the same bytes.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/io/file.hpp>              // write_file
#include <eigenheads/plot/colormap.hpp>        // Palette, palette_of
#include <eigenheads/plot/heatmap_axes.hpp>    // draw_key_axis, draw_query_axis, draw_bar
#include <eigenheads/plot/heatmap_layout.hpp>  // HeatmapOptions, Layout
#include <eigenheads/plot/png.hpp>             // indexed_png, base64
#include <eigenheads/plot/scale.hpp>           // Scale, sample_of, value_text
#include <eigenheads/plot/svg.hpp>             // SvgWriter
#include <eigenheads/plot/text.hpp>            // elided, isolated
#include <eigenheads/shape.hpp>                // require_shape
#include <eigenheads/tensor.hpp>               // TensorOfRank, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {
namespace detail::plot {

inline constexpr const char* ink = "#262626";

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
                isolated(elided(options_.title, 60)));
    for (Index row = 0; row < layout_.rows; ++row)
      for (Index column = 0; column < layout_.columns; ++column) draw_panel(row, column);
    draw_bar(svg_, layout_, scale_, options_.colormap, has_nan_ ? fills_[nan_level] : "");
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
                isolated(elided(options_.titles[static_cast<std::size_t>(column)], 60)));
    if (row == layout_.rows - 1) draw_key_axis(svg_, layout_, options_);
    if (column == 0) draw_query_axis(svg_, layout_, options_);
    svg_.close();
  }

  void draw_cells(Index row, Index column) {
    const std::string panel = panel_name(row, column);
    svg_.open("g", {{"class", "cells"}, {"shape-rendering", "crispEdges"}});
    for (Index j = 0; j < layout_.query_steps.drawn; ++j)
      for (Index i = 0; i < layout_.key_steps.drawn; ++i) {
        const Shown shown = shown_at(row, column, j, i);
        svg_.open("rect", {{"x", static_cast<double>(i) * layout_.key_steps.side},
                           {"y", static_cast<double>(j) * layout_.query_steps.side},
                           {"width", layout_.key_steps.side},
                           {"height", layout_.query_steps.side},
                           {"fill", fills_[static_cast<std::size_t>(scale_.level(shown.sample))]}});
        svg_.hover(panel + "query " + position_name(options_.query_labels, shown.query) + ", key " +
                   position_name(options_.key_labels, shown.key) + ": " + value_text(shown.sample) +
                   share_of(shown.sample, j, i));
        svg_.close();
      }
    svg_.close();
  }

  void draw_image(Index row, Index column) {
    // Some viewers (librsvg 2.54) blur what they enlarge and know no image-rendering, so a cell is
    // two pixels for each px of the drawing. Rows that repeat cost next to nothing.
    const auto pixels_of = [](const Steps& steps) {
      return steps.is_shrunk()
                 ? 1
                 : std::clamp(static_cast<Index>(2 * steps.side), Index{1}, Index{16});
    };
    const Steps &keys = layout_.key_steps, &queries = layout_.query_steps;
    const Index across = pixels_of(keys), down = pixels_of(queries);
    const auto width = static_cast<std::size_t>(keys.drawn * across);
    std::string scanlines;
    scanlines.reserve((width + 1) * static_cast<std::size_t>(queries.drawn * down));
    for (Index j = 0; j < queries.drawn; ++j) {
      scanlines += '\0';  // PNG's filter "None"
      for (Index i = 0; i < keys.drawn; ++i) {
        const int level = scale_.level(shown_at(row, column, j, i).sample);
        scanlines.append(static_cast<std::size_t>(across), static_cast<char>(level));
      }
      for (Index copy = 1; copy < down; ++copy)
        (scanlines += '\2').append(width, '\0');  // "Up": no difference to the row above
    }
    const std::string png =
        indexed_png(static_cast<std::uint32_t>(width),
                    static_cast<std::uint32_t>(queries.drawn * down), scanlines, palette_);
    // Pixels that are the px of the drawing are averaged where a viewer shrinks them further; cells
    // that are larger keep their edges ("optimizeSpeed" is SVG 1.1's word for it, "pixelated"
    // today's).
    const bool is_shrunk = keys.is_shrunk() || queries.is_shrunk();
    svg_.open("image",
              {{"width", layout_.panel_width},
               {"height", layout_.panel_height},
               {"preserveAspectRatio", "none"},
               {"style", is_shrunk ? "image-rendering:auto"
                                   : "image-rendering:optimizeSpeed;image-rendering:pixelated"},
               {"xlink:href", "data:image/png;base64," + base64(png)}});
    svg_.hover(panel_name(row, column) + std::to_string(layout_.queries) + " queries, " +
               std::to_string(layout_.keys) + " keys");
    svg_.close();
  }

  // What stands for all cells in a step of the queries and one of the keys: NaN, or the greatest,
  // of several the first.
  struct Shown {
    Sample sample;
    Index query, key;
  };
  [[nodiscard]] Shown shown_at(Index row, Index column, Index query_step, Index key_step) const {
    const auto [first_query, last_query] = layout_.query_steps.cells(query_step);
    const auto [first_key, last_key] = layout_.key_steps.cells(key_step);
    Shown shown{sample_of(matrices_(row, column, first_query, first_key)), first_query, first_key};
    for (Index q = first_query; q <= last_query; ++q)
      for (Index k = first_key; k <= last_key && !shown.sample.is_nan; ++k) {
        const Sample sample = sample_of(matrices_(row, column, q, k));
        if (sample.is_nan || sample.value > shown.sample.value) shown = {sample, q, k};
      }
    return shown;
  }

  // " (the greatest of keys 6 to 11)", where a step has more than one cell.
  [[nodiscard]] std::string share_of(const Sample& sample, Index query_step, Index key_step) const {
    const auto range = [](const char* axis, const Steps& steps, Index step) -> std::string {
      const auto [first, last] = steps.cells(step);
      if (first == last) return "";
      return axis + std::to_string(first) + " to " + std::to_string(last);
    };
    const std::string queries = range("queries ", layout_.query_steps, query_step);
    const std::string keys = range("keys ", layout_.key_steps, key_step);
    if (queries.empty() && keys.empty()) return "";
    return (sample.is_nan ? " (one of " : " (the greatest of ") + queries +
           (queries.empty() || keys.empty() ? "" : ", ") + keys + ")";
  }

  // Every cell repeats it, so that it may not be as long as a caller likes.
  [[nodiscard]] static std::string hover_name(std::string_view utf8) {
    return isolated(elided(utf8, 200));
  }
  // "3 'sat'", or "3" of an axis without labels.
  [[nodiscard]] static std::string position_name(const std::vector<std::string>& labels, Index at) {
    if (labels.empty()) return std::to_string(at);
    return std::to_string(at) + " '" + hover_name(labels[static_cast<std::size_t>(at)]) + "'";
  }
  // What hover texts begin with: "Head 2 / ", "Head 2, row 1 / ", "row 1, column 0 / ", or nothing
  // for a panel that is alone.
  [[nodiscard]] std::string panel_name(Index row, Index column) const {
    const std::string row_name = "row " + std::to_string(row);
    if (!options_.titles.empty())
      return hover_name(options_.titles[static_cast<std::size_t>(column)]) +
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
// for invalid numbers in the options.
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

#include <eigenheads/detail/macros_on.inl>
