// SPDX-License-Identifier: MIT
#pragma once
// Training, a step at a time: step i takes batch i, which is a function of the seed and of i, so
// that the weights are the same bits on any number of threads, and also if a run was stopped after
// step i and went on from its model, its optimizer and i.
#include <cstdint>

#include <eigenheads/context.hpp>      // Context
#include <eigenheads/tensor.hpp>       // Scalar
#include <eigenheads/train/optim.hpp>  // Adam, clip_gradient_norm, warmup_then_cosine

#include "batch.hpp"    // Batches
#include "model.hpp"    // Model, cross_entropy
#include "phrases.hpp"  // Phrases, Split

namespace dates {

struct TrainOptions {
  std::uint64_t seed = 1;  // of the phrases and the first weights
  // More texts without a date than the test has: they are as various as the dates, and a model that
  // has met few of them finds dates in the others.
  Mix mix{.impossible = 60, .incomplete = 50, .numbers = 150, .wrong_year = 50, .other = 30};
  Index steps = 28000, batch_size = 64;
  Index warmup = 100;           // steps
  double learning_rate = 3e-3;  // at its highest
  double beta2 = 0.99;
  double weight_decay = 0.1;
  double gradient_norm = 1;  // at most
  ModelOptions model{};
};

template <Scalar T>
class Trainer {
 public:
  explicit Trainer(const TrainOptions& options)
      : model(options.model, options.seed),
        adam({.learning_rate = options.learning_rate,
              .beta2 = options.beta2,
              .weight_decay = options.weight_decay}),
        options_(options),
        phrases_(Split::train, options.seed, options.mix),
        batches_(phrases_, options.seed, options.batch_size) {}
  Trainer(const Trainer&) = delete;  // the batches refer to the phrases
  Trainer& operator=(const Trainer&) = delete;

  Model<T> model;
  eigenheads::Adam<T> adam;

  [[nodiscard]] const TrainOptions& options() const { return options_; }
  [[nodiscard]] Index step_count() const { return static_cast<Index>(adam.step_count()); }
  [[nodiscard]] bool is_done() const { return step_count() >= options_.steps; }

  // Returns the loss before the step.
  double step(Context& context) {
    const Index i = step_count();
    const Batch batch = batches_(i);
    const Tensor<T, 3> logits = model.forward(batch, saved_, context);
    Tensor<T, 3> dlogits;
    const double loss = cross_entropy(logits, batch.targets, &dlogits);
    model.backward(dlogits, saved_, gradients_, context);
    eigenheads::clip_gradient_norm(options_.gradient_norm, gradients_);
    adam.set_learning_rate(
        eigenheads::warmup_then_cosine(i, options_.warmup, options_.steps, options_.learning_rate));
    adam.step(model, gradients_);
    return loss;
  }

 private:
  TrainOptions options_;
  Phrases phrases_;
  Batches batches_;
  typename Model<T>::Activations saved_;
  typename Model<T>::Gradients gradients_;
};

}  // namespace dates
