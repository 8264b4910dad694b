// SPDX-License-Identifier: MIT
// AdditiveAttention's members. Included by nn/additive_attention.hpp inside the namespace.

template <Scalar T>
void AdditiveAttention<T>::forward_into(TensorSpan<T, 3> output, TensorView<T, 3> queries,
                                        TensorView<T, 3> keys, TensorView<T, 3> values,
                                        const Mask& mask, Context& context) const {
  const Inputs inputs{queries, keys, values};
  const Checked call(*this, inputs, mask);
  require_output(output, inputs, call.shape);
  run(inputs, call, {.output = output.data()}, context);
}
template <Scalar T>
void AdditiveAttention<T>::forward_into(TensorSpan<T, 3> output, TensorView<T, 3> queries,
                                        TensorView<T, 3> keys, TensorView<T, 3> values,
                                        const Mask& mask, Context& context) {
  const Inputs inputs{queries, keys, values};
  if (is_lazy()) require_output(output, inputs, shape_of(inputs));
  initialize_for(inputs, mask);
  std::as_const(*this).forward_into(output, queries, keys, values, mask, context);
}

// Projections of the rows that take part alone, then the attention.
template <Scalar T>
void AdditiveAttention<T>::run(const Inputs& inputs, const Checked& call, const Into& into,
                               Context& context) const {
  using Layout = detail::StridedMatrix<T>;
  const Index B = call.shape.B, Q = call.shape.Q, K = call.shape.K, H = call.shape.H;
  const detail::Frame frame(context);
  T* const q = into.q != nullptr ? into.q : frame.take<T>(B * Q * H);
  T* const k_groups =
      into.k_groups != nullptr ? into.k_groups : frame.take<T>(B * call.shape.grouped(H));
  const T* const w = weights_of_features(frame);
  const detail::Range features{0, H};
  const auto project = [&](const Linear<T>& linear, TensorView<T, 3> x, Index rows, T* to,
                           const auto& range_of, const auto& gap_of) {
    const detail::Frame frame_of_ranges(context);
    auto* const ranges = frame_of_ranges.take<detail::Range>(2 * B);
    const detail::Range all{0, linear.in_features()};
    linear.project(
        x.data(),
        {detail::join_ranges({B, rows}, range_of, gap_of, ranges), {&all, 1}, {&features, 1}},
        Layout::plain(to, B * rows, H), context);
  };
  project(
      W_q, inputs.queries, Q, q,
      [&](Index b) { return detail::Range{0, call.mask.query_count(b)}; },
      [](Index) { return detail::Range{}; });
  {
    const detail::Frame rows(context);
    T* const k = rows.take<T>(B * K * H);
    project(
        W_k, inputs.keys, K, k, [&](Index b) { return call.mask.seen_keys(b); },
        [&](Index b) { return call.mask.unseen_gap(b); });
    detail::group_keys_of(call.shape, call.mask, k, H, k_groups, context);
  }
  detail::additive_attend<T>({.shape = call.shape,
                              .mask = &call.mask,
                              .q = q,
                              .k = k_groups,
                              .w = w,
                              .values = inputs.values.data(),
                              .dropout = into.dropout,
                              .output = into.output,
                              .lse = into.lse,
                              .weights = into.weights},
                             context);
}

template <Scalar T>
void AdditiveAttention<T>::save(const Inputs& inputs, const Mask& mask,
                                const detail::AdditiveShape& shape, Activations& saved) {
  const auto fit = [](const char* name, auto& tensor, const auto& dimensions) {
    if (TensorView(tensor).dimensions() != dimensions)
      tensor = detail::make_tensor<T>(name, dimensions);
  };
  const auto copy = [&](TensorView<T, 3> from, Tensor<T, 3>& to) {
    fit("activations", to, from.dimensions());
    std::copy_n(from.data(), from.size(), to.data());
  };
  const auto& [B, Q, K, H, V] = shape;
  saved.is_saved_ = false;
  copy(inputs.queries, saved.queries_);
  copy(inputs.keys, saved.keys_);
  copy(inputs.values, saved.values_);
  fit("activations", saved.output_, std::array{B, Q, V});
  fit("activations", saved.q_, std::array{B, Q, H});
  fit("activations", saved.k_groups_, std::array{B * shape.grouped(H)});
  fit("activations", saved.lse_, std::array{B, Q});
  saved.mask_ = mask;
}

template <Scalar T>
void AdditiveAttention<T>::backward_into(Gradients& gradients, TensorView<T, 3> grad_output,
                                         const Activations& saved, bool accumulate,
                                         Context& context) const {
  if (!saved.is_saved_)
    detail::refuse<std::logic_error>(
        {"AdditiveAttention: backward needs the activations of a forward call"});
  const Inputs inputs{saved.queries_, saved.keys_, saved.values_};
  if (W_q.in_features() != saved.queries_.dimension(2) ||
      W_k.in_features() != saved.keys_.dimension(2) || num_hiddens() != saved.q_.dimension(2))
    detail::refuse<std::logic_error>(
        {"AdditiveAttention: the activations are those of a module of other sizes"});
  const Checked call(*this, inputs, saved.mask_);
  const auto& [B, Q, K, H, V] = call.shape;
  require_shape("grad_output", grad_output, "[B, Q, V]", call.output_shape());
  const auto fit = [&](const char* name, Tensor<T, 3>& tensor, TensorView<T, 3> like) {
    detail::fit_gradient(name, tensor, "the input's", like.dimensions(), accumulate);
  };
  fit("gradients.queries", gradients.queries, inputs.queries);
  fit("gradients.keys", gradients.keys, inputs.keys);
  fit("gradients.values", gradients.values, inputs.values);
  W_k.fit(gradients.W_k, accumulate);
  W_q.fit(gradients.W_q, accumulate);
  w_v.fit(gradients.w_v, accumulate);

  const detail::Frame frame(context);
  T* const value_groups = frame.take<T>(B * call.shape.grouped(V));
  T* const grad_q = frame.take<T>(B * Q * H);
  T* const grad_w = frame.take<T>(B * Q * H);
  T* const grad_k_groups = frame.take<T>(B * call.shape.grouped(H));
  T* const grad_k = frame.take<T>(B * K * H);
  T* const grad_values = accumulate ? frame.take<T>(B * K * V) : gradients.values.data();
  detail::group_keys_of(call.shape, call.mask, inputs.values.data(), V, value_groups, context);
  detail::additive_backward<T>({.shape = call.shape,
                                .mask = &call.mask,
                                .q = saved.q_.data(),
                                .k = saved.k_groups_.data(),
                                .w = weights_of_features(frame),
                                .values = value_groups,
                                .dropout = saved.dropout_.threshold > 0 ? &saved.dropout_ : nullptr,
                                .lse = saved.lse_.data(),
                                .output = saved.output_.data(),
                                .grad_output = grad_output.data(),
                                .grad_q = grad_q,
                                .grad_w = grad_w,
                                .grad_k = grad_k_groups,
                                .grad_values = grad_values},
                               context);
  for (Index i = 0; accumulate && i < B * K * V; ++i) gradients.values.data()[i] += grad_values[i];
  detail::sum_rows(call.shape, grad_w, accumulate, gradients.w_v.weight.data(), context);
  detail::ungroup_keys_of(call.shape, grad_k_groups, grad_k, context);
  const detail::Range features{0, H};
  W_q.backward(
      {inputs.queries.data(), grad_q, {B, Q}, {&features, 1}, gradients.queries.data(), accumulate},
      gradients.W_q, accumulate, context);
  W_k.backward(
      {inputs.keys.data(), grad_k, {B, K}, {&features, 1}, gradients.keys.data(), accumulate},
      gradients.W_k, accumulate, context);
}
