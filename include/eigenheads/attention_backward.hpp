// SPDX-License-Identifier: MIT
#pragma once
// The gradients of scaled_dot_product_attention, from its log-sum-exp: nothing of size queries x
// keys is kept or built. Formulas as in attention_reference.hpp.
#include <array>
#include <type_traits>

#include <eigenheads/attention.hpp>  // CheckedAttention, AttentionResult
#include <eigenheads/context.hpp>    // Context
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kernels/schedule/backward.hpp>  // attend_backward
#include <eigenheads/kernels/sink_gradients.hpp>     // SinkGradients
#include <eigenheads/shape.hpp>                      // require_shape, make_tensor
#include <eigenheads/tensor.hpp>                     // TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

// What scaled_dot_product_attention_backward gives.
template <Scalar T>
struct AttentionGradients {
  Tensor<T, 4> queries, keys, values;  // of the shapes of those; keys' and values' over all heads
  Tensor<T, 4> score_bias;             // of the ScoreBias that is added last; empty without one
  Tensor<T, 1> sink_logits{0};         // empty without them
};

namespace detail {

template <class T>
[[nodiscard]] AttentionGradients<T> attend_backward_checked(TensorView<T, 4> grad_output,
                                                            const AttentionInputs<T>& inputs,
                                                            const AttentionResult<T>& result,
                                                            const CheckedAttention<T>& call,
                                                            Context& context) {
  using Layout = StridedMatrix<T>;
  using ConstLayout = StridedMatrix<const T>;
  const auto [B, H, G, Q, K, D, V] = call.shape;
  const TensorView<T, 4> output(result.output);
  const TensorView<T, 3> lse(result.lse);
  require_shape("grad_output", grad_output, "[B, H, Q, V]", call.output_shape());
  require_shape("result.output", output, "[B, H, Q, V]", call.output_shape());
  require_shape("result.lse", lse, "[B, H, Q]", {B, H, Q});
  call.options.score.require_trainable();

  AttentionGradients<T> gradients{make_tensor<T>("gradient", inputs.queries.dimensions()),
                                  make_tensor<T>("gradient", inputs.keys.dimensions()),
                                  make_tensor<T>("gradient", inputs.values.dimensions()),
                                  {}};
  const bool has_sinks = call.options.sink_logits.has_value();
  if (has_sinks) gradients.sink_logits = make_tensor<T>("gradient", std::array{H});
  const Frame frame(context);
  const SinkGradients of_sinks(has_sinks, call.shape, frame);
  ScoreBackward<T> score = call.options.score.backward();
  if (const auto* bias = call.options.score.last_bias(); bias != nullptr) {
    gradients.score_bias = make_tensor<T>("gradient", bias->shape());
    gradients.score_bias.setZero();
    score.grad_bias = gradients.score_bias.data();
    score.bias_strides = bias->strides();
    score.bias_plane_size = bias->shape()[2] * bias->shape()[3];
  }
  attend_backward<T>({.shape = call.shape,
                      .scale = call.scale,
                      .mask = &call.mask,
                      .queries = layout_of(inputs.queries),
                      .keys = layout_of(inputs.keys),
                      .values = layout_of(inputs.values),
                      .lse = ConstLayout::heads_apart(lse.data(), Q, H, 1),
                      .output = ConstLayout::heads_apart(output.data(), Q, H, V),
                      .grad_output = ConstLayout::heads_apart(grad_output.data(), Q, H, V),
                      .grad_queries = Layout::heads_apart(gradients.queries.data(), Q, H, D),
                      .grad_keys = Layout::heads_apart(gradients.keys.data(), K, G, D),
                      .grad_values = Layout::heads_apart(gradients.values.data(), K, G, V),
                      .dropout = call.dropout.threshold > 0 ? &call.dropout : nullptr,
                      .score = score,
                      .sinks = call.sinks(),
                      .grad_sinks = of_sinks.of_each()},
                     context);
  of_sinks.sum_into(gradients.sink_logits.data(), false);
  return gradients;
}

}  // namespace detail

// grad_output: [B, H, Q, V], of a loss that `result` was on the way to; all else as the call was
// given that gave `result`. A hidden key and a query that sees no key have gradients of 0. Throws
// std::invalid_argument for what does not fit, and for a score function without a derivative. The
// same bits on any number of threads.
template <Scalar T>
[[nodiscard]] AttentionGradients<T> scaled_dot_product_attention_backward(
    const std::type_identity_t<TensorView<T, 4>>& grad_output,
    const std::type_identity_t<StridedView<T, 4>>& queries,
    const std::type_identity_t<StridedView<T, 4>>& keys,
    const std::type_identity_t<StridedView<T, 4>>& values, const AttentionResult<T>& result,
    const Mask& mask = {}, const std::type_identity_t<AttentionOptions<T>>& options = {},
    Context& context = default_context()) {
  const detail::AttentionInputs<T> inputs{queries, keys, values};
  const detail::CheckedAttention<T> call(inputs, mask, options);
  return detail::attend_backward_checked<T>(grad_output, inputs, result, call, context);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
