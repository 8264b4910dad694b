// SPDX-License-Identifier: MIT
#pragma once
// The backward pass of a projection y = W x whose outputs are shared out over ranks, of whole x and dy:
//   own dW = own dy^T x      the sums over rows are those of one process, an output at a time
//   own dx = dy W            some columns of dx: a chain over all outputs, which is not split
// A rank has rows of W, and needs columns of it here. The ranks exchange them, (ranks - 1) / ranks of
// what each has, and hold them for the time of this call: to keep them would be twice the memory of the
// weights, and to send them anew after every step of an optimizer as many bytes.
#include <algorithm>
#include <span>

#include <eigenheads/context.hpp>       // Context
#include <eigenheads/detail/arena.hpp>  // Frame
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kernels/packed_matrix.hpp>      // PackedMatrix
#include <eigenheads/kernels/schedule/backward.hpp>  // keep_rows, input_gradient
#include <eigenheads/layer/forward.hpp>              // one
#include <eigenheads/linear.hpp>                     // Linear, LinearGradients
#include <eigenheads/mpi/ranks.hpp>                  // Ranks
#include <eigenheads/mpi/shares.hpp>                 // Shares
#include <eigenheads/mpi/tensor_exchange.hpp>        // exchange_weight, gather_columns

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

template <class T>
struct SharedProjection {
  const Linear<T>& own;  // the rank's outputs
  Shares outputs, inputs;
};

template <class T>
struct SharedBackward {
  eigenheads::detail::SequenceRows rows;
  const T *x, *grad_y;  // [rows, inputs], [rows, outputs], of all ranks
  T* grad_x;            // [rows, inputs of this rank]
  std::span<const eigenheads::detail::Range> outputs;  // outside of them, dy counts as 0
  bool accumulate;                                     // into the gradients of the parameters
};

template <class T>
void shared_backward(Ranks& ranks, const SharedProjection<T>& of, const SharedBackward<T>& call,
                     LinearGradients<T>& gradients, Context& context) {
  const eigenheads::detail::Frame frame(context);
  const Index rows = call.rows.total(), all = of.outputs.total();
  const eigenheads::detail::Range mine = of.outputs.of(ranks.rank());
  // A row counts if any rank has a gradient in it.
  const eigenheads::detail::KeptRows kept = eigenheads::detail::keep_rows<T>(
      {{nullptr, all, of.own.in_features(), 1}, call.rows, call.x, call.grad_y}, frame);
  T* const own_y = frame.take<T>(rows * mine.count());
  for (Index row = 0; row < rows; ++row)
    std::copy_n(call.grad_y + row * all + mine.begin, mine.count(), own_y + row * mine.count());
  eigenheads::detail::parameter_gradients<T>(
      {of.own.panels(), call.rows, call.x, own_y}, kept.rows,
      {gradients.weight.data(), of.own.has_bias() ? gradients.bias.data() : nullptr,
       call.accumulate},
      context);
  const eigenheads::detail::PackedMatrix<T> columns(
      exchange_weight<T>(ranks, of.own.panels(), of.outputs, of.inputs));
  eigenheads::detail::input_gradient<T>({columns.panels(), call.rows, nullptr, call.grad_y},
                                        {kept.ranges, call.outputs, {}}, call.grad_x, false,
                                        context);
}

// own: [rows, shares.count(rank)] -> to: [rows, shares.total()], or added to what is there.
template <class T>
void gather_gradient(Ranks& ranks, const SharedRows& of, const T* own, T* to, bool adds,
                     Context& context) {
  if (!adds) return gather_columns(ranks, of, own, to, context);
  const eigenheads::detail::Frame frame(context);
  const Index count = eigenheads::detail::total(of.rows) * of.shares.total();
  T* const all = frame.take<T>(count);
  gather_columns(ranks, of, own, all, context);
  for (Index i = 0; i < count; ++i) to[i] += all[i];
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
