// SPDX-License-Identifier: MIT
// What a task of attention's backward works in, and a block of queries as its products read it.
//
// A thread's scratch memory depends on neither Q nor K: it holds one block of queries, packed once
// for each head or range of its keys; dK and dV grow where the caller wants them. D = V = 64 in float
// is 0.33 MiB. (A head that is cut keeps the sums of all its dQ, once for all threads.) With blocks of
// keys outside, as in the paper, all queries of a head are packed at a time, and dK and dV of all
// keys wait for the last head: 1.8 KB a token and thread, for the same sums in the same order.

template <class T>
struct BackwardScratch {
  Index padded_D, padded_V;
  // Of a block of queries: Q / sqrt(D) and dO, as rows on the right of a product and as columns.
  T *query_panels, *query_columns, *output_panels, *output_columns;
  T* rows;          // what is packed from: [queries, max(D, V)]
  T* grad_queries;  // sums: [queries, padded D]
  T* key_columns;   // of a block of keys
  T* edge;          // the last, narrower panel of its dK or dV: [backward_keys, panel_width]
  BlockScores<T> scores;
};

template <class T>
Index lay_out(BackwardScratch<T>& s, const AttentionShape& shape, bool drops, T* memory) {
  constexpr Index queries = backward_queries, pairs = backward_keys * backward_stride<T>;
  s.padded_D = padded_columns<T>(shape.D);
  s.padded_V = padded_columns<T>(shape.V);
  Cutter<T> cutter(memory);
  s.query_panels = cutter.take(queries * shape.D);
  s.query_columns = cutter.take(queries * s.padded_D);
  s.output_panels = cutter.take(queries * shape.V);
  s.output_columns = cutter.take(queries * s.padded_V);
  s.rows = cutter.take(queries * (std::max)(shape.D, shape.V));
  s.grad_queries = cutter.take(queries * s.padded_D);
  s.key_columns = cutter.take(backward_keys * s.padded_D);
  s.edge = cutter.take(backward_keys * panel_width<T>);
  s.scores = {.p_t = cutter.take(pairs),
              .ds_t = cutter.take(pairs),
              .factors = drops ? cutter.take(pairs) : nullptr,
              .lse = cutter.take(queries),
              .delta = cutter.take(queries),
              .ranges = cutter.template take_as<Range>(queries),
              .gaps = cutter.template take_as<Range>(queries),
              .seen = cutter.template take_as<std::uint8_t>(queries),
              .has_gaps = false,
              .keeps_nan = false};
  return cutter.used();
}

// In as many lanes as a softmax's sum, and folded in the same order.
template <class T>
[[nodiscard]] T dot(const T* x, const T* y, Index count) {
  constexpr Index S = Register<T>::width, N = sum_lanes / S;
  Register<T> lanes[N];
#pragma GCC unroll 16
  for (Index i = 0; i < N; ++i) lanes[i] = broadcast(T(0));
  Index k = 0;
  for (; k + sum_lanes <= count; k += sum_lanes)
#pragma GCC unroll 16
    for (Index i = 0; i < N; ++i)
      lanes[i] = fma(load(x + k + i * S), load(y + k + i * S), lanes[i]);
  T folded[sum_lanes];
#pragma GCC unroll 16
  for (Index i = 0; i < N; ++i) store(folded + i * S, lanes[i]);
  for (Index i = 0; k < count; ++k, ++i) folded[i] = std::fma(x[k], y[k], folded[i]);
  return fold(folded);
}

// Packs columns, and puts 0 where a number is not finite; returns whether there was none. Where a
// number of a query or of a key is not finite, neither is any dS that it belongs to: so 0 may stand
// for it in the other factor of a product, where it does no harm to those that do not see it.
template <class T>
bool pack_finite_columns(const PackColumnsCall<T>& call) {
  if (pack_columns(call)) return true;
  constexpr Index W = panel_width<T>;
  for (Index panel = 0; panel < detail::blocks_of(call.columns, W); ++panel) {
    T* const x = call.panels + panel * call.panel_stride;
    for (Index i = 0; i < call.rows * W; ++i)
      if (!detail::is_finite(x[i])) x[i] = T(0);
  }
  return false;
}

template <class T>
[[nodiscard]] bool sees_none(const BlockScores<T>& s, Index q) {
  return s.ranges[q].begin == s.ranges[q].end;
}

// What a learnt sink makes of the log-sum-exps, and the gaps of the ranges: apart from the loop that
// every call has.
template <class T>
[[gnu::noinline]] void add_sink(T sink, const QueryBlock<T>& block, const BlockScores<T>& s) {
  for (Index i = 0; i < block.count; ++i)
    if (!sees_none(s, i)) s.lse[i] = lse_with_sink(s.lse[i], sink);
}
template <class T>
[[gnu::noinline]] void find_gaps(const BoundMask& mask, const QueryBlock<T>& block,
                                 const BlockScores<T>& s) {
  for (Index i = 0; i < block.count; ++i) s.gaps[i] = mask.gap(block.b, block.first + i);
}

// to[i] = sum_v dO O of query rows.begin + i.
template <class T>
void find_deltas(const AttentionBackwardCall<T>& call, Index b, Index h, Range rows, T* to) {
  for (Index q = rows.begin; q < rows.end; ++q)
    to[q - rows.begin] = dot(call.grad_output.at(b, h, q), call.output.at(b, h, q), call.shape.V);
}

// A head's part of a row is too short for hardware to foresee the next row's: asked for so many rows
// ahead, a layer's training step takes 1 % less (B=8 T=128 E=512 H=8; Zen 5, AVX-512).
inline constexpr Index query_rows_ahead = 8;
template <class T>
void prefetch_row(const T* row, Index count) {
  for (Index i = 0; i < count; i += Index{64} / Index{sizeof(T)}) __builtin_prefetch(row + i);
}

// What the queries of a block see, and their delta without the gate: the gradient of the gate is the
// sum of these.
template <class T>
void find_queries(const AttentionBackwardCall<T>& call, const QueryBlock<T>& block,
                  BlockScores<T>& s) {
  std::fill_n(s.lse, backward_queries, T(0));
  std::fill_n(s.delta, backward_queries, T(0));
  for (Index i = 0; i < block.count; ++i) {
    const Index q = block.first + i;
    const T lse = *call.lse.at(block.b, block.h, q);
    s.ranges[i] = detail::is_negative_infinity(lse)
                      ? Range{}
                      : call.mask->key_range(block.b, block.number, q);
    if (sees_none(s, i)) continue;
    s.lse[i] = lse;
    if (call.delta.is_given()) {
      s.delta[i] = *call.delta.at(block.b, block.h, q);
      continue;
    }
    if (const Index later = q + query_rows_ahead; later < call.shape.Q) {
      prefetch_row(call.grad_output.at(block.b, block.h, later), call.shape.V);
      prefetch_row(call.output.at(block.b, block.h, later), call.shape.V);
    }
    find_deltas(call, block.b, block.h, {q, q + 1}, s.delta + i);
  }
  s.has_gaps = call.mask->has_gaps();
  if (s.has_gaps) find_gaps(*call.mask, block, s);
  if (call.sinks != nullptr) add_sink(call.sinks[block.h], block, s);
}

// Rows of a block of queries times a factor, packed in both ways; a query that sees no key has
// weights of 0 whatever the scores, and rows of 0. Returns whether all numbers are finite.
template <class T>
struct PackedRows {
  StridedMatrix<const T> matrix;
  Index columns;
  T factor;
  T *across, *down;  // panels of rows, panels of columns
};
template <class T>
bool pack_rows(const PackedRows<T>& call, const QueryBlock<T>& block, const BackwardScratch<T>& s) {
  const Index columns = call.columns;
  for (Index q = 0; q < block.count; ++q) {
    T* const row = s.rows + q * columns;
    if (sees_none(s.scores, q))
      std::fill_n(row, columns, T(0));
    else
      scale_row(call.matrix.at(block.b, block.h, block.first + q), columns, call.factor, row);
  }
  pack_panels(s.rows, columns, {0, block.count}, columns, call.across);
  return pack_finite_columns<T>({.matrix = s.rows,
                                 .stride = columns,
                                 .rows = block.count,
                                 .columns = columns,
                                 .panels = call.down,
                                 .panel_stride = backward_queries * panel_width<T>});
}

template <class T>
void pack_queries(const AttentionBackwardCall<T>& call, const QueryBlock<T>& block,
                  BackwardScratch<T>& s) {
  pack_rows<T>({.matrix = call.queries,
                .columns = call.shape.D,
                .factor = call.scale,
                .across = s.query_panels,
                .down = s.query_columns},
               block, s);
  s.scores.keeps_nan = !pack_rows<T>({.matrix = call.grad_output,
                                      .columns = call.shape.V,
                                      .factor = block.gate,
                                      .across = s.output_panels,
                                      .down = s.output_columns},
                                     block, s);
  for (Index q = 0; q < block.count; ++q)
    if (!sees_none(s.scores, q)) s.scores.delta[q] *= block.gate;
}

// dQ, from its sums.
template <class T>
void put_queries(const AttentionBackwardCall<T>& call, const QueryBlock<T>& block, Index padded_D) {
  for (Index q = 0; q < block.count; ++q) {
    T* const to = call.grad_queries.at(block.b, block.h, block.first + q);
    if (block.gate != 0)
      scale_row(block.sums + q * padded_D, call.shape.D, call.scale, to);
    else  // nothing goes back through it
      std::fill_n(to, call.shape.D, T(0));
  }
}
