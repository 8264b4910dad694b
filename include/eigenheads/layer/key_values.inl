// SPDX-License-Identifier: MIT
// What MultiHeadAttention does with keys and values that are projected once: check, then the steps of
// layer/key_values.hpp. Included by key_values.hpp inside its namespace.

template <Scalar T>
KeyValues<T> detail::KeyValueCalls<T>::project_checked(const detail::KeyInputs<T>& inputs,
                                                       const ValidLens& lengths,
                                                       detail::StoredAs stored_as,
                                                       Context& context) const {
  detail::require_initialized(layer().parts());
  detail::require_projections(layer().parts(), layer().head_size(), layer().num_hiddens());
  detail::require_keys(layer().parts(), inputs, lengths);
  return KeyValues<T>(detail::run_projection(layer().parts(), layer().head_size(), inputs, lengths,
                                             stored_as, context));
}

template <Scalar T>
detail::LayerCall<T> detail::KeyValueCalls<T>::attend_call(TensorView<T, 3> queries,
                                                           const Sequences* sequences,
                                                           const KeyValues<T>& keys,
                                                           const Mask& mask,
                                                           const ScoreRef<T>& score) const {
  detail::require_initialized(layer().parts());
  detail::require_projections(layer().parts(), layer().head_size(), layer().num_hiddens());
  auto call = detail::checked_attend(layer().parts(), queries, sequences, mask, keys.parts());
  score.require_fits({call.shape.B, layer().num_original_heads(), call.shape.Q, call.shape.K});
  call.score = score;
  if (sequences != nullptr) call.attend = detail::attend_packed<T>;
  return call;
}

template <Scalar T>
Tensor<T, 3> detail::KeyValueCalls<T>::attend(TensorView<T, 3> queries, const KeyValues<T>& keys,
                                              const Mask& mask,
                                              const CallOptions<T>& options) const {
  const auto call = attend_call(queries, nullptr, keys, mask, options.score);
  auto output = detail::make_tensor<T>("output", call.output_shape());
  detail::run_attend<T>(layer().parts(), call, keys.parts().heads, {.output = output.data()},
                        options.context.get());
  return output;
}

template <Scalar T>
void detail::KeyValueCalls<T>::attend_into(TensorSpan<T, 3> output, TensorView<T, 3> queries,
                                           const KeyValues<T>& keys, const Mask& mask,
                                           const CallOptions<T>& options) const {
  const auto call = attend_call(queries, nullptr, keys, mask, options.score);
  detail::require_output<T>(call, output);
  detail::run_attend<T>(layer().parts(), call, keys.parts().heads, {.output = output.data()},
                        options.context.get());
}

template <Scalar T>
AttentionOutput<T> detail::KeyValueCalls<T>::attend_with_weights(
    TensorView<T, 3> queries, const KeyValues<T>& keys, const Mask& mask,
    const CallOptions<T>& options) const {
  const auto call = attend_call(queries, nullptr, keys, mask, options.score);
  const auto& shape = call.shape;
  AttentionOutput<T> result{
      detail::make_tensor<T>("output", call.output_shape()),
      detail::make_tensor<T>("weights", std::array{shape.B, shape.H, shape.Q, shape.K})};
  detail::run_attend<T>(layer().parts(), call, keys.parts().heads,
                        {.output = result.output.data(), .weights = result.weights.data()},
                        options.context.get());
  return result;
}

template <Scalar T>
Tensor<T, 2> detail::KeyValueCalls<T>::attend(TensorView<T, 2> queries, const Sequences& sequences,
                                              const KeyValues<T>& keys, const Mask& mask,
                                              const CallOptions<T>& options) const {
  const auto call = attend_call(detail::as_block(queries), &sequences, keys, mask, options.score);
  auto output = detail::make_tensor<T>("output", call.packed_output_shape());
  detail::run_attend<T>(layer().parts(), call, keys.parts().heads, {.output = output.data()},
                        options.context.get());
  return output;
}

template <Scalar T>
void detail::KeyValueCalls<T>::attend_into(TensorSpan<T, 2> output, TensorView<T, 2> queries,
                                           const Sequences& sequences, const KeyValues<T>& keys,
                                           const Mask& mask, const CallOptions<T>& options) const {
  const auto call = attend_call(detail::as_block(queries), &sequences, keys, mask, options.score);
  detail::require_output<T>(call, detail::as_block<T>(output));
  detail::run_attend<T>(layer().parts(), call, keys.parts().heads, {.output = output.data()},
                        options.context.get());
}

template <Scalar T>
PackedAttentionOutput<T> detail::KeyValueCalls<T>::attend_with_weights(
    TensorView<T, 2> queries, const Sequences& sequences, const KeyValues<T>& keys,
    const Mask& mask, const CallOptions<T>& options) const {
  const auto call = attend_call(detail::as_block(queries), &sequences, keys, mask, options.score);
  PackedAttentionOutput<T> result{detail::make_tensor<T>("output", call.packed_output_shape()), {}};
  for (Index b = 0; b < call.shape.B; ++b)
    result.weights.push_back(detail::make_tensor<T>(
        "weights", std::array{call.shape.H, sequences.length(b), call.mask.keys(b)}));
  std::vector<T*> weights;  // of tensors that stay where they are
  for (Tensor<T, 3>& of_sequence : result.weights) weights.push_back(of_sequence.data());
  detail::run_attend<T>(layer().parts(), call, keys.parts().heads,
                        {.output = result.output.data(), .packed_weights = weights.data()},
                        options.context.get());
  return result;
}
