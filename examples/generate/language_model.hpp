// SPDX-License-Identifier: MIT
#pragma once
// A model that says what follows each token of a text:
//   x = embedding(ids) + positions,   y = encoder(x), causal,   logits = W y + b
// Where a token stands is told by positions that were learnt and are added, or by the encoder's rotary.
#include <algorithm>
#include <cstdint>
#include <numeric>
#include <optional>
#include <vector>

#include <eigenheads/context.hpp>                 // Context
#include <eigenheads/linear.hpp>                  // Linear
#include <eigenheads/mask.hpp>                    // Mask
#include <eigenheads/nn/embedding.hpp>            // Embedding
#include <eigenheads/nn/transformer_cache.hpp>    // TransformerCache
#include <eigenheads/nn/transformer_encoder.hpp>  // TransformerEncoder
#include <eigenheads/sequences.hpp>               // Sequences
#include <eigenheads/tensor.hpp>                  // Tensor, TensorView, Scalar

#include "../module.hpp"  // Module

namespace language_model {

using eigenheads::Context, eigenheads::Index, eigenheads::Scalar, eigenheads::Sequences,
    eigenheads::Tensor, eigenheads::TensorSpan, eigenheads::TensorView;
using Ids = std::vector<Index>;

[[nodiscard]] inline TensorView<Index, 1> view_of(const Ids& ids) {
  return TensorView<Index, 1>(ids.data(), {std::ssize(ids)});
}

struct ModelOptions {
  Index vocabulary = 0;
  eigenheads::TransformerEncoderOptions encoder{};
  Index learnt_positions = 0;  // 0: none
  Index window = 0;            // a token sees itself and window - 1 before it; 0: all of them
  Index longest = 0;           // tokens of a text that there are positions for
  bool head_bias = false;
};

// The parts have what for_each_part names; positions are left out if there are none.
template <Scalar T>
class Model : public examples::Module<Model<T>> {
 public:
  Model(const ModelOptions& options, std::uint64_t seed)
      : embedding({.num_embeddings = options.vocabulary,
                   .embedding_dim = options.encoder.layer.num_hiddens},
                  seed, "embedding"),
        encoder(options.encoder, seed),
        head({options.encoder.layer.num_hiddens, options.vocabulary, options.head_bias}, seed,
             "head"),
        options_(options) {
    if (options.learnt_positions > 0)
      positions.emplace(
          eigenheads::EmbeddingOptions{.num_embeddings = options.learnt_positions,
                                       .embedding_dim = options.encoder.layer.num_hiddens},
          seed, "positions");
  }

  eigenheads::Embedding<T> embedding;
  std::optional<eigenheads::Embedding<T>> positions;
  eigenheads::TransformerEncoder<T> encoder;
  eigenheads::Linear<T> head;

  [[nodiscard]] const ModelOptions& language_options() const { return options_; }

  template <class Self, class Visit>
  static void for_each_part(Self& self, Visit&& visit) {
    visit("embedding", self.embedding);
    if (self.positions) visit("positions", *self.positions);
    visit("encoder", self.encoder);
    visit("head", self.head);
  }

  [[nodiscard]] eigenheads::Mask mask() const {
    eigenheads::Mask mask{.causal = eigenheads::Causal::top_left};
    if (options_.window > 0) mask.window.left = options_.window - 1;
    return mask;
  }

  // ids: [N], the tokens of all sequences, of which the first of sequence b stands at first[b], or at 0
  // if none are given -> [N, num_hiddens]
  [[nodiscard]] Tensor<T, 2> embed(const TensorView<Index, 1>& ids, const Sequences& sequences,
                                   const Ids& first, Context& context) const {
    Tensor<T, 2> x = embedding(ids, context);
    if (!positions) return x;
    Ids places(static_cast<std::size_t>(ids.size()));
    for (Index b = 0; b < sequences.count(); ++b) {
      const Index begin = first.empty() ? 0 : first[static_cast<std::size_t>(b)];
      std::iota(places.begin() + sequences.begin(b), places.begin() + sequences.begin(b + 1),
                begin);
    }
    const Tensor<T, 2> p = (*positions)(view_of(places), context);
    std::transform(x.data(), x.data() + x.size(), p.data(), x.data(),
                   [](T a, T b) { return a + b; });
    return x;
  }

  // ids: [N] -> logits of what follows each of them, [N, vocabulary]
  [[nodiscard]] Tensor<T, 2> operator()(const Ids& ids, const Sequences& sequences,
                                        Context& context) const {
    const Tensor<T, 2> x = embed(view_of(ids), sequences, {}, context);
    return head(encoder(x, sequences, mask(), {.context = context}), context);
  }

 private:
  ModelOptions options_;
};

// The model as it writes, with a cache for `count` texts of at most `longest` tokens: called with the
// tokens that are new of each, it says what follows the last of them, [count, vocabulary]; zeros for
// texts without new tokens.
template <Scalar T>
class Reader {
 public:
  Reader(const Model<T>& model, Index count, Index longest, Context& context)
      : cache(model.encoder, cache_options(model.language_options().window, count, longest)),
        model_(model),
        context_(context) {}

  eigenheads::TransformerCache<T> cache;

  Tensor<T, 2> operator()(const TensorView<Index, 1>& ids, const Sequences& sequences) {
    const Index B = sequences.count();
    Ids first(static_cast<std::size_t>(B));
    for (Index b = 0; b < B; ++b) first[static_cast<std::size_t>(b)] = cache.length(b);
    const Tensor<T, 2> x = model_.embed(ids, sequences, first, context_);
    const Tensor<T, 2> y = model_.encoder.step(x, sequences, cache, {}, {.context = context_});
    const Index E = y.dimension(1);
    Tensor<T, 2> last(B, E);
    last.setZero();
    for (Index b = 0; b < B; ++b)
      if (sequences.length(b) > 0)
        std::copy_n(y.data() + (sequences.begin(b + 1) - 1) * E, E, last.data() + b * E);
    return model_.head(last, context_);
  }

 private:
  // A text that is longer than the window goes round in a ring.
  [[nodiscard]] static eigenheads::KvCacheOptions cache_options(Index window, Index count,
                                                                Index longest) {
    if (window == 0 || window >= longest) return {.batch_size = count, .capacity = longest};
    return {.batch_size = count, .capacity = window, .window = window};
  }

  const Model<T>& model_;
  Context& context_;
};

}  // namespace language_model
