// SPDX-License-Identifier: MIT
#include <iostream>

#include <eigenheads/eigenheads.hpp>
#include <eigenheads/plot/heatmap.hpp>

namespace eh = eigenheads;

void show_heads(eh::Index size, const eh::ValidLens& lens, const char* picture) {
  eh::MultiHeadAttention<float> attention({.num_hiddens = size, .num_heads = 5, .dropout = 0.5});
  eh::Tensor<float, 3> X(lens.sequences(), 4, size), Y(lens.sequences(), 6, size);
  X.setConstant(1), Y.setConstant(1);  // [batch, queries, size], [batch, keys, size]
  const auto [output, weights] = attention.with_weights(X, Y, Y, {.valid_lens = lens});
  eh::write_heatmaps(picture, weights);  // [batch, heads, queries, keys]
  std::cout << attention << "\noutput " << output.dimensions() << ", heads " << picture << "\n\n";
}

int main() { show_heads(100, {3, 2}, "heads.svg"), show_heads(10, {3}, "lazy_heads.svg"); }
