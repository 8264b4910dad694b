// SPDX-License-Identifier: MIT
// The rows of queries that a task works on: what they see, their state from one block of keys to
// the next, and what becomes of it in the end.

template <class T>
inline constexpr TileSize tile_size{tile_rows, panel_width<T>};

template <class T>
[[nodiscard]] constexpr Index padded_columns(Index columns) {
  return (columns + panel_width<T> - 1) / panel_width<T> * panel_width<T>;
}

// to = factor * from
template <class T>
void scale_row(const T* from, Index count, T factor, T* to) {
  constexpr Index S = Register<T>::width;
  const Register<T> factors = broadcast(factor);
  Index i = 0;
  for (; i + S <= count; i += S) store(to + i, mul(factors, load(from + i)));
  for (; i < count; ++i) to[i] = factor * from[i];
}

// A gate of 0 leaves nothing of a row, not even NaN.
template <class T>
void gate_row(T* row, Index count, T gate) {
  if (gate == 0)
    std::fill_n(row, count, T(0));
  else
    scale_row(row, count, gate, row);
}

// Scales the queries, finds what they may see, and starts with m = lowest, l = 0; O is written by
// the first block.
template <class T>
void begin_rows(const AttentionCall<T>& call, const RowTask& task, RowState<T>& rows) {
  const Index D = call.shape.D;
  find_ranges(call, task, rows);
  const bool all_see = rows.have_one_range && rows.ranges[0].begin < rows.ranges[0].end;
  for_each_run(call, task, [&](Index first, Index count, Index h, Index q) {
    const T* from = call.queries.at(task.b, h, q);
    T* to = rows.queries + first * D;
    if (all_see && call.queries.row_stride == D) return scale_row(from, count * D, call.scale, to);
    for (Index i = first; i < first + count; ++i, from += call.queries.row_stride, to += D) {
      // Where a row sees nothing it may be padding, which nobody has written.
      if (rows.ranges[i].begin == rows.ranges[i].end)
        std::fill_n(to, D, T(0));
      else
        scale_row(from, D, call.scale, to);
    }
  });
  if (call.weights.is_given() || call.scores.is_given()) begin_kept(call, task);
  std::fill_n(rows.maximum, query_block, std::numeric_limits<T>::lowest());
  std::fill_n(rows.sum, query_block, T(0));
}

// P = e^(s - m_b) e^(m_b - m) / l, of some of a row's keys
template <class T>
void scale_weights(T* weights, const std::uint8_t* allowed, const RowState<T>& rows, Index i,
                   Range keys, T reciprocal) {
  for (Index begin = keys.begin; begin < keys.end;) {
    const Index number = begin / key_block<T>;
    const Index end = (std::min)((number + 1) * key_block<T>, keys.end);
    const T factor = reciprocal * exp_far_difference(rows.block_maxima[number * query_block + i],
                                                     rows.maximum[i]);
    for (; begin < end; ++begin)
      weights[begin] = allowed == nullptr || allowed[begin] != 0 ? weights[begin] * factor : T(0);
  }
}
template <class T>
void finish_weights(T* weights, const std::uint8_t* allowed, const RowState<T>& rows, Index i,
                    T reciprocal) {
  const Range gap = gap_within(rows, i, 0, rows.ranges[i]);
  for (const Range& side : sides_of(rows.ranges[i], gap))
    scale_weights(weights, allowed, rows, i, side, reciprocal);
  std::fill(weights + gap.begin, weights + gap.end, T(0));
}

// m' and l' of rows that go from (m, l) to the next block, (m_b, l_b), and e^(m - m'), e^(m_b - m').
template <class T>
struct MergedSums {
  Register<T> maximum, sum, keep, take;
};
template <class T>
[[nodiscard]] EIGEN_ALWAYS_INLINE MergedSums<T> merged_sums(Register<T> m, Register<T> l,
                                                            Register<T> m_b, Register<T> l_b) {
  const Register<T> merged = max(m, m_b);
  const Register<T> keep = exp_far_difference(m, merged), take = exp_far_difference(m_b, merged);
  return {merged, fma(l, keep, mul(take, l_b)), keep, take};
}

// m, l and the two factors of the merge, for all rows at once. A row without a key in this block
// has l_b = 0 and keeps its bits.
template <class T>
void merge_sums(const RowState<T>& rows) {
  constexpr Index S = Register<T>::width;
  for (Index i = 0; i < rows.count; i += S) {
    const MergedSums<T> next = merged_sums(load(rows.maximum + i), load(rows.sum + i),
                                           load(rows.block_maximum + i), load(rows.block_sum + i));
    store(rows.keep + i, next.keep);
    store(rows.take + i, next.take);
    store(rows.maximum + i, next.maximum);
    store(rows.sum + i, next.sum);
  }
}

// O = O e^(m - m') + O_b e^(m_b - m'), for rows [first, first + count); O_b is the product.
template <class T>
void merge_output(const RowState<T>& rows, Index first, Index count) {
  constexpr Index S = Register<T>::width;
  for (Index i = 0; i < count; ++i) {
    T* output = rows.output + (first + i) * rows.padded_V;
    const T* product = rows.product + i * rows.padded_V;
    const Register<T> keep = broadcast(rows.keep[first + i]);
    const Register<T> take = broadcast(rows.take[first + i]);
    for (Index v = 0; v < rows.padded_V; v += S)
      store(output + v, fma(keep, load(output + v), mul(take, load(product + v))));
  }
}

// 1 / l, or 1 of an empty row's 0. A sum, because compilers divide by both sides of a choice.
template <class T>
[[nodiscard]] EIGEN_ALWAYS_INLINE T reciprocal_of_sum(T l) {
  return T(1) / (l + T(detail::is_zero(l)));
}

// e^m / (l e^m + e^sink): what O is multiplied with in a head that has a sink. The larger of the two
// powers is taken for 1. A row that sees no key has none of the other either.
template <class T>
[[nodiscard]] T reciprocal_with_sink(T m, T l, T sink) {
  if (detail::is_zero(l) || detail::is_negative_infinity(sink)) return reciprocal_of_sum(l);
  if (!(sink > m)) return T(1) / (l + exp_far_difference(sink, m));
  const T keep = exp_far_difference(m, sink);
  return keep / std::fma(l, keep, T(1));
}

// The same of all rows, in the place of e^(m_b - m'), which nobody needs any more. Apart from the loop
// that reads it, which a call in its midst would slow down.
template <class T>
[[gnu::noinline]] void add_sinks(const AttentionCall<T>& call, const RowTask& task,
                                 const RowState<T>& rows) {
  for_each_row(call, task, [&](Index i, Index h, Index) {
    rows.take[i] = reciprocal_with_sink(rows.maximum[i], rows.sum[i], call.sinks[h]);
  });
}

// log(e^lse + e^sink): what the weights of such a row are e^(s - ...) of.
template <class T>
[[nodiscard]] T lse_with_sink(T lse, T sink) {
  if (detail::is_negative_infinity(lse) || detail::is_negative_infinity(sink)) return lse;
  const bool is_above = sink > lse;
  const T top = is_above ? sink : lse, other = is_above ? lse : sink;
  return top + natural_log(T(1) + exp_far_difference(other, top));
}

// 1 / l of all rows, or 1 of an empty row's 0, in the place of e^(m_b - m'), which nobody needs any
// more: l is 0, or 1 and more. Returns whether any row is empty. One row's l is divided in a register
// too: under -ffast-math, a compiler makes another division of that than of a number.
template <class T>
bool find_reciprocals(const RowState<T>& rows) {
  constexpr Index S = Register<T>::width;
  const Register<T> one = broadcast(T(1)), none = broadcast(T(0));
  const Register<T> least = broadcast((std::numeric_limits<T>::min)());
  for (Index i = 0; i < rows.count; i += S) {
    // A sum, as in reciprocal_of_sum.
    const Register<T> l = load(rows.sum + i);
    store(rows.take + i, div(one, add(l, select_below(l, least, one, none))));
  }
  bool any = false;
  for (Index i = 0; i < rows.count; ++i) any |= detail::is_zero(rows.sum[i]);
  return any;
}

// m + log l of all rows, to the caller: row by row, logarithms took 3 % of a head of 16 to 64 keys.
template <class T>
void end_lse(const AttentionCall<T>& call, const RowTask& task, const RowState<T>& rows) {
  constexpr Index S = Register<T>::width;
  for (Index i = 0; i < rows.count; i += S)
    store(rows.keep + i, add(load(rows.maximum + i), log_register(load(rows.sum + i))));
  for_each_run(call, task, [&](Index first, Index count, Index h, Index q) {
    T* to = call.lse.at(task.b, h, q);
    for (Index i = first; i < first + count; ++i, to += call.lse.row_stride) {
      const T l = rows.sum[i];
      if (detail::is_zero(l))
        *to = -detail::infinity<T>;
      else
        *to = detail::is_nan(l) ? l : rows.keep[i];
    }
  });
}

// O / l, times the gate, into the caller's memory, and what else was asked for. A sink enters here,
// and not into the log-sum-exp: rows over some of the keys can still be merged. l is 0 only where a
// row sees no key at all, or none above -inf.
template <class T>
void end_rows(const AttentionCall<T>& call, const RowTask& task, const RowState<T>& rows) {
  const Index V = call.shape.V;
  const bool any_is_empty = find_reciprocals(rows);
  if (call.sinks != nullptr) add_sinks(call, task, rows);
  for_each_run(call, task, [&](Index first, Index count, Index h, Index q) {
    const T* from = rows.output + first * rows.padded_V;
    T* to = call.output.at(task.b, h, q);
    const T gate = call.gates.at(task.b, h);
    for (Index i = first; i < first + count;
         ++i, from += rows.padded_V, to += call.output.row_stride) {
      if (any_is_empty && detail::is_zero(rows.sum[i]))
        std::fill_n(to, V, T(0));
      else
        scale_row(from, V, rows.take[i], to);
      if (gate != 1) gate_row(to, V, gate);
    }
  });
  if (call.lse.is_given()) end_lse(call, task, rows);
  if (!call.weights.is_given()) return;
  for_each_row(call, task, [&](Index i, Index h, Index q) {
    finish_weights(call.weights.at(task.b, h, q),
                   call.mask->allowed_row(task.b, call.heads.original(h), q), rows, i,
                   rows.take[i]);
  });
}

// Elements of what save_rows() saves.
template <class T>
[[nodiscard]] Index partial_size(const AttentionShape& shape) {
  return query_block * (2 + padded_columns<T>(shape.V));
}

// What attend_block does with the product of one block, for a block that was saved by itself.
template <class T>
void merge_rows(const RowState<T>& rows, const T* partial, bool is_first) {
  std::copy_n(partial, query_block, rows.block_maximum);
  std::copy_n(partial + query_block, query_block, rows.block_sum);
  merge_sums(rows);
  const T* output = partial + 2 * query_block;
  if (is_first) {
    std::copy_n(output, rows.count * rows.padded_V, rows.output);
    return;
  }
  for (Index i = 0; i < rows.count; ++i) {
    std::copy_n(output + i * rows.padded_V, rows.padded_V, rows.product);
    merge_output(rows, i, 1);
  }
}
