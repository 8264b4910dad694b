// SPDX-License-Identifier: MIT
#pragma once
// How fast pruned models and layers are, beside the whole in the same run.
#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include <eigenheads/context.hpp>               // Context
#include <eigenheads/multi_head_attention.hpp>  // MultiHeadAttention
#include <eigenheads/prune_heads.hpp>           // prune_heads
#include <eigenheads/random.hpp>                // random_symmetric
#include <eigenheads/tensor.hpp>                // Tensor

#include "data.hpp"     // Model, Sample, Worker
#include "heads.hpp"    // attention_layers, without
#include "pages.hpp"    // time_in_turn
#include "results.hpp"  // Speed, kLevels

namespace pruning {

// The layers of attention of `model` alone, on what the whole model gave them.
inline void attend(const Model& model, const Model::Activations& given, eh::Context& context) {
  for (std::size_t i = 0; i < model.encoder.size(); ++i)
    static_cast<void>(model.encoder[i].attention(given.encoder[i].n, given.texts, {}, context));
  static_cast<void>(model.decoder.attention(given.decoder.n, given.outputs, given.memory,
                                            given.memory, given.texts, {}, context));
}

// The whole model and each level of an order, on one batch.
[[nodiscard]] inline std::vector<Speed> time_model(const Model& whole, const Order& order,
                                                   const Results& results,
                                                   const dates::Batch& batch, Worker& worker) {
  std::vector<Speed> rows{{"dates model", 0, order.size(), attention_parameters(whole), 0, 0}};
  std::vector<Model> models{whole};
  for (const int level : kLevels) {
    const std::size_t count = results.count_at(level);
    models.push_back(without(whole, {order.data(), count}));
    rows.push_back(
        {"dates model", level, order.size() - count, attention_parameters(models.back()), 0, 0});
  }
  Model::Activations given;
  static_cast<void>(whole.forward(batch, given, worker.context));
  std::vector<std::function<void()>> runs;
  for (const Model& model : models) {
    runs.emplace_back(
        [&] { static_cast<void>(model.forward(batch, worker.saved, worker.context)); });
    runs.emplace_back([&] { attend(model, given, worker.context); });
  }
  const std::vector<double> times = time_in_turn(runs, results.settings.repetitions);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i].model = times[2 * i];
    rows[i].attention = times[2 * i + 1];
  }
  return rows;
}

// One layer of the size that large models have, with half of its heads and with all: B 8, Q = K
// 128, E 768, H 12, on its own output.
[[nodiscard]] inline std::vector<Speed> time_large_layer(int repetitions, Worker& worker) {
  constexpr Index B = 8, T = 128, E = 768, H = 12;
  const eh::MultiHeadAttention<float> whole(
      {.num_hiddens = E, .num_heads = H, .query_size = E, .key_size = E, .value_size = E}, 1);
  std::vector<Index> half;
  for (Index h = 0; h < H; h += 2) half.push_back(h);
  const auto pruned = eh::prune_heads(whole, half);
  eh::Tensor<float, 3> x(B, T, E), y(B, T, E);
  for (Index i = 0; i < x.size(); ++i)
    x.data()[i] = static_cast<float>(eh::random_symmetric(1, 0, i));
  std::vector<std::function<void()>> runs;
  std::vector<Speed> rows;
  for (const auto* layer : {&whole, &pruned}) {
    runs.emplace_back([&, layer] { layer->forward_into(y, x, x, x, {}, worker.context); });
    Index parameters = 0;
    layer->for_each_parameter([&](const auto& p) { parameters += p.size(); });
    rows.push_back({"large layer", layer == &whole ? 0 : 50,
                    static_cast<std::size_t>(layer->num_heads()), parameters, 0, 0});
  }
  const std::vector<double> times = time_in_turn(runs, repetitions);
  for (std::size_t i = 0; i < rows.size(); ++i) rows[i].attention = times[i];
  return rows;
}

}  // namespace pruning
