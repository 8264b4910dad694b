// SPDX-License-Identifier: MIT
// Dropout is a probability below one, and prints as PyTorch's does. Which weights it drops is
// decided by seed and place, with the probability that was asked for.
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include <eigenheads/dropout.hpp>
#include <eigenheads/random.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::Dropout, eh::dropout_mask, eh::DropoutMask, eh::DropoutSeed;

TEST(Dropout, ItsProbabilityIsBelowOne) {
  EXPECT_EQ(Dropout().p(), 0);
  for (const double p : {0.0, 0.1, 0.5, 1 - 0x1p-53}) EXPECT_EQ(Dropout(p).p(), p);
}

TEST(Dropout, OtherNumbersAreRefused) {
  const auto refused = [](double p) { return refusal([&] { return Dropout(p); }); };
  const auto sentence = [](const std::string& p) {
    return "eigenheads: dropout is " + p + "; expected 0 <= dropout < 1";
  };
  EXPECT_EQ(refused(1), sentence("1"));
  EXPECT_EQ(refused(1.1), sentence("1.1"));
  EXPECT_EQ(refused(-0.1), sentence("-0.1"));
  EXPECT_EQ(refused(-Limits<double>::denorm_min()), sentence("-5e-324"));
  EXPECT_EQ(refused(kNan<double>), sentence("nan"));
  EXPECT_EQ(refused(kInf<double>), sentence("inf"));
  EXPECT_EQ(refused(-kInf<double>), sentence("-inf"));
}

TEST(Dropout, PrintsTheShortestNumberThatReadsBack) {
  const auto text = [](double p) {
    std::ostringstream out;
    out.precision(1);  // of no effect
    out << Dropout(p);
    return out.str();
  };
  EXPECT_EQ(text(0), "Dropout(p=0, inplace=False)");
  EXPECT_EQ(text(0.5), "Dropout(p=0.5, inplace=False)");
  EXPECT_EQ(text(0.1), "Dropout(p=0.1, inplace=False)");
  EXPECT_EQ(text(0.1 + 0.2), "Dropout(p=0.30000000000000004, inplace=False)");
}

// ---- Masks -------------------------------------------------------------------------------------

template <class T>
class DropoutMaskTest : public testing::Test {};
TYPED_TEST_SUITE(DropoutMaskTest, Scalars, ScalarNames);

// Written out: word k % 4 of philox4x32({k / 4, q, h, b}, seed), against p.
TYPED_TEST(DropoutMaskTest, APlaceIsAWordOfPhilox) {
  using T = TypeParam;
  constexpr Index B = 2, H = 3, Q = 4, K = 13;
  for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{0x123456789abcdef0}})
    for (const double p : {0.1, 0.25, 0.3, 0.5, 0.9}) {
      const auto mask = dropout_mask<T>(p, DropoutSeed{seed}, B, H, Q, K);
      for (std::uint32_t b = 0; b < B; ++b)
        for (std::uint32_t h = 0; h < H; ++h)
          for (std::uint32_t q = 0; q < Q; ++q)
            for (std::uint32_t k = 0; k < K; ++k) {
              const auto words = eh::philox4x32(
                  {k / 4, q, h, b},
                  {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
              const bool dropped = words[k % 4] * 0x1p-32 < p;
              ASSERT_EQ(mask(b, h, q, k), dropped ? T(0) : static_cast<T>(1 / (1 - p)));
            }
    }
}

// Of any piece of a row: what lies beside it stays as it is.
TYPED_TEST(DropoutMaskTest, ARowIsItsElements) {
  using T = TypeParam;
  constexpr Index K = 18;
  for (const double p : {0.0, 0.4}) {
    const auto mask = DropoutMask<T>::of(Dropout(p), DropoutSeed{5});
    for (Index begin = 0; begin <= K; ++begin)
      for (Index end = begin; end <= K; ++end) {
        std::vector<T> row(K, T(-1));
        mask.factors(1, 2, 3, begin, end, row.data() + begin);
        for (Index k = 0; k < K; ++k)
          ASSERT_EQ(row[static_cast<std::size_t>(k)],
                    k >= begin && k < end ? mask.factor(1, 2, 3, k) : T(-1))
              << begin << ' ' << end << ' ' << k;
      }
  }
}

TYPED_TEST(DropoutMaskTest, NothingIsDroppedWithoutDropout) {
  using T = TypeParam;
  EXPECT_TRUE(all_are(dropout_mask<T>(0, DropoutSeed{9}, 2, 3, 4, 5), 1));
  EXPECT_TRUE(all_are(dropout_mask<T>(1e-11, DropoutSeed{9}, 2, 3, 4, 5), 1));  // below 2^-33
  const DropoutMask<T> none;
  EXPECT_EQ(none.factor(1, 2, 3, 4), T(1));
  std::array<T, 3> row{};
  none.factors(1, 2, 3, 1, 4, row.data());
  EXPECT_EQ(row, (std::array<T, 3>{1, 1, 1}));
}

// All but one word in 2^32, at the largest probability below 1; and the mean factor is 1 all the same.
TYPED_TEST(DropoutMaskTest, AlmostEverythingIsDropped) {
  using T = TypeParam;
  const double p = 1 - 0x1p-53;
  EXPECT_TRUE(all_are(dropout_mask<T>(p, DropoutSeed{9}, 2, 3, 4, 50), 0));
  const auto mask = DropoutMask<T>::of(Dropout(p), DropoutSeed{9});
  EXPECT_EQ(mask.threshold, 0xffffffffu);
  EXPECT_EQ(mask.scale, T(0x1p32));
  for (const double kept : {1e-3, 1e-6, 1e-8, 1e-9, 1e-10, 1e-12}) {
    const auto few = DropoutMask<T>::of(Dropout(1 - kept), {});
    EXPECT_NEAR((0x1p32 - few.threshold) * 0x1p-32 * static_cast<double>(few.scale), 1, 1e-6)
        << kept;
  }
}

// Within 5 standard deviations of what independent draws give: how many are kept, the mean factor,
// and how many pairs are kept together, along each axis and within the words of one call.
TYPED_TEST(DropoutMaskTest, KeepsWhatWasAskedForIndependently) {
  using T = TypeParam;
  constexpr Index B = 4, H = 5, Q = 16, K = 131;
  for (const double p : {0.01, 0.1, 0.3, 0.5, 0.9})
    for (std::uint64_t seed = 1; seed <= 3; ++seed) {
      const auto mask = dropout_mask<T>(p, DropoutSeed{seed}, B, H, Q, K);
      for (const auto& step : {std::array<Index, 4>{0, 0, 0, 0},
                               {1, 0, 0, 0},
                               {0, 1, 0, 0},
                               {0, 0, 1, 0},
                               {0, 0, 0, 1},
                               {0, 0, 0, 2},
                               {0, 0, 0, 3},
                               {0, 0, 0, 4}}) {
        SCOPED_TRACE(testing::PrintToString(step) + " at p = " + std::to_string(p));
        const auto [to_b, to_h, to_q, to_k] = step;
        double count = 0, kept = 0, sum = 0;
        for (Index b = 0; b + to_b < B; ++b)
          for (Index h = 0; h + to_h < H; ++h)
            for (Index q = 0; q + to_q < Q; ++q)
              for (Index k = 0; k + to_k < K; ++k) {
                const T here = mask(b, h, q, k),
                        there = mask(b + to_b, h + to_h, q + to_q, k + to_k);
                ++count;
                kept += here != 0 && there != 0;
                sum += static_cast<double>(here);
              }
        const bool is_pair = to_b + to_h + to_q + to_k > 0;
        const double share = is_pair ? (1 - p) * (1 - p) : 1 - p;
        // Two pairs may share an element, which at most triples the variance.
        const double variance = count * share * (1 - share) * (is_pair ? 3 : 1);
        EXPECT_NEAR(kept, count * share, 5 * std::sqrt(variance));
        EXPECT_NEAR(sum / count, 1, 5 * std::sqrt(p / (1 - p) / count) + 1e-6);
      }
    }
}

// Places, not lengths, decide.
TYPED_TEST(DropoutMaskTest, ASmallerCallIsACornerOfALargerOne) {
  using T = TypeParam;
  const auto large = dropout_mask<T>(0.5, DropoutSeed{3}, 3, 4, 5, 70),
             small = dropout_mask<T>(0.5, DropoutSeed{3}, 2, 3, 4, 33);
  for (Index b = 0; b < 2; ++b)
    for (Index h = 0; h < 3; ++h)
      for (Index q = 0; q < 4; ++q)
        for (Index k = 0; k < 33; ++k) ASSERT_EQ(small(b, h, q, k), large(b, h, q, k));
}

// Each bit of the seed gives another mask, and so does each place; both scalar types drop the same.
TEST(DropoutMask, SeedAndPlaceDecide) {
  std::set<std::uint64_t> patterns;
  std::size_t count = 0;
  const auto add = [&](std::uint64_t seed, Index b, Index h, Index q) {
    const auto mask = DropoutMask<float>::of(Dropout(0.5), DropoutSeed{seed});
    const auto wide = DropoutMask<double>::of(Dropout(0.5), DropoutSeed{seed});
    std::uint64_t pattern = 0;
    for (Index k = 0; k < 64; ++k) {
      const bool kept = mask.factor(b, h, q, k) != 0;
      EXPECT_EQ(kept, wide.factor(b, h, q, k) != 0);
      pattern = pattern << 1 | std::uint64_t{kept};
    }
    patterns.insert(pattern);
    ++count;
  };
  for (int bit = 0; bit < 64; ++bit) add(std::uint64_t{1} << bit, 0, 0, 0);
  for (Index i = 0; i < 64; ++i) add(0, i % 4, i / 4 % 4, i / 16);
  EXPECT_EQ(patterns.size(), count);
}

TYPED_TEST(DropoutMaskTest, WhatIsNoProbabilityOrShapeIsRefused) {
  using T = TypeParam;
  const auto refused = [](double p, Index Q) {
    return refusal([&] { return dropout_mask<T>(p, DropoutSeed{}, 1, 1, Q, 1); });
  };
  EXPECT_EQ(refused(1, 1), "eigenheads: dropout is 1; expected 0 <= dropout < 1");
  EXPECT_EQ(refused(0.5, -1), "eigenheads: dropout mask has a negative dimension: [1, 1, -1, 1]");
}

TYPED_TEST(DropoutMaskTest, AnEmptyAxisStaysEmpty) {
  using T = TypeParam;
  EXPECT_EQ(dropout_mask<T>(0.5, DropoutSeed{}, 2, 3, 4, 0).size(), 0);
  EXPECT_EQ(dropout_mask<T>(0.5, DropoutSeed{}, 0, 3, 4, 5).size(), 0);
}

}  // namespace
