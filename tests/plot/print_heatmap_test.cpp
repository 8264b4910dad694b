// SPDX-License-Identifier: MIT
// Heat maps as text, to the character.
#include <algorithm>
#include <gtest/gtest.h>
#include <initializer_list>
#include <iomanip>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <eigenheads/plot/print_heatmap.hpp>

namespace {

using namespace eigenheads;
using Strings = std::vector<std::string>;

template <class T = float>
Tensor<T, 2> matrix(Index queries, Index keys, std::initializer_list<double> values = {}) {
  Tensor<T, 2> tensor(queries, keys);
  for (Index i = 0; i < tensor.size(); ++i)
    tensor.data()[i] = static_cast<T>(static_cast<double>(i % keys) / 64);
  std::transform(values.begin(), values.end(), tensor.data(),
                 [](double value) { return static_cast<T>(value); });
  return tensor;
}

template <class T>
std::string printed(const Tensor<T, 2>& matrix, const PrintHeatmapOptions& options = {}) {
  std::ostringstream out;
  print_heatmap(out, matrix, options);
  return out.str();
}

Strings lines_of(const std::string& text) {
  Strings lines;
  std::istringstream in(text);
  for (std::string line; std::getline(in, line);) lines.push_back(line);
  return lines;
}

TEST(PrintHeatmap, ShadesCells) {
  const std::string expected =
      "Head 1\n"
      "     the cat sat\n"
      "the │████░░░░    │\n"
      "sat │    ▓▓▓▓▒▒▒▒│\n"
      "weight:    0  ░ 0.25  ▒ 0.5  ▓ 0.75  █ 1\n";
  const std::initializer_list<double> values = {1, 0.25, 0, 0.1, 0.7, 0.5};
  const PrintHeatmapOptions options{
      .title = "Head 1", .query_labels = {"the", "sat"}, .key_labels = {"the", "cat", "sat"}};
  EXPECT_EQ(printed(matrix<float>(2, 3, values), options), expected);
  EXPECT_EQ(printed(matrix<double>(2, 3, values), options), expected);
}

TEST(PrintHeatmap, NumbersWhatHasNoLabels) {
  EXPECT_EQ(printed(matrix(2, 3, {0, 1, 2, 3, 4, 4})),
            "   0 1 2\n"
            "0 │  ░░▒▒│\n"
            "1 │▓▓████│\n"
            "weight:    0  ░ 1  ▒ 2  ▓ 3  █ 4\n");
}

TEST(PrintHeatmap, TurnsLongLabelsDownwards) {
  EXPECT_EQ(printed(matrix(1, 3, {0, 1, 0}), {.key_labels = {"a", "excellent", "bc"}}),
            "     e\n"
            "     x\n"
            "     c\n"
            "     e\n"
            "     l\n"
            "     l\n"
            "     e\n"
            "     n b\n"
            "   a t c\n"
            "0 │  ██  │\n"
            "weight:    0  ░ 0.25  ▒ 0.5  ▓ 0.75  █ 1\n");
}

TEST(PrintHeatmap, AlignsByColumns) {
  EXPECT_EQ(
      printed(matrix(3, 2, {0, 1, 1, 0, 0, 1}),
              {.query_labels = {"\u732B", "e\u0301t\u00E9", "a"}, .key_labels = {"\u732B", "b"}}),
      "     \u732B b\n"
      "\u732B  │   ███│\n"
      "e\u0301t\u00E9 │███   │\n"
      "a   │   ███│\n"
      "weight:    0  ░ 0.25  ▒ 0.5  ▓ 0.75  █ 1\n");
}

TEST(PrintHeatmap, ShowsWhatATerminalWouldObey) {
  const Strings lines = lines_of(printed(
      matrix(2, 1, {0, 1}), {.title = "\x1b[2J\n", .query_labels = {"\x1b]0;x\x07", "\xFF"}}));
  EXPECT_EQ(lines[0], "\u241B[2J\u240A");
  EXPECT_EQ(lines[2], "\u241B]0;x\u2407 │  │");
  EXPECT_EQ(lines[3], "\uFFFD      │██│");
}

TEST(PrintHeatmap, ElidesLabels) {
  const Strings lines =
      lines_of(printed(matrix(1, 1, {1}), {.query_labels = {"incomprehensibilities"}}));
  EXPECT_EQ(lines[1], "incomprehensibi\u2026 │██│");
}

TEST(PrintHeatmap, ShowsNaNAndInfinity) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  EXPECT_EQ(printed(matrix(1, 5, {nan, inf, -inf, 1, 3})),
            "   0 1 2 3 4\n"
            "0 │??██    ██│\n"
            "weight:    1  ░ 1.5  ▒ 2  ▓ 2.5  █ 3  ? NaN\n");
}

TEST(PrintHeatmap, ColoursCells) {
  const Tensor<float, 2> ends = matrix(1, 2, {0, 1});
  EXPECT_EQ(lines_of(printed(ends, {.color = TerminalColor::truecolor}))[1],
            "0 │\x1b[48;2;255;245;240m  \x1b[0m\x1b[48;2;103;0;13m  \x1b[0m│");
  EXPECT_EQ(lines_of(printed(ends, {.color = TerminalColor::ansi256}))[1],
            "0 │\x1b[48;5;231m  \x1b[0m\x1b[48;5;52m  \x1b[0m│");
  EXPECT_EQ(
      lines_of(printed(ends, {.color = TerminalColor::ansi256, .colormap = Colormap::viridis}))[1],
      "0 │\x1b[48;5;53m  \x1b[0m\x1b[48;5;220m  \x1b[0m│");
}

TEST(PrintHeatmap, KeepsToItsWidth) {
  const auto widest = [](Index keys, Index width) {
    std::ptrdiff_t most = 0;
    for (const std::string& line : lines_of(printed(matrix(2, keys), {.width = width})))
      if (line.find("│") != std::string::npos)
        most = (std::max)(most, std::count_if(line.begin(), line.end(), [](char byte) {
                            return (static_cast<unsigned char>(byte) & 0xC0) != 0x80;
                          }));
    return most;
  };
  for (const Index width : {40, 41, 80})
    for (const Index keys : {1, 18, 19, 38, 39, 40, 1000}) EXPECT_LE(widest(keys, width), width);
  EXPECT_EQ(widest(38, 80), 80);
}

TEST(PrintHeatmap, SharesCellsByTheGreatest) {
  Tensor<float, 2> weights = matrix(2, 40);
  weights.setZero();
  weights(0, 4) = 1;  // the second of the third cell
  weights(1, 39) = 0.5;
  EXPECT_EQ(printed(weights, {.width = 40}),
            "           1 1 1 2 2 2 3 3 3 3\n"
            "   0 3 6 9 2 5 8 1 4 7 0 3 6 9\n"
            "0 │  ██                        │\n"
            "1 │                          ▒▒│\n"
            "weight:    0  ░ 0.25  ▒ 0.5  ▓ 0.75  █ 1\n"
            "Each cell is the greatest of 3 keys, 0 to 2 in the first.\n");
}

TEST(PrintHeatmap, SaysThatThereIsNothing) {
  EXPECT_EQ(printed(matrix(0, 3)), "no cells: 0 queries, 3 keys\n");
  EXPECT_EQ(printed(matrix(2, 0), {.title = "t"}), "t\nno cells: 2 queries, 0 keys\n");
}

TEST(PrintHeatmap, LeavesTheStreamAsItWas) {
  std::ostringstream out;
  out << std::setw(20) << std::setfill('*') << std::hex << std::setprecision(1);
  print_heatmap(out, matrix(1, 1, {0.123}));
  EXPECT_EQ(out.str(), printed(matrix(1, 1, {0.123})));
}

TEST(PrintHeatmap, RefusesWhatDoesNotFit) {
  const auto refusal = [](const PrintHeatmapOptions& options) -> std::string {
    try {
      (void)printed(matrix(2, 3), options);
    } catch (const std::invalid_argument& error) {
      return error.what();
    }
    return "";
  };
  EXPECT_EQ(refusal({.query_labels = {"a"}}),
            "eigenheads: query_labels has 1 strings; expected [Q] = [2], or none");
  EXPECT_EQ(refusal({.key_labels = {"a", "b"}}),
            "eigenheads: key_labels has 2 strings; expected [K] = [3], or none");
  EXPECT_EQ(refusal({.width = 39}), "eigenheads: width is 39; expected 40 columns or more");
  EXPECT_EQ(refusal({.minimum = 1, .maximum = 0}),
            "eigenheads: minimum is 1 and maximum is 0; expected minimum < maximum, by more than "
            "one part in a million");
}

}  // namespace
