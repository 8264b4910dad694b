// SPDX-License-Identifier: MIT
// A learnt sink of each head in its softmax's sum: what it takes of the weights, its gradient, and a
// layer that has them.
#include <algorithm>
#include <array>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_backward.hpp>
#include <eigenheads/attention_reference.hpp>
#include <eigenheads/head_importance.hpp>
#include <eigenheads/merge_attention.hpp>
#include <eigenheads/multi_head_attention.hpp>
#include <eigenheads/prune_heads.hpp>
#include <eigenheads/score.hpp>

#include "layers.hpp"
#include "support.hpp"
#include "textbook.hpp"

namespace {

using namespace support;
using eh::Causal, eh::Context, eh::Mask, eh::scaled_dot_product_attention;

template <class T>
class SinkLogits : public testing::Test {};
TYPED_TEST_SUITE(SinkLogits, Scalars, ScalarNames);

template <class T>
[[nodiscard]] Tensor<T, 1> logits(std::initializer_list<T> values) {
  Tensor<T, 1> x(static_cast<Index>(values.size()));
  std::copy(values.begin(), values.end(), x.data());
  return x;
}

template <class T>
[[nodiscard]] Tensor<T, 4> column(std::initializer_list<T> values) {  // [1, 1, K, 1]
  Tensor<T, 4> x(1, 1, static_cast<Index>(values.size()), 1);
  std::copy(values.begin(), values.end(), x.data());
  return x;
}

// Up to so many units in the last place of the largest; infinities are themselves.
template <class X, class Y>
void expect_near(const X& got, const Y& expected, double units, const char* name) {
  using T = eh::element_of<X>;
  ASSERT_EQ(got.size(), expected.size()) << name;
  double largest = 1;
  for (Index i = 0; i < got.size(); ++i)
    if (const auto number = static_cast<double>(expected.data()[i]); std::isfinite(number))
      largest = std::max(largest, std::abs(number));
  const double bound = units * largest * static_cast<double>(Limits<T>::epsilon());
  for (Index i = 0; i < got.size(); ++i)
    if (!std::isfinite(expected.data()[i]))
      ASSERT_EQ(bits(got.data()[i]), bits(expected.data()[i])) << name << '[' << i << ']';
    else
      ASSERT_NEAR(got.data()[i], expected.data()[i], bound) << name << '[' << i << ']';
}

constexpr Index B = 2, H = 4, G = 2, D = 16;

template <class T>
struct Inputs {
  Inputs(Index Q, Index K)
      : q(random_tensor<T>(1, B, H, Q, D)),
        k(random_tensor<T>(2, B, G, K, D)),
        v(random_tensor<T>(3, B, G, K, D)),
        dy(random_tensor<T>(4, B, H, Q, D)) {}

  Tensor<T, 4> q, k, v, dy;

  [[nodiscard]] eh::AttentionResult<T> attend(const Mask& mask,
                                              const eh::AttentionOptions<T>& options = {},
                                              int threads = 1) const {
    Context context(threads, kAnyWork);
    return scaled_dot_product_attention(q, k, v, mask, options, context);
  }
  [[nodiscard]] eh::AttentionGradients<T> backward(const eh::AttentionResult<T>& result,
                                                   const Mask& mask,
                                                   const eh::AttentionOptions<T>& options = {},
                                                   int threads = 1) const {
    Context context(threads, kAnyWork);
    return eh::scaled_dot_product_attention_backward(dy, q, k, v, result, mask, options, context);
  }
};

TYPED_TEST(SinkLogits, T501ASinkTakesItsShareOfTheWeights) {
  using T = TypeParam;
  const auto sinks = logits<T>({T(std::log(2.0))});
  const auto q = column<T>({1}), k = column<T>({0, T(std::log(3.0))}), v = column<T>({6, 2});
  const Tensor<T, 4> zeros = constant_tensor<T>(0, 1, 1, 1, 2);
  const eh::ScoreBias<T> bias(zeros);
  const eh::AttentionOptions<T> options{.score = bias, .weights = true, .sink_logits = sinks};
  const auto result = scaled_dot_product_attention(q, k, v, {}, options);
  const double unit = 4 * static_cast<double>(Limits<T>::epsilon());
  EXPECT_NEAR(result.weights(0, 0, 0, 0), 1.0 / 6, unit);
  EXPECT_NEAR(result.weights(0, 0, 0, 1), 1.0 / 2, unit);
  EXPECT_NEAR(result.output(0, 0, 0, 0), 2, 2 * unit);
  EXPECT_NEAR(result.lse(0, 0, 0), std::log(4.0), unit);  // of the keys; ln 6 with the sink
  const auto gradients =
      eh::scaled_dot_product_attention_backward(column<T>({1}), q, k, v, result, {}, options);
  EXPECT_NEAR(gradients.sink_logits(0), -2.0 / 3, 2 * unit);
  EXPECT_NEAR(gradients.score_bias(0, 0, 0, 0), 2.0 / 3, 2 * unit);
  EXPECT_NEAR(gradients.score_bias(0, 0, 0, 1), 0, 2 * unit);
}

TYPED_TEST(SinkLogits, T502ALargeSinkOrNoneOrNan) {
  using T = TypeParam;
  const auto q = column<T>({1}), k = column<T>({0, 0}), v = column<T>({6, 2});
  for (const T sink : {T(100), Limits<T>::max(), kInf<T>}) {
    const auto sinks = logits<T>({sink});
    const eh::AttentionOptions<T> options{.weights = true, .sink_logits = sinks};
    const auto result = scaled_dot_product_attention(q, k, v, {}, options);
    EXPECT_NEAR(result.output(0, 0, 0, 0), 0, 1e-40);
    EXPECT_NEAR(result.weights(0, 0, 0, 0), 0, 1e-40);
    EXPECT_NEAR(result.lse(0, 0, 0), std::log(2.0), 1e-6);
    const auto gradients =
        eh::scaled_dot_product_attention_backward(column<T>({1}), q, k, v, result, {}, options);
    EXPECT_NEAR(gradients.sink_logits(0), 0, 1e-40);
    EXPECT_NEAR(gradients.values(0, 0, 0, 0), 0, 1e-40);
  }

  const Inputs<T> x(50, 300);
  const Mask mask{.causal = Causal::bottom_right};
  const auto without = x.attend(mask, {.weights = true});
  const auto gradients = x.backward(without, mask);
  const auto none = constant_tensor<T>(-kInf<T>, H);
  const eh::AttentionOptions<T> options{.weights = true, .sink_logits = none};
  const auto same = x.attend(mask, options);
  EXPECT_TRUE(same_bits(same, without));
  EXPECT_TRUE(same_bits(same.weights, without.weights));
  const auto same_gradients = x.backward(same, mask, options);
  EXPECT_TRUE(same_bits(same_gradients.queries, gradients.queries));
  EXPECT_TRUE(same_bits(same_gradients.keys, gradients.keys));
  EXPECT_TRUE(same_bits(same_gradients.values, gradients.values));
  EXPECT_TRUE(all_are(same_gradients.sink_logits, T(0)));

  const auto sinks = logits<T>({T(0.5), T(-1), T(2), T(1)}),
             with_nan = logits<T>({T(0.5), kNan<T>, T(2), T(1)});
  const auto clean = x.attend(mask, {.sink_logits = sinks}),
             dirty = x.attend(mask, {.sink_logits = with_nan});
  EXPECT_TRUE(same_bits(dirty.lse, clean.lse));
  for (Index b = 0; b < B; ++b)
    for (Index h = 0; h < H; ++h)
      for (Index i = 0; i < 50; ++i)
        if (h == 1) {
          ASSERT_TRUE(all_are(row(dirty.output, b, h, i), kNan<T>));
        } else {
          ASSERT_TRUE(same_bits(row(dirty.output, b, h, i), row(clean.output, b, h, i)));
        }
  const auto of_clean = x.backward(clean, mask, {.sink_logits = sinks}),
             of_dirty = x.backward(dirty, mask, {.sink_logits = with_nan});
  for (Index h = 0; h < H; ++h)
    EXPECT_EQ(bits(of_dirty.sink_logits(h)), bits(h == 1 ? kNan<T> : of_clean.sink_logits(h)));
}

TYPED_TEST(SinkLogits, T503ARowWithoutKeysIsNothingAndGivesTheSinkNoGradient) {
  using T = TypeParam;
  Inputs<T> x(3, 5);
  const Mask mask{.valid_lens = {{0, 5, 0}, {5, 0, 0}}};
  for (const T sink : {T(0.5), kNan<T>}) {
    const auto sinks = constant_tensor<T>(sink, H);
    const eh::AttentionOptions<T> options{.weights = true, .sink_logits = sinks};
    const auto result = x.attend(mask, options);
    Inputs<T> other = x;
    for (Index b = 0; b < B; ++b)
      for (Index h = 0; h < H; ++h)
        for (Index i = 0; i < 3; ++i) {
          if (i == (b == 0 ? 1 : 0)) continue;
          EXPECT_TRUE(all_are(row(result.output, b, h, i), T(0)));
          EXPECT_TRUE(all_are(row(result.weights, b, h, i), T(0)));
          EXPECT_EQ(result.lse(b, h, i), -kInf<T>);
          std::fill_n(&other.dy(b, h, i, 0), D, i == 2 ? kNan<T> : T(1e30));
        }
    EXPECT_TRUE(same_bits(other.backward(result, mask, options).sink_logits,
                          x.backward(result, mask, options).sink_logits));
  }
}

template <class T, class Score>
void expect_reference(const Inputs<T>& x, const Mask& mask, const Score& score, double dropout,
                      const Tensor<T, 1>& sinks) {
  const std::span<const T> all(sinks.data(), static_cast<std::size_t>(sinks.size()));
  const eh::AttentionOptions<T> options{.scale = 0.5,
                                        .score = score,
                                        .dropout = dropout,
                                        .seed = eh::DropoutSeed{5},
                                        .weights = true,
                                        .sink_logits = sinks};
  const auto factors = eh::DropoutMask<T>::of(eh::Dropout(dropout), options.seed);
  const auto result = x.attend(mask, options);
  const auto expected =
      eh::attention_reference<T>(x.q, x.k, x.v, mask, T(0.5), score, factors, all);
  expect_near(result.output, expected.output, 64, "output");
  expect_near(result.weights, expected.weights, 64, "weights");
  expect_near(result.lse, expected.lse, 64, "lse");
  const auto got = x.backward(result, mask, options);
  const auto gradients =
      eh::attention_reference_backward<T>(x.dy, x.q, x.k, x.v, mask, T(0.5), score, factors, all);
  expect_near(got.queries, gradients.queries, 512, "queries");
  expect_near(got.keys, gradients.keys, 512, "keys");
  expect_near(got.values, gradients.values, 512, "values");
  expect_near(got.sink_logits, TensorView<T, 1>(gradients.sink_logits.data(), {H}), 512,
              "sink_logits");
  for (const int threads : {2, 3}) {
    ASSERT_TRUE(same_bits(x.attend(mask, options, threads), result));
    const auto shared = x.backward(result, mask, options, threads);
    ASSERT_TRUE(same_bits(shared.sink_logits, got.sink_logits));
    ASSERT_TRUE(same_bits(shared.queries, got.queries));
    ASSERT_TRUE(same_bits(shared.keys, got.keys));
  }
}

TYPED_TEST(SinkLogits, AreTheReferenceOnAnyNumberOfThreads) {
  using T = TypeParam;
  const auto sinks = logits<T>({T(-2), T(0), T(1.5), T(30)});
  for (const Index Q : {1, 5, 49, 140})
    for (const Index K : {129, 300, 600})
      for (const Mask& mask :
           {Mask{}, Mask{.causal = Causal::bottom_right, .window = {9, -1}, .sinks = 3},
            Mask{.valid_lens = {K / 2, 0}, .causal = Causal::top_left},
            Mask{.query_lens = {Q / 2, Q}}}) {
        expect_reference<T>({Q, K}, mask, eh::PlainScore{}, 0, sinks);
        if (K == 300) expect_reference<T>({Q, K}, mask, eh::Softcap<T>(T(2)), 0.25, sinks);
        if (this->HasFatalFailure()) return;
      }
}

TYPED_TEST(SinkLogits, ARowIsWhatItIsAlone) {
  using T = TypeParam;
  const Index Q = 60, K = 300;
  const Inputs<T> x(Q, K);
  const auto sinks = logits<T>({T(-2), T(0), T(1.5), T(5)});
  const auto whole = x.attend({}, {.sink_logits = sinks});
  Context context(3, kAnyWork);  // which share out the blocks of keys
  for (const Index i : {Index{0}, Index{59}})
    for (Index h = 0; h < H; ++h) {
      const TensorView<T, 4> q(row(x.q, 1, h, i).data(), {1, 1, 1, D}),
          k(row(x.k, 1, h / 2, 0).data(), {1, 1, K, D}),
          v(row(x.v, 1, h / 2, 0).data(), {1, 1, K, D});
      const TensorView<T, 1> sink(&sinks(h), {1});
      const auto alone = scaled_dot_product_attention(q, k, v, {}, {.sink_logits = sink}, context);
      ASSERT_TRUE(same_bits(row(alone.output, 0, 0, 0), row(whole.output, 1, h, i)));
    }
}

// Parts of the keys know no sink; it enters once they are merged.
TYPED_TEST(SinkLogits, EnterOnceWherePartsAreMerged) {
  using T = TypeParam;
  const Index Q = 9, K = 200;
  const Inputs<T> x(Q, K);
  const auto sinks = logits<T>({T(-2), T(0), T(1.5), T(30)});
  const auto whole = x.attend({}, {.sink_logits = sinks});
  const auto first = x.attend({.valid_lens = {80, 80}});
  const auto rest = x.attend({.window = {-1, -1}, .allowed = [&] {
                                Tensor<bool, 2> pairs(Q, K);
                                for (Index i = 0; i < Q; ++i)
                                  for (Index k = 0; k < K; ++k) pairs(i, k) = k >= 80;
                                return eh::Allowed(pairs);
                              }()});
  auto merged = eh::merge_attention(first, rest);
  expect_near(merged.lse, whole.lse, 8, "lse");
  for (Index row = 0; row < B * H * Q; ++row) {
    const double beside =
        1 / (1 + std::exp(static_cast<double>(sinks(row / Q % H) - merged.lse.data()[row])));
    for (Index i = 0; i < D; ++i) merged.output.data()[row * D + i] *= static_cast<T>(beside);
  }
  expect_near(merged.output, whole.output, 16, "output");
}

TEST(SinkLogitsOnce, OfAnotherShapeAreRefused) {
  const Inputs<float> x(2, 3);
  const auto sinks = constant_tensor<float>(0, 3);
  EXPECT_EQ(refusal([&] { return x.attend({}, {.sink_logits = sinks}); }),
            "eigenheads: sink_logits has shape [3]; expected [H] = [4]");
}

// ---- The layer ---------------------------------------------------------------------------------

constexpr Index size = 12;

template <class T>
[[nodiscard]] eh::MultiHeadAttention<T> layer_with_sinks() {
  auto layer = make_layer<T>(size, {.num_hiddens = size,
                                    .num_heads = 4,
                                    .bias = true,
                                    .num_kv_heads = 2,
                                    .head_size = 5,
                                    .sink_logits = true});
  const T sinks[] = {T(-1), T(0.25), T(2), T(1)};
  std::copy_n(sinks, 4, layer.sink_logits.data());
  return layer;
}

TYPED_TEST(SinkLogits, AreAParameterOfTheLayer) {
  using T = TypeParam;
  const eh::MultiHeadAttentionOptions options{
      .num_hiddens = size, .num_heads = 4, .sink_logits = true};
  eh::MultiHeadAttention<T> layer(options);
  layer.initialize(size, size, size);
  EXPECT_TRUE(same_bits(layer.sink_logits, constant_tensor<T>(0, 4)));
  std::vector<std::string> names;
  layer.for_each_parameter([&](const auto& p) { names.push_back(p.name()); }, "a.");
  EXPECT_EQ(names, (std::vector<std::string>{"a.W_q.weight", "a.W_k.weight", "a.W_v.weight",
                                             "a.W_o.weight", "a.sink_logits"}));
  eh::MultiHeadAttention<T> without({.num_hiddens = size, .num_heads = 4});
  without.initialize(size, size, size);
  EXPECT_EQ(without.sink_logits.size(), 0);
  layer.sink_logits = constant_tensor<T>(-kInf<T>, 4);
  const auto x = random_tensor<T>(1, 2, 9, size);
  EXPECT_TRUE(same_bits(layer(x, x, x), without(x, x, x)));
  layer.sink_logits = constant_tensor<T>(0, 3);
  EXPECT_EQ(refusal([&] { return layer(x, x, x); }),
            "eigenheads: MultiHeadAttention: sink_logits has shape [3]; expected [H] = [4]");
}

TYPED_TEST(SinkLogits, ALayerTrainsThem) {
  using T = TypeParam;
  const auto layer = layer_with_sinks<T>();
  const auto x = random_tensor<T>(1, 2, 150, size), dy = random_tensor<T>(2, 2, 150, size);
  const Mask mask{.causal = Causal::top_left};
  typename eh::MultiHeadAttention<T>::Activations saved;
  const auto y = layer(x, x, x, mask);
  const auto with_weights = layer.with_weights(x, x, x, mask);
  EXPECT_TRUE(same_bits(with_weights.output, y));
  EXPECT_TRUE(same_bits(layer.forward(x, x, x, mask, saved), y));
  auto gradients = layer.backward(dy, saved);
  std::vector<std::string> names;
  gradients.for_each_parameter([&](const auto& p) { names.push_back(p.name()); });
  EXPECT_EQ(names.back(), "sink_logits");
  for (const int threads : {2, 3}) {
    Context context(threads, kAnyWork);
    EXPECT_TRUE(same_bits(layer.backward(dy, saved, context).sink_logits, gradients.sink_logits));
  }
  const Tensor<T, 1> once = gradients.sink_logits;
  layer.backward_into(gradients, dy, saved, true);
  for (Index h = 0; h < 4; ++h) EXPECT_EQ(gradients.sink_logits(h), once(h) + once(h));

  eh::HeadImportance<T> importance(layer);
  importance.add(layer, saved);
  for (Index h = 0; h < 4; ++h) {
    double sum = 0, entropy = 0;
    for (Index b = 0; b < 2; ++b)
      for (Index i = 0; i < 150; ++i)
        for (Index k = 0; k <= i; ++k) {
          const auto p = static_cast<double>(with_weights.weights(b, h, i, k));
          sum += p;
          entropy -= p * std::log(p);
        }
    const auto measures = importance.measures()[static_cast<std::size_t>(h)];
    EXPECT_NEAR(measures.l1_norm, sum / 300, 1e-6);
    EXPECT_NEAR(measures.entropy, entropy / 300, 1e-5);
  }
}

// d loss / d sinks, and by an input, against central differences.
TEST(SinkLogitsOnce, GradientsAreDifferences) {
  auto layer = layer_with_sinks<double>();
  layer.set_gates(std::vector<double>{1, 0.5, -2, 0});
  auto x = random_tensor<double>(1, 2, 7, size);
  const auto dy = random_tensor<double>(2, 2, 7, size);
  const Mask mask{.causal = Causal::top_left, .query_lens = {7, 4}};
  const auto loss = [&] {
    const auto y = layer(x, x, x, mask);
    double sum = 0;
    for (Index i = 0; i < y.size(); ++i) sum += y.data()[i] * dy.data()[i];
    return sum;
  };
  eh::MultiHeadAttention<double>::Activations saved;
  (void)layer.forward(x, x, x, mask, saved);
  const auto gradients = layer.backward(dy, saved);
  constexpr double step = 1e-5;
  const auto difference = [&](double& number) {
    const double before = number;
    number = before + step;
    const double above = loss();
    number = before - step;
    const double below = loss();
    number = before;
    return (above - below) / (2 * step);
  };
  for (Index h = 0; h < 4; ++h)
    EXPECT_NEAR(gradients.sink_logits(h), difference(layer.sink_logits(h)), 1e-8) << h;
  EXPECT_EQ(gradients.sink_logits(3), 0);  // behind a gate of 0
  EXPECT_NE(gradients.sink_logits(2), 0);
  for (const Index i : {Index{0}, Index{30}, Index{100}})
    EXPECT_NEAR(gradients.queries.data()[i] + gradients.keys.data()[i] + gradients.values.data()[i],
                difference(x.data()[i]), 1e-8);
}

TYPED_TEST(SinkLogits, PackedAndPrunedLayersHaveThem) {
  using T = TypeParam;
  const auto layer = layer_with_sinks<T>();
  const std::vector<Index> lens{5, 0, 70, 1};
  const eh::Sequences sequences(lens);
  const auto x = random_tensor<T>(1, sequences.rows(), size),
             dy = random_tensor<T>(2, sequences.rows(), size);
  const auto padded = eh::unpack(x, sequences), padded_dy = eh::unpack(dy, sequences);
  const Mask mask{.causal = Causal::top_left, .window = {3, -1}, .sinks = 2};
  Mask of_padded = mask;
  of_padded.query_lens = lens;
  of_padded.key_lens = lens;
  typename eh::MultiHeadAttention<T>::Activations saved, saved_padded;
  for (const int threads : {1, 3}) {
    Context context(threads, kAnyWork);
    const auto y = layer.forward(x, sequences, mask, saved, {.context = context});
    const auto expected =
        layer.forward(padded, padded, padded, of_padded, saved_padded, {.context = context});
    ASSERT_TRUE(same_bits(y, eh::pack(expected, sequences)));
    ASSERT_TRUE(same_bits(layer(x, sequences, mask, context), y));
    ASSERT_TRUE(same_bits(layer.backward(dy, saved, context).sink_logits,
                          layer.backward(padded_dy, saved_padded, context).sink_logits));
  }

  auto closed = layer;
  closed.set_gates(std::vector<T>{1, 0, 1, 1});
  const auto pruned = eh::prune_heads(layer, {1});
  ASSERT_EQ(pruned.sink_logits.size(), 3);
  EXPECT_EQ(pruned.sink_logits(1), layer.sink_logits(2));
  EXPECT_TRUE(same_bits(pruned(x, sequences, mask), closed(x, sequences, mask)));
}

}  // namespace
