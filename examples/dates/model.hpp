// SPDX-License-Identifier: MIT
#pragma once
// The model that reads dates. Its encoder is two blocks of self-attention over the characters; ten
// learned queries, one for each symbol of an ISO date, ask what they hold:
//   x = embedding(text),   x = encoder_i(x) for each i,   m = norm_memory(x)
//   z = decoder(queries, m),   logits = W_out norm_output(z) + b_out
// Loss: the cross entropy of each symbol with what is written.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include <eigenheads/context.hpp>     // Context
#include <eigenheads/elementary.hpp>  // exp, log
#include <eigenheads/linear.hpp>      // Linear
#include <eigenheads/mask.hpp>        // Mask
#include <eigenheads/tensor.hpp>      // Tensor, Scalar

#include "batch.hpp"   // Batch, kOutputs, kClasses
#include "block.hpp"   // Block
#include "layers.hpp"  // Embedding, RmsNorm
#include "module.hpp"  // Module

namespace dates {

struct ModelOptions {
  Index num_hiddens = 64, num_heads = 8, num_layers = 2;
  Index inner = 128;  // of the feed-forward networks
  Index reach = 3;    // of the embedding, in characters to either side
};

template <Scalar T>
class Model : public Module<Model<T>> {
 public:
  explicit Model(const ModelOptions& options, std::uint64_t seed)
      : embedding(options.num_hiddens, options.reach, seed),
        norm_memory(options.num_hiddens),
        queries(kOutputs, options.num_hiddens),
        decoder(options.num_hiddens, options.num_heads, options.inner, seed_of(seed, 0)),
        norm_output(options.num_hiddens),
        W_out({options.num_hiddens, kClasses, true}, seed, "W_out") {
    for (Index i = 0; i < options.num_layers; ++i)
      encoder.emplace_back(options.num_hiddens, options.num_heads, options.inner,
                           seed_of(seed, i + 1));
    detail::fill_randomly(queries, 1.0, seed, "queries");
  }

  Embedding<T> embedding;
  std::vector<Block<T>> encoder;
  RmsNorm<T> norm_memory;
  Tensor<T, 2> queries;  // [kOutputs, E]
  Block<T> decoder;
  RmsNorm<T> norm_output;
  Linear<T> W_out;

  struct Activations {
    std::vector<typename Block<T>::Activations> encoder;
    typename RmsNorm<T>::Activations norm_memory, norm_output;
    typename Block<T>::Activations decoder;
  };
  struct Gradients : Module<Gradients, Model> {
    typename Embedding<T>::Gradients embedding;
    std::vector<typename Block<T>::Gradients> encoder;
    typename RmsNorm<T>::Gradients norm_memory, norm_output;
    Tensor<T, 2> queries;
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
    const Index B = batch.size(), E = queries.dimension(1);
    const Mask inside{.valid_lens = batch.text_lengths, .query_lens = batch.text_lengths};
    Tensor<T, 3> x = embedding.forward(batch);
    saved.encoder.resize(encoder.size());
    for (std::size_t i = 0; i < encoder.size(); ++i)
      x = encoder[i].forward(x, nullptr, inside, saved.encoder[i], context);
    const Tensor<T, 3>& memory = norm_memory.forward(x, saved.norm_memory, context);
    Tensor<T, 3> outputs(B, kOutputs, E);
    for (Index b = 0; b < B; ++b) std::copy_n(queries.data(), queries.size(), &outputs(b, 0, 0));
    const Tensor<T, 3> z = decoder.forward(outputs, &memory, {.valid_lens = batch.text_lengths},
                                           saved.decoder, context);
    return W_out(norm_output.forward(z, saved.norm_output, context), context);
  }

  void backward(const Tensor<T, 3>& dlogits, const Batch& batch, const Activations& saved,
                Gradients& gradients, Context& context) const {
    const Index B = batch.size(), E = queries.dimension(1);
    // logits = W_out norm_output(z) + b_out
    const Tensor<T, 3>& n = saved.norm_output.y;
    const Tensor<T, 3> dn = W_out.backward(n, dlogits, gradients.W_out, false, context);
    const Tensor<T, 3> dz =
        norm_output.backward(dn, saved.norm_output, gradients.norm_output, context);
    // z = decoder(queries, m)
    Tensor<T, 3> dm(saved.norm_memory.y.dimensions());
    dm.setZero();
    const Tensor<T, 3> doutputs =
        decoder.backward(dz, &dm, saved.decoder, gradients.decoder, context);
    gradients.queries.resize(kOutputs, E);
    gradients.queries.setZero();
    for (Index b = 0; b < B; ++b)
      detail::Row<T>(gradients.queries.data(), kOutputs * E) +=
          detail::ConstRow<T>(&doutputs(b, 0, 0), kOutputs * E);
    // m = norm_memory(x), and the blocks before
    Tensor<T, 3> dx = norm_memory.backward(dm, saved.norm_memory, gradients.norm_memory, context);
    gradients.encoder.resize(encoder.size());
    for (std::size_t i = encoder.size(); i-- > 0;)
      dx = encoder[i].backward(dx, nullptr, saved.encoder[i], gradients.encoder[i], context);
    embedding.backward(dx, batch, gradients.embedding);
  }

 private:
  // Blocks name their projections alike, so each has a seed of its own.
  static std::uint64_t seed_of(std::uint64_t seed, Index block) {
    return seed + static_cast<std::uint64_t>(block + 1) * 0x9E3779B97F4A7C15u;
  }
};

// The mean over all symbols of -log softmax(logits)[target]; dlogits, if it is not null, is its
// gradient: (softmax(logits) - 1 at the target) / the number of symbols. By the library's own exp
// and log: those of libm differ from machine to machine, and so would the trained weights.
template <Scalar T>
[[nodiscard]] double cross_entropy(const Tensor<T, 3>& logits, const std::vector<int>& targets,
                                   Tensor<T, 3>* dlogits) {
  const Index count = logits.dimension(0) * logits.dimension(1);
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
      dx[i] = (p[i] / sum - T(i == target)) / static_cast<T>(count);
  }
  return loss / static_cast<double>(count);
}

}  // namespace dates
