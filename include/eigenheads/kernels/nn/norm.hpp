// SPDX-License-Identifier: MIT
#pragma once
// Shares the rows of a norm, and of its backward pass, out over the threads of a context: any number
// of them gives the same bits.
#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include <eigenheads/context.hpp>       // Context
#include <eigenheads/detail/arena.hpp>  // Frame
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>         // Range, blocks_of
#include <eigenheads/detail/sequence_rows.hpp>  // SequenceRows
#include <eigenheads/detail/work.hpp>           // product, floats_per
#include <eigenheads/kernels/matmul_call.hpp>   // gradient_rows
#include <eigenheads/kernels/nn/chosen.hpp>     // nn_kernels

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// To norm a number takes as long as so many multiply-adds, and its backward pass as three times as many.
inline constexpr double multiply_adds_per_normed = 24;
inline constexpr Index norm_rows_per_task = 64;  // whole groups, whatever the register

template <class T>
void norm(const NormCall<T>& call, Index rows, Context& context) {
  const NnKernels<T> kernels = nn_kernels<T>();
  const double work = floats_per<T> * multiply_adds_per_normed * product(rows, call.size);
  constexpr Index taken = norm_rows_per_task;
  context.parallel_for(blocks_of(rows, taken), context.threads_for(work), [&](Index task) {
    kernels.norm_rows(call, {task * taken, (std::min)((task + 1) * taken, rows)});
  });
}

// Where the gradients of weight and bias go, [size] each, or null.
template <class T>
struct NormSums {
  T *weight, *bias;
  bool adds;
};

// `call` but for shifts, scales and kept. The sums over rows run in self-contained blocks within a
// sequence, as those of a projection.
template <class T>
void norm_backward(NormBackwardCall<T> call, const SequenceRows& sequences,
                   const NormSums<T>& gradients, Context& context) {
  const NnKernels<T> kernels = nn_kernels<T>();
  const Index rows = sequences.total(), size = call.size;
  const double work = 3 * floats_per<T> * multiply_adds_per_normed * product(rows, size);
  const auto threads = context.threads_for(work);
  const Frame frame(context);
  call.shifts = frame.take<T>(rows);
  call.scales = frame.take<T>(rows);
  call.kept = frame.take<std::uint8_t>(rows);
  constexpr Index taken = norm_rows_per_task;
  context.parallel_for(blocks_of(rows, taken), threads, [&](Index task) {
    kernels.norm_backward_rows(call, {task * taken, (std::min)((task + 1) * taken, rows)});
  });
  const std::array<T*, 2> to{gradients.weight, gradients.bias};
  if (to[0] == nullptr && to[1] == nullptr) return;

  T* const sums = frame.take<T>(2 * size);
  const std::array<T*, 2> from{to[0] == nullptr ? nullptr : sums,
                               to[1] == nullptr ? nullptr : sums + size};
  constexpr Index columns = 64;  // of a task: whole cache lines of every row
  context.parallel_for(blocks_of(size, columns), threads, [&](Index task) {
    const Range range{task * columns, (std::min)((task + 1) * columns, size)};
    for (T* const sum : from)
      if (sum != nullptr) std::fill_n(sum + range.begin, range.count(), T(0));
    for (Index b = 0; b < sequences.count(); ++b) {
      const Index end = sequences.begin(b) + sequences.length(b);
      for (Index row = sequences.begin(b); row < end; row += gradient_rows)
        kernels.norm_parameter_sums(call, {row, (std::min)(row + gradient_rows, end)}, range,
                                    from[0], from[1]);
    }
    for (std::size_t i = 0; i < to.size(); ++i)
      for (Index k = range.begin; to[i] != nullptr && k < range.end; ++k)
        to[i][k] = gradients.adds ? to[i][k] + from[i][k] : from[i][k];
  });
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
