// SPDX-License-Identifier: MIT
// Backward of fused attention. The weights of a block of keys and queries are computed again, from
// the log-sum-exp; blocks are transposed, keys by queries, so that what belongs to a query is a
// vector:
//   S^T = K Q^T                      P^T = exp(S^T - lse)
//   dP^T = V dO^T                    dS^T = P^T (dP^T - delta),   delta = sum_v dO O
//   dV += P^T dO    dK += dS^T Q     dQ += dS K
// Dao, "FlashAttention-2", 2023, algorithm 2, with one difference: blocks of queries are the outer
// loop (queries.inl says why). A task is one key/value head with all of its queries, or a part of
// both. Each product over a block is a chain from zero, then added to the sums of the blocks before
// it (backward_call.hpp): any number of threads, and any cut between blocks, gives the same bits.

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
      add_tile<T>(count, {.a = call.factors + k * backward_stride<T> + from,
                          .a_stride = backward_stride<T>,
                          .b = call.columns + column * backward_queries + from * W,
                          .b_stride = W,
                          .depth = seen.queries.count(),
                          .c = to + k * to_stride,
                          .c_stride = to_stride,
                          .goes_on = true});
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
      add_transposed_tile<T>(count, {.a = s.scores.ds_t + from + q,
                                     .a_stride = backward_stride<T>,
                                     .b = s.key_columns + d * backward_keys,
                                     .b_stride = W,
                                     .depth = seen.keys.count(),
                                     .c = block.sums + (from + q) * s.padded_D + d,
                                     .c_stride = s.padded_D,
                                     .goes_on = true});
    });
}

template <class T>
void backward_block(const AttentionBackwardCall<T>& call, const BackwardScratch<T>& s,
                    const QueryBlock<T>& block, const SeenBlock& seen, bool is_for_keys) {
  const auto [B, H, G, Q, K, D, V] = call.shape;
  const BlockScores<T>& scores = s.scores;
  multiply_pairs<T>({call.keys, D, s.query_panels, scores.p_t}, block, seen);
  multiply_pairs<T>({call.values, V, s.output_panels, scores.ds_t}, block, seen);
  differentiate_block(call, scores, block, seen);
  if (!is_for_keys) return;
  add_to_keys<T>({scores.p_t, s.output_columns, call.grad_values, V}, block, seen, s.edge);
  add_to_keys<T>({scores.ds_t, s.query_columns, call.grad_keys, D}, block, seen, s.edge);
}

// What find_seen() finds, where ranges have gaps. Keys at the ends that all queries have in their gaps
// are left out, and not read.
template <class T>
[[nodiscard, gnu::noinline]] SeenBlock without_gaps(const QueryBlock<T>& block,
                                                    const BlockScores<T>& s, SeenBlock seen) {
  const Range keys = seen.keys;
  seen.keys = {keys.end, keys.begin};
  seen.queries = {};
  for (Index q = 0; q < block.count; ++q) {
    const Range of_query{(std::max)(s.ranges[q].begin, keys.begin),
                         (std::min)(s.ranges[q].end, keys.end)};
    if (of_query.begin >= of_query.end) continue;
    const auto [begin, end] = detail::without_ends(of_query, s.gaps[q]);
    const bool has_gap = s.gaps[q].begin < keys.end && s.gaps[q].end > keys.begin;
    seen.is_all_seen = seen.is_all_seen && !has_gap;
    if (begin == end) continue;
    if (seen.queries.end == 0) seen.queries.begin = q / panel_width<T> * panel_width<T>;
    seen.queries.end = q + 1;
    seen.keys = {(std::min)(seen.keys.begin, begin), (std::max)(seen.keys.end, end)};
  }
  return seen;
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
  return s.has_gaps ? without_gaps(block, s, seen) : seen;
}

// Over all keys of the task that any of the queries sees.
template <class T>
void backward_query_block(const AttentionBackwardCall<T>& call, const BackwardTask<T>& task,
                          const QueryBlock<T>& block, BackwardScratch<T>& s) {
  Range keys{task.keys.end, task.keys.begin};
  for (Index q = 0; q < block.count; ++q)
    if (!sees_none(s.scores, q))
      keys = {(std::min)(keys.begin, s.scores.ranges[q].begin),
              (std::max)(keys.end, s.scores.ranges[q].end)};
  keys = {(std::max)(keys.begin, task.keys.begin), (std::min)(keys.end, task.keys.end)};
  if (keys.begin >= keys.end) return;
  pack_queries(call, block, s);
  for (Index begin = keys.begin; begin < keys.end;) {
    const Index end = (std::min)(begin / backward_keys * backward_keys + backward_keys, keys.end);
    const SeenBlock seen = find_seen(call, block, s.scores, {begin, end});
    if (seen.queries.count() > 0) {
      backward_block(call, s, block, seen, task.side != BackwardSide::queries);
      task.cut.wait_for_queries(block.index);
      if (task.side != BackwardSide::keys) add_to_queries(call, block, seen, s);
    }
    begin = end;
  }
}

// Elements of scratch memory that a task takes.
template <class T>
[[nodiscard]] Index attend_backward_scratch(const AttentionShape& shape, bool drops) {
  BackwardScratch<T> layout;
  return lay_out<T>(layout, shape, drops, nullptr);
}

// Elements of CutHead::sums.
template <class T>
[[nodiscard]] Index shared_sums(const AttentionBackwardCall<T>& call) {
  return call.most_heads() * call.blocks_per_head() * backward_queries *
         padded_columns<T>(call.shape.D);
}

// Block `index` of the queries that read the task's keys.
template <class T>
[[nodiscard]] QueryBlock<T> query_block_of(const AttentionBackwardCall<T>& call,
                                           const BackwardTask<T>& task, Index index,
                                           const BackwardScratch<T>& s) {
  const Index i = index / call.blocks_per_head();
  const Index h = call.heads.head(call.shape, task.b, task.g, i);
  const Index first = index % call.blocks_per_head() * backward_queries;
  T* const sums = task.cut.sums;
  return {.b = task.b,
          .g = task.g,
          .h = h,
          .number = call.heads.original(h),
          .index = index,
          .first = first,
          .count = (std::min)(backward_queries, call.shape.Q - first),
          .gate = call.gates.at(task.b, h),
          .bias_plane = task.bias_plane(call, i),
          .sums = sums == nullptr ? s.grad_queries : sums + index * backward_queries * s.padded_D};
}

// -sum p gate delta, where p is what the sink takes of each row; nothing goes back through a gate of 0.
template <class T>
[[nodiscard, gnu::noinline]] double sink_gradient(const AttentionBackwardCall<T>& call,
                                                  const QueryBlock<T>& block,
                                                  const BlockScores<T>& s) {
  const T sink = call.sinks[block.h];
  double sum = 0;
  if (block.gate == 0 || detail::is_negative_infinity(sink)) return sum;
  for (Index q = 0; q < block.count; ++q) {
    if (sees_none(s, q)) continue;
    const T p = sink < s.lse[q] ? exp_far_difference(sink, s.lse[q]) : T(1);
    sum = std::fma(-static_cast<double>(p), static_cast<double>(block.gate * s.delta[q]), sum);
  }
  return sum;
}

// The first range of keys begins the sums of a block of queries.
template <class T>
void start_queries(const AttentionBackwardCall<T>& call, const QueryBlock<T>& block,
                   const BackwardScratch<T>& s, HeadSums& sums) {
  std::fill_n(block.sums, block.count * s.padded_D, T(0));
  if (block.first == 0) sums = {};
  const bool is_last = block.first + block.count == call.shape.Q;
  const Index at = block.b * call.shape.H + block.h;
  if (call.grad_sinks != nullptr) {
    sums.of_sink += sink_gradient(call, block, s.scores);
    if (is_last) call.grad_sinks[at] = sums.of_sink;
  }
  if (call.grad_gates == nullptr) return;
  for (Index q = 0; q < block.count; ++q) sums.of_gate += static_cast<double>(s.scores.delta[q]);
  if (is_last) call.grad_gates[at] += static_cast<T>(sums.of_gate);
}

// Gradients of the task's keys and values, and its part of those of the queries that read them; or one
// side of these.
template <class T>
void attend_backward(const AttentionBackwardCall<T>& call, const BackwardTask<T>& task,
                     T* scratch) {
  BackwardScratch<T> s;
  lay_out(s, call.shape, call.dropout != nullptr, scratch);
  std::fill_n(s.edge, backward_keys * panel_width<T>, T(0));
  const bool is_whole = task.side == BackwardSide::both;
  for (Index k = task.keys.begin; is_whole && task.blocks.begin == 0 && k < task.keys.end; ++k) {
    std::fill_n(call.grad_keys.at(task.b, task.g, k), call.shape.D, T(0));
    std::fill_n(call.grad_values.at(task.b, task.g, k), call.shape.V, T(0));
  }
  HeadSums of_task;
  HeadSums& of_head = task.cut.of_head == nullptr ? of_task : *task.cut.of_head;
  for (Index index = task.blocks.begin; index < task.blocks.end; ++index) {
    const QueryBlock<T> block = query_block_of(call, task, index, s);
    find_queries(call, block, s.scores);
    task.cut.wait_for_keys(index);
    if (is_whole && task.keys.begin == 0) start_queries(call, block, s, of_head);
    if (block.gate != 0) backward_query_block(call, task, block, s);
    if (!is_whole || task.keys.end < call.shape.K) continue;
    task.cut.wait_for_queries(index);
    put_queries(call, block, s.padded_D);
  }
}
