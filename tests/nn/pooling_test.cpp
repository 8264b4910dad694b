// SPDX-License-Identifier: MIT
#include <array>
#include <vector>

#include <eigenheads/nn/pooling.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::Context, eh::Pooling, eh::Sequences;

constexpr std::array kPoolings{Pooling::mean, Pooling::first, Pooling::max};

template <class T>
class Pool : public testing::Test {};
TYPED_TEST_SUITE(Pool, Scalars, ScalarNames);

// Rows beyond the lengths become NaN.
template <class T>
void spoil_padding(Tensor<T, 3>& x, const std::vector<Index>& lens) {
  for (Index b = 0; b < x.dimension(0); ++b)
    for (Index row = lens[static_cast<std::size_t>(b)]; row < x.dimension(1); ++row)
      for (Index e = 0; e < x.dimension(2); ++e) x(b, row, e) = kNan<T>;
}

TYPED_TEST(Pool, GivesTheMeanTheFirstRowAndTheMaximum) {
  using T = TypeParam;
  Tensor<T, 3> x(1, 3, 2);
  x.setValues({{{1, -4}, {2, -8}, {6, -3}}});
  const auto pooled = [&](Pooling pooling) {
    const Tensor<T, 2> y = eh::pool(x, pooling);
    return std::array{y(0, 0), y(0, 1)};
  };
  EXPECT_EQ(pooled(Pooling::mean), (std::array<T, 2>{3, -5}));
  EXPECT_EQ(pooled(Pooling::first), (std::array<T, 2>{1, -4}));
  EXPECT_EQ(pooled(Pooling::max), (std::array<T, 2>{6, -3}));
}

TYPED_TEST(Pool, TheMeanIsASumOfBlocksOf256Rows) {
  using T = TypeParam;
  for (const Index E : {1, 31, 32, 33, 128, 129}) {
    const Index L = 700;
    const auto x = random_tensor<T>(1, 1, L, E);
    const Tensor<T, 2> y = eh::pool(x, Pooling::mean);
    for (Index e = 0; e < E; ++e) {
      T sum = 0;
      for (Index begin = 0; begin < L; begin += 256) {
        T block = 0;
        for (Index row = begin; row < std::min(begin + 256, L); ++row) block += x(0, row, e);
        sum += block;
      }
      ASSERT_EQ(bits(y(0, e)), bits(static_cast<T>(sum / T(L)))) << E << ' ' << e;
    }
  }
}

TYPED_TEST(Pool, PackedAndPaddedAndAloneHaveTheSameBits) {
  using T = TypeParam;
  const std::vector<Index> lens{300, 0, 7, 256, 1, 257};
  for (const Index E : {1, 5, 32, 40, 200}) {
    auto padded = random_tensor<T>(2, 6, 300, E);
    spoil_padding(padded, lens);
    const Sequences sequences(lens);
    const Tensor<T, 2> packed = eh::pack(padded, sequences), grad_y = random_tensor<T>(3, 6, E);
    Context three(3, kAnyWork);
    for (const Pooling pooling : kPoolings) {
      const Tensor<T, 2> y = eh::pool(padded, pooling, lens);
      EXPECT_TRUE(same_bits(eh::pool(packed, sequences, pooling), y));
      EXPECT_TRUE(same_bits(eh::pool(packed, sequences, pooling, three), y));
      EXPECT_TRUE(same_bits(eh::pool(padded, pooling, lens, three), y));
      EXPECT_TRUE(all_are(row(y, 1), T(0)));
      const Tensor<T, 2> alone =
          eh::pool(sequence(padded, 3), pooling, std::vector<Index>{lens[3]});
      EXPECT_TRUE(same_bits(row(alone, 0), row(y, 3)));

      const Tensor<T, 3> grad_x = eh::pool_backward(grad_y, padded, pooling, lens);
      const Tensor<T, 2> of_packed = eh::pool_backward(grad_y, packed, sequences, pooling, three);
      EXPECT_TRUE(same_bits(eh::pack(grad_x, sequences), of_packed));
      for (Index row_number = 7; row_number < 300; ++row_number)
        ASSERT_TRUE(all_are(row(grad_x, 2, row_number), T(0)));
    }
  }
}

// grad = change of sum(y * grad_y) by a step of one element; exact for these piecewise linear ones
// but for rounding.
TEST(PoolGradient, IsTheDifferenceQuotient) {
  const std::vector<Index> lens{4, 1, 3};
  const Tensor<double, 3> x = random_tensor<double>(4, 3, 4, 3);
  const Tensor<double, 2> grad_y = random_tensor<double>(5, 3, 3);
  const double step = 0x1p-20;
  for (const Pooling pooling : kPoolings) {
    const Tensor<double, 3> grad_x = eh::pool_backward(grad_y, x, pooling, lens);
    for (Index i = 0; i < x.size(); ++i) {
      const auto loss = [&](double change) {
        Tensor<double, 3> moved = x;
        moved.data()[i] += change;
        const Tensor<double, 2> y = eh::pool(moved, pooling, lens);
        double sum = 0;
        for (Index j = 0; j < y.size(); ++j) sum += y.data()[j] * grad_y.data()[j];
        return sum;
      };
      EXPECT_NEAR((loss(step) - loss(-step)) / (2 * step), grad_x.data()[i], 1e-8) << i;
    }
  }
}

TYPED_TEST(Pool, ANanThatCountsReachesItsFeatureAndNoOther) {
  using T = TypeParam;
  for (const Index place : {0, 1, 2}) {
    Tensor<T, 3> x = constant_tensor<T>(T(1), 1, 3, 40);
    x(0, place, 5) = kNan<T>;
    for (const Pooling pooling : {Pooling::mean, Pooling::max}) {
      const Tensor<T, 2> y = eh::pool(x, pooling);
      for (Index e = 0; e < 40; ++e) EXPECT_EQ(bits(y(0, e)), bits(e == 5 ? kNan<T> : T(1))) << e;
    }
  }
}

TYPED_TEST(Pool, OfEqualMaximaTheFirstHasTheGradient) {
  using T = TypeParam;
  Tensor<T, 3> x(1, 4, 3);
  x.setValues(
      {{{1, -kInf<T>, 0}, {7, -kInf<T>, kNan<T>}, {7, -kInf<T>, kInf<T>}, {2, -1, kNan<T>}}});
  const Tensor<T, 2> ones = constant_tensor<T>(T(1), 1, 3);
  const Tensor<T, 3> grad = eh::pool_backward(ones, x, Pooling::max);
  Tensor<T, 3> expected(1, 4, 3);
  expected.setValues({{{0, 0, 0}, {1, 0, 1}, {0, 0, 0}, {0, 1, 0}}});
  EXPECT_TRUE(same_bits(grad, expected));
}

TYPED_TEST(Pool, TakesNoSequencesAndNoFeatures) {
  using T = TypeParam;
  for (const Pooling pooling : kPoolings) {
    EXPECT_EQ(eh::pool(Tensor<T, 3>(0, 4, 3), pooling).dimension(0), 0);
    EXPECT_EQ(eh::pool(Tensor<T, 3>(2, 4, 0), pooling).dimension(1), 0);
    EXPECT_TRUE(all_are(eh::pool(Tensor<T, 3>(2, 0, 3), pooling), T(0)));
    EXPECT_EQ(eh::pool(Tensor<T, 2>(0, 3), Sequences{}, pooling).dimension(0), 0);
    EXPECT_EQ(eh::pool_backward(Tensor<T, 2>(2, 3), Tensor<T, 3>(2, 0, 3), pooling).size(), 0);
  }
}

TYPED_TEST(Pool, WritesIntoATensorThatIsThere) {
  using T = TypeParam;
  const auto x = random_tensor<T>(6, 2, 5, 9);
  Tensor<T, 2> y(2, 9);
  eh::pool_into(y, x, Pooling::max, {5, 2});
  EXPECT_TRUE(same_bits(y, eh::pool(x, Pooling::max, {5, 2})));
  const Sequences sequences{3, 7};
  const TensorView<T, 2> rows(x.data(), {10, 9});
  eh::pool_into(y, rows, sequences, Pooling::mean);
  EXPECT_TRUE(same_bits(y, eh::pool(rows, sequences, Pooling::mean)));
}

TYPED_TEST(Pool, RefusesWhatDoesNotFit) {
  using T = TypeParam;
  const Tensor<T, 3> x = random_tensor<T>(7, 2, 4, 3);
  const Tensor<T, 2> rows = random_tensor<T>(8, 8, 3);
  Tensor<T, 2> y(2, 4);
  EXPECT_EQ(refusal([&] { return eh::pool(x, Pooling::mean, {4, 5}); }),
            "eigenheads: lens[1] is 5; expected 0 to the rows of a sequence, 4");
  EXPECT_EQ(refusal([&] { return eh::pool(x, Pooling::mean, {4}); }),
            "eigenheads: lens has shape [1]; expected [B] = [2]");
  EXPECT_EQ(refusal([&] { return eh::pool(rows, Sequences{3, 4}, Pooling::mean); }),
            "eigenheads: x has 8 rows; expected 7, those of its 2 sequences");
  EXPECT_EQ(refusal([&] { eh::pool_into(y, x, Pooling::mean); }),
            "eigenheads: y has shape [2, 4]; expected [B, E] = [2, 3]");
  EXPECT_EQ(refusal([&] { return eh::pool_backward(y, x, Pooling::mean); }),
            "eigenheads: grad_y has shape [2, 4]; expected [B, E] = [2, 3]");
  EXPECT_EQ(refusal([&] { return eh::pool(x, static_cast<Pooling>(3)); }),
            "eigenheads: pooling is number 3; expected one of 0 to 2");
  EXPECT_EQ(refusal([&] { return eh::pool(rows, Sequences{8}, static_cast<Pooling>(3)); }),
            "eigenheads: pooling is number 3; expected one of 0 to 2");
  const eh::TensorSpan<T, 2> inside(const_cast<T*>(x.data()), {2, 3});
  EXPECT_EQ(refusal([&] { eh::pool_into(inside, x, Pooling::mean); }),
            "eigenheads: y overlaps x in memory");
}

}  // namespace
