// SPDX-License-Identifier: MIT
// LayerNorm and RmsNorm: values against the formula in twice the precision and against PyTorch, the bits
// of a row, and what a caller sees. layer_norm_backward_test.cpp looks at the gradients.
#include <algorithm>
#include <array>
#include <cfenv>
#include <cmath>
#include <cstddef>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/nn/layer_norm.hpp>

#include "../counting.hpp"
#include "nn_kernels.hpp"

namespace {

using namespace support;
using eh::LayerNorm, eh::RmsNorm;

template <class T>
class LayerNormTest : public testing::Test {};
TYPED_TEST_SUITE(LayerNormTest, Scalars, ScalarNames);

constexpr std::array<Index, 14> kSizes{1, 2, 3, 7, 8, 15, 16, 17, 31, 33, 64, 100, 385, 768};

template <class T>
Tensor<T, 1> row_of(const std::vector<double>& values) {
  Tensor<T, 1> row(static_cast<Index>(values.size()));
  for (Index i = 0; i < row.size(); ++i)
    row(i) = static_cast<T>(values[static_cast<std::size_t>(i)]);
  return row;
}

template <class Norm, class T>
void set_random(Norm& norm, std::uint64_t seed, T) {
  norm.set_weight(random_tensor<T>(seed, norm.size()));
  if (norm.has_bias()) norm.set_bias(random_tensor<T>(seed + 1, norm.size()));
}

// y of every row, in twice the precision.
template <class T>
Tensor<Exact<T>, 2> exact_norm(const Tensor<T, 2>& x, const eh::detail::Norm<T>& norm,
                               bool is_centered) {
  using W = Exact<T>;
  const Index N = x.dimension(0), E = x.dimension(1);
  Tensor<W, 2> y(N, E);
  for (Index r = 0; r < N; ++r) {
    W mean = 0, square = 0;
    for (Index k = 0; is_centered && k < E; ++k) mean += W(x(r, k)) / W(E);
    for (Index k = 0; k < E; ++k) square += (W(x(r, k)) - mean) * (W(x(r, k)) - mean) / W(E);
    const W scale = 1 / std::sqrt(square + W(static_cast<T>(norm.eps())));
    for (Index k = 0; k < E; ++k)
      y(r, k) = (W(x(r, k)) - mean) * scale * W(norm.weight()(k)) +
                (norm.has_bias() ? W(norm.bias()(k)) : W(0));
  }
  return y;
}

TYPED_TEST(LayerNormTest, ItIsTheFormulaForEverySizeAndLargeMeans) {
  using T = TypeParam;
  using W = Exact<T>;
  for (const Index E : kSizes)
    for (const T mean : {T(0), T(-3), T(1000)}) {
      Tensor<T, 2> x = random_tensor<T>(1, 19, E);
      for (Index i = 0; i < x.size(); ++i) x.data()[i] += mean;
      const auto expect = [&](auto norm, bool is_centered) {
        set_random(norm, 2, T());
        const Tensor<T, 2> y = norm(x);
        const auto exact = exact_norm<T>(x, norm, is_centered);
        for (Index i = 0; i < y.size(); ++i) {
          // Numbers of size 1, or up to sqrt(E), times a weight below 1; a few roundings each.
          const W bound = W(Limits<T>::epsilon()) * (4 + 4 * std::abs(exact.data()[i]));
          ASSERT_LE(std::abs(W(y.data()[i]) - exact.data()[i]), bound) << E << ' ' << mean;
        }
      };
      expect(LayerNorm<T>({.size = E, .eps = 1e-3}), true);
      expect(RmsNorm<T>({.size = E, .eps = 1e-3}), false);
    }
}

// T4.01
TYPED_TEST(LayerNormTest, AMeanThatIsLargeBesideTheSpreadCostsNoDigits) {
  using T = TypeParam;
  const Tensor<T, 1> y = LayerNorm<T>({.size = 4})(row_of<T>({40000, 40001, 40002, 40003}));
  const double expected[] = {-1.34163542, -0.44721181, 0.44721181, 1.34163542};
  for (Index i = 0; i < 4; ++i) EXPECT_NEAR(y(i), expected[i], 1e-7);
}
// T4.02
TYPED_TEST(LayerNormTest, AConstantRowGivesExactlyTheBias) {
  using T = TypeParam;
  const auto expect_bias = [](Index size, T value, double eps) {
    LayerNorm<T> norm({.size = size, .eps = eps});
    set_random(norm, 3, T());
    EXPECT_TRUE(same_bits(norm(constant_tensor<T>(value, size)), norm.bias())) << value;
  };
  expect_bias(256, T(1234), 1e-5);
  expect_bias(768, T(0.1f), 1e-12);
  for (const Index size : kSizes)
    for (const T value : {T(0), T(0.1), T(-1e10), Limits<T>::min(), Limits<T>::max() / 4})
      expect_bias(size, value, 1e-30);
  expect_bias(5, T(7), 1e-50);  // which float has not
  expect_bias(5, T(7), 1e-320);
}
// T4.04
TYPED_TEST(LayerNormTest, EpsIsInsideTheRootAndTheDivisorIsTheSize) {
  using T = TypeParam;
  const auto row = row_of<T>({1, 1.002});
  // 1.002 is not a float: the spread of what it is, to some units.
  const double tolerance = sizeof(T) == 4 ? 1e-4 : 1e-9;
  EXPECT_NEAR(LayerNorm<T>({.size = 2, .eps = 1e-12})(row)(1), 0.9999995, tolerance);
  EXPECT_NEAR(LayerNorm<T>({.size = 2, .eps = 1e-5})(row)(1), 0.301511345, tolerance);
  EXPECT_NEAR(LayerNorm<T>({.size = 3, .eps = 0})(row_of<T>({1, 2, 3}))(0), -1.22474487, 1e-7);
}

TYPED_TEST(LayerNormTest, ARowsBitsAreItsOwnAndTheSameEverywhere) {
  using T = TypeParam;
  for (const Index E : kSizes) {
    const Tensor<T, 2> x = random_tensor<T>(4, 70, E);
    const auto expect = [&](auto norm) {
      set_random(norm, 5, T());
      const Tensor<T, 2> y = norm(x);
      for (Index r = 0; r < 70; ++r) ASSERT_TRUE(same_bits(norm(row(x, r)), row(y, r)));
      eh::Context three(3, kAnyWork);
      EXPECT_TRUE(same_bits(norm(x, three), y));
      // Another place in a group of rows, and in memory.
      std::vector<T> moved(static_cast<std::size_t>(69 * E + 1));
      std::copy_n(x.data() + E, 69 * E, moved.data() + 1);
      const Tensor<T, 2> rest = norm(TensorView<T, 2>(moved.data() + 1, {69, E}));
      EXPECT_TRUE(same_bits(rest, TensorView<T, 2>(y.data() + E, {69, E})));
    };
    expect(LayerNorm<T>({.size = E}));
    expect(RmsNorm<T>({.size = E}));

    const auto weight = random_tensor<T>(6, E);
    Tensor<T, 2> fused(0, 0), y(70, E);
    for_each_nn_kernels<T>([&](const auto& kernels, eh::InstructionSet set) {
      if (set == eh::InstructionSet::portable) return;
      for (const bool is_centered : {true, false}) {
        kernels.norm_rows({.x = x.data(),
                           .residual = x.data(),
                           .sum = nullptr,
                           .y = y.data(),
                           .weight = weight.data(),
                           .bias = is_centered ? weight.data() : nullptr,
                           .size = E,
                           .eps = T(1e-6),
                           .is_centered = is_centered},
                          {is_centered ? 0 : 35, is_centered ? 35 : 70});
      }
      if (fused.size() == 0) fused = y;
      EXPECT_TRUE(same_bits(y, fused)) << eh::name_of(set) << ' ' << E;
    });
  }
}

TYPED_TEST(LayerNormTest, AddNormIsTheNormOfTheSumInPlaceOrNot) {
  using T = TypeParam;
  for (const Index E : {3, 16, 40, 100}) {
    const auto x = random_tensor<T>(7, 2, 21, E), residual = random_tensor<T>(8, 2, 21, E);
    Tensor<T, 3> sum = x;
    for (Index i = 0; i < sum.size(); ++i) sum.data()[i] += residual.data()[i];
    const auto expect = [&](auto norm) {
      set_random(norm, 9, T());
      const Tensor<T, 3> y = norm(sum);
      EXPECT_TRUE(same_bits(norm.add_norm(x, residual), y));
      Tensor<T, 3> over_x = x, over_residual = residual, kept(2, 21, E), in_place = sum;
      norm.add_norm_into(over_x, over_x, residual);
      EXPECT_TRUE(same_bits(over_x, y));
      norm.add_norm_into(over_residual, x, over_residual);
      EXPECT_TRUE(same_bits(over_residual, y));
      over_x = x;
      over_residual = residual;
      norm.add_norm_into(over_x, over_residual, over_x, over_residual);
      EXPECT_TRUE(same_bits(over_x, y));
      EXPECT_TRUE(same_bits(over_residual, sum));
      norm.add_norm_into(over_x, kept, x, residual);
      EXPECT_TRUE(same_bits(over_x, y));
      EXPECT_TRUE(same_bits(kept, sum));
      norm.forward_into(in_place, in_place);
      EXPECT_TRUE(same_bits(in_place, y));
    };
    expect(LayerNorm<T>({.size = E}));
    expect(RmsNorm<T>({.size = E}));
  }
}

// Without parameters it is the norm with 1 and 0.
TYPED_TEST(LayerNormTest, WithoutParameters) {
  using T = TypeParam;
  const auto x = random_tensor<T>(10, 5, 20);
  EXPECT_TRUE(
      same_bits(LayerNorm<T>({.size = 20, .affine = false})(x), LayerNorm<T>({.size = 20})(x)));
  EXPECT_TRUE(
      same_bits(LayerNorm<T>({.size = 20, .bias = false})(x), LayerNorm<T>({.size = 20})(x)));
  EXPECT_TRUE(same_bits(RmsNorm<T>({.size = 20, .affine = false})(x), RmsNorm<T>({.size = 20})(x)));
  int count = 0;
  LayerNorm<T>({.size = 20, .affine = false}).for_each_parameter([&](const auto&) { ++count; });
  EXPECT_EQ(count, 0);
  EXPECT_EQ(
      refusal<std::logic_error>([] { return LayerNorm<T>({.size = 2, .bias = false}).bias(); }),
      "eigenheads: LayerNorm: this layer was made without a bias");
}

TYPED_TEST(LayerNormTest, NanAndInfinityReachTheirRowAlone) {
  using T = TypeParam;
  auto x = random_tensor<T>(11, 40, 37);
  const LayerNorm<T> norm({.size = 37});
  const Tensor<T, 2> y = norm(x);
  x(3, 36) = kNan<T>;
  x(17, 5) = kInf<T>;
  x(20, 0) = -kInf<T>;
  const Tensor<T, 2> z = norm(x);
  for (Index r = 0; r < 40; ++r)
    for (Index k = 0; k < 37; ++k)
      EXPECT_EQ(bits(z(r, k)), bits(r == 3 || r == 17 || r == 20 ? kNan<T> : y(r, k))) << r;
}

// Whose squares, or the sum of these, are too large for a T: the bits of rows that are smaller by a power
// of two, and no row beside them has others.
TYPED_TEST(LayerNormTest, LargeRowsHaveTheBitsOfSmallOnes) {
  using T = TypeParam;
  constexpr int most = Limits<T>::max_exponent;
  for (const Index E : kSizes) {
    const auto x = random_tensor<T>(30, 19, E), grad_y = random_tensor<T>(31, 19, E);
    for (const int power : {most / 2 - 4, most / 2, most / 2 + 9, most - 14}) {
      SCOPED_TRACE(power);
      Tensor<T, 2> large = x;
      for (Index r = 0; r < 19; r += 1 + r % 3)
        for (Index k = 0; k < E; ++k) large(r, k) = std::ldexp(x(r, k), power);
      const auto expect_same = [&](auto norm, auto without_eps) {
        set_random(norm, 32, T());
        set_random(without_eps, 32, T());
        eh::NormGradients<T> gradients, expected_gradients;
        const Tensor<T, 2> y = norm(large), expected = without_eps(x);
        const auto grad_x = norm.backward(large, grad_y, gradients);
        const auto expected_grad_x = without_eps.backward(x, grad_y, expected_gradients);
        for (Index r = 0; r < 19; ++r) {
          if (bits(large(r, 0)) == bits(x(r, 0)) || E == 1) continue;
          EXPECT_TRUE(same_bits(row(y, r), row(expected, r))) << r;
          const bool is_normal = power < most - 14;  // the gradient, which is as much smaller
          for (Index k = 0; is_normal && k < E; ++k)
            EXPECT_EQ(bits(std::ldexp(grad_x(r, k), power)), bits(expected_grad_x(r, k))) << r;
        }
        const Tensor<T, 2> of_small = norm(x);
        for (Index r = 0; r < 19; ++r) {
          if (bits(large(r, 0)) != bits(x(r, 0))) continue;
          EXPECT_TRUE(same_bits(row(y, r), row(of_small, r))) << r;
        }
      };
      expect_same(LayerNorm<T>({.size = E, .eps = 1e-5}), LayerNorm<T>({.size = E, .eps = 0}));
      expect_same(RmsNorm<T>({.size = E, .eps = 1e-5}), RmsNorm<T>({.size = E, .eps = 0}));
    }
  }
}

// As PyTorch's: there is nothing to divide 0 by.
TYPED_TEST(LayerNormTest, WithoutEpsARowWithoutSpreadIsNan) {
  using T = TypeParam;
  Tensor<T, 2> x = constant_tensor(T(3), 3, 20);
  x(1, 7) = 4;
  const auto y = LayerNorm<T>({.size = 20, .eps = 0})(x);
  const auto z = RmsNorm<T>({.size = 20, .eps = 0})(x);
  for (Index r = 0; r < 3; ++r) EXPECT_EQ(all_are(row(y, r), kNan<T>), r != 1) << r;
  for (Index r = 0; r < 3; ++r) EXPECT_EQ(bits(z(r, 0)) == bits(T(1)), r != 1) << r;
  EXPECT_TRUE(all_are(RmsNorm<T>({.size = 20, .eps = 0})(constant_tensor(T(0), 1, 20)), kNan<T>));
}

// Neither numbers beside a row that do not belong to it, nor rows that are missing in a group, raise
// anything.
TYPED_TEST(LayerNormTest, FiniteRowsRaiseNoFloatingPointException) {
  using T = TypeParam;
  for (const Index E : kSizes) {
    auto x = random_tensor<T>(12, 9, E);
    const T large = std::sqrt(Limits<T>::max()) / 64;
    for (Index r = 0; r < 9; ++r)
      for (Index k = 0; k < E; ++k) x(r, k) *= r % 2 == 0 ? large : 1 / large;
    const LayerNorm<T> norm({.size = E, .eps = 1e-12});
    const RmsNorm<T> rms({.size = E, .eps = 1e-12});
    std::feclearexcept(FE_ALL_EXCEPT);
    const auto y = norm(x), z = rms(x);
    EXPECT_EQ(std::fetestexcept(FE_INVALID | FE_OVERFLOW | FE_DIVBYZERO), 0) << E;
  }
}

TYPED_TEST(LayerNormTest, ALazyOneTakesItsSizeFromTheFirstInput) {
  using T = TypeParam;
  LayerNorm<T> norm({.eps = 1e-12});
  const auto& constant = norm;
  const auto x = random_tensor<T>(13, 2, 3, 12);
  const std::string unknown =
      "eigenheads: LayerNorm: size is not known yet; call it once on a non-const layer, or "
      "initialize(size)";
  EXPECT_EQ(refusal<std::logic_error>([&] { return constant(x); }), unknown);
  EXPECT_EQ(refusal<std::logic_error>([&] { constant.for_each_parameter([](const auto&) {}); }),
            unknown);
  EXPECT_TRUE(norm.is_lazy());
  EXPECT_TRUE(same_bits(norm(x), LayerNorm<T>({.size = 12, .eps = 1e-12})(x)));
  EXPECT_EQ(norm.size(), 12);
  norm.initialize(12);  // again changes nothing
  EXPECT_EQ(refusal([&] { norm.initialize(13); }),
            "eigenheads: LayerNorm: size is 13; expected 12");
  LayerNorm<T> still_lazy({});
  EXPECT_EQ(refusal([&] { return still_lazy.add_norm(x, random_tensor<T>(1, 2, 3, 11)); }),
            "eigenheads: residual has shape [2, 3, 11]; expected that of x = [2, 3, 12]");
  EXPECT_TRUE(still_lazy.is_lazy());
  RmsNorm<T> rms({});
  EXPECT_EQ(rms.add_norm(x, x).size(), x.size());
  EXPECT_EQ(rms.size(), 12);
  EXPECT_EQ(rms.eps(), static_cast<double>(Limits<T>::epsilon()));
}

TYPED_TEST(LayerNormTest, ParametersAreNamedAsPyTorchs) {
  using T = TypeParam;
  LayerNorm<T> norm({.size = 3});
  std::vector<std::string> names;
  norm.for_each_parameter(
      [&](const auto& parameter) {
        names.push_back(parameter.name());
        parameter.set(1, T(5));
      },
      "encoder.norm.");
  EXPECT_EQ(names, (std::vector<std::string>{"encoder.norm.weight", "encoder.norm.bias"}));
  EXPECT_EQ(norm.weight()(1), T(5));
  EXPECT_EQ(norm.bias()(1), T(5));
  std::ostringstream out;
  out << std::hex << norm << ' ' << LayerNorm<T>({.size = 384, .eps = 1e-12, .bias = false}) << ' '
      << LayerNorm<T>({.eps = 0.001, .affine = false}) << ' ' << RmsNorm<T>({.size = 4}) << ' '
      << RmsNorm<T>({.size = 4, .eps = 0.0001}) << ' ' << RmsNorm<T>({.size = 4, .eps = 1}) << ' '
      << RmsNorm<T>({.size = 4, .eps = 100000}) << ' '
      << RmsNorm<T>({.size = 4, .eps = 0.00012345678});
  EXPECT_EQ(out.str(),
            "LayerNorm((3,), eps=1e-05, elementwise_affine=True, bias=True) "
            "LayerNorm((384,), eps=1e-12, elementwise_affine=True, bias=False) "
            "LazyLayerNorm((0,), eps=0.001, elementwise_affine=False, bias=False) "
            "RMSNorm((4,), eps=None, elementwise_affine=True) "
            "RMSNorm((4,), eps=0.0001, elementwise_affine=True) "
            "RMSNorm((4,), eps=1.0, elementwise_affine=True) "
            "RMSNorm((4,), eps=100000.0, elementwise_affine=True) "
            "RMSNorm((4,), eps=0.00012345678, elementwise_affine=True)");
}

TYPED_TEST(LayerNormTest, ACopyIsAllOfIt) {
  using T = TypeParam;
  LayerNorm<T> norm({.size = 3, .eps = 0.5}), other({.size = 5, .bias = false});
  norm.set_weight(random_tensor<T>(1, 3));
  norm.set_bias(random_tensor<T>(2, 3));
  other = norm;
  const auto x = random_tensor<T>(3, 4, 3);
  const auto expected = norm(x);
  norm.set_bias(random_tensor<T>(4, 3));
  EXPECT_TRUE(same_bits(other(x), expected));
}

TYPED_TEST(LayerNormTest, WhatDoesNotFitIsRefusedAndNothingWritten) {
  using T = TypeParam;
  EXPECT_EQ(refusal([] { return LayerNorm<T>({.size = 3, .eps = kInf<double>}); }),
            "eigenheads: LayerNorm: eps is inf; expected a number that the element type has");
  const LayerNorm<T> norm({.size = 4});
  Tensor<T, 2> x(2, 4), other(2, 5), y(2, 4);
  x.setZero();
  other.setZero();
  y.setConstant(T(7));
  EXPECT_EQ(refusal([&] { return norm(other); }),
            "eigenheads: x has shape [2, 5]; expected [..., size] = [2, 4]");
  EXPECT_EQ(refusal([&] { norm.forward_into(other, x); }),
            "eigenheads: y has shape [2, 5]; expected that of x = [2, 4]");
  EXPECT_EQ(refusal([&] { norm.add_norm_into(y, x, other); }),
            "eigenheads: residual has shape [2, 5]; expected that of x = [2, 4]");
  EXPECT_EQ(refusal([&] { norm.add_norm_into(y, other, x, x); }),
            "eigenheads: sum has shape [2, 5]; expected that of x = [2, 4]");
  EXPECT_EQ(refusal([&] { norm.add_norm_into(y, y, x, x); }),
            "eigenheads: y overlaps sum in memory");
  EXPECT_TRUE(all_are(y, T(7)));
  std::vector<T> memory(20, T(1));
  const TensorView<T, 2> from(memory.data(), {2, 4});
  const eh::TensorSpan<T, 2> shifted(&memory[3], {2, 4});
  EXPECT_EQ(refusal([&] { norm.forward_into(shifted, from); }),
            "eigenheads: y overlaps x in memory");
  EXPECT_EQ(refusal([&] { norm.add_norm_into(shifted, x, from); }),
            "eigenheads: y overlaps residual in memory");
  EXPECT_EQ(refusal([&] { norm.add_norm_into(y, shifted, from, x); }),
            "eigenheads: sum overlaps x in memory");
  EXPECT_TRUE(all_are(from, T(1)));
  EXPECT_EQ(refusal([] { return LayerNorm<T>({.size = -1}); }),
            "eigenheads: LayerNorm: size is -1; expected 1 or more, or 0 to take it from the first "
            "input");
  EXPECT_EQ(refusal([] { return RmsNorm<T>({.size = 3, .eps = -1.0}); }),
            "eigenheads: RmsNorm: eps is -1; expected 0 or more");
  LayerNorm<T> set({.size = 4});
  EXPECT_EQ(refusal([&] { set.set_weight(row_of<T>({1, 2})); }),
            "eigenheads: weight has shape [2]; expected [size] = [4]");
}

TYPED_TEST(LayerNormTest, NoRowsGiveNoRowsAndAWarmCallAllocatesNothing) {
  using T = TypeParam;
  const LayerNorm<T> norm({.size = 24});
  EXPECT_EQ(norm(Tensor<T, 3>(2, 0, 24)).size(), 0);
  const auto x = random_tensor<T>(14, 100, 24);
  Tensor<T, 2> y(100, 24), sum(100, 24);
  eh::Context context;
  const Counted seen = counted([&] {
    norm.forward_into(y, x, context);
    norm.add_norm_into(y, sum, x, x, context);
  });
  EXPECT_EQ(seen.allocations, 0);
  EXPECT_EQ(seen.locks, 0);
}

}  // namespace
