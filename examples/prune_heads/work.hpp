// SPDX-License-Identifier: MIT
#pragma once
// How much the experiment has to do, for its progress and for what is begun first. The unit is a
// phrase that is read; one that is learnt from counts as three.
#include <cstddef>

#include "data.hpp"      // Sample
#include "measures.hpp"  // kMeasures
#include "results.hpp"   // Settings, kLevels, count_at

namespace pruning {

struct Work {
  Settings settings;
  std::size_t head_count, layer_count;

  [[nodiscard]] static double size(const Sample& sample) {
    return static_cast<double>(sample.size());
  }
  [[nodiscard]] static double size(const FineTuning& tuning) {
    return 3.0 * static_cast<double>(tuning.steps * tuning.batch_size);
  }
  // One greedy search.
  [[nodiscard]] double greedy() const {
    double evaluations = 0;
    for (std::size_t n = 0; n < count_at(kLevels.back(), head_count); ++n)
      evaluations += static_cast<double>(head_count - n);
    return evaluations * static_cast<double>(settings.calibration);
  }
  [[nodiscard]] double timing() const { return 500.0 * settings.repetitions; }

  [[nodiscard]] double all() const {
    const auto splits = static_cast<double>(settings.splits),
               heads = static_cast<double>(head_count), layers = static_cast<double>(layer_count),
               test = static_cast<double>(settings.test),
               calibration = static_cast<double>(settings.calibration),
               validation = static_cast<double>(settings.validation);
    const double levels = kLevels.size(), measures = kMeasures.size(), tries = heads + layers;
    const double measuring = splits * ((5 + tries) * calibration + (1 + tries) * test + greedy());
    const double pruned = (measures + 2) * splits * levels * test;
    const double tuned = static_cast<double>(settings.tuning_seeds) * (1 + 2 * levels);
    const double judging = pruned + tuned * (size(settings.tuning) + 2 * test) +
                           (1 + measures * (heads - 1)) * validation;
    const double longer = size(settings.longer_tuning());
    return measuring + judging + heads * (longer + validation) + 3 * longer + timing();
  }
};

}  // namespace pruning
