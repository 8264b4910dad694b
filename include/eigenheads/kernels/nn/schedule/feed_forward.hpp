// SPDX-License-Identifier: MIT
#pragma once
// y = W_down h + b_down of h = activation(W_up x + b_up), or, gated, of
//   h = activation(W_gate x + b_gate) * (W_up x + b_up)
// in blocks of rows: what is between the projections of a block stays in the cache of the core that
// works on it. The same bits as step by step: a projection's row depends on no other row.
#include <algorithm>

#include <eigenheads/context.hpp>       // Context
#include <eigenheads/detail/arena.hpp>  // Frame
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>             // Range, blocks_of
#include <eigenheads/detail/work.hpp>               // projection_work, product
#include <eigenheads/kernels/nn/chosen.hpp>         // nn_kernels
#include <eigenheads/kernels/schedule/project.hpp>  // project

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// A projection's weight and bias; the bias may be null.
template <class T>
struct Projection {
  Panels<const T> weight;
  const T* bias = nullptr;
};

template <class T>
struct FeedForwardParts {
  Projection<T> up, gate, down;  // [hidden, size], the same or no rows at all, [size, hidden]
  Activation activation;

  [[nodiscard]] Index size() const { return up.weight.columns; }
  [[nodiscard]] Index hidden() const { return up.weight.rows; }
  [[nodiscard]] bool is_gated() const { return gate.weight.rows > 0; }
  // Of an element of h, in multiply-adds: about what an exponential takes.
  [[nodiscard]] double hidden_work(Index rows) const {
    return multiply_adds_per_score * floats_per<T> * product(rows, hidden());
  }
  [[nodiscard]] double work(Index rows) const {
    return (is_gated() ? 3 : 2) * projection_work<T>(rows, size(), hidden()) + hidden_work(rows);
  }
};

// x and y: [rows, size]. y may be x.
template <class T>
struct FeedForwardCall {
  const T* x;
  T* y;
  Index rows;
  // What the first projections give is kept there, [rows, hidden], if they are not null.
  T *up = nullptr, *gate = nullptr;
};

// `count` rows of h from those of the first projections. h may be `up`.
template <class T>
void activate_hidden(const FeedForwardParts<T>& parts, const T* up, const T* gate, T* h,
                     Index count) {
  const Index size = count * parts.hidden();
  if (!parts.is_gated()) return nn_kernels<T>().activate(parts.activation, up, h, size);
  // In pieces, so that what the activation gives is in the nearest cache when it is multiplied.
  constexpr Index piece = 256;
  T activated[piece];
  for (Index i = 0; i < size; i += piece) {
    const Index n = (std::min)(piece, size - i);
    nn_kernels<T>().activate(parts.activation, gate + i, activated, n);
    for (Index j = 0; j < n; ++j) h[i + j] = activated[j] * up[i + j];
  }
}

// Scratch memory of a thread that works on blocks of so many rows.
template <class T>
class FeedForwardScratch {
 public:
  FeedForwardScratch(const FeedForwardParts<T>& parts, Index block_rows)
      : product_(matmul_rows * parts.up.weight.width),
        hidden_((block_rows * parts.hidden() + 15) / 16 * 16) {}
  [[nodiscard]] Index size() const { return product_ + 2 * hidden_; }
  [[nodiscard]] T* product(T* memory) const { return memory; }
  [[nodiscard]] T* up(T* memory) const { return memory + product_; }
  [[nodiscard]] T* gate(T* memory) const { return memory + product_ + hidden_; }

 private:
  Index product_, hidden_;
};

// y = W x + b for the rows of a block, by one thread. product: [matmul_rows, panel width]
template <class T>
void project_block(const Projection<T>& of, const T* x, T* y, Index rows, T* product) {
  const Range all{0, rows}, inputs{0, of.weight.columns};
  projection_kernels<T>().matmul({.x = x,
                                  .rows = {&all, 1},
                                  .inputs = {&inputs, 1},
                                  .weight = of.weight,
                                  .bias = of.bias,
                                  .y = StridedMatrix<T>::plain(y, rows, of.weight.rows)},
                                 {0, of.weight.count()}, product);
}

template <class T>
void feed_forward_block(const FeedForwardParts<T>& parts, const FeedForwardCall<T>& call,
                        Range rows, const FeedForwardScratch<T>& scratch, T* memory) {
  const Index size = parts.size(), count = rows.count(), kept = rows.begin * parts.hidden();
  T* const h = scratch.up(memory);
  T* const up = call.up == nullptr ? h : call.up + kept;
  T* const gate = call.gate == nullptr ? scratch.gate(memory) : call.gate + kept;
  const T* const x = call.x + rows.begin * size;
  project_block(parts.up, x, up, count, scratch.product(memory));
  if (parts.is_gated()) project_block(parts.gate, x, gate, count, scratch.product(memory));
  activate_hidden(parts, up, gate, h, count);
  project_block(parts.down, h, call.y + rows.begin * size, count, scratch.product(memory));
}

// Step by step, each on all threads, for a few rows: a thread that took some of them through all
// steps would read all weights for those.
template <class T>
void feed_forward_by_steps(const FeedForwardParts<T>& parts, const FeedForwardCall<T>& call,
                           Context& context) {
  const Index rows = call.rows, hidden = parts.hidden();
  const Range all{0, rows};
  const Frame frame(context);
  const auto project_all = [&](const Projection<T>& of, const T* x, T* y) {
    const Range inputs{0, of.weight.columns}, outputs{0, of.weight.rows};
    project<T>({.x = x,
                .weight = of.weight,
                .bias = of.bias,
                .y = StridedMatrix<T>::plain(y, rows, of.weight.rows)},
               {{&all, 1}, {&inputs, 1}, {&outputs, 1}}, context);
  };
  T* const h = frame.take<T>(rows * hidden);
  T* const up = call.up == nullptr ? h : call.up;
  T* gate = call.gate;
  project_all(parts.up, call.x, up);
  if (parts.is_gated()) {
    if (gate == nullptr) gate = frame.take<T>(rows * hidden);
    project_all(parts.gate, call.x, gate);
  }
  context.parallel_for(rows, context.threads_for(parts.hidden_work(rows)), [&](Index row) {
    const T* const gate_row = parts.is_gated() ? gate + row * hidden : nullptr;
    activate_hidden(parts, up + row * hidden, gate_row, h + row * hidden, 1);
  });
  project_all(parts.down, h, call.y);
}

// Every thread gets as many blocks as the others, of about as many rows. At 1024 rows on two threads
// blocks of 96 would be 6 and 5.
template <class T>
void feed_forward(const FeedForwardParts<T>& parts, const FeedForwardCall<T>& call,
                  Context& context) {
  constexpr Index least_rows = 24;
  if (call.rows == 0) return;
  const auto threads = context.threads_for(parts.work(call.rows));
  if (threads.most > 1 && call.rows < least_rows * threads.most)
    return feed_forward_by_steps(parts, call, context);
  const Index blocks = blocks_of(call.rows, threads.most * matmul_rows) * threads.most;
  const Index most = blocks_of(call.rows, blocks);
  const FeedForwardScratch<T> scratch(parts, most);
  const Frame frame(context);
  T* const memory = frame.take<T>(threads.most * scratch.size());
  context.parallel_for(blocks, threads, [&](Index block, int thread) {
    const Range rows{call.rows * block / blocks, call.rows * (block + 1) / blocks};
    if (rows.count() > 0)
      feed_forward_block(parts, call, rows, scratch, memory + thread * scratch.size());
  });
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
