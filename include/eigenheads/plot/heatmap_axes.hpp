// SPDX-License-Identifier: MIT
#pragma once
// What stands around the panels of a grid of heat maps: ticks and labels, and the colour bar.
#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/plot/colormap.hpp>        // Colormap, anchors_of, hex
#include <eigenheads/plot/heatmap_layout.hpp>  // HeatmapOptions, Layout, tick_text
#include <eigenheads/plot/scale.hpp>           // Scale
#include <eigenheads/plot/svg.hpp>             // SvgWriter, pixels
#include <eigenheads/plot/text.hpp>            // isolated
#include <eigenheads/plot/ticks.hpp>           // Tick
#include <eigenheads/tensor.hpp>               // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail::plot {

inline constexpr const char* line_ink = "#595959";

inline void draw_bar_text(SvgWriter& svg, double y, std::string_view text) {
  svg.text("text", {{"x", bar_width + tick_length + 4}, {"y", y + tick_font * 0.35}}, text);
}
inline void draw_marks(SvgWriter& svg, const std::string& path) {
  if (!path.empty()) svg.leaf("path", {{"d", path}, {"stroke", line_ink}});
}

// One tick mark as a part of a path: "M12 34v3".
[[nodiscard]] inline std::string mark(double x, double y, char direction, double length) {
  std::string path = "M";
  path.append(pixels(x)).append(" ").append(pixels(y));
  return path.append(1, direction).append(pixels(length));
}
[[nodiscard]] inline std::string translation(double x, double y) {
  return "translate(" + pixels(x) + "," + pixels(y) + ")";
}

inline void draw_key_axis(SvgWriter& svg, const Layout& layout, const HeatmapOptions& options) {
  const double bottom = layout.panel_height + 1;
  std::string marks;
  svg.open("g", {{"class", "key-ticks"},
                 {"font-size", tick_font},
                 {"text-anchor", layout.slanted ? "end" : "middle"}});
  for (Index k = 0; k < layout.keys; k += layout.key_stride) {
    const double x = (static_cast<double>(k) + 0.5) * layout.cell_width;
    marks += mark(x, bottom, 'v', tick_length);
    if (layout.slanted) {
      const std::string turned = translation(x + 3, bottom + tick_length + 8) + " rotate(-45)";
      svg.text("text", {{"transform", turned}}, tick_text(options.key_labels, k));
    } else {
      svg.text("text", {{"x", x}, {"y", bottom + tick_length + 2 + tick_font * 0.8}},
               tick_text(options.key_labels, k));
    }
  }
  svg.close();
  draw_marks(svg, marks);
  if (!options.xlabel.empty())
    svg.text("text",
             {{"class", "xlabel"},
              {"x", layout.panel_width / 2},
              {"y", bottom + tick_length + 6 + layout.key_label_height + label_font},
              {"font-size", label_font},
              {"text-anchor", "middle"}},
             isolated(options.xlabel));
}

inline void draw_query_axis(SvgWriter& svg, const Layout& layout, const HeatmapOptions& options) {
  std::string marks;
  svg.open("g", {{"class", "query-ticks"}, {"font-size", tick_font}, {"text-anchor", "end"}});
  for (Index q = 0; q < layout.queries; q += layout.query_stride) {
    const double y = (static_cast<double>(q) + 0.5) * layout.cell_height;
    marks += mark(-1, y, 'h', -tick_length);
    svg.text("text", {{"x", -tick_length - 4}, {"y", y + tick_font * 0.35}},
             tick_text(options.query_labels, q));
  }
  svg.close();
  draw_marks(svg, marks);
  if (!options.ylabel.empty()) {
    const double x = -tick_length - 4 - layout.query_label_width - 8;
    svg.text("text",
             {{"class", "ylabel"},
              {"transform", translation(x, layout.panel_height / 2) + " rotate(-90)"},
              {"font-size", label_font},
              {"text-anchor", "middle"}},
             isolated(options.ylabel));
  }
}

// nan: the colour of NaN; empty: there is none.
inline void draw_bar(SvgWriter& svg, const Layout& layout, const Scale& scale, Colormap colormap,
                     const std::string& nan) {
  svg.open("g",
           {{"class", "colorbar"}, {"transform", translation(layout.bar_left, layout.bar_top)}});
  // Two drawings in one page that share the name share the colours too.
  const std::string gradient =
      colormap == Colormap::viridis ? "eigenheads-viridis" : "eigenheads-reds";
  svg.open("linearGradient",
           {{"id", gradient}, {"x1", "0"}, {"y1", "1"}, {"x2", "0"}, {"y2", "0"}});
  const std::span<const Rgb> anchors = anchors_of(colormap);
  for (std::size_t i = 0; i < anchors.size(); ++i) {
    const double percent = 100.0 * static_cast<double>(i) / static_cast<double>(anchors.size() - 1);
    svg.leaf("stop", {{"offset", pixels(percent) + "%"}, {"stop-color", hex(anchors[i])}});
  }
  svg.close();
  svg.leaf("rect", {{"x", -0.5},
                    {"y", -0.5},
                    {"width", bar_width + 1},
                    {"height", layout.bar_height + 1},
                    {"fill", "url(#" + gradient + ")"},
                    {"stroke", line_ink}});
  std::string marks;
  svg.open("g", {{"font-size", tick_font}});
  for (const Tick& tick : layout.bar_ticks) {
    const double y =
        layout.bar_height * (scale.maximum - tick.value) / (scale.maximum - scale.minimum);
    marks += mark(bar_width + 1, y, 'h', tick_length);
    draw_bar_text(svg, y, tick.text);
  }
  if (!nan.empty()) {
    const double y = layout.bar_height + 10;
    svg.leaf("rect", {{"class", "nan"},
                      {"x", -0.5},
                      {"y", y - 0.5},
                      {"width", bar_width + 1},
                      {"height", swatch_size + 1},
                      {"fill", nan},
                      {"stroke", line_ink}});
    draw_bar_text(svg, y + swatch_size / 2, "NaN");
  }
  svg.close();
  draw_marks(svg, marks);
  svg.close();
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail::plot

#include <eigenheads/detail/macros_on.inl>
