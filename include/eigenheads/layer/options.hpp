// SPDX-License-Identifier: MIT
#pragma once
// What a MultiHeadAttention is made of.
#include <array>
#include <string>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/shape.hpp>   // refuse, require_size
#include <eigenheads/tensor.hpp>  // Index

namespace eigenheads::inline EIGENHEADS_ABI {

struct MultiHeadAttentionOptions {
  Index num_hiddens = 0, num_heads = 0;
  double dropout = 0;                                  // of the attention weights, in training
  bool bias = false;                                   // in all four projections
  Index query_size = 0, key_size = 0, value_size = 0;  // 0: lazy, taken from the first inputs
  Index num_kv_heads = 0;  // 0: num_heads. Fewer: query heads share key/value heads (GQA, MQA)
  Index head_size = 0;     // 0: num_hiddens / num_heads
  bool sinks = false;      // a learnt sink of each head (AttentionOptions::sink_logits), at first 0
};

namespace detail {

// Options whose zeros have been replaced by what they stand for. Throws std::invalid_argument for
// invalid ones.
[[nodiscard]] inline MultiHeadAttentionOptions completed(MultiHeadAttentionOptions options) {
  struct Count {
    const char* name;
    Index value, least;
  };
  for (const Count& count :
       {Count{"num_hiddens", options.num_hiddens, 1}, Count{"num_heads", options.num_heads, 1},
        Count{"num_kv_heads", options.num_kv_heads, 0}, Count{"head_size", options.head_size, 0},
        Count{"query_size", options.query_size, 0}, Count{"key_size", options.key_size, 0},
        Count{"value_size", options.value_size, 0}})
    if (count.value < count.least)
      refuse({"MultiHeadAttention: ", count.name, " is ", count.value, "; expected ", count.least,
              " or more"});
  if (options.head_size == 0 && options.num_hiddens % options.num_heads != 0)
    refuse({"MultiHeadAttention: num_hiddens is ", options.num_hiddens,
            "; expected a multiple of num_heads = ", options.num_heads, ", or a head_size"});
  if (options.num_kv_heads == 0) options.num_kv_heads = options.num_heads;
  if (options.head_size == 0) options.head_size = options.num_hiddens / options.num_heads;
  if (options.num_heads % options.num_kv_heads != 0)
    refuse({"MultiHeadAttention: num_kv_heads is ", options.num_kv_heads,
            "; expected a divisor of num_heads = ", options.num_heads});
  require_size<float>("W_q.weight", std::array{options.num_heads, options.head_size});
  return options;
}

}  // namespace detail

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
