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
  if (layer.sink_logits.size() != 0)
    require_shape("MultiHeadAttention: sink_logits", TensorView<T, 1>(layer.sink_logits), "[H]",
                  {layer.heads.count()});
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

// What the inputs of a layer may be: a lazy projection takes every size.
template <class T>
[[nodiscard]] Index input_size_of(const Linear<T>& linear) {
  return linear.is_lazy() ? any_size : linear.in_features();
}

// Throws unless the inputs fit each other and the layer.
template <class T>
void require_padded_inputs(const LayerParts<T>& layer, const LayerInputs<T>& inputs) {
  const auto& queries = inputs.queries;
  const auto& keys = inputs.keys;
  require_shape("queries", queries, "[B, Q, query_size]",
                {any_size, any_size, input_size_of(layer.W_q)});
  const Index B = queries.dimension(0);
  require_shape("keys", keys, "[B, K, key_size]", {B, any_size, input_size_of(layer.W_k)});
  require_shape("values", inputs.values, "[B, K, value_size]",
                {B, keys.dimension(1), input_size_of(layer.W_v)});
}
template <class T>
void require_packed_input(const char* name, TensorView<T, 3> x, const Sequences& sequences,
                          const Linear<T>& linear, const char* axes) {
  const TensorView<T, 2> rows(x.data(), {x.dimension(1), x.dimension(2)});
  require_rows(name, rows, sequences);
  require_shape(name, rows, axes, {any_size, input_size_of(linear)});
}
template <class T>
void require_packed_inputs(const LayerParts<T>& layer, const LayerInputs<T>& inputs) {
  const Sequences &of_queries = *inputs.query_sequences, &of_keys = *inputs.key_sequences;
  if (of_queries.count() != of_keys.count())
    refuse({"the queries are of ", of_queries.count(), " sequences, the keys of ", of_keys.count(),
            "; expected as many"});
  require_packed_input("queries", inputs.queries, of_queries, layer.W_q, "[N, query_size]");
  require_packed_input("keys", inputs.keys, of_keys, layer.W_k, "[N, key_size]");
  require_packed_input("values", inputs.values, of_keys, layer.W_v, "[N, value_size]");
}

// Throws unless the rotary's table has the positions of all queries and of all keys that are seen.
template <class T>
void require_positions(const Rotary<T>& rotary, const BoundMask& mask) {
  for (Index b = 0; b < mask.query_rows().count(); ++b) {
    const Index count = mask.query_count(b);
    if (count > 0) rotary.require_position("queries", b, mask.aligned(b, count - 1));
    rotary.require_position("keys", b, mask.seen_keys(b).end - 1);
  }
}

// The call, if all of its parts fit each other and the layer.
template <class T>
[[nodiscard]] LayerCall<T> checked_call(const LayerParts<T>& layer, Index head_size,
                                        Index num_hiddens, const LayerInputs<T>& inputs,
                                        const Mask& mask) {
  const Index H = layer.heads.count(), G = layer.heads.kv_count(), D = head_size;
  require_projections(layer, head_size, num_hiddens);
  if (inputs.is_packed())
    require_packed_inputs(layer, inputs);
  else
    require_padded_inputs(layer, inputs);
  const SequenceRows queries = rows_of(inputs.query_sequences, inputs.queries),
                     keys = rows_of(inputs.key_sequences, inputs.keys);
  require_size<T>("the heads' queries", std::array{queries.total(), H, D});
  require_size<T>("the heads' keys", std::array{keys.total(), G, D});
  layer.gates.require_fits(queries.count(), H);
  LayerCall<T> call{.queries = inputs.queries,
                    .keys = inputs.keys,
                    .values = inputs.values,
                    .shape = {queries.count(), H, G, queries.longest(), keys.longest(), D, D},
                    .num_hiddens = num_hiddens,
                    .mask = BoundMask(mask, queries, keys, layer.heads.original_count())};
  if (layer.rotary != nullptr) require_positions(*layer.rotary, call.mask);
  return call;
}

// The output may be the queries themselves, but may overlap no input otherwise.
template <class T>
void require_output(const LayerCall<T>& call, TensorView<T, 3> output) {
  const bool is_packed = call.mask.is_packed();
  require_shape("output", output, is_packed ? "[1, N, num_hiddens]" : "[B, Q, num_hiddens]",
                call.output_shape());
  require_same_or_disjoint("output", output, "queries", call.queries);
  require_disjoint("output", output, "keys", call.keys);
  require_disjoint("output", output, "values", call.values);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
