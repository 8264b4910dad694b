// SPDX-License-Identifier: MIT
#pragma once
// The gradient of a table of embeddings: every row of it is a sum over the places that have its id.
//   Blocks of gradient_rows rows of a sequence, each from zero and in the order of its rows, are added
// up in their order. So does the gradient of a projection (linear.hpp) of rows that are 1 at the id
// and 0 elsewhere, and to the bit this is that. As blocks are counted in their sequence, packed and
// padded rows have the same sums, and an id that a hundred thousand rows have loses no more to
// rounding than one of a few hundred.
#include <algorithm>

#include <eigenheads/context.hpp>           // Context
#include <eigenheads/detail/arena.hpp>      // Frame
#include <eigenheads/detail/block_sum.hpp>  // BlockSum
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>         // blocks_of
#include <eigenheads/detail/sequence_rows.hpp>  // SequenceRows
#include <eigenheads/detail/work.hpp>           // multiply_adds_per_packed
#include <eigenheads/kernels/matmul_call.hpp>   // gradient_rows
#include <eigenheads/tensor.hpp>                // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// dW[v] = sum over the rows with id v of dy, [N, E]; or dW[v] += that sum.
template <class T>
struct EmbeddingBackward {
  const Index* ids;  // [N], of [0, V)
  SequenceRows rows;
  const T* dy;
  T* dW;  // [V, E]
  Index V, E;
  Index padding_idx;  // -1: none
  bool adds;
};

// The rows with each id, in their order: those of id v are order[starts[v]] to order[starts[v + 1]].
template <class T>
void sort_rows_by_id(const EmbeddingBackward<T>& call, Index* starts, Index* order) {
  const Index count = call.rows.total();
  std::fill_n(starts, call.V + 1, Index{0});
  for (Index i = 0; i < count; ++i) ++starts[call.ids[i]];
  // First to where each id's rows end, and then, as they are taken from the last, to their begin.
  for (Index v = 0; v < call.V; ++v) starts[v + 1] += starts[v];
  for (Index i = count; i-- > 0;) order[--starts[call.ids[i]]] = i;
}

// Of the columns from `first` on, the rows from *row to those before *end.
template <class T>
void add_rows(const EmbeddingBackward<T>& call, const Index* row, const Index* end, Index first,
              BlockSum<T>& sum) {
  while (row != end) {
    const Index b = call.rows.sequence_of(*row), begin = call.rows.begin(b);
    const Index next_block = *row + gradient_rows - (*row - begin) % gradient_rows;
    const Index block_end = (std::min)(next_block, begin + call.rows.length(b));
    for (; row != end && *row < block_end; ++row) sum.add(call.dy + *row * call.E + first);
    sum.end_block();
  }
}

template <class T>
void run_embedding_backward(const EmbeddingBackward<T>& call, Context& context) {
  const Frame frame(context);
  Index* const starts = frame.take<Index>(call.V + 1);
  Index* const order = frame.take<Index>(call.rows.total());
  sort_rows_by_id(call, starts, order);
  const double touched = static_cast<double>(call.rows.total() + call.V);
  const auto threads = context.threads_for(floats_per<T> * multiply_adds_per_packed * touched *
                                           static_cast<double>(call.E));
  // By columns too, for an id that most of the rows have.
  constexpr Index ids_per_task = 256;
  const RowKernels<T> kernels = row_kernels<T>();
  const Index cuts = blocks_of(call.E, columns_per_task);
  context.parallel_for(blocks_of(call.V, ids_per_task) * cuts, threads, [&](Index task) {
    const Index first_id = task / cuts * ids_per_task, begin = task % cuts * columns_per_task;
    const Index last_id = (std::min)(first_id + ids_per_task, call.V);
    const Index end = (std::min)(begin + columns_per_task, call.E);
    for (Index v = first_id; v < last_id; ++v) {
      T* const to = call.dW + v * call.E + begin;
      const bool is_padding = v == call.padding_idx;
      const Index *const rows = order + starts[v], *const rows_end =
                                                       is_padding ? rows : order + starts[v + 1];
      if (rows == rows_end) {
        if (!call.adds) std::fill_n(to, end - begin, T(0));
        continue;
      }
      BlockSum<T> sum(kernels, end - begin);
      add_rows(call, rows, rows_end, begin, sum);
      if (call.adds)
        kernels.add_array(sum.get(), to, to, end - begin);
      else
        std::copy_n(sum.get(), end - begin, to);
    }
  });
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
