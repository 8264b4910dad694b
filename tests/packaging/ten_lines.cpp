// SPDX-License-Identifier: MIT
#include <iostream>

#include <eigenheads/eigenheads.hpp>

int main() {
  eigenheads::MultiHeadAttention<float> attention({.num_hiddens = 8, .num_heads = 2}, /*seed=*/1);
  eigenheads::Tensor<float, 3> x(1, 3, 8);
  x.setConstant(1);  // [batch, queries, size]
  const auto [output, weights] = attention.with_weights(x, x, x, {.valid_lens = {2}});
  std::cout << attention << "\nweights " << weights << '\n';
}
