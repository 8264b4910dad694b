// SPDX-License-Identifier: MIT
#pragma once
// Scaled dot-product attention as the paper writes it, row by row: the oracle that every faster
// path is held against.
//   S[q, k] = scale * sum_d Q[q, d] K[k, d]        over the keys that query q may see
//   P[q, k] = exp(S[q, k] - lse[q]),               lse[q] = log sum_k exp(S[q, k])
//   O[q, v] = sum_k P[q, k] V[k, v]
// Vaswani et al., "Attention Is All You Need", 2017, equation 1; query head h reads key/value head
// h / (H / G), as in Ainslie et al., "GQA", 2023. A query without any key has P = 0, O = 0, lse =
// -inf.
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include <eigenheads/float_bits.hpp>  // is_negative_infinity
#include <eigenheads/mask.hpp>        // BoundMask, KeyRange
#include <eigenheads/score.hpp>       // ScoreFunction, PlainScore
#include <eigenheads/softmax.hpp>     // softmax_row
#include <eigenheads/tensor.hpp>      // TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

template <Scalar T>
struct AttentionReference {
  Tensor<T, 4> output;   // [B, H, Q, V]
  Tensor<T, 3> lse;      // [B, H, Q], natural logarithm
  Tensor<T, 4> weights;  // [B, H, Q, K]
};

// queries: [B, H, Q, D], keys: [B, G, K, D], values: [B, G, K, V], of shapes that fit each other.
// Serial, and builds the weights: for tests and for reading. Touches no key or value that the mask
// hides from a query.
template <Scalar T, class Score = PlainScore>
requires ScoreFunction<Score, T>
[[nodiscard]] AttentionReference<T> attention_reference(TensorView<T, 4> queries,
                                                        TensorView<T, 4> keys,
                                                        TensorView<T, 4> values, const Mask& mask,
                                                        T scale, const Score& score = {}) {
  const Index B = queries.dimension(0), H = queries.dimension(1), Q = queries.dimension(2),
              D = queries.dimension(3), G = keys.dimension(1), K = keys.dimension(2),
              V = values.dimension(3);
  const BoundMask bound(mask, B, Q, K, H);
  AttentionReference<T> result{Tensor<T, 4>(B, H, Q, V), Tensor<T, 3>(B, H, Q),
                               Tensor<T, 4>(B, H, Q, K)};
  for (Index b = 0; b < B; ++b)
    for (Index h = 0; h < H; ++h)
      for (Index q = 0; q < Q; ++q) {
        const Index g = h / (H / G);
        const KeyRange range = bound.key_range(b, h, q);
        const std::uint8_t* allowed = bound.allowed_row(b, h, q);
        const auto sees = [&](Index k) {
          return k >= range.begin && k < range.end && (allowed == nullptr || allowed[k] != 0);
        };

        T* weights = K == 0 ? nullptr : &result.weights(b, h, q, 0);
        for (Index k = 0; k < K; ++k) {
          weights[k] = -std::numeric_limits<T>::infinity();
          if (!sees(k)) continue;
          T product = 0;
          for (Index d = 0; d < D; ++d) product += queries(b, h, q, d) * keys(b, g, k, d);
          weights[k] = score(scale * product, detail::score_position(b, h, q, k));
        }
        std::vector<bool> is_seen(
            static_cast<std::size_t>(K));  // a score of -inf hides its key too
        for (Index k = 0; k < K; ++k)
          is_seen[static_cast<std::size_t>(k)] = !detail::is_negative_infinity(weights[k]);
        result.lse(b, h, q) = detail::softmax_row(weights, K);

        for (Index v = 0; v < V; ++v) {
          T sum = 0;
          for (Index k = 0; k < K; ++k)
            if (is_seen[static_cast<std::size_t>(k)]) sum += weights[k] * values(b, g, k, v);
          result.output(b, h, q, v) = sum;
        }
      }
  return result;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI
