// SPDX-License-Identifier: MIT
#pragma once
// One vector a sequence: the mean of its rows, its first row, or their maximum, feature by feature.
//   Tensor<float, 2> y = pool(x, Pooling::mean, {3, 2});  // x: [2, L, E], of which 3 and 2 rows count
//   Tensor<float, 2> y = pool(x, sequences, Pooling::mean);    // x: [N, E], packed: the same bits
// A sequence without rows gives zeros. Rows that do not count are not read, and their gradient is 0.
// The mean is a sum in blocks of 256 rows, each from zero and in the order of its rows, which are
// added up in their order, divided by the number of rows. The maximum of numbers and NaN is NaN; its
// gradient goes to the first row that has it.
#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>

#include <eigenheads/context.hpp>            // Context
#include <eigenheads/detail/block_sum.hpp>   // BlockSum
#include <eigenheads/detail/float_bits.hpp>  // is_nan
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>           // blocks_of
#include <eigenheads/detail/sequence_rows.hpp>    // SequenceRows
#include <eigenheads/detail/work.hpp>             // Threads, product, multiply_adds_per_packed
#include <eigenheads/kernels/matmul_call.hpp>     // gradient_rows
#include <eigenheads/kernels/nn/chosen.hpp>       // row_kernels
#include <eigenheads/nn/detail/enumerations.hpp>  // require_known
#include <eigenheads/sequences.hpp>               // Sequences, require_rows
#include <eigenheads/shape.hpp>                   // require_shape, make_tensor
#include <eigenheads/tensor.hpp>                  // Tensor, TensorView, TensorSpan
#include <eigenheads/valid_lens.hpp>              // ValidLens

namespace eigenheads::inline EIGENHEADS_ABI {

enum class Pooling { mean, first, max };

namespace detail {

// What is pooled: the rows of each sequence in x, [*, E]; if there are lengths, the first so many.
template <class T>
struct PoolCall {
  Pooling pooling;
  const T* x;
  Index E;
  SequenceRows rows;
  const ValidLens* lens = nullptr;  // [B]

  [[nodiscard]] Index length(Index b) const {
    return lens == nullptr || lens->rank() == 0 ? rows.length(b) : lens->length(b, 0);
  }
  [[nodiscard]] Threads threads(const Context& context) const {
    return context.threads_for(floats_per<T> * multiply_adds_per_packed * product(rows.total(), E));
  }
};

// x: some columns of `length` rows, one or more, `stride` apart; y: where those go.
template <class T>
void mean_of_rows(const T* x, Index length, Index stride, Index columns, T* y) {
  const RowKernels<T> kernels = row_kernels<T>();
  BlockSum<T> sum(kernels, columns);
  for (Index begin = 0; begin < length; begin += gradient_rows) {
    for (Index row = begin, end = (std::min)(begin + gradient_rows, length); row < end; ++row)
      sum.add(x + row * stride);
    sum.end_block();
  }
  std::transform(sum.get(), sum.get() + columns, y,
                 [&](T total) { return total / static_cast<T>(length); });
}
template <class T>
void maximum_of_rows(const T* x, Index length, Index stride, Index columns, T* y) {
  const RowKernels<T> kernels = row_kernels<T>();
  std::copy_n(x, columns, y);
  for (Index row = 1; row < length; ++row) kernels.maximum_array(x + row * stride, y, columns);
}
// In which row.
template <class T>
[[nodiscard]] Index row_of_maximum(const T* x, Index length, Index stride) {
  Index found = 0;
  for (Index row = 1; row < length && !is_nan(x[found * stride]); ++row)
    if (is_nan(x[row * stride]) || x[row * stride] > x[found * stride]) found = row;
  return found;
}

// run(b, first, end) for the columns [first, end) of each sequence, shared out over the threads.
template <class T, class Run>
void for_each_pooled(const PoolCall<T>& call, Context& context, const Run& run) {
  const Index cuts = blocks_of(call.E, columns_per_task);
  context.parallel_for(call.rows.count() * cuts, call.threads(context), [&](Index task) {
    const Index first = task % cuts * columns_per_task;
    run(task / cuts, first, (std::min)(first + columns_per_task, call.E));
  });
}

// y: [B, E]
template <class T>
void run_pool(const PoolCall<T>& call, T* y, Context& context) {
  for_each_pooled(call, context, [&](Index b, Index begin, Index end) {
    const Index length = call.length(b), E = call.E;
    const T* const x = call.x + call.rows.begin(b) * E;
    T* const to = y + b * E;
    if (length == 0) {
      std::fill(to + begin, to + end, T(0));
    } else if (call.pooling == Pooling::first) {
      std::copy(x + begin, x + end, to + begin);
    } else if (call.pooling == Pooling::mean) {
      mean_of_rows(x + begin, length, E, end - begin, to + begin);
    } else {
      maximum_of_rows(x + begin, length, E, end - begin, to + begin);
    }
  });
}

// grad_y: [B, E], grad_x: as x, all of it.
template <class T>
void run_pool_backward(const PoolCall<T>& call, const T* grad_y, T* grad_x, Context& context) {
  for_each_pooled(call, context, [&](Index b, Index begin, Index end) {
    const Index length = call.length(b), E = call.E, first_row = call.rows.begin(b);
    const T *const x = call.x + first_row * E, *const dy = grad_y + b * E;
    T* const dx = grad_x + first_row * E;
    for (Index row = 0; row < call.rows.length(b); ++row)
      std::fill(dx + row * E + begin, dx + row * E + end, T(0));
    if (length == 0) return;
    if (call.pooling == Pooling::first) {
      std::copy(dy + begin, dy + end, dx + begin);
    } else if (call.pooling == Pooling::mean) {
      for (Index e = begin; e < end; ++e) dx[e] = dy[e] / static_cast<T>(length);
      for (Index row = 1; row < length; ++row)
        std::copy(dx + begin, dx + end, dx + row * E + begin);
    } else {
      for (Index e = begin; e < end; ++e) dx[row_of_maximum(x + e, length, E) * E + e] = dy[e];
    }
  });
}

template <class T>
[[nodiscard]] PoolCall<T> pool_call(Pooling pooling, TensorView<T, 3> x, const ValidLens& lens) {
  require_known("pooling", pooling, Pooling::max);
  require_shape("x", x, "[B, L, E]", {any_size, any_size, any_size});
  const auto [B, L, E] = x.dimensions();
  lens.require_fits("lens", B, L, "the rows of a sequence, ");
  return {pooling, x.data(), E, SequenceRows(B, L), &lens};
}
template <class T>
[[nodiscard]] PoolCall<T> pool_call(Pooling pooling, TensorView<T, 2> x,
                                    const Sequences& sequences) {
  require_known("pooling", pooling, Pooling::max);
  require_shape("x", x, "[N, E]", {any_size, any_size});
  require_rows("x", x, sequences);
  return {pooling, x.data(), x.dimension(1), sequences.as_rows()};
}

template <class T, int Rank>
void pool_into(TensorSpan<T, 2> y, TensorView<T, Rank> x, const PoolCall<T>& call,
               Context& context) {
  require_shape("y", TensorView<T, 2>(y), "[B, E]", {call.rows.count(), call.E});
  require_disjoint("y", TensorView<T, 2>(y), "x", x);
  run_pool(call, y.data(), context);
}
template <class T>
[[nodiscard]] Tensor<T, 2> pool(const PoolCall<T>& call, Context& context) {
  auto y = make_tensor<T>("y", std::array{call.rows.count(), call.E});
  run_pool(call, y.data(), context);
  return y;
}
template <class T, int Rank>
[[nodiscard]] Tensor<T, Rank> pool_backward(TensorView<T, 2> grad_y, TensorView<T, Rank> x,
                                            const PoolCall<T>& call, Context& context) {
  require_shape("grad_y", grad_y, "[B, E]", {call.rows.count(), call.E});
  auto grad_x = make_tensor<T>("grad_x", x.dimensions());
  run_pool_backward(call, grad_y.data(), grad_x.data(), context);
  return grad_x;
}

}  // namespace detail

// ---- Padded: x: [B, L, E], of which lens, [B], says how many rows count; without them all do ------

// -> [B, E]. Throws std::invalid_argument, as all of these, if something does not fit.
template <TensorOfRank<3> X>
[[nodiscard]] Tensor<element_of<X>, 2> pool(const X& x, Pooling pooling, const ValidLens& lens = {},
                                            Context& context = default_context()) {
  return detail::pool(detail::pool_call(pooling, TensorView<element_of<X>, 3>(x), lens), context);
}
// y: [B, E], apart from x. Allocates nothing.
template <TensorOfRank<2> Y, TensorOfRank<3> X>
void pool_into(Y&& y, const X& x, Pooling pooling, const ValidLens& lens = {},
               Context& context = default_context()) {
  using T = element_of<X>;
  const TensorView<T, 3> view(x);
  detail::pool_into<T>(TensorSpan<T, 2>(y), view, detail::pool_call(pooling, view, lens), context);
}
// grad_y: [B, E], the gradient of what was pooled of x -> that of x. Only the maximum reads x.
template <TensorOfRank<3> X>
[[nodiscard]] Tensor<element_of<X>, 3> pool_backward(
    const std::type_identity_t<TensorView<element_of<X>, 2>>& grad_y, const X& x, Pooling pooling,
    const ValidLens& lens = {}, Context& context = default_context()) {
  const TensorView<element_of<X>, 3> view(x);
  return detail::pool_backward(grad_y, view, detail::pool_call(pooling, view, lens), context);
}

// ---- Packed: x: [N, E], the rows of all sequences one below the other -----------------------------

template <TensorOfRank<2> X>
[[nodiscard]] Tensor<element_of<X>, 2> pool(const X& x, const Sequences& sequences, Pooling pooling,
                                            Context& context = default_context()) {
  return detail::pool(detail::pool_call(pooling, TensorView<element_of<X>, 2>(x), sequences),
                      context);
}
template <TensorOfRank<2> Y, TensorOfRank<2> X>
void pool_into(Y&& y, const X& x, const Sequences& sequences, Pooling pooling,
               Context& context = default_context()) {
  using T = element_of<X>;
  const TensorView<T, 2> view(x);
  detail::pool_into<T>(TensorSpan<T, 2>(y), view, detail::pool_call(pooling, view, sequences),
                       context);
}
template <TensorOfRank<2> X>
[[nodiscard]] Tensor<element_of<X>, 2> pool_backward(
    const std::type_identity_t<TensorView<element_of<X>, 2>>& grad_y, const X& x,
    const Sequences& sequences, Pooling pooling, Context& context = default_context()) {
  const TensorView<element_of<X>, 2> view(x);
  return detail::pool_backward(grad_y, view, detail::pool_call(pooling, view, sequences), context);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
