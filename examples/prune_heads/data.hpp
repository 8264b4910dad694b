// SPDX-License-Identifier: MIT
#pragma once
// The phrases that heads are measured, chosen and judged by: disjoint samples of one endless
// source, in the templates and the years that training has not seen, and no text in two of them.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <unordered_set>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>  // Context
#include <eigenheads/tensor.hpp>   // Index, Tensor

#include "../dates/batch.hpp"    // Batch, make_batch
#include "../dates/model.hpp"    // Model, cross_entropy
#include "../dates/overlap.hpp"  // lower
#include "../dates/phrases.hpp"  // Phrases
#include "../dates/reading.hpp"  // Score, readings

namespace pruning {

namespace eh = eigenheads;
using eh::Index;
using Model = dates::Model<float>;

// What one thread works with.
struct Worker {
  eh::Context context;  // of one thread: the candidates are what runs side by side
  Model::Activations saved;
};

// Phrases, in batches of about the same length, so that little is padding.
struct Sample {
  std::vector<std::vector<dates::Phrase>> phrases;  // of each batch
  std::vector<dates::Batch> batches;

  [[nodiscard]] Index size() const {
    Index count = 0;
    for (const dates::Batch& batch : batches) count += batch.size();
    return count;
  }
};

class Source {
 public:
  // Not the seed of the phrases that `dates evaluate` reads.
  explicit Source(std::uint64_t seed) : phrases_(dates::Split::test, 0x9E3779B9u + seed) {}

  // The next `count` phrases whose texts no earlier sample has.
  [[nodiscard]] Sample next(Index count) {
    constexpr std::size_t batch_size = 64;
    std::vector<dates::Phrase> all;
    while (static_cast<Index>(all.size()) < count)
      if (dates::Phrase phrase = phrases_(index_++); !seen_.contains(dates::lower(phrase.text)))
        all.push_back(std::move(phrase));
    for (const dates::Phrase& phrase : all) seen_.insert(dates::lower(phrase.text));
    std::ranges::stable_sort(all, {}, [](const dates::Phrase& p) { return p.text.size(); });
    Sample sample;
    for (std::size_t first = 0; first < all.size(); first += batch_size) {
      const std::size_t last = (std::min)(first + batch_size, all.size());
      sample.phrases.emplace_back(all.begin() + static_cast<Index>(first),
                                  all.begin() + static_cast<Index>(last));
      sample.batches.push_back(dates::make_batch(sample.phrases.back()));
    }
    return sample;
  }

 private:
  dates::Phrases phrases_;
  std::uint64_t index_ = 0;
  std::unordered_set<std::string> seen_;
};

// How well a model reads a sample.
struct Quality {
  dates::Score score;
  double loss = 0;  // nats a symbol

  [[nodiscard]] double accuracy() const { return score.exact_share(); }
};

[[nodiscard]] inline Quality evaluate(const Model& model, const Sample& sample, Worker& worker) {
  Quality quality;
  for (std::size_t i = 0; i < sample.batches.size(); ++i) {
    const dates::Batch& batch = sample.batches[i];
    const eh::Tensor<float, 3> logits = model.forward(batch, worker.saved, worker.context);
    quality.loss += dates::cross_entropy<float>(logits, batch.targets, nullptr) *
                    static_cast<double>(batch.size()) / static_cast<double>(sample.size());
    const std::vector<dates::Reading> read = dates::readings(logits);
    for (std::size_t b = 0; b < read.size(); ++b) quality.score.add(sample.phrases[i][b], read[b]);
  }
  return quality;
}

// The loss alone, which is what searches ask for again and again.
[[nodiscard]] inline double loss_of(const Model& model, const Sample& sample, Worker& worker) {
  double loss = 0;
  for (const dates::Batch& batch : sample.batches)
    loss += dates::cross_entropy<float>(model.forward(batch, worker.saved, worker.context),
                                        batch.targets, nullptr) *
            static_cast<double>(batch.size());
  return loss / static_cast<double>(sample.size());
}

}  // namespace pruning
