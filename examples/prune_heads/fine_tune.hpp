// SPDX-License-Identifier: MIT
#pragma once
// Some more steps of training, so that the heads that are left take over what the others did.
#include <algorithm>
#include <cstdint>

#include <eigenheads/tensor.hpp>       // Tensor
#include <eigenheads/train/optim.hpp>  // Adam, clip_gradient_norm, warmup_then_cosine

#include "../dates/batch.hpp"    // Batches
#include "../dates/model.hpp"    // cross_entropy
#include "../dates/phrases.hpp"  // Phrases
#include "../dates/train.hpp"    // TrainOptions
#include "data.hpp"              // Model, Worker

namespace pruning {

struct FineTuning {
  Index steps = 400, batch_size = 64, warmup = 10;
  double learning_rate = 1e-3;  // at its highest: a third of what the model was trained with
};

// On phrases in the templates and years of training: with `seed`, which training did not have.
inline void fine_tune(Model& model, const FineTuning& options, std::uint64_t seed, Worker& worker) {
  const dates::TrainOptions trained;
  const dates::Phrases phrases(dates::Split::train, 0x7F4A7C15u + seed, trained.mix);
  dates::Batches batches(phrases, seed, options.batch_size);
  eh::Adam<float> adam({.learning_rate = options.learning_rate, .beta2 = trained.beta2});
  Model::Gradients gradients;
  const Index warmup = (std::min)(options.warmup, options.steps);
  for (Index step = 0; step < options.steps; ++step) {
    const dates::Batch batch = batches(step);
    const eh::Tensor<float, 3> logits = model.forward(batch, worker.saved, worker.context);
    eh::Tensor<float, 3> dlogits;
    static_cast<void>(dates::cross_entropy(logits, batch.targets, &dlogits));
    model.backward(dlogits, worker.saved, gradients, worker.context);
    eh::clip_gradient_norm(trained.gradient_norm, gradients);
    adam.set_learning_rate(
        eh::warmup_then_cosine(step, warmup, options.steps, options.learning_rate));
    adam.step(model, gradients);
  }
}

}  // namespace pruning
