// SPDX-License-Identifier: MIT
#pragma once
// The steps of one call of a multi-head layer:
//   q = W_q queries, k = W_k keys, v = W_v values      project_heads, which turns q and k by their
//                                                      positions, if the layer has a rotary
//   heads = attention(q, k, v)                         attend_heads
//   y = W_o (g heads)                                  project_output
// transpose_qkv and transpose_output are in the layouts that the projections and the attention
// write to.
#include <algorithm>
#include <array>
#include <span>

#include <eigenheads/context.hpp>       // Context
#include <eigenheads/detail/arena.hpp>  // Frame
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/work.hpp>              // product
#include <eigenheads/kernels/schedule/attend.hpp>  // attend
#include <eigenheads/layer/participation.hpp>      // Participation, Mode
#include <eigenheads/linear.hpp>                   // Linear
#include <eigenheads/rotary.hpp>                   // Rotary
#include <eigenheads/score_ref.hpp>                // ScoreRef
#include <eigenheads/sequences.hpp>                // Sequences

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// What a layer is made of.
template <class T>
struct LayerParts {
  const Linear<T>&W_q, &W_k, &W_v, &W_o;
  const HeadSet& heads;
  const HeadGates<T>& gates;
  const Tensor<T, 1>& sink_logits;    // [H], or empty
  const Rotary<T>* rotary = nullptr;  // null: none

  [[nodiscard]] const T* sinks() const {
    return sink_logits.size() == 0 ? nullptr : sink_logits.data();
  }
};

// [N, size] -> [1, N, size]
template <class T>
[[nodiscard]] TensorView<T, 3> as_block(TensorView<T, 2> x) {
  return {x.data(), {1, x.dimension(0), x.dimension(1)}};
}

// The rows of [B, L, size], or packed, of [1, N, size] beside the sequences.
template <class T>
[[nodiscard]] SequenceRows rows_of(const Sequences* sequences, TensorView<T, 3> x) {
  return sequences == nullptr ? SequenceRows(x.dimension(0), x.dimension(1)) : sequences->as_rows();
}

// What a layer is called with: [B, Q | K, size], or packed, [1, N, size] beside the sequences, of
// which there are as many of queries as of keys.
template <class T>
struct LayerInputs {
  TensorView<T, 3> queries, keys, values;
  const Sequences *query_sequences = nullptr, *key_sequences = nullptr;

  [[nodiscard]] bool is_packed() const { return query_sequences != nullptr; }
  [[nodiscard]] static LayerInputs packed(TensorView<T, 2> queries,
                                          const Sequences& query_sequences, TensorView<T, 2> keys,
                                          TensorView<T, 2> values, const Sequences& key_sequences) {
    return {as_block(queries), as_block(keys), as_block(values), &query_sequences, &key_sequences};
  }
  [[nodiscard]] static LayerInputs packed(TensorView<T, 2> x, const Sequences& sequences) {
    return packed(x, sequences, x, x, sequences);
  }
};

// One call, all of whose parts fit each other and the layer.
template <class T>
struct LayerCall {
  TensorView<T, 3> queries, keys, values;  // [B, Q | K, size], or packed, [1, N, size]
  AttentionShape shape;                    // of the longest sequences
  Index num_hiddens;
  BoundMask mask;
  ScoreRef<T> score{};
  // How the attention is shared out. A pointer, which a packed call sets: who makes none compiles no
  // schedule of packed sequences.
  void (*attend)(AttentionCall<T> call, Context& context) = detail::attend<T>;

  [[nodiscard]] std::array<Index, 3> output_shape() const {
    return {queries.dimension(0), queries.dimension(1), num_hiddens};
  }
  [[nodiscard]] std::array<Index, 2> packed_output_shape() const {
    return {queries.dimension(1), num_hiddens};
  }
};

// What lies between the steps; of packed sequences, B is 1, and Q and K are the rows of all of them.
template <class T>
struct HeadTensors {
  T *q, *k, *v;  // [B, H, Q, D], [B, G, K, D], [B, G, K, V]
  T* heads;      // [B, Q, H * V]: of attend_heads, times the gates unless they are kept for later
  T* lse = nullptr;  // [B, H, Q], if it is wanted

  [[nodiscard]] static HeadTensors in(const Frame& frame, const LayerCall<T>& call) {
    const auto [B, H, G, Q, K, D, V] = call.shape;
    const Index queries = call.mask.query_rows().total(), keys = call.mask.key_rows().total();
    return {.q = frame.take<T>(queries * H * D),
            .k = frame.take<T>(keys * G * D),
            .v = frame.take<T>(keys * G * V),
            .heads = frame.take<T>(queries * H * V)};
  }
};

[[nodiscard]] inline std::span<const Range> one(const Range& range) { return {&range, 1}; }

// Where the heads of queries and keys lie that are turned.
template <class T>
struct RotatedHeads {
  StridedMatrix<T> q, k;
  bool is_inverse = false;  // they are gradients
};

// A query stands where the mask places it among the keys.
template <class T>
void rotate_heads(const Rotary<T>& rotary, const BoundMask& mask, const Participation& part,
                  const RotatedHeads<T>& heads, Context& context) {
  const Index B = mask.query_rows().count();
  const Frame frame(context);
  Index* const first = frame.take<Index>(B);
  for (Index b = 0; b < B; ++b) first[b] = mask.aligned(b, 0);
  rotary.rotate({.heads = heads.q,
                 .sequences = mask.query_rows(),
                 .rows = part.queries,
                 .columns = part.columns,
                 .first_positions = first,
                 .is_inverse = heads.is_inverse},
                context);
  rotary.rotate({.heads = heads.k,
                 .sequences = mask.key_rows(),
                 .rows = part.keys,
                 .columns = part.kv_columns,
                 .is_inverse = heads.is_inverse},
                context);
}

template <class T>
void project_heads(const LayerParts<T>& layer, const LayerCall<T>& call, const Participation& part,
                   const HeadTensors<T>& heads, Context& context) {
  using Layout = StridedMatrix<T>;
  const auto [B, H, G, Q, K, D, V] = call.shape;
  const SequenceRows &queries = call.mask.query_rows(), &keys = call.mask.key_rows();
  const Range query{0, call.queries.dimension(2)}, key{0, call.keys.dimension(2)},
      value{0, call.values.dimension(2)};
  layer.W_q.project(call.queries.data(), {part.queries, one(query), part.columns},
                    Layout::heads_apart(heads.q, queries, H, D), context);
  layer.W_k.project(call.keys.data(), {part.keys, one(key), part.kv_columns},
                    Layout::heads_apart(heads.k, keys, G, D), context);
  layer.W_v.project(call.values.data(), {part.keys, one(value), part.kv_columns},
                    Layout::heads_apart(heads.v, keys, G, V), context);
  if (layer.rotary != nullptr)
    rotate_heads<T>(
        *layer.rotary, call.mask, part,
        {Layout::heads_apart(heads.q, queries, H, D), Layout::heads_apart(heads.k, keys, G, D)},
        context);
}

// What else attend_heads is asked for.
template <class T>
struct AttendHeads {
  T* weights = nullptr;                // [B, H, Q, K]
  T* const* packed_weights = nullptr;  // [B], those of each packed sequence
  const DropoutMask<T>* dropout = nullptr;
  GateTable<T> gates{};
  const T* sinks = nullptr;  // [H]
};

template <class T>
[[nodiscard]] AttentionCall<T> attention_call(const LayerCall<T>& call, const Participation& part,
                                              const HeadTensors<T>& heads,
                                              const AttendHeads<T>& asked) {
  using Layout = StridedMatrix<T>;
  using ConstLayout = StridedMatrix<const T>;
  const auto [B, H, G, Q, K, D, V] = call.shape;
  const SequenceRows &queries = call.mask.query_rows(), &keys = call.mask.key_rows();
  return {.shape = call.shape,
          .scale = default_scale<T>(D),
          .mask = &call.mask,
          .queries = ConstLayout::heads_apart(heads.q, queries, H, D),
          .keys = ConstLayout::heads_apart(heads.k, keys, G, D),
          .values = ConstLayout::heads_apart(heads.v, keys, G, V),
          .output = Layout::heads_together(heads.heads, queries, H, V),
          .lse = Layout::heads_apart(heads.lse, queries, H, 1),
          .weights = Layout::heads_apart(asked.weights, Q, H, K),
          .score = call.score.forward(),
          .dropout = asked.dropout,
          .heads = part.heads,
          .gates = asked.gates,
          .sinks = asked.sinks,
          .packed_weights = asked.packed_weights};
}

template <class T>
void attend_heads(const LayerCall<T>& call, const Participation& part, const HeadTensors<T>& heads,
                  const AttendHeads<T>& asked, Context& context) {
  call.attend(attention_call(call, part, heads, asked), context);
}

// heads: [B, Q, H * V] before the gates -> the same after them, in the frame unless all gates are 1.
template <class T>
[[nodiscard]] const T* gate_heads(const T* heads, const AttentionShape& shape,
                                  const SequenceRows& queries, const HeadGates<T>& gates,
                                  const Frame& frame, Context& context) {
  if (gates.are_one()) return heads;
  const Index width = shape.H * shape.V;
  T* const gated = frame.take<T>(queries.total() * width);
  const auto threads =
      context.threads_for(multiply_adds_per_packed * product(queries.total(), width));
  context.parallel_for(shape.B, threads, [&](Index b) {
    const Index first = queries.begin(b) * width;
    gates.multiply(heads + first, b, queries.length(b), shape.H, shape.V, gated + first);
  });
  return gated;
}

// output: [B, Q, num_hiddens], or packed, [N, num_hiddens]
template <class T>
void project_output(const Linear<T>& W_o, const LayerCall<T>& call, const Participation& part,
                    const T* heads, T* output, Context& context) {
  const Index E = call.num_hiddens;
  const SequenceRows& queries = call.mask.query_rows();
  const Range all{0, E};
  const auto y = StridedMatrix<T>::plain(output, queries.total(), E);
  for (const OutputGroup& group : part.outputs)
    W_o.project(heads, {group.rows, group.inputs, one(all)}, y, context);
  // Rows of padding: what W_o makes of an attention of 0.
  for (Index b = 0; b < call.shape.B; ++b)
    for (Index q = call.mask.query_count(b); q < queries.length(b); ++q)
      if (T* const to = output + (queries.begin(b) + q) * E; W_o.has_bias())
        std::copy_n(W_o.bias().data(), E, to);
      else
        std::fill_n(to, E, T(0));
}

// What a call of a layer writes to.
template <class T>
struct LayerOutput {
  T* output;                           // [B, Q, num_hiddens], or packed, [N, num_hiddens]
  T* weights = nullptr;                // [B, H, Q, K]
  T* const* packed_weights = nullptr;  // [B], those of each packed sequence

  [[nodiscard]] Mode mode() const {
    return weights == nullptr && packed_weights == nullptr ? Mode::inference : Mode::weights;
  }
};

// All steps at once, for inference.
template <class T>
void run_layer(const LayerParts<T>& layer, const LayerCall<T>& call, const LayerOutput<T>& into,
               Context& context) {
  const Frame frame(context);
  const Participation part =
      participation<T>({call.shape, call.mask, layer.heads, layer.gates, into.mode()}, frame);
  const auto heads = HeadTensors<T>::in(frame, call);
  project_heads(layer, call, part, heads, context);
  attend_heads(call, part, heads,
               {.weights = into.weights,
                .packed_weights = into.packed_weights,
                .gates = layer.gates.table(),
                .sinks = layer.sinks()},
               context);
  project_output(layer.W_o, call, part, heads.heads, into.output, context);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
