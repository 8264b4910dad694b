// SPDX-License-Identifier: MIT
// SVG text, to the byte: what is opened is closed, what is given is escaped.
#include <charconv>
#include <gtest/gtest.h>
#include <stdexcept>
#include <string>
#include <utility>

#include <eigenheads/plot/svg.hpp>

namespace {

using namespace eigenheads::plot;

TEST(Svg, ClosesWhatItOpens) {
  SvgWriter svg(20, 10.5);
  svg.open("g", {{"fill", "#262626"}});
  svg.leaf("rect", {{"x", -0.25}, {"class", "\"<&"}});
  svg.open("g", {});
  svg.text("text", {{"y", 3.0}}, "a < b\n");
  svg.close();
  svg.hover("'");
  EXPECT_EQ(std::move(svg).finish(),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
            "<svg xmlns=\"http://www.w3.org/2000/svg\" "
            "xmlns:xlink=\"http://www.w3.org/1999/xlink\" version=\"1.1\" width=\"20\" "
            "height=\"10.5\" viewBox=\"0 0 20 10.5\">\n"
            "<g fill=\"#262626\">\n"
            "<rect x=\"-0.25\" class=\"&quot;&lt;&amp;\"/>\n"
            "<g>\n"
            "<text y=\"3\">a &lt; b\u240A</text>\n"
            "</g>\n"
            "<title>&#39;</title>\n"
            "</g>\n"
            "</svg>\n");
}

TEST(Svg, WritesNumbersWithoutLocaleOrSignOfZero) {
  EXPECT_EQ(pixels(12), "12");
  EXPECT_EQ(pixels(12.345), "12.35");
  EXPECT_EQ(pixels(-0.001), "0");
  EXPECT_EQ(number(0.1234567, std::chars_format::general, 4), "0.1235");
  EXPECT_EQ(number(-0.0, std::chars_format::fixed, 1), "0.0");
  EXPECT_EQ(number(1e300, std::chars_format::fixed, 300).size(), 301u + 1 + 300);
}

TEST(Svg, RefusesToCloseWhatIsNotOpen) {
  eigenheads::plot::SvgWriter svg(10, 10);
  svg.open("g", {});
  svg.close();
  EXPECT_THROW(for (int i = 0; i < 2; ++i) svg.close(), std::logic_error);  // of the root, at most
}

// Marks stand on the letter before them; controls take no room.
TEST(Svg, MeasuresWhatTakesRoom) {
  EXPECT_EQ(text_width("e\u0301", 10), text_width("e", 10));
  EXPECT_EQ(text_width("\u2068\u05D0\u2069", 10), text_width("\u05D0", 10));
  EXPECT_EQ(text_width("\u732B", 10), 10);
  EXPECT_LT(text_width("il", 10), text_width("mW", 10));
}

}  // namespace
