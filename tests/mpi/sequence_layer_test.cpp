// SPDX-License-Identifier: MIT
// A layer whose rows are spread over ranks gives the bits of one process, whoever has which rows.
#include <algorithm>
#include <atomic>
#include <string>
#include <vector>

#include <eigenheads/mpi/local_transport.hpp>
#include <eigenheads/mpi/sequence_layer.hpp>
#include <eigenheads/prune_heads.hpp>

#include "layers.hpp"
#include "support.hpp"

namespace {

using namespace support;
using eh::mpi::Deal, eh::mpi::Dealing, eh::mpi::Ranks, eh::mpi::run_locally;
using eh::mpi::SequenceParallel;
using Layer = eh::MultiHeadAttentionOptions;

constexpr Deal kDeals[] = {Deal::contiguous, Deal::early_and_late, Deal::cyclic};

template <class T>
class SequenceLayer : public testing::Test {};
TYPED_TEST_SUITE(SequenceLayer, Scalars, ScalarNames);

// Two heads of 8 numbers, 16 in all, unless a test says more.
[[nodiscard]] Layer small_layer(Layer options = {}) {
  options.num_hiddens = 16;
  if (options.num_heads == 0) options.num_heads = 2;
  options.bias = true;
  return options;
}

// One process, and ranks: of packed sequences or, if they are of one length, of a padded batch.
template <class T>
struct Case {
  eh::MultiHeadAttention<T> layer;
  std::vector<Index> lengths;
  eh::Mask mask{};
  bool is_padded = false;
  eh::CallOptions<T> options{};

  [[nodiscard]] Tensor<T, 2> x() const {
    return random_tensor<T>(7, eh::Sequences(lengths).rows(), 16);
  }
  [[nodiscard]] Dealing dealing(int ranks, Deal deal) const {
    if (is_padded) return Dealing::of_padded<T>(std::ssize(lengths), lengths.at(0), ranks, deal);
    return Dealing::of<T>(lengths, ranks, deal);
  }
  // [B, L, 16] of x.
  [[nodiscard]] TensorView<T, 3> padded(const Tensor<T, 2>& x) const {
    return {x.data(), {std::ssize(lengths), lengths.at(0), 16}};
  }
  [[nodiscard]] Tensor<T, 2> one_process() const {
    const auto all = x();
    if (!is_padded) return layer(all, eh::Sequences(lengths), mask, options);
    const auto y = layer(padded(all), padded(all), padded(all), mask, options);
    Tensor<T, 2> rows(y.dimension(0) * y.dimension(1), 16);
    std::copy_n(y.data(), y.size(), rows.data());
    return rows;
  }

  void same_on(int ranks, Deal deal, int threads, const Tensor<T, 2>& expected) const {
    const auto all = x();
    const Dealing dealt = dealing(ranks, deal);
    run_locally(ranks, [&](Ranks& r) {
      eh::Context context(threads, kAnyWork);
      auto options_of_rank = options;
      options_of_rank.context = context;
      const auto mine = take_rows(all, dealt, r.rank());
      const auto y = SequenceParallel<T>(layer, r)(mine, dealt, mask, options_of_rank);
      EXPECT_TRUE(same_bits(y, take_rows(expected, dealt, r.rank())))
          << "rank " << r.rank() << " of " << ranks << ", deal " << static_cast<int>(deal);
    });
  }
  void is_the_same() const {
    const auto expected = one_process();
    for (const int ranks : {1, 2, 3, 4, 8}) same_on(ranks, Deal::cyclic, 1 + ranks % 2, expected);
    same_on(3, Deal::contiguous, 1, expected);
    same_on(4, Deal::early_and_late, 2, expected);
  }
};

TYPED_TEST(SequenceLayer, IsTheSameWithAnyMask) {
  using T = TypeParam;
  const std::vector<Index> lengths{700, 0, 3, 256, 513, 1, 0};
  for (const eh::Mask& mask : std::vector<eh::Mask>{
           {},
           {.causal = eh::Causal::top_left},
           {.causal = eh::Causal::bottom_right, .window = {.left = 40}},
           {.window = {.left = 300, .right = 7}},
           {.causal = eh::Causal::top_left, .window = {.left = 30}, .sinks = 4},
           {.causal = eh::Causal::top_left, .prefix_lens = {300, 0, 3, 10, 513, 0, 0}}}) {
    const Case<T> one{make_layer<T>(16, small_layer()), lengths, mask};
    one.is_the_same();
  }
}

TYPED_TEST(SequenceLayer, IsTheSameWithAnyHeads) {
  using T = TypeParam;
  const std::vector<Index> lengths{530, 200};
  const eh::Mask causal{.causal = eh::Causal::top_left};
  for (const Layer& options : std::vector<Layer>{{.num_heads = 4, .num_kv_heads = 2},
                                                 {.num_heads = 2, .head_size = 40},
                                                 {.num_heads = 2, .rotary = eh::RotaryOptions{}},
                                                 {.num_heads = 2, .sink_logits = true}})
    Case<T>{make_layer<T>(16, small_layer(options)), lengths, causal}.is_the_same();
  auto pruned = make_layer<T>(16, small_layer({.num_heads = 4, .num_kv_heads = 2}));
  Case<T>{prune_heads(pruned, {0, 1, 2}), lengths, causal}.is_the_same();
  Case<T>{prune_heads(pruned, {0, 1, 2, 3}), lengths, causal}.is_the_same();
  auto gated = make_layer<T>(16, small_layer({.num_heads = 4, .num_kv_heads = 2}));
  Tensor<T, 2> gates(2, 4);
  gates.setValues({{0, 0, 0, 0}, {0, T(0.5), 1, 0}});
  gated.set_gates(gates);
  Case<T>{gated, lengths, causal}.is_the_same();
}

TYPED_TEST(SequenceLayer, IsTheSameOfPaddedBatches) {
  using T = TypeParam;
  const std::vector<Index> lengths(3, 600);
  eh::Mask pairs{.causal = eh::Causal::top_left};
  Tensor<bool, 4> allowed(1, 2, 600, 600);
  Numbers numbers(3);
  for (Index i = 0; i < allowed.size(); ++i) allowed.data()[i] = numbers.between(0, 2) > 0;
  pairs.allowed = allowed;
  std::vector<Index> of_queries;
  for (Index q = 0; q < 1800; ++q) of_queries.push_back(numbers.between(0, 300));
  const eh::ValidLens one_a_query(TensorView<Index, 2>(of_queries.data(), {3, 600}));
  for (const eh::Mask& mask : std::vector<eh::Mask>{
           {.valid_lens = {600, 0, 257}},
           {.valid_lens = one_a_query},
           {.causal = eh::Causal::bottom_right, .query_lens = {5, 600, 0}, .key_lens = {9, 256, 2}},
           {.causal = eh::Causal::top_left, .first_positions = {0, 300, 900}},
           pairs})
    Case<T>{make_layer<T>(16, small_layer({.rotary = eh::RotaryOptions{}})), lengths, mask, true}
        .is_the_same();
}

// Rows of padding are the bias of W_o, or 0.
TYPED_TEST(SequenceLayer, IsTheSameOfPaddedQueriesWithoutBiases) {
  using T = TypeParam;
  Layer options = small_layer();
  options.bias = false;
  const Case<T> c{.layer = make_layer<T>(16, options),
                  .lengths = {300, 300},
                  .mask = {.query_lens = {250, 0}, .key_lens = {260, 7}},
                  .is_padded = true};
  const auto y = c.one_process();
  for (Index row = 250; row < 600; ++row) ASSERT_EQ(y(row, 3), T(0));
  c.is_the_same();
}

TYPED_TEST(SequenceLayer, IsTheSameWithScoreFunctions) {
  using T = TypeParam;
  const auto slopes = random_tensor<T>(5, 2);
  const eh::Softcap<T> softcap(T(2));
  const eh::Alibi<T> alibi(slopes);
  const Case<T> capped{make_layer<T>(16, small_layer()), {530, 200}, {}, false, {.score = softcap}};
  capped.is_the_same();
  const Case<T> sloped{make_layer<T>(16, small_layer()), {530, 200}, {}, false, {.score = alibi}};
  sloped.is_the_same();
}

// 2999 rows are no multiple of anything that is dealt.
TYPED_TEST(SequenceLayer, T901ALengthThatNothingDivides) {
  using T = TypeParam;
  const Case<T> one{make_layer<T>(16, small_layer()), {2999}, {.causal = eh::Causal::top_left}};
  const auto expected = one.one_process();
  for (const Deal deal : kDeals) one.same_on(4, deal, 1, expected);
}

TYPED_TEST(SequenceLayer, T902RanksWithoutRows) {
  using T = TypeParam;
  const eh::Mask causal{.causal = eh::Causal::top_left};
  const auto layer = make_layer<T>(16, small_layer());
  for (const auto& lengths :
       std::vector<std::vector<Index>>{{3}, {0}, {}, {4, 5, 0, 0}, {0, 0, 0, 0}}) {
    const Case<T> one{layer, lengths, causal};
    const auto expected = one.one_process();
    for (const Deal deal : kDeals) finishes([&] { one.same_on(8, deal, 1, expected); });
  }
  // All keys of the second sequence are masked, and with contiguous rows so is all of rank 1.
  const Case<T> masked{layer, {512, 512}, {.valid_lens = {512, 0}}, true};
  const auto expected = masked.one_process();
  for (const Deal deal : kDeals) finishes([&] { masked.same_on(2, deal, 1, expected); });
}

TYPED_TEST(SequenceLayer, NanInAKeyReachesThoseWhoSeeIt) {
  using T = TypeParam;
  const auto layer = make_layer<T>(16, small_layer());
  const eh::Sequences sequences{900};
  auto x = random_tensor<T>(1, 900, 16);
  x(500, 3) = kNan<T>;
  x(20, 0) = kInf<T>;
  const eh::Mask mask{.causal = eh::Causal::top_left, .window = {.left = 100}};
  const auto expected = layer(x, sequences, mask);
  run_locally(3, [&](Ranks& ranks) {
    const auto dealing = Dealing::of<T>(sequences, 3);
    const auto y =
        SequenceParallel<T>(layer, ranks)(take_rows(x, dealing, ranks.rank()), dealing, mask);
    EXPECT_TRUE(same_bits(y, take_rows(expected, dealing, ranks.rank())));
  });
}

TYPED_TEST(SequenceLayer, WeightsAreThoseOfItsOwnRows) {
  using T = TypeParam;
  const auto layer = make_layer<T>(16, small_layer({.num_heads = 4, .num_kv_heads = 2}));
  const eh::Sequences sequences{530, 0, 40, 300};
  const auto x = random_tensor<T>(1, sequences.rows(), 16);
  const eh::Mask mask{.causal = eh::Causal::top_left, .window = {.left = 290}, .sinks = 3};
  const auto expected = layer.with_weights(x, sequences, mask);
  for (const Deal deal : kDeals)
    run_locally(3, [&](Ranks& ranks) {
      const auto dealing = Dealing::of<T>(sequences, 3, deal);
      const auto got = SequenceParallel<T>(layer, ranks)
                           .with_weights(take_rows(x, dealing, ranks.rank()), dealing, mask);
      EXPECT_TRUE(same_bits(got.output, take_rows(expected.output, dealing, ranks.rank())));
      ASSERT_EQ(std::ssize(got.weights), sequences.count());
      std::vector<Index> next(4);
      for (const Dealing::Block& block : dealing.blocks()) {
        if (block.owner != ranks.rank()) continue;
        const auto b = static_cast<std::size_t>(block.b);
        for (Index q = block.begin; q < block.end; ++q, ++next[b])
          for (Index h = 0; h < 4; ++h)
            ASSERT_TRUE(same_bits(row(got.weights[b], h, next[b]), row(expected.weights[b], h, q)));
      }
      for (std::size_t b = 0; b < 4; ++b) EXPECT_EQ(got.weights[b].dimension(1), next[b]);
    });
}

TYPED_TEST(SequenceLayer, TrainingDropsByPosition) {
  using T = TypeParam;
  auto layer = make_layer<T>(
      16, small_layer({.num_heads = 4, .dropout = 0.3, .num_kv_heads = 2, .sink_logits = true}));
  layer.set_gates({1, T(0.5), 0, 1});
  const eh::Sequences sequences{530, 40};
  const auto x = random_tensor<T>(1, sequences.rows(), 16);
  const eh::Mask mask{.causal = eh::Causal::top_left};
  typename eh::MultiHeadAttention<T>::Activations saved;
  const auto expected = layer.forward(x, sequences, mask, saved, {.seed = eh::DropoutSeed{5}});
  for (const int count : {1, 2, 4})
    run_locally(count, [&](Ranks& ranks) {
      const auto dealing = Dealing::of<T>(sequences, count);
      eh::mpi::SequenceActivations<T> mine;
      const auto y = SequenceParallel<T>(layer, ranks)
                         .forward(take_rows(x, dealing, ranks.rank()), dealing, mask, mine,
                                  {.seed = eh::DropoutSeed{5}});
      EXPECT_TRUE(same_bits(y, take_rows(expected, dealing, ranks.rank())));
      Index local = 0;
      for (const auto& range : dealing.rows_of(ranks.rank()))
        for (Index row = range.begin; row < range.end; ++row, ++local)
          for (Index h = 0; h < 4; ++h) {
            ASSERT_EQ(bits(mine.lse(h, local)), bits(saved.lse()(0, h, row)));
            ASSERT_EQ(bits(mine.k(h / 2, local, 3)), bits(saved.k()(0, h / 2, row, 3)));
            ASSERT_EQ(bits(mine.heads(local, h)), bits(saved.heads()(0, row, h)));
          }
    });
}

// Whichever heads are left: by the last block, all that this rank has to do is done.
TEST(SequenceLayerProgress, GrowsToOne) {
  const auto whole = make_layer<float>(16, small_layer({.num_heads = 4, .num_kv_heads = 2}));
  auto half = whole, closed = whole, of_one_sequence = whole;
  half.set_gates({0, 1, 0, 0});
  closed.set_gates({0, 0, 0, 0});
  Tensor<float, 2> gates(2, 4);
  gates.setValues({{0, 0, 0, 0}, {0, 1, 1, 1}});
  of_one_sequence.set_gates(gates);
  const eh::Sequences sequences{1000, 600};
  const auto x = random_tensor<float>(1, sequences.rows(), 16);
  const auto dealing = Dealing::of<float>(sequences, 2);
  const auto told_by = [&](const eh::MultiHeadAttention<float>& layer, Ranks& ranks) {
    std::vector<double> told;
    SequenceParallel<float> parallel(layer, ranks);
    parallel.on_progress([&](double done) { told.push_back(done); });
    static_cast<void>(
        parallel(take_rows(x, dealing, ranks.rank()), dealing, {.causal = eh::Causal::top_left}));
    return told;
  };
  run_locally(2, [&](Ranks& ranks) {
    for (const auto& layer : {whole, half, of_one_sequence}) {
      const std::vector<double> told = told_by(layer, ranks);
      ASSERT_FALSE(told.empty());
      EXPECT_GT(told.front(), 0);
      EXPECT_TRUE(std::ranges::is_sorted(told));
      EXPECT_EQ(std::ranges::count(told, 1.0), 1);
      EXPECT_EQ(told.back(), 1);
    }
    EXPECT_TRUE(told_by(closed, ranks).empty());
  });
}

TYPED_TEST(SequenceLayer, AnOutputMayBeItsInput) {
  using T = TypeParam;
  const auto layer = make_layer<T>(16, small_layer());
  const eh::Sequences sequences{700, 100};
  const auto x = random_tensor<T>(1, sequences.rows(), 16);
  const eh::Mask causal{.causal = eh::Causal::top_left};
  const auto expected = layer(x, sequences, causal);
  run_locally(3, [&](Ranks& ranks) {
    const auto dealing = Dealing::of<T>(sequences, 3);
    auto mine = take_rows(x, dealing, ranks.rank());
    SequenceParallel<T>(layer, ranks).forward_into(mine, mine, dealing, causal);
    EXPECT_TRUE(same_bits(mine, take_rows(expected, dealing, ranks.rank())));
  });
}

// What is sent is what the plan says, and no more memory is taken by more ranks.
TYPED_TEST(SequenceLayer, SendsWhatIsSeen) {
  using T = TypeParam;
  constexpr Index KB = eh::detail::key_block<T>;
  const auto layer = make_layer<T>(16, small_layer({.num_heads = 4, .num_kv_heads = 2}));
  const Index blocks = 16, bytes = KB * 2 * 2 * 4 * Index{sizeof(T)};
  const auto x = random_tensor<T>(1, blocks * KB, 16);
  const auto sent = [&](int count, Deal deal, const eh::Mask& mask) {
    const auto dealing = Dealing::of<T>({blocks * KB}, count, deal);
    std::vector<Index> of_rank(static_cast<std::size_t>(count));
    run_locally(count, [&](Ranks& ranks) {
      const SequenceParallel<T> parallel(layer, ranks);
      static_cast<void>(parallel(take_rows(x, dealing, ranks.rank()), dealing, mask));
      const auto cost = parallel.cost(dealing, mask, ranks.rank());
      EXPECT_EQ(ranks.traffic().bytes_sent, cost.bytes_sent);
      EXPECT_EQ(ranks.traffic().messages_sent, cost.messages_sent);
      EXPECT_EQ(ranks.traffic().bytes_received, cost.bytes_received);
      EXPECT_EQ(ranks.traffic().messages_received, cost.messages_received);
      of_rank[static_cast<std::size_t>(ranks.rank())] = ranks.traffic().bytes_sent;
    });
    Index all = 0;
    for (const Index of_one : of_rank) all += of_one;
    return all / bytes;
  };
  const eh::Mask none, causal{.causal = eh::Causal::top_left},
      window{.causal = eh::Causal::top_left, .window = {.left = 1}};
  // Each block to all other ranks; with a causal mask, to those behind its own: half as many.
  EXPECT_EQ(sent(4, Deal::contiguous, none), blocks * 3);
  EXPECT_EQ(sent(4, Deal::contiguous, causal), blocks * 3 / 2);
  // All ranks have late rows; of the last ones, fewer do. So many blocks are dealt as one:
  const Index together = Dealing::of<T>({blocks * KB}, 4).together();
  EXPECT_EQ(sent(4, Deal::cyclic, none), blocks * 3);
  EXPECT_EQ(sent(4, Deal::cyclic, causal), (blocks / together * 3 - (3 + 2 + 1)) * together);
  // To the one block behind.
  EXPECT_EQ(sent(4, Deal::contiguous, window), 3);
  EXPECT_EQ(sent(4, Deal::cyclic, window), blocks / together - 1);
}

// Of what a causal mask hides, nothing is computed.
TEST(SequenceLayerWork, IsWhatIsSeen) {
  struct CountsPairs {
    std::atomic<Index>* pairs;
    float operator()(float score, eh::ScorePosition) const {
      pairs->fetch_add(1, std::memory_order_relaxed);
      return score;
    }
  };
  const auto layer = make_layer<float>(16, small_layer());
  const Index rows = 1024;
  const auto x = random_tensor<float>(1, rows, 16);
  for (const Deal deal : kDeals) {
    const auto dealing = Dealing::of<float>({rows}, 2, deal);
    std::atomic<Index> computed{0};
    run_locally(2, [&](Ranks& ranks) {
      const eh::Mask mask{.causal = eh::Causal::top_left};
      std::atomic<Index> pairs{0};
      const CountsPairs counts{&pairs};
      static_cast<void>(SequenceParallel<float>(layer, ranks)(take_rows(x, dealing, ranks.rank()),
                                                              dealing, mask, {.score = counts}));
      const eh::BoundMask bound(mask, dealing.as_rows(), dealing.as_rows());
      EXPECT_EQ(pairs, 2 * visible_pairs(bound, dealing, ranks.rank()));
      computed += pairs;
    });
    EXPECT_EQ(computed, 2 * rows * (rows + 1) / 2);
  }
}

TEST(SequenceLayerMemory, DoesNotGrowWithRanks) {
  constexpr Index T = 8192;
  const auto layer = make_layer<float>(16, small_layer());
  const auto x = random_tensor<float>(1, T, 16);
  std::vector<Index> most;
  for (const int count : {2, 4, 8}) {
    const Index rows = 1024 * count;  // as many of each rank
    const auto dealing = Dealing::of<float>({rows}, count);
    std::vector<Index> bytes(static_cast<std::size_t>(count));
    run_locally(count, [&](Ranks& ranks) {
      eh::Context context;
      const TensorView<float, 2> all(x.data(), {rows, 16});
      static_cast<void>(
          SequenceParallel<float>(layer, ranks)(take_rows(all, dealing, ranks.rank()), dealing,
                                                {.causal = eh::Causal::top_left}, context));
      bytes[static_cast<std::size_t>(ranks.rank())] = context.scratch_bytes();
    });
    most.push_back(*std::max_element(bytes.begin(), bytes.end()));
  }
  EXPECT_EQ(most[0], most[1]);
  EXPECT_EQ(most[0], most[2]);
}

TEST(SequenceLayerRefusals, NameWhatDiffersBetweenRanks) {
  const auto layer = make_layer<float>(16, small_layer());
  const auto dealing = Dealing::of<float>({600}, 2);
  run_locally(2, [&](Ranks& ranks) {
    const SequenceParallel<float> parallel(layer, ranks);
    const auto mine = random_tensor<float>(1, dealing.local_rows(ranks.rank()), 16);
    const auto other = random_tensor<float>(1, dealing.local_rows(ranks.rank()), 17);
    EXPECT_EQ(refusal([&] { return parallel(ranks.rank() == 0 ? mine : other, dealing); }),
              "eigenheads: SequenceParallel has columns of x = 16 on rank 0 and columns of x = 17 "
              "on rank 1; expected the same on all ranks");
    const eh::Mask causal{.causal = eh::Causal::top_left};
    EXPECT_NE(refusal([&] {
                return parallel(mine, dealing, ranks.rank() == 0 ? causal : eh::Mask());
              }).find("the mask's fingerprint"),
              std::string::npos);
    EXPECT_EQ(ranks.traffic().messages_sent, 0);
    const auto fewer = random_tensor<float>(1, dealing.local_rows(ranks.rank()) - ranks.rank(), 16);
    const auto call = [&] { return parallel(fewer, dealing); };
    if (ranks.rank() == 1)
      EXPECT_EQ(refusal(call), "eigenheads: x has shape [255, 16]; expected [n, E] = [256, 16]");
    else
      EXPECT_NE(refusal<eh::mpi::RankError>(call).find("[255, 16]"), std::string::npos);
    EXPECT_EQ(refusal([&] { return parallel(mine, Dealing::of<float>({600}, 3)); }),
              "eigenheads: SequenceParallel: the dealing is for 3 ranks; expected 2");
    EXPECT_EQ(parallel(mine, dealing).dimension(0), dealing.local_rows(ranks.rank()));
  });
}

TEST(SequenceLayerRefusals, SayWhatNoRankCanCompute) {
  const auto dealing = Dealing::of<float>({600}, 2);
  run_locally(2, [&](Ranks& ranks) {
    const auto mine = random_tensor<float>(1, dealing.local_rows(ranks.rank()), 16);
    const auto layer = make_layer<float>(16, small_layer());
    const SequenceParallel<float> parallel(layer, ranks);
    EXPECT_EQ(refusal([&] { return parallel(mine, Dealing({600}, {.ranks = 2, .block = 100})); }),
              "eigenheads: SequenceParallel: the dealing has blocks of 100 rows; expected 256");
    auto other_keys = make_layer<float>(16, small_layer());
    other_keys.W_k = eh::Linear<float>({.in_features = 15, .out_features = 16, .bias = true});
    EXPECT_EQ(refusal([&] { return SequenceParallel<float>(other_keys, ranks)(mine, dealing); }),
              "eigenheads: SequenceParallel: the layer takes queries of 16 numbers and keys or "
              "values of 15; expected one size");
    const auto dropping = make_layer<float>(16, small_layer({.dropout = 0.25}));
    eh::mpi::SequenceActivations<float> saved;
    EXPECT_EQ(
        refusal([&] {
          return SequenceParallel<float>(dropping, ranks).forward(mine, dealing, {}, saved);
        }),
        "eigenheads: SequenceParallel: dropout is 0.25; expected a DropoutSeed, {.seed = ...}");
    EXPECT_EQ(ranks.traffic().messages_sent, 0);
  });
}

// What a rank is told that has another layer than rank 0, before anything is sent.
[[nodiscard]] std::string difference_of(const eh::MultiHeadAttention<float>& layer,
                                        const eh::MultiHeadAttention<float>& other) {
  std::string sentence;
  run_locally(2, [&](Ranks& ranks) {
    const auto dealing = Dealing::of<float>({600}, 2);
    const SequenceParallel<float> parallel(ranks.rank() == 0 ? layer : other, ranks);
    const auto mine = random_tensor<float>(1, dealing.local_rows(ranks.rank()), 16);
    const std::string told = refusal([&] { return parallel(mine, dealing); });
    EXPECT_EQ(ranks.traffic().messages_sent, 0);
    if (ranks.rank() == 1) sentence = told;
  });
  return sentence;
}

TEST(SequenceLayerRefusals, NameHowTheLayersOfRanksDiffer) {
  const auto whole = make_layer<float>(16, small_layer({.num_heads = 4, .num_kv_heads = 2}));
  const auto names = [&](const auto& one, const auto& other, const char* name) {
    EXPECT_NE(difference_of(one, other).find(name), std::string::npos) << name;
  };
  auto gated = whole, otherwise_gated = whole;
  gated.set_gates({1, 0, 1, 1});
  otherwise_gated.set_gates({1, 0, 0.5f, 1});
  names(whole, gated, "the heads' fingerprint");
  names(gated, otherwise_gated, "the heads' fingerprint");
  names(prune_heads(whole, {0}), prune_heads(whole, {1}), "the heads' fingerprint");
  names(prune_heads(whole, {0, 1}), prune_heads(whole, {0, 2}), "num_kv_heads = 1");
  auto options = small_layer({.num_heads = 4});
  names(make_layer<float>(16, options), whole, "num_kv_heads = 4");
  options.num_hiddens = 32;
  options.head_size = 4;
  options.num_kv_heads = 2;
  names(make_layer<float>(16, options), whole, "num_hiddens = 32");
}

TEST(SequenceLayerRefusals, NameTheDropoutIfItsSeedsDiffer) {
  const auto layer = make_layer<float>(16, small_layer({.dropout = 0.25}));
  const auto kept = make_layer<float>(16, small_layer());
  run_locally(2, [&](Ranks& ranks) {
    const auto dealing = Dealing::of<float>({600}, 2);
    const auto mine = random_tensor<float>(1, dealing.local_rows(ranks.rank()), 16);
    eh::mpi::SequenceActivations<float> saved;
    const auto seed = static_cast<std::uint64_t>(ranks.rank());
    for (const std::uint64_t of_rank : {seed, seed << 32})
      EXPECT_NE(refusal([&] {
                  return SequenceParallel<float>(layer, ranks)
                      .forward(mine, dealing, {}, saved, {.seed = eh::DropoutSeed{of_rank}});
                }).find("the dropout's fingerprint"),
                std::string::npos);
    // Where nothing is dropped, no seed matters.
    static_cast<void>(SequenceParallel<float>(kept, ranks)
                          .forward(mine, dealing, {}, saved, {.seed = eh::DropoutSeed{seed}}));
  });
}

}  // namespace
