// SPDX-License-Identifier: MIT
// The experiment of examples/prune_heads on a small model: its samples of phrases, its orders, and
// that its numbers are those of the models that it says they are of.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <gtest/gtest.h>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "prune_heads/experiment.hpp"

namespace {

using namespace pruning;

const Model& small_model() {
  static const Model model({.num_hiddens = 16, .num_heads = 4, .num_layers = 1, .inner = 16}, 1);
  return model;
}

Settings small_settings(int threads) {
  Settings settings = Settings::quick();
  settings.threads = threads;
  settings.set_phrases(6);
  settings.tuning.steps = 2;
  settings.tuning.batch_size = 4;
  settings.repetitions = 1;
  return settings;
}

// ---- Phrases ------------------------------------------------------------------------------------

TEST(PruningSource, SamplesShareNoText) {
  Source source(3);
  std::set<std::string> seen;
  for (const Index count : {300, 1, 64, 500}) {
    const Sample sample = source.next(count);
    EXPECT_EQ(sample.size(), count);
    std::set<std::string> texts;
    Index length = 0;
    for (std::size_t i = 0; i < sample.batches.size(); ++i) {
      ASSERT_EQ(sample.batches[i].size(), static_cast<Index>(sample.phrases[i].size()));
      EXPECT_GE(sample.batches[i].length, length);  // in the order of their lengths
      length = sample.batches[i].length;
      for (const dates::Phrase& phrase : sample.phrases[i]) texts.insert(dates::lower(phrase.text));
    }
    for (const std::string& text : texts) EXPECT_TRUE(seen.insert(text).second) << text;
  }
}

TEST(PruningSource, IsAFunctionOfItsSeed) {
  EXPECT_EQ(Source(1).next(20).batches[0].tokens, Source(1).next(20).batches[0].tokens);
  EXPECT_NE(Source(1).next(20).batches[0].tokens, Source(2).next(20).batches[0].tokens);
}

// ---- Heads --------------------------------------------------------------------------------------

TEST(PruningHeads, AModelWithoutThemIsOneWithTheirGatesClosed) {
  const Sample sample = Source(1).next(40);
  Worker worker;
  for (const Order& removed : {Order{0}, Order{1, 6}, Order{0, 1, 2, 3}, Order{5, 4, 7, 6, 0}}) {
    const Model pruned = without(small_model(), removed);
    Model gated = small_model();
    close_gates(gated, removed);
    EXPECT_EQ(loss_of(pruned, sample, worker), loss_of(gated, sample, worker));
    EXPECT_EQ(heads_of(pruned).size(), 8 - removed.size());
    EXPECT_LT(attention_parameters(pruned), attention_parameters(small_model()));
  }
  EXPECT_EQ(attention_parameters(small_model()), 2 * 4 * 16 * 16);
  EXPECT_EQ(layer_names(small_model()), (std::vector<std::string>{"encoder 1", "decoder"}));
}

TEST(PruningHeads, LossIsThatOfTheEvaluation) {
  const Sample sample = Source(1).next(100);
  Worker worker;
  EXPECT_DOUBLE_EQ(evaluate(small_model(), sample, worker).loss,
                   loss_of(small_model(), sample, worker));
}

// ---- Orders -------------------------------------------------------------------------------------

TEST(PruningOrders, TheLeastImportantGoesFirst) {
  const std::vector<double> values{0.5, 0.1, 0.9, 0.1};
  const Measure& entropy = kMeasures[measure_index("entropy")];
  const Measure& confidence = kMeasures[measure_index("confidence")];
  EXPECT_EQ(order_by(confidence, values), (Order{1, 3, 0, 2}));
  EXPECT_EQ(order_by(entropy, values), (Order{2, 0, 1, 3}));
}

TEST(PruningOrders, RandomOnesAreFunctionsOfTheirSeed) {
  const Order order = random_order(24, 1);
  Order sorted = order;
  std::ranges::sort(sorted);
  for (std::size_t i = 0; i < sorted.size(); ++i) EXPECT_EQ(sorted[i], i);
  EXPECT_EQ(order, random_order(24, 1));
  EXPECT_NE(order, random_order(24, 2));
  EXPECT_NE(order, sorted);
}

// Against models that are made for each step.
TEST(PruningOrders, GreedyStepsAreTheBest) {
  const Sample sample = Source(1).next(30);
  Worker worker;
  double told = 0;
  const Order greedy = greedy_order(small_model(), sample, 4, worker,
                                    [&](double evaluations) { told += evaluations; });
  EXPECT_EQ(told, 8 + 7 + 6 + 5);
  Order removed;
  for (const std::size_t chosen : greedy) {
    const auto loss_without = [&](std::size_t head) {
      Order more = removed;
      more.push_back(head);
      return loss_of(without(small_model(), more), sample, worker);
    };
    const double least = loss_without(chosen);
    for (std::size_t head = 0; head < 8; ++head)
      if (std::ranges::count(removed, head) == 0) {
        EXPECT_LE(least, loss_without(head));
      }
    removed.push_back(chosen);
  }
}

// ---- Measures -----------------------------------------------------------------------------------

TEST(PruningMeasures, MarginSlopesAreDerivatives) {
  eh::Tensor<float, 3> logits(1, dates::kOutputs, dates::kClasses);
  for (Index i = 0; i < logits.size(); ++i)
    logits.data()[i] = std::sin(static_cast<float>(3 * i)) * 2;
  std::vector<int> targets(static_cast<std::size_t>(dates::kOutputs));
  std::iota(targets.begin(), targets.end(), 0);
  const auto margin = [&](const eh::Tensor<float, 3>& x) {
    double sum = 0;
    for (Index row = 0; row < dates::kOutputs; ++row) {
      double others = 0;
      for (Index i = 0; i < dates::kClasses; ++i)
        if (i != row) others += std::exp(static_cast<double>(x(0, row, i)));
      sum += static_cast<double>(x(0, row, row)) - std::log(others);
    }
    return sum / static_cast<double>(dates::kOutputs);
  };
  const auto slopes = margin_slopes(logits, targets);
  for (Index i = 0; i < logits.size(); ++i) {
    auto above = logits, below = logits;
    above.data()[i] += 1.0f / 64;
    below.data()[i] -= 1.0f / 64;
    EXPECT_NEAR(slopes.data()[i], (margin(above) - margin(below)) * 32, 1e-5);
  }
}

// The gradients of a loss that is measured phrase by phrase do not depend on the batches; scaled by
// layers, the unscaled ones are the library's.
TEST(PruningMeasures, GradientsAreOfPhrases) {
  Worker worker;
  const Sample sample = Source(1).next(90);
  const Measured measured = measure_heads(small_model(), sample, worker);
  const auto& scaled = measured.values[measure_index("gradient")];
  const auto& raw = measured.values[measure_index("gradient_unscaled")];
  ASSERT_EQ(raw.size(), 8u);
  for (std::size_t first : {std::size_t{0}, std::size_t{4}}) {
    double squares = 0;
    for (std::size_t h = first; h < first + 4; ++h) squares += raw[h] * raw[h];
    for (std::size_t h = first; h < first + 4; ++h)
      EXPECT_NEAR(scaled[h], raw[h] / std::sqrt(squares), 1e-12);
  }
  EXPECT_GT(measured.of_few, 0.01);
  EXPECT_LT(measured.of_few, 1);

  Sample apart;
  for (const auto& phrases : sample.phrases)
    for (const dates::Phrase& phrase : phrases) {
      apart.phrases.push_back({phrase});
      apart.batches.push_back(dates::make_batch(apart.phrases.back()));
    }
  const auto other = measure_heads(small_model(), apart, worker).values;
  for (std::size_t m = 0; m < kMeasures.size(); ++m)
    for (std::size_t h = 0; h < other[m].size(); ++h)
      EXPECT_NEAR(other[m][h], measured.values[m][h], 1e-5 * std::abs(other[m][h]))
          << kMeasures[m].name;
}

TEST(PruningMeasures, TrialsAreDifferences) {
  Worker worker;
  const Sample sample = Source(1).next(30);
  const double whole = loss_of(small_model(), sample, worker);
  const auto rises = try_heads(small_model(), 1,
                               [&](const Model& model) { return -loss_of(model, sample, worker); });
  ASSERT_EQ(rises.size(), 4u);
  for (std::size_t h = 0; h < 4; ++h)
    EXPECT_EQ(rises[h], loss_of(without(small_model(), std::array{4 + h}), sample, worker) - whole);
}

TEST(PruningFineTuning, LowersTheLoss) {
  Worker worker;
  Model model = without(small_model(), Order{0, 1, 2, 3, 4});  // no head in the encoder
  const Sample sample = Source(1).next(200);
  const double before = loss_of(model, sample, worker);
  fine_tune(model, {.steps = 30, .batch_size = 16, .warmup = 5, .learning_rate = 5e-3}, 1, worker);
  EXPECT_LT(loss_of(model, sample, worker), 0.8 * before);
  Model other = without(small_model(), Order{0, 1, 2, 3, 4});
  fine_tune(other, {.steps = 30, .batch_size = 16, .warmup = 5, .learning_rate = 5e-3}, 1, worker);
  EXPECT_EQ(loss_of(other, sample, worker), loss_of(model, sample, worker));
}

// ---- All of it ----------------------------------------------------------------------------------

TEST(PruningExperiment, IsTheSameOnAnyNumberOfThreads) {
  const Results one = Experiment(small_model(), small_settings(1)).run();
  const Results three = Experiment(small_model(), small_settings(3)).run();
  EXPECT_EQ(one.importance, three.importance);
  EXPECT_EQ(one.alone, three.alone);
  EXPECT_EQ(one.gradient_of_few, three.gradient_of_few);
  EXPECT_EQ(one.sweep, three.sweep);
  EXPECT_EQ(one.threshold.order, three.threshold.order);
  EXPECT_EQ(one.threshold.tuned_lost, three.threshold.tuned_lost);
  EXPECT_EQ(one.threshold.tuned_larger, three.threshold.tuned_larger);
  ASSERT_EQ(one.candidates.size(), three.candidates.size());
  for (std::size_t i = 0; i < one.candidates.size(); ++i) {
    EXPECT_EQ(one.candidates[i].removed, three.candidates[i].removed);
    EXPECT_EQ(one.candidates[i].quality.loss, three.candidates[i].quality.loss);
  }
  ASSERT_EQ(one.tuned.size(), three.tuned.size());
  for (std::size_t i = 0; i < one.tuned.size(); ++i)
    EXPECT_EQ(one.tuned[i].after.loss, three.tuned[i].after.loss);
}

TEST(PruningExperiment, CandidatesAreWhatTheyAreCalled) {
  const Settings settings = small_settings(2);
  const Results results = Experiment(small_model(), settings).run();
  Source source(settings.seed);
  std::vector<Sample> test;
  for (std::size_t s = 0; s < settings.splits; ++s) test.push_back(source.next(settings.test));
  const Sample calibration = source.next(settings.calibration);
  Worker worker;
  EXPECT_EQ(results.candidates.size(), (kMeasures.size() + 2) * kLevels.size() * settings.splits);
  for (const Candidate& c : results.candidates) {
    EXPECT_EQ(c.removed.size(), results.count_at(c.level));
    Model gated = small_model();
    close_gates(gated, c.removed);
    EXPECT_EQ(c.quality.loss, evaluate(gated, test[c.split], worker).loss);
  }
  const Measured first = measure_heads(small_model(), calibration, worker);
  for (std::size_t m = 0; m + 1 < kMeasures.size(); ++m)
    EXPECT_EQ(results.importance[m][0], first.values[m]) << kMeasures[m].name;
  EXPECT_EQ(results.alone.size(), settings.splits);
  EXPECT_EQ(results.alone[0].size(), 8u);
  EXPECT_LE(results.threshold.count, results.threshold.tuned_count);
  EXPECT_EQ(results.speed.size(), 1 + kLevels.size() + 2);
}

}  // namespace
