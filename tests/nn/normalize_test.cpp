// SPDX-License-Identifier: MIT
#include <algorithm>
#include <cmath>
#include <vector>

#include <eigenheads/nn/normalize.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::Context;

template <class T>
class Normalize : public testing::Test {};
TYPED_TEST_SUITE(Normalize, Scalars, ScalarNames);

TYPED_TEST(Normalize, GivesRowsOfLengthOne) {
  using T = TypeParam;
  Tensor<T, 2> x(1, 2);
  x.setValues({{3, -4}});
  const Tensor<T, 2> y = eh::normalize(x);
  EXPECT_EQ(y(0, 0), T(3) / T(5));
  EXPECT_EQ(y(0, 1), T(-4) / T(5));
  for (const Index E : {1, 15, 16, 17, 384}) {
    const auto rows = random_tensor<T>(1, 5, 3, E);
    const Tensor<T, 3> unit = eh::normalize(rows);
    for (Index row_number = 0; row_number < 15; ++row_number) {
      long double sum = 0, length = 0;
      for (Index e = 0; e < E; ++e) {
        const long double from = rows.data()[row_number * E + e];
        length += from * from;
      }
      length = std::sqrt(length);
      for (Index e = 0; e < E; ++e) {
        const T value = unit.data()[row_number * E + e];
        const auto expected = rows.data()[row_number * E + e] / length;
        // E / 16 + 4 additions, a root, a division.
        const auto bound = (static_cast<long double>(E) / 32 + 4) * Limits<T>::epsilon();
        EXPECT_LE(std::abs(value - expected), bound * std::abs(expected));
        sum += static_cast<long double>(value) * value;
      }
      EXPECT_NEAR(static_cast<double>(sum), 1, 40 * static_cast<double>(Limits<T>::epsilon()));
    }
  }
}

TYPED_TEST(Normalize, NoLengthOverflowsOrIsLost) {
  using T = TypeParam;
  const T most = Limits<T>::max(), least = Limits<T>::denorm_min(), normal = Limits<T>::min();
  for (const T size : {most, most / 2, T(1e30), T(1), T(1e-30), normal, normal / 4, least}) {
    Tensor<T, 1> x(4);
    x.setValues({size, -size, size, size});
    const Tensor<T, 1> y = eh::normalize(x, {.epsilon = 0});
    for (Index i = 0; i < 4; ++i) EXPECT_EQ(y(i), i == 1 ? T(-0.5) : T(0.5)) << size;
  }
}

TYPED_TEST(Normalize, ShortRowsAreDividedByEpsilonAndZerosStay) {
  using T = TypeParam;
  Tensor<T, 2> x(3, 2);
  x.setValues({{T(0x1p-60), 0}, {0, T(-0.0)}, {T(0x1p-30), 0}});
  const Tensor<T, 2> y = eh::normalize(x, {.epsilon = 0x1p-40});
  EXPECT_EQ(y(0, 0), T(0x1p-20));
  EXPECT_EQ(y(2, 0), T(1));
  EXPECT_TRUE(all_are(row(y, 1), T(0)));
  EXPECT_TRUE(all_are(eh::normalize(Tensor<T, 1>(x.chip(1, 0)), {.epsilon = 0}), T(0)));
  const Tensor<T, 2> ones = constant_tensor<T>(T(1), 3, 2);
  const Tensor<T, 2> grad = eh::normalize_backward(ones, x, {.epsilon = 0x1p-40});
  EXPECT_TRUE(all_are(row(grad, 0), T(0x1p40)));
  EXPECT_TRUE(all_are(row(grad, 1), T(0)));
  EXPECT_EQ(grad(2, 0), T(0));
  EXPECT_EQ(grad(2, 1), T(0x1p30));
}

TYPED_TEST(Normalize, NanReachesItsRowAndNoOther) {
  using T = TypeParam;
  Tensor<T, 2> x = random_tensor<T>(2, 3, 20);
  const Tensor<T, 2> before = eh::normalize(x);
  x(1, 7) = kNan<T>;
  const Tensor<T, 2> y = eh::normalize(x);
  EXPECT_TRUE(all_are(row(y, 1), kNan<T>));
  for (const Index i : {0, 2}) EXPECT_TRUE(same_bits(row(y, i), row(before, i)));
  x(1, 7) = kInf<T>;
  const Tensor<T, 2> infinite = eh::normalize(x);
  EXPECT_EQ(bits(infinite(1, 7)), bits(kNan<T>));
  EXPECT_EQ(infinite(1, 6), T(0));
}

TEST(NormalizeGradient, IsTheDifferenceQuotient) {
  const Tensor<double, 2> x = random_tensor<double>(3, 4, 5),
                          grad_y = random_tensor<double>(4, 4, 5);
  const Tensor<double, 2> grad_x = eh::normalize_backward(grad_y, x);
  const double step = 0x1p-17;
  for (Index i = 0; i < x.size(); ++i) {
    const auto loss = [&](double change) {
      Tensor<double, 2> moved = x;
      moved.data()[i] += change;
      const Tensor<double, 2> y = eh::normalize(moved);
      double sum = 0;
      for (Index j = 0; j < y.size(); ++j) sum += y.data()[j] * grad_y.data()[j];
      return sum;
    };
    EXPECT_NEAR((loss(step) - loss(-step)) / (2 * step), grad_x.data()[i], 1e-8) << i;
  }
}

TYPED_TEST(Normalize, TheSameBitsInPlaceOnThreadsAndAtAnyAlignment) {
  using T = TypeParam;
  const Tensor<T, 2> x = random_tensor<T>(5, 200, 37), grad_y = random_tensor<T>(6, 200, 37);
  const Tensor<T, 2> y = eh::normalize(x);
  Context three(3, kAnyWork);
  EXPECT_TRUE(same_bits(eh::normalize(x, {}, three), y));
  EXPECT_TRUE(
      same_bits(eh::normalize_backward(grad_y, x, {}, three), eh::normalize_backward(grad_y, x)));
  std::vector<T> memory(static_cast<std::size_t>(x.size()) + 1);
  const eh::TensorSpan<T, 2> moved(memory.data() + 1, {200, 37});
  std::copy_n(x.data(), x.size(), moved.data());
  eh::normalize_into(moved, moved);
  EXPECT_TRUE(same_bits(moved, y));
  const Tensor<T, 1> alone = eh::normalize(row(x, 3));
  EXPECT_TRUE(same_bits(alone, row(y, 3)));
}

TYPED_TEST(Normalize, TakesNothing) {
  using T = TypeParam;
  EXPECT_EQ(eh::normalize(Tensor<T, 2>(0, 3)).size(), 0);
  EXPECT_EQ(eh::normalize(Tensor<T, 2>(3, 0)).size(), 0);
  EXPECT_EQ(eh::normalize_backward(Tensor<T, 2>(3, 0), Tensor<T, 2>(3, 0)).size(), 0);
}

TYPED_TEST(Normalize, RefusesWhatDoesNotFit) {
  using T = TypeParam;
  Tensor<T, 2> x = random_tensor<T>(7, 2, 3), y(3, 2);
  EXPECT_EQ(refusal([&] { eh::normalize_into(y, x); }),
            "eigenheads: y has shape [3, 2]; expected [..., E] = [2, 3]");
  EXPECT_EQ(refusal([&] { return eh::normalize_backward(y, x); }),
            "eigenheads: grad_y has shape [3, 2]; expected [..., E] = [2, 3]");
  EXPECT_EQ(refusal([&] { return eh::normalize(x, {.epsilon = -1}); }),
            "eigenheads: normalize: epsilon is -1; expected 0 or more");
  const TensorView<T, 2> one(x.data(), {1, 3});
  eh::TensorSpan<T, 2> shifted(x.data() + 1, {1, 3});
  EXPECT_EQ(refusal([&] { eh::normalize_into(shifted, one); }),
            "eigenheads: y overlaps x in memory");
}

}  // namespace
