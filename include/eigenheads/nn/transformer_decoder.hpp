// SPDX-License-Identifier: MIT
#pragma once
// Layers of a transformer's decoder one after the other, all of which read the same memory, and a norm
// after the last if it is wanted.
//   TransformerDecoder<float> decoder({.layer = {.num_hiddens = 384, .num_heads = 12,
//                                                .feed_forward_size = 1536}, .num_layers = 6});
//   y = decoder(x, sequences, encoder(z, memory_sequences), memory_sequences);
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include <eigenheads/call_options.hpp>  // CallOptions, TrainingOptions
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/nn/detail/transformer_stack.hpp>   // TransformerStack, add_elements
#include <eigenheads/nn/transformer_decoder_layer.hpp>  // TransformerDecoderLayer, DecoderMask
#include <eigenheads/nn/transformer_weights.hpp>        // TransformerDecoderOutput
#include <eigenheads/sequences.hpp>                     // Sequences
#include <eigenheads/tensor.hpp>                        // Tensor, TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI {

using TransformerDecoderOptions = TransformerStackOptions;

template <Scalar T>
using TransformerDecoderActivations =
    detail::StackActivations<T, TransformerDecoderLayerActivations<T>>;

// That of the memory is the sum of the layers': [B, K, M], or, packed, [1, R, M].
template <Scalar T>
struct TransformerDecoderGradients
    : detail::StackGradients<T, TransformerDecoderLayerGradients<T>> {
  Tensor<T, 3> memory{0, 0, 0};
};

template <Scalar T, class Storage>
class TransformerCache;

// What it has (layers, norm, for_each_parameter) stands in nn/detail/transformer_stack.hpp.
template <Scalar T>
class TransformerDecoder : public detail::TransformerStack<T, TransformerDecoderLayer<T>> {
  using Stack = detail::TransformerStack<T, TransformerDecoderLayer<T>>;

 public:
  using Activations = TransformerDecoderActivations<T>;
  using Gradients = TransformerDecoderGradients<T>;

  // Weights depend on (seed, parameter name, sizes) alone. Throws std::invalid_argument for invalid
  // options.
  explicit TransformerDecoder(const TransformerDecoderOptions& options, std::uint64_t seed = 0)
      : Stack("TransformerDecoder", options, seed) {}

  // As a layer's calls: x: [B, L, E], memory: [B, K, M]; or packed: x: [N, E], memory: [R, M], the rows
  // of as many sequences. Masks and score function are every layer's.
  template <TensorOfRank<3> X>
  [[nodiscard]] Tensor<T, 3> operator()(const X& x, TensorView<T, 3> memory,
                                        const DecoderMask& masks = {},
                                        const CallOptions<T>& options = {}) const {
    return Stack::run(TensorView<T, 3>(x), options, memory, masks);
  }
  template <TensorOfRank<2> X>
  [[nodiscard]] Tensor<T, 2> operator()(const X& x, const Sequences& sequences,
                                        TensorView<T, 2> memory, const Sequences& memory_sequences,
                                        const DecoderMask& masks = {},
                                        const CallOptions<T>& options = {}) const {
    return Stack::run(TensorView<T, 2>(x), options, sequences, memory, memory_sequences, masks);
  }
  // The same into y, which may be x itself, but may not overlap an input otherwise. Allocates nothing
  // once the context has seen such a call.
  template <TensorOfRank<3> Y, TensorOfRank<3> X>
  void forward_into(Y&& y, const X& x, TensorView<T, 3> memory, const DecoderMask& masks = {},
                    const CallOptions<T>& options = {}) const {
    Stack::run_into(TensorSpan<T, 3>(y), TensorView<T, 3>(x), options, memory, masks);
  }
  template <TensorOfRank<2> Y, TensorOfRank<2> X>
  void forward_into(Y&& y, const X& x, const Sequences& sequences, TensorView<T, 2> memory,
                    const Sequences& memory_sequences, const DecoderMask& masks = {},
                    const CallOptions<T>& options = {}) const {
    Stack::run_into(TensorSpan<T, 2>(y), TensorView<T, 2>(x), options, sequences, memory,
                    memory_sequences, masks);
  }

  // The same output to the bit, and the weights of each layer.
  template <TensorOfRank<3> X>
  [[nodiscard]] TransformerDecoderOutput<T> with_weights(const X& x, TensorView<T, 3> memory,
                                                         const DecoderMask& masks = {},
                                                         const CallOptions<T>& options = {}) const {
    return call_with_weights(TensorView<T, 3>(x), options, memory, masks);
  }
  template <TensorOfRank<2> X>
  [[nodiscard]] TransformerDecoderOutput<T, 2> with_weights(
      const X& x, const Sequences& sequences, TensorView<T, 2> memory,
      const Sequences& memory_sequences, const DecoderMask& masks = {},
      const CallOptions<T>& options = {}) const {
    return call_with_weights(TensorView<T, 2>(x), options, sequences, memory, memory_sequences,
                             masks);
  }

  // ---- Decoding: include <eigenheads/nn/transformer_cache.hpp> and <eigenheads/key_values.hpp> ---

  // memory: [B, K, M] -> what the steps of each layer read of it, of which sequence b has lengths[b]
  // rows, or all; or packed: memory: [R, M]. project<BFloat16>(memory) stores it in 16 bits.
  template <class Storage = T, TensorOfRank<3> Memory>
  [[nodiscard]] std::vector<KeyValues<T>> project(const Memory& memory,
                                                  const ValidLens& lengths = {},
                                                  Context& context = default_context()) const {
    const TensorView<T, 3> rows(memory);
    std::vector<KeyValues<T>> projected;
    for (const auto& layer : this->layers)
      projected.push_back(
          layer.cross_attention.template project<Storage>(rows, rows, lengths, context));
    return projected;
  }
  template <class Storage = T, TensorOfRank<2> Memory>
  [[nodiscard]] std::vector<KeyValues<T>> project(const Memory& memory, const Sequences& sequences,
                                                  Context& context = default_context()) const {
    std::vector<KeyValues<T>> projected;
    for (const auto& layer : this->layers)
      projected.push_back(
          layer.cross_attention.template project<Storage>(memory, memory, sequences, context));
    return projected;
  }
  // As a layer's steps, with a TransformerCache, which has a cache for each layer.
  template <TensorOfRank<3> Y, TensorOfRank<3> X, class Storage>
  void step_into(Y&& y, const X& x, TransformerCache<T, Storage>& cache,
                 const std::vector<KeyValues<T>>& memory, const DecoderMask& masks = {},
                 const CallOptions<T>& options = {}) const {
    require_memory(memory);
    Stack::take_steps(TensorSpan<T, 3>(y), TensorView<T, 3>(x), cache, options.context.get(),
                      [&](std::size_t i, const auto& to, const auto& from, auto& of_layer) {
                        this->layers[i].step_into(to, from, of_layer, memory[i], masks, options);
                      });
  }
  template <TensorOfRank<2> Y, TensorOfRank<2> X, class Storage>
  void step_into(Y&& y, const X& x, const Sequences& sequences, TransformerCache<T, Storage>& cache,
                 const std::vector<KeyValues<T>>& memory, const DecoderMask& masks = {},
                 const CallOptions<T>& options = {}) const {
    require_memory(memory);
    Stack::take_steps(TensorSpan<T, 2>(y), TensorView<T, 2>(x), cache, options.context.get(),
                      [&](std::size_t i, const auto& to, const auto& from, auto& of_layer) {
                        this->layers[i].step_into(to, from, sequences, of_layer, memory[i], masks,
                                                  options);
                      });
  }

  template <TensorOfRank<3> X, class Storage>
  [[nodiscard]] Tensor<T, 3> step(const X& x, TransformerCache<T, Storage>& cache,
                                  const std::vector<KeyValues<T>>& memory,
                                  const DecoderMask& masks = {},
                                  const CallOptions<T>& options = {}) const {
    auto y = detail::make_tensor<T>("y", TensorView<T, 3>(x).dimensions());
    step_into(y, x, cache, memory, masks, options);
    return y;
  }
  template <TensorOfRank<2> X, class Storage>
  [[nodiscard]] Tensor<T, 2> step(const X& x, const Sequences& sequences,
                                  TransformerCache<T, Storage>& cache,
                                  const std::vector<KeyValues<T>>& memory,
                                  const DecoderMask& masks = {},
                                  const CallOptions<T>& options = {}) const {
    auto y = detail::make_tensor<T>("y", TensorView<T, 2>(x).dimensions());
    step_into(y, x, sequences, cache, memory, masks, options);
    return y;
  }
  template <TensorOfRank<3> X, class Storage>
  [[nodiscard]] TransformerDecoderOutput<T> step_with_weights(
      const X& x, TransformerCache<T, Storage>& cache, const std::vector<KeyValues<T>>& memory,
      const DecoderMask& masks = {}, const CallOptions<T>& options = {}) const {
    return take_steps_with_weights(TensorView<T, 3>(x), cache, memory, masks, options);
  }
  template <TensorOfRank<2> X, class Storage>
  [[nodiscard]] TransformerDecoderOutput<T, 2> step_with_weights(
      const X& x, const Sequences& sequences, TransformerCache<T, Storage>& cache,
      const std::vector<KeyValues<T>>& memory, const DecoderMask& masks = {},
      const CallOptions<T>& options = {}) const {
    return take_steps_with_weights(TensorView<T, 2>(x), cache, memory, masks, options, sequences);
  }

  // ---- Training: as a layer's --------------------------------------------------------------------

  template <TensorOfRank<3> X>
  Tensor<T, 3> forward(const X& x, TensorView<T, 3> memory, const DecoderMask& masks,
                       Activations& saved, const TrainingOptions<T>& options = {}) const {
    return Stack::train(TensorView<T, 3>(x), saved, options, memory, masks);
  }
  template <TensorOfRank<2> X>
  Tensor<T, 2> forward(const X& x, const Sequences& sequences, TensorView<T, 2> memory,
                       const Sequences& memory_sequences, const DecoderMask& masks,
                       Activations& saved, const TrainingOptions<T>& options = {}) const {
    return Stack::train(TensorView<T, 2>(x), saved, options, sequences, memory, memory_sequences,
                        masks);
  }
  template <detail::TensorLike Y>
  [[nodiscard]] Gradients backward(const Y& grad_y, const Activations& saved,
                                   Context& context = default_context()) const {
    Gradients gradients;
    backward_into(gradients, grad_y, saved, false, context);
    return gradients;
  }
  // Those of the parameters may be added to what `gradients` holds.
  template <detail::TensorLike Y>
  void backward_into(Gradients& gradients, const Y& grad_y, const Activations& saved,
                     bool accumulate = false, Context& context = default_context()) const {
    Stack::undo(gradients, TensorView<T, rank_of<Y>>(grad_y), saved, accumulate, context);
    // From the last layer to the first, in which order they are made.
    detail::assign("gradients.memory", gradients.memory, gradients.layers.back().memory);
    T* const sum = gradients.memory.data();
    for (std::size_t i = gradients.layers.size() - 1; i-- > 0;)
      detail::add_elements<T>(sum, gradients.layers[i].memory.data(), sum, gradients.memory.size(),
                              context);
  }

 private:
  template <int Rank>
  [[nodiscard]] static Tensor<T, Rank> keep(TransformerDecoderLayerOutput<T, Rank> of_layer,
                                            TransformerDecoderOutput<T, Rank>& result) {
    result.weights.push_back(std::move(of_layer.weights));
    result.memory_weights.push_back(std::move(of_layer.memory_weights));
    return std::move(of_layer.output);
  }
  // rest: what stands between x and the options in a call of a layer.
  template <int Rank, class... Rest>
  [[nodiscard]] TransformerDecoderOutput<T, Rank> call_with_weights(TensorView<T, Rank> x,
                                                                    const CallOptions<T>& options,
                                                                    const Rest&... rest) const {
    TransformerDecoderOutput<T, Rank> result;
    result.output =
        Stack::run_with_weights(x, options.context.get(), [&](std::size_t i, const auto& rows) {
          return keep<Rank>(this->layers[i].with_weights(rows, rest..., options), result);
        });
    return result;
  }
  // sequences: of packed tokens, or nothing.
  template <int Rank, class Cache, class... Of>
  [[nodiscard]] TransformerDecoderOutput<T, Rank> take_steps_with_weights(
      TensorView<T, Rank> x, Cache& cache, const std::vector<KeyValues<T>>& memory,
      const DecoderMask& masks, const CallOptions<T>& options, const Of&... sequences) const {
    require_memory(memory);
    TransformerDecoderOutput<T, Rank> result;
    result.output = Stack::take_steps_with_weights(
        x, cache, options.context.get(), [&](std::size_t i, const auto& rows, auto& layer_cache) {
          return keep<Rank>(this->layers[i].step_with_weights(rows, sequences..., layer_cache,
                                                              memory[i], masks, options),
                            result);
        });
    return result;
  }
  void require_memory(const std::vector<KeyValues<T>>& memory) const {
    if (memory.size() != this->layers.size())
      detail::refuse({"TransformerDecoder: memory is projected for ", memory.size(),
                      " layers; expected ", this->layers.size()});
  }
};

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
