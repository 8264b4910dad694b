// SPDX-License-Identifier: MIT
#pragma once
// Multi-head attention: h heads attend side by side, each to its own projection of the inputs.
//   head_i = attention(W_q,i queries, W_k,i keys, W_v,i values),   y = W_o [head_1; ...; head_h]
// A head may have a gate, 1 unless it is set, by which it is multiplied before W_o.
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
#include <vector>

#include <eigenheads/attention.hpp>          // attend, AttentionOutput
#include <eigenheads/context.hpp>            // Context
#include <eigenheads/detail/head_gates.hpp>  // HeadGates
#include <eigenheads/detail/head_set.hpp>    // HeadSet
#include <eigenheads/dropout.hpp>            // Dropout
#include <eigenheads/layer/options.hpp>      // MultiHeadAttentionOptions
#include <eigenheads/linear.hpp>             // Linear
#include <eigenheads/mask.hpp>               // Mask
#include <eigenheads/score.hpp>              // ScoreFunction, PlainScore
#include <eigenheads/shape.hpp>              // require_shape, make_tensor
#include <eigenheads/tensor.hpp>             // TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI {

template <Scalar T>
class HeadImportance;

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

  // The key/value head that head h reads.
  [[nodiscard]] Index kv_head(Index h) const { return heads_.kv_head(h); }
  // After pruning (prune_heads.hpp): of each head that is left, which it was, of how many. Masks,
  // score functions and dropout go on calling the heads by those numbers.
  [[nodiscard]] const std::vector<Index>& head_indices() const { return heads_.numbers(); }
  [[nodiscard]] Index num_heads_made() const { return heads_.made(); }

  // Gates multiply the heads' outputs before W_o: [H], for all sequences, or [B, H], of the
  // sequences of calls to come; a tensor without rows clears them. A gate of 0 leaves a head out,
  // to the bit as if it were pruned, and inference spends no work on it (its projections are left
  // out if it is closed in all sequences, or all heads are in that sequence). Training and
  // with_weights compute it all the same. Throws std::invalid_argument for another shape, or a gate
  // that is not finite.
  template <detail::TensorLike Gates>
  requires(rank_of<Gates> == 1 || rank_of<Gates> == 2)
  void set_gates(const Gates& gates) {
    const TensorView<T, rank_of<Gates>> view(gates);
    if constexpr (rank_of<Gates> == 1) {
      require_shape("gates", view, "[H]", {num_heads()});
      gates_.set({view.data(), {1, num_heads()}}, num_heads());
    } else {
      gates_.set(view, num_heads());
    }
  }
  void set_gates(const std::vector<T>& gates) {  // [H]
    set_gates(TensorView<T, 1>(gates.data(), {std::ssize(gates)}));
  }
  void clear_gates() { gates_ = {}; }
  // [1, H], for all sequences, or [B, H]; empty where none are set.
  [[nodiscard]] const Tensor<T, 2>& gates() const { return gates_.values(); }

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
  requires ScoreFunction<Score, T>
  Tensor<T, 3> forward(TensorView<T, 3> queries, TensorView<T, 3> keys, TensorView<T, 3> values,
                       const Mask& mask, const Score& score, Activations& saved,
                       Context& context = default_context()) const;
  template <class Score>
  requires ScoreFunction<Score, T>
  Tensor<T, 3> forward(TensorView<T, 3> queries, TensorView<T, 3> keys, TensorView<T, 3> values,
                       const Mask& mask, const Score& score, Activations& saved, DropoutSeed seed,
                       Context& context = default_context()) const;

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
        dropout_(c.options.dropout),
        heads_(c.options.num_heads, c.options.num_kv_heads) {}

  friend HeadImportance<T>;
  template <Scalar U>
  friend MultiHeadAttention<U> prune_heads(const MultiHeadAttention<U>& layer,
                                           const std::vector<Index>& heads);

  // What a call must be, in multi_head_attention_checks.hpp.
  static void require_size(const char* name, Index size, const Linear<T>& linear);
  void require_projections() const;
  [[nodiscard]] bool is_lazy() const { return W_q.is_lazy() || W_k.is_lazy() || W_v.is_lazy(); }
  void require_initialized() const;

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
    void require_output(TensorView<T, 3> output) const;
  };

  // A lazy projection takes inputs of every size.
  [[nodiscard]] Call checked(TensorView<T, 3> queries, TensorView<T, 3> keys,
                             TensorView<T, 3> values, const Mask& mask) const;
  template <class Score>
  [[nodiscard]] Call checked(TensorView<T, 3> queries, TensorView<T, 3> keys,
                             TensorView<T, 3> values, const Mask& mask, const Score& score) const {
    Call call = checked(queries, keys, values, mask);
    detail::AttentionShape as_made = call.shape;
    as_made.H = num_heads_made();
    detail::require_score_fits(score, as_made);
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

  // The steps of a call, in multi_head_attention_run.hpp. weights: null, or [B, H, Q, K].
  struct Between {   // what lies between them
    T *q, *k, *v;    // [B, H, Q, D], [B, G, K, D], [B, G, K, V]
    T *heads, *lse;  // [B, Q, H * V] before the gates, [B, H, Q]; lse is null but in training
    const DropoutMask<T>* dropout;
  };
  struct Wanted {  // which heads take part
    detail::HeadTable heads;
    std::span<const detail::RowPiece> columns, kv_columns;  // of W_q, and of W_k and W_v
  };
  [[nodiscard]] Wanted wanted_heads(Index B, const detail::HeadGates<T>& gates, bool skips,
                                    Context& context) const;
  [[nodiscard]] const T* gated(const T* heads, const detail::AttentionShape& shape,
                               const detail::HeadGates<T>& gates, Context& context) const;
  void run(const Call& call, T* output, T* weights, Context& context) const;
  void run(const Call& call, const Between& between, T* output, T* weights, Context& context) const;

  template <class Score>
  Tensor<T, 3> train(TensorView<T, 3> queries, TensorView<T, 3> keys, TensorView<T, 3> values,
                     const Mask& mask, const Score& score, Activations& saved,
                     const DropoutMask<T>& dropout, Context& context) const;
  void prepare(Gradients& gradients, const Activations& saved, bool accumulate) const;

  MultiHeadAttentionOptions options_;
  Dropout dropout_;
  detail::HeadSet heads_;
  detail::HeadGates<T> gates_;
};

// The module as the chapter shows it, in PyTorch's manner, and what pruning left of its heads.
template <Scalar T>
std::ostream& operator<<(std::ostream& out, const MultiHeadAttention<T>& layer) {
  out << "MultiHeadAttention(\n  (attention): DotProductAttention(\n    (dropout): "
      << layer.dropout() << "\n  )\n  (W_q): " << layer.W_q << "\n  (W_k): " << layer.W_k
      << "\n  (W_v): " << layer.W_v << "\n  (W_o): " << layer.W_o;
  if (layer.num_heads() < layer.num_heads_made()) {
    out << "\n  (heads):";
    for (const Index number : layer.head_indices()) out << ' ' << std::to_string(number);
    out << (layer.num_heads() == 0 ? " none" : "") << " of "
        << std::to_string(layer.num_heads_made());
  }
  return out << "\n)";
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/multi_head_attention_backward.hpp>
#include <eigenheads/multi_head_attention_checks.hpp>
#include <eigenheads/multi_head_attention_run.hpp>
