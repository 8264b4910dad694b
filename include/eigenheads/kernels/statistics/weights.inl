// SPDX-License-Identifier: MIT
// What the weights of attention are like, row by row, when their scores are computed again: of a
// row with the log-sum-exp lse,
//   P = exp(S - lse),   ln P = S - lse
// No weight is kept, and no value is read. A block's sums are made in the lanes of a softmax's, and
// added from left to right in double: a row's bits depend on nothing but what it sees (contract
// C3).

// A row between two blocks of keys.
template <class T>
struct RowSums {
  double sum = 0, squares = 0, logarithms = 0;  // of p, p^2 and p ln p
  T maximum = 0;                                // of the scores
  Index keys = 0;
  Index offset = 0;  // of that maximum from `beside`, where it is -1, 0 or 1; else any other
};

template <class T>
[[nodiscard]] double sum_of(const Register<T>* lanes) {
  constexpr Index S = Register<T>::width;
  T folded[sum_lanes];
#pragma GCC unroll 16
  for (Index i = 0; i < sum_lanes / S; ++i) store(folded + i * S, lanes[i]);
  return static_cast<double>(fold(folded));
}

// The keys of a row that are left in [seen.begin, seen.end), where the hidden ones have -inf.
template <class T>
[[nodiscard]] Index count_keys(const T* scores, const SeenKeys& seen) {
  if (all_finite(scores + seen.begin, 0, 1, seen.end - seen.begin)) return seen.end - seen.begin;
  Index count = 0;
  for (Index k = seen.begin; k < seen.end; ++k)
    count += detail::is_negative_infinity(scores[k]) ? 0 : 1;
  return count;
}

// One row of scores of one block; `beside` is the key that stands beside its query.
template <class T>
void add_scores(T* scores, const SeenKeys& seen, T lse, Index beside, RowSums<T>& row) {
  constexpr Index S = Register<T>::width, N = sum_lanes / S;
  const Index first = seen.begin / sum_lanes * sum_lanes;
  const Index last = (seen.end + sum_lanes - 1) / sum_lanes * sum_lanes;
  hide(scores, seen, -detail::infinity<T>);
  const Index keys = count_keys(scores, seen);
  if (keys == 0) return;
  // Then the row's maximum is above 0 too, so it is none of those that this changes.
  if (lse > far_score<T>) raise_to_zero(scores, first, last);

  const Register<T> of_row = broadcast(lse), lowest = broadcast(std::numeric_limits<T>::lowest());
  Register<T> maximum[N], sum[N], squares[N], logarithms[N];
#pragma GCC unroll 16
  for (Index i = 0; i < N; ++i) {
    maximum[i] = lowest;
    sum[i] = squares[i] = logarithms[i] = broadcast(T(0));
  }
  for (Index k = first; k < last; k += sum_lanes)
#pragma GCC unroll 16
    for (Index i = 0; i < N; ++i) {
      const Register<T> s = load(scores + k + i * S);
      const Register<T> log_p = max(sub(s, of_row), lowest);  // finite: 0 ln 0 is 0
      const Register<T> p = exp_register(log_p);
      maximum[i] = max(s, maximum[i]);
      sum[i] = add(sum[i], p);
      squares[i] = fma(p, p, squares[i]);
      logarithms[i] = fma(p, log_p, logarithms[i]);
    }
  row.sum += sum_of(sum);
  row.squares += sum_of(squares);
  row.logarithms += sum_of(logarithms);

  T folded[sum_lanes];
  for (Index i = 0; i < N; ++i) store(folded + i * S, maximum[i]);
  const T top = *std::max_element(folded, folded + sum_lanes);
  if (row.keys == 0 || top > row.maximum) {
    row.maximum = top;
    row.offset = std::numeric_limits<Index>::max();
    // A row is searched only if its maximum may be where it counts.
    for (Index k = (std::max)(seen.begin, beside - 1); k < (std::min)(seen.end, beside + 2); ++k)
      if (scores[k] == top) {
        row.offset = std::find(scores + seen.begin, scores + k, top) - scores - beside;
        break;
      }
  }
  row.keys += keys;
}

// What a row's weights are e^(s - ...) of.
template <class T>
[[nodiscard]] T lse_of(const AttentionStatisticsCall<T>& call, Index b, Index h, Index q) {
  const T lse = *call.lse.at(b, h, q);
  return call.attention.sinks == nullptr ? lse : lse_with_sink(lse, call.attention.sinks[h]);
}

template <class T>
void add_block(const AttentionStatisticsCall<T>& call, const RowTask& task, const RowState<T>& rows,
               const KeyBlock<T>& block, RowSums<T>* sums) {
  const AttentionCall<T>& attention = call.attention;
  multiply_keys(rows, block, attention.shape.D, seeing_tiles(rows, block.begin, block.end).span());
  for (Index i = 0; i < rows.count; ++i) {
    const Range range = keys_of_row(rows, i, block);
    if (range.begin == range.end) continue;
    const Index h = task.head(attention, i), q = task.query(attention.shape, i);
    const std::uint8_t* const allowed = finish_scores(attention, task, rows, block, i, range);
    add_scores(rows.score_row(i), SeenKeys{range.begin, range.end, allowed},
               lse_of(call, task.b, h, q), attention.mask->aligned(task.b, q) - block.begin,
               sums[i]);
  }
}

// What is known of a row whose scores are NaN, and of one that sees no key.
[[nodiscard]] inline RowStatistics unknown_row() {
  RowStatistics row{.rows = 1};
  row.values.fill(detail::quiet_nan<double>);
  return row;
}

template <class T>
[[nodiscard]] RowStatistics end_row(const RowSums<T>& row, T lse, bool has_sink) {
  const double n = static_cast<double>(row.keys);
  const auto is_at = [&](Index offset) { return row.offset == offset ? 1.0 : 0.0; };
  RowStatistics result{.rows = 1};
  result[RowMeasure::l1_norm] = row.sum;
  result[RowMeasure::l2_norm] = std::sqrt(row.squares);
  result[RowMeasure::entropy] =
      (std::clamp)(-row.logarithms, 0.0, natural_log(has_sink ? n + 1 : n));
  // sum (p - 1/n)^2, with the sum of p as it was rounded
  result[RowMeasure::variance] = (std::max)(row.squares - (2 * row.sum - 1) / n, 0.0) / n;
  result[RowMeasure::confidence] = static_cast<double>(exp_far_difference(row.maximum, lse));
  result[RowMeasure::previous] = is_at(-1);
  result[RowMeasure::next] = is_at(1);
  result[RowMeasure::same] = is_at(0);
  return result;
}

// Elements of scratch memory that a task takes.
template <class T>
[[nodiscard]] Index measure_scratch(const AttentionShape& shape) {
  RowState<T> rows;
  return lay_out<T>(rows, shape, {}, tile_size<T>, nullptr);
}

// A task, as one of attention: some rows of one sequence and key/value head, over all keys.
template <class T>
void measure_rows(const AttentionStatisticsCall<T>& call, const RowTask& task, T* scratch) {
  const AttentionCall<T>& attention = call.attention;
  RowState<T> rows = begin_task(attention, task, {}, scratch);
  const auto lse_of_row = [&](Index i) {
    return lse_of(call, task.b, task.head(attention, i), task.query(attention.shape, i));
  };
  for (Index i = 0; i < rows.count; ++i)
    if (const T lse = lse_of_row(i); detail::is_negative_infinity(lse) || detail::is_nan(lse))
      hide_keys(rows, i);
  RowSums<T> sums[query_block];
  for_each_block(rows, {0, attention.shape.K}, [&](Range block) {
    add_block(call, task, rows, find_keys(attention, task, rows, PackedHead<T>{}, block), sums);
  });
  for (Index i = 0; i < rows.count; ++i) {
    const T lse = lse_of_row(i);
    *call.rows.at(task.b, task.head(attention, i), task.query(attention.shape, i)) =
        detail::is_negative_infinity(lse) ? RowStatistics{}
        : detail::is_nan(lse)             ? unknown_row()
                                          : end_row(sums[i], lse, attention.sinks != nullptr);
  }
}
