// SPDX-License-Identifier: MIT
// What happens to one row of scores between the two products.

// The sum of all lanes, which are used up.
template <class T>
[[nodiscard]] T fold(T* lanes) {
  for (Index half = sum_lanes / 2; half > 0; half /= 2)
    for (Index i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

// For select(): from `n` before its middle on, n bytes that keep, then some that hide.
inline constexpr std::array<std::uint8_t, 3 * sum_lanes> kept_run = [] {
  std::array<std::uint8_t, 3 * sum_lanes> bytes{};
  for (std::size_t i = sum_lanes; i < 2 * sum_lanes; ++i) bytes[i] = 1;
  return bytes;
}();

// Puts `hidden` where a byte is 0, in sum_lanes scores. Whole registers are read and written: a
// store of a few lanes would hold up the load that follows it until it is in the cache.
template <class T>
EIGEN_ALWAYS_INLINE void hide_lanes(T* scores, const std::uint8_t* keep, T hidden) {
  constexpr Index S = Register<T>::width;
#pragma GCC unroll 16
  for (Index i = 0; i < sum_lanes; i += S)
    store(scores + i, select(keep + i, load(scores + i), broadcast(hidden)));
}

// Puts `hidden` where a key is not seen, in all lanes that the range touches.
template <class T>
[[gnu::noinline]] void hide_some(T* scores, const SeenKeys& seen, T hidden) {
  const auto [first, last] = lanes_of(seen);
  if (seen.allowed != nullptr) {
    for (Index k = first; k < last; k += sum_lanes)
      hide_lanes(scores + k, seen.allowed + k, hidden);
    return;
  }
  const std::uint8_t* const run = kept_run.data() + sum_lanes;
  if (first < seen.begin) hide_lanes(scores + first, run - (seen.begin - first), hidden);
  if (seen.end < last) hide_lanes(scores + last - sum_lanes, run + (last - seen.end), hidden);
}

template <class T>
EIGEN_ALWAYS_INLINE void hide(T* scores, const SeenKeys& seen, T hidden) {
  if (seen.allowed != nullptr || seen.begin % sum_lanes != 0 || seen.end % sum_lanes != 0)
    hide_some(scores, seen, hidden);
}

// From a maximum m beyond this, s - m may overflow; and e^(s - m) is 0 for any s <= 0.
template <class T>
inline constexpr T far_score =
    (std::numeric_limits<T>::max)() / 8 * std::numeric_limits<T>::epsilon();

// For a row with such a maximum: 0 instead of negative scores gives the same weights.
template <class T>
void raise_to_zero(T* scores, Index first, Index last) {
  constexpr Index S = Register<T>::width;
  const Register<T> zero = broadcast(T(0));
  for (Index k = first; k < last; k += S)
    store(scores + k, zero_if_below(load(scores + k), load(scores + k), zero));
}

// What `combine` makes of sum_lanes lanes, always in the order of fold(): lane i with lane i + 8,
// then + 4, + 2, + 1. Here the halves that are registers of their own, down to one register,
template <class T, std::size_t N, class Combine>
[[nodiscard]] EIGEN_ALWAYS_INLINE Register<T> fold_registers(Register<T> (&lanes)[N],
                                                             const Combine& combine) {
#pragma GCC unroll 16
  for (std::size_t half = N / 2; half > 0; half /= 2)
#pragma GCC unroll 16
    for (std::size_t i = 0; i < half; ++i) lanes[i] = combine(lanes[i], lanes[i + half]);
  return lanes[0];
}
// and here the lanes of one register of each of `width` rows, all rows at once: row i's is lane i of
// the result.
template <class T, class Combine>
[[nodiscard]] EIGEN_ALWAYS_INLINE Register<T> fold_rows(const T* rows, const Combine& combine) {
  constexpr Index S = Register<T>::width;
  Register<T> lanes[S];
#pragma GCC unroll 16
  for (Index i = 0; i < S; ++i) lanes[i] = load(rows + i * S);
  transpose(lanes);
  return fold_registers(lanes, combine);
}

// The scores of a row whose maximum m is no ordinary number, so that the others are e^(s - m).
template <class T>
void prepare_extreme_row(T* scores, const SeenKeys& seen, T maximum) {
  // Then a hidden key would weigh e^0: send them further down.
  if (maximum == std::numeric_limits<T>::lowest()) hide(scores, seen, -detail::infinity<T>);
  const auto [first, last] = lanes_of(seen);
  if (maximum > far_score<T>) raise_to_zero(scores, first, last);
}

// Up to `width` rows of scores of one block, `stride` apart: the keys that are seen become
// exp(score - m_b), the others in their lanes 0. Sets m_b and l_b, `width` of them: lowest and 0 for
// a row that sees none.
//
// Rows wait for each other nowhere but where their lanes are folded, which they do together: folded
// one by one, a row of 24 keys took longer for that than for its weights.
template <class T>
void softmax_block(T* scores, Index stride, std::span<const SeenKeys> seen, T* block_maxima,
                   T* block_sums) {
  constexpr Index S = Register<T>::width, N = sum_lanes / S;
  constexpr T lowest = std::numeric_limits<T>::lowest();
  const auto count = static_cast<Index>(seen.size());
  const auto larger = [](Register<T> a, Register<T> b) { return max(a, b); };
  const auto sum = [](Register<T> a, Register<T> b) { return add(a, b); };
  T folded[S * S];
  for (Index row = 0; row < S; ++row) {
    Register<T> lanes[N];
#pragma GCC unroll 16
    for (Index i = 0; i < N; ++i) lanes[i] = broadcast(lowest);
    if (row < count) {
      T* const x = scores + row * stride;
      hide(x, seen[row], lowest);
      const auto [first, last] = lanes_of(seen[row]);
      for (Index k = first; k < last; k += sum_lanes)
#pragma GCC unroll 16
        for (Index i = 0; i < N; ++i) lanes[i] = max(load(x + k + i * S), lanes[i]);
    }
    store(folded + row * S, fold_registers(lanes, larger));
  }
  store(block_maxima, fold_rows(folded, larger));

  for (Index row = 0; row < S; ++row) {
    Register<T> lanes[N];
#pragma GCC unroll 16
    for (Index i = 0; i < N; ++i) lanes[i] = broadcast(T(0));
    if (row < count) {
      T* const x = scores + row * stride;
      const T maximum = block_maxima[row];
      if (!(maximum > lowest && maximum <= far_score<T>))
        prepare_extreme_row(x, seen[row], maximum);
      const Register<T> m = broadcast(maximum);
      const auto [first, last] = lanes_of(seen[row]);
      for (Index k = first; k < last; k += sum_lanes)
#pragma GCC unroll 16
        for (Index i = 0; i < N; ++i) {
          const Register<T> weight = exp_difference(load(x + k + i * S), m);
          store(x + k + i * S, weight);
          lanes[i] = add(lanes[i], weight);
        }
    }
    store(folded + row * S, fold_registers(lanes, sum));
  }
  store(block_sums, fold_rows(folded, sum));
}
