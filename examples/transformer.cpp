// SPDX-License-Identifier: MIT
// A transformer in twenty lines: sentences of different lengths, one below the other and without any
// padding, become a vector each.
#include <algorithm>
#include <iostream>
#include <vector>

#include <eigenheads/eigenheads.hpp>
#include <eigenheads/nn/embedding.hpp>
#include <eigenheads/nn/pooling.hpp>
#include <eigenheads/nn/positional_encoding.hpp>
#include <eigenheads/nn/transformer_encoder.hpp>

namespace eh = eigenheads;

int main() {
  const eh::Embedding<float> embedding({.num_embeddings = 1000, .embedding_dim = 64});
  const eh::PositionalEncoding<float> positions({.num_hiddens = 64});
  const eh::TransformerEncoder<float> encoder({.layer = {.num_hiddens = 64,
                                                         .num_heads = 4,
                                                         .feed_forward_size = 256,
                                                         .activation = eh::Activation::gelu,
                                                         .norm_first = true},
                                               .num_layers = 6,
                                               .final_norm = true});
  const auto encode = [&](const std::vector<int>& words, const eh::Sequences& sentences) {
    const auto x = positions(embedding(words), sentences);                 // [words, 64]
    return eh::pool(encoder(x, sentences), sentences, eh::Pooling::mean);  // [sentences, 64]
  };

  const auto vectors = encode({12, 7, 345, 9, 12, 7, 81, 500, 3, 999, 2, 1, 42}, {4, 6, 3});
  std::cout << encoder << "\nvectors of sentences: " << vectors.dimensions() << '\n';

  // The second sentence has the same bits by itself.
  const auto alone = encode({12, 7, 81, 500, 3, 999}, {6});
  const bool is_same = std::equal(alone.data(), alone.data() + 64, vectors.data() + 64);
  std::cout << "alone the " << (is_same ? "same" : "SENTENCE IS ANOTHER") << '\n';
  return is_same ? 0 : 1;
}
