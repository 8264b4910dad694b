// SPDX-License-Identifier: MIT
// Ticks: round numbers, two at least, with as many decimals as their step has.
#include <gtest/gtest.h>
#include <string>
#include <vector>

#include <eigenheads/plot/ticks.hpp>

namespace {

using namespace eigenheads::plot;
using Strings = std::vector<std::string>;

TEST(Ticks, AreRoundAndInside) {
  const auto texts = [](double low, double high, int intervals) {
    Strings all;
    for (const Tick& tick : value_ticks(low, high, intervals)) all.push_back(tick.text);
    return all;
  };
  EXPECT_EQ(texts(0, 1, 5), (Strings{"0.0", "0.2", "0.4", "0.6", "0.8", "1.0"}));
  EXPECT_EQ(texts(0, 1, 4), (Strings{"0.00", "0.25", "0.50", "0.75", "1.00"}));
  EXPECT_EQ(texts(-1.5, 0.7, 3), (Strings{"\u22121", "0"}));
  EXPECT_EQ(texts(0, 3000, 3), (Strings{"0", "1000", "2000", "3000"}));
  EXPECT_EQ(texts(0, 4e-8, 2), (Strings{"0", "2e\u221208", "4e\u221208"}));
  EXPECT_GE(texts(1, 1 + 2e-6, 3).size(), 2u);
  EXPECT_GE(texts(-1e300, 1e300, 8).size(), 2u);
}

TEST(Ticks, StridesAreRound) {
  EXPECT_EQ(round_stride(0.1), 1);
  EXPECT_EQ(round_stride(1.5), 2);
  EXPECT_EQ(round_stride(2.5), 5);
  EXPECT_EQ(round_stride(5.5), 10);
  EXPECT_EQ(round_stride(1e6), 1'000'000);
}

}  // namespace
