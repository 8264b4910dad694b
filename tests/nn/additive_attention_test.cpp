// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/nn/additive_attention.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::AdditiveAttention, eh::Context, eh::Mask;

template <class T>
class Additive : public testing::Test {};
TYPED_TEST_SUITE(Additive, Scalars, ScalarNames);

struct Sizes {
  Index B, Q, K, H, V, query_size = 5, key_size = 7;
};
template <class T>
struct Inputs {
  Tensor<T, 3> queries, keys, values;
};
template <class T>
[[nodiscard]] Inputs<T> inputs_of(const Sizes& s, std::uint64_t seed = 1) {
  return {random_tensor<T>(seed, s.B, s.Q, s.query_size),
          random_tensor<T>(seed + 1, s.B, s.K, s.key_size),
          random_tensor<T>(seed + 2, s.B, s.K, s.V)};
}
template <class T>
[[nodiscard]] AdditiveAttention<T> module_of(const Sizes& s, double dropout = 0) {
  AdditiveAttention<T> module(
      {.num_hiddens = s.H, .query_size = s.query_size, .key_size = s.key_size, .dropout = dropout},
      7);
  // Scores of several units: weights far from alike.
  Tensor<T, 2> w = random_tensor<T>(8, 1, s.H);
  for (Index h = 0; h < s.H; ++h) w(0, h) *= T(3);
  module.w_v.set_weight(w);
  return module;
}

// The chapter's lines, in double, one pair after the other.
struct Reference {
  Tensor<double, 3> output, weights;
};
template <class T>
[[nodiscard]] Reference reference(const AdditiveAttention<T>& module, const Inputs<T>& x,
                                  const Mask& asked, const Tensor<T, 4>* factors = nullptr) {
  const Index B = x.queries.dimension(0), Q = x.queries.dimension(1), K = x.keys.dimension(1),
              V = x.values.dimension(2), H = module.num_hiddens();
  const eh::BoundMask mask(asked, B, Q, K);
  const Tensor<T, 2> W_q = module.W_q.weight(), W_k = module.W_k.weight(), w = module.w_v.weight();
  const auto project = [&](const Tensor<T, 2>& W, const Tensor<T, 3>& from, Index b, Index row,
                           Index h) {
    double sum = 0;
    for (Index i = 0; i < W.dimension(1); ++i)
      sum += static_cast<double>(W(h, i)) * static_cast<double>(from(b, row, i));
    return sum;
  };
  Reference result{Tensor<double, 3>(B, Q, V), Tensor<double, 3>(B, Q, K)};
  result.output.setZero();
  result.weights.setZero();
  for (Index b = 0; b < B; ++b)
    for (Index q = 0; q < Q; ++q) {
      const auto [begin, end] = mask.key_range(b, 0, q);
      const std::uint8_t* const allowed = mask.allowed_row(b, 0, q);
      double sum = 0;
      for (Index k = begin; k < end; ++k) {
        if (allowed != nullptr && allowed[k] == 0) continue;
        double score = 0;
        for (Index h = 0; h < H; ++h)
          score += static_cast<double>(w(0, h)) *
                   std::tanh(project(W_q, x.queries, b, q, h) + project(W_k, x.keys, b, k, h));
        sum += result.weights(b, q, k) = std::exp(score);
      }
      for (Index k = begin; k < end; ++k) {
        if (result.weights(b, q, k) == 0) continue;
        result.weights(b, q, k) /= sum;
        const double factor = factors == nullptr ? 1 : static_cast<double>((*factors)(b, 0, q, k));
        for (Index v = 0; v < V; ++v)
          result.output(b, q, v) +=
              factor * result.weights(b, q, k) * static_cast<double>(x.values(b, k, v));
      }
    }
  return result;
}

template <class X, class Y>
[[nodiscard]] double largest_difference(const X& x, const Y& y) {
  EXPECT_EQ(x.size(), y.size());
  double largest = 0;
  for (Index i = 0; i < x.size(); ++i)
    largest = std::max(
        largest, std::abs(static_cast<double>(x.data()[i]) - static_cast<double>(y.data()[i])));
  return largest;
}

// Kinds of mask for 2 sequences.
[[nodiscard]] std::vector<Mask> masks(Index Q, Index K) {
  Tensor<Index, 2> lens(2, Q);
  for (Index i = 0; i < lens.size(); ++i) lens.data()[i] = i * 7919 % (K + 1);
  Tensor<bool, 4> pairs(2, 1, Q, K);
  for (Index i = 0; i < pairs.size(); ++i) pairs.data()[i] = i * 7919 % 11 < 6;
  return {{},
          {.valid_lens = {K, K / 3}},
          {.valid_lens = {0, K}},
          {.valid_lens = lens},
          {.causal = eh::Causal::top_left},
          {.causal = eh::Causal::bottom_right, .window = {K / 4, 2}},
          {.query_lens = {Q / 2, Q}, .key_lens = {K, K / 2}},
          {.allowed = pairs},
          {.valid_lens = lens, .causal = eh::Causal::bottom_right, .allowed = pairs}};
}

// The chapter's example: keys that are alike, so that values are averaged.
TYPED_TEST(Additive, GivesWhatTheChapterShows) {
  using T = TypeParam;
  AdditiveAttention<T> attention({.num_hiddens = 8, .dropout = 0.1});
  const auto queries = random_tensor<T>(1, 2, 1, 20);
  const auto keys = constant_tensor<T>(T(1), 2, 10, 2);
  Tensor<T, 3> values(2, 10, 4);
  for (Index i = 0; i < values.size(); ++i) values.data()[i] = static_cast<T>(i % 40);
  const Tensor<T, 3> y = attention(queries, keys, values, {2, 6});
  for (Index v = 0; v < 4; ++v) {
    EXPECT_NEAR(y(0, 0, v), T(2 + v), T(20) * Limits<T>::epsilon());
    EXPECT_NEAR(y(1, 0, v), T(10 + v), T(20) * Limits<T>::epsilon());
  }
  std::ostringstream text;
  text << attention;
  EXPECT_EQ(text.str(),
            "AdditiveAttention(\n"
            "  (W_k): Linear(in_features=2, out_features=8, bias=False)\n"
            "  (W_q): Linear(in_features=20, out_features=8, bias=False)\n"
            "  (w_v): Linear(in_features=8, out_features=1, bias=False)\n"
            "  (dropout): Dropout(p=0.1, inplace=False)\n)");
  std::vector<std::string> names;
  attention.for_each_parameter([&](const auto& p) { names.push_back(p.name()); }, "a.");
  EXPECT_EQ(names, (std::vector<std::string>{"a.W_k.weight", "a.W_q.weight", "a.w_v.weight"}));
}

TYPED_TEST(Additive, IsTheFormulaUnderAnyMask) {
  using T = TypeParam;
  for (const Sizes& s : {Sizes{2, 5, 9, 3, 4}, Sizes{2, 17, 33, 16, 17}, Sizes{2, 3, 520, 40, 5},
                         Sizes{2, 1, 15, 1, 1}, Sizes{2, 9, 16, 33, 48}}) {
    const auto module = module_of<T>(s);
    const auto x = inputs_of<T>(s);
    for (const Mask& mask : masks(s.Q, s.K)) {
      if (mask.window.left >= 0 && s.K == 520) continue;  // no query stands beside most keys
      const auto result = module.with_weights(x.queries, x.keys, x.values, mask);
      const Reference expected = reference(module, x, mask);
      // A score is a sum of H terms of up to 3, of features that are sums of up to 7: its error is
      // that of each weight, relatively; outputs are sums of up to K of them.
      const double bound =
          (8 * 3 + static_cast<double>(s.H) + 16) * 2 * static_cast<double>(Limits<T>::epsilon());
      EXPECT_LE(largest_difference(result.weights, expected.weights), bound);
      EXPECT_LE(largest_difference(result.output, expected.output), 2 * bound);
      EXPECT_TRUE(same_bits(module(x.queries, x.keys, x.values, mask), result.output));
    }
  }
}

TYPED_TEST(Additive, ARowDependsOnNothingButItself) {
  using T = TypeParam;
  const Sizes s{2, 21, 300, 19, 23};
  const auto module = module_of<T>(s);
  const auto x = inputs_of<T>(s);
  Context three(3, kAnyWork);
  for (const Mask& mask : masks(s.Q, s.K))
    EXPECT_TRUE(same_bits(module(x.queries, x.keys, x.values, mask, three),
                          module(x.queries, x.keys, x.values, mask)));
  const Tensor<T, 3> y = module(x.queries, x.keys, x.values, {170, 45});
  // Its sequence alone, keys cut off that are hidden.
  const Tensor<T, 3> keys =
      x.keys.slice(std::array<Index, 3>{1, 0, 0}, std::array<Index, 3>{1, 45, 7});
  const Tensor<T, 3> values =
      x.values.slice(std::array<Index, 3>{1, 0, 0}, std::array<Index, 3>{1, 45, 23});
  EXPECT_TRUE(same_bits(module(sequence(x.queries, 1), keys, values), sequence(y, 1)));
  // One query alone.
  const Tensor<T, 3> query =
      x.queries.slice(std::array<Index, 3>{1, 20, 0}, std::array<Index, 3>{1, 1, 5});
  EXPECT_TRUE(same_bits(row(module(query, keys, values), 0, 0), row(y, 1, 20)));
}

TYPED_TEST(Additive, WhatIsHiddenIsNotObservable) {
  using T = TypeParam;
  const Sizes s{2, 17, 40, 18, 5};
  const auto module = module_of<T>(s);
  const auto x = inputs_of<T>(s);
  const Tensor<T, 3> grad_y = random_tensor<T>(9, s.B, s.Q, s.V);
  const Mask mask{.valid_lens = {21, 0}, .query_lens = {11, 4}};
  Inputs<T> spoilt = x;
  for (Index b = 0; b < 2; ++b) {
    for (Index k = b == 0 ? 21 : 0; k < s.K; ++k) {
      for (Index i = 0; i < 7; ++i) spoilt.keys(b, k, i) = kNan<T>;
      for (Index i = 0; i < 5; ++i) spoilt.values(b, k, i) = kInf<T>;
    }
    for (Index q = b == 0 ? 11 : 4; q < s.Q; ++q)
      for (Index i = 0; i < 5; ++i) spoilt.queries(b, q, i) = kNan<T>;
  }
  typename AdditiveAttention<T>::Activations saved, of_spoilt;
  const Tensor<T, 3> y = module.forward(x.queries, x.keys, x.values, mask, saved);
  EXPECT_TRUE(
      same_bits(module.forward(spoilt.queries, spoilt.keys, spoilt.values, mask, of_spoilt), y));
  EXPECT_TRUE(all_are(sequence(y, 1), T(0)));
  EXPECT_TRUE(all_are(row(y, 0, 11), T(0)));
  Context three(3, kAnyWork);
  const auto gradients = module.backward(grad_y, saved);
  for (Context* context : {&eh::default_context(), &three}) {
    const auto others = module.backward(grad_y, of_spoilt, *context);
    EXPECT_TRUE(same_bits(others.queries, gradients.queries));
    EXPECT_TRUE(same_bits(others.keys, gradients.keys));
    EXPECT_TRUE(same_bits(others.values, gradients.values));
    EXPECT_TRUE(same_bits(others.W_q.weight, gradients.W_q.weight));
    EXPECT_TRUE(same_bits(others.W_k.weight, gradients.W_k.weight));
    EXPECT_TRUE(same_bits(others.w_v.weight, gradients.w_v.weight));
  }
  EXPECT_TRUE(all_are(sequence(gradients.keys, 1), T(0)));
  EXPECT_TRUE(all_are(row(gradients.values, 0, 21), T(0)));
}

// A key that one query sees and another does not.
TYPED_TEST(Additive, NanReachesTheQueriesThatSeeIt) {
  using T = TypeParam;
  const Sizes s{1, 20, 20, 8, 4};
  const auto module = module_of<T>(s);
  for (const bool is_value : {false, true}) {
    auto x = inputs_of<T>(s);
    const Mask causal{.causal = eh::Causal::top_left};
    typename AdditiveAttention<T>::Activations saved;
    const Tensor<T, 3> before = module.forward(x.queries, x.keys, x.values, causal, saved);
    (is_value ? x.values(0, 12, 2) : x.keys(0, 12, 2)) = kNan<T>;
    const Tensor<T, 3> y = module.forward(x.queries, x.keys, x.values, causal, saved);
    for (Index q = 0; q < 20; ++q)
      for (Index v = 0; v < 4; ++v)
        EXPECT_EQ(bits(y(0, q, v)),
                  bits(q >= 12 && (!is_value || v == 2) ? kNan<T> : before(0, q, v)));
    const auto gradients = module.backward(constant_tensor<T>(T(1), 1, 20, 4), saved);
    for (Index q = 0; q < 12; ++q)
      for (Index i = 0; i < 5; ++i) EXPECT_FALSE(std::isnan(gradients.queries(0, q, i))) << q;
  }
}

// Of sum(output * grad_y), by every number that goes in.
TEST(AdditiveGradient, IsTheDifferenceQuotient) {
  const Sizes s{2, 3, 18, 5, 3};
  const Tensor<double, 3> grad_y = random_tensor<double>(9, s.B, s.Q, s.V);
  for (const double dropout : {0.0, 0.3})
    for (const Mask& mask : masks(s.Q, s.K)) {
      auto module = module_of<double>(s, dropout);
      auto x = inputs_of<double>(s);
      const eh::AdditiveTrainingOptions options{.seed = eh::DropoutSeed{3}};
      AdditiveAttention<double>::Activations saved;
      (void)module.forward(x.queries, x.keys, x.values, mask, saved, options);
      const auto gradients = module.backward(grad_y, saved);
      const auto loss = [&] {
        AdditiveAttention<double>::Activations unused;
        const Tensor<double, 3> y =
            module.forward(x.queries, x.keys, x.values, mask, unused, options);
        double sum = 0;
        for (Index i = 0; i < y.size(); ++i) sum += y.data()[i] * grad_y.data()[i];
        return sum;
      };
      const double step = 0x1p-17;
      const auto check = [&](auto& tensor, const auto& gradient) {
        for (Index i = 0; i < tensor.size(); i += 1 + i % 3) {
          const double before = tensor.data()[i];
          tensor.data()[i] = before + step;
          const double above = loss();
          tensor.data()[i] = before - step;
          const double below = loss();
          tensor.data()[i] = before;
          ASSERT_NEAR((above - below) / (2 * step), gradient.data()[i], 3e-8);
        }
      };
      check(x.queries, gradients.queries);
      check(x.keys, gradients.keys);
      check(x.values, gradients.values);
      const auto check_weight = [&](eh::Linear<double>& linear, const Tensor<double, 2>& gradient) {
        Tensor<double, 2> weight = linear.weight();
        for (Index i = 0; i < weight.size(); ++i) {
          const double before = weight.data()[i];
          weight.data()[i] = before + step;
          linear.set_weight(weight);
          const double above = loss();
          weight.data()[i] = before - step;
          linear.set_weight(weight);
          const double below = loss();
          weight.data()[i] = before;
          linear.set_weight(weight);
          ASSERT_NEAR((above - below) / (2 * step), gradient.data()[i], 3e-8);
        }
      };
      check_weight(module.W_q, gradients.W_q.weight);
      check_weight(module.W_k, gradients.W_k.weight);
      check_weight(module.w_v, gradients.w_v.weight);
    }
}

TYPED_TEST(Additive, DropsTheWeightsThatTheSeedSays) {
  using T = TypeParam;
  const Sizes s{2, 4, 270, 6, 3};
  const auto module = module_of<T>(s, 0.4);
  const auto x = inputs_of<T>(s);
  typename AdditiveAttention<T>::Activations saved;
  const Tensor<T, 3> y =
      module.forward(x.queries, x.keys, x.values, {s.K, 100}, saved, {.seed = eh::DropoutSeed{5}});
  const auto factors = eh::dropout_mask<T>(0.4, {5}, s.B, 1, s.Q, s.K);
  const Reference expected = reference(module, x, {.valid_lens = {s.K, 100}}, &factors);
  EXPECT_LE(largest_difference(y, expected.output),
            400 * static_cast<double>(Limits<T>::epsilon()));
  EXPECT_EQ(refusal([&] { return module.forward(x.queries, x.keys, x.values, {}, saved); }),
            "eigenheads: AdditiveAttention: dropout is 0.4; expected a DropoutSeed, {.seed = ...}, "
            "after the activations");
}

TYPED_TEST(Additive, GradientsAreTheSameOnAnyThreadsAndAddUp) {
  using T = TypeParam;
  for (const Index B : {1, 5}) {
    const Sizes s{B, 37, 70, 20, 18};
    const auto module = module_of<T>(s, 0.2);
    const auto x = inputs_of<T>(s);
    const Tensor<T, 3> grad_y = random_tensor<T>(9, s.B, s.Q, s.V);
    Context two(2, kAnyWork), three(3, kAnyWork);
    typename AdditiveAttention<T>::Activations saved;
    const Mask mask{.causal = eh::Causal::bottom_right};
    const Tensor<T, 3> y =
        module.forward(x.queries, x.keys, x.values, mask, saved, {.seed = eh::DropoutSeed{1}});
    const auto one = module.backward(grad_y, saved);
    for (Context* context : {&two, &three}) {
      typename AdditiveAttention<T>::Activations again;
      EXPECT_TRUE(same_bits(module.forward(x.queries, x.keys, x.values, mask, again,
                                           {.seed = eh::DropoutSeed{1}, .context = *context}),
                            y));
      auto gradients = module.backward(grad_y, again, *context);
      for (const bool accumulates : {false, true}) {
        if (accumulates) module.backward_into(gradients, grad_y, again, true, *context);
        const auto expect = [&](const auto& got, const auto& of_one) {
          std::decay_t<decltype(of_one)> expected = of_one;
          if (accumulates) expected = of_one + of_one;
          EXPECT_TRUE(same_bits(got, expected));
        };
        expect(gradients.queries, one.queries);
        expect(gradients.keys, one.keys);
        expect(gradients.values, one.values);
        expect(gradients.W_k.weight, one.W_k.weight);
        expect(gradients.W_q.weight, one.W_q.weight);
        expect(gradients.w_v.weight, one.w_v.weight);
      }
    }
  }
}

TYPED_TEST(Additive, TakesNoQueriesNoKeysAndNoSequences) {
  using T = TypeParam;
  for (const Sizes& s :
       {Sizes{0, 3, 4, 5, 2}, Sizes{2, 0, 4, 5, 2}, Sizes{2, 3, 0, 5, 2}, Sizes{2, 3, 4, 5, 0}}) {
    const auto module = module_of<T>(s);
    const auto x = inputs_of<T>(s);
    typename AdditiveAttention<T>::Activations saved;
    const Tensor<T, 3> y = module.forward(x.queries, x.keys, x.values, {}, saved);
    EXPECT_TRUE(all_are(y, T(0)));
    const auto gradients = module.backward(y, saved);
    EXPECT_TRUE(all_are(gradients.w_v.weight, T(0)));
    EXPECT_TRUE(all_are(gradients.keys, T(0)));
  }
}

TYPED_TEST(Additive, ALazyModuleTakesItsSizesFromTheFirstCall) {
  using T = TypeParam;
  const Sizes s{2, 3, 4, 5, 2};
  const auto x = inputs_of<T>(s);
  AdditiveAttention<T> lazy({.num_hiddens = 5}, 7);
  const AdditiveAttention<T> eager({.num_hiddens = 5, .query_size = 5, .key_size = 7}, 7);
  EXPECT_NE(
      refusal<std::logic_error>([&] { return std::as_const(lazy)(x.queries, x.keys, x.values); }),
      "not refused");
  EXPECT_EQ(refusal([&] { return lazy(x.queries, x.keys, x.values, {5, 1}); }),
            "eigenheads: valid_lens[0] is 5; expected 0 to the number of keys, 4");
  EXPECT_TRUE(lazy.W_q.is_lazy() && lazy.W_k.is_lazy());
  EXPECT_TRUE(same_bits(lazy(x.queries, x.keys, x.values), eager(x.queries, x.keys, x.values)));
  AdditiveAttention<T> other({.num_hiddens = 5}, 7);
  Tensor<T, 3> y(2, 3, 2), wrong(2, 3, 3);
  EXPECT_NE(refusal([&] { other.forward_into(wrong, x.queries, x.keys, x.values); }),
            "not refused");
  EXPECT_TRUE(other.W_q.is_lazy());
  AdditiveAttention<T> dropping({.num_hiddens = 5, .dropout = 0.5}, 7);
  typename AdditiveAttention<T>::Activations saved;
  EXPECT_EQ(refusal([&] { return dropping.forward(x.queries, x.keys, x.values, {}, saved); }),
            "eigenheads: AdditiveAttention: dropout is 0.5; expected a DropoutSeed, {.seed = ...}, "
            "after the activations");
  EXPECT_TRUE(dropping.W_q.is_lazy() && dropping.W_k.is_lazy());
  other.forward_into(y, x.queries, x.keys, x.values);
  EXPECT_TRUE(same_bits(y, eager(x.queries, x.keys, x.values)));
}

TYPED_TEST(Additive, RefusesWhatDoesNotFit) {
  using T = TypeParam;
  const Sizes s{2, 3, 4, 5, 2};
  const auto x = inputs_of<T>(s);
  const auto module = module_of<T>(s);
  EXPECT_EQ(refusal([] { return AdditiveAttention<T>({.num_hiddens = 0}); }),
            "eigenheads: AdditiveAttention: num_hiddens is 0; expected 1 or more");
  EXPECT_EQ(refusal([&] { return module(x.keys, x.keys, x.values); }),
            "eigenheads: queries has shape [2, 4, 7]; expected [B, Q, query_size] = [*, *, 5]");
  EXPECT_EQ(refusal([&] { return module(x.queries, x.queries, x.values); }),
            "eigenheads: keys has shape [2, 3, 5]; expected [B, K, key_size] = [2, *, 7]");
  EXPECT_EQ(refusal([&] { return module(x.queries, x.keys, x.queries); }),
            "eigenheads: values has shape [2, 3, 5]; expected [B, K, V] = [2, 4, *]");
  Tensor<T, 3> y(2, 3, 3);
  EXPECT_EQ(refusal([&] { module.forward_into(y, x.queries, x.keys, x.values); }),
            "eigenheads: output has shape [2, 3, 3]; expected [B, Q, V] = [2, 3, 2]");
  auto replaced = module;
  replaced.W_k = eh::Linear<T>({.in_features = 7, .out_features = 6});
  EXPECT_EQ(refusal<std::logic_error>([&] { return replaced(x.queries, x.keys, x.values); }),
            "eigenheads: AdditiveAttention: W_q has 5 outputs, W_k 6 and w_v 1; expected 5 (the "
            "inputs of w_v) of W_q and W_k, and 1 of w_v without a bias");
  AdditiveAttention<T> lazy({.num_hiddens = 6});
  lazy.W_q = eh::Linear<T>({.in_features = 5, .out_features = 5});
  EXPECT_NE(refusal<std::logic_error>([&] { return lazy(x.queries, x.keys, x.values); }),
            "not refused");
  EXPECT_TRUE(lazy.W_k.is_lazy());
  typename AdditiveAttention<T>::Activations saved;
  EXPECT_NE(refusal<std::logic_error>([&] { return module.backward(y, saved); }), "not refused");
  (void)module.forward(x.queries, x.keys, x.values, {}, saved);
  EXPECT_EQ(refusal([&] { return module.backward(y, saved); }),
            "eigenheads: grad_output has shape [2, 3, 3]; expected [B, Q, V] = [2, 3, 2]");
  const auto wider = module_of<T>({2, 3, 4, 6, 2});
  EXPECT_EQ(refusal<std::logic_error>([&] { return wider.backward(y, saved); }),
            "eigenheads: AdditiveAttention: the activations are those of a module of other sizes");
}

}  // namespace
