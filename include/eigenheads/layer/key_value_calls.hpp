// SPDX-License-Identifier: MIT
#pragma once
// The calls of MultiHeadAttention that project keys and values once, and read them. They are defined
// where <eigenheads/key_values.hpp> is included.
#include <eigenheads/attention_result.hpp>  // AttentionOutput
#include <eigenheads/call_options.hpp>      // CallOptions
#include <eigenheads/context.hpp>           // Context
#include <eigenheads/detail/arena.hpp>      // Frame
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/layer/forward.hpp>  // LayerCall
#include <eigenheads/mask.hpp>           // Mask
#include <eigenheads/sequences.hpp>      // Sequences
#include <eigenheads/storage.hpp>        // StoredAs, checked_storage
#include <eigenheads/tensor.hpp>         // TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI {

template <Scalar T>
class MultiHeadAttention;
template <Scalar T>
class KeyValues;

namespace detail {

template <class T>
struct KeyInputs;

template <Scalar T>
class KeyValueCalls {
 public:
  // keys: [B, K, key_size], values: [B, K, value_size], of which sequence b has the first lengths[b],
  // or all. What lies beyond is not read. Keys of heads with a gate of 0 are projected too. Throws
  // std::invalid_argument if a tensor or the lengths, [B], do not fit, std::logic_error if the layer
  // is lazy.
  //   layer.project<BFloat16>(keys, values) stores them in 16 bits, as a KvCache<float, BFloat16> does.
  template <class Storage = T>
  [[nodiscard]] KeyValues<T> project(TensorView<T, 3> keys, TensorView<T, 3> values,
                                     const ValidLens& lengths = {},
                                     Context& context = default_context()) const {
    return project_checked({keys, values}, lengths, checked_storage<T, Storage>(), context);
  }
  // Packed sequences: keys: [N, key_size], values: [N, value_size].
  template <class Storage = T, TensorOfRank<2> Keys, TensorOfRank<2> Values>
  [[nodiscard]] KeyValues<T> project(const Keys& keys, const Values& values,
                                     const Sequences& sequences,
                                     Context& context = default_context()) const {
    return project_checked({as_block<T>(keys), as_block<T>(values), &sequences}, {},
                           checked_storage<T, Storage>(), context);
  }

  // queries: [B, Q, query_size] -> [B, Q, num_hiddens], with the bits of the call with those keys and
  // values, and lengths as key_lens in its mask. The mask says the rest of what it says there. Queries
  // and keys may be packed or not, each for itself. Throws std::invalid_argument, before anything is
  // computed, if the queries, the keys, the mask or the score function do not fit.
  [[nodiscard]] Tensor<T, 3> attend(TensorView<T, 3> queries, const KeyValues<T>& keys,
                                    const Mask& mask = {},
                                    const CallOptions<T>& options = {}) const;
  // The same into `output`, which may be the queries themselves. Allocates nothing once the context
  // has seen such a call.
  void attend_into(TensorSpan<T, 3> output, TensorView<T, 3> queries, const KeyValues<T>& keys,
                   const Mask& mask = {}, const CallOptions<T>& options = {}) const;
  // The same output to the bit, and every head's weights, [B, H, Q, K].
  [[nodiscard]] AttentionOutput<T> attend_with_weights(TensorView<T, 3> queries,
                                                       const KeyValues<T>& keys,
                                                       const Mask& mask = {},
                                                       const CallOptions<T>& options = {}) const;

  // Packed queries: [N, query_size] -> [N, num_hiddens].
  [[nodiscard]] Tensor<T, 2> attend(TensorView<T, 2> queries, const Sequences& sequences,
                                    const KeyValues<T>& keys, const Mask& mask = {},
                                    const CallOptions<T>& options = {}) const;
  void attend_into(TensorSpan<T, 2> output, TensorView<T, 2> queries, const Sequences& sequences,
                   const KeyValues<T>& keys, const Mask& mask = {},
                   const CallOptions<T>& options = {}) const;
  [[nodiscard]] PackedAttentionOutput<T> attend_with_weights(
      TensorView<T, 2> queries, const Sequences& sequences, const KeyValues<T>& keys,
      const Mask& mask = {}, const CallOptions<T>& options = {}) const;

 private:
  [[nodiscard]] const MultiHeadAttention<T>& layer() const {
    return static_cast<const MultiHeadAttention<T>&>(*this);
  }
  [[nodiscard]] KeyValues<T> project_checked(const KeyInputs<T>& inputs, const ValidLens& lengths,
                                             StoredAs stored_as, Context& context) const;
  [[nodiscard]] LayerCall<T> attend_call(TensorView<T, 3> queries, const Sequences* sequences,
                                         const KeyValues<T>& keys, const Mask& mask,
                                         const ScoreRef<T>& score) const;
};

}  // namespace detail
}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
