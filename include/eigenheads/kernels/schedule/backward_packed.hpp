// SPDX-License-Identifier: MIT
#pragma once
// Shares the backward pass of the attention of packed sequences out over the threads of a context, as
// attend_packed.hpp does for the forward pass.
#include <algorithm>
#include <span>

#include <eigenheads/context.hpp>       // Context
#include <eigenheads/detail/arena.hpp>  // Frame
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kernels/schedule/attend_packed.hpp>  // PackedShares
#include <eigenheads/kernels/schedule/backward.hpp>       // attend_backward, in_rounds

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// Sequences of a packed call, of which each key/value head is a task. Where heads share the gradient
// of a bias, these are all sequences in their order.
template <class T>
void backward_head_tasks(const AttentionBackwardCall<T>& call, std::span<const Index> sequences,
                         const Threads& threads, Context& context) {
  const BackwardKernels<T> kernels = backward_kernels<T>();
  const Index G = call.shape.G, heads = std::ssize(sequences) * G;
  const Frame frame(context);
  BiasPartials<T> partials{call};
  const bool shares_bias = do_tasks_share_bias(call);
  const Index round = shares_bias ? (std::min)(Index{threads.most}, heads) : heads;
  if (shares_bias) partials.memory = frame.take<T>(round * partials.head_size());
  const Index size = kernels.attend_backward_scratch(call.shape, call.dropout != nullptr);
  T* const scratch = frame.take<T>((std::min)(Index{threads.most}, round) * size);
  const auto run = [&](Range these) {
    context.parallel_for(these.count(), threads, [&](Index i, int thread) {
      const Index head = these.begin + i, g = head % G;
      const Index b = sequences[static_cast<std::size_t>(head / G)];
      const AttentionBackwardCall<T> one = call_of(call, b);
      const Index blocks = one.heads.count(one.shape, b, g) * one.blocks_per_head();
      kernels.attend_backward(one,
                              {.b = b,
                               .g = g,
                               .keys = {0, one.shape.K},
                               .blocks = {0, blocks},
                               .bias_planes = partials.of(i)},
                              scratch + thread * size);
    });
  };
  in_rounds(partials, heads, round, run, context);
}

template <class T>
void attend_backward_packed(const AttentionBackwardCall<T>& call, Context& context) {
  const Index B = call.shape.B;
  if (call.shape.G == 0) return;
  const PackedShares shares = PackedShares::of(call, context);
  const bool shares_bias = do_tasks_share_bias(call);
  const Frame frame(context);
  Index* const sequences = frame.take<Index>(B);
  std::size_t count = 0;
  for (Index b = 0; b < B; ++b)
    if (const auto one = call_of(call, b); !shares_bias && shares.is_shared(one, context))
      attend_backward(one, context);
    else
      sequences[count++] = b;
  backward_head_tasks(call, {sequences, count}, shares.threads, context);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
