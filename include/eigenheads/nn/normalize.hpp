// SPDX-License-Identifier: MIT
#pragma once
// Rows of length 1, as cosine similarity wants them: y = x / max(|x|, epsilon), and the gradient.
// As torch.nn.functional.normalize, but that no length overflows or is lost to underflow (it is
// reckoned of the row times a power of two), and that a row of zeros is 0, whatever epsilon is, and
// has a gradient of 0: it has no direction. The squares are added up in 16 lanes, lane i those of
// elements i, i + 16 and so on, and the lanes folded in halves.
#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>

#include <eigenheads/context.hpp>            // Context
#include <eigenheads/detail/float_bits.hpp>  // is_finite
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>      // blocks_of
#include <eigenheads/detail/work.hpp>        // product, multiply_adds_per_packed
#include <eigenheads/error.hpp>              // refuse, number_text
#include <eigenheads/kernels/nn/chosen.hpp>  // row_kernels
#include <eigenheads/shape.hpp>              // require_shape, make_tensor
#include <eigenheads/tensor.hpp>             // Tensor, TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI {

struct NormalizeOptions {
  double epsilon = 1e-12;  // rows that are shorter become no longer than |x| / epsilon
};

namespace detail {

template <class T>
[[nodiscard]] T normalize_epsilon(const NormalizeOptions& options) {
  const auto epsilon = static_cast<T>(options.epsilon);
  if (!is_finite(options.epsilon) || options.epsilon < 0 || !is_finite(epsilon))
    refuse({"normalize: epsilon is ", number_text(options.epsilon), "; expected 0 or more"});
  return epsilon;
}

// run(i) for the first element i of every row of [..., E], E > 0, shared out over the threads.
template <class T, std::size_t Rank, class Run>
void for_each_row(const std::array<Index, Rank>& shape, Context& context, const Run& run) {
  constexpr Index rows_per_task = 64;
  const Index E = shape.back();
  Index rows = E > 0 ? 1 : 0;
  for (std::size_t axis = 0; axis + 1 < Rank; ++axis) rows *= shape[axis];
  const auto threads =
      context.threads_for(2 * floats_per<T> * multiply_adds_per_packed * product(rows, E));
  context.parallel_for(blocks_of(rows, rows_per_task), threads, [&](Index task) {
    const Index first = task * rows_per_task, end = (std::min)(first + rows_per_task, rows);
    for (Index row = first; row < end; ++row) run(row * E);
  });
}

}  // namespace detail

// x, y: [..., E]; y may be x itself, and may not overlap with it otherwise. Allocates nothing. Throws
// std::invalid_argument for shapes that do not fit, or unless epsilon is finite and 0 or more.
template <detail::TensorLike Y, detail::TensorLike X>
void normalize_into(Y&& y, const X& x, const NormalizeOptions& options = {},
                    Context& context = default_context()) {
  using T = element_of<X>;
  constexpr int rank = rank_of<X>;
  static_assert(Scalar<T> && rank >= 1);
  const TensorView<T, rank> from(x);
  const TensorSpan<T, rank> to(y);
  const T epsilon = detail::normalize_epsilon<T>(options);
  require_shape("x", from, "[..., E]", from.dimensions());
  require_shape("y", TensorView<T, rank>(to), "[..., E]", from.dimensions());
  detail::require_same_or_disjoint("y", TensorView<T, rank>(to), "x", from);
  const detail::RowKernels<T> kernels = detail::row_kernels<T>();
  detail::for_each_row<T>(from.dimensions(), context, [&](Index i) {
    kernels.normalize_row(from.data() + i, from.dimension(rank - 1), epsilon, to.data() + i);
  });
}

// -> y: [..., E]
template <detail::TensorLike X>
[[nodiscard]] Tensor<element_of<X>, rank_of<X>> normalize(const X& x,
                                                          const NormalizeOptions& options = {},
                                                          Context& context = default_context()) {
  using T = element_of<X>;
  auto y = detail::make_tensor<T>("y", TensorView<T, rank_of<X>>(x).dimensions());
  normalize_into(y, x, options, context);
  return y;
}
// grad_y: [..., E], the gradient of what was made of x -> that of x.
template <detail::TensorLike X>
[[nodiscard]] Tensor<element_of<X>, rank_of<X>> normalize_backward(
    const std::type_identity_t<TensorView<element_of<X>, rank_of<X>>>& grad_y, const X& x,
    const NormalizeOptions& options = {}, Context& context = default_context()) {
  using T = element_of<X>;
  constexpr int rank = rank_of<X>;
  const TensorView<T, rank> from(x);
  const T epsilon = detail::normalize_epsilon<T>(options);
  require_shape("x", from, "[..., E]", from.dimensions());
  require_shape("grad_y", grad_y, "[..., E]", from.dimensions());
  auto grad_x = detail::make_tensor<T>("grad_x", from.dimensions());
  const detail::RowKernels<T> kernels = detail::row_kernels<T>();
  detail::for_each_row<T>(from.dimensions(), context, [&](Index i) {
    kernels.normalize_row_backward(from.data() + i, grad_y.data() + i, from.dimension(rank - 1),
                                   epsilon, grad_x.data() + i);
  });
  return grad_x;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
