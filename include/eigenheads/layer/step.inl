// SPDX-License-Identifier: MIT
// What the steps of MultiHeadAttention do: check, then run_step. Included by kv_cache.hpp inside its
// namespace.

template <Scalar T>
detail::LayerCall<T> detail::StepCalls<T>::step_call(const detail::StepInputs<T>& inputs,
                                                     const AnyKvCache<T>& cache, const Mask& mask,
                                                     const CallOptions<T>& options,
                                                     const detail::Frame& frame) const {
  detail::require_initialized(layer().parts());
  detail::require_projections(layer().parts(), layer().head_size(), layer().num_hiddens());
  auto call = detail::checked_step(layer().parts(), inputs, mask, cache.heads(), frame);
  options.score.require_fits(
      {call.shape.B, layer().num_original_heads(), call.shape.Q, call.shape.K});
  call.score = options.score;
  if (inputs.sequences != nullptr) call.attend = detail::attend_packed<T>;
  return call;
}

template <Scalar T>
Tensor<T, 3> detail::StepCalls<T>::step(TensorView<T, 3> x, AnyKvCache<T>& cache, const Mask& mask,
                                        const CallOptions<T>& options) const {
  const detail::Frame frame(options.context.get());
  const auto call = step_call({x}, cache, mask, options, frame);
  auto output = detail::make_tensor<T>("output", call.output_shape());
  detail::run_step<T>(layer().parts(), call, cache.heads(), {.output = output.data()},
                      options.context.get());
  return output;
}

template <Scalar T>
void detail::StepCalls<T>::step_into(TensorSpan<T, 3> y, TensorView<T, 3> x, AnyKvCache<T>& cache,
                                     const Mask& mask, const CallOptions<T>& options) const {
  const detail::Frame frame(options.context.get());
  const auto call = step_call({x}, cache, mask, options, frame);
  require_shape("y", TensorView<T, 3>(y), "[B, n, num_hiddens]", call.output_shape());
  detail::require_same_or_disjoint("y", TensorView<T, 3>(y), "x", x);
  detail::run_step<T>(layer().parts(), call, cache.heads(), {.output = y.data()},
                      options.context.get());
}

template <Scalar T>
AttentionOutput<T> detail::StepCalls<T>::step_with_weights(TensorView<T, 3> x, AnyKvCache<T>& cache,
                                                           const Mask& mask,
                                                           const CallOptions<T>& options) const {
  const detail::Frame frame(options.context.get());
  const auto call = step_call({x}, cache, mask, options, frame);
  const auto& shape = call.shape;
  AttentionOutput<T> result{
      detail::make_tensor<T>("output", call.output_shape()),
      detail::make_tensor<T>("weights", std::array{shape.B, shape.H, shape.Q, shape.K})};
  detail::run_step<T>(layer().parts(), call, cache.heads(),
                      {.output = result.output.data(), .weights = result.weights.data()},
                      options.context.get());
  return result;
}

template <Scalar T>
Tensor<T, 2> detail::StepCalls<T>::step(TensorView<T, 2> x, const Sequences& sequences,
                                        AnyKvCache<T>& cache, const Mask& mask,
                                        const CallOptions<T>& options) const {
  const detail::Frame frame(options.context.get());
  const auto call = step_call({detail::as_block(x), &sequences}, cache, mask, options, frame);
  auto output = detail::make_tensor<T>("output", call.packed_output_shape());
  detail::run_step<T>(layer().parts(), call, cache.heads(), {.output = output.data()},
                      options.context.get());
  return output;
}

template <Scalar T>
void detail::StepCalls<T>::step_into(TensorSpan<T, 2> y, TensorView<T, 2> x,
                                     const Sequences& sequences, AnyKvCache<T>& cache,
                                     const Mask& mask, const CallOptions<T>& options) const {
  const detail::Frame frame(options.context.get());
  const auto call = step_call({detail::as_block(x), &sequences}, cache, mask, options, frame);
  require_shape("y", TensorView<T, 2>(y), "[N, num_hiddens]", call.packed_output_shape());
  detail::require_same_or_disjoint("y", TensorView<T, 2>(y), "x", x);
  detail::run_step<T>(layer().parts(), call, cache.heads(), {.output = y.data()},
                      options.context.get());
}

template <Scalar T>
PackedAttentionOutput<T> detail::StepCalls<T>::step_with_weights(
    TensorView<T, 2> x, const Sequences& sequences, AnyKvCache<T>& cache, const Mask& mask,
    const CallOptions<T>& options) const {
  const detail::Frame frame(options.context.get());
  const auto call = step_call({detail::as_block(x), &sequences}, cache, mask, options, frame);
  PackedAttentionOutput<T> result{detail::make_tensor<T>("output", call.packed_output_shape()), {}};
  for (Index b = 0; b < call.shape.B; ++b)
    result.weights.push_back(detail::make_tensor<T>(
        "weights", std::array{call.shape.H, sequences.length(b), call.mask.keys(b)}));
  std::vector<T*> weights;  // of tensors that stay where they are
  for (Tensor<T, 3>& of_sequence : result.weights) weights.push_back(of_sequence.data());
  detail::run_step<T>(layer().parts(), call, cache.heads(),
                      {.output = result.output.data(), .packed_weights = weights.data()},
                      options.context.get());
  return result;
}
