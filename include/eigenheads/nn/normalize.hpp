// SPDX-License-Identifier: MIT
#pragma once
// Rows of length 1, as cosine similarity wants them: y = x / max(|x|, epsilon), and the gradient.
// As torch.nn.functional.normalize, but that no length overflows or is lost to underflow (it is
// reckoned of the row times a power of two), and that a row of zeros is 0, whatever epsilon is, and
// has a gradient of 0: it has no direction. The squares are added up in 16 lanes, lane i those of
// elements i, i + 16 and so on, and the lanes folded in halves.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <limits>
#include <type_traits>
#include <utility>

#include <eigenheads/context.hpp>            // Context
#include <eigenheads/detail/float_bits.hpp>  // BitsOf, is_finite
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>  // blocks_of
#include <eigenheads/detail/work.hpp>    // product, multiply_adds_per_packed
#include <eigenheads/error.hpp>          // refuse, number_text
#include <eigenheads/kernels/loops.hpp>  // run_on_this_cpu
#include <eigenheads/shape.hpp>          // require_shape, make_tensor
#include <eigenheads/tensor.hpp>         // Tensor, TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI {

struct NormalizeOptions {
  double epsilon = 1e-12;  // rows that are shorter become no longer than |x| / epsilon
};

namespace detail {

// sum_i a[i] b[i], of a and b times `scale`.
template <class T>
[[nodiscard]] EIGEN_ALWAYS_INLINE T dot_of_scaled(const T* a, const T* b, Index count, T scale) {
  constexpr std::size_t lane_count = 16;
  constexpr auto step = static_cast<Index>(lane_count);
  std::array<T, lane_count> lanes{}, x, y;
  const auto add = [&] {
    for (std::size_t lane = 0; lane < lane_count; ++lane)
      lanes[lane] = std::fma(x[lane] * scale, y[lane] * scale, lanes[lane]);
  };
  Index i = 0;
  for (; i + step <= count; i += step) {
    std::copy_n(a + i, step, x.begin());
    std::copy_n(b + i, step, y.begin());
    add();
  }
  if (i < count) {
    x = y = {};
    std::copy_n(a + i, count - i, x.begin());
    std::copy_n(b + i, count - i, y.begin());
    add();
  }
  for (std::size_t half = lane_count / 2; half > 0; half /= 2)
    for (std::size_t lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  return lanes[0];
}

// A row's length, as that of the row times a power of two, `scale`, which brings its largest element
// near 1. Both are of the row's own numbers; with one that is not finite the scale is 1.
template <class T>
struct RowLength {
  T length, scale;
  bool is_zero, is_finite;
};
template <class T>
[[nodiscard]] EIGEN_ALWAYS_INLINE RowLength<T> row_length(const T* x, Index count) {
  using Bits = BitsOf<T>;
  constexpr int mantissa = std::numeric_limits<T>::digits - 1;
  constexpr auto one = std::bit_cast<Bits>(T(1)), sign = std::bit_cast<Bits>(T(-0.0));
  Bits largest = 0;  // without its sign: ordered as the numbers are, above them infinity, then NaN
  for (Index i = 0; i < count; ++i)
    largest = (std::max)(largest, static_cast<Bits>(std::bit_cast<Bits>(x[i]) & ~sign));
  // 2^-n, n the exponent of the largest; that of subnormal numbers counts as the smallest normal's,
  // and 2^-n is no subnormal number.
  constexpr Bits bias = one >> mantissa;
  const Bits exponent = (std::clamp)(static_cast<Bits>(largest >> mantissa), Bits(1), 2 * bias - 1);
  const bool is_finite = largest < infinity_bits<T>;
  const T scale =
      is_finite ? std::bit_cast<T>(static_cast<Bits>((2 * bias - exponent) << mantissa)) : T(1);
  return {std::sqrt(dot_of_scaled(x, x, count, scale)), scale, largest == 0, is_finite};
}
// Whether it counts as epsilon long. One with NaN or infinity is not asked: its length stays.
template <class T>
[[nodiscard]] EIGEN_ALWAYS_INLINE bool is_short(const RowLength<T>& row, T epsilon) {
  return row.is_finite && row.length < epsilon * row.scale;
}

// y = x / max(|x|, epsilon), E numbers; y may be x.
template <class T>
EIGEN_ALWAYS_INLINE void normalize_row(const T* x, Index E, T epsilon, T* y) {
  const RowLength<T> row = row_length(x, E);
  if (row.is_zero) {
    std::fill_n(y, E, T(0));
    return;
  }
  const T divisor = is_short(row, epsilon) ? epsilon * row.scale : row.length;
  for (Index i = 0; i < E; ++i) y[i] = x[i] * row.scale / divisor;
}

// dx = (dy - y sum(y dy)) / |x|, or, where epsilon is larger, dy / epsilon.
template <class T>
EIGEN_ALWAYS_INLINE void normalize_row_backward(const T* x, const T* dy, Index E, T epsilon,
                                                T* dx) {
  const RowLength<T> row = row_length(x, E);
  if (row.is_zero) {
    std::fill_n(dx, E, T(0));
    return;
  }
  if (is_short(row, epsilon)) {
    for (Index i = 0; i < E; ++i) dx[i] = dy[i] / epsilon;
    return;
  }
  for (Index i = 0; i < E; ++i) dx[i] = x[i] * row.scale / row.length;  // y
  const T projection = dot_of_scaled(dx, dy, E, T(1));
  // Divided by |x| without it: |x| = length / scale may overflow.
  for (Index i = 0; i < E; ++i)
    dx[i] = std::fma(-dx[i], projection, dy[i]) / row.length * row.scale;
}

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
  const int threads =
      context.threads_for(2 * floats_per<T> * multiply_adds_per_packed * product(rows, E));
  context.parallel_for(blocks_of(rows, rows_per_task), threads, [&](Index task) {
    const Index first = task * rows_per_task, end = (std::min)(first + rows_per_task, rows);
    run_on_this_cpu([&] {
      for (Index row = first; row < end; ++row) run(row * E);
    });
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
  if (to.data() != from.data()) detail::require_disjoint("y", TensorView<T, rank>(to), "x", from);
  detail::for_each_row<T>(from.dimensions(), context, [&](Index i) {
    detail::normalize_row(from.data() + i, from.dimension(rank - 1), epsilon, to.data() + i);
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
  detail::for_each_row<T>(from.dimensions(), context, [&](Index i) {
    detail::normalize_row_backward(from.data() + i, grad_y.data() + i, from.dimension(rank - 1),
                                   epsilon, grad_x.data() + i);
  });
  return grad_x;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
