// SPDX-License-Identifier: MIT
#include <cmath>
#include <vector>

#include <eigenheads/nn/log_softmax.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::Context;

template <class T>
class LogSoftmax : public testing::Test {};
TYPED_TEST_SUITE(LogSoftmax, Scalars, ScalarNames);

TYPED_TEST(LogSoftmax, IsTheLogarithmOfEachProbability) {
  using T = TypeParam;
  for (const Index V : {1, 2, 15, 16, 17, 255, 256, 257, 1000})
    for (const T size : {T(1), T(30), T(1000)}) {
      Tensor<T, 2> x = random_tensor<T>(3, 4, V);
      for (Index i = 0; i < x.size(); ++i) x.data()[i] *= size;
      const Tensor<T, 2> y = eh::log_softmax(x);
      for (Index b = 0; b < 4; ++b) {
        long double most = x(b, 0), sum = 0;
        for (Index i = 0; i < V; ++i) most = std::max<long double>(most, x(b, i));
        for (Index i = 0; i < V; ++i) sum += std::exp(x(b, i) - most);
        for (Index i = 0; i < V; ++i) {
          const long double expected = x(b, i) - most - std::log(sum);
          // Roundings of numbers of twice the size in double, those of the sum and its logarithm, and
          // one of the result.
          const double bound = 8 * Limits<double>::epsilon() * (2 * double(size) + 8) +
                               Limits<T>::epsilon() * std::abs(static_cast<double>(expected));
          ASSERT_LE(std::abs(static_cast<double>(y(b, i) - expected)), bound) << V << ' ' << size;
          ASSERT_LE(y(b, i), 0);
        }
      }
    }
}

TYPED_TEST(LogSoftmax, OfInfiniteNumbersIsTheLimitAndNanStaysInItsRow) {
  using T = TypeParam;
  constexpr T inf = kInf<T>;
  Tensor<T, 2> x(4, 3);
  x.setValues({{-inf, 0, -inf}, {-inf, -inf, -inf}, {inf, 0, -inf}, {0, kNan<T>, 1}});
  const Tensor<T, 2> y = eh::log_softmax(x);
  Tensor<T, 2> expected(4, 3);
  expected.setValues(
      {{-inf, 0, -inf}, {-inf, -inf, -inf}, {0, -inf, -inf}, {kNan<T>, kNan<T>, kNan<T>}});
  EXPECT_TRUE(same_bits(y, expected));
  const Tensor<T, 2> shared = eh::log_softmax(constant_tensor(inf, 1, 3));
  for (Index i = 0; i < 3; ++i)  // a logarithm within 2 ulp, rounded
    EXPECT_LE(std::abs(shared(0, i) + static_cast<T>(std::log(3.0))), 4 * Limits<T>::epsilon());
}

TYPED_TEST(LogSoftmax, HasTheSameBitsInPlaceAloneAndOnAnyNumberOfThreads) {
  using T = TypeParam;
  const Tensor<T, 2> x = random_tensor<T>(3, 7, 300);
  const Tensor<T, 2> y = eh::log_softmax(x);
  for (const int threads : {1, 3}) {
    Context context(threads, kAnyWork);
    Tensor<T, 2> in_place = x;
    eh::log_softmax_into(in_place, in_place, context);
    EXPECT_TRUE(same_bits(in_place, y));
  }
  for (Index b = 0; b < 7; ++b)
    EXPECT_TRUE(same_bits(eh::log_softmax(sequence(x, b)), sequence(y, b)));
  EXPECT_EQ(eh::log_softmax(Tensor<T, 2>(0, 5)).dimension(1), 5);
  EXPECT_EQ(eh::log_softmax(Tensor<T, 2>(5, 0)).dimension(0), 5);
  Tensor<T, 2> other(7, 299);
  EXPECT_EQ(refusal([&] {
              eh::log_softmax_into(other, x);
              return 0;
            }),
            "eigenheads: y has shape [7, 299]; expected [B, V] = [7, 300]");
}

}  // namespace
