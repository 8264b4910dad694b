// SPDX-License-Identifier: MIT
// What the calls of MultiHeadAttention do: check, then take the steps of forward.hpp and
// backward.hpp. Included by multi_head_attention.hpp inside its namespace. They are not defined in
// the class: there they would be inline, and a program that has them compiled elsewhere
// (prebuilt.hpp) would compile them all the same.

template <Scalar T>
MultiHeadAttention<T>::MultiHeadAttention(const MultiHeadAttentionOptions& options,
                                          std::uint64_t seed)
    : MultiHeadAttention(Completed{detail::completed(options)}, seed) {}

template <Scalar T>
MultiHeadAttention<T>::MultiHeadAttention(const Completed& c, std::uint64_t seed)
    : W_q({c.options.query_size, c.options.num_heads * c.options.head_size, c.options.bias}, seed,
          "W_q"),
      W_k({c.options.key_size, c.options.num_kv_heads * c.options.head_size, c.options.bias}, seed,
          "W_k"),
      W_v({c.options.value_size, c.options.num_kv_heads * c.options.head_size, c.options.bias},
          seed, "W_v"),
      W_o({c.options.num_heads * c.options.head_size, c.options.num_hiddens, c.options.bias}, seed,
          "W_o"),
      sink_logits(c.options.sink_logits ? c.options.num_heads : 0),
      num_hiddens_(c.options.num_hiddens),
      head_size_(c.options.head_size),
      dropout_(c.options.dropout),
      heads_(c.options.num_heads, c.options.num_kv_heads),
      rotary_(detail::rotary_of<T>(c.options)) {
  std::fill_n(sink_logits.data(), sink_logits.size(), T(0));
}

template <Scalar T>
template <detail::TensorLike Gates>
requires(rank_of<Gates> == 1 || rank_of<Gates> == 2)
void MultiHeadAttention<T>::set_gates(const Gates& gates) {
  const TensorView<T, rank_of<Gates>> view(gates);
  if constexpr (rank_of<Gates> == 1) {
    require_shape("gates", view, "[H]", {num_heads()});
    gates_.set({view.data(), {1, num_heads()}}, num_heads());
  } else {
    gates_.set(view, num_heads());
  }
}

template <Scalar T>
void MultiHeadAttention<T>::initialize(Index query_size, Index key_size, Index value_size) {
  detail::require_input_size("query_size", query_size, W_q);
  detail::require_input_size("key_size", key_size, W_k);
  detail::require_input_size("value_size", value_size, W_v);
  if (!is_lazy()) return;
  const auto initialized = [](const Linear<T>& linear, Index size) {
    Linear<T> copy(linear);
    copy.initialize(size);
    return copy;
  };
  auto q = initialized(W_q, query_size), k = initialized(W_k, key_size);
  W_v.initialize(value_size);
  W_q = std::move(q);
  W_k = std::move(k);
}

template <Scalar T>
Tensor<T, 3> MultiHeadAttention<T>::operator()(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                               TensorView<T, 3> values, const Mask& mask,
                                               const CallOptions<T>& options) const {
  const Call call = checked({queries, keys, values}, mask, options.score);
  auto output = detail::make_tensor<T>("output", call.output_shape());
  detail::run_layer<T>(parts(), call, {.output = output.data()}, options.context.get());
  return output;
}

template <Scalar T>
Tensor<T, 3> MultiHeadAttention<T>::operator()(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                               TensorView<T, 3> values, const Mask& mask,
                                               const CallOptions<T>& options) {
  initialize_for({queries, keys, values}, mask, options.score);
  return std::as_const(*this)(queries, keys, values, mask, options);
}

template <Scalar T>
void MultiHeadAttention<T>::forward_into(TensorSpan<T, 3> output, TensorView<T, 3> queries,
                                         TensorView<T, 3> keys, TensorView<T, 3> values,
                                         const Mask& mask, const CallOptions<T>& options) const {
  const Call call = checked({queries, keys, values}, mask, options.score);
  detail::require_output<T>(call, output);
  detail::run_layer<T>(parts(), call, {.output = output.data()}, options.context.get());
}

template <Scalar T>
void MultiHeadAttention<T>::forward_into(TensorSpan<T, 3> output, TensorView<T, 3> queries,
                                         TensorView<T, 3> keys, TensorView<T, 3> values,
                                         const Mask& mask, const CallOptions<T>& options) {
  if (is_lazy())
    detail::require_output<T>(fitting({queries, keys, values}, mask, options.score), output);
  initialize_for({queries, keys, values}, mask, options.score);
  std::as_const(*this).forward_into(output, queries, keys, values, mask, options);
}

template <Scalar T>
AttentionOutput<T> MultiHeadAttention<T>::with_weights(TensorView<T, 3> queries,
                                                       TensorView<T, 3> keys,
                                                       TensorView<T, 3> values, const Mask& mask,
                                                       const CallOptions<T>& options) const {
  const Call call = checked({queries, keys, values}, mask, options.score);
  const auto& shape = call.shape;
  AttentionOutput<T> result{
      detail::make_tensor<T>("output", call.output_shape()),
      detail::make_tensor<T>("weights", std::array{shape.B, shape.H, shape.Q, shape.K})};
  detail::run_layer<T>(parts(), call,
                       {.output = result.output.data(), .weights = result.weights.data()},
                       options.context.get());
  return result;
}

template <Scalar T>
AttentionOutput<T> MultiHeadAttention<T>::with_weights(TensorView<T, 3> queries,
                                                       TensorView<T, 3> keys,
                                                       TensorView<T, 3> values, const Mask& mask,
                                                       const CallOptions<T>& options) {
  initialize_for({queries, keys, values}, mask, options.score);
  return std::as_const(*this).with_weights(queries, keys, values, mask, options);
}

template <Scalar T>
Tensor<T, 3> MultiHeadAttention<T>::forward(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                            TensorView<T, 3> values, const Mask& mask,
                                            Activations& saved,
                                            const TrainingOptions<T>& options) const {
  const Call call = trainable({queries, keys, values}, mask, options);
  auto output = detail::make_tensor<T>("output", call.output_shape());
  train(call, mask, saved, options, output.data());
  return output;
}

template <Scalar T>
Tensor<T, 3> MultiHeadAttention<T>::forward(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                            TensorView<T, 3> values, const Mask& mask,
                                            Activations& saved, const TrainingOptions<T>& options) {
  initialize_to_train({queries, keys, values}, mask, options);
  return std::as_const(*this).forward(queries, keys, values, mask, saved, options);
}

template <Scalar T>
typename MultiHeadAttention<T>::Gradients MultiHeadAttention<T>::backward(
    TensorView<T, 3> grad_output, const Activations& saved, Context& context) const {
  Gradients gradients;
  backward_into(gradients, grad_output, saved, false, context);
  return gradients;
}

template <Scalar T>
void MultiHeadAttention<T>::backward_into(Gradients& gradients, TensorView<T, 3> grad_output,
                                          const Activations& saved, bool accumulate,
                                          Context& context) const {
  detail::require_activations(parts(), saved, head_size_);
  detail::require_projections(parts(), head_size_, num_hiddens_);
  const detail::SequenceRows rows = saved.query_rows();
  const bool is_packed = rows.is_packed();
  require_shape("grad_output", grad_output,
                is_packed ? "[1, N, num_hiddens]" : "[B, Q, num_hiddens]",
                {rows.blocks(), rows.rows_per_block(), num_hiddens_});
  detail::fit_gradients(parts(), saved, gradients, accumulate);
  detail::run_layer_backward(parts(), saved, grad_output, gradients, accumulate, context);
}

template <Scalar T>
typename MultiHeadAttention<T>::Call MultiHeadAttention<T>::fitting(
    const Inputs& inputs, const Mask& mask, const ScoreRef<T>& score) const {
  Call call = detail::checked_call<T>(parts(), head_size_, num_hiddens_, inputs, mask);
  score.require_fits({call.shape.B, num_original_heads(), call.shape.Q, call.shape.K});
  call.score = score;
  return call;
}

template <Scalar T>
typename MultiHeadAttention<T>::Call MultiHeadAttention<T>::checked(
    const Inputs& inputs, const Mask& mask, const ScoreRef<T>& score) const {
  detail::require_initialized(parts());
  return fitting(inputs, mask, score);
}

template <Scalar T>
typename MultiHeadAttention<T>::Call MultiHeadAttention<T>::trainable(
    const Inputs& inputs, const Mask& mask, const TrainingOptions<T>& options) const {
  const Call call = checked(inputs, mask, options.score);
  require_step(options);
  return call;
}

template <Scalar T>
void MultiHeadAttention<T>::require_step(const TrainingOptions<T>& options) const {
  options.score.require_trainable();
  if (dropout_.p() > 0 && !options.seed)
    detail::refuse({"MultiHeadAttention: dropout is ", detail::number_text(dropout_.p()),
                    "; expected a DropoutSeed, {.seed = ...}, after the activations"});
}

template <Scalar T>
void MultiHeadAttention<T>::train(const Call& call, const Mask& mask, Activations& saved,
                                  const TrainingOptions<T>& options, T* output) const {
  const auto dropout =
      options.seed ? DropoutMask<T>::of(dropout_, *options.seed) : DropoutMask<T>{};
  detail::train_layer<T>(parts(), call, mask, dropout, saved, output, options.context.get());
}

template <Scalar T>
void MultiHeadAttention<T>::initialize_for(const Inputs& inputs, const Mask& mask,
                                           const ScoreRef<T>& score) {
  if (!is_lazy()) return;
  detail::require_none_was_set(parts());
  static_cast<void>(fitting(inputs, mask, score));
  initialize(inputs.queries.dimension(2), inputs.keys.dimension(2), inputs.values.dimension(2));
}

template <Scalar T>
void MultiHeadAttention<T>::initialize_to_train(const Inputs& inputs, const Mask& mask,
                                                const TrainingOptions<T>& options) {
  if (!is_lazy()) return;
  detail::require_none_was_set(parts());
  static_cast<void>(fitting(inputs, mask, options.score));
  require_step(options);
  initialize_for(inputs, mask, options.score);
}

template <Scalar T>
std::ostream& operator<<(std::ostream& out, const MultiHeadAttention<T>& layer) {
  out << "MultiHeadAttention(\n  (attention): DotProductAttention(\n    (dropout): "
      << layer.dropout() << "\n  )\n  (W_q): " << layer.W_q << "\n  (W_k): " << layer.W_k
      << "\n  (W_v): " << layer.W_v << "\n  (W_o): " << layer.W_o;
  if (layer.rotary() != nullptr) out << "\n  (rotary): " << *layer.rotary();
  if (layer.num_heads() < layer.num_original_heads()) {
    out << "\n  (heads):";
    for (const Index head : layer.original_heads()) out << ' ' << std::to_string(head);
    out << (layer.num_heads() == 0 ? " none" : "") << " of "
        << std::to_string(layer.num_original_heads());
  }
  return out << "\n)";
}
