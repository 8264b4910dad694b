// SPDX-License-Identifier: MIT
// The backward pass of a layer whose rows are spread over ranks gives the bits of one process: every
// gradient, whoever has which rows.
#include <cmath>
#include <optional>
#include <string>
#include <vector>

#include <eigenheads/mpi/local_transport.hpp>
#include <eigenheads/mpi/sequence_backward.hpp>
#include <eigenheads/prune_heads.hpp>
#include <eigenheads/train/optim.hpp>

#include "layers.hpp"
#include "support.hpp"

namespace {

using namespace support;
using eh::mpi::Deal, eh::mpi::Dealing, eh::mpi::Ranks, eh::mpi::run_locally;
using eh::mpi::SequenceActivations, eh::mpi::SequenceParallel;
using Options = eh::MultiHeadAttentionOptions;

constexpr Index kSize = 16;
constexpr Deal kDeals[] = {Deal::contiguous, Deal::early_and_late, Deal::cyclic};

template <class T>
class SequenceBackward : public testing::Test {};
TYPED_TEST_SUITE(SequenceBackward, Scalars, ScalarNames);

template <class T>
[[nodiscard]] testing::AssertionResult same_parameters(const eh::LayerGradients<T>& a,
                                                       const eh::LayerGradients<T>& b) {
  using Linear = eh::LinearGradients<T> eh::LayerGradients<T>::*;
  for (const auto& [name, of] : {std::pair<const char*, Linear>{"W_q", &eh::LayerGradients<T>::W_q},
                                 {"W_k", &eh::LayerGradients<T>::W_k},
                                 {"W_v", &eh::LayerGradients<T>::W_v},
                                 {"W_o", &eh::LayerGradients<T>::W_o}}) {
    if (auto same = same_bits((a.*of).weight, (b.*of).weight); !same) return same << ' ' << name;
    if (auto same = same_bits((a.*of).bias, (b.*of).bias); !same)
      return same << " bias of " << name;
  }
  if (auto same = same_bits(a.gates, b.gates); !same) return same << " gates";
  if (auto same = same_bits(a.sink_logits, b.sink_logits); !same) return same << " sinks";
  return testing::AssertionSuccess();
}

// One process, and ranks: of packed sequences or, if they are of one length, of a padded batch.
template <class T>
struct Case {
  eh::MultiHeadAttention<T> layer;
  std::vector<Index> lengths;
  eh::Mask mask{};
  bool is_padded = false;
  std::optional<eh::DropoutSeed> seed{};
  bool accumulate = false;
  eh::TrainableScoreRef<T> score{};
  std::vector<Index> nan_rows{};  // of x, among all rows

  [[nodiscard]] Tensor<T, 2> rows(std::uint64_t of) const {
    return random_tensor<T>(of, eh::Sequences(lengths).rows(), kSize);
  }
  [[nodiscard]] Tensor<T, 2> input() const {
    Tensor<T, 2> x = rows(7);
    for (const Index row : nan_rows) x(row, 3) = kNan<T>;
    return x;
  }
  [[nodiscard]] Dealing dealing(int ranks, Deal deal) const {
    if (is_padded) return Dealing::of_padded<T>(std::ssize(lengths), lengths.at(0), ranks, deal);
    return Dealing::of<T>(lengths, ranks, deal);
  }
  // [B, L, kSize]
  [[nodiscard]] TensorView<T, 3> padded(const Tensor<T, 2>& x) const {
    return {x.data(), {std::ssize(lengths), lengths.at(0), kSize}};
  }
  [[nodiscard]] eh::TrainingOptions<T> options(eh::Context& context) const {
    eh::TrainingOptions<T> options;
    options.seed = seed;
    options.score = score;
    options.context = context;
    return options;
  }

  [[nodiscard]] eh::LayerGradients<T> one_process() const {
    eh::Context context(1);
    const Tensor<T, 2> x = input(), dy = rows(8);
    eh::LayerActivations<T> saved;
    eh::LayerGradients<T> gradients;
    if (is_padded) {
      const auto all = padded(x);
      layer.forward(all, all, all, mask, saved, options(context));
    } else {
      layer.forward(x, eh::Sequences(lengths), mask, saved, options(context));
    }
    for (int i = 0; i < (accumulate ? 2 : 1); ++i)
      if (is_padded)
        layer.backward_into(gradients, padded(dy), saved, i > 0, context);
      else
        layer.backward_into(gradients, dy, saved, i > 0, context);
    return gradients;
  }

  void same_on(int ranks, Deal deal, int threads, const eh::LayerGradients<T>& expected) const {
    const Tensor<T, 2> x = input(), dy = rows(8);
    const Dealing dealt = dealing(ranks, deal);
    run_locally(ranks, [&](Ranks& r) {
      const std::string name = "rank " + std::to_string(r.rank()) + " of " + std::to_string(ranks) +
                               ", deal " + std::to_string(static_cast<int>(deal));
      eh::Context context(threads, kAnyWork);
      const SequenceParallel<T> parallel(layer, r);
      SequenceActivations<T> saved;
      parallel.forward(take_rows(x, dealt, r.rank()), dealt, mask, saved, options(context));
      eh::LayerGradients<T> gradients;
      for (int i = 0; i < (accumulate ? 2 : 1); ++i) {
        r.reset_traffic();
        backward_into(parallel, gradients, take_rows(dy, dealt, r.rank()), saved,
                      {.accumulate = i > 0, .context = context});
      }
      const auto cost = eh::mpi::backward_cost(layer, dealt, mask, r.rank(), context);
      EXPECT_EQ(r.traffic().bytes_sent, cost.bytes_sent) << name;
      EXPECT_EQ(r.traffic().bytes_received, cost.bytes_received) << name;
      EXPECT_EQ(r.traffic().messages_sent, cost.messages_sent) << name;
      EXPECT_EQ(r.traffic().messages_received, cost.messages_received) << name;
      EXPECT_TRUE(same_parameters(gradients, expected)) << name;
      const auto same_rows = [&](const Tensor<T, 3>& mine, const Tensor<T, 3>& all) {
        const TensorView<T, 2> as_rows(all.data(), {all.size() / kSize, kSize});
        const TensorView<T, 2> of_rank(mine.data(), {mine.dimension(1), kSize});
        return same_bits(of_rank, take_rows(as_rows, dealt, r.rank()));
      };
      EXPECT_TRUE(same_rows(gradients.queries, expected.queries)) << name << ", queries";
      EXPECT_TRUE(same_rows(gradients.keys, expected.keys)) << name << ", keys";
      EXPECT_TRUE(same_rows(gradients.values, expected.values)) << name << ", values";
    });
  }
  // The rarer a count of ranks is where work is shared otherwise, the fewer dealings are tried.
  void is_the_same() const {
    const eh::LayerGradients<T> expected = one_process();
    for (const Deal deal : kDeals)
      for (const int ranks : {2, 3}) same_on(ranks, deal, 1, expected);
    for (const int ranks : {1, 4, 8}) same_on(ranks, Deal::cyclic, 1, expected);
    same_on(2, Deal::cyclic, 3, expected);
  }
  void is_the_same_on_three() const {
    const eh::LayerGradients<T> expected = one_process();
    same_on(3, Deal::cyclic, 1, expected);
    same_on(3, Deal::contiguous, 2, expected);
  }
};

[[nodiscard]] Options small(Options options = {}) {
  options.num_hiddens = kSize;
  if (options.num_heads == 0) options.num_heads = 2;
  options.bias = true;
  return options;
}

// Lengths around blocks of keys, of queries and of rows, and none.
const std::vector<Index> kLengths{600, 0, 1, 257, 96, 128, 0, 511};

TYPED_TEST(SequenceBackward, OfPackedSequences) {
  const auto layer = make_layer<TypeParam>(kSize, small());
  Case<TypeParam>{.layer = layer, .lengths = kLengths}.is_the_same();
}

TYPED_TEST(SequenceBackward, OfGroupedHeadsUnderACausalMask) {
  const auto layer = make_layer<TypeParam>(kSize, small({.num_heads = 4, .num_kv_heads = 2}));
  Case<TypeParam>{.layer = layer, .lengths = kLengths, .mask = {.causal = eh::Causal::bottom_right}}
      .is_the_same();
}

TYPED_TEST(SequenceBackward, OfAWindowWithSinksAndARotary) {
  const auto layer = make_layer<TypeParam>(
      kSize, small({.num_heads = 2, .rotary = eh::RotaryOptions{.max_positions = 1200}}));
  Case<TypeParam>{.layer = layer,
                  .lengths = {1100, 300},
                  .mask = {.causal = eh::Causal::top_left, .window = {.left = 200}, .sinks = 3}}
      .is_the_same();
}

TYPED_TEST(SequenceBackward, OfPaddedSequencesWithDropout) {
  const auto layer = make_layer<TypeParam>(kSize, small({.dropout = 0.25}));
  Case<TypeParam>{.layer = layer,
                  .lengths = {530, 530, 530},
                  .mask = {.query_lens = std::vector<Index>{530, 0, 400},
                           .key_lens = std::vector<Index>{530, 0, 270}},
                  .is_padded = true,
                  .seed = eh::DropoutSeed{5}}
      .is_the_same();
}

TYPED_TEST(SequenceBackward, OfGatesAndLearntSinksAddedToWhatIsThere) {
  auto layer =
      make_layer<TypeParam>(kSize, small({.num_heads = 4, .num_kv_heads = 2, .sink_logits = true}));
  for (Index h = 0; h < 4; ++h) layer.sink_logits(h) = TypeParam(h) / 4;
  const std::vector<Index> lengths{700, 300};
  layer.set_gates(Tensor<TypeParam, 2>(random_tensor<TypeParam>(3, 2, 4)));
  Case<TypeParam>{.layer = layer, .lengths = lengths, .accumulate = true}.is_the_same();
}

TYPED_TEST(SequenceBackward, OfPrunedHeadsWithAClosedGate) {
  const auto whole = make_layer<TypeParam>(kSize, small({.num_heads = 8, .num_kv_heads = 2}));
  auto layer = eh::prune_heads(whole, {0, 5, 6});
  layer.set_gates(std::vector<TypeParam>{1, 0, TypeParam(0.5), 1, 2});
  Case<TypeParam>{.layer = layer, .lengths = {520, 40}, .mask = {.causal = eh::Causal::top_left}}
      .is_the_same();
}

// What a NaN reaches is NaN in the same bits, and what it does not reach is no NaN.
TYPED_TEST(SequenceBackward, OfANanInARowThatIsSeenAndInOneThatIsHidden) {
  const auto layer = make_layer<TypeParam>(kSize, small());
  const Case<TypeParam> seen{.layer = layer,
                             .lengths = {700},
                             .mask = {.causal = eh::Causal::top_left, .window = {.left = 100}},
                             .nan_rows = {300}};
  EXPECT_TRUE(std::isnan(seen.one_process().keys(0, 300, 0)));
  seen.is_the_same_on_three();
  const Case<TypeParam> hidden{.layer = layer,
                               .lengths = {600, 600},
                               .mask = {.query_lens = std::vector<Index>{600, 300},
                                        .key_lens = std::vector<Index>{600, 300}},
                               .is_padded = true,
                               .nan_rows = {600 + 450}};
  const auto expected = hidden.one_process();
  EXPECT_FALSE(std::isnan(expected.queries(1, 299, 0)));
  hidden.is_the_same_on_three();
}

TYPED_TEST(SequenceBackward, OfScoreFunctions) {
  using T = TypeParam;
  const auto layer = make_layer<T>(kSize, small());
  const auto slopes = random_tensor<T>(5, 2);
  const eh::Softcap<T> softcap(T(2));
  const eh::Alibi<T> alibi(slopes);
  const eh::Mask causal{.causal = eh::Causal::top_left};
  Case<T>{.layer = layer, .lengths = {530, 40}, .mask = causal, .score = softcap}
      .is_the_same_on_three();
  Case<T>{.layer = layer, .lengths = {530, 40}, .mask = causal, .score = alibi}
      .is_the_same_on_three();
}

TYPED_TEST(SequenceBackward, OfPaddedSequencesWithValidLens) {
  const auto layer = make_layer<TypeParam>(kSize, small());
  Case<TypeParam>{.layer = layer,
                  .lengths = {530, 530, 530},
                  .mask = {.valid_lens = std::vector<Index>{530, 0, 257}},
                  .is_padded = true}
      .is_the_same_on_three();
}

// Rows that stand 500 keys further than they are counted, so that a window lies far from its sinks.
TYPED_TEST(SequenceBackward, OfAWindowFarFromItsSinks) {
  const auto layer = make_layer<TypeParam>(
      kSize, small({.num_heads = 2, .rotary = eh::RotaryOptions{.max_positions = 1600}}));
  Case<TypeParam>{.layer = layer,
                  .lengths = {1100},
                  .mask = {.causal = eh::Causal::top_left,
                           .window = {.left = 200},
                           .first_positions = std::vector<Index>{500},
                           .sinks = 3},
                  .is_padded = true}
      .is_the_same_on_three();
}

TYPED_TEST(SequenceBackward, OfAWindowOnBothSides) {
  const auto layer = make_layer<TypeParam>(kSize, small());
  Case<TypeParam>{
      .layer = layer, .lengths = {700, 90}, .mask = {.window = {.left = 150, .right = 70}}}
      .is_the_same_on_three();
}

// A head's numbers are more than a panel has.
TYPED_TEST(SequenceBackward, OfWideHeads) {
  const auto layer = make_layer<TypeParam>(kSize, small({.num_heads = 2, .head_size = 72}));
  Case<TypeParam>{.layer = layer, .lengths = {520}, .mask = {.causal = eh::Causal::top_left}}
      .is_the_same_on_three();
}

TYPED_TEST(SequenceBackward, OfASequenceWhoseGatesAreClosed) {
  auto layer = make_layer<TypeParam>(
      kSize, small({.num_heads = 2, .rotary = eh::RotaryOptions{.max_positions = 600}}));
  Tensor<TypeParam, 2> gates(3, 2);
  gates.setValues({{1, TypeParam(0.5)}, {0, 0}, {0, 1}});
  layer.set_gates(gates);
  Case<TypeParam>{.layer = layer, .lengths = {300, 530, 260}}.is_the_same_on_three();
}

// T9.01
TYPED_TEST(SequenceBackward, OfARowCountThatNoNumberOfRanksDivides) {
  const auto layer = make_layer<TypeParam>(kSize, small());
  const Case<TypeParam> one{
      .layer = layer, .lengths = {2999}, .mask = {.causal = eh::Causal::top_left}};
  const auto expected = one.one_process();
  for (const Deal deal : kDeals) one.same_on(4, deal, 1, expected);
}

// T9.02
TYPED_TEST(SequenceBackward, OfFewerRowsThanRanks) {
  const auto layer = make_layer<TypeParam>(kSize, small());
  for (const std::vector<Index>& lengths :
       std::vector<std::vector<Index>>{{3}, {0}, {}, {2, 300, 0, 0, 0, 0}}) {
    const Case<TypeParam> one{.layer = layer, .lengths = lengths};
    const auto expected = one.one_process();
    for (const Deal deal : kDeals) one.same_on(8, deal, 1, expected);
  }
  // All tokens of one rank are masked.
  const Case<TypeParam> one{
      .layer = layer,
      .lengths = {1024},
      .mask = {.query_lens = std::vector<Index>{500}, .key_lens = std::vector<Index>{500}},
      .is_padded = true};
  one.same_on(4, Deal::contiguous, 1, one.one_process());
}

// What all ranks send: every key to the others, every query too, the gradients from run to run of rows,
// then to all, and what gates and sinks have.
TEST(SequenceBackwardCost, IsThatOfAFormula) {
  const auto layer = make_layer<float>(kSize, small());
  const Index rows = 2048, H = 2, D = 8, number = sizeof(float);
  const Index parameters = number * 4 * (kSize * kSize + kSize), head_sums = 16 * H;
  const auto sent = [&](Index ranks, Deal deal, const eh::Mask& mask) {
    const auto dealing = Dealing::of<float>({rows}, static_cast<int>(ranks), deal);
    Index bytes = 0;
    for (int rank = 0; rank < ranks; ++rank)
      bytes += eh::mpi::backward_cost(layer, dealing, mask, rank).bytes_sent;
    return bytes;
  };
  for (const Index ranks : {1, 2, 4, 8}) {
    const Index others = ranks - 1, runs = ranks == 1 ? 1 : rows / 256;
    const Index attention = others * rows * number * H * (D + D + D + D + 2);
    const Index after = others * (parameters + head_sums);
    EXPECT_EQ(sent(ranks, Deal::cyclic, {}),
              attention + (runs - 1) * (parameters + head_sums) + after);
    // Rows of lower ranks are seen by higher ones alone: half of it.
    EXPECT_EQ(sent(ranks, Deal::contiguous, {.causal = eh::Causal::top_left}),
              attention / 2 + others * (parameters + head_sums) + after);
  }
}

// The same rows for each rank, of a sequence that is longer the more there are.
TYPED_TEST(SequenceBackward, TakesAsMuchMemoryOnAnyNumberOfRanks) {
  using T = TypeParam;
  const auto layer = make_layer<T>(kSize, small());
  const Index rows = 512;
  std::vector<Index> bytes;
  for (const int ranks : {2, 4, 8}) {
    const auto dealt = Dealing::of<T>({rows * ranks}, ranks);
    std::vector<Index> of_rank(static_cast<std::size_t>(ranks));
    run_locally(ranks, [&](Ranks& r) {
      eh::Context context(1);
      const SequenceParallel<T> parallel(layer, r);
      SequenceActivations<T> saved;
      const auto x = random_tensor<T>(1, rows, kSize);
      parallel.forward(x, dealt, {.causal = eh::Causal::top_left}, saved);
      static_cast<void>(backward(parallel, x, saved, context));
      of_rank[static_cast<std::size_t>(r.rank())] = context.scratch_bytes();
    });
    bytes.push_back(*std::max_element(of_rank.begin(), of_rank.end()));
  }
  EXPECT_EQ(bytes[1], bytes[0]);
  EXPECT_EQ(bytes[2], bytes[0]);
}

TYPED_TEST(SequenceBackward, KeepsAShareOfTheParametersGradients) {
  using T = TypeParam;
  const auto layer = make_layer<T>(kSize, small());
  const Case<T> one{.layer = layer, .lengths = {520, 100}};
  const auto expected = one.one_process();
  const Dealing dealt = one.dealing(3, Deal::cyclic);
  run_locally(3, [&](Ranks& r) {
    eh::Context context(1);
    const SequenceParallel<T> parallel(layer, r);
    SequenceActivations<T> saved;
    parallel.forward(take_rows(one.rows(7), dealt, r.rank()), dealt, {}, saved);
    eh::LayerGradients<T> shares;
    for (const bool accumulate : {false, true}) {
      backward_into(parallel, shares, take_rows(one.rows(8), dealt, r.rank()), saved,
                    {.accumulate = accumulate, .keeps_share = true, .context = context});
      const auto [begin, end] = eh::mpi::Shares::even(kSize, 3).of(r.rank());
      const T times = accumulate ? 2 : 1;
      for (Index o = 0; o < kSize; ++o) {
        const bool is_mine = o >= begin && o < end;
        EXPECT_EQ(shares.W_q.bias(o), is_mine ? times * expected.W_q.bias(o) : T(0));
        for (Index i = 0; i < kSize; ++i)
          EXPECT_EQ(shares.W_o.weight(o, i), is_mine ? times * expected.W_o.weight(o, i) : T(0));
      }
    }
  });
}

// A step of training: the loss is half the square of what the output is beside the input.
template <class T>
[[nodiscard]] Tensor<T, 2> difference(const Tensor<T, 2>& y, const Tensor<T, 2>& x) {
  Tensor<T, 2> dy(y.dimension(0), y.dimension(1));
  for (Index i = 0; i < dy.size(); ++i) dy.data()[i] = y.data()[i] - x.data()[i];
  return dy;
}

TYPED_TEST(SequenceBackward, TrainsALayerToTheSameWeights) {
  using T = TypeParam;
  const Index steps = 30;
  const auto untrained =
      make_layer<T>(kSize, small({.num_heads = 2, .dropout = 0.125, .sink_logits = true}));
  const eh::Sequences sequences{300, 0, 220};
  const eh::Mask mask{.causal = eh::Causal::bottom_right};
  const auto x = random_tensor<T>(5, sequences.rows(), kSize);
  const auto options = [](Index step, eh::Context& context) {
    eh::TrainingOptions<T> of_step;
    of_step.seed = eh::DropoutSeed{static_cast<std::uint64_t>(step)};
    of_step.context = context;
    return of_step;
  };
  const auto train = [&](auto layer, const auto& gradients_of) {
    eh::Adam<T> adam({.learning_rate = 0.01});
    for (Index step = 0; step < steps; ++step) adam.step(layer, gradients_of(layer, step));
    return layer;
  };
  eh::Context context(1);
  const auto expected = train(untrained, [&](const auto& layer, Index step) {
    eh::LayerActivations<T> saved;
    const auto y = layer.forward(x, sequences, mask, saved, options(step, context));
    return layer.backward(difference(y, x), saved, context);
  });
  EXPECT_FALSE(same_bits(expected.W_v.weight(), untrained.W_v.weight()));
  for (const int ranks : {2, 3})
    run_locally(ranks, [&](Ranks& r) {
      eh::Context context_of_rank(1);
      const auto dealt = Dealing::of<T>(sequences, ranks);
      const auto mine = take_rows(x, dealt, r.rank());
      const auto trained = train(untrained, [&](const auto& layer, Index step) {
        const SequenceParallel<T> parallel(layer, r);
        SequenceActivations<T> saved;
        const auto y = parallel.forward(mine, dealt, mask, saved, options(step, context_of_rank));
        return backward(parallel, difference(y, mine), saved, context_of_rank);
      });
      for (const auto of : {&eh::MultiHeadAttention<T>::W_q, &eh::MultiHeadAttention<T>::W_k,
                            &eh::MultiHeadAttention<T>::W_v, &eh::MultiHeadAttention<T>::W_o}) {
        EXPECT_TRUE(same_bits((trained.*of).weight(), (expected.*of).weight()));
        EXPECT_TRUE(same_bits((trained.*of).bias(), (expected.*of).bias()));
      }
      EXPECT_TRUE(same_bits(trained.sink_logits, expected.sink_logits));
    });
}

// ---- What is refused ---------------------------------------------------------------------------

// What both of two ranks are told, of an exception of this type.
template <class Exception, class Call>
void is_refused(const std::string& expected, const Call& call) {
  run_locally(2, [&](Ranks& r) {
    const auto layer = make_layer<float>(kSize, small());
    const SequenceParallel<float> parallel(layer, r);
    const auto dealt = Dealing::of<float>({600}, 2);
    const auto x = random_tensor<float>(1, dealt.local_rows(r.rank()), kSize);
    SequenceActivations<float> saved;
    parallel.forward(x, dealt, {}, saved);
    try {
      call(parallel, x, saved);
      ADD_FAILURE() << "not refused";
    } catch (const Exception& exception) {
      EXPECT_EQ(exception.what(), "eigenheads: " + expected);
    }
  });
}

TEST(SequenceBackwardRefuses, NoActivationsAndThoseOfAnotherLayer) {
  is_refused<std::logic_error>(
      "SequenceParallel: backward needs the activations of a forward call",
      [](const auto& parallel, const auto& x, auto&) {
        static_cast<void>(backward(parallel, x, SequenceActivations<float>{}));
      });
  is_refused<std::logic_error>(
      "SequenceParallel: the activations are those of a layer of other sizes or heads, or of other "
      "ranks",
      [](const auto& parallel, const auto& x, auto& saved) {
        const auto other = make_layer<float>(kSize, small({.num_heads = 4}));
        static_cast<void>(backward(SequenceParallel<float>(other, parallel.ranks()), x, saved));
      });
}

TEST(SequenceBackwardRefuses, AScoreBias) {
  is_refused<std::invalid_argument>(
      "SequenceParallel: the scores have a ScoreBias, whose gradient is a sum over heads, then "
      "queries, then keys, an order that rows of many ranks do not come in; expected scores "
      "without "
      "one",
      [](const auto& parallel, const auto& x, auto& saved) {
        const auto bias = random_tensor<float>(2, 1, 1, 600, 1);
        eh::TrainingOptions<float> options;
        const eh::ScoreBias score(bias);
        options.score = score;
        parallel.forward(x, saved.dealing, {}, saved, options);
        static_cast<void>(backward(parallel, x, saved));
      });
}

TEST(SequenceBackwardRefuses, GradientsOfAnotherShapeAndADealingThatCutsTheirBlocks) {
  run_locally(2, [](Ranks& r) {
    const auto layer = make_layer<double>(kSize, small());
    const SequenceParallel<double> parallel(layer, r);
    const Dealing cut({600}, {.ranks = 2, .block = eh::detail::key_block<double>});
    const auto x = random_tensor<double>(1, cut.local_rows(r.rank()), kSize);
    SequenceActivations<double> saved;
    parallel.forward(x, cut, {}, saved);
    EXPECT_EQ(refusal([&] { static_cast<void>(backward(parallel, x, saved)); }),
              "eigenheads: the dealing gives rank 1 rows from 128 of a sequence on, after those of "
              "rank 0; expected a multiple of 256, where blocks of gradients begin");
  });
  // On one rank alone, others hear of it.
  run_locally(2, [](Ranks& r) {
    const auto layer = make_layer<float>(kSize, small());
    const SequenceParallel<float> parallel(layer, r);
    const auto dealt = Dealing::of<float>({600}, 2);
    const auto x = random_tensor<float>(1, dealt.local_rows(r.rank()), kSize);
    SequenceActivations<float> saved;
    parallel.forward(x, dealt, {}, saved);
    const auto dy = random_tensor<float>(1, x.dimension(0) + r.rank(), kSize);
    if (r.rank() == 1)
      EXPECT_EQ(
          refusal([&] { static_cast<void>(backward(parallel, dy, saved)); }),
          "eigenheads: grad_output has shape [257, 16]; expected [n, num_hiddens] = [256, 16]");
    else
      EXPECT_THROW(static_cast<void>(backward(parallel, dy, saved)), eh::mpi::RankError);
    EXPECT_NO_THROW(static_cast<void>(backward(parallel, x, saved)));
  });
}

// What both of two ranks are told, before anything is sent, of which rank 1 has another layer or another
// dropout.
TEST(SequenceBackwardRefuses, WhatDiffersBetweenRanks) {
  const auto layer = make_layer<float>(kSize, small());
  auto unbiased = small();
  unbiased.bias = false;
  const auto other = make_layer<float>(kSize, unbiased);
  auto gated = layer;
  gated.set_gates({1, 0});
  run_locally(2, [&](Ranks& r) {
    const auto dealt = Dealing::of<float>({600}, 2);
    const auto x = random_tensor<float>(1, dealt.local_rows(r.rank()), kSize);
    const SequenceParallel<float> parallel(layer, r), other_parallel(other, r), closed(gated, r);
    SequenceActivations<float> saved, of_gates;
    parallel.forward(x, dealt, {}, saved);
    closed.forward(x, dealt, {}, of_gates);
    r.reset_traffic();
    const auto is_named = [&](const char* name, const auto& at, const auto& activations) {
      EXPECT_NE(refusal([&] { static_cast<void>(backward(at, x, activations)); }).find(name),
                std::string::npos)
          << name;
      EXPECT_EQ(r.traffic().messages_sent, 0);
    };
    is_named("the bias of W_q", r.rank() == 0 ? parallel : other_parallel, saved);
    is_named("the heads' fingerprint", parallel, r.rank() == 0 ? saved : of_gates);
    auto dropped = saved;
    dropped.dropout =
        eh::DropoutMask<float>::of(eh::Dropout(0.5), {static_cast<std::uint64_t>(r.rank())});
    is_named("the dropout's fingerprint", parallel, dropped);
  });
}

}  // namespace
