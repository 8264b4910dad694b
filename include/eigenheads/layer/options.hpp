// SPDX-License-Identifier: MIT
#pragma once
// What a MultiHeadAttention is made of.
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <type_traits>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/rotary_options.hpp>  // RotaryOptions
#include <eigenheads/shape.hpp>           // refuse, require_size
#include <eigenheads/tensor.hpp>          // Index

namespace eigenheads::inline EIGENHEADS_ABI {

// The chapter's names. What is 0 here follows from the others, or from the first call.
struct MultiHeadAttentionOptions {
  Index num_hiddens = 0, num_heads = 0;
  double dropout = 0;                                  // of the attention weights, in training
  bool bias = false;                                   // in all four projections
  Index query_size = 0, key_size = 0, value_size = 0;  // 0: lazy, taken from the first inputs
  Index num_kv_heads = 0;  // 0: num_heads. Fewer: query heads share key/value heads (GQA, MQA)
  Index head_size = 0;     // 0: num_hiddens / num_heads
  bool sink_logits =
      false;  // a learnt sink of each head (AttentionOptions::sink_logits), at first 0
  // Turns queries and keys by their positions: that of a query is its place among the keys, as the
  // mask says (its own number, unless first_positions or bottom_right move it), that of a key its
  // number in its sequence. A call that reaches max_positions is refused.
  std::optional<RotaryOptions> rotary{};
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
  if (options.rotary) {
    if (options.rotary->head_size == 0) options.rotary->head_size = options.head_size;
    if (options.rotary->head_size != options.head_size)
      refuse({"MultiHeadAttention: rotary.head_size is ", options.rotary->head_size,
              "; expected that of the layer, ", options.head_size, ", or 0"});
  }
  require_size<float>("W_q.weight", std::array{options.num_heads, options.head_size});
  return options;
}

// Of completed options; null: none.
template <class T>
[[nodiscard]] std::shared_ptr<const Rotary<T>> rotary_of(const MultiHeadAttentionOptions& options) {
  if (!options.rotary) return nullptr;
  if constexpr (std::is_same_v<T, float>)
    return options.rotary->makers.of_float(*options.rotary);
  else
    return options.rotary->makers.of_double(*options.rotary);
}

}  // namespace detail

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
