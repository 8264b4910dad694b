// SPDX-License-Identifier: MIT
#pragma once
// Training, a step at a time: step i takes batch i, which is a function of the seed and of i, so
// that the weights are the same bits on any number of threads and of ranks, and also if a run was
// stopped after step i and went on from its model, its optimizer and i.
#include <cstdint>

#include <eigenheads/context.hpp>            // Context
#include <eigenheads/mpi/data_parallel.hpp>  // DataParallel
#include <eigenheads/mpi/ranks.hpp>          // Ranks
#include <eigenheads/tensor.hpp>             // Scalar
#include <eigenheads/train/optim.hpp>        // AdamRule, warmup_then_cosine

#include "batch.hpp"    // Batches, part_of
#include "model.hpp"    // Model, cross_entropy
#include "phrases.hpp"  // Phrases, Split

namespace dates {

struct TrainOptions {
  std::uint64_t seed = 1;  // of the phrases and the first weights
  // More texts without a date than the test has: they are as various as the dates, and a model that
  // has met few of them finds dates in the others.
  Mix mix{.impossible = 60, .incomplete = 50, .numbers = 150, .wrong_year = 50, .other = 30};
  Index steps = 28000, batch_size = 64;
  Index shards = 1;             // of a batch, which ranks share out: other bits of the sums
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
  // Of these ranks, or, without any, alone.
  explicit Trainer(const TrainOptions& options, eigenheads::mpi::Ranks* ranks = nullptr)
      : model(options.model, options.seed),
        adam(model,
             {.learning_rate = options.learning_rate,
              .beta2 = options.beta2,
              .weight_decay = options.weight_decay},
             {.shards = options.shards, .gradient_norm = options.gradient_norm}, ranks),
        options_(options),
        ranks_(ranks),
        phrases_(Split::train, options.seed, options.mix),
        batches_(phrases_, options.seed, options.batch_size) {}
  Trainer(const Trainer&) = delete;  // the batches refer to the phrases
  Trainer& operator=(const Trainer&) = delete;

  Model<T> model;
  eigenheads::mpi::DataParallel<eigenheads::AdamRule<T>> adam;

  [[nodiscard]] const TrainOptions& options() const { return options_; }
  [[nodiscard]] eigenheads::mpi::Ranks* ranks() const { return ranks_; }
  [[nodiscard]] Index step_count() const { return static_cast<Index>(adam.step_count()); }
  [[nodiscard]] bool is_done() const { return step_count() >= options_.steps; }

  // Returns the loss before the step.
  double step(Context& context) {
    const Index i = step_count();
    const Batch batch = batches_(i);
    adam.set_learning_rate(
        eigenheads::warmup_then_cosine(i, options_.warmup, options_.steps, options_.learning_rate));
    const auto loss_of = [&](Index first, Index last) {
      const Batch part = part_of(batch, first, last);
      const Tensor<T, 3> logits = model.forward(part, saved_, context);
      Tensor<T, 3> dlogits;
      const double loss = cross_entropy(logits, part.targets, &dlogits, batch.size() * kOutputs);
      model.backward(dlogits, saved_, gradients_, context);
      return loss;
    };
    return adam.step(model, gradients_, batch.size(), loss_of).loss;
  }

 private:
  TrainOptions options_;
  eigenheads::mpi::Ranks* ranks_;
  Phrases phrases_;
  Batches batches_;
  typename Model<T>::Activations saved_;
  typename Model<T>::Gradients gradients_;
};

}  // namespace dates
