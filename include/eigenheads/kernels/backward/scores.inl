// SPDX-License-Identifier: MIT
// Backward through the softmax and the score function, of a block of keys and queries between its
// products. Both sides are transposed: a row is a key, and what belongs to a query is a vector.
//   P^T = exp(S^T - lse)                              in place of S^T
//   dS^T = P^T (F^T dP^T - delta)                     in place of dP^T; F: dropout's factors
//   dZ^T = dS^T score'(Z^T),  dbias += dS             where there is a score function, S = score(Z)

// The rows of a block are apart by a cache line more, or a column of it would be in a few sets of the
// first-level cache.
using detail::backward_keys, detail::backward_queries;
template <class T>
inline constexpr Index backward_stride = backward_queries + 64 / Index{sizeof(T)};

// Queries [first, first + count) of query head i of a task, at most backward_queries.
template <class T>
struct QueryBlock {
  Index b, g, h;
  Index number;  // what masks, score functions and dropout call the head
  Index index;   // among all blocks of the key/value head
  Index first, count;
  T gate;
  T* bias_plane;  // where the gradient of the bias goes, or null
  T* sums;        // of dQ: [queries, padded D]
};

// Keys [keys.begin, keys.end), and which queries of a block, counted from its first, see any of
// them: none, or those from a multiple of a panel to the last that does.
struct SeenBlock {
  Range keys, queries;
  bool is_all_seen;
};

// What belongs to the pairs of a block, [backward_keys, backward_stride], and to its queries.
template <class T>
struct BlockScores {
  T *p_t, *ds_t;   // S^T, then P^T after dropout; dP^T, then dS^T
  T* factors;      // of dropout; null without it
  T *lse, *delta;  // by query; both are 0 for one that sees no key and for one that is not there
  Range* ranges;   // of keys that a query sees,
  Range* gaps;     // and the keys of these that it does not; not there to be read without has_gaps
  std::uint8_t* seen;  // of one key, by each query
  bool has_gaps;
  bool keeps_nan;  // dO is not finite: then its columns are, and P has the NaN for them
};

// Key k is in the gaps of some queries.
template <class T>
[[gnu::noinline]] void hide_gaps(const BlockScores<T>& s, Range queries, Index k) {
  for (Index q = queries.begin; q < queries.end; ++q)
    if (k >= s.gaps[q].begin && k < s.gaps[q].end) s.seen[q] = 0;
}

// One key and the queries of a block.
template <class T>
struct ScoreRow {
  T *p, *ds;                 // S and dP, which become P (after dropout) and dS
  const T* factors;          // null: no dropout
  const std::uint8_t* seen;  // null: all of them
};

// A hidden score may be anything: it is taken for lse, so that its exponential is nothing special,
// and gives 0. A score of -inf hides its key as well: dS is 0 whatever dP is.
template <class T>
void differentiate_row(const BlockScores<T>& s, const ScoreRow<T>& row, Range queries) {
  constexpr Index S = Register<T>::width;
  const Register<T> zero = broadcast(T(0));
  const Register<T> lowest = broadcast(std::numeric_limits<T>::lowest());
  for (Index q = queries.begin; q < queries.end; q += S) {
    const Register<T> lse = load(s.lse + q);
    Register<T> score = load(row.p + q);
    if (row.seen != nullptr) score = select(row.seen + q, score, lse);
    Register<T> p = exp_difference(score, lse);
    const Register<T> factor = row.factors == nullptr ? broadcast(T(1)) : load(row.factors + q);
    Register<T> ds = mul(p, fma(load(row.ds + q), factor, sub(zero, load(s.delta + q))));
    if (row.seen == nullptr) ds = zero_if_below(ds, score, lowest);
    if (s.keeps_nan) p = fma(ds, zero, p);
    if (row.seen != nullptr) {
      p = select(row.seen + q, p, zero);
      ds = select(row.seen + q, ds, zero);
    }
    store(row.p + q, row.factors == nullptr ? p : mul(p, factor));
    store(row.ds + q, ds);
  }
}

// dS of key k, by the score after the function, becomes that by the score before it.
template <class T>
void differentiate_score(const AttentionBackwardCall<T>& call, const QueryBlock<T>& block,
                         const ScoreRow<T>& row, const T* slopes, Index k, Range queries) {
  const Index of_q = call.score.bias_strides[2], of_k = call.score.bias_strides[3];
  for (Index q = queries.begin; q < queries.end; ++q) {
    if (row.seen[q] == 0) continue;
    if (block.bias_plane != nullptr)
      block.bias_plane[(block.first + q) * of_q + k * of_k] += row.ds[q];
    row.ds[q] *= slopes[q];
  }
}

// Lanes of a register beyond the last query count like a query that drops nothing.
template <class T>
void find_factors(const AttentionBackwardCall<T>& call, const QueryBlock<T>& block,
                  const SeenBlock& seen, T* factors) {
  constexpr Index S = Register<T>::width;
  const auto [begin, end] = seen.keys;
  for (Index q = seen.queries.begin; q < (seen.queries.end + S - 1) / S * S; ++q) {
    T of_query[backward_keys];
    if (q < seen.queries.end)
      call.dropout->factors(block.b, block.number, block.first + q, begin, end, of_query);
    else
      std::fill_n(of_query, end - begin, T(1));
    for (Index k = 0; k < end - begin; ++k) factors[k * backward_stride<T> + q] = of_query[k];
  }
}

template <class T>
void differentiate_block(const AttentionBackwardCall<T>& call, const BlockScores<T>& s,
                         const QueryBlock<T>& block, const SeenBlock& seen) {
  const auto [from, to] = seen.queries;
  if (call.dropout != nullptr) find_factors(call, block, seen, s.factors);
  const std::uint8_t* allowed[backward_queries];
  for (Index q = from; q < to; ++q)
    allowed[q] = call.mask->allowed_row(block.b, block.number, block.first + q);
  const Index aligned = call.mask->aligned(block.b, block.first);
  T slopes[backward_queries];
  for (Index k = seen.keys.begin; k < seen.keys.end; ++k) {
    const Index offset = (k - seen.keys.begin) * backward_stride<T>;
    const ScoreRow<T> row{.p = s.p_t + offset,
                          .ds = s.ds_t + offset,
                          .factors = call.dropout == nullptr ? nullptr : s.factors + offset,
                          .seen = seen.is_all_seen ? nullptr : s.seen};
    if (call.score.apply != nullptr)
      call.score.apply(call.score.score, row.p, slopes, from, to,
                       detail::score_position(block.b, block.number, block.first, k, aligned));
    if (!seen.is_all_seen) {
      std::fill_n(s.seen, backward_queries, std::uint8_t{0});
      for (Index q = from; q < to; ++q)
        s.seen[q] = k >= s.ranges[q].begin && k < s.ranges[q].end &&
                    (allowed[q] == nullptr || allowed[q][k] != 0) &&
                    !detail::is_negative_infinity(row.p[q]);
      if (s.has_gaps) hide_gaps(s, {from, to}, k);
    }
    differentiate_row(s, row, seen.queries);
    if (call.score.apply != nullptr) differentiate_score(call, block, row, slopes, k, seen.queries);
  }
}
