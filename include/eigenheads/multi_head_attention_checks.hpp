// SPDX-License-Identifier: MIT
#pragma once
// What a MultiHeadAttention refuses, and the sentences. Included by multi_head_attention.hpp.
#include <stdexcept>
#include <string>
#include <utility>

#include <eigenheads/mask.hpp>                  // BoundMask
#include <eigenheads/multi_head_attention.hpp>  // MultiHeadAttention
#include <eigenheads/shape.hpp>                 // require_shape, require_disjoint, refuse

namespace eigenheads::inline EIGENHEADS_ABI {

template <Scalar T>
void MultiHeadAttention<T>::require_size(const char* name, Index size, const Linear<T>& linear) {
  if (linear.is_lazy() ? size < 1 : size != linear.in_features())
    detail::refuse({"MultiHeadAttention: ", name, " is ", size, "; expected ",
                    (linear.is_lazy() ? "1 or more" : std::to_string(linear.in_features()))});
}

// The projections are public, so a caller may have put others in their place.
template <Scalar T>
void MultiHeadAttention<T>::require_projections() const {
  const auto require = [](const char* name, const char* size, Index got, Index expected) {
    if (got != expected)
      detail::refuse(
          {"MultiHeadAttention: ", name, ".", size, " is ", got, "; expected ", expected});
  };
  const Index heads = num_heads() * head_size(), kv_heads = num_kv_heads() * head_size();
  require("W_q", "out_features", W_q.out_features(), heads);
  require("W_k", "out_features", W_k.out_features(), kv_heads);
  require("W_v", "out_features", W_v.out_features(), kv_heads);
  require("W_o", "in_features", W_o.in_features(), heads);
  require("W_o", "out_features", W_o.out_features(), num_hiddens());
}

template <Scalar T>
void MultiHeadAttention<T>::require_initialized() const {
  for (const auto& [name, linear] :
       {std::pair{"W_q", &W_q}, std::pair{"W_k", &W_k}, std::pair{"W_v", &W_v}})
    if (linear->is_lazy())
      detail::refuse<std::logic_error>(
          {"MultiHeadAttention: the input size of ", name,
           " is not known yet; call initialize(query_size, key_size, value_size), or call the "
           "layer once while it is not const"});
}

template <Scalar T>
void MultiHeadAttention<T>::Call::require_output(TensorView<T, 3> output) const {
  require_shape("output", output, "[B, Q, num_hiddens]", output_shape());
  if (output.data() != queries.data() || output.dimensions() != queries.dimensions())
    detail::require_disjoint("output", output, "queries", queries);
  detail::require_disjoint("output", output, "keys", keys);
  detail::require_disjoint("output", output, "values", values);
}

template <Scalar T>
typename MultiHeadAttention<T>::Call MultiHeadAttention<T>::checked(TensorView<T, 3> queries,
                                                                    TensorView<T, 3> keys,
                                                                    TensorView<T, 3> values,
                                                                    const Mask& mask) const {
  const Index H = num_heads(), G = num_kv_heads(), D = head_size();
  require_projections();
  const auto size_of = [](const Linear<T>& linear) {
    return linear.is_lazy() ? any_size : linear.in_features();
  };
  require_shape("queries", queries, "[B, Q, query_size]", {any_size, any_size, size_of(W_q)});
  const Index B = queries.dimension(0), Q = queries.dimension(1), K = keys.dimension(1);
  require_shape("keys", keys, "[B, K, key_size]", {B, any_size, size_of(W_k)});
  require_shape("values", values, "[B, K, value_size]", {B, K, size_of(W_v)});
  gates_.require_fits(B, H);
  return {queries,
          keys,
          values,
          {B, H, G, Q, K, D, D},
          num_hiddens(),
          BoundMask(mask, B, Q, K, num_heads_made()),
          {}};
}

}  // namespace eigenheads::inline EIGENHEADS_ABI
