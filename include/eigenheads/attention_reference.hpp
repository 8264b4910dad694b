// SPDX-License-Identifier: MIT
#pragma once
// Scaled dot-product attention as the paper writes it, row by row, and its gradient: the oracle
// that every faster path is held against.
//   Z[q, k] = scale * sum_d Q[q, d] K[k, d]        over the keys that query q may see
//   S[q, k] = score(Z[q, k])                       the score function: Z itself, most often
//   P[q, k] = exp(S[q, k] - lse[q]),               lse[q] = log sum_k exp(S[q, k])
//   O[q, v] = sum_k P[q, k] F[q, k] V[k, v]        F: dropout's factors, 1 without it
// With a learnt sink in its head, P[q, k] = exp(S[q, k]) / (exp(lse[q]) + exp(sink)), lse as it was.
// Vaswani et al., "Attention Is All You Need", 2017, equation 1; query head h reads key/value head
// h / (H / G), as in Ainslie et al., "GQA", 2023. A query without any key has P = 0, O = 0, lse =
// -inf, and all its gradients are 0.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include <eigenheads/attention_result.hpp>   // AttentionResult
#include <eigenheads/detail/float_bits.hpp>  // is_negative_infinity
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/dropout.hpp>  // DropoutMask
#include <eigenheads/mask.hpp>     // BoundMask, Range
#include <eigenheads/score.hpp>    // ScoreFunction, PlainScore, score_derivative
#include <eigenheads/tensor.hpp>   // TensorView

namespace eigenheads::inline EIGENHEADS_ABI {
namespace detail {

// Turns `count` scores into weights, in place, and gives log sum_k exp(score_k). A score of -inf is
// a key that is not there: if all are, the weights are 0 and the sum's logarithm -inf. NaN makes
// the whole row NaN: every comparison with it is false, so it is the maximum only if it comes
// first, and otherwise it reaches the sum.
template <Scalar T>
T softmax_row(T* scores, Index count) {
  if (std::all_of(scores, scores + count,
                  [](const T& score) { return is_negative_infinity(score); })) {
    std::fill_n(scores, count, T(0));
    return -detail::infinity<T>;
  }
  T maximum = scores[0];
  for (Index k = 1; k < count; ++k)
    if (scores[k] > maximum) maximum = scores[k];
  T sum = 0;
  for (Index k = 0; k < count; ++k) {
    scores[k] = std::exp(scores[k] - maximum);
    sum += scores[k];
  }
  for (Index k = 0; k < count; ++k) scores[k] /= sum;
  return maximum + std::log(sum);
}

// Z, pair by pair, and which pairs there are.
template <Scalar T>
struct ReferenceProducts {
  TensorView<T, 4> queries, keys;
  T scale;
  BoundMask bound;

  [[nodiscard]] Index key_head(Index h) const {
    return h / (queries.dimension(1) / keys.dimension(1));
  }
  [[nodiscard]] bool sees(Index b, Index h, Index q, Index k) const {
    const Range range = bound.key_range(b, h, q);
    const Range gap = bound.gap(b, q);
    const std::uint8_t* allowed = bound.allowed_row(b, h, q);
    return k >= range.begin && k < range.end && (k < gap.begin || k >= gap.end) &&
           (allowed == nullptr || allowed[k] != 0);
  }
  [[nodiscard]] ScorePosition position(Index b, Index h, Index q, Index k) const {
    return score_position(b, h, q, k, bound.aligned(b, q));
  }
  [[nodiscard]] T operator()(Index b, Index h, Index q, Index k) const {
    T product = 0;
    for (Index d = 0; d < queries.dimension(3); ++d)
      product += queries(b, h, q, d) * keys(b, key_head(h), k, d);
    return scale * product;
  }
};

// 1 - exp(sink) / (exp(lse) + exp(sink)): what is left of a row's weights beside a sink.
template <Scalar T>
[[nodiscard]] T share_beside_sink(T lse, T sink) {
  if (is_negative_infinity(lse) || is_negative_infinity(sink)) return 1;
  if (!(sink > lse)) return 1 / (1 + std::exp(sink - lse));
  const T keys = std::exp(lse - sink);
  return keys / (keys + 1);
}

template <Scalar T>
[[nodiscard]] Tensor<T, 4> zeros_like(TensorView<T, 4> tensor) {
  auto zeros = make_tensor<T>("gradient", tensor.dimensions());
  std::fill_n(zeros.data(), zeros.size(), T(0));
  return zeros;
}

}  // namespace detail

// queries: [B, H, Q, D], keys: [B, G, K, D], values: [B, G, K, V], of shapes that fit each other;
// sink_logits: [H], or none.
// Serial, and builds the weights: for tests and for reading. Touches no key or value that the mask
// hides from a query.
template <Scalar T, class Score = PlainScore>
requires ScoreFunction<Score, T>
[[nodiscard]] AttentionResult<T> attention_reference(TensorView<T, 4> queries,
                                                     TensorView<T, 4> keys, TensorView<T, 4> values,
                                                     const Mask& mask, T scale,
                                                     const Score& score = {},
                                                     const DropoutMask<T>& dropout = {},
                                                     std::span<const T> sink_logits = {}) {
  const Index B = queries.dimension(0), H = queries.dimension(1), Q = queries.dimension(2),
              K = keys.dimension(2), V = values.dimension(3);
  const detail::ReferenceProducts<T> products{queries, keys, scale, BoundMask(mask, B, Q, K, H)};
  AttentionResult<T> result{Tensor<T, 4>(B, H, Q, V), Tensor<T, 3>(B, H, Q),
                            Tensor<T, 4>(B, H, Q, K)};
  std::vector<bool> is_seen(static_cast<std::size_t>(K));
  std::vector<T> factors(static_cast<std::size_t>(K));
  for (Index b = 0; b < B; ++b)
    for (Index h = 0; h < H; ++h)
      for (Index q = 0; q < Q; ++q) {
        const Index g = products.key_head(h);
        T* weights = K == 0 ? nullptr : &result.weights(b, h, q, 0);
        for (Index k = 0; k < K; ++k)
          weights[k] = products.sees(b, h, q, k)
                           ? score(products(b, h, q, k), products.position(b, h, q, k))
                           : -detail::infinity<T>;
        for (Index k = 0; k < K; ++k)  // a score of -inf hides its key too
          is_seen[static_cast<std::size_t>(k)] = !detail::is_negative_infinity(weights[k]);
        result.lse(b, h, q) = detail::softmax_row(weights, K);
        if (!sink_logits.empty()) {
          const T share = detail::share_beside_sink(result.lse(b, h, q),
                                                    sink_logits[static_cast<std::size_t>(h)]);
          for (Index k = 0; k < K; ++k)
            if (is_seen[static_cast<std::size_t>(k)]) weights[k] *= share;
        }

        dropout.factors(b, h, q, 0, K, factors.data());
        for (Index v = 0; v < V; ++v) {
          T sum = 0;
          for (Index k = 0; k < K; ++k)
            if (is_seen[static_cast<std::size_t>(k)])
              sum += weights[k] * factors[static_cast<std::size_t>(k)] * values(b, g, k, v);
          result.output(b, h, q, v) = sum;
        }
      }
  return result;
}

template <Scalar T>
struct AttentionReferenceGradients {
  Tensor<T, 4> queries;  // [B, H, Q, D]
  Tensor<T, 4> keys;     // [B, G, K, D], and
  Tensor<T, 4> values;   // [B, G, K, V]: summed over the query heads that share a key/value head
  Tensor<T, 4> scores;   // [B, H, Q, K], by S: what is added to the scores last has this gradient
  std::vector<T> sink_logits;  // [H], or none: -sum (1 - sum_k P) dO O over sequences and queries
};

// grad_output: [B, H, Q, V], the rest as the forward pass had it. From the last line of it to the
// first, with dX the gradient by X. Touches no key or value that the mask hides from a query.
template <Scalar T, class Score = PlainScore>
requires ScoreFunction<Score, T>
[[nodiscard]] AttentionReferenceGradients<T> attention_reference_backward(
    TensorView<T, 4> grad_output, TensorView<T, 4> queries, TensorView<T, 4> keys,
    TensorView<T, 4> values, const Mask& mask, T scale, const Score& score = {},
    const DropoutMask<T>& dropout = {}, std::span<const T> sink_logits = {}) {
  const Index B = queries.dimension(0), H = queries.dimension(1), Q = queries.dimension(2),
              D = queries.dimension(3), K = keys.dimension(2), V = values.dimension(3);
  const detail::ReferenceProducts<T> products{queries, keys, scale, BoundMask(mask, B, Q, K, H)};
  const auto forward =
      attention_reference<T>(queries, keys, values, mask, scale, score, dropout, sink_logits);
  AttentionReferenceGradients<T> result{
      detail::zeros_like(queries), detail::zeros_like(keys), detail::zeros_like(values),
      detail::zeros_like<T>(forward.weights), std::vector<T>(sink_logits.size())};
  for (Index b = 0; b < B; ++b)
    for (Index h = 0; h < H; ++h)
      for (Index q = 0; q < Q; ++q) {
        const Index g = products.key_head(h);
        T mean = 0;  // sum_k P dP = sum_k P F sum_v dO V = sum_v dO O
        for (Index v = 0; v < V; ++v) mean += grad_output(b, h, q, v) * forward.output(b, h, q, v);
        const T lse = forward.lse(b, h, q);
        if (const auto i = static_cast<std::size_t>(h);
            !sink_logits.empty() && !detail::is_negative_infinity(lse))
          result.sink_logits[i] -= (1 - detail::share_beside_sink(lse, sink_logits[i])) * mean;

        for (Index k = 0; k < K; ++k) {
          if (!products.sees(b, h, q, k)) continue;
          const ScorePosition position = products.position(b, h, q, k);
          const T product = products(b, h, q, k), final_score = score(product, position);
          if (detail::is_negative_infinity(final_score)) continue;
          const T weight = forward.weights(b, h, q, k), factor = dropout.factor(b, h, q, k);

          // O[q, v] = sum_k P[q, k] F[q, k] V[k, v]
          T grad_weight = 0;
          for (Index v = 0; v < V; ++v) {
            grad_weight += grad_output(b, h, q, v) * values(b, g, k, v);
            result.values(b, g, k, v) += weight * factor * grad_output(b, h, q, v);
          }
          grad_weight *= factor;
          // P[q, k] = exp(S[q, k]) / sum_j exp(S[q, j])
          const T grad_score = weight * (grad_weight - mean);
          result.scores(b, h, q, k) = grad_score;
          // S[q, k] = score(Z[q, k]),  Z[q, k] = scale * sum_d Q[q, d] K[k, d]
          const T grad_product = scale * (grad_score * score_derivative(score, product, position));
          for (Index d = 0; d < D; ++d) {
            result.queries(b, h, q, d) += grad_product * keys(b, g, k, d);
            result.keys(b, g, k, d) += grad_product * queries(b, h, q, d);
          }
        }
      }
  return result;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
