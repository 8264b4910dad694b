// SPDX-License-Identifier: MIT
#pragma once
// Attention to keys and values that are projected once, in two halves of one call of a layer:
//   k, v = W_k keys, W_v values                           run_projection
//   q = W_q queries, heads = attention(q, k, v),   y = W_o (g heads)    run_attend
// Blocks of keys lie where they do in that call, and so its bits are those of the two halves.
#include <algorithm>
#include <array>
#include <cstddef>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>              // Context
#include <eigenheads/detail/arena.hpp>         // Frame
#include <eigenheads/detail/cached_heads.hpp>  // CachedHeads
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/layer/cached.hpp>   // require_cache, ProjectedTokens, reading
#include <eigenheads/layer/checks.hpp>   // require_packed_input, require_shape
#include <eigenheads/layer/forward.hpp>  // LayerCall, project_output

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// What is behind a KeyValues.
template <class T>
struct ProjectedKeys {
  CachedHeads<T> heads;
  Index K;  // keys that the call makes room for
  // [B]: how many each sequence has. Empty where lengths are not given: then it has all K, and a mask
  // that says bottom_right means the K of the call.
  std::vector<Index> counts;

  [[nodiscard]] Index count(Index b) const {
    return counts.empty() ? K : counts[static_cast<std::size_t>(b)];
  }
};

// keys: [B, K, key_size], values: [B, K, value_size], or packed, [1, N, size] beside the sequences.
template <class T>
struct KeyInputs {
  TensorView<T, 3> keys, values;
  const Sequences* sequences = nullptr;

  [[nodiscard]] SequenceRows rows() const { return rows_of(sequences, keys); }
};

template <class T>
void require_keys(const LayerParts<T>& layer, const KeyInputs<T>& inputs,
                  const ValidLens& lengths) {
  const auto& [keys, values, sequences] = inputs;
  if (sequences != nullptr) {
    require_packed_input("keys", keys, *sequences, layer.W_k, "[N, key_size]");
    require_packed_input("values", values, *sequences, layer.W_v, "[N, value_size]");
  } else {
    require_shape("keys", keys, "[B, K, key_size]", {any_size, any_size, layer.W_k.in_features()});
    require_shape("values", values, "[B, K, value_size]",
                  {keys.dimension(0), keys.dimension(1), layer.W_v.in_features()});
    lengths.require_fits("lengths", keys.dimension(0), keys.dimension(1), "the number of keys, ");
  }
  require_size<T>("the heads' keys", std::array{inputs.rows().total(), layer.W_k.out_features()});
}

// Of inputs that fit. Keys of heads with a gate of 0 are among them: it may open until they are read.
template <class T>
[[nodiscard]] ProjectedKeys<T> run_projection(const LayerParts<T>& layer, Index head_size,
                                              const KeyInputs<T>& inputs, const ValidLens& lengths,
                                              StoredAs stored_as, Context& context) {
  const SequenceRows rows = inputs.rows();
  const Index B = rows.count(), G = layer.heads.kv_count(), D = head_size;
  std::vector<Index> counts;
  for (Index b = 0; b < B && (lengths.rank() != 0 || rows.is_packed()); ++b)
    counts.push_back(rows.is_packed() ? rows.length(b) : lengths.length(b, 0));
  const Index most = counts.empty() ? rows.longest() : *std::ranges::max_element(counts);
  for (Index b = 0; b < B && layer.rotary != nullptr; ++b)
    layer.rotary->require_position(
        "keys", b, (counts.empty() ? most : counts[static_cast<std::size_t>(b)]) - 1);
  ProjectedKeys<T> projected{CachedHeads<T>({.sequences = B,
                                             .heads = G,
                                             .head_size = D,
                                             .capacity = most,
                                             .window = 0,
                                             .stored_as = stored_as}),
                             rows.longest(), std::move(counts)};

  const Frame frame(context);
  T *const k = frame.take<T>(rows.total() * G * D), *const v = frame.take<T>(rows.total() * G * D);
  const auto count_of = [&](Index b) { return projected.count(b); };
  const auto all =
      join_ranges(rows, [&](Index b) { return Range{0, count_of(b)}; }, frame.take<Range>(B));
  const Range columns{0, G * D};
  const auto project = [&](const Linear<T>& W, TensorView<T, 3> x, T* to) {
    const Range inputs_of{0, x.dimension(2)};
    W.project(x.data(), {all, one(inputs_of), one(columns)},
              StridedMatrix<T>::heads_apart(to, rows, G, D), context);
  };
  project(layer.W_k, inputs.keys, k);
  project(layer.W_v, inputs.values, v);
  if (layer.rotary != nullptr)
    layer.rotary->rotate({.heads = StridedMatrix<T>::heads_apart(k, rows, G, D),
                          .sequences = rows,
                          .rows = all,
                          .columns = one(columns)},
                         context);
  ProjectedTokens<T>{rows, k, v}.write_all(projected.heads, count_of, context);
  for (Index b = 0; b < B; ++b) projected.heads.commit(b, count_of(b));
  return projected;
}

// The call, if its parts fit each other, the layer and the keys. queries: [B, Q, query_size], or
// packed, [1, N, query_size] beside the sequences.
template <class T>
[[nodiscard]] LayerCall<T> checked_attend(const LayerParts<T>& layer, TensorView<T, 3> queries,
                                          const Sequences* sequences, const Mask& mask,
                                          const ProjectedKeys<T>& keys) {
  if (sequences == nullptr)
    require_shape("queries", queries, "[B, Q, query_size]",
                  {any_size, any_size, layer.W_q.in_features()});
  else
    require_packed_input("queries", queries, *sequences, layer.W_q, "[N, query_size]");
  const CacheSize size = keys.heads.size();
  const SequenceRows rows = rows_of(sequences, queries);
  require_cache(layer, rows.count(), size, {"the keys and values are of", "as the queries are"});
  if (mask.key_lens.rank() != 0)
    refuse(
        {"attend: the mask has key_lens; expected none: project was told how many keys there "
         "are"});
  const Index H = layer.heads.count(), G = size.heads, D = size.head_size;
  require_size<T>("the heads' queries", std::array{rows.total(), H, D});
  layer.gates.require_fits(rows.count(), H);
  LayerCall<T> call{
      .queries = queries,
      .keys = {nullptr, {}},
      .values = {nullptr, {}},
      .shape = {rows.count(), H, G, rows.longest(), keys.K, D, D},
      .num_hiddens = layer.W_o.out_features(),
      .mask =
          BoundMask(mask, rows, SequenceRows(rows.count(), keys.K), layer.heads.original_count(),
                    {.counts = keys.counts.empty() ? nullptr : keys.counts.data()})};
  if (layer.rotary != nullptr) require_positions(*layer.rotary, call.mask);
  return call;
}

template <class T>
void run_attend(const LayerParts<T>& layer, const LayerCall<T>& call, const CachedHeads<T>& cached,
                const LayerOutput<T>& into, Context& context) {
  const Frame frame(context);
  const auto [B, H, G, Q, K, D, V] = call.shape;
  const SequenceRows& rows = call.mask.query_rows();
  const Participation part =
      participation<T>({call.shape, call.mask, layer.heads, layer.gates, into.mode()}, frame);
  const HeadTensors<T> heads{.q = frame.take<T>(rows.total() * H * D),
                             .k = nullptr,
                             .v = nullptr,
                             .heads = frame.take<T>(rows.total() * H * V)};
  const Range inputs{0, call.queries.dimension(2)};
  layer.W_q.project(call.queries.data(), {part.queries, one(inputs), part.columns},
                    StridedMatrix<T>::heads_apart(heads.q, rows, H, D), context);
  if (layer.rotary != nullptr) {
    Index* const first = frame.take<Index>(B);
    for (Index b = 0; b < B; ++b) first[b] = call.mask.aligned(b, 0);
    layer.rotary->rotate({.heads = StridedMatrix<T>::heads_apart(heads.q, rows, H, D),
                          .sequences = rows,
                          .rows = part.queries,
                          .columns = part.columns,
                          .first_positions = first},
                         context);
  }
  call.attend(reading(cached, attention_call(call, part, heads,
                                             {.weights = into.weights,
                                              .packed_weights = into.packed_weights,
                                              .gates = layer.gates.table(),
                                              .sinks = layer.sinks()})),
              context);
  project_output(layer.W_o, call, part, heads.heads, into.output, context);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
