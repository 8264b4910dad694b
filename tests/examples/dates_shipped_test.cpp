// SPDX-License-Identifier: MIT
// The weights that come with examples/dates: that they read what nobody trained them on, and that
// training has the same bits everywhere.
#include <bit>
#include <cstdint>
#include <filesystem>
#include <gtest/gtest.h>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>

#include "dates/alphabet.hpp"
#include "dates/checkpoint.hpp"
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
      {"hello world", "----------"},
  };
  for (const auto& [text, symbols] : all)
    EXPECT_EQ(read(model, {fold(text)}, context).front().symbols, symbols) << text;
}

// 99.75 % of 20000; fewer here, so that it is quick.
TEST(DatesShipped, ReadsTheTestToTheDay) {
  eigenheads::Context context(2);
  const Score score = evaluate(shipped(), Phrases(Split::test, 2), 3000, context);
  EXPECT_GE(score.exact_share(), 0.99);
  EXPECT_LE(score.false_accept_share(), 0.01);
  EXPECT_LE(score.false_reject_share(), 0.01);
}

// `dates train` makes such weights in some minutes: here are its first steps, to the bit. Those that
// are shipped were trained when gradients were still summed in the order of version 0.1: the next to be
// trained begin like this.
TEST(DatesShipped, TrainingBeginsWithTheseBits) {
  eigenheads::Context context(2);
  Trainer<float> trainer(TrainOptions{});
  for (int i = 0; i < 12; ++i) trainer.step(context);
  std::uint64_t hash = 0xCBF29CE484222325u;
  trainer.model.for_each_parameter([&](const auto& parameter) {
    for (eigenheads::Index i = 0; i < parameter.size(); ++i)
      hash = (hash ^ std::bit_cast<std::uint32_t>(parameter.get(i))) * 0x100000001B3u;
  });
  EXPECT_EQ(hash, 0xfdf3ba7846ee4e12u);
}

}  // namespace
