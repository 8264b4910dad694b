// SPDX-License-Identifier: MIT
#pragma once
// What the heads of a sentence encoder are worth, by all measures. There is no loss that such a model
// is given with; the gradients are those of the one that it was trained by, told of the model itself:
//   L = log sum_j exp(cos(e, w_j) / t) - cos(e, w) / t,  t = 0.05
// e is a text's vector, w what the whole model makes of it, w_j of all texts: to lose a text among
// the others costs. (Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding",
// 2018, equation 4; the distance to w alone has no gradient at w.)
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include <eigenheads/context.hpp>          // Context
#include <eigenheads/head_importance.hpp>  // HeadImportance
#include <eigenheads/nn/normalize.hpp>     // normalize, normalize_backward
#include <eigenheads/tensor.hpp>           // Tensor

#include "../pages/head_measures.hpp"  // Measure, forward_measures_and
#include "head_sample.hpp"             // Sample

namespace sentences {

using pages::Evidence, pages::Measure;

inline constexpr std::array kMeasures = pages::forward_measures_and({
    {"gradient", Evidence::loss, true, &eigenheads::HeadMeasures::gradient,
     "|dL/dgate|, mean over texts, scaled to an L2 norm of 1 over the heads of a layer",
     "|dL/dgate| (share of its layer)"},
    {"gradient_unscaled", Evidence::loss, true, nullptr, "|dL/dgate|, mean over texts, in nats",
     "|dL/dgate| (nats)"},
    {"trial_neighbours", Evidence::loss, true, nullptr,
     "share of texts of which another one is the nearest if the head is cut out", "share of texts"},
    {"trial", Evidence::loss, true, nullptr,
     "1 less the mean cosine to the whole model's vectors if the head is cut out", "1 - cosine"},
});

// vectors: [n, size] of length 1, those of texts numbered `texts` among all of `whole` -> dL/dvectors of
// each text's own L.
[[nodiscard]] inline Tensor<float, 2> contrast_gradient(const Tensor<float, 2>& vectors,
                                                        const std::vector<std::size_t>& texts,
                                                        const Tensor<float, 2>& whole) {
  constexpr double temperature = 0.05;
  const Index count = whole.dimension(0), size = whole.dimension(1);
  Tensor<float, 2> gradient(vectors.dimensions());
  std::vector<double> shares(static_cast<std::size_t>(count)), sum(static_cast<std::size_t>(size));
  for (Index i = 0; i < vectors.dimension(0); ++i) {
    for (Index j = 0; j < count; ++j)
      shares[static_cast<std::size_t>(j)] = dot(row(vectors, i), row(whole, j)) / temperature;
    const double most = *std::ranges::max_element(shares);
    double total = 0;
    for (double& share : shares) total += share = std::exp(share - most);
    std::ranges::fill(sum, 0.0);
    for (Index j = 0; j < count; ++j) {
      const bool is_own = static_cast<std::size_t>(j) == texts[static_cast<std::size_t>(i)];
      const double pull = shares[static_cast<std::size_t>(j)] / total - (is_own ? 1 : 0);
      const auto other = row(whole, j);
      for (std::size_t e = 0; e < sum.size(); ++e) sum[e] += pull * static_cast<double>(other[e]);
    }
    for (Index e = 0; e < size; ++e)
      gradient(i, e) = static_cast<float>(sum[static_cast<std::size_t>(e)] / temperature);
  }
  return gradient;
}

// All but those by trial: [measure][head]. Batch by batch, so memory does not grow with the texts.
template <class Tell>
[[nodiscard]] std::vector<std::vector<double>> measure_heads(const SentenceEncoder& model,
                                                             const Sample& sample, Context& context,
                                                             const Tell& tell) {
  const auto& stack = model.encoder.stack;
  eigenheads::TransformerEncoder<float>::Activations saved;
  eigenheads::TransformerEncoder<float>::Gradients gradients;
  std::vector<eigenheads::HeadImportance<float>> importance;
  std::vector<std::vector<double>> slopes;
  for (const auto& layer : stack.layers) {
    importance.emplace_back(layer.self_attention);
    slopes.emplace_back(static_cast<std::size_t>(layer.self_attention.num_heads()));
  }
  for (std::size_t b = 0; b < sample.batches.size(); ++b) {
    const Batch& batch = sample.batches[b];
    const auto& texts = batch.sequences;
    const Tensor<float, 2> x =
        stack.forward(sample.inputs[0][b], texts, {}, saved, {.context = context});
    const Tensor<float, 2> pooled = model.pool(x, texts, context);
    const Tensor<float, 2> unit = eigenheads::normalize(pooled, {}, context);
    const Tensor<float, 2> slope = contrast_gradient(unit, batch.texts, sample.vectors);
    const Tensor<float, 2> dpooled = eigenheads::normalize_backward(slope, pooled, {}, context);
    stack.backward_into(gradients, model.pool_backward(dpooled, x, texts, context), saved, false,
                        context);
    for (std::size_t l = 0; l < slopes.size(); ++l) {
      if (slopes[l].empty()) continue;
      const auto& of_layer = gradients.layers[l].self_attention;
      importance[l].add(stack.layers[l].self_attention, saved.layers[l].self_attention, context);
      importance[l].add(of_layer);
      for (Index text = 0; text < texts.count(); ++text)
        for (std::size_t h = 0; h < slopes[l].size(); ++h)
          slopes[l][h] +=
              std::abs(static_cast<double>(of_layer.gates(text, static_cast<Index>(h)))) /
              static_cast<double>(sample.size());
    }
    tell(batch.texts.size());
  }
  std::vector<std::vector<double>> values(kMeasures.size());
  for (std::size_t l = 0; l < slopes.size(); ++l) {
    if (slopes[l].empty()) continue;
    const auto of_layer = importance[l].measures();
    for (std::size_t m = 0; m < kMeasures.size(); ++m)
      for (std::size_t h = 0; h < slopes[l].size(); ++h)
        if (kMeasures[m].value != nullptr)
          values[m].push_back(of_layer[h].*kMeasures[m].value);
        else if (std::string(kMeasures[m].name) == "gradient_unscaled")
          values[m].push_back(slopes[l][h]);
  }
  return values;
}

}  // namespace sentences
