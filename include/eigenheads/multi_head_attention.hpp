// SPDX-License-Identifier: MIT
#pragma once
// Multi-head attention: h heads attend side by side, each to its own projection of the inputs.
//   head_i = attention(W_q,i queries, W_k,i keys, W_v,i values),   y = W_o [head_1; ...; head_h]
// A head may have a gate, 1 unless it is set, by which it is multiplied before W_o, and queries and keys
// may be turned by their positions (rotary.hpp) before they meet.
// Vaswani et al., "Attention Is All You Need", 2017, section 3.2.2; Dive into Deep Learning,
// section 11.5.
#include <array>
#include <cstdint>
#include <memory>
#include <ostream>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/attention_result.hpp>   // AttentionOutput
#include <eigenheads/call_options.hpp>       // CallOptions, TrainingOptions
#include <eigenheads/detail/head_gates.hpp>  // HeadGates
#include <eigenheads/detail/head_set.hpp>    // HeadSet
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/dropout.hpp>                         // Dropout
#include <eigenheads/kernels/schedule/attend_packed.hpp>  // attend_packed
#include <eigenheads/layer/activations.hpp>               // LayerActivations, LayerGradients
#include <eigenheads/layer/backward.hpp>                  // run_layer_backward
#include <eigenheads/layer/checks.hpp>                    // checked_call
#include <eigenheads/layer/forward.hpp>                   // run_layer
#include <eigenheads/layer/key_value_calls.hpp>           // KeyValueCalls
#include <eigenheads/layer/options.hpp>                   // MultiHeadAttentionOptions
#include <eigenheads/layer/step_calls.hpp>                // StepCalls
#include <eigenheads/linear.hpp>                          // Linear
#include <eigenheads/mask.hpp>                            // Mask
#include <eigenheads/rotary.hpp>                          // Rotary
#include <eigenheads/sequences.hpp>                       // Sequences
#include <eigenheads/shape.hpp>                           // require_shape, make_tensor
#include <eigenheads/tensor.hpp>                          // TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI {

namespace detail {
template <Scalar T>
class KeepGates;  // head_importance.hpp
}

// Declared here to be a friend: clang 16 takes a template with a constraint for another one.
template <Scalar T>
MultiHeadAttention<T> prune_heads(const MultiHeadAttention<T>& layer,
                                  const std::vector<Index>& heads);

// The layer: its four projections, and its calls for inference and training, padded or packed. Its calls
// with a cache, and with keys and values that stay, have headers of their own: layer/step_calls.hpp,
// layer/key_value_calls.hpp.
template <Scalar T>
class MultiHeadAttention : public detail::StepCalls<T>, public detail::KeyValueCalls<T> {
 public:
  // Weights depend on (seed, parameter name, shape) alone: a lazy layer ends with an eager one's
  // bits. Throws std::invalid_argument for invalid options.
  explicit MultiHeadAttention(const MultiHeadAttentionOptions& options, std::uint64_t seed = 0);

  // All of the other, or, without memory for it, nothing.
  MultiHeadAttention(const MultiHeadAttention&) = default;
  MultiHeadAttention(MultiHeadAttention&&) noexcept = default;
  MultiHeadAttention& operator=(const MultiHeadAttention& other) {
    return *this = MultiHeadAttention(other);
  }
  MultiHeadAttention& operator=(MultiHeadAttention&&) noexcept = default;

  Linear<T> W_q, W_k, W_v, W_o;
  Tensor<T, 1> sink_logits;  // [H], or empty: none

  [[nodiscard]] Index num_hiddens() const { return num_hiddens_; }
  [[nodiscard]] Index num_heads() const { return heads_.count(); }
  [[nodiscard]] Index num_kv_heads() const { return heads_.kv_count(); }
  [[nodiscard]] Index head_size() const { return head_size_; }
  [[nodiscard]] const Dropout& dropout() const { return dropout_; }

  // Null: none. Copies of a layer share it.
  [[nodiscard]] const Rotary<T>* rotary() const { return rotary_.get(); }

  // The key/value head that head h reads.
  [[nodiscard]] Index kv_head(Index h) const { return heads_.kv_head(h); }
  // After pruning (prune_heads.hpp): of each head that is left, which it was, of how many. Masks,
  // score functions and dropout go on calling the heads by those numbers.
  [[nodiscard]] const std::vector<Index>& original_heads() const { return heads_.originals(); }
  [[nodiscard]] Index num_original_heads() const { return heads_.original_count(); }

  // Gates multiply the heads' outputs before W_o: [H], for all sequences, or [B, H], of the
  // sequences of calls to come; a tensor without rows clears them. A gate of 0 leaves a head out,
  // to the bit as if it were pruned, and inference spends no work on it (its projections are left
  // out if it is closed in all sequences, or all heads are in that sequence). Training and
  // with_weights compute it all the same. Throws std::invalid_argument for another shape, or a gate
  // that is not finite.
  template <detail::TensorLike Gates>
  requires(rank_of<Gates> == 1 || rank_of<Gates> == 2)
  void set_gates(const Gates& gates);
  void set_gates(const std::vector<T>& gates) {  // [H]
    set_gates(TensorView<T, 1>(gates.data(), {std::ssize(gates)}));
  }
  void clear_gates() { gates_ = {}; }
  // [1, H], for all sequences, or [B, H]; empty where none are set.
  [[nodiscard]] const Tensor<T, 2>& gates() const { return gates_.values(); }

  // Gives a lazy layer its input sizes, all or none, and draws weights. Throws std::invalid_argument
  // if one of them is invalid, or is known to be another.
  void initialize(Index query_size, Index key_size, Index value_size);

  // visit(Parameter) for "W_q.weight" and, if there is one, "W_q.bias", then for W_k, W_v and W_o,
  // and for "sink_logits" if there are any.
  // The prefix tells layers apart: "decoder." makes it "decoder.W_q.weight". Throws
  // std::logic_error while lazy.
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    detail::require_initialized(parts());
    detail::visit_layer(*this, visit, prefix);
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    detail::require_initialized(parts());
    detail::visit_layer(*this, visit, prefix);
  }

  // Every call comes twice. On a const layer that is lazy it throws std::logic_error; on one that is
  // not const it first gives the layer its sizes, unless some of its weights were set, and others
  // not. What may follow the mask stands in call_options.hpp: a context, or {.score, .context}.

  // Inference, without dropout. queries: [B, Q, query_size], keys: [B, K, key_size], values:
  // [B, K, value_size] -> [B, Q, num_hiddens]. Throws std::invalid_argument, before anything is
  // computed, if a tensor, the mask or the score function does not fit.
  [[nodiscard]] Tensor<T, 3> operator()(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                        TensorView<T, 3> values, const Mask& mask = {},
                                        const CallOptions<T>& options = {}) const;
  [[nodiscard]] Tensor<T, 3> operator()(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                        TensorView<T, 3> values, const Mask& mask = {},
                                        const CallOptions<T>& options = {});

  // The same into `output`, [B, Q, num_hiddens], which may be `queries` itself but may overlap no
  // input otherwise. Allocates nothing once the context has seen such a call.
  void forward_into(TensorSpan<T, 3> output, TensorView<T, 3> queries, TensorView<T, 3> keys,
                    TensorView<T, 3> values, const Mask& mask = {},
                    const CallOptions<T>& options = {}) const;
  void forward_into(TensorSpan<T, 3> output, TensorView<T, 3> queries, TensorView<T, 3> keys,
                    TensorView<T, 3> values, const Mask& mask = {},
                    const CallOptions<T>& options = {});

  // The same output to the bit, and every head's weights, [B, H, Q, K].
  [[nodiscard]] AttentionOutput<T> with_weights(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                                TensorView<T, 3> values, const Mask& mask = {},
                                                const CallOptions<T>& options = {}) const;
  [[nodiscard]] AttentionOutput<T> with_weights(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                                TensorView<T, 3> values, const Mask& mask = {},
                                                const CallOptions<T>& options = {});

  // ---- Packed sequences --------------------------------------------------------------------------
  // The rows of all sequences one below the other (sequences.hpp): row by row the bits of the padded
  // call, and no row of padding is stored, projected or multiplied anywhere. The mask says nothing of
  // lengths; first_positions are one a sequence, and what is said of single pairs, [B, H, Q, K], makes
  // room for the longest. Throws as the other calls, and for tensors that have not as many rows as
  // their sequences.

  // x: [N, size], queries, keys and values alike -> [N, num_hiddens]; or queries: [N, query_size] and,
  // of as many sequences, keys: [M, key_size], values: [M, value_size].
  [[nodiscard]] Tensor<T, 2> operator()(TensorView<T, 2> x, const Sequences& sequences,
                                        const Mask& mask = {},
                                        const CallOptions<T>& options = {}) const {
    return call_packed(Inputs::packed(x, sequences), mask, options);
  }
  [[nodiscard]] Tensor<T, 2> operator()(TensorView<T, 2> x, const Sequences& sequences,
                                        const Mask& mask = {}, const CallOptions<T>& options = {}) {
    return call_packed(ready(Inputs::packed(x, sequences), mask, options.score), mask, options);
  }
  [[nodiscard]] Tensor<T, 2> operator()(TensorView<T, 2> queries, const Sequences& query_sequences,
                                        TensorView<T, 2> keys, TensorView<T, 2> values,
                                        const Sequences& key_sequences, const Mask& mask = {},
                                        const CallOptions<T>& options = {}) const {
    return call_packed(Inputs::packed(queries, query_sequences, keys, values, key_sequences), mask,
                       options);
  }
  [[nodiscard]] Tensor<T, 2> operator()(TensorView<T, 2> queries, const Sequences& query_sequences,
                                        TensorView<T, 2> keys, TensorView<T, 2> values,
                                        const Sequences& key_sequences, const Mask& mask = {},
                                        const CallOptions<T>& options = {}) {
    return call_packed(ready(Inputs::packed(queries, query_sequences, keys, values, key_sequences),
                             mask, options.score),
                       mask, options);
  }

  // The same into `output`, [N, num_hiddens], which may be the queries themselves where keys and values
  // are other tensors.
  void forward_into(TensorSpan<T, 2> output, TensorView<T, 2> x, const Sequences& sequences,
                    const Mask& mask = {}, const CallOptions<T>& options = {}) const {
    packed_forward_into(output, Inputs::packed(x, sequences), mask, options);
  }
  void forward_into(TensorSpan<T, 2> output, TensorView<T, 2> x, const Sequences& sequences,
                    const Mask& mask = {}, const CallOptions<T>& options = {}) {
    const auto inputs = Inputs::packed(x, sequences);
    if (is_lazy()) require_packed_output(fitting(inputs, mask, options.score), output);
    initialize_for(inputs, mask, options.score);
    packed_forward_into(output, inputs, mask, options);
  }
  void forward_into(TensorSpan<T, 2> output, TensorView<T, 2> queries,
                    const Sequences& query_sequences, TensorView<T, 2> keys,
                    TensorView<T, 2> values, const Sequences& key_sequences, const Mask& mask = {},
                    const CallOptions<T>& options = {}) const {
    packed_forward_into(output,
                        Inputs::packed(queries, query_sequences, keys, values, key_sequences), mask,
                        options);
  }
  void forward_into(TensorSpan<T, 2> output, TensorView<T, 2> queries,
                    const Sequences& query_sequences, TensorView<T, 2> keys,
                    TensorView<T, 2> values, const Sequences& key_sequences, const Mask& mask = {},
                    const CallOptions<T>& options = {}) {
    const auto inputs = Inputs::packed(queries, query_sequences, keys, values, key_sequences);
    if (is_lazy()) require_packed_output(fitting(inputs, mask, options.score), output);
    initialize_for(inputs, mask, options.score);
    packed_forward_into(output, inputs, mask, options);
  }

  // The same output to the bit, and every head's weights, a tensor for each sequence.
  [[nodiscard]] PackedAttentionOutput<T> with_weights(TensorView<T, 2> x,
                                                      const Sequences& sequences,
                                                      const Mask& mask = {},
                                                      const CallOptions<T>& options = {}) const {
    return packed_with_weights(Inputs::packed(x, sequences), mask, options);
  }
  [[nodiscard]] PackedAttentionOutput<T> with_weights(TensorView<T, 2> x,
                                                      const Sequences& sequences,
                                                      const Mask& mask = {},
                                                      const CallOptions<T>& options = {}) {
    return packed_with_weights(ready(Inputs::packed(x, sequences), mask, options.score), mask,
                               options);
  }
  [[nodiscard]] PackedAttentionOutput<T> with_weights(
      TensorView<T, 2> queries, const Sequences& query_sequences, TensorView<T, 2> keys,
      TensorView<T, 2> values, const Sequences& key_sequences, const Mask& mask = {},
      const CallOptions<T>& options = {}) const {
    return packed_with_weights(
        Inputs::packed(queries, query_sequences, keys, values, key_sequences), mask, options);
  }
  [[nodiscard]] PackedAttentionOutput<T> with_weights(
      TensorView<T, 2> queries, const Sequences& query_sequences, TensorView<T, 2> keys,
      TensorView<T, 2> values, const Sequences& key_sequences, const Mask& mask = {},
      const CallOptions<T>& options = {}) {
    return packed_with_weights(
        ready(Inputs::packed(queries, query_sequences, keys, values, key_sequences), mask,
              options.score),
        mask, options);
  }

  // ---- Training ----------------------------------------------------------------------------------

  using Activations = LayerActivations<T>;  // what backward needs of a call, and owns
  using Gradients = LayerGradients<T>;

  // The output of operator(), to the bit if nothing is dropped; `saved` gets what backward needs,
  // copies of the mask and of the score function among it (tensors that the function refers to must
  // live until backward). A score function must add only, or have a derivative; the ScoreBias that
  // is added last gets its gradient. Which weights are dropped is a function of options.seed and of
  // their position alone. Throws std::invalid_argument also if the layer drops weights and no seed
  // is given. A call that fails later on, as where a score function throws or memory runs out, keeps
  // nothing for backward.
  Tensor<T, 3> forward(TensorView<T, 3> queries, TensorView<T, 3> keys, TensorView<T, 3> values,
                       const Mask& mask, Activations& saved,
                       const TrainingOptions<T>& options = {}) const;
  Tensor<T, 3> forward(TensorView<T, 3> queries, TensorView<T, 3> keys, TensorView<T, 3> values,
                       const Mask& mask, Activations& saved,
                       const TrainingOptions<T>& options = {});

  // grad_output: [B, Q, num_hiddens], of a loss that `saved` was on the way to. Throws
  // std::invalid_argument if it is not of that shape, std::logic_error if nothing is saved or the
  // layer has other sizes than then. The weights must be those of the forward call. Memory is
  // linear in Q and K.
  [[nodiscard]] Gradients backward(TensorView<T, 3> grad_output, const Activations& saved,
                                   Context& context = default_context()) const;
  // The same into `gradients`, or added to what it holds. A call that fails after its checks leaves
  // part of them there.
  void backward_into(Gradients& gradients, TensorView<T, 3> grad_output, const Activations& saved,
                     bool accumulate = false, Context& context = default_context()) const;

  // The same for packed sequences; the gradients of the inputs are then [1, N, size].
  Tensor<T, 2> forward(TensorView<T, 2> x, const Sequences& sequences, const Mask& mask,
                       Activations& saved, const TrainingOptions<T>& options = {}) const {
    return packed_forward(Inputs::packed(x, sequences), mask, saved, options);
  }
  Tensor<T, 2> forward(TensorView<T, 2> x, const Sequences& sequences, const Mask& mask,
                       Activations& saved, const TrainingOptions<T>& options = {}) {
    const auto inputs = Inputs::packed(x, sequences);
    initialize_to_train(inputs, mask, options);
    return packed_forward(inputs, mask, saved, options);
  }
  Tensor<T, 2> forward(TensorView<T, 2> queries, const Sequences& query_sequences,
                       TensorView<T, 2> keys, TensorView<T, 2> values,
                       const Sequences& key_sequences, const Mask& mask, Activations& saved,
                       const TrainingOptions<T>& options = {}) const {
    return packed_forward(Inputs::packed(queries, query_sequences, keys, values, key_sequences),
                          mask, saved, options);
  }
  Tensor<T, 2> forward(TensorView<T, 2> queries, const Sequences& query_sequences,
                       TensorView<T, 2> keys, TensorView<T, 2> values,
                       const Sequences& key_sequences, const Mask& mask, Activations& saved,
                       const TrainingOptions<T>& options = {}) {
    const auto inputs = Inputs::packed(queries, query_sequences, keys, values, key_sequences);
    initialize_to_train(inputs, mask, options);
    return packed_forward(inputs, mask, saved, options);
  }
  template <TensorOfRank<2> Gradient>  // grad_output: [N, num_hiddens]
  [[nodiscard]] Gradients backward(const Gradient& grad_output, const Activations& saved,
                                   Context& context = default_context()) const {
    return backward(detail::as_block<T>(grad_output), saved, context);
  }
  template <TensorOfRank<2> Gradient>
  void backward_into(Gradients& gradients, const Gradient& grad_output, const Activations& saved,
                     bool accumulate = false, Context& context = default_context()) const {
    backward_into(gradients, detail::as_block<T>(grad_output), saved, accumulate, context);
  }

  // ---- For modules that are made of such layers --------------------------------------------------

  // Throws what forward would throw for such a call, and computes nothing.
  void require_trainable(TensorView<T, 3> queries, TensorView<T, 3> keys, TensorView<T, 3> values,
                         const Mask& mask, const TrainingOptions<T>& options) const {
    static_cast<void>(trainable({queries, keys, values}, mask, options));
  }
  void require_trainable(TensorView<T, 2> x, const Sequences& sequences, const Mask& mask,
                         const TrainingOptions<T>& options) const {
    static_cast<void>(trainable(Inputs::packed(x, sequences), mask, options));
  }
  void require_trainable(TensorView<T, 2> queries, const Sequences& query_sequences,
                         TensorView<T, 2> keys, TensorView<T, 2> values,
                         const Sequences& key_sequences, const Mask& mask,
                         const TrainingOptions<T>& options) const {
    static_cast<void>(trainable(
        Inputs::packed(queries, query_sequences, keys, values, key_sequences), mask, options));
  }

  // The layer as its steps see it (layer/forward.hpp).
  [[nodiscard]] detail::LayerParts<T> parts() const {
    return {W_q, W_k, W_v, W_o, heads_, gates_, sink_logits, rotary()};
  }

 private:
  struct Completed {
    MultiHeadAttentionOptions options;
  };
  using Call = detail::LayerCall<T>;
  using Inputs = detail::LayerInputs<T>;

  MultiHeadAttention(const Completed& c, std::uint64_t seed);

  friend MultiHeadAttention prune_heads<T>(const MultiHeadAttention& layer,
                                           const std::vector<Index>& heads);
  friend detail::KeepGates<T>;

  [[nodiscard]] bool is_lazy() const { return W_q.is_lazy() || W_k.is_lazy() || W_v.is_lazy(); }

  // The call, if it fits the layer as far as its sizes are known.
  [[nodiscard]] Call fitting(const Inputs& inputs, const Mask& mask,
                             const ScoreRef<T>& score) const;
  [[nodiscard]] Call checked(const Inputs& inputs, const Mask& mask,
                             const ScoreRef<T>& score) const;
  [[nodiscard]] Call trainable(const Inputs& inputs, const Mask& mask,
                               const TrainingOptions<T>& options) const;
  void train(const Call& call, const Mask& mask, Activations& saved,
             const TrainingOptions<T>& options, T* output) const;
  void require_step(const TrainingOptions<T>& options) const;
  // Gives a lazy layer its sizes, unless the call would be refused.
  void initialize_for(const Inputs& inputs, const Mask& mask, const ScoreRef<T>& score);
  void initialize_to_train(const Inputs& inputs, const Mask& mask,
                           const TrainingOptions<T>& options);

  // layer/packed_calls.inl
  [[nodiscard]] const Inputs& ready(const Inputs& inputs, const Mask& mask,
                                    const ScoreRef<T>& score) {
    initialize_for(inputs, mask, score);
    return inputs;
  }
  [[nodiscard]] static Call as_packed(Call call) {
    call.attend = detail::attend_packed<T>;
    return call;
  }
  static void require_packed_output(const Call& call, TensorSpan<T, 2> output) {
    detail::require_output<T>(call, detail::as_block<T>(output));
  }
  [[nodiscard]] Tensor<T, 2> call_packed(const Inputs& inputs, const Mask& mask,
                                         const CallOptions<T>& options) const;
  void packed_forward_into(TensorSpan<T, 2> output, const Inputs& inputs, const Mask& mask,
                           const CallOptions<T>& options) const;
  [[nodiscard]] PackedAttentionOutput<T> packed_with_weights(const Inputs& inputs, const Mask& mask,
                                                             const CallOptions<T>& options) const;
  [[nodiscard]] Tensor<T, 2> packed_forward(const Inputs& inputs, const Mask& mask,
                                            Activations& saved,
                                            const TrainingOptions<T>& options) const;

  Index num_hiddens_, head_size_;
  Dropout dropout_;
  detail::HeadSet heads_;
  detail::HeadGates<T> gates_;
  std::shared_ptr<const Rotary<T>> rotary_;
};

// The module as the chapter shows it, in PyTorch's manner, and what pruning left of its heads.
template <Scalar T>
std::ostream& operator<<(std::ostream& out, const MultiHeadAttention<T>& layer);

#include <eigenheads/layer/multi_head_attention.inl>
#include <eigenheads/layer/packed_calls.inl>

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
