// SPDX-License-Identifier: MIT
// Inputs that broke other libraries, by the numbers of tests/edge_cases.md: those that no other test
// has. Where it makes sense on every way to a result: one thread and four, with weights and without,
// and attention_reference.
#include <algorithm>
#include <cfenv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>
#include <unsupported/Eigen/CXX11/ThreadPool>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_backward.hpp>
#include <eigenheads/attention_reference.hpp>
#include <eigenheads/multi_head_attention.hpp>

#include "layers.hpp"
#include "subnormals.hpp"
#include "support.hpp"
#include "textbook.hpp"

namespace {

using namespace support;
using eh::AttentionResult, eh::Causal, eh::Context, eh::Mask, eh::ScoreBias, eh::Softcap;
using eh::scaled_dot_product_attention;

template <class T>
class EdgeCases : public testing::Test {
 protected:
  // visit(result, name) of each way.
  template <class Score = eh::PlainScore, class Visit>
  static void on_every_way(const Tensor<T, 4>& q, const Tensor<T, 4>& k, const Tensor<T, 4>& v,
                           const Mask& mask, T scale, const Score& score, const Visit& visit) {
    for (const int threads : {1, 4})
      for (const bool weights : {false, true}) {
        Context context(threads, kAnyWork);
        visit(
            scaled_dot_product_attention(
                q, k, v, mask,
                {.scale = static_cast<double>(scale), .score = score, .weights = weights}, context),
            std::to_string(threads) + (weights ? " threads, with weights" : " threads"));
      }
    visit(eh::attention_reference<T>(q, k, v, mask, scale, score), std::string("reference"));
  }
  template <class Visit>
  static void on_every_way(const Tensor<T, 4>& q, const Tensor<T, 4>& k, const Tensor<T, 4>& v,
                           const Mask& mask, T scale, const Visit& visit) {
    on_every_way(q, k, v, mask, scale, eh::PlainScore{}, visit);
  }

  // One query of size 1, so that the keys are the scores.
  static Tensor<T, 4> column(const std::vector<T>& numbers) {
    Tensor<T, 4> x(1, 1, static_cast<Index>(numbers.size()), 1);
    std::copy(numbers.begin(), numbers.end(), x.data());
    return x;
  }
};
TYPED_TEST_SUITE(EdgeCases, Scalars, ScalarNames);

// S1.03
TYPED_TEST(EdgeCases, NoKeyOverwritesWhatWasThere) {
  using T = TypeParam;
  const auto q = random_tensor<T>(1, 2, 2, 3, 8), none = random_tensor<T>(2, 2, 2, 0, 8);
  Eigen::ThreadPool pool(2);
  Context one(1), four(4, kAnyWork), on_pool(pool, kAnyWork);
  for (Context* context : {&one, &four, &on_pool}) {
    auto output = constant_tensor<T>(7, 2, 2, 3, 8);
    eh::scaled_dot_product_attention_into(output, q, none, none, {}, {}, *context);
    EXPECT_TRUE(all_are(output, 0));
    AttentionResult<T> result{constant_tensor<T>(7, 2, 2, 3, 8), constant_tensor<T>(7, 2, 2, 3)};
    eh::scaled_dot_product_attention_into(result, q, none, none, {}, {}, *context);
    EXPECT_TRUE(all_are(result.output, 0));
    EXPECT_TRUE(all_are(result.lse, -kInf<T>));
  }
}

// S1.05
TYPED_TEST(EdgeCases, OneOfEverything) {
  using T = TypeParam;
  this->on_every_way(this->column({2}), this->column({3}), this->column({5}), {}, T(1),
                     [](const AttentionResult<T>& got, const std::string& way) {
                       EXPECT_EQ(got.output(0, 0, 0, 0), T(5)) << way;
                       EXPECT_NEAR(got.lse(0, 0, 0), T(6), 2 * 4 * Limits<T>::epsilon()) << way;
                     });
}

// S1.06
TYPED_TEST(EdgeCases, TheWeightOfOneKeyIsOneWhateverTheQuery) {
  using T = TypeParam;
  const auto q = this->column({0, T(-0.0), 1, Limits<T>::denorm_min(), -Limits<T>::min(), T(1e30),
                               T(-1e30), Limits<T>::max(), Limits<T>::lowest()});
  const auto v = random_tensor<T>(1, 1, 1, 1, 5);
  for (const T key : {T(0), T(1), T(-0.75)})
    this->on_every_way(q, this->column({key}), v, {}, T(1),
                       [&](const AttentionResult<T>& got, const std::string& way) {
                         for (Index i = 0; i < q.size(); ++i)
                           EXPECT_TRUE(same_bits(row(got.output, 0, 0, i), row(v, 0, 0, 0)))
                               << way << ", q " << q.data()[i];
                       });
}

// S2.01
TYPED_TEST(EdgeCases, AnEmptySequenceOfNanIsNothingAndTheNextIsAsAlone) {
  using T = TypeParam;
  const auto q = random_tensor<T>(1, 2, 2, 3, 4);
  auto k = random_tensor<T>(2, 2, 2, 3, 4), v = random_tensor<T>(3, 2, 2, 3, 5);
  std::fill_n(k.data(), k.size() / 2, kNan<T>);
  std::fill_n(v.data(), v.size() / 2, kNan<T>);
  const auto copy = [](TensorView<T, 4> x) {
    Tensor<T, 4> y(x.dimension(0), x.dimension(1), x.dimension(2), x.dimension(3));
    std::copy_n(x.data(), x.size(), y.data());
    return y;
  };
  const auto of_1 = [&copy](const Tensor<T, 4>& x) { return copy(sequence(x, 1)); };
  std::vector<AttentionResult<T>> alone;
  this->on_every_way(
      of_1(q), of_1(k), of_1(v), {.valid_lens = {3}}, T(0.5),
      [&](const AttentionResult<T>& got, const std::string&) { alone.push_back(got); });
  std::size_t i = 0;
  this->on_every_way(q, k, v, {.valid_lens = {0, 3}}, T(0.5),
                     [&](const AttentionResult<T>& got, const std::string& way) {
                       EXPECT_TRUE(all_are(sequence(got.output, 0), 0)) << way;
                       EXPECT_TRUE(all_are(sequence(got.lse, 0), -kInf<T>)) << way;
                       EXPECT_TRUE(same_bits(sequence(got.output, 1), alone[i].output)) << way;
                       EXPECT_TRUE(same_bits(sequence(got.lse, 1), alone[i++].lse)) << way;
                     });
}

// S2.09: the bias swallows the scores.
TYPED_TEST(EdgeCases, ABiasOfTheLowestNumberLeavesUniformWeights) {
  using T = TypeParam;
  const auto bias = constant_tensor<T>(Limits<T>::lowest(), 1, 1, 1, 4);
  this->on_every_way(this->column({1}), this->column({T(9e29), T(-9e29), 0, T(1e29)}),
                     this->column({1, 2, 3, 6}), {}, T(1), ScoreBias<T>(bias),
                     [](const AttentionResult<T>& got, const std::string& way) {
                       EXPECT_EQ(got.output(0, 0, 0, 0), T(3)) << way;
                       EXPECT_TRUE(got.weights.size() == 0 || all_are(got.weights, T(0.25))) << way;
                     });
}

// S2.10
TYPED_TEST(EdgeCases, CausalityAndPairsThatLeaveARowNothingTogether) {
  using T = TypeParam;
  Tensor<bool, 2> allowed(2, 2);
  allowed.setValues({{false, true}, {true, true}});
  const auto q = random_tensor<T>(1, 1, 2, 2, 8), k = random_tensor<T>(2, 1, 2, 2, 8),
             v = random_tensor<T>(3, 1, 2, 2, 8);
  for (const Causal causal : {Causal::top_left, Causal::bottom_right})
    this->on_every_way(q, k, v, {.causal = causal, .allowed = allowed}, T(0.5),
                       [](const AttentionResult<T>& got, const std::string& way) {
                         for (Index h = 0; h < 2; ++h) {
                           EXPECT_TRUE(all_are(row(got.output, 0, h, 0), 0)) << way;
                           EXPECT_EQ(got.lse(0, h, 0), -kInf<T>) << way;
                           for (Index c = 0; c < 8; ++c)
                             EXPECT_TRUE(std::isfinite(got.output(0, h, 1, c))) << way;
                         }
                       });
}

// S2.19: a cap after the mask would make a hidden key's score -5.
TYPED_TEST(EdgeCases, ASoftcapLeavesHiddenKeysHidden) {
  using T = TypeParam;
  const auto q = random_tensor<T>(1, 1, 2, 3, 8), k = random_tensor<T>(2, 1, 2, 6, 8);
  auto v = random_tensor<T>(3, 1, 2, 6, 4);
  Tensor<bool, 4> allowed(1, 1, 1, 6);
  allowed.setValues({{{{true, true, true, false, false, false}}}});
  auto bias = constant_tensor<T>(0, 1, 1, 1, 6);
  std::fill_n(bias.data() + 3, 3, -kInf<T>);
  const eh::ScoreChain by_bias(Softcap<T>(5), ScoreBias<T>(bias));
  std::vector<AttentionResult<T>> clean;
  const auto keep = [&](const AttentionResult<T>& got, const std::string&) {
    clean.push_back(got);
  };
  this->on_every_way(q, k, v, {.valid_lens = {3}}, T(8), Softcap<T>(5), keep);
  for (Index h = 0; h < 2; ++h)
    for (Index i = 3; i < 6; ++i) std::fill_n(&v(0, h, i, 0), 4, T(1e30));
  std::size_t i = 0;
  const auto expect_clean = [&](const AttentionResult<T>& got, const std::string& way) {
    EXPECT_TRUE(same_bits(got, clean[i++ % clean.size()])) << way;
  };
  this->on_every_way(q, k, v, {.valid_lens = {3}}, T(8), Softcap<T>(5), expect_clean);
  this->on_every_way(q, k, v, {.allowed = allowed}, T(8), Softcap<T>(5), expect_clean);
  this->on_every_way(q, k, v, {}, T(8), by_bias, expect_clean);
}

// S3.09
TYPED_TEST(EdgeCases, ALogarithmOfThreeIsThreeQuarters) {
  using T = TypeParam;
  this->on_every_way(this->column({1}), this->column({0, T(1.0986122886681098)}),
                     this->column({0, 1}), {}, T(1),
                     [](const AttentionResult<T>& got, const std::string& way) {
                       EXPECT_NEAR(got.output(0, 0, 0, 0), T(0.75), Limits<T>::epsilon()) << way;
                     });
}

// S3.12
TYPED_TEST(EdgeCases, MinusZeroIsZero) {
  using T = TypeParam;
  const auto k = random_tensor<T>(1, 1, 1, 5, 3);
  const auto zero = constant_tensor<T>(0, 1, 1, 2, 3),
             minus = constant_tensor<T>(T(-0.0), 1, 1, 2, 3);
  auto v = random_tensor<T>(2, 1, 1, 5, 3), v_minus = v;
  for (Index i = 0; i < 5; ++i) v(0, 0, i, 1) = 0, v_minus(0, 0, i, 1) = T(-0.0);
  std::vector<AttentionResult<T>> expected;
  this->on_every_way(zero, k, v, {}, T(1), [&](const AttentionResult<T>& got, const std::string&) {
    expected.push_back(got);
  });
  std::size_t i = 0;
  this->on_every_way(minus, k, v_minus, {}, T(1),
                     [&](const AttentionResult<T>& got, const std::string& way) {
                       EXPECT_TRUE(same_bits(got, expected[i++])) << way;
                     });
}

// S3.13 and the half of S7.09 that is about them: a processor may have lost its subnormal numbers.
TYPED_TEST(EdgeCases, SubnormalNumbersWithAndWithoutThem) {
  using T = TypeParam;
  auto q = random_tensor<T>(1, 1, 1, 3, 8), k = random_tensor<T>(2, 1, 1, 300, 8),
       v = random_tensor<T>(3, 1, 1, 300, 8);
  const auto ordinary = textbook<T>(q, k, v, {.Q = 3, .K = 300}, 1);
  const auto expect = [this](const auto& q_, const auto& k_, const auto& v_,
                             const Textbook<T>& exact) {
    this->on_every_way(q_, k_, v_, {}, T(1),
                       [&](const AttentionResult<T>& got, const std::string& way) {
                         EXPECT_TRUE(within(got.output, exact.output, exact.output_bound)) << way;
                       });
  };
  auto tiny_q = q, tiny_k = k, tiny_v = v;
  for (auto* x : {&tiny_q, &tiny_k, &tiny_v})
    for (Index i = 0; i < x->size(); ++i) x->data()[i] *= Limits<T>::min();
  const auto tiny = textbook<T>(tiny_q, tiny_k, tiny_v, {.Q = 3, .K = 300}, 1);
  expect(q, k, v, ordinary);
  expect(tiny_q, tiny_k, tiny_v, tiny);
  const SubnormalsAreLost lost;
  expect(q, k, v, ordinary);
  expect(tiny_q, tiny_k, tiny_v, tiny);
}

// S4.03: each input and the output, at every place within 64 bytes that its elements may have.
TYPED_TEST(EdgeCases, EveryAlignmentHasTheSameBits) {
  using T = TypeParam;
  constexpr auto places = static_cast<Index>(64 / sizeof(T));
  for (const Index Q : {1, 5, 13}) {
    const auto q = random_tensor<T>(1, 1, 2, Q, 16), k = random_tensor<T>(2, 1, 2, 33, 16),
               v = random_tensor<T>(3, 1, 2, 33, 16);
    const Tensor<T, 4> expected = scaled_dot_product_attention(q, k, v).output;
    Context one(1), four(4, kAnyWork);
    const Index room = (k.size() / places + 2) * places;
    std::vector<T> memory(static_cast<std::size_t>(4 * room + places));
    const auto beyond =
        static_cast<Index>(reinterpret_cast<std::uintptr_t>(memory.data()) % 64 / sizeof(T));
    T* const aligned = memory.data() + (places - beyond) % places;
    for (Index which = 0; which < 4; ++which)
      for (Index place = 0; place < places; ++place) {
        const auto at = [&](Index number) {
          return aligned + number * room + (number == which ? place : 0);
        };
        const auto moved = [&](Index number, const Tensor<T, 4>& x) {
          std::copy_n(x.data(), x.size(), at(number));
          return TensorView<T, 4>(at(number), TensorView<T, 4>(x).dimensions());
        };
        const auto q_there = moved(0, q), k_there = moved(1, k), v_there = moved(2, v);
        const eh::TensorSpan<T, 4> output(at(3), q_there.dimensions());
        for (Context* context : {&one, &four}) {
          std::fill_n(output.data(), output.size(), kNan<T>);
          eh::scaled_dot_product_attention_into(output, q_there, k_there, v_there, {}, {},
                                                *context);
          ASSERT_TRUE(same_bits(TensorView<T, 4>(output), expected)) << which << ' ' << place;
        }
      }
  }
}

// S4.07: rows of an output lie one after the other, so that there is no room between them to write
// in; before the first and after the last nothing is written.
static_assert(!std::is_constructible_v<eh::TensorSpan<float, 4>, const eh::StridedView<float, 4>&>);
TYPED_TEST(EdgeCases, NothingIsWrittenBesideTheOutput) {
  using T = TypeParam;
  for (const Index V : {1, 5, 16, 33})
    for (const int threads : {1, 4}) {
      Context context(threads, kAnyWork);
      const auto q = random_tensor<T>(1, 2, 2, 7, 8), k = random_tensor<T>(2, 2, 2, 40, 8),
                 v = random_tensor<T>(3, 2, 2, 40, V);
      auto memory = constant_tensor<T>(7, 2 * 2 * 7 * V + 32);
      const eh::TensorSpan<T, 4> output(memory.data() + 16, {2, 2, 7, V});
      eh::scaled_dot_product_attention_into(output, q, k, v, {.valid_lens = {0, 33}}, {}, context);
      const Tensor<T, 4> expected =
          scaled_dot_product_attention(q, k, v, {.valid_lens = {0, 33}}).output;
      EXPECT_TRUE(same_bits(TensorView<T, 4>(output), expected));
      for (Index i = 0; i < 16; ++i) {
        EXPECT_EQ(memory(i), T(7));
        EXPECT_EQ(memory(memory.size() - 1 - i), T(7));
      }
    }
}

// S4.08: to the bit of each NaN.
TYPED_TEST(EdgeCases, InputsAreLeftAsTheyAre) {
  using T = TypeParam;
  const auto layer = make_layer<T>(8, {.num_hiddens = 8, .num_heads = 2, .bias = true});
  auto x = random_tensor<T>(1, 2, 5, 8), m = random_tensor<T>(2, 2, 70, 8);
  m(0, 69, 3) = -kNan<T>;
  const auto dy = random_tensor<T>(3, 2, 5, 8);
  const auto same = [](const Tensor<T, 3>& a, const Tensor<T, 3>& b) {
    const auto bytes = [](const Tensor<T, 3>& y) {
      const auto* first = reinterpret_cast<const std::byte*>(y.data());
      return std::vector<std::byte>(first, first + static_cast<std::size_t>(y.size()) * sizeof(T));
    };
    return bytes(a) == bytes(b);
  };
  const auto x_before = x, m_before = m, dy_before = dy;
  for (const int threads : {1, 4}) {
    Context context(threads, kAnyWork);
    const Mask mask{.valid_lens = {69, 0}, .causal = Causal::bottom_right};
    (void)layer(x, m, m, mask, context);
    (void)layer.with_weights(x, m, m, mask, context);
    typename eh::MultiHeadAttention<T>::Activations saved;
    (void)layer.forward(x, m, m, mask, saved, {.context = context});
    (void)layer.backward(dy, saved, context);
    EXPECT_TRUE(same(x, x_before) && same(m, m_before) && same(dy, dy_before)) << threads;
  }
}

// S5.02
TYPED_TEST(EdgeCases, SharedKeyHeadsAreThoseRepeated) {
  using T = TypeParam;
  const Index B = 2, H = 6, G = 2, K = 270;
  const auto k = random_tensor<T>(2, B, G, K, 8), v = random_tensor<T>(3, B, G, K, 5);
  const auto repeated = [&](const Tensor<T, 4>& x) {
    Tensor<T, 4> y(B, H, K, x.dimension(3));
    for (Index b = 0; b < B; ++b)
      for (Index h = 0; h < H; ++h)
        std::copy_n(&x(b, h * G / H, 0, 0), K * x.dimension(3), &y(b, h, 0, 0));
    return y;
  };
  for (const Index Q : {1, 4, 13}) {
    const auto q = random_tensor<T>(1, B, H, Q, 8);
    for (const PairMask& pairs : example_masks(B, Q, K, 3)) {
      SCOPED_TRACE(pairs.text());
      const Mask mask = pairs.mask();
      std::vector<AttentionResult<T>> whole;
      this->on_every_way(
          q, repeated(k), repeated(v), mask, T(0.5),
          [&](const AttentionResult<T>& got, const std::string&) { whole.push_back(got); });
      std::size_t i = 0;
      this->on_every_way(q, k, v, mask, T(0.5),
                         [&](const AttentionResult<T>& got, const std::string& way) {
                           ASSERT_TRUE(same_bits(got, whole[i])) << way;
                           ASSERT_TRUE(same_bits(got.weights, whole[i++].weights)) << way;
                         });
    }
  }
}

// S6.05
TYPED_TEST(EdgeCases, ASeedDropsTheSameOnAnyNumberOfThreads) {
  using T = TypeParam;
  const auto layer = make_layer<T>(
      8, {.num_hiddens = 8, .num_heads = 4, .dropout = 0.3, .bias = true, .num_kv_heads = 2});
  const auto x = random_tensor<T>(1, 3, 40, 8), dy = random_tensor<T>(2, 3, 40, 8);
  const Mask mask{.valid_lens = {40, 0, 17}};
  Tensor<T, 3> output;
  typename eh::MultiHeadAttention<T>::Gradients gradients;
  for (const int threads : {1, 2, 7}) {
    Context context(threads, kAnyWork);
    typename eh::MultiHeadAttention<T>::Activations saved;
    const Tensor<T, 3> got =
        layer.forward(x, x, x, mask, saved, {.seed = eh::DropoutSeed{5}, .context = context});
    const auto back = layer.backward(dy, saved, context);
    if (threads == 1) {
      EXPECT_FALSE(same_bits(got, layer(x, x, x, mask)));  // something was dropped
      output = got, gradients = back;
    }
    EXPECT_TRUE(same_bits(got, output)) << threads;
    EXPECT_TRUE(same_bits(back.queries, gradients.queries)) << threads;
    EXPECT_TRUE(same_bits(back.keys, gradients.keys)) << threads;
    EXPECT_TRUE(same_bits(back.values, gradients.values)) << threads;
    EXPECT_TRUE(same_bits(back.W_v.weight, gradients.W_v.weight)) << threads;
  }
}

// S6.03, of the layer: with and without a seed, which nothing asks for.
TYPED_TEST(EdgeCases, DropoutOfNothingTrainsTheSame) {
  using T = TypeParam;
  const eh::MultiHeadAttentionOptions options{.num_hiddens = 8, .num_heads = 2, .bias = true};
  auto dropping = options;
  dropping.dropout = 0.0;
  const auto x = random_tensor<T>(1, 2, 9, 8), dy = random_tensor<T>(2, 2, 9, 8);
  const auto plain = make_layer<T>(8, options), other = make_layer<T>(8, dropping);
  typename eh::MultiHeadAttention<T>::Activations saved, saved_other;
  const Tensor<T, 3> y = plain.forward(x, x, x, {}, saved);
  EXPECT_TRUE(same_bits(other.forward(x, x, x, {}, saved_other, {.seed = eh::DropoutSeed{5}}), y));
  EXPECT_TRUE(same_bits(plain(x, x, x), y));
  const auto a = plain.backward(dy, saved), b = other.backward(dy, saved_other);
  EXPECT_TRUE(same_bits(a.queries, b.queries) && same_bits(a.W_k.weight, b.W_k.weight));
}

// S6.07
TYPED_TEST(EdgeCases, ARefusedBackwardPassLeavesTheGradientsAsTheyWere) {
  using T = TypeParam;
  using Layer = eh::MultiHeadAttention<T>;
  const auto layer = make_layer<T>(8, {.num_hiddens = 8, .num_heads = 2});
  const auto of_other_heads = make_layer<T>(8, {.num_hiddens = 8, .num_heads = 4});
  const auto x = random_tensor<T>(1, 2, 5, 8), dy = random_tensor<T>(2, 2, 5, 8);
  typename Layer::Activations saved, none, of_others, of_other_rows;
  (void)layer.forward(x, x, x, {}, saved);
  (void)of_other_heads.forward(x, x, x, {}, of_others);
  const auto longer = random_tensor<T>(1, 2, 6, 8);
  (void)layer.forward(longer, longer, longer, {}, of_other_rows);
  const auto before = layer.backward(dy, saved);
  for (const bool adds : {false, true}) {
    auto gradients = before;
    const auto refused = [&]<class Error>(Error, const typename Layer::Activations& activations) {
      EXPECT_NE(refusal<Error>([&] {
                  layer.backward_into(gradients, dy, activations, adds);
                  return 0;
                }),
                "not refused");
      EXPECT_TRUE(same_bits(gradients.queries, before.queries));
      EXPECT_TRUE(same_bits(gradients.keys, before.keys));
      EXPECT_TRUE(same_bits(gradients.values, before.values));
      EXPECT_TRUE(same_bits(gradients.W_q.weight, before.W_q.weight));
      EXPECT_TRUE(same_bits(gradients.W_o.weight, before.W_o.weight));
    };
    refused(std::logic_error(""), none);
    refused(std::logic_error(""), of_others);
    refused(std::invalid_argument(""), of_other_rows);
  }
}

// S6.08: the gradient that reaches a query without keys goes no further than the output's bias.
TYPED_TEST(EdgeCases, ARowWithoutKeysLeavesTheGradientsOfWeightsAsTheyAre) {
  using T = TypeParam;
  const auto layer = make_layer<T>(8, {.num_hiddens = 8, .num_heads = 2, .bias = true});
  const auto x = random_tensor<T>(1, 4, 5, 8);
  auto dy = random_tensor<T>(2, 4, 5, 8);
  auto lens = constant_tensor<Index>(5, 4, 5);
  lens(2, 3) = 0;
  const Mask mask{.valid_lens = lens};
  typename eh::MultiHeadAttention<T>::Activations saved;
  (void)layer.forward(x, x, x, mask, saved);
  const auto with = layer.backward(dy, saved);
  for (Index i = 0; i < 8; ++i) dy(2, 3, i) = 0;
  const auto without = layer.backward(dy, saved);
  const auto expect_same = [](const eh::LinearGradients<T>& a, const eh::LinearGradients<T>& b) {
    EXPECT_TRUE(same_bits(a.weight, b.weight));
    for (Index i = 0; i < a.weight.size(); ++i) EXPECT_TRUE(std::isfinite(a.weight.data()[i]));
  };
  expect_same(with.W_q, without.W_q);
  expect_same(with.W_k, without.W_k);
  expect_same(with.W_v, without.W_v);
  expect_same(with.W_o, without.W_o);
  EXPECT_FALSE(same_bits(with.W_o.bias, without.W_o.bias));
  EXPECT_TRUE(all_are(row(with.queries, 2, 3), 0));
}

// S7.01
TYPED_TEST(EdgeCases, FromOneThreadToSixteenAHundredTimes) {
  using T = TypeParam;
  const auto layer = make_layer<T>(16, {.num_hiddens = 16, .num_heads = 4, .num_kv_heads = 2});
  const auto x = random_tensor<T>(1, 3, 19, 16), m = random_tensor<T>(2, 3, 140, 16);
  const Mask mask{.valid_lens = {140, 0, 129}};
  const Tensor<T, 3> expected = layer(x, m, m, mask);
  for (int threads = 1; threads <= 16; ++threads) {
    Context context(threads, kAnyWork);
    for (int repeat = 0; repeat < 100; ++repeat)
      ASSERT_TRUE(same_bits(layer(x, m, m, mask, context), expected))
          << threads << " threads, call " << repeat;
  }
}

// S7.09: a caller's rounding and loss of subnormal numbers stay as they were; where these alone are
// set, results are as exact as ever (above).
TYPED_TEST(EdgeCases, TheCallersFloatingPointModesStay) {
  using T = TypeParam;
  const auto layer = make_layer<T>(8, {.num_hiddens = 8, .num_heads = 2, .dropout = 0.3});
  const auto x = random_tensor<T>(1, 2, 70, 8);
  const int before = std::fegetround();
  for (const int threads : {1, 4}) {
    Context context(threads, kAnyWork);
    const SubnormalsAreLost lost;
    const volatile T least = Limits<T>::min();
    const auto are_lost = [&least] { return least / 2 == 0; };
    const bool expected = are_lost();  // false where nothing can take them
    std::fesetround(FE_UPWARD);
    typename eh::MultiHeadAttention<T>::Activations saved;
    (void)layer.forward(x, x, x, {}, saved, {.seed = eh::DropoutSeed{1}, .context = context});
    (void)layer.backward(x, saved, context);
    (void)layer.with_weights(x, x, x, {}, context);
    (void)layer(x, x, x, {.causal = Causal::top_left}, context);
    const int after = std::fegetround();
    const bool still = are_lost();
    std::fesetround(before);
    EXPECT_EQ(after, FE_UPWARD);
    EXPECT_EQ(still, expected);
  }
}

}  // namespace
