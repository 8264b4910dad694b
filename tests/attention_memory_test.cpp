// SPDX-License-Identifier: MIT
// Attention reads its inputs where they are: up to their last byte, however far, and nothing else.
#include <algorithm>
#include <cstddef>
#include <sys/mman.h>
#include <utility>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_backward.hpp>
#include <eigenheads/multi_head_attention.hpp>

#include "guarded.hpp"
#include "layers.hpp"
#include "support.hpp"
#include "textbook.hpp"

namespace {

using namespace support;
using eh::Causal, eh::Context, eh::scaled_dot_product_attention;

template <class T>
class AttentionMemory : public testing::Test {};
TYPED_TEST_SUITE(AttentionMemory, Scalars, ScalarNames);

TYPED_TEST(AttentionMemory, NothingIsReadBeyondTheInputs) {
  using T = TypeParam;
  const auto expect = [](Index Q, Index K, Index D, Index V) {
    const auto q = random_tensor<T>(1, 1, 2, Q, D), k = random_tensor<T>(2, 1, 1, K, D),
               v = random_tensor<T>(3, 1, 1, K, V);
    const Guarded<T, 4> q_end(q), k_end(k), v_end(v);
    const auto got =
        scaled_dot_product_attention(q_end.view(), k_end.view(), v_end.view(), {}, {.scale = 0.25});
    const auto exact = textbook<T>(q, k, v, {.Q = Q, .K = K}, Wide<T>(0.25));
    ASSERT_TRUE(within(got.output, exact.output, exact.output_bound)) << Q << ' ' << K << ' ' << D;
  };
  for (Index D = 1; D <= 67; ++D) expect(3, 5, D, D);
  const Index block = sizeof(T) == 4 ? 256 : 128;
  for (Index K = 1; K <= 2 * block + 1; ++K) expect(1 + K % 9, K, 3, 2);
}

// ---- Keys that no query sees -------------------------------------------------------------------

// Masks that hide the first keys from all queries, the last ones, or both, at places inside of a
// block and of a panel.
std::vector<PairMask> masks_with_ends(Index Q, Index K) {
  const auto length = [](Index n) { return constant_tensor<Index>(n, 1, 1); };
  return {{.Q = Q, .K = K, .lens_rank = 1, .lens = length(K - 37)},
          {.Q = Q, .K = K, .lens_rank = 1, .lens = length(K / 3)},
          {.Q = Q, .K = K, .causal = Causal::bottom_right, .window = {K / 3, -1}},
          {.Q = Q, .K = K, .causal = Causal::bottom_right, .window = {K - 85, -1}},
          {.Q = Q,
           .K = K,
           .lens_rank = 1,
           .lens = length(K - 5),
           .causal = Causal::bottom_right,
           .window = {K / 2 + 7, -1}}};
}

// visit(mask, the first key that any query sees, the one after the last)
template <class Visit>
void for_each_mask_with_ends(const Visit& visit) {
  for (const Index Q : {1, 2, 5, 49})
    for (const Index K : {129, 300, 600})
      for (const PairMask& mask : masks_with_ends(Q, K)) {
        SCOPED_TRACE(mask.text());
        Index begin = K, end = 0;
        for (Index q = 0; q < Q; ++q)
          for (Index k = 0; k < K; ++k)
            if (mask.visible(0, q, k)) begin = std::min(begin, k), end = std::max(end, k + 1);
        visit(mask, begin, end);
        if (testing::Test::HasFailure()) return;
      }
}

// What is read is read of the keys that are seen: in one task and in several, by blocks of keys on
// several threads, values as they are (a multiple of a register wide) and packed; and backward.
TYPED_TEST(AttentionMemory, KeysThatNoQuerySeesMayLieWhereNothingMayBeRead) {
  using T = TypeParam;
  using Edge = typename Guarded<T, 4>::Edge;
  Context one, three(3);
  for_each_mask_with_ends([&](const PairMask& pairs, Index begin, Index end) {
    const eh::Mask mask = pairs.mask();
    for (const auto& [D, V] : {std::pair<Index, Index>{5, 3}, {8, 32}}) {
      const auto q = random_tensor<T>(1, 1, 2, pairs.Q, D),
                 k = random_tensor<T>(2, 1, 1, pairs.K, D),
                 v = random_tensor<T>(3, 1, 1, pairs.K, V),
                 dy = random_tensor<T>(4, 1, 2, pairs.Q, V);
      const auto expected = scaled_dot_product_attention(q, k, v, mask);
      const auto slopes = eh::scaled_dot_product_attention_backward(dy, q, k, v, expected, mask);
      for (const Edge edge : {Edge::begin, Edge::end}) {
        const PartlyReadable<T, 4> keys(k, begin * D, end * D, edge),
            values(v, begin * V, end * V, edge);
        for (Context* context : {&one, &three}) {
          const auto got =
              scaled_dot_product_attention(q, keys.view(), values.view(), mask, {}, *context);
          ASSERT_TRUE(same_bits(got, expected));
          const auto back = eh::scaled_dot_product_attention_backward(
              dy, q, keys.view(), values.view(), expected, mask, {}, *context);
          ASSERT_TRUE(same_bits(back.queries, slopes.queries));
          ASSERT_TRUE(same_bits(back.keys, slopes.keys) && same_bits(back.values, slopes.values));
        }
      }
    }
  });
}

// Nor are they projected.
TYPED_TEST(AttentionMemory, TheLayerReadsNoKeyThatNoQuerySees) {
  using T = TypeParam;
  using Edge = typename Guarded<T, 3>::Edge;
  const Index E = 9;
  const auto layer =
      make_layer<T>(E, {.num_hiddens = 8, .num_heads = 2, .bias = true, .num_kv_heads = 1});
  Context one, three(3);
  for_each_mask_with_ends([&](const PairMask& pairs, Index begin, Index end) {
    const eh::Mask mask = pairs.mask();
    const auto q = random_tensor<T>(1, 1, pairs.Q, E), k = random_tensor<T>(2, 1, pairs.K, E),
               v = random_tensor<T>(3, 1, pairs.K, E);
    const auto [output, weights] = layer.with_weights(q, k, v, mask);
    for (const Edge edge : {Edge::begin, Edge::end}) {
      const PartlyReadable<T, 3> keys(k, begin * E, end * E, edge),
          values(v, begin * E, end * E, edge);
      for (Context* context : {&one, &three}) {
        ASSERT_TRUE(same_bits(layer(q, keys.view(), values.view(), mask, *context), output));
        const auto got = layer.with_weights(q, keys.view(), values.view(), mask, *context);
        ASSERT_TRUE(same_bits(got.output, output) && same_bits(got.weights, weights));
      }
    }
  });
}

// What is not finite there costs nothing: no row is multiplied key by key.
TYPED_TEST(AttentionMemory, NanAtKeysThatNoQuerySeesMakesNothingSlow) {
  using T = TypeParam;
  Context one, three(3);
  for_each_mask_with_ends([&](const PairMask& pairs, Index begin, Index end) {
    for (const Index V : {3, 32}) {
      const auto q = random_tensor<T>(1, 1, 2, pairs.Q, 5),
                 k = random_tensor<T>(2, 1, 1, pairs.K, 5);
      auto v = random_tensor<T>(3, 1, 1, pairs.K, V);
      const auto expected = scaled_dot_product_attention(q, k, v, pairs.mask()).output;
      for (Index key = 0; key < pairs.K; ++key)
        if (key < begin || key >= end) std::fill_n(&v(0, 0, key, 0), V, kNan<T>);
      for (Context* context : {&one, &three}) {
        const auto got = scaled_dot_product_attention(q, k, v, pairs.mask(), {}, *context).output;
        ASSERT_TRUE(same_bits(got, expected));
        ASSERT_EQ(context->row_by_row_count(), 0);
      }
    }
  });
}

// Element numbers beyond 2^31; only the pages of four keys are ever touched.
TEST(AttentionFarAway, KeysFarAwayInMemory) {
  constexpr Index D = 65536, K = 32768 + 4;
  constexpr std::size_t bytes = std::size_t{D} * K * sizeof(float);
  const auto map = [] {
    return static_cast<float*>(mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  };
  float *const keys = map(), *const values = map();
  ASSERT_NE(keys, MAP_FAILED);
  ASSERT_NE(values, MAP_FAILED);
  for (Index j = 0; j < 4; ++j) {
    keys[(K - 1 - j) * D] = 0.5f;
    values[(K - 1 - j) * D] = static_cast<float>(j);
    values[(K - 1 - j) * D + D - 1] = static_cast<float>(2 * j);
  }
  const auto output =
      scaled_dot_product_attention(random_tensor<float>(1, 1, 1, 1, D),
                                   TensorView<float, 4>(keys, {1, 1, K, D}),
                                   TensorView<float, 4>(values, {1, 1, K, D}),
                                   {.causal = Causal::bottom_right, .window = {3, -1}})
          .output;
  EXPECT_EQ(output(0, 0, 0, 0), 1.5f);
  EXPECT_EQ(output(0, 0, 0, 1), 0);
  EXPECT_EQ(output(0, 0, 0, D - 1), 3);
  munmap(keys, bytes);
  munmap(values, bytes);
}

// The same by strides: each of four keys lies 2^30 elements after the one before it.
TEST(AttentionFarAway, KeysFarApartInMemory) {
  constexpr Index stride = Index{1} << 30, K = 4;
  constexpr std::size_t bytes = static_cast<std::size_t>(stride * (K - 1) + 8) * sizeof(float);
  auto* const memory = static_cast<float*>(mmap(
      nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  ASSERT_NE(memory, MAP_FAILED);
  const auto x = random_tensor<float>(1, 1, 1, K, 8), q = random_tensor<float>(2, 1, 1, 5, 8);
  for (Index i = 0; i < K; ++i) std::copy_n(&x(0, 0, i, 0), 8, memory + i * stride);
  const eh::StridedView<float, 4> apart(memory, {1, 1, K, 8}, {stride * K, stride * K, stride, 1});
  for (const Index length : {4, 3})
    EXPECT_TRUE(same_bits(scaled_dot_product_attention(q, apart, apart, {.valid_lens = {length}}),
                          scaled_dot_product_attention(q, x, x, {.valid_lens = {length}})));
  munmap(memory, bytes);
}

}  // namespace
