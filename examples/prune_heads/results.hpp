// SPDX-License-Identifier: MIT
#pragma once
// What is asked of the experiment, and all that comes out of it: the report and the tables are made
// of this alone.
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "data.hpp"       // Quality
#include "fine_tune.hpp"  // FineTuning
#include "heads.hpp"      // Head
#include "measures.hpp"   // kMeasures
#include "orders.hpp"     // Order

namespace pruning {

inline constexpr std::array<int, 5> kLevels{10, 30, 50, 70, 90};  // percent of the heads pruned
inline constexpr double kMostLost = 0.01;  // of accuracy, where a threshold is chosen

[[nodiscard]] inline std::size_t count_at(int level, std::size_t heads) {
  return static_cast<std::size_t>(std::lround(static_cast<double>(heads) * level / 100.0));
}

struct Settings {
  std::uint64_t seed = 1;  // of the phrases, the random orders and the fine-tuning
  int threads = 2;
  bool is_quick = false;
  std::size_t splits = 5;  // as many random orders
  // Phrases: of each calibration sample, of each test sample, and of the validation.
  Index calibration = 800, test = 2000, validation = 4000;
  FineTuning tuning{};           // of the comparisons
  std::size_t tuning_seeds = 3;  // at most splits
  int repetitions = 41;          // of what is timed

  // Of the model that is to be kept.
  [[nodiscard]] FineTuning longer_tuning() const {
    FineTuning longer = tuning;
    longer.steps *= 3;
    return longer;
  }

  // The same experiment, less exact.
  [[nodiscard]] static Settings quick() {
    Settings settings;
    settings.is_quick = true;
    settings.tuning.steps = 40;
    settings.tuning.learning_rate = 3e-4;
    settings.tuning_seeds = 2;
    settings.repetitions = 11;
    settings.set_phrases(80);
    return settings;
  }
  void set_phrases(Index count) {
    calibration = count;
    test = 5 * count / 2;
    validation = 5 * count;
  }
};

// A pruned model on the test sample of its split.
struct Candidate {
  std::string order;  // a measure's name, "random" or "oracle"
  int level;          // percent
  std::size_t split;  // whose calibration sample, or which random order
  Order removed;
  Quality quality;
};

struct Tuned {
  std::string order;  // kGradient or "random"; "none" for the whole model
  int level;
  std::size_t seed;  // and split
  Order removed;
  Quality before, after;
};

// Medians of interleaved repetitions on one thread, in ms.
struct Speed {
  std::string what;
  int level;
  std::size_t heads;  // that are left
  Index parameters;   // of the layers of attention
  double model;       // 0: not of the model
  double attention;   // the layers of attention alone
};

// How much may be pruned for less than kMostLost, as the validation sees it, and as the test does.
struct Threshold {
  std::size_t measure = 0;           // whose order the heads go in
  Order order;                       // by its mean over the splits
  std::size_t count = 0;             // heads pruned
  std::size_t tuned_count = 0;       // with fine-tuning
  std::vector<double> tuned_lost;    // on the validation, for count, count + 1, ... heads pruned
  std::vector<double> test_lost;     // of accuracy, on each test sample
  std::vector<double> tuned_same;    // the same heads pruned, fine-tuned
  std::vector<double> tuned_larger;  // tuned_count heads pruned, fine-tuned
};

struct Results {
  Settings settings;
  std::vector<std::string> layers;
  std::vector<Head> heads;
  std::vector<std::vector<std::vector<double>>> importance;  // [measure][split][head]
  std::vector<std::vector<double>> alone;  // [split][head]: accuracy lost on the test without it
  std::vector<double> gradient_of_few;     // [split]: Measured::of_few
  std::vector<Quality> whole;              // [split], on the test
  std::vector<Candidate> candidates;
  Quality whole_validation;
  std::vector<std::vector<double>> sweep;  // [measure][pruned - 1]: accuracy lost on the validation
  Threshold threshold;
  std::vector<Tuned> tuned;
  std::vector<Speed> speed;
  double seconds = 0;

  [[nodiscard]] std::size_t count_at(int level) const {
    return pruning::count_at(level, heads.size());
  }
  // Of all candidates of an order at a level, in the order of their splits.
  [[nodiscard]] std::vector<double> accuracies(const std::string& order, int level) const {
    std::vector<double> values;
    for (const Candidate& c : candidates)
      if (c.order == order && c.level == level) values.push_back(c.quality.accuracy());
    return values;
  }
  // Of a measure, over the splits: [head].
  [[nodiscard]] std::vector<double> mean_importance(std::size_t measure) const {
    std::vector<double> sum(heads.size());
    for (const auto& split : importance[measure])
      for (std::size_t h = 0; h < sum.size(); ++h)
        sum[h] += split[h] / static_cast<double>(importance[measure].size());
    return sum;
  }
  // The same with a sign that makes the important heads the higher ones.
  [[nodiscard]] std::vector<double> oriented_importance(std::size_t measure) const {
    std::vector<double> values = mean_importance(measure);
    if (!kMeasures[measure].is_high_important)
      for (double& value : values) value = -value;
    return values;
  }
};

}  // namespace pruning
