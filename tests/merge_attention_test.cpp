// SPDX-License-Identifier: MIT
// Attention over parts of the keys, joined, is attention over all of them; parts without keys are
// as if they were not there.
#include <algorithm>
#include <cmath>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/merge_attention.hpp>

#include "support.hpp"
#include "textbook.hpp"

namespace {

using namespace support;
using eh::AttentionResult, eh::merge_attention, eh::scaled_dot_product_attention;

constexpr Index B = 2, H = 3, Q = 5, K = 90, D = 8, V = 7;

template <class T>
class MergeAttention : public testing::Test {
 protected:
  const Tensor<T, 4> q = random_tensor<T>(1, B, H, Q, D), k = random_tensor<T>(2, B, H, K, D),
                     v = random_tensor<T>(3, B, H, K, V);

  // Over the keys [begin, end).
  [[nodiscard]] AttentionResult<T> part(Index begin, Index end) const {
    auto allowed = constant_tensor<bool>(false, 1, 1, 1, K);
    std::fill(allowed.data() + begin, allowed.data() + end, true);
    return scaled_dot_product_attention(q, k, v, {.allowed = allowed});
  }
  static bool same(const AttentionResult<T>& a, const AttentionResult<T>& b) {
    return same_bits(a.output, b.output) && same_bits(a.lse, b.lse);
  }
  void expect_whole(const AttentionResult<T>& got, int merges) const {
    const Wide<T> scale = 1 / std::sqrt(Wide<T>(D));
    auto exact = textbook<T>(q, k, v, {.Q = Q, .K = K}, scale);
    const Wide<T> more = 1 + Wide<T>(merges);  // each rounds a few times
    for (Index i = 0; i < exact.output_bound.size(); ++i) exact.output_bound.data()[i] *= more;
    for (Index i = 0; i < exact.lse_bound.size(); ++i) exact.lse_bound.data()[i] *= more;
    EXPECT_TRUE(within(got.output, exact.output, exact.output_bound));
    EXPECT_TRUE(within(got.lse, exact.lse, exact.lse_bound));
  }
};
TYPED_TEST_SUITE(MergeAttention, Scalars, ScalarNames);

// 2 to 8 parts, some of them empty, from left to right and two by two.
TYPED_TEST(MergeAttention, OfPartsIsTheWhole) {
  Numbers numbers(1);
  for (int repeat = 0; repeat < 30; ++repeat) {
    std::vector<Index> cuts{0, K};
    const Index parts = numbers.between(2, 8);
    for (Index cut = 1; cut < parts; ++cut) cuts.push_back(numbers.between(0, 3) * (K / 3));
    std::sort(cuts.begin(), cuts.end());
    std::vector<AttentionResult<TypeParam>> all;
    for (std::size_t i = 0; i + 1 < cuts.size(); ++i)
      all.push_back(this->part(cuts[i], cuts[i + 1]));
    auto left = all[0];
    for (std::size_t i = 1; i < all.size(); ++i) left = merge_attention(left, all[i]);
    this->expect_whole(left, 8);
    while (all.size() > 1) {
      std::vector<AttentionResult<TypeParam>> half;
      for (std::size_t i = 0; i < all.size(); i += 2)
        half.push_back(i + 1 < all.size() ? merge_attention(all[i], all[i + 1]) : all[i]);
      all = half;
    }
    this->expect_whole(all[0], 8);
  }
}

TYPED_TEST(MergeAttention, TheOrderOfTwoMakesNoDifference) {
  for (const Index cut : {1, 45, 89}) {
    const auto a = this->part(0, cut), b = this->part(cut, K);
    EXPECT_TRUE(this->same(merge_attention(a, b), merge_attention(b, a)));
  }
}

// To the bit, from both sides; and two of them are nothing, without NaN.
TYPED_TEST(MergeAttention, PartsWithoutKeysChangeNothing) {
  const auto nothing = this->part(0, 0), some = this->part(10, 40);
  EXPECT_TRUE(all_are(nothing.output, 0));
  EXPECT_TRUE(all_are(nothing.lse, -kInf<TypeParam>));
  EXPECT_TRUE(this->same(merge_attention(some, nothing), some));
  EXPECT_TRUE(this->same(merge_attention(nothing, some), some));
  EXPECT_TRUE(this->same(merge_attention(nothing, nothing), nothing));
}

TYPED_TEST(MergeAttention, WithItselfWeighsTwice) {
  using T = TypeParam;
  const auto some = this->part(0, 40), twice = merge_attention(some, some);
  EXPECT_TRUE(same_bits(twice.output, some.output));
  for (Index i = 0; i < some.lse.size(); ++i)
    EXPECT_NEAR(twice.lse.data()[i], some.lse.data()[i] + T(0.6931471805599453),
                4 * Limits<T>::epsilon() * std::max(T(1), std::abs(some.lse.data()[i])));
}

// A part that weighs next to nothing, at any size of the scores; and NaN, which is not lost.
TYPED_TEST(MergeAttention, LogarithmsOfAnySize) {
  using T = TypeParam;
  AttentionResult<T> a{constant_tensor<T>(3, 1, 1, 1, 2), constant_tensor<T>(0, 1, 1, 1)};
  auto b = a;
  std::fill_n(b.output.data(), 2, T(5));
  for (const T size : {T(0), T(-1e30), T(1e30), Limits<T>::lowest() / 2, Limits<T>::max() / 2}) {
    a.lse(0, 0, 0) = b.lse(0, 0, 0) = size;
    EXPECT_TRUE(all_are(merge_attention(a, b).output, 4)) << size;
  }
  a.lse(0, 0, 0) = Limits<T>::max();
  b.lse(0, 0, 0) = Limits<T>::lowest();
  EXPECT_TRUE(this->same(merge_attention(a, b), a));
  EXPECT_TRUE(this->same(merge_attention(b, a), a));
  b.lse(0, 0, 0) = kNan<T>;
  std::fill_n(b.output.data(), 2, kNan<T>);
  for (const T other : {T(0), -kInf<T>}) {
    a.lse(0, 0, 0) = other;
    for (const auto& merged : {merge_attention(a, b), merge_attention(b, a)}) {
      EXPECT_TRUE(all_are(merged.output, kNan<T>));
      EXPECT_TRUE(all_are(merged.lse, kNan<T>));
    }
  }
}

TYPED_TEST(MergeAttention, OfOtherShapesIsRefused) {
  using T = TypeParam;
  const auto some = this->part(0, 40);
  auto other = some;
  other.output = random_tensor<T>(1, B, H, Q, V + 1);
  EXPECT_EQ(refusal([&] { return merge_attention(some, other); }),
            "eigenheads: merge_attention: second.output has shape [2, 3, 5, 8]; expected "
            "[B, H, Q, V] = [2, 3, 5, 7]");
  other = some;
  other.lse = random_tensor<T>(1, B, H, Q - 1);
  EXPECT_EQ(refusal([&] { return merge_attention(some, other); }),
            "eigenheads: merge_attention: second.lse has shape [2, 3, 4]; expected "
            "[B, H, Q] = [2, 3, 5]");
  EXPECT_EQ(refusal([&] { return merge_attention(other, some); }),
            "eigenheads: merge_attention: first.lse has shape [2, 3, 4]; expected "
            "[B, H, Q] = [2, 3, 5]");
}

// What a part that saw no key holds may be anything: it is not read.
TYPED_TEST(MergeAttention, OfTwoPartsThatSawNoKeyIsZero) {
  using T = TypeParam;
  eh::AttentionResult<T> none{constant_tensor<T>(kNan<T>, 1, 1, 2, 3),
                              constant_tensor<T>(-kInf<T>, 1, 1, 2)};
  eh::AttentionResult<T> other = none;
  other.output = constant_tensor<T>(T(7), 1, 1, 2, 3);
  for (const auto& merged : {merge_attention(none, other), merge_attention(other, none)}) {
    EXPECT_TRUE(all_are(merged.output, 0));
    EXPECT_TRUE(all_are(merged.lse, -kInf<T>));
  }
}

}  // namespace
