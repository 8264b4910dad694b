// SPDX-License-Identifier: MIT
#pragma once
// A layer of a transformer's encoder: self-attention, then a feed-forward network, each with its
// norm and its residual (nn/detail/sublayer.hpp).
//   TransformerEncoderLayer<float> layer({.num_hiddens = 64, .num_heads = 4,
//                                         .feed_forward_size = 256, .norm_first = true});
//   y = layer(x, {.valid_lens = lens});   // padded: [B, L, E]
//   y = layer(x, sequences);              // packed: [N, E]
// Vaswani et al., "Attention Is All You Need", 2017, section 3.1.
#include <cstdint>
#include <ostream>
#include <stdexcept>
#include <string>
#include <string_view>

#include <eigenheads/call_options.hpp>  // CallOptions, TrainingOptions
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/step_guard.hpp>              // StepGuard
#include <eigenheads/mask.hpp>                           // Mask
#include <eigenheads/multi_head_attention.hpp>           // MultiHeadAttention
#include <eigenheads/nn/detail/module_text.hpp>          // print_member
#include <eigenheads/nn/detail/row_forms.hpp>            // PaddedForm, PackedForm
#include <eigenheads/nn/detail/sublayer.hpp>             // SublayerRun, train_sublayer
#include <eigenheads/nn/detail/transformer_steps.hpp>    // StepDropout, self_attention_backward
#include <eigenheads/nn/feed_forward.hpp>                // FeedForward
#include <eigenheads/nn/layer_norm.hpp>                  // AnyNorm
#include <eigenheads/nn/transformer_layer_training.hpp>  // TransformerEncoderLayerActivations
#include <eigenheads/nn/transformer_options.hpp>         // TransformerLayerOptions
#include <eigenheads/nn/transformer_weights.hpp>         // WeightedOutput, keep_weights
#include <eigenheads/sequences.hpp>                      // Sequences
#include <eigenheads/shape.hpp>                          // require_shape, make_tensor
#include <eigenheads/tensor.hpp>                         // Tensor, TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI {

template <Scalar T>
class TransformerEncoderLayer {
 public:
  using Activations = TransformerEncoderLayerActivations<T>;
  using Gradients = TransformerEncoderLayerGradients<T>;

  // Weights depend on (seed, parameter name, sizes) alone. Throws std::invalid_argument for invalid
  // options.
  explicit TransformerEncoderLayer(const TransformerLayerOptions& options, std::uint64_t seed = 0)
      : TransformerEncoderLayer(detail::TransformerParts(options), seed) {}

  MultiHeadAttention<T> self_attention;
  AnyNorm<T> norm1;
  FeedForward<T> feed_forward;
  AnyNorm<T> norm2;

  [[nodiscard]] const TransformerLayerOptions& options() const { return options_; }

  // visit(Parameter) for those of the members: "self_attention.W_q.weight" and so on, "norm1.weight",
  // "feed_forward.up.weight", "norm2.weight".
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    Gradients::visit_parameters(*this, visit, prefix);
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    Gradients::visit_parameters(*this, visit, prefix);
  }

  // Inference, without dropout. x: [B, L, E], of which the mask says which keys are seen; or packed:
  // x: [N, E], the rows of all sequences. Throws std::invalid_argument if x or the mask does not fit.
  template <TensorOfRank<3> X>
  [[nodiscard]] Tensor<T, 3> operator()(const X& x, const Mask& mask = {},
                                        const CallOptions<T>& options = {}) const {
    return run(padded(x), TensorView<T, 3>(x), mask, options);
  }
  template <TensorOfRank<2> X>
  [[nodiscard]] Tensor<T, 2> operator()(const X& x, const Sequences& sequences,
                                        const Mask& mask = {},
                                        const CallOptions<T>& options = {}) const {
    return run(packed(x, sequences), TensorView<T, 2>(x), mask, options);
  }

  // The same into y, which may be x itself, but may not overlap it otherwise. Allocates nothing once
  // the context has seen such a call.
  template <TensorOfRank<3> Y, TensorOfRank<3> X>
  void forward_into(Y&& y, const X& x, const Mask& mask = {},
                    const CallOptions<T>& options = {}) const {
    run_into(padded(x), TensorSpan<T, 3>(y), TensorView<T, 3>(x), mask, options);
  }
  template <TensorOfRank<2> Y, TensorOfRank<2> X>
  void forward_into(Y&& y, const X& x, const Sequences& sequences, const Mask& mask = {},
                    const CallOptions<T>& options = {}) const {
    run_into(packed(x, sequences), TensorSpan<T, 2>(y), TensorView<T, 2>(x), mask, options);
  }

  // The same output to the bit, and every head's weights in self-attention: [B, H, L, L], or packed,
  // for each sequence [H, Q, K].
  template <TensorOfRank<3> X>
  [[nodiscard]] AttentionOutput<T> with_weights(const X& x, const Mask& mask = {},
                                                const CallOptions<T>& options = {}) const {
    return call_with_weights(padded(x), TensorView<T, 3>(x), mask, options);
  }
  template <TensorOfRank<2> X>
  [[nodiscard]] PackedAttentionOutput<T> with_weights(const X& x, const Sequences& sequences,
                                                      const Mask& mask = {},
                                                      const CallOptions<T>& options = {}) const {
    return call_with_weights(packed(x, sequences), TensorView<T, 2>(x), mask, options);
  }

  // ---- Decoding: include <eigenheads/kv_cache.hpp> -----------------------------------------------

  // As those of the attention: x: [B, n, E], the next tokens of every sequence, or packed, [N, E];
  // causal, with the bits of one call over the whole sequence. What is refused or fails leaves the
  // cache as that of an attention's step (layer/step_calls.hpp).
  template <TensorOfRank<3> X>
  [[nodiscard]] Tensor<T, 3> step(const X& x, AnyKvCache<T>& cache, const Mask& mask = {},
                                  const CallOptions<T>& options = {}) const {
    auto y = detail::make_tensor<T>("y", TensorView<T, 3>(x).dimensions());
    step_into(y, x, cache, mask, options);
    return y;
  }
  template <TensorOfRank<2> X>
  [[nodiscard]] Tensor<T, 2> step(const X& x, const Sequences& sequences, AnyKvCache<T>& cache,
                                  const Mask& mask = {}, const CallOptions<T>& options = {}) const {
    auto y = detail::make_tensor<T>("y", TensorView<T, 2>(x).dimensions());
    step_into(y, x, sequences, cache, mask, options);
    return y;
  }
  // The same into y, which may be x itself, but may not overlap it otherwise.
  template <TensorOfRank<3> Y, TensorOfRank<3> X>
  void step_into(Y&& y, const X& x, AnyKvCache<T>& cache, const Mask& mask = {},
                 const CallOptions<T>& options = {}) const {
    take_step(
        padded(x), TensorSpan<T, 3>(y), TensorView<T, 3>(x), options,
        [&](const auto& in, const auto& out) {
          self_attention.step_into(out, in, cache, mask, options);
        },
        cache);
  }
  template <TensorOfRank<2> Y, TensorOfRank<2> X>
  void step_into(Y&& y, const X& x, const Sequences& sequences, AnyKvCache<T>& cache,
                 const Mask& mask = {}, const CallOptions<T>& options = {}) const {
    take_step(
        packed(x, sequences), TensorSpan<T, 2>(y), TensorView<T, 2>(x), options,
        [&](const auto& in, const auto& out) {
          self_attention.step_into(out, in, sequences, cache, mask, options);
        },
        cache);
  }

  // The same output to the bit, and every head's weights in self-attention, as those of a layer's step.
  template <TensorOfRank<3> X>
  [[nodiscard]] AttentionOutput<T> step_with_weights(const X& x, AnyKvCache<T>& cache,
                                                     const Mask& mask = {},
                                                     const CallOptions<T>& options = {}) const {
    return take_step_with_weights(padded(x), TensorView<T, 3>(x), cache, mask, options);
  }
  template <TensorOfRank<2> X>
  [[nodiscard]] PackedAttentionOutput<T> step_with_weights(
      const X& x, const Sequences& sequences, AnyKvCache<T>& cache, const Mask& mask = {},
      const CallOptions<T>& options = {}) const {
    return take_step_with_weights(packed(x, sequences), TensorView<T, 2>(x), cache, mask, options,
                                  sequences);
  }

  // ---- Training ----------------------------------------------------------------------------------

  // The output of operator(), to the bit if nothing is dropped; `saved` gets what backward needs.
  // What is dropped is a function of options.seed and of places alone. Throws std::invalid_argument
  // also if the layer drops and no seed is given.
  template <TensorOfRank<3> X>
  Tensor<T, 3> forward(const X& x, const Mask& mask, Activations& saved,
                       const TrainingOptions<T>& options = {}) const {
    return train(padded(x), TensorView<T, 3>(x).data(), mask, saved, options);
  }
  template <TensorOfRank<2> X>
  Tensor<T, 2> forward(const X& x, const Sequences& sequences, const Mask& mask, Activations& saved,
                       const TrainingOptions<T>& options = {}) const {
    return train(packed(x, sequences), TensorView<T, 2>(x).data(), mask, saved, options);
  }

  // grad_y: of the output's shape. Throws std::invalid_argument if it is not, std::logic_error if
  // nothing is saved or the layer has other sizes than then.
  template <detail::TensorLike Y>
  [[nodiscard]] Gradients backward(const Y& grad_y, const Activations& saved,
                                   Context& context = default_context()) const {
    Gradients gradients;
    backward_into(gradients, grad_y, saved, false, context);
    return gradients;
  }
  // The same into `gradients`; those of the parameters may be added to what it holds.
  template <detail::TensorLike Y>
  void backward_into(Gradients& gradients, const Y& grad_y, const Activations& saved,
                     bool accumulate = false, Context& context = default_context()) const {
    const TensorView<T, rank_of<Y>> view(grad_y);
    require_saved(saved);
    detail::require_form(view, saved.sequences, size());
    fit(gradients, saved, accumulate);
    const auto [B, L, E] = saved.sequences.shape(size());
    detail::resize("gradients.x", gradients.x, {B, L, E});
    undo(gradients, view.data(), saved,
         {.sequences = saved.sequences, .size = E, .accumulate = accumulate, .context = context});
  }

  // ---- Checks, for modules that are made of such layers ------------------------------------------

  // Throws std::invalid_argument if a member was replaced by one of another size.
  void require_parts() const {
    detail::require_sizes("TransformerEncoderLayer", size(),
                          {{"self_attention.num_hiddens", self_attention.num_hiddens()},
                           {"norm1.size", norm1.size()},
                           {"feed_forward.size", feed_forward.size()},
                           {"norm2.size", norm2.size()}});
    feed_forward.require_parts();
  }
  // And what forward throws for such a call.
  void require_trainable(TensorView<T, 3> x, const Mask& mask,
                         const TrainingOptions<T>& options) const {
    require_step(padded(x), x.data(), mask, options);
  }
  void require_trainable(TensorView<T, 2> x, const Sequences& sequences, const Mask& mask,
                         const TrainingOptions<T>& options) const {
    require_step(packed(x, sequences), x.data(), mask, options);
  }
  // And std::logic_error unless `saved` is of a call of this layer, or one of its sizes.
  void require_saved(const Activations& saved) const {
    if (!saved.is_saved)
      detail::refuse<std::logic_error>(
          {"TransformerEncoderLayer: backward needs the activations of a forward call"});
    require_parts();
    detail::require_saved_attention(self_attention, saved.self_attention);
    feed_forward.require_saved(saved.feed_forward);
  }
  // Gives the gradients of the parameters their shapes, or, if they are added to, refuses others.
  void fit(Gradients& gradients, const Activations& saved, bool accumulate) const {
    detail::fit_parameter_gradients(self_attention.parts(), saved.self_attention,
                                    gradients.self_attention, accumulate);
    norm1.fit(gradients.norm1, accumulate);
    feed_forward.fit(gradients.feed_forward, accumulate);
    norm2.fit(gradients.norm2, accumulate);
  }

 private:
  TransformerEncoderLayer(const detail::TransformerParts& parts, std::uint64_t seed)
      : self_attention(parts.self_attention(), detail::part_seed(seed, "self_attention")),
        norm1(parts.template norm<T>()),
        feed_forward(parts.feed_forward(), detail::part_seed(seed, "feed_forward")),
        norm2(parts.template norm<T>()),
        options_(parts.options()) {}

  [[nodiscard]] Index size() const { return options_.num_hiddens; }
  [[nodiscard]] detail::PaddedForm<T> padded(TensorView<T, 3> x) const {
    require_parts();
    return detail::padded_form("x", x, size());
  }
  [[nodiscard]] detail::PackedForm<T> packed(TensorView<T, 2> x, const Sequences& sequences) const {
    require_parts();
    return detail::packed_form("x", x, sequences, size());
  }

  template <class Form>
  [[nodiscard]] Tensor<T, Form::rank> run(const Form& form, TensorView<T, Form::rank> x,
                                          const Mask& mask, const CallOptions<T>& options) const;
  template <class Form>
  void run_into(const Form& form, TensorSpan<T, Form::rank> y, TensorView<T, Form::rank> x,
                const Mask& mask, const CallOptions<T>& options) const;
  // attend(in, out): a step of the attention, which is in the cache even if what follows fails.
  template <class Form, class Attend, class Cache>
  void take_step(const Form& form, TensorSpan<T, Form::rank> y, TensorView<T, Form::rank> x,
                 const CallOptions<T>& options, const Attend& attend, Cache& cache) const;
  // sequences: of packed tokens, or nothing.
  template <class Form, class Cache, class... Of>
  [[nodiscard]] detail::WeightedOutput<T, Form::rank> take_step_with_weights(
      const Form& form, TensorView<T, Form::rank> x, Cache& cache, const Mask& mask,
      const CallOptions<T>& options, const Of&... sequences) const;
  template <class Form>
  [[nodiscard]] detail::WeightedOutput<T, Form::rank> call_with_weights(
      const Form& form, TensorView<T, Form::rank> x, const Mask& mask,
      const CallOptions<T>& options) const;
  // attend(in): self-attention of rows `in`, with weights.
  template <class Form, class Attend>
  [[nodiscard]] detail::WeightedOutput<T, Form::rank> run_with_weights(const Form& form,
                                                                       TensorView<T, Form::rank> x,
                                                                       Context& context,
                                                                       const Attend& attend) const;
  // attend(in, out): self-attention of rows `in`.
  template <class Form, class Attend>
  void run_sublayers(const Form& form, TensorSpan<T, Form::rank> y, TensorView<T, Form::rank> x,
                     Context& context, const Attend& attend) const;

  [[nodiscard]] detail::StepDropout step_dropout(const TrainingOptions<T>& options) const {
    return {"TransformerEncoderLayer", options_.dropout, options.seed};
  }
  template <class Form>
  void require_step(const Form& form, const T* x, const Mask& mask,
                    const TrainingOptions<T>& options) const;

  template <class Form>
  Tensor<T, Form::rank> train(const Form& form, const T* x, const Mask& mask, Activations& saved,
                              const TrainingOptions<T>& options) const;

  void undo(Gradients& gradients, const T* grad_y, const Activations& saved,
            const detail::SublayerBackward& call) const;

  TransformerLayerOptions options_;
};

// In PyTorch's manner.
template <Scalar T>
std::ostream& operator<<(std::ostream& out, const TransformerEncoderLayer<T>& layer);

#include <eigenheads/nn/detail/transformer_encoder_layer.inl>

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
