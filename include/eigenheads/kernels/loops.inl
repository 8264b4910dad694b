// SPDX-License-Identifier: MIT
// Plain C++ around functions that are the caller's, for one instruction set. Included by loops.hpp
// inside a namespace.

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
  constexpr Index run = 16;
  Index k = begin;
  if constexpr (requires { score.is_contiguous(); }) {
    if (score.is_contiguous()) {
      // Pieces of rows, far apart in memory: hardware does not foresee them. Asked for some rows
      // ahead, 32 MiB of biases add 2.4 ms to 12.7, else 9.4 (Zen 5, AVX-512).
      constexpr Index line = 64 / Index{sizeof(T)};
      using Line [[gnu::vector_size(64)]] = T;
      const T *bias = score.row(at) + at.k, *ahead = bias + 4 * score.row_stride();
      for (; k + line <= end; k += line) {
        Line x, y;
        std::memcpy(&x, scores + k, sizeof x);
        std::memcpy(&y, bias + k, sizeof y);
        x += y;
        std::memcpy(scores + k, &x, sizeof x);
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

struct Loops {
  template <class T, class Score>
  static void score_forward(const void* score, T* scores, Index begin, Index end,
                            const ScorePosition& at) {
    apply_score(*static_cast<const Score*>(score), scores, begin, end, at);
  }
  template <class T, class Score>
  static void score_backward(const void* score, T* scores, T* slopes, Index begin, Index end,
                             const ScorePosition& at) {
    std::fill(slopes + begin, slopes + end, T(1));
    differentiate_score_function(*static_cast<const Score*>(score), scores, slopes, begin, end, at);
  }

  // As far as the compiler inlines it: its bits must not depend on that.
  template <class Body>
  [[gnu::flatten]] static void run(const Body& body) {
    body();
  }
};
