// SPDX-License-Identifier: MIT
// What TensorParallelAttention does in training. Included by tensor_attention.hpp inside its namespace.
// The backward pass undoes the steps of the forward pass, as layer/backward.hpp does, from the last to
// the first; with d for a gradient:
//   dW_o       = dy^T heads                  its outputs of W_o
//   own dheads = dy W_o                      its columns of W_o: the ranks exchange their rows
//   own dq, dk, dv                           its heads
//   dW_q       = own dq^T x                  its outputs of W_q
//   dq         = those of all ranks, gathered
//   own dx     = dq W_q                      its columns of W_q: the ranks exchange their rows
//   dx         = those of all ranks, gathered
// and so with W_k and W_v.

template <Scalar T>
void TensorParallelAttention<T>::require_training(const TrainingOptions<T>& options) const {
  options.score.require_trainable();
  if (static_cast<const ScoreRef<T>&>(options.score).last_bias() != nullptr)
    eigenheads::detail::refuse(
        {"TensorParallelAttention: the scores have a ScoreBias, whose gradient is a sum over heads "
         "of several ranks; expected none in training"});
  if (dropout_.p() > 0 && !options.seed)
    eigenheads::detail::refuse({"TensorParallelAttention: dropout is ",
                                eigenheads::detail::number_text(dropout_.p()),
                                "; expected a DropoutSeed, {.seed = ...}, after the activations"});
}

template <Scalar T>
void TensorParallelAttention<T>::train(const Call& call, const Mask& mask, Activations& saved,
                                       const TrainingOptions<T>& options, T* output) const {
  Context& context = options.context.get();
  const eigenheads::detail::SequenceRows& rows = call.mask.query_rows();
  const auto dropout =
      options.seed ? DropoutMask<T>::of(dropout_, *options.seed) : DropoutMask<T>{};
  saved.is_saved = false;
  const eigenheads::detail::HeadTensors<T> heads =
      saved.own.keep(call, mask, own_, own_gates_, dropout);
  saved.gates = gates_;
  eigenheads::detail::resize("heads", saved.heads, {rows.total(), num_heads() * call.shape.V});
  saved.heads.setZero();  // padding is not gathered
  const eigenheads::detail::Frame frame(context);
  const auto training = [&](const eigenheads::detail::AttentionShape& shape,
                            const eigenheads::detail::HeadSet& set,
                            const eigenheads::detail::HeadGates<T>& gates) {
    return eigenheads::detail::participation<T>(
        {shape, call.mask, set, gates, eigenheads::detail::Mode::training}, frame);
  };
  const eigenheads::detail::Participation part = training(call.shape, own_, own_gates_);
  eigenheads::detail::project_heads(parts(), call, part, heads, context);
  eigenheads::detail::attend_heads(
      call, part, heads, {.dropout = saved.own.dropout(), .sinks = parts().sinks()}, context);
  const T* const gated =
      eigenheads::detail::gate_heads(heads.heads, call.shape, rows, own_gates_, frame, context);
  const eigenheads::detail::AttentionShape shape = whole(call.shape);
  const eigenheads::detail::Participation of_all = training(shape, heads_, gates_);
  gather_heads(call, of_all, gated, saved.heads.data(), context);
  project(call, of_all, saved.heads.data(), output, context);
  saved.own.complete(call);
  saved.is_saved = true;
}

// What a backward pass must find alike on all ranks: it decides what they send each other then.
template <Scalar T>
Digest TensorParallelAttention<T>::training_digest(const Inputs& inputs, const Mask& mask,
                                                   const TrainingOptions<T>& options) const {
  Digest digest;
  return digest.add(mask)
      .add_seed(options)
      .add(inputs.query_sequences)
      .add(inputs.key_sequences)
      .add(inputs.queries.dimension(0))
      .add(inputs.queries.dimension(1))
      .add(inputs.keys.dimension(1))
      .add(gates_.values());
}

template <Scalar T>
Tensor<T, 3> TensorParallelAttention<T>::forward(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                                 TensorView<T, 3> values, const Mask& mask,
                                                 Activations& saved,
                                                 const TrainingOptions<T>& options) const {
  Tensor<T, 3> output;
  const Inputs inputs{queries, keys, values};
  const Digest of_call = training_digest(inputs, mask, options);
  round("attention in training", inputs, of_call, [&] {
    const Call call = checked(inputs, mask, options.score);
    require_training(options);
    output = eigenheads::detail::make_tensor<T>("output", call.output_shape());
    train(call, mask, saved, options, output.data());
    saved.of_call = of_call.value();
  });
  return output;
}

template <Scalar T>
Tensor<T, 2> TensorParallelAttention<T>::forward(TensorView<T, 2> x, const Sequences& sequences,
                                                 const Mask& mask, Activations& saved,
                                                 const TrainingOptions<T>& options) const {
  Tensor<T, 2> output;
  const auto inputs = Inputs::packed(x, sequences);
  const Digest of_call = training_digest(inputs, mask, options);
  round("attention of packed sequences in training", inputs, of_call, [&] {
    const Call call = checked(inputs, mask, options.score);
    require_training(options);
    output = eigenheads::detail::make_tensor<T>("output", call.packed_output_shape());
    train(call, mask, saved, options, output.data());
    saved.of_call = of_call.value();
  });
  return output;
}

template <Scalar T>
void TensorParallelAttention<T>::backward_into(Gradients& gradients, TensorView<T, 3> grad_output,
                                               const Activations& saved, bool accumulate,
                                               Context& context) const {
  const auto sizes = grad_output.dimensions();
  ranks_->together("the backward pass of attention",
                   {{"the size of a number", Index{sizeof(T)}},
                    {"heads", num_heads()},
                    {"head_size", head_size_},
                    {"num_hiddens", num_hiddens()},
                    {"sequences", sizes[0]},
                    {"queries", sizes[1]},
                    {"size", sizes[2]},
                    {"whether gradients are added to", Index{accumulate}},
                    {"a digest of what was saved", saved.of_call}},
                   [&] { undo(gradients, grad_output, saved, accumulate, context); });
}

template <Scalar T>
void TensorParallelAttention<T>::require_saved(const Activations& saved) const {
  require_parts();
  if (!saved.is_saved)
    eigenheads::detail::refuse<std::logic_error>(
        {"TensorParallelAttention: backward needs the activations of a forward call"});
  eigenheads::detail::require_activations(parts(), saved.own, head_size_);
}

template <Scalar T>
void TensorParallelAttention<T>::fit(Gradients& gradients, const LayerActivations<T>& own,
                                     bool accumulate) const {
  const eigenheads::detail::SequenceRows queries = own.query_rows(), keys = own.key_rows();
  const auto [query_size, key_size, value_size] = own.input_sizes();
  eigenheads::detail::fit_gradient("gradients.queries", gradients.queries, "[B, Q, query_size]",
                                   {queries.blocks(), queries.rows_per_block(), query_size},
                                   accumulate);
  eigenheads::detail::fit_gradient("gradients.keys", gradients.keys, "[B, K, key_size]",
                                   {keys.blocks(), keys.rows_per_block(), key_size}, accumulate);
  eigenheads::detail::fit_gradient("gradients.values", gradients.values, "[B, K, value_size]",
                                   {keys.blocks(), keys.rows_per_block(), value_size}, accumulate);
  eigenheads::detail::fit_gradient("gradients.gates", gradients.gates, "[B, H]",
                                   {own.shape().B, num_heads()}, accumulate);
  fit_parameter_gradients(gradients, accumulate);
}

template <Scalar T>
void TensorParallelAttention<T>::fit_parameter_gradients(Gradients& gradients,
                                                         bool accumulate) const {
  eigenheads::detail::fit_gradient("gradients.score_bias", gradients.score_bias, "none",
                                   {0, 0, 0, 0}, accumulate);
  eigenheads::detail::fit_gradient("gradients.sink_logits", gradients.sink_logits, "[H] or none",
                                   {sink_logits.size()}, accumulate);
  W_q.fit(gradients.W_q, accumulate);
  W_k.fit(gradients.W_k, accumulate);
  W_v.fit(gradients.W_v, accumulate);
  W_o.fit(gradients.W_o, accumulate);
}

// What a projection of an input is of, and the gradient of what this rank's part of it gave.
template <class T>
struct SharedInput {
  const T* x;
  const T* own_grad;  // of q, k or v
  const eigenheads::detail::SequenceRows& rows;
  std::span<const eigenheads::detail::Range> open;
  Tensor<T, 3>& grad_x;
};

// q = W_q queries and the like.
template <class T>
struct SharedInputs {
  Ranks& ranks;
  bool accumulate;
  Context& context;

  struct Weight {
    const Linear<T>& linear;
    const Shares& outputs;
  };
  void undo(const Weight& weight, const SharedInput<T>& input, LinearGradients<T>& into) const {
    const auto& [linear, outputs] = weight;
    const eigenheads::detail::Frame gathered(context);
    const eigenheads::detail::Range every{0, input.rows.total()};
    const Shares inputs = Shares::even(linear.in_features(), ranks.size());
    T* const grad_y = gathered.template take<T>(every.end * outputs.total());
    T* const own_x = gathered.template take<T>(every.end * inputs.count(ranks.rank()));
    gather_columns(ranks, {outputs, eigenheads::detail::one(every)}, input.own_grad, grad_y,
                   context);
    shared_backward<T>(ranks, {linear, outputs, inputs},
                       {.rows = input.rows,
                        .x = input.x,
                        .grad_y = grad_y,
                        .grad_x = own_x,
                        .outputs = input.open,
                        .accumulate = accumulate},
                       into, context);
    gather_gradient<T>(ranks, {inputs, eigenheads::detail::one(every)}, own_x, input.grad_x.data(),
                       accumulate, context);
  }
};

template <Scalar T>
void TensorParallelAttention<T>::undo(Gradients& gradients, TensorView<T, 3> grad_output,
                                      const Activations& saved, bool accumulate,
                                      Context& context) const {
  const eigenheads::detail::LayerParts<T> own_parts = parts();
  const LayerActivations<T>& own = saved.own;
  require_saved(saved);
  const eigenheads::detail::SequenceRows queries = own.query_rows(), keys = own.key_rows();
  require_shape("grad_output", grad_output,
                queries.is_packed() ? "[1, N, num_hiddens]" : "[B, Q, num_hiddens]",
                {queries.blocks(), queries.rows_per_block(), num_hiddens()});
  const auto [B, H, G, Q, K, D, V] = own.shape();
  fit(gradients, own, accumulate);
  // Of this rank's heads. That of a gate goes on from what is there.
  Gradients of_heads;
  const eigenheads::detail::Range heads = shares_.heads.of(ranks_->rank());
  eigenheads::detail::resize("gradients.gates", of_heads.gates, {B, H});
  for (Index b = 0; b < B; ++b)
    for (Index h = 0; h < H; ++h)
      of_heads.gates(b, h) = accumulate ? gradients.gates(b, heads.begin + h) : T(0);
  of_heads.sink_logits = gradients.sink_logits;

  const BoundMask mask = own.bound_mask(heads_.original_count());
  const eigenheads::detail::Frame frame(context);
  const eigenheads::detail::HeadGradients<T> grad{
      .heads = frame.template take<T>(queries.total() * H * V),
      .q = frame.template take<T>(queries.total() * H * D),
      .k = frame.template take<T>(keys.total() * G * D),
      .v = frame.template take<T>(keys.total() * G * V)};
  const Shares columns = columns_of_heads(), kv_columns = shares_.kv_heads.times(head_size_);
  // y = W_o heads
  const eigenheads::detail::Range outputs{0, num_hiddens()}, sequences{0, B};
  shared_backward<T>(*ranks_, {W_o, output_shares_, columns},
                     {.rows = queries,
                      .x = saved.heads.data(),
                      .grad_y = grad_output.data(),
                      .grad_x = grad.heads,
                      .outputs = eigenheads::detail::one(outputs),
                      .accumulate = accumulate},
                     gradients.W_o, context);
  // heads = attention(q, k, v)
  eigenheads::detail::attend_heads_backward(own, mask, own_parts.sinks(), grad, of_heads,
                                            accumulate, context);
  eigenheads::detail::assign("gradients.sink_logits", gradients.sink_logits, of_heads.sink_logits);
  gather_columns(*ranks_, {shares_.heads, eigenheads::detail::one(sequences)},
                 std::as_const(of_heads.gates).data(), gradients.gates.data(), context);
  // q and k were turned
  if (rotary() != nullptr) {
    const eigenheads::detail::Frame turned(context);
    eigenheads::detail::rotate_heads<T>(
        *rotary(), mask,
        eigenheads::detail::participation<T>(
            {own.shape(), mask, own_, own.head_gates(), eigenheads::detail::Mode::inference},
            turned),
        {.q = eigenheads::detail::StridedMatrix<T>::heads_together(grad.q, queries, H, D),
         .k = eigenheads::detail::StridedMatrix<T>::heads_together(grad.k, keys, G, D),
         .is_inverse = true},
        context);
  }
  // q = W_q queries, k = W_k keys, v = W_v values: a closed head has no gradient in its columns
  const eigenheads::detail::AttentionShape shape = whole(own.shape());
  const eigenheads::detail::HeadColumns open = eigenheads::detail::head_columns<T>(
      {shape, mask, heads_, saved.gates, eigenheads::detail::Mode::inference}, frame);
  const SharedInputs<T> inputs{*ranks_, accumulate, context};
  inputs.undo({W_q, columns}, {own.queries(), grad.q, queries, open.columns, gradients.queries},
              gradients.W_q);
  inputs.undo({W_k, kv_columns}, {own.keys(), grad.k, keys, open.kv_columns, gradients.keys},
              gradients.W_k);
  inputs.undo({W_v, kv_columns}, {own.values(), grad.v, keys, open.kv_columns, gradients.values},
              gradients.W_v);
}
