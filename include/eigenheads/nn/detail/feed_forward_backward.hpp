// SPDX-License-Identifier: MIT
#pragma once
// The backward pass of a feed-forward network. What its activation gave is computed again: that
// takes less time than a projection by far, and keeping it half of the memory.
//   h = f(u):      du = f'(u) dh
//   h = f(g) u:    du = f(g) dh,   dg = f'(g) u dh
#include <algorithm>

#include <eigenheads/context.hpp>            // Context
#include <eigenheads/detail/arena.hpp>       // Frame
#include <eigenheads/detail/float_bits.hpp>  // is_zero
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kernels/nn/schedule/feed_forward.hpp>  // FeedForwardParts, activate_hidden

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// One row. grad_h becomes the gradient of `up`; grad_gate gets that of `gate`, if there is one. A row
// without a gradient has none there either, whatever lies in it.
template <class T>
void activate_hidden_backward(const FeedForwardParts<T>& parts, const T* up, const T* gate,
                              T* grad_h, T* grad_gate, bool is_kept) {
  const Index size = parts.hidden();
  const NnKernels<T> kernels = nn_kernels<T>();
  if (!is_kept) {
    if (parts.is_gated()) std::fill_n(grad_gate, size, T(0));
    return;
  }
  if (!parts.is_gated())
    return kernels.activate_backward(parts.activation, up, grad_h, grad_h, size);
  constexpr Index piece = 256;
  T activated[piece];
  for (Index i = 0; i < size; i += piece) {
    const Index n = (std::min)(piece, size - i);
    kernels.activate(parts.activation, gate + i, activated, n);
    for (Index j = 0; j < n; ++j) {
      grad_gate[i + j] = grad_h[i + j] * up[i + j];
      grad_h[i + j] *= activated[j];
    }
    kernels.activate_backward(parts.activation, gate + i, grad_gate + i, grad_gate + i, n);
  }
}

// What lies between the projections of a call, [rows, hidden] each: `up` and `gate` as they were
// kept, h as it is to be made again.
template <class T>
struct HiddenRows {
  Index rows;
  const T *up, *gate;
};

template <class T>
struct HiddenGradients {
  T *h, *gate;  // [rows, hidden] each; gate: as of one that has none, null
};

template <class T>
void activate_hidden_rows(const FeedForwardParts<T>& parts, const HiddenRows<T>& hidden, T* h,
                          Context& context) {
  const Index size = parts.hidden();
  const auto threads = context.threads_for(parts.hidden_work(hidden.rows));
  context.parallel_for(hidden.rows, threads, [&](Index row) {
    const Index at = row * size;
    activate_hidden(parts, hidden.up + at, parts.is_gated() ? hidden.gate + at : nullptr, h + at,
                    1);
  });
}

// Whether a row of grad_h has any gradient.
template <class T>
[[nodiscard]] bool has_gradient(const T* grad_h, Index size) {
  return !std::all_of(grad_h, grad_h + size, [](const T& value) { return is_zero(value); });
}

// is_kept(row): whether the row has a gradient, here or, of a share of it, elsewhere.
template <class T, class IsKept>
void activate_hidden_rows_backward(const FeedForwardParts<T>& parts, const HiddenRows<T>& hidden,
                                   const HiddenGradients<T>& grad, const IsKept& is_kept,
                                   Context& context) {
  const Index size = parts.hidden();
  const auto threads = context.threads_for(2 * parts.hidden_work(hidden.rows));
  context.parallel_for(hidden.rows, threads, [&](Index row) {
    const Index at = row * size;
    activate_hidden_backward(parts, hidden.up + at, parts.is_gated() ? hidden.gate + at : nullptr,
                             grad.h + at, parts.is_gated() ? grad.gate + at : nullptr,
                             is_kept(row));
  });
}
template <class T>
void activate_hidden_rows_backward(const FeedForwardParts<T>& parts, const HiddenRows<T>& hidden,
                                   T* grad_h, T* grad_gate, Context& context) {
  const Index size = parts.hidden();
  activate_hidden_rows_backward<T>(
      parts, hidden, {grad_h, grad_gate},
      [=](Index row) { return has_gradient(grad_h + row * size, size); }, context);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
