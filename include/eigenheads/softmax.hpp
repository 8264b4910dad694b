// SPDX-License-Identifier: MIT
#pragma once
// Softmax over the keys that valid_lens leaves, and its gradient.
//   P[q, k] = exp(S[q, k] - m[q]) / sum_k exp(S[q, k] - m[q]),   m[q] = max_k S[q, k]
// A query without any key gets a row of zeros (contract C2), where the chapter's fill of -1e6 would
// give uniform weights. The same bits on every CPU (contract C6), and as attention's weights of the
// same scores have.
#include <cstddef>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>   // blocks_of
#include <eigenheads/kernels/chosen.hpp>  // elementary_kernels
#include <eigenheads/mask.hpp>            // ValidLens, BoundMask
#include <eigenheads/shape.hpp>           // require_shape, make_tensor
#include <eigenheads/tensor.hpp>          // TensorOfRank, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {
// scores: [B, Q, K] -> weights, [B, Q, K]. Every row sums to 1, or is all 0 where no key is left. A
// score of -inf is a key that is not there; NaN makes its row NaN; what lies beyond valid_lens is
// not read. Throws std::invalid_argument if valid_lens does not fit [B] or [B, Q].
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
  const detail::ElementaryKernels<T> kernels = detail::elementary_kernels<T>();
  std::vector<T> maxima(static_cast<std::size_t>(detail::blocks_of(K, kernels.key_block)));
  for (Index b = 0; b < B; ++b)
    for (Index q = 0; q < Q; ++q) {
      const Index row = (b * Q + q) * K;
      kernels.masked_softmax_row(view.data() + row, bound.key_range(b, q).end, K,
                                 weights.data() + row, maxima.data());
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
  const detail::ElementaryKernels<T> kernels = detail::elementary_kernels<T>();
  for (Index row = 0; row < rows; ++row)
    kernels.masked_softmax_row_backward(view.data() + row * K, grad_view.data() + row * K, K,
                                        grad_scores.data() + row * K);
  return grad_scores;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
