// SPDX-License-Identifier: MIT
#pragma once
// Layers whose every parameter is felt: a fresh one's biases are 0.
#include <cstdint>

#include <eigenheads/multi_head_attention.hpp>

#include "support.hpp"

namespace support {

template <class T>
void set_random_biases(eh::MultiHeadAttention<T>& layer, std::uint64_t seed) {
  for (auto* linear : {&layer.W_q, &layer.W_k, &layer.W_v, &layer.W_o})
    if (linear->has_bias()) linear->set_bias(random_tensor<T>(seed++, linear->out_features()));
}

// Of queries, keys and values that are all of one size.
template <class T>
[[nodiscard]] eh::MultiHeadAttention<T> make_layer(Index input_size,
                                                   eh::MultiHeadAttentionOptions options,
                                                   std::uint64_t seed = 1) {
  options.query_size = options.key_size = options.value_size = input_size;
  eh::MultiHeadAttention<T> layer(options, seed);
  set_random_biases(layer, seed + 1);
  return layer;
}

}  // namespace support
