// SPDX-License-Identifier: MIT
// Numbers of 16 bits: rounded to the nearest, ties to even, and widened exactly.
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <optional>

#include <eigenheads/storage.hpp>

#include "subnormals.hpp"
#include "support.hpp"

namespace {

using namespace support;
using eh::BFloat16, eh::Half;

[[nodiscard]] float of_bits(std::uint32_t bits) { return std::bit_cast<float>(bits); }

// T1.07, also where subnormal numbers count as 0.
TEST(Storage, BFloat16IsTheNearestOrStaysNaN) {
  struct Row {
    std::uint32_t from;
    std::uint16_t to;
  };
  for (const Row& row : {Row{0x3F808000, 0x3F80}, Row{0x3F818000, 0x3F82}, Row{0x3F808001, 0x3F81},
                         Row{0x3E89CCD5, 0x3E8A}, Row{0x7F7F7FFF, 0x7F7F}, Row{0x7F7F8000, 0x7F80},
                         Row{0x00008000, 0x0000}, Row{0x00008001, 0x0001}, Row{0xBF818000, 0xBF82},
                         Row{0x80000000, 0x8000}, Row{0xFF800000, 0xFF80}})
    for (const bool are_lost : {false, true}) {
      std::optional<SubnormalsAreLost> without;
      if (are_lost) without.emplace();
      const BFloat16 rounded = BFloat16::rounded(of_bits(row.from));
      EXPECT_EQ(rounded.bits, row.to) << std::hex << row.from;
      EXPECT_EQ(std::bit_cast<std::uint32_t>(rounded.value()), std::uint32_t{row.to} << 16);
    }
  for (const std::uint32_t nan : {0x7F800001u, 0x7FFFFFFFu, 0xFF800001u, 0x7FC00000u}) {
    EXPECT_EQ(bits(BFloat16::rounded(of_bits(nan)).value()), bits(kNan<float>));
    EXPECT_EQ(bits(Half::rounded(of_bits(nan)).value()), bits(kNan<float>));
  }
}

// Of all numbers that there are, and of those half-way between two neighbours and beside that.
template <class Storage>
void round_like_arithmetic(std::uint16_t largest) {
  for (std::uint32_t u = 0; u < 0x10000; ++u) {
    const Storage x{static_cast<std::uint16_t>(u)};
    const std::uint32_t size = u & 0x7FFFu;
    if (size > static_cast<std::uint32_t>(largest) + 1) {
      EXPECT_FALSE(x.is_finite());
      continue;  // NaN
    }
    EXPECT_EQ(x.is_finite(), size <= largest);
    EXPECT_EQ(Storage::rounded(x.value()).bits, x.bits);
    if (size >= largest) continue;
    const Storage next{static_cast<std::uint16_t>(u + 1)};
    const double middle = (static_cast<double>(x.value()) + static_cast<double>(next.value())) / 2;
    const auto tie = static_cast<float>(middle);
    ASSERT_EQ(static_cast<double>(tie), middle);
    EXPECT_EQ(Storage::rounded(tie).bits, u % 2 == 0 ? x.bits : next.bits);
    EXPECT_EQ(Storage::rounded(std::nextafter(tie, x.value())).bits, x.bits);
    EXPECT_EQ(Storage::rounded(std::nextafter(tie, next.value())).bits, next.bits);
  }
}

TEST(Storage, HalfRoundsLikeArithmetic) {
  round_like_arithmetic<Half>(0x7BFF);
  EXPECT_EQ(Half{0x7BFF}.value(), 65504.0f);
  EXPECT_EQ(Half{0x0001}.value(), 0x1p-24f);
  EXPECT_EQ(Half{0x0400}.value(), 0x1p-14f);
  EXPECT_EQ(Half::rounded(65519.996f).bits, 0x7BFF);
  EXPECT_EQ(Half::rounded(65520.0f).bits, 0x7C00);
  EXPECT_EQ(Half::rounded(-1e30f).bits, 0xFC00);
  EXPECT_EQ(Half::rounded(0x1p-25f).bits, 0);  // a tie
  EXPECT_EQ(Half::rounded(std::nextafter(0x1p-25f, 1.0f)).bits, 1);
  EXPECT_EQ(Half::rounded(-0x1p-26f).bits, 0x8000);
  EXPECT_EQ(Half::rounded(0x1p-149f).bits, 0);
}

TEST(Storage, BFloat16RoundsLikeArithmetic) {
  round_like_arithmetic<BFloat16>(0x7F7F);
  EXPECT_EQ(BFloat16{0x3F80}.value(), 1.0f);
}

}  // namespace
