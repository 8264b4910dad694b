// SPDX-License-Identifier: MIT
#pragma once
// The backward pass of a layer over a batch whose rows are spread over ranks (sequence_layer.hpp): each
// rank gets the gradients of its own rows of x, and all of them those of the parameters, whole; the
// bits are those of one process that has all rows.
//   const mpi::SequenceParallel parallel(layer, ranks);
//   mpi::SequenceActivations<float> saved;
//   const auto y = parallel.forward(mine, dealing, mask, saved);
//   const auto gradients = mpi::backward(parallel, dy, saved);      // of this rank's rows of y
// Then each rank takes the same step of its optimizer with the same bits.
#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <stdexcept>
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

// One backward pass of this rank's rows; what it refers to outlives it.
template <class T>
class DealtBackward {
 public:
  DealtBackward(const mpi::SequenceParallel<T>& parallel, const mpi::SequenceActivations<T>& saved,
                LayerGradients<T>& gradients, bool accumulate, Context& context)
      : layer_(parallel.layer().parts()),
        ranks_(parallel.ranks()),
        saved_(saved),
        gradients_(gradients),
        accumulate_(accumulate),
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
    const DealtLayerCall<T> call{rows_, mask_, saved_.shape, saved_.x, saved_.score,
                                 Mode::inference};
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
                        accumulate_, context_);
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
    if (!accumulate_) return projection;
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
      share(runs, projection.dW, projection.inputs() * projection.outputs());
      if (projection.db != nullptr) share(runs, projection.db, projection.outputs());
    }
    if (accumulate_) add_sums(projections);
    head_sums.gather(ranks_);
    const auto [B, H, G, Q, K, D, V] = saved_.shape;
    for (Index i = 0; i < B * H; ++i) {
      T& gate = gradients_.gates.data()[i];
      gate = accumulate_ ? gate + head_sums.gates()[i] : head_sums.gates()[i];
    }
    const SinkGradients of_sinks(layer_.sinks() != nullptr, saved_.shape, frame);
    if (layer_.sinks() != nullptr) std::copy_n(head_sums.sinks(), B * H, of_sinks.of_each());
    of_sinks.sum_into(gradients_.sink_logits.data(), accumulate_);
  }
  void share(std::span<const RowRun> runs, T* sums, Index count) {
    if (runs.empty())
      std::fill_n(sums, count, T(0));
    else
      ranks_.broadcast(runs.back().owner, std::span<T>(sums, static_cast<std::size_t>(count)));
  }
  void add_sums(std::span<const DealtProjection<T>> projections) {
    const std::array to{&gradients_.W_o, &gradients_.W_q, &gradients_.W_k, &gradients_.W_v};
    const auto add = [](const T* sums, T* all, Index count) {
      for (Index i = 0; i < count; ++i) all[i] += sums[i];
    };
    for (std::size_t p = 0; p < to.size(); ++p) {
      add(projections[p].dW, to[p]->weight.data(), to[p]->weight.size());
      if (projections[p].db != nullptr) add(projections[p].db, to[p]->bias.data(), to[p]->bias.size());
    }
  }

  const LayerParts<T> layer_;
  mpi::Ranks& ranks_;
  const mpi::SequenceActivations<T>& saved_;
  LayerGradients<T>& gradients_;
  bool accumulate_;
  Context& context_;
  DealtRows rows_;
  BoundMask mask_;
  NeededBlocks needed_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

namespace detail {

// Throws unless the activations are those of such a layer, and all that is asked for can be computed.
template <class T>
void require_backward(const SequenceParallel<T>& parallel, TensorView<T, 2> grad_output,
                      const SequenceActivations<T>& saved) {
  const auto layer = parallel.layer().parts();
  const Index E = saved.x.dimension(1);
  if (saved.shape.D == 0)
    eigenheads::detail::refuse<std::logic_error>(
        {"SequenceParallel: backward needs the activations of a forward call"});
  if (saved.head_set != layer.heads || saved.shape.D != parallel.layer().head_size() ||
      layer.W_q.in_features() != E || layer.W_k.in_features() != E ||
      layer.W_v.in_features() != E || saved.dealing.ranks() != parallel.ranks().size())
    eigenheads::detail::refuse<std::logic_error>(
        {"SequenceParallel: the activations are those of a layer of other sizes or heads, or of "
         "other ranks"});
  eigenheads::detail::require_projections(layer, saved.shape.D, parallel.layer().num_hiddens());
  require_shape("grad_output", grad_output, "[n, num_hiddens]",
                {saved.x.dimension(0), parallel.layer().num_hiddens()});
  if (saved.score.last_bias() != nullptr)
    eigenheads::detail::refuse(
        {"SequenceParallel: the scores have a ScoreBias, whose gradient is a sum over heads, then "
         "queries, then keys, an order that rows of many ranks do not come in; expected scores "
         "without one"});
  eigenheads::detail::require_whole_gradient_blocks(saved.dealing);
}

template <class T>
void fit_gradients(const SequenceParallel<T>& parallel, const SequenceActivations<T>& saved,
                   LayerGradients<T>& gradients, bool accumulate) {
  using eigenheads::detail::fit_gradient;
  const auto layer = parallel.layer().parts();
  const std::array<Index, 3> rows{1, saved.x.dimension(0), saved.x.dimension(1)};
  fit_gradient("gradients.queries", gradients.queries, "[1, n, E]", rows, accumulate);
  fit_gradient("gradients.keys", gradients.keys, "[1, n, E]", rows, accumulate);
  fit_gradient("gradients.values", gradients.values, "[1, n, E]", rows, accumulate);
  fit_gradient("gradients.gates", gradients.gates, "[B, H]", {saved.shape.B, saved.shape.H},
               accumulate);
  fit_gradient("gradients.score_bias", gradients.score_bias, "that of no bias", {0, 0, 0, 0},
               accumulate);
  fit_gradient("gradients.sink_logits", gradients.sink_logits, "[H] or none",
               {layer.sink_logits.size()}, accumulate);
  layer.W_q.fit(gradients.W_q, accumulate);
  layer.W_k.fit(gradients.W_k, accumulate);
  layer.W_v.fit(gradients.W_v, accumulate);
  layer.W_o.fit(gradients.W_o, accumulate);
}

}  // namespace detail

// grad_output: [n, num_hiddens], of this rank's rows -> in `gradients`, those of x as queries, as keys
// and as values, [1, n, E] each, and those of parameters and gates, [B, H], of all rows; or added to
// what is there. All ranks call it. Throws, on all ranks, std::logic_error if nothing is saved, or for
// another layer; std::invalid_argument for what does not fit, for scores with a ScoreBias, and for a
// dealing whose blocks are not whole blocks of gradients (Dealing::of() makes such).
template <Scalar T>
void backward_into(const SequenceParallel<T>& parallel, LayerGradients<T>& gradients,
                   std::type_identity_t<TensorView<T, 2>> grad_output,
                   const SequenceActivations<T>& saved, bool accumulate = false,
                   Context& context = default_context()) {
  parallel.ranks().together(
      "backward of SequenceParallel",
      {{"bytes of a number", Index{sizeof(T)}},
       {"rows of all ranks", saved.dealing.sequences().rows()},
       {"num_heads", saved.shape.H},
       {"head_size", saved.shape.D},
       {"the dealing's fingerprint", eigenheads::detail::fingerprint(saved.dealing)},
       {"the mask's fingerprint", eigenheads::detail::fingerprint(saved.mask)},
       {"accumulate", Index{accumulate}}},
      [&] {
        detail::require_backward(parallel, grad_output, saved);
        detail::fit_gradients(parallel, saved, gradients, accumulate);
        eigenheads::detail::DealtBackward<T>(parallel, saved, gradients, accumulate, context)
            .run(grad_output.data());
      });
}
template <Scalar T>
[[nodiscard]] LayerGradients<T> backward(const SequenceParallel<T>& parallel,
                                         std::type_identity_t<TensorView<T, 2>> grad_output,
                                         const SequenceActivations<T>& saved,
                                         Context& context = default_context()) {
  LayerGradients<T> gradients;
  backward_into(parallel, gradients, grad_output, saved, false, context);
  return gradients;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
