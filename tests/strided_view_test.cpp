// SPDX-License-Identifier: MIT
// Strided views: every element where the tensor has it, and strides that no memory has refused.
#include <concepts>
#include <span>
#include <string>
#include <type_traits>
#include <vector>

#include <eigenheads/strided_view.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::StridedView;
using Shape = StridedView<float>::Dimensions;

static_assert(std::is_trivially_copyable_v<StridedView<float>>);
static_assert(std::convertible_to<Tensor<float, 4>, StridedView<float>>);
static_assert(std::convertible_to<TensorView<float, 4>, StridedView<float>>);
static_assert(std::convertible_to<eh::TensorSpan<float, 4>, StridedView<float>>);
static_assert(!std::convertible_to<StridedView<float>, TensorView<float, 4>>);

template <class T>
class StridedViewTest : public testing::Test {};
TYPED_TEST_SUITE(StridedViewTest, Scalars, ScalarNames);

// expected(b, h, row, d): the address of that element.
template <class T, class Expected>
void expect_elements(const StridedView<T>& view, const Shape& shape, const Expected& expected) {
  ASSERT_EQ(view.dimensions(), shape);
  for (Index b = 0; b < shape[0]; ++b)
    for (Index h = 0; h < shape[1]; ++h)
      for (Index row = 0; row < shape[2]; ++row)
        for (Index d = 0; d < shape[3]; ++d)
          ASSERT_EQ(&view(b, h, row, d), expected(b, h, row, d)) << b << h << row << d;
}

TYPED_TEST(StridedViewTest, AContiguousTensorIsOne) {
  using T = TypeParam;
  for (const Shape& shape : {Shape{2, 3, 4, 5}, {1, 1, 1, 1}, {2, 1, 7, 3}}) {
    const auto x = random_tensor<T>(1, shape[0], shape[1], shape[2], shape[3]);
    const auto at = [&](auto... i) { return &x(i...); };
    expect_elements<T>(x, shape, at);
    expect_elements<T>(TensorView(x), shape, at);
    const StridedView deduced(x);
    EXPECT_EQ(deduced.strides(),
              (Shape{shape[1] * shape[2] * shape[3], shape[2] * shape[3], shape[3], 1}));
    EXPECT_EQ(deduced.reach(), x.size());
  }
}

TYPED_TEST(StridedViewTest, HeadsSideBySideAreSeenApart) {
  using T = TypeParam;
  for (const auto& [B, Q, H, D] : {Shape{2, 3, 4, 5}, {1, 1, 2, 3}, {3, 2, 1, 1}}) {
    const auto x = random_tensor<T>(1, B, Q, H, D);
    const auto view = eh::heads_side_by_side(x);
    expect_elements<T>(view, {B, H, Q, D},
                       [&x](Index b, Index h, Index row, Index d) { return &x(b, row, h, d); });
    EXPECT_EQ(view.reach(), x.size());
  }
}

TYPED_TEST(StridedViewTest, QueriesKeysAndValuesAreSeenInOneTensor) {
  using T = TypeParam;
  for (const auto& [B, tokens, H, D] : {Shape{2, 3, 4, 5}, {1, 1, 2, 3}, {3, 2, 1, 1}}) {
    const auto x = random_tensor<T>(1, B, tokens, 3, H, D);
    const auto [queries, keys, values] = eh::unpack_qkv(x);
    Index part = 0;
    for (const StridedView<T>* view : {&queries, &keys, &values}) {
      expect_elements<T>(
          *view, {B, H, tokens, D},
          [&x, part](Index b, Index h, Index row, Index d) { return &x(b, row, part, h, d); });
      ++part;
    }
  }
  const auto two = random_tensor<T>(1, 2, 3, 2, 4, 5);
  EXPECT_EQ(refusal([&] { return eh::unpack_qkv(two); }),
            "eigenheads: unpack_qkv: x has shape [2, 3, 2, 4, 5]; expected [B, T, 3, H, D] = [*, "
            "*, 3, *, *]");
}

TYPED_TEST(StridedViewTest, MayBeEmpty) {
  using T = TypeParam;
  for (const Shape& shape : {Shape{0, 3, 4, 5}, {2, 0, 4, 5}, {2, 3, 0, 5}, {2, 3, 4, 0}}) {
    const TensorView<T, 4> nothing(nullptr, shape);
    EXPECT_EQ(StridedView(nothing).reach(), 0);
    EXPECT_EQ(StridedView(nothing).dimensions(), shape);
    const auto apart = eh::heads_side_by_side(nothing);
    EXPECT_EQ(apart.dimensions(), (Shape{shape[0], shape[2], shape[1], shape[3]}));
    const TensorView<T, 5> packed(nullptr, {shape[0], shape[1], 3, shape[2], shape[3]});
    EXPECT_EQ(eh::unpack_qkv(packed).values.size(), 0);
  }
}

TEST(StridedViewRefusals, StridesThatNoMemoryHas) {
  std::vector<float> memory(120);
  const auto refused = [&](const Shape& shape, const Shape& strides) {
    return refusal([&] { return StridedView<float>(memory.data(), shape, strides); });
  };
  const auto refused_here = [&](const Shape& shape, const Shape& strides) {
    return refusal(
        [&] { return StridedView<float>(std::span<const float>(memory), shape, strides); });
  };
  constexpr Index huge = Limits<Index>::max();
  const std::string start = "eigenheads: strided view";
  EXPECT_EQ(refused({2, 3, 4, 5}, {60, 0, 5, 1}),
            start + " has strides [60, 0, 5, 1]; expected 1 or more");
  EXPECT_EQ(refused({2, 3, 4, 5}, {-60, 20, 5, 1}),
            start + " has strides [-60, 20, 5, 1]; expected 1 or more");
  EXPECT_EQ(
      refused({2, 3, 4, 5}, {60, 20, 5, 2}),
      start + " has strides [60, 20, 5, 2]; expected 1 for the last axis: rows are contiguous");
  EXPECT_EQ(refused({2, 3, -4, 5}, {60, 20, 5, 1}),
            start + " has a negative dimension: [2, 3, -4, 5]");
  EXPECT_EQ(refused({2, 3, 4, 5}, {huge, huge, 5, 1}),
            start + " of shape [2, 3, 4, 5] with strides [9223372036854775807, " +
                "9223372036854775807, 5, 1] reaches beyond what memory can hold");
  EXPECT_EQ(refused({1, 1, 1, 5}, {huge, huge, huge, 1}), "not refused");
  EXPECT_EQ(refusal([&] { return StridedView<float>(nullptr, {2, 3, 4, 5}, {60, 20, 5, 1}); }),
            start + " has shape [2, 3, 4, 5] but its data pointer is null");
  EXPECT_EQ(refused_here({2, 3, 4, 5}, {60, 20, 5, 1}), "not refused");
  EXPECT_EQ(refused_here({2, 3, 4, 5}, {60, 5, 15, 1}), "not refused");
  EXPECT_EQ(
      refused_here({2, 3, 4, 5}, {61, 20, 5, 1}),
      start + " of shape [2, 3, 4, 5] with strides [61, 20, 5, 1] reaches 121 elements, of 120");
}

}  // namespace
