// SPDX-License-Identifier: MIT
// Queries that are padding: nothing is read of them, nothing is computed for them, and they get
// what a query without keys gets. And the refusals of the masks that know pairs and queries.
#include <algorithm>
#include <string>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/multi_head_attention.hpp>

#include "contract.hpp"
#include "support.hpp"
#include "textbook.hpp"

namespace {

using namespace support;
using eh::Causal, eh::Context, eh::Mask, eh::ValidLens;

template <class T>
class QueryLens : public testing::Test {};
TYPED_TEST_SUITE(QueryLens, Scalars, ScalarNames);

constexpr Index B = 4;

// visit(subject, mask without query_lens, query_lens, inputs): attention and the layer, under every
// kind of mask.
template <class T, class Visit>
void for_each_padded_call(const Visit& visit) {
  Numbers numbers(1);
  for (const Subject<T>& subject : {core<T>(), whole_layer<T>()})
    for (const Index Q : {1, 5, 17, 65})
      for (const Index K : {1, 17, 130})
        for (const PairMask& mask : example_masks(B, Q, K, static_cast<std::uint64_t>(Q * K))) {
          SCOPED_TRACE(subject.name + ": " + mask.text());
          const std::vector<Index> lens{Q, 0, numbers.between(0, Q), Q / 2};
          visit(subject, mask, lens, random_tensor<T>(1, B, Q, kFeatures),
                random_tensor<T>(2, B, K, kFeatures), random_tensor<T>(3, B, K, kFeatures));
          if (testing::Test::HasFailure()) return;
        }
}

TYPED_TEST(QueryLens, PaddingGetsNothingAndTheOthersKeepTheirBits) {
  using T = TypeParam;
  for_each_padded_call<T>([](const Subject<T>& subject, const PairMask& pairs,
                             const std::vector<Index>& lens, const Tensor<T, 3>& q,
                             const Tensor<T, 3>& k, const Tensor<T, 3>& v) {
    if (!pairs.key_lens.empty()) return;  // then padding moves the others: their end is elsewhere
    Mask mask = pairs.mask();
    const Tensor<T, 3> all = subject(q, k, v, mask);
    mask.query_lens = lens;
    const Tensor<T, 3> y = subject(q, k, v, mask);
    for (Index b = 0; b < B; ++b)
      for (Index i = 0; i < pairs.Q; ++i)
        if (i < lens[static_cast<std::size_t>(b)])
          ASSERT_TRUE(same_bits(row(y, b, i), row(all, b, i))) << b << ' ' << i;
        else
          ASSERT_TRUE(same_bits(row(y, b, i), subject.nothing)) << b << ' ' << i;
  });
}

// Nor are the keys that only padding would see.
TYPED_TEST(QueryLens, PaddingIsNotObservable) {
  using T = TypeParam;
  for_each_padded_call<T>([](const Subject<T>& subject, PairMask pairs,
                             const std::vector<Index>& lens, const Tensor<T, 3>& q,
                             const Tensor<T, 3>& k, const Tensor<T, 3>& v) {
    pairs.query_lens = lens;
    const Mask mask = pairs.mask();
    const Tensor<T, 3> y = subject(q, k, v, mask);
    auto dirty_q = q, dirty_k = k, dirty_v = v;
    for (Index b = 0; b < B; ++b) {
      for (Index i = lens[static_cast<std::size_t>(b)]; i < pairs.Q; ++i)
        std::fill_n(&dirty_q(b, i, 0), kFeatures, i % 2 == 0 ? kNan<T> : kInf<T>);
      for (Index key = 0; key < pairs.K; ++key) {
        bool is_seen = false;
        for (Index i = 0; i < pairs.Q; ++i) is_seen = is_seen || pairs.visible(b, i, key);
        if (is_seen) continue;
        std::fill_n(&dirty_k(b, key, 0), kFeatures, kNan<T>);
        std::fill_n(&dirty_v(b, key, 0), kFeatures, key % 2 == 0 ? kNan<T> : -kInf<T>);
      }
    }
    for (const int threads : {1, 3}) {
      Context context(threads, kAnyWork);
      ASSERT_TRUE(same_bits(subject.attend(dirty_q, dirty_k, dirty_v, mask, context), y));
    }
  });
}

// Weights and logarithms too, and memory that was used before.
TYPED_TEST(QueryLens, PaddingHasNoWeightsAndNoLogarithm) {
  using T = TypeParam;
  const auto layer = make_layer<T>();
  Context used;
  const auto dirty = constant_tensor<T>(kNan<T>, 3, 70, kFeatures);
  (void)layer(dirty, dirty, dirty, {}, used);
  for (const Index Q : {3, 60}) {
    const auto x = random_tensor<T>(1, 2, Q, kFeatures), k = random_tensor<T>(2, 2, 9, kFeatures);
    const Mask mask{.valid_lens = {5, 9}, .query_lens = {Q, 2}};
    const auto [output, weights] = layer.with_weights(x, k, k, mask, used);
    EXPECT_TRUE(same_bits(output, layer(x, k, k, mask)));
    const auto all = layer.with_weights(x, k, k, {.valid_lens = {5, 9}}).weights;
    const auto lse = eh::scaled_dot_product_attention(
                         random_tensor<T>(3, 2, 1, Q, 4), random_tensor<T>(4, 2, 1, 9, 4),
                         random_tensor<T>(5, 2, 1, 9, 4), mask, {}, used)
                         .lse;
    for (Index b = 0; b < 2; ++b)
      for (Index i = 0; i < Q; ++i) {
        const bool is_padding = b == 1 && i >= 2;
        EXPECT_EQ(lse(b, 0, i) == -kInf<T>, is_padding) << i;
        for (Index h = 0; h < layer.num_heads(); ++h) {
          if (is_padding)
            EXPECT_TRUE(all_are(row(weights, b, h, i), T(0))) << i;
          else
            EXPECT_TRUE(same_bits(row(weights, b, h, i), row(all, b, h, i))) << i;
        }
      }
  }
}

// ---- What a bound mask says of them ------------------------------------------------------------

TEST(BoundMaskOfQueries, SeenKeysHoldTheKeysOfEveryQueryThatCounts) {
  for (const Index Q : {1, 2, 7, 40})
    for (const Index K : {1, 2, 7, 40})
      for (PairMask& pairs : example_masks(B, Q, K, 3)) {
        pairs.query_lens = {Q, 0, Q / 2, 1};
        SCOPED_TRACE(pairs.text());
        const Mask mask = pairs.mask();
        const eh::BoundMask bound(mask, B, Q, K);
        for (Index b = 0; b < B; ++b) {
          const Index count = pairs.query_lens[static_cast<std::size_t>(b)];
          EXPECT_EQ(bound.query_count(b), count);
          const auto [begin, end] = bound.seen_keys(b);
          ASSERT_TRUE(0 <= begin && begin <= end && end <= K);
          Index first = K, last = 0;
          for (Index q = 0; q < Q; ++q)
            for (Index k = 0; k < K; ++k)
              if (pairs.visible(b, q, k)) {
                ASSERT_TRUE(begin <= k && k < end) << b << ' ' << q << ' ' << k;
                first = std::min(first, k);
                last = std::max(last, k + 1);
              }
          EXPECT_EQ(end, first < last ? last : end);  // none at the end that nobody sees
        }
      }
}

// ---- Refusals ----------------------------------------------------------------------------------

// In a call of 2 sequences, 4 heads, 3 queries and 5 keys.
std::string refused(const Mask& mask) {
  const auto q = random_tensor<float>(1, 2, 4, 3, 2), k = random_tensor<float>(2, 2, 2, 5, 2);
  return refusal([&] { return eh::scaled_dot_product_attention(q, k, k, mask); });
}

TEST(MaskRefusals, PairsOfAnotherShape) {
  const auto expected = [](const std::string& shape) {
    return "eigenheads: allowed has shape " + shape +
           "; expected [B, H, Q, K] = [2, 4, 3, 5], or 1 for any of them";
  };
  const auto pairs = [](auto... shape) { return constant_tensor<bool>(true, shape...); };
  EXPECT_EQ(refused({.allowed = pairs(2, 4, 3, 4)}), expected("[2, 4, 3, 4]"));
  EXPECT_EQ(refused({.allowed = pairs(2, 2, 3, 5)}), expected("[2, 2, 3, 5]"));
  EXPECT_EQ(refused({.allowed = pairs(3, 1, 1, 1)}), expected("[3, 1, 1, 1]"));
  EXPECT_EQ(refused({.allowed = pairs(1, 1, 0, 5)}), expected("[1, 1, 0, 5]"));
  EXPECT_EQ(refused({.allowed = pairs(5, 3)}), expected("[1, 1, 5, 3]"));
  EXPECT_EQ(refused({.allowed = pairs(3, 5)}), "not refused");
  EXPECT_EQ(refused({.allowed = pairs(1, 1)}), "not refused");
  EXPECT_EQ(refused({.allowed = pairs(1, 4, 1, 5)}), "not refused");
}

TEST(MaskRefusals, PairsThatAreNoTensor) {
  const bool yes[8] = {true, true, true, true, true, true, true, true};
  EXPECT_EQ(refusal([&] { return eh::Allowed(TensorView<bool, 2>(&yes[4], {-3, 1})); }),
            "eigenheads: allowed has a negative dimension: [-3, 1]");
  EXPECT_EQ(refusal([&] { return eh::Allowed(TensorView<bool, 2>(nullptr, {3, 5})); }),
            "eigenheads: allowed has shape [3, 5] but its data pointer is null");
}

TEST(MaskRefusals, LengthsOfQueries) {
  const std::string start = "eigenheads: query_lens";
  EXPECT_EQ(refused({.query_lens = {3, 4}}),
            start + "[1] is 4; expected 0 to the number of queries, 3");
  EXPECT_EQ(refused({.query_lens = {-1, 3}}),
            start + "[0] is -1; expected 0 to the number of queries, 3");
  EXPECT_EQ(refused({.query_lens = {3}}), start + " has shape [1]; expected [B] = [2]");
  EXPECT_EQ(refused({.query_lens = {{1, 2, 3}, {1, 2, 3}}}),
            start + " has one length a query; expected [B] = [2]");
  EXPECT_EQ(refused({.query_lens = {0, 3}}), "not refused");
}

// Before anything is written, by every door.
TEST(MaskRefusals, LeaveTheOutputAsItWas) {
  const auto layer = make_layer<float>();
  const auto x = random_tensor<float>(1, 2, 3, kFeatures);
  for (const Mask& mask :
       {Mask{.query_lens = {3, 4}}, Mask{.allowed = constant_tensor<bool>(true, 2, 4, 3, 4)}}) {
    auto y = constant_tensor<float>(7, 2, 3, layer.num_hiddens());
    EXPECT_NE(refusal([&] { return layer.forward_into(y, x, x, x, mask), 0; }), "not refused");
    EXPECT_TRUE(all_are(y, 7));
    EXPECT_NE(refusal([&] { return layer(x, x, x, mask); }), "not refused");
    EXPECT_NE(refusal([&] { return layer.with_weights(x, x, x, mask); }), "not refused");
  }
}

}  // namespace
