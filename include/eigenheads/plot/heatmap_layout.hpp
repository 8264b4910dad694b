// SPDX-License-Identifier: MIT
#pragma once
// The options of a grid of heat maps, and where everything of it goes. All lengths are in px.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>          // refuse
#include <eigenheads/plot/colormap.hpp>  // Colormap
#include <eigenheads/plot/scale.hpp>     // Scale, require_end
#include <eigenheads/plot/svg.hpp>       // text_width
#include <eigenheads/plot/text.hpp>      // elided, isolated
#include <eigenheads/plot/ticks.hpp>     // Tick, value_ticks, round_stride
#include <eigenheads/tensor.hpp>         // Index

namespace eigenheads::inline EIGENHEADS_ABI {

// Strings are UTF-8. Labels are elided in the drawing after 24 characters, titles after 60, and
// both after 200 in hover texts.
struct HeatmapOptions {
  std::string title = {};                      // above the figure
  std::vector<std::string> titles = {};        // one above each column; empty: none
  std::string xlabel = "Key positions";        // below the panels of the last row
  std::string ylabel = "Query positions";      // left of the panels of the first column
  std::vector<std::string> key_labels = {};    // K tokens; empty: the positions 0, 1, 2, ...
  std::vector<std::string> query_labels = {};  // Q tokens; empty: the positions
  Colormap colormap = Colormap::reds;
  std::optional<double> minimum = {};     // the low end of the scale; none: the least value
  std::optional<double> maximum = {};     // the high end; none: the greatest
  std::optional<double> panel_size = {};  // the longer side of a panel; none: what suits the grid
  Index max_cells = 20'000;  // with more cells in all, each panel is an image, without hover values
};

namespace detail::plot {

inline constexpr double title_font = 14, column_font = 12, label_font = 11, tick_font = 10;
inline constexpr double tick_length = 3, bar_width = 10, swatch_size = 10;
inline constexpr double slant = 0.70710678118654752;  // of key labels that do not fit: sin 45 deg

[[nodiscard]] inline std::string tick_text(const std::vector<std::string>& labels, Index position) {
  if (labels.empty()) return std::to_string(position);
  return isolated(elided(labels[static_cast<std::size_t>(position)], 24));
}

[[nodiscard]] inline double tick_width(const std::vector<std::string>& labels, Index position) {
  return text_width(tick_text(labels, position), tick_font);
}

// The positions count up, so the last of them is the widest.
[[nodiscard]] inline double widest_tick(const std::vector<std::string>& labels, Index count) {
  double widest = 0;
  for (Index at = labels.empty() ? count - 1 : 0; at < count; ++at)
    widest = (std::max)(widest, tick_width(labels, at));
  return widest;
}

inline void require_count(std::string_view name, const std::vector<std::string>& strings,
                          std::string_view axis, Index expected) {
  if (!strings.empty() && static_cast<Index>(strings.size()) != expected)
    refuse({name, " has ", strings.size(), " strings; expected [", axis, "] = [", expected,
            "], or none"});
}

// The cells of one axis of a panel as they are drawn: each for itself, or, where it would be
// narrower than a px, all that begin within a px as one.
struct Steps {
  Index count = 0, drawn = 0;
  double side = 0;  // of one that is drawn

  [[nodiscard]] bool is_shrunk() const { return drawn < count; }
  // The first and the last cell of a step.
  struct Range {
    Index first, last;
  };
  [[nodiscard]] Range cells(Index step) const {
    if (!is_shrunk()) return {step, step};
    const auto first = [&](Index i) {  // without the product, which may be too large
      return count / drawn * i + count % drawn * i / drawn;
    };
    return {first(step), first(step + 1) - 1};
  }
};

struct Layout {
  Index rows, columns, queries, keys;
  double cell_width, cell_height, panel_width, panel_height;
  Steps key_steps, query_steps;
  double slot_width, slot_height;  // a panel and what is centred on it: its titles and labels
  double left, top;                // of the first slot
  double grid_width, grid_height;
  bool slanted;                    // key labels
  Index key_stride, query_stride;  // from one tick to the next
  double key_label_height, query_label_width, axis_height;
  double bar_left, bar_top, bar_height;
  std::vector<Tick> bar_ticks;
  double width, height;

  static constexpr double gap = 14, margin = 12;

  // Whole px, so that what is a px wide is one pixel.
  [[nodiscard]] double panel_left(Index column) const {
    return std::round(left + static_cast<double>(column) * (slot_width + gap) +
                      (slot_width - panel_width) / 2);
  }
  [[nodiscard]] double panel_top(Index row) const {
    return std::round(top + static_cast<double>(row) * (slot_height + gap) +
                      (slot_height - panel_height) / 2);
  }

  // An empty grid is laid out as one panel, and a panel without cells is a thin frame.
  Layout(const std::array<Index, 4>& shape, const HeatmapOptions& options, const Scale& scale,
         bool has_nan)
      : rows((std::max)(shape[0], Index{1})),
        columns((std::max)(shape[1], Index{1})),
        queries(shape[2]),
        keys(shape[3]) {
    require_count("titles", options.titles, "columns", shape[1]);
    require_count("key_labels", options.key_labels, "K", keys);
    require_count("query_labels", options.query_labels, "Q", queries);
    require_panel_size(options.panel_size);
    place_cells(options);
    place_labels(options);
    place_bar(scale, has_nan);
    const double title_width = text_width(elided(options.title, 60), title_font);
    width = std::ceil((std::max)(width, title_width + 2 * margin));
  }

 private:
  static void require_panel_size(const std::optional<double>& size) {
    require_end("panel_size", size);
    if (size && !(*size >= 1 && *size <= 10'000))
      refuse({"panel_size is ", value_text(sample_of(*size)), "; expected 1 to 10000 px"});
  }

  // Cells are square, unless the shorter side of a panel would then be too thin to see.
  void place_cells(const HeatmapOptions& options) {
    const auto longest = static_cast<double>((std::max)({queries, keys, Index{1}}));
    double cell = options.panel_size.value_or(0) / longest;
    if (!options.panel_size) {
      double side = std::clamp(720.0 / static_cast<double>(columns), 140.0, 280.0);
      side = (std::max)(side, (std::min)(longest, 512.0));  // a pixel for each cell
      if (!(options.key_labels.empty() && options.query_labels.empty()) && longest <= 64)
        side = (std::max)(side, 16 * longest);  // a line of text for each cell
      cell = (std::min)(side / longest, 40.0);
      if (cell > 1) cell = std::round(cell);  // whole pixels, so that all look alike
    }
    const double thinnest = (std::min)(24.0, cell * longest);
    const auto place = [&](Index count, double& cell_side, double& panel_side) {
      panel_side = (std::max)(cell * static_cast<double>(count), thinnest);
      Steps steps{count, count, 0};
      if (panel_side < static_cast<double>(count)) {
        panel_side = std::floor(panel_side + 1e-6);  // of a product that was rounded
        steps.drawn = static_cast<Index>(panel_side);
      }
      cell_side = count == 0 ? 0 : panel_side / static_cast<double>(count);
      steps.side = steps.is_shrunk() ? 1 : cell_side;
      return steps;
    };
    key_steps = place(keys, cell_width, panel_width);
    query_steps = place(queries, cell_height, panel_height);
  }

  // Cells from tick to tick, for texts that take `length` px: any number of tokens, but of
  // positions a round one.
  static Index stride(double length, double cell, bool named) {
    if (!(cell > 0)) return 1;  // an empty axis
    if (!named) return round_stride(length / cell);
    return (std::max)(static_cast<Index>(std::ceil(length / cell)), Index{1});
  }

  void place_labels(const HeatmapOptions& options) {
    const double widest_key = widest_tick(options.key_labels, keys);
    slanted = !options.key_labels.empty() && widest_key + 6 > cell_width;
    key_label_height = slanted ? slant * (widest_key + tick_font) : tick_font;
    query_label_width = widest_tick(options.query_labels, queries);
    const bool keys_named = !options.key_labels.empty();
    key_stride = stride(keys_named ? (slanted ? 14 : 0) : widest_key + 8, cell_width, keys_named);
    const bool queries_named = !options.query_labels.empty();
    query_stride = stride(queries_named ? 12 : 22, cell_height, queries_named);

    slot_width = (std::max)(panel_width, text_width(options.xlabel, label_font));
    for (const std::string& title : options.titles)
      slot_width = (std::max)(slot_width, text_width(elided(title, 60), column_font));
    slot_height = (std::max)(panel_height, text_width(options.ylabel, label_font));
    grid_width = static_cast<double>(columns) * (slot_width + gap) - gap;
    grid_height = static_cast<double>(rows) * (slot_height + gap) - gap;

    left = margin + (options.ylabel.empty() ? 0 : label_font + 8) + query_label_width +
           tick_length + 4;
    if (slanted)  // the first labels may reach further left than everything else
      for (Index k = 0; k < keys; k += key_stride)
        left = (std::max)(left, margin + slant * tick_width(options.key_labels, k) -
                                    (static_cast<double>(k) + 0.5) * cell_width);
    top = margin + (options.title.empty() ? 0 : title_font + 8) +
          (options.titles.empty() ? 0 : column_font + 6);
    axis_height =
        tick_length + 5 + key_label_height + (options.xlabel.empty() ? 0 : label_font + 7);
  }

  // Beside the middle of the grid; a swatch for NaN goes below it.
  void place_bar(const Scale& scale, bool has_nan) {
    const double legend = has_nan ? swatch_size + 10 : 0;
    const double share = rows == 1 ? 1 : 0.6;
    bar_height = (std::max)(std::round(grid_height * share) - legend, 72.0);
    const double above =
        (std::max)(0.0, (bar_height + legend - grid_height) / 2 + 6 - (top - margin));
    top += above;
    bar_top = top + std::round((grid_height - bar_height - legend) / 2);
    const double bottom = panel_top(rows - 1) + panel_height + axis_height;
    height = std::ceil(margin +
                       (std::max)({bottom, top + grid_height, bar_top + bar_height + legend + 6}));
    bar_left = left + grid_width + gap + 2;
    bar_ticks = value_ticks(scale.minimum, scale.maximum,
                            std::clamp(static_cast<int>(bar_height / 22), 3, 8));
    double widest = has_nan ? text_width("NaN", tick_font) : 0;
    for (const Tick& tick : bar_ticks)
      widest = (std::max)(widest, text_width(tick.text, tick_font));
    width = bar_left + bar_width + tick_length + 4 + widest + margin;
  }
};

}  // namespace detail::plot
}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
