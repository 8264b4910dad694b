// SPDX-License-Identifier: MIT
#pragma once
// Softmax over the keys that valid_lens leaves, and its gradient.
//   P[q, k] = exp(S[q, k] - m[q]) / sum_k exp(S[q, k] - m[q]),   m[q] = max_k S[q, k]
// A query without any key gets a row of zeros (contract C2), where the chapter's fill of -1e6 would
// give uniform weights.
#include <algorithm>
#include <cmath>
#include <limits>

#include <eigenheads/detail/float_bits.hpp>  // is_negative_infinity
#include <eigenheads/mask.hpp>               // ValidLens, BoundMask
#include <eigenheads/shape.hpp>              // require_shape, make_tensor
#include <eigenheads/tensor.hpp>             // TensorOfRank, TensorView

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
    return -std::numeric_limits<T>::infinity();
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

}  // namespace detail

// scores: [B, Q, K] -> weights, [B, Q, K]. Every row sums to 1, or is all 0 where no key is left.
// Throws std::invalid_argument if valid_lens does not fit [B] or [B, Q].
template <TensorOfRank<3> Scores>
[[nodiscard]] auto masked_softmax(const Scores& scores, const ValidLens& valid_lens = {})
    -> Tensor<element_of<Scores>, 3> {
  using T = element_of<Scores>;
  static_assert(Scalar<T>, "masked_softmax takes scores of float or double.");
  const TensorView view(scores);
  require_shape("masked_softmax: scores", view, "[B, Q, K]", {any_size, any_size, any_size});
  const Index B = view.dimension(0), Q = view.dimension(1), K = view.dimension(2);
  const Mask mask{.valid_lens = valid_lens};
  const BoundMask bound(mask, B, Q, K);
  auto weights = detail::make_tensor<T>("weights", view.dimensions());
  for (Index b = 0; b < B; ++b)
    for (Index q = 0; q < Q; ++q) {
      const Index visible = bound.key_range(b, q).end;
      const T* from = view.data() + (b * Q + q) * K;
      T* row = weights.data() + (b * Q + q) * K;
      std::copy_n(from, visible, row);
      std::fill(row + visible, row + K, T(0));
      detail::softmax_row(row, visible);
    }
  return weights;
}

// The gradient by the scores: P[q, k] = exp(S[q, k]) / sum_j exp(S[q, j]), so
//   dS[q, k] = P[q, k] (dP[q, k] - sum_j P[q, j] dP[q, j])
// weights, as masked_softmax gave them, and grad_weights: [B, Q, K] -> [B, Q, K]. A key that weighs
// nothing may be hidden: its gradient is 0, and grad_weights is not read there. Throws
// std::invalid_argument unless both have one shape.
template <TensorOfRank<3> Weights, TensorOfRank<3> GradWeights>
[[nodiscard]] auto masked_softmax_backward(const Weights& weights, const GradWeights& grad_weights)
    -> Tensor<element_of<Weights>, 3> {
  using T = element_of<Weights>;
  static_assert(Scalar<T>, "masked_softmax_backward takes weights of float or double.");
  const TensorView view(weights);
  const TensorView<T, 3> grad_view(grad_weights);
  require_shape("masked_softmax_backward: weights", view, "[B, Q, K]",
                {any_size, any_size, any_size});
  require_shape("masked_softmax_backward: grad_weights", grad_view, "[B, Q, K]", view.dimensions());
  const Index K = view.dimension(2), rows = view.dimension(0) * view.dimension(1);
  auto grad_scores = detail::make_tensor<T>("grad_scores", view.dimensions());
  for (Index row = 0; row < rows; ++row) {
    const T *P = view.data() + row * K, *dP = grad_view.data() + row * K;
    T* dS = grad_scores.data() + row * K;
    T mean = 0;
    for (Index k = 0; k < K; ++k)
      if (P[k] != 0) mean += P[k] * dP[k];
    for (Index k = 0; k < K; ++k) dS[k] = P[k] != 0 ? P[k] * (dP[k] - mean) : T(0);
  }
  return grad_scores;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI
