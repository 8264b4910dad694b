// SPDX-License-Identifier: MIT
// Rows made to have mean 0 and mean square 1, and their gradient (nn/layer_norm.hpp).
//   c = x - mean,   n = c / sqrt(mean of c^2 + eps),   y = n weight + bias
//   dx = (g - mean of g - n (mean of g n)) / sqrt(...),   g = dy weight
// without the means of x and of g for rows that are not centered. Sums over a row run in sum_lanes
// lanes. The mean is taken of x - x[0], and kept as its distance from there: the numbers of a row that
// lie close together are subtracted exactly, so a constant row has c = 0 whatever its value, and a mean
// that is large beside them takes no digit from c. Rows come in groups, whose lanes are folded
// together, as those of a softmax.

// `count` numbers, and `fill` in the other lanes.
template <class T>
[[nodiscard]] EIGEN_ALWAYS_INLINE Register<T> load_first(const T* from, Index count, T fill) {
  constexpr Index S = Register<T>::width;
  if (count == S) return load(from);
  T lanes[S];
  std::fill_n(lanes, S, fill);
  std::copy_n(from, count, lanes);
  return load(lanes);
}
template <class T>
EIGEN_ALWAYS_INLINE void store_first(T* to, Index count, Register<T> a) {
  constexpr Index S = Register<T>::width;
  if (count == S) return store(to, a);
  T lanes[S];
  store(lanes, a);
  std::copy_n(lanes, count, to);
}

// Of a row: term(k, count, total) adds `count` numbers from the k-th on to a register of totals; what
// it does in lanes beyond makes no difference. What is left over after whole groups of sum_lanes is at the
// end of the row's last such group, in the lanes that it has there, so that full registers are read: a
// piece of a register, copied, made a row of 100 numbers take twice as long.
template <class T, class Term>
[[nodiscard]] EIGEN_ALWAYS_INLINE Register<T> sum_row(Index size, const Term& term) {
  constexpr Index S = Register<T>::width, N = sum_lanes / S;
  Register<T> lanes[N];
#pragma GCC unroll 16
  for (Index i = 0; i < N; ++i) lanes[i] = broadcast(T(0));
  const Index whole = size / sum_lanes * sum_lanes, left = size - whole;
  for (Index k = 0; k < whole; k += sum_lanes)
#pragma GCC unroll 16
    for (Index i = 0; i < N; ++i) {
      const Register<T> total = term(k + i * S, S, lanes[i]);
      lanes[i] = total;  // not at once: g++ 12 -O1 ends with an internal error
    }
  if (left > 0)
#pragma GCC unroll 16
    for (Index i = 0; i < N; ++i) {
      const bool is_short =
          whole == 0;  // the row has no such group: its numbers are in the first lanes
      const Index k = is_short ? i * S : size - sum_lanes + i * S;
      const Index count = is_short ? (std::clamp)(size - k, Index{0}, S) : S;
      const std::uint8_t* const keep = kept_run.data() + (is_short ? 2 * sum_lanes - size : left);
      const Register<T> total = term(k, count, lanes[i]);
      lanes[i] = select(keep + i * S, total, lanes[i]);
    }
  return fold_registers(lanes, [](Register<T> a, Register<T> b) { return add(a, b); });
}

// to[k] = value(k, count) for a row; value gives `count` numbers from the k-th on. The last register is
// full, too, and so overlaps the one before it; `to` may be what the values are made of.
template <class T, class Value>
EIGEN_ALWAYS_INLINE void fill_row(T* to, Index size, const Value& value) {
  constexpr Index S = Register<T>::width;
  if (size < S) return store_first(to, size, value(0, size));
  const Index whole = size / S * S;
  Register<T> last = broadcast(T(0));
  if (whole < size) last = value(size - S, S);
  for (Index k = 0; k < whole; k += S) store(to + k, value(k, S));
  if (whole < size) store(to + size - S, last);
}

// sums[i] = term's sum of row i, for the rows of a group; `other` for the rows that it has not.
template <class T, class SumRow>
EIGEN_ALWAYS_INLINE Register<T> sum_group(Index rows, T other, const SumRow& sum_of) {
  constexpr Index S = Register<T>::width;
  T folded[S * S];
  for (Index row = 0; row < S; ++row)
    store(folded + row * S, row < rows ? sum_of(row) : broadcast(other));
  return fold_rows(folded, [](Register<T> a, Register<T> b) { return add(a, b); });
}

// What the rows of a group are subtracted and multiplied by: n = ((x - first) - shift) * scale.
template <class T>
struct GroupStatistics {
  static constexpr Index S = Register<T>::width;
  T first[S], shift[S], scale[S];
};
template <class T>
[[nodiscard]] EIGEN_ALWAYS_INLINE Register<T> centered_of(const GroupStatistics<T>& of, Index row,
                                                          Register<T> x) {
  return sub(sub(x, broadcast(of.first[row])), broadcast(of.shift[row]));
}
template <class T>
[[nodiscard]] EIGEN_ALWAYS_INLINE Register<T> normal_of(const GroupStatistics<T>& of, Index row,
                                                        Register<T> x) {
  return mul(centered_of(of, row, x), broadcast(of.scale[row]));
}

// Makes anew what multiplies the rows whose sum of squares is not finite: of the rows times a power of
// two, which makes of every such sum of finite squares a normal number. No other row gets other bits.
template <class T>
void measure_large_rows(const T* x, Index size, Index rows, T eps, const T* squares,
                        GroupStatistics<T>& statistics) {
  constexpr int down = std::numeric_limits<T>::max_exponent / 2 + 32;
  constexpr T unit = std::bit_cast<T>(static_cast<detail::BitsOf<T>>(
      std::bit_cast<detail::BitsOf<T>>(T(1)) -
      (detail::BitsOf<T>(down) << (std::numeric_limits<T>::digits - 1))));
  const Register<T> factor = broadcast(unit), one = broadcast(T(1));
  const Register<T> sums = sum_group(rows, T(1), [&](Index row) {
    return sum_row<T>(size, [&](Index k, Index count, Register<T> total) {
      const Register<T> from = load_first(x + row * size + k, count, statistics.first[row]);
      const Register<T> c = mul(centered_of(statistics, row, from), factor);
      return fma(c, c, total);
    });
  });
  const Register<T> variance =
      add(div(sums, broadcast(static_cast<T>(size))), broadcast(eps * unit * unit));
  T scales[Register<T>::width];
  store(scales, mul(div(one, square_root(variance)), factor));
  for (Index row = 0; row < rows; ++row)
    if (!detail::is_finite(squares[row])) statistics.scale[row] = scales[row];
}

template <class T>
void measure_group(const T* x, Index size, Index rows, T eps, bool is_centered,
                   GroupStatistics<T>& statistics) {
  constexpr Index S = Register<T>::width;
  const Register<T> length = broadcast(static_cast<T>(size)), one = broadcast(T(1));
  for (Index row = 0; row < S; ++row)
    statistics.first[row] = is_centered && row < rows ? x[row * size] : T(0);
  store(statistics.shift, broadcast(T(0)));
  store(statistics.scale, one);
  if (is_centered) {
    const Register<T> sums = sum_group(rows, T(0), [&](Index row) {
      const Register<T> first = broadcast(statistics.first[row]);
      return sum_row<T>(size, [&](Index k, Index count, Register<T> total) {
        const T* const from = x + row * size;
        return add(total, sub(load_first(from + k, count, statistics.first[row]), first));
      });
    });
    store(statistics.shift, div(sums, length));
  }
  const Register<T> squares = sum_group(rows, T(1), [&](Index row) {
    return sum_row<T>(size, [&](Index k, Index count, Register<T> total) {
      const T* const from = x + row * size;
      const Register<T> c =
          centered_of(statistics, row, load_first(from + k, count, statistics.first[row]));
      return fma(c, c, total);
    });
  });
  store(statistics.scale, div(one, square_root(add(div(squares, length), broadcast(eps)))));
  if (all_finite(squares)) return;
  T sums[S];
  store(sums, squares);
  measure_large_rows(x, size, rows, eps, sums, statistics);
}

// `count` numbers of a parameter, of which null means that all are `other`.
template <class T>
[[nodiscard]] EIGEN_ALWAYS_INLINE Register<T> load_parameter(const T* from, Index k, Index count,
                                                             T other) {
  return from == nullptr ? broadcast(other) : load_first(from + k, count, other);
}

template <class T>
void norm_rows(const NormCall<T>& call, Range rows) {
  constexpr Index S = Register<T>::width;
  const Index size = call.size;
  for (Index begin = rows.begin; begin < rows.end; begin += S) {
    const Index count = (std::min)(S, rows.end - begin), at = begin * size;
    const T* x = call.x + at;
    if (call.residual != nullptr) {
      T* const sum = (call.sum != nullptr ? call.sum : call.y) + at;
      const T* const residual = call.residual + at;
      fill_row(sum, count * size, [&](Index i, Index n) {
        return add(load_first(x + i, n, T(0)), load_first(residual + i, n, T(0)));
      });
      x = sum;
    }
    GroupStatistics<T> statistics;
    measure_group(x, size, count, call.eps, call.is_centered, statistics);
    for (Index row = 0; row < count; ++row) {
      const T* const from = x + row * size;
      T* const to = call.y + at + row * size;
      fill_row(to, size, [&](Index k, Index n) {
        const Register<T> normal =
            normal_of(statistics, row, load_first(from + k, n, statistics.first[row]));
        return fma(normal, load_parameter(call.weight, k, n, T(1)),
                   load_parameter(call.bias, k, n, T(0)));
      });
    }
  }
}

// The part of one row, number i of its group. mean_g is 0 for one that is not centered.
template <class T>
void norm_backward_row(const NormBackwardCall<T>& call, Index row,
                       const GroupStatistics<T>& statistics, Index i, T mean_g, T mean_gn) {
  const Index size = call.size, at = row * size;
  const T* const added = call.added == nullptr ? nullptr : call.added + at;
  const Register<T> less_g = broadcast(-mean_g), less_gn = broadcast(-mean_gn);
  fill_row(call.grad_x + at, size, [&](Index k, Index n) {
    const Register<T> normal =
        normal_of(statistics, i, load_first(call.x + at + k, n, statistics.first[i]));
    const Register<T> centered = fma(load_first(call.grad_y + at + k, n, T(0)),
                                     load_parameter(call.weight, k, n, T(1)), less_g);
    return fma(fma(normal, less_gn, centered), broadcast(statistics.scale[i]),
               load_parameter(added, k, n, T(0)));
  });
}

template <class T>
void norm_backward_rows(const NormBackwardCall<T>& call, Range rows) {
  constexpr Index S = Register<T>::width;
  const Index size = call.size;
  const Register<T> length = broadcast(static_cast<T>(size));
  for (Index begin = rows.begin; begin < rows.end; begin += S) {
    const Index count = (std::min)(S, rows.end - begin), at = begin * size;
    GroupStatistics<T> statistics;
    measure_group(call.x + at, size, count, call.eps, call.is_centered, statistics);
    T mean_g[S] = {}, mean_gn[S];
    if (call.is_centered) {
      const Register<T> sums = sum_group(count, T(0), [&](Index i) {
        const T* const dy = call.grad_y + at + i * size;
        return sum_row<T>(size, [&](Index k, Index n, Register<T> total) {
          return fma(load_first(dy + k, n, T(0)), load_parameter(call.weight, k, n, T(1)), total);
        });
      });
      store(mean_g, div(sums, length));
    }
    const Register<T> sums = sum_group(count, T(0), [&](Index i) {
      const T *const x = call.x + at + i * size, *const dy = call.grad_y + at + i * size;
      return sum_row<T>(size, [&](Index k, Index n, Register<T> total) {
        const Register<T> normal =
            normal_of(statistics, i, load_first(x + k, n, statistics.first[i]));
        const Register<T> weight = load_parameter(call.weight, k, n, T(1));
        return fma(mul(load_first(dy + k, n, T(0)), weight), normal, total);
      });
    });
    store(mean_gn, div(sums, length));
    for (Index i = 0; i < count; ++i) {
      const Index row = begin + i;
      const T* const dy = call.grad_y + row * size;
      call.kept[row] =
          !std::all_of(dy, dy + size, [](const T& value) { return detail::is_zero(value); });
      call.shifts[row] = statistics.shift[i];
      call.scales[row] = statistics.scale[i];
      if (call.kept[row] != 0)
        norm_backward_row(call, row, statistics, i, mean_g[i], mean_gn[i]);
      else if (call.added == nullptr)
        std::fill_n(call.grad_x + row * size, size, T(0));
      else
        std::copy_n(call.added + row * size, size, call.grad_x + row * size);
    }
  }
}

// Adds a block of rows, summed from zero in their order, to the gradients of weight and bias, where
// these are not null: their numbers [columns.begin, columns.end).
template <class T>
void norm_parameter_sums(const NormBackwardCall<T>& call, Range rows, Range columns, T* of_weight,
                         T* of_bias) {
  constexpr Index S = Register<T>::width, N = 4;  // registers of each sum: some rows of cache lines
  const bool is_short = columns.count() < S;
  for (Index begin = columns.begin; begin < columns.end; begin += N * S) {
    // The last register is full, too: it begins at numbers that the one before it has.
    const auto start = [&](Index i) {
      const Index k = begin + i * S;
      return is_short ? k : (std::min)(k, columns.end - S);
    };
    const Index n = is_short ? columns.count() : S;
    Register<T> weight[N], bias[N];
#pragma GCC unroll 4
    for (Index i = 0; i < N; ++i) weight[i] = bias[i] = broadcast(T(0));
    for (Index row = rows.begin; row < rows.end; ++row) {
      if (call.kept[row] == 0) continue;
      const T* const x = call.x + row * call.size;
      const T* const dy = call.grad_y + row * call.size;
      const T first = call.is_centered ? x[0] : T(0);
      const Register<T> head = broadcast(first), shift = broadcast(call.shifts[row]);
      const Register<T> scale = broadcast(call.scales[row]);
#pragma GCC unroll 4
      for (Index i = 0; i < N; ++i) {
        if (begin + i * S >= columns.end) break;
        const Index k = start(i);
        const Register<T> normal = mul(sub(sub(load_first(x + k, n, first), head), shift), scale);
        const Register<T> grad = load_first(dy + k, n, T(0));
        weight[i] = fma(grad, normal, weight[i]);
        bias[i] = add(bias[i], grad);
      }
    }
#pragma GCC unroll 4
    for (Index i = 0; i < N; ++i) {
      if (begin + i * S >= columns.end) break;
      const auto put = [&](T* to, Register<T> sum) {
        T lanes[S];
        store(lanes, sum);
        for (Index k = begin + i * S;
             to != nullptr && k < (std::min)(begin + (i + 1) * S, columns.end); ++k)
          to[k] += lanes[k - start(i)];
      };
      put(of_weight, weight[i]);
      put(of_bias, bias[i]);
    }
  }
}
