// SPDX-License-Identifier: MIT
// The softmax takes many rows at once, and writes whole groups of lanes: each row has the bits that
// it has alone, wherever its keys begin and end.
#include <eigenheads/attention.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::Causal, eh::Mask, eh::scaled_dot_product_attention;

template <class T>
class SoftmaxRowsTest : public testing::Test {
 protected:
  static constexpr Index Q = 35, D = 5;  // more rows than lanes, and not a multiple of them

  // All queries of one call against calls of one query each; `mask_of` a query's place.
  template <class MaskOf>
  static void expect_rows_alone(Index K, const Mask& mask, const MaskOf& mask_of) {
    SCOPED_TRACE(testing::Message() << K << " keys");
    const auto q = random_tensor<T>(1, 1, 1, Q, D), k = random_tensor<T>(2, 1, 1, K, D);
    const auto v = random_tensor<T>(3, 1, 1, K, D);
    const auto all = scaled_dot_product_attention(q, k, v, mask);
    for (Index i = 0; i < Q; ++i) {
      const TensorView<T, 4> query(q.data() + i * D, {1, 1, 1, D});
      const auto alone = scaled_dot_product_attention(query, k, v, mask_of(i));
      ASSERT_TRUE(same_bits(TensorView<T, 1>(alone.output.data(), {D}),
                            TensorView<T, 1>(all.output.data() + i * D, {D})))
          << i;
      ASSERT_TRUE(same_bits(TensorView<T, 1>(alone.lse.data(), {1}),
                            TensorView<T, 1>(all.lse.data() + i, {1})))
          << i;
    }
  }
};
TYPED_TEST_SUITE(SoftmaxRowsTest, Scalars, ScalarNames);

TYPED_TEST(SoftmaxRowsTest, AnyNumberOfKeysGivesTheBitsOfEachRowAlone) {
  for (Index K = 1; K < 300; K += K < 70 ? 1 : 13)
    this->expect_rows_alone(K, {}, [](Index) { return Mask{}; });
}

TYPED_TEST(SoftmaxRowsTest, RangesThatBeginAndEndAnywhereGiveTheBitsOfEachRowAlone) {
  for (const Index K : {1, 7, 24, 40, 129, 257, 300})
    for (const Index left : {0, 1, 5, 17, 40})
      for (const Index first : {0, 10, 120, 250, 280})
        this->expect_rows_alone(
            K, {.causal = Causal::top_left, .window = {.left = left}, .first_positions = {first}},
            [&](Index i) {
              return Mask{.causal = Causal::top_left,
                          .window = {.left = left},
                          .first_positions = {first + i}};
            });
}

}  // namespace
