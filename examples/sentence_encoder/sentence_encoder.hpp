// SPDX-License-Identifier: MIT
#pragma once
// Texts, as ids of their tokens, to one vector each.
#include <algorithm>
#include <array>
#include <cstddef>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>       // Context
#include <eigenheads/nn/normalize.hpp>  // normalize_into
#include <eigenheads/nn/pooling.hpp>    // pool_into
#include <eigenheads/sequences.hpp>     // Sequences
#include <eigenheads/tensor.hpp>        // Tensor, TensorSpan

#include "encoder.hpp"   // Encoder, Ids
#include "pipeline.hpp"  // Pipeline

namespace sentences {

using eigenheads::TensorSpan;

// Texts that are encoded in one call.
struct Batch {
  std::vector<std::size_t> texts{};  // their numbers
  Ids ids{};                         // of all of them
  Sequences sequences{};
};

// All texts, the longest first, in batches of about as many tokens as the caches hold the rows of.
[[nodiscard]] inline std::vector<Batch> batches_of(std::span<const Ids> texts) {
  constexpr std::size_t most = 1024;
  std::vector<std::size_t> order(texts.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::stable_sort(order, std::ranges::greater{},
                           [&](std::size_t i) { return texts[i].size(); });
  std::vector<Batch> batches;
  for (std::size_t i = 0; i < order.size();) {
    Batch batch;
    std::vector<std::size_t> lengths;
    do {
      const Ids& ids = texts[order[i]];
      batch.texts.push_back(order[i]);
      batch.ids.insert(batch.ids.end(), ids.begin(), ids.end());
      lengths.push_back(ids.size());
    } while (++i < order.size() && batch.ids.size() + texts[order[i]].size() <= most);
    batch.sequences = Sequences(lengths);
    batches.push_back(std::move(batch));
  }
  return batches;
}

class SentenceEncoder {
 public:
  SentenceEncoder(Encoder model, Pipeline steps)
      : encoder(std::move(model)), pipeline(std::move(steps)) {}

  Encoder encoder;
  Pipeline pipeline;

  [[nodiscard]] Index size() const {
    return encoder.config().size() * std::ssize(pipeline.pooling);
  }

  // x: the vectors of all tokens -> one vector a text, [texts.count(), size()], of any length.
  [[nodiscard]] Tensor<float, 2> pool(const Tensor<float, 2>& x, const Sequences& texts,
                                      Context& context) const {
    const Index E = x.dimension(1), parts = std::ssize(pipeline.pooling);
    Tensor<float, 2> y(texts.count(), size());
    for (Index part = 0; part < parts; ++part) {
      const auto pooling = pipeline.pooling[static_cast<std::size_t>(part)];
      const Tensor<float, 2> pooled = eigenheads::pool(x, texts, pooling, context);
      for (Index b = 0; b < texts.count(); ++b)
        std::copy_n(pooled.data() + b * E, E, y.data() + (b * parts + part) * E);
    }
    return y;
  }
  // dy: the gradient of what was pooled of x -> that of x.
  [[nodiscard]] Tensor<float, 2> pool_backward(const Tensor<float, 2>& dy,
                                               const Tensor<float, 2>& x, const Sequences& texts,
                                               Context& context) const {
    const Index E = x.dimension(1), parts = std::ssize(pipeline.pooling);
    Tensor<float, 2> dx(x.dimensions()), of_part(texts.count(), E);
    dx.setZero();
    for (Index part = 0; part < parts; ++part) {
      for (Index b = 0; b < texts.count(); ++b)
        std::copy_n(dy.data() + (b * parts + part) * E, E, of_part.data() + b * E);
      const auto pooling = pipeline.pooling[static_cast<std::size_t>(part)];
      dx += eigenheads::pool_backward(of_part, x, texts, pooling, context);
    }
    return dx;
  }

  // -> [texts.size(), size()]; tell(tokens) is called after each batch. A text without tokens gives
  // zeros. Throws what Encoder throws.
  template <class Tell>
  [[nodiscard]] Tensor<float, 2> operator()(std::span<const Ids> texts, Context& context,
                                            const Tell& tell) const {
    Tensor<float, 2> y(std::ssize(texts), size());
    for (const Batch& batch : batches_of(texts)) {
      Tensor<float, 2> pooled =
          pool(encoder(batch.ids, batch.sequences, context), batch.sequences, context);
      if (pipeline.is_normalized) eigenheads::normalize_into(pooled, pooled, {}, context);
      for (std::size_t i = 0; i < batch.texts.size(); ++i)
        std::copy_n(pooled.data() + static_cast<Index>(i) * size(), size(),
                    y.data() + static_cast<Index>(batch.texts[i]) * size());
      tell(batch.ids.size());
    }
    return y;
  }
  [[nodiscard]] Tensor<float, 2> operator()(std::span<const Ids> texts, Context& context) const {
    return (*this)(texts, context, [](std::size_t) {});
  }
};

}  // namespace sentences
