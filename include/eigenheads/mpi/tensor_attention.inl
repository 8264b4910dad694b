// SPDX-License-Identifier: MIT
// What the calls of TensorParallelAttention do. Included by tensor_attention.hpp inside its namespace.

template <Scalar T>
TensorParallelAttention<T>::TensorParallelAttention(const eigenheads::detail::HeadSet& heads,
                                                    const Sizes& sizes, Ranks& ranks)
    : W_q({.out_features = 1}),
      W_k({.out_features = 1}),
      W_v({.out_features = 1}),
      W_o({.out_features = 1}),
      sink_logits(0),
      ranks_(&ranks),
      heads_(heads),
      own_(heads),
      shares_(head_shares(heads, ranks.size())),
      output_shares_(Shares::even(sizes.num_hiddens, ranks.size())),
      head_size_(sizes.head_size),
      dropout_(sizes.dropout),
      no_output_({.out_features = 1}) {
  own_ = heads_of(heads_, shares_, ranks.rank());
  const Index columns = own_.count() * head_size_;
  no_output_ =
      Linear<T>({(std::max)(columns, Index{1}), 1}, undrawn).part({}, each_of({0, columns}));
}

template <Scalar T>
TensorParallelAttention<T>::TensorParallelAttention(const MultiHeadAttention<T>& whole,
                                                    Ranks& ranks)
    : TensorParallelAttention(whole.parts().heads,
                              {whole.num_hiddens(), whole.head_size(), whole.dropout().p()},
                              ranks) {
  eigenheads::detail::require_initialized(whole.parts());
  eigenheads::detail::require_projections(whole.parts(), head_size_, num_hiddens());
  const int rank = ranks.rank();
  const eigenheads::detail::Range heads = shares_.heads.of(rank);
  const eigenheads::detail::Range columns = columns_of_heads().of(rank),
                                  kv_columns = shares_.kv_heads.times(head_size_).of(rank);
  W_q = outputs_of(whole.W_q, columns);
  W_k = outputs_of(whole.W_k, kv_columns);
  W_v = outputs_of(whole.W_v, kv_columns);
  W_o = outputs_of(whole.W_o, output_shares_.of(rank));
  has_sinks_ = whole.sink_logits.size() > 0;
  if (has_sinks_) {
    sink_logits = Tensor<T, 1>(heads.count());
    std::copy_n(whole.sink_logits.data() + heads.begin, heads.count(), sink_logits.data());
  }
  if (whole.rotary() != nullptr) rotary_ = std::make_shared<const Rotary<T>>(*whole.rotary());
  if (whole.gates().size() > 0) set_gates(TensorView<T, 2>(whole.gates()));
}

template <Scalar T>
TensorParallelAttention<T>::TensorParallelAttention(const MultiHeadAttentionOptions& options,
                                                    Ranks& ranks)
    : TensorParallelAttention(
          [&] {
            const auto all = eigenheads::detail::completed(options);
            return eigenheads::detail::HeadSet(all.num_heads, all.num_kv_heads);
          }(),
          {options.num_hiddens, eigenheads::detail::completed(options).head_size, options.dropout},
          ranks) {
  const MultiHeadAttentionOptions all = eigenheads::detail::completed(options);
  for (const Index size : {all.query_size, all.key_size, all.value_size})
    if (size == 0)
      eigenheads::detail::refuse(
          {"TensorParallelAttention: query_size, key_size and value_size are [", all.query_size,
           ", ", all.key_size, ", ", all.value_size,
           "]; expected 1 or more, since weights that are to be loaded are none to be drawn"});
  const Index columns = own_.count() * head_size_, kv_columns = own_.kv_count() * head_size_;
  W_q = empty_outputs<T>(all.query_size, columns, all.bias);
  W_k = empty_outputs<T>(all.key_size, kv_columns, all.bias);
  W_v = empty_outputs<T>(all.value_size, kv_columns, all.bias);
  W_o = empty_outputs<T>(num_heads() * head_size_, output_shares_.count(ranks.rank()), all.bias);
  has_sinks_ = all.sink_logits;
  sink_logits = Tensor<T, 1>(has_sinks_ ? own_.count() : 0);
  sink_logits.setZero();
  rotary_ = eigenheads::detail::rotary_of<T>(all);
}

template <Scalar T>
void TensorParallelAttention<T>::require_parts() const {
  eigenheads::detail::require_projections(parts(), head_size_, 0);
  const Index heads = num_heads() * head_size_, outputs = output_shares_.count(ranks_->rank());
  if (W_o.in_features() != heads || W_o.out_features() != outputs)
    eigenheads::detail::refuse(
        {"TensorParallelAttention: W_o is [", W_o.out_features(), ", ", W_o.in_features(),
         "]; expected this rank's outputs of all heads, [", outputs, ", ", heads, "]"});
}

template <Scalar T>
template <class Run>
void TensorParallelAttention<T>::round(const char* what, const Inputs& inputs, Digest lengths,
                                       const Run& run) const {
  const auto &q = inputs.queries, &k = inputs.keys, &v = inputs.values;
  Digest gates;
  lengths.add(inputs.query_sequences).add(inputs.key_sequences);
  gates.add(gates_.values());
  ranks_->together(what,
                   {{"the size of a number", Index{sizeof(T)}},
                    {"heads", num_heads()},
                    {"key/value heads", heads_.kv_count()},
                    {"head_size", head_size_},
                    {"num_hiddens", num_hiddens()},
                    {"sequences of queries", q.dimension(0)},
                    {"queries", q.dimension(1)},
                    {"query_size", q.dimension(2)},
                    {"sequences of keys", k.dimension(0)},
                    {"keys", k.dimension(1)},
                    {"key_size", k.dimension(2)},
                    {"values", v.dimension(1)},
                    {"value_size", v.dimension(2)},
                    {"a digest of mask and lengths", lengths.value()},
                    {"a digest of the gates", gates.value()}},
                   run);
}

template <Scalar T>
typename TensorParallelAttention<T>::Call TensorParallelAttention<T>::checked(
    const Inputs& inputs, const Mask& mask, const ScoreRef<T>& score) const {
  require_parts();
  gates_.require_fits(eigenheads::detail::rows_of(inputs.query_sequences, inputs.queries).count(),
                      num_heads());
  Call call = eigenheads::detail::checked_call<T>(parts(), head_size_, 0, inputs, mask);
  call.num_hiddens = num_hiddens();
  score.require_fits({call.shape.B, heads_.original_count(), call.shape.Q, call.shape.K});
  call.score = score;
  if (inputs.is_packed()) call.attend = eigenheads::detail::attend_packed<T>;
  return call;
}

template <Scalar T>
void TensorParallelAttention<T>::gather_heads(const Call& call,
                                              const eigenheads::detail::Participation& part,
                                              const T* own, T* all, Context& context) const {
  const Shares columns = shares_.heads.times(call.shape.V);
  gather_columns(*ranks_, {columns, part.queries}, own, all, context);
}

template <Scalar T>
void TensorParallelAttention<T>::project(const Call& call,
                                         const eigenheads::detail::Participation& part,
                                         const T* all, T* output, Context& context) const {
  const eigenheads::detail::Frame frame(context);
  Call own_outputs = call;
  own_outputs.num_hiddens = W_o.out_features();
  const Index rows = call.mask.query_rows().total();
  T* const own = frame.template take<T>(rows * own_outputs.num_hiddens);
  eigenheads::detail::project_output(W_o, own_outputs, part, all, own, context);
  const eigenheads::detail::Range every{0, rows};
  gather_columns(*ranks_, {output_shares_, eigenheads::detail::one(every)}, own, output, context);
}

template <Scalar T>
void TensorParallelAttention<T>::combine(const Call& call, eigenheads::detail::Mode mode, T* own,
                                         T* output, Context& context) const {
  const eigenheads::detail::SequenceRows& rows = call.mask.query_rows();
  const Index H = call.shape.H, V = call.shape.V;
  // A closed head has left nothing there. What is sent for it is read by nobody.
  for (Index b = 0; mode == eigenheads::detail::Mode::inference && b < rows.count(); ++b)
    for (Index h = 0; h < H; ++h)
      for (Index row = rows.begin(b); !own_gates_.is_open(b, h) && row < rows.begin(b + 1); ++row)
        std::fill_n(own + (row * H + h) * V, V, T(0));
  const eigenheads::detail::Frame frame(context);
  const eigenheads::detail::AttentionShape shape = whole(call.shape);
  const eigenheads::detail::Participation part =
      eigenheads::detail::participation<T>({shape, call.mask, heads_, gates_, mode}, frame);
  T* const all = frame.template take<T>(rows.total() * shape.H * V);
  gather_heads(call, part, own, all, context);
  project(call, part, all, output, context);
}

template <Scalar T>
void TensorParallelAttention<T>::run(const Call& call, const Output& into, Context& context) const {
  const eigenheads::detail::Frame frame(context);
  const eigenheads::detail::Participation part = eigenheads::detail::participation<T>(
      {call.shape, call.mask, own_, own_gates_, into.mode()}, frame);
  const auto heads = eigenheads::detail::HeadTensors<T>::in(frame, call);
  eigenheads::detail::project_heads(parts(), call, part, heads, context);
  eigenheads::detail::attend_heads(call, part, heads,
                                   {.weights = into.weights,
                                    .packed_weights = into.packed_weights,
                                    .gates = own_gates_.table(),
                                    .sinks = parts().sinks()},
                                   context);
  combine(call, into.mode(), heads.heads, into.output, context);
}

template <Scalar T>
Tensor<T, 3> TensorParallelAttention<T>::operator()(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                                    TensorView<T, 3> values, const Mask& mask,
                                                    const CallOptions<T>& options) const {
  Tensor<T, 3> output;
  const Inputs inputs{queries, keys, values};
  round("attention", inputs, Digest().add(mask), [&] {
    const Call call = checked(inputs, mask, options.score);
    output = eigenheads::detail::make_tensor<T>("output", call.output_shape());
    run(call, {.output = output.data()}, options.context.get());
  });
  return output;
}

template <Scalar T>
void TensorParallelAttention<T>::forward_into(TensorSpan<T, 3> output, TensorView<T, 3> queries,
                                              TensorView<T, 3> keys, TensorView<T, 3> values,
                                              const Mask& mask,
                                              const CallOptions<T>& options) const {
  const Inputs inputs{queries, keys, values};
  round("attention", inputs, Digest().add(mask), [&] {
    const Call call = checked(inputs, mask, options.score);
    eigenheads::detail::require_output<T>(call, output);
    run(call, {.output = output.data()}, options.context.get());
  });
}

template <Scalar T>
void TensorParallelAttention<T>::forward_into(TensorSpan<T, 2> output, TensorView<T, 2> x,
                                              const Sequences& sequences, const Mask& mask,
                                              const CallOptions<T>& options) const {
  const auto inputs = Inputs::packed(x, sequences);
  round("attention of packed sequences", inputs, Digest().add(mask), [&] {
    const Call call = checked(inputs, mask, options.score);
    eigenheads::detail::require_output<T>(call, eigenheads::detail::as_block<T>(output));
    run(call, {.output = output.data()}, options.context.get());
  });
}

template <Scalar T>
Tensor<T, 2> TensorParallelAttention<T>::call_packed(const Inputs& inputs, const Mask& mask,
                                                     const CallOptions<T>& options) const {
  Tensor<T, 2> output;
  round("attention of packed sequences", inputs, Digest().add(mask), [&] {
    const Call call = checked(inputs, mask, options.score);
    output = eigenheads::detail::make_tensor<T>("output", call.packed_output_shape());
    run(call, {.output = output.data()}, options.context.get());
  });
  return output;
}

template <Scalar T>
template <class OutputOf>
void TensorParallelAttention<T>::take_step(const eigenheads::detail::StepInputs<T>& inputs,
                                           AnyKvCache<T>& cache, const Mask& mask,
                                           const CallOptions<T>& options,
                                           const OutputOf& output_of) const {
  Context& context = options.context.get();
  const eigenheads::detail::Frame frame(context);
  eigenheads::detail::StepGuard guard(1, [&](Index) -> auto& { return cache.heads(); }, frame);
  round("a step of attention", {inputs.x, inputs.x, inputs.x, inputs.sequences, inputs.sequences},
        Digest().add(mask).add(cache), [&] {
          require_parts();
          gates_.require_fits(inputs.rows().count(), num_heads());
          Call call = eigenheads::detail::checked_step(parts(), inputs, mask, cache.heads(), frame);
          call.num_hiddens = num_hiddens();
          options.score.require_fits(
              {call.shape.B, heads_.original_count(), call.shape.Q, call.shape.K});
          call.score = options.score;
          if (inputs.sequences != nullptr) call.attend = eigenheads::detail::attend_packed<T>;
          const Output into{.output = output_of(call)};
          // Where a ring may let go of what the tokens before saw, it cannot go back (truncate()).
          for (Index b = 0; cache.window() > 0 && b < call.shape.B; ++b)
            if (call.mask.query_count(b) > cache.capacity() - cache.window() + 1) {
              agree(*ranks_);
              break;
            }
          eigenheads::detail::attend_step<T>(
              {parts(), call, cache.heads(), into},
              [&](const eigenheads::detail::Participation&, T* own) {
                combine(call, into.mode(), own, into.output, context);
              },
              context);
        });
  guard.is_done = true;
}

template <Scalar T>
Tensor<T, 3> TensorParallelAttention<T>::step(TensorView<T, 3> x, AnyKvCache<T>& cache,
                                              const Mask& mask,
                                              const CallOptions<T>& options) const {
  Tensor<T, 3> y;
  take_step({x}, cache, mask, options, [&](const Call& call) {
    y = eigenheads::detail::make_tensor<T>("output", call.output_shape());
    return y.data();
  });
  return y;
}

template <Scalar T>
void TensorParallelAttention<T>::step_into(TensorSpan<T, 3> y, TensorView<T, 3> x,
                                           AnyKvCache<T>& cache, const Mask& mask,
                                           const CallOptions<T>& options) const {
  take_step({x}, cache, mask, options, [&](const Call& call) {
    require_shape("y", TensorView<T, 3>(y), "[B, n, num_hiddens]", call.output_shape());
    eigenheads::detail::require_same_or_disjoint("y", TensorView<T, 3>(y), "x", x);
    return y.data();
  });
}

template <Scalar T>
Tensor<T, 2> TensorParallelAttention<T>::step(TensorView<T, 2> x, const Sequences& sequences,
                                              AnyKvCache<T>& cache, const Mask& mask,
                                              const CallOptions<T>& options) const {
  Tensor<T, 2> y;
  take_step({eigenheads::detail::as_block(x), &sequences}, cache, mask, options,
            [&](const Call& call) {
              y = eigenheads::detail::make_tensor<T>("output", call.packed_output_shape());
              return y.data();
            });
  return y;
}

template <Scalar T>
void TensorParallelAttention<T>::step_into(TensorSpan<T, 2> y, TensorView<T, 2> x,
                                           const Sequences& sequences, AnyKvCache<T>& cache,
                                           const Mask& mask, const CallOptions<T>& options) const {
  take_step(
      {eigenheads::detail::as_block(x), &sequences}, cache, mask, options, [&](const Call& call) {
        require_shape("y", TensorView<T, 2>(y), "[N, num_hiddens]", call.packed_output_shape());
        eigenheads::detail::require_same_or_disjoint("y", TensorView<T, 2>(y), "x", x);
        return y.data();
      });
}
