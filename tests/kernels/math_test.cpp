// SPDX-License-Identifier: MIT
// exp, log and tanh of every instruction set, over a twentieth of all floats and many doubles, against functions
// of twice the precision: 2 units in the last place, exact zeros, NaN, and the same bits
// everywhere.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <utility>
#include <vector>

#include <eigenheads/detail/float_bits.hpp>
#include <eigenheads/score.hpp>

#include "../subnormals.hpp"
#include "kernels.hpp"

namespace {

using namespace support;

template <class T>
using Bits = eh::detail::BitsOf<T>;
// glibc's double functions are good to less than a unit of double, its long double ones to one.
template <class T>
using Exact = std::conditional_t<sizeof(T) == 4, double, long double>;
constexpr Index kRun = 64;  // neighbours that are looked at together; full registers, whatever size

template <class T>
class MathTest : public testing::Test {};
TYPED_TEST_SUITE(MathTest, Scalars, ScalarNames);

// How far y is from the exact value, in units of the last place of T there; the result is normal.
template <class T>
double ulps(T y, Exact<T> exact) {
  const int exponent = std::ilogb(exact) - (Limits<T>::digits - 1);
  return static_cast<double>(std::abs(std::ldexp(static_cast<Exact<T>>(y) - exact, -exponent)));
}

// `runs` runs of kRun neighbours, in the order of their bits, spread evenly from the first number
// to the last; an odd distance apart, so that all bits of the mantissa are in use.
template <class T, class Visit>
void for_each_run(T first, T last, std::uint64_t runs, const Visit& visit) {
  std::vector<T> x(kRun);
  const auto begin = std::uint64_t{std::bit_cast<Bits<T>>(first)};
  const auto end = std::uint64_t{std::bit_cast<Bits<T>>(last)} + 1 - kRun;
  const std::uint64_t distance = std::max(std::uint64_t{kRun}, (end - begin) / runs | 1);
  for (std::uint64_t run = begin;; run = end - run > distance ? run + distance : end) {
    for (std::size_t i = 0; i < kRun; ++i) x[i] = std::bit_cast<T>(static_cast<Bits<T>>(run + i));
    visit(std::as_const(x));
    if (run == end || testing::Test::HasFailure()) return;
  }
}

struct Exp {
  static constexpr bool falls = true;
  template <class Kernels, class T>
  static std::vector<T> of(const std::vector<T>& x) {
    std::vector<T> y(x.size(), kNan<T>);
    Kernels::template elementary<T>().exp_array(x.data(), y.data(), static_cast<Index>(x.size()));
    return y;
  }
  template <class W>
  static W exact(W x) {
    return std::exp(x);
  }
};
struct RisingExp : Exp {
  static constexpr bool falls = false;
};
struct Log {
  static constexpr bool falls = false;
  template <class Kernels, class T>
  static std::vector<T> of(const std::vector<T>& x) {
    std::vector<T> y(x.size(), kNan<T>);
    Kernels::template elementary<T>().log_array(x.data(), y.data(), static_cast<Index>(x.size()));
    return y;
  }
  template <class W>
  static W exact(W x) {
    return std::log(x);
  }
};

// Between two numbers: within two units; and wherever there is a fused multiply-add, falling or
// rising as it should, and the same bits, also where subnormal numbers are lost.
template <class Function, class T>
void expect_function(T first, T last, std::uint64_t runs, bool is_monotone) {
  std::vector<T> before(8, kNan<T>), y, fused;
  std::vector<Exact<T>> exact(kRun);
  for_each_run(first, last, runs, [&](const std::vector<T>& x) {
    for (std::size_t i = 0; i < kRun; ++i) exact[i] = Function::exact(static_cast<Exact<T>>(x[i]));
    fused.clear();
    for_each_instruction_set([&]<class Kernels>(Kernels, eh::InstructionSet set) {
      const bool is_fused = set != eh::InstructionSet::portable;
      for (const bool are_lost : {false, true}) {
        y = are_lost ? (SubnormalsAreLost(), Function::template of<Kernels>(x))
                     : Function::template of<Kernels>(x);
        T& last_one = before[2 * static_cast<std::size_t>(set) + are_lost];
        for (std::size_t i = 0; i < kRun; ++i) {
          ASSERT_TRUE(y[i] == exact[i] || ulps(y[i], exact[i]) <= 2)
              << eh::name_of(set) << " of " << x[i] << " is " << y[i];
          // Two neighbours may change places, by one unit.
          const bool is_out_of_order = (Function::falls ? y[i] > last_one : y[i] < last_one) &&
                                       ulps(y[i], static_cast<Exact<T>>(last_one)) > 1;
          ASSERT_FALSE(is_monotone && is_out_of_order && is_fused)
              << eh::name_of(set) << " at " << x[i];
          last_one = y[i];
        }
        if (!is_fused) continue;
        if (fused.empty()) fused = y;
        for (std::size_t i = 0; i < kRun; ++i)
          ASSERT_EQ(bits(y[i]), bits(fused[i])) << eh::name_of(set) << " of " << x[i];
      }
    });
  });
}

TYPED_TEST(MathTest, ExpIsWithinTwoUnitsAndFalls) {
  using T = TypeParam;
  const T tiny = -Limits<T>::epsilon() / 16;                          // up to here the result is 1
  const T lowest = std::nextafter(std::log(Limits<T>::min()), T(0));  // and from here no normal one
  const bool is_float = sizeof(T) == 4;
  expect_function<Exp, T>(tiny, lowest, is_float ? 200'000 : 3000, is_float);
  expect_function<Exp, T>(T(-0.0), tiny, 3000, is_float);
}

TYPED_TEST(MathTest, ExpOfPositiveNumbersIsWithinTwoUnitsUpToInfinity) {
  using T = TypeParam;
  const T last = std::log(Limits<T>::max());  // whether rounded up or down
  const T finite = std::isfinite(std::exp(last)) ? last : std::nextafter(last, T(0));
  const T tiny = Limits<T>::epsilon() / 16;
  const bool is_float = sizeof(T) == 4;
  expect_function<RisingExp, T>(tiny, finite, is_float ? 200'000 : 3000, is_float);
  for_each_instruction_set([&]<class Kernels>(Kernels, eh::InstructionSet set) {
    SCOPED_TRACE(eh::name_of(set));
    const T first = std::nextafter(finite, kInf<T>);
    for_each_run(first, kInf<T>, 10'000, [](const std::vector<T>& x) {
      for (const T y : Exp::of<Kernels>(x)) ASSERT_EQ(y, kInf<T>);
    });
    EXPECT_EQ(Exp::of<Kernels>(std::vector<T>(kRun, tiny)), std::vector<T>(kRun, T(1)));
  });
}

// And no subnormal number.
TYPED_TEST(MathTest, ExpIsExactlyZeroBelowTheNormalNumbers) {
  using T = TypeParam;
  for_each_instruction_set([&]<class Kernels>(Kernels, eh::InstructionSet set) {
    SCOPED_TRACE(eh::name_of(set));
    const auto expect_zero = [](const std::vector<T>& x) {
      const std::vector<T> y = Exp::of<Kernels>(x);
      for (std::size_t i = 0; i < kRun; ++i)
        ASSERT_TRUE(std::bit_cast<Bits<T>>(y[i]) == 0 ||
                    Exp::exact(Exact<T>(x[i])) >= Exact<T>(Limits<T>::min()))
            << x[i] << " gives " << y[i];
    };
    const T lowest = std::log(Limits<T>::min());
    for_each_run(lowest, lowest * T(1.001), 10'000, expect_zero);
    for_each_run(lowest * T(1.001), -kInf<T>, 50'000, expect_zero);
    EXPECT_EQ(Exp::of<Kernels>(std::vector<T>(kRun, T(0))), std::vector<T>(kRun, T(1)));
  });
}

TYPED_TEST(MathTest, LogIsWithinTwoUnits) {
  using T = TypeParam;
  const std::uint64_t runs = sizeof(T) == 4 ? 100'000 : 3000;
  expect_function<Log, T>(Limits<T>::min(), Limits<T>::max(), runs, false);
  expect_function<Log, T>(T(0.5), T(2), runs / 4, false);  // around 1 it all cancels
  for_each_instruction_set([&]<class Kernels>(Kernels, eh::InstructionSet) {
    EXPECT_EQ(Log::of<Kernels>(std::vector<T>(kRun, T(1))), std::vector<T>(kRun, T(0)));
  });
}

// Zeros and what counts as one, what lies below, and infinity.
TYPED_TEST(MathTest, LogOfWhatIsNotANormalNumberAboveZero) {
  using T = TypeParam;
  for_each_instruction_set([&]<class Kernels>(Kernels, eh::InstructionSet set) {
    SCOPED_TRACE(eh::name_of(set));
    const T least = Limits<T>::min(), subnormal = Limits<T>::denorm_min();
    const std::vector<T> x{0, T(-0.0), subnormal, -subnormal, -least, -1, -kInf<T>, kInf<T>},
        y = Log::of<Kernels>(x);
    for (std::size_t i = 0; i < 4; ++i) EXPECT_EQ(y[i], -kInf<T>) << x[i];
    for (std::size_t i = 4; i < 7; ++i) EXPECT_EQ(bits(y[i]), bits(kNan<T>)) << x[i];
    EXPECT_EQ(y[7], kInf<T>);
  });
}

// NaN of either sign, quiet and signalling, in every lane; the other lanes are what they were.
TYPED_TEST(MathTest, NanStaysNanInEveryLaneAndNowhereElse) {
  using T = TypeParam;
  const auto expect_nan = [&]<class Function, class Kernels>(Function, Kernels, T clean) {
    const std::vector<T> x(kRun, clean), y = Function::template of<Kernels>(x);
    for (std::size_t lane = 0; lane < kRun; ++lane)
      for (const T nan : {kNan<T>, -kNan<T>, Limits<T>::signaling_NaN()}) {
        auto with_nan = x;
        with_nan[lane] = nan;
        const auto got = Function::template of<Kernels>(with_nan);
        for (std::size_t i = 0; i < kRun; ++i)
          ASSERT_EQ(bits(got[i]), bits(i == lane ? kNan<T> : y[i])) << i << ' ' << lane;
      }
    const auto all_nan = [](const std::vector<T>& nans) {
      for (const T z : Function::template of<Kernels>(nans)) ASSERT_EQ(bits(z), bits(kNan<T>));
    };
    const auto first_nan =
        std::bit_cast<T>(static_cast<Bits<T>>(std::bit_cast<Bits<T>>(kInf<T>) + 1));
    for (const T sign : {T(1), T(-1)})
      for_each_run(std::copysign(first_nan, sign),
                   std::copysign(std::bit_cast<T>(static_cast<Bits<T>>(~Bits<T>{0} >> 1)), sign),
                   5000, all_nan);
  };
  for_each_instruction_set([&](auto kernels, eh::InstructionSet set) {
    SCOPED_TRACE(eh::name_of(set));
    expect_nan(Exp{}, kernels, T(-0.75));
    expect_nan(Log{}, kernels, T(5));
  });
}

// Every count of elements, also those that fill no register; nothing is written beyond them.
TYPED_TEST(MathTest, CountsThatFillNoRegister) {
  using T = TypeParam;
  for_each_instruction_set([&]<class Kernels>(Kernels, eh::InstructionSet set) {
    for (std::size_t count = 0; count <= 35; ++count) {
      const std::vector<T> x(count, T(-0.75)), of_log(count, T(0.25));
      std::vector<T> y(count + 1, T(7)), z(count + 1, T(7));
      const auto kernels = Kernels::template elementary<T>();
      kernels.exp_array(x.data(), y.data(), static_cast<Index>(count));
      kernels.log_array(of_log.data(), z.data(), static_cast<Index>(count));
      for (std::size_t i = 0; i < count; ++i) {
        EXPECT_LE(ulps(y[i], Exp::exact(Exact<T>(-0.75))), 2) << eh::name_of(set);
        EXPECT_LE(ulps(z[i], Log::exact(Exact<T>(0.25))), 2) << eh::name_of(set);
      }
      EXPECT_TRUE(y.back() == T(7) && z.back() == T(7)) << eh::name_of(set) << ' ' << count;
    }
  });
}

// The one of score functions: two-sided, so that its sign and its ends count too.
TYPED_TEST(MathTest, TanhIsWithinTwoUnitsOddAndEndsAtOne) {
  using T = TypeParam;
  const auto expect_tanh = [](const std::vector<T>& run) {
    for (const T x : run) {
      const T y = eh::detail::tanh(x);
      const auto exact = std::tanh(static_cast<Exact<T>>(x));
      ASSERT_TRUE(y == exact || ulps(y, exact) <= 2) << x << " gives " << y;
      ASSERT_EQ(std::bit_cast<Bits<T>>(eh::detail::tanh(-x)), std::bit_cast<Bits<T>>(-y)) << x;
      ASSERT_LE(y, 1);
    }
  };
  for_each_run(Limits<T>::min(), Limits<T>::max(), 5000, expect_tanh);
  for_each_run(T(0x1p-12), T(24), sizeof(T) == 4 ? 20'000 : 3000, expect_tanh);
  for (const T x : {T(0), T(-0.0), Limits<T>::denorm_min(), Limits<T>::min() / 2})
    EXPECT_EQ(std::bit_cast<Bits<T>>(eh::detail::tanh(x)), std::bit_cast<Bits<T>>(x));
  EXPECT_EQ(eh::detail::tanh(kInf<T>), T(1));
  EXPECT_EQ(eh::detail::tanh(-kInf<T>), T(-1));
  for (const T nan : {kNan<T>, -kNan<T>, Limits<T>::signaling_NaN()})
    EXPECT_EQ(bits(eh::detail::tanh(nan)), bits(kNan<T>));
}

}  // namespace
