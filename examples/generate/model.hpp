// SPDX-License-Identifier: MIT
#pragma once
// A language model of bytes, and its training. Its layers are norm first, with RmsNorm, gated
// feed-forward networks, heads that share keys and values, and rotary positions. A byte sees itself and
// the window - 1 bytes before it, in training and in writing, which so may go on for longer than the
// window.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include <eigenheads/context.hpp>                 // Context
#include <eigenheads/elementary.hpp>              // exp, log
#include <eigenheads/linear.hpp>                  // LinearGradients
#include <eigenheads/nn/embedding.hpp>            // Embedding
#include <eigenheads/nn/transformer_encoder.hpp>  // TransformerEncoder
#include <eigenheads/rotary.hpp>                  // RotaryOptions
#include <eigenheads/sequences.hpp>               // Sequences
#include <eigenheads/tensor.hpp>                  // Tensor, TensorView, Scalar

#include "../module.hpp"       // Module
#include "language_model.hpp"  // Model, Ids

namespace byte_model {

using eigenheads::Context, eigenheads::Index, eigenheads::Scalar, eigenheads::Sequences,
    eigenheads::Tensor, eigenheads::TensorView;
using language_model::Ids, language_model::view_of;

inline constexpr Index kBytes = 256;
inline constexpr Index kLongest = 16384;  // bytes of a text, which positions are made for

struct ModelOptions {
  Index num_hiddens = 96, num_heads = 6, num_kv_heads = 2, num_layers = 3;
  Index inner = 192;   // of the feed-forward networks
  Index window = 256;  // bytes
};

[[nodiscard]] inline eigenheads::TransformerEncoderOptions encoder_options(const ModelOptions& o) {
  return {.layer = {.num_hiddens = o.num_hiddens,
                    .num_heads = o.num_heads,
                    .feed_forward_size = o.inner,
                    .activation = eigenheads::Activation::silu,
                    .gated = true,
                    .norm_first = true,
                    .norm = eigenheads::NormKind::rms_norm,
                    .bias = false,
                    .num_kv_heads = o.num_kv_heads,
                    .rotary = eigenheads::RotaryOptions{.max_positions = kLongest}},
          .num_layers = o.num_layers,
          .final_norm = true};
}

[[nodiscard]] inline language_model::ModelOptions language_options(const ModelOptions& o) {
  return {.vocabulary = kBytes,
          .encoder = encoder_options(o),
          .window = o.window,
          .longest = kLongest,
          .head_bias = true};
}

template <Scalar T>
class Model : public language_model::Model<T> {
 public:
  explicit Model(const ModelOptions& options, std::uint64_t seed)
      : language_model::Model<T>(language_options(options), seed), options_(options) {}

  [[nodiscard]] const ModelOptions& options() const { return options_; }

  struct Activations {
    Sequences sequences;
    typename eigenheads::Embedding<T>::Activations embedding;
    typename eigenheads::TransformerEncoder<T>::Activations encoder;
    Tensor<T, 2> y;  // the encoder's output
  };
  struct Gradients : examples::Module<Gradients, language_model::Model<T>> {
    typename eigenheads::Embedding<T>::Gradients embedding;
    std::optional<typename eigenheads::Embedding<T>::Gradients>
        positions;  // a model of bytes has none
    typename eigenheads::TransformerEncoder<T>::Gradients encoder;
    eigenheads::LinearGradients<T> head;
  };

  // ids: [N], the bytes of all sequences -> logits of what follows each of them, [N, kBytes]
  [[nodiscard]] Tensor<T, 2> forward(const Ids& ids, const Sequences& sequences, Activations& saved,
                                     Context& context) const {
    saved.sequences = sequences;
    const Tensor<T, 2> x =
        this->embedding.forward(view_of(ids), sequences, saved.embedding, context);
    saved.y =
        this->encoder.forward(x, sequences, this->mask(), saved.encoder, {.context = context});
    return this->head(saved.y, context);
  }
  // dlogits: [N, kBytes]
  void backward(const Tensor<T, 2>& dlogits, const Activations& saved, Gradients& gradients,
                Context& context) const {
    const Tensor<T, 2> dy =
        this->head.backward(saved.y, saved.sequences, dlogits, gradients.head, false, context);
    this->encoder.backward_into(gradients.encoder, dy, saved.encoder, false, context);
    const TensorView<T, 2> dx(gradients.encoder.x.data(), dy.dimensions());
    this->embedding.backward_into(gradients.embedding, dx, saved.embedding, false, context);
  }

 private:
  ModelOptions options_;
};

// The mean over all rows of -log softmax(logits)[target]; dlogits, if it is not null, is its gradient:
// (softmax(logits) - 1 at the target) / the number of rows. Of a part of a batch, the part of the mean
// over all `batch_rows`. By the library's own exp and log: those of libm differ from machine to machine,
// and so would the trained weights.
template <Scalar T>
[[nodiscard]] double cross_entropy(const Tensor<T, 2>& logits, const Ids& targets,
                                   Tensor<T, 2>* dlogits, Context& context, Index batch_rows = 0) {
  constexpr auto V = static_cast<std::size_t>(kBytes);
  const Index rows = logits.dimension(0);
  if (batch_rows == 0) batch_rows = rows;
  if (dlogits != nullptr) dlogits->resize(logits.dimensions());
  std::vector<double> losses(targets.size());
  context.parallel_for(
      rows, context.threads_for(static_cast<double>(rows * kBytes * 16)), [&](Index row) {
        const T* x = logits.data() + row * kBytes;
        std::array<T, V> p;
        const T largest = *std::max_element(x, x + V);
        for (std::size_t i = 0; i < V; ++i) p[i] = x[i] - largest;
        const auto target = static_cast<std::size_t>(targets[static_cast<std::size_t>(row)]);
        const T of_target = p[target];
        T sum = 0, log_sum = 0;
        eigenheads::exp(p, p);
        for (const T e : p) sum += e;
        eigenheads::log({&sum, 1}, {&log_sum, 1});
        losses[static_cast<std::size_t>(row)] = static_cast<double>(log_sum - of_target);
        if (dlogits == nullptr) return;
        T* dx = dlogits->data() + row * kBytes;
        for (std::size_t i = 0; i < V; ++i)
          dx[i] = (p[i] / sum - T(i == target)) / static_cast<T>(batch_rows);
      });
  double loss = 0;
  for (const double of_row : losses) loss += of_row;
  return loss / static_cast<double>(batch_rows);
}

}  // namespace byte_model
