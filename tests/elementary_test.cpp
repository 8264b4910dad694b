// SPDX-License-Identifier: MIT
// exp and log as a caller sees them; tests/kernels/math_test.cpp looks at their values.
#include <array>
#include <cmath>
#include <span>
#include <vector>

#include <eigenheads/elementary.hpp>

#include "support.hpp"

namespace {

using namespace support;

template <class T>
class ElementaryTest : public testing::Test {};
TYPED_TEST_SUITE(ElementaryTest, Scalars, ScalarNames);

TYPED_TEST(ElementaryTest, TakesVectorsArraysAndSpansInPlaceOrNot) {
  using T = TypeParam;
  const std::vector<T> x{T(-2), 0, T(0.5), 3};
  std::vector<T> powers(4), back(4);
  eh::exp(x, powers);
  eh::log(powers, back);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(powers[i], std::exp(x[i]), 4 * std::exp(x[i]) * Limits<T>::epsilon()) << x[i];
    EXPECT_NEAR(back[i], x[i], 8 * Limits<T>::epsilon());
  }
  std::array<T, 4> y{T(-2), 0, T(0.5), 3};
  eh::exp(y, y);
  EXPECT_TRUE(std::equal(y.begin(), y.end(), powers.begin()));
  eh::log(y, y);
  EXPECT_TRUE(std::equal(y.begin(), y.end(), back.begin()));
  T one = 1, zero = 7;
  eh::log({&one, 1}, {&zero, 1});
  EXPECT_EQ(zero, 0);
  eh::exp(std::span<const T>(), std::span<T>());
}

TYPED_TEST(ElementaryTest, WhatNoNumberIsLargeOrSmallEnoughFor) {
  using T = TypeParam;
  const T most = Limits<T>::max(), inf = kInf<T>;
  std::vector<T> x{-inf, -most, 2 * std::log(Limits<T>::min()), most, inf, kNan<T>};
  eh::exp(x, x);
  EXPECT_EQ(std::vector<T>(x.begin(), x.end() - 1), (std::vector<T>{0, 0, 0, inf, inf}));
  EXPECT_EQ(bits(x.back()), bits(kNan<T>));
  x = {0, Limits<T>::denorm_min(), inf, T(-1), kNan<T>};
  eh::log(x, x);
  EXPECT_EQ(std::vector<T>(x.begin(), x.begin() + 3), (std::vector<T>{-inf, -inf, inf}));
  EXPECT_EQ(bits(x[3]), bits(kNan<T>));
  EXPECT_EQ(bits(x[4]), bits(kNan<T>));
}

TYPED_TEST(ElementaryTest, LengthsThatDifferAreRefused) {
  std::vector<TypeParam> x(3), y(4);
  EXPECT_EQ(refusal([&] { eh::exp(x, y); }),
            "eigenheads: exp: y has 4 elements; expected as many as x, 3");
  EXPECT_EQ(refusal([&] { eh::log(y, x); }),
            "eigenheads: log: y has 3 elements; expected as many as x, 4");
}

}  // namespace
