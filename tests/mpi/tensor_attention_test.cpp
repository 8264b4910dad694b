// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <gtest/gtest.h>
#include <optional>
#include <string>
#include <vector>

#include <eigenheads/mpi/local_transport.hpp>
#include <eigenheads/mpi/tensor_attention.hpp>
#include <eigenheads/prune_heads.hpp>

#include "layers.hpp"
#include "support.hpp"

namespace {

namespace mpi = eigenheads::mpi;
using namespace support;
using eh::CallOptions, eh::Context, eh::Mask, eh::MultiHeadAttention, eh::MultiHeadAttentionOptions,
    eh::Sequences, eh::ValidLens;
using mpi::Ranks;

constexpr int kSizes[] = {1, 2, 3, 4, 8};

struct Shape {
  std::string name;
  MultiHeadAttentionOptions options;
  Index input_size;
  std::vector<Index> pruned = {};
};

// Every way in which heads, outputs and inputs do not divide by the ranks.
[[nodiscard]] std::vector<Shape> shapes() {
  const eh::RotaryOptions rotary{.max_positions = 40};
  return {{"grouped", {.num_hiddens = 40, .num_heads = 8, .bias = true, .num_kv_heads = 2}, 24},
          {"three key/value heads",
           {.num_hiddens = 30, .num_heads = 6, .num_kv_heads = 3, .head_size = 7, .rotary = {}},
           10},
          {"uneven",
           {.num_hiddens = 18, .num_heads = 6, .bias = true, .head_size = 4, .rotary = rotary},
           13},
          {"pruned",
           {.num_hiddens = 24, .num_heads = 8, .bias = true, .num_kv_heads = 4, .head_size = 5},
           9,
           {1, 4, 5}},
          {"sinks", {.num_hiddens = 3, .num_heads = 3, .head_size = 6, .sink_logits = true}, 2}};
}

template <class T>
[[nodiscard]] MultiHeadAttention<T> whole_layer(const Shape& shape) {
  auto layer = make_layer<T>(shape.input_size, shape.options, 5);
  for (Index h = 0; h < layer.sink_logits.size(); ++h)
    layer.sink_logits(h) = static_cast<T>(h) / 4 - T(1);
  return shape.pruned.empty() ? layer : prune_heads(layer, shape.pruned);
}

[[nodiscard]] std::vector<std::pair<std::string, Mask>> masks() {
  return {{"none", {}},
          {"causal", {.causal = eh::Causal::top_left}},
          {"window", {.causal = eh::Causal::top_left, .window = {.left = 3}, .sinks = 1}},
          {"lengths", {.valid_lens = {9, 0}, .query_lens = {11, 4}}}};
}

template <class T>
class TensorParallelAttentionTest : public testing::Test {};
TYPED_TEST_SUITE(TensorParallelAttentionTest, Scalars, ScalarNames);

// check(ranks, this rank's part, the whole layer) for all shapes and sizes.
template <class T, class Check>
void for_each_rank(const Check& check) {
  for (const Shape& shape : shapes()) {
    const auto whole = whole_layer<T>(shape);
    for (const int size : kSizes) {
      SCOPED_TRACE(shape.name + " on " + std::to_string(size));
      mpi::run_locally(size, [&](Ranks& ranks) {
        const mpi::TensorParallelAttention<T> part(whole, ranks);
        check(ranks, part, whole, shape);
      });
    }
  }
}

TYPED_TEST(TensorParallelAttentionTest, HasTheBitsOfOneProcess) {
  using T = TypeParam;
  for_each_rank<T>([&](Ranks&, const auto& part, const auto& whole, const Shape& shape) {
    const auto x = random_tensor<T>(1, 2, 11, shape.input_size);
    for (const auto& [name, mask] : masks())
      EXPECT_TRUE(same_bits(part(x, x, x, mask), whole(x, x, x, mask))) << name;
    const auto memory = random_tensor<T>(2, 2, 7, shape.input_size);
    const auto values = random_tensor<T>(3, 2, 7, shape.input_size);
    EXPECT_TRUE(same_bits(part(x, memory, values), whole(x, memory, values)));
    auto y = whole(x, x, x);
    std::fill_n(y.data(), y.size(), T(0));
    part.forward_into(y, x, x, x);
    EXPECT_TRUE(same_bits(y, whole(x, x, x)));
  });
}

TYPED_TEST(TensorParallelAttentionTest, PackedSequencesHaveTheBitsOfOneProcess) {
  using T = TypeParam;
  const Sequences sequences{5, 0, 12, 1}, memory_of{3, 2, 0, 6};
  const Mask causal{.causal = eh::Causal::top_left};
  for_each_rank<T>([&](Ranks&, const auto& part, const auto& whole, const Shape& shape) {
    const auto x = random_tensor<T>(1, sequences.rows(), shape.input_size);
    const auto memory = random_tensor<T>(2, memory_of.rows(), shape.input_size);
    EXPECT_TRUE(same_bits(part(x, sequences, causal), whole(x, sequences, causal)));
    EXPECT_TRUE(same_bits(part(x, sequences, memory, memory, memory_of),
                          whole(x, sequences, memory, memory, memory_of)));
    auto y = whole(x, sequences);
    std::fill_n(y.data(), y.size(), T(0));
    part.forward_into(y, x, sequences);
    EXPECT_TRUE(same_bits(y, whole(x, sequences)));
  });
}

TYPED_TEST(TensorParallelAttentionTest, WeightsOfAllHeadsOrOfItsOwn) {
  using T = TypeParam;
  const Mask causal{.causal = eh::Causal::top_left};
  for_each_rank<T>([&](Ranks& ranks, const auto& part, const auto& whole, const Shape& shape) {
    const auto x = random_tensor<T>(1, 2, 6, shape.input_size);
    const auto expected = whole.with_weights(x, x, x, causal);
    const auto got = part.with_weights(x, x, x, causal);
    EXPECT_TRUE(same_bits(got.output, expected.output));
    EXPECT_TRUE(same_bits(got.weights, expected.weights));
    const auto own = part.with_own_weights(x, x, x, causal);
    EXPECT_TRUE(same_bits(own.output, expected.output));
    const auto heads = part.shares().heads.of(ranks.rank());
    ASSERT_EQ(own.weights.dimension(1), heads.count());
    for (Index b = 0; b < 2; ++b)
      for (Index h = heads.begin; h < heads.end; ++h)
        for (Index q = 0; q < 6; ++q)
          EXPECT_TRUE(
              same_bits(row(own.weights, b, h - heads.begin, q), row(expected.weights, b, h, q)));
  });
}

TYPED_TEST(TensorParallelAttentionTest, WeightsOfPackedSequences) {
  using T = TypeParam;
  const Sequences sequences{4, 0, 6};
  for_each_rank<T>([&](Ranks& ranks, const auto& part, const auto& whole, const Shape& shape) {
    const auto x = random_tensor<T>(1, sequences.rows(), shape.input_size);
    const auto expected = whole.with_weights(x, sequences);
    const auto got = part.with_weights(x, sequences);
    const auto own = part.with_own_weights(x, sequences);
    EXPECT_TRUE(same_bits(got.output, expected.output));
    EXPECT_TRUE(same_bits(own.output, expected.output));
    ASSERT_EQ(got.weights.size(), expected.weights.size());
    const auto heads = part.shares().heads.of(ranks.rank());
    for (std::size_t b = 0; b < expected.weights.size(); ++b) {
      EXPECT_TRUE(same_bits(got.weights[b], expected.weights[b]));
      ASSERT_EQ(own.weights[b].dimension(0), heads.count());
      for (Index h = heads.begin; h < heads.end; ++h)
        for (Index q = 0; q < sequences.length(static_cast<Index>(b)); ++q)
          EXPECT_TRUE(
              same_bits(row(own.weights[b], h - heads.begin, q), row(expected.weights[b], h, q)));
    }
  });
}

TYPED_TEST(TensorParallelAttentionTest, DecodesThroughCachesOfItsOwnHeads) {
  using T = TypeParam;
  for_each_rank<T>([&](Ranks&, const auto& part, const auto& whole, const Shape& shape) {
    const auto cache_of = [](const auto& layer) {
      return eh::KvCache<T>({.batch_size = 2,
                             .num_kv_heads = layer.num_kv_heads(),
                             .head_size = layer.head_size(),
                             .capacity = 20});
    };
    auto own = cache_of(part);
    auto all = cache_of(whole);
    for (const Index n : {Index{6}, Index{1}, Index{3}}) {
      const auto x = random_tensor<T>(static_cast<std::uint64_t>(n), 2, n, shape.input_size);
      EXPECT_TRUE(same_bits(part.step(x, own), whole.step(x, all))) << n;
    }
    const Sequences sequences{1, 4};
    const auto x = random_tensor<T>(7, 5, shape.input_size);
    EXPECT_TRUE(same_bits(part.step(x, sequences, own), whole.step(x, sequences, all)));
    EXPECT_EQ(own.length(1), 14);
  });
}

// Rings of a few pages, which steps go round once and more.
TYPED_TEST(TensorParallelAttentionTest, RingsHaveTheBitsOfOneProcess) {
  using T = TypeParam;
  const auto whole = make_layer<T>(
      6, {.num_hiddens = 10, .num_heads = 4, .num_kv_heads = 2, .head_size = 3, .rotary = {}});
  const auto cache_of = [](const auto& layer) {
    return eh::KvCache<T>({.batch_size = 2,
                           .num_kv_heads = layer.num_kv_heads(),
                           .head_size = 3,
                           .capacity = 9,
                           .window = 7,
                           .sinks = 2});
  };
  for (const int size : {2, 3})
    mpi::run_locally(size, [&](Ranks& ranks) {
      const mpi::TensorParallelAttention<T> part(whole, ranks);
      auto own = cache_of(part);
      auto all = cache_of(whole);
      for (const Index n : {Index{5}, Index{1}, Index{700}, Index{4}, Index{300}}) {
        const auto x = random_tensor<T>(static_cast<std::uint64_t>(n), 2, n, 6);
        EXPECT_TRUE(same_bits(part.step(x, own), whole.step(x, all))) << n;
      }
      const Sequences sequences{1, 600};
      const auto x = random_tensor<T>(7, 601, 6);
      EXPECT_TRUE(same_bits(part.step(x, sequences, own), whole.step(x, sequences, all)));
      EXPECT_EQ(own.length(1), 1610);
    });
}

TYPED_TEST(TensorParallelAttentionTest, GatesScoresAndThreadsHaveTheBitsOfOneProcess) {
  using T = TypeParam;
  auto layer = make_layer<T>(
      10, {.num_hiddens = 20, .num_heads = 6, .bias = true, .num_kv_heads = 3, .head_size = 5});
  Tensor<T, 2> gates(2, 6);
  for (Index i = 0; i < 12; ++i) gates.data()[i] = static_cast<T>(i % 3) / 2;
  for (Index h = 0; h < 6; ++h) gates(1, h) = h < 4 ? T(0) : T(1);
  layer.set_gates(gates);
  const auto x = random_tensor<T>(1, 2, 9, 10);
  const auto slopes = random_tensor<T>(2, 6);
  const eh::Alibi<T> alibi{TensorView<T, 1>(slopes)};
  for (const int size : kSizes)
    mpi::run_locally(size, [&](Ranks& ranks) {
      mpi::TensorParallelAttention<T> part(layer, ranks);
      Context threads(3, kAnyWork);
      EXPECT_TRUE(same_bits(part(x, x, x, {}, {.score = alibi, .context = threads}),
                            layer(x, x, x, {}, {.score = alibi})));
      EXPECT_TRUE(same_bits(part.with_weights(x, x, x).output, layer(x, x, x)));
    });
}

// Those of the inputs and of the gates are whole, those of the parameters the rank's shares.
template <class T>
void expect_gradients(const eh::LayerGradients<T>& got, const eh::LayerGradients<T>& expected,
                      const mpi::TensorParallelAttention<T>& part) {
  const int rank = part.ranks().rank();
  EXPECT_TRUE(same_bits(got.queries, expected.queries));
  EXPECT_TRUE(same_bits(got.keys, expected.keys));
  EXPECT_TRUE(same_bits(got.values, expected.values));
  EXPECT_TRUE(same_bits(got.gates, expected.gates));
  const auto share = [&](const auto& of, const auto& all, const mpi::Shares& shares) {
    const auto rows = shares.of(rank);
    ASSERT_EQ(of.weight.dimension(0), rows.count());
    for (Index r = rows.begin; r < rows.end; ++r)
      EXPECT_TRUE(same_bits(row(of.weight, r - rows.begin), row(all.weight, r)));
    for (Index r = rows.begin; all.bias.size() > 0 && r < rows.end; ++r)
      EXPECT_EQ(bits(of.bias(r - rows.begin)), bits(all.bias(r)));
  };
  const auto heads = part.shares().heads.times(part.head_size());
  const auto kv_heads = part.shares().kv_heads.times(part.head_size());
  share(got.W_q, expected.W_q, heads);
  share(got.W_k, expected.W_k, kv_heads);
  share(got.W_v, expected.W_v, kv_heads);
  share(got.W_o, expected.W_o, part.output_shares());
  for (Index h = 0; h < got.sink_logits.size(); ++h)
    EXPECT_EQ(bits(got.sink_logits(h)),
              bits(expected.sink_logits(part.shares().heads.of(rank).begin + h)));
}

TYPED_TEST(TensorParallelAttentionTest, GradientsHaveTheBitsOfOneProcess) {
  using T = TypeParam;
  const Mask causal{.causal = eh::Causal::top_left};
  for_each_rank<T>([&](Ranks&, const auto& part, const auto& whole, const Shape& shape) {
    const auto x = random_tensor<T>(1, 2, 11, shape.input_size);
    const auto memory = random_tensor<T>(2, 2, 7, shape.input_size);
    auto dy = random_tensor<T>(3, 2, 11, whole.num_hiddens());
    std::fill_n(dy.data() + 3 * dy.dimension(2), dy.dimension(2), T(0));
    typename MultiHeadAttention<T>::Activations of_whole;
    typename mpi::TensorParallelAttention<T>::Activations of_part;
    const auto y = whole.forward(x, memory, memory, causal, of_whole);
    EXPECT_TRUE(same_bits(part.forward(x, memory, memory, causal, of_part), y));
    auto expected = whole.backward(dy, of_whole);
    auto got = part.backward(dy, of_part);
    expect_gradients(got, expected, part);
    whole.backward_into(expected, dy, of_whole, true);
    part.backward_into(got, dy, of_part, true);
    expect_gradients(got, expected, part);
  });
}

TYPED_TEST(TensorParallelAttentionTest, GradientsOfPaddingAndOfHeadsThatAreClosedInASequence) {
  using T = TypeParam;
  auto layer = make_layer<T>(10, {.num_hiddens = 20,
                                  .num_heads = 6,
                                  .bias = true,
                                  .num_kv_heads = 3,
                                  .head_size = 4,
                                  .rotary = eh::RotaryOptions{.max_positions = 40}});
  Tensor<T, 2> gates(2, 6);
  for (Index i = 0; i < 12; ++i) gates.data()[i] = static_cast<T>(i % 3) / 2;
  for (Index h = 0; h < 4; ++h) gates(1, h) = T(0);
  layer.set_gates(gates);
  const Mask mask{.valid_lens = {9, 4}, .query_lens = {11, 3}};
  const auto x = random_tensor<T>(1, 2, 11, 10);
  const auto dy = random_tensor<T>(2, 2, 11, 20);  // of padding too
  typename MultiHeadAttention<T>::Activations of_whole;
  const auto y = layer.forward(x, x, x, mask, of_whole);
  const auto expected = layer.backward(dy, of_whole);
  for (const int size : kSizes)
    mpi::run_locally(size, [&](Ranks& ranks) {
      const mpi::TensorParallelAttention<T> part(layer, ranks);
      typename mpi::TensorParallelAttention<T>::Activations saved;
      // What was there before is not seen.
      const auto longer = random_tensor<T>(3, 3, 11, 10);
      Tensor<T, 2> open(1, 6);
      std::fill_n(open.data(), 6, T(1));
      mpi::TensorParallelAttention<T> other(part);
      other.set_gates(open);
      (void)other.forward(longer, longer, longer, {}, saved);
      EXPECT_TRUE(same_bits(part.forward(x, x, x, mask, saved), y));
      expect_gradients(part.backward(dy, saved), expected, part);
    });
}

TYPED_TEST(TensorParallelAttentionTest, GradientsOfPackedSequencesWithDropoutAndClosedHeads) {
  using T = TypeParam;
  auto layer = make_layer<T>(10, {.num_hiddens = 20,
                                  .num_heads = 6,
                                  .dropout = 0.3,
                                  .bias = true,
                                  .num_kv_heads = 3,
                                  .head_size = 5});
  layer.set_gates(std::vector<T>{T(1), T(0), T(0.5), T(1), T(0), T(0)});
  const Sequences sequences{5, 0, 300, 1};
  const auto x = random_tensor<T>(1, sequences.rows(), 10);
  const auto dy = random_tensor<T>(2, sequences.rows(), 20);
  typename MultiHeadAttention<T>::Activations of_whole;
  const auto y = layer.forward(x, sequences, {}, of_whole, {.seed = eh::DropoutSeed{3}});
  const auto expected = layer.backward(dy, of_whole);
  for (const int size : {2, 3, 8})
    mpi::run_locally(size, [&](Ranks& ranks) {
      const mpi::TensorParallelAttention<T> part(layer, ranks);
      typename mpi::TensorParallelAttention<T>::Activations saved;
      EXPECT_TRUE(
          same_bits(part.forward(x, sequences, {}, saved, {.seed = eh::DropoutSeed{3}}), y));
      expect_gradients(part.backward(dy, saved), expected, part);
    });
}

// What a rank receives of a gathering: all but its own. What it sends of one round a ring: all but
// the part of the next rank.
struct Expected {
  int rank, size;
  Index received = 0, sent = 0;
  void gather(const mpi::Shares& shares, Index rows, Index bytes) {
    received += rows * (shares.total() - shares.count(rank)) * bytes;
    sent += rows * (shares.total() - shares.count((rank + 1) % size)) * bytes;
  }
};

TYPED_TEST(TensorParallelAttentionTest, SendsToTheByteWhatItSays) {
  using T = TypeParam;
  const Index bytes = sizeof(T), B = 2, Q = 11;
  for_each_rank<T>([&](Ranks& ranks, const auto& part, const auto& whole, const Shape& shape) {
    const auto x = random_tensor<T>(1, B, Q, shape.input_size);
    const auto heads = part.shares().heads.times(part.head_size());
    const auto kv_heads = part.shares().kv_heads.times(part.head_size());
    const auto inputs = mpi::Shares::even(shape.input_size, ranks.size());
    ranks.reset_traffic();
    (void)part(x, x, x, {.query_lens = {3, 11}});
    Expected expected{ranks.rank(), ranks.size()};
    expected.gather(heads, 3 + 11, bytes);
    expected.gather(part.output_shares(), B * Q, bytes);
    EXPECT_EQ(ranks.traffic().bytes_received, expected.received);
    EXPECT_EQ(ranks.traffic().bytes_sent, expected.sent);

    typename mpi::TensorParallelAttention<T>::Activations saved;
    (void)part.forward(x, x, x, {}, saved);
    const auto dy = random_tensor<T>(3, B, Q, whole.num_hiddens());
    ranks.reset_traffic();
    (void)part.backward(dy, saved);
    expected = {ranks.rank(), ranks.size()};
    expected.gather(part.shares().heads, B, bytes);  // gradients of the gates
    for (const auto& outputs : {heads, kv_heads, kv_heads}) {
      expected.gather(outputs, B * Q, bytes);
      expected.gather(inputs, B * Q, bytes);
    }
    const auto exchange = [&](const mpi::Shares& outputs, const mpi::Shares& of_inputs) {
      const Index own = outputs.count(ranks.rank()), columns = of_inputs.count(ranks.rank());
      expected.sent += own * (of_inputs.total() - columns) * bytes;
      expected.received += (outputs.total() - own) * columns * bytes;
    };
    exchange(part.output_shares(), heads);
    for (const auto& outputs : {heads, kv_heads, kv_heads}) exchange(outputs, inputs);
    EXPECT_EQ(ranks.traffic().bytes_received, expected.received);
    EXPECT_EQ(ranks.traffic().bytes_sent, expected.sent);
  });
}

// ---- Heads that do not divide by the ranks -------------------------------------------------------

TEST(TensorParallelAttention, TwoKeyValueHeadsOnFourRanksLeaveTwoIdle) {
  const auto whole =
      make_layer<float>(24, {.num_hiddens = 40, .num_heads = 8, .bias = true, .num_kv_heads = 2});
  const auto x = random_tensor<float>(1, 2, 11, 24);
  const auto y = whole(x, x, x);
  mpi::run_locally(4, [&](Ranks& ranks) {
    const mpi::TensorParallelAttention<float> part(whole, ranks);
    const Index heads = ranks.rank() < 2 ? 4 : 0;
    EXPECT_EQ(part.shares().heads.count(ranks.rank()), heads);
    EXPECT_EQ(part.num_kv_heads(), heads / 4);
    EXPECT_EQ(part.W_q.out_features(), heads * 5);
    EXPECT_EQ(part.W_o.out_features(), 10);  // of which an idle rank has its share
    EXPECT_TRUE(same_bits(part(x, x, x), y));
  });
}

TEST(TensorParallelAttention, ThreeKeyValueHeadsOnTwoRanksAreWholeGroupsOfTwoAndOne) {
  const auto whole =
      make_layer<float>(10, {.num_hiddens = 30, .num_heads = 6, .num_kv_heads = 3, .head_size = 7});
  const auto x = random_tensor<float>(1, 2, 11, 10);
  const auto y = whole(x, x, x);
  mpi::run_locally(2, [&](Ranks& ranks) {
    const mpi::TensorParallelAttention<float> part(whole, ranks);
    EXPECT_EQ(part.num_kv_heads(), ranks.rank() == 0 ? 2 : 1);
    EXPECT_EQ(part.shares().heads.count(ranks.rank()), ranks.rank() == 0 ? 4 : 2);
    EXPECT_TRUE(same_bits(part(x, x, x), y));
  });
}

// ---- What is refused, on all ranks, before anything is sent --------------------------------------

// What each rank says of call(ranks), and that nothing was sent.
template <class Call>
[[nodiscard]] std::vector<std::string> sentences(int size, const Call& call) {
  std::vector<std::string> said(static_cast<std::size_t>(size));
  mpi::run_locally(size, [&](Ranks& ranks) {
    try {
      call(ranks);
      said[static_cast<std::size_t>(ranks.rank())] = "not refused";
    } catch (const std::exception& error) {
      said[static_cast<std::size_t>(ranks.rank())] = error.what();
    }
    EXPECT_EQ(ranks.traffic().bytes_sent, 0);
  });
  return said;
}

TEST(TensorParallelAttention, OtherInputsOrMasksOnARankAreRefusedOnAll) {
  const auto whole = make_layer<float>(6, {.num_hiddens = 12, .num_heads = 4});
  const auto x = random_tensor<float>(1, 2, 5, 6);
  const auto longer = random_tensor<float>(1, 2, 6, 6);
  auto said = sentences(3, [&](Ranks& ranks) {
    const mpi::TensorParallelAttention<float> part(whole, ranks);
    const auto& mine = ranks.rank() == 1 ? longer : x;
    (void)part(mine, mine, mine);
  });
  for (const std::string& sentence : said) {
    EXPECT_NE(sentence.find("queries = 5"), std::string::npos) << sentence;
    EXPECT_NE(sentence.find("queries = 6 on rank 1"), std::string::npos) << sentence;
  }
  said = sentences(3, [&](Ranks& ranks) {
    const mpi::TensorParallelAttention<float> part(whole, ranks);
    (void)part(x, x, x, {.valid_lens = {5, ranks.rank() == 2 ? 3 : 4}});
  });
  for (const std::string& sentence : said)
    EXPECT_NE(sentence.find("a digest of mask and lengths"), std::string::npos) << sentence;
  said = sentences(2, [&](Ranks& ranks) {
    mpi::TensorParallelAttention<float> part(whole, ranks);
    Tensor<float, 2> gates(1, 4);
    std::fill_n(gates.data(), 4, 1.0f);
    gates(0, 0) = ranks.rank() == 0 ? 0.0f : 1.0f;
    part.set_gates(gates);
    (void)part(x, x, x);
  });
  for (const std::string& sentence : said)
    EXPECT_NE(sentence.find("a digest of the gates"), std::string::npos) << sentence;
}

TEST(TensorParallelAttention, ABackwardPassOfAnotherForwardCallOnARankIsRefusedOnAll) {
  const auto whole = make_layer<float>(6, {.num_hiddens = 12, .num_heads = 4});
  const auto x = random_tensor<float>(1, 2, 5, 6), longer = random_tensor<float>(1, 2, 7, 6);
  const auto dy = random_tensor<float>(2, 2, 5, 12);
  Tensor<float, 2> gates(1, 4);
  std::fill_n(gates.data(), 4, 1.0f);
  gates(0, 2) = 0;
  for (const int other : {1, 2, 3}) {
    const auto said = sentences(3, [&](Ranks& ranks) {
      mpi::TensorParallelAttention<float> part(whole, ranks);
      mpi::TensorParallelAttention<float>::Activations saved[4];
      (void)part.forward(x, x, x, {.valid_lens = {5, 3}}, saved[0]);
      (void)part.forward(x, x, x, {.valid_lens = {5, 4}}, saved[1]);
      (void)part.forward(x, longer, longer, {.valid_lens = {5, 3}}, saved[2]);
      part.set_gates(gates);
      (void)part.forward(x, x, x, {.valid_lens = {5, 3}}, saved[3]);
      ranks.reset_traffic();
      (void)part.backward(dy, saved[ranks.rank() == 1 ? other : 0]);
    });
    for (const std::string& sentence : said)
      EXPECT_NE(sentence.find("a digest of what was saved"), std::string::npos) << sentence;
  }
}

TEST(TensorParallelAttention, WhatALayerRefusesAllRanksRefuse) {
  const auto whole = make_layer<float>(6, {.num_hiddens = 12, .num_heads = 4});
  const auto x = random_tensor<float>(1, 2, 5, 7);
  const auto said = sentences(3, [&](Ranks& ranks) {
    const mpi::TensorParallelAttention<float> part(whole, ranks);
    (void)part(x, x, x);
  });
  for (const std::string& sentence : said)
    EXPECT_NE(sentence.find("queries has shape [2, 5, 7]"), std::string::npos) << sentence;
  EXPECT_NE(refusal([&] {
              mpi::run_locally(2, [&](Ranks& ranks) {
                (void)mpi::TensorParallelAttention<float>({.num_hiddens = 12, .num_heads = 4},
                                                          ranks);
              });
            }).find("query_size, key_size and value_size are [0, 0, 0]"),
            std::string::npos);
}

// What each of two ranks says of call(part, x), all in the same words.
template <class Call>
[[nodiscard]] std::string sentence_of(const MultiHeadAttention<float>& whole, const Call& call) {
  const auto x = random_tensor<float>(1, 2, 5, 6);
  const auto said = sentences(2, [&](Ranks& ranks) {
    mpi::TensorParallelAttention<float> part(whole, ranks);
    call(part, x);
  });
  EXPECT_EQ(said[0], said[1]);
  return said[0];
}

TEST(TensorParallelAttention, WhatCannotBeTrainedIsRefusedOnAll) {
  using Part = mpi::TensorParallelAttention<float>;
  const auto whole = make_layer<float>(6, {.num_hiddens = 12, .num_heads = 4}),
             dropping = make_layer<float>(6, {.num_hiddens = 12, .num_heads = 4, .dropout = 0.5});
  const auto bias = random_tensor<float>(1, 1, 4, 5, 5);
  EXPECT_EQ(sentence_of(whole,
                        [&](const Part& part, const Tensor<float, 3>& x) {
                          Part::Activations saved;
                          (void)part.forward(x, x, x, {}, saved,
                                             {.score = eh::ScoreBias<float>(bias)});
                        }),
            "eigenheads: TensorParallelAttention: the scores have a ScoreBias, whose gradient is a "
            "sum over heads of several ranks; expected none in training");
  EXPECT_EQ(sentence_of(dropping,
                        [](const Part& part, const Tensor<float, 3>& x) {
                          Part::Activations saved;
                          (void)part.forward(x, x, x, {}, saved);
                        }),
            "eigenheads: TensorParallelAttention: dropout is 0.5; expected a DropoutSeed, {.seed = "
            "...}, after the activations");
  EXPECT_EQ(
      sentence_of(whole,
                  [](const Part& part, const Tensor<float, 3>&) {
                    (void)part.backward(random_tensor<float>(1, 2, 5, 12), Part::Activations());
                  }),
      "eigenheads: TensorParallelAttention: backward needs the activations of a forward call");
  EXPECT_EQ(sentence_of(whole,
                        [](Part& part, const Tensor<float, 3>& x) {
                          part.W_o = eh::Linear<float>({.in_features = 12, .out_features = 7});
                          (void)part(x, x, x);
                        }),
            "eigenheads: TensorParallelAttention: W_o is [7, 12]; expected this rank's outputs of "
            "all heads, [6, 12]");
}

// 7 heads on 3 ranks: learnt sinks are rows too.
TEST(TensorParallelAttention, SharesAreTheWholesRows) {
  const MultiHeadAttentionOptions options{.num_hiddens = 14,
                                          .num_heads = 7,
                                          .query_size = 14,
                                          .key_size = 14,
                                          .value_size = 14,
                                          .sink_logits = true};
  mpi::run_locally(3, [&](Ranks& ranks) {
    mpi::TensorParallelAttention<float> part(options, ranks);
    const auto r = static_cast<std::size_t>(ranks.rank());
    std::vector<std::string> names;
    part.for_each_share([&](const auto& parameter, Index begin, Index all) {
      const std::string name = parameter.name();
      names.push_back(name);
      // Where each rank's rows begin, and how many there are.
      const std::array<Index, 4> begins = name == "sink_logits" ? std::array<Index, 4>{0, 3, 5, 7}
                                          : name == "W_o.weight"
                                              ? std::array<Index, 4>{0, 5, 10, 14}
                                              : std::array<Index, 4>{0, 6, 10, 14};
      EXPECT_EQ(begin, begins[r]) << name;
      EXPECT_EQ(parameter.shape()[0], begins[r + 1] - begins[r]) << name;
      EXPECT_EQ(all, begins[3]) << name;
    });
    EXPECT_EQ(names, (std::vector<std::string>{"W_q.weight", "W_k.weight", "W_v.weight",
                                               "W_o.weight", "sink_logits"}));
  });
}

TEST(TensorParallelAttention, AStepThatFailsOnOneRankLeavesTheCachesOfAll) {
  const auto whole = make_layer<float>(6, {.num_hiddens = 12, .num_heads = 4});
  const auto x = random_tensor<float>(1, 1, 3, 6);
  mpi::run_locally(3, [&](Ranks& ranks) {
    const mpi::TensorParallelAttention<float> part(whole, ranks);
    eh::KvCache<float> cache(
        {.batch_size = 1, .num_kv_heads = part.num_kv_heads(), .head_size = 3, .capacity = 8});
    (void)part.step(x, cache);
    Tensor<float, 3> y(1, 3, ranks.rank() == 1 ? 11 : 12);  // of another shape on one rank
    EXPECT_ANY_THROW(part.step_into(y, x, cache));
    EXPECT_EQ(cache.length(0), 3);
    const auto next = part.step(x, cache);
    eh::KvCache<float> all({.batch_size = 1, .num_kv_heads = 4, .head_size = 3, .capacity = 8});
    (void)whole.step(x, all);
    EXPECT_TRUE(same_bits(next, whole.step(x, all)));
  });
}

TEST(TensorParallelAttention, ALongStepThatOneRankRefusesLeavesTheRingsOfAll) {
  const auto whole = make_layer<float>(6, {.num_hiddens = 12, .num_heads = 4});
  const auto x = random_tensor<float>(1, 1, 3, 6), longer = random_tensor<float>(2, 1, 1000, 6);
  mpi::run_locally(3, [&](Ranks& ranks) {
    const mpi::TensorParallelAttention<float> part(whole, ranks);
    const auto cache_of = [](Index heads) {
      return eh::KvCache<float>(
          {.batch_size = 1, .num_kv_heads = heads, .head_size = 3, .capacity = 5, .window = 4});
    };
    auto own = cache_of(part.num_kv_heads()), all = cache_of(4);
    (void)part.step(x, own);
    Tensor<float, 3> y(1, 1000, ranks.rank() == 1 ? 11 : 12);
    EXPECT_ANY_THROW(part.step_into(y, longer, own));
    EXPECT_EQ(own.length(0), 3);
    (void)whole.step(x, all);
    EXPECT_TRUE(same_bits(part.step(longer, own), whole.step(longer, all)));
  });
}

}  // namespace
