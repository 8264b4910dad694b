// SPDX-License-Identifier: MIT
// Decoding with a cache that is spread over ranks gives the bits of one process, token by token.
#include <string>
#include <vector>

#include <eigenheads/mpi/local_transport.hpp>
#include <eigenheads/mpi/spread_step.hpp>
#include <eigenheads/prune_heads.hpp>

#include "layers.hpp"
#include "support.hpp"

namespace {

using namespace support;
using eh::mpi::Ranks, eh::mpi::run_locally, eh::mpi::SpreadCache;

template <class T>
class SpreadStep : public testing::Test {};
TYPED_TEST_SUITE(SpreadStep, Scalars, ScalarNames);

// Steps of so many tokens each, of two sequences.
template <class T>
void is_the_same(const eh::MultiHeadAttention<T>& layer, const eh::Mask& mask,
                 const std::vector<Index>& steps, const eh::CallOptions<T>& options = {},
                 const std::vector<int>& counts = {1, 3}) {
  Index capacity = 0;
  for (const Index n : steps) capacity += n;
  const eh::KvCacheOptions sizes{.batch_size = 2,
                                 .num_kv_heads = layer.num_kv_heads(),
                                 .head_size = layer.head_size(),
                                 .capacity = capacity};
  eh::KvCache<T> whole(sizes);
  std::vector<Tensor<T, 3>> x, expected;
  for (const Index n : steps) {
    x.push_back(random_tensor<T>(x.size() + 1, 2, n, 16));
    expected.push_back(layer.step(x.back(), whole, mask, options));
  }
  for (const int count : counts)
    run_locally(count, [&](Ranks& ranks) {
      eh::Context context(1 + count % 2, kAnyWork);
      auto of_rank = options;
      of_rank.context = context;
      SpreadCache<T> cache(sizes, ranks);
      for (std::size_t i = 0; i < x.size(); ++i) {
        const auto y = eh::mpi::step(layer, TensorView<T, 3>(x[i]), cache, ranks, mask, of_rank);
        EXPECT_TRUE(same_bits(y, expected[i])) << "step " << i << " on " << count << " ranks";
      }
      EXPECT_EQ(cache.length(1), capacity);
    });
}

[[nodiscard]] eh::MultiHeadAttentionOptions small_layer(eh::MultiHeadAttentionOptions options) {
  options.num_hiddens = 16;
  options.bias = true;
  return options;
}

TYPED_TEST(SpreadStep, IsTheSameWithAnyMaskAndAnyHeads) {
  using T = TypeParam;
  const auto layer = make_layer<T>(16, small_layer({.num_heads = 4, .num_kv_heads = 2}));
  const std::vector<Index> steps{600, 1, 1, 3, 300, 0, 1};
  is_the_same<T>(layer, {}, steps, {}, {1, 2, 3, 4, 8});
  is_the_same<T>(layer, {.window = {.left = 20}}, steps);
  is_the_same<T>(layer, {.window = {.left = 20}, .sinks = 3}, steps);
  is_the_same<T>(layer, {.prefix_lens = {500, 2}}, steps);
  is_the_same<T>(layer, {}, {1, 1, 1});
  const eh::Softcap<T> softcap(T(2));
  is_the_same<T>(layer, {}, steps, {.score = softcap});
  auto gated = layer;
  gated.set_gates({0, T(0.5), 1, 0});
  is_the_same<T>(gated, {}, steps);
  is_the_same<T>(prune_heads(layer, {0, 3}), {}, steps);
  is_the_same<T>(make_layer<T>(16, small_layer({.num_heads = 2,
                                                .head_size = 24,
                                                .sink_logits = true,
                                                .rotary = eh::RotaryOptions{}})),
                 {}, steps);
}

TYPED_TEST(SpreadStep, SequencesMayGoOnAtTheirOwnPace) {
  using T = TypeParam;
  const auto layer = make_layer<T>(16, small_layer({.num_heads = 2}));
  const eh::KvCacheOptions sizes{
      .batch_size = 3, .num_kv_heads = 2, .head_size = 8, .capacity = 700};
  eh::KvCache<T> whole(sizes);
  const auto first = random_tensor<T>(1, 3, 400, 16), next = random_tensor<T>(2, 3, 2, 16);
  const eh::Mask of_first{.query_lens = {400, 0, 129}}, of_next{.query_lens = {1, 2, 0}};
  const auto expected_first = layer.step(first, whole, of_first);
  const auto expected = layer.step(next, whole, of_next);
  whole.truncate(0, 130);
  const auto expected_after = layer.step(next, whole);
  run_locally(3, [&](Ranks& ranks) {
    SpreadCache<T> cache(sizes, ranks);
    const auto step = [&](const Tensor<T, 3>& x, const eh::Mask& mask) {
      return eh::mpi::step(layer, TensorView<T, 3>(x), cache, ranks, mask);
    };
    EXPECT_TRUE(same_bits(step(first, of_first), expected_first));
    EXPECT_TRUE(same_bits(step(next, of_next), expected));
    EXPECT_EQ(cache.length(0), 401);
    EXPECT_EQ(cache.length(1), 2);
    cache.truncate(0, 130);
    EXPECT_TRUE(same_bits(step(next, {}), expected_after));
  });
}

// A rank holds its share, and one that fails leaves all as they were.
TYPED_TEST(SpreadStep, HoldsItsShareAndIsUndoneByAFailure) {
  using T = TypeParam;
  struct FailsOnRankOne {
    int rank;
    T operator()(T score, eh::ScorePosition) const {
      if (rank == 1) throw std::runtime_error("no such score");
      return score;
    }
  };
  const auto layer = make_layer<T>(16, small_layer({.num_heads = 2}));
  constexpr Index KB = eh::detail::key_block<T>;
  const eh::KvCacheOptions sizes{
      .batch_size = 1, .num_kv_heads = 2, .head_size = 8, .capacity = 8 * KB};
  const auto x = random_tensor<T>(1, 1, 3 * KB, 16);
  eh::KvCache<T> whole(sizes);
  const auto expected = layer.step(x, whole);
  run_locally(2, [&](Ranks& ranks) {
    SpreadCache<T> cache(sizes, ranks);
    EXPECT_EQ(cache.bytes(), whole.bytes() / 2);
    const FailsOnRankOne fails{ranks.rank()};
    const auto call = [&] {
      return eh::mpi::step(layer, TensorView<T, 3>(x), cache, ranks, {}, {.score = fails});
    };
    const std::string sentence =
        ranks.rank() == 1 ? refusal<std::runtime_error>(call) : refusal<eh::mpi::RankError>(call);
    EXPECT_NE(sentence.find("no such score"), std::string::npos);
    EXPECT_EQ(cache.length(0), 0);
    EXPECT_TRUE(same_bits(eh::mpi::step(layer, TensorView<T, 3>(x), cache, ranks), expected));
  });
}

TEST(SpreadStepRefusals, SayWhatDoesNotFit) {
  const auto layer = make_layer<float>(16, small_layer({.num_heads = 2}));
  run_locally(2, [&](Ranks& ranks) {
    const eh::KvCacheOptions sizes{
        .batch_size = 1, .num_kv_heads = 2, .head_size = 8, .capacity = 2};
    SpreadCache<float> cache(sizes, ranks);
    const auto x = random_tensor<float>(1, 1, 3, 16);
    EXPECT_NE(refusal([&] {
                return eh::mpi::step(layer, TensorView<float, 3>(x), cache, ranks);
              }).find("step: sequence 0 has 0 tokens and gets 3; expected no more than 2"),
              std::string::npos);
    auto ring = sizes;
    ring.window = 2;
    EXPECT_EQ(refusal([&] { return SpreadCache<float>(ring, ranks); }),
              "eigenheads: SpreadCache: window is 2; expected 0: all tokens are kept, and masks "
              "have windows");
  });
}

// Cut anywhere, over many blocks, it goes on as one cache that was cut there.
TYPED_TEST(SpreadStep, IsCutToItsFirstTokens) {
  using T = TypeParam;
  const auto layer = make_layer<T>(16, small_layer({.num_heads = 2}));
  constexpr Index KB = eh::detail::key_block<T>;
  const eh::KvCacheOptions sizes{
      .batch_size = 2, .num_kv_heads = 2, .head_size = 8, .capacity = 5 * KB};
  const auto x = random_tensor<T>(1, 2, 4 * KB + 9, 16), next = random_tensor<T>(2, 2, 3, 16);
  for (const auto& lengths : std::vector<std::array<Index, 2>>{
           {4 * KB + 9, 4 * KB}, {2 * KB + 1, 2 * KB - 1}, {KB, 1}, {0, 3 * KB}}) {
    eh::KvCache<T> whole(sizes);
    (void)layer.step(x, whole);
    for (Index b = 0; b < 2; ++b) whole.truncate(b, lengths[static_cast<std::size_t>(b)]);
    const auto expected = layer.step(next, whole);
    run_locally(3, [&](Ranks& ranks) {
      SpreadCache<T> cache(sizes, ranks);
      (void)eh::mpi::step(layer, TensorView<T, 3>(x), cache, ranks);
      for (Index b = 0; b < 2; ++b) cache.truncate(b, lengths[static_cast<std::size_t>(b)]);
      EXPECT_EQ(cache.length(1), lengths[1]);
      EXPECT_TRUE(same_bits(eh::mpi::step(layer, TensorView<T, 3>(next), cache, ranks), expected));
    });
  }
}

TEST(SpreadStepRefusals, SayWhatCannotBeCut) {
  run_locally(2, [](Ranks& ranks) {
    const eh::KvCacheOptions many{.batch_size = std::numeric_limits<Index>::max(),
                                  .num_kv_heads = 1,
                                  .head_size = 4,
                                  .capacity = 8};
    EXPECT_NE(refusal([&] { return SpreadCache<float>(many, ranks); }).find("batch_size is "),
              std::string::npos);
    SpreadCache<float> cache({.batch_size = 2, .num_kv_heads = 1, .head_size = 2, .capacity = 9},
                             ranks);
    for (const Index length : {-1, 1})
      EXPECT_EQ(refusal([&] { cache.truncate(1, length); }),
                "eigenheads: truncate: sequence 1 has 0 tokens; expected a length of 0 to 0, got " +
                    std::to_string(length));
    for (const Index b : {-1, 2}) {
      const std::string rest =
          ": there is no sequence " + std::to_string(b) + "; expected 0 to less than 2";
      EXPECT_EQ(refusal([&] { cache.truncate(b, 0); }), "eigenheads: truncate" + rest);
      EXPECT_EQ(refusal([&] { return cache.length(b); }), "eigenheads: length" + rest);
    }
  });
}

TEST(SpreadStepRefusals, NameWhatDiffersBetweenRanks) {
  const auto layer = make_layer<float>(16, small_layer({.num_heads = 4, .num_kv_heads = 2}));
  auto gated = layer;
  gated.set_gates({1, 0.5f, 1, 1});
  auto wide = small_layer({.num_heads = 4, .head_size = 4});
  const auto ungrouped = make_layer<float>(16, wide);
  wide.num_hiddens = 32;
  wide.num_kv_heads = 2;
  const auto widened = make_layer<float>(16, wide);
  run_locally(2, [&](Ranks& ranks) {
    const auto x = random_tensor<float>(1, 1, 3, 16);
    const auto is_named = [&](const char* name, const auto& of_zero, const auto& of_one) {
      const auto& mine = ranks.rank() == 0 ? of_zero : of_one;
      SpreadCache<float> cache(
          {.batch_size = 1, .num_kv_heads = mine.num_kv_heads(), .head_size = 4, .capacity = 9},
          ranks);
      EXPECT_NE(refusal([&] {
                  return eh::mpi::step(mine, TensorView<float, 3>(x), cache, ranks);
                }).find(name),
                std::string::npos)
          << name;
      EXPECT_EQ(ranks.traffic().messages_sent, 0);
    };
    is_named("the heads' fingerprint", layer, gated);
    is_named("the heads' fingerprint", prune_heads(layer, {0}), prune_heads(layer, {1}));
    is_named("num_kv_heads", layer, ungrouped);
    is_named("num_hiddens", layer, widened);
  });
}

TEST(SpreadStepRefusals, SayThatACacheIsOfOtherRanks) {
  const auto layer = make_layer<float>(16, small_layer({.num_heads = 2}));
  const eh::KvCacheOptions sizes{.batch_size = 1, .num_kv_heads = 2, .head_size = 8, .capacity = 9};
  std::vector<SpreadCache<float>> of_three;
  run_locally(3, [&](Ranks& ranks) {
    for (int i = 0; ranks.rank() == 1 && i < 2; ++i) of_three.emplace_back(sizes, ranks);
  });
  run_locally(2, [&](Ranks& ranks) {
    SpreadCache<float>& cache = of_three.at(static_cast<std::size_t>(ranks.rank()));
    EXPECT_FALSE(cache.is_for(ranks));
    EXPECT_TRUE(SpreadCache<float>(sizes, ranks).is_for(ranks));
    const auto x = random_tensor<float>(1, 1, 3, 16);
    EXPECT_EQ(refusal([&] { return eh::mpi::step(layer, TensorView<float, 3>(x), cache, ranks); }),
              "eigenheads: step: the cache is rank 1's of 3 ranks; expected one of rank " +
                  std::to_string(ranks.rank()) + " of 2 ranks");
    EXPECT_EQ(cache.length(0), 0);
  });
}

}  // namespace
