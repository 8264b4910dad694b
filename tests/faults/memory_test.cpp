// SPDX-License-Identifier: MIT
// Without memory for what a call takes, whichever allocation it is: std::bad_alloc, the layer, its
// cache, its optimizer and the tensors of the caller are as they were, nothing leaks, and the next
// call gives the bits that it would have given.
#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_backward.hpp>
#include <eigenheads/dot_product_attention.hpp>
#include <eigenheads/head_importance.hpp>
#include <eigenheads/key_values.hpp>
#include <eigenheads/kv_cache.hpp>
#include <eigenheads/multi_head_attention.hpp>
#include <eigenheads/nn/parameters.hpp>
#include <eigenheads/prune_heads.hpp>
#include <eigenheads/train/optim.hpp>

#include "context.hpp"
#include "faults/failing_memory.hpp"
#include "faults/modules.hpp"
#include "layers.hpp"
#include "support.hpp"

namespace {

using namespace support;
using eh::Context, eh::Mask, eh::Sequences;
using T = float;
using Layer = eh::MultiHeadAttention<T>;

constexpr Index kB = 2, kL = 5, kE = 16, kH = 4, kG = 2;

[[nodiscard]] eh::MultiHeadAttentionOptions options(Index input_size = kE) {
  return {.num_hiddens = kE,
          .num_heads = kH,
          .dropout = 0.25,
          .bias = true,
          .query_size = input_size,
          .key_size = input_size,
          .value_size = input_size,
          .num_kv_heads = kG,
          .sink_logits = true,
          .rotary = eh::RotaryOptions{.max_positions = 700}};
}
[[nodiscard]] const Layer& layer() {
  static const Layer made = make_layer<T>(kE, options());
  return made;
}
[[nodiscard]] const Mask& mask() {
  static const Mask made{.valid_lens = {kL, 3}, .causal = eh::Causal::bottom_right};
  return made;
}
[[nodiscard]] const Tensor<T, 3>& x() {
  static const auto made = random_tensor<T>(7, kB, kL, kE);
  return made;
}
[[nodiscard]] const Tensor<T, 2>& rows() {
  static const auto made = random_tensor<T>(8, 9, kE);
  return made;
}
[[nodiscard]] const Sequences& sequences() {
  static const Sequences made{4, 0, 5};
  return made;
}
constexpr T kUntouched = 77;

// ---- What is made ------------------------------------------------------------------------------

TEST(Memory, AContextThatCannotBeMadeLeavesNoThread) {
  struct Made {
    std::optional<Context> context{};
  };
  if (!kThreadsCanFail) return;
  const long count = fails_at_each_allocation<std::runtime_error>(
      [] { return Made{}; }, [](Made& made) { made.context.emplace(3, kAnyWork); },
      [](const Made& made) { EXPECT_FALSE(made.context); },
      [](Made& made) { EXPECT_TRUE(each_once(*made.context, 50)); });
  EXPECT_GE(count, 3);
}

TEST(Memory, ALayerThatCannotBeMadeIsNone) {
  struct Made {
    std::optional<Layer> layer{};
  };
  const long count = fails_at_each_allocation(
      [] { return Made{}; }, [](Made& made) { made.layer.emplace(options(), 1); },
      [](const Made& made) { EXPECT_FALSE(made.layer); },
      [](const Made& made) { EXPECT_TRUE(same_parameters(*made.layer, Layer(options(), 1))); });
  EXPECT_GE(count, 10);
}

TEST(Memory, ALayerThatCannotBecomeAnotherStaysWhatItIs) {
  const auto pruned = prune_heads(layer(), {1});
  fails_at_each_allocation([&] { return Layer(pruned); }, [](Layer& to) { to = layer(); },
                           [&](const Layer& to) { EXPECT_TRUE(same_parameters(to, pruned)); },
                           [](const Layer& to) { EXPECT_TRUE(same_parameters(to, layer())); });
}

TEST(Memory, ALazyLayerGetsAllOfItsSizesOrNone) {
  const auto lazy = [] { return Layer(options(0), 1); };
  const auto is_lazy = [](const Layer& of) {
    EXPECT_TRUE(of.W_q.is_lazy() && of.W_k.is_lazy() && of.W_v.is_lazy());
  };
  const Layer whole(options(), 1);
  const auto is_whole = [&](const Layer& of) { EXPECT_TRUE(same_parameters(of, whole)); };
  fails_at_each_allocation(lazy, [](Layer& of) { of.initialize(kE, kE, kE); }, is_lazy, is_whole);
  // A call may have given it its sizes before it failed.
  Cold cold(1);
  fails_at_each_allocation(
      lazy,
      [&](Layer& of) {
        (void)of(x(), x(), x(), mask(), cold.context());
        cold.context().release();
      },
      [&](const Layer& of) {
        cold.context().release();
        if (of.W_v.is_lazy())
          is_lazy(of);
        else
          is_whole(of);
      },
      is_whole);
}

TEST(Memory, GatesThatCannotBeKeptAreNotSet) {
  const auto gates = random_tensor<T>(3, kB, kH);
  const auto other = random_tensor<T>(4, 3, kH);
  fails_at_each_allocation(
      [&] {
        Layer made(layer());
        made.set_gates(other);
        return made;
      },
      [&](Layer& of) { of.set_gates(gates); },
      [&](const Layer& of) { EXPECT_TRUE(same_bits(of.gates(), other)); },
      [&](const Layer& of) { EXPECT_TRUE(same_bits(of.gates(), gates)); });
}

TEST(Memory, PruningLeavesTheLayerAlone) {
  Layer gated(layer());
  gated.set_gates(random_tensor<T>(3, kB, kH));
  const auto expected = prune_heads(gated, {0, 3});
  struct Made {
    std::optional<Layer> layer{};
  };
  fails_at_each_allocation([] { return Made{}; },
                           [&](Made& made) { made.layer = prune_heads(gated, {0, 3}); },
                           [](const Made& made) { EXPECT_FALSE(made.layer); },
                           [&](const Made& made) {
                             EXPECT_TRUE(same_parameters(*made.layer, expected));
                             EXPECT_TRUE(same_bits(made.layer->gates(), expected.gates()));
                           });
}

// ---- Inference ---------------------------------------------------------------------------------

// call(y, context) writes to the whole of y, or to none of it.
template <class Y, class Call>
void expect_all_or_nothing(const Y& of_shape, const Call& call) {
  for (const int threads : {1, 3}) {
    SCOPED_TRACE(threads);
    Cold cold(threads);
    Y expected(of_shape);
    call(expected, cold.context());
    const auto untouched = [&] {
      cold.context().release();
      Y y(of_shape);
      std::fill_n(y.data(), y.size(), kUntouched);
      return y;
    };
    const long count = fails_at_each_allocation(
        untouched, [&](Y& y) { call(y, cold.context()); },
        [&](const Y& y) { EXPECT_TRUE(all_are(y, kUntouched)); },
        [&](const Y& y) {
          EXPECT_TRUE(same_bits(y, expected));
          cold.context().release();
        });
    EXPECT_GE(count, 1);
  }
}

TEST(Memory, ACallWritesAllOrNothing) {
  const Tensor<T, 3> y3(kB, kL, kE);
  const Tensor<T, 2> y2(9, kE);
  expect_all_or_nothing(y3, [](auto& y, Context& context) {
    layer().forward_into(y, x(), x(), x(), mask(), context);
  });
  expect_all_or_nothing(y3, [](auto& y, Context& context) {
    layer().forward_into(y, x(), x(), x(), mask(),
                         {.score = eh::Softcap<T>(3), .context = context});
  });
  Layer gated(layer());
  Tensor<T, 2> gates = constant_tensor(T(0.5), kB, kH);  // the output is made in several groups
  gates(0, 1) = gates(1, 2) = gates(1, 3) = 0;
  gated.set_gates(gates);
  expect_all_or_nothing(y3, [&](auto& y, Context& context) {
    gated.forward_into(y, x(), x(), x(), mask(), context);
  });
  expect_all_or_nothing(y2, [](auto& y, Context& context) {
    layer().forward_into(y, rows(), sequences(), {.causal = eh::Causal::bottom_right}, context);
  });
  expect_all_or_nothing(y3, [](auto& y, Context& context) {
    const auto made = layer().with_weights(x(), x(), x(), mask(), context);
    std::copy_n(made.output.data(), y.size(), y.data());
  });
  expect_all_or_nothing(y2, [](auto& y, Context& context) {
    const auto made = layer().with_weights(rows(), sequences(), {}, context);
    std::copy_n(made.output.data(), y.size(), y.data());
  });
  expect_all_or_nothing(
      y3, [](auto& y, Context& context) { layer().W_o.forward_into(y, x(), context); });
}

// One head, and keys that several threads share.
TEST(Memory, AttentionAloneWritesAllOrNothing) {
  const auto q = random_tensor<T>(1, 1, 2, 3, 8), k = random_tensor<T>(2, 1, 1, 600, 8);
  expect_all_or_nothing(Tensor<T, 4>(1, 2, 3, 8), [&](auto& y, Context& context) {
    eh::scaled_dot_product_attention_into(y, q, k, k, {}, {}, context);
  });
  const auto many = random_tensor<T>(3, 1, 2, 300, 8);
  expect_all_or_nothing(Tensor<T, 4>(1, 2, 300, 8), [&](auto& y, Context& context) {
    eh::scaled_dot_product_attention_into(
        y, many, k, k, {.causal = eh::Causal::bottom_right, .window = {50, -1}}, {}, context);
  });
  // A result that was made for other shapes is lost.
  Cold cold(1);
  const auto expected = eh::scaled_dot_product_attention(q, k, k, {}, {}, cold.context());
  fails_at_each_allocation(
      [&] {
        cold.context().release();
        return eh::scaled_dot_product_attention(many, k, k, {}, {}, cold.context());
      },
      [&](auto& result) {
        cold.context().release();
        eh::scaled_dot_product_attention_into(result, q, k, k, {}, {}, cold.context());
      },
      [](const auto&) {},
      [&](const auto& result) {
        EXPECT_TRUE(same_bits(result, expected));
        cold.context().release();
      });
}

TEST(Memory, ProjectedKeysAndValuesAreMadeWholeOrNot) {
  expect_all_or_nothing(Tensor<T, 3>(kB, kL, kE), [](auto& y, Context& context) {
    const auto memory = layer().project(x(), x(), {}, context);
    const auto made = layer().attend(x(), memory, {}, context);
    std::copy_n(made.data(), y.size(), y.data());
  });
}

// ---- Training ----------------------------------------------------------------------------------

struct Training {
  Layer::Activations saved{};
  Tensor<T, 3> y{};
  std::optional<Layer::Gradients> gradients{};
};

TEST(Memory, AForwardCallThatFailsKeepsNothingForItsBackwardPass) {
  const auto bias = random_tensor<T>(5, 1, kH, kL, kL);
  const auto other = random_tensor<T>(6, 1, 3, kE);
  const auto grad_y = random_tensor<T>(9, kB, kL, kE);
  for (const int threads : {1, 3}) {
    Cold cold(threads);
    Context& context = cold.context();
    const auto forward = [&](Training& to) {
      to.y = layer().forward(
          x(), x(), x(), mask(), to.saved,
          {.score = eh::ScoreBias<T>(bias), .seed = eh::DropoutSeed{5}, .context = context});
    };
    Training expected;
    forward(expected);
    expected.gradients = layer().backward(grad_y, expected.saved, context);
    const auto made = [&] {
      Training before;  // a call of other sizes
      (void)layer().forward(other, other, other, {}, before.saved,
                            {.seed = eh::DropoutSeed{5}, .context = context});
      context.release();
      return before;
    };
    const long count = fails_at_each_allocation(
        made, forward,
        [&](const Training& of) {
          EXPECT_EQ(of.y.size(), 0);
          if (!of.saved.is_saved()) return;
          EXPECT_EQ(of.saved.q().dimension(2), 3) << "what it was";
          EXPECT_EQ(of.saved.heads().dimension(1), 3);
        },
        [&](const Training& of) {
          EXPECT_TRUE(same_bits(of.y, expected.y));
          EXPECT_TRUE(
              same_parameters(layer().backward(grad_y, of.saved, context), *expected.gradients));
          context.release();
        });
    EXPECT_GE(count, 15);
  }
}

TEST(Memory, ABackwardPassThatFailsCanBeMadeAgain) {
  const auto bias = random_tensor<T>(5, 1, kH, kL, kL);
  const auto grad_y = random_tensor<T>(9, kB, kL, kE), small = random_tensor<T>(6, 1, 3, kE);
  for (const int threads : {1, 3}) {
    Cold cold(threads);
    Context& context = cold.context();
    Layer::Activations saved, other;
    (void)layer().forward(
        x(), x(), x(), mask(), saved,
        {.score = eh::ScoreBias<T>(bias), .seed = eh::DropoutSeed{5}, .context = context});
    (void)layer().forward(small, small, small, {}, other,
                          {.seed = eh::DropoutSeed{5}, .context = context});
    const auto expected = layer().backward(grad_y, saved, context);
    fails_at_each_allocation(
        [&] {
          auto gradients = layer().backward(small, other, context);  // of other sizes
          context.release();
          return gradients;
        },
        [&](auto& gradients) { layer().backward_into(gradients, grad_y, saved, false, context); },
        [](const auto&) {},
        [&](const auto& gradients) {
          EXPECT_TRUE(same_parameters(gradients, expected));
          EXPECT_TRUE(same_bits(gradients.queries, expected.queries));
          EXPECT_TRUE(same_bits(gradients.score_bias, expected.score_bias));
          context.release();
        });
  }
}

TEST(Memory, OfDotProductAttentionEitherAllIsSavedOrWhatWasIs) {
  const eh::DotProductAttention<T> attention({.sink_logits = true});
  struct Made {
    eh::DotProductAttention<T>::Activations saved{};
    Tensor<T, 3> y{};
  };
  const auto other = random_tensor<T>(6, 1, 3, kE);
  const auto grad_x = random_tensor<T>(9, kB, kL, kE), grad_other = random_tensor<T>(9, 1, 3, kE);
  Cold cold(1);
  Context& context = cold.context();
  const auto forward = [&](Made& to) {
    to.y = attention.forward(x(), x(), x(), mask(), to.saved, {.context = context});
  };
  const auto forward_other = [&] {
    Made made;
    (void)attention.forward(other, other, other, Mask{}, made.saved, {.context = context});
    context.release();
    return made;
  };
  Made expected = forward_other();
  const auto before = attention.backward(grad_other, expected.saved, context);
  forward(expected);
  const auto after = attention.backward(grad_x, expected.saved, context);
  fails_at_each_allocation(
      forward_other, forward,
      [&](const Made& made) {
        EXPECT_TRUE(
            same_bits(attention.backward(grad_other, made.saved, context).keys, before.keys));
        context.release();
      },
      [&](const Made& made) {
        EXPECT_TRUE(same_bits(attention.backward(grad_x, made.saved, context).keys, after.keys));
        context.release();
      });
}

TEST(Memory, AnOptimizerStepsWholeOrNotAtAll) {
  Layer::Activations saved;
  Cold cold(1);
  const auto grad_y = random_tensor<T>(9, kB, kL, kE);
  (void)layer().forward(x(), x(), x(), mask(), saved,
                        {.seed = eh::DropoutSeed{5}, .context = cold.context()});
  const auto gradients = layer().backward(grad_y, saved, cold.context());
  struct Trained {
    Layer of;
    eh::Adam<T> adam{{.learning_rate = 0.01}};
  };
  const auto states = [](const eh::Adam<T>& adam) {
    std::vector<eh::OptimizerState<T>> all;
    adam.for_each_state([&](const std::string& name, std::span<const T> values) {
      all.push_back({name, {values.begin(), values.end()}});
    });
    return all;
  };
  Trained expected{layer()};
  expected.adam.step(expected.of, gradients);
  fails_at_each_allocation([] { return Trained{layer()}; },
                           [&](Trained& trained) { trained.adam.step(trained.of, gradients); },
                           [&](const Trained& trained) {
                             EXPECT_EQ(trained.adam.step_count(), 0);
                             EXPECT_TRUE(states(trained.adam).empty());
                             EXPECT_TRUE(same_parameters(trained.of, layer()));
                           },
                           [&](const Trained& trained) {
                             EXPECT_EQ(trained.adam.step_count(), 1);
                             EXPECT_TRUE(same_parameters(trained.of, expected.of));
                             const auto a = states(trained.adam), b = states(expected.adam);
                             ASSERT_EQ(a.size(), b.size());
                             for (std::size_t i = 0; i < a.size(); ++i)
                               EXPECT_TRUE(a[i].name == b[i].name && a[i].values == b[i].values)
                                   << a[i].name;
                           });
  const auto kept = states(expected.adam);
  fails_at_each_allocation(
      [] { return Trained{layer()}; }, [&](Trained& trained) { trained.adam.restore(1, kept); },
      [&](const Trained& trained) {
        EXPECT_EQ(trained.adam.step_count(), 0);
        EXPECT_TRUE(states(trained.adam).empty());
      },
      [&](const Trained& trained) { EXPECT_EQ(states(trained.adam).size(), kept.size()); });
}

TEST(Memory, ParametersAreCopiedWholeOrNotAtAll) {
  const eh::MultiHeadAttention<double> doubles(options(), 5);
  Layer expected(layer());
  eh::copy_parameters(doubles, expected);
  fails_at_each_allocation([] { return Layer(layer()); },
                           [&](Layer& to) { eh::copy_parameters(doubles, to); },
                           [](const Layer& to) { EXPECT_TRUE(same_parameters(to, layer())); },
                           [&](const Layer& to) { EXPECT_TRUE(same_parameters(to, expected)); });
}

TEST(Memory, MeasuresOfHeadsTakeABatchWholeOrNotAtAll) {
  Layer::Activations saved;
  Cold cold(3);
  Context& context = cold.context();
  (void)layer().forward(x(), x(), x(), mask(), saved,
                        {.seed = eh::DropoutSeed{5}, .context = context});
  const auto added = [&](int times) {
    eh::HeadImportance<T> importance(layer());
    for (int i = 0; i < times; ++i) importance.add(layer(), saved, context);
    context.release();
    return importance;
  };
  const auto expect_same = [](const eh::HeadImportance<T>& a, const eh::HeadImportance<T>& b) {
    const auto of_a = a.measures(), of_b = b.measures();
    for (std::size_t h = 0; h < of_a.size(); ++h)
      for (const auto& measure : eh::head_measures)
        if (measure.value != &eh::HeadMeasures::gradient) {
          EXPECT_EQ(bits(of_a[h].*measure.value), bits(of_b[h].*measure.value)) << measure.name;
        }
  };
  const auto before = added(1), after = added(2);
  const long count = fails_at_each_allocation([&] { return added(1); },
                                              [&](auto& of) { of.add(layer(), saved, context); },
                                              [&](const auto& of) {
                                                expect_same(of, before);
                                                context.release();
                                              },
                                              [&](const auto& of) {
                                                expect_same(of, after);
                                                context.release();
                                              });
  EXPECT_GE(count, 4);
}

TEST(Memory, MeasuresOfHeadsPutTheGatesBack) {
  const auto gates = random_tensor<T>(3, kB, kH);
  fails_at_each_allocation(
      [&] {
        Layer made(layer());
        made.set_gates(gates);
        return made;
      },
      [](Layer& of) {
        (void)eh::importance_by_trial(of, [&] { return double(of.gates()(0, 1)); });
      },
      [&](const Layer& of) { EXPECT_TRUE(same_bits(of.gates(), gates)); },
      [&](const Layer& of) { EXPECT_TRUE(same_bits(of.gates(), gates)); });
}

// ---- Decoding ----------------------------------------------------------------------------------

// A cache with some tokens, of which the second sequence was forked from the first: the next step
// copies what they share.
template <class Cache>
[[nodiscard]] Cache decoded(const eh::KvCacheOptions& of, Context& context) {
  Cache cache(of);
  (void)layer().step(random_tensor<T>(3, kB, 9, kE), cache, {}, context);
  cache.fork(0, 1);
  context.release();
  return cache;
}

template <class Cache>
void expect_whole_steps(const eh::KvCacheOptions& of) {
  const auto token = random_tensor<T>(4, kB, 1, kE), prompt = random_tensor<T>(5, kB, 4, kE);
  for (const int threads : {1, 3}) {
    SCOPED_TRACE(threads);
    Cold cold(threads);
    Context& context = cold.context();
    struct Stepped {
      Cache cache;
      Tensor<T, 3> y{};
    };
    auto expected = decoded<Cache>(of, context);
    const auto first = layer().step(prompt, expected, {}, context);
    const auto second = layer().step(token, expected, {}, context);
    const Index before = decoded<Cache>(of, context).length(0);
    fails_at_each_allocation(
        [&] { return Stepped{decoded<Cache>(of, context)}; },
        [&](Stepped& of_step) { of_step.y = layer().step(prompt, of_step.cache, {}, context); },
        [&](const Stepped& of_step) {
          EXPECT_EQ(of_step.y.size(), 0);
          for (Index b = 0; b < kB; ++b) EXPECT_EQ(of_step.cache.length(b), before);
          context.release();
        },
        [&](Stepped& of_step) {
          EXPECT_TRUE(same_bits(of_step.y, first));
          EXPECT_TRUE(same_bits(layer().step(token, of_step.cache, {}, context), second));
          context.release();
        });
  }
}

TEST(Memory, AStepAppendsAllOfItsTokensOrNone) {
  const eh::KvCacheOptions of{
      .batch_size = kB, .num_kv_heads = kG, .head_size = kE / kH, .capacity = 40};
  expect_whole_steps<eh::KvCache<T>>(of);
  expect_whole_steps<eh::KvCache<T, eh::BFloat16>>(of);
  expect_whole_steps<eh::KvCache<T, eh::Half>>(of);
}

TEST(Memory, AStepOfARingDoesToo) {
  expect_whole_steps<eh::KvCache<T>>({.batch_size = kB,
                                      .num_kv_heads = kG,
                                      .head_size = kE / kH,
                                      .capacity = 8,
                                      .window = 6,
                                      .sinks = 2});
}

TEST(Memory, APackedStepDoesToo) {
  const eh::KvCacheOptions of{
      .batch_size = 3, .num_kv_heads = kG, .head_size = kE / kH, .capacity = 40};
  Cold cold(1);
  Context& context = cold.context();
  eh::KvCache<T> expected(of);
  const auto first = layer().step(rows(), sequences(), expected, {}, context);
  struct Stepped {
    eh::KvCache<T> cache;
    Tensor<T, 2> y{};
  };
  fails_at_each_allocation(
      [&] {
        context.release();
        return Stepped{eh::KvCache<T>(of)};
      },
      [&](Stepped& stepped) {
        stepped.y =
            layer().step_with_weights(rows(), sequences(), stepped.cache, {}, context).output;
      },
      [](const Stepped& stepped) {
        for (Index b = 0; b < 3; ++b) EXPECT_EQ(stepped.cache.length(b), 0);
      },
      [&](const Stepped& stepped) {
        EXPECT_TRUE(same_bits(stepped.y, first));
        context.release();
      });
}

TEST(Memory, ACacheIsMadeAndCopiedWholeOrNotAndForksWithoutMemory) {
  const eh::KvCacheOptions of{
      .batch_size = kB, .num_kv_heads = kG, .head_size = kE / kH, .capacity = 40};
  Cold cold(1);
  Context& context = cold.context();
  const auto token = random_tensor<T>(4, kB, 1, kE);
  auto source = decoded<eh::KvCache<T>>(of, context);
  auto other = source.copy();
  const auto expected = layer().step(token, other, {}, context);
  struct Made {
    std::optional<eh::KvCache<T>> cache{};
  };
  const long count = fails_at_each_allocation(
      [&] {
        context.release();
        return Made{};
      },
      [&](Made& made) { made.cache.emplace(source.copy()); },
      [](const Made& made) { EXPECT_FALSE(made.cache); },
      [&](Made& made) {
        EXPECT_TRUE(same_bits(layer().step(token, *made.cache, {}, context), expected));
        context.release();
      });
  EXPECT_GE(count, 10);
  const std::vector<Index> parents{1, 0};
  const FailingMemory failing(0, true);
  source.fork(1, 0);
  source.reorder(parents);
  source.truncate(0, 2);
  source.reset(1);
}

}  // namespace
