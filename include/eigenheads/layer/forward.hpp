// SPDX-License-Identifier: MIT
#pragma once
// The steps of one call of a multi-head layer:
//   q = W_q queries, k = W_k keys, v = W_v values      project_heads
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
#include <eigenheads/score_ref.hpp>                // ScoreRef

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// What a layer is made of.
template <class T>
struct LayerParts {
  const Linear<T>&W_q, &W_k, &W_v, &W_o;
  const HeadSet& heads;
  const HeadGates<T>& gates;
};

// One call, all of whose parts fit each other and the layer.
template <class T>
struct LayerCall {
  TensorView<T, 3> queries, keys, values;  // [B, Q | K, size]
  AttentionShape shape;
  Index num_hiddens;
  BoundMask mask;
  ScoreRef<T> score{};

  [[nodiscard]] std::array<Index, 3> output_shape() const {
    return {shape.B, shape.Q, num_hiddens};
  }
};

// What lies between the steps.
template <class T>
struct HeadTensors {
  T *q, *k, *v;  // [B, H, Q, D], [B, G, K, D], [B, G, K, V]
  T* heads;      // [B, Q, H * V]: of attend_heads, times the gates unless they are kept for later
  T* lse = nullptr;  // [B, H, Q], if it is wanted

  [[nodiscard]] static HeadTensors in(const Frame& frame, const AttentionShape& shape) {
    const auto [B, H, G, Q, K, D, V] = shape;
    return {.q = frame.take<T>(B * H * Q * D),
            .k = frame.take<T>(B * G * K * D),
            .v = frame.take<T>(B * G * K * V),
            .heads = frame.take<T>(B * Q * H * V)};
  }
};

[[nodiscard]] inline std::span<const Range> one(const Range& range) { return {&range, 1}; }

template <class T>
void project_heads(const LayerParts<T>& layer, const LayerCall<T>& call, const Participation& part,
                   const HeadTensors<T>& heads, Context& context) {
  using Layout = StridedMatrix<T>;
  const auto [B, H, G, Q, K, D, V] = call.shape;
  const Range query{0, call.queries.dimension(2)}, key{0, call.keys.dimension(2)},
      value{0, call.values.dimension(2)};
  layer.W_q.project(call.queries.data(), {part.queries, one(query), part.columns},
                    Layout::heads_apart(heads.q, Q, H, D), context);
  layer.W_k.project(call.keys.data(), {part.keys, one(key), part.kv_columns},
                    Layout::heads_apart(heads.k, K, G, D), context);
  layer.W_v.project(call.values.data(), {part.keys, one(value), part.kv_columns},
                    Layout::heads_apart(heads.v, K, G, V), context);
}

// What else attend_heads is asked for.
template <class T>
struct AttendHeads {
  T* weights = nullptr;  // [B, H, Q, K]
  const DropoutMask<T>* dropout = nullptr;
  GateTable<T> gates{};
};

template <class T>
[[nodiscard]] AttentionCall<T> attention_call(const LayerCall<T>& call, const Participation& part,
                                              const HeadTensors<T>& heads,
                                              const AttendHeads<T>& asked) {
  const auto [B, H, G, Q, K, D, V] = call.shape;
  return {.shape = call.shape,
          .scale = default_scale<T>(D),
          .mask = &call.mask,
          .queries = StridedMatrix<const T>::heads_apart(heads.q, Q, H, D),
          .keys = StridedMatrix<const T>::heads_apart(heads.k, K, G, D),
          .values = StridedMatrix<const T>::heads_apart(heads.v, K, G, V),
          .output = StridedMatrix<T>::heads_together(heads.heads, Q, H, V),
          .lse = StridedMatrix<T>::heads_apart(heads.lse, Q, H, 1),
          .weights = StridedMatrix<T>::heads_apart(asked.weights, Q, H, K),
          .score = call.score.forward(),
          .dropout = asked.dropout,
          .heads = part.heads,
          .gates = asked.gates};
}

template <class T>
void attend_heads(const LayerCall<T>& call, const Participation& part, const HeadTensors<T>& heads,
                  const AttendHeads<T>& asked, Context& context) {
  attend(attention_call(call, part, heads, asked), context);
}

// heads: [B, Q, H * V] before the gates -> the same after them, in the frame unless all gates are 1.
template <class T>
[[nodiscard]] const T* gate_heads(const T* heads, const AttentionShape& shape,
                                  const HeadGates<T>& gates, const Frame& frame, Context& context) {
  if (gates.are_one()) return heads;
  const Index size = shape.Q * shape.H * shape.V;
  T* const gated = frame.take<T>(shape.B * size);
  const int threads = context.threads_for(multiply_adds_per_packed * product(shape.B, size));
  context.parallel_for(shape.B, threads, [&](Index b) {
    gates.multiply(heads + b * size, b, shape.Q, shape.H, shape.V, gated + b * size);
  });
  return gated;
}

// output: [B, Q, num_hiddens]
template <class T>
void project_output(const Linear<T>& W_o, const LayerCall<T>& call, const Participation& part,
                    const T* heads, T* output, Context& context) {
  const Index E = call.num_hiddens, Q = call.shape.Q;
  const Range all{0, E};
  const auto y = StridedMatrix<T>::plain(output, call.shape.B * Q, E);
  for (const OutputGroup& group : part.outputs)
    W_o.project(heads, {group.rows, group.inputs, one(all)}, y, context);
  // Rows of padding: what W_o makes of an attention of 0.
  for (Index b = 0; b < call.shape.B; ++b)
    for (Index q = call.mask.query_count(b); q < Q; ++q)
      if (T* const to = output + (b * Q + q) * E; W_o.has_bias())
        std::copy_n(W_o.bias().data(), E, to);
      else
        std::fill_n(to, E, T(0));
}

// All steps at once, for inference. weights: null, or [B, H, Q, K].
template <class T>
void run_layer(const LayerParts<T>& layer, const LayerCall<T>& call, T* output, T* weights,
               Context& context) {
  const Frame frame(context);
  const Mode mode = weights == nullptr ? Mode::inference : Mode::weights;
  const Participation part =
      participation<T>({call.shape, call.mask, layer.heads, layer.gates, mode}, frame);
  const auto heads = HeadTensors<T>::in(frame, call.shape);
  project_heads(layer, call, part, heads, context);
  attend_heads(call, part, heads, {.weights = weights, .gates = layer.gates.table()}, context);
  project_output(layer.W_o, call, part, heads.heads, output, context);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
