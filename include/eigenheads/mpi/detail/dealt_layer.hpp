// SPDX-License-Identifier: MIT
#pragma once
// The steps of one call of a multi-head layer (layer/forward.hpp) for the rows that a rank has. All but
// the attention is row by row, and needs no other rank.
#include <algorithm>
#include <functional>
#include <span>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/layer/forward.hpp>           // LayerParts, HeadTensors
#include <eigenheads/mpi/sequence_attention.hpp>  // DealtAttention, DealtRows

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// A call of all rows, of which x, [n, E], are this rank's. Shape and mask are of all.
template <class T>
struct DealtLayerCall {
  const DealtRows& rows;
  const BoundMask& mask;
  AttentionShape shape;
  TensorView<T, 2> x;
  ScoreRef<T> score;
  Mode mode;
  const std::function<void(double)>* on_progress = nullptr;  // of the attention
};

// heads: q [H, n, D], k and v [G, n, D], heads [n, H * V], lse [H, n]
template <class T>
void rotate_dealt_heads(const Rotary<T>& rotary, const DealtLayerCall<T>& call,
                        const Participation& part, const RotatedHeads<T>& heads, Context& context) {
  const auto pieces = call.rows.pieces();
  const Frame frame(context);
  Index* const first = frame.take<Index>(std::ssize(pieces));
  const auto rotate = [&](const StridedMatrix<T>& matrix, std::span<const Range> rows,
                          std::span<const Range> columns) {
    rotary.rotate({.heads = matrix,
                   .sequences = call.rows.as_rows(),
                   .rows = rows,
                   .columns = columns,
                   .first_positions = first,
                   .is_inverse = heads.is_inverse},
                  context);
  };
  for (std::size_t i = 0; i < pieces.size(); ++i)
    first[i] = call.mask.aligned(pieces[i].b, pieces[i].begin);
  rotate(heads.q, part.queries, part.columns);
  for (std::size_t i = 0; i < pieces.size(); ++i) first[i] = pieces[i].begin;
  rotate(heads.k, part.keys, part.kv_columns);
}

template <class T>
void project_dealt_heads(const LayerParts<T>& layer, const DealtLayerCall<T>& call,
                         const Participation& part, const HeadTensors<T>& heads, Context& context) {
  using Layout = StridedMatrix<T>;
  const Index n = call.rows.count(), D = call.shape.D;
  const Range inputs{0, call.x.dimension(1)};
  const auto q = Layout::heads_apart(heads.q, n, call.shape.H, D),
             k = Layout::heads_apart(heads.k, n, call.shape.G, D),
             v = Layout::heads_apart(heads.v, n, call.shape.G, call.shape.V);
  layer.W_q.project(call.x.data(), {part.queries, one(inputs), part.columns}, q, context);
  layer.W_k.project(call.x.data(), {part.keys, one(inputs), part.kv_columns}, k, context);
  layer.W_v.project(call.x.data(), {part.keys, one(inputs), part.kv_columns}, v, context);
  if (layer.rotary != nullptr)
    rotate_dealt_heads<T>(*layer.rotary, call, part, {.q = q, .k = k}, context);
}

// asked.packed_weights: [B], [H, this rank's rows of the sequence, K]
template <class T>
void attend_dealt_heads(const DealtLayerCall<T>& call, const NeededBlocks& needed,
                        const Participation& part, const HeadTensors<T>& heads,
                        const AttendHeads<T>& asked, mpi::Ranks& ranks, Context& context) {
  using Layout = StridedMatrix<T>;
  const Index n = call.rows.count();
  const auto [B, H, G, Q, K, D, V] = call.shape;
  DealtAttention<T> attention({.attention = {.shape = call.shape,
                                             .scale = default_scale<T>(D),
                                             .mask = &call.mask,
                                             .queries = Layout::heads_apart(heads.q, n, H, D),
                                             .keys = Layout::heads_apart(heads.k, n, G, D),
                                             .values = Layout::heads_apart(heads.v, n, G, V),
                                             .output = Layout::heads_together(heads.heads, n, H, V),
                                             .lse = Layout::heads_apart(heads.lse, n, H, 1),
                                             .score = call.score.forward(),
                                             .dropout = asked.dropout,
                                             .heads = part.heads,
                                             .gates = asked.gates,
                                             .sinks = asked.sinks},
                               .rows = call.rows,
                               .needed = needed,
                               .weights = asked.packed_weights,
                               .on_progress = call.on_progress},
                              context);
  attention.run(ranks);
}

// heads: [n, H * V] before the gates -> the same after them, in the frame unless all gates are 1.
template <class T>
[[nodiscard]] const T* gate_dealt_heads(const T* heads, const DealtLayerCall<T>& call,
                                        const HeadGates<T>& gates, const Frame& frame,
                                        Context& context) {
  if (gates.are_one()) return heads;
  const Index width = call.shape.H * call.shape.V;
  T* const gated = frame.take<T>(call.rows.count() * width);
  const auto pieces = call.rows.pieces();
  const auto threads =
      context.threads_for(multiply_adds_per_packed * product(call.rows.count(), width));
  context.parallel_for(std::ssize(pieces), threads, [&](Index i) {
    const mpi::Dealing::Block& piece = pieces[static_cast<std::size_t>(i)];
    const Index first = piece.local * width;
    gates.multiply(heads + first, piece.b, piece.count(), call.shape.H, call.shape.V,
                   gated + first);
  });
  return gated;
}

// output: [n, num_hiddens]
template <class T>
void project_dealt_output(const Linear<T>& W_o, const DealtLayerCall<T>& call,
                          const Participation& part, const T* heads, T* output, Context& context) {
  const Index E = W_o.out_features();
  const Range all{0, E};
  const auto y = StridedMatrix<T>::plain(output, call.rows.count(), E);
  for (const OutputGroup& group : part.outputs)
    W_o.project(heads, {group.rows, group.inputs, one(all)}, y, context);
  for (const mpi::Dealing::Block& piece : call.rows.pieces())
    for (Index q = (std::max)(piece.begin, call.mask.query_count(piece.b)); q < piece.end; ++q)
      if (T* const to = output + (piece.local + q - piece.begin) * E; W_o.has_bias())
        std::copy_n(W_o.bias().data(), E, to);
      else
        std::fill_n(to, E, T(0));
}

// Which sequences have a head that takes part.
template <class T>
[[nodiscard]] NeededBlocks needed_blocks(const LayerParts<T>& layer, const BoundMask& mask,
                                         const AttentionShape& shape, Mode mode,
                                         const mpi::Dealing& dealing) {
  const ParticipationCall<T> all{shape, mask, layer.heads, layer.gates, mode};
  return NeededBlocks(mask, dealing, key_bytes<T>(shape),
                      [&](Index b) { return shape.H > 0 && all.has_heads(b); });
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
