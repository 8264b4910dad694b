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

// Scores [begin, end) of a row through the score function, in runs of a fixed length, which
// compilers vectorise at -O2 too. `at` is the position of score 0.
template <class T, class Score>
void apply_score(const Score& score, T* scores, Index begin, Index end, const ScorePosition& at) {
  if constexpr (std::is_same_v<Score, PlainScore>) return;
  if constexpr (requires { score.functions(); }) {
    std::apply(
        [&](const auto&... function) { (apply_score(function, scores, begin, end, at), ...); },
        score.functions());
    return;
  }
  constexpr Index S = Register<T>::width, run = 16;
  Index k = begin;
  if constexpr (requires { score.is_contiguous(); }) {
    if (score.is_contiguous()) {
      // Pieces of rows, far apart in memory: hardware does not foresee them. Asked for some rows
      // ahead, 32 MiB of biases add 2.4 ms to 12.7, else 9.4 (Zen 5, AVX-512).
      const T *bias = score.row(at) + at.k, *ahead = bias + 4 * score.row_stride();
      for (; k + S <= end; k += S) {
        store(scores + k, add(load(scores + k), load(bias + k)));
        __builtin_prefetch(ahead + k);
      }
      for (; k < end; ++k) scores[k] += bias[k];
      return;
    }
  }
  ScorePosition here = at;
  for (; k + run <= end; k += run) {
    T lanes[run];  // which nothing that the function reads can be
    std::copy_n(scores + k, run, lanes);
    for (Index i = 0; i < run; ++i) {
      const ScorePosition position{at.b, at.h, at.q, at.k + static_cast<std::int32_t>(k + i),
                                   at.aligned};
      lanes[i] = score(lanes[i], position);
    }
    std::copy_n(lanes, run, scores + k);
  }
  for (; k < end; ++k) {
    here.k = at.k + static_cast<std::int32_t>(k);
    scores[k] = score(scores[k], here);
  }
}

// Scores [begin, end) of one key through the score function, slopes times its derivative. `at` is
// the position of score 0; query follows query.
template <class T, class Score>
void differentiate_score_function(const Score& score, T* scores, T* slopes, Index begin, Index end,
                                  const ScorePosition& at) {
  if constexpr (requires { score.functions(); }) {
    std::apply(
        [&](const auto&... function) {
          (differentiate_score_function(function, scores, slopes, begin, end, at), ...);
        },
        score.functions());
  } else {
    for (Index i = begin; i < end; ++i) {
      const auto offset = static_cast<std::int32_t>(i);
      const ScorePosition position{at.b, at.h, at.q + offset, at.k, at.aligned + offset};
      if constexpr (!AddsToScore<Score>) slopes[i] *= score_derivative(score, scores[i], position);
      scores[i] = score(scores[i], position);
    }
  }
}
