// SPDX-License-Identifier: MIT
#pragma once
// The measures of a head's importance in the dates model.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include <eigenheads/head_importance.hpp>  // HeadImportance, HeadMeasures, importance_by_trial
#include <eigenheads/tensor.hpp>           // Tensor

#include "../dates/batch.hpp"  // kClasses, kOutputs
#include "../dates/model.hpp"  // cross_entropy
#include "data.hpp"            // Sample, Worker
#include "heads.hpp"           // attention_layers
#include "pages.hpp"           // Measure, forward_measures_and

namespace pruning {

inline constexpr std::array kMeasures = forward_measures_and({
    {"gradient", Evidence::loss, true, &eh::HeadMeasures::gradient,
     "|dL/dgate|, mean over phrases, scaled to an L2 norm of 1 over the heads of a layer",
     "|dL/dgate| (share of its layer)"},
    {"gradient_unscaled", Evidence::loss, true, nullptr,
     "|dL/dgate|, mean over phrases, in nats a symbol", "|dL/dgate| (nats)"},
    {"margin_gradient", Evidence::loss, true, nullptr,
     "|dM/dgate|, mean over phrases; M: the logit of the right symbol less the log of the summed "
     "exponentials of the others",
     "|dM/dgate| (nats)"},
    {"trial", Evidence::loss, true, nullptr,
     "rise of the loss if the head's gate is closed, in nats a symbol", "rise of the loss (nats)"},
});

// The gradient that is put to the test: the loss is flat where the model is sure, a margin is not.
inline constexpr const char* kGradient = "margin_gradient";

[[nodiscard]] inline std::size_t measure_index(const std::string& name) {
  const auto found =
      std::ranges::find_if(kMeasures, [&](const Measure& m) { return name == m.name; });
  return static_cast<std::size_t>(found - kMeasures.begin());
}

// M = logit of the target - log sum of exp of the other logits, the mean over the symbols of a
// phrase, which does not level off where the model is sure as the loss log(1 + exp(-M)) does.
// -> dM/dlogits
[[nodiscard]] inline eh::Tensor<float, 3> margin_slopes(const eh::Tensor<float, 3>& logits,
                                                        const std::vector<int>& targets) {
  eh::Tensor<float, 3> slopes(logits.dimensions());
  for (std::size_t row = 0; row < targets.size(); ++row) {
    const float* x = logits.data() + static_cast<Index>(row) * dates::kClasses;
    float* dx = slopes.data() + static_cast<Index>(row) * dates::kClasses;
    float largest = -HUGE_VALF, sum = 0;
    for (int i = 0; i < dates::kClasses; ++i)
      if (i != targets[row]) largest = (std::max)(largest, x[i]);
    for (int i = 0; i < dates::kClasses; ++i)
      sum += dx[i] = i == targets[row] ? 0 : std::exp(x[i] - largest);
    for (int i = 0; i < dates::kClasses; ++i)
      dx[i] = (i == targets[row] ? 1 : -dx[i] / sum) / static_cast<float>(dates::kOutputs);
  }
  return slopes;
}

struct Measured {
  std::vector<std::vector<double>> values;  // [measure][head]; none by trial
  double of_few = 0;  // the share of all |dL/dgate| that is that of a hundredth of the phrases
};

[[nodiscard]] inline Measured measure_heads(const Model& model, const Sample& sample,
                                            Worker& worker) {
  using Tensor = eh::Tensor<float, 3>;
  const auto layers = attention_layers(model);
  std::vector<eh::HeadImportance<float>> importance;
  for (const Layer* layer : layers) importance.emplace_back(*layer);
  Model::Gradients gradients;
  const auto of_layer = [&](std::size_t l) -> const auto& {
    return l < model.encoder.size() ? gradients.encoder[l].attention : gradients.decoder.attention;
  };
  std::vector<std::vector<double>> loss(layers.size()), margin(layers.size());
  for (std::size_t l = 0; l < layers.size(); ++l) {
    loss[l].resize(static_cast<std::size_t>(layers[l]->num_heads()));
    margin[l] = loss[l];
  }
  // Adds up |d/dgate|, and returns the sum of each phrase.
  const auto add_slopes = [&](std::vector<std::vector<double>>& sums, Index phrases) {
    std::vector<double> of_phrase(static_cast<std::size_t>(phrases));
    for (std::size_t l = 0; l < layers.size(); ++l)
      for (Index b = 0; b < phrases; ++b)
        for (std::size_t h = 0; h < sums[l].size(); ++h) {
          const double slope =
              std::abs(static_cast<double>(of_layer(l).gates(b, static_cast<Index>(h))));
          sums[l][h] += slope / static_cast<double>(sample.size());
          of_phrase[static_cast<std::size_t>(b)] += slope;
        }
    return of_phrase;
  };
  std::vector<double> phrases;
  for (const dates::Batch& batch : sample.batches) {
    const Tensor logits = model.forward(batch, worker.saved, worker.context);
    Tensor dlogits;
    static_cast<void>(dates::cross_entropy(logits, batch.targets, &dlogits));
    // Of the loss of each phrase, however many there are beside it.
    dlogits = dlogits * static_cast<float>(batch.size());
    model.backward(dlogits, worker.saved, gradients, worker.context);
    for (std::size_t l = 0; l < layers.size(); ++l) {
      importance[l].add(*layers[l],
                        l < model.encoder.size() ? worker.saved.encoder[l].attention
                                                 : worker.saved.decoder.attention,
                        worker.context);
      importance[l].add(of_layer(l));
    }
    const std::vector<double> some = add_slopes(loss, batch.size());
    phrases.insert(phrases.end(), some.begin(), some.end());
    model.backward(margin_slopes(logits, batch.targets), worker.saved, gradients, worker.context);
    add_slopes(margin, batch.size());
  }
  Measured result{std::vector<std::vector<double>>(kMeasures.size())};
  for (std::size_t l = 0; l < layers.size(); ++l) {
    const auto append = [&](std::size_t m, const std::vector<double>& values) {
      result.values[m].insert(result.values[m].end(), values.begin(), values.end());
    };
    for (const eh::HeadMeasures& head : importance[l].measures())
      for (std::size_t m = 0; m < kMeasures.size(); ++m)
        if (kMeasures[m].value != nullptr) result.values[m].push_back(head.*kMeasures[m].value);
    append(measure_index("gradient_unscaled"), loss[l]);
    append(measure_index("margin_gradient"), margin[l]);
  }
  std::ranges::sort(phrases, std::greater{});
  const auto sum = [&](std::size_t count) {
    return std::accumulate(phrases.begin(), phrases.begin() + static_cast<Index>(count), 0.0);
  };
  if (const double all = sum(phrases.size()); all > 0)
    result.of_few = sum((phrases.size() + 99) / 100) / all;
  return result;
}

// What `metric` (higher is better) of the model loses without each head of a layer.
template <class Metric>
[[nodiscard]] std::vector<double> try_heads(const Model& whole, std::size_t layer,
                                            const Metric& metric) {
  Model model = whole;
  return eh::importance_by_trial(*attention_layers(model)[layer], [&] { return metric(model); });
}

}  // namespace pruning
