// SPDX-License-Identifier: MIT
// NaN and infinity are told from the bits, at compile time too.
#include <bit>

#include <eigenheads/detail/float_bits.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::detail::BitsOf, eh::detail::infinity_bits, eh::detail::is_finite, eh::detail::is_nan,
    eh::detail::is_negative_infinity, eh::detail::is_zero;

static_assert(is_finite(1.0f) && !is_finite(kInf<double>) && is_nan(kNan<float>));

template <class T>
class FloatBitsTest : public testing::Test {
 protected:
  // +x or -x, where `bits` are those of x without its sign.
  static T number(BitsOf<T> bits, bool negative) {
    const auto sign = static_cast<BitsOf<T>>(BitsOf<T>{negative} << (8 * sizeof(T) - 1));
    return std::bit_cast<T>(static_cast<BitsOf<T>>(bits | sign));
  }
  static constexpr BitsOf<T> quiet = BitsOf<T>{1} << (Limits<T>::digits - 2);
  static constexpr BitsOf<T> all = static_cast<BitsOf<T>>(~BitsOf<T>{0}) >> 1;
};
TYPED_TEST_SUITE(FloatBitsTest, Scalars, ScalarNames);

TYPED_TEST(FloatBitsTest, FiniteNumbersOfEitherSign) {
  using T = TypeParam;
  for (const T x : {T(0), Limits<T>::denorm_min(), Limits<T>::min(), T(1), Limits<T>::max()})
    for (const T y : {x, -x}) {
      EXPECT_TRUE(is_finite(y)) << y;
      EXPECT_FALSE(is_nan(y)) << y;
      EXPECT_FALSE(is_negative_infinity(y)) << y;
    }
}

TYPED_TEST(FloatBitsTest, Infinities) {
  using T = TypeParam;
  for (const T x : {kInf<T>, -kInf<T>}) {
    EXPECT_FALSE(is_finite(x));
    EXPECT_FALSE(is_nan(x));
  }
  EXPECT_TRUE(is_negative_infinity(-kInf<T>));
  EXPECT_FALSE(is_negative_infinity(kInf<T>));
}

TYPED_TEST(FloatBitsTest, EveryKindOfNanOfEitherSign) {
  using T = TypeParam;
  constexpr auto infinity = infinity_bits<T>;
  for (const auto bits : {BitsOf<T>(infinity + 1), BitsOf<T>(infinity | this->quiet),
                          BitsOf<T>(infinity | (this->quiet - 1)), BitsOf<T>(this->all)})
    for (const bool negative : {false, true}) {
      const T x = this->number(bits, negative);
      EXPECT_TRUE(is_nan(x)) << std::hex << bits;
      EXPECT_FALSE(is_finite(x)) << std::hex << bits;
      EXPECT_FALSE(is_negative_infinity(x)) << std::hex << bits;
    }
}

TYPED_TEST(FloatBitsTest, ZeroIsNeitherNanNorSmall) {
  using T = TypeParam;
  for (const T x : {T(0), T(-0.0)}) EXPECT_TRUE(is_zero(x));
  for (const T x : {kNan<T>, -kNan<T>, Limits<T>::denorm_min(), T(-1), kInf<T>})
    EXPECT_FALSE(is_zero(x)) << x;
}

}  // namespace
