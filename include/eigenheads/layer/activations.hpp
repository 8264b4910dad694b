// SPDX-License-Identifier: MIT
#pragma once
// What a forward pass in training keeps, and the gradients that the backward pass makes of it.
#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>

#include <eigenheads/detail/head_gates.hpp>  // HeadGates
#include <eigenheads/detail/head_set.hpp>    // HeadSet
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/saved_sequences.hpp>  // SavedSequences
#include <eigenheads/dropout.hpp>                 // DropoutMask
#include <eigenheads/layer/forward.hpp>           // LayerCall, HeadTensors
#include <eigenheads/linear.hpp>                  // LinearGradients
#include <eigenheads/mask.hpp>                    // Mask
#include <eigenheads/score_ref.hpp>               // ScoreRef
#include <eigenheads/tensor.hpp>                  // Tensor, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

// Owned copies of a call's inputs and of what lies between its steps, to be read by whoever studies
// heads. Empty until a forward pass has filled it; memory is used again by the next. Of packed
// sequences, B is 1, and Q and K are the rows of all of them.
template <Scalar T>
class LayerActivations {
 public:
  [[nodiscard]] bool is_saved() const { return shape_.D > 0; }

  // q and k as attention reads them: after a rotary.
  [[nodiscard]] TensorView<T, 4> q() const { return q_; }  // [B, H, Q, D]
  [[nodiscard]] TensorView<T, 4> k() const { return k_; }  // [B, G, K, D]
  [[nodiscard]] TensorView<T, 4> v() const { return v_; }  // [B, G, K, V]
  [[nodiscard]] TensorView<T, 3> heads() const {
    return heads_;
  }  // [B, Q, H * V], before the gates
  [[nodiscard]] TensorView<T, 3> lse() const { return lse_; }  // [B, H, Q]
  [[nodiscard]] const Mask& mask() const { return mask_; }
  // The score function of the call, or a copy of it.
  [[nodiscard]] const ScoreRef<T>& score() const { return score_; }
  [[nodiscard]] const Tensor<T, 2>& gates() const {
    return gates_.values();
  }  // [1 | B, H], or empty

  // For the steps of the backward pass, and for measures of heads.

  [[nodiscard]] const detail::AttentionShape& shape() const { return shape_; }
  // Where the rows of each sequence lie. They refer to this object.
  [[nodiscard]] detail::SequenceRows query_rows() const { return queries_of_.rows(); }
  [[nodiscard]] detail::SequenceRows key_rows() const { return keys_of_.rows(); }
  // The call's mask for its sequences; H: the heads that masks know.
  [[nodiscard]] BoundMask bound_mask(Index H) const {
    return BoundMask(mask_, query_rows(), key_rows(), H);
  }
  [[nodiscard]] const detail::HeadSet& head_set() const { return head_set_; }
  [[nodiscard]] const detail::HeadGates<T>& head_gates() const { return gates_; }
  [[nodiscard]] const DropoutMask<T>* dropout() const {  // null: none
    return dropout_.threshold > 0 ? &dropout_ : nullptr;
  }
  // Keys that are the queries, and values that are the keys, are kept once.
  [[nodiscard]] const T* queries() const { return queries_.data(); }
  [[nodiscard]] const T* keys() const { return has_keys_ ? keys_.data() : queries(); }
  [[nodiscard]] const T* values() const { return has_values_ ? values_.data() : keys(); }
  // Features of a query, a key and a value, before they are projected.
  [[nodiscard]] const std::array<Index, 3>& input_sizes() const { return input_sizes_; }

  // Copies all but what the steps compute, and makes room for that. When they have computed it, not
  // if one of them failed, complete() follows.
  [[nodiscard]] detail::HeadTensors<T> keep(const detail::LayerCall<T>& call, const Mask& mask,
                                            const detail::HeadSet& heads,
                                            const detail::HeadGates<T>& gates,
                                            const DropoutMask<T>& dropout) {
    const auto [B, H, G, longest_Q, longest_K, D, V] = call.shape;
    const detail::SequenceRows &queries = call.mask.query_rows(), &keys = call.mask.key_rows();
    const Index blocks = queries.blocks(), Q = queries.rows_per_block(), K = keys.rows_per_block();
    const auto differ = [](const auto& x, const auto& y) {
      return x.data() != y.data() || x.dimensions() != y.dimensions();
    };
    shape_ = {};  // nothing is saved until complete() says so
    has_keys_ = differ(call.keys, call.queries);
    has_values_ = differ(call.values, call.keys);
    input_sizes_ = {call.queries.dimension(2), call.keys.dimension(2), call.values.dimension(2)};
    detail::assign("queries", queries_, call.queries);
    if (has_keys_) detail::assign("keys", keys_, call.keys);
    if (has_values_) detail::assign("values", values_, call.values);
    detail::resize("q", q_, {blocks, H, Q, D});
    detail::resize("k", k_, {blocks, G, K, D});
    detail::resize("v", v_, {blocks, G, K, V});
    detail::resize("heads", heads_, {blocks, Q, H * V});
    detail::resize("lse", lse_, {blocks, H, Q});
    queries_of_.keep(queries);
    keys_of_.keep(keys);
    mask_ = mask;
    score_ = call.score.copy(score_owner_);
    dropout_ = dropout;
    head_set_ = heads;
    gates_ = gates;
    return {q_.data(), k_.data(), v_.data(), heads_.data(), lse_.data()};
  }
  void complete(const detail::LayerCall<T>& call) { shape_ = call.shape; }

 private:
  detail::AttentionShape shape_{};
  detail::SavedSequences queries_of_, keys_of_;
  std::array<Index, 3> input_sizes_{};
  bool has_keys_ = false, has_values_ = false;
  Tensor<T, 3> queries_, keys_, values_;
  Tensor<T, 4> q_, k_, v_;
  Tensor<T, 3> heads_, lse_;
  Mask mask_;
  std::shared_ptr<const void> score_owner_;
  ScoreRef<T> score_;
  DropoutMask<T> dropout_;
  detail::HeadSet head_set_{0, 1};
  detail::HeadGates<T> gates_;
};

namespace detail {

// The steps of forward.hpp, keeping what they make. The heads are kept as they are before the gates.
template <class T>
void train_layer(const LayerParts<T>& layer, const LayerCall<T>& call, const Mask& mask,
                 const DropoutMask<T>& dropout, LayerActivations<T>& saved, T* output,
                 Context& context) {
  const HeadTensors<T> heads = saved.keep(call, mask, layer.heads, layer.gates, dropout);
  const Frame frame(context);
  const Participation part =
      participation<T>({call.shape, call.mask, layer.heads, layer.gates, Mode::training}, frame);
  project_heads(layer, call, part, heads, context);
  attend_heads(call, part, heads, {.dropout = saved.dropout(), .sinks = layer.sinks()}, context);
  const T* const gated =
      gate_heads(heads.heads, call.shape, call.mask.query_rows(), layer.gates, frame, context);
  project_output(layer.W_o, call, part, gated, output, context);
  saved.complete(call);
}

// visit(Parameter) for those of the four projections of a layer, or of its gradients, and its sink logits.
template <class Layer, class Visitor>
void visit_layer(Layer& layer, Visitor& visit, std::string_view prefix) {
  using Value = element_of<decltype(layer.sink_logits)>;
  using Element = std::conditional_t<std::is_const_v<Layer>, const Value, Value>;
  const std::string start(prefix);
  layer.W_q.for_each_parameter(visit, start + "W_q.");
  layer.W_k.for_each_parameter(visit, start + "W_k.");
  layer.W_v.for_each_parameter(visit, start + "W_v.");
  layer.W_o.for_each_parameter(visit, start + "W_o.");
  if (layer.sink_logits.size() > 0)
    visit(Parameter<Element>(start + "sink_logits", layer.sink_logits));
}

}  // namespace detail

// What backward gives: of the inputs, of the parameters, and of gates and an added bias.
template <Scalar T>
struct LayerGradients {
  Tensor<T, 3> queries, keys, values;  // of the inputs, each as if it were a tensor of its own
  LinearGradients<T> W_q, W_k, W_v, W_o;
  Tensor<T, 1> sink_logits{0};  // [H], or empty: the layer has none
  Tensor<T, 4> score_bias;      // of its own shape; empty if the scores had none
  // Of every head's gate in every sequence, [B, H], also where none are set. That of a gate that
  // sequences share is the sum of its column.
  Tensor<T, 2> gates;

  // visit(Parameter) for those of the parameters, with the names and in the order of the layer's
  // for_each_parameter.
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    detail::visit_layer(*this, visit, prefix);
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    detail::visit_layer(*this, visit, prefix);
  }
};

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
