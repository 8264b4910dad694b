// SPDX-License-Identifier: MIT
// A layer as language models have it: no word sees what comes after it (causal), and groups of
// query heads share their keys and values (grouped-query attention, GQA).
#include <algorithm>
#include <cstdint>
#include <iostream>

#include <eigenheads/eigenheads.hpp>

namespace eh = eigenheads;

int main() {
  // Eight query heads of 16 numbers, two heads of keys and values: four query heads share one.
  const eh::MultiHeadAttention<float> attention({.num_hiddens = 128,
                                                 .num_heads = 8,
                                                 .query_size = 128,
                                                 .key_size = 128,
                                                 .value_size = 128,
                                                 .num_kv_heads = 2});
  std::cout << "W_q has " << attention.W_q.out_features() << " outputs, W_k and W_v have "
            << attention.W_k.out_features() << " each.\n";

  constexpr eh::Index T = 10, E = 128;
  eh::Tensor<float, 3> x(1, T, E);
  for (eh::Index i = 0; i < x.size(); ++i)
    x.data()[i] = static_cast<float>(eh::random_symmetric(/*seed=*/1, /*stream=*/0, i));

  // With as many queries as keys, top_left and bottom_right are the same. Where they differ in
  // number, top_left puts query 0 beside key 0, and bottom_right the last query beside the last
  // key.
  const eh::Mask causal{.causal = eh::Causal::top_left};
  const auto [y, weights] = attention.with_weights(x, x, x, causal);  // [1, T, E], [1, 8, T, T]

  bool sees_ahead = false;
  for (eh::Index h = 0; h < attention.num_heads(); ++h)
    for (eh::Index q = 0; q < T; ++q)
      for (eh::Index k = q + 1; k < T; ++k) sees_ahead |= weights(0, h, q, k) != 0;
  std::cout << "A word sees " << (sees_ahead ? "words after it.\n" : "no word after it.\n");

  // So other words at the end change nothing before them, not even a bit.
  constexpr eh::Index kept = 6;
  auto other = x;
  std::fill(&other(0, kept, 0), other.data() + other.size(), 7.0f);
  const eh::Tensor<float, 3> z = attention(other, other, other, causal);
  const bool same = std::equal(y.data(), y.data() + kept * E, z.data());
  std::cout << "With other words from " << kept << " on, the first " << kept << " rows have "
            << (same ? "the same bits.\n" : "other bits.\n");

  const bool shares = attention.W_k.out_features() * 4 == attention.W_q.out_features();
  return shares && !sees_ahead && same ? 0 : 1;
}
