// SPDX-License-Identifier: MIT
// Backward of fused attention. The weights of a block of keys and queries are computed again, from
// the log-sum-exp; blocks are transposed, keys by queries, so that what belongs to a query is a
// vector:
//   S^T = K Q^T                      P^T = exp(S^T - lse)
//   dP^T = V dO^T                    dS^T = P^T (dP^T - delta),   delta = sum_v dO O
//   dV += P^T dO    dK += dS^T Q     dQ += dS K
// Dao, "FlashAttention-2", 2023, algorithm 2. A task is one key/value head with all of its queries,
// its sums in a fixed order: any number of threads gives the same bits.

// Keys and queries of a block. Its rows are apart by a cache line more, or a column of it would be
// in a few sets of the first-level cache.
inline constexpr Index backward_keys = 96, backward_queries = 128;
template <class T>
inline constexpr Index backward_stride = backward_queries + 64 / Index{sizeof(T)};

template <class T>
struct BackwardScratch {
  // Of one query head: Q / sqrt(D) and dO, as rows on the right of a product and as columns.
  T *query_panels, *query_columns, *output_panels, *output_columns;
  T *lse, *delta;
  Range* ranges;
  T *grad_queries, *grad_keys, *grad_values;  // sums: [Q, padded D], [K, padded D], [K, padded V]
  T* key_columns;                             // of a block
  T *weights, *scores, *factors;              // of a block: P^T, dS^T, and what dropout makes of P
  std::uint8_t* seen;                         // of one key, by each query
  Index padded_Q, padded_D, padded_V;
  bool keeps_nan;  // dO is not finite: then its columns are, and P has the NaN for them
};

template <class T>
Index lay_out(BackwardScratch<T>& s, const AttentionShape& shape, bool drops, T* memory) {
  s.padded_Q = padded_columns<T>(shape.Q);
  s.padded_D = padded_columns<T>(shape.D);
  s.padded_V = padded_columns<T>(shape.V);
  Cutter<T> cutter(memory);
  s.query_panels = cutter.take(s.padded_Q * shape.D);
  s.query_columns = cutter.take(s.padded_Q * s.padded_D);
  s.output_panels = cutter.take(s.padded_Q * shape.V);
  s.output_columns = cutter.take(s.padded_Q * s.padded_V);
  s.lse = cutter.take(s.padded_Q);
  s.delta = cutter.take(s.padded_Q);
  s.ranges = cutter.template take_as<Range>(s.padded_Q);
  s.grad_queries = cutter.take(s.padded_Q * (std::max)(s.padded_D, s.padded_V));
  s.grad_keys = cutter.take(shape.K * s.padded_D);
  s.grad_values = cutter.take(shape.K * s.padded_V);
  s.key_columns = cutter.take(backward_keys * s.padded_D);
  s.weights = cutter.take(backward_keys * backward_stride<T>);
  s.scores = cutter.take(backward_keys * backward_stride<T>);
  s.factors = cutter.take(drops ? backward_keys * backward_stride<T> : 0);
  s.seen = cutter.template take_as<std::uint8_t>(backward_queries);
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

// Where a number of a query or of a key is not finite, neither is any dS that it belongs to: so 0
// may stand for it in the other factor of a product, where it does no harm to those that do not see
// it.
template <class T>
void make_finite(T* x, Index count) {
  for (Index i = 0; i < count; ++i)
    if (!detail::is_finite(x[i])) x[i] = T(0);
}

// Queries, gradients of outputs and what they need, of one query head; the gradient of its gate is
// the sum of what delta is without it. A query that sees no key has weights of 0 whatever the
// scores, and rows of 0.
template <class T>
void begin_head(const AttentionBackwardCall<T>& call, Index b, Index h, BackwardScratch<T>& s) {
  const auto [B, H, G, Q, K, D, V] = call.shape;
  const Index number = call.heads.original(h);
  const T gate = call.gates.at(b, h);
  std::fill_n(s.lse, s.padded_Q, (std::numeric_limits<T>::max)());
  std::fill_n(s.delta, s.padded_Q, T(0));
  const auto sees_none = [&](Index q) { return s.ranges[q].begin == s.ranges[q].end; };
  double of_gate = 0;
  for (Index q = 0; q < Q; ++q) {
    const T lse = call.lse[call.row(b, h, q)];
    s.ranges[q] =
        detail::is_negative_infinity(lse) ? Range{} : call.mask->key_range(b, number, q);
    if (sees_none(q)) continue;
    s.lse[q] = lse;
    const T slope = dot(call.grad_output.at(b, h, q), call.output.at(b, h, q), V);
    s.delta[q] = gate * slope;
    of_gate += static_cast<double>(slope);
  }
  if (call.grad_gates != nullptr) call.grad_gates[b * H + h] += static_cast<T>(of_gate);
  if (gate == 0) return;
  T* rows = s.grad_queries;  // not in use yet
  for (Index q = 0; q < Q; ++q)
    if (sees_none(q))
      std::fill_n(rows + q * D, D, T(0));
    else
      scale_row(call.queries.at(b, h, q), D, call.scale, rows + q * D);
  pack_panels(rows, D, {0, Q}, D, s.query_panels);
  if (!pack_columns<T>({rows, D, Q, D, s.query_columns, s.padded_Q * panel_width<T>}))
    make_finite(s.query_columns, s.padded_Q * s.padded_D);
  for (Index q = 0; q < Q; ++q)
    if (sees_none(q))
      std::fill_n(rows + q * V, V, T(0));
    else
      scale_row(call.grad_output.at(b, h, q), V, gate, rows + q * V);
  pack_panels(rows, V, {0, Q}, V, s.output_panels);
  s.keeps_nan = !pack_columns<T>({rows, V, Q, V, s.output_columns, s.padded_Q * panel_width<T>});
  if (s.keeps_nan) make_finite(s.output_columns, s.padded_Q * s.padded_V);
  std::fill_n(s.grad_queries, Q * s.padded_D, T(0));
}

// One key and some queries: S becomes P (after dropout), dP becomes dS. seen: null, or a byte a
// query; factors: null, or what dropout multiplies with.
template <class T>
void differentiate_row(T* weights, T* scores, const T* lse, const T* delta,
                       const std::uint8_t* seen, const T* factors, bool keeps_nan, Index begin,
                       Index end) {
  constexpr Index S = Register<T>::width;
  const Register<T> zero = broadcast(T(0));
  for (Index q = begin; q < end; q += S) {
    Register<T> p = exp_difference(load(weights + q), load(lse + q));
    const Register<T> factor = factors == nullptr ? broadcast(T(1)) : load(factors + q);
    Register<T> ds = mul(p, fma(load(scores + q), factor, sub(zero, load(delta + q))));
    if (keeps_nan) p = fma(ds, zero, p);
    if (seen != nullptr) {
      p = select(seen + q, p, zero);
      ds = select(seen + q, ds, zero);
    }
    store(weights + q, factors == nullptr ? p : mul(p, factor));
    store(scores + q, ds);
  }
}

// Keys [begin, end) with the queries [first, last) of a block that begins at a multiple of
// backward_queries; what is seen of it by any of them. h: what masks call the head.
struct BackwardBlock {
  Index b, h, begin, end, first, last;
  bool is_all_seen;
};

// dS of one key, by the score after the function, becomes that by the score before it.
template <class T>
void differentiate_score(const ScoreBackward<T>& score, const BackwardBlock& block,
                         const std::uint8_t* seen, Index q0, Index k, const T* slopes, T* scores) {
  const auto [of_b, of_h, of_q, of_k] = score.bias_strides;
  for (Index q = block.first; q < block.last; ++q) {
    if (seen[q - q0] == 0) continue;
    if (score.grad_bias != nullptr)
      score.grad_bias[block.b * of_b + block.h * of_h + q * of_q + k * of_k] += scores[q - q0];
    scores[q - q0] *= slopes[q - q0];
  }
}

template <class T>
void differentiate_block(const AttentionBackwardCall<T>& call, const BackwardScratch<T>& s,
                         const BackwardBlock& block) {
  constexpr Index stride = backward_stride<T>;
  const Index q0 = block.first / backward_queries * backward_queries, count = block.last - q0;
  if (call.dropout != nullptr)
    for (Index q = block.first; q < block.last; ++q) {
      T factors[backward_keys];
      call.dropout->factors(block.b, block.h, q, block.begin, block.end, factors);
      for (Index k = 0; k < block.end - block.begin; ++k)
        s.factors[k * stride + q - q0] = factors[k];
    }
  const std::uint8_t* allowed[backward_queries];
  for (Index q = block.first; q < block.last; ++q)
    allowed[q - q0] = call.mask->allowed_row(block.b, block.h, q);
  const Index from = block.first - q0;
  T slopes[backward_queries];
  for (Index k = block.begin; k < block.end; ++k) {
    T* weights = s.weights + (k - block.begin) * stride;
    T* scores = s.scores + (k - block.begin) * stride;
    if (call.score.apply != nullptr)
      call.score.apply(
          call.score.score, weights, slopes, from, count,
          detail::score_position(block.b, block.h, q0, k, call.mask->aligned(block.b, q0)));
    if (!block.is_all_seen) {
      std::fill_n(s.seen, backward_queries, std::uint8_t{0});
      for (Index q = block.first; q < block.last; ++q)
        s.seen[q - q0] = k >= s.ranges[q].begin && k < s.ranges[q].end &&
                         (allowed[q - q0] == nullptr || allowed[q - q0][k] != 0) &&
                         !detail::is_negative_infinity(weights[q - q0]);
    }
    differentiate_row(weights, scores, s.lse + q0, s.delta + q0,
                      block.is_all_seen ? nullptr : s.seen,
                      call.dropout == nullptr ? nullptr : s.factors + (weights - s.weights),
                      s.keeps_nan, from, count);
    if (call.score.apply != nullptr)
      differentiate_score(call.score, block, s.seen, q0, k, slopes, scores);
  }
}

template <class T>
void backward_block(const AttentionBackwardCall<T>& call, Index g, const BackwardScratch<T>& s,
                    const BackwardBlock& block) {
  constexpr Index W = panel_width<T>, stride = backward_stride<T>;
  const Index D = call.shape.D, V = call.shape.V;
  const Index keys = block.end - block.begin;
  const Index q0 = block.first / backward_queries * backward_queries;
  const Index column = block.first - q0, queries = block.last - block.first;
  const T* key_rows = call.keys.at(block.b, g, block.begin);
  const T* value_rows = call.values.at(block.b, g, block.begin);
  const Index key_stride = call.keys.row_stride, value_stride = call.values.row_stride;
  // S^T = K Q^T and dP^T = V dO^T
  for (Index q = block.first; q < block.last; q += W)
    for_each_tile(keys, [&](Index k, Index count) {
      multiply_tile<T>(count, {.a = key_rows + k * key_stride,
                               .a_stride = key_stride,
                               .b = s.query_panels + q * D,
                               .b_stride = W,
                               .depth = D,
                               .c = s.weights + k * stride + q - q0,
                               .c_stride = stride});
      multiply_tile<T>(count, {.a = value_rows + k * value_stride,
                               .a_stride = value_stride,
                               .b = s.output_panels + q * V,
                               .b_stride = W,
                               .depth = V,
                               .c = s.scores + k * stride + q - q0,
                               .c_stride = stride});
    });
  differentiate_block(call, s, block);
  // dV += P^T dO
  for (Index v = 0; v < s.padded_V; v += W)
    for_each_tile(keys, [&](Index k, Index count) {
      multiply_tile<T>(count, {.a = s.weights + k * stride + column,
                               .a_stride = stride,
                               .b = s.output_columns + v * s.padded_Q + block.first * W,
                               .b_stride = W,
                               .depth = queries,
                               .c = s.grad_values + (block.begin + k) * s.padded_V + v,
                               .c_stride = s.padded_V,
                               .adds = true});
    });
  // dK += dS^T Q
  for (Index d = 0; d < s.padded_D; d += W)
    for_each_tile(keys, [&](Index k, Index count) {
      multiply_tile<T>(count, {.a = s.scores + k * stride + column,
                               .a_stride = stride,
                               .b = s.query_columns + d * s.padded_Q + block.first * W,
                               .b_stride = W,
                               .depth = queries,
                               .c = s.grad_keys + (block.begin + k) * s.padded_D + d,
                               .c_stride = s.padded_D,
                               .adds = true});
    });
  // dQ += dS K
  for (Index d = 0; d < s.padded_D; d += W)
    for_each_tile(queries, [&](Index q, Index count) {
      transposed_products<T>[static_cast<std::size_t>(count - 1)](
          {.a = s.scores + column + q,
           .a_stride = stride,
           .b = s.key_columns + d * backward_keys,
           .b_stride = W,
           .depth = keys,
           .c = s.grad_queries + (block.first + q) * s.padded_D + d,
           .c_stride = s.padded_D,
           .adds = true});
    });
}

// What the queries of a block see of keys [begin, end): none, or those from the first that sees any
// on, at a multiple of a panel.
template <class T>
[[nodiscard]] BackwardBlock find_block(const AttentionBackwardCall<T>& call,
                                       const BackwardScratch<T>& s, Index b, Index h, Index begin,
                                       Index end, Index first, Index last) {
  BackwardBlock block{b,
                      h,
                      begin,
                      end,
                      last,
                      first,
                      !call.mask->hides_single_keys() && call.score.apply == nullptr};
  for (Index q = first; q < last; ++q) {
    const Range range = s.ranges[q];
    const bool sees_any = range.begin < end && range.end > begin;
    const bool sees_all = range.begin <= begin && range.end >= end;
    if (sees_any) {
      block.first = (std::min)(block.first, q / panel_width<T> * panel_width<T>);
      block.last = q + 1;
    }
    block.is_all_seen = block.is_all_seen && sees_all;
  }
  return block;
}

template <class T>
void backward_head(const AttentionBackwardCall<T>& call, Index b, Index g, Index h,
                   BackwardScratch<T>& s) {
  const auto [B, H, G, Q, K, D, V] = call.shape;
  const Index number = call.heads.original(h);
  begin_head(call, b, h, s);
  if (call.gates.at(b, h) == 0) {  // nothing goes back through it
    for (Index q = 0; q < Q; ++q) std::fill_n(call.grad_queries.at(b, h, q), D, T(0));
    return;
  }
  const Range seen = call.mask->seen_keys(b);
  for (Index block = seen.begin / backward_keys; block * backward_keys < seen.end; ++block) {
    const Index begin = (std::max)(block * backward_keys, seen.begin);
    const Index end = (std::min)((block + 1) * backward_keys, seen.end);
    if (!pack_columns<T>({call.keys.at(b, g, begin), call.keys.row_stride, end - begin, D,
                          s.key_columns, backward_keys * panel_width<T>}))
      make_finite(s.key_columns, backward_keys * s.padded_D);
    for (Index first = 0; first < Q; first += backward_queries) {
      const auto found = find_block(call, s, b, number, begin, end, first,
                                    (std::min)(first + backward_queries, Q));
      if (found.first < found.last) backward_block(call, g, s, found);
    }
  }
  for (Index q = 0; q < Q; ++q)
    scale_row(s.grad_queries + q * s.padded_D, D, call.scale, call.grad_queries.at(b, h, q));
}

// Elements of scratch memory that a task takes.
template <class T>
[[nodiscard]] Index attend_backward_scratch(const AttentionShape& shape, bool drops) {
  BackwardScratch<T> layout;
  return lay_out<T>(layout, shape, drops, nullptr);
}

// A task: gradients of the keys and values of key/value head g, and of all queries that read it.
template <class T>
void attend_backward(const AttentionBackwardCall<T>& call, Index b, Index g, T* scratch) {
  const auto [B, H, G, Q, K, D, V] = call.shape;
  BackwardScratch<T> s;
  lay_out(s, call.shape, call.dropout != nullptr, scratch);
  std::fill_n(s.grad_keys, K * s.padded_D, T(0));
  std::fill_n(s.grad_values, K * s.padded_V, T(0));
  for (Index i = 0; i < call.heads.count(call.shape, b, g); ++i)
    backward_head(call, b, g, call.heads.head(call.shape, b, g, i), s);
  for (Index k = 0; k < K; ++k) {
    std::copy_n(s.grad_keys + k * s.padded_D, D, call.grad_keys.at(b, g, k));
    std::copy_n(s.grad_values + k * s.padded_V, V, call.grad_values.at(b, g, k));
  }
}
