// SPDX-License-Identifier: MIT
// What the calls of TransformerEncoderLayer do. Included by nn/transformer_encoder_layer.hpp inside
// its namespace.

template <Scalar T>
template <class Form>
Tensor<T, Form::rank> TransformerEncoderLayer<T>::run(const Form& form, TensorView<T, Form::rank> x,
                                                      const Mask& mask,
                                                      const CallOptions<T>& options) const {
  auto y = detail::make_tensor<T>("y", x.dimensions());
  run_into(form, TensorSpan<T, Form::rank>(y), x, mask, options);
  return y;
}

template <Scalar T>
template <class Form>
void TransformerEncoderLayer<T>::run_into(const Form& form, TensorSpan<T, Form::rank> y,
                                          TensorView<T, Form::rank> x, const Mask& mask,
                                          const CallOptions<T>& options) const {
  run_sublayers(form, y, x, options.context.get(), [&](const T* in, T* out) {
    form.with_self(in, [&](const auto&... of) {
      self_attention.forward_into(form.span(out), of..., mask, options);
    });
  });
}

template <Scalar T>
template <class Form, class Attend, class Cache>
void TransformerEncoderLayer<T>::take_step(const Form& form, TensorSpan<T, Form::rank> y,
                                           TensorView<T, Form::rank> x,
                                           const CallOptions<T>& options, const Attend& attend,
                                           Cache& cache) const {
  Context& context = options.context.get();
  const detail::Frame frame(context);
  detail::StepGuard guard(1, [&](Index) -> auto& { return cache.heads(); }, frame);
  run_sublayers(form, y, x, context,
                [&](const T* in, T* out) { attend(form.view(in), form.span(out)); });
  guard.is_done = true;
}

template <Scalar T>
template <class Form, class Cache, class... Of>
detail::WeightedOutput<T, Form::rank> TransformerEncoderLayer<T>::take_step_with_weights(
    const Form& form, TensorView<T, Form::rank> x, Cache& cache, const Mask& mask,
    const CallOptions<T>& options, const Of&... sequences) const {
  const detail::Frame frame(options.context.get());
  detail::StepGuard guard(1, [&](Index) -> auto& { return cache.heads(); }, frame);
  auto result = run_with_weights(form, x, options.context.get(), [&](const T* in) {
    return self_attention.step_with_weights(form.view(in), sequences..., cache, mask, options);
  });
  guard.is_done = true;
  return result;
}

template <Scalar T>
template <class Form>
detail::WeightedOutput<T, Form::rank> TransformerEncoderLayer<T>::call_with_weights(
    const Form& form, TensorView<T, Form::rank> x, const Mask& mask,
    const CallOptions<T>& options) const {
  return run_with_weights(form, x, options.context.get(), [&](const T* in) {
    return form.with_self(
        in, [&](const auto&... of) { return self_attention.with_weights(of..., mask, options); });
  });
}

template <Scalar T>
template <class Form, class Attend>
detail::WeightedOutput<T, Form::rank> TransformerEncoderLayer<T>::run_with_weights(
    const Form& form, TensorView<T, Form::rank> x, Context& context, const Attend& attend) const {
  detail::WeightedOutput<T, Form::rank> result{detail::make_tensor<T>("y", x.dimensions()), {}};
  run_sublayers(
      form, TensorSpan<T, Form::rank>(result.output), x, context,
      [&](const T* in, T* out) { detail::keep_weights<T>(attend(in), result.weights, out); });
  return result;
}

template <Scalar T>
template <class Form, class Attend>
void TransformerEncoderLayer<T>::run_sublayers(const Form& form, TensorSpan<T, Form::rank> y,
                                               TensorView<T, Form::rank> x, Context& context,
                                               const Attend& attend) const {
  const TensorView<T, Form::rank> result(y);
  require_shape("y", result, "x's shape", x.dimensions());
  detail::require_same_or_disjoint("y", result, "x", x);
  const detail::Frame frame(context);
  detail::SublayerRun<T, Form> run(form, options_.norm_first, x.data(), frame, context);
  run.step(norm1, attend);
  run.last(
      norm2,
      [&](const T* in, T* out) {
        detail::feed_forward<T>(feed_forward.parts(), {.x = in, .y = out, .rows = form.rows()},
                                context);
      },
      y.data());
}

template <Scalar T>
template <class Form>
void TransformerEncoderLayer<T>::require_step(const Form& form, const T* x, const Mask& mask,
                                              const TrainingOptions<T>& options) const {
  static_cast<void>(step_dropout(options));
  form.with_self(x, [&](const auto&... inputs) {
    self_attention.require_trainable(inputs..., mask, options);
  });
}

template <Scalar T>
template <class Form>
Tensor<T, Form::rank> TransformerEncoderLayer<T>::train(const Form& form, const T* x,
                                                        const Mask& mask, Activations& saved,
                                                        const TrainingOptions<T>& options) const {
  const detail::StepDropout dropout = step_dropout(options);
  Context& context = options.context.get();
  const bool first = options_.norm_first;
  const auto between = detail::train_sublayer<T>(
      {norm1, first, dropout.template mask<T>("dropout1")}, form, x,
      [&](const T* in) {
        const TrainingOptions<T> of_attention{.score = options.score,
                                              .seed = dropout.seed("self_attention"),
                                              .context = options.context};
        auto output = form.with_self(in, [&](const auto&... inputs) {
          return self_attention.forward(inputs..., mask, saved.self_attention, of_attention);
        });
        saved.is_saved = false;  // what the attention refuses leaves `saved` as it was
        saved.sequences = form.sequences();
        return output;
      },
      saved.sublayer1, context);
  auto y = detail::train_sublayer<T>(
      {norm2, first, dropout.template mask<T>("dropout2")}, form, between.data(),
      [&](const T* in) { return form.train(feed_forward, in, saved.feed_forward, context); },
      saved.sublayer2, context);
  saved.is_saved = true;
  return y;
}

template <Scalar T>
void TransformerEncoderLayer<T>::undo(Gradients& gradients, const T* grad_y,
                                      const Activations& saved,
                                      const detail::SublayerBackward& call) const {
  const bool first = options_.norm_first;
  const detail::Frame frame(call.context);
  T* const between = frame.template take<T>(gradients.x.size());
  detail::sublayer_backward<T>(
      {norm2, first}, call, saved.sublayer2, grad_y, between, gradients.norm2, [&](const T* grad) {
        return detail::feed_forward_backward(feed_forward, call, saved.feed_forward, grad,
                                             gradients.feed_forward);
      });
  detail::sublayer_backward<T>({norm1, first}, call, saved.sublayer1, between, gradients.x.data(),
                               gradients.norm1, [&](const T* grad) {
                                 return detail::self_attention_backward(self_attention, call,
                                                                        saved.self_attention, grad,
                                                                        gradients.self_attention);
                               });
}

template <Scalar T>
std::ostream& operator<<(std::ostream& out, const TransformerEncoderLayer<T>& layer) {
  out << "TransformerEncoderLayer(";
  detail::print_member(out, "self_attention", layer.self_attention);
  detail::print_member(out, "norm1", layer.norm1);
  detail::print_member(out, "feed_forward", layer.feed_forward);
  detail::print_member(out, "norm2", layer.norm2);
  detail::print_member(out, "dropout", Dropout(layer.options().dropout));
  return out << "\n)";
}
