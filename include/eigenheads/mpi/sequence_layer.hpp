// SPDX-License-Identifier: MIT
#pragma once
// A multi-head layer over a batch whose rows are spread over ranks: each rank has the layer whole, and
// of x and of the output its own rows (dealing.hpp). The same bits as of one process that has all.
//   const mpi::SequenceParallel parallel(layer, ranks);
//   const auto dealing = mpi::Dealing::of<float>({1'000'000}, ranks.size());
//   Tensor<float, 2> y = parallel(mine, dealing, {.causal = Causal::top_left});   // [n, E] -> [n, E]
// What a rank holds grows with its own rows alone, and keys and values that travel take a few blocks.
// All ranks make the same calls with the same dealing, mask, gates and weights.
//
// Of a padded batch, [B, L, E], either the sequences alone are dealt, Dealing::of<T>(lengths, ...),
// whose rows are pack(x, lengths) (sequences.hpp): no row of padding is anywhere; or all of its rows
// are, Dealing::of_padded<T>(B, L, ...) of x read as [B * L, E], and the mask has valid_lens,
// query_lens or key_lens. Keys that they hide are neither sent nor computed with.
//
// A mask may also say of single pairs what is allowed, [B, H, Q, K], as may a ScoreBias; then every
// rank has all of it, and memory grows with Q * K.
#include <algorithm>
#include <array>
#include <functional>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/attention_result.hpp>  // PackedAttentionOutput
#include <eigenheads/call_options.hpp>      // CallOptions, TrainingOptions
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/mpi/detail/dealt_layer.hpp>  // the steps
#include <eigenheads/mpi/detail/fingerprint.hpp>  // fingerprint
#include <eigenheads/mpi/ranks.hpp>               // Ranks
#include <eigenheads/multi_head_attention.hpp>    // MultiHeadAttention

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

// What a forward pass in training keeps of this rank's rows: copies of what it was called with, and
// what lies between the steps.
template <Scalar T>
struct SequenceActivations {
  Dealing dealing;
  Mask mask;
  eigenheads::detail::AttentionShape shape{};       // of all rows; D = 0: nothing is saved
  Tensor<T, 2> x{0, 0};                             // [n, E]
  Tensor<T, 3> q{0, 0, 0}, k{0, 0, 0}, v{0, 0, 0};  // [H, n, D], [G, n, D], [G, n, V], rotated
  Tensor<T, 2> heads{0, 0};                         // [n, H * V], before the gates
  Tensor<T, 2> lse{0, 0};                           // [H, n]
  DropoutMask<T> dropout{};
  ScoreRef<T> score{};
  std::shared_ptr<const void> score_owner{};
  eigenheads::detail::HeadSet head_set{0, 1};
  eigenheads::detail::HeadGates<T> gates{};
};

// A layer, and the ranks that its rows are dealt to.
template <Scalar T>
class SequenceParallel {
 public:
  // Both must outlive it. The layer may not be lazy, and takes queries, keys and values of one size.
  SequenceParallel(const MultiHeadAttention<T>& layer, Ranks& ranks)
      : layer_(layer), ranks_(ranks) {}
  SequenceParallel(const MultiHeadAttention<T>&& gone, Ranks& ranks) = delete;

  // x: [n, E], this rank's rows of a dealing that is made for these ranks and for T -> [n, num_hiddens].
  // Throws std::invalid_argument for what does not fit, on the rank that was given it, and a RankError
  // on the others; on all, before anything is sent, where ranks were called with another width, mask
  // or dealing, or have other heads or gates.
  [[nodiscard]] Tensor<T, 2> operator()(TensorView<T, 2> x, const Dealing& dealing,
                                        const Mask& mask = {},
                                        const CallOptions<T>& options = {}) const {
    Tensor<T, 2> output(0, 0);
    together("SequenceParallel", {x, dealing, mask}, [&] {
      output = eigenheads::detail::make_tensor<T>("output", output_shape(dealing));
      infer(x, dealing, mask, options, {.output = output.data()});
    });
    return output;
  }
  // The same into `output`, [n, num_hiddens], which may be x itself.
  void forward_into(TensorSpan<T, 2> output, TensorView<T, 2> x, const Dealing& dealing,
                    const Mask& mask = {}, const CallOptions<T>& options = {}) const {
    together("SequenceParallel::forward_into", {x, dealing, mask}, [&] {
      require_shape("output", TensorView<T, 2>(output), "[n, num_hiddens]", output_shape(dealing));
      eigenheads::detail::require_same_or_disjoint("output", TensorView<T, 2>(output), "x", x);
      infer(x, dealing, mask, options, {.output = output.data()});
    });
  }
  // The same output, and the weights of this rank's rows: of each sequence, [H, its rows here, K].
  [[nodiscard]] PackedAttentionOutput<T> with_weights(TensorView<T, 2> x, const Dealing& dealing,
                                                      const Mask& mask = {},
                                                      const CallOptions<T>& options = {}) const {
    PackedAttentionOutput<T> result{Tensor<T, 2>(0, 0), {}};
    together("SequenceParallel::with_weights", {x, dealing, mask}, [&] {
      require_dealing(dealing);
      result.output = eigenheads::detail::make_tensor<T>("output", output_shape(dealing));
      const eigenheads::detail::DealtRows rows(dealing, ranks_.rank());
      const eigenheads::detail::SequenceRows all = dealing.as_rows();
      std::vector<T*> weights;
      for (Index b = 0; b < all.count(); ++b)
        result.weights.push_back(eigenheads::detail::make_tensor<T>(
            "weights", std::array{layer_.num_heads(), rows.of_sequence(b).count(), all.length(b)}));
      for (Tensor<T, 3>& of_sequence : result.weights) weights.push_back(of_sequence.data());
      infer(x, dealing, mask, options,
            {.output = result.output.data(), .packed_weights = weights.data()});
    });
    return result;
  }

  // Training: the output, and in `saved` what the backward pass needs. Which weights are dropped does
  // not depend on who has them; all ranks have one seed. The backward pass (sequence_backward.hpp)
  // refuses what a forward pass takes: scores with a ScoreBias, and a dealing that cuts blocks of
  // gradients, as none of Dealing::of() does.
  Tensor<T, 2> forward(TensorView<T, 2> x, const Dealing& dealing, const Mask& mask,
                       SequenceActivations<T>& saved,
                       const TrainingOptions<T>& options = {}) const {
    Tensor<T, 2> output(0, 0);
    const auto dropout = dropout_of(options);
    together("SequenceParallel::forward", {x, dealing, mask, dropout}, [&] {
      output = eigenheads::detail::make_tensor<T>("output", output_shape(dealing));
      train(x, dealing, mask, saved, options, output.data());
    });
    return output;
  }

  // Called from within calls, by the thread that makes them, after each block of keys: with how much of
  // this rank's attention is done, of 1.
  void on_progress(std::function<void(double)> told) { on_progress_ = std::move(told); }

  // What a rank sends and receives in a call for the output alone. With weights, and in training, keys
  // travel too in sequences of which all gates are closed.
  [[nodiscard]] Traffic cost(const Dealing& dealing, const Mask& mask, int rank) const {
    const BoundMask bound = bind(dealing, mask);
    return cost_of(
        steps_of(eigenheads::detail::needed_blocks(layer_.parts(), bound, shape_of(dealing),
                                                   eigenheads::detail::Mode::inference, dealing),
                 rank, dealing.ranks()));
  }

  [[nodiscard]] const MultiHeadAttention<T>& layer() const { return layer_; }
  [[nodiscard]] Ranks& ranks() const { return ranks_; }

 private:
  using Call = eigenheads::detail::DealtLayerCall<T>;
  using Output = eigenheads::detail::LayerOutput<T>;
  using Mode = eigenheads::detail::Mode;

  // What the ranks must have alike.
  struct Alike {
    TensorView<T, 2> x;
    const Dealing& dealing;
    const Mask& mask;
    DropoutMask<T> dropout{};
  };
  // A round of the ranks: what they must have alike is compared before it, the rest by each itself.
  template <class Run>
  void together(std::string_view what, const Alike& alike, const Run& run) const {
    using eigenheads::detail::fingerprint;
    const auto parts = layer_.parts();
    ranks_.together(what,
                    {{"bytes of a number", Index{sizeof(T)}},
                     {"columns of x", alike.x.dimension(1)},
                     {"num_hiddens", layer_.num_hiddens()},
                     {"num_heads", layer_.num_heads()},
                     {"num_kv_heads", layer_.num_kv_heads()},
                     {"head_size", layer_.head_size()},
                     {"the heads' fingerprint", fingerprint(parts.heads, parts.gates)},
                     {"rows of all ranks", alike.dealing.sequences().rows()},
                     {"the dealing's fingerprint", fingerprint(alike.dealing)},
                     {"the mask's fingerprint", fingerprint(alike.mask)},
                     {"the dropout's fingerprint", fingerprint(alike.dropout)}},
                    run);
  }
  [[nodiscard]] DropoutMask<T> dropout_of(const TrainingOptions<T>& options) const {
    return options.seed ? DropoutMask<T>::of(layer_.dropout(), *options.seed) : DropoutMask<T>{};
  }

  [[nodiscard]] std::array<Index, 2> output_shape(const Dealing& dealing) const {
    require_dealing(dealing);
    return {dealing.local_rows(ranks_.rank()), layer_.num_hiddens()};
  }
  [[nodiscard]] eigenheads::detail::AttentionShape shape_of(const Dealing& dealing) const {
    const auto rows = dealing.as_rows();
    const Index D = layer_.head_size();
    return {rows.count(),
            layer_.num_heads(),
            layer_.num_kv_heads(),
            rows.longest(),
            rows.longest(),
            D,
            D};
  }
  [[nodiscard]] BoundMask bind(const Dealing& dealing, const Mask& mask) const {
    return {mask, dealing.as_rows(), dealing.as_rows(), layer_.num_original_heads()};
  }

  void require_dealing(const Dealing& dealing) const {
    if (dealing.ranks() != ranks_.size())
      eigenheads::detail::refuse({"SequenceParallel: the dealing is for ", dealing.ranks(),
                                  " ranks; expected ", ranks_.size()});
    if (dealing.block_size() != eigenheads::detail::key_block<T>)
      eigenheads::detail::refuse({"SequenceParallel: the dealing has blocks of ",
                                  dealing.block_size(), " rows; expected ",
                                  eigenheads::detail::key_block<T>});
  }
  // Throws unless all parts of a call fit each other.
  [[nodiscard]] Call checked(TensorView<T, 2> x, const eigenheads::detail::DealtRows& rows,
                             const BoundMask& mask, const ScoreRef<T>& score, Mode mode) const {
    const auto parts = layer_.parts();
    eigenheads::detail::require_initialized(parts);
    eigenheads::detail::require_projections(parts, layer_.head_size(), layer_.num_hiddens());
    require_shape("x", x, "[n, E]", {rows.count(), parts.W_q.in_features()});
    for (const Index size : {parts.W_k.in_features(), parts.W_v.in_features()})
      if (size != parts.W_q.in_features())
        eigenheads::detail::refuse({"SequenceParallel: the layer takes queries of ",
                                    parts.W_q.in_features(), " numbers and keys or values of ",
                                    size, "; expected one size"});
    const auto shape = shape_of(rows.dealing());
    parts.gates.require_fits(shape.B, shape.H);
    score.require_fits({shape.B, layer_.num_original_heads(), shape.Q, shape.K});
    if (parts.rotary != nullptr) eigenheads::detail::require_positions(*parts.rotary, mask);
    return {rows, mask, shape, x, score, mode, on_progress_ ? &on_progress_ : nullptr};
  }

  void infer(TensorView<T, 2> x, const Dealing& dealing, const Mask& mask,
             const CallOptions<T>& options, const Output& into) const {
    require_dealing(dealing);
    const eigenheads::detail::DealtRows rows(dealing, ranks_.rank());
    const BoundMask bound = bind(dealing, mask);
    const Call call = checked(x, rows, bound, options.score, into.mode());
    Context& context = options.context.get();
    const auto parts = layer_.parts();
    const eigenheads::detail::Frame frame(context);
    const auto [B, H, G, Q, K, D, V] = call.shape;
    const eigenheads::detail::HeadTensors<T> heads{.q = frame.take<T>(rows.count() * H * D),
                                                   .k = frame.take<T>(rows.count() * G * D),
                                                   .v = frame.take<T>(rows.count() * G * V),
                                                   .heads = frame.take<T>(rows.count() * H * V)};
    const auto part = eigenheads::detail::participation<T>(
        {call.shape, bound, parts.heads, parts.gates, call.mode}, frame);
    const eigenheads::detail::DealtParticipation mine(part, rows);
    const auto needed =
        eigenheads::detail::needed_blocks(parts, bound, call.shape, call.mode, dealing);
    project_dealt_heads(parts, call, mine.get(), heads, context);
    attend_dealt_heads<T>(call, needed, mine.get(), heads,
                          {.packed_weights = into.packed_weights,
                           .gates = parts.gates.table(),
                           .sinks = parts.sinks()},
                          ranks_, context);
    project_dealt_output(parts.W_o, call, mine.get(), heads.heads, into.output, context);
  }

  void train(TensorView<T, 2> x, const Dealing& dealing, const Mask& mask,
             SequenceActivations<T>& saved, const TrainingOptions<T>& options, T* output) const {
    require_dealing(dealing);
    const eigenheads::detail::DealtRows rows(dealing, ranks_.rank());
    const BoundMask bound = bind(dealing, mask);
    const Call call = checked(x, rows, bound, options.score, Mode::training);
    options.score.require_trainable();
    if (layer_.dropout().p() > 0 && !options.seed)
      eigenheads::detail::refuse({"SequenceParallel: dropout is ",
                                  eigenheads::detail::number_text(layer_.dropout().p()),
                                  "; expected a DropoutSeed, {.seed = ...}"});
    Context& context = options.context.get();
    const auto parts = layer_.parts();
    const auto heads = keep(call, mask, saved, options);
    const eigenheads::detail::Frame frame(context);
    const auto part = eigenheads::detail::participation<T>(
        {call.shape, bound, parts.heads, parts.gates, call.mode}, frame);
    const eigenheads::detail::DealtParticipation mine(part, rows);
    const auto needed =
        eigenheads::detail::needed_blocks(parts, bound, call.shape, call.mode, dealing);
    project_dealt_heads(parts, call, mine.get(), heads, context);
    attend_dealt_heads<T>(
        call, needed, mine.get(), heads,
        {.dropout = saved.dropout.threshold > 0 ? &saved.dropout : nullptr, .sinks = parts.sinks()},
        ranks_, context);
    const T* const gated = gate_dealt_heads(heads.heads, call, parts.gates, frame, context);
    project_dealt_output(parts.W_o, call, mine.get(), gated, output, context);
    saved.shape = call.shape;
  }
  // Copies what the call is given, and makes room for what it computes.
  [[nodiscard]] eigenheads::detail::HeadTensors<T> keep(const Call& call, const Mask& mask,
                                                        SequenceActivations<T>& saved,
                                                        const TrainingOptions<T>& options) const {
    const auto [B, H, G, Q, K, D, V] = call.shape;
    const Index n = call.rows.count();
    saved.shape = {};  // until all is there, nothing is saved
    saved.dealing = call.rows.dealing();
    saved.mask = mask;
    using eigenheads::detail::resize;
    eigenheads::detail::assign("x", saved.x, call.x);
    resize("q", saved.q, {H, n, D});
    resize("k", saved.k, {G, n, D});
    resize("v", saved.v, {G, n, V});
    resize("heads", saved.heads, {n, H * V});
    resize("lse", saved.lse, {H, n});
    saved.dropout = dropout_of(options);
    saved.score = options.score.copy(saved.score_owner);
    saved.head_set = layer_.parts().heads;
    saved.gates = layer_.parts().gates;
    return {saved.q.data(), saved.k.data(), saved.v.data(), saved.heads.data(), saved.lse.data()};
  }

  const MultiHeadAttention<T>& layer_;
  Ranks& ranks_;
  std::function<void(double)> on_progress_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
