// SPDX-License-Identifier: MIT
#pragma once
// The chapter's DotProductAttention: one head, scores scaled by 1 / sqrt(D), keys masked by
// valid_lens, or by any mask. Dive into Deep Learning, section 11.3.
#include <algorithm>
#include <array>
#include <concepts>
#include <memory>
#include <optional>
#include <ostream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <eigenheads/attention.hpp>           // CheckedAttention
#include <eigenheads/attention_backward.hpp>  // scaled_dot_product_attention_backward
#include <eigenheads/call_options.hpp>        // CallOptions, TrainingOptions
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/dropout.hpp>    // Dropout
#include <eigenheads/mask.hpp>       // Mask, ValidLens
#include <eigenheads/parameter.hpp>  // Parameter
#include <eigenheads/shape.hpp>      // require_shape
#include <eigenheads/tensor.hpp>     // Tensor, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

struct DotProductAttentionOptions {
  double dropout = 0;        // of the weights, in training
  bool sink_logits = false;  // a learnt sink (AttentionOptions::sink_logits), at first 0
};

namespace detail {

// visit(Parameter) for that of an attention, or of its gradients, if it has one.
template <class Attention, class Visitor>
void visit_attention(Attention& attention, Visitor& visit, std::string_view prefix) {
  using Value = element_of<decltype(attention.sink_logits)>;
  using Element = std::conditional_t<std::is_const_v<Attention>, const Value, Value>;
  if (attention.sink_logits.size() > 0)
    visit(Parameter<Element>(std::string(prefix) + "sink_logits", attention.sink_logits));
}

}  // namespace detail

template <Scalar T>
class DotProductAttention {
 public:
  explicit DotProductAttention(const DotProductAttentionOptions& options = {})
      : sink_logits(options.sink_logits ? 1 : 0), dropout_(options.dropout) {
    std::fill_n(sink_logits.data(), sink_logits.size(), T(0));
  }

  // All of the other, or, without memory for it, nothing.
  DotProductAttention(const DotProductAttention&) = default;
  DotProductAttention(DotProductAttention&&) noexcept = default;
  DotProductAttention& operator=(const DotProductAttention& other) {
    return *this = DotProductAttention(other);
  }
  DotProductAttention& operator=(DotProductAttention&&) noexcept = default;

  Tensor<T, 1> sink_logits;  // [1], or empty: none

  [[nodiscard]] const Dropout& dropout() const { return dropout_; }

  // visit(Parameter) for "sink_logits" if there are any.
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    detail::visit_attention(*this, visit, prefix);
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    detail::visit_attention(*this, visit, prefix);
  }

  // queries: [B, Q, D], keys: [B, K, D], values: [B, K, V] -> [B, Q, V]. No dropout: inference. A
  // Mask may stand for valid_lens here and below.
  [[nodiscard]] Tensor<T, 3> operator()(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                        TensorView<T, 3> values, const ValidLens& valid_lens = {},
                                        const CallOptions<T>& options = {}) const {
    return (*this)(queries, keys, values, Mask{.valid_lens = valid_lens}, options);
  }
  template <std::same_as<Mask> AnyMask>
  [[nodiscard]] Tensor<T, 3> operator()(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                        TensorView<T, 3> values, const AnyMask& mask,
                                        const CallOptions<T>& options = {}) const {
    return without_heads(attend({queries, keys, values}, mask,
                                {.score = options.score, .sink_logits = sinks()},
                                options.context.get())
                             .output);
  }

  // The same output and the weights, [B, Q, K].
  [[nodiscard]] AttentionOutput<T, 3> with_weights(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                                   TensorView<T, 3> values,
                                                   const ValidLens& valid_lens = {},
                                                   const CallOptions<T>& options = {}) const {
    return with_weights(queries, keys, values, Mask{.valid_lens = valid_lens}, options);
  }
  template <std::same_as<Mask> AnyMask>
  [[nodiscard]] AttentionOutput<T, 3> with_weights(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                                   TensorView<T, 3> values, const AnyMask& mask,
                                                   const CallOptions<T>& options = {}) const {
    const auto result = attend({queries, keys, values}, mask,
                               {.score = options.score, .weights = true, .sink_logits = sinks()},
                               options.context.get());
    return {without_heads(result.output), without_heads(result.weights)};
  }

  // What backward needs of a call of forward, and owns.
  class Activations {
    friend DotProductAttention;
    Tensor<T, 3> queries_, keys_, values_;
    Mask mask_;
    std::shared_ptr<const void> score_owner_;
    AttentionOptions<T> options_;  // but for the sink
    Tensor<T, 1> sink_logits_{0};
    AttentionResult<T> result_;
  };
  struct Gradients {
    Tensor<T, 3> queries, keys, values;  // of the shapes of those
    Tensor<T, 4> score_bias;             // of the ScoreBias that is added last; empty without one
    Tensor<T, 1> sink_logits{0};         // empty without them

    template <class Visitor>
    void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
      detail::visit_attention(*this, visit, prefix);
    }
    template <class Visitor>
    void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
      detail::visit_attention(*this, visit, prefix);
    }
  };

  // Training: the output, after dropout. Throws std::invalid_argument also if weights are dropped
  // and no seed is given.
  Tensor<T, 3> forward(TensorView<T, 3> queries, TensorView<T, 3> keys, TensorView<T, 3> values,
                       const ValidLens& valid_lens, Activations& saved,
                       const TrainingOptions<T>& options = {}) const {
    return forward(queries, keys, values, Mask{.valid_lens = valid_lens}, saved, options);
  }
  template <std::same_as<Mask> AnyMask>
  Tensor<T, 3> forward(TensorView<T, 3> queries, TensorView<T, 3> keys, TensorView<T, 3> values,
                       const AnyMask& mask, Activations& saved,
                       const TrainingOptions<T>& options = {}) const {
    if (dropout_.p() > 0 && !options.seed)
      detail::refuse({"DotProductAttention: dropout is ", detail::number_text(dropout_.p()),
                      "; expected a DropoutSeed, {.seed = ...}, after the activations"});
    options.score.require_trainable();
    AttentionOptions<T> kept{.score = options.score,
                             .dropout = options.seed ? dropout_.p() : 0,
                             .seed = options.seed.value_or(DropoutSeed{}),
                             .sink_logits = sinks()};
    auto result = attend({queries, keys, values}, mask, kept, options.context.get());
    auto output = without_heads(result.output);
    Activations all;  // or none of it
    all.queries_ = copy(queries);
    all.keys_ = copy(keys);
    all.values_ = copy(values);
    all.mask_ = mask;
    kept.score = options.score.copy(all.score_owner_);
    kept.sink_logits.reset();
    all.options_ = kept;
    all.sink_logits_ = sink_logits;
    all.result_ = std::move(result);
    saved = std::move(all);
    return output;
  }

  // grad_output: [B, Q, V]. Throws std::invalid_argument for another shape, std::logic_error if
  // nothing was saved.
  [[nodiscard]] Gradients backward(TensorView<T, 3> grad_output, const Activations& saved,
                                   Context& context = default_context()) const {
    if (saved.queries_.dimension(2) == 0)
      detail::refuse<std::logic_error>(
          {"DotProductAttention: backward needs the activations of a forward call"});
    require_shape(
        "grad_output", grad_output, "[B, Q, V]",
        {saved.queries_.dimension(0), saved.queries_.dimension(1), saved.values_.dimension(2)});
    AttentionOptions<T> options = saved.options_;
    if (saved.sink_logits_.size() > 0) options.sink_logits = saved.sink_logits_;
    auto gradients = scaled_dot_product_attention_backward<T>(
        one_head(grad_output), one_head(saved.queries_), one_head(saved.keys_),
        one_head(saved.values_), saved.result_, saved.mask_, options, context);
    return {without_heads(gradients.queries), without_heads(gradients.keys),
            without_heads(gradients.values), std::move(gradients.score_bias),
            std::move(gradients.sink_logits)};
  }

 private:
  struct Inputs {
    TensorView<T, 3> queries, keys, values;
  };

  [[nodiscard]] std::optional<TensorView<T, 1>> sinks() const {
    if (sink_logits.size() == 0) return {};
    return TensorView<T, 1>(sink_logits);
  }

  [[nodiscard]] static TensorView<T, 4> one_head(TensorView<T, 3> x) {
    return {x.data(), {x.dimension(0), 1, x.dimension(1), x.dimension(2)}};
  }
  [[nodiscard]] static Tensor<T, 3> without_heads(const Tensor<T, 4>& x) {
    return copy({x.data(), {x.dimension(0), x.dimension(2), x.dimension(3)}});
  }
  [[nodiscard]] static Tensor<T, 3> copy(TensorView<T, 3> x) {
    auto result = detail::make_tensor<T>("copy", x.dimensions());
    std::copy_n(x.data(), x.size(), result.data());
    return result;
  }

  [[nodiscard]] static AttentionResult<T> attend(const Inputs& inputs, const Mask& mask,
                                                 const AttentionOptions<T>& options,
                                                 Context& context) {
    const auto& [queries, keys, values] = inputs;
    require_shape("queries", queries, "[B, Q, D]", {any_size, any_size, any_size});
    const Index B = queries.dimension(0);
    require_shape("keys", keys, "[B, K, D]", {B, any_size, queries.dimension(2)});
    require_shape("values", values, "[B, K, V]", {B, keys.dimension(1), any_size});
    return scaled_dot_product_attention(one_head(queries), one_head(keys), one_head(values), mask,
                                        options, context);
  }

  Dropout dropout_;
};

// As PyTorch prints the chapter's module.
template <Scalar T>
std::ostream& operator<<(std::ostream& out, const DotProductAttention<T>& attention) {
  return out << "DotProductAttention(\n  (dropout): " << attention.dropout() << "\n)";
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
