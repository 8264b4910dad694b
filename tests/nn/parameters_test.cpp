// SPDX-License-Identifier: MIT
#include <array>
#include <limits>
#include <stdexcept>

#include <eigenheads/linear.hpp>
#include <eigenheads/nn/parameters.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::Linear;

TEST(CountParameters, AddsUpAllElements) {
  Linear<float> linear({.in_features = 5, .out_features = 7, .bias = true});
  EXPECT_EQ(eh::count_parameters(linear), 5 * 7 + 7);
  const eh::LinearGradients<double> none;
  EXPECT_EQ(eh::count_parameters(none), 0);
  const Linear<float> lazy({.out_features = 7});
  EXPECT_NE(refusal<std::logic_error>([&] { return eh::count_parameters(lazy); }), "not refused");
}

TEST(CopyParameters, IsExactToDoubleAndBack) {
  Linear<float> floats({.in_features = 37, .out_features = 19, .bias = true}, 1);
  Tensor<float, 1> bias = random_tensor<float>(2, 19);
  bias(3) = kNan<float>;
  bias(4) = -kInf<float>;
  bias(5) = std::numeric_limits<float>::denorm_min();
  floats.set_bias(bias);
  Linear<double> doubles({.in_features = 37, .out_features = 19, .bias = true}, 3);
  eh::copy_parameters(floats, doubles);
  for (Index i = 0; i < 19; ++i)
    EXPECT_EQ(bits(doubles.bias()(i)), bits(static_cast<double>(bias(i))));
  Linear<float> back({.in_features = 37, .out_features = 19, .bias = true}, 4);
  eh::copy_parameters(doubles, back);
  EXPECT_TRUE(same_bits(back.weight(), floats.weight()));
  EXPECT_TRUE(same_bits(back.bias(), bias));
}

TEST(CopyParameters, RoundsToTheNearestAndHalfwayToEven) {
  Linear<double> doubles({.in_features = 1, .out_features = 6, .bias = true});
  Tensor<double, 1> bias(6);
  bias.setValues(
      {1 + 0x1p-24, 1 + 0x3p-24, 1 + 0x1p-24 + 0x1p-50, 1e300, -1e-300, 0x1.fffffefp127});
  doubles.set_bias(bias);
  Linear<float> floats({.in_features = 1, .out_features = 6, .bias = true});
  eh::copy_parameters(doubles, floats);
  const std::array<float, 6> expected{
      1, 1 + 0x4p-24f, 1 + 0x2p-24f, kInf<float>, 0, std::numeric_limits<float>::max()};
  for (Index i = 0; i < 6; ++i)
    EXPECT_EQ(bits(floats.bias()(i)), bits(expected[static_cast<std::size_t>(i)])) << i;
}

TEST(CopyParameters, RefusesOtherParametersAndWritesNothing) {
  const Linear<float> from({.in_features = 3, .out_features = 2, .bias = true}, 1);
  Linear<double> wide({.in_features = 3, .out_features = 4, .bias = true}, 2);
  Linear<double> plain({.in_features = 3, .out_features = 2}, 3);
  const Tensor<double, 2> before = plain.weight();
  EXPECT_EQ(refusal([&] { eh::copy_parameters(from, wide); }),
            "eigenheads: copy_parameters: from weight of shape [2, 3] to weight of shape [4, 3]; "
            "expected modules with the same parameters");
  EXPECT_EQ(refusal([&] { eh::copy_parameters(from, plain); }),
            "eigenheads: copy_parameters: from a module with 2 parameters to one with 1; expected "
            "modules with the same parameters");
  EXPECT_EQ(refusal([&] { eh::copy_parameters(plain, wide); }).substr(0, 27),
            "eigenheads: copy_parameters");
  EXPECT_TRUE(same_bits(plain.weight(), before));
}

}  // namespace
