// SPDX-License-Identifier: MIT
#pragma once
// The gradients of scaled_dot_product_attention, from its log-sum-exp: nothing of size queries x
// keys is kept or built. Formulas as in attention_reference.hpp.
#include <algorithm>
#include <array>
#include <stdexcept>
#include <type_traits>
#include <utility>

#include <eigenheads/attention.hpp>                  // AttentionResult, AttentionOptions
#include <eigenheads/context.hpp>                    // Context
#include <eigenheads/kernels/schedule_backward.hpp>  // attend_backward
#include <eigenheads/mask.hpp>                       // Mask, BoundMask
#include <eigenheads/score.hpp>                      // ScoreFunction, PlainScore
#include <eigenheads/shape.hpp>                      // require_shape, make_tensor
#include <eigenheads/tensor.hpp>                     // TensorOfRank, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

template <Scalar T>
struct AttentionGradients {
  Tensor<T, 4> queries, keys, values;  // of the shapes of those; keys' and values' over all heads
  Tensor<T, 4> score_bias;             // of the ScoreBias that is added last; empty without one
};

// grad_output: [B, H, Q, V], of a loss that `result` was on the way to; all else as the call was
// given that gave `result`. A hidden key and a query that sees no key have gradients of 0. Throws
// std::invalid_argument for what does not fit. The same bits on any number of threads.
template <Scalar T, class Score>
requires ScoreFunction<Score, T>
[[nodiscard]] AttentionGradients<T> scaled_dot_product_attention_backward(
    std::type_identity_t<TensorView<T, 4>> grad_output,
    std::type_identity_t<TensorView<T, 4>> queries, std::type_identity_t<TensorView<T, 4>> keys,
    std::type_identity_t<TensorView<T, 4>> values, const AttentionResult<T>& result,
    const Mask& mask, const Score& score, const AttentionOptions& options = {},
    Context& context = default_context()) {
  using Layout = detail::HeadLayout<T>;
  using ConstLayout = detail::HeadLayout<const T>;
  const auto shape = detail::require_attention_shape<T>(queries, keys, values);
  const auto [B, H, G, Q, K, D, V] = shape;
  const TensorView<T, 4> output(result.output);
  const TensorView<T, 3> lse(result.lse);
  require_shape("grad_output", grad_output, "[B, H, Q, V]", {B, H, Q, V});
  require_shape("result.output", output, "[B, H, Q, V]", {B, H, Q, V});
  require_shape("result.lse", lse, "[B, H, Q]", {B, H, Q});
  const BoundMask bound(mask, B, Q, K, H);
  detail::require_score_fits(score, shape);
  const auto dropout = DropoutMask<T>::of(Dropout(options.dropout), options.seed);

  AttentionGradients<T> gradients{detail::make_tensor<T>("gradient", queries.dimensions()),
                                  detail::make_tensor<T>("gradient", keys.dimensions()),
                                  detail::make_tensor<T>("gradient", values.dimensions()),
                                  {}};
  auto column = detail::score_column<T>(score);
  if (const auto* bias = detail::last_bias<T>(score); bias != nullptr) {
    gradients.score_bias = detail::make_tensor<T>("gradient", bias->shape());
    gradients.score_bias.setZero();
    column.grad_bias = gradients.score_bias.data();
    column.bias_strides = bias->strides();
  }
  detail::attend_backward<T>(
      {shape, detail::attention_scale<T>(options, D), &bound, queries.data(), keys.data(),
       values.data(), lse.data(), ConstLayout::heads_apart(output.data(), Q, H, V),
       ConstLayout::heads_apart(grad_output.data(), Q, H, V),
       Layout::heads_apart(gradients.queries.data(), Q, H, D),
       Layout::heads_apart(gradients.keys.data(), K, G, D),
       Layout::heads_apart(gradients.values.data(), K, G, V),
       dropout.threshold > 0 ? &dropout : nullptr, column},
      context);
  return gradients;
}
template <Scalar T>
[[nodiscard]] AttentionGradients<T> scaled_dot_product_attention_backward(
    std::type_identity_t<TensorView<T, 4>> grad_output,
    std::type_identity_t<TensorView<T, 4>> queries, std::type_identity_t<TensorView<T, 4>> keys,
    std::type_identity_t<TensorView<T, 4>> values, const AttentionResult<T>& result,
    const Mask& mask = {}, const AttentionOptions& options = {},
    Context& context = default_context()) {
  return scaled_dot_product_attention_backward(grad_output, queries, keys, values, result, mask,
                                               PlainScore{}, options, context);
}

// What DotProductAttention::backward needs of a call of forward, and owns.
template <Scalar T>
class DotProductAttention<T>::Activations {
  friend DotProductAttention;
  Tensor<T, 3> queries_, keys_, values_;
  Mask mask_;
  AttentionOptions options_;
  AttentionResult<T> result_;
};

template <Scalar T>
struct DotProductAttention<T>::Gradients {
  Tensor<T, 3> queries, keys, values;
};

template <Scalar T>
Tensor<T, 3> DotProductAttention<T>::forward(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                             TensorView<T, 3> values, const ValidLens& valid_lens,
                                             Activations& saved, Context& context) const {
  if (dropout_.p() > 0)
    detail::refuse({"DotProductAttention: dropout is ", detail::number_text(dropout_.p()),
                    "; expected a DropoutSeed after the activations"});
  return forward(queries, keys, values, valid_lens, saved, DropoutSeed{}, context);
}

template <Scalar T>
Tensor<T, 3> DotProductAttention<T>::forward(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                             TensorView<T, 3> values, const ValidLens& valid_lens,
                                             Activations& saved, DropoutSeed seed,
                                             Context& context) const {
  require_fit(queries, keys, values);
  const auto copy = [](TensorView<T, 3> x) {
    auto owned = detail::make_tensor<T>("activations", x.dimensions());
    std::copy_n(x.data(), x.size(), owned.data());
    return owned;
  };
  const Mask mask{.valid_lens = valid_lens};
  const AttentionOptions options{.dropout = dropout_.p(), .seed = seed};
  auto result = scaled_dot_product_attention(one_head(queries), one_head(keys), one_head(values),
                                             mask, options, context);
  auto output = copy(
      {result.output.data(), {queries.dimension(0), queries.dimension(1), values.dimension(2)}});
  saved.queries_ = copy(queries);
  saved.keys_ = copy(keys);
  saved.values_ = copy(values);
  saved.mask_ = mask;
  saved.options_ = options;
  saved.result_ = std::move(result);
  return output;
}

template <Scalar T>
typename DotProductAttention<T>::Gradients DotProductAttention<T>::backward(
    TensorView<T, 3> grad_output, const Activations& saved, Context& context) const {
  if (saved.queries_.dimension(2) == 0)
    detail::refuse<std::logic_error>(
        {"DotProductAttention: backward needs the activations of a forward call"});
  require_shape(
      "grad_output", grad_output, "[B, Q, V]",
      {saved.queries_.dimension(0), saved.queries_.dimension(1), saved.values_.dimension(2)});
  const auto gradients = scaled_dot_product_attention_backward<T>(
      one_head(grad_output), one_head(saved.queries_), one_head(saved.keys_),
      one_head(saved.values_), saved.result_, saved.mask_, saved.options_, context);
  const auto without_head = [](const Tensor<T, 4>& x) {
    auto result = detail::make_tensor<T>(
        "gradient", std::array{x.dimension(0), x.dimension(2), x.dimension(3)});
    std::copy_n(x.data(), x.size(), result.data());
    return result;
  };
  return {without_head(gradients.queries), without_head(gradients.keys),
          without_head(gradients.values)};
}

}  // namespace eigenheads::inline EIGENHEADS_ABI
