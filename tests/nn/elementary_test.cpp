// SPDX-License-Identifier: MIT
// erf, tanh, sin and cos of every instruction set, against functions of twice the precision: 2 units in
// the last place for any number, and the same bits everywhere.
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include <eigenheads/detail/scalar_math.hpp>
#include <eigenheads/nn/elementary.hpp>

#include "nn_kernels.hpp"

namespace {

using namespace support;

template <class T>
class NnElementaryTest : public testing::Test {};
TYPED_TEST_SUITE(NnElementaryTest, Scalars, ScalarNames);

template <class T>
using Array = void (*)(const T*, T*, Index);
template <class T>
struct Function {
  std::string name;
  Array<T> eh::detail::NnKernels<T>::*member;
  Exact<T> (*exact)(Exact<T>);
};
template <class T>
std::vector<Function<T>> functions() {
  using Kernels = eh::detail::NnKernels<T>;
  using Wide = Exact<T>;
  return {{"erf", &Kernels::erf_array, [](Wide x) { return std::erf(x); }},
          {"tanh", &Kernels::tanh_array, [](Wide x) { return std::tanh(x); }},
          {"sin", &Kernels::sin_array, [](Wide x) { return std::sin(x); }},
          {"cos", &Kernels::cos_array, [](Wide x) { return std::cos(x); }}};
}

template <class T>
void expect_within_two_units(const std::vector<T>& x) {
  for (const Function<T>& function : functions<T>()) {
    std::vector<T> fused;
    for_each_nn_kernels<T>([&](const auto& kernels, eh::InstructionSet set) {
      SCOPED_TRACE(function.name + ", " + eh::name_of(set));
      std::vector<T> y(x.size(), kNan<T>);
      (kernels.*function.member)(x.data(), y.data(), static_cast<Index>(x.size()));
      for (std::size_t i = 0; i < x.size(); ++i)
        ASSERT_LE(ulps(y[i], function.exact(static_cast<Exact<T>>(x[i]))), 2) << x[i];
      if (set == eh::InstructionSet::portable) return;
      if (fused.empty()) fused = y;
      for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(bits(y[i]), bits(fused[i])) << x[i];
    });
  }
}

TYPED_TEST(NnElementaryTest, WithinTwoUnitsForAnySize) {
  using T = TypeParam;
  expect_within_two_units(spread_numbers<T>(Limits<T>::denorm_min(), Limits<T>::max(),
                                            sizeof(T) == 4 ? 60'000 : 20'000));
  expect_within_two_units(spread_numbers<T>(T(0x1p-6), T(128), sizeof(T) == 4 ? 200'000 : 20'000));
}

// Where most digits of the argument cancel: next to multiples of pi / 2, near and far. The last of the
// floats and of the doubles is the one that lies closest to one of all of them.
TYPED_TEST(NnElementaryTest, SinAndCosNextToTheirZeros) {
  using T = TypeParam;
  std::vector<T> x;
  for (long double turns = 1; turns < 1e18L; turns = std::rint(turns * 1.37L) + 1) {
    const auto near_zero = static_cast<T>(turns * 1.570796326794896619231321691639751442L);
    for (const T number :
         {std::nextafter(near_zero, T(0)), near_zero, std::nextafter(near_zero, kInf<T>)}) {
      x.push_back(number);
      x.push_back(-number);
    }
  }
  x.push_back(sizeof(T) == 4 ? T(16367173.0 * 4722366482869645213696.0)
                             : T(6381956970095103.0 * 0x1p797));
  expect_within_two_units(x);
}

TYPED_TEST(NnElementaryTest, AtTheEnds) {
  using T = TypeParam;
  for_each_nn_kernels<T>([](const auto& kernels, eh::InstructionSet set) {
    SCOPED_TRACE(eh::name_of(set));
    const auto expect = [](Array<T> function, const std::vector<T>& x, const std::vector<T>& y) {
      std::vector<T> got(x.size());
      function(x.data(), got.data(), static_cast<Index>(x.size()));
      for (std::size_t i = 0; i < x.size(); ++i) EXPECT_EQ(bits(got[i]), bits(y[i])) << x[i];
    };
    const T inf = kInf<T>, nan = kNan<T>, most = Limits<T>::max(), least = Limits<T>::denorm_min();
    const std::vector<T> x{0, -0.0, least, -least, inf, -inf, nan, most, -most};
    expect(kernels.tanh_array, x, {0, 0, least, -least, 1, -1, nan, 1, -1});
    expect(kernels.erf_array, x, {0, 0, least, -least, 1, -1, nan, 1, -1});
    expect(kernels.sin_array, {0, -0.0, least, -least, inf, -inf, nan},
           {0, 0, least, -least, nan, nan, nan});
    expect(kernels.cos_array, {0, -0.0, least, -least, inf, -inf, nan},
           {1, 1, 1, 1, nan, nan, nan});
  });
}

// Every count, in place or not, and nothing is written beyond; NaN stays in its lane.
TYPED_TEST(NnElementaryTest, CountsThatFillNoRegister) {
  using T = TypeParam;
  for (const Function<T>& function : functions<T>())
    for_each_nn_kernels<T>([&](const auto& kernels, eh::InstructionSet set) {
      SCOPED_TRACE(function.name + ", " + eh::name_of(set));
      for (std::size_t count = 0; count <= 35; ++count) {
        std::vector<T> x(count + 1), y(count + 1, T(7));
        for (std::size_t i = 0; i < count; ++i) x[i] = static_cast<T>(i) / 4 - 3;
        if (count > 0) x[count / 2] = kNan<T>;
        (kernels.*function.member)(x.data(), y.data(), static_cast<Index>(count));
        for (std::size_t i = 0; i < count; ++i) {
          T alone = x[i];
          (kernels.*function.member)(&alone, &alone, 1);
          ASSERT_EQ(bits(y[i]), bits(alone));
          ASSERT_EQ(std::isnan(y[i]), i == count / 2);
        }
        EXPECT_EQ(y[count], T(7));
      }
    });
}

TYPED_TEST(NnElementaryTest, TanhHasTheBitsOfASoftcaps) {
  using T = TypeParam;
  std::vector<T> x = spread_numbers<T>(T(0x1p-20), T(64), 20'000), y(x.size());
  eh::tanh(x, y);
  if (eh::instruction_set() == eh::InstructionSet::portable) return;  // it rounds twice
  for (std::size_t i = 0; i < x.size(); ++i)
    ASSERT_EQ(bits(y[i]), bits(eh::detail::tanh(x[i]))) << x[i];
}

TYPED_TEST(NnElementaryTest, TakesVectorsAndArraysInPlaceOrNot) {
  using T = TypeParam;
  std::vector<T> x{0, 1, T(-0.5)}, y(3);
  eh::sin(x, y);
  EXPECT_NEAR(y[1], 0.8414709848, 1e-6);
  eh::cos(x, y);
  EXPECT_NEAR(y[1], 0.5403023059, 1e-6);
  eh::erf(x, y);
  EXPECT_NEAR(y[2], -0.5204998778, 1e-6);
  std::array<T, 3> z{0, 1, T(-0.5)};
  eh::tanh(z, z);
  EXPECT_NEAR(z[1], 0.7615941560, 1e-6);
  EXPECT_EQ(refusal([&] { eh::sin(x, z); }), "not refused");
  y.resize(4);
  EXPECT_EQ(refusal([&] { eh::sin(x, y); }),
            "eigenheads: sin: y has 4 elements; expected as many as x, 3");
}

}  // namespace
