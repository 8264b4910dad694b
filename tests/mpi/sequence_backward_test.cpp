// SPDX-License-Identifier: MIT
// The backward pass of a layer whose rows are spread over ranks gives the bits of one process: every
// gradient, whoever has which rows.
#include <optional>
#include <string>
#include <vector>

#include <eigenheads/mpi/local_transport.hpp>
#include <eigenheads/mpi/sequence_backward.hpp>
#include <eigenheads/prune_heads.hpp>

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

  [[nodiscard]] Tensor<T, 2> rows(std::uint64_t of) const {
    return random_tensor<T>(of, eh::Sequences(lengths).rows(), kSize);
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
    options.context = context;
    return options;
  }

  [[nodiscard]] eh::LayerGradients<T> one_process() const {
    eh::Context context(1);
    const Tensor<T, 2> x = rows(7), dy = rows(8);
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
    const Tensor<T, 2> x = rows(7), dy = rows(8);
    const Dealing dealt = dealing(ranks, deal);
    run_locally(ranks, [&](Ranks& r) {
      const std::string name = "rank " + std::to_string(r.rank()) + " of " + std::to_string(ranks) +
                               ", deal " + std::to_string(static_cast<int>(deal));
      eh::Context context(threads, kAnyWork);
      const SequenceParallel<T> parallel(layer, r);
      SequenceActivations<T> saved;
      parallel.forward(take_rows(x, dealt, r.rank()), dealt, mask, saved, options(context));
      eh::LayerGradients<T> gradients;
      for (int i = 0; i < (accumulate ? 2 : 1); ++i)
        backward_into(parallel, gradients, take_rows(dy, dealt, r.rank()), saved, i > 0, context);
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

}  // namespace
