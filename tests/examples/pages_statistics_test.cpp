// SPDX-License-Identifier: MIT
// The statistics of examples/pages: ranks with ties, Spearman's correlation, and the exact
// rank tests against tables and against every arrangement tried.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <gtest/gtest.h>
#include <vector>

#include "pages/statistics.hpp"

namespace {

using namespace pages;
using Numbers = std::vector<double>;

TEST(Statistics, MeansAndTheirErrors) {
  const Numbers x{2, 4, 4, 4, 5, 5, 7, 9};
  EXPECT_DOUBLE_EQ(mean(x), 5);
  EXPECT_DOUBLE_EQ(standard_deviation(x), std::sqrt(32.0 / 7));
  EXPECT_DOUBLE_EQ(standard_error(x), std::sqrt(32.0 / 7 / 8));
  EXPECT_DOUBLE_EQ(median(x), 4.5);
  EXPECT_DOUBLE_EQ(median({3, 1, 2}), 2);
  EXPECT_EQ(standard_deviation(Numbers{3}), 0);
  EXPECT_EQ(mean(Numbers{}), 0);
  EXPECT_EQ(standard_error(Numbers{}), 0);
  EXPECT_EQ(median({}), 0);
}

TEST(Ranks, EqualValuesShareTheMeanOfTheirs) {
  EXPECT_EQ(ranks(Numbers{30, 10, 20}), (Numbers{3, 1, 2}));
  EXPECT_EQ(ranks(Numbers{5, 1, 5, 5, 0}), (Numbers{4, 2, 4, 4, 1}));
  EXPECT_EQ(ranks(Numbers{7, 7}), (Numbers{1.5, 1.5}));
  EXPECT_TRUE(ranks(Numbers{}).empty());
}

// The ten IQs and hours of television of Wikipedia's example: 1 - 6 * 194 / (10 * 99).
TEST(Spearman, ByHand) {
  const Numbers iq{106, 86, 100, 101, 99, 103, 97, 113, 112, 110},
      hours{7, 0, 27, 50, 28, 29, 20, 12, 6, 17};
  EXPECT_NEAR(*spearman(iq, hours), -29.0 / 165, 1e-15);
  EXPECT_DOUBLE_EQ(*spearman(iq, iq), 1);
  Numbers reversed;
  for (const double x : iq) reversed.push_back(-x * x * x);
  EXPECT_DOUBLE_EQ(*spearman(iq, reversed), -1);
}

// Ranks 1, 2.5, 2.5, 4 against 1, 2, 3, 4: 4.5 / sqrt(4.5 * 5).
TEST(Spearman, WithTies) {
  EXPECT_NEAR(*spearman(Numbers{1, 2, 2, 3}, Numbers{10, 20, 30, 40}), 4.5 / std::sqrt(22.5),
              1e-15);
  EXPECT_FALSE(spearman(Numbers{1, 1, 1}, Numbers{1, 2, 3}).has_value());
  EXPECT_FALSE(spearman(Numbers{1}, Numbers{2}).has_value());
}

// Five of five: 1 in 32 by chance, the least that five pairs can say.
TEST(SignedRankTest, OfTables) {
  const RankTest best = signed_rank_test(Numbers{0.1, 0.5, 0.2, 0.9, 0.3});
  EXPECT_EQ(best.statistic, 15);
  EXPECT_DOUBLE_EQ(best.p_greater, 1.0 / 32);
  EXPECT_DOUBLE_EQ(best.p_two_sided, 2.0 / 32);
  EXPECT_DOUBLE_EQ(signed_rank_test(Numbers{-1, -2, -3, -4, -5}).p_greater, 1);
  // n = 10, W- = 8: the table's critical value for 0.05, two-sided; 25 of the 1024 sums reach it.
  const RankTest ten = signed_rank_test(Numbers{-1, 2, 3, 4, 5, 6, -7, 8, 9, 10});
  EXPECT_EQ(ten.statistic, 47);
  EXPECT_DOUBLE_EQ(ten.p_two_sided, 2 * 25.0 / 1024);
}

TEST(SignedRankTest, LeavesOutZeros) {
  const RankTest with = signed_rank_test(Numbers{0, 1, -2, 3, 0});
  const RankTest without = signed_rank_test(Numbers{1, -2, 3});
  EXPECT_EQ(with.statistic, without.statistic);
  EXPECT_EQ(with.p_greater, without.p_greater);
  EXPECT_EQ(signed_rank_test(Numbers{0, 0}).p_two_sided, 1);
}

// Against all 2^n signs, with ties.
TEST(SignedRankTest, CountsEveryArrangement) {
  const Numbers differences{1.5, -1.5, 2, 2, -0.5, 4, 2};
  Numbers sizes;
  for (const double d : differences) sizes.push_back(std::abs(d));
  const Numbers rank = ranks(sizes);
  const RankTest test = signed_rank_test(differences);
  double above = 0, below = 0;
  const unsigned all = 1u << rank.size();
  for (unsigned signs = 0; signs < all; ++signs) {
    double sum = 0;
    for (std::size_t i = 0; i < rank.size(); ++i) sum += (signs >> i & 1) != 0 ? rank[i] : 0;
    above += sum >= test.statistic;
    below += sum <= test.statistic;
  }
  EXPECT_DOUBLE_EQ(test.p_greater, above / all);
  EXPECT_DOUBLE_EQ(test.p_two_sided, std::min(1.0, 2 * std::min(above, below) / all));
}

// 5 of each, all apart: 1 of the 252 ways to deal the ranks. n = 4, 5 with U = 2 is p = 0.0635.
TEST(MannWhitneyTest, OfTables) {
  const RankTest apart = mann_whitney_test(Numbers{6, 7, 8, 9, 10}, Numbers{1, 2, 3, 4, 5});
  EXPECT_EQ(apart.statistic, 25);
  EXPECT_DOUBLE_EQ(apart.p_greater, 1.0 / 252);
  EXPECT_DOUBLE_EQ(apart.p_two_sided, 2.0 / 252);
  EXPECT_EQ(mann_whitney_test(Numbers{1, 2}, Numbers{3, 4, 5}).statistic, 0);
  EXPECT_DOUBLE_EQ(mann_whitney_test(Numbers{1, 2, 3, 6}, Numbers{4, 5, 7, 8, 9}).p_two_sided,
                   2 * 4.0 / 126);
  EXPECT_EQ(mann_whitney_test(Numbers{1, 1}, Numbers{1, 1}).p_two_sided, 1);
  EXPECT_EQ(mann_whitney_test(Numbers{}, Numbers{1}).p_two_sided, 1);
}

// Against all ways to deal the values, with ties.
TEST(MannWhitneyTest, CountsEveryArrangement) {
  const Numbers x{3, 5, 5, 9}, y{1, 3, 5, 2, 4};
  Numbers both = x;
  both.insert(both.end(), y.begin(), y.end());
  const auto u_of = [&](unsigned chosen) {
    double u = 0;
    for (std::size_t i = 0; i < both.size(); ++i)
      for (std::size_t j = 0; j < both.size(); ++j)
        if ((chosen >> i & 1) != 0 && (chosen >> j & 1) == 0)
          u += both[i] > both[j] ? 1 : both[i] == both[j] ? 0.5 : 0;
    return u;
  };
  const RankTest test = mann_whitney_test(x, y);
  EXPECT_DOUBLE_EQ(test.statistic, u_of(0b1111));
  double above = 0, below = 0, all = 0;
  for (unsigned chosen = 0; chosen < 1u << both.size(); ++chosen)
    if (std::popcount(chosen) == 4) {
      ++all;
      above += u_of(chosen) >= test.statistic;
      below += u_of(chosen) <= test.statistic;
    }
  EXPECT_DOUBLE_EQ(test.p_greater, above / all);
  EXPECT_DOUBLE_EQ(test.p_two_sided, std::min(1.0, 2 * std::min(above, below) / all));
}

}  // namespace
