// SPDX-License-Identifier: MIT
// Scaled dot-product attention: as exact as can be, as the masks say, and refused at the door.
// attention_edge_cases_test.cpp has the numbers and shapes that broke others.
#include <array>
#include <string>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_reference.hpp>

#include "support.hpp"
#include "textbook.hpp"

namespace {

using namespace support;
using eh::Causal, eh::Mask, eh::scaled_dot_product_attention;

template <class T>
class AttentionTest : public testing::Test {
 protected:
  // D = 2 queries and keys of zero, so that every weight is 1 / (keys that are seen).
  static Tensor<T, 4> mean_of(const std::vector<T>& values, Index Q, const Mask& mask) {
    const auto K = static_cast<Index>(values.size());
    return scaled_dot_product_attention(constant_tensor<T>(0, 1, 1, Q, 2),
                                        constant_tensor<T>(0, 1, 1, K, 2),
                                        TensorView<T, 4>(values.data(), {1, 1, K, 1}), mask)
        .output;
  }
  static testing::AssertionResult is(const Tensor<T, 4>& output, const std::vector<T>& expected) {
    return same_bits(
        output, TensorView<T, 4>(expected.data(), {1, 1, static_cast<Index>(expected.size()), 1}));
  }
};
TYPED_TEST_SUITE(AttentionTest, Scalars, ScalarNames);

TYPED_TEST(AttentionTest, ItIsTheTextbooksAttentionUnderEveryMask) {
  using T = TypeParam;
  struct Shape {
    Index B, H, G, Q, K, D, V;
  };
  const Shape shapes[] = {{1, 1, 1, 1, 1, 1, 1},    {3, 4, 2, 5, 7, 3, 2},
                          {2, 6, 3, 2, 5, 8, 10},   {1, 2, 2, 16, 16, 16, 5},
                          {2, 2, 1, 1, 65, 64, 64}, {2, 1, 1, 17, 63, 7, 33},
                          {2, 1, 1, 64, 3, 65, 1}};
  for (const auto& [B, H, G, Q, K, D, V] : shapes) {
    const auto q = random_tensor<T>(1, B, H, Q, D), k = random_tensor<T>(2, B, G, K, D),
               v = random_tensor<T>(3, B, G, K, V);
    for (const PairMask& mask : example_masks(B, Q, K, 4))
      for (const double scale : {1 / std::sqrt(static_cast<double>(D)), 8.0, -3.0}) {
        SCOPED_TRACE(mask.text());
        const auto got = scaled_dot_product_attention(q, k, v, mask.mask(), {.scale = scale});
        const auto exact = textbook<T>(q, k, v, mask, scale);
        ASSERT_TRUE(within(got.output, exact.output, exact.output_bound));
        ASSERT_TRUE(within(got.lse, exact.lse, exact.lse_bound));
      }
  }
}

// The largest and the mean error are at most twice those of the plain computation.
TYPED_TEST(AttentionTest, ItIsAsExactAsTheReference) {
  using T = TypeParam;
  using W = Wide<T>;
  struct Input {
    const char* name;
    Index K;
    T size, shift;  // of the scores; of the values
  };
  for (const auto& [name, K, size, shift] : {Input{"random", 300, 1, 0},
                                             {"same sign", 300, 1, 1},
                                             {"large scores", 300, 32, 0},
                                             {"long", 20000, 1, 1}}) {
    auto q = random_tensor<T>(1, 1, 2, 64, 64), v = random_tensor<T>(3, 1, 2, K, 16);
    const auto k = random_tensor<T>(2, 1, 2, K, 64);
    for (Index i = 0; i < q.size(); ++i) q.data()[i] *= size;
    for (Index i = 0; i < v.size(); ++i) v.data()[i] += shift;
    const auto exact = textbook<T>(q, k, v, {.Q = 64, .K = K}, W(0.125)).output;
    const auto errors = [&](const Tensor<T, 4>& got) {
      std::array<W, 2> largest_and_mean{};
      for (Index i = 0; i < got.size(); ++i) {
        const W error = std::abs(W(got.data()[i]) - exact.data()[i]);
        largest_and_mean[0] = std::max(largest_and_mean[0], error);
        largest_and_mean[1] += error / W(got.size());
      }
      return largest_and_mean;
    };
    const auto ours = errors(scaled_dot_product_attention(q, k, v).output);
    const auto reference = errors(eh::attention_reference<T>(q, k, v, {}, T(0.125)).output);
    EXPECT_LE(ours[0], 2 * reference[0]) << name;
    EXPECT_LE(ours[1], 2 * reference[1]) << name;
    EXPECT_GT(reference[1], 0) << name;
  }
}

TYPED_TEST(AttentionTest, CausalMasksSayWhichKeyStandsBesideWhichQuery) {
  const auto mean = [this](const std::vector<TypeParam>& v, Index Q, Causal causal) {
    return this->mean_of(v, Q, {.causal = causal});
  };
  EXPECT_TRUE(this->is(mean({0, 4, 8, 16, 12}, 2, Causal::bottom_right), {7, 8}));
  EXPECT_TRUE(this->is(mean({0, 4, 8, 16, 12}, 2, Causal::top_left), {0, 2}));
  EXPECT_TRUE(this->is(mean({2, 4}, 5, Causal::bottom_right), {0, 0, 0, 2, 3}));
  EXPECT_TRUE(this->is(mean({2, 4}, 5, Causal::top_left), {2, 3, 3, 3, 3}));
  EXPECT_TRUE(this->is(mean({2, 4, 9}, 3, Causal::none), {5, 5, 5}));
}

TYPED_TEST(AttentionTest, WindowsIncludeBothEnds) {
  using T = TypeParam;
  EXPECT_TRUE(this->is(this->mean_of({0, 1, 2, 3, 4}, 5, {.window = {1, 2}}),
                       {1, T(1.5), T(2.5), 3, T(3.5)}));
  EXPECT_TRUE(this->is(this->mean_of({5, 6, 7}, 3, {.window = {0, 0}}), {5, 6, 7}));
  const std::vector<T> values{3, 1, 4, 1, 5, 9, 2, 6};
  const Mask unlimited{.window = {-1, -1}};
  EXPECT_TRUE(same_bits(this->mean_of(values, 3, unlimited), this->mean_of(values, 3, {})));
  // Query 10 of 20 with 4 to the right sees key 14, and not key 15.
  for (const Index key : {14, 15}) {
    std::vector<T> v(20);
    v[static_cast<std::size_t>(key)] = 15;
    EXPECT_EQ(this->mean_of(v, 20, {.window = {-1, 4}})(0, 0, 10, 0), key == 14 ? 1 : 0);
  }
}

// bottom_right is the end of the keys, not of valid_lens: parts intersect.
TYPED_TEST(AttentionTest, LengthsAndCausalityIntersect) {
  using T = TypeParam;
  const auto zero = constant_tensor<T>(0, 2, 1, 5, 1);
  Tensor<T, 4> v(2, 1, 5, 1);
  v.setValues({{{{2}, {4}, {100}, {100}, {100}}}, {{{0}, {4}, {8}, {16}, {12}}}});
  const Tensor<T, 4> q =
      zero.slice(Eigen::array<Index, 4>{0, 0, 0, 0}, Eigen::array<Index, 4>{2, 1, 2, 1});
  const auto output = scaled_dot_product_attention(
                          q, zero, v, {.valid_lens = {2, 5}, .causal = Causal::bottom_right})
                          .output;
  Tensor<T, 4> expected(2, 1, 2, 1);
  expected.setValues({{{{3}, {3}}}, {{{7}, {8}}}});
  EXPECT_TRUE(same_bits(output, expected));
}

TYPED_TEST(AttentionTest, LengthsOfEveryKeyAreNoLengths) {
  using T = TypeParam;
  const auto q = random_tensor<T>(1, 2, 3, 4, 5), k = random_tensor<T>(2, 2, 3, 6, 5),
             v = random_tensor<T>(3, 2, 3, 6, 7);
  const auto all = scaled_dot_product_attention(q, k, v, {.valid_lens = {6, 6}});
  const auto none = scaled_dot_product_attention(q, k, v);
  EXPECT_TRUE(same_bits(all.output, none.output));
  EXPECT_TRUE(same_bits(all.lse, none.lse));
}

TYPED_TEST(AttentionTest, TheScaleIsOneOverTheRootOfTheHeadSizeUnlessGiven) {
  using T = TypeParam;
  auto q = random_tensor<T>(1, 1, 2, 3, 16);
  const auto k = random_tensor<T>(2, 1, 2, 5, 16), v = random_tensor<T>(3, 1, 2, 5, 4);
  const auto scaled = [&](double scale) {
    return scaled_dot_product_attention(q, k, v, {}, {.scale = scale}).output;
  };
  const auto output = scaled_dot_product_attention(q, k, v).output;
  EXPECT_TRUE(same_bits(output, scaled(0.25)));
  EXPECT_FALSE(same_bits(output, scaled(0.5)));
  const auto uniform = scaled(0), doubled = scaled(2), negative = scaled(-1);
  for (Index i = 0; i < q.size(); ++i) q.data()[i] *= 2;
  EXPECT_TRUE(same_bits(scaled(1), doubled));  // by a power of two, exact
  for (Index i = 0; i < q.size(); ++i) q.data()[i] /= -2;
  EXPECT_TRUE(same_bits(scaled(1), negative));
  q.setZero();
  EXPECT_TRUE(same_bits(scaled(1), uniform));
}

TYPED_TEST(AttentionTest, QueryHeadsShareKeyHeadsInOrder) {
  using T = TypeParam;
  const auto q = random_tensor<T>(1, 1, 6, 3, 4), k = random_tensor<T>(2, 1, 2, 5, 4);
  Tensor<T, 4> v(1, 2, 5, 1);
  for (Index j = 0; j < 5; ++j) v(0, 0, j, 0) = 0, v(0, 1, j, 0) = 1;
  const auto output = scaled_dot_product_attention(q, k, v, {.valid_lens = {1}}).output;
  for (Index h = 0; h < 6; ++h)
    for (Index i = 0; i < 3; ++i) EXPECT_EQ(output(0, h, i, 0), h / 3);
}

TYPED_TEST(AttentionTest, InputsMayBeMapsViewsAndTemporaries) {
  using T = TypeParam;
  const auto make = [](std::uint64_t seed) { return random_tensor<T>(seed, 2, 3, 4, 5); };
  const auto q = make(1), k = make(2), v = make(3);
  const Eigen::TensorMap<const Tensor<T, 4>> map(k.data(), 2, 3, 4, 5);
  EXPECT_TRUE(same_bits(scaled_dot_product_attention(make(1), map, TensorView(v)).output,
                        scaled_dot_product_attention(q, k, v).output));
}

TYPED_TEST(AttentionTest, WhatDoesNotFitIsRefused) {
  using T = TypeParam;
  using Shape = std::array<Index, 4>;
  constexpr Index big = Index{1} << 40;
  const auto memory = random_tensor<T>(1, 4000);
  const auto refused = [&](const Shape& q, const Shape& k, const Shape& v, const Mask& mask = {}) {
    const std::string text = refusal([&] {
      return scaled_dot_product_attention(TensorView<T, 4>(memory.data(), q),
                                          TensorView<T, 4>(memory.data(), k),
                                          TensorView<T, 4>(memory.data(), v), mask);
    });
    const std::string start = "eigenheads: ";
    return text.rfind(start, 0) == 0 ? text.substr(start.size()) : text;
  };
  EXPECT_EQ(refused({2, 4, 3, 8}, {2, 2, 5, 8}, {2, 2, 5, 6}), "not refused");
  EXPECT_EQ(refused({2, 4, 3, 16}, {2, 4, 5, 17}, {2, 4, 5, 6}),
            "keys has shape [2, 4, 5, 17]; expected [B, G, K, D] = [2, *, *, 16]");
  EXPECT_EQ(refused({2, 4, 3, 8}, {3, 4, 5, 8}, {3, 4, 5, 6}),
            "keys has shape [3, 4, 5, 8]; expected [B, G, K, D] = [2, *, *, 8]");
  EXPECT_EQ(refused({2, 4, 3, 8}, {2, 4, 5, 8}, {2, 4, 6, 6}),
            "values has shape [2, 4, 6, 6]; expected [B, G, K, V] = [2, 4, 5, *]");
  EXPECT_EQ(refused({2, 4, 3, 8}, {2, 4, 5, 8}, {2, 2, 5, 6}),
            "values has shape [2, 2, 5, 6]; expected [B, G, K, V] = [2, 4, 5, *]");
  EXPECT_EQ(refused({2, 4, 3, 0}, {2, 4, 5, 0}, {2, 4, 5, 6}),
            "queries has a head size of 0; expected 1 or more");
  EXPECT_EQ(refused({2, 12, 3, 8}, {2, 5, 4, 8}, {2, 5, 4, 8}),
            "keys has 5 heads; expected a divisor of the queries' 12");
  EXPECT_EQ(refused({2, 4, 3, 8}, {2, 0, 4, 8}, {2, 0, 4, 8}),
            "keys has 0 heads; expected a divisor of the queries' 4");
  EXPECT_EQ(refused({2, 2, 3, 8}, {2, 4, 4, 8}, {2, 4, 4, 8}),
            "keys has 4 heads; expected a divisor of the queries' 2");
  EXPECT_EQ(refused({1, 1, big, big}, {1, 1, 1, big}, {1, 1, 1, 1}),
            "queries would have shape [1, 1, 1099511627776, 1099511627776], more than memory can "
            "hold");
  EXPECT_EQ(refused({1, 1, 8, 8}, {1, 1, 0, 8}, {1, 1, 0, Index{1} << 59}),
            "output would have shape [1, 1, 8, 576460752303423488], more than memory can hold");
  EXPECT_EQ(refused({2, 1, 3, 4}, {2, 1, 5, 4}, {2, 1, 5, 4}, {.valid_lens = {3, 6}}),
            "valid_lens[1] is 6; expected 0 to the number of keys, 5");
  EXPECT_EQ(refused({2, 1, 3, 4}, {2, 1, 5, 4}, {2, 1, 5, 4}, {.window = {1, -1}}),
            "a window over 3 queries and 5 keys needs causal top_left or bottom_right, or "
            "first_positions, to say which key stands beside which query");
}

TYPED_TEST(AttentionTest, ANullPointerIsRefusedUnlessThereIsNothing) {
  using T = TypeParam;
  const auto x = random_tensor<T>(1, 1, 1, 2, 3);
  const TensorView<T, 4> null(nullptr, {1, 1, 2, 3}), nothing(nullptr, {1, 1, 0, 3});
  const auto refused = [](TensorView<T, 4> q, TensorView<T, 4> k, TensorView<T, 4> v) {
    return refusal([&] { return scaled_dot_product_attention(q, k, v); });
  };
  const std::string is_null = " has shape [1, 1, 2, 3] but its data pointer is null";
  EXPECT_EQ(refused(null, x, x), "eigenheads: queries" + is_null);
  EXPECT_EQ(refused(x, null, x), "eigenheads: keys" + is_null);
  EXPECT_EQ(refused(x, x, null), "eigenheads: values" + is_null);
  EXPECT_EQ(refused(nothing, x, x), "not refused");
  EXPECT_EQ(refused(x, nothing, nothing), "not refused");
}

// A result that is written into again is none of the inputs: its memory may be given back.
TYPED_TEST(AttentionTest, AResultThatIsAnInputIsRefused) {
  using T = TypeParam;
  const auto q = random_tensor<T>(1, 1, 2, 40, 8), k = random_tensor<T>(2, 1, 2, 40, 8),
             fewer = random_tensor<T>(3, 1, 2, 7, 8);
  const eh::AttentionOptions<T> all{.weights = true, .scores_after = eh::ScoreRef<T>()};
  eh::AttentionResult<T> result;
  eh::scaled_dot_product_attention_into(result, q, k, k, {}, all);
  const auto before = result;
  const auto refused = [&](const auto& queries, const auto& keys, const auto& values) {
    const std::string sentence = refusal(
        [&] { eh::scaled_dot_product_attention_into(result, queries, keys, values, {}, all); });
    EXPECT_TRUE(same_bits(result.output, before.output));
    EXPECT_TRUE(same_bits(result.weights, before.weights));
    return sentence;
  };
  EXPECT_EQ(refused(result.output, k, k), "eigenheads: output overlaps queries in memory");
  EXPECT_EQ(refused(fewer, result.output, k), "eigenheads: output overlaps keys in memory");
  EXPECT_EQ(refused(fewer, k, result.output), "eigenheads: output overlaps values in memory");
  EXPECT_EQ(refused(fewer, k, result.weights), "eigenheads: weights overlaps values in memory");
  EXPECT_EQ(refused(fewer, k, result.scores), "eigenheads: scores overlaps values in memory");
}

TYPED_TEST(AttentionTest, AScaleThatIsNoNumberIsRefused) {
  using T = TypeParam;
  const auto x = random_tensor<T>(1, 1, 1, 2, 3);
  const auto refused = [&](double scale) {
    return refusal([&] { return scaled_dot_product_attention(x, x, x, {}, {.scale = scale}); });
  };
  EXPECT_EQ(refused(kNan<double>), "eigenheads: scale is nan; expected a finite number");
  EXPECT_EQ(refused(-kInf<double>), "eigenheads: scale is -inf; expected a finite number");
}

TEST(Attention, AScaleThatIsInfiniteAsFloatIsRefused) {
  const auto x = random_tensor<float>(1, 1, 1, 2, 3);
  EXPECT_NE(refusal([&] { return scaled_dot_product_attention(x, x, x, {}, {.scale = 1e39}); }),
            "not refused");
}

}  // namespace
