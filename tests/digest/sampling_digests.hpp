// SPDX-License-Identifier: MIT
#pragma once
// What is drawn and found, and the probabilities behind it.
#include <span>
#include <string>
#include <vector>

#include <eigenheads/nn/beam_search.hpp>
#include <eigenheads/nn/log_softmax.hpp>
#include <eigenheads/nn/sampling.hpp>

#include "digests.hpp"

namespace digest {

// Ids are whole numbers: as doubles they have bits to compare.
[[nodiscard]] inline Tensor<double, 1> row_of(const std::vector<Index>& ids) {
  Tensor<double, 1> row(static_cast<Index>(ids.size()));
  for (Index i = 0; i < row.size(); ++i)
    row(i) = static_cast<double>(ids[static_cast<std::size_t>(i)]);
  return row;
}

template <class T>
void add_sampling(Digests& digests, const std::string& type) {
  const Index B = 40, V = 3000;
  const auto logits = numbers<T>(90, T(8), B, V);
  const auto add = [&](const std::string& name, const auto& tensor) {
    digests.emplace_back(type + "/nn/" + name, digest_of(tensor));
  };
  std::vector<eh::SamplingDraw> draws;
  const std::vector<Index> seen{1, 2, 3, 2999, 1};
  for (Index i = 0; i < 50 * B; ++i)
    draws.push_back({.row = i % B,
                     .sequence = static_cast<std::uint64_t>(i % B),
                     .position = i / B,
                     .seen = seen});
  const std::pair<const char*, eh::SamplingOptions> all[] = {
      {"plain", {.seed = 1}},
      {"top_k", {.temperature = 0.7, .top_k = 40, .repetition_penalty = 1.3, .seed = 2}},
      {"top_p", {.temperature = 1.9, .top_p = 0.95, .seed = 3}},
      {"min_p", {.min_p = 0.1, .seed = 4}},
      {"all", {.temperature = 0.9, .top_k = 500, .top_p = 0.9, .min_p = 0.02, .seed = 5}}};
  for (const auto& [name, options] : all) {
    const eh::Sampler sampler(options);
    add(std::string("sampling/") + name, row_of(sampler(logits, draws)));
    Tensor<double, 1> p(V);
    sampler.probabilities_into(p, TensorView<T, 1>(logits.data(), {V}), seen);
    add(std::string("sampling/") + name + "/probabilities", p);
  }

  const auto log_probs = eh::log_softmax(logits);
  add("log_softmax", log_probs);
  eh::BeamSearch search(
      10, {.num_beams = 4, .length_penalty = 0.75, .stop_ids = {5, 1000}, .max_length = 20});
  for (Index step = 0; step < 20 && !search.is_done(); ++step) search.advance(log_probs);
  std::vector<Index> found;
  for (Index b = 0; b < search.count(); ++b)
    for (Index rank = 0; rank < 4; ++rank)
      for (const Index id : search.ids(b, rank)) found.push_back(id);
  add("beam_search", row_of(found));
}

}  // namespace digest
