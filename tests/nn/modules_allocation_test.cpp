// SPDX-License-Identifier: MIT
// Once warm, the modules around attention allocate nothing either, and additive attention's memory
// grows with queries plus keys.
#include <array>
#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

#include <eigenheads/nn/additive_attention.hpp>
#include <eigenheads/nn/embedding.hpp>
#include <eigenheads/nn/log_softmax.hpp>
#include <eigenheads/nn/normalize.hpp>
#include <eigenheads/nn/pooling.hpp>
#include <eigenheads/nn/positional_encoding.hpp>
#include <eigenheads/nn/sampling.hpp>

#include "counting.hpp"
#include "support.hpp"

namespace {

using namespace support;
using eh::Context, eh::Mask, eh::Sequences;

template <class T>
class ModulesAllocation : public testing::Test {};
TYPED_TEST_SUITE(ModulesAllocation, Scalars, ScalarNames);

// On one thread and on two; a thread allocates when it starts: they have, once each waited for the
// others.
template <class Call>
void expect_none(const Call& call) {
  for (const int threads : {1, 2}) {
    Context context(threads, kAnyWork);
    std::atomic<int> here{0};
    context.parallel_for(threads, [&](Index) {
      ++here;
      while (here < threads) std::this_thread::yield();
    });
    for (int warm = 0; warm < 3; ++warm) call(context);
    for (int repeat = 0; repeat < 10; ++repeat) {
      const Counted seen = counted([&] { call(context); });
      ASSERT_EQ(seen.allocations, 0) << seen.bytes << " bytes on " << threads << " threads";
      ASSERT_TRUE(seen.locks == 0 || threads > 1) << seen.locks;
    }
  }
}

TYPED_TEST(ModulesAllocation, AWarmCallDoesNone) {
  using T = TypeParam;
  const Sequences sequences{40, 3, 0, 27};
  const eh::ValidLens lens{40, 3, 0, 27}, firsts{0, 5, 9, 13};
  const Tensor<T, 3> x = random_tensor<T>(1, 4, 40, 33);
  const Tensor<T, 2> rows = random_tensor<T>(2, 70, 33);
  Tensor<T, 3> y3(4, 40, 33);
  Tensor<T, 2> y2(70, 33), pooled(4, 33);
  expect_none([&](Context& context) {
    for (const auto pooling : {eh::Pooling::mean, eh::Pooling::first, eh::Pooling::max}) {
      eh::pool_into(pooled, x, pooling, lens, context);
      eh::pool_into(pooled, rows, sequences, pooling, context);
    }
    eh::normalize_into(y2, rows, {}, context);
  });
  const eh::PositionalEncoding<T> encoding({.num_hiddens = 33, .max_len = 60});
  expect_none([&](Context& context) {
    encoding.forward_into(y3, x, firsts, context);
    encoding.forward_into(y2, rows, sequences, firsts, context);
  });
  const eh::Embedding<T> embedding({.num_embeddings = 50, .embedding_dim = 33});
  Tensor<std::int32_t, 2> ids(4, 40);
  for (Index i = 0; i < ids.size(); ++i) ids.data()[i] = static_cast<std::int32_t>(i % 50);
  expect_none([&](Context& context) { embedding.forward_into(y3, ids, context); });
}

TYPED_TEST(ModulesAllocation, AWarmSamplerDoesNoneWhateverItKeeps) {
  using T = TypeParam;
  const Tensor<T, 2> logits = random_tensor<T>(1, 6, 3000);
  const std::vector<Index> seen{1, 2, 2999};
  std::vector<eh::SamplingDraw> draws;
  for (Index b = 0; b < 6; ++b) draws.push_back({.row = b, .position = b, .seen = seen});
  std::vector<Index> ids(6);
  Tensor<double, 1> p(3000);
  Tensor<T, 2> y(6, 3000);
  for (const eh::SamplingOptions& options :
       {eh::SamplingOptions{.temperature = 0}, eh::SamplingOptions{.repetition_penalty = 1.2},
        eh::SamplingOptions{.top_k = 100, .top_p = 0.9}, eh::SamplingOptions{.top_p = 0.99},
        eh::SamplingOptions{.min_p = 0.1}}) {
    const eh::Sampler sampler(options);
    expect_none([&](Context& context) {
      sampler.sample_into(ids, logits, draws, context);
      ids[0] = sampler(TensorView<T, 1>(logits.data(), {3000}), draws[0], context);
      sampler.probabilities_into(p, TensorView<T, 1>(logits.data(), {3000}), seen, context);
    });
  }
  expect_none([&](Context& context) { eh::log_softmax_into(y, logits, context); });
}

TYPED_TEST(ModulesAllocation, AWarmStepOfTrainingAnEmbeddingDoesNone) {
  using T = TypeParam;
  const eh::Embedding<T> embedding({.num_embeddings = 50, .embedding_dim = 33});
  Tensor<std::int32_t, 2> ids(4, 40);
  for (Index i = 0; i < ids.size(); ++i) ids.data()[i] = static_cast<std::int32_t>(i % 50);
  const Tensor<T, 3> grad_y = random_tensor<T>(1, 4, 40, 33);
  typename eh::Embedding<T>::Activations saved;
  typename eh::Embedding<T>::Gradients gradients;
  (void)embedding.forward(ids, saved);
  expect_none(
      [&](Context& context) { embedding.backward_into(gradients, grad_y, saved, false, context); });
}

TYPED_TEST(ModulesAllocation, AdditiveAttentionDoesNoneUnderAnyMask) {
  using T = TypeParam;
  const Index Q = 30, K = 300;
  const auto queries = random_tensor<T>(1, 2, Q, 7), keys = random_tensor<T>(2, 2, K, 9),
             values = random_tensor<T>(3, 2, K, 5), grad_y = random_tensor<T>(4, 2, Q, 5);
  const eh::AdditiveAttention<T> module({.num_hiddens = 20, .query_size = 7, .key_size = 9});
  const auto pairs = constant_tensor<bool>(true, 2, 1, Q, K);
  const std::vector<Mask> masks{{},
                                {.valid_lens = {K, 5}},
                                {.causal = eh::Causal::bottom_right, .window = {7, -1}},
                                {.query_lens = {Q, 3}, .allowed = pairs}};
  Tensor<T, 3> y(2, Q, 5);
  for (const Mask& mask : masks) {
    expect_none(
        [&](Context& context) { module.forward_into(y, queries, keys, values, mask, context); });
    typename eh::AdditiveAttention<T>::Activations saved;
    typename eh::AdditiveAttention<T>::Gradients gradients;
    (void)module.forward(queries, keys, values, mask, saved);
    expect_none(
        [&](Context& context) { module.backward_into(gradients, grad_y, saved, false, context); });
  }
}

// A matrix of 1024 x 1024 floats would be 4 MiB, with 64 features 256 MiB.
TYPED_TEST(ModulesAllocation, AdditiveAttentionKeepsNothingOfEveryPair) {
  using T = TypeParam;
  const Index n = 1024;
  const auto x = random_tensor<T>(1, 1, n, 8);
  const eh::AdditiveAttention<T> module({.num_hiddens = 16, .query_size = 8, .key_size = 8});
  Context context;
  const Counted seen = counted([&] {
    typename eh::AdditiveAttention<T>::Activations saved;
    const Tensor<T, 3> y = module.forward(x, x, x, Mask{}, saved, {.context = context});
    (void)module.backward(y, saved, context);
  });
  EXPECT_LE(seen.peak, 400 * n * static_cast<long>(sizeof(T)));
}

}  // namespace
