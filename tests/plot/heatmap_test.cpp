// SPDX-License-Identifier: MIT
// Heat maps as text: what is drawn, where labels go, what a cell says, and that nothing a caller
// gives can make an ill-formed file. The embedded PNG files are decoded by a reader of the test's
// own, written from RFC 1950, RFC 1951 and the PNG specification.
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <gtest/gtest.h>
#include <initializer_list>
#include <limits>
#include <locale>
#include <numeric>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/plot/heatmap.hpp>

#include "base64.hpp"

namespace {

using namespace eigenheads;
using support::decode_base64;
using Strings = std::vector<std::string>;
namespace plot = eigenheads::detail::plot;

template <class T = double>
Tensor<T, 4> matrices(Index rows, Index columns, Index queries, Index keys,
                      std::initializer_list<T> values = {}) {
  Tensor<T, 4> tensor(rows, columns, queries, keys);
  if (values.size() == 0)  // multiples of 1/64, which float holds exactly
    for (Index i = 0; i < tensor.size(); ++i) tensor.data()[i] = static_cast<T>(i % 64) / T(64);
  std::copy(values.begin(), values.end(), tensor.data());
  return tensor;
}

std::size_t count(std::string_view text, std::string_view part) {
  std::size_t found = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string_view::npos; ++at) ++found;
  return found;
}

// Every text between `before` and the next `after`, in order.
Strings between(std::string_view text, std::string_view before, std::string_view after) {
  Strings parts;
  for (std::size_t at = 0; (at = text.find(before, at)) != std::string_view::npos;) {
    at += before.size();
    parts.emplace_back(text.substr(at, text.find(after, at) - at));
  }
  return parts;
}

Strings hovers(std::string_view svg) { return between(svg, "<title>", "</title>"); }
Strings fills(std::string_view svg) {  // of the cells, which are the elements that hold a title
  Strings colors;
  for (const std::string& rect : between(svg, "<rect x=", "<title>"))
    if (rect.find("/>") == std::string::npos) colors.push_back(between(rect, "fill=\"", "\"")[0]);
  return colors;
}

// Why this is not XML, or "". Knows what SvgWriter may write: no comments, no CDATA.
std::string ill_formed(std::string_view xml) {
  const auto bad_text = [](std::string_view text) -> std::string {
    for (std::size_t i = 0; i < text.size(); ++i) {
      const auto byte = static_cast<unsigned char>(text[i]);
      if ((byte < 0x20 && byte != '\n') || byte == 0x7F) return "a control character";
      if (byte == '<' || byte == '>') return "a bare bracket";
      if (byte == '&') {
        const std::string entity(text.substr(i, text.find(';', i) + 1 - i));
        if (!std::set<std::string>{"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"}.contains(entity))
          return "the entity " + entity;
      }
      const int following = byte < 0x80 ? 0 : byte < 0xE0 ? 1 : byte < 0xF0 ? 2 : 3;
      if (byte >= 0x80 && (byte < 0xC2 || byte > 0xF4)) return "a bad first byte of UTF-8";
      for (int n = 0; n < following; ++n)
        if (++i >= text.size() || (static_cast<unsigned char>(text[i]) & 0xC0) != 0x80)
          return "a bad next byte of UTF-8";
    }
    return "";
  };
  std::size_t at = xml.find("?>") + 2;
  Strings open;
  bool had_root = false;
  while (at < xml.size()) {
    const std::size_t start = (std::min)(xml.find('<', at), xml.size());
    if (const std::string bad = bad_text(xml.substr(at, start - at)); !bad.empty()) return bad;
    if (start == xml.size()) break;
    const std::size_t end = xml.find('>', start);
    if (end == std::string_view::npos) return "a tag without an end";
    std::string_view tag = xml.substr(start + 1, end - start - 1);
    at = end + 1;
    if (tag[0] == '/') {
      if (open.empty() || open.back() != tag.substr(1)) return "</" + std::string(tag.substr(1));
      open.pop_back();
      continue;
    }
    const bool empty = tag.back() == '/';
    if (empty) tag.remove_suffix(1);
    if (open.empty() && had_root) return "a second root";
    had_root = true;
    const std::size_t name = (std::min)(tag.find(' '), tag.size());
    if (!empty) open.emplace_back(tag.substr(0, name));
    for (std::string_view rest = tag.substr(name); !rest.empty();) {
      const std::size_t equals = rest.find("=\"");
      if (rest[0] != ' ' || equals == std::string_view::npos) return "<" + std::string(tag);
      const std::size_t close = rest.find('"', equals + 2);
      if (close == std::string_view::npos) return "<" + std::string(tag);
      const std::string bad = bad_text(rest.substr(equals + 2, close - equals - 2));
      if (!bad.empty()) return bad;
      rest.remove_prefix(close + 1);
    }
  }
  return open.empty() && had_root ? "" : "an open element";
}

// ---- The grid

TEST(Heatmap, DrawsThePanelsOfTheBook) {
  Tensor<float, 4> weights(2, 5, 4, 6);  // masked_softmax of equal scores, valid_lens = {3, 2}
  weights.setZero();
  for (Index row = 0; row < 2; ++row)
    for (Index head = 0; head < 5; ++head)
      for (Index q = 0; q < 4; ++q)
        for (Index k = 0; k < 3 - row; ++k)
          weights(row, head, q, k) = 1 / static_cast<float>(3 - row);
  const Strings titles{"Head 1", "Head 2", "Head 3", "Head 4", "Head 5"};
  const std::string svg = heatmaps_svg(weights, {.titles = titles});
  EXPECT_EQ(ill_formed(svg), "");
  EXPECT_EQ(count(svg, "class=\"panel\""), 10u);
  EXPECT_EQ(hovers(svg).size(), 240u);
  EXPECT_EQ(fills(svg).size(), 240u);
  EXPECT_EQ(count(svg, "class=\"colorbar\""), 1u);
  EXPECT_EQ(count(svg, "<linearGradient"), 1u);
  EXPECT_EQ(between(svg, "text-anchor=\"middle\">Head ", "<"), (Strings{"1", "2", "3", "4", "5"}));
  EXPECT_EQ(count(svg, ">Key positions<"), 5u);    // below the last row
  EXPECT_EQ(count(svg, ">Query positions<"), 2u);  // left of the first column
  EXPECT_EQ(count(svg, "class=\"key-ticks\""), 5u);
  EXPECT_EQ(count(svg, "class=\"query-ticks\""), 2u);
  EXPECT_EQ(count(svg, "<image"), 0u);

  EXPECT_EQ(hovers(svg).front(), "Head 1, row 0 / query 0, key 0: 0.3333");
  EXPECT_EQ(hovers(svg).back(), "Head 5, row 1 / query 3, key 5: 0");
  EXPECT_EQ(fills(svg)[3], "#fff5f0");    // masked: the low end of Reds
  EXPECT_EQ(fills(svg)[120], "#67000d");  // 1/2: the high end
  EXPECT_EQ(between(svg.substr(svg.find("colorbar")), ">0.", "<"),
            (Strings{"0", "1", "2", "3", "4", "5"}));
}

TEST(Heatmap, CellsTellTheirTokensAndValues) {
  const std::string svg =
      heatmaps_svg(matrices(1, 2, 1, 2, {0.0, 1.0, 0.12345, 1e-7}),
                   {.titles = {"A", "B"}, .key_labels = {"the", "cat"}, .query_labels = {"sat"}});
  EXPECT_EQ(hovers(svg), (Strings{"A / query 0 &#39;sat&#39;, key 0 &#39;the&#39;: 0",
                                  "A / query 0 &#39;sat&#39;, key 1 &#39;cat&#39;: 1",
                                  "B / query 0 &#39;sat&#39;, key 0 &#39;the&#39;: 0.1235",
                                  "B / query 0 &#39;sat&#39;, key 1 &#39;cat&#39;: 1e-07"}));
  EXPECT_EQ(hovers(heatmaps_svg(matrices(1, 1, 1, 1, {-0.0})))[0], "query 0, key 0: 0");
  EXPECT_EQ(count(svg, ">cat<"), 2u);  // below both panels
  EXPECT_EQ(count(svg, ">sat<"), 1u);  // left of the first
  EXPECT_EQ(hovers(heatmaps_svg(matrices(1, 1, 1, 1, {2.0})))[0], "query 0, key 0: 2");
  EXPECT_EQ(hovers(heatmaps_svg(matrices(2, 1, 1, 1)))[1],
            "row 1, column 0 / query 0, key 0: "
            "0.01562");
}

TEST(Heatmap, TurnsKeyLabelsThatDoNotFit) {
  const HeatmapOptions shorter{.key_labels = {"a", "b"}}, longer{.key_labels = {"a", "incredible"}};
  EXPECT_EQ(count(heatmaps_svg(matrices(1, 1, 2, 2), shorter), "rotate(-45)"), 0u);
  EXPECT_EQ(count(heatmaps_svg(matrices(1, 1, 2, 2), longer), "rotate(-45)"), 2u);
}

TEST(Heatmap, ThinsTheTicks) {
  const std::string svg = heatmaps_svg(matrices(1, 1, 100, 100));
  const std::string axis = svg.substr(svg.find("<text", svg.find("key-ticks")));
  const Strings ticks = between(axis, "\">", "</text>");
  EXPECT_EQ((Strings{ticks.begin(), ticks.begin() + 3}), (Strings{"0", "10", "20"}));
  const HeatmapOptions labelled{.key_labels = Strings(100, "token"), .panel_size = 280};
  EXPECT_EQ(count(heatmaps_svg(matrices(1, 1, 100, 100), labelled), ">token<"), 20u);
}

TEST(Heatmap, LeavesOutEmptyLabels) {
  const std::string svg = heatmaps_svg(matrices(1, 1, 2, 2), {.xlabel = "", .ylabel = ""});
  EXPECT_EQ(count(svg, "label\""), 0u);
  const std::string titled = heatmaps_svg(matrices(1, 1, 2, 2), {.title = "Layer 3"});
  EXPECT_EQ(count(titled, ">Layer 3<"), 1u);
}

TEST(Heatmap, DrawsEmptyMatrices) {
  for (const std::array<Index, 4>& shape : std::vector<std::array<Index, 4>>{
           {0, 3, 4, 6}, {2, 0, 4, 6}, {1, 1, 0, 6}, {1, 2, 4, 0}, {0, 0, 0, 0}}) {
    const std::string svg = heatmaps_svg(matrices(shape[0], shape[1], shape[2], shape[3]));
    EXPECT_EQ(ill_formed(svg), "");
    EXPECT_EQ(hovers(svg).size(), 0u);
    EXPECT_EQ(count(svg, "<image"), 0u);
    EXPECT_GE(count(svg, "class=\"frame\""), 1u);
    EXPECT_EQ(count(svg, "class=\"colorbar\""), 1u);
    EXPECT_LT(svg.size(), 8000u);
  }
}

// ---- The scale

TEST(Heatmap, DrawsNumbersThatAreNone) {
  const double inf = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::string svg = heatmaps_svg(matrices(1, 1, 1, 5, {1.0, nan, inf, -inf, 3.0}));
  EXPECT_EQ(ill_formed(svg), "");
  EXPECT_EQ(hovers(svg), (Strings{"query 0, key 0: 1", "query 0, key 1: NaN", "query 0, key 2: inf",
                                  "query 0, key 3: -inf", "query 0, key 4: 3"}));
  EXPECT_EQ(fills(svg), (Strings{"#fff5f0", "#b0b0b0", "#67000d", "#fff5f0", "#67000d"}));
  EXPECT_EQ(count(svg, "class=\"nan\""), 1u);
  EXPECT_EQ(count(heatmaps_svg(matrices(1, 1, 1, 1)), "class=\"nan\""), 0u);
  for (const double x : {nan, inf, -inf, 1e308, -1e308, 5e-324})
    EXPECT_EQ(ill_formed(heatmaps_svg(matrices(1, 1, 1, 2, {x, x}))), "");
  EXPECT_EQ(ill_formed(heatmaps_svg(matrices(1, 1, 1, 2, {-1e308, 1e308}))), "");
}

TEST(Heatmap, GivesConstantMatricesAScaleToZero) {
  const auto ends = [](std::initializer_list<double> values, const HeatmapOptions& o = {}) {
    const plot::Scale scale = plot::scale_of<double>(
        matrices(1, 1, 1, static_cast<Index>(values.size()), values), o.minimum, o.maximum);
    return std::vector<double>{scale.minimum, scale.maximum};
  };
  EXPECT_EQ(ends({0.25, 0.25}), (std::vector{0.0, 0.25}));
  EXPECT_EQ(ends({1.0 / 3, 1.0 / 3 + 1e-9}), (std::vector{0.0, 1.0 / 3 + 1e-9}));
  EXPECT_EQ(ends({-2, -2}), (std::vector{-2.0, 0.0}));
  EXPECT_EQ(ends({0, 0}), (std::vector{0.0, 1.0}));
  EXPECT_EQ(ends({-1, 3}), (std::vector{-1.0, 3.0}));
  EXPECT_EQ(ends({-1, 3}, {.minimum = 0.0, .maximum = 1.0}), (std::vector{0.0, 1.0}));
  EXPECT_EQ(ends({3, 3}, {.minimum = 5.0}), (std::vector{5.0, 10.0}));
  EXPECT_EQ(ends({3, 3}, {.maximum = 0.5}), (std::vector{-0.5, 0.5}));
}

TEST(Heatmap, ClampsToTheGivenScale) {
  const std::string svg = heatmaps_svg(matrices(1, 1, 1, 2, {-1.0, 3.0}),
                                       {.colormap = Colormap::viridis, .minimum = 0, .maximum = 1});
  EXPECT_EQ(fills(svg), (Strings{"#440154", "#fde725"}));
}

// ---- The text

TEST(Heatmap, EscapesWhateverItIsGiven) {
  std::string bytes = "<&\"'>";
  for (int byte = 0; byte < 256; ++byte) bytes += static_cast<char>(byte);
  const Strings awkward{
      bytes.substr(0, 24), bytes, "\xC0\x80 \xED\xA0\x80 \xEF\xBF\xBF \xF4\x90\x80\x80",
      "\xE6\x97",          "]]>", "<script>alert(1)</script>"};
  const auto count_of = static_cast<Index>(awkward.size());
  const std::string svg =
      heatmaps_svg(matrices(1, count_of, count_of, count_of), {.title = awkward[0],
                                                               .titles = awkward,
                                                               .xlabel = bytes,
                                                               .ylabel = bytes,
                                                               .key_labels = awkward,
                                                               .query_labels = awkward});
  EXPECT_EQ(ill_formed(svg), "");
  EXPECT_EQ(count(svg, "<script"), 0u);
  EXPECT_EQ(plot::escaped("<&\"'>"), "&lt;&amp;&quot;&#39;&gt;");
  EXPECT_EQ(plot::escaped(std::string_view("a\0\n\x7F", 4)), "a\u2400\u240A\u2421");
  EXPECT_EQ(plot::escaped("\xE6\x97\xA5 \xF0\x9F\x90\x88 \u00E9"), "\u65E5 \U0001F408 \u00E9");
  EXPECT_EQ(plot::escaped("\xE6\x97z\xFF\xC0\x80"), "\uFFFDz\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(plot::elided("\u65E5\u65E5\u65E5\u65E5", 3), "\u65E5\u65E5\u2026");
}

// "0.25" behind a token that turns text around reads "52.0", unless the token is isolated.
TEST(Heatmap, IsolatesLabels) {
  const std::string hebrew = "\u05D7\u05EA\u05D5\u05DC", turned = "\u202E", open = "a\u2067";
  const std::string fsi = "\u2068", pdi = "\u2069";
  const std::string svg = heatmaps_svg(matrices(1, 2, 1, 2, {0.25, 1.0, 0.5, 0.75}),
                                       {.title = turned,
                                        .titles = {hebrew, "cat"},
                                        .xlabel = hebrew,
                                        .ylabel = open,
                                        .key_labels = {turned, open},
                                        .query_labels = {"a\u2069\u2029b\u05D0"}});
  const std::string query = "query 0 &#39;" + fsi + "a\u2424b\u05D0" + pdi + "&#39;, key ";
  const std::string first = "0 &#39;" + fsi + turned + "\u202C" + pdi + "&#39;: ";
  const std::string second = "1 &#39;" + fsi + open + pdi + pdi + "&#39;: ";
  EXPECT_EQ(hovers(svg),
            (Strings{fsi + hebrew + pdi + " / " + query + first + "0.25",
                     fsi + hebrew + pdi + " / " + query + second + "1",
                     "cat / " + query + first + "0.5", "cat / " + query + second + "0.75"}));
  for (const std::string& text : between(svg, "<text", "</text>")) {
    EXPECT_EQ(count(text, fsi) + count(text, "\u2067"), count(text, pdi)) << text;
    EXPECT_EQ(count(text, turned), count(text, "\u202C")) << text;
  }
  EXPECT_EQ(count(svg, ">" + fsi + hebrew + pdi + "<"), 3u);  // a title and two x labels
}

TEST(Heatmap, IsTheSameInEveryLocaleAndForFloatAndDouble) {
  struct Commas : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
  };
  const HeatmapOptions options{.minimum = -1000.5, .panel_size = 1234.5};
  const std::string svg = heatmaps_svg(matrices(2, 3, 5, 7), options);
  const std::locale before = std::locale::global(std::locale(std::locale(), new Commas));
  const std::string again = heatmaps_svg(matrices<float>(2, 3, 5, 7), options);
  std::locale::global(before);
  EXPECT_EQ(svg, again);
}

// ---- Images

struct Png {
  std::uint32_t width = 0, height = 0;
  std::string palette;
  Strings rows;  // of palette indices
};

std::uint32_t big_endian(std::string_view bytes) {
  return std::accumulate(bytes.begin(), bytes.begin() + 4, 0u, [](std::uint32_t value, char byte) {
    return value << 8 | static_cast<unsigned char>(byte);
  });
}

// A zlib stream of one block of fixed codes, whose matches have distance 1.
std::string inflate(std::string_view stream) {
  std::size_t position = 16;  // in bits, behind zlib's header
  const auto bit = [&] {
    const unsigned value = static_cast<unsigned char>(stream.at(position / 8)) >> (position % 8);
    ++position;
    return value & 1u;
  };
  const auto code = [&](unsigned value, int count) {
    while (count-- > 0) value = value << 1 | bit();
    return value;
  };
  const auto extra = [&](int count) {
    unsigned value = 0;
    for (int i = 0; i < count; ++i) value |= bit() << i;
    return value;
  };
  EXPECT_EQ(extra(3), 3u);  // the last block, fixed codes
  static constexpr unsigned bases[] = {3,  4,  5,  6,   7,   8,   9,   10,  11, 13,
                                       15, 17, 19, 23,  27,  31,  35,  43,  51, 59,
                                       67, 83, 99, 115, 131, 163, 195, 227, 258};
  std::string bytes;
  for (;;) {
    unsigned value = code(0, 7), symbol = 0;
    if (value <= 0b0010111)
      symbol = 256 + value;
    else if (value = code(value, 1); value < 0b11000000)
      symbol = value - 0b00110000;
    else if (value < 0b11001000)
      symbol = 280 + value - 0b11000000;
    else
      symbol = 144 + code(value, 1) - 0b110010000;
    if (symbol == 256) break;
    if (symbol < 256) {
      bytes += static_cast<char>(symbol);
      continue;
    }
    const unsigned index = symbol - 257;
    const unsigned length = bases[index] + extra(index < 8 || index == 28 ? 0 : int(index / 4) - 1);
    EXPECT_EQ(code(0, 5), 0u);
    bytes.append(length, bytes.back());
  }
  EXPECT_EQ(big_endian(stream.substr((position + 7) / 8)), plot::adler32(bytes));
  return bytes;
}

Png decode_png(std::string_view file) {
  EXPECT_EQ(file.substr(0, 8), "\x89PNG\r\n\x1A\n");
  Png png;
  Strings types;
  std::string scanlines;
  for (file.remove_prefix(8); !file.empty();) {
    const std::size_t length = big_endian(file);
    const std::string_view chunk = file.substr(4, length + 4), data = chunk.substr(4);
    EXPECT_EQ(big_endian(file.substr(length + 8)), plot::crc32(chunk));
    file.remove_prefix(length + 12);
    types.emplace_back(chunk.substr(0, 4));
    if (types.back() == "IHDR") {
      png.width = big_endian(data);
      png.height = big_endian(data.substr(4));
      EXPECT_EQ(data.substr(8), std::string_view("\x08\x03\0\0\0", 5));
    } else if (types.back() == "PLTE") {
      png.palette = data;
    } else if (types.back() == "IDAT") {
      scanlines = inflate(data);
    }
  }
  EXPECT_EQ(types, (Strings{"IHDR", "PLTE", "IDAT", "IEND"}));
  EXPECT_EQ(scanlines.size(), png.height * (png.width + std::size_t{1}));
  for (std::size_t y = 0; y < png.height; ++y) {
    std::string row = scanlines.substr(y * (png.width + 1) + 1, png.width);
    if (scanlines[y * (png.width + 1)] == 2)  // the filter "Up"
      for (std::size_t x = 0; x < row.size(); ++x)
        row[x] = static_cast<char>(row[x] + png.rows.back()[x]);
    png.rows.push_back(row);
  }
  return png;
}

std::vector<Png> images(std::string_view svg) {
  std::vector<Png> all;
  for (const std::string& data : between(svg, "data:image/png;base64,", "\""))
    all.push_back(decode_png(decode_base64(data)));
  return all;
}

TEST(HeatmapImage, ChecksumsAreTheStandardOnes) {
  EXPECT_EQ(plot::crc32("123456789"), 0xCBF43926u);
  EXPECT_EQ(plot::adler32("Wikipedia"), 0x11E60398u);
  EXPECT_EQ(plot::base64("any carnal pleasure."), "YW55IGNhcm5hbCBwbGVhc3VyZS4=");
  EXPECT_EQ(plot::base64("any carnal pleas"), "YW55IGNhcm5hbCBwbGVhcw==");
}

TEST(HeatmapImage, CompressesEveryRunAndByte) {
  std::string bytes;
  for (int value = 0; value < 256; ++value)
    bytes.append(static_cast<std::size_t>(value + 1), static_cast<char>(value));
  for (std::size_t run = 250; run < 780; ++run) bytes.append(run, run % 2 == 0 ? 'a' : '\xFF');
  EXPECT_EQ(inflate(plot::zlib(bytes)), bytes);
  EXPECT_EQ(inflate(plot::zlib("")), "");
  EXPECT_LT(plot::zlib(bytes).size(), bytes.size() / 50);
}

TEST(HeatmapImage, HoldsTheColoursOfTheCells) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const auto values = matrices(1, 2, 2, 3,
                               {0.0, 0.5, 1.0, nan, 0.25, 1.0,  //
                                1.0, 1.0, 0.0, 0.75, 0.0, 0.0});
  const std::string cells = heatmaps_svg(values), svg = heatmaps_svg(values, {.max_cells = 0});
  EXPECT_EQ(ill_formed(svg), "");
  EXPECT_EQ(fills(svg).size(), 0u);
  EXPECT_EQ(hovers(svg)[1], "row 0, column 1 / 2 queries, 3 keys");
  EXPECT_EQ(count(svg, "image-rendering:pixelated"), 2u);
  const std::vector<Png> panels = images(svg);
  ASSERT_EQ(panels.size(), 2u);
  Strings colors;
  for (const Png& png : panels) {
    ASSERT_EQ(png.width, 3 * 16u);  // a cell is 16 pixels wide and high
    ASSERT_EQ(png.height, 2 * 16u);
    for (std::size_t y = 0; y < png.height; ++y)
      for (std::size_t x = 0; x < png.width; ++x) {
        ASSERT_EQ(png.rows[y][x], png.rows[y / 16 * 16][x / 16 * 16]) << x << ", " << y;
        if (x % 16 != 0 || y % 16 != 0) continue;
        const std::size_t entry = static_cast<unsigned char>(png.rows[y][x]);
        const auto channel = [&](std::size_t c) {
          return static_cast<std::uint8_t>(png.palette.at(3 * entry + c));
        };
        colors.push_back(plot::hex({channel(0), channel(1), channel(2)}));
      }
  }
  EXPECT_EQ(colors, fills(cells));
}

TEST(HeatmapImage, ReplacesManyCells) {
  EXPECT_EQ(count(heatmaps_svg(matrices(1, 2, 100, 100)), "<image"), 0u);  // 20,000
  const std::string svg = heatmaps_svg(matrices<float>(1, 1, 700, 600));
  EXPECT_EQ(hovers(svg).size(), 1u);
  EXPECT_EQ(count(svg, "image-rendering:auto"), 1u);  // cells below a pixel
  const std::vector<Png> panels = images(svg);
  ASSERT_EQ(panels.size(), 1u);
  EXPECT_EQ(panels[0].width, 438u);  // a pixel for each px of the panel
  EXPECT_EQ(panels[0].height, 512u);
}

// One cell of weight 1 among zeros, wherever it is and however small the panel: one pixel has its
// colour, and it is where the cell is.
TEST(HeatmapImage, ShowsTheLargestWeightOfAPixel) {
  for (const double size : {1.0, 2.0, 7.5, 100.0, 300.5, 512.0})
    for (const Index at : {0, 1, 1499, 2500, 2999})
      for (const bool is_row : {true, false}) {
        Tensor<float, 4> weights =
            is_row ? Tensor<float, 4>(1, 1, 1, 3000) : Tensor<float, 4>(1, 1, 3000, 1);
        weights.setZero();
        weights.data()[at] = 1;
        const std::string svg = heatmaps_svg(weights, {.panel_size = size, .max_cells = 0});
        const Png png = images(svg).at(0);
        const std::uint32_t length = is_row ? png.width : png.height;
        ASSERT_EQ(length, static_cast<std::uint32_t>(size));
        for (std::uint32_t i = 0; i < length; ++i) {
          const char level = is_row ? png.rows[0][i] : png.rows[i][0];
          const bool is_here = i == static_cast<std::uint32_t>(at) * length / 3000 ||
                               i == (static_cast<std::uint32_t>(at) + 1) * length / 3000;
          EXPECT_TRUE(level == '\0' || (level == '\xFE' && is_here)) << i << ' ' << size;
        }
        std::size_t lit = 0;
        for (const std::string& row : png.rows) lit += row.find('\xFE') != std::string::npos;
        EXPECT_GE(lit, 1u) << at << ' ' << size;
      }
}

TEST(HeatmapImage, LeavesNoPanelBetweenPixels) {
  const std::string svg = heatmaps_svg(
      matrices(2, 3, 1, 3000),
      {.titles = {"a", "b", "incomprehensibilities"}, .key_labels = Strings(3000, "a")});
  for (const std::string& place : between(svg, "class=\"panel\" transform=\"translate(", ")"))
    EXPECT_EQ(place.find('.'), std::string::npos) << place;
}

TEST(Heatmap, CellsBelowAPixelShareOne) {
  Tensor<float, 4> weights(1, 1, 1, 3000);
  weights.setZero();
  weights(0, 0, 0, 1234) = 1;
  const std::string svg = heatmaps_svg(weights, {.panel_size = 300});
  const Strings colors = fills(svg), texts = hovers(svg);
  ASSERT_EQ(colors.size(), 300u);
  EXPECT_EQ(count(svg, "width=\"1\" height=\"24\""), 300u);
  EXPECT_EQ(std::count(colors.begin(), colors.end(), "#67000d"), 1);
  EXPECT_EQ(colors[123], "#67000d");
  EXPECT_EQ(texts[123], "query 0, key 1234: 1 (the greatest of keys 1230 to 1239)");
  EXPECT_EQ(texts[0], "query 0, key 0: 0 (the greatest of keys 0 to 9)");

  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::string both = heatmaps_svg(matrices(1, 1, 4, 4,
                                                 {-1.0, -2.0, 1.0, nan, -3.0, -0.5, 2.0, 3.0,  //
                                                  0.0, 0.0, 5.0, 5.0, 0.0, 0.0, 5.0, 5.0}),
                                        {.panel_size = 2});
  EXPECT_EQ(hovers(both),
            (Strings{"query 1, key 1: -0.5 (the greatest of queries 0 to 1, keys 0 to 1)",
                     "query 0, key 3: NaN (one of queries 0 to 1, keys 2 to 3)",
                     "query 2, key 0: 0 (the greatest of queries 2 to 3, keys 0 to 1)",
                     "query 2, key 2: 5 (the greatest of queries 2 to 3, keys 2 to 3)"}));
}

TEST(Heatmap, ElidesLongLabels) {
  const std::string endless(100'000, 'x');
  const std::string svg =
      heatmaps_svg(matrices(1, 1, 10, 10), {.title = endless,
                                            .titles = {endless},
                                            .key_labels = Strings(10, endless),
                                            .query_labels = Strings(10, endless)});
  EXPECT_LT(svg.size(), 100'000u);
  EXPECT_EQ(ill_formed(svg), "");
  EXPECT_EQ(ill_formed(heatmaps_svg(matrices(1, 1, 2, 2), {.key_labels = {"", "\xFF"}})), "");
}

TEST(Heatmap, CellsThatShareNoPixelSaySo) {
  EXPECT_EQ(hovers(heatmaps_svg(matrices(1, 1, 1, 3, {0.5, 1.0, 2.0}), {.panel_size = 2})),
            (Strings{"query 0, key 0: 0.5", "query 0, key 2: 2 (the greatest of keys 1 to 2)"}));
}

// Every cell is in one step, and no step is empty.
TEST(Heatmap, StepsCoverAllCells) {
  for (const Index cells : {1, 2, 3, 7, 512, 513, 1023, 3000, 100'000})
    for (const Index drawn : {1, 2, 3, 511, 512}) {
      if (drawn > cells) continue;
      const plot::Steps steps{cells, drawn, 1};
      Index next = 0;
      for (Index step = 0; step < drawn; ++step) {
        const auto [first, last] = steps.cells(step);
        EXPECT_EQ(first, next);
        EXPECT_LE(first, last);
        next = last + 1;
      }
      EXPECT_EQ(next, cells);
    }
}

TEST(Heatmap, DrawsLongThinMatrices) {
  for (const auto& [queries, keys] : std::vector<std::pair<Index, Index>>{
           {1, 1}, {100'000, 1}, {1, 100'000}, {100'000, 0}, {0, 100'000}, {3, 511}, {513, 3}}) {
    Tensor<float, 4> weights(1, 1, queries, keys);
    weights.setConstant(0.5f);
    for (const Index most : {0, 1'000'000}) {
      const std::string svg = heatmaps_svg(weights, {.max_cells = most});
      EXPECT_EQ(ill_formed(svg), "");
      EXPECT_LT(svg.size(), 400'000u);
    }
  }
}

// ---- Refusals

template <class Exception = std::invalid_argument, class Action>
std::string refusal(const Action& action) {
  try {
    action();
  } catch (const Exception& error) {
    return error.what();
  }
  return "";
}

TEST(Heatmap, RefusesWhatDoesNotFit) {
  const auto refused = [](const HeatmapOptions& options) {
    return refusal([&] { (void)heatmaps_svg(matrices(1, 2, 3, 4), options); });
  };
  EXPECT_EQ(refused({.titles = {"a"}}),
            "eigenheads: titles has 1 strings; expected [columns] = [2], or none");
  EXPECT_EQ(refused({.key_labels = Strings(3)}),
            "eigenheads: key_labels has 3 strings; expected [K] = [4], or none");
  EXPECT_EQ(refused({.query_labels = Strings(4)}),
            "eigenheads: query_labels has 4 strings; expected [Q] = [3], or none");
  EXPECT_EQ(refused({.minimum = 1, .maximum = 1}),
            "eigenheads: minimum is 1 and maximum is 1; expected minimum < maximum, by more than "
            "one part in a million");
  EXPECT_EQ(refused({.maximum = std::numeric_limits<double>::quiet_NaN()}),
            "eigenheads: maximum is NaN; expected a number between -1e300 and 1e300");
  EXPECT_EQ(refused({.panel_size = 0}), "eigenheads: panel_size is 0; expected 1 to 10000 px");
  EXPECT_EQ(refused({}), "");
}

TEST(Heatmap, WritesTheFileOrNone) {
  const auto folder = std::filesystem::path(testing::TempDir()) / "eigenheads_heatmap_test";
  std::filesystem::create_directories(folder);
  const auto path = folder / "weights.svg";
  write_heatmaps(path, matrices(1, 1, 2, 2));
  EXPECT_EQ(read_file(path), heatmaps_svg(matrices(1, 1, 2, 2)));
  EXPECT_NE(refusal([&] { write_heatmaps(path, matrices(1, 1, 2, 2), {.titles = Strings(7)}); }),
            "");
  EXPECT_EQ(read_file(path), heatmaps_svg(matrices(1, 1, 2, 2)));
  const auto missing = folder / "missing" / "weights.svg";
  EXPECT_EQ(refusal<FileError>([&] {
              write_heatmaps(missing, matrices(1, 1, 2, 2));
            }).find("eigenheads: " + missing.string()),
            0u);
  EXPECT_FALSE(std::filesystem::exists(missing.parent_path()));
  std::filesystem::remove_all(folder);
}

}  // namespace
