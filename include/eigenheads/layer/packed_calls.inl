// SPDX-License-Identifier: MIT
// What the calls of MultiHeadAttention do for packed sequences: the same steps as for others. Included
// by multi_head_attention.hpp inside its namespace.

template <Scalar T>
Tensor<T, 2> MultiHeadAttention<T>::call_packed(const Inputs& inputs, const Mask& mask,
                                                const CallOptions<T>& options) const {
  const Call call = as_packed(checked(inputs, mask, options.score));
  auto output = detail::make_tensor<T>("output", call.packed_output_shape());
  detail::run_layer<T>(parts(), call, {.output = output.data()}, options.context.get());
  return output;
}

template <Scalar T>
void MultiHeadAttention<T>::packed_forward_into(TensorSpan<T, 2> output, const Inputs& inputs,
                                                const Mask& mask,
                                                const CallOptions<T>& options) const {
  const Call call = as_packed(checked(inputs, mask, options.score));
  require_packed_output(call, output);
  detail::run_layer<T>(parts(), call, {.output = output.data()}, options.context.get());
}

template <Scalar T>
PackedAttentionOutput<T> MultiHeadAttention<T>::packed_with_weights(
    const Inputs& inputs, const Mask& mask, const CallOptions<T>& options) const {
  const Call call = as_packed(checked(inputs, mask, options.score));
  PackedAttentionOutput<T> result{detail::make_tensor<T>("output", call.packed_output_shape()), {}};
  for (Index b = 0; b < call.shape.B; ++b) {
    const Index Q = inputs.query_sequences->length(b), K = inputs.key_sequences->length(b);
    result.weights.push_back(detail::make_tensor<T>("weights", std::array{call.shape.H, Q, K}));
  }
  std::vector<T*> weights;  // of tensors that stay where they are
  for (Tensor<T, 3>& of_sequence : result.weights) weights.push_back(of_sequence.data());
  detail::run_layer<T>(parts(), call,
                       {.output = result.output.data(), .packed_weights = weights.data()},
                       options.context.get());
  return result;
}

template <Scalar T>
Tensor<T, 2> MultiHeadAttention<T>::packed_forward(const Inputs& inputs, const Mask& mask,
                                                   Activations& saved,
                                                   const TrainingOptions<T>& options) const {
  const Call call = as_packed(trainable(inputs, mask, options));
  auto output = detail::make_tensor<T>("output", call.packed_output_shape());
  train(call, mask, saved, options, output.data());
  return output;
}
