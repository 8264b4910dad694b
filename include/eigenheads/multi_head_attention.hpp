// SPDX-License-Identifier: MIT
#pragma once
// Multi-head attention: h heads attend side by side, each to its own projection of the inputs.
//   head_i = attention(W_q,i queries, W_k,i keys, W_v,i values),   y = W_o [head_1; ...; head_h]
// Vaswani et al., "Attention Is All You Need", 2017, section 3.2.2; Dive into Deep Learning,
// section 11.5.
#include <algorithm>
#include <array>
#include <cstdint>
#include <ostream>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include <eigenheads/attention.hpp>                     // attend, AttentionOutput
#include <eigenheads/context.hpp>                       // Context
#include <eigenheads/dropout.hpp>                       // Dropout
#include <eigenheads/linear.hpp>                        // Linear
#include <eigenheads/mask.hpp>                          // Mask
#include <eigenheads/multi_head_attention_options.hpp>  // MultiHeadAttentionOptions
#include <eigenheads/score.hpp>                         // ScoreFunction, PlainScore
#include <eigenheads/shape.hpp>                         // require_shape, make_tensor
#include <eigenheads/tensor.hpp>                        // TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI {

template <Scalar T>
class MultiHeadAttention {
 public:
  // Weights depend on (seed, parameter name, shape) alone: a lazy layer ends with an eager one's
  // bits. Throws std::invalid_argument for options that cannot be.
  explicit MultiHeadAttention(const MultiHeadAttentionOptions& options, std::uint64_t seed = 0)
      : MultiHeadAttention(Completed{detail::completed(options)}, seed) {}

  Linear<T> W_q, W_k, W_v, W_o;

  [[nodiscard]] Index num_hiddens() const { return options_.num_hiddens; }
  [[nodiscard]] Index num_heads() const { return options_.num_heads; }
  [[nodiscard]] Index num_kv_heads() const { return options_.num_kv_heads; }
  [[nodiscard]] Index head_size() const { return options_.head_size; }
  [[nodiscard]] const Dropout& dropout() const { return dropout_; }

  // Gives a lazy layer its input sizes, all or none. Throws std::invalid_argument if one of them
  // cannot be, or is known to be another.
  void initialize(Index query_size, Index key_size, Index value_size) {
    require_size("query_size", query_size, W_q);
    require_size("key_size", key_size, W_k);
    require_size("value_size", value_size, W_v);
    W_q.initialize(query_size);
    W_k.initialize(key_size);
    W_v.initialize(value_size);
  }

  // visit(Parameter) for "W_q.weight" and, if there is one, "W_q.bias", then for W_k, W_v and W_o.
  // The prefix tells layers apart: "decoder." makes it "decoder.W_q.weight". Throws
  // std::logic_error while lazy.
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    require_initialized();
    visit_parameters(*this, visit, prefix);
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    require_initialized();
    visit_parameters(*this, visit, prefix);
  }

  // Inference, without dropout. queries: [B, Q, query_size], keys: [B, K, key_size], values:
  // [B, K, value_size] -> [B, Q, num_hiddens]. A score function may stand after the mask
  // (score.hpp). Throws std::invalid_argument, before anything is computed, if a tensor, the mask
  // or the score function does not fit; std::logic_error if the layer is const and lazy.
  template <class Score>
  requires ScoreFunction<Score, T>
  [[nodiscard]] Tensor<T, 3> operator()(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                        TensorView<T, 3> values, const Mask& mask,
                                        const Score& score,
                                        Context& context = default_context()) const {
    require_initialized();
    const Call call = checked(queries, keys, values, mask, score);
    auto output = call.make_output();
    run(call, output.data(), nullptr, context);
    return output;
  }
  [[nodiscard]] Tensor<T, 3> operator()(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                        TensorView<T, 3> values, const Mask& mask = {},
                                        Context& context = default_context()) const {
    return (*this)(queries, keys, values, mask, PlainScore{}, context);
  }

  // The same into `output`, [B, Q, num_hiddens], which may be `queries` itself but may overlap no
  // input otherwise. Allocates nothing once the context has seen such a call.
  template <class Score>
  requires ScoreFunction<Score, T>
  void forward_into(TensorSpan<T, 3> output, TensorView<T, 3> queries, TensorView<T, 3> keys,
                    TensorView<T, 3> values, const Mask& mask, const Score& score,
                    Context& context = default_context()) const {
    require_initialized();
    const Call call = checked(queries, keys, values, mask, score);
    call.require_output(output);
    run(call, output.data(), nullptr, context);
  }
  void forward_into(TensorSpan<T, 3> output, TensorView<T, 3> queries, TensorView<T, 3> keys,
                    TensorView<T, 3> values, const Mask& mask = {},
                    Context& context = default_context()) const {
    forward_into(output, queries, keys, values, mask, PlainScore{}, context);
  }

  // The same output to the bit, and every head's weights, [B, H, Q, K].
  template <class Score>
  requires ScoreFunction<Score, T>
  [[nodiscard]] AttentionOutput<T> with_weights(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                                TensorView<T, 3> values, const Mask& mask,
                                                const Score& score,
                                                Context& context = default_context()) const {
    require_initialized();
    const Call call = checked(queries, keys, values, mask, score);
    const auto& shape = call.shape;
    AttentionOutput<T> result{
        call.make_output(),
        detail::make_tensor<T>("weights", std::array{shape.B, shape.H, shape.Q, shape.K})};
    run(call, result.output.data(), result.weights.data(), context);
    return result;
  }
  [[nodiscard]] AttentionOutput<T> with_weights(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                                TensorView<T, 3> values, const Mask& mask = {},
                                                Context& context = default_context()) const {
    return with_weights(queries, keys, values, mask, PlainScore{}, context);
  }

  // On a layer that is not const, each of them first gives a lazy layer its sizes. `more` is what
  // may follow the values: a mask, a score function, a context.
  template <class... More>
  [[nodiscard]] Tensor<T, 3> operator()(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                        TensorView<T, 3> values, const Mask& mask, More&&... more) {
    if (is_lazy()) initialize_from(checked(queries, keys, values, mask, score_among(more...)));
    return std::as_const(*this)(queries, keys, values, mask, std::forward<More>(more)...);
  }
  [[nodiscard]] Tensor<T, 3> operator()(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                        TensorView<T, 3> values) {
    return (*this)(queries, keys, values, Mask{});
  }
  template <class... More>
  void forward_into(TensorSpan<T, 3> output, TensorView<T, 3> queries, TensorView<T, 3> keys,
                    TensorView<T, 3> values, const Mask& mask, More&&... more) {
    if (is_lazy()) {
      const Call call = checked(queries, keys, values, mask, score_among(more...));
      call.require_output(output);
      initialize_from(call);
    }
    std::as_const(*this).forward_into(output, queries, keys, values, mask,
                                      std::forward<More>(more)...);
  }
  void forward_into(TensorSpan<T, 3> output, TensorView<T, 3> queries, TensorView<T, 3> keys,
                    TensorView<T, 3> values) {
    forward_into(output, queries, keys, values, Mask{});
  }
  template <class... More>
  [[nodiscard]] AttentionOutput<T> with_weights(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                                TensorView<T, 3> values, const Mask& mask,
                                                More&&... more) {
    if (is_lazy()) initialize_from(checked(queries, keys, values, mask, score_among(more...)));
    return std::as_const(*this).with_weights(queries, keys, values, mask,
                                             std::forward<More>(more)...);
  }
  [[nodiscard]] AttentionOutput<T> with_weights(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                                TensorView<T, 3> values) {
    return with_weights(queries, keys, values, Mask{});
  }

  // ---- Training
  // ----------------------------------------------------------------------------------

  class Activations;  // what backward needs of a call, and owns
  struct Gradients;

  // The output of operator(), to the bit if nothing is dropped. Throws std::invalid_argument also
  // if the layer drops weights and no seed is given. The mask's parts are copied.
  Tensor<T, 3> forward(TensorView<T, 3> queries, TensorView<T, 3> keys, TensorView<T, 3> values,
                       const Mask& mask, Activations& saved,
                       Context& context = default_context()) const {
    return forward(queries, keys, values, mask, PlainScore{}, saved, context);
  }
  // Drops attention weights: which, is a function of the seed and of their position alone.
  Tensor<T, 3> forward(TensorView<T, 3> queries, TensorView<T, 3> keys, TensorView<T, 3> values,
                       const Mask& mask, Activations& saved, DropoutSeed seed,
                       Context& context = default_context()) const {
    return forward(queries, keys, values, mask, PlainScore{}, saved, seed, context);
  }
  // With a score function after the mask, which must live until backward is done. It is one that
  // only adds, or has a derivative (score.hpp); the ScoreBias that is added last gets its gradient.
  template <class Score>
  requires ScoreFunction<Score, T> Tensor<T, 3> forward(TensorView<T, 3> queries,
                                                        TensorView<T, 3> keys,
                                                        TensorView<T, 3> values, const Mask& mask,
                                                        const Score& score, Activations& saved,
                                                        Context& context = default_context())
  const;
  template <class Score>
  requires ScoreFunction<Score, T> Tensor<T, 3> forward(TensorView<T, 3> queries,
                                                        TensorView<T, 3> keys,
                                                        TensorView<T, 3> values, const Mask& mask,
                                                        const Score& score, Activations& saved,
                                                        DropoutSeed seed,
                                                        Context& context = default_context())
  const;

  // grad_output: [B, Q, num_hiddens], of a loss that `saved` was on the way to. Throws
  // std::invalid_argument if it is not of that shape, std::logic_error if nothing is saved or the
  // layer has other sizes than then. The weights must be those of the forward call. Memory is
  // linear in Q and K.
  [[nodiscard]] Gradients backward(TensorView<T, 3> grad_output, const Activations& saved,
                                   Context& context = default_context()) const;
  // The same into `gradients`, or added to what it holds.
  void backward_into(Gradients& gradients, TensorView<T, 3> grad_output, const Activations& saved,
                     bool accumulate = false, Context& context = default_context()) const;

  template <class... More>
  Tensor<T, 3> forward(TensorView<T, 3> queries, TensorView<T, 3> keys, TensorView<T, 3> values,
                       const Mask& mask, More&&... more) {
    if (is_lazy()) initialize_from(checked(queries, keys, values, mask, score_among(more...)));
    return std::as_const(*this).forward(queries, keys, values, mask, std::forward<More>(more)...);
  }

 private:
  struct Completed {
    MultiHeadAttentionOptions options;
  };

  MultiHeadAttention(const Completed& c, std::uint64_t seed)
      : W_q({c.options.query_size, c.options.num_heads * c.options.head_size, c.options.bias}, seed,
            "W_q"),
        W_k({c.options.key_size, c.options.num_kv_heads * c.options.head_size, c.options.bias},
            seed, "W_k"),
        W_v({c.options.value_size, c.options.num_kv_heads * c.options.head_size, c.options.bias},
            seed, "W_v"),
        W_o({c.options.num_heads * c.options.head_size, c.options.num_hiddens, c.options.bias},
            seed, "W_o"),
        options_(c.options),
        dropout_(c.options.dropout) {}

  static void require_size(const char* name, Index size, const Linear<T>& linear) {
    if (linear.is_lazy() ? size < 1 : size != linear.in_features())
      detail::refuse({"MultiHeadAttention: ", name, " is ", size, "; expected ",
                      (linear.is_lazy() ? "1 or more" : std::to_string(linear.in_features()))});
  }

  // The projections are public, so a caller may have put others in their place.
  static void require_projection(const char* name, const char* size, Index got, Index expected) {
    if (got != expected)
      detail::refuse(
          {"MultiHeadAttention: ", name, ".", size, " is ", got, "; expected ", expected});
  }
  [[nodiscard]] bool is_lazy() const { return W_q.is_lazy() || W_k.is_lazy() || W_v.is_lazy(); }
  void require_initialized() const {
    for (const auto& [name, linear] :
         {std::pair{"W_q", &W_q}, std::pair{"W_k", &W_k}, std::pair{"W_v", &W_v}})
      if (linear->is_lazy())
        detail::refuse<std::logic_error>(
            {"MultiHeadAttention: the input size of ", name,
             " is not known yet; call initialize(query_size, key_size, value_size), or call the "
             "layer once while it is not const"});
  }

  // Of a layer, or of its gradients.
  template <class Self, class Visitor>
  static void visit_parameters(Self& self, Visitor& visit, std::string_view prefix) {
    const std::string start(prefix);
    self.W_q.for_each_parameter(visit, start + "W_q.");
    self.W_k.for_each_parameter(visit, start + "W_k.");
    self.W_v.for_each_parameter(visit, start + "W_v.");
    self.W_o.for_each_parameter(visit, start + "W_o.");
  }

  // One call, all of whose parts fit each other.
  struct Call {
    TensorView<T, 3> queries, keys, values;
    detail::AttentionShape shape;
    Index num_hiddens;
    BoundMask mask;
    detail::ScoreRow<T> score;

    [[nodiscard]] std::array<Index, 3> output_shape() const {
      return {shape.B, shape.Q, num_hiddens};
    }
    [[nodiscard]] Tensor<T, 3> make_output() const {
      return detail::make_tensor<T>("output", output_shape());
    }
    void require_output(TensorView<T, 3> output) const {
      require_shape("output", output, "[B, Q, num_hiddens]", output_shape());
      if (output.data() != queries.data() || output.dimensions() != queries.dimensions())
        detail::require_disjoint("output", output, "queries", queries);
      detail::require_disjoint("output", output, "keys", keys);
      detail::require_disjoint("output", output, "values", values);
    }
  };

  // A lazy projection takes inputs of every size.
  [[nodiscard]] Call checked(TensorView<T, 3> queries, TensorView<T, 3> keys,
                             TensorView<T, 3> values, const Mask& mask) const {
    const Index H = num_heads(), G = num_kv_heads(), D = head_size();
    require_projection("W_q", "out_features", W_q.out_features(), H * D);
    require_projection("W_k", "out_features", W_k.out_features(), G * D);
    require_projection("W_v", "out_features", W_v.out_features(), G * D);
    require_projection("W_o", "in_features", W_o.in_features(), H * D);
    require_projection("W_o", "out_features", W_o.out_features(), num_hiddens());
    const auto size_of = [](const Linear<T>& linear) {
      return linear.is_lazy() ? any : linear.in_features();
    };
    require_shape("queries", queries, "[B, Q, query_size]", {any, any, size_of(W_q)});
    const Index B = queries.dimension(0), Q = queries.dimension(1), K = keys.dimension(1);
    require_shape("keys", keys, "[B, K, key_size]", {B, any, size_of(W_k)});
    require_shape("values", values, "[B, K, value_size]", {B, K, size_of(W_v)});
    return {
        queries, keys, values, {B, H, G, Q, K, D, D}, num_hiddens(), BoundMask(mask, B, Q, K, H),
        {}};
  }
  template <class Score>
  [[nodiscard]] Call checked(TensorView<T, 3> queries, TensorView<T, 3> keys,
                             TensorView<T, 3> values, const Mask& mask, const Score& score) const {
    Call call = checked(queries, keys, values, mask);
    detail::require_score_fits(score, call.shape);
    call.score = detail::score_row<T>(score);
    return call;
  }

  void initialize_from(const Call& call) {
    initialize(call.queries.dimension(2), call.keys.dimension(2), call.values.dimension(2));
  }

  // The score function among what follows a mask, if there is one.
  static PlainScore score_among() { return {}; }
  template <class First, class... Rest>
  static decltype(auto) score_among(const First& first, const Rest&...) {
    if constexpr (ScoreFunction<First, T>)
      return (first);
    else
      return PlainScore{};
  }

  // weights: null, or [B, H, Q, K]. transpose_qkv and transpose_output are in the layouts that the
  // projections and the attention write to. Only keys that some query sees, and queries that are
  // not padding, are projected at all.
  void run(const Call& call, T* output, T* weights, Context& context) const {
    const auto [B, H, G, Q, K, D, V] = call.shape;
    T* q =
        context.scratch<T>(detail::Scratch::projections, B * H * Q * (D + V) + B * G * K * (D + V));
    T* k = q + B * H * Q * D;
    T* v = k + B * G * K * D;
    run(call, {q, k, v, v + B * G * K * V, nullptr, nullptr}, output, weights, context);
  }
  struct Between {   // the steps
    T *q, *k, *v;    // [B, H, Q, D], [B, G, K, D], [B, G, K, V]
    T *heads, *lse;  // [B, Q, H * V], [B, H, Q] or null
    const DropoutMask<T>* dropout;
  };
  void run(const Call& call, const Between& between, T* output, T* weights,
           Context& context) const {
    using Layout = detail::HeadLayout<T>;
    const auto [B, H, G, Q, K, D, V] = call.shape;
    const auto& [q, k, v, heads, lse, dropout] = between;
    const Index num_hiddens = call.num_hiddens;
    const BoundMask& mask = call.mask;
    auto* pieces = context.scratch<detail::RowPiece>(detail::Scratch::pieces, 2 * B);
    const auto query_rows = detail::rows_of(
        B, Q,
        [&](Index b) {
          return KeyRange{0, mask.query_count(b)};
        },
        pieces);
    const auto key_rows = detail::rows_of(
        B, K, [&](Index b) { return mask.seen_keys(b); }, pieces + B);

    W_q.project(call.queries.data(), query_rows, Layout::heads_apart(q, Q, H, D), context);
    W_k.project(call.keys.data(), key_rows, Layout::heads_apart(k, K, G, D), context);
    W_v.project(call.values.data(), key_rows, Layout::heads_apart(v, K, G, V), context);
    detail::attend<T>({call.shape, detail::attention_scale<T>({}, D), &mask, q, k, v,
                       Layout::heads_together(heads, Q, H, V), lse, weights, call.score, dropout},
                      context);
    W_o.project(heads, query_rows, Layout::heads_together(output, Q, 1, num_hiddens), context);
    // What W_o makes of an attention of 0.
    for (Index b = 0; b < B; ++b)
      for (Index row = mask.query_count(b); row < Q; ++row)
        if (T* to = output + (b * Q + row) * num_hiddens; W_o.has_bias())
          std::copy_n(W_o.bias().data(), num_hiddens, to);
        else
          std::fill_n(to, num_hiddens, T(0));
  }

  template <class Score>
  Tensor<T, 3> train(TensorView<T, 3> queries, TensorView<T, 3> keys, TensorView<T, 3> values,
                     const Mask& mask, const Score& score, Activations& saved,
                     const DropoutMask<T>& dropout, Context& context) const;
  void prepare(Gradients& gradients, const Activations& saved, bool accumulate) const;

  MultiHeadAttentionOptions options_;
  Dropout dropout_;
};

// The module as the chapter shows it, in PyTorch's manner.
template <Scalar T>
std::ostream& operator<<(std::ostream& out, const MultiHeadAttention<T>& layer) {
  return out << "MultiHeadAttention(\n  (attention): DotProductAttention(\n    (dropout): "
             << layer.dropout() << "\n  )\n  (W_q): " << layer.W_q << "\n  (W_k): " << layer.W_k
             << "\n  (W_v): " << layer.W_v << "\n  (W_o): " << layer.W_o << "\n)";
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/multi_head_attention_backward.hpp>
