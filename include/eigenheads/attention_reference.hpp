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
#include <algorithm>
#include <array>

#include <eigenheads/mask.hpp>     // BoundMask, KeyRange
#include <eigenheads/softmax.hpp>  // softmax_row
#include <eigenheads/tensor.hpp>   // TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

template <Scalar T>
struct AttentionReference {
  Tensor<T, 4> output;   // [B, H, Q, V]
  Tensor<T, 3> lse;      // [B, H, Q], natural logarithm
  Tensor<T, 4> weights;  // [B, H, Q, K]
};

namespace detail {

// The sizes of one call of attention.
struct AttentionShape {
  Index B, H, G, Q, K, D, V;

  [[nodiscard]] Index kv_head(Index h) const { return h / (H / G); }
};

// One query: query [D], keys [K, D], values [K, V] -> output [V], weights [K]; returns lse. Reads
// no key or value outside of `range`. O(K (D + V)).
template <Scalar T>
T attend_row(const AttentionShape& shape, T scale, KeyRange range, const T* query, const T* keys,
             const T* values, T* output, T* weights) {
  std::fill(weights, weights + range.begin, T(0));
  for (Index k = range.begin; k < range.end; ++k) {
    T score = 0;
    for (Index d = 0; d < shape.D; ++d) score += query[d] * keys[k * shape.D + d];
    weights[k] = scale * score;
  }
  std::fill(weights + range.end, weights + shape.K, T(0));
  const T lse = softmax_row(weights + range.begin, range.end - range.begin);

  std::fill(output, output + shape.V, T(0));
  for (Index k = range.begin; k < range.end; ++k)
    for (Index v = 0; v < shape.V; ++v) output[v] += weights[k] * values[k * shape.V + v];
  return lse;
}

}  // namespace detail

// queries: [B, H, Q, D], keys: [B, G, K, D], values: [B, G, K, V], of shapes that fit each other.
// Serial, and builds the weights: for tests and for reading.
template <Scalar T>
[[nodiscard]] AttentionReference<T> attention_reference(TensorView<T, 4> queries,
                                                        TensorView<T, 4> keys,
                                                        TensorView<T, 4> values, const Mask& mask,
                                                        T scale) {
  const detail::AttentionShape shape{
      queries.dimension(0), queries.dimension(1), keys.dimension(1),  queries.dimension(2),
      keys.dimension(2),    queries.dimension(3), values.dimension(3)};
  const auto [B, H, G, Q, K, D, V] = shape;
  const BoundMask bound(mask, B, Q, K);
  AttentionReference<T> result{Tensor<T, 4>(B, H, Q, V), Tensor<T, 3>(B, H, Q),
                               Tensor<T, 4>(B, H, Q, K)};
  for (Index b = 0; b < B; ++b)
    for (Index h = 0; h < H; ++h)
      for (Index q = 0; q < Q; ++q) {
        const Index kv = b * G + shape.kv_head(h), row = (b * H + h) * Q + q;
        result.lse(b, h, q) =
            detail::attend_row(shape, scale, bound.key_range(b, q), queries.data() + row * D,
                               keys.data() + kv * K * D, values.data() + kv * K * V,
                               result.output.data() + row * V, result.weights.data() + row * K);
      }
  return result;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI
