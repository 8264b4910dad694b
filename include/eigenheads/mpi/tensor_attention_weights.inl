// SPDX-License-Identifier: MIT
// The calls of TensorParallelAttention that give weights too. Included by tensor_attention.hpp inside its
// namespace.

template <Scalar T>
AttentionOutput<T> TensorParallelAttention<T>::weighted(const Inputs& inputs, const Mask& mask,
                                                        const CallOptions<T>& options) const {
  const Call call = checked(inputs, mask, options.score);
  const auto& shape = call.shape;
  AttentionOutput<T> result{eigenheads::detail::make_tensor<T>("output", call.output_shape()),
                            eigenheads::detail::make_tensor<T>(
                                "weights", std::array{shape.B, shape.H, shape.Q, shape.K})};
  // Not null for a rank without heads: what the call is for is the same on all.
  T none{};
  T* const weights = result.weights.size() > 0 ? result.weights.data() : &none;
  run(call, {.output = result.output.data(), .weights = weights}, options.context.get());
  return result;
}

template <Scalar T>
AttentionOutput<T> TensorParallelAttention<T>::with_own_weights(
    TensorView<T, 3> queries, TensorView<T, 3> keys, TensorView<T, 3> values, const Mask& mask,
    const CallOptions<T>& options) const {
  AttentionOutput<T> result;
  const Inputs inputs{queries, keys, values};
  round("attention with weights of each rank's heads", inputs, Digest().add(mask),
        [&] { result = weighted(inputs, mask, options); });
  return result;
}

template <Scalar T>
AttentionOutput<T> TensorParallelAttention<T>::with_weights(TensorView<T, 3> queries,
                                                            TensorView<T, 3> keys,
                                                            TensorView<T, 3> values,
                                                            const Mask& mask,
                                                            const CallOptions<T>& options) const {
  AttentionOutput<T> result;
  const Inputs inputs{queries, keys, values};
  round("attention with weights", inputs, Digest().add(mask), [&] {
    AttentionOutput<T> own = weighted(inputs, mask, options);
    result.weights = gather_weights(own.weights, options.context.get());
    result.output = std::move(own.output);
  });
  return result;
}

template <Scalar T>
template <int Rank>
Tensor<T, Rank> TensorParallelAttention<T>::gather_weights(const Tensor<T, Rank>& own,
                                                           Context& context) const {
  auto shape = TensorView<T, Rank>(own).dimensions();
  const Index plane = shape[Rank - 2] * shape[Rank - 1], B = Rank == 4 ? shape[0] : 1;
  shape[Rank - 3] = num_heads();
  auto all = eigenheads::detail::make_tensor<T>("weights", shape);
  const Shares planes = shares_.heads.times(plane);
  const eigenheads::detail::Range sequences{0, B};
  gather_columns(*ranks_, {planes, eigenheads::detail::one(sequences)}, own.data(), all.data(),
                 context);
  return all;
}

template <Scalar T>
PackedAttentionOutput<T> TensorParallelAttention<T>::packed_weighted(
    const Inputs& inputs, const Mask& mask, const CallOptions<T>& options) const {
  const Call call = checked(inputs, mask, options.score);
  PackedAttentionOutput<T> result{
      eigenheads::detail::make_tensor<T>("output", call.packed_output_shape()), {}};
  for (Index b = 0; b < call.shape.B; ++b) {
    const Index Q = inputs.query_sequences->length(b), K = inputs.key_sequences->length(b);
    result.weights.push_back(
        eigenheads::detail::make_tensor<T>("weights", std::array{call.shape.H, Q, K}));
  }
  std::vector<T*> weights;  // of tensors that stay where they are
  for (Tensor<T, 3>& of_sequence : result.weights) weights.push_back(of_sequence.data());
  T* const none = nullptr;
  run(call,
      {.output = result.output.data(), .packed_weights = weights.empty() ? &none : weights.data()},
      options.context.get());
  return result;
}

template <Scalar T>
PackedAttentionOutput<T> TensorParallelAttention<T>::with_own_weights(
    TensorView<T, 2> x, const Sequences& sequences, const Mask& mask,
    const CallOptions<T>& options) const {
  PackedAttentionOutput<T> result;
  const auto inputs = Inputs::packed(x, sequences);
  round("attention of packed sequences with weights of each rank's heads", inputs,
        Digest().add(mask), [&] { result = packed_weighted(inputs, mask, options); });
  return result;
}

template <Scalar T>
PackedAttentionOutput<T> TensorParallelAttention<T>::with_weights(
    TensorView<T, 2> x, const Sequences& sequences, const Mask& mask,
    const CallOptions<T>& options) const {
  PackedAttentionOutput<T> result;
  const auto inputs = Inputs::packed(x, sequences);
  round("attention of packed sequences with weights", inputs, Digest().add(mask), [&] {
    result = packed_weighted(inputs, mask, options);
    for (Tensor<T, 3>& weights : result.weights)
      weights = gather_weights(weights, options.context.get());
  });
  return result;
}
