// SPDX-License-Identifier: MIT
#pragma once
// A layer of a transformer's encoder whose attention and feed-forward network are shared out over
// ranks: with the bits of one process, and a ranks-th of its weights on each. Norms and residuals are of
// whole rows, and every rank makes them.
#include <bit>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>

#include <eigenheads/call_options.hpp>  // CallOptions, TrainingOptions
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/step_guard.hpp>              // StepGuard
#include <eigenheads/mask.hpp>                           // Mask
#include <eigenheads/mpi/ranks.hpp>                      // Ranks
#include <eigenheads/mpi/tensor_attention.hpp>           // TensorParallelAttention
#include <eigenheads/mpi/tensor_feed_forward.hpp>        // TensorParallelFeedForward
#include <eigenheads/nn/detail/sublayer.hpp>             // SublayerRun, train_sublayer
#include <eigenheads/nn/detail/transformer_steps.hpp>    // StepDropout, self_attention_backward
#include <eigenheads/nn/transformer_encoder_layer.hpp>   // TransformerEncoderLayer
#include <eigenheads/nn/transformer_layer_training.hpp>  // TransformerEncoderLayerGradients
#include <eigenheads/nn/transformer_options.hpp>         // TransformerLayerOptions
#include <eigenheads/sequences.hpp>                      // Sequences
#include <eigenheads/tensor.hpp>                         // Tensor, TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

// What the ranks compare before a call of a layer.
template <class Layer>
[[nodiscard]] Digest call_digest(const Layer& layer, const Mask& mask,
                                 const Sequences* sequences = nullptr) {
  Digest digest;
  digest.add(mask).add(sequences);
  layer.add_terms(digest);
  return digest;
}

// A call with rows x as a round.
template <class T, int Rank, class Run>
void rows_together(Ranks& ranks, const char* what, TensorView<T, Rank> x, const Digest& digest,
                   const Run& run) {
  ranks.together(what,
                 {{"the size of a number", Index{sizeof(T)}},
                  {"sequences", Rank == 2 ? 1 : x.dimension(0)},
                  {"rows", x.dimension(Rank - 2)},
                  {"features", x.dimension(Rank - 1)},
                  {"a digest of layers, mask, lengths, gates and caches", digest.value()}},
                 run);
}

template <Scalar T>
struct TensorParallelEncoderLayerActivations {
  TensorParallelAttentionActivations<T> self_attention;
  FeedForwardActivations<T> feed_forward;
  eigenheads::detail::SublayerActivations<T> sublayer1, sublayer2;
  eigenheads::detail::SavedSequences sequences;
  bool is_saved = false;
};

// As TransformerEncoderLayer; all ranks make the same calls with the same inputs, each a round of
// theirs. The ranks must outlive it.
template <Scalar T>
class TensorParallelEncoderLayer {
 public:
  using Activations = TensorParallelEncoderLayerActivations<T>;
  using Gradients = TransformerEncoderLayerGradients<T>;  // of this rank's parts

  // This rank's part of a whole layer, or of one of these options, to be loaded.
  TensorParallelEncoderLayer(const TransformerEncoderLayer<T>& whole, Ranks& ranks)
      : self_attention(whole.self_attention, ranks),
        norm1(whole.norm1),
        feed_forward(whole.feed_forward, ranks),
        norm2(whole.norm2),
        options_(whole.options()) {
    whole.require_parts();
  }
  TensorParallelEncoderLayer(const TransformerLayerOptions& options, Ranks& ranks)
      : TensorParallelEncoderLayer(eigenheads::detail::TransformerParts(options), ranks) {}

  TensorParallelAttention<T> self_attention;
  AnyNorm<T> norm1;
  TensorParallelFeedForward<T> feed_forward;
  AnyNorm<T> norm2;

  [[nodiscard]] const TransformerLayerOptions& options() const { return options_; }
  [[nodiscard]] Ranks& ranks() const { return self_attention.ranks(); }

  // As those of TensorParallelAttention.
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    Gradients::visit_parameters(*this, visit, prefix);
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    Gradients::visit_parameters(*this, visit, prefix);
  }
  template <class Visitor>
  void for_each_share(Visitor&& visit, std::string_view prefix = "") {
    const std::string start(prefix);
    const auto whole = [&](const auto& parameter) {
      visit(parameter, Index{0}, parameter.shape()[0]);
    };
    self_attention.for_each_share(visit, start + "self_attention.");
    norm1.for_each_parameter(whole, start + "norm1.");
    feed_forward.for_each_share(visit, start + "feed_forward.");
    norm2.for_each_parameter(whole, start + "norm2.");
  }

  template <TensorOfRank<3> X>
  [[nodiscard]] Tensor<T, 3> operator()(const X& x, const Mask& mask = {},
                                        const CallOptions<T>& options = {}) const {
    auto y = eigenheads::detail::make_tensor<T>("y", TensorView<T, 3>(x).dimensions());
    forward_into(y, x, mask, options);
    return y;
  }
  template <TensorOfRank<2> X>
  [[nodiscard]] Tensor<T, 2> operator()(const X& x, const Sequences& sequences,
                                        const Mask& mask = {},
                                        const CallOptions<T>& options = {}) const {
    auto y = eigenheads::detail::make_tensor<T>("y", TensorView<T, 2>(x).dimensions());
    forward_into(y, x, sequences, mask, options);
    return y;
  }
  template <TensorOfRank<3> Y, TensorOfRank<3> X>
  void forward_into(Y&& y, const X& x, const Mask& mask = {},
                    const CallOptions<T>& options = {}) const {
    const TensorView<T, 3> in(x);
    rows_together(ranks(), "an encoder layer", in, call_digest(*this, mask), [&] {
      const auto form = padded(in);
      run(form, TensorSpan<T, 3>(y), in, options.context.get(), [&](const T* from, T* to) {
        self_attention.forward_into(form.span(to), form.view(from), form.view(from),
                                    form.view(from), mask, options);
      });
    });
  }
  template <TensorOfRank<2> Y, TensorOfRank<2> X>
  void forward_into(Y&& y, const X& x, const Sequences& sequences, const Mask& mask = {},
                    const CallOptions<T>& options = {}) const {
    const TensorView<T, 2> in(x);
    rows_together(
        ranks(), "an encoder layer of packed sequences", in, call_digest(*this, mask, &sequences),
        [&] {
          const auto form = packed(in, sequences);
          run(form, TensorSpan<T, 2>(y), in, options.context.get(), [&](const T* from, T* to) {
            self_attention.forward_into(form.span(to), form.view(from), sequences, mask, options);
          });
        });
  }

  // Decoding: the cache is of this rank's key/value heads.
  template <TensorOfRank<3> X>
  [[nodiscard]] Tensor<T, 3> step(const X& x, AnyKvCache<T>& cache, const Mask& mask = {},
                                  const CallOptions<T>& options = {}) const {
    auto y = eigenheads::detail::make_tensor<T>("y", TensorView<T, 3>(x).dimensions());
    step_into(y, x, cache, mask, options);
    return y;
  }
  template <TensorOfRank<3> Y, TensorOfRank<3> X>
  void step_into(Y&& y, const X& x, AnyKvCache<T>& cache, const Mask& mask = {},
                 const CallOptions<T>& options = {}) const {
    const TensorView<T, 3> in(x);
    take_step(in, cache, call_digest(*this, mask), options, [&] {
      const auto form = padded(in);
      run(form, TensorSpan<T, 3>(y), in, options.context.get(), [&](const T* from, T* to) {
        self_attention.step_into(form.span(to), form.view(from), cache, mask, options);
      });
    });
  }
  template <TensorOfRank<2> Y, TensorOfRank<2> X>
  void step_into(Y&& y, const X& x, const Sequences& sequences, AnyKvCache<T>& cache,
                 const Mask& mask = {}, const CallOptions<T>& options = {}) const {
    const TensorView<T, 2> in(x);
    take_step(in, cache, call_digest(*this, mask, &sequences), options, [&] {
      const auto form = packed(in, sequences);
      run(form, TensorSpan<T, 2>(y), in, options.context.get(), [&](const T* from, T* to) {
        self_attention.step_into(form.span(to), form.view(from), sequences, cache, mask, options);
      });
    });
  }

  // Training.
  template <TensorOfRank<3> X>
  Tensor<T, 3> forward(const X& x, const Mask& mask, Activations& saved,
                       const TrainingOptions<T>& options = {}) const {
    const TensorView<T, 3> in(x);
    Tensor<T, 3> y;
    const Digest digest = call_digest(*this, mask).add_seed(options);
    rows_together(ranks(), "an encoder layer in training", in, digest,
                  [&] { y = train(padded(in), in.data(), mask, saved, options); });
    return y;
  }
  template <TensorOfRank<2> X>
  Tensor<T, 2> forward(const X& x, const Sequences& sequences, const Mask& mask, Activations& saved,
                       const TrainingOptions<T>& options = {}) const {
    const TensorView<T, 2> in(x);
    Tensor<T, 2> y;
    const Digest digest = call_digest(*this, mask, &sequences).add_seed(options);
    rows_together(ranks(), "an encoder layer of packed sequences in training", in, digest,
                  [&] { y = train(packed(in, sequences), in.data(), mask, saved, options); });
    return y;
  }
  template <eigenheads::detail::TensorLike Y>
  void backward_into(Gradients& gradients, const Y& grad_y, const Activations& saved,
                     bool accumulate = false, Context& context = default_context()) const {
    const TensorView<T, rank_of<Y>> view(grad_y);
    Digest digest;
    add_terms(digest);
    digest.add(saved.self_attention.of_call).add(Index{accumulate});
    rows_together(ranks(), "the backward pass of an encoder layer", view, digest, [&] {
      require_saved(saved);
      eigenheads::detail::require_form(view, saved.sequences, size());
      fit(gradients, saved, accumulate);
      const auto [B, L, E] = saved.sequences.shape(size());
      eigenheads::detail::resize("gradients.x", gradients.x, {B, L, E});
      undo(gradients, view.data(), saved,
           {.sequences = saved.sequences, .size = E, .accumulate = accumulate, .context = context});
    });
  }
  template <eigenheads::detail::TensorLike Y>
  [[nodiscard]] Gradients backward(const Y& grad_y, const Activations& saved,
                                   Context& context = default_context()) const {
    Gradients gradients;
    backward_into(gradients, grad_y, saved, false, context);
    return gradients;
  }

  // For stacks of such layers: what their rounds compare of it, and checks, as those of
  // TransformerEncoderLayer.
  void add_terms(Digest& digest) const {
    self_attention.add_terms(digest);
    feed_forward.add_terms(digest);
    digest.add(Index{options_.norm_first})
        .add(static_cast<Index>(options_.norm))
        .add(std::bit_cast<std::uint64_t>(options_.norm_eps))
        .add(std::bit_cast<std::uint64_t>(options_.dropout));
  }
  void require_parts() const {
    eigenheads::detail::require_sizes("TensorParallelEncoderLayer", size(),
                                      {{"self_attention.num_hiddens", self_attention.num_hiddens()},
                                       {"norm1.size", norm1.size()},
                                       {"feed_forward.size", feed_forward.size()},
                                       {"norm2.size", norm2.size()}});
    self_attention.require_parts();
    feed_forward.require_parts();
  }
  void require_trainable(TensorView<T, 3> x, const Mask& mask,
                         const TrainingOptions<T>& options) const {
    static_cast<void>(step_dropout(options));
    static_cast<void>(padded(x));
    self_attention.require_trainable({x, x, x}, mask, options);
  }
  void require_trainable(TensorView<T, 2> x, const Sequences& sequences, const Mask& mask,
                         const TrainingOptions<T>& options) const {
    static_cast<void>(step_dropout(options));
    static_cast<void>(packed(x, sequences));
    self_attention.require_trainable(eigenheads::detail::LayerInputs<T>::packed(x, sequences), mask,
                                     options);
  }
  void require_saved(const Activations& saved) const {
    if (!saved.is_saved)
      eigenheads::detail::refuse<std::logic_error>(
          {"TensorParallelEncoderLayer: backward needs the activations of a forward call"});
    require_parts();
    self_attention.require_saved(saved.self_attention);
    feed_forward.require_saved(saved.feed_forward);
  }
  void fit(Gradients& gradients, const Activations&, bool accumulate) const {
    self_attention.fit_parameter_gradients(gradients.self_attention, accumulate);
    norm1.fit(gradients.norm1, accumulate);
    feed_forward.fit(gradients.feed_forward, accumulate);
    norm2.fit(gradients.norm2, accumulate);
  }

 private:
  TensorParallelEncoderLayer(const eigenheads::detail::TransformerParts& parts, Ranks& ranks)
      : self_attention(parts.self_attention(), ranks),
        norm1(parts.template norm<T>()),
        feed_forward(parts.feed_forward(), ranks),
        norm2(parts.template norm<T>()),
        options_(parts.options()) {}

  [[nodiscard]] Index size() const { return options_.num_hiddens; }
  [[nodiscard]] eigenheads::detail::PaddedForm<T> padded(TensorView<T, 3> x) const {
    require_parts();
    return eigenheads::detail::padded_form("x", x, size());
  }
  [[nodiscard]] eigenheads::detail::PackedForm<T> packed(TensorView<T, 2> x,
                                                         const Sequences& sequences) const {
    require_parts();
    return eigenheads::detail::packed_form("x", x, sequences, size());
  }
  [[nodiscard]] eigenheads::detail::StepDropout step_dropout(
      const TrainingOptions<T>& options) const {
    return {"TensorParallelEncoderLayer", options_.dropout, options.seed};
  }

  // attend(from, to): self-attention of rows `from`.
  template <class Form, class Attend>
  void run(const Form& form, TensorSpan<T, Form::rank> y, TensorView<T, Form::rank> x,
           Context& context, const Attend& attend) const {
    const TensorView<T, Form::rank> result(y);
    require_shape("y", result, "x's shape", x.dimensions());
    eigenheads::detail::require_same_or_disjoint("y", result, "x", x);
    const eigenheads::detail::Frame frame(context);
    eigenheads::detail::SublayerRun<T, Form> sublayers(form, options_.norm_first, x.data(), frame,
                                                       context);
    sublayers.step(norm1, attend);
    sublayers.last(
        norm2,
        [&](const T* from, T* to) {
          feed_forward.forward_into(form.span(to), form.view(from), context);
        },
        y.data());
  }
  template <int Rank, class Run>
  void take_step(TensorView<T, Rank> x, AnyKvCache<T>& cache, Digest digest,
                 const CallOptions<T>& options, const Run& run_step) const {
    digest.add(cache);
    const eigenheads::detail::Frame frame(options.context.get());
    eigenheads::detail::StepGuard guard(1, [&](Index) -> auto& { return cache.heads(); }, frame);
    rows_together(ranks(), "a step of an encoder layer", x, digest, run_step);
    guard.is_done = true;
  }

  template <class Form>
  Tensor<T, Form::rank> train(const Form& form, const T* x, const Mask& mask, Activations& saved,
                              const TrainingOptions<T>& options) const {
    const eigenheads::detail::StepDropout dropout = step_dropout(options);
    Context& context = options.context.get();
    const bool first = options_.norm_first;
    const auto between = eigenheads::detail::train_sublayer<T>(
        {norm1, first, dropout.template mask<T>("dropout1")}, form, x,
        [&](const T* in) {
          const TrainingOptions<T> of_attention{.score = options.score,
                                                .seed = dropout.seed("self_attention"),
                                                .context = options.context};
          auto output = form.with_self(in, [&](const auto&... inputs) {
            return self_attention.forward(inputs..., mask, saved.self_attention, of_attention);
          });
          saved.is_saved = false;
          saved.sequences = form.sequences();
          return output;
        },
        saved.sublayer1, context);
    auto y = eigenheads::detail::train_sublayer<T>(
        {norm2, first, dropout.template mask<T>("dropout2")}, form, between.data(),
        [&](const T* in) { return form.train(feed_forward, in, saved.feed_forward, context); },
        saved.sublayer2, context);
    saved.is_saved = true;
    return y;
  }
  void undo(Gradients& gradients, const T* grad_y, const Activations& saved,
            const eigenheads::detail::SublayerBackward& call) const {
    const bool first = options_.norm_first;
    const eigenheads::detail::Frame frame(call.context);
    T* const between = frame.template take<T>(gradients.x.size());
    eigenheads::detail::sublayer_backward<T>({norm2, first}, call, saved.sublayer2, grad_y, between,
                                             gradients.norm2, [&](const T* grad) {
                                               return eigenheads::detail::feed_forward_backward(
                                                   feed_forward, call, saved.feed_forward, grad,
                                                   gradients.feed_forward);
                                             });
    eigenheads::detail::sublayer_backward<T>(
        {norm1, first}, call, saved.sublayer1, between, gradients.x.data(), gradients.norm1,
        [&](const T* grad) {
          return eigenheads::detail::self_attention_backward(
              self_attention, call, saved.self_attention, grad, gradients.self_attention);
        });
  }

  TransformerLayerOptions options_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
