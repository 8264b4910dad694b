// SPDX-License-Identifier: MIT
// Measures of heads: their bits, whatever the threads, the batches, the padding and the heads that
// were pruned; importance by trial; and what is refused.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/head_importance.hpp>
#include <eigenheads/prune_heads.hpp>

#include "head_measures.hpp"
#include "support.hpp"
#include "textbook.hpp"

namespace {

using namespace support;
using eh::Causal, eh::Context, eh::HeadImportance, eh::PlainScore;

template <class T>
class ImportanceBits : public testing::Test {};
TYPED_TEST_SUITE(ImportanceBits, Scalars, ScalarNames);

template <class T, class Visit>
void for_each_call(const Visit& visit) {
  const auto layer = make_layer<T>(4, 2, 5, true);
  for (const auto& [Q, K] : {std::pair<Index, Index>{5, 9}, {17, 17}, {50, 300}})
    for (const PairMask& pairs : example_masks(3, Q, K, static_cast<std::uint64_t>(Q + K))) {
      SCOPED_TRACE(pairs.text());
      visit(layer, make_batch<T>(3, pairs, 2));
      if (testing::Test::HasFailure()) return;
    }
}

TYPED_TEST(ImportanceBits, HasTheSameBitsOnAnyNumberOfThreads) {
  using T = TypeParam;
  for_each_call<T>([](const auto& layer, const Batch<T>& batch) {
    const auto one = measures_of<T>(layer, {batch});
    for (const int threads : {2, 3})
      EXPECT_TRUE(same_measures(measures_of<T>(layer, {batch}, PlainScore{}, threads), one));
  });
}

TYPED_TEST(ImportanceBits, HasTheSameBitsHoweverSequencesAreCutIntoBatches) {
  using T = TypeParam;
  for_each_call<T>([](const auto& layer, const Batch<T>& batch) {
    std::vector<Batch<T>> cut;
    const auto alone = [](const Tensor<T, 3>& x, Index b) {
      Tensor<T, 3> one(1, x.dimension(1), x.dimension(2));
      std::copy_n(sequence(x, b).data(), one.size(), one.data());
      return one;
    };
    for (Index b = 0; b < 3; ++b)
      cut.push_back({alone(batch.queries, b), alone(batch.keys, b), alone(batch.values, b),
                     batch.pairs.of_sequence(b)});
    EXPECT_TRUE(same_measures(measures_of<T>(layer, cut), measures_of<T>(layer, {batch})));
  });
}

// `more` rows of NaN behind every sequence.
template <class T>
[[nodiscard]] Tensor<T, 3> padded(const Tensor<T, 3>& x, Index more) {
  const Index B = x.dimension(0), rows = x.dimension(1), E = x.dimension(2);
  auto y = constant_tensor<T>(kNan<T>, B, rows + more, E);
  for (Index b = 0; b < B; ++b)
    for (Index r = 0; r < rows; ++r)
      for (Index e = 0; e < E; ++e) y(b, r, e) = x(b, r, e);
  return y;
}

TYPED_TEST(ImportanceBits, HasTheSameBitsWhateverKeysArePadding) {
  using T = TypeParam;
  for_each_call<T>([](const auto& layer, const Batch<T>& batch) {
    const PairMask& pairs = batch.pairs;
    // Where a longer sequence moves what stands beside a query, or may not be windowed, it is
    // another call.
    if (pairs.causal == Causal::bottom_right) return;
    if (pairs.causal == Causal::none && pairs.window.left >= 0) return;
    const auto whole = measures_of<T>(layer, {batch});
    Batch<T> longer{batch.queries, padded(batch.keys, 270), padded(batch.values, 270), pairs};
    longer.pairs.K += 270;
    if (pairs.lens_rank == 0) {
      longer.pairs.lens_rank = 1;
      longer.pairs.lens = constant_tensor<Index>(pairs.K, 3, 1);
    }
    EXPECT_TRUE(same_measures(measures_of<T>(layer, {longer}), whole));
  });
}

TYPED_TEST(ImportanceBits, HasTheSameBitsWhateverQueriesArePadding) {
  using T = TypeParam;
  for_each_call<T>([](const auto& layer, const Batch<T>& batch) {
    const PairMask& pairs = batch.pairs;
    if (pairs.causal == Causal::bottom_right || pairs.lens_rank == 2) return;
    if (pairs.causal == Causal::none && pairs.window.left >= 0) return;
    const auto whole = measures_of<T>(layer, {batch});
    Batch<T> longer{padded(batch.queries, 60), batch.keys, batch.values, pairs};
    longer.pairs.Q += 60;
    longer.pairs.query_lens = {pairs.Q, pairs.Q, pairs.Q};
    EXPECT_TRUE(same_measures(measures_of<T>(layer, {longer}), whole));
  });
}

TYPED_TEST(ImportanceBits, LeavesOutRowsThatSeeNothing) {
  using T = TypeParam;
  const auto layer = make_layer<T>(2, 2, 5, true);
  PairMask pairs{.Q = 6, .K = 8, .lens_rank = 1};
  pairs.lens = constant_tensor<Index>(0, 2, 1);
  const auto none = make_batch<T>(2, pairs, 3), some = make_batch<T>(2, {.Q = 6, .K = 8}, 3);
  for (const auto& head : measures_of<T>(layer, {none})) {
    EXPECT_TRUE(std::isnan(head.entropy) && std::isnan(head.l1_norm) && std::isnan(head.same));
    EXPECT_EQ(head.contribution_norm, 0);  // but queries they are
  }
  const auto both = measures_of<T>(layer, {none, some}), alone = measures_of<T>(layer, {some});
  for (std::size_t h = 0; h < both.size(); ++h) {
    EXPECT_EQ(both[h].entropy, alone[h].entropy);
    EXPECT_NEAR(both[h].contribution_norm, alone[h].contribution_norm / 2, 1e-12);
  }
}

TYPED_TEST(ImportanceBits, IsNanOnlyOfTheHeadsWithANanAmongTheirScores) {
  using T = TypeParam;
  const Index H = 3;
  const auto layer = make_layer<T>(H, H, 5, false);
  auto bias = constant_tensor<T>(0, 1, H, 1, 9);
  bias(0, 1, 0, 4) = kNan<T>;
  const auto got =
      measures_of<T>(layer, {make_batch<T>(2, {.Q = 6, .K = 9}, 3)}, eh::ScoreBias<T>(bias));
  for (std::size_t h = 0; h < 3; ++h)
    for (const auto& [name, value] : eh::head_measures)
      if (std::string(name) != "gradient") {
        EXPECT_EQ(std::isnan(got[h].*value), h == 1) << h << ' ' << name;
      }
}

TEST(ImportanceMemory, IsLinearInQueriesAndKeys) {
  const auto layer = make_layer<float>(2, 1, 4, false);
  const auto bytes = [&](Index n) {
    const auto batch = make_batch<float>(1, {.Q = n, .K = n}, 3);
    eh::MultiHeadAttention<float>::Activations saved;
    layer.forward(batch.queries, batch.keys, batch.values, {}, saved);
    HeadImportance<float> importance(layer);
    Context context;
    importance.add(layer, saved, context);
    return context.scratch_bytes();
  };
  EXPECT_LT(bytes(3000), 200 * 2 * 3000);
  // Were there a term n^2, the second step would be four times the first.
  EXPECT_LE(bytes(3000) - bytes(1500), 21 * (bytes(1500) - bytes(750)) / 10);
}

TYPED_TEST(ImportanceBits, IsThatOfTheGatedLayerAfterPruning) {
  using T = TypeParam;
  const Index H = 6, Q = 50, K = 61;
  auto layer = make_layer<T>(H, 3, 5, true);
  PairMask pairs{.Q = Q, .K = K, .lens_rank = 1, .causal = Causal::bottom_right};
  pairs.lens = constant_tensor<Index>(57, 2, 1);
  pairs.allowed = constant_tensor<bool>(true, 1, H, Q, K);
  for (Index i = 0; i < pairs.allowed.size(); ++i) pairs.allowed.data()[i] = i * 31 % 17 < 12;
  const auto batch = make_batch<T>(2, pairs, 6);
  const auto slopes = random_tensor<T>(9, H);
  const eh::Alibi alibi(slopes);
  const auto pruned = eh::prune_heads(layer, {0, 2, 3});
  layer.set_gates(std::vector<T>{0, 1, 0, 0, 1, 1});
  for (const int threads : {1, 2}) {
    const auto all = measures_of<T>(layer, {batch}, alibi, threads);
    EXPECT_TRUE(
        same_measures(measures_of<T>(pruned, {batch}, alibi, threads), {all[1], all[4], all[5]}));
  }
  const auto none = eh::prune_heads(pruned, {0, 1, 2});
  EXPECT_TRUE(measures_of<T>(none, {batch}).empty());
}

// ---- By trial ----------------------------------------------------------------------------------

TEST(ImportanceByTrial, IsWhatTheMetricLoses) {
  auto layer = make_layer<double>(3, 3, 4, true);
  const auto x = random_tensor<double>(1, 2, 5, kInputSize);
  int calls = 0;
  const auto metric = [&] {
    ++calls;
    const auto y = layer(x, x, x);
    double sum = 0;
    for (Index i = 0; i < y.size(); ++i) sum += std::abs(y.data()[i]);
    return sum;
  };
  const auto expect = [&](const std::vector<Tensor<double, 2>>& gates_of_trials) {
    const Tensor<double, 2> before = layer.gates();
    const double whole = metric();
    calls = 0;
    const auto got = eh::importance_by_trial(layer, metric);
    EXPECT_EQ(calls, 4);
    EXPECT_TRUE(same_bits(layer.gates(), before));
    auto copy = layer;
    for (std::size_t h = 0; h < 3; ++h) {
      layer.set_gates(gates_of_trials[h]);
      EXPECT_EQ(got[h], whole - metric()) << h;
      EXPECT_NE(got[h], 0) << h;
    }
    layer = copy;
  };
  const auto gates = [](Index B, std::vector<double> values) {
    Tensor<double, 2> tensor(B, 3);
    std::copy(values.begin(), values.end(), tensor.data());
    return tensor;
  };
  expect({gates(1, {0, 1, 1}), gates(1, {1, 0, 1}), gates(1, {1, 1, 0})});
  layer.set_gates(std::vector<double>{2, 0.5, -1});
  expect({gates(1, {0, 0.5, -1}), gates(1, {2, 0, -1}), gates(1, {2, 0.5, 0})});
  layer.set_gates(gates(2, {2, 0.5, -1, 1, 1, 3}));
  expect({gates(2, {0, 0.5, -1, 0, 1, 3}), gates(2, {2, 0, -1, 1, 0, 3}),
          gates(2, {2, 0.5, 0, 1, 1, 0})});
}

TEST(ImportanceByTrial, PutsTheGatesBackIfTheMetricThrows) {
  auto layer = make_layer<float>(3, 3, 4, false);
  int calls = 0;
  const auto metric = [&calls]() -> int {
    if (++calls == 3) throw std::runtime_error("the metric");
    return 0;
  };
  EXPECT_EQ(refusal<std::runtime_error>([&] { return eh::importance_by_trial(layer, metric); }),
            "the metric");
  EXPECT_EQ(layer.gates().size(), 0);
  layer.set_gates(std::vector<float>{1, 2, 3});
  const Tensor<float, 2> before = layer.gates();
  calls = 0;
  EXPECT_THROW((void)eh::importance_by_trial(layer, metric), std::runtime_error);
  EXPECT_TRUE(same_bits(layer.gates(), before));
}

// ---- Refusals ----------------------------------------------------------------------------------

TEST(ImportanceCalls, RefusesWhatDoesNotFit) {
  using Layer = eh::MultiHeadAttention<double>;
  const Layer layer = make_layer<double>(2, 2, 5, false);
  HeadImportance<double> importance(layer);
  const auto refused = [&]<class Exception>(Exception*, const auto& of, const auto& what) {
    return refusal<Exception>([&] {
      importance.add(of, what);
      return 0;
    });
  };
  constexpr std::logic_error* logic = nullptr;
  constexpr std::invalid_argument* argument = nullptr;
  EXPECT_EQ(refusal<std::logic_error>([&] { return importance.measures(); }),
            "eigenheads: HeadImportance: measures needs a batch; add one first");
  Layer::Activations saved;
  EXPECT_EQ(refused(logic, layer, saved),
            "eigenheads: HeadImportance: add needs the activations of a forward call");
  const auto forward = [&saved](const Layer& of, Index B, Index Q) {
    const auto x = random_tensor<double>(1, B, Q, kInputSize);
    of.forward(x, x, x, {}, saved);
  };
  for (const auto& [B, Q] : {std::pair<Index, Index>{0, 3}, {2, 0}}) {
    forward(layer, B, Q);
    EXPECT_EQ(refused(argument, layer, saved),
              "eigenheads: HeadImportance: the activations are of [B, Q] = [" + std::to_string(B) +
                  ", " + std::to_string(Q) + "]; expected at least one sequence and one query");
  }
  const Layer more = make_layer<double>(3, 3, 5, false), wider = make_layer<double>(2, 2, 7, false),
              fewer = make_layer<double>(2, 1, 5, false);
  forward(more, 2, 3);
  EXPECT_EQ(refused(argument, more, saved),
            "eigenheads: HeadImportance: the layer has [num_heads, num_hiddens] = [3, 10]; "
            "expected [2, 10]");
  EXPECT_EQ(
      refused(logic, layer, saved),
      "eigenheads: HeadImportance: the activations are those of a layer of other sizes or heads");
  forward(layer, 2, 3);
  for (const Layer* other : {&wider, &fewer})
    EXPECT_EQ(
        refused(logic, *other, saved),
        "eigenheads: HeadImportance: the activations are those of a layer of other sizes or heads");
  Layer other_sinks = layer;
  other_sinks.sink_logits = Tensor<double, 1>(1);
  EXPECT_EQ(refused(argument, other_sinks, saved),
            "eigenheads: MultiHeadAttention: sink_logits has shape [1]; expected [H] = [2]");

  Layer::Gradients gradients;
  const auto gates_refused = [&](Index B, Index H) {
    gradients.gates = constant_tensor<double>(1, B, H);
    return refusal<std::invalid_argument>([&] {
      importance.add(gradients);
      return 0;
    });
  };
  EXPECT_EQ(gates_refused(2, 3),
            "eigenheads: gradients.gates has shape [2, 3]; expected [B, H] = [*, 2]");
  EXPECT_EQ(gates_refused(0, 2),
            "eigenheads: gradients.gates has shape [0, 2]; expected at least one sequence");
  EXPECT_EQ(refusal<std::logic_error>([&] { return importance.measures(); }),
            "eigenheads: HeadImportance: measures needs a batch; add one first");
}

// Squares of slopes that are no numbers of their own.
TEST(ImportanceCalls, SlopesOfAnySizeHaveShares) {
  using Layer = eh::MultiHeadAttention<double>;
  for (const double unit : {1e-320, 1e-200, 1.0, 1e200, 4e307}) {
    HeadImportance<double> importance(make_layer<double>(2, 2, 5, false));
    Layer::Gradients gradients;
    gradients.gates = constant_tensor<double>(0, 1, 2);
    gradients.gates(0, 0) = 3 * unit;
    gradients.gates(0, 1) = 4 * unit;
    importance.add(gradients);
    const auto measures = importance.measures();
    const double bound = unit < 1e-300 ? 1e-3 : 1e-15;
    EXPECT_NEAR(measures[0].gradient, 0.6, bound) << unit;
    EXPECT_NEAR(measures[1].gradient, 0.8, bound) << unit;
  }
}

TEST(ImportanceCalls, ACopyGoesOnByItself) {
  const auto layer = make_layer<double>(2, 2, 5, true);
  const auto first = make_batch<double>(2, {.Q = 5, .K = 7}, 1),
             second = make_batch<double>(1, {.Q = 9, .K = 4}, 5);
  HeadImportance<double> importance(layer);
  add_batch(importance, layer, first);
  auto copy = importance;
  add_batch(copy, layer, second);
  EXPECT_TRUE(same_measures(importance.measures(), measures_of<double>(layer, {first})));
  EXPECT_TRUE(same_measures(copy.measures(), measures_of<double>(layer, {first, second})));
}

}  // namespace
