// SPDX-License-Identifier: MIT
#pragma once
// Training, a step at a time: step i takes pieces of the text that are a function of the seed and of i,
// so that the weights are the same bits on any number of threads and of ranks, and also if a run was
// stopped after step i and went on from its model, its optimizer and i.
//   Some text is held out: the loss on it says whether the model learnt the language or the text by heart.
#include <cstddef>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>            // Context
#include <eigenheads/mpi/data_parallel.hpp>  // DataParallel
#include <eigenheads/mpi/ranks.hpp>          // Ranks
#include <eigenheads/random.hpp>             // random_bits, random_stream
#include <eigenheads/tensor.hpp>             // Scalar
#include <eigenheads/train/optim.hpp>        // AdamRule, warmup_then_cosine

#include "model.hpp"  // Model, cross_entropy

namespace byte_model {

struct TrainOptions {
  std::uint64_t seed = 1;  // of the pieces and the first weights
  // Many small steps: half as many of eight pieces each came less far in the same time.
  Index steps = 10'000, batch_size = 4;
  Index shards = 1;             // of a batch, which ranks share out: other bits of the sums
  Index warmup = 100;           // steps
  double learning_rate = 3e-3;  // at its highest
  double beta2 = 0.99;
  double weight_decay = 0.1;
  double gradient_norm = 1;  // at most
  ModelOptions model{};      // a piece is as long as its window
};

[[nodiscard]] inline Index to_id(char c) { return static_cast<unsigned char>(c); }
[[nodiscard]] inline Ids to_ids(std::string_view text) {
  Ids ids;
  for (const char c : text) ids.push_back(to_id(c));
  return ids;
}

// Pieces of a text, and of each byte the one that follows it. A piece begins where a line ends, if there
// is such a place among the window bytes before the one that was drawn: a model that has met lines from
// their beginning knows what it has read of them.
struct Batch {
  Ids ids{}, targets{};
  Sequences sequences;
};

// Pieces first to last - 1 of a step's.
[[nodiscard]] inline Batch make_batch(std::string_view text, const TrainOptions& options,
                                      Index step, Index first_piece, Index last_piece) {
  const Index L = options.model.window, B = options.batch_size;
  Batch batch{.sequences =
                  std::vector<Index>(static_cast<std::size_t>(last_piece - first_piece), L)};
  const auto places = static_cast<std::uint64_t>(std::ssize(text) - L);
  for (Index b = first_piece; b < last_piece; ++b) {
    constexpr std::uint64_t stream = eigenheads::random_stream("pieces");
    std::size_t first = eigenheads::random_bits(options.seed, stream, step * B + b) % places;
    const std::size_t line = text.rfind('\n', first);
    if (line != text.npos && first - line < static_cast<std::size_t>(L)) first = line;
    const std::string_view piece = text.substr(first, static_cast<std::size_t>(L) + 1);
    for (std::size_t i = 0; i + 1 < piece.size(); ++i) {
      batch.ids.push_back(to_id(piece[i]));
      batch.targets.push_back(to_id(piece[i + 1]));
    }
  }
  return batch;
}

struct Texts {
  std::string training, held_out;
};

// The last twentieth of a text is held out.
[[nodiscard]] inline Texts split(std::string_view text) {
  const std::size_t training = text.size() - text.size() / 20;
  return {std::string(text.substr(0, training)), std::string(text.substr(training))};
}

template <Scalar T>
class Trainer {
 public:
  // Throws std::runtime_error for a training text that is shorter than a piece and one more byte.
  // Of these ranks, or, without any, alone.
  Trainer(const TrainOptions& options, Texts texts, eigenheads::mpi::Ranks* ranks = nullptr)
      : model(options.model, options.seed),
        adam(model,
             {.learning_rate = options.learning_rate,
              .beta2 = options.beta2,
              .weight_decay = options.weight_decay},
             {.shards = options.shards, .gradient_norm = options.gradient_norm}, ranks),
        options_(options),
        ranks_(ranks),
        texts_(std::move(texts)) {
    if (std::ssize(text()) <= options.model.window)
      throw std::runtime_error(
          "the text has " + std::to_string(text().size()) + " bytes; expected more than " +
          std::to_string(options.model.window) + ", which a step reads at once");
  }

  Model<T> model;
  eigenheads::mpi::DataParallel<eigenheads::AdamRule<T>> adam;

  [[nodiscard]] const TrainOptions& options() const { return options_; }
  [[nodiscard]] eigenheads::mpi::Ranks* ranks() const { return ranks_; }
  [[nodiscard]] std::string_view text() const { return texts_.training; }
  [[nodiscard]] Index step_count() const { return static_cast<Index>(adam.step_count()); }
  [[nodiscard]] bool is_done() const { return step_count() >= options_.steps; }

  // Returns the loss before the step.
  double step(Context& context) {
    const Index i = step_count();
    adam.set_learning_rate(
        eigenheads::warmup_then_cosine(i, options_.warmup, options_.steps, options_.learning_rate));
    const Index bytes = options_.batch_size * options_.model.window;
    const auto loss_of = [&](Index first, Index last) {
      const Batch part = make_batch(text(), options_, i, first, last);
      const Tensor<T, 2> logits = model.forward(part.ids, part.sequences, saved_, context);
      const double loss = cross_entropy(logits, part.targets, &dlogits_, context, bytes);
      model.backward(dlogits_, saved_, gradients_, context);
      return loss;
    };
    return adam.step(model, gradients_, options_.batch_size, loss_of).loss;
  }

  // The mean loss of a byte of the text that is held out, of its first 64 pieces at most; NaN if it has
  // none.
  [[nodiscard]] double held_out_loss(Context& context) const {
    const auto piece = static_cast<std::size_t>(options_.model.window);
    Index bytes = 0;
    double sum = 0;
    const std::string_view text = texts_.held_out;
    for (std::size_t first = 0; first + 1 < text.size() && first < 64 * piece; first += piece) {
      const Ids ids = to_ids(text.substr(first, piece + 1));
      const Index count = std::ssize(ids) - 1;
      const Tensor<T, 2> logits = model(Ids(ids.begin(), ids.end() - 1), {count}, context);
      sum += static_cast<double>(count) *
             cross_entropy<T>(logits, Ids(ids.begin() + 1, ids.end()), nullptr, context);
      bytes += count;
    }
    return bytes > 0 ? sum / static_cast<double>(bytes) : std::numeric_limits<double>::quiet_NaN();
  }

 private:
  TrainOptions options_;
  eigenheads::mpi::Ranks* ranks_;
  Texts texts_;
  Tensor<T, 2> dlogits_{0, 0};
  typename Model<T>::Activations saved_;
  typename Model<T>::Gradients gradients_;
};

}  // namespace byte_model
