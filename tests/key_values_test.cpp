// SPDX-License-Identifier: MIT
// Keys and values that are projected once: the bits of the call that projects them each time, under
// every mask and score function, padded and packed, on any number of threads.
#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/key_values.hpp>
#include <eigenheads/prune_heads.hpp>
#include <eigenheads/rotary.hpp>
#include <eigenheads/score.hpp>
#include <eigenheads/storage.hpp>
#include <eigenheads/transpose.hpp>

#include "layers.hpp"
#include "support.hpp"

namespace {

using namespace support;
using eh::Causal, eh::Context, eh::KeyValues, eh::Mask, eh::MultiHeadAttention, eh::Sequences;
using Lens = std::vector<Index>;

// Queries, keys and values are of different sizes.
constexpr Index kQuery = 9, kKey = 7, kValue = 11;

template <class T>
class ProjectedOnce : public testing::Test {};
TYPED_TEST_SUITE(ProjectedOnce, Scalars, ScalarNames);

template <class T>
[[nodiscard]] MultiHeadAttention<T> layer_of(Index H, Index G, Index D = 5) {
  MultiHeadAttention<T> layer({.num_hiddens = 12,
                               .num_heads = H,
                               .bias = true,
                               .query_size = kQuery,
                               .key_size = kKey,
                               .value_size = kValue,
                               .num_kv_heads = G,
                               .head_size = D},
                              1);
  set_random_biases(layer, 2);
  return layer;
}

// A call, padded and packed; the rows of padding are NaN and infinite.
template <class T>
struct Inputs {
  Sequences of_queries, of_keys;
  Tensor<T, 3> queries, keys, values;
  Tensor<T, 2> packed_queries, packed_keys, packed_values;

  Inputs(const Lens& query_lens, const Lens& key_lens, Index Q, Index K)
      : of_queries(query_lens),
        of_keys(key_lens),
        queries(padded(1, of_queries, Q, kQuery, kNan<T>)),
        keys(padded(2, of_keys, K, kKey, kNan<T>)),
        values(padded(3, of_keys, K, kValue, kInf<T>)),
        packed_queries(eh::pack(queries, of_queries)),
        packed_keys(eh::pack(keys, of_keys)),
        packed_values(eh::pack(values, of_keys)) {}

  [[nodiscard]] static Tensor<T, 3> padded(std::uint64_t seed, const Sequences& sequences, Index L,
                                           Index size, T padding) {
    auto x = random_tensor<T>(seed, sequences.count(), L, size);
    for (Index b = 0; b < sequences.count(); ++b)
      for (Index t = sequences.length(b); t < L; ++t) std::fill_n(&x(b, t, 0), size, padding);
    return x;
  }
};

// The whole call and the one in two halves, in all forms that take such a mask. Some sequence has as
// many queries, and some as many keys, as there is room for.
template <class T>
void expect_the_whole_call(const MultiHeadAttention<T>& layer, const Inputs<T>& inputs, Mask mask,
                           const Lens& query_lens, const Lens& key_lens,
                           const eh::ScoreRef<T>& score = {}) {
  mask.query_lens = query_lens;
  Mask whole_mask = mask;
  whole_mask.key_lens = key_lens;
  const auto whole =
      layer.with_weights(inputs.queries, inputs.keys, inputs.values, whole_mask, {.score = score});
  for (const int threads : {1, 3}) {
    Context context(threads, kAnyWork);
    const eh::CallOptions<T> options{.score = score, .context = context};
    const KeyValues<T> padded = layer.project(inputs.keys, inputs.values, key_lens, context);
    const KeyValues<T> packed =
        layer.project(inputs.packed_keys, inputs.packed_values, inputs.of_keys, context);
    EXPECT_TRUE(same_bits(layer.attend(inputs.queries, padded, mask, options), whole.output));
    const auto with_weights = layer.attend_with_weights(inputs.queries, padded, mask, options);
    EXPECT_TRUE(same_bits(with_weights.output, whole.output));
    EXPECT_TRUE(same_bits(with_weights.weights, whole.weights));
    EXPECT_TRUE(same_bits(layer.attend(inputs.queries, packed, mask, options), whole.output));
    if (mask.valid_lens.rank() != 0) continue;  // of packed queries, a mask says nothing of lengths
    Mask packed_mask = mask;
    packed_mask.query_lens = {};
    const auto expected = eh::pack(whole.output, inputs.of_queries);
    for (const KeyValues<T>* const keys : {&padded, &packed})
      EXPECT_TRUE(same_bits(
          layer.attend(inputs.packed_queries, inputs.of_queries, *keys, packed_mask, options),
          expected));
  }
}

TYPED_TEST(ProjectedOnce, IsTheWholeCallUnderAnyMask) {
  using T = TypeParam;
  const Index B = 4;
  for (const auto& [H, G] : {std::pair<Index, Index>{4, 2}, {3, 3}, {2, 1}})
    for (const Index Q : {1, 4, 50})
      for (const Index K : {1, 17, 300}) {
        SCOPED_TRACE(testing::Message() << H << '/' << G << " heads, " << Q << " x " << K);
        const auto layer = layer_of<T>(H, G);
        const Lens query_lens{Q, Q / 2, 1, Q}, key_lens{K / 2, K, 0, std::min(K, Index{16})};
        const Inputs<T> inputs(query_lens, key_lens, Q, K);
        auto allowed = constant_tensor<bool>(true, B, 1, Q, K);
        Numbers numbers(7);
        for (Index i = 0; i < allowed.size(); ++i) allowed.data()[i] = numbers.between(0, 2) > 0;
        Tensor<Index, 2> each(B, Q);
        for (Index i = 0; i < each.size(); ++i) each.data()[i] = i % (K + 1);
        for (const Mask& mask :
             std::vector<Mask>{{},
                               {.causal = Causal::top_left},
                               {.causal = Causal::bottom_right, .window = {5, -1}},
                               {.valid_lens = {1, K, 0, K / 2}},
                               {.valid_lens = each},
                               {.window = {3, 2}, .first_positions = {0, K / 2, 3, 2 * K}},
                               {.causal = Causal::top_left, .first_positions = {K, 1, 0, 7}},
                               {.allowed = allowed}})
          expect_the_whole_call(layer, inputs, mask, query_lens, key_lens);
      }
}

TYPED_TEST(ProjectedOnce, IsTheWholeCallUnderScoresGatesAndPruning) {
  using T = TypeParam;
  const Index Q = 20, K = 290;
  auto layer = eh::prune_heads(layer_of<T>(6, 3), {1});
  Tensor<T, 2> gates(3, layer.num_heads());
  for (Index i = 0; i < gates.size(); ++i) gates.data()[i] = T(i % 3) / 2;
  layer.set_gates(gates);
  const auto slopes = random_tensor<T>(2, 6);
  const auto bias = random_tensor<T>(3, 3, 6, Q, K);
  const Lens query_lens{Q, 3, 9}, key_lens{7, K, 260};
  const Inputs<T> inputs(query_lens, key_lens, Q, K);
  const Mask mask{.causal = Causal::bottom_right};
  const eh::Softcap<T> softcap(T(3));
  const auto both = eh::chain(eh::Alibi<T>(slopes), eh::ScoreBias<T>(bias));
  for (const eh::ScoreRef<T>& score :
       {eh::ScoreRef<T>(), eh::ScoreRef<T>(softcap), eh::ScoreRef<T>(both)})
    expect_the_whole_call(layer, inputs, mask, query_lens, key_lens, score);
}

// Without lengths, bottom_right means the call's last key, and a window needs a square call.
template <class Storage>
class ProjectedInto : public testing::Test {};
using Storages = testing::Types<eh::BFloat16, eh::Half>;
TYPED_TEST_SUITE(ProjectedInto, Storages);

// Keys of which sequence b has lens[b], and the output of attention to keys and values that were
// rounded.
template <class Storage>
[[nodiscard]] Tensor<float, 3> attend_rounded(const MultiHeadAttention<float>& layer,
                                              const Inputs<float>& inputs, const Lens& lens) {
  const auto rounded = [](Tensor<float, 3> x) {
    for (Index i = 0; i < x.size(); ++i) x.data()[i] = Storage::rounded(x.data()[i]).value();
    return x;
  };
  const Index B = inputs.queries.dimension(0), H = layer.num_heads(), G = layer.num_kv_heads();
  const auto q = eh::transpose_qkv(layer.W_q(inputs.queries), H);
  const auto k = eh::transpose_qkv(rounded(layer.W_k(inputs.keys)), G);
  const auto v = eh::transpose_qkv(rounded(layer.W_v(inputs.values)), G);
  const auto heads = [&](const Tensor<float, 3>& x, Index count) {
    return TensorView<float, 4>(x.data(), {B, count, x.dimension(1), x.dimension(2)});
  };
  const auto output =
      eh::scaled_dot_product_attention(heads(q, H), heads(k, G), heads(v, G), {.key_lens = lens})
          .output;
  const TensorView<float, 3> joined(output.data(),
                                    {B * H, output.dimension(2), output.dimension(3)});
  return layer.W_o(eh::transpose_output(joined, H));
}

TYPED_TEST(ProjectedInto, SixteenBitsIsTheCallWithRoundedKeysAndValuesInHalfTheMemory) {
  const Lens lens{300, 7, 0};
  const Inputs<float> inputs({4, 4, 4}, lens, 4, 300);
  for (const Index D : {5, 16}) {
    const auto layer = layer_of<float>(4, 2, D);
    const auto expected = attend_rounded<TypeParam>(layer, inputs, lens);
    for (const int threads : {1, 3}) {
      Context context(threads, kAnyWork);
      const auto padded =
          layer.template project<TypeParam>(inputs.keys, inputs.values, lens, context);
      const auto packed = layer.template project<TypeParam>(
          inputs.packed_keys, inputs.packed_values, inputs.of_keys, context);
      for (const auto* const keys : {&padded, &packed}) {
        EXPECT_TRUE(same_bits(layer.attend(inputs.queries, *keys, {}, context), expected));
        EXPECT_EQ(2 * keys->bytes(), layer.project(inputs.keys, inputs.values, lens).bytes());
      }
      EXPECT_TRUE(same_bits(layer.attend(inputs.queries, padded.copy(), {}, context), expected));
    }
  }
}

TYPED_TEST(ProjectedOnce, WithoutLengthsEverySequenceHasAllKeys) {
  using T = TypeParam;
  const auto layer = layer_of<T>(4, 2);
  for (const Index Q : {1, 3, 270})
    for (const Index K : {3, 270}) {
      const auto queries = random_tensor<T>(1, 2, Q, kQuery),
                 keys = random_tensor<T>(2, 2, K, kKey), values = random_tensor<T>(3, 2, K, kValue);
      const KeyValues<T> projected = layer.project(keys, values);
      EXPECT_EQ(projected.num_keys(), K);
      EXPECT_EQ(projected.length(1), K);
      for (const Mask& mask :
           std::vector<Mask>{{},
                             {.causal = Causal::bottom_right, .query_lens = {1, 0}},
                             {.causal = Causal::bottom_right, .window = {2, -1}}})
        EXPECT_TRUE(
            same_bits(layer.attend(queries, projected, mask), layer(queries, keys, values, mask)));
      const Mask window{.window = {1, 1}};
      if (Q == K)
        EXPECT_TRUE(same_bits(layer.attend(queries, projected, window),
                              layer(queries, keys, values, window)));
      else
        EXPECT_NE(
            refusal([&] { (void)layer.attend(queries, projected, window); }).find("a window over"),
            std::string::npos);
    }
  // A square call of sequences with fewer keys than queries is square all the same.
  const auto x = random_tensor<T>(1, 2, 5, kQuery), keys = random_tensor<T>(2, 2, 5, kKey),
             values = random_tensor<T>(3, 2, 5, kValue);
  EXPECT_TRUE(same_bits(layer.attend(x, layer.project(keys, values, {3, 5}), {.window = {1, 1}}),
                        layer(x, keys, values, {.window = {1, 1}, .key_lens = {3, 5}})));
}

TYPED_TEST(ProjectedOnce, WeightsOfPackedQueriesAreEachSequencesOwn) {
  using T = TypeParam;
  const auto layer = layer_of<T>(4, 2);
  const Lens query_lens{3, 0, 60}, key_lens{270, 4, 1};
  const Inputs<T> inputs(query_lens, key_lens, 60, 270);
  for (const KeyValues<T>& keys :
       std::array{layer.project(inputs.packed_keys, inputs.packed_values, inputs.of_keys),
                  layer.project(inputs.keys, inputs.values, key_lens)}) {
    // First: of memory that held those of the whole call, it might leave some as they are.
    const auto seen = layer.attend_with_weights(inputs.packed_queries, inputs.of_queries, keys);
    const auto whole = layer.with_weights(inputs.packed_queries, inputs.of_queries,
                                          inputs.packed_keys, inputs.packed_values, inputs.of_keys);
    EXPECT_TRUE(same_bits(seen.output, whole.output));
    ASSERT_EQ(seen.weights.size(), 3u);
    for (std::size_t b = 0; b < 3; ++b) EXPECT_TRUE(same_bits(seen.weights[b], whole.weights[b]));
  }
}

TYPED_TEST(ProjectedOnce, ARotaryTurnsKeysOnceAndQueriesByTheirPlaces) {
  using T = TypeParam;
  const Index K = 270;
  const MultiHeadAttention<T> layer({.num_hiddens = 12,
                                     .num_heads = 4,
                                     .query_size = kQuery,
                                     .key_size = kKey,
                                     .value_size = kValue,
                                     .num_kv_heads = 2,
                                     .head_size = 6,
                                     .rotary = eh::RotaryOptions{.max_positions = 270}},
                                    1);
  const auto queries = random_tensor<T>(1, 2, 5, kQuery);
  const auto keys = random_tensor<T>(2, 2, K, kKey), values = random_tensor<T>(3, 2, K, kValue);
  const KeyValues<T> kept = layer.project(keys, values, {K, 9});
  for (const Mask& mask : {Mask{}, Mask{.causal = Causal::bottom_right},
                           Mask{.causal = Causal::top_left, .first_positions = {200, 4}}}) {
    Mask whole = mask;
    whole.key_lens = {K, 9};
    EXPECT_TRUE(same_bits(layer.attend(queries, kept, mask), layer(queries, keys, values, whole)));
  }
  EXPECT_NE(refusal([&] {
              (void)layer.project(random_tensor<T>(2, 1, K + 1, kKey),
                                  random_tensor<T>(3, 1, K + 1, kValue));
            }).find("keys"),
            std::string::npos);
}

TYPED_TEST(ProjectedOnce, AGateThatOpensLaterFindsTheKeysOfItsHead) {
  using T = TypeParam;
  auto layer = layer_of<T>(2, 2);
  const Inputs<T> inputs({2}, {30}, 2, 30);
  const Tensor<T, 3> whole = layer(inputs.queries, inputs.keys, inputs.values);
  layer.set_gates(std::vector<T>{0, 0});
  const KeyValues<T> keys = layer.project(inputs.keys, inputs.values);
  layer.clear_gates();
  EXPECT_TRUE(same_bits(layer.attend(inputs.queries, keys), whole));
}

TYPED_TEST(ProjectedOnce, MayBeReadByManyThreadsAtOnce) {
  using T = TypeParam;
  const auto layer = layer_of<T>(4, 2);
  const Inputs<T> inputs({9, 5}, {300, 20}, 9, 300);
  const KeyValues<T> keys = layer.project(inputs.keys, inputs.values, {300, 20});
  const Mask mask{.query_lens = {9, 5}};
  const Tensor<T, 3> expected = layer.attend(inputs.queries, keys, mask);
  std::vector<std::thread> threads;
  std::array<Tensor<T, 3>, 3> seen;
  for (Tensor<T, 3>& y : seen)
    threads.emplace_back([&] {
      Context context;
      for (int i = 0; i < 5; ++i) y = layer.attend(inputs.queries, keys, mask, context);
    });
  for (std::thread& thread : threads) thread.join();
  for (const Tensor<T, 3>& y : seen) EXPECT_TRUE(same_bits(y, expected));
}

TYPED_TEST(ProjectedOnce, TheOutputMayBeTheQueriesAndKeysMayBeReplaced) {
  using T = TypeParam;
  MultiHeadAttention<T> layer({.num_hiddens = kQuery,
                               .num_heads = 1,
                               .query_size = kQuery,
                               .key_size = kKey,
                               .value_size = kValue});
  Inputs<T> inputs({3, 1}, {40, 40}, 3, 40);
  inputs.queries = random_tensor<T>(5, 2, 3, kQuery);
  KeyValues<T> keys = layer.project(inputs.keys, inputs.values), copy = keys.copy();
  const Tensor<T, 3> expected = layer.attend(inputs.queries, keys);
  layer.attend_into(inputs.queries, inputs.queries, copy);
  EXPECT_TRUE(same_bits(inputs.queries, expected));
  Tensor<T, 2> rows(4, kQuery);
  layer.attend_into(rows, inputs.packed_queries, inputs.of_queries, copy);
  EXPECT_TRUE(same_bits(rows, layer.attend(inputs.packed_queries, inputs.of_queries, keys)));
  // Other keys take their place.
  keys = layer.project(random_tensor<T>(6, 3, 1, kKey), random_tensor<T>(7, 3, 1, kValue));
  EXPECT_EQ(keys.batch_size(), 3);
}

TYPED_TEST(ProjectedOnce, ThereMayBeNoKeysNoQueriesAndNoSequences) {
  using T = TypeParam;
  const auto layer = layer_of<T>(2, 2);
  for (const auto& [B, Q, K] : {std::array<Index, 3>{2, 3, 0}, {2, 0, 3}, {0, 3, 3}}) {
    const auto queries = random_tensor<T>(1, B, Q, kQuery), keys = random_tensor<T>(2, B, K, kKey),
               values = random_tensor<T>(3, B, K, kValue);
    EXPECT_TRUE(same_bits(layer.attend(queries, layer.project(keys, values)),
                          layer(queries, keys, values)));
    EXPECT_TRUE(same_bits(layer.attend(queries, layer.project(keys, values, Lens(B != 0 ? 2 : 0))),
                          layer(queries, keys, values, {.key_lens = Lens(B != 0 ? 2 : 0)})));
  }
  const Tensor<T, 2> none(0, kKey), no_values(0, kValue), no_queries(0, kQuery);
  EXPECT_EQ(
      layer.attend(no_queries, Sequences{}, layer.project(none, no_values, Sequences{})).size(), 0);
}

// Rows of padding are not projected, and what lies there slows nothing down.
TYPED_TEST(ProjectedOnce, AProjectionIsCountedOnceAndAttentionProjectsItsQueriesAlone) {
  using T = TypeParam;
  const auto layer = layer_of<T>(4, 2);
  const Inputs<T> inputs({4, 2}, {30, 20}, 4, 30);
  Context context;
  const KeyValues<T> keys = layer.project(inputs.keys, inputs.values, {30, 20}, context);
  EXPECT_EQ(context.projected_row_count(), 2 * 50);
  EXPECT_EQ(keys.parts().heads.rows_written(), 2 * 50);
  for (int call = 1; call < 4; ++call) {
    (void)layer.attend(inputs.queries, keys, {.query_lens = {4, 2}}, context);
    EXPECT_EQ(context.projected_row_count(), 2 * 50 + call * 2 * 6);
  }
  EXPECT_EQ(keys.parts().heads.rows_written(), 2 * 50);
  EXPECT_EQ(context.row_by_row_count(), 0);
}

// ---- Refusals ------------------------------------------------------------------------------------

TYPED_TEST(ProjectedOnce, WhatDoesNotFitIsRefusedInASentence) {
  using T = TypeParam;
  const auto layer = layer_of<T>(4, 2);
  const Inputs<T> inputs({3, 3}, {8, 8}, 3, 8);
  const KeyValues<T> keys = layer.project(inputs.keys, inputs.values);
  const auto refused = [&](const MultiHeadAttention<T>& other) {
    return refusal([&] { (void)other.attend(inputs.queries, keys); });
  };
  EXPECT_EQ(
      refused(layer_of<T>(4, 4)),
      "eigenheads: the keys and values are of 2 key/value heads; expected 4, as the layer has");
  EXPECT_EQ(
      refused(layer_of<T>(4, 2, 6)),
      "eigenheads: the keys and values are of 10 numbers in all key/value heads; expected 12, "
      "as W_k makes");
  EXPECT_EQ(refusal([&] { (void)layer.attend(random_tensor<T>(1, 3, 3, kQuery), keys); }),
            "eigenheads: the keys and values are of 2 sequences; expected 3, as the queries are");
  EXPECT_EQ(refusal([&] {
              (void)layer.attend(random_tensor<T>(1, 3, kQuery), Sequences{1, 1, 1}, keys);
            }),
            "eigenheads: the keys and values are of 2 sequences; expected 3, as the queries are");
  EXPECT_EQ(refusal([&] { (void)layer.attend(inputs.queries, keys, {.key_lens = {8, 8}}); }),
            "eigenheads: attend: the mask has key_lens; expected none: project was told how many "
            "keys there are");
  EXPECT_NE(refusal([&] {
              (void)layer.attend(random_tensor<T>(1, 2, 3, kKey), keys);
            }).find("queries has shape [2, 3, 7]"),
            std::string::npos);
  EXPECT_NE(refusal([&] {
              (void)layer.attend(inputs.queries, keys, {.valid_lens = {9, 1}});
            }).find("valid_lens[0] is 9; expected 0 to the number of keys, 8"),
            std::string::npos);
  const auto bias = random_tensor<T>(1, 1, 4, 3, 7);
  EXPECT_NE(refusal([&] {
              (void)layer.attend(inputs.queries, keys, {}, {.score = eh::ScoreBias<T>(bias)});
            }).find("bias"),
            std::string::npos);
  Tensor<T, 3> y = constant_tensor<T>(T(7), 2, 3, 13);
  EXPECT_NE(refusal([&] {
              layer.attend_into(y, inputs.queries, keys);
            }).find("output has shape [2, 3, 13]"),
            std::string::npos);
  EXPECT_TRUE(all_are(y, T(7)));

  const auto projected = [&](const Tensor<T, 3>& k, const Tensor<T, 3>& v, const Lens& lengths) {
    return refusal([&] { (void)layer.project(k, v, lengths); });
  };
  EXPECT_NE(projected(inputs.values, inputs.values, {8, 8}).find("keys has shape [2, 8, 11]"),
            std::string::npos);
  EXPECT_NE(projected(inputs.keys, random_tensor<T>(1, 2, 7, kValue), {8, 8})
                .find("values has shape [2, 7, 11]"),
            std::string::npos);
  EXPECT_EQ(projected(inputs.keys, inputs.values, {8, 9}),
            "eigenheads: lengths[1] is 9; expected 0 to the number of keys, 8");
  EXPECT_NE(projected(inputs.keys, inputs.values, {8}).find("lengths has shape [1]"),
            std::string::npos);
  EXPECT_NE(refusal([&] {
              (void)layer.project(inputs.keys, inputs.values, {{1, 1}, {1, 1}});
            }).find("lengths has one length a query; expected [B] = [2]"),
            std::string::npos);
  EXPECT_NE(refusal([&] {
              (void)layer.project(inputs.packed_keys, inputs.packed_values, Sequences{8, 9});
            }).find("keys has 16 rows; expected 17"),
            std::string::npos);
  EXPECT_NE(refusal([&] { (void)keys.length(2); }).find("no sequence 2"), std::string::npos);
  const MultiHeadAttention<T> lazy({.num_hiddens = 12, .num_heads = 1});
  EXPECT_NE(refusal<std::logic_error>([&] {
              (void)lazy.project(inputs.keys, inputs.values);
            }).find("initialize"),
            std::string::npos);
}

}  // namespace
