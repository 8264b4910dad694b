// SPDX-License-Identifier: MIT
#include <gtest/gtest.h>
#include <sstream>
#include <string>
#include <vector>

#include <eigenheads/eigenheads.hpp>
#include <eigenheads/train/optim.hpp>

#include "support.hpp"

namespace {

namespace eh = eigenheads;
using eh::Index, eh::Mask, eh::MultiHeadAttention, eh::Tensor;
using support::bits, support::kAnyWork, support::kNan, support::random_tensor, support::refusal,
    support::same_bits;
using Heads = std::vector<Index>;

constexpr Index B = 3, Q = 11, K = 13, E = 24;

// A layer, some of its heads, and a call.
struct Case {
  const char* name;
  Index H, G, D;
  Heads pruned;
  bool bias = true;
  Mask mask{};
};

template <class T>
MultiHeadAttention<T> make_layer(const Case& c, double dropout = 0) {
  MultiHeadAttention<T> layer({.num_hiddens = E,
                               .num_heads = c.H,
                               .dropout = dropout,
                               .bias = c.bias,
                               .query_size = E,
                               .key_size = 20,
                               .value_size = 17,
                               .num_kv_heads = c.G,
                               .head_size = c.D},
                              7);
  if (c.bias) {
    layer.W_q.set_bias(random_tensor<T>(1, c.H * c.D));
    layer.W_k.set_bias(random_tensor<T>(2, c.G * c.D));
    layer.W_v.set_bias(random_tensor<T>(3, c.G * c.D));
    layer.W_o.set_bias(random_tensor<T>(4, E));
  }
  return layer;
}

template <class T>
MultiHeadAttention<T> gated(MultiHeadAttention<T> layer, const Heads& closed) {
  std::vector<T> gates(static_cast<std::size_t>(layer.num_heads()), T(1));
  for (const Index h : closed) gates[static_cast<std::size_t>(h)] = 0;
  layer.set_gates(gates);
  return layer;
}

std::vector<Case> cases() {
  Tensor<bool, 4> holes(1, 6, Q, K);
  for (Index i = 0; i < holes.size(); ++i) holes.data()[i] = i % 3 != 1;
  Case with_holes{"holes of each head", 6, 2, 8, {0, 3}, true, {}};
  with_holes.mask.allowed = holes;
  return {
      {"one of two", 2, 2, 12, {1}, false, {}},
      {"alternate heads", 6, 6, 4, {0, 2, 4}, true, {.valid_lens = {5, 0, 13}}},
      {"wide heads", 4, 4, 40, {2, 0}, true, {.causal = eh::Causal::bottom_right}},
      {"a key/value head of three", 6, 3, 8, {2, 3}, true, {.query_lens = {11, 0, 4}}},
      {"uneven groups", 8, 2, 8, {1, 2, 3, 6}, true, {.causal = eh::Causal::top_left}},
      {"one head is left", 8, 1, 5, {0, 1, 2, 3, 5, 6, 7}, false, {}},
      with_holes,
  };
}

template <class T>
class PruneHeads : public testing::Test {
 protected:
  const Tensor<T, 3> queries = random_tensor<T>(11, B, Q, E), keys = random_tensor<T>(12, B, K, 20),
                     values = random_tensor<T>(13, B, K, 17), dy = random_tensor<T>(14, B, Q, E);
};
TYPED_TEST_SUITE(PruneHeads, support::Scalars, support::ScalarNames);

TYPED_TEST(PruneHeads, GivesTheBitsOfTheGatedLayer) {
  using T = TypeParam;
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    const auto layer = make_layer<T>(c);
    const auto whole = gated(layer, c.pruned);
    const auto pruned = eh::prune_heads(layer, c.pruned);
    const auto expected = whole(this->queries, this->keys, this->values, c.mask);
    EXPECT_TRUE(same_bits(pruned(this->queries, this->keys, this->values, c.mask), expected));
    // With weights, heads that are gated off are computed too: the output must not show it.
    const auto seen = whole.with_weights(this->queries, this->keys, this->values, c.mask);
    EXPECT_TRUE(same_bits(seen.output, expected));
    const auto seen_pruned = pruned.with_weights(this->queries, this->keys, this->values, c.mask);
    EXPECT_TRUE(same_bits(seen_pruned.output, expected));
    for (Index h = 0; h < pruned.num_heads(); ++h)
      for (Index b = 0; b < B; ++b)
        for (Index q = 0; q < Q; ++q)
          EXPECT_TRUE(
              same_bits(support::row(seen_pruned.weights, b, h, q),
                        support::row(seen.weights, b,
                                     pruned.original_heads()[static_cast<std::size_t>(h)], q)));
    eh::Context two(2, kAnyWork);
    EXPECT_TRUE(same_bits(pruned(this->queries, this->keys, this->values, c.mask, two), expected));
    EXPECT_TRUE(same_bits(whole(this->queries, this->keys, this->values, c.mask, two), expected));
  }
}

// Rows of a projection that belong to heads, by the number of those heads.
template <class T>
void expect_rows(const Tensor<T, 2>& pruned, const Tensor<T, 2>& whole, const Heads& numbers,
                 Index D) {
  ASSERT_EQ(pruned.dimension(0), static_cast<Index>(numbers.size()) * D);
  for (Index row = 0; row < pruned.dimension(0); ++row)
    EXPECT_TRUE(
        same_bits(support::row(pruned, row),
                  support::row(whole, numbers[static_cast<std::size_t>(row / D)] * D + row % D)));
}

TYPED_TEST(PruneHeads, TrainsWithTheBitsOfTheGatedLayer) {
  using T = TypeParam;
  for (const Case& c : cases()) {
    SCOPED_TRACE(c.name);
    for (const double dropout : {0.0, 0.25}) {
      const auto layer = make_layer<T>(c, dropout);
      const auto whole = gated(layer, c.pruned), pruned = eh::prune_heads(layer, c.pruned);
      const auto train = [&](const auto& of) {
        typename MultiHeadAttention<T>::Activations saved;
        auto y = of.forward(this->queries, this->keys, this->values, c.mask, saved,
                            {.seed = eh::DropoutSeed{5}});
        return std::pair{y, of.backward(this->dy, saved)};
      };
      const auto [y, slopes] = train(whole);
      const auto [pruned_y, pruned_slopes] = train(pruned);
      EXPECT_TRUE(same_bits(pruned_y, y));
      EXPECT_TRUE(same_bits(pruned_slopes.queries, slopes.queries));
      EXPECT_TRUE(same_bits(pruned_slopes.keys, slopes.keys));
      EXPECT_TRUE(same_bits(pruned_slopes.values, slopes.values));
      EXPECT_TRUE(same_bits(pruned_slopes.W_o.bias, slopes.W_o.bias));
      const Heads& heads = pruned.original_heads();
      Heads kv_heads;
      for (const Index h : heads)
        if (const Index g = layer.kv_head(h); kv_heads.empty() || kv_heads.back() != g)
          kv_heads.push_back(g);
      expect_rows(pruned_slopes.W_q.weight, slopes.W_q.weight, heads, c.D);
      expect_rows(pruned_slopes.W_k.weight, slopes.W_k.weight, kv_heads, c.D);
      expect_rows(pruned_slopes.W_v.weight, slopes.W_v.weight, kv_heads, c.D);
      for (Index e = 0; e < E; ++e)
        for (Index i = 0; i < pruned.num_heads() * c.D; ++i)
          EXPECT_EQ(
              bits(pruned_slopes.W_o.weight(e, i)),
              bits(slopes.W_o.weight(e, heads[static_cast<std::size_t>(i / c.D)] * c.D + i % c.D)));
      for (Index b = 0; b < B; ++b)
        for (std::size_t h = 0; h < heads.size(); ++h)
          EXPECT_EQ(bits(pruned_slopes.gates(b, static_cast<Index>(h))),
                    bits(slopes.gates(b, heads[h])));
    }
  }
}

TYPED_TEST(PruneHeads, MasksAndScoresGoOnByTheOldNumbers) {
  using T = TypeParam;
  const Case c{"", 4, 2, 6, {0, 1, 2}};
  const auto layer = make_layer<T>(c);
  const auto whole = gated(layer, c.pruned), pruned = eh::prune_heads(layer, c.pruned);
  const Tensor<T, 1> slopes = random_tensor<T>(22, 4);
  const eh::Alibi<T> alibi(slopes);
  const Tensor<T, 4> numbers = random_tensor<T>(21, 1, 4, Q, K);
  const eh::ScoreBias<T> bias(numbers);
  const Mask causal{.causal = eh::Causal::bottom_right};
  EXPECT_TRUE(same_bits(pruned(this->queries, this->keys, this->values, causal, {.score = alibi}),
                        whole(this->queries, this->keys, this->values, causal, {.score = alibi})));
  EXPECT_TRUE(same_bits(pruned(this->queries, this->keys, this->values, causal, {.score = bias}),
                        whole(this->queries, this->keys, this->values, causal, {.score = bias})));
  typename MultiHeadAttention<T>::Activations saved, saved_whole;
  (void)pruned.forward(this->queries, this->keys, this->values, causal, saved, {.score = bias});
  (void)whole.forward(this->queries, this->keys, this->values, causal, saved_whole,
                      {.score = bias});
  const auto gradients = pruned.backward(this->dy, saved);
  EXPECT_TRUE(same_bits(gradients.score_bias, whole.backward(this->dy, saved_whole).score_bias));
}

TYPED_TEST(PruneHeads, AgainAndAgain) {
  using T = TypeParam;
  const Case c{"", 8, 4, 4, {}};
  const auto layer = make_layer<T>(c);
  const auto twice = eh::prune_heads(eh::prune_heads(layer, {5, 0}), {1, 2, 5});
  EXPECT_EQ(twice.original_heads(), (Heads{1, 4, 6}));
  EXPECT_EQ(twice.num_kv_heads(), 3);
  EXPECT_EQ(twice.num_original_heads(), 8);
  const auto at_once = eh::prune_heads(layer, {7, 5, 3, 2, 0});
  EXPECT_TRUE(same_bits(twice(this->queries, this->keys, this->values),
                        at_once(this->queries, this->keys, this->values)));
}

TYPED_TEST(PruneHeads, NoneLeavesTheLayerAsItIs) {
  using T = TypeParam;
  const auto layer = make_layer<T>({"", 4, 2, 6, {}});
  const auto same = eh::prune_heads(layer, {});
  EXPECT_TRUE(same_bits(same(this->queries, this->keys, this->values),
                        layer(this->queries, this->keys, this->values)));
  EXPECT_EQ(same.original_heads(), (Heads{0, 1, 2, 3}));
}

TYPED_TEST(PruneHeads, AllLeaveTheBiasOfTheOutput) {
  using T = TypeParam;
  for (const bool bias : {true, false})
    for (const int threads : {1, 2}) {
      const auto layer = make_layer<T>({"", 4, 2, 6, {}, bias});
      const auto none = eh::prune_heads(layer, {0, 1, 2, 3});
      EXPECT_EQ(none.num_heads(), 0);
      EXPECT_EQ(none.num_kv_heads(), 0);
      eh::Context context(threads, kAnyWork);
      typename MultiHeadAttention<T>::Activations saved;
      const auto y = none(this->queries, this->keys, this->values, Mask{}, context);
      const auto trained =
          none.forward(this->queries, this->keys, this->values, Mask{}, saved, context);
      const auto closed = gated(layer, {0, 1, 2, 3});
      EXPECT_TRUE(same_bits(y, closed(this->queries, this->keys, this->values)));
      EXPECT_TRUE(same_bits(y, trained));
      for (Index b = 0; b < B; ++b)
        for (Index q = 0; q < Q; ++q)
          for (Index e = 0; e < E; ++e) EXPECT_EQ(y(b, q, e), bias ? layer.W_o.bias()(e) : T(0));
      const auto slopes = none.backward(this->dy, saved, context);
      EXPECT_TRUE(support::all_are(slopes.queries, T(0)));
      EXPECT_TRUE(support::all_are(slopes.keys, T(0)));
      EXPECT_TRUE(support::all_are(slopes.values, T(0)));
      EXPECT_EQ(slopes.W_o.weight.dimension(0), E);
      EXPECT_EQ(slopes.W_o.weight.dimension(1), 0);
      EXPECT_EQ(slopes.gates.size(), 0);
      if (bias) {
        typename MultiHeadAttention<T>::Activations whole;
        (void)closed.forward(this->queries, this->keys, this->values, Mask{}, whole);
        EXPECT_TRUE(same_bits(slopes.W_o.bias, closed.backward(this->dy, whole).W_o.bias));
      }
      const auto seen = none.with_weights(this->queries, this->keys, this->values);
      EXPECT_EQ(seen.weights.size(), 0);
      Index parameters = 0;
      none.for_each_parameter([&](const auto& parameter) { parameters += parameter.size(); });
      EXPECT_EQ(parameters, bias ? E : 0);
    }
}

TYPED_TEST(PruneHeads, ReallyShrinks) {
  using T = TypeParam;
  const auto pruned = eh::prune_heads(make_layer<T>({"", 6, 3, 8, {}}), {0, 1, 4});
  EXPECT_EQ(pruned.W_q.out_features(), 24);
  EXPECT_EQ(pruned.W_k.out_features(), 16);
  EXPECT_EQ(pruned.W_v.out_features(), 16);
  EXPECT_EQ(pruned.W_o.in_features(), 24);
  EXPECT_EQ(pruned.W_o.out_features(), E);
  EXPECT_EQ(pruned.kv_head(0), 0);
  EXPECT_EQ(pruned.kv_head(1), 0);
  EXPECT_EQ(pruned.kv_head(2), 1);
}

TYPED_TEST(PruneHeads, LearnsOn) {
  using T = TypeParam;
  auto pruned = eh::prune_heads(make_layer<T>({"", 6, 3, 8, {}}), {0, 1, 4});
  typename MultiHeadAttention<T>::Activations saved;
  const auto loss = [&] {
    const auto y = pruned.forward(this->queries, this->keys, this->values, Mask{}, saved);
    double sum = 0;
    for (Index i = 0; i < y.size(); ++i)
      sum += 0.5 * static_cast<double>(y.data()[i]) * static_cast<double>(y.data()[i]);
    return sum;
  };
  const double before = loss();
  for (int step = 0; step < 10; ++step) {
    const auto y = pruned.forward(this->queries, this->keys, this->values, Mask{}, saved);
    const auto slopes = pruned.backward(y, saved);
    std::vector<std::vector<T>> steps;
    slopes.for_each_parameter([&](const auto& slope) {
      steps.emplace_back(static_cast<std::size_t>(slope.size()));
      slope.copy_to(steps.back());
    });
    std::size_t number = 0;
    pruned.for_each_parameter([&](const auto& parameter) {
      const auto& slope = steps[number++];
      parameter.update(
          [&](Index i, T w) -> T { return w - T(0.001) * slope[static_cast<std::size_t>(i)]; });
    });
  }
  EXPECT_LT(loss(), 0.9 * before);
}

TYPED_TEST(PruneHeads, KeepsTheGatesOfTheOthers) {
  using T = TypeParam;
  auto layer = make_layer<T>({"", 4, 4, 6, {}});
  layer.set_gates({T(0.5), 1, T(-2), T(0.25)});
  const auto pruned = eh::prune_heads(layer, {1});
  EXPECT_EQ(pruned.gates()(0, 1), T(-2));
  layer.set_gates({T(0.5), 0, T(-2), T(0.25)});
  EXPECT_TRUE(same_bits(pruned(this->queries, this->keys, this->values),
                        layer(this->queries, this->keys, this->values)));
}

TEST(PruneHeadsDoor, SaysWhatIsWrong) {
  const auto layer = make_layer<float>({"", 4, 2, 6, {}});
  const auto prune = [&](const Heads& heads) {
    return refusal([&] { return eh::prune_heads(layer, heads); });
  };
  EXPECT_EQ(prune({1, 4}),
            "eigenheads: prune_heads: there is no head 4; the layer has 4 heads, counted from 0");
  EXPECT_EQ(prune({-1}),
            "eigenheads: prune_heads: there is no head -1; the layer has 4 heads, counted from 0");
  EXPECT_EQ(prune({3, 0, 3}), "eigenheads: prune_heads: head 3 is named twice");
  const MultiHeadAttention<float> lazy({.num_hiddens = 8, .num_heads = 2});
  EXPECT_NE(refusal<std::logic_error>([&] { return eh::prune_heads(lazy, {0}); }).find("W_q"),
            std::string::npos);
  // Parts that were replaced by others than the heads'.
  auto other = layer;
  other.sink_logits = Tensor<float, 1>(1);
  EXPECT_EQ(refusal([&] { return eh::prune_heads(other, {0}); }),
            "eigenheads: MultiHeadAttention: sink_logits has shape [1]; expected [H] = [4]");
  other = layer;
  other.W_o = eh::Linear<float>({.in_features = 6, .out_features = layer.num_hiddens()});
  EXPECT_EQ(refusal([&] { return eh::prune_heads(other, {0}); }),
            "eigenheads: MultiHeadAttention: W_o.in_features is 6; expected 24");
}

TEST(PruneHeadsDoor, ActivationsOfOtherHeadsDoNotFit) {
  const Case c{"", 8, 8, 6, {}};
  const auto layer = make_layer<float>(c);
  const auto x = random_tensor<float>(1, B, Q, E);
  const auto keys = random_tensor<float>(2, B, K, 20), values = random_tensor<float>(3, B, K, 17);
  MultiHeadAttention<float>::Activations saved;
  (void)layer.forward(x, keys, values, Mask{}, saved);
  EXPECT_NE(refusal<std::logic_error>([&] {
              return eh::prune_heads(layer, {0}).backward(x, saved);
            }).find("of other sizes or heads"),
            std::string::npos);
  // As many heads, but others.
  const auto some = eh::prune_heads(layer, {0, 2, 4, 7}),
             others = eh::prune_heads(layer, {1, 3, 4, 6});
  (void)some.forward(x, keys, values, Mask{}, saved);
  auto gradients = some.backward(x, saved);
  const auto before = gradients.W_o.weight;
  EXPECT_NE(refusal<std::logic_error>([&] {
              others.backward_into(gradients, x, saved, true);
            }).find("of other sizes or heads"),
            std::string::npos);
  EXPECT_TRUE(same_bits(gradients.W_o.weight, before));
}

// An optimizer, and a file that was read, meet the same parameters as in any other layer.
TEST(PruneHeadsDoor, ALayerWithoutHeadsStillLearnsItsBias) {
  auto none = eh::prune_heads(make_layer<float>({"", 4, 2, 6, {}}), {0, 1, 2, 3});
  const auto x = random_tensor<float>(1, B, Q, E);
  const auto keys = random_tensor<float>(2, B, K, 20), values = random_tensor<float>(3, B, K, 17);
  MultiHeadAttention<float>::Activations saved;
  (void)none.forward(x, keys, values, Mask{}, saved);
  const auto before = none.W_o.bias();
  eh::Adam<float> adam({.learning_rate = 0.01});
  adam.step(none, none.backward(x, saved));
  EXPECT_FALSE(same_bits(none.W_o.bias(), before));
  none.W_o.set_weight(none.W_o.weight());
  none.W_q.set_weight(none.W_q.weight());
  EXPECT_EQ(none.W_o.in_features(), 0);
}

TEST(PruneHeadsDoor, PartsOfAProjectionAreThere) {
  const auto layer = make_layer<float>({"", 4, 2, 6, {}});
  const Heads outputs{0, 24}, inputs{0};
  EXPECT_EQ(refusal([&] { return layer.W_q.part(outputs, inputs); }),
            "eigenheads: Linear: there is no output 24; it has 24, counted from 0");
  EXPECT_EQ(refusal([&] { return layer.W_q.part(inputs, outputs); }),
            "eigenheads: Linear: there is no input 24; it has 24, counted from 0");
}

TEST(PruneHeadsPrint, SaysWhichHeadsAreLeft) {
  std::ostringstream out;
  out << eh::prune_heads(make_layer<float>({"", 6, 6, 4, {}, false}), {0, 2, 3});
  EXPECT_EQ(out.str(),
            "MultiHeadAttention(\n"
            "  (attention): DotProductAttention(\n"
            "    (dropout): Dropout(p=0, inplace=False)\n"
            "  )\n"
            "  (W_q): Linear(in_features=24, out_features=12, bias=False)\n"
            "  (W_k): Linear(in_features=20, out_features=12, bias=False)\n"
            "  (W_v): Linear(in_features=17, out_features=12, bias=False)\n"
            "  (W_o): Linear(in_features=12, out_features=24, bias=False)\n"
            "  (heads): 1 4 5 of 6\n"
            ")");
}

TEST(PruneHeadsPrint, ExplainCountsWhatIsLeft) {
  const auto layer = make_layer<float>({"", 6, 3, 8, {}});
  const auto queries = random_tensor<float>(1, B, Q, E), keys = random_tensor<float>(2, B, K, 20),
             values = random_tensor<float>(3, B, K, 17);
  const auto told = eh::explain<float>(eh::prune_heads(layer, {0, 1, 2}), queries, keys, values);
  const auto whole = eh::explain<float>(layer, queries, keys, values);
  EXPECT_EQ(told.attention_flops, whole.attention_flops / 2);
  const auto closed = eh::explain<float>(gated(layer, {0, 1, 2}), queries, keys, values);
  EXPECT_EQ(closed.attention_flops, told.attention_flops);
  EXPECT_EQ(closed.projection_flops, told.projection_flops);
  const auto none = eh::prune_heads(layer, {0, 1, 2, 3, 4, 5});
  EXPECT_EQ(eh::explain<float>(none, queries, keys, values).attention_flops, 0);
}

}  // namespace
