// SPDX-License-Identifier: MIT
#pragma once
// A layer of a transformer's decoder: self-attention, which is causal unless its mask says otherwise,
// attention to a memory (what the encoder gave), and a feed-forward network, each with its norm and
// its residual (nn/detail/sublayer.hpp).
//   y = layer(x, memory, {.memory = {.valid_lens = lens}});    // padded: [B, L, E], [B, K, M]
//   y = layer(x, sequences, memory, memory_sequences);         // packed: [N, E], [R, M]
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
#include <eigenheads/nn/detail/row_forms.hpp>            // padded_form, packed_form
#include <eigenheads/nn/detail/sublayer.hpp>             // SublayerRun, train_sublayer
#include <eigenheads/nn/detail/transformer_steps.hpp>    // StepDropout, self_attention_backward
#include <eigenheads/nn/feed_forward.hpp>                // FeedForward
#include <eigenheads/nn/layer_norm.hpp>                  // AnyNorm
#include <eigenheads/nn/transformer_layer_training.hpp>  // TransformerDecoderLayerActivations
#include <eigenheads/nn/transformer_options.hpp>         // TransformerLayerOptions
#include <eigenheads/nn/transformer_weights.hpp>         // TransformerDecoderLayerOutput
#include <eigenheads/sequences.hpp>                      // Sequences
#include <eigenheads/shape.hpp>                          // require_shape, make_tensor
#include <eigenheads/tensor.hpp>                         // Tensor, TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI {

// What a row of a decoder may see: of its own sequence, and of the memory. Another `self` than this one
// takes its place whole, so it names `causal` too.
struct DecoderMask {
  Mask self{.causal = Causal::top_left};
  Mask memory{};
};

template <Scalar T>
class TransformerDecoderLayer {
 public:
  using Activations = TransformerDecoderLayerActivations<T>;
  using Gradients = TransformerDecoderLayerGradients<T>;

  // Weights depend on (seed, parameter name, sizes) alone. Throws std::invalid_argument for invalid
  // options.
  explicit TransformerDecoderLayer(const TransformerLayerOptions& options, std::uint64_t seed = 0)
      : TransformerDecoderLayer(detail::TransformerParts(options), seed) {}

  MultiHeadAttention<T> self_attention;
  AnyNorm<T> norm1;
  MultiHeadAttention<T> cross_attention;
  AnyNorm<T> norm2;
  FeedForward<T> feed_forward;
  AnyNorm<T> norm3;

  [[nodiscard]] const TransformerLayerOptions& options() const { return options_; }

  // visit(Parameter) for those of the members: "self_attention.W_q.weight" and so on, "norm1.weight",
  // "cross_attention.W_q.weight", "norm2.weight", "feed_forward.up.weight", "norm3.weight".
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    Gradients::visit_parameters(*this, visit, prefix);
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    Gradients::visit_parameters(*this, visit, prefix);
  }

  // Inference, without dropout. x: [B, L, E], memory: [B, K, M]; or packed: x: [N, E], memory: [R, M],
  // the rows of as many sequences. A score function is the self-attention's. Throws
  // std::invalid_argument, before anything is written, if a tensor or a mask does not fit.
  template <TensorOfRank<3> X>
  [[nodiscard]] Tensor<T, 3> operator()(const X& x, TensorView<T, 3> memory,
                                        const DecoderMask& masks = {},
                                        const CallOptions<T>& options = {}) const {
    return run(padded(x, memory), masks, options);
  }
  template <TensorOfRank<2> X>
  [[nodiscard]] Tensor<T, 2> operator()(const X& x, const Sequences& sequences,
                                        TensorView<T, 2> memory, const Sequences& memory_sequences,
                                        const DecoderMask& masks = {},
                                        const CallOptions<T>& options = {}) const {
    return run(packed(x, sequences, memory, memory_sequences), masks, options);
  }

  // The same into y, which may be x itself, but may not overlap an input otherwise. Allocates nothing
  // once the context has seen such a call.
  template <TensorOfRank<3> Y, TensorOfRank<3> X>
  void forward_into(Y&& y, const X& x, TensorView<T, 3> memory, const DecoderMask& masks = {},
                    const CallOptions<T>& options = {}) const {
    run_into(TensorSpan<T, 3>(y), padded(x, memory), masks, options);
  }
  template <TensorOfRank<2> Y, TensorOfRank<2> X>
  void forward_into(Y&& y, const X& x, const Sequences& sequences, TensorView<T, 2> memory,
                    const Sequences& memory_sequences, const DecoderMask& masks = {},
                    const CallOptions<T>& options = {}) const {
    run_into(TensorSpan<T, 2>(y), packed(x, sequences, memory, memory_sequences), masks, options);
  }

  // The same output to the bit, and every head's weights in both attentions.
  template <TensorOfRank<3> X>
  [[nodiscard]] TransformerDecoderLayerOutput<T> with_weights(
      const X& x, TensorView<T, 3> memory, const DecoderMask& masks = {},
      const CallOptions<T>& options = {}) const {
    return call_with_weights(padded(x, memory), masks, options);
  }
  template <TensorOfRank<2> X>
  [[nodiscard]] TransformerDecoderLayerOutput<T, 2> with_weights(
      const X& x, const Sequences& sequences, TensorView<T, 2> memory,
      const Sequences& memory_sequences, const DecoderMask& masks = {},
      const CallOptions<T>& options = {}) const {
    return call_with_weights(packed(x, sequences, memory, memory_sequences), masks, options);
  }

  // ---- Decoding: include <eigenheads/kv_cache.hpp> and <eigenheads/key_values.hpp> ---------------

  // x: [B, n, E], the next tokens of every sequence, or packed, [N, E], into y, which may be x itself.
  // memory: of cross_attention.project. Causal, with the bits of one call over the whole sequence. What
  // is refused or fails leaves the cache as that of an attention's step (layer/step_calls.hpp).
  template <TensorOfRank<3> Y, TensorOfRank<3> X>
  void step_into(Y&& y, const X& x, AnyKvCache<T>& cache, const KeyValues<T>& memory,
                 const DecoderMask& masks = {}, const CallOptions<T>& options = {}) const {
    require_parts();
    take_step(detail::padded_form<T>("x", x, size()), TensorSpan<T, 3>(y), TensorView<T, 3>(x),
              cache, memory, masks, options);
  }
  template <TensorOfRank<2> Y, TensorOfRank<2> X>
  void step_into(Y&& y, const X& x, const Sequences& sequences, AnyKvCache<T>& cache,
                 const KeyValues<T>& memory, const DecoderMask& masks = {},
                 const CallOptions<T>& options = {}) const {
    require_parts();
    take_step(detail::packed_form<T>("x", x, sequences, size()), TensorSpan<T, 2>(y),
              TensorView<T, 2>(x), cache, memory, masks, options, sequences);
  }

  template <TensorOfRank<3> X>
  [[nodiscard]] Tensor<T, 3> step(const X& x, AnyKvCache<T>& cache, const KeyValues<T>& memory,
                                  const DecoderMask& masks = {},
                                  const CallOptions<T>& options = {}) const {
    auto y = detail::make_tensor<T>("y", TensorView<T, 3>(x).dimensions());
    step_into(y, x, cache, memory, masks, options);
    return y;
  }
  template <TensorOfRank<2> X>
  [[nodiscard]] Tensor<T, 2> step(const X& x, const Sequences& sequences, AnyKvCache<T>& cache,
                                  const KeyValues<T>& memory, const DecoderMask& masks = {},
                                  const CallOptions<T>& options = {}) const {
    auto y = detail::make_tensor<T>("y", TensorView<T, 2>(x).dimensions());
    step_into(y, x, sequences, cache, memory, masks, options);
    return y;
  }
  // The same output to the bit, and every head's weights in both attentions.
  template <TensorOfRank<3> X>
  [[nodiscard]] TransformerDecoderLayerOutput<T> step_with_weights(
      const X& x, AnyKvCache<T>& cache, const KeyValues<T>& memory, const DecoderMask& masks = {},
      const CallOptions<T>& options = {}) const {
    require_parts();
    return take_step_with_weights(detail::padded_form<T>("x", x, size()), TensorView<T, 3>(x),
                                  cache, memory, masks, options);
  }
  template <TensorOfRank<2> X>
  [[nodiscard]] TransformerDecoderLayerOutput<T, 2> step_with_weights(
      const X& x, const Sequences& sequences, AnyKvCache<T>& cache, const KeyValues<T>& memory,
      const DecoderMask& masks = {}, const CallOptions<T>& options = {}) const {
    require_parts();
    return take_step_with_weights(detail::packed_form<T>("x", x, sequences, size()),
                                  TensorView<T, 2>(x), cache, memory, masks, options, sequences);
  }

  // ---- Training ----------------------------------------------------------------------------------

  // The output of operator(), to the bit if nothing is dropped; `saved` gets what backward needs.
  // What is dropped is a function of options.seed and of places alone. Throws std::invalid_argument
  // also if the layer drops and no seed is given.
  template <TensorOfRank<3> X>
  Tensor<T, 3> forward(const X& x, TensorView<T, 3> memory, const DecoderMask& masks,
                       Activations& saved, const TrainingOptions<T>& options = {}) const {
    return train(padded(x, memory), masks, saved, options);
  }
  template <TensorOfRank<2> X>
  Tensor<T, 2> forward(const X& x, const Sequences& sequences, TensorView<T, 2> memory,
                       const Sequences& memory_sequences, const DecoderMask& masks,
                       Activations& saved, const TrainingOptions<T>& options = {}) const {
    return train(packed(x, sequences, memory, memory_sequences), masks, saved, options);
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
    detail::require_sizes("TransformerDecoderLayer", size(),
                          {{"self_attention.num_hiddens", self_attention.num_hiddens()},
                           {"norm1.size", norm1.size()},
                           {"cross_attention.num_hiddens", cross_attention.num_hiddens()},
                           {"norm2.size", norm2.size()},
                           {"feed_forward.size", feed_forward.size()},
                           {"norm3.size", norm3.size()}});
    feed_forward.require_parts();
  }
  // And what forward throws for such a call.
  void require_trainable(TensorView<T, 3> x, TensorView<T, 3> memory, const DecoderMask& masks,
                         const TrainingOptions<T>& options) const {
    require_step(padded(x, memory), masks, options);
  }
  void require_trainable(TensorView<T, 2> x, const Sequences& sequences, TensorView<T, 2> memory,
                         const Sequences& memory_sequences, const DecoderMask& masks,
                         const TrainingOptions<T>& options) const {
    require_step(packed(x, sequences, memory, memory_sequences), masks, options);
  }
  // And std::logic_error unless `saved` is of a call of this layer, or one of its sizes.
  void require_saved(const Activations& saved) const {
    if (!saved.is_saved)
      detail::refuse<std::logic_error>(
          {"TransformerDecoderLayer: backward needs the activations of a forward call"});
    require_parts();
    detail::require_saved_attention(self_attention, saved.self_attention);
    detail::require_saved_attention(cross_attention, saved.cross_attention);
    feed_forward.require_saved(saved.feed_forward);
  }
  // Gives the gradients of the parameters their shapes, or, if they are added to, refuses others.
  void fit(Gradients& gradients, const Activations& saved, bool accumulate) const {
    detail::fit_parameter_gradients(self_attention.parts(), saved.self_attention,
                                    gradients.self_attention, accumulate);
    norm1.fit(gradients.norm1, accumulate);
    detail::fit_parameter_gradients(cross_attention.parts(), saved.cross_attention,
                                    gradients.cross_attention, accumulate);
    norm2.fit(gradients.norm2, accumulate);
    feed_forward.fit(gradients.feed_forward, accumulate);
    norm3.fit(gradients.norm3, accumulate);
  }

 private:
  // A call's inputs, which fit the layer and each other.
  template <class Form>
  struct Inputs {
    Form form, memory_form;
    const T *x, *memory;
  };

  TransformerDecoderLayer(const detail::TransformerParts& parts, std::uint64_t seed)
      : self_attention(parts.self_attention(), detail::part_seed(seed, "self_attention")),
        norm1(parts.template norm<T>()),
        cross_attention(parts.cross_attention(), detail::part_seed(seed, "cross_attention")),
        norm2(parts.template norm<T>()),
        feed_forward(parts.feed_forward(), detail::part_seed(seed, "feed_forward")),
        norm3(parts.template norm<T>()),
        options_(parts.options()) {}

  [[nodiscard]] Index size() const { return options_.num_hiddens; }
  [[nodiscard]] Index memory_size() const { return cross_attention.W_k.in_features(); }

  [[nodiscard]] Inputs<detail::PaddedForm<T>> padded(TensorView<T, 3> x,
                                                     TensorView<T, 3> memory) const {
    require_parts();
    const auto form = detail::padded_form("x", x, size());
    require_shape("memory", memory, "[B, K, size]", {form.B, any_size, memory_size()});
    return {form, detail::padded_form("memory", memory, memory_size()), x.data(), memory.data()};
  }
  [[nodiscard]] Inputs<detail::PackedForm<T>> packed(TensorView<T, 2> x, const Sequences& sequences,
                                                     TensorView<T, 2> memory,
                                                     const Sequences& memory_sequences) const {
    require_parts();
    const auto form = detail::packed_form("x", x, sequences, size());
    if (memory_sequences.count() != sequences.count())
      detail::refuse({"memory has ", memory_sequences.count(), " sequences; expected ",
                      sequences.count(), ", as x has"});
    return {form, detail::packed_form("memory", memory, memory_sequences, memory_size()), x.data(),
            memory.data()};
  }

  template <class Form>
  [[nodiscard]] Tensor<T, Form::rank> run(const Inputs<Form>& inputs, const DecoderMask& masks,
                                          const CallOptions<T>& options) const;
  template <class Form>
  void run_into(TensorSpan<T, Form::rank> y, const Inputs<Form>& inputs, const DecoderMask& masks,
                const CallOptions<T>& options) const;
  template <class Form>
  void run_steps(const Inputs<Form>& inputs, T* y, const DecoderMask& masks,
                 const CallOptions<T>& options) const;
  // sequences: of packed tokens, or nothing.
  template <class Form, class Cache, class... Of>
  void take_step(const Form& form, TensorSpan<T, Form::rank> y, TensorView<T, Form::rank> x,
                 Cache& cache, const KeyValues<T>& memory, const DecoderMask& masks,
                 const CallOptions<T>& options, const Of&... sequences) const;
  template <class Form, class Cache, class... Of>
  [[nodiscard]] TransformerDecoderLayerOutput<T, Form::rank> take_step_with_weights(
      const Form& form, TensorView<T, Form::rank> x, Cache& cache, const KeyValues<T>& memory,
      const DecoderMask& masks, const CallOptions<T>& options, const Of&... sequences) const;
  template <class Form>
  [[nodiscard]] TransformerDecoderLayerOutput<T, Form::rank> call_with_weights(
      const Inputs<Form>& inputs, const DecoderMask& masks, const CallOptions<T>& options) const;
  // attend(in), attend_to_memory(in): the attentions of rows `in`, with weights.
  template <class Form, class Attend, class AttendToMemory>
  [[nodiscard]] TransformerDecoderLayerOutput<T, Form::rank> run_with_weights(
      const Form& form, const T* x, Context& context, const Attend& attend,
      const AttendToMemory& attend_to_memory) const;
  // attend(in, out), attend_to_memory(in, out): the attentions of rows `in`.
  template <class Form, class Attend, class AttendToMemory>
  void run_sublayers(const Form& form, const T* x, T* y, Context& context, const Attend& attend,
                     const AttendToMemory& attend_to_memory) const;

  [[nodiscard]] detail::StepDropout step_dropout(const TrainingOptions<T>& options) const {
    return {"TransformerDecoderLayer", options_.dropout, options.seed};
  }
  template <class Form>
  void require_step(const Inputs<Form>& inputs, const DecoderMask& masks,
                    const TrainingOptions<T>& options) const;

  template <class Form>
  Tensor<T, Form::rank> train(const Inputs<Form>& inputs, const DecoderMask& masks,
                              Activations& saved, const TrainingOptions<T>& options) const;

  void undo(Gradients& gradients, const T* grad_y, const Activations& saved,
            const detail::SublayerBackward& call) const;

  TransformerLayerOptions options_;
};

// In PyTorch's manner.
template <Scalar T>
std::ostream& operator<<(std::ostream& out, const TransformerDecoderLayer<T>& layer);

#include <eigenheads/nn/detail/transformer_decoder_layer.inl>

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
