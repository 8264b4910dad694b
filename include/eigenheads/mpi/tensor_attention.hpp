// SPDX-License-Identifier: MIT
#pragma once
// A multi-head layer whose heads are shared out over ranks (shares.hpp), with the bits of one process:
//   own heads = attention(W_q queries, W_k keys, W_v values)      each rank: its rows of the weights
//   heads     = those of all ranks, gathered
//   own y     = W_o heads                                         each rank: its rows of W_o
//   y         = those of all ranks, gathered
// An output of W_o is one chain over all heads, which nobody can split and keep its bits; so the heads
// travel, and not parts of sums (as in Shoeybi et al., "Megatron-LM", 2019, section 3, which adds them
// up). Every rank gets the same inputs and gives the same output. Of N rows, a rank receives
//   N * (heads of others * head_size + outputs of others)   numbers
// and sends as many; it holds a ranks-th of the weights.
//   mpi::TensorParallelAttention<float> layer(whole, ranks);
//   y = layer(x, x, x, mask);
#include <bit>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/call_options.hpp>       // CallOptions
#include <eigenheads/detail/head_gates.hpp>  // HeadGates
#include <eigenheads/detail/head_set.hpp>    // HeadSet
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kernels/schedule/attend_packed.hpp>  // attend_packed
#include <eigenheads/kv_cache.hpp>                        // AnyKvCache
#include <eigenheads/layer/checks.hpp>                    // checked_call
#include <eigenheads/layer/forward.hpp>                   // project_heads, attend_heads
#include <eigenheads/layer/step.hpp>                      // attend_step
#include <eigenheads/mpi/ranks.hpp>                       // Ranks
#include <eigenheads/mpi/shares.hpp>                      // HeadShares
#include <eigenheads/mpi/tensor_backward.hpp>             // shared_backward
#include <eigenheads/mpi/tensor_exchange.hpp>             // gather_columns
#include <eigenheads/mpi/tensor_training.hpp>             // TensorParallelActivations
#include <eigenheads/multi_head_attention.hpp>            // MultiHeadAttention

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

// All ranks make the same calls, with the same inputs, masks and gates; each call is a round of theirs
// (ranks.hpp), which compares shapes, lengths and gates before anything is sent. Calls throw what those
// of a MultiHeadAttention throw; if one rank does, all do. The ranks must outlive the layer, and are
// used by one thread at a time.
template <Scalar T>
class TensorParallelAttention {
 public:
  using Activations = TensorParallelAttentionActivations<T>;
  using Gradients = LayerGradients<T>;

  // This rank's part of a whole layer, which every rank has alike, and which is not needed any more.
  // Throws std::logic_error for a lazy one.
  TensorParallelAttention(const MultiHeadAttention<T>& whole, Ranks& ranks);
  // This rank's part of a layer of these options, with weights of 0, to be loaded
  // (tensor_checkpoints.hpp): nobody ever has the whole. Sizes of inputs may not be lazy. Throws
  // std::invalid_argument for invalid options.
  TensorParallelAttention(const MultiHeadAttentionOptions& options, Ranks& ranks);

  Linear<T> W_q, W_k, W_v;   // of the rank's heads
  Linear<T> W_o;             // its outputs, of all heads
  Tensor<T, 1> sink_logits;  // of its heads, or empty: none

  [[nodiscard]] Ranks& ranks() const { return *ranks_; }
  [[nodiscard]] const HeadShares& shares() const { return shares_; }
  [[nodiscard]] const Shares& output_shares() const { return output_shares_; }
  [[nodiscard]] Index num_hiddens() const { return output_shares_.total(); }
  [[nodiscard]] Index head_size() const { return head_size_; }
  [[nodiscard]] Index num_heads() const { return heads_.count(); }  // of all ranks
  // Of this rank: what its caches hold.
  [[nodiscard]] Index num_kv_heads() const { return own_.kv_count(); }
  [[nodiscard]] const Rotary<T>* rotary() const { return rotary_.get(); }  // null: none
  [[nodiscard]] const Dropout& dropout() const { return dropout_; }

  // As MultiHeadAttention::set_gates, of all heads, on every rank alike.
  void set_gates(TensorView<T, 2> gates) {
    eigenheads::detail::HeadGates<T> whole;
    whole.set(gates, num_heads());
    own_gates_ = whole.part(each_of(shares_.heads.of(ranks_->rank())));
    gates_ = std::move(whole);
  }
  [[nodiscard]] const Tensor<T, 2>& gates() const { return gates_.values(); }

  // This rank's parts of the parameters, under the whole layer's names.
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    eigenheads::detail::visit_layer(*this, visit, prefix);
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    eigenheads::detail::visit_layer(*this, visit, prefix);
  }
  // visit(parameter, first, all): it is rows [first, first + its own) of `all`.
  template <class Visitor>
  void for_each_share(Visitor&& visit, std::string_view prefix = "") {
    const std::string start(prefix);
    const auto share = [&](Linear<T>& own, const char* name, const Shares& shares) {
      visit_share(own, shares, ranks_->rank(), visit, start + name);
    };
    const Shares heads = shares_.heads.times(head_size_), kv = shares_.kv_heads.times(head_size_);
    share(W_q, "W_q.", heads);
    share(W_k, "W_k.", kv);
    share(W_v, "W_v.", kv);
    share(W_o, "W_o.", output_shares_);
    if (has_sinks_)
      visit(Parameter<T>(start + "sink_logits", sink_logits),
            shares_.heads.of(ranks_->rank()).begin, num_heads());
  }

  // Inference: as the calls of MultiHeadAttention.
  [[nodiscard]] Tensor<T, 3> operator()(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                        TensorView<T, 3> values, const Mask& mask = {},
                                        const CallOptions<T>& options = {}) const;
  void forward_into(TensorSpan<T, 3> output, TensorView<T, 3> queries, TensorView<T, 3> keys,
                    TensorView<T, 3> values, const Mask& mask = {},
                    const CallOptions<T>& options = {}) const;
  // With the weights of this rank's heads, [B, its heads, Q, K], or with those of all, which travel:
  // B * Q * K numbers a head.
  [[nodiscard]] AttentionOutput<T> with_own_weights(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                                    TensorView<T, 3> values, const Mask& mask = {},
                                                    const CallOptions<T>& options = {}) const;
  [[nodiscard]] AttentionOutput<T> with_weights(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                                TensorView<T, 3> values, const Mask& mask = {},
                                                const CallOptions<T>& options = {}) const;

  // Packed sequences.
  [[nodiscard]] Tensor<T, 2> operator()(TensorView<T, 2> x, const Sequences& sequences,
                                        const Mask& mask = {},
                                        const CallOptions<T>& options = {}) const {
    return call_packed(Inputs::packed(x, sequences), mask, options);
  }
  [[nodiscard]] Tensor<T, 2> operator()(TensorView<T, 2> queries, const Sequences& query_sequences,
                                        TensorView<T, 2> keys, TensorView<T, 2> values,
                                        const Sequences& key_sequences, const Mask& mask = {},
                                        const CallOptions<T>& options = {}) const {
    return call_packed(Inputs::packed(queries, query_sequences, keys, values, key_sequences), mask,
                       options);
  }
  void forward_into(TensorSpan<T, 2> output, TensorView<T, 2> x, const Sequences& sequences,
                    const Mask& mask = {}, const CallOptions<T>& options = {}) const;
  [[nodiscard]] PackedAttentionOutput<T> with_own_weights(TensorView<T, 2> x,
                                                          const Sequences& sequences,
                                                          const Mask& mask = {},
                                                          const CallOptions<T>& options = {}) const;
  [[nodiscard]] PackedAttentionOutput<T> with_weights(TensorView<T, 2> x,
                                                      const Sequences& sequences,
                                                      const Mask& mask = {},
                                                      const CallOptions<T>& options = {}) const;

  // The next tokens of every sequence, as MultiHeadAttention::step. The cache is of this rank's
  // key/value heads, num_kv_heads(). A step that any rank refuses leaves those of all as they were. So
  // does one that fails later, of memory or a connection, except that a sequence of a ring that has let
  // go of what it saw before the step is empty then. For that the ranks agree, a byte each, before a
  // step of more than capacity - window + 1 tokens.
  [[nodiscard]] Tensor<T, 3> step(TensorView<T, 3> x, AnyKvCache<T>& cache, const Mask& mask = {},
                                  const CallOptions<T>& options = {}) const;
  void step_into(TensorSpan<T, 3> y, TensorView<T, 3> x, AnyKvCache<T>& cache,
                 const Mask& mask = {}, const CallOptions<T>& options = {}) const;
  [[nodiscard]] Tensor<T, 2> step(TensorView<T, 2> x, const Sequences& sequences,
                                  AnyKvCache<T>& cache, const Mask& mask = {},
                                  const CallOptions<T>& options = {}) const;
  void step_into(TensorSpan<T, 2> y, TensorView<T, 2> x, const Sequences& sequences,
                 AnyKvCache<T>& cache, const Mask& mask = {},
                 const CallOptions<T>& options = {}) const;

  // Training (tensor_attention_backward.inl): as MultiHeadAttention's forward and backward. `saved`
  // gets this rank's heads, and the outputs of all. A ScoreBias has no gradient here, and is refused.
  Tensor<T, 3> forward(TensorView<T, 3> queries, TensorView<T, 3> keys, TensorView<T, 3> values,
                       const Mask& mask, Activations& saved,
                       const TrainingOptions<T>& options = {}) const;
  Tensor<T, 2> forward(TensorView<T, 2> x, const Sequences& sequences, const Mask& mask,
                       Activations& saved, const TrainingOptions<T>& options = {}) const;
  // Of the inputs and gates the whole gradients, on every rank; of the parameters those of its parts.
  // Besides what is sent of gradients, the ranks send each other their parts of the weights, each a
  // ranks-th of it to each: the gradient of an input is a chain over all outputs too, so a rank makes
  // some columns of it, for which it has the columns of one weight at a time.
  void backward_into(Gradients& gradients, TensorView<T, 3> grad_output, const Activations& saved,
                     bool accumulate = false, Context& context = default_context()) const;
  [[nodiscard]] Gradients backward(TensorView<T, 3> grad_output, const Activations& saved,
                                   Context& context = default_context()) const {
    Gradients gradients;
    backward_into(gradients, grad_output, saved, false, context);
    return gradients;
  }
  template <TensorOfRank<2> Gradient>  // grad_output: [N, num_hiddens]
  void backward_into(Gradients& gradients, const Gradient& grad_output, const Activations& saved,
                     bool accumulate = false, Context& context = default_context()) const {
    backward_into(gradients, eigenheads::detail::as_block<T>(grad_output), saved, accumulate,
                  context);
  }
  template <TensorOfRank<2> Gradient>
  [[nodiscard]] Gradients backward(const Gradient& grad_output, const Activations& saved,
                                   Context& context = default_context()) const {
    return backward(eigenheads::detail::as_block<T>(grad_output), saved, context);
  }

  // For modules that are made of such layers: what their rounds compare of it, since no other begins in
  // one; throws std::invalid_argument if a part was replaced by one of another size; gives the
  // gradients of the parameters their shapes.
  void add_terms(Digest& digest) const {
    digest.add(num_heads())
        .add(heads_.kv_count())
        .add(head_size_)
        .add(num_hiddens())
        .add(Index{has_sinks_})
        .add(Index{rotary_ != nullptr})
        .add(std::bit_cast<std::uint64_t>(dropout_.p()))
        .add(gates_.values());
  }
  void require_parts() const;
  void fit_parameter_gradients(Gradients& gradients, bool accumulate) const;
  // And throw what forward, and backward, would throw for such a call.
  void require_trainable(const eigenheads::detail::LayerInputs<T>& inputs, const Mask& mask,
                         const TrainingOptions<T>& options) const {
    static_cast<void>(checked(inputs, mask, options.score));
    require_training(options);
  }
  void require_saved(const Activations& saved) const;

 private:
  using Call = eigenheads::detail::LayerCall<T>;
  using Inputs = eigenheads::detail::LayerInputs<T>;
  using Output = eigenheads::detail::LayerOutput<T>;

  struct Sizes {
    Index num_hiddens, head_size;
    double dropout;
  };
  TensorParallelAttention(const eigenheads::detail::HeadSet& heads, const Sizes& sizes,
                          Ranks& ranks);

  // Without W_o: the layer of the rank's heads, which has no outputs.
  [[nodiscard]] eigenheads::detail::LayerParts<T> parts() const {
    return {W_q, W_k, W_v, no_output_, own_, own_gates_, sink_logits, rotary()};
  }
  [[nodiscard]] Shares columns_of_heads() const { return shares_.heads.times(head_size_); }

  template <class Run>
  void round(const char* what, const Inputs& inputs, Digest lengths, const Run& run) const;
  // The call of this rank's heads, and of all outputs.
  [[nodiscard]] Call checked(const Inputs& inputs, const Mask& mask,
                             const ScoreRef<T>& score) const;
  [[nodiscard]] eigenheads::detail::AttentionShape whole(
      eigenheads::detail::AttentionShape shape) const {
    shape.H = heads_.count();
    shape.G = heads_.kv_count();
    return shape;
  }

  void run(const Call& call, const Output& into, Context& context) const;
  // own: [B, Q, its heads * V], times the gates -> output
  void combine(const Call& call, eigenheads::detail::Mode mode, T* own, T* output,
               Context& context) const;
  // all: [B, Q, H * V]
  void gather_heads(const Call& call, const eigenheads::detail::Participation& part, const T* own,
                    T* all, Context& context) const;
  void project(const Call& call, const eigenheads::detail::Participation& part, const T* all,
               T* output, Context& context) const;
  [[nodiscard]] AttentionOutput<T> weighted(const Inputs& inputs, const Mask& mask,
                                            const CallOptions<T>& options) const;
  [[nodiscard]] PackedAttentionOutput<T> packed_weighted(const Inputs& inputs, const Mask& mask,
                                                         const CallOptions<T>& options) const;
  template <int Rank>
  [[nodiscard]] Tensor<T, Rank> gather_weights(const Tensor<T, Rank>& own, Context& context) const;
  [[nodiscard]] Tensor<T, 2> call_packed(const Inputs& inputs, const Mask& mask,
                                         const CallOptions<T>& options) const;
  // output_of(call): where the output goes.
  template <class OutputOf>
  void take_step(const eigenheads::detail::StepInputs<T>& inputs, AnyKvCache<T>& cache,
                 const Mask& mask, const CallOptions<T>& options, const OutputOf& output_of) const;
  void train(const Call& call, const Mask& mask, Activations& saved,
             const TrainingOptions<T>& options, T* output) const;
  void require_training(const TrainingOptions<T>& options) const;
  [[nodiscard]] Digest training_digest(const Inputs& inputs, const Mask& mask,
                                       const TrainingOptions<T>& options) const;
  void fit(Gradients& gradients, const LayerActivations<T>& own, bool accumulate) const;
  void undo(Gradients& gradients, TensorView<T, 3> grad_output, const Activations& saved,
            bool accumulate, Context& context) const;

  Ranks* ranks_;
  eigenheads::detail::HeadSet heads_, own_;
  HeadShares shares_;
  Shares output_shares_;
  Index head_size_;
  Dropout dropout_;
  Linear<T> no_output_;
  bool has_sinks_ = false;
  eigenheads::detail::HeadGates<T> gates_, own_gates_;
  std::shared_ptr<const Rotary<T>> rotary_;
};

#include <eigenheads/mpi/tensor_attention.inl>
#include <eigenheads/mpi/tensor_attention_backward.inl>
#include <eigenheads/mpi/tensor_attention_weights.inl>

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
