// SPDX-License-Identifier: MIT
#pragma once
// The bits of steps through a cache, of every storage.
#include <algorithm>
#include <array>
#include <string>
#include <type_traits>

#include <eigenheads/kv_cache.hpp>

#include "digests.hpp"

namespace digest {

// Prompts of two sequences and steps after them, all outputs below each other.
template <class T, class Storage>
[[nodiscard]] Tensor<T, 2> decoded(Index window) {
  constexpr Index B = 2, length = 540, E = 24;
  eh::MultiHeadAttention<T> layer({.num_hiddens = E,
                                   .num_heads = 6,
                                   .bias = true,
                                   .query_size = E,
                                   .key_size = E,
                                   .value_size = E,
                                   .num_kv_heads = 2,
                                   .head_size = 20},
                                  3);
  const auto x = numbers<T>(90, T(4), length, B, E);  // steps are rows of it
  eh::KvCache<T, Storage> cache({.batch_size = B,
                                 .num_kv_heads = 2,
                                 .head_size = 20,
                                 .capacity = window > 0 ? window : length,
                                 .window = window});
  Tensor<T, 2> all(length * B, E);
  for (Index t = 0, n = 0, i = 0; t < length; t += n, ++i) {
    n = std::min(std::array<Index, 5>{130, 1, 3, 49, 1}[static_cast<std::size_t>(i % 5)],
                 length - t);
    Tensor<T, 3> tokens(B, n, E);
    for (Index b = 0; b < B; ++b)
      for (Index j = 0; j < n; ++j)
        std::copy_n(x.data() + ((t + j) * B + b) * E, E, tokens.data() + (b * n + j) * E);
    const Tensor<T, 3> y = layer.step(tokens, cache);
    std::copy_n(y.data(), y.size(), all.data() + t * B * E);
  }
  return all;
}

template <class T>
void add_decoding(Digests& digests, const std::string& type) {
  digests.emplace_back(type + "/decoding", digest_of(decoded<T, T>(0)));
  digests.emplace_back(type + "/decoding/ring", digest_of(decoded<T, T>(37)));
  if constexpr (std::is_same_v<T, float>) {
    digests.emplace_back(type + "/decoding/bfloat16", digest_of(decoded<T, eh::BFloat16>(0)));
    digests.emplace_back(type + "/decoding/half", digest_of(decoded<T, eh::Half>(37)));
  }
}

}  // namespace digest
