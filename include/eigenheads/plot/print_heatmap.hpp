// SPDX-License-Identifier: MIT
#pragma once
// A matrix of attention weights as text, for terminals and logs:
//          the cat sat
//      the │████░░░░    │
//      sat │    ▓▓▓▓░░░░│
//      weight:    0  ░ 0.25  ▒ 0.5  ▓ 0.75  █ 1
//   The same input gives the same bytes; whether the stream is a terminal is not asked.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdlib>
#include <optional>
#include <ostream>
#include <string>
#include <string_view>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/plot/character_width.hpp>  // columns_of
#include <eigenheads/plot/colormap.hpp>         // Colormap, palette_of
#include <eigenheads/plot/heatmap_layout.hpp>   // require_count
#include <eigenheads/plot/scale.hpp>            // Scale, scale_of, sample_of, value_text
#include <eigenheads/plot/terminal_text.hpp>    // printable, fitted, clusters
#include <eigenheads/plot/text.hpp>             // isolated, to_utf8
#include <eigenheads/shape.hpp>                 // require_shape, refuse
#include <eigenheads/tensor.hpp>                // TensorOfRank, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

// off: shades of one character. The others are ANSI background colours, of the 256 that terminals
// share or of all.
enum class TerminalColor { off, ansi256, truecolor };

// Strings are UTF-8; labels are elided after 16 columns.
struct PrintHeatmapOptions {
  std::string title = {};
  std::vector<std::string> query_labels = {};  // Q tokens; empty: the positions 0, 1, 2, ...
  std::vector<std::string> key_labels = {};    // K tokens; empty: the positions
  TerminalColor color = TerminalColor::off;
  Colormap colormap = Colormap::reds;
  std::optional<double> minimum = {};  // the low end of the scale; none: the least value
  std::optional<double> maximum = {};  // the high end; none: the greatest
  // Columns of text for the matrix and its labels: of more keys than fit, several share a cell. Titles
  // and the sentences below are printed whole.
  Index width = 80;
};

namespace detail::plot {

class HeatmapPrinter {
 public:
  static constexpr Index widest_cell = 9, least_width = 40;
  static constexpr int widest_label = 16;

  HeatmapPrinter(Index queries, Index keys, const Scale& scale, const PrintHeatmapOptions& options)
      : options_(options), scale_(scale), palette_(palette_of(options.colormap)) {
    require_count("query_labels", options.query_labels, "Q", queries);
    require_count("key_labels", options.key_labels, "K", keys);
    if (options.width < least_width)
      refuse({"width is ", options.width, "; expected ", least_width, " columns or more"});
    queries_ = labels(options.query_labels, queries);
    keys_ = labels(options.key_labels, keys);
    for (const std::u32string& label : queries_)
      margin_ = (std::max)(margin_, Index{columns_of(label)});
    for (const std::u32string& label : keys_)
      cell_ = (std::max)(cell_, Index{columns_of(label) + 1});
    const Index room = options.width - margin_ - 3;  // a space and two bars
    stacked_ = cell_ > widest_cell || cell_ * keys > room;
    if (stacked_) cell_ = widest_cluster();
    binned_ = shared(keys, room / cell_);
    if (binned_ > 1) {  // then there are no labels but numbers
      cell_ = 2;
      binned_ = (std::max)(shared(keys, room / cell_), Index{2});
    }
  }

  // at(q, k): the Sample of a cell.
  template <class At>
  [[nodiscard]] std::string print(const At& at) && {
    if (!options_.title.empty()) line(options_.title);
    const auto queries = static_cast<Index>(queries_.size());
    const auto keys = static_cast<Index>(keys_.size());
    if (queries == 0 || keys == 0) {
      line("no cells: " + std::to_string(queries) + " queries, " + std::to_string(keys) + " keys");
      return std::move(text_);
    }
    print_keys();
    for (Index q = 0; q < queries; ++q) {
      pad(margin_ - append(queries_[static_cast<std::size_t>(q)]));
      text_ += " │";
      for (Index k = 0; k < keys; k += binned_) {
        int level = 0;  // NaN's is the greatest
        for (Index key = k; key < (std::min)(k + binned_, keys); ++key)
          level = (std::max)(level, scale_.level(at(q, key)));
        print_cell(level, cell_);
        has_nan_ = has_nan_ || level == nan_level;
      }
      text_ += "│\n";
    }
    print_legend();
    if (binned_ > 1)
      line("Each cell is the greatest of " + std::to_string(binned_) + " keys, 0 to " +
           std::to_string(binned_ - 1) + " in the first.");
    return std::move(text_);
  }

 private:
  // Readable, and cut to a length.
  [[nodiscard]] static std::vector<std::u32string> labels(const std::vector<std::string>& given,
                                                          Index count) {
    std::vector<std::u32string> labels;
    for (Index i = 0; i < count; ++i)
      labels.push_back(
          fitted(printable(given.empty() ? std::to_string(i) : given[static_cast<std::size_t>(i)]),
                 widest_label));
    return labels;
  }

  // How many of `keys` share a cell if there is room for `cells`.
  [[nodiscard]] static Index shared(Index keys, Index cells) {
    return (std::max)((keys + cells - 1) / cells, Index{1});
  }
  [[nodiscard]] Index widest_cluster() const {
    Index widest = 2;
    for (const std::u32string& key : keys_)
      for (const std::u32string& cluster : clusters(key))
        widest = (std::max)(widest, Index{columns_of(cluster)});
    return widest;
  }

  void pad(Index columns) { text_.append(static_cast<std::size_t>(columns), ' '); }
  Index append(std::u32string_view runes) {
    text_ += to_utf8(isolated(runes));
    return columns_of(runes);
  }
  void line(std::string_view utf8) {
    append(printable(utf8));
    text_ += '\n';
  }

  // Above their columns if they fit, else downwards, a character a line. Shared cells have the
  // position of their first key.
  void print_keys() {
    std::vector<std::u32string> heads;
    for (std::size_t k = 0; k < keys_.size(); k += static_cast<std::size_t>(binned_))
      heads.push_back(binned_ == 1 ? keys_[k] : printable(std::to_string(k)));
    if (!stacked_) {
      pad(margin_ + 2);
      for (const std::u32string& head : heads) pad(cell_ - append(head));
      end_line();
      return;
    }
    std::vector<std::vector<std::u32string>> stacks;
    std::size_t height = 0;
    for (const std::u32string& head : heads) {
      stacks.push_back(clusters(head));
      height = (std::max)(height, stacks.back().size());
    }
    for (std::size_t row = 0; row < height; ++row) {
      pad(margin_ + 2);
      for (const std::vector<std::u32string>& stack : stacks) {
        const std::size_t above = height - stack.size();  // they stand on the matrix
        pad(cell_ - (row < above ? 0 : append(stack[row - above])));
      }
      end_line();
    }
  }
  void end_line() {
    text_.erase(text_.find_last_not_of(' ') + 1);
    text_ += '\n';
  }

  void print_cell(int level, Index columns) {
    if (options_.color == TerminalColor::off) {
      for (Index column = 0; column < columns; ++column) text_ += shade(level);
      return;
    }
    const Rgb& color = palette_[static_cast<std::size_t>(level)];
    text_ += "\x1b[48;";
    if (options_.color == TerminalColor::truecolor)
      text_ += "2;" + std::to_string(color.red) + ";" + std::to_string(color.green) + ";" +
               std::to_string(color.blue);
    else
      text_ += "5;" + std::to_string(nearest_of_256(color));
    text_ += 'm';
    pad(columns);
    text_ += "\x1b[0m";
  }
  [[nodiscard]] static std::string_view shade(int level) {
    static constexpr std::string_view shades[] = {" ", "░", "▒", "▓", "█"};
    if (level == nan_level) return "?";
    return shades[(4 * level + (level_count - 1) / 2) / (level_count - 1)];
  }
  // Of the 6 x 6 x 6 colours from 16 on, which every terminal agrees about.
  [[nodiscard]] static int nearest_of_256(const Rgb& color) {
    const auto nearest = [](int channel) {
      static constexpr std::array<int, 6> steps = {0, 95, 135, 175, 215, 255};
      int best = 0;
      for (int i = 1; i < 6; ++i)
        if (std::abs(steps[static_cast<std::size_t>(i)] - channel) <
            std::abs(steps[static_cast<std::size_t>(best)] - channel))
          best = i;
      return best;
    };
    return 16 + 36 * nearest(color.red) + 6 * nearest(color.green) + nearest(color.blue);
  }

  void print_legend() {
    text_ += "weight:";
    for (int step = 0; step <= 4; ++step) {
      text_ += "  ";
      print_cell(step * (level_count - 1) / 4, 1);
      const double part = step / 4.0;
      text_ += " " + value_text(sample_of(scale_.minimum * (1 - part) + scale_.maximum * part));
    }
    if (has_nan_) {
      text_ += "  ";
      print_cell(nan_level, 1);
      text_ += " NaN";
    }
    text_ += '\n';
  }

  const PrintHeatmapOptions& options_;
  Scale scale_;
  Palette palette_;
  std::vector<std::u32string> queries_, keys_;
  Index margin_ = 0;  // columns of the widest query label
  Index cell_ = 2;    // columns of a cell
  Index binned_ = 1;  // keys of a cell
  bool stacked_ = false, has_nan_ = false;
  std::string text_;
};

}  // namespace detail::plot

// matrix: [Q, K]. Throws std::invalid_argument if a list of labels is not as long as its axis, for
// an invalid scale, and for a width below 40.
template <TensorOfRank<2> Matrix>
void print_heatmap(std::ostream& out, const Matrix& matrix,
                   const PrintHeatmapOptions& options = {}) {
  using T = element_of<Matrix>;
  static_assert(Scalar<T>, "print_heatmap takes a matrix of float or double.");
  const TensorView<T, 2> view(matrix);
  require_shape("matrix", view, "[Q, K]", {any_size, any_size});
  const Index Q = view.dimension(0), K = view.dimension(1);
  const detail::plot::Scale scale = detail::plot::scale_of(
      TensorView<T, 4>(view.data(), {1, 1, Q, K}), options.minimum, options.maximum);
  const std::string text =
      detail::plot::HeatmapPrinter(Q, K, scale, options).print([&](Index q, Index k) {
        return detail::plot::sample_of(view(q, k));
      });
  out.write(text.data(), static_cast<std::streamsize>(text.size()));
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
