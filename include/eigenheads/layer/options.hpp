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
};

namespace detail {

// Options whose zeros have been replaced by what they stand for. Throws std::invalid_argument for
// invalid ones.
[[nodiscard]] inline MultiHeadAttentionOptions completed(MultiHeadAttentionOptions options) {
  const auto require = [](bool holds, const char* name, Index got, const std::string& expected) {
    if (!holds) refuse({"MultiHeadAttention: ", name, " is ", got, "; expected ", expected});
  };
  require(options.num_hiddens > 0, "num_hiddens", options.num_hiddens, "1 or more");
  require(options.num_heads > 0, "num_heads", options.num_heads, "1 or more");
  require(options.num_kv_heads >= 0, "num_kv_heads", options.num_kv_heads, "0 or more");
  require(options.head_size >= 0, "head_size", options.head_size, "0 or more");
  require(options.query_size >= 0, "query_size", options.query_size, "0 or more");
  require(options.key_size >= 0, "key_size", options.key_size, "0 or more");
  require(options.value_size >= 0, "value_size", options.value_size, "0 or more");
  const std::string heads = std::to_string(options.num_heads);
  require(options.head_size > 0 || options.num_hiddens % options.num_heads == 0, "num_hiddens",
          options.num_hiddens, "a multiple of num_heads = " + heads + ", or a head_size");
  if (options.num_kv_heads == 0) options.num_kv_heads = options.num_heads;
  if (options.head_size == 0) options.head_size = options.num_hiddens / options.num_heads;
  require(options.num_heads % options.num_kv_heads == 0, "num_kv_heads", options.num_kv_heads,
          "a divisor of num_heads = " + heads);
  require_size<float>("W_q.weight", std::array{options.num_heads, options.head_size});
  return options;
}

}  // namespace detail

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
