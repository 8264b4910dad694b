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
namespace plot = eigenheads::plot;

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

// The bars stand below each other where labels hold marks, conjoining letters and emoji.
TEST(PrintHeatmap, AlignsWhatIsOneCharacter) {
  EXPECT_EQ(printed(matrix(8, 2, {0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1, 0}),
                    {.query_labels = {"\u0E01\u0E47", "\u0939\u093F\u0928\u094D\u0926\u0940",
                                      "\u2705", "\u1112\u1161\u11AB", "\u2764\uFE0F",
                                      "\U0001F469\u200D\U0001F467", "\U0001F1EC\U0001F1E7", "abcd"},
                     .key_labels = {"\u2705", "\u0E01\u0E47"}}),
            "      \u2705 \u0E01\u0E47\n"
            "\u0E01\u0E47    │   ███│\n"
            "\u0939\u093F\u0928\u094D\u0926\u0940 │███   │\n"
            "\u2705   │   ███│\n"
            "\u1112\u1161\u11AB   │███   │\n"
            "\u2764\uFE0F   │   ███│\n"
            "\U0001F469\u200D\U0001F467   │███   │\n"
            "\U0001F1EC\U0001F1E7   │   ███│\n"
            "abcd │███   │\n"
            "weight:    0  ░ 0.25  ▒ 0.5  ▓ 0.75  █ 1\n");
}

TEST(PrintHeatmap, StacksWholeCharacters) {
  EXPECT_EQ(
      printed(matrix(1, 3, {0, 1, 0}),
              {.key_labels = {"\u0E01\u0E47\u0E01\u0E47", "excellences", "\u2764\uFE0Fe\u0301"}}),
      "     e\n"
      "     x\n"
      "     c\n"
      "     e\n"
      "     l\n"
      "     l\n"
      "     e\n"
      "     n\n"
      "     c\n"
      "   \u0E01\u0E47 e \u2764\uFE0F\n"
      "   \u0E01\u0E47 s e\u0301\n"
      "0 │  ██  │\n"
      "weight:    0  ░ 0.25  ▒ 0.5  ▓ 0.75  █ 1\n");
  // A cluster of three columns makes cells of three.
  const Strings lines =
      lines_of(printed(matrix(1, 2, {0, 1}),
                       {.key_labels = {"\u1112\u1161\u0939\u093F\uAC00\u093F", "excellences"}}));
  EXPECT_EQ(lines[lines.size() - 2], "0 │   ███│");
}

TEST(PrintHeatmap, IsolatesLabels) {
  const std::string cat = "\u05D7\u05EA\u05D5\u05DC";
  EXPECT_EQ(printed(matrix(2, 2, {0, 1, 1, 0}),
                    {.title = cat, .query_labels = {cat, "a"}, .key_labels = {"b", cat}}),
            "\u2068" + cat + "\u2069\n" + "      b    \u2068" + cat + "\u2069\n" + "\u2068" + cat +
                "\u2069 │     █████│\n"
                "a    │█████     │\n"
                "weight:    0  ░ 0.25  ▒ 0.5  ▓ 0.75  █ 1\n");
}

// Neither bytes that a terminal obeys nor controls of direction get through, but for the
// printer's own isolates, which end where they began.
TEST(PrintHeatmap, LetsNoControlThrough) {
  Strings awkward = {"\x1b[31m",           "\u009B2J",   "\u0085",
                     "\u2028\u2029",       "\u202E",     "\u2066",
                     "\u2069\u202C",       "\x7F\b\r\n", "\u200F\u05D0\u2067",
                     std::string(1, '\0'), "\xC2",       "\xE2\x80"};
  const auto n = static_cast<Index>(awkward.size());
  for (const Index width : {80, 400})
    for (const std::string& title : awkward) {
      const std::string text =
          printed(matrix(n, n),
                  {.title = title, .query_labels = awkward, .key_labels = awkward, .width = width});
      std::size_t lines = 0;
      for (const std::string& line : lines_of(text)) {
        ++lines;
        int open = 0;
        for (const char32_t rune : plot::readable(line)) {
          ASSERT_FALSE(rune >= 0x202A && rune <= 0x202E) << line;
          ASSERT_FALSE(rune == 0x2066 || rune == 0x2067) << line;
          open += (rune == 0x2068) - (rune == 0x2069);
          ASSERT_TRUE(open == 0 || open == 1) << line;
        }
        EXPECT_EQ(open, 0) << line;
        EXPECT_EQ(plot::to_utf8(plot::readable(line)), line);  // no control characters
      }
      EXPECT_GE(lines, static_cast<std::size_t>(n) + 3);
      EXPECT_LE(lines, static_cast<std::size_t>(n) + 8);
    }
}

TEST(PrintHeatmap, GivesMarksSomethingToStandOn) {
  const Strings lines =
      lines_of(printed(matrix(3, 1, {0, 1, 1}), {.query_labels = {"\u0301", "\u093F", "\uFE0F"}}));
  EXPECT_EQ(lines[1], "\u25CC\u0301  │  │");
  EXPECT_EQ(lines[2], "\u25CC\u093F │██│");
  EXPECT_EQ(lines[3], "\u25CC\uFE0F  │██│");
}

TEST(PrintHeatmap, ElidesWholeCharactersAndPilesOfMarks) {
  std::string flags, pile = "e";
  for (int i = 0; i < 9; ++i) flags += "\U0001F1EC\U0001F1E7";
  for (int i = 0; i < 100'000; ++i) pile += "\u0301";
  const Strings lines = lines_of(
      printed(matrix(2, 1, {0, 1}), {.query_labels = {flags, pile}, .key_labels = {flags}}));
  const std::size_t kept = 7 * std::string("\U0001F1EC\U0001F1E7").size();
  EXPECT_EQ(lines[lines.size() - 3], flags.substr(0, kept) + "\u2026 │  │");
  EXPECT_LT(lines[lines.size() - 2].size(), 200u);
  EXPECT_EQ(lines.size(), 8u + 3u);
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

TEST(PrintHeatmap, PrintsLongThinMatrices) {
  EXPECT_EQ(lines_of(printed(matrix(1, 100'000))).size(), 8u);
  EXPECT_EQ(lines_of(printed(matrix(100'000, 1))).size(), 100'002u);
  EXPECT_EQ(printed(matrix(1, 1, {1}), {.query_labels = {""}, .key_labels = {""}}),
            "\n"
            " │██│\n"
            "weight:    0  ░ 0.25  ▒ 0.5  ▓ 0.75  █ 1\n");
  EXPECT_EQ(lines_of(printed(matrix(2, 2, {-1, -2, -3, -4})))[1], "0 │██▓▓│");
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
