// SPDX-License-Identifier: MIT
// Packed sequences: the bits of the padded call, row by row, forward and backward, whatever the layer
// and the mask, and nothing of the padding's cost. tests/allocation_test.cpp counts their memory.
#include <cstdint>
#include <string>
#include <vector>

#include <eigenheads/explain.hpp>
#include <eigenheads/head_importance.hpp>
#include <eigenheads/multi_head_attention.hpp>
#include <eigenheads/prune_heads.hpp>
#include <eigenheads/score.hpp>
#include <eigenheads/sequences.hpp>

#include "layers.hpp"
#include "support.hpp"

namespace {

using namespace support;
using eh::Causal, eh::Context, eh::Mask, eh::MultiHeadAttention, eh::Sequences;
using Lens = std::vector<Index>;

constexpr Index kSize = 24;

template <class T>
class Packed : public testing::Test {};
TYPED_TEST_SUITE(Packed, Scalars, ScalarNames);

// Inputs of a call, packed and padded; the rows of padding are NaN.
template <class T>
struct Inputs {
  Sequences of_queries, of_keys;
  Tensor<T, 2> queries, keys, values;
  Tensor<T, 3> padded_queries, padded_keys, padded_values;

  Inputs(const Lens& query_lens, const Lens& key_lens)
      : of_queries(query_lens),
        of_keys(key_lens),
        queries(random_tensor<T>(1, of_queries.rows(), kSize)),
        keys(random_tensor<T>(2, of_keys.rows(), kSize)),
        values(random_tensor<T>(3, of_keys.rows(), kSize)),
        padded_queries(padded(queries, of_queries, kNan<T>)),
        padded_keys(padded(keys, of_keys, kNan<T>)),
        padded_values(padded(values, of_keys, kNan<T>)) {}

  [[nodiscard]] static Tensor<T, 3> padded(const Tensor<T, 2>& x, const Sequences& sequences,
                                           T padding) {
    Tensor<T, 3> all = eh::unpack(x, sequences);
    for (Index b = 0; b < sequences.count(); ++b)
      for (Index t = sequences.length(b); t < sequences.longest(); ++t)
        std::fill_n(&all(b, t, 0), x.dimension(1), padding);
    return all;
  }
};

// The same mask for the padded call.
[[nodiscard]] Mask with_lens(Mask mask, const Lens& query_lens, const Lens& key_lens) {
  mask.query_lens = query_lens;
  mask.key_lens = key_lens;
  return mask;
}

template <class T>
[[nodiscard]] MultiHeadAttention<T> layer_of(Index H, Index G, double dropout = 0) {
  return make_layer<T>(kSize, {.num_hiddens = kSize,
                               .num_heads = H,
                               .dropout = dropout,
                               .bias = true,
                               .num_kv_heads = G,
                               .head_size = 8});
}

struct Lengths {
  Lens queries, keys;
};
const std::vector<Lengths> kLengths{
    {{}, {}},
    {{0}, {0}},
    {{5, 3}, {5, 3}},
    {{0, 7, 0, 2}, {0, 7, 0, 2}},
    {{49, 1, 17, 130}, {49, 1, 17, 130}},
    {{3, 1, 0, 60}, {270, 1, 9, 0}},  // of cross-attention
    {{700, 2, 1}, {700, 2, 1}},       // of which one is worth all threads
    {{1, 1}, {2000, 3}},              // decoding
};

TYPED_TEST(Packed, EveryRowHasTheBitsOfThePaddedCall) {
  using T = TypeParam;
  for (const auto [H, G] : {std::array<Index, 2>{3, 3}, {4, 2}}) {
    const auto layer = layer_of<T>(H, G);
    for (const Lengths& lens : kLengths) {
      const Inputs<T> x(lens.queries, lens.keys);
      std::vector<Mask> masks{
          {}, {.causal = Causal::top_left}, {.causal = Causal::bottom_right, .window = {20, -1}}};
      if (lens.queries == lens.keys) masks.push_back({.window = {3, 2}});
      masks.push_back({.causal = Causal::bottom_right, .window = {5, -1}, .sinks = 2});
      Lens half = lens.keys;
      for (Index& length : half) length /= 2;
      masks.push_back({.causal = Causal::bottom_right, .prefix_lens = half});
      if (lens.queries.size() == 2)
        masks.push_back({.causal = Causal::top_left, .first_positions = {4, 1000}});
      for (const Mask& mask : masks) {
        const auto expected = eh::pack(layer(x.padded_queries, x.padded_keys, x.padded_values,
                                             with_lens(mask, lens.queries, lens.keys)),
                                       x.of_queries);
        for (const int threads : {1, 2, 3}) {
          SCOPED_TRACE(testing::PrintToString(lens.queries) + " rows on " +
                       std::to_string(threads));
          Context context(threads, kAnyWork);
          const auto y = layer(x.queries, x.of_queries, x.keys, x.values, x.of_keys, mask, context);
          ASSERT_TRUE(same_bits(y, expected));
          Tensor<T, 2> into = x.queries;
          layer.forward_into(into, into, x.of_queries, x.keys, x.values, x.of_keys, mask, context);
          ASSERT_TRUE(same_bits(into, expected));
        }
      }
    }
  }
}

TYPED_TEST(Packed, SelfAttentionTakesOneTensor) {
  using T = TypeParam;
  const auto layer = layer_of<T>(3, 3);
  const Lens lens{4, 0, 9};
  const Inputs<T> x(lens, lens);
  const Mask mask{.causal = Causal::top_left};
  const auto expected = layer(x.queries, x.of_queries, x.queries, x.queries, x.of_queries, mask);
  EXPECT_TRUE(same_bits(layer(x.queries, x.of_queries, mask), expected));
  Tensor<T, 2> output(expected.dimension(0), kSize);
  layer.forward_into(output, x.queries, x.of_queries, mask);
  EXPECT_TRUE(same_bits(output, expected));
  EXPECT_TRUE(same_bits(layer.with_weights(x.queries, x.of_queries, mask).output, expected));
}

TYPED_TEST(Packed, ASequenceIsWhatItIsAlone) {
  using T = TypeParam;
  const auto layer = layer_of<T>(3, 3);
  const Lens lens{16, 1, 47, 200, 3};
  const Inputs<T> x(lens, lens);
  const auto y = layer(x.queries, x.of_queries);
  for (Index b = 0; b < x.of_queries.count(); ++b) {
    const Index first = x.of_queries.begin(b), length = x.of_queries.length(b);
    const TensorView<T, 3> alone(&x.queries(first, 0), {1, length, kSize});
    const TensorView<T, 3> rows(&y(first, 0), {1, length, kSize});
    EXPECT_TRUE(same_bits(layer(alone, alone, alone), rows)) << "sequence " << b;
  }
}

TYPED_TEST(Packed, ScoreFunctionsSeeTheSamePositions) {
  using T = TypeParam;
  const auto layer = layer_of<T>(3, 3);
  const Lens lens{5, 0, 70, 33};
  const Inputs<T> x(lens, lens);
  const auto slopes = random_tensor<T>(7, 3);
  const auto bias = random_tensor<T>(4, 4, 3, 70, 70);
  const auto of_all = random_tensor<T>(5, 1, 1, 70, 70);
  Tensor<bool, 4> allowed(4, 1, 70, 70);
  Numbers numbers(6);
  for (Index i = 0; i < allowed.size(); ++i) allowed.data()[i] = numbers.next() % 3 != 0;
  for (const Mask& mask :
       {Mask{}, Mask{.causal = Causal::top_left}, Mask{.allowed = eh::Allowed(allowed)},
        Mask{.causal = Causal::top_left, .window = {1, -1}, .sinks = 1}}) {
    const Mask padded = with_lens(mask, lens, lens);
    const auto expect_same = [&](const auto& score) {
      const auto expected =
          layer(x.padded_queries, x.padded_keys, x.padded_values, padded, {.score = score});
      const auto y =
          layer(x.queries, x.of_queries, x.keys, x.values, x.of_keys, mask, {.score = score});
      EXPECT_TRUE(same_bits(y, eh::pack(expected, x.of_queries)));
    };
    expect_same(eh::Alibi<T>(slopes));
    expect_same(eh::ScoreBias<T>(bias));
    expect_same(eh::ScoreBias<T>(of_all));
    expect_same(eh::Softcap<T>(T(0.5)));
  }
}

TYPED_TEST(Packed, WeightsAreThoseOfThePaddedCallWithoutItsPadding) {
  using T = TypeParam;
  const auto layer = layer_of<T>(4, 2);
  for (const Lengths& lens : kLengths) {
    const Inputs<T> x(lens.queries, lens.keys);
    const Mask mask{.causal = Causal::bottom_right};
    const auto expected = layer.with_weights(x.padded_queries, x.padded_keys, x.padded_values,
                                             with_lens(mask, lens.queries, lens.keys));
    for (const int threads : {1, 3}) {
      Context context(threads, kAnyWork);
      const auto [y, weights] =
          layer.with_weights(x.queries, x.of_queries, x.keys, x.values, x.of_keys, mask, context);
      EXPECT_TRUE(same_bits(y, eh::pack(expected.output, x.of_queries)));
      ASSERT_EQ(std::ssize(weights), x.of_queries.count());
      for (Index b = 0; b < x.of_queries.count(); ++b) {
        const Tensor<T, 3>& own = weights[static_cast<std::size_t>(b)];
        ASSERT_EQ(own.dimension(0), 4);
        ASSERT_EQ(own.dimension(1), x.of_queries.length(b));
        ASSERT_EQ(own.dimension(2), x.of_keys.length(b));
        for (Index h = 0; h < 4; ++h)
          for (Index q = 0; q < own.dimension(1); ++q)
            for (Index k = 0; k < own.dimension(2); ++k)
              ASSERT_EQ(bits(own(h, q, k)), bits(expected.weights(b, h, q, k)));
      }
    }
  }
}

TYPED_TEST(Packed, GatesAndPrunedHeadsAreThoseOfTheirSequence) {
  using T = TypeParam;
  const Lens lens{5, 0, 70, 33};
  const Inputs<T> x(lens, lens);
  const Mask padded = with_lens({}, lens, lens);
  auto gated = layer_of<T>(4, 2);
  Tensor<T, 2> gates = random_tensor<T>(7, 4, 4);
  gates(0, 1) = gates(2, 0) = gates(2, 3) = 0;
  for (Index h = 0; h < 4; ++h) gates(3, h) = 0;
  gated.set_gates(gates);
  auto same_for_all = gated;
  same_for_all.set_gates(std::vector<T>{T(0.5), 0, 1, 0});
  for (const auto& layer : {gated, same_for_all, eh::prune_heads(layer_of<T>(4, 2), {1, 2})})
    EXPECT_TRUE(same_bits(
        layer(x.queries, x.of_queries, x.keys, x.values, x.of_keys),
        eh::pack(layer(x.padded_queries, x.padded_keys, x.padded_values, padded), x.of_queries)));
}

// The rows of a padded gradient that are a sequence's; those of padding are 0.
template <class T>
[[nodiscard]] testing::AssertionResult same_gradient(const Tensor<T, 3>& packed,
                                                     const Tensor<T, 3>& padded,
                                                     const Sequences& sequences) {
  const TensorView<T, 2> rows(packed.data(), {packed.dimension(1), packed.dimension(2)});
  const auto expected =
      Inputs<T>::padded(Tensor<T, 2>(eh::pack(padded, sequences)), sequences, T(0));
  if (auto same = same_bits(padded, expected); !same) return same << ", of the padding";
  return same_bits(rows, eh::pack(padded, sequences));
}

TYPED_TEST(Packed, GradientsHaveTheBitsOfThePaddedCall) {
  using T = TypeParam;
  const std::vector<Lengths> all{{{5, 0, 3}, {5, 0, 3}},
                                 {{300, 1, 513, 2}, {300, 1, 513, 2}},
                                 {{3, 1, 0, 60}, {270, 1, 9, 0}},
                                 {{1000, 4}, {700, 4}},
                                 {{}, {}}};
  for (const Lengths& lens : all)
    for (const double dropout : {0.0, 0.25}) {
      auto layer = layer_of<T>(4, 2, dropout);
      if (lens.queries.size() == 3) layer.set_gates(std::vector<T>{T(0.5), 0, 1, T(2)});
      const Inputs<T> x(lens.queries, lens.keys);
      const Index L = x.of_queries.longest(), M = x.of_keys.longest();
      const auto grad = random_tensor<T>(8, x.of_queries.rows(), kSize);
      const auto bias = random_tensor<T>(9, 1, 4, (std::max)(L, Index{1}), (std::max)(M, Index{1}));
      const eh::ScoreBias<T> score(TensorView<T, 4>(bias.data(), {1, 4, L, M}));
      const Mask mask{.causal = Causal::bottom_right};
      const eh::TrainingOptions<T> options{.score = score, .seed = eh::DropoutSeed{5}};
      typename MultiHeadAttention<T>::Activations saved, padded_saved;
      const auto y = layer.forward(x.padded_queries, x.padded_keys, x.padded_values,
                                   with_lens(mask, lens.queries, lens.keys), padded_saved, options);
      const auto expected =
          layer.backward(Inputs<T>::padded(grad, x.of_queries, T(0)), padded_saved);
      for (const int threads : {1, 2, 3}) {
        SCOPED_TRACE(testing::PrintToString(lens.queries) + " rows on " + std::to_string(threads));
        Context context(threads, kAnyWork);
        auto own_options = options;
        own_options.context = context;
        ASSERT_TRUE(same_bits(layer.forward(x.queries, x.of_queries, x.keys, x.values, x.of_keys,
                                            mask, saved, own_options),
                              eh::pack(y, x.of_queries)));
        auto gradients = layer.backward(grad, saved, context);
        EXPECT_TRUE(same_gradient(gradients.queries, expected.queries, x.of_queries));
        EXPECT_TRUE(same_gradient(gradients.keys, expected.keys, x.of_keys));
        EXPECT_TRUE(same_gradient(gradients.values, expected.values, x.of_keys));
        EXPECT_TRUE(same_bits(gradients.W_q.weight, expected.W_q.weight));
        EXPECT_TRUE(same_bits(gradients.W_k.weight, expected.W_k.weight));
        EXPECT_TRUE(same_bits(gradients.W_v.weight, expected.W_v.weight));
        EXPECT_TRUE(same_bits(gradients.W_o.weight, expected.W_o.weight));
        EXPECT_TRUE(same_bits(gradients.W_q.bias, expected.W_q.bias));
        EXPECT_TRUE(same_bits(gradients.W_o.bias, expected.W_o.bias));
        EXPECT_TRUE(same_bits(gradients.score_bias, expected.score_bias));
        EXPECT_TRUE(same_bits(gradients.gates, expected.gates));
        layer.backward_into(gradients, grad, saved, true, context);
        auto twice = expected;
        layer.backward_into(twice, Inputs<T>::padded(grad, x.of_queries, T(0)), padded_saved, true);
        EXPECT_TRUE(same_bits(gradients.W_v.weight, twice.W_v.weight));
        EXPECT_TRUE(same_gradient(gradients.queries, twice.queries, x.of_queries));
      }
    }
}

TYPED_TEST(Packed, AProjectionsGradientsAreSumsOverBlocksOfEachSequence) {
  using T = TypeParam;
  eh::Linear<T> linear({.in_features = kSize, .out_features = 7, .bias = true}, 3, "linear");
  const Lens lens{300, 0, 5, 257};
  const Inputs<T> x(lens, lens);
  const auto grad = random_tensor<T>(4, x.of_queries.rows(), 7);
  eh::LinearGradients<T> packed, padded;
  const auto got = linear.backward(x.queries, x.of_queries, grad, packed);
  const auto expected =
      linear.backward(x.padded_queries, Inputs<T>::padded(grad, x.of_queries, T(0)), padded);
  EXPECT_TRUE(same_bits(got, eh::pack(expected, x.of_queries)));
  EXPECT_TRUE(same_bits(packed.weight, padded.weight));
  EXPECT_TRUE(same_bits(packed.bias, padded.bias));
  EXPECT_EQ(refusal([&] { return linear.backward(x.queries, {5}, grad, packed); }),
            "eigenheads: x has 562 rows; expected 5, those of its 1 sequences");
}

TYPED_TEST(Packed, HeadsAreAsImportantAsInThePaddedCall) {
  using T = TypeParam;
  auto layer = layer_of<T>(4, 2);
  layer.set_gates(std::vector<T>{T(0.5), 1, 1, T(2)});
  const Lens lens{5, 0, 70, 33};
  const Inputs<T> x(lens, lens);
  typename MultiHeadAttention<T>::Activations saved;
  eh::HeadImportance<T> packed(layer), padded(layer);
  for (const int threads : {1, 3}) {
    Context context(threads, kAnyWork);
    (void)layer.forward(x.queries, x.of_queries, x.keys, x.values, x.of_keys, {}, saved, context);
    packed.add(layer, saved, context);
    (void)layer.forward(x.padded_queries, x.padded_keys, x.padded_values, with_lens({}, lens, lens),
                        saved, context);
    padded.add(layer, saved, context);
  }
  const auto got = packed.measures(), expected = padded.measures();
  for (const eh::HeadMeasure& measure : eh::head_measures)
    for (std::size_t h = 0; h < got.size(); ++h)
      EXPECT_EQ(bits(got[h].*measure.value), bits(expected[h].*measure.value)) << measure.name;
}

// Rows and operations, counted by the call's own plan.
TEST(PackedCost, IsTheSumOfTheSequencesAlone) {
  const auto layer = layer_of<float>(4, 2);
  const Lens lens{5, 0, 70, 333, 12};
  const Inputs<float> x(lens, lens);
  const Mask mask{.causal = Causal::top_left};
  const Context context(1);
  const eh::Explanation packed = eh::explain(layer, x.queries, x.of_queries, mask, context);
  eh::Explanation sum;
  for (const Index length : lens) {
    const TensorView<float, 3> alone(x.queries.data(), {1, length, kSize});
    const auto one = eh::explain(layer, alone, alone, mask, context);
    sum.projected_queries += one.projected_queries;
    sum.projected_keys += one.projected_keys;
    sum.projection_flops += one.projection_flops;
    sum.attention_flops += one.attention_flops;
  }
  EXPECT_EQ(packed.projected_queries, 420);
  EXPECT_EQ(packed.projected_queries, sum.projected_queries);
  EXPECT_EQ(packed.projected_keys, sum.projected_keys);
  EXPECT_EQ(packed.projection_flops, sum.projection_flops);
  EXPECT_EQ(packed.attention_flops, sum.attention_flops);
}

// A layer whose outputs are means of the values that are seen: queries are 0, so all scores are
// alike, and values pass through.
template <class T>
[[nodiscard]] MultiHeadAttention<T> mean_layer() {
  MultiHeadAttention<T> layer({.num_hiddens = 1, .num_heads = 1, .bias = true});
  for (auto* linear : {&layer.W_q, &layer.W_k, &layer.W_v, &layer.W_o})
    linear->set_weight(constant_tensor(T(linear == &layer.W_q ? 0 : 1), 1, 1));
  return layer;
}

// Key j of each sequence has the value j.
template <class T>
[[nodiscard]] Tensor<T, 2> numbered(const Sequences& sequences) {
  Tensor<T, 2> values(sequences.rows(), 1);
  for (Index b = 0; b < sequences.count(); ++b)
    for (Index j = 0; j < sequences.length(b); ++j) values(sequences.begin(b) + j, 0) = T(j);
  return values;
}

template <class T>
void expect_means(const Lens& query_lens, const Lens& key_lens, Causal causal,
                  const std::vector<T>& expected) {
  const auto layer = mean_layer<T>();
  const Sequences queries(query_lens), keys(key_lens);
  const auto values = numbered<T>(keys);
  const auto y = layer(random_tensor<T>(1, queries.rows(), 1), queries, values, values, keys,
                       {.causal = causal});
  ASSERT_EQ(y.size(), std::ssize(expected));
  for (Index i = 0; i < y.size(); ++i)
    EXPECT_NEAR(y.data()[i], expected[static_cast<std::size_t>(i)], 8 * Limits<T>::epsilon());
}

// Dao-AILab/flash-attention 1537: the longest sequence of queries has one, and some have none.
TYPED_TEST(Packed, OneQueryASequenceIsNoSpecialCase) {
  using T = TypeParam;
  const Lens queries{0, 1, 0, 1}, keys{0, 3, 0, 5};
  expect_means<T>(queries, keys, Causal::bottom_right, {1, 2});
  expect_means<T>(queries, keys, Causal::top_left, {0, 0});
  expect_means<T>(queries, keys, Causal::none, {1, 2});
}

// rocm-libraries 10999: an offset of the longest lengths would be the same for both.
TYPED_TEST(Packed, TheDiagonalBelongsToEachSequence) {
  expect_means<TypeParam>({2, 3}, {5, 4}, Causal::bottom_right, {1.5, 2, 0.5, 1, 1.5});
}

// Dao-AILab/flash-attention 2562 and 2568.
TYPED_TEST(Packed, QueriesWithoutKeysGetNothingAndGiveNothing) {
  using T = TypeParam;
  const auto layer = layer_of<T>(3, 3);
  const Inputs<T> x({3, 2}, {0, 4}), alone({2}, {4});
  typename MultiHeadAttention<T>::Activations saved, saved_alone;
  const auto y = layer.forward(x.queries, x.of_queries, x.keys, x.values, x.of_keys, {}, saved);
  for (Index q = 0; q < 3; ++q) EXPECT_TRUE(same_bits(row(y, q), layer.W_o.bias()));
  for (Index h = 0; h < 3; ++h)
    for (Index q = 0; q < 3; ++q) EXPECT_EQ(saved.lse()(0, h, q), -kInf<T>);
  const TensorView<T, 2> second(&x.queries(3, 0), {2, kSize});
  EXPECT_TRUE(same_bits(
      layer.forward(second, alone.of_queries, x.keys, x.values, alone.of_keys, {}, saved_alone),
      TensorView<T, 2>(&y(3, 0), {2, kSize})));
  const auto grad = random_tensor<T>(4, 5, kSize);
  const auto gradients = layer.backward(grad, saved);
  const auto of_second = layer.backward(TensorView<T, 2>(&grad(3, 0), {2, kSize}), saved_alone);
  EXPECT_TRUE(all_are(TensorView<T, 2>(gradients.queries.data(), {3, kSize}), T(0)));
  EXPECT_TRUE(same_bits(gradients.keys, of_second.keys));
  EXPECT_TRUE(same_bits(gradients.values, of_second.values));
}

// pytorch 176793: rows beyond the last sequence, and too few.
TYPED_TEST(Packed, RowsThatAreNotThoseOfTheSequencesAreRefused) {
  using T = TypeParam;
  const auto layer = layer_of<T>(3, 3);
  const Sequences sequences{144, 288, 512};
  typename MultiHeadAttention<T>::Activations saved;
  (void)layer.forward(random_tensor<T>(1, 944, kSize), sequences, {}, saved);
  for (const Index rows : {946, 943}) {
    const std::string count = std::to_string(rows);
    const auto x = random_tensor<T>(1, rows, kSize);
    EXPECT_EQ(refusal([&] { return layer(x, sequences); }),
              "eigenheads: queries has " + count + " rows; expected 944, those of its 3 sequences");
    EXPECT_EQ(refusal([&] { return layer.backward(x, saved); }),
              "eigenheads: grad_output has shape [1, " + count +
                  ", 24]; expected [1, N, num_hiddens] = [1, 944, 24]");
  }
}

TYPED_TEST(Packed, CallsThatDoNotAddUpAreRefusedAndNothingIsWritten) {
  using T = TypeParam;
  const auto layer = layer_of<T>(3, 3);
  const Lens lens{4, 3};
  const Inputs<T> x(lens, lens);
  Tensor<T, 2> output = constant_tensor(T(7), 7, kSize);
  const auto call = [&](const Tensor<T, 2>& queries, const Sequences& sequences, const Mask& mask) {
    return refusal(
        [&] { layer.forward_into(output, queries, sequences, queries, queries, sequences, mask); });
  };
  EXPECT_EQ(call(x.queries, {4, 4}, {}),
            "eigenheads: queries has 7 rows; expected 8, those of its 2 sequences");
  EXPECT_EQ(call(random_tensor<T>(1, 7, 5), x.of_queries, {}),
            "eigenheads: queries has shape [7, 5]; expected [N, query_size] = [*, 24]");
  EXPECT_EQ(refusal([&] { return layer(x.queries, x.of_queries, x.keys, x.values, Sequences{7}); }),
            "eigenheads: the queries are of 2 sequences, the keys of 1; expected as many");
  EXPECT_EQ(call(x.queries, x.of_queries, {.valid_lens = {4, 3}}),
            "eigenheads: valid_lens has shape [2] beside Sequences, which say how long each is; "
            "expected none");
  EXPECT_EQ(call(x.queries, x.of_queries, {.query_lens = {4, 3}}),
            "eigenheads: query_lens has shape [2] beside Sequences, which say how long each is; "
            "expected none");
  EXPECT_EQ(call(x.queries, x.of_queries, {.key_lens = {4, 3}}),
            "eigenheads: key_lens has shape [2] beside Sequences, which say how long each is; "
            "expected none");
  EXPECT_EQ(refusal([&] {
              return layer(x.queries, x.of_queries, x.keys, x.values, Sequences{3, 4},
                           {.window = {1, 1}});
            }),
            "eigenheads: a window over 4 queries and 4 keys needs causal top_left or bottom_right, "
            "or first_positions, to say which key stands beside which query");
  Tensor<T, 2> small(6, kSize);
  EXPECT_EQ(refusal([&] { layer.forward_into(small, x.queries, x.of_queries); }),
            "eigenheads: output has shape [1, 6, 24]; expected [1, N, num_hiddens] = [1, 7, 24]");
  EXPECT_TRUE(all_are(output, T(7)));

  typename MultiHeadAttention<T>::Activations saved;
  (void)layer.forward(x.queries, x.of_queries, {}, saved);
  EXPECT_EQ(refusal([&] { return layer.backward(random_tensor<T>(1, 8, kSize), saved); }),
            "eigenheads: grad_output has shape [1, 8, 24]; expected [1, N, num_hiddens] = [1, 7, "
            "24]");
}

TYPED_TEST(Packed, ALazyLayerTakesItsSizesFromRows) {
  using T = TypeParam;
  MultiHeadAttention<T> lazy({.num_hiddens = kSize, .num_heads = 3}, 5);
  MultiHeadAttention<T> eager({.num_hiddens = kSize,
                               .num_heads = 3,
                               .query_size = kSize,
                               .key_size = kSize,
                               .value_size = kSize},
                              5);
  const Lens lens{4, 3};
  const Inputs<T> x(lens, lens);
  EXPECT_NE(refusal([&] { return lazy(x.queries, Sequences{9}); }), "not refused");
  EXPECT_TRUE(lazy.W_q.is_lazy());
  EXPECT_TRUE(same_bits(lazy(x.queries, x.of_queries), eager(x.queries, x.of_queries)));
}

// Through every other door, one that is made by the call.
TYPED_TEST(Packed, ALazyLayerTakesItsSizesFromRowsThroughEveryDoor) {
  using T = TypeParam;
  const auto layer = [](Index size) {
    return MultiHeadAttention<T>({.num_hiddens = kSize,
                                  .num_heads = 3,
                                  .query_size = size,
                                  .key_size = size,
                                  .value_size = size},
                                 5);
  };
  const auto eager = layer(kSize);
  const Inputs<T> x({4, 3}, {2, 6});
  const Mask mask{.causal = Causal::bottom_right};
  const auto own = eager.with_weights(x.queries, x.of_queries, mask);
  const auto across =
      eager.with_weights(x.queries, x.of_queries, x.keys, x.values, x.of_keys, mask);
  auto lazy = layer(0);
  EXPECT_TRUE(
      same_bits(lazy(x.queries, x.of_queries, x.keys, x.values, x.of_keys, mask), across.output));
  lazy = layer(0);
  Tensor<T, 2> output(7, kSize), small(6, kSize);
  EXPECT_NE(refusal([&] { lazy.forward_into(small, x.queries, x.of_queries, mask); }),
            "not refused");
  EXPECT_TRUE(lazy.W_q.is_lazy());
  lazy.forward_into(output, x.queries, x.of_queries, mask);
  EXPECT_TRUE(same_bits(output, own.output));
  lazy = layer(0);
  EXPECT_NE(refusal([&] {
              lazy.forward_into(small, x.queries, x.of_queries, x.keys, x.values, x.of_keys, mask);
            }),
            "not refused");
  EXPECT_TRUE(lazy.W_q.is_lazy());
  lazy.forward_into(output, x.queries, x.of_queries, x.keys, x.values, x.of_keys, mask);
  EXPECT_TRUE(same_bits(output, across.output));
  const auto is_same = [](const eh::PackedAttentionOutput<T>& got,
                          const eh::PackedAttentionOutput<T>& expected) {
    EXPECT_TRUE(same_bits(got.output, expected.output));
    ASSERT_EQ(got.weights.size(), 2u);
    for (std::size_t b = 0; b < 2; ++b) EXPECT_TRUE(same_bits(got.weights[b], expected.weights[b]));
  };
  lazy = layer(0);
  is_same(lazy.with_weights(x.queries, x.of_queries, mask), own);
  lazy = layer(0);
  is_same(lazy.with_weights(x.queries, x.of_queries, x.keys, x.values, x.of_keys, mask), across);
}

}  // namespace
