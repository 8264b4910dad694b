// SPDX-License-Identifier: MIT
#pragma once
// The model that reads dates. Its encoder is two blocks of self-attention over the characters; ten
// learned queries, one for each symbol of an ISO date, ask what they hold:
//   x = embedding(text),   x = encoder_i(x) for each i,   m = norm_memory(x)
//   z = decoder(queries, m),   logits = W_out norm_output(z) + b_out
// The texts are packed, and so are the ten outputs of each. Loss: the cross entropy of each symbol
// with what is written.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <eigenheads/context.hpp>        // Context
#include <eigenheads/elementary.hpp>     // exp, log
#include <eigenheads/linear.hpp>         // Linear
#include <eigenheads/nn/embedding.hpp>   // Embedding
#include <eigenheads/nn/layer_norm.hpp>  // RmsNorm
#include <eigenheads/sequences.hpp>      // Sequences
#include <eigenheads/tensor.hpp>         // Tensor, TensorView, TensorSpan, Scalar

#include "../module.hpp"       // Module
#include "batch.hpp"           // Batch, kOutputs, kClasses
#include "block.hpp"           // Block, Rows, make_norm
#include "text_embedding.hpp"  // TextEmbedding

namespace dates {

using eigenheads::Linear, eigenheads::LinearGradients, eigenheads::TensorSpan;

struct ModelOptions {
  Index num_hiddens = 64, num_heads = 8, num_layers = 2;
  Index inner = 128;  // of the feed-forward networks
  Index reach = 3;    // of the embedding, in characters to either side
};

template <Scalar T>
class Model : public examples::Module<Model<T>> {
 public:
  explicit Model(const ModelOptions& options, std::uint64_t seed)
      : embedding(options.num_hiddens, options.reach, seed),
        norm_memory(make_norm<T>(options.num_hiddens)),
        queries({.num_embeddings = kOutputs, .embedding_dim = options.num_hiddens}, seed,
                "queries"),
        decoder(options.num_hiddens, options.num_heads, options.inner, seed_of(seed, 0)),
        norm_output(make_norm<T>(options.num_hiddens)),
        W_out({options.num_hiddens, kClasses, true}, seed, "W_out") {
    for (Index i = 0; i < options.num_layers; ++i)
      encoder.emplace_back(options.num_hiddens, options.num_heads, options.inner,
                           seed_of(seed, i + 1));
  }

  TextEmbedding<T> embedding;
  std::vector<Block<T>> encoder;
  RmsNorm<T> norm_memory;
  Embedding<T> queries;
  Block<T> decoder;
  RmsNorm<T> norm_output;
  Linear<T> W_out;

  struct Activations {
    Sequences texts, outputs;
    typename TextEmbedding<T>::Activations embedding;
    std::vector<typename Block<T>::Activations> encoder;
    typename Embedding<T>::Activations queries;
    typename Block<T>::Activations decoder;
    Tensor<T, 2> x, memory;         // the encoder's output and its norm: the rows of the texts
    Tensor<T, 2> z, normed_output;  // the decoder's: the rows of the outputs
  };
  struct Gradients : examples::Module<Gradients, Model> {
    typename TextEmbedding<T>::Gradients embedding;
    std::vector<typename Block<T>::Gradients> encoder;
    typename RmsNorm<T>::Gradients norm_memory, norm_output;
    typename Embedding<T>::Gradients queries;
    typename Block<T>::Gradients decoder;
    LinearGradients<T> W_out;
  };
  template <class Self, class Visit>
  static void for_each_part(Self& self, Visit&& visit) {
    visit("embedding", self.embedding);
    for (std::size_t i = 0; i < self.encoder.size(); ++i)
      visit("encoder." + std::to_string(i), self.encoder[i]);
    visit("norm_memory", self.norm_memory);
    visit("queries", self.queries);
    visit("decoder", self.decoder);
    visit("norm_output", self.norm_output);
    visit("W_out", self.W_out);
  }

  // -> logits, [B, kOutputs, kClasses]
  [[nodiscard]] Tensor<T, 3> forward(const Batch& batch, Activations& saved,
                                     Context& context) const {
    const Index B = batch.size();
    saved.texts = Sequences(batch.text_lengths);
    saved.outputs = Sequences(std::vector<Index>(batch.text_lengths.size(), kOutputs));
    saved.x = embedding.forward(batch, saved.texts, saved.embedding, context);
    saved.encoder.resize(encoder.size());
    for (std::size_t i = 0; i < encoder.size(); ++i)
      saved.x = encoder[i].forward({saved.x, saved.texts}, nullptr, saved.encoder[i], context);
    saved.memory = norm_memory(saved.x, context);

    std::vector<Index> ids(static_cast<std::size_t>(B * kOutputs));
    for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = static_cast<Index>(i) % kOutputs;
    const Tensor<T, 2> asked = queries.forward(TensorView<Index, 1>(ids.data(), {B * kOutputs}),
                                               saved.outputs, saved.queries, context);
    const Rows<T> memory{saved.memory, saved.texts};
    saved.z = decoder.forward({asked, saved.outputs}, &memory, saved.decoder, context);
    saved.normed_output = norm_output(saved.z, context);
    Tensor<T, 3> logits(B, kOutputs, kClasses);
    W_out.forward_into(TensorSpan<T, 2>(logits.data(), {B * kOutputs, kClasses}),
                       saved.normed_output, context);
    return logits;
  }

  // dlogits: [B, kOutputs, kClasses]
  void backward(const Tensor<T, 3>& dlogits, const Activations& saved, Gradients& gradients,
                Context& context) const {
    const Sequences &texts = saved.texts, &outputs = saved.outputs;
    // logits = W_out norm_output(z) + b_out
    const TensorView<T, 2> dy(dlogits.data(), {outputs.rows(), kClasses});
    const Tensor<T, 2> dn =
        W_out.backward(saved.normed_output, outputs, dy, gradients.W_out, false, context);
    const Tensor<T, 2> dz =
        norm_output.backward(saved.z, outputs, dn, gradients.norm_output, false, context);
    // z = decoder(queries, m)
    Tensor<T, 3> dm(1, texts.rows(), saved.memory.dimension(1));
    dm.setZero();
    const Tensor<T, 2> dasked =
        decoder.backward(dz, &dm, saved.decoder, gradients.decoder, context);
    queries.backward_into(gradients.queries, dasked, saved.queries, false, context);
    // m = norm_memory(x), and the blocks before
    const TensorView<T, 2> dmemory(dm.data(), saved.memory.dimensions());
    Tensor<T, 2> dx =
        norm_memory.backward(saved.x, texts, dmemory, gradients.norm_memory, false, context);
    gradients.encoder.resize(encoder.size());
    for (std::size_t i = encoder.size(); i-- > 0;)
      dx = encoder[i].backward(dx, nullptr, saved.encoder[i], gradients.encoder[i], context);
    embedding.backward(dx, saved.embedding, gradients.embedding, context);
  }

 private:
  // Blocks name their projections alike, so each has a seed of its own.
  static std::uint64_t seed_of(std::uint64_t seed, Index block) {
    return seed + static_cast<std::uint64_t>(block + 1) * 0x9E3779B97F4A7C15u;
  }
};

// The mean over all symbols of -log softmax(logits)[target]; dlogits, if it is not null, is its
// gradient: (softmax(logits) - 1 at the target) / the number of symbols. Of a part of a batch, the
// part of the mean over all `symbols` of the batch. By the library's own exp and log: those of libm
// differ from machine to machine, and so would the trained weights.
template <Scalar T>
[[nodiscard]] double cross_entropy(const Tensor<T, 3>& logits, const std::vector<int>& targets,
                                   Tensor<T, 3>* dlogits, Index symbols = 0) {
  const Index count = logits.dimension(0) * logits.dimension(1);
  if (symbols == 0) symbols = count;
  if (dlogits != nullptr) dlogits->resize(logits.dimensions());
  double loss = 0;
  for (Index row = 0; row < count; ++row) {
    const T* x = logits.data() + row * kClasses;
    const T largest = *std::max_element(x, x + kClasses);
    std::array<T, static_cast<std::size_t>(kClasses)> p;
    for (std::size_t i = 0; i < p.size(); ++i) p[i] = x[i] - largest;
    const auto target = static_cast<std::size_t>(targets[static_cast<std::size_t>(row)]);
    const T of_target = p[target];
    T sum = 0, log_sum = 0;
    eigenheads::exp(p, p);
    for (const T e : p) sum += e;
    eigenheads::log({&sum, 1}, {&log_sum, 1});
    loss += static_cast<double>(log_sum - of_target);
    if (dlogits == nullptr) continue;
    T* dx = dlogits->data() + row * kClasses;
    for (std::size_t i = 0; i < p.size(); ++i)
      dx[i] = (p[i] / sum - T(i == target)) / static_cast<T>(symbols);
  }
  return loss / static_cast<double>(symbols);
}

}  // namespace dates
