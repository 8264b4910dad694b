// SPDX-License-Identifier: MIT
// x(b, q, h * D + d) == heads(b * H + h, q, d), there and back.
#include <array>
#include <limits>

#include <eigenheads/transpose.hpp>

#include "support.hpp"

namespace {

using namespace support;
using Shape = std::array<Index, 3>;

template <class T>
class HeadsTest : public testing::Test {};
using Elements = testing::Types<float, double, int>;  // they are only moved
TYPED_TEST_SUITE(HeadsTest, Elements, ScalarNames);

TYPED_TEST(HeadsTest, EveryElementGoesWhereTheFormulaSaysAndComesBack) {
  for (const Index B : {1, 2, 3})
    for (const Index Q : {1, 4})
      for (const Index H : {1, 2, 5})
        for (const Index D : {1, 3}) {
          Tensor<TypeParam, 3> x(B, Q, H * D);
          for (Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<TypeParam>(i);
          const auto heads = eh::transpose_qkv(x, H);
          ASSERT_EQ(TensorView(heads).dimensions(), (Shape{B * H, Q, D}));
          for (Index b = 0; b < B; ++b)
            for (Index q = 0; q < Q; ++q)
              for (Index h = 0; h < H; ++h)
                for (Index d = 0; d < D; ++d) ASSERT_EQ(heads(b * H + h, q, d), x(b, q, h * D + d));
          const auto back = eh::transpose_output(heads, H);
          ASSERT_EQ(TensorView(back).dimensions(), (Shape{B, Q, H * D}));
          for (Index i = 0; i < x.size(); ++i) ASSERT_EQ(back.data()[i], x.data()[i]);
        }
}

TYPED_TEST(HeadsTest, MapsAndViewsAreTakenToo) {
  Tensor<TypeParam, 3> x(2, 4, 6);
  x.setZero();
  x(1, 3, 5) = TypeParam(7);
  const Eigen::TensorMap<const Tensor<TypeParam, 3>> map(x.data(), 2, 4, 6);
  EXPECT_EQ(eh::transpose_qkv(map, 3)(5, 3, 1), TypeParam(7));
  EXPECT_EQ(eh::transpose_output(TensorView(x), 2)(0, 3, 11), TypeParam(7));
}

TYPED_TEST(HeadsTest, AnEmptyAxisStaysEmpty) {
  const auto split = [](Index B, Index Q, Index E) {
    return TensorView(eh::transpose_qkv(Tensor<TypeParam, 3>(B, Q, E), 2)).dimensions();
  };
  const auto join = [](Index heads, Index Q, Index D) {
    return TensorView(eh::transpose_output(Tensor<TypeParam, 3>(heads, Q, D), 2)).dimensions();
  };
  EXPECT_EQ(split(0, 4, 6), (Shape{0, 4, 3}));
  EXPECT_EQ(split(3, 0, 6), (Shape{6, 0, 3}));
  EXPECT_EQ(split(3, 4, 0), (Shape{6, 4, 0}));
  EXPECT_EQ(join(0, 4, 3), (Shape{0, 4, 6}));
  EXPECT_EQ(join(6, 0, 3), (Shape{3, 0, 6}));
  EXPECT_EQ(join(6, 4, 0), (Shape{3, 4, 0}));
}

TYPED_TEST(HeadsTest, HeadsThatDoNotDivideAreRefused) {
  const Tensor<TypeParam, 3> x(6, 4, 10);
  const TensorView<TypeParam, 3> null(nullptr, {6, 4, 10});
  const auto split = [](const auto& tensor, Index H) {
    return refusal([&] { return eh::transpose_qkv(tensor, H); });
  };
  const auto join = [](const auto& tensor, Index H) {
    return refusal([&] { return eh::transpose_output(tensor, H); });
  };
  EXPECT_NE(split(Tensor<TypeParam, 3>(4, 0, 0), std::numeric_limits<Index>::max() / 2)
                .find("more than memory can hold"),
            std::string::npos);
  for (const Index H : {-1, 0, 4}) {
    const std::string is =
        "num_heads is " + std::to_string(H) + "; expected a positive divisor of ";
    EXPECT_EQ(split(x, H), "eigenheads: transpose_qkv: " + is + "E = 10");
    EXPECT_EQ(join(x, H), "eigenheads: transpose_output: " + is + "B * H = 6");
  }
  EXPECT_EQ(split(null, 2),
            "eigenheads: transpose_qkv: x has shape [6, 4, 10] but its data pointer is null");
  EXPECT_EQ(
      join(null, 2),
      "eigenheads: transpose_output: heads has shape [6, 4, 10] but its data pointer is null");
}

}  // namespace
