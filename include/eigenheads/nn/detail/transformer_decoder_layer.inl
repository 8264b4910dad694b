// SPDX-License-Identifier: MIT
// What the calls of TransformerDecoderLayer do. Included by nn/transformer_decoder_layer.hpp inside
// its namespace.

template <Scalar T>
template <class Form>
Tensor<T, Form::rank> TransformerDecoderLayer<T>::run(const Inputs<Form>& inputs,
                                                      const DecoderMask& masks,
                                                      const CallOptions<T>& options) const {
  auto y = detail::make_tensor<T>("y", inputs.form.view(inputs.x).dimensions());
  run_steps(inputs, y.data(), masks, options);
  return y;
}

template <Scalar T>
template <class Form>
void TransformerDecoderLayer<T>::run_into(TensorSpan<T, Form::rank> y, const Inputs<Form>& inputs,
                                          const DecoderMask& masks,
                                          const CallOptions<T>& options) const {
  const TensorView<T, Form::rank> result(y), x = inputs.form.view(inputs.x);
  require_shape("y", result, "x's shape", x.dimensions());
  detail::require_same_or_disjoint("y", result, "x", x);
  detail::require_disjoint("y", result, "memory", inputs.memory_form.view(inputs.memory));
  run_steps(inputs, y.data(), masks, options);
}

template <Scalar T>
template <class Form>
void TransformerDecoderLayer<T>::run_steps(const Inputs<Form>& inputs, T* y,
                                           const DecoderMask& masks,
                                           const CallOptions<T>& options) const {
  const Form& form = inputs.form;
  const CallOptions<T> of_memory{.context = options.context};
  run_sublayers(
      form, inputs.x, y, options.context.get(),
      [&](const T* in, T* out) {
        form.with_self(in, [&](const auto&... of) {
          self_attention.forward_into(form.span(out), of..., masks.self, options);
        });
      },
      [&](const T* in, T* out) {
        form.with_memory(in, inputs.memory_form, inputs.memory, [&](const auto&... of) {
          cross_attention.forward_into(form.span(out), of..., masks.memory, of_memory);
        });
      });
}

template <Scalar T>
template <class Form, class Cache, class... Of>
void TransformerDecoderLayer<T>::take_step(const Form& form, TensorSpan<T, Form::rank> y,
                                           TensorView<T, Form::rank> x, Cache& cache,
                                           const KeyValues<T>& memory, const DecoderMask& masks,
                                           const CallOptions<T>& options,
                                           const Of&... sequences) const {
  const TensorView<T, Form::rank> result(y);
  require_shape("y", result, "x's shape", x.dimensions());
  detail::require_same_or_disjoint("y", result, "x", x);
  Context& context = options.context.get();
  const CallOptions<T> of_memory{.context = options.context};
  const detail::Frame frame(context);
  detail::StepGuard guard(1, [&](Index) -> auto& { return cache.heads(); }, frame);
  run_sublayers(
      form, x.data(), y.data(), context,
      [&](const T* in, T* out) {
        self_attention.step_into(form.span(out), form.view(in), sequences..., cache, masks.self,
                                 options);
      },
      [&](const T* in, T* out) {
        cross_attention.attend_into(form.span(out), form.view(in), sequences..., memory,
                                    masks.memory, of_memory);
      });
  guard.is_done = true;
}

template <Scalar T>
template <class Form, class Cache, class... Of>
TransformerDecoderLayerOutput<T, Form::rank> TransformerDecoderLayer<T>::take_step_with_weights(
    const Form& form, TensorView<T, Form::rank> x, Cache& cache, const KeyValues<T>& memory,
    const DecoderMask& masks, const CallOptions<T>& options, const Of&... sequences) const {
  const CallOptions<T> of_memory{.context = options.context};
  const detail::Frame frame(options.context.get());
  detail::StepGuard guard(1, [&](Index) -> auto& { return cache.heads(); }, frame);
  auto result = run_with_weights(
      form, x.data(), options.context.get(),
      [&](const T* in) {
        return self_attention.step_with_weights(form.view(in), sequences..., cache, masks.self,
                                                options);
      },
      [&](const T* in) {
        return cross_attention.attend_with_weights(form.view(in), sequences..., memory,
                                                   masks.memory, of_memory);
      });
  guard.is_done = true;
  return result;
}

template <Scalar T>
template <class Form>
TransformerDecoderLayerOutput<T, Form::rank> TransformerDecoderLayer<T>::call_with_weights(
    const Inputs<Form>& inputs, const DecoderMask& masks, const CallOptions<T>& options) const {
  const Form& form = inputs.form;
  const CallOptions<T> of_memory{.context = options.context};
  return run_with_weights(
      form, inputs.x, options.context.get(),
      [&](const T* in) {
        return form.with_self(in, [&](const auto&... of) {
          return self_attention.with_weights(of..., masks.self, options);
        });
      },
      [&](const T* in) {
        return form.with_memory(in, inputs.memory_form, inputs.memory, [&](const auto&... of) {
          return cross_attention.with_weights(of..., masks.memory, of_memory);
        });
      });
}

template <Scalar T>
template <class Form, class Attend, class AttendToMemory>
TransformerDecoderLayerOutput<T, Form::rank> TransformerDecoderLayer<T>::run_with_weights(
    const Form& form, const T* x, Context& context, const Attend& attend,
    const AttendToMemory& attend_to_memory) const {
  TransformerDecoderLayerOutput<T, Form::rank> result;
  result.output = detail::make_tensor<T>("y", form.view(x).dimensions());
  run_sublayers(
      form, x, result.output.data(), context,
      [&](const T* in, T* out) { detail::keep_weights<T>(attend(in), result.weights, out); },
      [&](const T* in, T* out) {
        detail::keep_weights<T>(attend_to_memory(in), result.memory_weights, out);
      });
  return result;
}

template <Scalar T>
template <class Form, class Attend, class AttendToMemory>
void TransformerDecoderLayer<T>::run_sublayers(const Form& form, const T* x, T* y, Context& context,
                                               const Attend& attend,
                                               const AttendToMemory& attend_to_memory) const {
  const detail::Frame frame(context);
  detail::SublayerRun<T, Form> run(form, options_.norm_first, x, frame, context);
  run.step(norm1, attend);
  run.step(norm2, attend_to_memory);
  run.last(
      norm3,
      [&](const T* in, T* out) {
        detail::feed_forward<T>(feed_forward.parts(), {.x = in, .y = out, .rows = form.rows()},
                                context);
      },
      y);
}

template <Scalar T>
template <class Form>
void TransformerDecoderLayer<T>::require_step(const Inputs<Form>& inputs, const DecoderMask& masks,
                                              const TrainingOptions<T>& options) const {
  static_cast<void>(step_dropout(options));
  const Form& form = inputs.form;
  form.with_self(inputs.x, [&](const auto&... of) {
    self_attention.require_trainable(of..., masks.self, options);
  });
  form.with_memory(inputs.x, inputs.memory_form, inputs.memory, [&](const auto&... of) {
    cross_attention.require_trainable(of..., masks.memory, {.seed = options.seed});
  });
}

template <Scalar T>
template <class Form>
Tensor<T, Form::rank> TransformerDecoderLayer<T>::train(const Inputs<Form>& inputs,
                                                        const DecoderMask& masks,
                                                        Activations& saved,
                                                        const TrainingOptions<T>& options) const {
  // What the second attention refuses, too, leaves `saved` as it was.
  require_step(inputs, masks, options);
  saved.is_saved = false;
  const detail::StepDropout dropout = step_dropout(options);
  const Form &form = inputs.form, &memory_form = inputs.memory_form;
  const T *const x = inputs.x, *const memory = inputs.memory;
  Context& context = options.context.get();
  const bool first = options_.norm_first;
  const auto self = detail::train_sublayer<T>(
      {norm1, first, dropout.template mask<T>("dropout1")}, form, x,
      [&](const T* in) {
        const TrainingOptions<T> of_self{.score = options.score,
                                         .seed = dropout.seed("self_attention"),
                                         .context = options.context};
        return form.with_self(in, [&](const auto&... of) {
          return self_attention.forward(of..., masks.self, saved.self_attention, of_self);
        });
      },
      saved.sublayer1, context);
  const auto cross = detail::train_sublayer<T>(
      {norm2, first, dropout.template mask<T>("dropout2")}, form, self.data(),
      [&](const T* in) {
        const TrainingOptions<T> of_memory{.seed = dropout.seed("cross_attention"),
                                           .context = options.context};
        return form.with_memory(in, memory_form, memory, [&](const auto&... of) {
          return cross_attention.forward(of..., masks.memory, saved.cross_attention, of_memory);
        });
      },
      saved.sublayer2, context);
  auto y = detail::train_sublayer<T>(
      {norm3, first, dropout.template mask<T>("dropout3")}, form, cross.data(),
      [&](const T* in) { return form.train(feed_forward, in, saved.feed_forward, context); },
      saved.sublayer3, context);
  saved.sequences = form.sequences();
  saved.memory_sequences = memory_form.sequences();
  saved.is_saved = true;
  return y;
}

template <Scalar T>
void TransformerDecoderLayer<T>::undo(Gradients& gradients, const T* grad_y,
                                      const Activations& saved,
                                      const detail::SublayerBackward& call) const {
  const bool first = options_.norm_first;
  const detail::Frame frame(call.context);
  T* const between = frame.template take<T>(gradients.x.size());
  detail::sublayer_backward<T>(
      {norm3, first}, call, saved.sublayer3, grad_y, between, gradients.norm3, [&](const T* grad) {
        return detail::feed_forward_backward(feed_forward, call, saved.feed_forward, grad,
                                             gradients.feed_forward);
      });
  detail::sublayer_backward<T>(
      {norm2, first}, call, saved.sublayer2, between, between, gradients.norm2,
      [&](const T* grad) -> const T* {
        auto& of = gradients.cross_attention;
        detail::attention_backward(cross_attention, call, {saved.memory_sequences, memory_size()},
                                   saved.cross_attention, grad, of);
        // The memory is the keys and the values.
        const auto [B, K, M] = saved.memory_sequences.shape(memory_size());
        detail::resize("gradients.memory", gradients.memory, {B, K, M});
        detail::add_elements<T>(of.keys.data(), of.values.data(), gradients.memory.data(),
                                gradients.memory.size(), call.context);
        return of.queries.data();
      });
  detail::sublayer_backward<T>({norm1, first}, call, saved.sublayer1, between, gradients.x.data(),
                               gradients.norm1, [&](const T* grad) {
                                 return detail::self_attention_backward(self_attention, call,
                                                                        saved.self_attention, grad,
                                                                        gradients.self_attention);
                               });
}

template <Scalar T>
std::ostream& operator<<(std::ostream& out, const TransformerDecoderLayer<T>& layer) {
  out << "TransformerDecoderLayer(";
  detail::print_member(out, "self_attention", layer.self_attention);
  detail::print_member(out, "norm1", layer.norm1);
  detail::print_member(out, "cross_attention", layer.cross_attention);
  detail::print_member(out, "norm2", layer.norm2);
  detail::print_member(out, "feed_forward", layer.feed_forward);
  detail::print_member(out, "norm3", layer.norm3);
  detail::print_member(out, "dropout", Dropout(layer.options().dropout));
  return out << "\n)";
}
