// SPDX-License-Identifier: MIT
#pragma once
// What a MultiHeadAttention refuses, and the sentences.
#include <array>
#include <stdexcept>
#include <string>
#include <utility>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/layer/forward.hpp>  // LayerParts, LayerCall
#include <eigenheads/shape.hpp>          // require_shape, require_disjoint, refuse

namespace eigenheads::inline EIGENHEADS_ABI::detail {

template <class T>
void require_input_size(const char* name, Index size, const Linear<T>& linear) {
  if (linear.is_lazy() ? size < 1 : size != linear.in_features())
    refuse({"MultiHeadAttention: ", name, " is ", size, "; expected ",
            (linear.is_lazy() ? "1 or more" : std::to_string(linear.in_features()))});
}

// The projections are public, so a caller may have put others in their place.
template <class T>
void require_projections(const LayerParts<T>& layer, Index head_size, Index num_hiddens) {
  const Index heads = layer.heads.count() * head_size,
              kv_heads = layer.heads.kv_count() * head_size;
  struct Size {
    const char* name;
    Index got, expected;
  };
  for (const Size& size : {Size{"W_q.out_features", layer.W_q.out_features(), heads},
                           Size{"W_k.out_features", layer.W_k.out_features(), kv_heads},
                           Size{"W_v.out_features", layer.W_v.out_features(), kv_heads},
                           Size{"W_o.in_features", layer.W_o.in_features(), heads},
                           Size{"W_o.out_features", layer.W_o.out_features(), num_hiddens}})
    if (size.got != size.expected)
      refuse({"MultiHeadAttention: ", size.name, " is ", size.got, "; expected ", size.expected});
}

template <class T>
void require_initialized(const LayerParts<T>& layer) {
  for (const auto& [name, linear] :
       {std::pair{"W_q", &layer.W_q}, std::pair{"W_k", &layer.W_k}, std::pair{"W_v", &layer.W_v}})
    if (linear->is_lazy())
      refuse<std::logic_error>(
          {"MultiHeadAttention: the input size of ", name,
           " is not known yet; call initialize(query_size, key_size, value_size), or call the "
           "layer once while it is not const"});
}

// A call may not draw weights for some projections where others were given theirs.
template <class T>
void require_none_was_set(const LayerParts<T>& layer) {
  const std::array parts{std::pair{"W_q", &layer.W_q}, std::pair{"W_k", &layer.W_k},
                         std::pair{"W_v", &layer.W_v}, std::pair{"W_o", &layer.W_o}};
  for (const auto& [set_name, set] : parts)
    for (const auto& [name, linear] : parts)
      if (set->was_set() && linear->is_lazy())
        refuse<std::logic_error>(
            {"MultiHeadAttention: ", set_name, " was given a weight, and ", name,
             " has none; set that too, or call initialize(query_size, key_size, value_size) "
             "before, to keep weights that are drawn"});
}

// The call, if all of its parts fit each other and the layer. A lazy projection takes inputs of
// every size.
template <class T>
[[nodiscard]] LayerCall<T> checked_call(const LayerParts<T>& layer, Index head_size,
                                        Index num_hiddens,
                                        const std::array<TensorView<T, 3>, 3>& inputs,
                                        const Mask& mask) {
  const auto& [queries, keys, values] = inputs;
  const Index H = layer.heads.count(), G = layer.heads.kv_count(), D = head_size;
  require_projections(layer, head_size, num_hiddens);
  const auto size_of = [](const Linear<T>& linear) {
    return linear.is_lazy() ? any_size : linear.in_features();
  };
  require_shape("queries", queries, "[B, Q, query_size]", {any_size, any_size, size_of(layer.W_q)});
  const Index B = queries.dimension(0), Q = queries.dimension(1), K = keys.dimension(1);
  require_shape("keys", keys, "[B, K, key_size]", {B, any_size, size_of(layer.W_k)});
  require_shape("values", values, "[B, K, value_size]", {B, K, size_of(layer.W_v)});
  require_size<T>("the heads' queries", std::array{B, Q, H, D});
  require_size<T>("the heads' keys", std::array{B, K, G, D});
  layer.gates.require_fits(B, H);
  return {.queries = queries,
          .keys = keys,
          .values = values,
          .shape = {B, H, G, Q, K, D, D},
          .num_hiddens = num_hiddens,
          .mask = BoundMask(mask, B, Q, K, layer.heads.original_count())};
}

// The output may be the queries themselves, but may overlap no input otherwise.
template <class T>
void require_output(const LayerCall<T>& call, TensorView<T, 3> output) {
  require_shape("output", output, "[B, Q, num_hiddens]", call.output_shape());
  if (output.data() != call.queries.data() || output.dimensions() != call.queries.dimensions())
    require_disjoint("output", output, "queries", call.queries);
  require_disjoint("output", output, "keys", call.keys);
  require_disjoint("output", output, "values", call.values);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
