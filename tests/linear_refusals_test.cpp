// SPDX-License-Identifier: MIT
// What a projection refuses, and that it then is as if it had not been asked.
#include <stdexcept>
#include <string>

#include <eigenheads/linear.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::Linear, eh::TensorSpan;

template <class T>
class LinearRefusals : public testing::Test {};
TYPED_TEST_SUITE(LinearRefusals, Scalars, ScalarNames);

TYPED_TEST(LinearRefusals, SizesThatCannotBeAreRefused) {
  const auto refused = [](const eh::LinearOptions& options) {
    return refusal([&] { return Linear<TypeParam>(options); });
  };
  constexpr Index big = Index{1} << 40;
  EXPECT_EQ(refused({}), "eigenheads: Linear: out_features is 0; expected 1 or more");
  EXPECT_EQ(refused({.out_features = -2}),
            "eigenheads: Linear: out_features is -2; expected 1 or more");
  EXPECT_EQ(refused({.in_features = -1, .out_features = 2}),
            "eigenheads: Linear: in_features is -1; expected 1 or more, or 0 to take it from the "
            "first input");
  EXPECT_EQ(refused({.in_features = big, .out_features = big}),
            "eigenheads: weight would have shape [1099511627776, 1099511627776], more than memory "
            "can hold");
}

TYPED_TEST(LinearRefusals, BadCallsAreRefusedAndChangeNothing) {
  using T = TypeParam;
  Linear<T> linear({.in_features = 3, .out_features = 2, .bias = true}, 1);
  const Tensor<T, 2> weight = linear.weight();
  auto memory = random_tensor<T>(1, 100);
  const auto at = [&](Index offset, Index rows, Index columns) {
    return TensorSpan<T, 2>(memory.data() + offset, {rows, columns});
  };
  const auto into = [&](TensorSpan<T, 2> y, TensorView<T, 2> x) {
    return refusal([&] {
      linear.forward_into(y, x);
      return 0;
    });
  };
  const auto before = memory;
  const std::string start = "eigenheads: ";
  EXPECT_EQ(into(at(50, 4, 2), at(0, 4, 4)),
            start + "x has shape [4, 4]; expected [..., in_features] = [4, 3]");
  EXPECT_EQ(into(at(50, 5, 2), at(0, 4, 3)),
            start + "y has shape [5, 2]; expected [..., out_features] = [4, 2]");
  EXPECT_EQ(into(at(50, 4, 3), at(0, 4, 3)),
            start + "y has shape [4, 3]; expected [..., out_features] = [4, 2]");
  EXPECT_EQ(into(at(11, 4, 2), at(0, 4, 3)), start + "y overlaps x in memory");
  EXPECT_EQ(into(at(0, 4, 2), at(0, 4, 3)), start + "y overlaps x in memory");
  EXPECT_EQ(into(at(12, 4, 2), {nullptr, {4, 3}}),
            start + "x has shape [4, 3] but its data pointer is null");
  EXPECT_EQ(into({nullptr, {4, 2}}, at(0, 4, 3)),
            start + "y has shape [4, 2] but its data pointer is null");
  EXPECT_TRUE(same_bits(memory, before));

  EXPECT_EQ(refusal([&] { return linear(at(0, 4, 4)); }),
            start + "x has shape [4, 4]; expected [..., in_features] = [4, 3]");
  EXPECT_EQ(refusal([&] { return linear.set_weight(at(0, 2, 4)), 0; }),
            start + "weight has shape [2, 4]; expected [out_features, in_features] = [2, 3]");
  EXPECT_EQ(refusal([&] { return linear.set_bias(row(at(0, 1, 3), 0)), 0; }),
            start + "bias has shape [3]; expected [out_features] = [2]");
  EXPECT_EQ(refusal([&] { return linear.initialize(4), 0; }),
            start + "Linear: in_features is 4; expected 3");
  EXPECT_TRUE(same_bits(linear.weight(), weight));
}

TYPED_TEST(LinearRefusals, AnInputThatCannotBeIsRefusedByItsName) {
  using T = TypeParam;
  const Linear<T> linear({.in_features = 3, .out_features = 2});
  T x = 0;
  EXPECT_EQ(refusal([&] { return linear(TensorView<T, 2>(&x, {-2, 3})); }),
            "eigenheads: x has a negative dimension: [-2, 3]");
  EXPECT_EQ(refusal([&] { return linear(TensorView<T, 2>(&x, {Index{1} << 62, 3})); }),
            "eigenheads: x would have shape [4611686018427387904, 3], more than memory can hold");
  eh::LinearGradients<T> gradients;
  EXPECT_EQ(
      refusal([&] {
        const TensorView<T, 4> many(&x, {Index{1} << 40, Index{1} << 40, 4, 3});
        return linear.backward(many, TensorView<T, 4>(&x, {1, 1, 1, 2}), gradients);
      }),
      "eigenheads: x would have shape [1099511627776, 1099511627776, 4, 3], more than memory can "
      "hold");
}

TYPED_TEST(LinearRefusals, AConstLazyLayerCannotInitializeItself) {
  using T = TypeParam;
  const Linear<T> lazy({.out_features = 2});
  const auto x = random_tensor<T>(1, 4, 3);
  const std::string expected =
      "eigenheads: Linear: in_features is not known yet; call it once on a non-const layer, or "
      "initialize(in_features)";
  EXPECT_EQ(refusal<std::logic_error>([&] { return lazy(x); }), expected);
  EXPECT_EQ(refusal<std::logic_error>([&] { return lazy.weight(); }), expected);
  EXPECT_EQ(refusal<std::logic_error>([&] { return lazy.bias(); }),
            "eigenheads: Linear: this layer was made without a bias");
}

// What is refused was never there: the next call may have another size.
TYPED_TEST(LinearRefusals, ARefusedCallLeavesALazyLayerLazy) {
  using T = TypeParam;
  Linear<T> lazy({.out_features = 2});
  EXPECT_NE(refusal([&] { return lazy(Tensor<T, 2>(4, 0)); }), "not refused");
  EXPECT_NE(refusal([&] { return lazy.set_weight(Tensor<T, 2>(2, 0)), 0; }), "not refused");
  EXPECT_NE(refusal([&] { return lazy.initialize(-1), 0; }), "not refused");
  EXPECT_TRUE(lazy.is_lazy());
  EXPECT_NE(refusal([&] { return lazy(TensorView<T, 2>(nullptr, {4, 3})); }), "not refused");
  EXPECT_TRUE(lazy.is_lazy());
}

}  // namespace
