// SPDX-License-Identifier: MIT
#pragma once
// Attention and a feed-forward network, each beside a path that goes straight through:
//   n = norm1(x),   y = x + attention(n, m, m),   z = y + feed_forward(norm2(y))
// where m is n itself, or, if there is a memory, that. Norms stand before what they feed, as in
// Xiong et al., "On Layer Normalization in the Transformer Architecture", 2020. The library's
// transformer layers are not such blocks: their norms have means and biases, and those that read a
// memory first attend to themselves.
#include <cstdint>

#include <eigenheads/context.hpp>               // Context
#include <eigenheads/multi_head_attention.hpp>  // MultiHeadAttention
#include <eigenheads/nn/feed_forward.hpp>       // FeedForward
#include <eigenheads/nn/layer_norm.hpp>         // RmsNorm
#include <eigenheads/sequences.hpp>             // Sequences
#include <eigenheads/tensor.hpp>                // Tensor, TensorView, Scalar

#include "../module.hpp"  // Module

namespace dates {

using eigenheads::Context, eigenheads::FeedForward, eigenheads::Index,
    eigenheads::MultiHeadAttention, eigenheads::RmsNorm, eigenheads::Scalar, eigenheads::Sequences,
    eigenheads::Tensor, eigenheads::TensorView;

template <Scalar T>
[[nodiscard]] RmsNorm<T> make_norm(Index num_hiddens) {
  return RmsNorm<T>({.size = num_hiddens, .eps = 1e-6});
}

// Packed sequences: x is [N, E].
template <Scalar T>
struct Rows {
  const Tensor<T, 2>& x;
  const Sequences& sequences;
};

template <Scalar T>
class Block : public examples::Module<Block<T>> {
 public:
  Block(Index num_hiddens, Index num_heads, Index inner, std::uint64_t seed)
      : norm1(make_norm<T>(num_hiddens)),
        attention({.num_hiddens = num_hiddens,
                   .num_heads = num_heads,
                   .query_size = num_hiddens,
                   .key_size = num_hiddens,
                   .value_size = num_hiddens},
                  seed),
        norm2(make_norm<T>(num_hiddens)),
        feed_forward({.size = num_hiddens, .hidden_size = inner}, seed) {}

  RmsNorm<T> norm1;
  MultiHeadAttention<T> attention;
  RmsNorm<T> norm2;
  FeedForward<T> feed_forward;

  struct Activations {
    Sequences sequences;
    Tensor<T, 2> x, n, y;  // [N, E]
    typename MultiHeadAttention<T>::Activations attention;
    typename FeedForward<T>::Activations feed_forward;
  };
  struct Gradients : examples::Module<Gradients, Block> {
    typename RmsNorm<T>::Gradients norm1, norm2;
    typename MultiHeadAttention<T>::Gradients attention;
    typename FeedForward<T>::Gradients feed_forward;
  };
  template <class Self, class Visit>
  static void for_each_part(Self& self, Visit&& visit) {
    visit("norm1", self.norm1);
    visit("attention", self.attention);
    visit("norm2", self.norm2);
    visit("feed_forward", self.feed_forward);
  }

  // memory: null, or of as many sequences -> [N, E]
  [[nodiscard]] Tensor<T, 2> forward(const Rows<T>& rows, const Rows<T>* memory, Activations& saved,
                                     Context& context) const {
    const Sequences& sequences = saved.sequences = rows.sequences;
    const Tensor<T, 2>& x = saved.x = rows.x;
    const Tensor<T, 2>& n = saved.n = norm1(x, context);
    const auto [m, of_memory] = memory != nullptr ? *memory : Rows<T>{n, sequences};
    saved.y = attention.forward(n, sequences, m, m, of_memory, {}, saved.attention, context);
    saved.y += x;
    Tensor<T, 2> z =
        feed_forward.forward(norm2(saved.y, context), sequences, saved.feed_forward, context);
    z += saved.y;
    return z;
  }

  // dz -> dx. Adds to dmemory, [1, M, E], which is null where there was no memory.
  [[nodiscard]] Tensor<T, 2> backward(const Tensor<T, 2>& dz, Tensor<T, 3>* dmemory,
                                      const Activations& saved, Gradients& gradients,
                                      Context& context) const {
    // z = y + feed_forward(norm2(y))
    feed_forward.backward_into(gradients.feed_forward, dz, saved.feed_forward, false, context);
    Tensor<T, 2> dy = norm2.backward(saved.y, saved.sequences, rows_of(gradients.feed_forward.x),
                                     gradients.norm2, false, context);
    dy += dz;
    // y = x + attention(n, m, m)
    auto& slopes = gradients.attention;
    attention.backward_into(slopes, dy, saved.attention, false, context);
    Tensor<T, 3>& dm = dmemory != nullptr ? *dmemory : slopes.queries;
    dm += slopes.keys;
    dm += slopes.values;
    // n = norm1(x)
    Tensor<T, 2> dx = norm1.backward(saved.x, saved.sequences, rows_of(slopes.queries),
                                     gradients.norm1, false, context);
    dx += dy;
    return dx;
  }

 private:
  // The gradient of packed rows, [1, N, E], as they are: [N, E].
  [[nodiscard]] static TensorView<T, 2> rows_of(const Tensor<T, 3>& gradient) {
    return {gradient.data(), {gradient.dimension(1), gradient.dimension(2)}};
  }
};

}  // namespace dates
