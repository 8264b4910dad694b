// SPDX-License-Identifier: MIT
// The same as memory_test.cpp for the modules around attention: without memory for what a call takes,
// whichever allocation it is, they are as they were, and the next call gives the bits that it would
// have given.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include <eigenheads/nn/additive_attention.hpp>
#include <eigenheads/nn/embedding.hpp>
#include <eigenheads/nn/feed_forward.hpp>
#include <eigenheads/nn/layer_norm.hpp>
#include <eigenheads/nn/positional_encoding.hpp>
#include <eigenheads/nn/transformer_cache.hpp>
#include <eigenheads/nn/transformer_decoder_layer.hpp>
#include <eigenheads/nn/transformer_encoder.hpp>

#include "faults/failing_memory.hpp"
#include "faults/modules.hpp"
#include "support.hpp"

namespace {

using namespace support;
using eh::Context, eh::Mask, eh::Sequences;
using T = float;

constexpr Index kB = 2, kL = 3, kE = 8;

[[nodiscard]] const Tensor<T, 3>& x() {
  static const auto made = random_tensor<T>(7, kB, kL, kE);
  return made;
}
[[nodiscard]] const Tensor<T, 3>& other() {  // of other sizes
  static const auto made = random_tensor<T>(6, 1, 2, kE);
  return made;
}
[[nodiscard]] const Tensor<T, 3>& grad_y() {
  static const auto made = random_tensor<T>(5, kB, kL, kE);
  return made;
}
constexpr T kUntouched = 77;

[[nodiscard]] eh::TransformerLayerOptions layer_options(bool norm_first) {
  return {.num_hiddens = kE,
          .num_heads = 2,
          .feed_forward_size = 10,
          .norm_first = norm_first,
          .dropout = 0.25,
          .memory_size = 6};
}

// call(y, context) writes to all of y, [B, L, E], or to none of it.
template <class Call>
void expect_all_or_nothing(const Call& call) {
  for (const int threads : {1, 3}) {
    Cold cold(threads);
    Tensor<T, 3> expected(kB, kL, kE);
    call(expected, cold.context());
    const long count = fails_at_each_allocation(
        [&] {
          cold.context().release();
          return constant_tensor(kUntouched, kB, kL, kE);
        },
        [&](Tensor<T, 3>& y) { call(y, cold.context()); },
        [&](const Tensor<T, 3>& y) { EXPECT_TRUE(all_are(y, kUntouched)); },
        [&](const Tensor<T, 3>& y) {
          EXPECT_TRUE(same_bits(y, expected));
          cold.context().release();
        });
    EXPECT_GE(count, 1);
  }
}

// A training call, and what it is the forward pass of: of the same bits as without a failure, whether
// forward or backward failed. forward(of, saved, context), and backward(gradients, saved, context),
// are of x(); forward_other, of other(), leaves `saved` something to be lost.
template <class Module, class Forward, class ForwardOther, class Backward>
void expect_to_train(const Module& module, const Forward& forward,
                     const ForwardOther& forward_other, const Backward& backward) {
  struct Trained {
    typename Module::Activations saved{};
    std::optional<Tensor<T, 3>> y{};
    typename Module::Gradients gradients{};
  };
  for (const int threads : {1, 3}) {
    Cold cold(threads);
    Context& context = cold.context();
    Trained expected;
    expected.y = forward(module, expected.saved, context);
    backward(module, expected.gradients, expected.saved, context);
    fails_at_each_allocation(
        [&] {
          Trained made;
          forward_other(module, made.saved, context);
          context.release();
          return made;
        },
        [&](Trained& made) { made.y = forward(module, made.saved, context); },
        [&](Trained& made) {
          EXPECT_FALSE(made.y);
          // Nothing is saved, or what was: never a part of both.
          try {
            backward(module, made.gradients, made.saved, context);
            ADD_FAILURE() << "what is saved is taken for that of the call that failed";
          } catch (const std::logic_error&) {
          }
          context.release();
        },
        [&](Trained& made) {
          EXPECT_TRUE(same_bits(*made.y, *expected.y));
          backward(module, made.gradients, made.saved, context);
          EXPECT_TRUE(same_parameters(made.gradients, expected.gradients));
          context.release();
        });
    fails_at_each_allocation(
        [&] {
          Trained made;
          (void)forward(module, made.saved, context);
          context.release();
          return made;
        },
        [&](Trained& made) { backward(module, made.gradients, made.saved, context); },
        [](const Trained&) {},
        [&](const Trained& made) {
          EXPECT_TRUE(same_parameters(made.gradients, expected.gradients));
          context.release();
        });
  }
}

template <class Module>
void expect_to_be_made(const auto& options) {
  struct Made {
    std::optional<Module> module{};
  };
  const Module expected(options, 3);
  fails_at_each_allocation(
      [] { return Made{}; }, [&](Made& made) { made.module.emplace(options, 3); },
      [](const Made& made) { EXPECT_FALSE(made.module); },
      [&](const Made& made) { EXPECT_TRUE(same_parameters(*made.module, expected)); });
}

TEST(ModulesMemory, AnEncoderLayerWritesAllOrNothingAndTrains) {
  for (const bool norm_first : {false, true}) {
    const eh::TransformerEncoderLayer<T> layer(layer_options(norm_first), 3);
    const Mask mask{.valid_lens = {kL, 2}};
    expect_all_or_nothing(
        [&](auto& y, Context& context) { layer.forward_into(y, x(), mask, context); });
    expect_to_train(
        layer,
        [&](const auto& of, auto& saved, Context& context) {
          return of.forward(x(), mask, saved, {.seed = eh::DropoutSeed{5}, .context = context});
        },
        [](const auto& of, auto& saved, Context& context) {
          (void)of.forward(other(), {}, saved, {.seed = eh::DropoutSeed{5}, .context = context});
        },
        [](const auto& of, auto& gradients, const auto& saved, Context& context) {
          of.backward_into(gradients, grad_y(), saved, false, context);
        });
  }
  expect_to_be_made<eh::TransformerEncoderLayer<T>>(layer_options(true));
}

TEST(ModulesMemory, ADecoderLayerWritesAllOrNothingAndTrains) {
  const eh::TransformerDecoderLayer<T> layer(layer_options(true), 3);
  const auto memory = random_tensor<T>(8, kB, 4, 6), other_memory = random_tensor<T>(8, 1, 4, 6);
  expect_all_or_nothing(
      [&](auto& y, Context& context) { layer.forward_into(y, x(), memory, {}, context); });
  expect_to_train(
      layer,
      [&](const auto& of, auto& saved, Context& context) {
        return of.forward(x(), memory, {}, saved, {.seed = eh::DropoutSeed{5}, .context = context});
      },
      [&](const auto& of, auto& saved, Context& context) {
        (void)of.forward(other(), other_memory, {}, saved,
                         {.seed = eh::DropoutSeed{5}, .context = context});
      },
      [](const auto& of, auto& gradients, const auto& saved, Context& context) {
        of.backward_into(gradients, grad_y(), saved, false, context);
      });
}

TEST(ModulesMemory, AnEncoderWritesAllOrNothingAndTrains) {
  const eh::TransformerEncoder<T> encoder(
      {.layer = layer_options(true), .num_layers = 2, .final_norm = true}, 3);
  expect_all_or_nothing(
      [&](auto& y, Context& context) { encoder.forward_into(y, x(), {}, context); });
  expect_to_train(
      encoder,
      [](const auto& of, auto& saved, Context& context) {
        return of.forward(x(), {}, saved, {.seed = eh::DropoutSeed{5}, .context = context});
      },
      [](const auto& of, auto& saved, Context& context) {
        (void)of.forward(other(), {}, saved, {.seed = eh::DropoutSeed{5}, .context = context});
      },
      [](const auto& of, auto& gradients, const auto& saved, Context& context) {
        of.backward_into(gradients, grad_y(), saved, false, context);
      });
}

// All layers have the tokens of a step, or none has.
TEST(ModulesMemory, AStepOfAnEncoderIsThatOfAllLayersOrOfNone) {
  const eh::TransformerEncoder<T> encoder(
      {.layer = layer_options(false), .num_layers = 2, .final_norm = false}, 3);
  const auto prompt = random_tensor<T>(4, kB, 5, kE);
  using Cache = eh::TransformerCache<T, T>;
  struct Stepped {
    Cache cache;
    std::optional<Tensor<T, 3>> y{};
  };
  Cold cold(1);
  Context& context = cold.context();
  for (const Index window : {0, 6}) {
    const auto made = [&] {
      Stepped of{Cache(encoder, {.batch_size = kB, .capacity = 9, .window = window})};
      (void)encoder.step(prompt, of.cache, {}, context);
      context.release();
      return of;
    };
    Stepped expected = made();
    expected.y = encoder.step(x(), expected.cache, {}, context);
    fails_at_each_allocation(
        made, [&](Stepped& of) { of.y = encoder.step(x(), of.cache, {}, context); },
        [&](const Stepped& of) {
          EXPECT_FALSE(of.y);
          for (Index i = 0; i < 2; ++i)
            for (Index b = 0; b < kB; ++b) EXPECT_EQ(of.cache.layer(i).length(b), 5);
          context.release();
        },
        [&](const Stepped& of) {
          EXPECT_TRUE(same_bits(*of.y, *expected.y));
          context.release();
        });
  }
}

TEST(ModulesMemory, AFeedForwardNetworkGetsAllSizesOrNoneAndTrains) {
  const eh::FeedForwardOptions lazy{
      .hidden_size = 10, .activation = eh::Activation::silu, .gated = true};
  auto eager = lazy;
  eager.size = kE;
  const eh::FeedForward<T> module(eager, 3);
  fails_at_each_allocation([&] { return eh::FeedForward<T>(lazy, 3); },
                           [](auto& of) { of.initialize(kE); },
                           [](auto& of) { EXPECT_TRUE(of.is_lazy() && of.gate->is_lazy()); },
                           [&](auto& of) { EXPECT_TRUE(same_parameters(of, module)); });
  expect_all_or_nothing([&](auto& y, Context& context) { module.forward_into(y, x(), context); });
  expect_to_train(
      module,
      [](const auto& of, auto& saved, Context& context) { return of.forward(x(), saved, context); },
      [](const auto& of, auto& saved, Context& context) {
        (void)of.forward(other(), saved, context);
      },
      [](const auto& of, auto& gradients, const auto& saved, Context& context) {
        of.backward_into(gradients, grad_y(), saved, false, context);
      });
}

TEST(ModulesMemory, AnEmbeddingKeepsAllIdsOfACallOrNone) {
  const eh::Embedding<T> table({.num_embeddings = 20, .embedding_dim = kE}, 3);
  Tensor<std::int64_t, 2> ids(kB, kL), fewer(1, 2);
  std::fill_n(fewer.data(), fewer.size(), 7);
  for (Index i = 0; i < ids.size(); ++i) ids.data()[i] = (5 * i) % 20;
  expect_to_train(
      table,
      [&](const auto& of, auto& saved, Context& context) {
        return of.forward(ids, saved, context);
      },
      [&](const auto& of, auto& saved, Context& context) {
        (void)of.forward(fewer, saved, context);
      },
      [](const auto& of, auto& gradients, const auto& saved, Context& context) {
        of.backward_into(gradients, grad_y(), saved, false, context);
      });
  fails_at_each_allocation(
      [&] { return eh::Embedding<T>({.num_embeddings = 3, .embedding_dim = 2}); },
      [&](auto& of) { of = table; }, [](const auto& of) { EXPECT_EQ(of.num_embeddings(), 3); },
      [&](const auto& of) { EXPECT_TRUE(same_parameters(of, table)); });
}

TEST(ModulesMemory, NormsAndPositionsGetAllSizesOrNone) {
  const eh::LayerNorm<T> norm({.size = kE});
  fails_at_each_allocation([] { return eh::LayerNorm<T>({}); }, [](auto& of) { of.initialize(kE); },
                           [](const auto& of) { EXPECT_TRUE(of.is_lazy()); },
                           [&](const auto& of) { EXPECT_TRUE(same_parameters(of, norm)); });
  const eh::PositionalEncoding<T> positions({.num_hiddens = kE, .max_len = 10});
  fails_at_each_allocation(
      [] { return eh::PositionalEncoding<T>({.max_len = 10}); },
      [](auto& of) { of.initialize(kE); }, [](const auto& of) { EXPECT_EQ(of.num_hiddens(), 0); },
      [&](const auto& of) { EXPECT_TRUE(same_bits(of(x()), positions(x()))); });
}

TEST(ModulesMemory, AdditiveAttentionWritesAllOrNothing) {
  const eh::AdditiveAttention<T> module({.num_hiddens = 5, .query_size = kE, .key_size = 4});
  const auto keys = random_tensor<T>(2, kB, 7, 4), values = random_tensor<T>(3, kB, 7, kE);
  expect_all_or_nothing(
      [&](auto& y, Context& context) { module.forward_into(y, x(), keys, values, {}, context); });
}

}  // namespace
