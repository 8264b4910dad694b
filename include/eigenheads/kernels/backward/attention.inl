// SPDX-License-Identifier: MIT
// Backward of fused attention. The weights of a block of keys and queries are computed again, from
// the log-sum-exp; blocks are transposed, keys by queries, so that what belongs to a query is a
// vector:
//   S^T = K Q^T                      P^T = exp(S^T - lse)
//   dP^T = V dO^T                    dS^T = P^T (dP^T - delta),   delta = sum_v dO O
//   dV += P^T dO    dK += dS^T Q     dQ += dS K
// Dao, "FlashAttention-2", 2023, algorithm 2, with one difference: blocks of queries are the outer
// loop (queries.inl says why). A task is one key/value head with all of its queries, its sums in a
// fixed order: any number of threads gives the same bits.

// A product over the queries of a block that is added to rows of the caller's, one for each key.
template <class T>
struct KeySums {
  const T *factors, *columns;  // P^T or dS^T; dO or Q, in panels of columns
  StridedMatrix<T> sums;       // dV or dK
  Index width;                 // V or D
};

// Whole panels in place. The columns after them are taken to `edge` and back, because a panel in
// place would reach into the next row; what `edge` has beyond them is never looked at.
template <class T>
void add_to_keys(const KeySums<T>& call, const QueryBlock<T>& block, const SeenBlock& seen,
                 T* edge) {
  constexpr Index W = panel_width<T>;
  const Index keys = seen.keys.count(), from = seen.queries.begin;
  const Index row_stride = call.sums.row_stride;
  for (Index column = 0; column < call.width; column += W) {
    T* const sums = call.sums.at(block.b, block.g, seen.keys.begin) + column;
    const Index width = (std::min)(W, call.width - column);
    const bool is_whole = width == W;
    for (Index k = 0; !is_whole && k < keys; ++k)
      std::copy_n(sums + k * row_stride, width, edge + k * W);
    T* const to = is_whole ? sums : edge;
    const Index to_stride = is_whole ? row_stride : W;
    for_each_tile(keys, [&](Index k, Index count) {
      multiply_tile<T>(count, {.a = call.factors + k * backward_stride<T> + from,
                               .a_stride = backward_stride<T>,
                               .b = call.columns + column * backward_queries + from * W,
                               .b_stride = W,
                               .depth = seen.queries.count(),
                               .c = to + k * to_stride,
                               .c_stride = to_stride,
                               .adds = true});
    });
    for (Index k = 0; !is_whole && k < keys; ++k)
      std::copy_n(edge + k * W, width, sums + k * row_stride);
  }
}

// S^T = K Q^T or dP^T = V dO^T: rows of the caller's times a block's panels of rows.
template <class T>
struct PairProducts {
  StridedMatrix<const T> matrix;  // K or V
  Index depth;                    // D or V
  const T* panels;                // of Q or dO
  T* to;
};
template <class T>
void multiply_pairs(const PairProducts<T>& call, const QueryBlock<T>& block,
                    const SeenBlock& seen) {
  constexpr Index W = panel_width<T>;
  const T* const rows = call.matrix.at(block.b, block.g, seen.keys.begin);
  const Index row_stride = call.matrix.row_stride;
  for (Index q = seen.queries.begin; q < seen.queries.end; q += W)
    for_each_tile(seen.keys.count(), [&](Index k, Index count) {
      multiply_tile<T>(count, {.a = rows + k * row_stride,
                               .a_stride = row_stride,
                               .b = call.panels + q * call.depth,
                               .b_stride = W,
                               .depth = call.depth,
                               .c = call.to + k * backward_stride<T> + q,
                               .c_stride = backward_stride<T>});
    });
}

// dQ += dS K. The keys are packed anew for each block of queries: that is less than a hundredth of a
// full block's work, and rows that lie far apart would contend for a few sets of the first-level
// cache.
template <class T>
void add_to_queries(const AttentionBackwardCall<T>& call, const QueryBlock<T>& block,
                    const SeenBlock& seen, const BackwardScratch<T>& s) {
  constexpr Index W = panel_width<T>;
  const Index from = seen.queries.begin;
  pack_finite_columns<T>({.matrix = call.keys.at(block.b, block.g, seen.keys.begin),
                          .stride = call.keys.row_stride,
                          .rows = seen.keys.count(),
                          .columns = call.shape.D,
                          .panels = s.key_columns,
                          .panel_stride = backward_keys * W});
  for (Index d = 0; d < s.padded_D; d += W)
    for_each_tile(seen.queries.count(), [&](Index q, Index count) {
      multiply_transposed_tile<T>(count, {.a = s.scores.ds_t + from + q,
                                          .a_stride = backward_stride<T>,
                                          .b = s.key_columns + d * backward_keys,
                                          .b_stride = W,
                                          .depth = seen.keys.count(),
                                          .c = s.grad_queries + (from + q) * s.padded_D + d,
                                          .c_stride = s.padded_D,
                                          .adds = true});
    });
}

template <class T>
void backward_block(const AttentionBackwardCall<T>& call, const BackwardScratch<T>& s,
                    const QueryBlock<T>& block, const SeenBlock& seen) {
  const auto [B, H, G, Q, K, D, V] = call.shape;
  const BlockScores<T>& scores = s.scores;
  multiply_pairs<T>({call.keys, D, s.query_panels, scores.p_t}, block, seen);
  multiply_pairs<T>({call.values, V, s.output_panels, scores.ds_t}, block, seen);
  differentiate_block(call, scores, block, seen);
  add_to_keys<T>({scores.p_t, s.output_columns, call.grad_values, V}, block, seen, s.edge);
  add_to_keys<T>({scores.ds_t, s.query_columns, call.grad_keys, D}, block, seen, s.edge);
  add_to_queries(call, block, seen, s);
}

// What the queries of a block see of some keys.
template <class T>
[[nodiscard]] SeenBlock find_seen(const AttentionBackwardCall<T>& call, const QueryBlock<T>& block,
                                  const BlockScores<T>& s, Range keys) {
  SeenBlock seen{keys, {}, !call.mask->hides_single_keys() && call.score.apply == nullptr};
  for (Index q = 0; q < block.count; ++q) {
    const auto [begin, end] = s.ranges[q];
    if ((std::max)(begin, keys.begin) < (std::min)(end, keys.end)) {
      if (seen.queries.end == 0) seen.queries.begin = q / panel_width<T> * panel_width<T>;
      seen.queries.end = q + 1;
    }
    seen.is_all_seen = seen.is_all_seen && begin <= keys.begin && end >= keys.end;
  }
  return seen;
}

// Over all keys that any of the queries sees.
template <class T>
void backward_query_block(const AttentionBackwardCall<T>& call, const QueryBlock<T>& block,
                          BackwardScratch<T>& s) {
  pack_queries(call, block, s);
  Range keys{call.shape.K, 0};
  for (Index q = 0; q < block.count; ++q)
    if (!sees_none(s.scores, q))
      keys = {(std::min)(keys.begin, s.scores.ranges[q].begin),
              (std::max)(keys.end, s.scores.ranges[q].end)};
  for (Index begin = keys.begin; begin < keys.end;) {
    const Index end = (std::min)(begin / backward_keys * backward_keys + backward_keys, keys.end);
    const SeenBlock seen = find_seen(call, block, s.scores, {begin, end});
    if (seen.queries.count() > 0) backward_block(call, s, block, seen);
    begin = end;
  }
  for (Index q = 0; q < block.count; ++q)
    scale_row(s.grad_queries + q * s.padded_D, call.shape.D, call.scale,
              call.grad_queries.at(block.b, block.h, block.first + q));
}

// Query head i of a task.
template <class T>
void backward_head(const AttentionBackwardCall<T>& call, const BackwardTask<T>& task, Index i,
                   BackwardScratch<T>& s) {
  const auto [B, H, G, Q, K, D, V] = call.shape;
  const Index h = call.heads.head(call.shape, task.b, task.g, i);
  const T gate = call.gates.at(task.b, h);
  double of_gate = 0;
  for (Index first = 0; first < Q; first += backward_queries) {
    const QueryBlock<T> block{.b = task.b,
                              .g = task.g,
                              .h = h,
                              .number = call.heads.original(h),
                              .first = first,
                              .count = (std::min)(backward_queries, Q - first),
                              .gate = gate,
                              .bias_plane = task.bias_plane(call, i)};
    find_queries(call, block, s.scores);
    for (Index q = 0; q < block.count; ++q) of_gate += static_cast<double>(s.scores.delta[q]);
    if (gate != 0)
      backward_query_block(call, block, s);
    else  // nothing goes back through it
      for (Index q = 0; q < block.count; ++q)
        std::fill_n(call.grad_queries.at(task.b, h, first + q), D, T(0));
  }
  if (call.grad_gates != nullptr) call.grad_gates[task.b * H + h] += static_cast<T>(of_gate);
}

// Elements of scratch memory that a task takes.
template <class T>
[[nodiscard]] Index attend_backward_scratch(const AttentionShape& shape, bool drops) {
  BackwardScratch<T> layout;
  return lay_out<T>(layout, shape, drops, nullptr);
}

// A task: gradients of the keys and values of its key/value head, and of all queries that read it.
template <class T>
void attend_backward(const AttentionBackwardCall<T>& call, const BackwardTask<T>& task,
                     T* scratch) {
  BackwardScratch<T> s;
  lay_out(s, call.shape, call.dropout != nullptr, scratch);
  std::fill_n(s.edge, backward_keys * panel_width<T>, T(0));
  for (Index k = 0; k < call.shape.K; ++k) {
    std::fill_n(call.grad_keys.at(task.b, task.g, k), call.shape.D, T(0));
    std::fill_n(call.grad_values.at(task.b, task.g, k), call.shape.V, T(0));
  }
  for (Index i = 0; i < call.heads.count(call.shape, task.b, task.g); ++i)
    backward_head(call, task, i, s);
}
