// SPDX-License-Identifier: MIT
// The oracle against another one: a textbook's loop in twice the precision, with the mask asked
// pair by pair.
#include <eigenheads/attention_reference.hpp>

#include "support.hpp"
#include "textbook.hpp"

namespace {

using namespace support;

template <class T>
class AttentionReferenceTest : public testing::Test {
 protected:
  struct Shape {
    Index B, H, G, Q, K, D, V;
  };
  static eh::AttentionResult<T> attend(const Tensor<T, 4>& q, const Tensor<T, 4>& k,
                                       const Tensor<T, 4>& v, const eh::Mask& mask, T scale) {
    return eh::attention_reference<T>(q, k, v, mask, scale);
  }
};
TYPED_TEST_SUITE(AttentionReferenceTest, Scalars, ScalarNames);

TYPED_TEST(AttentionReferenceTest, ItIsTheTextbooksAttention) {
  using T = TypeParam;
  const typename TestFixture::Shape shapes[] = {{1, 1, 1, 1, 1, 1, 1},   {2, 1, 1, 3, 3, 4, 4},
                                                {3, 4, 2, 5, 7, 3, 2},   {2, 6, 1, 2, 5, 8, 10},
                                                {1, 3, 3, 17, 16, 5, 1}, {2, 2, 1, 1, 65, 64, 3},
                                                {2, 1, 1, 9, 2, 7, 7}};
  for (const auto& [B, H, G, Q, K, D, V] : shapes)
    for (const T size : {T(1), T(16)})
      for (const T scale : {T(1), T(0.3), T(-2)}) {
        auto q = random_tensor<T>(1, B, H, Q, D);
        for (Index i = 0; i < q.size(); ++i) q.data()[i] *= size;
        const auto k = random_tensor<T>(2, B, G, K, D), v = random_tensor<T>(3, B, G, K, V);
        for (const PairMask& mask : example_masks(B, Q, K, 4)) {
          SCOPED_TRACE(mask.text());
          const auto got = this->attend(q, k, v, mask.mask(), scale);
          const auto exact = textbook<T>(q, k, v, mask, scale);
          ASSERT_TRUE(within(got.output, exact.output, exact.output_bound));
          ASSERT_TRUE(within(got.weights, exact.weights, exact.weights_bound));
          ASSERT_TRUE(within(got.lse, exact.lse, exact.lse_bound));
        }
      }
}

// By hand: scores 0 and ln 3 weigh 1/4 and 3/4.
TYPED_TEST(AttentionReferenceTest, TwoKeys) {
  using T = TypeParam;
  const auto q = constant_tensor<T>(1, 1, 1, 1, 1);
  Tensor<T, 4> k(1, 1, 2, 1), v(1, 1, 2, 1);
  k.setValues({{{{0}, {T(1.0986122886681098)}}}});
  v.setValues({{{{4}, {8}}}});
  const auto got = this->attend(q, k, v, {}, 1);
  const double eps = static_cast<double>(Limits<T>::epsilon());
  EXPECT_NEAR(got.weights(0, 0, 0, 0), 0.25, eps);
  EXPECT_NEAR(got.weights(0, 0, 0, 1), 0.75, 2 * eps);
  EXPECT_NEAR(got.output(0, 0, 0, 0), 7, 16 * eps);
  EXPECT_NEAR(got.lse(0, 0, 0), std::log(4.0), 4 * eps);
}

TYPED_TEST(AttentionReferenceTest, AQueryWithoutAnyKeyHasNothing) {
  using T = TypeParam;
  const auto q = random_tensor<T>(1, 2, 1, 3, 4);
  for (const Index K : {0, 5}) {
    const auto k = constant_tensor<T>(kNan<T>, 2, 1, K, 4),
               v = constant_tensor<T>(kNan<T>, 2, 1, K, 2);
    const auto got = this->attend(q, k, v, {.valid_lens = {0, 0}}, 1);
    EXPECT_TRUE(all_are(got.output, 0));
    EXPECT_TRUE(all_are(got.weights, 0));
    EXPECT_TRUE(all_are(got.lse, -kInf<T>));
  }
}

// Query head h reads key/value head h / (H / G): as if each of those stood there H / G times.
TYPED_TEST(AttentionReferenceTest, SharedKeyHeadsAreRepeatedHeads) {
  using T = TypeParam;
  const auto q = random_tensor<T>(1, 2, 6, 3, 4), k = random_tensor<T>(2, 2, 2, 5, 4),
             v = random_tensor<T>(3, 2, 2, 5, 4);
  Tensor<T, 4> many_k(2, 6, 5, 4), many_v(2, 6, 5, 4);
  for (Index b = 0; b < 2; ++b)
    for (Index h = 0; h < 6; ++h)
      for (Index j = 0; j < 5; ++j)
        for (Index d = 0; d < 4; ++d) {
          many_k(b, h, j, d) = k(b, h / 3, j, d);
          many_v(b, h, j, d) = v(b, h / 3, j, d);
        }
  const auto shared = this->attend(q, k, v, {}, T(0.5)),
             many = this->attend(q, many_k, many_v, {}, T(0.5));
  EXPECT_TRUE(same_bits(shared.output, many.output));
  EXPECT_TRUE(same_bits(shared.weights, many.weights));
  EXPECT_TRUE(same_bits(shared.lse, many.lse));
}

}  // namespace
