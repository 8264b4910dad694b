// SPDX-License-Identifier: MIT
#pragma once
// Cross-attention to what does not change, such as what an encoder made of a sentence: its keys and
// values are projected, and packed as the kernels read them, once, and then read by any number of calls.
//   const KeyValues<float> memory = layer.project(encoded, encoded, lengths);   // [B, K, E]
//   Tensor<float, 3> y = layer.attend(queries, memory);                         // [B, Q, num_hiddens]
// Each row has the bits of layer(queries, encoded, encoded, {.key_lens = lengths}).
#include <utility>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>                 // refuse
#include <eigenheads/layer/key_values.hpp>      // ProjectedKeys, run_projection, run_attend
#include <eigenheads/multi_head_attention.hpp>  // MultiHeadAttention

namespace eigenheads::inline EIGENHEADS_ABI {

// Made by MultiHeadAttention::project, for that layer's attend, and never changed: any number of
// threads may read it at once. Its numbers are stored as project was told. Not copied but by name. One
// that was moved from has no sequences, and calls refuse it.
template <Scalar T>
class KeyValues {
 public:
  explicit KeyValues(detail::ProjectedKeys<T> parts) : parts_(std::move(parts)) {}

  [[nodiscard]] Index batch_size() const { return parts_.heads.size().sequences; }
  [[nodiscard]] Index num_kv_heads() const { return parts_.heads.size().heads; }
  [[nodiscard]] Index head_size() const { return parts_.heads.size().head_size; }
  [[nodiscard]] Index bytes() const { return parts_.heads.bytes(); }
  [[nodiscard]] Index num_keys() const { return parts_.K; }  // of the longest, padding among them
  [[nodiscard]] Index length(Index b) const {                // keys of sequence b
    if (b < 0 || b >= batch_size())
      detail::refuse(
          {"length: there is no sequence ", b, "; expected 0 to less than ", batch_size()});
    return parts_.count(b);
  }

  // Another with memory of its own.
  [[nodiscard]] KeyValues copy() const {
    return KeyValues({parts_.heads.copy(), parts_.K, parts_.counts});
  }

  // As a layer's calls see it (layer/key_values.hpp).
  [[nodiscard]] const detail::ProjectedKeys<T>& parts() const { return parts_; }

 private:
  detail::ProjectedKeys<T> parts_;
};

#include <eigenheads/layer/key_values.inl>

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
