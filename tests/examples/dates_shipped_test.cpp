// SPDX-License-Identifier: MIT
// The weights that come with examples/dates: that they read what nobody trained them on, and that
// training has the same bits everywhere.
#include <bit>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <gtest/gtest.h>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>

#include "dates/alphabet.hpp"
#include "dates/checkpoint.hpp"
#include "dates/evaluation.hpp"
#include "dates/phrases.hpp"
#include "dates/reading.hpp"
#include "dates/train.hpp"

namespace {

using namespace dates;

[[nodiscard]] Model<float> shipped() {
  return load_model(std::filesystem::path(EIGENHEADS_SOURCE_DIR) / "examples" / "dates" /
                    "weights.safetensors");
}

TEST(DatesShipped, ReadsWhatPeopleWrite) {
  const Model<float> model = shipped();
  eigenheads::Context context;
  const std::vector<std::pair<std::string, std::string>> all{
      {"March 5, 1999", "1999-03-05"},
      {"Sat, 21st of Nov 2026", "2026-11-21"},
      {"3.7.88", "1988-07-03"},
      {"3/7/88", "1988-03-07"},
      {"5. M\u00e4rz 1999", "1999-03-05"},
      {"le 14 juillet 1989", "1989-07-14"},
      {"12 de octubre de 1992", "1992-10-12"},
      {"2024-02-29", "2024-02-29"},
      {"Feb 30, 1999", "1999-02-30"},
      {"29 February 1500", "1500-02-29"},
      {"March 5, 1918", "1918-03-05"},
      {"July 4, 1776", "1776-07-04"},
      {"2101-03-01", "2101-03-01"},
      {"Thu, 5 Mar 1066 12:30:45 +0100", "1066-03-05"},
      {"Mon Jul  4 12:00:00 1776", "1776-07-04"},
      {"no. 4711 of 5 May 1999", "1999-05-05"},
      {"Torino, 3/4/1893", "1893-04-03"},
      {"19990305T123045Z", "1999-03-05"},
      {"hello world", "----------"},
  };
  for (const auto& [text, symbols] : all) {
    const Reading reading = read(model, {fold(text)}, context).front();
    EXPECT_EQ(reading.symbols, symbols) << text;
    EXPECT_EQ(reading.is_written() && reading.is_in_doubt, false) << text;
  }
}

TEST(DatesShipped, FindsNoDateWhereThereIsNone) {
  const Model<float> model = shipped();
  eigenheads::Context context;
  for (const char* text : {"5 March 19180", "5 March 918", "2024-W03-2", "2024-065",
                           "version 10.4.11", "v10.4.11", "\u00a310.4.11", "tel. 03-11-45",
                           "page 1999", "1999", "in 1776", "Mar  5 12:30:45 host su:"})
    EXPECT_FALSE(read(model, {fold(text)}, context).front().date()) << text;
  EXPECT_EQ(read(model, {"10.4.11"}, context).front().date(), (Date{2011, 4, 10}));
}

// README has the figures of more phrases; here it is to be quick, and the bounds leave room for
// what so few phrases differ by.
TEST(DatesShipped, ReadsEveryCenturyAndRefusesEveryKindOfNumber) {
  eigenheads::Context context(2);
  const SplitScores unseen = score_split(shipped(), Split::test, 4000, context);
  EXPECT_GE(unseen.four_digits.exact_share(), 0.993);
  EXPECT_LE(unseen.four_digits.misread(), unseen.four_digits.dates / 500);
  EXPECT_GE(unseen.two_digits.exact_share(), 0.99);
  for (std::size_t i = 0; i < unseen.centuries.size(); ++i) {
    EXPECT_GT(unseen.centuries[i].dates, 80) << i;
    EXPECT_GE(unseen.centuries[i].exact_share(), 0.97) << i;
  }
  for (std::size_t i = 1; i < unseen.kinds.size(); ++i) {
    EXPECT_EQ(unseen.kinds[i].others, 400) << kKindNames[i];
    EXPECT_LE(unseen.kinds[i].false_accept_share(), 0.005) << kKindNames[i];
  }
}

// README has the figures of 2000 texts each, and says which formats are read badly. These bounds leave
// room for what 80 texts differ by.
struct Bounds {
  double least_read = 0.95, most_misread = 0.02;
};
Bounds bounds_of(const HeldOutFormat& format) {
  if (format.set == HeldOut::first) return {};
  const std::map<std::string_view, Bounds> weak{{"logs of programs", {0.88}},
                                                {"syslog, with a year", {0.60, 0.25}},
                                                {"files and folders", {0.68, 0.28}},
                                                {"ISO 8601 basic, names, calendars", {0.75}},
                                                {"invoices, German", {0.87}}};
  const auto found = weak.find(format.name);
  return found == weak.end() ? Bounds{} : found->second;
}

TEST(DatesShipped, ReadsOrRefusesTheFormatsThatTrainingNeverMeets) {
  eigenheads::Context context(2);
  const std::vector<Score> scores = score_formats(shipped(), 80, context);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const HeldOutFormat& format = kHeldOutFormats[i];
    EXPECT_EQ(format.holds_date ? scores[i].dates : scores[i].others, 80) << format.name;
    const Bounds bounds = bounds_of(format);
    EXPECT_TRUE(!format.holds_date || scores[i].exact_share() >= bounds.least_read) << format.name;
    const auto wrong = static_cast<double>(scores[i].misread() + scores[i].false_accepts);
    EXPECT_LE(wrong / 80, bounds.most_misread) << format.name;
  }
}

// `dates train` makes the shipped weights in some minutes: here are its first steps, to the bit.
TEST(DatesShipped, TrainingBeginsWithTheseBits) {
  eigenheads::Context context(2);
  Trainer<float> trainer(TrainOptions{});
  for (int i = 0; i < 12; ++i) trainer.step(context);
  std::uint64_t hash = 0xCBF29CE484222325u;
  trainer.model.for_each_parameter([&](const auto& parameter) {
    for (eigenheads::Index i = 0; i < parameter.size(); ++i)
      hash = (hash ^ std::bit_cast<std::uint32_t>(parameter.get(i))) * 0x100000001B3u;
  });
  EXPECT_EQ(hash, 0x85512480bcb94d2au);
}

}  // namespace
