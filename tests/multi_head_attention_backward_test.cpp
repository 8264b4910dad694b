// SPDX-License-Identifier: MIT
// Training: gradients against finite differences, their bits on any number of threads, and what a
// mask hides is not observable in them.
#include <algorithm>
#include <array>
#include <cmath>
#include <gtest/gtest.h>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <eigenheads/head_importance.hpp>
#include <eigenheads/multi_head_attention.hpp>

#include "layers.hpp"
#include "support.hpp"

namespace {

using namespace support;
using eh::Causal;
using eh::Context;
using eh::Mask;
using Layer = eh::MultiHeadAttention<double>;

constexpr eh::DropoutSeed kSeed{77};

struct Case {
  std::string name;
  eh::MultiHeadAttentionOptions options;
  Index B, Q, K;
  Mask mask;
};

[[nodiscard]] eh::Tensor<bool, 4> holes(Index B, Index H, Index Q, Index K) {
  eh::Tensor<bool, 4> allowed(B, H, Q, K);
  Numbers numbers(5);
  for (Index i = 0; i < allowed.size(); ++i) allowed.data()[i] = numbers.next() % 3 != 0;
  return allowed;
}

[[nodiscard]] std::vector<Case> cases() {
  const auto layer = [](Index E, Index H, Index G, bool bias) {
    return eh::MultiHeadAttentionOptions{.num_hiddens = E,
                                         .num_heads = H,
                                         .bias = bias,
                                         .query_size = E,
                                         .key_size = E + 1,
                                         .value_size = E + 2,
                                         .num_kv_heads = G};
  };
  const auto dropping = [](eh::MultiHeadAttentionOptions options) {
    options.dropout = 0.3;
    return options;
  };
  return {
      {"NoMask", layer(6, 2, 2, true), 2, 3, 4, {}},
      {"Lengths", layer(6, 3, 3, false), 3, 4, 5, {.valid_lens = {3, 0, 5}}},
      {"LengthsAQuery", layer(4, 2, 2, true), 2, 3, 5, {.valid_lens = {{1, 0, 5}, {2, 2, 4}}}},
      {"Causal", layer(6, 2, 1, true), 2, 5, 5, {.causal = Causal::top_left}},
      {"CausalMoreQueries", layer(4, 2, 2, false), 1, 7, 4, {.causal = Causal::bottom_right}},
      {"Window", layer(4, 2, 2, false), 1, 6, 6, {.window = {1, 2}}},
      {"Grouped", layer(8, 4, 2, true), 2, 3, 4, {.valid_lens = {4, 2}}},
      {"MultiQuery", layer(6, 6, 1, false), 2, 3, 4, {}},
      {"QueryLens", layer(6, 2, 2, true), 2, 4, 5, {.valid_lens = {5, 3}, .query_lens = {2, 4}}},
      {"Allowed", layer(6, 2, 2, true), 2, 4, 9, {.allowed = holes(2, 2, 4, 9)}},
      {"ManyBlocks", layer(4, 2, 1, true), 1, 131, 100, {.causal = Causal::bottom_right}},
      {"Dropout", dropping(layer(6, 2, 1, true)), 2, 5, 7, {.valid_lens = {7, 3}}},
      {"DropoutOfBlocks",
       dropping(layer(4, 2, 2, false)),
       1,
       40,
       300,
       {.allowed = holes(1, 1, 40, 300)}},
  };
}

class Backward : public testing::TestWithParam<Case> {
 protected:
  Backward()
      : layer(GetParam().options, 3),
        queries(random_tensor<double>(1, GetParam().B, GetParam().Q, layer.W_q.in_features())),
        keys(random_tensor<double>(2, GetParam().B, GetParam().K, layer.W_k.in_features())),
        values(random_tensor<double>(3, GetParam().B, GetParam().K, layer.W_v.in_features())),
        grad_output(random_tensor<double>(4, GetParam().B, GetParam().Q, layer.num_hiddens())) {
    set_random_biases(layer, 11);
  }

  // sum(output * grad_output): its gradients are what backward gives.
  [[nodiscard]] double loss() const {
    Layer::Activations unused;
    const auto output =
        layer.forward(queries, keys, values, GetParam().mask, unused, {.seed = kSeed});
    double sum = 0;
    for (Index i = 0; i < output.size(); ++i) sum += output.data()[i] * grad_output.data()[i];
    return sum;
  }
  // (loss(x + h) - loss(x - h)) / 2h for a number that set(value) changes.
  template <class Set>
  [[nodiscard]] double slope(double x, const Set& set) {
    const double h = 0x1p-17;
    set(x + h);
    const double above = loss();
    set(x - h);
    const double below = loss();
    set(x);
    return (above - below) / (2 * h);
  }
  // The error of a central difference: h^2 times a third derivative, and roundings over h.
  static constexpr double kBound = 3e-8;

  template <class X>
  void expect_slopes(X& x, const X& gradient, const char* name) {
    ASSERT_EQ(x.size(), gradient.size()) << name;
    const Index step = std::max<Index>(1, x.size() / 60);
    for (Index i = 0; i < x.size(); i += step) {
      const double value = x.data()[i];
      EXPECT_NEAR(slope(value, [&](double to) { x.data()[i] = to; }), gradient.data()[i], kBound)
          << name << '[' << i << ']';
    }
  }
  void expect_slopes(eh::Linear<double>& linear, const eh::LinearGradients<double>& gradient,
                     const char* name) {
    auto weight = linear.weight();
    ASSERT_EQ(weight.dimensions(), gradient.weight.dimensions()) << name;
    for (Index i = 0; i < weight.size(); ++i) {
      const double value = weight.data()[i];
      EXPECT_NEAR(slope(value,
                        [&](double to) {
                          weight.data()[i] = to;
                          linear.set_weight(weight);
                        }),
                  gradient.weight.data()[i], kBound)
          << name << ".weight[" << i << ']';
    }
    if (!linear.has_bias()) return;
    auto bias = linear.bias();
    for (Index i = 0; i < bias.size(); ++i) {
      const double value = bias(i);
      EXPECT_NEAR(slope(value,
                        [&](double to) {
                          bias(i) = to;
                          linear.set_bias(bias);
                        }),
                  gradient.bias(i), kBound)
          << name << ".bias[" << i << ']';
    }
  }

  Layer layer;
  eh::Tensor<double, 3> queries, keys, values, grad_output;
};

TEST_P(Backward, GivesTheSlopesOfTheLoss) {
  Layer::Activations saved;
  layer.forward(queries, keys, values, GetParam().mask, saved, {.seed = kSeed});
  const auto gradients = layer.backward(grad_output, saved);
  expect_slopes(queries, gradients.queries, "queries");
  expect_slopes(keys, gradients.keys, "keys");
  expect_slopes(values, gradients.values, "values");
  expect_slopes(layer.W_q, gradients.W_q, "W_q");
  expect_slopes(layer.W_k, gradients.W_k, "W_k");
  expect_slopes(layer.W_v, gradients.W_v, "W_v");
  expect_slopes(layer.W_o, gradients.W_o, "W_o");
}

TEST_P(Backward, GivesTheSlopesOfGatesAndThroughThem) {
  const Index B = GetParam().B, H = layer.num_heads();
  auto gates = random_tensor<double>(21, B, H);
  gates(0, 0) = 0;
  layer.set_gates(gates);
  Layer::Activations saved;
  layer.forward(queries, keys, values, GetParam().mask, saved, {.seed = kSeed});
  const auto gradients = layer.backward(grad_output, saved);
  expect_slopes(queries, gradients.queries, "queries");
  expect_slopes(values, gradients.values, "values");
  expect_slopes(layer.W_k, gradients.W_k, "W_k");
  expect_slopes(layer.W_o, gradients.W_o, "W_o");
  ASSERT_EQ(gradients.gates.dimensions(), gates.dimensions());
  for (Index i = 0; i < gates.size(); ++i) {
    const double gate = gates.data()[i];
    EXPECT_NEAR(slope(gate,
                      [&](double to) {
                        gates.data()[i] = to;
                        layer.set_gates(gates);
                      }),
                gradients.gates.data()[i], kBound)
        << "gate " << i;
  }
}

// The same layer and inputs, all rounded to float, in float and in double, whose gradients are the
// slopes of the loss. Terms are off by a few roundings each, and so are their sums, measured by the
// largest gradient of the tensor; that of a bias by its weight's too, as terms of that size cancel in
// the gradient of a key's bias, which is 0.
TEST_P(Backward, OfFloatIsThatOfDouble) {
  const auto narrow = [](const auto& x) {
    Tensor<float, eh::rank_of<std::remove_cvref_t<decltype(x)>>> to(x.dimensions());
    for (Index i = 0; i < x.size(); ++i) to.data()[i] = static_cast<float>(x.data()[i]);
    return to;
  };
  const auto rounded = [&](const auto& x) {
    auto to = x;
    for (Index i = 0; i < x.size(); ++i)
      to.data()[i] = static_cast<double>(static_cast<float>(x.data()[i]));
    return to;
  };
  eh::MultiHeadAttention<float> in_float(GetParam().options);
  for (const auto& [to, from] : {std::pair{&in_float.W_q, &layer.W_q},
                                 {&in_float.W_k, &layer.W_k},
                                 {&in_float.W_v, &layer.W_v},
                                 {&in_float.W_o, &layer.W_o}}) {
    from->set_weight(rounded(from->weight()));
    to->set_weight(narrow(from->weight()));
    if (!from->has_bias()) continue;
    from->set_bias(rounded(from->bias()));
    to->set_bias(narrow(from->bias()));
  }
  for (auto* x : {&queries, &keys, &values, &grad_output}) *x = rounded(*x);
  const Mask& mask = GetParam().mask;
  Layer::Activations saved;
  layer.forward(queries, keys, values, mask, saved, {.seed = kSeed});
  const auto exact = layer.backward(grad_output, saved);
  eh::MultiHeadAttention<float>::Activations saved_float;
  in_float.forward(narrow(queries), narrow(keys), narrow(values), mask, saved_float,
                   {.seed = kSeed});
  const auto got = in_float.backward(narrow(grad_output), saved_float);

  const auto largest = [](const auto& x) {
    double most = 0;
    for (Index i = 0; i < x.size(); ++i) most = std::max(most, std::abs(x.data()[i]));
    return most;
  };
  const auto expect_near = [&](const auto& x, const auto& y, const char* name, double size = 0) {
    ASSERT_EQ(x.size(), y.size()) << name;
    const double bound =
        16 * static_cast<double>(Limits<float>::epsilon()) * std::max(size, largest(y));
    for (Index i = 0; i < x.size(); ++i)
      ASSERT_NEAR(static_cast<double>(x.data()[i]), y.data()[i], bound) << name << '[' << i << ']';
  };
  expect_near(got.queries, exact.queries, "queries");
  expect_near(got.keys, exact.keys, "keys");
  expect_near(got.values, exact.values, "values");
  expect_near(got.gates, exact.gates, "gates");
  const auto expect_linear = [&](const auto& x, const auto& y, const char* name) {
    expect_near(x.weight, y.weight, name);
    expect_near(x.bias, y.bias, name, largest(y.weight));
  };
  expect_linear(got.W_q, exact.W_q, "W_q");
  expect_linear(got.W_k, exact.W_k, "W_k");
  expect_linear(got.W_v, exact.W_v, "W_v");
  expect_linear(got.W_o, exact.W_o, "W_o");
}

[[nodiscard]] testing::AssertionResult same_gradients(const Layer::Gradients& a,
                                                      const Layer::Gradients& b) {
  for (const auto& [x, y] :
       {std::pair{&a.queries, &b.queries}, {&a.keys, &b.keys}, {&a.values, &b.values}})
    if (auto same = same_bits(*x, *y); !same) return same;
  for (const auto& [x, y] :
       {std::pair{&a.W_q, &b.W_q}, {&a.W_k, &b.W_k}, {&a.W_v, &b.W_v}, {&a.W_o, &b.W_o}}) {
    if (auto same = same_bits(x->weight, y->weight); !same) return same;
    if (auto same = same_bits(x->bias, y->bias); !same) return same;
  }
  return testing::AssertionSuccess();
}

TEST_P(Backward, GivesTheSameBitsOnAnyNumberOfThreads) {
  Layer::Activations saved;
  layer.forward(queries, keys, values, GetParam().mask, saved, {.seed = kSeed});
  const auto expected = layer.backward(grad_output, saved);
  for (const int threads : {2, 3}) {
    Context context(threads, kAnyWork);
    Layer::Activations again;
    layer.forward(queries, keys, values, GetParam().mask, again,
                  {.seed = kSeed, .context = context});
    EXPECT_TRUE(same_gradients(layer.backward(grad_output, again, context), expected));
  }
}

TEST_P(Backward, AddsToGradientsTwiceAsItDoesOnce) {
  Layer::Activations saved;
  layer.forward(queries, keys, values, GetParam().mask, saved, {.seed = kSeed});
  auto once = layer.backward(grad_output, saved), twice = once;
  layer.backward_into(twice, grad_output, saved, true);
  const auto doubled = [](auto& x) {
    for (Index i = 0; i < x.size(); ++i) x.data()[i] *= 2;
  };
  doubled(once.queries);
  doubled(once.keys);
  doubled(once.values);
  for (auto* linear : {&once.W_q, &once.W_k, &once.W_v, &once.W_o}) {
    doubled(linear->weight);
    doubled(linear->bias);
  }
  EXPECT_TRUE(same_gradients(twice, once));
}

INSTANTIATE_TEST_SUITE_P(Cases, Backward, testing::ValuesIn(cases()),
                         [](const auto& instance) { return instance.param.name; });

// C1 and C2, backward: what is hidden may be NaN, and gets a gradient of exactly 0.
TEST(BackwardMasks, HiddenKeysAreAbsent) {
  const Layer layer({.num_hiddens = 8,
                     .num_heads = 2,
                     .bias = true,
                     .query_size = 8,
                     .key_size = 8,
                     .value_size = 8});
  const Index B = 3, Q = 5, K = 7;
  eh::Tensor<bool, 4> allowed(1, 1, Q, K);  // nobody sees key 2
  for (Index q = 0; q < Q; ++q)
    for (Index k = 0; k < K; ++k) allowed(0, 0, q, k) = k != 2 && (q + k) % 4 != 0;
  const Mask mask{.valid_lens = {6, 0, 4}, .query_lens = {5, 5, 3}, .allowed = allowed};
  auto queries = random_tensor<double>(1, B, Q, 8), keys = random_tensor<double>(2, B, K, 8),
       values = random_tensor<double>(3, B, K, 8);
  const auto grad_output = random_tensor<double>(4, B, Q, 8);
  Layer::Activations saved;
  layer.forward(queries, keys, values, mask, saved);
  const auto expected = layer.backward(grad_output, saved);

  const double nan = std::numeric_limits<double>::quiet_NaN();
  const std::vector<Index> lens{6, 0, 4};
  const auto is_hidden = [&](Index b, Index k) {
    return k == 2 || k >= lens[static_cast<std::size_t>(b)];
  };
  for (Index b = 0; b < B; ++b) {
    for (Index k = 0; k < K; ++k)
      for (Index e = 0; e < 8; ++e)
        if (is_hidden(b, k)) keys(b, k, e) = values(b, k, e) = nan;
    for (Index q = b == 2 ? 3 : Q; q < Q; ++q)
      for (Index e = 0; e < 8; ++e) queries(b, q, e) = nan;
  }
  Layer::Activations again;
  layer.forward(queries, keys, values, mask, again);
  const auto gradients = layer.backward(grad_output, again);
  EXPECT_TRUE(same_gradients(gradients, expected));
  for (Index b = 0; b < B; ++b) {
    for (Index k = 0; k < K; ++k)
      for (Index e = 0; e < 8; ++e)
        if (is_hidden(b, k)) {
          EXPECT_EQ(gradients.keys(b, k, e), 0);
          EXPECT_EQ(gradients.values(b, k, e), 0);
        }
    for (Index q = 0; q < Q; ++q)
      for (Index e = 0; e < 8; ++e)
        if (b == 1 || (b == 2 && q >= 3)) {
          EXPECT_EQ(gradients.queries(b, q, e), 0);
        }
  }
}

// The same step by other means: attention weights times dropout_mask.
TEST(BackwardDropout, IsThatOfDropoutMask) {
  const Index B = 2, H = 2, Q = 9, K = 270, D = 4;
  const double p = 0.25;
  eh::MultiHeadAttention<double> layer({.num_hiddens = H * D,
                                        .num_heads = H,
                                        .dropout = p,
                                        .query_size = 8,
                                        .key_size = 8,
                                        .value_size = 8});
  const auto x = random_tensor<double>(1, B, Q, 8), y = random_tensor<double>(2, B, K, 8);
  const Mask mask{.valid_lens = {270, 19}};
  Layer::Activations saved;
  const auto output = layer.forward(x, y, y, mask, saved, {.seed = kSeed});
  auto weights = layer.with_weights(x, y, y, mask).weights;
  const auto factors = eh::dropout_mask<double>(p, kSeed, B, H, Q, K);
  const auto values = layer.W_v(y);
  eh::Tensor<double, 3> heads(B, Q, H * D);
  heads.setZero();
  for (Index b = 0; b < B; ++b)
    for (Index h = 0; h < H; ++h)
      for (Index q = 0; q < Q; ++q)
        for (Index k = 0; k < K; ++k)
          for (Index d = 0; d < D; ++d)
            heads(b, q, h * D + d) +=
                weights(b, h, q, k) * factors(b, h, q, k) * values(b, k, h * D + d);
  const auto expected = layer.W_o(heads);
  for (Index i = 0; i < output.size(); ++i)
    EXPECT_NEAR(output.data()[i], expected.data()[i], 1e-14);
  EXPECT_EQ(refusal<std::invalid_argument>([&] { return layer.forward(x, y, y, mask, saved); }),
            "eigenheads: MultiHeadAttention: dropout is 0.25; expected a DropoutSeed, {.seed = "
            "...}, after the activations");
}

TEST(BackwardCalls, RefusesWhatDoesNotFit) {
  const Layer layer(
      {.num_hiddens = 8, .num_heads = 2, .query_size = 8, .key_size = 8, .value_size = 8});
  const auto x = random_tensor<double>(1, 2, 3, 8);
  Layer::Activations saved;
  EXPECT_FALSE(saved.is_saved());
  EXPECT_EQ(refusal<std::logic_error>([&] { return layer.backward(x, saved); }),
            "eigenheads: MultiHeadAttention: backward needs the activations of a forward call");
  layer.forward(x, x, x, {}, saved);
  EXPECT_TRUE(saved.is_saved());
  EXPECT_EQ(
      refusal<std::invalid_argument>(
          [&] { return layer.backward(random_tensor<double>(1, 2, 4, 8), saved); }),
      "eigenheads: grad_output has shape [2, 4, 8]; expected [B, Q, num_hiddens] = [2, 3, 8]");
  const Layer other(
      {.num_hiddens = 8, .num_heads = 4, .query_size = 8, .key_size = 8, .value_size = 8});
  EXPECT_EQ(refusal<std::logic_error>([&] { return other.backward(x, saved); }),
            "eigenheads: MultiHeadAttention: the activations are those of a layer of other sizes "
            "or heads");
  Layer::Gradients empty;
  EXPECT_EQ(
      refusal<std::invalid_argument>([&] {
        layer.backward_into(empty, x, saved, true);
        return 0;
      }),
      "eigenheads: gradients.queries has shape [0, 0, 0]; expected [B, Q, query_size] = [2, 3, 8]");
}

// Nothing to learn from is not nothing saved.
TEST(BackwardCalls, ACallWithoutSequencesOrQueriesIsSavedToo) {
  const Layer layer(
      {.num_hiddens = 8, .num_heads = 2, .query_size = 8, .key_size = 8, .value_size = 8});
  for (const auto& [B, Q, K] : {std::array<Index, 3>{0, 3, 3}, {2, 0, 3}, {2, 3, 0}}) {
    Layer::Activations saved;
    const auto x = random_tensor<double>(1, B, Q, 8), y = random_tensor<double>(2, B, K, 8);
    layer.forward(x, y, y, {}, saved);
    EXPECT_TRUE(saved.is_saved());
    const auto gradients = layer.backward(x, saved);
    EXPECT_TRUE(all_are(gradients.queries, 0.0) && all_are(gradients.keys, 0.0));
    EXPECT_TRUE(all_are(gradients.W_q.weight, 0.0) && all_are(gradients.W_v.weight, 0.0));
  }
}

TEST(BackwardCalls, ALazyLayerTakesItsSizesFromForward) {
  Layer lazy({.num_hiddens = 8, .num_heads = 2}, 5);
  const Layer eager(
      {.num_hiddens = 8, .num_heads = 2, .query_size = 4, .key_size = 5, .value_size = 6}, 5);
  const auto q = random_tensor<double>(1, 2, 3, 4), k = random_tensor<double>(2, 2, 3, 5),
             v = random_tensor<double>(3, 2, 3, 6);
  Layer::Activations a, b;
  EXPECT_TRUE(same_bits(lazy.forward(q, k, v, {}, a), eager.forward(q, k, v, {}, b)));
  EXPECT_TRUE(same_gradients(lazy.backward(random_tensor<double>(4, 2, 3, 8), a),
                             eager.backward(random_tensor<double>(4, 2, 3, 8), b)));
}

// A function that counts its copies, and that forgets what it does when it is gone.
struct Mortal {
  explicit Mortal(double rate) : rate_(rate) { ++alive; }
  Mortal(const Mortal& other) : rate_(other.rate_) { ++alive; }
  Mortal& operator=(const Mortal&) = delete;
  ~Mortal() {
    rate_ = std::numeric_limits<double>::quiet_NaN();
    --alive;
  }
  double operator()(double score, eh::ScorePosition) const { return rate_ * score; }
  double derivative(double, eh::ScorePosition) const { return rate_; }

  double rate_;
  static inline int alive = 0;
};

TEST(BackwardScores, TheActivationsKeepACopyOfTheScoreFunction) {
  const eh::MultiHeadAttention<double> layer(
      {.num_hiddens = 8, .num_heads = 2, .query_size = 5, .key_size = 5, .value_size = 5});
  const auto x = random_tensor<double>(1, 2, 6, 5), dy = random_tensor<double>(2, 2, 6, 8);
  const auto gradients_of = [&](const auto& function) {
    eh::MultiHeadAttention<double>::Activations saved;
    layer.forward(x, x, x, {}, saved, {.score = function});
    auto moved = std::move(saved);
    const auto copied = moved;
    auto gradients = layer.backward(dy, copied);
    eh::HeadImportance<double> importance(layer);
    importance.add(layer, copied);
    EXPECT_GT(importance.measures()[0].entropy, 0);
    return gradients;
  };
  const Mortal function(0.5);
  const auto expected = gradients_of(function);
  eh::MultiHeadAttention<double>::Activations saved;
  layer.forward(x, x, x, {}, saved, {.score = Mortal(0.5)});  // gone when forward returns
  EXPECT_EQ(Mortal::alive, 2);
  EXPECT_TRUE(same_bits(layer.backward(dy, saved).queries, expected.queries));
  layer.forward(x, x, x, {}, saved);
  EXPECT_EQ(Mortal::alive, 1);
}

}  // namespace
