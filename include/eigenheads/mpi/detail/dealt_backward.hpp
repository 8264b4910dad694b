// SPDX-License-Identifier: MIT
#pragma once
// The backward pass of a layer (layer/backward.hpp) for the rows that a rank has. Row by row but for the
// attention, and for the gradients of what all rows share.
#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include <eigenheads/context.hpp>  // Context
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kernels/sink_gradients.hpp>         // SinkGradients
#include <eigenheads/layer/activations.hpp>              // LayerGradients
#include <eigenheads/layer/backward.hpp>                 // HeadGradients
#include <eigenheads/mpi/detail/attention_backward.hpp>  // attend_backward, HeadSumChain
#include <eigenheads/mpi/detail/dealt_parameters.hpp>    // DealtParameters
#include <eigenheads/mpi/sequence_layer.hpp>             // SequenceParallel, SequenceActivations

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// What is asked for: gradients that are added to what is there; and of those of parameters a share.
struct DealtBackwardOptions {
  bool accumulate = false, keeps_share = false;
};

// One backward pass of this rank's rows; what it refers to outlives it.
template <class T>
class DealtBackward {
 public:
  DealtBackward(const mpi::SequenceParallel<T>& parallel, const mpi::SequenceActivations<T>& saved,
                LayerGradients<T>& gradients, const DealtBackwardOptions& options, Context& context)
      : layer_(parallel.layer().parts()),
        ranks_(parallel.ranks()),
        saved_(saved),
        gradients_(gradients),
        options_(options),
        context_(context),
        rows_(saved.dealing, ranks_.rank()),
        mask_(saved.mask, saved.dealing.as_rows(), saved.dealing.as_rows(),
              layer_.heads.original_count()),
        needed_(needed_blocks(layer_, mask_, saved.shape, Mode::training, saved.dealing)) {}

  // grad_output: [n, num_hiddens]
  void run(const T* grad_output) {
    const auto [B, H, G, Q, K, D, V] = saved_.shape;
    const Index n = rows_.count();
    const Frame frame(context_);
    const HeadGradients<T> grad{.heads = frame.take<T>(n * H * V),
                                .q = frame.take<T>(n * H * D),
                                .k = frame.take<T>(n * G * D),
                                .v = frame.take<T>(n * G * V)};
    const DealtLayerCall<T> call{rows_,    mask_,        saved_.shape,
                                 saved_.x, saved_.score, Mode::inference};
    // output = W_o (g heads)
    const T* const gated =
        gate_dealt_heads(saved_.heads.data(), call, saved_.gates, frame, context_);
    const Range outputs{0, layer_.W_o.out_features()};
    std::vector<DealtProjection<T>> projections;
    projections.push_back(undo(layer_.W_o, gated, grad_output, gradients_.W_o, frame));
    input_gradient<T>(projections[0].y, {projections[0].kept.ranges, one(outputs), {}}, grad.heads,
                      false, context_);
    // heads = attention(q, k, v)
    const RankBackward<T> local = attention(grad, frame);
    HeadSumChain<T> head_sums(local, frame, context_);
    attend_backward(local, ranks_, context_);
    // q and k were turned
    const Participation all = participation<T>(
        {saved_.shape, mask_, saved_.head_set, saved_.gates, Mode::inference}, frame);
    const DealtParticipation mine(all, rows_);
    if (layer_.rotary != nullptr)
      rotate_dealt_heads<T>(*layer_.rotary, call, mine.get(),
                            {.q = StridedMatrix<T>::heads_together(grad.q, n, H, D),
                             .k = StridedMatrix<T>::heads_together(grad.k, n, G, D),
                             .is_inverse = true},
                            context_);
    // q = W_q x, k = W_k x, v = W_v x
    const auto undo_input = [&](const Linear<T>& linear, const T* dy, LinearGradients<T>& of,
                                std::span<const Range> open, Tensor<T, 3>& dx) {
      projections.push_back(undo(linear, saved_.x.data(), dy, of, frame));
      input_gradient<T>(projections.back().y, {projections.back().kept.ranges, open, {}}, dx.data(),
                        options_.accumulate, context_);
    };
    undo_input(layer_.W_q, grad.q, gradients_.W_q, all.columns, gradients_.queries);
    undo_input(layer_.W_k, grad.k, gradients_.W_k, all.kv_columns, gradients_.keys);
    undo_input(layer_.W_v, grad.v, gradients_.W_v, all.kv_columns, gradients_.values);
    sum_over_ranks(projections, head_sums, frame);
  }

 private:
  // The projection of this rank's rows, and where the sums of its gradients are put together: where
  // they go to, unless that holds what they are added to.
  [[nodiscard]] DealtProjection<T> undo(const Linear<T>& linear, const T* x, const T* dy,
                                        LinearGradients<T>& of, const Frame& frame) const {
    DealtProjection<T> projection{.y = {linear.panels(), rows_.as_rows(), x, dy},
                                  .kept = {},
                                  .dW = of.weight.data(),
                                  .db = linear.has_bias() ? of.bias.data() : nullptr};
    projection.kept = keep_rows(projection.y, frame);
    if (!options_.accumulate) return projection;
    projection.dW = frame.take<T>(of.weight.size());
    if (projection.db != nullptr) projection.db = frame.take<T>(of.bias.size());
    return projection;
  }

  // The call, with room for its deltas, which are found.
  [[nodiscard]] RankBackward<T> attention(const HeadGradients<T>& grad, const Frame& frame) const {
    using Layout = StridedMatrix<T>;
    using ConstLayout = StridedMatrix<const T>;
    const auto [B, H, G, Q, K, D, V] = saved_.shape;
    const Index n = rows_.count();
    RankBackward<T> local{
        .rows = rows_,
        .needed = needed_,
        .rank = ranks_.rank(),
        .call = {.shape = saved_.shape,
                 .scale = default_scale<T>(D),
                 .mask = &mask_,
                 .queries = ConstLayout::heads_apart(saved_.q.data(), n, H, D),
                 .keys = ConstLayout::heads_apart(saved_.k.data(), n, G, D),
                 .values = ConstLayout::heads_apart(saved_.v.data(), n, G, V),
                 .lse = ConstLayout::heads_apart(saved_.lse.data(), n, H, 1),
                 .output = ConstLayout::heads_together(saved_.heads.data(), n, H, V),
                 .grad_output = ConstLayout::heads_together(grad.heads, n, H, V),
                 .grad_queries = Layout::heads_together(grad.q, n, H, D),
                 .grad_keys = Layout::heads_together(grad.k, n, G, D),
                 .grad_values = Layout::heads_together(grad.v, n, G, V),
                 .dropout = saved_.dropout.threshold > 0 ? &saved_.dropout : nullptr,
                 .score = saved_.score.backward(),
                 .heads = head_table<T>(
                     {saved_.shape, mask_, saved_.head_set, saved_.gates, Mode::training}, frame),
                 .gates = saved_.gates.table(),
                 .sinks = layer_.sinks()}};
    T* const deltas = frame.take<T>(H * n);
    find_deltas(local, n, deltas, context_);
    local.call.delta = ConstLayout::heads_apart(deltas, n, H, 1);
    return local;
  }

  // The gradients of the parameters, gates and sinks, of all rows, to all ranks.
  void sum_over_ranks(std::span<const DealtProjection<T>> projections, HeadSumChain<T>& head_sums,
                      const Frame& frame) {
    const std::vector<RowRun> runs = runs_of(saved_.dealing);
    DealtParameters<T> parameters(projections, ranks_.size(), context_);
    std::vector<ChainPart> parts{head_sums.part()};
    parameters.add_parts(parts);
    run_chain(ranks_, runs, parts);
    parameters.unpack();
    for (const DealtProjection<T>& projection : projections) {
      if (runs.empty())
        clear(projection, {0, projection.outputs()});
      else if (options_.keeps_share)
        scatter_gradients(projection, runs.back().owner, ranks_);
      else
        broadcast_gradients(projection, runs.back().owner, ranks_);
    }
    if (options_.accumulate) add_sums(projections);
    head_sums.gather(ranks_);
    const auto [B, H, G, Q, K, D, V] = saved_.shape;
    for (Index i = 0; i < B * H; ++i) {
      T& gate = gradients_.gates.data()[i];
      gate = options_.accumulate ? gate + head_sums.gates()[i] : head_sums.gates()[i];
    }
    const SinkGradients of_sinks(layer_.sinks() != nullptr, saved_.shape, frame);
    if (layer_.sinks() != nullptr) std::copy_n(head_sums.sinks(), B * H, of_sinks.of_each());
    of_sinks.sum_into(gradients_.sink_logits.data(), options_.accumulate);
  }
  void add_sums(std::span<const DealtProjection<T>> projections) {
    const std::array to{&gradients_.W_o, &gradients_.W_q, &gradients_.W_k, &gradients_.W_v};
    const auto add = [](const T* sums, T* all, Index count) {
      for (Index i = 0; i < count; ++i) all[i] += sums[i];
    };
    for (std::size_t p = 0; p < to.size(); ++p) {
      add(projections[p].dW, to[p]->weight.data(), to[p]->weight.size());
      if (projections[p].db != nullptr)
        add(projections[p].db, to[p]->bias.data(), to[p]->bias.size());
    }
  }

  const LayerParts<T> layer_;
  mpi::Ranks& ranks_;
  const mpi::SequenceActivations<T>& saved_;
  LayerGradients<T>& gradients_;
  DealtBackwardOptions options_;
  Context& context_;
  DealtRows rows_;
  BoundMask mask_;
  NeededBlocks needed_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
