// SPDX-License-Identifier: MIT
#pragma once
// The logarithms of a softmax over each row, for losses and beam search:
//   y[b, i] = x[b, i] - max_j x[b, j] - log sum_j e^(x[b, j] - max_j x[b, j])
// In double, with sums in a fixed order, and rounded once at the end.
#include <algorithm>
#include <cstddef>
#include <span>

#include <eigenheads/context.hpp>            // Context
#include <eigenheads/detail/float_bits.hpp>  // is_nan, is_finite
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/work.hpp>             // product, multiply_adds_per_score
#include <eigenheads/elementary.hpp>              // log
#include <eigenheads/nn/detail/sampling_row.hpp>  // weigh, sum_of
#include <eigenheads/shape.hpp>                   // require_shape, make_tensor
#include <eigenheads/tensor.hpp>                  // Tensor, TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI {
namespace detail {

// weights: [V]; block_sums: one for each block of them.
template <Scalar T>
void log_softmax_row(const T* x, T* y, std::span<double> weights, double* block_sums) {
  const Index V = std::ssize(weights);
  const T* const nan = std::find_if(x, x + V, [](const T& logit) { return is_nan(logit); });
  if (nan != x + V) {
    std::fill_n(y, V, T(*nan));
    return;
  }
  std::copy_n(x, V, weights.data());
  const double maximum = *std::max_element(weights.begin(), weights.end());
  weigh(weights, maximum, 1);
  double log_sum = sum_of(weights, block_sums);
  log(std::span<const double>(&log_sum, 1), {&log_sum, 1});
  constexpr double none = -detail::infinity<double>;
  for (Index i = 0; i < V; ++i) {
    const auto logit = static_cast<double>(x[i]);
    if (is_finite(maximum))
      y[i] = static_cast<T>(logit - maximum - log_sum);
    else
      y[i] = static_cast<T>(logit == maximum && logit > 0 ? -log_sum : none);
  }
}

}  // namespace detail

// x, y: [B, V]; y may be x. A row with NaN becomes NaN, and one of -inf alone stays so; where some are
// +inf, these share the probability. Allocates nothing once the context has seen such a call. Throws
// std::invalid_argument for another shape.
template <TensorOfRank<2> Y, TensorOfRank<2> X>
void log_softmax_into(Y&& y, const X& x, Context& context = default_context()) {
  using T = element_of<X>;
  static_assert(Scalar<T>, "log_softmax takes numbers of float or double.");
  const TensorView<T, 2> from(x);
  const TensorSpan<T, 2> to(y);
  const TensorView<T, 2> written(to);
  require_shape("x", from, "[B, V]", {any_size, any_size});
  require_shape("y", written, "[B, V]", from.dimensions());
  detail::require_same_or_disjoint("y", written, "x", from);
  const Index B = from.dimension(0), V = from.dimension(1);
  if (V == 0) return;
  const auto threads = context.threads_for(detail::floats_per<double> *
                                           detail::multiply_adds_per_score * detail::product(B, V));
  const Index sums = detail::blocks_of(V, detail::SamplingScratch::block);
  const detail::Frame frame(context);
  double* const scratch = frame.take<double>(threads.most * (V + sums));
  context.parallel_for(B, threads, [&](Index b, int thread) {
    double* const weights = scratch + thread * (V + sums);
    detail::log_softmax_row(from.data() + b * V, to.data() + b * V,
                            {weights, static_cast<std::size_t>(V)}, weights + V);
  });
}
template <TensorOfRank<2> X>
[[nodiscard]] auto log_softmax(const X& x,
                               Context& context = default_context()) -> Tensor<element_of<X>, 2> {
  const TensorView<element_of<X>, 2> from(x);
  auto y = detail::make_tensor<element_of<X>>("y", from.dimensions());
  log_softmax_into(y, from, context);
  return y;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
