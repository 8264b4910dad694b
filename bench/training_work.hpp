// SPDX-License-Identifier: MIT
#pragma once
// A training case with its tensors: the forward cases of work.hpp, and their backward passes.
#include <array>

#include <eigenheads/attention_backward.hpp>    // scaled_dot_product_attention_backward
#include <eigenheads/multi_head_attention.hpp>  // Activations, Gradients

#include "work.hpp"

namespace bench {

// The backward pass alone: the forward pass is run once, before the first.
template <class T>
class AttentionBackwardWork final : public AttentionWork<T> {
  using Base = AttentionWork<T>;

 public:
  explicit AttentionBackwardWork(const Case& c)
      : Base(c), grad_output_(filled<T, 4>(Stream::grad_output, {c.B, c.H, c.Q, c.D})) {
    for (auto* tensor : {&grad_queries_, &grad_keys_, &grad_values_})
      tensor->resize(this->queries_.dimensions());
  }

  void run_library(eh::Context& context) override {
    if (this->result_.output.size() == 0) Base::run_library(context);
    gradients_ = eh::scaled_dot_product_attention_backward(grad_output_, this->queries_,
                                                           this->keys_, this->values_,
                                                           this->result_, this->mask_, {}, context);
  }
  void run_composed(Composed<T>& composed) override {
    const auto [kind, B, H, G, Q, K, D, masking, lens, group] = this->case_;
    if (this->weights_.size() == 0) {
      this->weights_.resize(B, H, Q, K);
      Base::run_composed(composed);
    }
    composed.attend_backward({this->call(),
                              HeadRows<const T>::heads_apart(grad_output_.data(), H, Q, D),
                              HeadRows<T>::heads_apart(grad_queries_.data(), H, Q, D),
                              HeadRows<T>::heads_apart(grad_keys_.data(), H, K, D),
                              HeadRows<T>::heads_apart(grad_values_.data(), H, K, D)});
  }
  [[nodiscard]] Outputs<T> library_output() const override {
    return {span_of(gradients_.queries), span_of(gradients_.keys), span_of(gradients_.values)};
  }
  [[nodiscard]] Outputs<T> composed_output() const override {
    return {span_of(grad_queries_), span_of(grad_keys_), span_of(grad_values_)};
  }

 private:
  eh::Tensor<T, 4> grad_output_;
  eh::AttentionGradients<T> gradients_;
  eh::Tensor<T, 4> grad_queries_, grad_keys_, grad_values_;
};

// Self-attention forward and backward: the input's gradient is the sum of those of its three uses.
template <class T>
class TrainingWork final : public LayerWork<T> {
  using Base = LayerWork<T>;

 public:
  explicit TrainingWork(const Case& c)
      : Base(c), grad_output_(filled<T, 3>(Stream::grad_output, {c.B, c.Q, c.E()})) {
    this->weights_.resize(c.B, c.H, c.Q, c.K);
    for (auto* tensor : {&grad_heads_, &grad_q_, &grad_k_, &grad_v_, &grad_x_})
      tensor->resize(c.B, c.Q, c.E());
    for (auto* tensor : {&grad_w_q_, &grad_w_k_, &grad_w_v_, &grad_w_o_})
      tensor->resize(c.E(), c.E());
  }

  void run_library(eh::Context& context) override {
    const auto& x = this->queries_;
    this->output_ = this->layer_.forward(x, x, x, this->mask_, saved_, context);
    this->layer_.backward_into(gradients_, grad_output_, saved_, false, context);
    gradients_.queries += gradients_.keys + gradients_.values;
  }
  void run_composed(Composed<T>& composed) override {
    Base::run_composed(composed);
    const auto [kind, B, H, G, Q, K, D, masking, lens, group] = this->case_;
    const Index rows = B * Q, E = this->case_.E();
    const auto project_backward = [&](const auto& x, const auto& w, const auto& grad_y,
                                      auto& grad_x, auto& grad_w, bool adds) {
      composed.project_backward(
          {x.data(), w.data(), grad_y.data(), grad_x.data(), grad_w.data(), rows, E, E, adds});
    };
    project_backward(this->heads_, this->w_o_, grad_output_, grad_heads_, grad_w_o_, false);
    composed.attend_backward({this->call(),
                              HeadRows<const T>::heads_together(grad_heads_.data(), H, Q, D),
                              HeadRows<T>::heads_together(grad_q_.data(), H, Q, D),
                              HeadRows<T>::heads_together(grad_k_.data(), H, K, D),
                              HeadRows<T>::heads_together(grad_v_.data(), H, K, D)});
    project_backward(this->queries_, this->w_q_, grad_q_, grad_x_, grad_w_q_, false);
    project_backward(this->queries_, this->w_k_, grad_k_, grad_x_, grad_w_k_, true);
    project_backward(this->queries_, this->w_v_, grad_v_, grad_x_, grad_w_v_, true);
  }
  [[nodiscard]] Outputs<T> library_output() const override {
    return {span_of(this->output_),         span_of(gradients_.queries),
            span_of(gradients_.W_q.weight), span_of(gradients_.W_k.weight),
            span_of(gradients_.W_v.weight), span_of(gradients_.W_o.weight)};
  }
  [[nodiscard]] Outputs<T> composed_output() const override {
    return {span_of(this->composed_output_),
            span_of(grad_x_),
            span_of(grad_w_q_),
            span_of(grad_w_k_),
            span_of(grad_w_v_),
            span_of(grad_w_o_)};
  }

 private:
  eh::Tensor<T, 3> grad_output_;
  typename eh::MultiHeadAttention<T>::Activations saved_;
  typename eh::MultiHeadAttention<T>::Gradients gradients_;
  eh::Tensor<T, 3> grad_heads_, grad_q_, grad_k_, grad_v_, grad_x_;
  eh::Tensor<T, 2> grad_w_q_, grad_w_k_, grad_w_v_, grad_w_o_;
};

}  // namespace bench
