// SPDX-License-Identifier: MIT
// What happens to one row of scores between the two products.

template <class T>
inline constexpr Index key_block = sizeof(T) == 4 ? 256 : 128;
// Sums over keys run in this many lanes on every CPU, so that no lane count decides an order.
inline constexpr Index sum_lanes = 16;

// What a row of scores of one block says of its keys: those in [begin, end) are seen, and if
// `allowed` is not null only those whose byte there is not 0 (of a whole block of bytes, 0 outside
// the range).
struct SeenKeys {
  Index begin, end;
  const std::uint8_t* allowed;
};

// The sum of all lanes, which are used up.
template <class T>
[[nodiscard]] T fold(T* lanes) {
  for (Index half = sum_lanes / 2; half > 0; half /= 2)
    for (Index i = 0; i < half; ++i) lanes[i] += lanes[i + half];
  return lanes[0];
}

// Puts `hidden` where a key is not seen, in all lanes that the range touches.
template <class T>
void hide(T* scores, const SeenKeys& seen, T hidden) {
  constexpr Index S = Register<T>::width;
  const Index first = seen.begin / sum_lanes * sum_lanes;
  const Index last = (seen.end + sum_lanes - 1) / sum_lanes * sum_lanes;
  if (seen.allowed == nullptr) {
    std::fill(scores + first, scores + seen.begin, hidden);
    std::fill(scores + seen.end, scores + last, hidden);
    return;
  }
  const Register<T> value = broadcast(hidden);
  for (Index k = first; k < last; k += S)
    store(scores + k, select(seen.allowed + k, load(scores + k), value));
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

// One row of scores of one block: the keys that are seen become exp(score - m_b), the others in
// their lanes 0. Sets m_b and l_b.
template <class T>
void softmax_block(T* scores, const SeenKeys& seen, T& block_maximum, T& block_sum) {
  constexpr Index S = Register<T>::width, N = sum_lanes / S;
  constexpr T lowest = std::numeric_limits<T>::lowest();
  const Index first = seen.begin / sum_lanes * sum_lanes;
  const Index last = (seen.end + sum_lanes - 1) / sum_lanes * sum_lanes;
  hide(scores, seen, lowest);

  Register<T> lanes[N];
#pragma GCC unroll 16
  for (Index i = 0; i < N; ++i) lanes[i] = broadcast(lowest);
  for (Index k = first; k < last; k += sum_lanes)
#pragma GCC unroll 16
    for (Index i = 0; i < N; ++i) lanes[i] = max(load(scores + k + i * S), lanes[i]);
  T folded[sum_lanes];
  for (Index i = 0; i < N; ++i) store(folded + i * S, lanes[i]);
  T maximum = lowest;
  for (const T x : folded) maximum = x > maximum ? x : maximum;
  // Then a hidden key would weigh e^0: send them further down.
  if (maximum == lowest) hide(scores, seen, -std::numeric_limits<T>::infinity());
  if (maximum > far_score<T>) raise_to_zero(scores, first, last);

  const Register<T> m = broadcast(maximum);
#pragma GCC unroll 16
  for (Index i = 0; i < N; ++i) lanes[i] = broadcast(T(0));
  for (Index k = first; k < last; k += sum_lanes)
#pragma GCC unroll 16
    for (Index i = 0; i < N; ++i) {
      const Register<T> weight = exp_difference(load(scores + k + i * S), m);
      store(scores + k + i * S, weight);
      lanes[i] = add(lanes[i], weight);
    }
  for (Index i = 0; i < N; ++i) store(folded + i * S, lanes[i]);
  block_maximum = maximum;
  block_sum = fold(folded);
}
