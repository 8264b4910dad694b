// SPDX-License-Identifier: MIT
#pragma once
// Texts by which heads are chosen or judged: what an encoder makes of them, and what is lost of that
// without some of its heads.
#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>                       // Context
#include <eigenheads/nn/normalize.hpp>                  // normalize
#include <eigenheads/nn/transformer_encoder_layer.hpp>  // TransformerEncoderLayer
#include <eigenheads/prune_heads.hpp>                   // prune_heads
#include <eigenheads/tensor.hpp>                        // Tensor

#include "../pages/head_grid.hpp"  // Head
#include "sentence_encoder.hpp"    // SentenceEncoder, Batch
#include "similarity.hpp"          // dot, row

namespace sentences {

using pages::Head;
using Heads = std::vector<std::size_t>;  // places in the list of all heads of a model

// Those that it has, from the first layer on; `index` counts in the layer as it is.
[[nodiscard]] inline std::vector<Head> heads_of(const Encoder& encoder) {
  std::vector<Head> heads;
  for (std::size_t l = 0; l < encoder.num_layers(); ++l)
    for (Index h = 0; h < std::ssize(encoder.heads_left(l)); ++h) heads.push_back({l, h});
  return heads;
}

// Which heads of each layer, by their numbers there.
[[nodiscard]] inline std::vector<std::vector<Index>> by_layer(const Encoder& encoder,
                                                              std::span<const std::size_t> which) {
  const std::vector<Head> heads = heads_of(encoder);
  std::vector<std::vector<Index>> result(encoder.num_layers());
  for (const std::size_t i : which) result[heads[i].layer].push_back(heads[i].index);
  return result;
}

// The layers of an encoder with these heads really gone; those that keep all of theirs are not copied.
class LayersWithout {
 public:
  using Layer = eigenheads::TransformerEncoderLayer<float>;

  LayersWithout(const Encoder& encoder, std::span<const std::size_t> removed)
      : first_(encoder.num_layers()) {
    const auto of_layers = by_layer(encoder, removed);
    smaller_.reserve(of_layers.size());  // so that what points to them stays
    for (std::size_t l = 0; l < of_layers.size(); ++l) {
      layers_.push_back(&encoder.stack.layers[l]);
      if (of_layers[l].empty()) continue;
      first_ = (std::min)(first_, l);
      smaller_.push_back(encoder.stack.layers[l]);
      smaller_.back().self_attention =
          eigenheads::prune_heads(smaller_.back().self_attention, of_layers[l]);
      layers_.back() = &smaller_.back();
    }
  }
  LayersWithout(const LayersWithout&) = delete;
  LayersWithout& operator=(const LayersWithout&) = delete;

  // The first one that is smaller; the number of layers if none is.
  [[nodiscard]] std::size_t first() const { return first_; }

  // What layer `from` reads becomes what the last one writes.
  void run(Tensor<float, 2>& x, const Sequences& texts, std::size_t from, Context& context) const {
    for (std::size_t l = from; l < layers_.size(); ++l)
      layers_[l]->forward_into(x, x, texts, {}, {.context = context});
  }

 private:
  std::size_t first_;
  std::vector<Layer> smaller_;
  std::vector<const Layer*> layers_;
};

// What the vectors lose; 0 if nothing is pruned.
struct Loss {
  double distance = 0;    // 1 less the mean cosine of a text's vector and the whole model's
  double neighbours = 0;  // share of texts of which another text is now the nearest
};

// Of each row the number of the other row that is most like it, the first of equals. Rows have the
// length 1.
[[nodiscard]] inline std::vector<Index> nearest_rows(const Tensor<float, 2>& vectors) {
  std::vector<Index> result;
  for (Index i = 0; i < vectors.dimension(0); ++i) {
    Index best = -1;
    double most = -2;
    for (Index j = 0; j < vectors.dimension(0); ++j)
      if (j != i)
        if (const double alike = dot(row(vectors, i), row(vectors, j)); alike > most) {
          most = alike;
          best = j;
        }
    result.push_back(best);
  }
  return result;
}

class Sample {
 public:
  // Two texts or more. All that layers read of them is kept: a head of layer l changes nothing before
  // it, so what comes before need not be computed again.
  Sample(const SentenceEncoder& model, std::span<const Ids> texts, Context& context)
      : batches(batches_of(texts)), model_(model) {
    const auto& layers = model.encoder.stack.layers;
    inputs.resize(layers.size() + 1);
    for (const Batch& batch : batches) {
      inputs[0].push_back(model.encoder.embed(batch.ids, batch.sequences, context));
      for (std::size_t l = 0; l < layers.size(); ++l)
        inputs[l + 1].push_back(
            layers[l](inputs[l].back(), batch.sequences, {}, {.context = context}));
    }
    vectors = Tensor<float, 2>(std::ssize(texts), model.size());
    for (std::size_t b = 0; b < batches.size(); ++b) put(b, inputs.back()[b], vectors, context);
    neighbours = nearest_rows(vectors);
  }

  std::vector<Batch> batches;
  std::vector<std::vector<Tensor<float, 2>>> inputs;  // [layer][batch]; of the last: what it wrote
  Tensor<float, 2> vectors{0, 0};                     // [texts, size], of length 1
  std::vector<Index> neighbours;

  [[nodiscard]] std::size_t size() const { return neighbours.size(); }

  [[nodiscard]] Loss without(std::span<const std::size_t> removed, Context& context) const {
    const LayersWithout layers(model_.encoder, removed);
    Tensor<float, 2> pruned(vectors.dimensions());
    for (std::size_t b = 0; b < batches.size(); ++b) {
      Tensor<float, 2> x = inputs[layers.first()][b];
      layers.run(x, batches[b].sequences, layers.first(), context);
      put(b, x, pruned, context);
    }
    Loss loss;
    const std::vector<Index> now = nearest_rows(pruned);
    for (std::size_t i = 0; i < size(); ++i) {
      const auto text = static_cast<Index>(i);
      loss.distance += 1 - cosine(row(pruned, text), row(vectors, text));
      loss.neighbours += now[i] == neighbours[i] ? 0 : 1;
    }
    loss.distance /= static_cast<double>(size());
    loss.neighbours /= static_cast<double>(size());
    return loss;
  }

 private:
  // The vectors of a batch to their places.
  void put(std::size_t batch, const Tensor<float, 2>& x, Tensor<float, 2>& to,
           Context& context) const {
    const Tensor<float, 2> pooled = model_.pool(x, batches[batch].sequences, context);
    const Tensor<float, 2> unit = eigenheads::normalize(pooled, {}, context);
    for (std::size_t i = 0; i < batches[batch].texts.size(); ++i)
      std::ranges::copy(row(unit, static_cast<Index>(i)),
                        to.data() + static_cast<Index>(batches[batch].texts[i]) * model_.size());
  }

  const SentenceEncoder& model_;
};

}  // namespace sentences
