// SPDX-License-Identifier: MIT
#pragma once
// Layers of a transformer's encoder one after the other, and a norm after the last if it is wanted
// (where the layers' norms come first, nothing else is normalised at the end).
//   TransformerEncoder<float> encoder({.layer = {.num_hiddens = 384, .num_heads = 12,
//                                                .feed_forward_size = 1536}, .num_layers = 6});
//   y = encoder(x, sequences);
#include <cstddef>
#include <cstdint>
#include <utility>

#include <eigenheads/call_options.hpp>  // CallOptions, TrainingOptions
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/mask.hpp>                          // Mask
#include <eigenheads/nn/detail/transformer_stack.hpp>   // TransformerStack
#include <eigenheads/nn/transformer_encoder_layer.hpp>  // TransformerEncoderLayer
#include <eigenheads/nn/transformer_weights.hpp>        // TransformerEncoderOutput
#include <eigenheads/sequences.hpp>                     // Sequences
#include <eigenheads/tensor.hpp>                        // Tensor, TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI {

template <Scalar T, class Storage>
class TransformerCache;

using TransformerEncoderOptions = TransformerStackOptions;

template <Scalar T>
using TransformerEncoderActivations =
    detail::StackActivations<T, TransformerEncoderLayerActivations<T>>;
template <Scalar T>
using TransformerEncoderGradients = detail::StackGradients<T, TransformerEncoderLayerGradients<T>>;

// What it has (layers, norm, for_each_parameter) stands in nn/detail/transformer_stack.hpp.
template <Scalar T>
class TransformerEncoder : public detail::TransformerStack<T, TransformerEncoderLayer<T>> {
  using Stack = detail::TransformerStack<T, TransformerEncoderLayer<T>>;

 public:
  using Activations = TransformerEncoderActivations<T>;
  using Gradients = TransformerEncoderGradients<T>;

  // Weights depend on (seed, parameter name, sizes) alone. Throws std::invalid_argument for invalid
  // options.
  explicit TransformerEncoder(const TransformerEncoderOptions& options, std::uint64_t seed = 0)
      : Stack("TransformerEncoder", options, seed) {}

  // As a layer's calls: x is [B, L, E]; or packed: [N, E], the rows of all sequences. Mask and score
  // function are every layer's.
  template <TensorOfRank<3> X>
  [[nodiscard]] Tensor<T, 3> operator()(const X& x, const Mask& mask = {},
                                        const CallOptions<T>& options = {}) const {
    return Stack::run(TensorView<T, 3>(x), options, mask);
  }
  template <TensorOfRank<2> X>
  [[nodiscard]] Tensor<T, 2> operator()(const X& x, const Sequences& sequences,
                                        const Mask& mask = {},
                                        const CallOptions<T>& options = {}) const {
    return Stack::run(TensorView<T, 2>(x), options, sequences, mask);
  }
  // The same into y, which may be x itself, but may not overlap it otherwise. Allocates nothing once
  // the context has seen such a call.
  template <TensorOfRank<3> Y, TensorOfRank<3> X>
  void forward_into(Y&& y, const X& x, const Mask& mask = {},
                    const CallOptions<T>& options = {}) const {
    Stack::run_into(TensorSpan<T, 3>(y), TensorView<T, 3>(x), options, mask);
  }
  template <TensorOfRank<2> Y, TensorOfRank<2> X>
  void forward_into(Y&& y, const X& x, const Sequences& sequences, const Mask& mask = {},
                    const CallOptions<T>& options = {}) const {
    Stack::run_into(TensorSpan<T, 2>(y), TensorView<T, 2>(x), options, sequences, mask);
  }

  // The same output to the bit, and the weights of each layer.
  template <TensorOfRank<3> X>
  [[nodiscard]] TransformerEncoderOutput<T> with_weights(const X& x, const Mask& mask = {},
                                                         const CallOptions<T>& options = {}) const {
    return call_with_weights(TensorView<T, 3>(x), options, mask);
  }
  template <TensorOfRank<2> X>
  [[nodiscard]] TransformerEncoderOutput<T, 2> with_weights(
      const X& x, const Sequences& sequences, const Mask& mask = {},
      const CallOptions<T>& options = {}) const {
    return call_with_weights(TensorView<T, 2>(x), options, sequences, mask);
  }

  // ---- Decoding: include <eigenheads/nn/transformer_cache.hpp> -----------------------------------

  // As a layer's steps, with a TransformerCache, which has a cache for each layer.
  template <TensorOfRank<3> X, class Storage>
  [[nodiscard]] Tensor<T, 3> step(const X& x, TransformerCache<T, Storage>& cache,
                                  const Mask& mask = {}, const CallOptions<T>& options = {}) const {
    auto y = detail::make_tensor<T>("y", TensorView<T, 3>(x).dimensions());
    step_into(y, x, cache, mask, options);
    return y;
  }
  template <TensorOfRank<2> X, class Storage>
  [[nodiscard]] Tensor<T, 2> step(const X& x, const Sequences& sequences,
                                  TransformerCache<T, Storage>& cache, const Mask& mask = {},
                                  const CallOptions<T>& options = {}) const {
    auto y = detail::make_tensor<T>("y", TensorView<T, 2>(x).dimensions());
    step_into(y, x, sequences, cache, mask, options);
    return y;
  }
  template <TensorOfRank<3> Y, TensorOfRank<3> X, class Storage>
  void step_into(Y&& y, const X& x, TransformerCache<T, Storage>& cache, const Mask& mask = {},
                 const CallOptions<T>& options = {}) const {
    Stack::take_steps(TensorSpan<T, 3>(y), TensorView<T, 3>(x), cache, options.context.get(),
                      [&](std::size_t i, const auto& to, const auto& from, auto& of_layer) {
                        this->layers[i].step_into(to, from, of_layer, mask, options);
                      });
  }
  template <TensorOfRank<2> Y, TensorOfRank<2> X, class Storage>
  void step_into(Y&& y, const X& x, const Sequences& sequences, TransformerCache<T, Storage>& cache,
                 const Mask& mask = {}, const CallOptions<T>& options = {}) const {
    Stack::take_steps(TensorSpan<T, 2>(y), TensorView<T, 2>(x), cache, options.context.get(),
                      [&](std::size_t i, const auto& to, const auto& from, auto& of_layer) {
                        this->layers[i].step_into(to, from, sequences, of_layer, mask, options);
                      });
  }

  template <TensorOfRank<3> X, class Storage>
  [[nodiscard]] TransformerEncoderOutput<T> step_with_weights(
      const X& x, TransformerCache<T, Storage>& cache, const Mask& mask = {},
      const CallOptions<T>& options = {}) const {
    return take_steps_with_weights(TensorView<T, 3>(x), cache, mask, options);
  }
  template <TensorOfRank<2> X, class Storage>
  [[nodiscard]] TransformerEncoderOutput<T, 2> step_with_weights(
      const X& x, const Sequences& sequences, TransformerCache<T, Storage>& cache,
      const Mask& mask = {}, const CallOptions<T>& options = {}) const {
    return take_steps_with_weights(TensorView<T, 2>(x), cache, mask, options, sequences);
  }

  // ---- Training: as a layer's --------------------------------------------------------------------

  template <TensorOfRank<3> X>
  Tensor<T, 3> forward(const X& x, const Mask& mask, Activations& saved,
                       const TrainingOptions<T>& options = {}) const {
    return Stack::train(TensorView<T, 3>(x), saved, options, mask);
  }
  template <TensorOfRank<2> X>
  Tensor<T, 2> forward(const X& x, const Sequences& sequences, const Mask& mask, Activations& saved,
                       const TrainingOptions<T>& options = {}) const {
    return Stack::train(TensorView<T, 2>(x), saved, options, sequences, mask);
  }
  template <detail::TensorLike Y>
  [[nodiscard]] Gradients backward(const Y& grad_y, const Activations& saved,
                                   Context& context = default_context()) const {
    Gradients gradients;
    backward_into(gradients, grad_y, saved, false, context);
    return gradients;
  }
  template <detail::TensorLike Y>
  void backward_into(Gradients& gradients, const Y& grad_y, const Activations& saved,
                     bool accumulate = false, Context& context = default_context()) const {
    Stack::undo(gradients, TensorView<T, rank_of<Y>>(grad_y), saved, accumulate, context);
  }

 private:
  // rest: what stands between x and the options in a call of a layer.
  template <int Rank, class... Rest>
  [[nodiscard]] TransformerEncoderOutput<T, Rank> call_with_weights(TensorView<T, Rank> x,
                                                                    const CallOptions<T>& options,
                                                                    const Rest&... rest) const {
    TransformerEncoderOutput<T, Rank> result;
    result.output =
        Stack::run_with_weights(x, options.context.get(), [&](std::size_t i, const auto& rows) {
          auto of_layer = this->layers[i].with_weights(rows, rest..., options);
          result.weights.push_back(std::move(of_layer.weights));
          return std::move(of_layer.output);
        });
    return result;
  }
  // sequences: of packed tokens, or nothing.
  template <int Rank, class Cache, class... Of>
  [[nodiscard]] TransformerEncoderOutput<T, Rank> take_steps_with_weights(
      TensorView<T, Rank> x, Cache& cache, const Mask& mask, const CallOptions<T>& options,
      const Of&... sequences) const {
    TransformerEncoderOutput<T, Rank> result;
    result.output = Stack::take_steps_with_weights(
        x, cache, options.context.get(), [&](std::size_t i, const auto& rows, auto& layer_cache) {
          auto of_layer =
              this->layers[i].step_with_weights(rows, sequences..., layer_cache, mask, options);
          result.weights.push_back(std::move(of_layer.weights));
          return std::move(of_layer.output);
        });
    return result;
  }
};

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
