// SPDX-License-Identifier: MIT
#pragma once
// The calls of MultiHeadAttention that go on from the tokens of a cache. They are defined where
// <eigenheads/kv_cache.hpp> is included.
#include <eigenheads/attention_result.hpp>  // AttentionOutput
#include <eigenheads/call_options.hpp>      // CallOptions
#include <eigenheads/context.hpp>           // Context
#include <eigenheads/detail/arena.hpp>      // Frame
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/layer/forward.hpp>  // LayerCall
#include <eigenheads/mask.hpp>           // Mask
#include <eigenheads/sequences.hpp>      // Sequences
#include <eigenheads/tensor.hpp>         // TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI {

template <Scalar T>
class MultiHeadAttention;
template <Scalar T>
class AnyKvCache;

namespace detail {

template <class T>
struct StepInputs;

template <Scalar T>
class StepCalls {
 public:
  // x: [B, n, E], the next n tokens of every sequence -> [B, n, num_hiddens]. They attend to the
  // tokens that the cache (a KvCache<T>, whatever its storage) holds and, causally, to themselves, and
  // are in the cache afterwards: each row has the bits of one causal call over the whole sequence,
  // however it is cut into steps. Of the mask, a step takes window, sinks, prefix_lens and query_lens
  // (how many of the n tokens a sequence brings); the window and the sinks of a ring need not be said.
  // Keys of heads with a gate of 0 are kept too. Throws std::invalid_argument, with the cache as it was,
  // if x, the cache, the mask or the score function does not fit, or the cache has no room;
  // std::logic_error if the layer is lazy. What a score function throws leaves the cache as it was too,
  // but for a sequence that brings a ring more tokens at once than it has room for: the ring has let go
  // of what it held then, and is empty.
  [[nodiscard]] Tensor<T, 3> step(TensorView<T, 3> x, AnyKvCache<T>& cache, const Mask& mask = {},
                                  const CallOptions<T>& options = {}) const;
  [[nodiscard]] Tensor<T, 3> step(TensorView<T, 3> x, AnyKvCache<T>& cache,
                                  const CallOptions<T>& options) const {
    return step(x, cache, {}, options);
  }
  // The same into `y`, which may be x itself. Allocates nothing from the second such step on, up to
  // the cache's capacity.
  void step_into(TensorSpan<T, 3> y, TensorView<T, 3> x, AnyKvCache<T>& cache,
                 const Mask& mask = {}, const CallOptions<T>& options = {}) const;
  // The same output to the bit, and every head's weights, [B, H, n, K] for the K tokens of the
  // longest sequence, those of the step among them.
  [[nodiscard]] AttentionOutput<T> step_with_weights(TensorView<T, 3> x, AnyKvCache<T>& cache,
                                                     const Mask& mask = {},
                                                     const CallOptions<T>& options = {}) const;

  // Sequences that bring different numbers of tokens: x: [N, E] -> [N, num_hiddens].
  [[nodiscard]] Tensor<T, 2> step(TensorView<T, 2> x, const Sequences& sequences,
                                  AnyKvCache<T>& cache, const Mask& mask = {},
                                  const CallOptions<T>& options = {}) const;
  void step_into(TensorSpan<T, 2> y, TensorView<T, 2> x, const Sequences& sequences,
                 AnyKvCache<T>& cache, const Mask& mask = {},
                 const CallOptions<T>& options = {}) const;
  [[nodiscard]] PackedAttentionOutput<T> step_with_weights(
      TensorView<T, 2> x, const Sequences& sequences, AnyKvCache<T>& cache, const Mask& mask = {},
      const CallOptions<T>& options = {}) const;

 private:
  [[nodiscard]] const MultiHeadAttention<T>& layer() const {
    return static_cast<const MultiHeadAttention<T>&>(*this);
  }
  [[nodiscard]] LayerCall<T> step_call(const StepInputs<T>& inputs, const AnyKvCache<T>& cache,
                                       const Mask& mask, const CallOptions<T>& options,
                                       const Frame& frame) const;
};

}  // namespace detail
}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
