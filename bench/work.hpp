// SPDX-License-Identifier: MIT
#pragma once
// A forward case with its tensors: the library's call, and the same composed of somebody's
// products.
#include <array>
#include <cstddef>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include <eigenheads/attention.hpp>             // scaled_dot_product_attention
#include <eigenheads/context.hpp>               // Context
#include <eigenheads/linear.hpp>                // Linear
#include <eigenheads/mask.hpp>                  // Mask
#include <eigenheads/multi_head_attention.hpp>  // MultiHeadAttention
#include <eigenheads/score.hpp>                 // Alibi, ScoreBias
#include <eigenheads/tensor.hpp>                // Tensor

#include "cases.hpp"
#include "composed.hpp"
#include "inputs.hpp"
#include "outputs.hpp"

namespace bench {

namespace eh = eigenheads;

template <class T, int Rank>
[[nodiscard]] eh::Tensor<T, Rank> filled(Stream stream, const std::array<Index, Rank>& shape,
                                         double scale = 1) {
  eh::Tensor<T, Rank> tensor(shape);
  for (Index i = 0; i < tensor.size(); ++i)
    tensor.data()[i] = static_cast<T>(scale) * number<T>(stream, i);
  return tensor;
}

[[nodiscard]] inline eh::Mask make_mask(const Case& c) {
  eh::Mask mask;
  if (c.masking == Masking::causal) mask.causal = eh::Causal::top_left;
  if (!c.lens.empty()) mask.valid_lens = c.lens;
  if (c.masking == Masking::query_lens) mask.query_lens = c.lens;
  if (c.masking == Masking::length_a_query) {
    const std::vector<Index> seen = seen_keys(c);
    std::vector<std::vector<Index>> rows;
    for (auto row = seen.begin(); row != seen.end(); row += c.Q) rows.emplace_back(row, row + c.Q);
    mask.valid_lens = rows;
  }
  if (c.masking == Masking::allowed) {
    eh::Tensor<bool, 4> allowed(1, 1, c.Q, c.K);
    for (Index q = 0; q < c.Q; ++q)
      for (Index k = 0; k < c.K; ++k) allowed(0, 0, q, k) = is_allowed(c, q, k);
    mask.allowed = allowed;
  }
  return mask;
}

// What is added to the scores, [1, H, Q, K], where keys are not simply seen from the first on;
// otherwise empty.
template <class T>
[[nodiscard]] eh::Tensor<T, 4> make_bias(const Case& c) {
  using enum Masking;
  if (c.masking != allowed && c.masking != score_bias && c.masking != alibi)
    return eh::Tensor<T, 4>(0, 0, 0, 0);
  eh::Tensor<T, 4> bias(1, c.H, c.Q, c.K);
  for (Index h = 0; h < c.H; ++h)
    for (Index q = 0; q < c.Q; ++q)
      for (Index k = 0; k < c.K; ++k)
        bias(0, h, q, k) = is_allowed(c, q, k) ? static_cast<T>(bench::score_bias(c, h, q, k))
                                               : -std::numeric_limits<T>::infinity();
  return bias;
}

template <class T>
class Work {
 public:
  virtual ~Work() = default;
  virtual void run_library(eh::Context& context) = 0;
  virtual void run_composed(Composed<T>& composed) = 0;
  // The rows of [B, Q, E] or of [B, H, Q, D]; in training gradients, each by itself.
  [[nodiscard]] virtual Outputs<T> library_output() const = 0;
  [[nodiscard]] virtual Outputs<T> composed_output() const = 0;
  // What a decoding step reads.
  [[nodiscard]] virtual std::vector<std::span<const std::byte>> memory() const { return {}; }
};

template <class Tensor>
[[nodiscard]] auto data_or_null(Tensor& tensor) {
  return tensor.size() == 0 ? nullptr : tensor.data();
}

template <class T>
class ProjectionWork final : public Work<T> {
 public:
  explicit ProjectionWork(const Case& c)
      : rows_(c.B * c.Q),
        size_(c.E()),
        x_(filled<T, 2>(Stream::queries, {rows_, size_})),
        w_(filled<T, 2>(Stream::w_q, {size_, size_}, weight_scale)),
        linear_({size_, size_}),
        y_(rows_, size_),
        composed_y_(rows_, size_) {
    linear_.set_weight(w_);
  }

  void run_library(eh::Context& context) override {
    linear_.forward_into(eh::TensorSpan<T, 2>(y_), eh::TensorView<T, 2>(x_), context);
  }
  void run_composed(Composed<T>& composed) override {
    composed.project(x_.data(), w_.data(), composed_y_.data(), rows_, size_, size_);
  }
  [[nodiscard]] Outputs<T> library_output() const override { return {span_of(y_)}; }
  [[nodiscard]] Outputs<T> composed_output() const override { return {span_of(composed_y_)}; }

 private:
  Index rows_, size_;
  eh::Tensor<T, 2> x_, w_;
  eh::Linear<T> linear_;
  eh::Tensor<T, 2> y_, composed_y_;
};

template <class T>
class AttentionWork : public Work<T> {
 public:
  explicit AttentionWork(const Case& c)
      : case_(c),
        mask_(make_mask(c)),
        seen_(seen_keys(c)),
        bias_(make_bias<T>(c)),
        slopes_(c.H),
        queries_(filled<T, 4>(Stream::queries, {c.B, c.H, c.Q, c.D})),
        keys_(filled<T, 4>(Stream::keys, {c.B, c.kv_heads(), c.K, c.D})),
        values_(filled<T, 4>(Stream::values, {c.B, c.kv_heads(), c.K, c.D})),
        composed_output_(c.B, c.H, c.Q, c.D) {
    for (Index h = 0; h < c.H; ++h) slopes_(h) = static_cast<T>(alibi_slope(h));
  }

  void run_library(eh::Context& context) override {
    const auto attend = [&](const auto& score) {
      result_ = eh::scaled_dot_product_attention(queries_, keys_, values_, mask_, {.score = score},
                                                 context);
    };
    if (case_.masking == Masking::score_bias)
      attend(eh::ScoreBias<T>(bias_));
    else if (case_.masking == Masking::alibi)
      attend(eh::Alibi<T>(slopes_));
    else
      attend(eh::PlainScore{});
  }
  void run_composed(Composed<T>& composed) override { composed.attend(call()); }
  [[nodiscard]] Outputs<T> library_output() const override { return {span_of(result_.output)}; }
  [[nodiscard]] Outputs<T> composed_output() const override { return {span_of(composed_output_)}; }
  [[nodiscard]] std::vector<std::span<const std::byte>> memory() const override {
    return {std::as_bytes(span_of(keys_)), std::as_bytes(span_of(values_))};
  }

 protected:
  AttentionCall<T> call() {
    const auto [kind, B, H, unused, Q, K, D, masking, lens, group] = case_;
    const Index G = case_.kv_heads();
    return {B,
            H,
            G,
            Q,
            K,
            D,
            HeadRows<const T>::heads_apart(queries_.data(), H, Q, D),
            HeadRows<const T>::heads_apart(keys_.data(), G, K, D),
            HeadRows<const T>::heads_apart(values_.data(), G, K, D),
            HeadRows<T>::heads_apart(composed_output_.data(), H, Q, D),
            seen_.data(),
            data_or_null(bias_),
            data_or_null(weights_)};
  }

  Case case_;
  eh::Mask mask_;
  std::vector<Index> seen_;
  eh::Tensor<T, 4> bias_;
  eh::Tensor<T, 1> slopes_;
  eh::Tensor<T, 4> queries_, keys_, values_;
  eh::AttentionResult<T> result_;
  eh::Tensor<T, 4> composed_output_, weights_;  // weights: where they are kept
};

// Self-attention where there are as many queries as keys.
template <class T>
class LayerWork : public Work<T> {
 public:
  explicit LayerWork(const Case& c)
      : case_(c),
        mask_(make_mask(c)),
        seen_(seen_keys(c)),
        queries_(filled<T, 3>(Stream::queries, {c.B, c.Q, c.E()})),
        keys_(filled<T, 3>(Stream::keys, {c.B, c.K, c.E()})),
        layer_({.num_hiddens = c.E(), .num_heads = c.H}),
        output_(c.B, c.Q, c.E()) {
    for (auto& [linear, weight, stream] : projections()) {
      weight = filled<T, 2>(stream, {c.E(), c.E()}, weight_scale);
      linear.set_weight(weight);
    }
    for (auto* tensor : {&q_, &heads_, &composed_output_}) tensor->resize(c.B, c.Q, c.E());
    for (auto* tensor : {&k_, &v_}) tensor->resize(c.B, c.K, c.E());
  }

  void run_library(eh::Context& context) override {
    layer_.forward_into(output_, queries_, key_inputs(), key_inputs(), mask_, context);
  }
  void run_composed(Composed<T>& composed) override {
    const auto [kind, B, H, G, Q, K, D, masking, lens, group] = case_;
    const Index E = case_.E();
    composed.project(queries_.data(), w_q_.data(), q_.data(), B * Q, E, E);
    composed.project(key_inputs().data(), w_k_.data(), k_.data(), B * K, E, E);
    composed.project(key_inputs().data(), w_v_.data(), v_.data(), B * K, E, E);
    composed.attend(call());
    composed.project(heads_.data(), w_o_.data(), composed_output_.data(), B * Q, E, E);
  }
  [[nodiscard]] Outputs<T> library_output() const override { return {span_of(output_)}; }
  [[nodiscard]] Outputs<T> composed_output() const override { return {span_of(composed_output_)}; }

 protected:
  AttentionCall<T> call() {
    const auto [kind, B, H, G, Q, K, D, masking, lens, group] = case_;
    return {B,
            H,
            H,
            Q,
            K,
            D,
            HeadRows<const T>::heads_together(q_.data(), H, Q, D),
            HeadRows<const T>::heads_together(k_.data(), H, K, D),
            HeadRows<const T>::heads_together(v_.data(), H, K, D),
            HeadRows<T>::heads_together(heads_.data(), H, Q, D),
            seen_.data(),
            nullptr,
            data_or_null(weights_)};
  }

  struct Projection {
    eh::Linear<T>& linear;
    eh::Tensor<T, 2>& weight;
    Stream stream;
  };
  std::array<Projection, 4> projections() {
    return {{{layer_.W_q, w_q_, Stream::w_q},
             {layer_.W_k, w_k_, Stream::w_k},
             {layer_.W_v, w_v_, Stream::w_v},
             {layer_.W_o, w_o_, Stream::w_o}}};
  }
  [[nodiscard]] const eh::Tensor<T, 3>& key_inputs() const {
    return case_.Q == case_.K ? queries_ : keys_;
  }

  Case case_;
  eh::Mask mask_;
  std::vector<Index> seen_;
  eh::Tensor<T, 3> queries_, keys_;
  eh::Tensor<T, 2> w_q_, w_k_, w_v_, w_o_;
  eh::MultiHeadAttention<T> layer_;
  eh::Tensor<T, 3> output_, q_, k_, v_, heads_, composed_output_;
  eh::Tensor<T, 4> weights_;  // where they are kept
};

}  // namespace bench
