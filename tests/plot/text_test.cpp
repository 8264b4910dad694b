// SPDX-License-Identifier: MIT
// Labels as text that can be shown: no bytes that are no text, and nothing that reaches outside.
#include <gtest/gtest.h>
#include <string>
#include <string_view>

#include <eigenheads/plot/text.hpp>

namespace {

using namespace eigenheads::plot;

std::string read(std::string_view utf8) { return to_utf8(readable(utf8)); }

TEST(Text, ShowsControlCharacters) {
  EXPECT_EQ(read(std::string_view("a\0\t\n\x1B[2J\x7F", 9)), "a\u2400\u2409\u240A\u241B[2J\u2421");
  EXPECT_EQ(read("\u0080\u0085\u009B2J\u009F"), "\uFFFD\uFFFD\uFFFD2J\uFFFD");
  EXPECT_EQ(read("a\u2028b\u2029c"), "a\u2424b\u2424c");
}

TEST(Text, ReplacesWhatIsNotUtf8) {
  EXPECT_EQ(read("\xE6\x97"), "\uFFFD");
  EXPECT_EQ(read("\xE6\x97z\xFF\xC0\x80"), "\uFFFDz\uFFFD\uFFFD\uFFFD");
  EXPECT_EQ(read("\xED\xA0\x80"), "\uFFFD");
  EXPECT_EQ(read("\xF4\x90\x80\x80\xEF\xBF\xBE"), "\uFFFD\uFFFD");
  for (int first = 0; first < 256; ++first)
    for (int second = 0; second < 256; ++second)
      for (const char32_t rune :
           readable(std::string{static_cast<char>(first), static_cast<char>(second)}))
        EXPECT_TRUE(rune >= 0x20 && !(rune >= 0x7F && rune < 0xA0)) << first << ' ' << second;
}

TEST(Text, ElidesWholeCharacters) {
  EXPECT_EQ(elided("sat", 3), "sat");
  EXPECT_EQ(elided("sat", 1), "\u2026");
  EXPECT_EQ(elided("sat", 0), "");
  EXPECT_EQ(elided("mat.", 3), "ma\u2026");
  EXPECT_EQ(elided("ae\u0301e\u0301e\u0301", 5), "ae\u0301\u2026");
  EXPECT_EQ(elided("\U0001F469\u200D\U0001F467\U0001F469\u200D\U0001F467", 5),
            "\U0001F469\u200D\U0001F467\u2026");
  EXPECT_EQ(elided("e\u0301\u0301\u0301\u0301", 3), "e\u0301\u2026");
}

TEST(Text, EndsWhatItBegins) {
  const auto balance = [](std::u32string_view text) { return to_utf8(balanced(text)); };
  EXPECT_EQ(balance(U"abc"), "abc");
  EXPECT_EQ(balance(U"\u2067abc"), "\u2067abc\u2069");
  EXPECT_EQ(balance(U"\u202Eabc"), "\u202Eabc\u202C");
  EXPECT_EQ(balance(U"\u2066\u202Ea\u2067"), "\u2066\u202Ea\u2067\u2069\u202C\u2069");
  EXPECT_EQ(balance(U"\u202E\u2066a\u2069b\u202Cc"), "\u202E\u2066a\u2069b\u202Cc");
  EXPECT_EQ(balance(U"\u2066\u202Aa\u2069b"), "\u2066\u202Aa\u202C\u2069b");
  EXPECT_EQ(balance(U"\u2069\u2069\u202Ca"), "a");
  EXPECT_EQ(balance(U"\u202A\u2066\u202Ca"), "\u202A\u2066a\u2069\u202C");
}

TEST(Text, IsolatesWhatIsWrittenFromRightToLeft) {
  EXPECT_EQ(isolated("cat 0.25 \u732B"), "cat 0.25 \u732B");
  EXPECT_EQ(isolated(""), "");
  for (const std::string_view token :
       {"\u05D7\u05EA\u05D5\u05DC", "\u0642\u0637\u0629", "7\u0660", "\u200F", "\u061C", "\uFB2A",
        "\uFEDF", "\U0001E900", "\U00010800"})
    EXPECT_EQ(isolated(token), "\u2068" + std::string(token) + "\u2069");
  EXPECT_EQ(isolated("\u202E"), "\u2068\u202E\u202C\u2069");
  EXPECT_EQ(isolated("a\u2069b"), "\u2068ab\u2069");
  EXPECT_EQ(isolated("\u2067a"), "\u2068\u2067a\u2069\u2069");
  EXPECT_EQ(isolated("\u202Ea\u2029b"), "\u2068\u202Ea\u2424b\u202C\u2069");
}

}  // namespace
