// SPDX-License-Identifier: MIT
#pragma once
// Training of a MultiHeadAttention: a forward pass that keeps what it computes, and the backward
// pass, which undoes its steps from the last to the first. Included by multi_head_attention.hpp.
//   q = W_q queries, k = W_k keys, v = W_v values,   heads = attention(q, k, v),   W_o (g heads)
#include <algorithm>
#include <array>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

#include <eigenheads/kernels/schedule_backward.hpp>  // attend_backward
#include <eigenheads/multi_head_attention.hpp>       // MultiHeadAttention

namespace eigenheads::inline EIGENHEADS_ABI {

template <Scalar T>
class MultiHeadAttention<T>::Activations {
 public:
  [[nodiscard]] bool is_saved() const { return shape_.D > 0; }

 private:
  friend MultiHeadAttention;
  friend HeadImportance<T>;

  // Keys that are the queries, and values that are the keys, are kept once.
  [[nodiscard]] const T* queries() const { return queries_.data(); }
  [[nodiscard]] const T* keys() const { return has_keys_ ? keys_.data() : queries(); }
  [[nodiscard]] const T* values() const { return has_values_ ? values_.data() : keys(); }

  void keep(const Call& call, const Mask& mask, const DropoutMask<T>& dropout,
            const detail::HeadSet& heads, const detail::HeadGates<T>& gates) {
    const auto [B, H, G, Q, K, D, V] = shape_ = call.shape;
    const auto differ = [](const auto& x, const auto& y) {
      return x.data() != y.data() || x.dimensions() != y.dimensions();
    };
    has_keys_ = differ(call.keys, call.queries);
    has_values_ = differ(call.values, call.keys);
    sizes_ = {call.queries.dimension(2), call.keys.dimension(2), call.values.dimension(2)};
    copy(call.queries, queries_);
    if (has_keys_) copy(call.keys, keys_);
    if (has_values_) copy(call.values, values_);
    q_.resize(B, H, Q, D);
    k_.resize(B, G, K, D);
    v_.resize(B, G, K, V);
    heads_.resize(B, Q, H * V);
    lse_.resize(B, H, Q);
    mask_ = mask;
    dropout_ = dropout;
    head_set_ = heads;
    gates_ = gates;
    bias_shape_ = {};
  }
  static void copy(TensorView<T, 3> from, Tensor<T, 3>& to) {
    to.resize(from.dimension(0), from.dimension(1), from.dimension(2));
    std::copy_n(from.data(), from.size(), to.data());
  }

  [[nodiscard]] const DropoutMask<T>* dropout() const {
    return dropout_.threshold > 0 ? &dropout_ : nullptr;
  }

  detail::AttentionShape shape_{};
  std::array<Index, 3> sizes_{};  // of a query, a key and a value, before they are projected
  bool has_keys_ = false, has_values_ = false;
  Tensor<T, 3> queries_, keys_, values_;
  Tensor<T, 4> q_, k_, v_;
  Tensor<T, 3> heads_, lse_;
  Mask mask_;
  DropoutMask<T> dropout_;
  detail::HeadSet head_set_{0, 1};
  detail::HeadGates<T> gates_;
  detail::ScoreColumn<T> score_;
  detail::ScoreRow<T> score_row_;
  std::array<Index, 4> bias_shape_{};  // of the ScoreBias that has a gradient
};

template <Scalar T>
struct MultiHeadAttention<T>::Gradients {
  Tensor<T, 3> queries, keys, values;  // of the inputs, each as if it were a tensor of its own
  LinearGradients<T> W_q, W_k, W_v, W_o;
  Tensor<T, 4> score_bias;  // of its own shape; empty if the scores had none
  // Of every head's gate in every sequence, [B, H], also where none are set. That of a gate that
  // sequences share is the sum of its column.
  Tensor<T, 2> gates;

  // visit(Parameter) for those of the parameters, with the names and in the order of the layer's
  // for_each_parameter.
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    MultiHeadAttention::visit_parameters(*this, visit, prefix);
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    MultiHeadAttention::visit_parameters(*this, visit, prefix);
  }
};

template <Scalar T>
template <class Score>
Tensor<T, 3> MultiHeadAttention<T>::train(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                          TensorView<T, 3> values, const Mask& mask,
                                          const Score& score, Activations& saved,
                                          const DropoutMask<T>& dropout, Context& context) const {
  require_initialized();
  const Call call = checked(queries, keys, values, mask, score);
  auto output = call.make_output();
  saved.keep(call, mask, dropout, heads_, gates_);
  saved.score_ = detail::score_column<T>(score);
  saved.score_row_ = call.score;
  if (const auto* bias = detail::last_bias<T>(score); bias != nullptr) {
    saved.bias_shape_ = bias->shape();
    saved.score_.bias_strides = bias->strides();
  }
  run(call,
      {saved.q_.data(), saved.k_.data(), saved.v_.data(), saved.heads_.data(), saved.lse_.data(),
       saved.dropout()},
      output.data(), nullptr, context);
  return output;
}

template <Scalar T>
template <class Score>
requires ScoreFunction<Score, T>
Tensor<T, 3> MultiHeadAttention<T>::forward(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                            TensorView<T, 3> values, const Mask& mask,
                                            const Score& score, Activations& saved,
                                            Context& context) const {
  if (dropout_.p() > 0)
    detail::refuse({"MultiHeadAttention: dropout is ", detail::number_text(dropout_.p()),
                    "; expected a DropoutSeed after the activations"});
  return train(queries, keys, values, mask, score, saved, {}, context);
}

template <Scalar T>
template <class Score>
requires ScoreFunction<Score, T>
Tensor<T, 3> MultiHeadAttention<T>::forward(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                            TensorView<T, 3> values, const Mask& mask,
                                            const Score& score, Activations& saved,
                                            DropoutSeed seed, Context& context) const {
  return train(queries, keys, values, mask, score, saved, DropoutMask<T>::of(dropout_, seed),
               context);
}

template <Scalar T>
typename MultiHeadAttention<T>::Gradients MultiHeadAttention<T>::backward(
    TensorView<T, 3> grad_output, const Activations& saved, Context& context) const {
  Gradients gradients;
  backward_into(gradients, grad_output, saved, false, context);
  return gradients;
}

// Makes the gradients' shapes, or, if they are added to, refuses others.
template <Scalar T>
void MultiHeadAttention<T>::prepare(Gradients& gradients, const Activations& saved,
                                    bool accumulate) const {
  const auto& shape = saved.shape_;
  const auto fit = [&](const char* name, auto& tensor, const char* axes, const auto& expected) {
    constexpr int rank = std::remove_reference_t<decltype(tensor)>::NumDimensions;
    if (accumulate)
      require_shape(name, TensorView<T, rank>(tensor), axes, expected);
    else if (TensorView<T, rank>(tensor).dimensions() != expected)
      tensor = detail::make_tensor<T>(name, expected);  // else its memory is used again
  };
  const auto [query_size, key_size, value_size] = saved.sizes_;
  fit("gradients.queries", gradients.queries, "[B, Q, query_size]",
      std::array{shape.B, shape.Q, query_size});
  fit("gradients.keys", gradients.keys, "[B, K, key_size]", std::array{shape.B, shape.K, key_size});
  fit("gradients.values", gradients.values, "[B, K, value_size]",
      std::array{shape.B, shape.K, value_size});
  fit("gradients.score_bias", gradients.score_bias, "the bias'", saved.bias_shape_);
  fit("gradients.gates", gradients.gates, "[B, H]", std::array{shape.B, shape.H});
  if (!accumulate) {
    gradients.score_bias.setZero();
    gradients.gates.setZero();
  }
  const auto fit_linear = [&](const Linear<T>& linear, LinearGradients<T>& of) {
    const Index out = linear.out_features(), in = linear.in_features();
    fit("gradients: weight", of.weight, "[out_features, in_features]", std::array{out, in});
    fit("gradients: bias", of.bias, "[out_features]", std::array{linear.has_bias() ? out : 0});
  };
  fit_linear(W_q, gradients.W_q);
  fit_linear(W_k, gradients.W_k);
  fit_linear(W_v, gradients.W_v);
  fit_linear(W_o, gradients.W_o);
}

template <Scalar T>
void MultiHeadAttention<T>::backward_into(Gradients& gradients, TensorView<T, 3> grad_output,
                                          const Activations& saved, bool accumulate,
                                          Context& context) const {
  using Layout = detail::HeadLayout<T>;
  if (!saved.is_saved())
    detail::refuse<std::logic_error>(
        {"MultiHeadAttention: backward needs the activations of a forward call"});
  const auto [B, H, G, Q, K, D, V] = saved.shape_;
  if (saved.head_set_ != heads_ || D != head_size() || W_q.in_features() != saved.sizes_[0] ||
      W_k.in_features() != saved.sizes_[1] || W_v.in_features() != saved.sizes_[2])
    detail::refuse<std::logic_error>(
        {"MultiHeadAttention: the activations are those of a layer of other sizes or heads"});
  require_projections();
  require_shape("grad_output", grad_output, "[B, Q, num_hiddens]", {B, Q, num_hiddens()});
  const BoundMask mask(saved.mask_, B, Q, K, num_heads_made());
  prepare(gradients, saved, accumulate);

  T* grad_heads =
      context.scratch<T>(detail::Scratch::gradients, B * Q * H * (D + V) + B * K * G * (D + V));
  T* grad_q = grad_heads + B * Q * H * V;  // [B, Q, H * D]
  T* grad_k = grad_q + B * Q * H * D;      // [B, K, G * D]
  T* grad_v = grad_k + B * K * G * D;      // [B, K, G * V]
  // output = W_o (g heads)
  W_o.backward(gated(saved.heads_.data(), saved.shape_, saved.gates_, context), grad_output.data(),
               B * Q, grad_heads, false, gradients.W_o, accumulate, context);
  // heads = attention(q, k, v)
  auto score = saved.score_;
  if (gradients.score_bias.size() > 0) score.grad_bias = gradients.score_bias.data();
  // All heads: the gradient of a gate needs its head's output, whatever the gate is.
  const auto heads = wanted_heads(B, saved.gates_, false, context).heads;
  const T* lse = saved.lse_.data();
  detail::attend_backward<T>(
      {saved.shape_, detail::attention_scale<T>({}, D), &mask, saved.q_.data(), saved.k_.data(),
       saved.v_.data(), lse,
       detail::HeadLayout<const T>::heads_together(saved.heads_.data(), Q, H, V),
       detail::HeadLayout<const T>::heads_together(grad_heads, Q, H, V),
       Layout::heads_together(grad_q, Q, H, D), Layout::heads_together(grad_k, K, G, D),
       Layout::heads_together(grad_v, K, G, V), saved.dropout(), score, heads, saved.gates_.table(),
       gradients.gates.data()},
      context);
  // q = W_q queries, k = W_k keys, v = W_v values
  const Wanted open = wanted_heads(B, saved.gates_, true, context);
  W_q.backward(saved.queries(), grad_q, B * Q, open.columns, gradients.queries.data(), accumulate,
               gradients.W_q, accumulate, context);
  W_k.backward(saved.keys(), grad_k, B * K, open.kv_columns, gradients.keys.data(), accumulate,
               gradients.W_k, accumulate, context);
  W_v.backward(saved.values(), grad_v, B * K, open.kv_columns, gradients.values.data(), accumulate,
               gradients.W_v, accumulate, context);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI
