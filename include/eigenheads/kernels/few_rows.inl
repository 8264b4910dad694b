// SPDX-License-Identifier: MIT
// Few rows, as in decoding: keys are read once, from where they are, and the time is that of
// reading them. The chains are those of the tiles, so the bits are too.

inline constexpr Index few_rows = 4;

// scores[i][k] = sum_d queries[i][d] keys[k][d] for keys [first, first + 2 registers): squares of
// keys are transposed in registers and used by all rows. Keys outside of `seen` are not read;
// another stands in for them.
template <class T, Index Rows>
void multiply_keys_direct(const T* queries, const T* keys, Index D, KeyRange seen, Index first,
                          T* scores) {
  // Squares touch many lines at once, which hardware does not foresee: asked for two steps ahead,
  // 16 heads of 4096 keys take 0.86 ms, else 1.19 (Zen 5, AVX-512).
  constexpr Index S = Register<T>::width, prefetched = 4 * S;
  Register<T> sum[2][Rows];
#pragma GCC unroll 2
  for (Index half = 0; half < 2; ++half)
#pragma GCC unroll 4
    for (Index i = 0; i < Rows; ++i) sum[half][i] = broadcast(T(0));
  const T* of_key[2 * S];
  for (Index j = 0; j < 2 * S; ++j)
    of_key[j] = keys + (std::clamp)(first + j, seen.begin, seen.end - 1) * D;

  Index d = 0;
  for (; d + S <= D; d += S)
#pragma GCC unroll 2
    for (Index half = 0; half < 2; ++half) {
      Register<T> square[S];
#pragma GCC unroll 16
      for (Index j = 0; j < S; ++j) {
        square[j] = load(of_key[half * S + j] + d);
        __builtin_prefetch(of_key[half * S + j] + d + prefetched * D);
      }
      transpose(square);
#pragma GCC unroll 16
      for (Index j = 0; j < S; ++j)
#pragma GCC unroll 4
        for (Index i = 0; i < Rows; ++i)
          sum[half][i] = fma(broadcast(queries[i * D + d + j]), square[j], sum[half][i]);
    }
  for (; d < D; ++d)
    for (Index half = 0; half < 2; ++half) {
      T column[S];
      for (Index j = 0; j < S; ++j) column[j] = of_key[half * S + j][d];
      for (Index i = 0; i < Rows; ++i)
        sum[half][i] = fma(broadcast(queries[i * D + d]), load(column), sum[half][i]);
    }
#pragma GCC unroll 4
  for (Index i = 0; i < Rows; ++i) {
    store(scores + i * key_block<T> + first, sum[0][i]);
    store(scores + i * key_block<T> + first + S, sum[1][i]);
  }
}

template <class T>
void multiply_keys_direct(const RowBlock<T>& rows, const T* keys, Index D, KeyRange seen) {
  constexpr Index step = 2 * Register<T>::width;
  for (Index first = seen.begin / step * step; first < seen.end; first += step) {
    Index i = 0;
    for (; i + 2 <= rows.count; i += 2)
      multiply_keys_direct<T, 2>(rows.queries + i * D, keys, D, seen, first,
                                 rows.scores + i * key_block<T>);
    for (; i < rows.count; ++i)
      multiply_keys_direct<T, 1>(rows.queries + i * D, keys, D, seen, first,
                                 rows.scores + i * key_block<T>);
  }
}
