// SPDX-License-Identifier: MIT
#pragma once
// Something to train on ranks.
#include <algorithm>
#include <cstdint>
#include <vector>

#include <eigenheads/mpi/data_parallel.hpp>
#include <eigenheads/nn/transformer_encoder.hpp>
#include <eigenheads/train/optim.hpp>

namespace training {

namespace eh = eigenheads;
using eh::Index, eh::Tensor, eh::TensorView;

// On [-1, 1): splitmix64 (Steele, Lea, Flood, 2014). (No program of MPI's ranks has GoogleTest.)
template <class T>
[[nodiscard]] Tensor<T, 2> numbers(std::uint64_t seed, Index rows, Index columns) {
  Tensor<T, 2> result(rows, columns);
  for (Index i = 0; i < result.size(); ++i) {
    std::uint64_t x = seed += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    x ^= x >> 31;
    result.data()[i] = static_cast<T>(static_cast<std::int64_t>(x) >> 40) / T(1 << 23);
  }
  return result;
}

// A small transformer, which is to make given rows of given ones: sequences of 0 to 4 of them.
template <class T>
class Task {
 public:
  using Model = eh::TransformerEncoder<T>;
  static constexpr Index kSize = 16;

  explicit Task(int threads = 1, Index num_layers = 2)
      : model({.layer = {.num_hiddens = kSize, .num_heads = 2, .feed_forward_size = 24},
               .num_layers = num_layers},
              7),
        context_(threads, 0) {}

  Model model;
  typename Model::Gradients gradients;

  // Half of the mean square that members first to last - 1 of step i's batch are off: their part of
  // it.
  double loss(Index step, Index batch_size, Index first, Index last) {
    std::vector<Index> lengths;
    for (Index b = first; b < last; ++b) lengths.push_back(length(step, b));
    Index rows = 0, before = 0;
    for (Index b = 0; b < batch_size; ++b) {
      if (b < first) before += length(step, b);
      rows += length(step, b);
    }
    const auto seed = static_cast<std::uint64_t>(step);
    const Tensor<T, 2> x = numbers<T>(2 * seed, rows, kSize),
                       goal = numbers<T>(2 * seed + 1, rows, kSize);
    const eh::Sequences sequences(lengths);
    const TensorView<T, 2> part(x.data() + before * kSize, {sequences.rows(), kSize});
    Tensor<T, 2> dy = model.forward(part, sequences, {}, saved_, {.context = context_});
    const T scale = T(1) / static_cast<T>(rows * kSize);
    double sum = 0;
    for (Index i = 0; i < dy.size(); ++i) {
      const T off = dy.data()[i] - goal.data()[before * kSize + i];
      sum += static_cast<double>(off) * static_cast<double>(off);
      dy.data()[i] = scale * off;
    }
    model.backward_into(gradients, dy, saved_, false, context_);
    return sum / static_cast<double>(2 * rows * kSize);
  }
  template <class Optimizer>
  eh::mpi::DataParallelStep step(Optimizer& optimizer, Index batch_size) {
    const auto i = static_cast<Index>(optimizer.step_count());
    optimizer.set_learning_rate(eh::warmup_then_cosine(i, 5, 60, 1e-2));
    return optimizer.step(model, gradients, batch_size, [&](Index first, Index last) {
      return loss(i, batch_size, first, last);
    });
  }

  [[nodiscard]] Tensor<T, 1> parameters() const {
    std::vector<T> all;
    model.for_each_parameter([&](const auto& parameter) {
      std::vector<T> values(static_cast<std::size_t>(parameter.size()));
      parameter.copy_to(values);
      all.insert(all.end(), values.begin(), values.end());
    });
    Tensor<T, 1> result(std::ssize(all));
    std::ranges::copy(all, result.data());
    return result;
  }

 private:
  [[nodiscard]] static Index length(Index step, Index b) {
    return b == 0 ? 1 + step % 4 : (step + 3 * b) % 5;  // a mean is of one row or more
  }

  eh::Context context_;
  typename Model::Activations saved_;
};

}  // namespace training
