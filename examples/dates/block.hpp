// SPDX-License-Identifier: MIT
#pragma once
// Attention and a feed-forward network, each beside a path that goes straight through:
//   n = norm_1(x),   y = x + attention(n, m, m),   z = y + feed_forward(norm_2(y))
// where m is n itself, or, if there is a memory, that. Norms stand before what they feed, as in
// Xiong et al., "On Layer Normalization in the Transformer Architecture", 2020.
#include <cstdint>

#include <eigenheads/context.hpp>               // Context
#include <eigenheads/mask.hpp>                  // Mask
#include <eigenheads/multi_head_attention.hpp>  // MultiHeadAttention
#include <eigenheads/tensor.hpp>                // Tensor, Scalar

#include "layers.hpp"  // RmsNorm, FeedForward
#include "module.hpp"  // Module

namespace dates {

using eigenheads::Mask, eigenheads::MultiHeadAttention;

template <Scalar T>
class Block : public Module<Block<T>> {
 public:
  Block(Index num_hiddens, Index num_heads, Index inner, std::uint64_t seed)
      : norm_1(num_hiddens),
        attention({.num_hiddens = num_hiddens,
                   .num_heads = num_heads,
                   .query_size = num_hiddens,
                   .key_size = num_hiddens,
                   .value_size = num_hiddens},
                  seed),
        norm_2(num_hiddens),
        feed_forward(num_hiddens, inner, seed) {}

  RmsNorm<T> norm_1;
  MultiHeadAttention<T> attention;
  RmsNorm<T> norm_2;
  FeedForward<T> feed_forward;

  struct Activations {
    typename RmsNorm<T>::Activations norm_1, norm_2;
    typename MultiHeadAttention<T>::Activations attention;
    typename FeedForward<T>::Activations feed_forward;
  };
  struct Gradients : Module<Gradients, Block> {
    typename RmsNorm<T>::Gradients norm_1, norm_2;
    typename MultiHeadAttention<T>::Gradients attention;
    typename FeedForward<T>::Gradients feed_forward;
  };
  template <class Self, class Visit>
  static void for_each_part(Self& self, Visit&& visit) {
    visit("norm_1", self.norm_1);
    visit("attention", self.attention);
    visit("norm_2", self.norm_2);
    visit("feed_forward", self.feed_forward);
  }

  // x: [B, L, E], memory: null or [B, K, E] -> [B, L, E]
  [[nodiscard]] Tensor<T, 3> forward(const Tensor<T, 3>& x, const Tensor<T, 3>* memory,
                                     const Mask& mask, Activations& saved, Context& context) const {
    const Tensor<T, 3>& n = norm_1.forward(x, saved.norm_1, context);
    const Tensor<T, 3>& m = memory != nullptr ? *memory : n;
    Tensor<T, 3> y = attention.forward(n, m, m, mask, saved.attention, context);
    detail::add_to(y, x);
    Tensor<T, 3> z =
        feed_forward.forward(norm_2.forward(y, saved.norm_2, context), saved.feed_forward, context);
    detail::add_to(z, y);
    return z;
  }

  // dz -> dx. Adds to dmemory, which is null where there was no memory.
  [[nodiscard]] Tensor<T, 3> backward(const Tensor<T, 3>& dz, Tensor<T, 3>* dmemory,
                                      const Activations& saved, Gradients& gradients,
                                      Context& context) const {
    // z = y + feed_forward(norm_2(y))
    Tensor<T, 3> dy = norm_2.backward(
        feed_forward.backward(dz, saved.feed_forward, gradients.feed_forward, context),
        saved.norm_2, gradients.norm_2, context);
    detail::add_to(dy, dz);
    // y = x + attention(n, m, m)
    auto& slopes = gradients.attention;
    attention.backward_into(slopes, dy, saved.attention, false, context);
    Tensor<T, 3>& dm = dmemory != nullptr ? *dmemory : slopes.queries;
    detail::add_to(dm, slopes.keys);
    detail::add_to(dm, slopes.values);
    // n = norm_1(x)
    Tensor<T, 3> dx = norm_1.backward(slopes.queries, saved.norm_1, gradients.norm_1, context);
    detail::add_to(dx, dy);
    return dx;
  }
};

}  // namespace dates
