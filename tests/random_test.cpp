// SPDX-License-Identifier: MIT
// Numbers that are the same everywhere: known answers first, then their statistics.
#include <array>
#include <set>
#include <vector>

#include <eigenheads/random.hpp>

#include "support.hpp"

namespace {

using namespace support;
using Words = std::array<std::uint32_t, 4>;

// kat_vectors of Random123 (Salmon et al.), philox4x32 with 10 rounds.
TEST(Random, PhiloxGivesItsKnownAnswers) {
  constexpr std::uint32_t ones = 0xffffffff;
  EXPECT_EQ(eh::philox4x32({0, 0, 0, 0}, {0, 0}),
            (Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  EXPECT_EQ(eh::philox4x32({ones, ones, ones, ones}, {ones, ones}),
            (Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(
      eh::philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
      (Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// The test vectors of FNV-1a, 64 bits.
TEST(Random, AStreamIsTheHashOfItsName) {
  static_assert(eh::random_stream("") == 0xcbf29ce484222325);
  static_assert(eh::random_stream("a") == 0xaf63dc4c8601ec8c);
  static_assert(eh::random_stream("foobar") == 0x85944171f73967e8);
  EXPECT_NE(eh::random_stream("W_q.weight"), eh::random_stream("W_k.weight"));
}

// The counter is (i / 2, stream), the key is the seed: computed apart, in Python.
TEST(Random, BitsAreAFunctionOfSeedStreamAndPlace) {
  static_assert(eh::random_bits(0, 0, 0) == 0xe169c58d6627e8d5);
  static_assert(eh::random_bits(0, 0, 1) == 0x9b00dbd8bc57ac4c);
  EXPECT_EQ(eh::random_bits(1, 2, 3), 0x0e0b3cf344541f91u);
  if constexpr (sizeof(Index) > 4) {
    constexpr auto place = static_cast<Index>(std::uint64_t{1} << 40);
    EXPECT_EQ(eh::random_bits(0x0123456789abcdef, 0xfedcba9876543210, place), 0x9b302c486faa62ecu);
  }
}

// Places, streams and seeds that differ in one bit of either word have nothing in common.
TEST(Random, NoTwoNumbersAreTheSame) {
  std::set<std::uint64_t> seen;
  std::size_t drawn = 0;
  const auto draw = [&](std::uint64_t seed, std::uint64_t stream, Index i) {
    seen.insert(eh::random_bits(seed, stream, i));
    ++drawn;
  };
  for (Index i = 0; i < 10000; ++i) draw(1, 1, i);
  for (int bit = 0; bit < 64; ++bit) {
    draw((std::uint64_t{1} << bit) ^ 7, 7, 5);
    draw(7, (std::uint64_t{1} << bit) ^ 7, 5);
    if (bit > 13 && bit < Limits<Index>::digits) draw(1, 1, Index{1} << bit);
  }
  EXPECT_EQ(seen.size(), drawn);
}

// The chi-square of 65536 draws in 256 cells: 255 degrees of freedom, so 255 +- 22.6; 5 sigma.
TEST(Random, EveryByteIsUniform) {
  for (const std::uint64_t seed : {0u, 1u, 2026u})
    for (int shift = 0; shift < 64; shift += 8) {
      std::array<int, 256> cells{};
      for (Index i = 0; i < 65536; ++i)
        ++cells[(eh::random_bits(seed, eh::random_stream("W_q.weight"), i) >> shift) & 255];
      double chi_square = 0;
      for (const int count : cells) chi_square += (count - 256) * (count - 256) / 256.0;
      EXPECT_GT(chi_square, 255 - 5 * 22.6) << seed << ' ' << shift;
      EXPECT_LT(chi_square, 255 + 5 * 22.6) << seed << ' ' << shift;
    }
}

// Neighbours are independent: the top four bits of one number against those of the next.
TEST(Random, NeighboursAreIndependent) {
  std::array<int, 256> cells{};
  for (Index i = 0; i < 65536; ++i)
    ++cells[static_cast<std::size_t>((eh::random_bits(3, 4, i) >> 60) * 16 +
                                     (eh::random_bits(3, 4, i + 1) >> 60))];
  double chi_square = 0;
  for (const int count : cells) chi_square += (count - 256) * (count - 256) / 256.0;
  EXPECT_NEAR(chi_square, 255, 5 * 22.6);
}

// Mean 0 +- 1 / sqrt(3 n) and variance 1/3 +- sqrt(4/45 / n), five times.
TEST(Random, SymmetricNumbersFillTheirInterval) {
  constexpr int n = 1 << 16;
  double sum = 0, squares = 0, least = 1, most = -1;
  for (Index i = 0; i < n; ++i) {
    const double x = eh::random_symmetric(5, 6, i);
    ASSERT_TRUE(x >= -1 && x < 1) << x;
    ASSERT_EQ(x * 0x1p52, static_cast<double>(static_cast<std::int64_t>(x * 0x1p52)));
    sum += x;
    squares += x * x;
    least = std::min(least, x);
    most = std::max(most, x);
  }
  EXPECT_NEAR(sum / n, 0, 5 / std::sqrt(3.0 * n));
  EXPECT_NEAR(squares / n, 1.0 / 3, 5 * std::sqrt(4.0 / 45 / n));
  EXPECT_LT(least, -0.999);
  EXPECT_GT(most, 0.999);
}

}  // namespace
