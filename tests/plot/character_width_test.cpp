// SPDX-License-Identifier: MIT
// How wide terminals draw what tokenizers cut text into. The expected columns are those of wcwidth
// 0.7 (https://github.com/jquast/wcwidth), where nothing else is said.
#include <cstdlib>
#include <gtest/gtest.h>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <eigenheads/plot/character_width.hpp>

namespace {

using eigenheads::detail::plot::columns_of, eigenheads::detail::plot::first_cluster;

std::vector<std::u32string> clusters(std::u32string_view text) {
  std::vector<std::u32string> parts;
  for (; !text.empty(); text.remove_prefix(parts.back().size()))
    parts.emplace_back(text.substr(0, first_cluster(text).size));
  return parts;
}

TEST(CharacterWidth, CountsColumnsAsTerminalsDo) {
  const struct {
    std::u32string_view text;
    int columns;
  } cases[] = {
      {U"", 0},
      {U"cat", 3},
      {U"e\u0301t\u00E9", 3},
      {U"\u0E01\u0E47", 1},                                // Thai ko kai, maitaikhu
      {U"\u0E2A\u0E27\u0E31\u0E2A\u0E14\u0E35", 4},        // Thai "hello"
      {U"\u0939\u093F\u0928\u094D\u0926\u0940", 4},        // "Hindi": a conjunct with a vowel sign
      {U"\u0BA4\u0BAE\u0BBF\u0BB4\u0BCD", 4},              // "Tamil": no conjunct at the end
      {U"\u09AC\u09BE\u0982\u09B2\u09BE", 4},              // "Bangla": two spacing marks in a row
      {U"\u0915\u094D\u0937", 2},                          // a conjunct
      {U"\u0915\u094D\u200D\u0937", 2},                    // in its half form
      {U"\u1781\u17D2\u1798\u17C2\u179A", 4},              // "Khmer"
      {U"\u1100\u1161\u11A8", 2},                          // a syllable of conjoining Hangul
      {U"\uAC01\uAC01", 4},                                // the same, composed, twice
      {U"\u732B\u3042\uFF21\uFF71", 7},                    // Han, Hiragana, fullwidth, halfwidth
      {U"\u2705", 2},                                      // an emoji of the BMP
      {U"\u2764", 1},                                      // a heart as text
      {U"\u2764\uFE0F", 2},                                // as emoji
      {U"1\uFE0F\u20E3", 2},                               // a keycap
      {U"a\uFE0F", 1},                                     // no emoji
      {U"\U0001F408\u200D\u2B1B", 2},                      // a black cat: one picture
      {U"\U0001F469\u200D\U0001F469\u200D\U0001F467", 2},  // a family
      {U"\U0001F44D\U0001F3FD", 2},                        // with a skin tone
      {U"\U0001F3FD", 2},                                  // the tone alone
      {U"\U0001F1EC\U0001F1E7", 2},                        // a flag
      {U"\U0001F1EC\U0001F1E7\U0001F1EC\U0001F1E7", 4},
      {U"\U0001F1EC", 2},
      {U"\U0001F3F4\U000E0067\U000E0062\U000E0065\U000E006E\U000E0067\U000E007F", 2},  // England
      {U"\U0001FAE8", 2},                                                              // 15.0
      {U"\u200B\uFEFF\u2060\u202E\u2068", 0},
      {U"\u00AD\u0600", 2},        // format characters that are seen
      {U"\u0645\u064E\u0627", 2},  // Arabic with a vowel
      {U"\u0301", 0},
      {U"\u0BBF\u0BCD\u0B89", 1},  // marks that have no letter join none
      {U"\u2026\u2502\u2588", 3},
  };
  for (const auto& [text, columns] : cases)
    EXPECT_EQ(columns_of(text), columns) << testing::PrintToString(std::u32string(text));
}

TEST(CharacterWidth, KeepsTogetherWhatIsOneCharacter) {
  using Parts = std::vector<std::u32string>;
  EXPECT_EQ(clusters(U"ae\u0301\u0302b"), (Parts{U"a", U"e\u0301\u0302", U"b"}));
  EXPECT_EQ(clusters(U"\u0939\u093F\u0928\u094D\u0926\u0940"),
            (Parts{U"\u0939\u093F", U"\u0928\u094D\u0926\u0940"}));
  EXPECT_EQ(clusters(U"\u1100\u1161\u11A8\u1100\u1161"),
            (Parts{U"\u1100\u1161\u11A8", U"\u1100\u1161"}));
  EXPECT_EQ(clusters(U"\U0001F1EC\U0001F1E7\U0001F1EC"),
            (Parts{U"\U0001F1EC\U0001F1E7", U"\U0001F1EC"}));
  EXPECT_EQ(clusters(U"\U0001F469\u200D\U0001F467x"), (Parts{U"\U0001F469\u200D\U0001F467", U"x"}));
  EXPECT_EQ(clusters(U"\u0644\u200D\u0627"), (Parts{U"\u0644\u200D", U"\u0627"}));
  EXPECT_EQ(clusters(U"\u0301a"), (Parts{U"\u0301", U"a"}));
}

TEST(CharacterWidth, TablesAreInOrderAndApart) {
  using namespace eigenheads::detail::plot;
  const auto expect_order = [](std::span<const CharacterRange> ranges) {
    for (std::size_t i = 0; i < ranges.size(); ++i) {
      EXPECT_LE(ranges[i].first, ranges[i].last);
      EXPECT_TRUE(i == 0 || ranges[i - 1].last + 1 < ranges[i].first) << i;
    }
  };
  expect_order(zero_width_ranges);
  expect_order(spacing_mark_ranges);
  expect_order(wide_ranges);
  expect_order(narrow_emoji_ranges);
  expect_order(pictograph_ranges);
  expect_order(virama_ranges);
}

TEST(CharacterWidth, TablesAreWhatTheirGeneratorWrites) {
  const std::string root = EIGENHEADS_SOURCE_DIR;
  const std::string command = "python3 -B '" + root +
                              "/tests/plot/make_character_widths.py' --check '" + root +
                              "/include/eigenheads/plot/character_width_tables.hpp'";
  if (std::system("python3 -c '' 2>/dev/null") != 0) GTEST_SKIP() << "this needs python3";
  const int status = std::system(command.c_str());
  if (status == 77 << 8) GTEST_SKIP() << "python3 has another version of Unicode";
  EXPECT_EQ(status, 0) << command;
}

}  // namespace
