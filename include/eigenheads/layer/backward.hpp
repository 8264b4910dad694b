// SPDX-License-Identifier: MIT
#pragma once
// The backward pass of a multi-head layer: it undoes the steps of forward.hpp from the last to the
// first.
#include <array>
#include <stdexcept>

#include <eigenheads/context.hpp>  // Context
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kernels/schedule/backward.hpp>         // attend_backward
#include <eigenheads/kernels/schedule/backward_packed.hpp>  // attend_backward_packed
#include <eigenheads/kernels/sink_gradients.hpp>            // SinkGradients
#include <eigenheads/layer/activations.hpp>                 // LayerActivations, LayerGradients
#include <eigenheads/layer/forward.hpp>                     // LayerParts, gate_heads
#include <eigenheads/shape.hpp>                             // fit_gradient

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// Throws std::logic_error unless the activations are those of a layer of these sizes and heads.
template <class T>
void require_activations(const LayerParts<T>& layer, const LayerActivations<T>& saved,
                         Index head_size) {
  if (!saved.is_saved())
    refuse<std::logic_error>(
        {"MultiHeadAttention: backward needs the activations of a forward call"});
  const auto& sizes = saved.input_sizes();
  if (saved.head_set() != layer.heads || saved.shape().D != head_size ||
      layer.W_q.in_features() != sizes[0] || layer.W_k.in_features() != sizes[1] ||
      layer.W_v.in_features() != sizes[2])
    refuse<std::logic_error>(
        {"MultiHeadAttention: the activations are those of a layer of other sizes or heads"});
}

[[nodiscard]] inline std::array<Index, 4> bias_shape_of(const auto* bias) {
  return bias == nullptr ? std::array<Index, 4>{} : bias->shape();
}

// Give gradients their shapes, or, if they are added to, refuse others: those of the parameters and of
// the scores' bias, and all.
template <class T>
void fit_parameter_gradients(const LayerParts<T>& layer, const LayerActivations<T>& saved,
                             LayerGradients<T>& gradients, bool accumulate) {
  fit_gradient("gradients.score_bias", gradients.score_bias, "the bias'",
               bias_shape_of(saved.score().last_bias()), accumulate);
  fit_gradient("gradients.sink_logits", gradients.sink_logits, "[H] or none",
               {layer.sink_logits.size()}, accumulate);
  layer.W_q.fit(gradients.W_q, accumulate);
  layer.W_k.fit(gradients.W_k, accumulate);
  layer.W_v.fit(gradients.W_v, accumulate);
  layer.W_o.fit(gradients.W_o, accumulate);
}
template <class T>
void fit_gradients(const LayerParts<T>& layer, const LayerActivations<T>& saved,
                   LayerGradients<T>& gradients, bool accumulate) {
  const auto& shape = saved.shape();
  const SequenceRows queries = saved.query_rows(), keys = saved.key_rows();
  const auto [query_size, key_size, value_size] = saved.input_sizes();
  fit_gradient("gradients.queries", gradients.queries, "[B, Q, query_size]",
               {queries.blocks(), queries.rows_per_block(), query_size}, accumulate);
  fit_gradient("gradients.keys", gradients.keys, "[B, K, key_size]",
               {keys.blocks(), keys.rows_per_block(), key_size}, accumulate);
  fit_gradient("gradients.values", gradients.values, "[B, K, value_size]",
               {keys.blocks(), keys.rows_per_block(), value_size}, accumulate);
  fit_gradient("gradients.gates", gradients.gates, "[B, H]", {shape.B, shape.H}, accumulate);
  fit_parameter_gradients(layer, saved, gradients, accumulate);
  if (accumulate) return;
  gradients.score_bias.setZero();
  gradients.gates.setZero();
}

// The gradients of what lies between the steps.
template <class T>
struct HeadGradients {
  T *heads, *q, *k, *v;  // [B, Q, H * V], [B, Q, H * D], [B, K, G * D], [B, K, G * V]
};

// heads = attention(q, k, v)
template <class T>
void attend_heads_backward(const LayerActivations<T>& saved, const BoundMask& mask, const T* sinks,
                           const HeadGradients<T>& grad, LayerGradients<T>& gradients,
                           bool accumulate, Context& context) {
  using Layout = StridedMatrix<T>;
  using ConstLayout = StridedMatrix<const T>;
  const auto [B, H, G, Q, K, D, V] = saved.shape();
  const SequenceRows &queries = mask.query_rows(), &keys = mask.key_rows();
  ScoreBackward<T> score = saved.score().backward();
  if (const auto* bias = saved.score().last_bias(); bias != nullptr) {
    score.bias_strides = bias->strides();
    score.bias_plane_size = bias->shape()[2] * bias->shape()[3];
    if (gradients.score_bias.size() > 0) score.grad_bias = gradients.score_bias.data();
  }
  const Frame frame(context);
  const SinkGradients of_sinks(sinks != nullptr, saved.shape(), frame);
  const AttentionBackwardCall<T> call{
      .shape = saved.shape(),
      .scale = default_scale<T>(D),
      .mask = &mask,
      .queries = ConstLayout::heads_apart(saved.q().data(), queries, H, D),
      .keys = ConstLayout::heads_apart(saved.k().data(), keys, G, D),
      .values = ConstLayout::heads_apart(saved.v().data(), keys, G, V),
      .lse = ConstLayout::heads_apart(saved.lse().data(), queries, H, 1),
      .output = ConstLayout::heads_together(saved.heads().data(), queries, H, V),
      .grad_output = ConstLayout::heads_together(grad.heads, queries, H, V),
      .grad_queries = Layout::heads_together(grad.q, queries, H, D),
      .grad_keys = Layout::heads_together(grad.k, keys, G, D),
      .grad_values = Layout::heads_together(grad.v, keys, G, V),
      .dropout = saved.dropout(),
      .score = score,
      // All heads: the gradient of a gate needs its head's output, whatever the gate is.
      .heads = head_table<T>(
          {saved.shape(), mask, saved.head_set(), saved.head_gates(), Mode::training}, frame),
      .gates = saved.head_gates().table(),
      .sinks = sinks,
      .grad_gates = gradients.gates.data(),
      .grad_sinks = of_sinks.of_each()};
  if (mask.is_packed())
    attend_backward_packed(call, context);
  else
    attend_backward(call, context);
  of_sinks.sum_into(gradients.sink_logits.data(), accumulate);
}

template <class T>
void run_layer_backward(const LayerParts<T>& layer, const LayerActivations<T>& saved,
                        TensorView<T, 3> grad_output, LayerGradients<T>& gradients, bool accumulate,
                        Context& context) {
  const auto [B, H, G, Q, K, D, V] = saved.shape();
  const BoundMask mask = saved.bound_mask(layer.heads.original_count());
  const SequenceRows &queries = mask.query_rows(), &keys = mask.key_rows();
  const Frame frame(context);
  const HeadGradients<T> grad{.heads = frame.take<T>(queries.total() * H * V),
                              .q = frame.take<T>(queries.total() * H * D),
                              .k = frame.take<T>(keys.total() * G * D),
                              .v = frame.take<T>(keys.total() * G * V)};
  const auto undo = [&](const Linear<T>& linear, const typename Linear<T>::Backward& call,
                        LinearGradients<T>& of) { linear.backward(call, of, accumulate, context); };
  // output = W_o (g heads)
  {
    const Frame gated(context);
    const Range all{0, layer.W_o.out_features()};
    undo(layer.W_o,
         {.x = gate_heads(saved.heads().data(), saved.shape(), queries, saved.head_gates(), gated,
                          context),
          .grad_y = grad_output.data(),
          .rows = queries,
          .outputs = one(all),
          .grad_x = grad.heads,
          .accumulate = false},
         gradients.W_o);
  }
  attend_heads_backward(saved, mask, layer.sinks(), grad, gradients, accumulate, context);
  // q and k were turned: only where queries and keys take part is there a gradient, and a position
  if (layer.rotary != nullptr) {
    const Frame turned(context);
    rotate_heads<T>(
        *layer.rotary, mask,
        participation<T>(
            {saved.shape(), mask, saved.head_set(), saved.head_gates(), Mode::inference}, turned),
        {.q = StridedMatrix<T>::heads_together(grad.q, queries, H, D),
         .k = StridedMatrix<T>::heads_together(grad.k, keys, G, D),
         .is_inverse = true},
        context);
  }
  // q = W_q queries, k = W_k keys, v = W_v values: a closed head has no gradient in its columns
  const HeadColumns open = head_columns<T>(
      {saved.shape(), mask, saved.head_set(), saved.head_gates(), Mode::inference}, frame);
  undo(layer.W_q,
       {saved.queries(), grad.q, queries, open.columns, gradients.queries.data(), accumulate},
       gradients.W_q);
  undo(layer.W_k, {saved.keys(), grad.k, keys, open.kv_columns, gradients.keys.data(), accumulate},
       gradients.W_k);
  undo(layer.W_v,
       {saved.values(), grad.v, keys, open.kv_columns, gradients.values.data(), accumulate},
       gradients.W_v);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
