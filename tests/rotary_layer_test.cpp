// SPDX-License-Identifier: MIT
// A layer that turns its queries and keys by their positions: it is its steps, taken by hand, under every
// mask; packed, padded and alone, with weights and in training it has one and the same bits; its
// gradients are those of differences.
#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <eigenheads/eigenheads.hpp>
#include <eigenheads/io/npy.hpp>
#include <eigenheads/kv_cache.hpp>

#include "counting.hpp"
#include "layers.hpp"
#include "support.hpp"

namespace {

using namespace support;
using eh::Causal, eh::Context, eh::Mask, eh::MultiHeadAttention, eh::RotaryLayout,
    eh::RotaryOptions, eh::Sequences;

constexpr auto kLayouts = {RotaryLayout::half_split, RotaryLayout::interleaved};
constexpr Index kSize = 24;  // of the inputs

template <class T>
class RotaryLayer : public testing::Test {};
TYPED_TEST_SUITE(RotaryLayer, Scalars, ScalarNames);

// Four heads of size 10 over two, of which 6 numbers are turned.
[[nodiscard]] eh::MultiHeadAttentionOptions options_of(const RotaryOptions& rotary) {
  return {.num_hiddens = kSize,
          .num_heads = 4,
          .bias = true,
          .num_kv_heads = 2,
          .head_size = 10,
          .rotary = rotary};
}
template <class T>
[[nodiscard]] MultiHeadAttention<T> layer_of(RotaryLayout layout, Index max_positions = 700) {
  return make_layer<T>(
      kSize, options_of({.max_positions = max_positions, .rotated = 6, .layout = layout}));
}

TYPED_TEST(RotaryLayer, IsNumpysInFloat64) {
  using T = TypeParam;
  const auto folder = std::filesystem::path(EIGENHEADS_SOURCE_DIR) / "tests/golden/rotary/layer";
  const auto matrix = [&](const char* name) {
    return eh::load_npy<T, 2>(folder / (std::string("W_") + name + ".npy"));
  };
  MultiHeadAttention<T> layer({.num_hiddens = 24,
                               .num_heads = 4,
                               .bias = true,
                               .query_size = 24,
                               .key_size = 24,
                               .value_size = 24,
                               .num_kv_heads = 2,
                               .rotary = RotaryOptions{.max_positions = 9, .rotated = 4}});
  for (const auto& [name, linear] : {std::pair{"q", &layer.W_q}, std::pair{"k", &layer.W_k},
                                     std::pair{"v", &layer.W_v}, std::pair{"o", &layer.W_o}}) {
    linear->set_weight(matrix(name));
    linear->set_bias(eh::load_npy<T, 1>(folder / (std::string("b_") + name + ".npy")));
  }
  const auto x = eh::load_npy<T, 3>(folder / "x.npy");
  const Tensor<T, 3> y = layer(x, x, x, {.causal = Causal::top_left});
  const auto expected = eh::load_npy<double, 3>(folder / "y.npy");
  ASSERT_EQ(y.dimensions(), expected.dimensions());
  for (Index i = 0; i < y.size(); ++i)
    ASSERT_NEAR(y.data()[i], expected.data()[i], sizeof(T) == 4 ? 5e-6 : 1e-14) << i;
}

// [B, L, H * D] -> [B, H, L, D]
template <class T>
[[nodiscard]] Tensor<T, 4> heads_apart(const Tensor<T, 3>& x, Index H) {
  const Index B = x.dimension(0), L = x.dimension(1), D = x.dimension(2) / H;
  Tensor<T, 4> y(B, H, L, D);
  for (Index b = 0; b < B; ++b)
    for (Index t = 0; t < L; ++t)
      for (Index i = 0; i < H * D; ++i) y(b, i / D, t, i % D) = x(b, t, i);
  return y;
}

[[nodiscard]] std::vector<Mask> masks(Index Q, Index K) {
  std::vector<Mask> all{{},
                        {.valid_lens = {K, K / 3}},
                        {.causal = Causal::top_left},
                        {.causal = Causal::bottom_right},
                        {.causal = Causal::bottom_right, .window = {2, -1}, .key_lens = {K - 1, K}},
                        {.causal = Causal::bottom_right, .query_lens = {Q / 2, Q}},
                        {.causal = Causal::top_left, .first_positions = {0, 600}},
                        {.window = {5, 3}, .first_positions = {17, 4}}};
  return all;
}

// A query stands where the mask places it, a key at its own number.
TYPED_TEST(RotaryLayer, IsItsStepsTakenByHand) {
  using T = TypeParam;
  for (const RotaryLayout layout : kLayouts) {
    const auto layer = layer_of<T>(layout);
    const eh::Rotary<T>& rotary = *layer.rotary();
    for (const auto& [Q, K] : {std::pair<Index, Index>{5, 5}, {3, 19}, {19, 3}, {1, 300}}) {
      const auto x = random_tensor<T>(1, 2, Q, kSize), m = random_tensor<T>(2, 2, K, kSize);
      const auto k = rotary(heads_apart<T>(layer.W_k(m), 2));
      const auto v = heads_apart<T>(layer.W_v(m), 2);
      for (const Mask& mask : masks(Q, K)) {
        SCOPED_TRACE(testing::Message() << Q << " x " << K);
        const eh::BoundMask bound(mask, 2, Q, K);
        Tensor<T, 4> q = heads_apart<T>(layer.W_q(x), 4);
        for (Index b = 0; b < 2; ++b)
          for (Index h = 0; h < 4; ++h)
            for (Index t = 0; t < Q; ++t) {
              if (bound.aligned(b, t) < 0) continue;  // it sees no key
              Tensor<T, 4> one(1, 1, 1, 10);
              std::copy_n(&q(b, h, t, 0), 10, one.data());
              one = rotary(one, bound.aligned(b, t));
              std::copy_n(one.data(), 10, &q(b, h, t, 0));
            }
        const auto attended = eh::scaled_dot_product_attention(q, k, v, mask);
        Tensor<T, 3> together(2, Q, Index{40});
        for (Index b = 0; b < 2; ++b)
          for (Index t = 0; t < Q; ++t)
            for (Index i = 0; i < 40; ++i)
              together(b, t, i) = attended.output(b, i / 10, t, i % 10);
        EXPECT_TRUE(same_bits(layer(x, m, m, mask), layer.W_o(together)));
      }
    }
  }
}

TYPED_TEST(RotaryLayer, WeightsTrainingThreadsAndSequencesAloneHaveTheSameBits) {
  using T = TypeParam;
  const Index Q = 70, K = 90;
  for (const RotaryLayout layout : kLayouts) {
    const auto layer = layer_of<T>(layout);
    const auto x = random_tensor<T>(1, 2, Q, kSize), m = random_tensor<T>(2, 2, K, kSize);
    const auto grad_y = random_tensor<T>(3, 2, Q, kSize);
    for (const Mask& mask : masks(Q, K)) {
      const Tensor<T, 3> y = layer(x, m, m, mask);
      EXPECT_TRUE(same_bits(layer.with_weights(x, m, m, mask).output, y));
      typename MultiHeadAttention<T>::Activations saved;
      EXPECT_TRUE(same_bits(layer.forward(x, m, m, mask, saved), y));
      const auto gradients = layer.backward(grad_y, saved);
      for (const int threads : {2, 3}) {
        Context context(threads, kAnyWork);
        EXPECT_TRUE(same_bits(layer(x, m, m, mask, context), y));
        typename MultiHeadAttention<T>::Activations of_threads;
        (void)layer.forward(x, m, m, mask, of_threads, context);
        const auto again = layer.backward(grad_y, of_threads, context);
        EXPECT_TRUE(same_bits(again.queries, gradients.queries));
        EXPECT_TRUE(same_bits(again.keys, gradients.keys));
        EXPECT_TRUE(same_bits(again.W_q.weight, gradients.W_q.weight));
        EXPECT_TRUE(same_bits(again.W_k.weight, gradients.W_k.weight));
      }
    }
    const Tensor<T, 3> y = layer(x, m, m);
    for (Index b = 0; b < 2; ++b)
      EXPECT_TRUE(same_bits(layer(sequence(x, b), sequence(m, b), sequence(m, b)), sequence(y, b)));
  }
}

// Each packed sequence counts from its own first row.
TYPED_TEST(RotaryLayer, PackedPaddedAndAloneHaveTheSameBits) {
  using T = TypeParam;
  const std::vector<Index> lens{70, 0, 1, 33, 5};
  const Sequences sequences(lens);
  const auto x = random_tensor<T>(1, sequences.rows(), kSize);
  Tensor<T, 3> padded = eh::unpack(x, sequences);
  for (Index b = 0; b < 5; ++b)
    for (Index t = sequences.length(b); t < 70; ++t)
      for (Index e = 0; e < kSize; ++e) padded(b, t, e) = kNan<T>;
  const auto grad_y = random_tensor<T>(2, sequences.rows(), kSize);
  for (const RotaryLayout layout : kLayouts)
    for (const bool gated : {false, true}) {
      auto layer = layer_of<T>(layout, 70);
      if (gated) layer.set_gates(std::vector<T>{T(1), T(0), T(0.5), T(2)});
      for (const Causal causal : {Causal::none, Causal::top_left, Causal::bottom_right})
        for (const int threads : {1, 3}) {
          Context context(threads, kAnyWork);
          const Tensor<T, 2> y = layer(x, sequences, Mask{.causal = causal}, context);
          const Mask mask{.causal = causal, .query_lens = lens, .key_lens = lens};
          EXPECT_TRUE(
              same_bits(eh::pack(layer(padded, padded, padded, mask, context), sequences), y));
          for (Index b = 0; b < 5; ++b) {
            const TensorView<T, 2> one(x.data() + sequences.begin(b) * kSize,
                                       {sequences.length(b), kSize});
            const TensorView<T, 2> of_one(y.data() + sequences.begin(b) * kSize,
                                          {sequences.length(b), kSize});
            EXPECT_TRUE(same_bits(
                layer(one, Sequences{sequences.length(b)}, Mask{.causal = causal}, context),
                of_one));
          }
          EXPECT_TRUE(same_bits(
              layer.with_weights(x, sequences, Mask{.causal = causal}, context).output, y));
          typename MultiHeadAttention<T>::Activations saved, of_padded;
          (void)layer.forward(x, sequences, Mask{.causal = causal}, saved, context);
          const auto gradients = layer.backward(grad_y, saved, context);
          (void)layer.forward(padded, padded, padded, mask, of_padded, context);
          const auto others = layer.backward(eh::unpack(grad_y, sequences), of_padded, context);
          const TensorView<T, 2> rows(gradients.queries.data(), {sequences.rows(), kSize});
          EXPECT_TRUE(same_bits(eh::pack(others.queries, sequences), rows));
          EXPECT_TRUE(same_bits(others.W_q.weight, gradients.W_q.weight));
          EXPECT_TRUE(same_bits(others.W_k.weight, gradients.W_k.weight));
        }
    }
}

// New tokens of packed sequences stand where the mask places them, each sequence's by itself; and a
// causal pass over all of a sequence has their bits.
TYPED_TEST(RotaryLayer, TokensThatGoOnHaveTheBitsOfTheWholeSequence) {
  using T = TypeParam;
  const Sequences news{3, 0, 1, 40}, all{20, 4, 1, 300};
  const auto keys = random_tensor<T>(1, all.rows(), kSize);
  Tensor<T, 2> queries(news.rows(), kSize);
  std::vector<Index> first;
  for (Index b = 0; b < 4; ++b) {
    first.push_back(all.length(b) - news.length(b));
    std::copy_n(keys.data() + (all.begin(b) + first.back()) * kSize, news.length(b) * kSize,
                queries.data() + news.begin(b) * kSize);
  }
  for (const RotaryLayout layout : kLayouts) {
    const auto layer = layer_of<T>(layout, 300);
    const Tensor<T, 2> whole = layer(keys, all, {.causal = Causal::top_left});
    for (const Mask& mask : {Mask{.causal = Causal::bottom_right},
                             Mask{.causal = Causal::top_left, .first_positions = first}})
      for (const int threads : {1, 3}) {
        Context context(threads, kAnyWork);
        const Tensor<T, 2> y = layer(queries, news, keys, keys, all, mask, context);
        for (Index b = 0; b < 4; ++b) {
          const std::array shape{news.length(b), kSize};
          const Index at = all.begin(b) + first[static_cast<std::size_t>(b)];
          EXPECT_TRUE(same_bits(TensorView<T, 2>(y.data() + news.begin(b) * kSize, shape),
                                TensorView<T, 2>(whole.data() + at * kSize, shape)))
              << b;
        }
      }
  }
}

// Keys are turned before they enter the cache, and stay as they are.
TYPED_TEST(RotaryLayer, StepsThroughACacheHaveTheBitsOfTheWholeCall) {
  using T = TypeParam;
  const Index tokens = 140;
  const auto x = random_tensor<T>(1, 2, tokens, kSize);
  for (const RotaryLayout layout : kLayouts)
    for (const Index window : {0, 9}) {
      const auto layer = layer_of<T>(layout, tokens);
      const Tensor<T, 3> whole =
          layer(x, x, x, {.causal = Causal::top_left, .window = {.left = window - 1}});
      for (const int threads : {1, 3}) {
        Context context(threads, kAnyWork);
        eh::KvCache<T> cache({.batch_size = 2,
                              .num_kv_heads = 2,
                              .head_size = 10,
                              .capacity = window > 0 ? window : 2 * tokens,
                              .window = window});
        // Sequence 1 lags behind: packed steps, of different numbers of tokens.
        std::array<Index, 2> at{};
        for (Index i = 0; at[1] < tokens; ++i) {
          std::array<Index, 2> counts{};
          for (std::size_t b = 0; b < 2; ++b)
            counts[b] = std::min(
                tokens - at[b],
                std::array<Index, 5>{1, 30, 2, 7, 0}[(static_cast<std::size_t>(i) + 2 * b) % 5]);
          const Sequences news{counts[0], counts[1]};
          Tensor<T, 2> rows(news.rows(), kSize);
          for (Index b = 0; b < 2; ++b)
            std::copy_n(&x.data()[(b * tokens + at[static_cast<std::size_t>(b)]) * kSize],
                        news.length(b) * kSize, rows.data() + news.begin(b) * kSize);
          const Tensor<T, 2> y = layer.step(rows, news, cache, {}, context);
          for (Index b = 0; b < 2; ++b) {
            const std::array shape{news.length(b), kSize};
            const Index row = b * tokens + at[static_cast<std::size_t>(b)];
            ASSERT_TRUE(same_bits(TensorView<T, 2>(y.data() + news.begin(b) * kSize, shape),
                                  TensorView<T, 2>(whole.data() + row * kSize, shape)))
                << b << " at " << at[static_cast<std::size_t>(b)];
            at[static_cast<std::size_t>(b)] += news.length(b);
          }
        }
        // T2.03: one new token, far along.
        EXPECT_EQ(
            refusal([&] { return layer.step(random_tensor<T>(2, 2, 1, kSize), cache); }),
            "eigenheads: Rotary: the tokens of sequence 0 reach position 140; expected positions "
            "below 140, max_positions");
        EXPECT_EQ(cache.length(0), tokens);
      }
    }
}

TYPED_TEST(RotaryLayer, APrunedLayerHasTheBitsOfClosedGates) {
  using T = TypeParam;
  auto layer = layer_of<T>(RotaryLayout::half_split);
  const auto x = random_tensor<T>(1, 2, 9, kSize);
  const Mask mask{.causal = Causal::top_left};
  const auto pruned = eh::prune_heads(layer, {0, 1, 2});
  EXPECT_EQ(pruned.rotary(), layer.rotary());
  layer.set_gates(std::vector<T>{T(0), T(0), T(0), T(1)});
  EXPECT_TRUE(same_bits(pruned(x, x, x, mask), layer(x, x, x, mask)));
  Tensor<T, 2> gates(2, 4);  // a sequence without heads, which is not projected either
  gates.setValues({{0, 0, 0, 0}, {0, T(3), 0, 0}});
  layer.set_gates(gates);
  EXPECT_TRUE(same_bits(layer(x, x, x, mask), layer.with_weights(x, x, x, mask).output));
}

// T2.01: the rows of W_q and W_k, and their biases, change places; those of W_v do not.
TYPED_TEST(RotaryLayer, LayoutsDifferByAPermutationOfRows) {
  using T = TypeParam;
  const auto split = layer_of<T>(RotaryLayout::half_split);
  auto woven = layer_of<T>(RotaryLayout::interleaved);
  const auto permute = [](const eh::Linear<T>& from, eh::Linear<T>& to, Index heads) {
    Tensor<T, 2> weight = from.weight();
    Tensor<T, 1> bias = from.bias();
    for (Index h = 0; h < heads; ++h)
      for (Index i = 0; i < 3; ++i)
        for (const Index second : {0, 1}) {
          const Index row = h * 10 + second * 3 + i, place = h * 10 + 2 * i + second;
          for (Index e = 0; e < kSize; ++e) weight(place, e) = from.weight()(row, e);
          bias(place) = from.bias()(row);
        }
    to.set_weight(weight);
    to.set_bias(bias);
  };
  permute(split.W_q, woven.W_q, 4);
  permute(split.W_k, woven.W_k, 2);
  const auto x = random_tensor<T>(1, 2, 9, kSize);
  const Tensor<T, 3> a = split(x, x, x), b = woven(x, x, x);
  for (Index i = 0; i < a.size(); ++i)
    ASSERT_NEAR(a.data()[i], b.data()[i], 100 * Limits<T>::epsilon());
}

// T2.03: also few new tokens that stand far along.
TYPED_TEST(RotaryLayer, APositionBeyondTheTableIsRefusedBeforeAnythingIsWritten) {
  using T = TypeParam;
  const auto layer = layer_of<T>(RotaryLayout::half_split, 8);
  const auto x = random_tensor<T>(1, 2, 2, kSize), m = random_tensor<T>(2, 2, 9, kSize);
  auto y = constant_tensor<T>(T(7), 2, 2, kSize);
  const auto refused = [&](const Mask& mask) {
    return refusal([&] { layer.forward_into(y, x, m, m, mask); });
  };
  const std::string end = " reach position 8; expected positions below 8, max_positions";
  EXPECT_EQ(refused({}), "eigenheads: Rotary: the keys of sequence 0" + end);
  EXPECT_EQ(refused({.valid_lens = {8, 9}}), "eigenheads: Rotary: the keys of sequence 1" + end);
  EXPECT_EQ(refused({.valid_lens = {8, 8}, .first_positions = {6, 7}}),
            "eigenheads: Rotary: the queries of sequence 1" + end);
  EXPECT_EQ(refused({.causal = Causal::bottom_right}),
            "eigenheads: Rotary: the queries of sequence 0" + end);
  EXPECT_TRUE(all_are(y, T(7)));
  EXPECT_EQ(refused({.valid_lens = {8, 8}, .first_positions = {6, 6}}), "not refused");
  EXPECT_EQ(refused({.valid_lens = {8, 8}, .query_lens = {2, 1}, .first_positions = {6, 7}}),
            "not refused");  // what is padding has no position
  EXPECT_EQ(refusal([&] { return eh::explain(layer, x, m); }),
            "eigenheads: Rotary: the keys of sequence 0" + end);
}

TEST(RotaryLayerOptions, AreCheckedAndPrinted) {
  const auto refused = [](const RotaryOptions& rotary) {
    return refusal([&] { return MultiHeadAttention<float>(options_of(rotary)); });
  };
  EXPECT_EQ(
      refused({.head_size = 8}),
      "eigenheads: MultiHeadAttention: rotary.head_size is 8; expected that of the layer, 10, or "
      "0");
  EXPECT_EQ(refused({.head_size = 10, .rotated = 7}),
            "eigenheads: Rotary: rotated is 7; expected an even number from 2 to head_size, 10");
  std::ostringstream with, without;
  with << layer_of<float>(RotaryLayout::half_split, 9);
  EXPECT_NE(with.str().find("\n  (rotary): Rotary(head_size=10, rotated=6, base=10000, "
                            "max_positions=9, layout=half_split, scaling=none)\n)"),
            std::string::npos)
      << with.str();
  auto options = options_of({});
  options.rotary.reset();
  without << MultiHeadAttention<float>(options);
  EXPECT_EQ(without.str().find("otary"), std::string::npos);
  EXPECT_EQ(MultiHeadAttention<float>(options).rotary(), nullptr);
}

// ---- Gradients against central differences -------------------------------------------------------

using Layer = MultiHeadAttention<double>;

// Of sum(y * grad_y), for every number of the inputs and of what is learnt.
void check_gradients(Layer layer, Index Q, Index K, const Mask& mask) {
  SCOPED_TRACE(testing::Message() << Q << " x " << K);
  auto x = random_tensor<double>(1, 2, Q, kSize), m = random_tensor<double>(2, 2, K, kSize);
  const auto values = random_tensor<double>(3, 2, K, kSize);
  const auto grad_y = random_tensor<double>(4, 2, Q, kSize);
  const auto loss = [&] {
    Layer::Activations unused;
    const auto y = layer.forward(x, m, values, mask, unused);
    double sum = 0;
    for (Index i = 0; i < y.size(); ++i) sum += y.data()[i] * grad_y.data()[i];
    return sum;
  };
  const auto expect_slope = [&](double gradient, double value, const auto& set) {
    const double h = 0x1p-17;
    set(value + h);
    const double above = loss();
    set(value - h);
    const double below = loss();
    set(value);
    ASSERT_NEAR(gradient, (above - below) / (2 * h), 1e-7);
  };
  Layer::Activations saved;
  (void)layer.forward(x, m, values, mask, saved);
  const auto gradients = layer.backward(grad_y, saved);
  for (const auto& [input, gradient] :
       {std::pair{&x, &gradients.queries}, std::pair{&m, &gradients.keys}})
    for (Index i = 0; i < input->size(); i += 7)
      expect_slope(gradient->data()[i], input->data()[i],
                   [&, to = input->data() + i](double value) { *to = value; });
  for (const auto& [linear, gradient] :
       {std::pair{&layer.W_q, &gradients.W_q}, std::pair{&layer.W_k, &gradients.W_k}}) {
    const auto weight = linear->weight();
    for (Index i = 0; i < weight.size(); i += 41)
      expect_slope(gradient->weight.data()[i], weight.data()[i], [&, to = linear](double value) {
        Tensor<double, 2> changed = weight;
        changed.data()[i] = value;
        to->set_weight(changed);
      });
    const Tensor<double, 1> bias = linear->bias();
    for (Index i = 0; i < bias.size(); i += 3)
      expect_slope(gradient->bias.data()[i], bias.data()[i], [&, to = linear](double value) {
        Tensor<double, 1> changed = bias;
        changed.data()[i] = value;
        to->set_bias(changed);
      });
  }
}

TEST(RotaryLayerBackward, GradientsAreThoseOfDifferences) {
  for (const RotaryLayout layout : kLayouts) {
    auto layer = layer_of<double>(layout);
    check_gradients(layer, 5, 7, {.causal = Causal::bottom_right});
    check_gradients(layer, 7, 5, {.causal = Causal::bottom_right});
    check_gradients(layer, 4, 6, {.query_lens = {2, 4}, .first_positions = {3, 500}});
    check_gradients(eh::prune_heads(layer, {1}), 3, 4, {});
    layer.set_gates(std::vector<double>{1, 0, 0.5, 2});
    check_gradients(layer, 3, 4, {.valid_lens = {2, 4}});
  }
  // Cosines and sines that are multiplied by a factor.
  const Layer yarn = make_layer<double>(
      kSize, options_of({.scaling = eh::YarnScaling{.factor = 4, .original_positions = 64}}));
  check_gradients(yarn, 3, 4, {.first_positions = {100, 0}});
}

// ---- Memory ----------------------------------------------------------------------------------------

TYPED_TEST(RotaryLayer, AWarmCallAllocatesNothingAndTakesNoLock) {
  using T = TypeParam;
  for (const RotaryLayout layout : kLayouts)
    for (const int threads : {1, 2}) {
      const auto layer = layer_of<T>(layout);
      const Sequences sequences{40, 0, 30};
      const auto x = random_tensor<T>(1, 2, 70, kSize);
      const auto rows = random_tensor<T>(2, 70, kSize);
      auto y = random_tensor<T>(3, 2, 70, kSize);
      auto of_rows = random_tensor<T>(4, 70, kSize);
      auto turned = random_tensor<T>(5, 2, 3, 30, 10);
      const Mask mask{.causal = Causal::top_left, .first_positions = {0, 9}}, packed{};
      const std::vector<Index> first{0, 9};
      const eh::ValidLens first_positions(first);
      Context context(threads, kAnyWork);
      std::atomic<int> here{0};
      context.parallel_for(threads, [&](Index) {  // a thread allocates when it starts
        ++here;
        while (here < threads) std::this_thread::yield();
      });
      const auto call = [&] {
        layer.forward_into(y, x, x, x, mask, context);
        layer.forward_into(of_rows, rows, sequences, packed, context);
        layer.rotary()->forward_into(turned, turned, first_positions, context);
      };
      for (int warm = 0; warm < 3; ++warm) call();
      for (int repeat = 0; repeat < 5; ++repeat) {
        const Counted seen = counted(call);
        ASSERT_EQ(seen.allocations, 0) << seen.bytes << " bytes";
        ASSERT_TRUE(seen.locks == 0 || threads > 1) << seen.locks;
      }
    }
}

}  // namespace
