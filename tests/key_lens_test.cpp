// SPDX-License-Identifier: MIT
// Sequences of one call that have different numbers of keys, and queries that go on after others:
// each is what it would be alone, and what ONNX's Attention says of pasts and padded caches.
#include <algorithm>
#include <array>
#include <cmath>
#include <string>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_backward.hpp>
#include <eigenheads/attention_reference.hpp>

#include "contract.hpp"
#include "support.hpp"

namespace {

using namespace support;
using eh::Causal, eh::Mask, eh::scaled_dot_product_attention;

template <class T>
class KeyLens : public testing::Test {};
TYPED_TEST_SUITE(KeyLens, Scalars, ScalarNames);

// What lies beyond its keys is not read, and its last query stands beside its own last key.
TYPED_TEST(KeyLens, EverySequenceIsWhatItIsAloneWithItsOwnKeys) {
  using T = TypeParam;
  const Index B = 4;
  for (const Subject<T>& subject : {core<T>(), whole_layer<T>()})
    for (const Index Q : {1, 5, 49})
      for (const Index K : {17, 300})
        for (const Index left : {-1, 3}) {
          SCOPED_TRACE(subject.name + ": Q " + std::to_string(Q) + ", K " + std::to_string(K));
          const std::vector<Index> lens{K, K / 2, 1, 0};
          const auto q = random_tensor<T>(1, B, Q, kFeatures);
          auto k = random_tensor<T>(2, B, K, kFeatures), v = random_tensor<T>(3, B, K, kFeatures);
          for (Index b = 0; b < B; ++b)
            for (Index key = lens[static_cast<std::size_t>(b)]; key < K; ++key) {
              std::fill_n(&k(b, key, 0), kFeatures, kNan<T>);
              std::fill_n(&v(b, key, 0), kFeatures, kInf<T>);
            }
          Mask mask{.causal = Causal::bottom_right, .window = {left, -1}};
          const Mask alone = mask;
          mask.key_lens = lens;
          const Tensor<T, 3> y = subject(q, k, v, mask);
          for (Index b = 0; b < B; ++b) {
            const Index keys = lens[static_cast<std::size_t>(b)];
            const auto first = [&](const Tensor<T, 3>& x) {
              return TensorView<T, 3>(sequence(x, b).data(), {1, keys, kFeatures});
            };
            ASSERT_TRUE(
                same_bits(subject(sequence(q, b), first(k), first(v), alone), sequence(y, b)))
                << "sequence " << b;
          }
        }
}

// A causal call, window and Alibi included, may be made piece by piece, in pieces that start at
// another place in every sequence.
TYPED_TEST(KeyLens, QueriesThatGoOnAreThoseOfTheWholeCall) {
  using T = TypeParam;
  const Index B = 2, H = 2, K = 300, D = 7;
  const auto q = random_tensor<T>(1, B, H, K, D), k = random_tensor<T>(2, B, 1, K, D),
             v = random_tensor<T>(3, B, 1, K, D);
  const auto slopes = random_tensor<T>(4, H);
  const eh::Alibi alibi(slopes);
  for (const Index left : {-1, 0, 40}) {
    const Mask all{.causal = Causal::top_left, .window = {left, -1}};
    const auto whole = scaled_dot_product_attention(q, k, v, all, {.score = alibi});
    for (const Index count : {1, 5, 60})
      for (const std::array<Index, 2> first :
           {std::array<Index, 2>{0, 240}, {31, 200}, {K - count, 1}}) {
        Tensor<T, 4> piece(B, H, count, D), expected(B, H, count, D);
        for (Index b = 0; b < B; ++b)
          for (Index h = 0; h < H; ++h) {
            const Index from = first[static_cast<std::size_t>(b)];
            std::copy_n(&q(b, h, from, 0), count * D, &piece(b, h, 0, 0));
            std::copy_n(&whole.output(b, h, from, 0), count * D, &expected(b, h, 0, 0));
          }
        Mask mask = all;
        mask.first_positions = std::vector<Index>(first.begin(), first.end());
        ASSERT_TRUE(same_bits(
            scaled_dot_product_attention(piece, k, v, mask, {.score = alibi}).output, expected))
            << count << " queries from " << first[0] << " and " << first[1];
      }
  }
}

// ---- ONNX --------------------------------------------------------------------------------------

// Query q of a sequence stands at offset + q: the past's length, or what is not padding of a cache
// less the queries (which may be negative: then the first queries see nothing).
struct OnnxCase {
  const char* name;
  Index B, H, G, Q, K, past;
  std::vector<Index> nonpad;
  eh::Window window;
};

TYPED_TEST(KeyLens, SayWhatOnnxSaysOfPastsAndPaddedCaches) {
  using T = TypeParam;
  const std::vector<OnnxCase> cases = {
      {"causal_with_past_and_present", 2, 3, 3, 4, 7, 3, {}, {}},
      {"qk_matmul_bias_4d_mask_causal", 2, 3, 3, 4, 18, 12, {}, {}},
      {"local_window_with_past", 2, 3, 3, 4, 10, 8, {}, {2, -1}},
      {"causal_nonpad_batch_prefill", 3, 2, 2, 2, 6, 0, {6, 4, 2}, {}},
      {"causal_nonpad_continued_prefill", 1, 2, 2, 2, 4, 0, {4}, {}},
      {"causal_nonpad_negative_offset_structural_empty", 1, 2, 2, 4, 4, 0, {2}, {}},
      {"gqa_causal_nonpad_decode", 2, 4, 2, 1, 8, 0, {3, 5}, {}},
      {"local_window_ext_cache", 2, 3, 3, 4, 8, 0, {5, 7}, {2, -1}}};
  for (const OnnxCase& c : cases) {
    SCOPED_TRACE(c.name);
    const auto q = random_tensor<T>(1, c.B, c.H, c.Q, 8), k = random_tensor<T>(2, c.B, c.G, c.K, 8),
               v = random_tensor<T>(3, c.B, c.G, c.K, 8);
    auto allowed = constant_tensor<bool>(false, c.B, 1, c.Q, c.K);
    for (Index b = 0; b < c.B; ++b)
      for (Index i = 0; i < c.Q; ++i)
        for (Index key = 0; key < c.K; ++key) {
          const Index keys = c.nonpad.empty() ? c.K : c.nonpad[static_cast<std::size_t>(b)];
          const Index here = i + (c.nonpad.empty() ? c.past : keys - c.Q);
          allowed(b, 0, i, key) =
              key < keys && key <= here && (c.window.left < 0 || key >= here - c.window.left);
        }
    Mask mask{.causal = Causal::top_left, .window = c.window};
    if (c.nonpad.empty()) {
      mask.first_positions = std::vector<Index>(static_cast<std::size_t>(c.B), c.past);
    } else {
      mask.causal = Causal::bottom_right;
      mask.key_lens = c.nonpad;
    }
    const auto got = scaled_dot_product_attention(q, k, v, mask),
               expected = scaled_dot_product_attention(q, k, v, {.allowed = allowed});
    EXPECT_TRUE(same_bits(got.output, expected.output));
    EXPECT_TRUE(same_bits(got.lse, expected.lse));
  }
}

// ---- Backward ----------------------------------------------------------------------------------

template <class A>
void expect_near(const A& got, const A& expected, const char* name) {
  const double bound = 2e3 * static_cast<double>(Limits<eh::element_of<A>>::epsilon());
  ASSERT_EQ(got.size(), expected.size()) << name;
  for (Index i = 0; i < got.size(); ++i)
    ASSERT_NEAR(got.data()[i], expected.data()[i], bound) << name << '[' << i << ']';
}

// Sums of at most some 150 products of numbers below 1, each rounded. Alibi is told the place of
// every query, along keys and along queries.
TYPED_TEST(KeyLens, GradientsAreTheReferences) {
  using T = TypeParam;
  const Index B = 2, H = 4, G = 2, Q = 140, K = 100, D = 6, V = 5;
  const auto q = random_tensor<T>(1, B, H, Q, D), k = random_tensor<T>(2, B, G, K, D),
             v = random_tensor<T>(3, B, G, K, V), dy = random_tensor<T>(4, B, H, Q, V);
  auto slopes = random_tensor<T>(5, H);
  for (Index h = 0; h < H; ++h) slopes(h) /= 16;
  const eh::Alibi alibi(slopes);
  const T scale = static_cast<T>(1 / std::sqrt(static_cast<double>(D)));
  for (const Mask& mask :
       {Mask{.causal = Causal::bottom_right, .query_lens = {Q, 20}, .key_lens = {K, 33}},
        Mask{.causal = Causal::top_left, .window = {30, -1}, .first_positions = {0, 40}},
        Mask{.window = {20, 9}, .key_lens = {99, 3}, .first_positions = {17, 0}}}) {
    const auto result = scaled_dot_product_attention(q, k, v, mask, {.score = alibi});
    const auto got =
        eh::scaled_dot_product_attention_backward(dy, q, k, v, result, mask, {.score = alibi});
    const auto expected = eh::attention_reference_backward<T>(dy, q, k, v, mask, scale, alibi);
    expect_near(got.queries, expected.queries, "queries");
    expect_near(got.keys, expected.keys, "keys");
    expect_near(got.values, expected.values, "values");
    if (this->HasFatalFailure()) return;
  }
}

}  // namespace
