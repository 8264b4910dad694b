// SPDX-License-Identifier: MIT
#pragma once
// Scaled dot-product attention, behind its checks: softmax(Q K^T / sqrt(D)) V over the keys that
// the mask allows. Shapes, masks and empty rows as in attention_reference.hpp, which says what is
// computed.
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <ostream>
#include <string>

#include <eigenheads/context.hpp>           // Context
#include <eigenheads/dropout.hpp>           // Dropout
#include <eigenheads/kernels/schedule.hpp>  // attend
#include <eigenheads/mask.hpp>              // Mask, BoundMask
#include <eigenheads/score.hpp>             // ScoreFunction, PlainScore
#include <eigenheads/shape.hpp>             // require_shape, make_tensor
#include <eigenheads/tensor.hpp>            // TensorOfRank, TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI {

struct AttentionOptions {
  std::optional<double> scale{};  // of the scores; 1 / sqrt(D) unless given
  double dropout = 0;             // of the weights, in training: which ones, the seed says
  DropoutSeed seed{};
};

template <Scalar T>
struct AttentionResult {
  Tensor<T, 4> output;  // [B, H, Q, V]
  Tensor<T, 3> lse;     // [B, H, Q], log sum_k exp(score); -inf where a query sees no key
};

// Weights are per head, before dropout; each row sums to 1, or is all 0.
template <Scalar T, int WeightsRank = 4>
struct AttentionOutput {
  Tensor<T, 3> output;             // [B, Q, E]
  Tensor<T, WeightsRank> weights;  // [B, H, Q, K]; of rank 3 without an axis of heads
};

namespace detail {

// Throws std::invalid_argument unless the three fit each other.
template <Scalar T>
[[nodiscard]] AttentionShape require_attention_shape(TensorView<T, 4> queries,
                                                     TensorView<T, 4> keys,
                                                     TensorView<T, 4> values) {
  require_shape("queries", queries, "[B, H, Q, D]", {any_size, any_size, any_size, any_size});
  const AttentionShape shape{queries.dimension(0), queries.dimension(1), keys.dimension(1),
                             queries.dimension(2), keys.dimension(2),    queries.dimension(3),
                             values.dimension(3)};
  require_shape("keys", keys, "[B, G, K, D]", {shape.B, any_size, any_size, shape.D});
  require_shape("values", values, "[B, G, K, V]", {shape.B, shape.G, shape.K, any_size});
  if (shape.D == 0) refuse({"queries has a head size of 0; expected 1 or more"});
  if (shape.H > 0 && (shape.G == 0 || shape.H % shape.G != 0))
    refuse({"keys has ", shape.G, " heads; expected a divisor of the queries' ", shape.H});
  return shape;
}

// Functions that hold tensors say whether those fit the call.
template <class Score>
void require_score_fits(const Score& score, const AttentionShape& shape) {
  const std::array call{shape.B, shape.H, shape.Q, shape.K};
  if constexpr (requires { score.require_fits(call); }) score.require_fits(call);
}

template <Scalar T>
[[nodiscard]] T attention_scale(const AttentionOptions& options, Index head_size) {
  const double scale = options.scale.value_or(1 / std::sqrt(static_cast<double>(head_size)));
  if (!is_finite(scale) || std::abs(scale) > static_cast<double>((std::numeric_limits<T>::max)()))
    refuse({"scale is ", number_text(scale), "; expected a finite number"});
  return static_cast<T>(scale);
}

}  // namespace detail

// queries: [B, H, Q, D], keys: [B, G, K, D], values: [B, G, K, V], G a divisor of H: query head h
// reads key/value head h / (H / G). The score function sees what the mask leaves, after scaling.
// Throws std::invalid_argument for shapes, masks, biases or scales that do not fit.
template <TensorOfRank<4> Queries, TensorOfRank<4> Keys, TensorOfRank<4> Values, class Score>
requires ScoreFunction<Score, element_of<Queries>>
[[nodiscard]] auto scaled_dot_product_attention(
    const Queries& queries, const Keys& keys, const Values& values, const Mask& mask,
    const Score& score, const AttentionOptions& options = {},
    Context& context = default_context()) -> AttentionResult<element_of<Queries>> {
  using T = element_of<Queries>;
  static_assert(Scalar<T>, "Attention takes tensors of float or double.");
  const TensorView<T, 4> q(queries), k(keys), v(values);
  const auto shape = detail::require_attention_shape(q, k, v);
  const BoundMask bound(mask, shape.B, shape.Q, shape.K, shape.H);
  detail::require_score_fits(score, shape);
  const T scale = detail::attention_scale<T>(options, shape.D);
  const auto dropout = DropoutMask<T>::of(Dropout(options.dropout), options.seed);
  AttentionResult<T> result{
      detail::make_tensor<T>("output", std::array{shape.B, shape.H, shape.Q, shape.V}),
      detail::make_tensor<T>("lse", std::array{shape.B, shape.H, shape.Q})};
  detail::attend<T>(
      {shape, scale, &bound, q.data(), k.data(), v.data(),
       detail::HeadLayout<T>::heads_apart(result.output.data(), shape.Q, shape.H, shape.V),
       result.lse.data(), nullptr, detail::score_row<T>(score),
       dropout.threshold > 0 ? &dropout : nullptr},
      context);
  return result;
}
template <TensorOfRank<4> Queries, TensorOfRank<4> Keys, TensorOfRank<4> Values>
[[nodiscard]] auto scaled_dot_product_attention(
    const Queries& queries, const Keys& keys, const Values& values, const Mask& mask = {},
    const AttentionOptions& options = {},
    Context& context = default_context()) -> AttentionResult<element_of<Queries>> {
  return scaled_dot_product_attention(queries, keys, values, mask, PlainScore{}, options, context);
}

// Attention over some keys and over others, joined: as if it had been over all of them, up to
// rounding. Parts that saw no key (lse = -inf) change nothing. Throws std::invalid_argument unless
// the shapes agree.
template <Scalar T>
[[nodiscard]] AttentionResult<T> merge_attention(const AttentionResult<T>& first,
                                                 const AttentionResult<T>& second) {
  const TensorView<T, 4> o1(first.output), o2(second.output);
  const TensorView<T, 3> lse1(first.lse), lse2(second.lse);
  const auto [B, H, Q, V] = o1.dimensions();
  require_shape("merge_attention: first.lse", lse1, "[B, H, Q]", {B, H, Q});
  require_shape("merge_attention: second.output", o2, "[B, H, Q, V]", {B, H, Q, V});
  require_shape("merge_attention: second.lse", lse2, "[B, H, Q]", {B, H, Q});
  AttentionResult<T> merged{detail::make_tensor<T>("output", o1.dimensions()),
                            detail::make_tensor<T>("lse", lse1.dimensions())};
  const Index columns = V;
  detail::with_kernels([&]<class Kernels>(Kernels) {
    for (Index row = 0; row < lse1.size(); ++row)
      Kernels::merge_row(o1.data() + row * columns, lse1.data()[row], o2.data() + row * columns,
                         lse2.data()[row], columns, merged.output.data() + row * columns,
                         merged.lse.data()[row]);
  });
  return merged;
}

struct DotProductAttentionOptions {
  double dropout = 0;  // of the weights, in training
};

// The chapter's DotProductAttention: one head, scores scaled by 1 / sqrt(D), masked by valid_lens.
template <Scalar T>
class DotProductAttention {
 public:
  explicit DotProductAttention(const DotProductAttentionOptions& options = {})
      : dropout_(options.dropout) {}

  [[nodiscard]] const Dropout& dropout() const { return dropout_; }

  // queries: [B, Q, D], keys: [B, K, D], values: [B, K, V] -> [B, Q, V]. No dropout: inference.
  [[nodiscard]] Tensor<T, 3> operator()(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                        TensorView<T, 3> values, const ValidLens& valid_lens = {},
                                        Context& context = default_context()) const {
    return attend(queries, keys, values, valid_lens, context, nullptr);
  }

  // The same output and the weights, [B, Q, K].
  [[nodiscard]] AttentionOutput<T, 3> with_weights(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                                   TensorView<T, 3> values,
                                                   const ValidLens& valid_lens = {},
                                                   Context& context = default_context()) const {
    AttentionOutput<T, 3> result;
    result.output = attend(queries, keys, values, valid_lens, context, &result.weights);
    return result;
  }

  // Training: the output, after dropout, and what backward needs. Throws std::invalid_argument also
  // if weights are dropped and no seed is given.
  class Activations;
  struct Gradients;  // queries, keys, values: of the shapes of those
  Tensor<T, 3> forward(TensorView<T, 3> queries, TensorView<T, 3> keys, TensorView<T, 3> values,
                       const ValidLens& valid_lens, Activations& saved,
                       Context& context = default_context()) const;
  Tensor<T, 3> forward(TensorView<T, 3> queries, TensorView<T, 3> keys, TensorView<T, 3> values,
                       const ValidLens& valid_lens, Activations& saved, DropoutSeed seed,
                       Context& context = default_context()) const;
  [[nodiscard]] Gradients backward(TensorView<T, 3> grad_output, const Activations& saved,
                                   Context& context = default_context()) const;

 private:
  static TensorView<T, 4> one_head(TensorView<T, 3> x) {
    return {x.data(), {x.dimension(0), 1, x.dimension(1), x.dimension(2)}};
  }

  static void require_fit(TensorView<T, 3> queries, TensorView<T, 3> keys,
                          TensorView<T, 3> values) {
    require_shape("queries", queries, "[B, Q, D]", {any_size, any_size, any_size});
    const Index B = queries.dimension(0), D = queries.dimension(2);
    require_shape("keys", keys, "[B, K, D]", {B, any_size, D});
    require_shape("values", values, "[B, K, V]", {B, keys.dimension(1), any_size});
  }

  static Tensor<T, 3> attend(TensorView<T, 3> queries, TensorView<T, 3> keys,
                             TensorView<T, 3> values, const ValidLens& valid_lens, Context& context,
                             Tensor<T, 3>* weights) {
    require_fit(queries, keys, values);
    const Index B = queries.dimension(0), D = queries.dimension(2);
    const auto shape =
        detail::require_attention_shape(one_head(queries), one_head(keys), one_head(values));
    const Mask mask{.valid_lens = valid_lens};
    const BoundMask bound(mask, shape.B, shape.Q, shape.K);
    auto output = detail::make_tensor<T>("output", std::array{B, shape.Q, shape.V});
    if (weights != nullptr)
      *weights = detail::make_tensor<T>("weights", std::array{B, shape.Q, shape.K});
    detail::attend<T>(
        {shape, detail::attention_scale<T>({}, D), &bound, queries.data(), keys.data(),
         values.data(), detail::HeadLayout<T>::heads_apart(output.data(), shape.Q, 1, shape.V),
         nullptr, weights == nullptr ? nullptr : weights->data()},
        context);
    return output;
  }

  Dropout dropout_;
};

// As PyTorch prints the chapter's module.
template <Scalar T>
std::ostream& operator<<(std::ostream& out, const DotProductAttention<T>& attention) {
  return out << "DotProductAttention(\n  (dropout): " << attention.dropout() << "\n)";
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/attention_backward.hpp>
