// SPDX-License-Identifier: MIT
// Activations: their values and gradients over all numbers, at the ends, and against PyTorch; and as a
// caller sees them, on tensors.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/io/npy.hpp>
#include <eigenheads/nn/activation.hpp>

#include "nn_kernels.hpp"

namespace {

using namespace support;
using eh::Activation;

template <class T>
class ActivationTest : public testing::Test {};
TYPED_TEST_SUITE(ActivationTest, Scalars, ScalarNames);

constexpr std::array kAll{Activation::identity,  Activation::relu, Activation::gelu,
                          Activation::gelu_tanh, Activation::silu, Activation::tanh};

// In twice the precision, by formulas in which nothing cancels.
template <class W>
W exponent(W x) {  // of gelu_tanh
  return 2 * std::sqrt(2 / W(3.141592653589793238462643383279502884L)) *
         (x + W(0.044715L) * x * x * x);
}
template <class W>
W sigmoid(W x) {
  return 1 / (1 + std::exp(-x));
}
template <class W>
W value(Activation activation, W x) {
  switch (activation) {
    case Activation::relu:
      return x > 0 ? x : 0;
    case Activation::gelu:
      return x * std::erfc(-x / std::sqrt(W(2))) / 2;
    case Activation::gelu_tanh:
      return x * sigmoid(exponent(x));
    case Activation::silu:
      return x * sigmoid(x);
    case Activation::tanh:
      return std::tanh(x);
    default:
      return x;
  }
}
template <class W>
W slope(Activation activation, W x) {
  const W root = std::sqrt(2 / W(3.141592653589793238462643383279502884L));
  switch (activation) {
    case Activation::relu:
      return x > 0 ? 1 : 0;
    case Activation::gelu:
      return std::erfc(-x / std::sqrt(W(2))) / 2 + x * std::exp(-x * x / 2) * root / 2;
    case Activation::gelu_tanh:
      return sigmoid(exponent(x)) *
             (1 + x * sigmoid(-exponent(x)) * 2 * root * (1 + 3 * W(0.044715L) * x * x));
    case Activation::silu:
      return sigmoid(x) * (1 + x * sigmoid(-x));
    case Activation::tanh:
      return 1 / (std::cosh(x) * std::cosh(x));
    default:
      return 1;
  }
}
// What activation.hpp promises, in units of the last place.
double bound(Activation activation, double x) {
  switch (activation) {
    case Activation::gelu:
      return 5;
    case Activation::gelu_tanh:
      return 4 + (x < 0 ? 3 * std::abs(exponent(x)) : 0);
    case Activation::silu:
      return 4;
    case Activation::tanh:
      return 2;
    default:
      return 0;
  }
}

template <class T>
std::vector<T> activated(const eh::detail::NnKernels<T>& kernels, Activation activation,
                         const std::vector<T>& x) {
  std::vector<T> y(x.size(), kNan<T>);
  kernels.activate(activation, x.data(), y.data(), static_cast<Index>(x.size()));
  return y;
}
template <class T>
std::vector<T> slopes(const eh::detail::NnKernels<T>& kernels, Activation activation,
                      const std::vector<T>& x, T grad_y = 1) {
  std::vector<T> y(x.size(), kNan<T>), ones(x.size(), grad_y);
  kernels.activate_backward(activation, x.data(), ones.data(), y.data(),
                            static_cast<Index>(x.size()));
  return y;
}

TYPED_TEST(ActivationTest, ValuesAreAsExactAsPromisedAndTheSameEverywhere) {
  using T = TypeParam;
  std::vector<T> x = spread_numbers<T>(Limits<T>::denorm_min(), T(1000), 60'000);
  for (const T number : spread_numbers<T>(T(0x1p-4), T(40), 100'000)) x.push_back(number);
  for (const Activation activation : kAll) {
    std::vector<T> fused;
    for_each_nn_kernels<T>([&](const auto& kernels, eh::InstructionSet set) {
      SCOPED_TRACE(std::string(eh::module_name(activation)) + ", " + eh::name_of(set));
      const std::vector<T> y = activated(kernels, activation, x);
      const bool is_fused = set != eh::InstructionSet::portable;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const double units = bound(activation, static_cast<double>(x[i]));
        // Without a fused multiply-add the squares of gelu lose digits.
        ASSERT_LE(ulps(y[i], value(activation, static_cast<Exact<T>>(x[i]))),
                  is_fused ? units : 2 * units + static_cast<double>(std::abs(x[i] * x[i])))
            << x[i];
      }
      if (!is_fused) return;
      if (fused.empty()) fused = y;
      for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(bits(y[i]), bits(fused[i])) << x[i];
    });
  }
}

TYPED_TEST(ActivationTest, GradientsAreAsExactAsPromisedAndTheSameEverywhere) {
  using T = TypeParam;
  std::vector<T> x = spread_numbers<T>(Limits<T>::denorm_min(), T(1000), 30'000);
  for (const T number : spread_numbers<T>(T(0x1p-4), T(40), 50'000)) x.push_back(number);
  for (const Activation activation : kAll) {
    std::vector<T> fused;
    for_each_nn_kernels<T>([&](const auto& kernels, eh::InstructionSet set) {
      SCOPED_TRACE(std::string(eh::module_name(activation)) + ", " + eh::name_of(set));
      const std::vector<T> y = slopes(kernels, activation, x);
      const bool is_fused = set != eh::InstructionSet::portable;
      for (std::size_t i = 0; i < x.size(); ++i) {
        const auto exact = slope(activation, static_cast<Exact<T>>(x[i]));
        // Bounded in T: clang 19 makes NaN of such an integer times a long double.
        ASSERT_LE(std::abs(static_cast<Exact<T>>(y[i]) - exact),
                  (is_fused ? 2 : 8) * Limits<T>::epsilon())
            << x[i];
        ASSERT_TRUE(activation != Activation::tanh || !is_fused || ulps(y[i], exact) <= 6) << x[i];
      }
      if (!is_fused) return;
      if (fused.empty()) fused = y;
      for (std::size_t i = 0; i < x.size(); ++i) ASSERT_EQ(bits(y[i]), bits(fused[i])) << x[i];
    });
  }
}

TYPED_TEST(ActivationTest, NanStaysNanAndInfinityHasItsLimit) {
  using T = TypeParam;
  for_each_nn_kernels<T>([](const auto& kernels, eh::InstructionSet set) {
    for (const Activation activation : kAll) {
      SCOPED_TRACE(std::string(eh::module_name(activation)) + ", " + eh::name_of(set));
      const std::vector<T> x{kNan<T>, -kNan<T>, kInf<T>, -kInf<T>, 0, T(-0.0)};
      const auto y = activated(kernels, activation, x), dx = slopes(kernels, activation, x);
      for (const std::size_t i : {0u, 1u}) EXPECT_EQ(bits(y[i]), bits(kNan<T>));
      const bool is_bounded = activation == Activation::tanh;
      const bool is_identity = activation == Activation::identity;
      EXPECT_EQ(y[2], is_bounded ? T(1) : kInf<T>);
      EXPECT_EQ(bits(y[3]), bits(is_identity ? -kInf<T> : is_bounded ? T(-1) : T(0)));
      EXPECT_EQ(bits(y[4]), bits(T(0)));
      EXPECT_EQ(bits(y[5]), bits(T(0)));
      for (const std::size_t i : {0u, 1u})
        EXPECT_EQ(bits(dx[i]), bits(is_identity ? T(1) : kNan<T>));
      EXPECT_EQ(dx[2], is_bounded ? T(0) : T(1));
      EXPECT_EQ(bits(dx[3]), bits(is_identity ? T(1) : T(0)));
    }
  });
}

// T4.05
TYPED_TEST(ActivationTest, GeluAndItsApproximationAreTheseNumbers) {
  using T = TypeParam;
  const std::vector<T> x{-3, 1, T(2.699)};
  Tensor<T, 1> tensor(3);
  std::copy(x.begin(), x.end(), tensor.data());
  const Tensor<T, 1> exact = eh::gelu(tensor), nearly = eh::gelu_tanh(tensor);
  EXPECT_NEAR(exact(0), -0.00404969409, 1e-9);
  EXPECT_NEAR(nearly(0), -0.00363739208, 1e-9);
  EXPECT_NEAR(exact(1), 0.841344746, 1e-7);
  EXPECT_NEAR(nearly(1), 0.841191991, 1e-7);
  EXPECT_NEAR(nearly(2) - exact(2), 4.7324e-4, 1e-6);
}
// T4.05
TEST(Activation, NamesAreThoseOfConfigurationsAndNoneIsReplaced) {
  EXPECT_EQ(eh::activation_named("gelu"), Activation::gelu);
  for (const char* name : {"gelu_new", "gelu_pytorch_tanh", "gelu_fast"})
    EXPECT_EQ(eh::activation_named(name), Activation::gelu_tanh);
  EXPECT_EQ(eh::activation_named("silu"), Activation::silu);
  EXPECT_EQ(eh::activation_named("relu"), Activation::relu);
  for (const char* name : {"quick_gelu", "", "GELU", "mish"})
    EXPECT_EQ(refusal([&] { return eh::activation_named(name); }),
              std::string("eigenheads: activation is \"") + name +
                  "\"; expected gelu, gelu_new, gelu_fast, gelu_tanh, gelu_pytorch_tanh, relu, "
                  "silu, swish, tanh, identity or linear");
  std::ostringstream out;
  for (const Activation activation : kAll) out << activation << ' ';
  EXPECT_EQ(out.str(),
            "Identity() ReLU() GELU(approximate='none') GELU(approximate='tanh') SiLU() Tanh() ");
}

// T4.06
TYPED_TEST(ActivationTest, FarOutNothingOverflows) {
  using T = TypeParam;
  const bool is_float = sizeof(T) == 4;
  for_each_nn_kernels<T>([&](const auto& kernels, eh::InstructionSet set) {
    SCOPED_TRACE(eh::name_of(set));
    for (const T x : {T(13.24), T(19.8), T(1e13), T(1e20), Limits<T>::max()})
      for (const Activation activation :
           {Activation::gelu, Activation::gelu_tanh, Activation::silu}) {
        const auto y = activated(kernels, activation, std::vector<T>{x, -x});
        const auto dx = slopes(kernels, activation, std::vector<T>{x, -x});
        const bool is_near = activation == Activation::silu && x < 100;
        EXPECT_NEAR(y[0], x, is_near ? 1e-4 : 0);
        EXPECT_NEAR(y[1], 0, is_near ? 1e-4 : x < 15 ? 1e-37 : 1e-80);
        EXPECT_NEAR(dx[0], 1, is_near ? 1e-4 : 0);
        EXPECT_NEAR(dx[1], 0, is_near ? 1e-4 : x < 15 ? 1e-37 : 1e-80);
        EXPECT_TRUE(x < T(1e13) || (y[1] == 0 && dx[1] == 0));
      }
    const T far = activated(kernels, Activation::gelu_tanh, std::vector<T>{T(-13.24)})[0];
    EXPECT_NEAR(far, is_float ? 0 : -1.05317e-80, 1e-85);
  });
}

TYPED_TEST(ActivationTest, GradientsAreThoseOfDifferences) {
  if (sizeof(TypeParam) == 4) return;
  const double step = 0x1p-17;
  for_each_nn_kernels<double>([&](const auto& kernels, eh::InstructionSet) {
    for (const Activation activation : kAll)
      for (double x = -8; x < 8; x += 0.13) {
        const auto y = activated(kernels, activation, std::vector<double>{x - step, x + step});
        EXPECT_NEAR(slopes(kernels, activation, std::vector<double>{x}, 3.0)[0],
                    3 * (y[1] - y[0]) / (2 * step), 1e-8)
            << eh::module_name(activation) << ' ' << x;
      }
  });
}

TYPED_TEST(ActivationTest, AsPyTorch) {
  using T = TypeParam;
  const std::string folder = std::string(EIGENHEADS_SOURCE_DIR) + "/tests/golden/elementwise/";
  const auto load = [&](const std::string& name) {
    const Tensor<float, 1> from = eh::load_npy<float, 1>(folder + name + ".npy");
    Tensor<T, 1> to(from.size());
    std::copy_n(from.data(), from.size(), to.data());
    return to;
  };
  const Tensor<T, 1> x = load("numbers"), grad_y = load("grad_numbers");
  const std::pair<const char*, Activation> all[] = {{"gelu", Activation::gelu},
                                                    {"gelu_tanh", Activation::gelu_tanh},
                                                    {"silu", Activation::silu},
                                                    {"relu", Activation::relu},
                                                    {"tanh", Activation::tanh}};
  for (const auto& [name, activation] : all) {
    const auto y = eh::activate(activation, x), dx = eh::activate_backward(activation, x, grad_y);
    const auto exact = eh::load_npy<double, 1>(folder + name + ".npy");
    const auto gradient = eh::load_npy<double, 1>(folder + name + "_grad.npy");
    for (Index i = 0; i < x.size(); ++i) {
      // PyTorch's own is 1 + erf and 1 + tanh, in float64.
      const double units = bound(activation, static_cast<double>(x(i))) + 1;
      EXPECT_NEAR(y(i), exact(i), std::abs(exact(i)) * units * Limits<T>::epsilon() + 1e-14)
          << name;
      EXPECT_NEAR(dx(i), gradient(i), std::abs(grad_y(i)) * 3 * Limits<T>::epsilon() + 1e-14)
          << name;
    }
  }
}

TYPED_TEST(ActivationTest, TensorsOfAnyRankInPlaceAndOnAnyNumberOfThreads) {
  using T = TypeParam;
  eh::Context one, three(3, kAnyWork);
  const auto x = random_tensor<T>(1, 3, 41, 150), grad_y = random_tensor<T>(2, 3, 41, 150);
  for (const Activation activation : kAll) {
    const Tensor<T, 3> y = eh::activate(activation, x, one);
    EXPECT_TRUE(same_bits(eh::activate(activation, x, three), y));
    Tensor<T, 3> in_place = x;
    eh::activate_into(in_place, activation, in_place, three);
    EXPECT_TRUE(same_bits(in_place, y));
    const Tensor<T, 3> dx = eh::activate_backward(activation, x, grad_y, one);
    for (Tensor<T, 3>* to : {&in_place, static_cast<Tensor<T, 3>*>(nullptr)}) {
      Tensor<T, 3> other = to == nullptr ? x : grad_y;  // over one input, or over the other
      eh::activate_backward_into(other, activation, to == nullptr ? other : x,
                                 to == nullptr ? grad_y : other, three);
      EXPECT_TRUE(same_bits(other, dx));
    }
  }
  EXPECT_TRUE(same_bits(eh::relu(x), eh::activate(Activation::relu, x)));
  EXPECT_TRUE(same_bits(eh::silu(x), eh::activate(Activation::silu, x)));
  EXPECT_TRUE(same_bits(eh::tanh(x), eh::activate(Activation::tanh, x)));
  EXPECT_EQ(eh::gelu(Tensor<T, 2>(0, 4)).size(), 0);
  const Eigen::Matrix<T, 1, 3> vector{1, 2, 3};
  EXPECT_NEAR(eh::relu(vector)(1), 2, 0);
}

// A number's bits are its own: not its neighbours', nor those of its place in memory.
TYPED_TEST(ActivationTest, EveryPlaceAndCountGivesTheSameBits) {
  using T = TypeParam;
  const auto x = random_tensor<T>(3, 100);
  const std::vector<T> numbers(x.data(), x.data() + 100);
  for_each_nn_kernels<T>([&](const auto& kernels, eh::InstructionSet) {
    for (const Activation activation : kAll) {
      const std::vector<T> y = activated(kernels, activation, numbers);
      const std::vector<T> dx = slopes(kernels, activation, numbers);
      for (std::size_t first = 0; first < 20; ++first)
        for (std::size_t count = 0; count < 40; ++count) {
          const std::vector<T> part(numbers.begin() + static_cast<std::ptrdiff_t>(first),
                                    numbers.begin() + static_cast<std::ptrdiff_t>(first + count));
          const std::vector<T> y_part = activated(kernels, activation, part);
          const std::vector<T> dx_part = slopes(kernels, activation, part);
          for (std::size_t i = 0; i < count; ++i) {
            ASSERT_EQ(bits(y_part[i]), bits(y[first + i]));
            ASSERT_EQ(bits(dx_part[i]), bits(dx[first + i]));
          }
        }
    }
  });
}

TYPED_TEST(ActivationTest, OneThatThereIsNotIsRefused) {
  using T = TypeParam;
  const auto none = static_cast<Activation>(99);
  const auto x = random_tensor<T>(1, 2, 3);
  auto y = constant_tensor(T(7), 2, 3);
  const std::string sentence = "eigenheads: activation is number 99; expected one of 0 to 5";
  EXPECT_EQ(refusal([&] { return eh::activate(none, x); }), sentence);
  EXPECT_EQ(refusal([&] { eh::activate_into(y, none, x); }), sentence);
  EXPECT_EQ(refusal([&] { return eh::activate_backward(none, x, x); }), sentence);
  EXPECT_EQ(refusal([&] { eh::activate_backward_into(y, none, x, x); }), sentence);
  EXPECT_EQ(refusal([&] { return eh::module_name(none); }), sentence);
  EXPECT_EQ(refusal([&] { return eh::module_name(static_cast<Activation>(-1)); }),
            "eigenheads: activation is number -1; expected one of 0 to 5");
  EXPECT_TRUE(all_are(y, T(7)));
}

TYPED_TEST(ActivationTest, AnotherShapeIsRefused) {
  using T = TypeParam;
  Tensor<T, 2> x(2, 3), y(3, 2);
  x.setZero();
  y.setConstant(T(7));
  EXPECT_EQ(refusal([&] { eh::activate_into(y, Activation::gelu, x); }),
            "eigenheads: y has shape [3, 2]; expected that of x = [2, 3]");
  EXPECT_EQ(refusal([&] { return eh::activate_backward(Activation::gelu, x, y); }),
            "eigenheads: grad_y has shape [3, 2]; expected that of x = [2, 3]");
  EXPECT_TRUE(all_are(y, T(7)));
  std::vector<T> memory(10, T(1));
  const TensorView<T, 1> from(memory.data(), {5});
  const eh::TensorSpan<T, 1> shifted(&memory[2], {5});
  const Tensor<T, 1> other = constant_tensor(T(1), 5);
  EXPECT_EQ(refusal([&] { eh::activate_into(shifted, Activation::gelu, from); }),
            "eigenheads: y overlaps x in memory");
  EXPECT_EQ(refusal([&] { eh::activate_backward_into(shifted, Activation::gelu, other, from); }),
            "eigenheads: grad_x overlaps grad_y in memory");
  EXPECT_TRUE(all_are(from, T(1)));
  EXPECT_EQ(refusal([&] { return eh::gelu(TensorView<T, 1>(nullptr, {3})); }),
            "eigenheads: x has shape [3] but its data pointer is null");
}

}  // namespace
