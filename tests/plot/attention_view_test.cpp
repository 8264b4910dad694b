// SPDX-License-Identifier: MIT
// The page as text: what it embeds can be read back, nothing a caller gives gets out of its place,
// and what does not fit is refused. What the page does in a browser: tests/browser.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <gtest/gtest.h>
#include <initializer_list>
#include <limits>
#include <locale>
#include <random>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <type_traits>
#include <vector>

#include <eigenheads/io/file.hpp>
#include <eigenheads/plot/attention_view.hpp>

#include "base64.hpp"

namespace {

using namespace eigenheads;
namespace fs = std::filesystem;
using support::decode_base64;
using Strings = std::vector<std::string>;
template <class T>
using Layers = std::vector<AttentionViewLayer<T>>;

template <class T>
Tensor<T, 3> heads(Index H, Index Q, Index K, std::initializer_list<T> values = {}) {
  Tensor<T, 3> tensor(H, Q, K);
  for (Index i = 0; i < tensor.size(); ++i) tensor.data()[i] = static_cast<T>(i % 64) / T(64);
  std::copy(values.begin(), values.end(), tensor.data());
  return tensor;
}

std::size_t count(std::string_view text, std::string_view part) {
  std::size_t found = 0;
  for (std::size_t at = 0; (at = text.find(part, at)) != std::string_view::npos; ++at) ++found;
  return found;
}

// The text between `before` and the next `after`.
std::string between(std::string_view text, std::string_view before, std::string_view after) {
  const std::size_t at = text.find(before);
  if (at == std::string_view::npos) return "no " + std::string(before);
  const std::size_t begin = at + before.size();
  return std::string(text.substr(begin, text.find(after, begin) - begin));
}

std::string model_of(std::string_view html) {
  return between(html, "<script type=\"application/json\" id=\"model\">", "</script>");
}

// The bits of a head's Q * K weights, as the page reads them.
template <class Bits>
std::vector<Bits> embedded(std::string_view html, const std::string& head, Index Q, Index K) {
  const std::string bytes =
      decode_base64(between(html, "id=\"weights-" + head + "\">", "</script>"));
  std::size_t at = 0;
  const auto next = [&](auto number) {
    for (std::size_t byte = 0; byte < sizeof number; ++byte)
      number |= static_cast<decltype(number)>(
          static_cast<decltype(number)>(static_cast<unsigned char>(bytes.at(at++))) << (8 * byte));
    return number;
  };
  std::vector<std::uint32_t> bounds;
  for (Index q = 0; q < 2 * Q; ++q) bounds.push_back(next(std::uint32_t{0}));
  std::vector<Bits> weights(static_cast<std::size_t>(Q * K), Bits{0});
  for (std::size_t q = 0; q < static_cast<std::size_t>(Q); ++q)
    for (std::size_t k = bounds[2 * q]; k < bounds[2 * q + 1]; ++k)
      weights.at(q * static_cast<std::size_t>(K) + k) = next(Bits{0});
  EXPECT_EQ(at, bytes.size()) << head;
  return weights;
}

template <class Stored, class T>
std::vector<std::uint64_t> bits_of(const T* weights, Index size) {
  std::vector<std::uint64_t> bits;
  for (Index i = 0; i < size; ++i) {
    if constexpr (sizeof(Stored) == 4)
      bits.push_back(std::bit_cast<std::uint32_t>(static_cast<float>(weights[i])));
    else
      bits.push_back(std::bit_cast<std::uint64_t>(static_cast<double>(weights[i])));
  }
  return bits;
}

// Whether each head of the page holds exactly the layer's weights, rounded to Stored.
template <class Stored, class T>
void expect_embedded(const Layers<T>& layers) {
  const std::string html = attention_view_html(layers);
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const Tensor<T, 3>& weights = layers[l].weights;
    const Index Q = weights.dimension(1), K = weights.dimension(2);
    for (Index h = 0; h < weights.dimension(0); ++h) {
      const std::string head = std::to_string(l) + "-" + std::to_string(h);
      using Bits = std::conditional_t<sizeof(Stored) == 4, std::uint32_t, std::uint64_t>;
      const std::vector<Bits> found = embedded<Bits>(html, head, Q, K);
      EXPECT_EQ((std::vector<std::uint64_t>(found.begin(), found.end())),
                bits_of<Stored>(weights.data() + h * Q * K, Q * K))
          << head;
    }
  }
}

// ---- Data

TEST(AttentionView, EmbedsEveryWeight) {
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  Layers<float> layers(3);
  layers[0].weights = heads<float>(2, 4, 6);
  layers[1].weights =
      heads<float>(1, 4, 3, {0, 0, 0, 0, 0.5f, 0, nan, inf, -inf, -0.0f, 1e-45f, 0});
  layers[2].weights = heads<float>(3, 1, 1);
  expect_embedded<float>(layers);

  std::mt19937 random(7);
  for (Index i = 0; i < layers[0].weights.size(); ++i)
    layers[0].weights.data()[i] = std::bit_cast<float>(static_cast<std::uint32_t>(random()));
  for (Index i = 0; i < layers[0].weights.size(); i += 3) layers[0].weights.data()[i] = 0;
  expect_embedded<float>(layers);
}

TEST(AttentionView, RoundsDoublesThatFloatHolds) {
  const double inf = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  Layers<double> layers(1);
  layers[0].weights = heads<double>(1, 2, 3, {1.0 / 3, 0, 1e-30, inf, -inf, nan});
  expect_embedded<float>(layers);
  EXPECT_EQ(count(model_of(attention_view_html(layers)), "\"bytes\":4"), 1u);
  for (const double beyond : {1e-40, 1e300, -1e39}) {
    layers[0].weights(0, 1, 0) = beyond;
    expect_embedded<double>(layers);
    EXPECT_EQ(count(model_of(attention_view_html(layers)), "\"bytes\":8"), 1u);
  }
}

TEST(AttentionView, StoresNothingOfWhatMasksLeave) {
  Layers<float> layers(1);
  layers[0].weights = Tensor<float, 3>(1, 100, 100);
  layers[0].weights.setConstant(0.25f);
  const std::size_t full = attention_view_html(layers).size();
  for (Index q = 0; q < 100; ++q)
    for (Index k = 0; k < 100; ++k)
      if (k > q || k + 10 < q) layers[0].weights(0, q, k) = 0;
  EXPECT_LT(attention_view_html(layers).size() + 45'000, full);
  expect_embedded<float>(layers);
}

TEST(AttentionView, DescribesLayersThatDiffer) {
  Layers<float> layers(2);
  layers[0] = {.name = "encoder 1",
               .weights = heads<float>(2, 1, 2),
               .query_labels = {"sat"},
               .key_labels = {"the", "cat"},
               .head_names = {"left", "right"}};
  layers[1].weights = heads<float>(1, 3, 1);
  const std::string model = model_of(attention_view_html(layers));
  EXPECT_EQ(between(model, "\"layers\":[", "],\n\"minimum\""),
            "\n{\"name\":\"encoder 1\",\"queries\":1,\"keys\":2,\"bytes\":4,"
            "\"heads\":[\"left\",\"right\"],\"queryLabels\":[\"sat\"],"
            "\"keyLabels\":[\"the\",\"cat\"]},"
            "\n{\"name\":\"Layer 2\",\"queries\":3,\"keys\":1,\"bytes\":4,"
            "\"heads\":[\"Head 1\"],\"queryLabels\":[],\"keyLabels\":[]}");
}

TEST(AttentionView, SharesAScale) {
  const auto scale = [](std::initializer_list<float> values, const AttentionViewOptions& options) {
    Layers<float> layers(2);
    layers[0].weights = heads<float>(1, 1, 1, {0.125f});
    layers[1].weights = heads<float>(1, 1, static_cast<Index>(values.size()), values);
    return between(model_of(attention_view_html(layers, options)), "],\n", ",\"palettes\"");
  };
  const float inf = std::numeric_limits<float>::infinity();
  const float nan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_EQ(scale({0.5f, 0.25f}, {}), "\"minimum\":0,\"maximum\":0.5,\"shared\":0");
  EXPECT_EQ(scale({-0.5f, nan, inf, -inf}, {}), "\"minimum\":-0.5,\"maximum\":0.125,\"shared\":0");
  EXPECT_EQ(scale({0.5f}, {.maximum = 1}), "\"minimum\":0,\"maximum\":1,\"shared\":1");
  EXPECT_EQ(scale({0.5f}, {.minimum = 0.1}), "\"minimum\":0.1,\"maximum\":0.5,\"shared\":1");
}

TEST(AttentionView, EmbedsItsPalettes) {
  const Strings first = {"#fff5f0", "#440154"}, last = {"#67000d", "#fde725"};
  for (const Colormap colormap : {Colormap::reds, Colormap::viridis}) {
    const auto at = static_cast<std::size_t>(colormap);
    const std::string html = attention_view_html<float>({}, {.colormap = colormap});
    const std::string palette = decode_base64(between(html, "\"palettes\":[\"", "\""));
    ASSERT_EQ(palette.size(), 768u);
    const auto color = [&](std::size_t level) {
      const auto channel = [&](std::size_t c) {
        return static_cast<std::uint8_t>(palette[3 * level + c]);
      };
      return detail::plot::hex({channel(0), channel(1), channel(2)});
    };
    EXPECT_EQ(color(0), first[at]);
    EXPECT_EQ(color(254), last[at]);
    EXPECT_EQ(color(255), "#b0b0b0");

    const std::string both = between(html, "\"palettes\":[\"", "\"]");
    const std::string dark = decode_base64(both.substr(both.find(',') + 2));
    ASSERT_EQ(dark.size(), 768u);
    double darker = 0;
    for (std::size_t level = 0; level < 255; ++level) {  // the more, the lighter
      const auto channel = [&](std::size_t c) {
        return std::pow(static_cast<unsigned char>(dark[3 * level + c]) / 255.0, 2.2);
      };
      const double luminance = 0.2126 * channel(0) + 0.7152 * channel(1) + 0.0722 * channel(2);
      EXPECT_GE(luminance, darker - 1e-3) << level;
      darker = luminance;
    }
  }
}

TEST(AttentionView, IsTheSameInEveryLocale) {
  struct Commas : std::numpunct<char> {
    char do_decimal_point() const override { return ','; }
    char do_thousands_sep() const override { return '.'; }
    std::string do_grouping() const override { return "\3"; }
  };
  Layers<float> layers(1);
  layers[0].weights = heads<float>(2, 1000, 2);
  const std::string html = attention_view_html(layers, {.maximum = 1000.5});
  const std::locale before = std::locale::global(std::locale(std::locale(), new Commas));
  const std::string again = attention_view_html(layers, {.maximum = 1000.5});
  std::locale::global(before);
  EXPECT_EQ(html, again);
}

// ---- The page

TEST(AttentionView, NeedsNothingButItself) {
  Layers<float> layers(1);
  layers[0].weights = heads<float>(2, 4, 6);
  const std::string html = attention_view_html(layers);
  for (const std::string_view address : {"http:", "https:", "//www", "src=", "@import", "url("})
    EXPECT_EQ(count(html, address), 0u) << address;
  EXPECT_EQ(count(html, "default-src 'none'"), 1u);
  EXPECT_TRUE(html.starts_with("<!doctype html>\n<html lang=\"en\">"));
  EXPECT_TRUE(html.ends_with("</html>\n"));
  EXPECT_EQ(count(html, "<script"), count(html, "</script>"));
  EXPECT_EQ(count(html, "<div"), count(html, "</div>"));
}

TEST(AttentionView, EscapesWhateverItIsGiven) {
  Strings awkward = {"</script><script>alert(1)</script>",
                     "<!--<script>",
                     "\"\\",
                     "]]>",
                     "&amp;",
                     "\xE6\x97",
                     "\xC0\x80 \xED\xA0\x80"};
  std::string bytes;
  for (int byte = 0; byte < 256; ++byte) bytes += static_cast<char>(byte);
  awkward.push_back(bytes);
  const auto n = static_cast<Index>(awkward.size());
  Layers<float> layers(1);
  layers[0].weights = heads<float>(n, n, n);
  const std::string plain = attention_view_html(layers, {.title = "x"});
  for (const std::string& text : awkward) {
    layers[0] = {.name = text,
                 .weights = layers[0].weights,
                 .query_labels = awkward,
                 .key_labels = awkward,
                 .head_names = awkward};
    const std::string html = attention_view_html(layers, {.title = text});
    for (const std::string_view tag : {"<script", "</script", "<!--", "<"})
      EXPECT_EQ(count(html, tag), count(plain, tag)) << tag << " of " << text;
    for (std::size_t i = 0; i < html.size(); ++i)
      ASSERT_TRUE(static_cast<unsigned char>(html[i]) >= 0x20 || html[i] == '\n') << i;
    EXPECT_EQ(count(html, "\x7F"), 0u);
  }
  std::string json;
  detail::plot::append_json(json, std::string_view("</a \"\\\n\xFF\u65E5"));
  EXPECT_EQ(json, "\"\\u003c/a \\\"\\\\\u240A\uFFFD\u65E5\"");
  EXPECT_EQ(count(attention_view_html<float>({}, {.title = "a<b & c"}), "a&lt;b &amp; c"), 2u);
}

// The page puts names together with its own words and numbers.
TEST(AttentionView, IsolatesLabels) {
  const std::string hebrew = "\u05D7\u05EA\u05D5\u05DC", fsi = "\u2068", pdi = "\u2069";
  Layers<float> layers(1);
  layers[0] = {.name = hebrew,
               .weights = heads<float>(1, 2, 2),
               .query_labels = {"\u202E", "a\u2067"},
               .key_labels = {"b\u2069\u202C\u2029", "cat"},
               .head_names = {hebrew}};
  const std::string html = attention_view_html(layers, {.title = hebrew});
  const std::string model = model_of(html), name = fsi + hebrew + pdi;
  EXPECT_EQ(count(html, "<title>" + name + "</title>"), 1u);
  EXPECT_EQ(count(html, "<h1><bdi>" + name + "</bdi></h1>"), 1u);
  EXPECT_EQ(between(model, "\"name\":", ","), '"' + name + '"');
  EXPECT_EQ(between(model, "\"heads\":", ","), "[\"" + name + "\"]");
  EXPECT_EQ(between(model, "\"queryLabels\":[", "]"),
            '"' + fsi + "\u202E\u202C" + pdi + "\",\"" + fsi + "a\u2067" + pdi + pdi + '"');
  EXPECT_EQ(between(model, "\"keyLabels\":[", "]"), '"' + fsi + "b\u2424" + pdi + "\",\"cat\"");
}

TEST(AttentionView, TakesWhatIsEmpty) {
  EXPECT_EQ(between(model_of(attention_view_html<float>({})), "{", ",\n\"minimum"),
            "\"layers\":[]");
  for (const std::array<Index, 3>& shape :
       std::vector<std::array<Index, 3>>{{0, 2, 2}, {2, 0, 2}, {2, 2, 0}, {0, 0, 0}}) {
    Layers<double> layers(2);
    layers[0].weights = Tensor<double, 3>(shape[0], shape[1], shape[2]);
    const std::string html = attention_view_html(layers);
    EXPECT_EQ(count(html, "id=\"weights-"), static_cast<std::size_t>(shape[0]));
    EXPECT_EQ(count(html, "\"minimum\":0,\"maximum\":1,"), 1u);
  }
}

// ---- The script, where there is a node to read it

class AttentionViewScript : public testing::Test {
 protected:
  void SetUp() override {
    if (std::system("node --version >/dev/null 2>&1") != 0) GTEST_SKIP() << "this needs node";
    file_ = fs::path(testing::TempDir()) /
            ("eigenheads_" + std::to_string(std::random_device{}()) + ".mjs");
  }
  void TearDown() override { fs::remove(file_); }

  // The exit status of node with the text as its script.
  int run(const std::string& script, const std::string& flags = "") {
    write_file(file_, script);
    return std::system(("node " + flags + " '" + file_.string() + "'").c_str());
  }
  static std::string script() {
    return between(attention_view_html<float>({}), "<script type=\"module\">", "</script>");
  }

  fs::path file_;
};

TEST_F(AttentionViewScript, CanBeRead) { EXPECT_EQ(run(script(), "--check"), 0); }

// Pixels that are larger than cells show each of them, to the last, though a part of the last pixel
// was rounded away.
TEST_F(AttentionViewScript, LeavesNoCellOut) {
  const std::string spans =
      "function spans" + between(script(), "\nfunction spans", "\n}\n") + "\n}\n";
  EXPECT_EQ(
      run("const clamp = (x, low, high) => Math.min(Math.max(x, low), high);\n" + spans + R"js(
for (const count of [1, 2, 134, 512, 3000, 100000])
  for (const ratio of [.5, .67, 1, 1.25, 1.5, 2, 3])
    for (const side of [.75, .8, .99, 1 / 3]) {
      const extent = count * side * ratio;
      const pixels = Math.round(extent);
      if (side * ratio >= 1 || pixels === 0) continue;
      const { from, to } = spans(pixels, 0, 1 / (side * ratio), count);
      for (let i = 0, next = 0; i < pixels; ++i) {
        if (from[i] > next || to[i] <= from[i]) throw Error([count, ratio, side, i].join());
        next = to[i];
      }
      if (to[pixels - 1] !== count) throw Error([count, ratio, side, to[pixels - 1]].join());
    }
)js"),
      0);
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

TEST(AttentionView, RefusesWhatDoesNotFit) {
  const auto refused = [](AttentionViewLayer<float> layer,
                          const AttentionViewOptions& options = {}) {
    Layers<float> layers(2);
    layer.weights = heads<float>(2, 3, 4);
    layers[1] = layer;
    return refusal([&] { (void)attention_view_html(layers, options); });
  };
  const std::string start = "eigenheads: layers[1].";
  EXPECT_EQ(refused({.query_labels = Strings(4)}),
            start + "query_labels has 4 strings; expected [Q] = [3], or none");
  EXPECT_EQ(refused({.key_labels = Strings(3)}),
            start + "key_labels has 3 strings; expected [K] = [4], or none");
  EXPECT_EQ(refused({.head_names = Strings(1)}),
            start + "head_names has 1 strings; expected [H] = [2], or none");
  EXPECT_EQ(refused({}, {.minimum = 1, .maximum = 0}),
            "eigenheads: minimum is 1 and maximum is 0; expected minimum < maximum, by more than "
            "one part in a million");
  EXPECT_EQ(refused({}, {.maximum = std::numeric_limits<double>::infinity()}),
            "eigenheads: maximum is inf; expected a number between -1e300 and 1e300");
}

TEST(AttentionView, RefusesWhatNoBrowserOpens) {
  Layers<float> layers(2);
  layers[0].weights = heads<float>(1, 1, 1);
  layers[1].weights = Tensor<float, 3>(1, 8192, 8192);  // never touched
  EXPECT_EQ(refusal([&] { (void)attention_view_html(layers); }),
            "eigenheads: layers hold 67108865 weights up to layers[1]; expected 67108864 at most, "
            "or no browser opens the page");
}

class AttentionViewFile : public testing::Test {
 protected:
  void SetUp() override {
    std::random_device random;
    do folder_ = fs::temp_directory_path() / ("eigenheads_view_" + std::to_string(random()));
    while (!fs::create_directory(folder_));
    layers_[0].weights = heads<float>(2, 4, 6);
  }
  void TearDown() override {
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  std::string write_refusal(const fs::path& path) {
    return refusal<FileError>([&] { write_attention_view(path, layers_); });
  }

  fs::path folder_;
  Layers<float> layers_ = Layers<float>(1);
};

TEST_F(AttentionViewFile, IsThePage) {
  write_attention_view(folder_ / "heads.html", layers_, {.title = "t"});
  EXPECT_EQ(read_file(folder_ / "heads.html"), attention_view_html(layers_, {.title = "t"}));
}

TEST_F(AttentionViewFile, IsWholeOrNotThere) {
  const fs::path missing = folder_ / "missing" / "heads.html";
  EXPECT_EQ(write_refusal(missing),
            "eigenheads: " + missing.string() + ": No such file or directory");
  EXPECT_EQ(write_refusal(folder_), "eigenheads: " + folder_.string() + ": Is a directory");
  EXPECT_TRUE(fs::is_empty(folder_));

  write_file(folder_ / "heads.html", "old");
  layers_[0].query_labels = {"one"};
  EXPECT_NE(refusal([&] { write_attention_view(folder_ / "heads.html", layers_); }), "");
  EXPECT_EQ(read_file(folder_ / "heads.html"), "old");
}

}  // namespace
