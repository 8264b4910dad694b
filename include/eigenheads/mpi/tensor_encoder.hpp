// SPDX-License-Identifier: MIT
#pragma once
// Layers of an encoder that are shared out over ranks (tensor_encoder_layer.hpp), one after the other:
//   mpi::TensorParallelEncoder<float> encoder(whole, ranks);   // or of options, and then loaded
//   y = encoder(x, sequences);
#include <cstddef>
#include <string>
#include <string_view>

#include <eigenheads/call_options.hpp>  // CallOptions, TrainingOptions
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/step_guard.hpp>            // StepGuard
#include <eigenheads/mask.hpp>                         // Mask
#include <eigenheads/mpi/ranks.hpp>                    // Ranks
#include <eigenheads/mpi/tensor_encoder_layer.hpp>     // TensorParallelEncoderLayer
#include <eigenheads/nn/detail/transformer_stack.hpp>  // TransformerStack
#include <eigenheads/nn/transformer_cache.hpp>         // TransformerCache
#include <eigenheads/nn/transformer_encoder.hpp>       // TransformerEncoder
#include <eigenheads/sequences.hpp>                    // Sequences
#include <eigenheads/tensor.hpp>                       // Tensor, TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

template <Scalar T>
using TensorParallelEncoderActivations =
    eigenheads::detail::StackActivations<T, TensorParallelEncoderLayerActivations<T>>;

// As TransformerEncoder; a call is one round of all layers. Layers and norm are public; a
// TransformerCache of it is of this rank's heads.
template <Scalar T>
class TensorParallelEncoder
    : public eigenheads::detail::TransformerStack<T, TensorParallelEncoderLayer<T>> {
  using Stack = eigenheads::detail::TransformerStack<T, TensorParallelEncoderLayer<T>>;

 public:
  using Activations = TensorParallelEncoderActivations<T>;
  using Gradients = TransformerEncoderGradients<T>;

  TensorParallelEncoder(const TransformerEncoder<T>& whole, Ranks& ranks)
      : Stack("TensorParallelEncoder"), ranks_(&ranks) {
    this->layers.reserve(whole.layers.size());
    for (const auto& layer : whole.layers) this->layers.emplace_back(layer, ranks);
    this->norm = whole.norm;
  }
  // With weights of 0, to be loaded (tensor_checkpoints.hpp).
  TensorParallelEncoder(const TransformerEncoderOptions& options, Ranks& ranks)
      : Stack("TensorParallelEncoder"), ranks_(&ranks) {
    if (options.num_layers < 1)
      eigenheads::detail::refuse(
          {"TensorParallelEncoder: num_layers is ", options.num_layers, "; expected 1 or more"});
    const eigenheads::detail::TransformerParts parts(options.layer);
    this->layers.reserve(static_cast<std::size_t>(options.num_layers));
    for (Index i = 0; i < options.num_layers; ++i) this->layers.emplace_back(options.layer, ranks);
    if (options.final_norm) this->norm.emplace(parts.template norm<T>());
  }

  [[nodiscard]] Ranks& ranks() const { return *ranks_; }

  template <class Visitor>
  void for_each_share(Visitor&& visit, std::string_view prefix = "") {
    const std::string start(prefix);
    for (std::size_t i = 0; i < this->layers.size(); ++i)
      this->layers[i].for_each_share(visit, start + "layers." + std::to_string(i) + '.');
    if (this->norm)
      this->norm->for_each_parameter(
          [&](const auto& parameter) { visit(parameter, Index{0}, parameter.shape()[0]); },
          start + "norm.");
  }

  template <TensorOfRank<3> X>
  [[nodiscard]] Tensor<T, 3> operator()(const X& x, const Mask& mask = {},
                                        const CallOptions<T>& options = {}) const {
    const TensorView<T, 3> in(x);
    Tensor<T, 3> y;
    rows_together(ranks(), "an encoder", in, digest(mask),
                  [&] { y = Stack::run(in, options, mask); });
    return y;
  }
  template <TensorOfRank<2> X>
  [[nodiscard]] Tensor<T, 2> operator()(const X& x, const Sequences& sequences,
                                        const Mask& mask = {},
                                        const CallOptions<T>& options = {}) const {
    const TensorView<T, 2> in(x);
    Tensor<T, 2> y;
    rows_together(ranks(), "an encoder of packed sequences", in, digest(mask, &sequences),
                  [&] { y = Stack::run(in, options, sequences, mask); });
    return y;
  }

  template <TensorOfRank<3> X, class Storage>
  [[nodiscard]] Tensor<T, 3> step(const X& x, TransformerCache<T, Storage>& cache,
                                  const Mask& mask = {}, const CallOptions<T>& options = {}) const {
    auto y = eigenheads::detail::make_tensor<T>("y", TensorView<T, 3>(x).dimensions());
    take_steps(TensorView<T, 3>(x), cache, digest(mask), options, [&](Context& context) {
      Stack::take_steps(TensorSpan<T, 3>(y), TensorView<T, 3>(x), cache, context,
                        [&](std::size_t i, const auto& to, const auto& from, auto& of_layer) {
                          this->layers[i].step_into(to, from, of_layer, mask, options);
                        });
    });
    return y;
  }
  template <TensorOfRank<2> X, class Storage>
  [[nodiscard]] Tensor<T, 2> step(const X& x, const Sequences& sequences,
                                  TransformerCache<T, Storage>& cache, const Mask& mask = {},
                                  const CallOptions<T>& options = {}) const {
    auto y = eigenheads::detail::make_tensor<T>("y", TensorView<T, 2>(x).dimensions());
    take_steps(TensorView<T, 2>(x), cache, digest(mask, &sequences), options,
               [&](Context& context) {
                 Stack::take_steps(
                     TensorSpan<T, 2>(y), TensorView<T, 2>(x), cache, context,
                     [&](std::size_t i, const auto& to, const auto& from, auto& of_layer) {
                       this->layers[i].step_into(to, from, sequences, of_layer, mask, options);
                     });
               });
    return y;
  }

  // Training.
  template <TensorOfRank<3> X>
  Tensor<T, 3> forward(const X& x, const Mask& mask, Activations& saved,
                       const TrainingOptions<T>& options = {}) const {
    const TensorView<T, 3> in(x);
    Tensor<T, 3> y;
    const Digest of_call = digest(mask).add_seed(options);
    rows_together(ranks(), "an encoder in training", in, of_call,
                  [&] { y = Stack::train(in, saved, options, mask); });
    return y;
  }
  template <TensorOfRank<2> X>
  Tensor<T, 2> forward(const X& x, const Sequences& sequences, const Mask& mask, Activations& saved,
                       const TrainingOptions<T>& options = {}) const {
    const TensorView<T, 2> in(x);
    Tensor<T, 2> y;
    const Digest of_call = digest(mask, &sequences).add_seed(options);
    rows_together(ranks(), "an encoder of packed sequences in training", in, of_call,
                  [&] { y = Stack::train(in, saved, options, sequences, mask); });
    return y;
  }
  template <eigenheads::detail::TensorLike Y>
  void backward_into(Gradients& gradients, const Y& grad_y, const Activations& saved,
                     bool accumulate = false, Context& context = default_context()) const {
    const TensorView<T, rank_of<Y>> view(grad_y);
    Digest of_call;
    add_terms(of_call);
    of_call.add(static_cast<Index>(saved.layers.size())).add(Index{accumulate});
    for (const auto& layer : saved.layers) of_call.add(layer.self_attention.of_call);
    rows_together(ranks(), "the backward pass of an encoder", view, of_call,
                  [&] { Stack::undo(gradients, view, saved, accumulate, context); });
  }
  template <eigenheads::detail::TensorLike Y>
  [[nodiscard]] Gradients backward(const Y& grad_y, const Activations& saved,
                                   Context& context = default_context()) const {
    Gradients gradients;
    backward_into(gradients, grad_y, saved, false, context);
    return gradients;
  }

 private:
  [[nodiscard]] Digest digest(const Mask& mask, const Sequences* sequences = nullptr) const {
    Digest digest;
    digest.add(mask).add(sequences);
    add_terms(digest);
    return digest;
  }
  void add_terms(Digest& digest) const {
    digest.add(static_cast<Index>(this->layers.size())).add(Index{this->norm.has_value()});
    for (const auto& layer : this->layers) layer.add_terms(digest);
  }
  template <int Rank, class Storage, class Run>
  void take_steps(TensorView<T, Rank> x, TransformerCache<T, Storage>& cache, Digest of_call,
                  const CallOptions<T>& options, const Run& run) const {
    for (Index i = 0; i < cache.num_layers(); ++i) of_call.add(cache.layer(i));
    Context& context = options.context.get();
    const eigenheads::detail::Frame frame(context);
    eigenheads::detail::StepGuard guard(
        cache.num_layers(), [&](Index i) -> auto& { return cache.layer(i).heads(); }, frame);
    rows_together(ranks(), "a step of an encoder", x, of_call, [&] { run(context); });
    guard.is_done = true;
  }

  Ranks* ranks_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
