// SPDX-License-Identifier: MIT
// Decoding: a cache keeps the keys and values of the tokens that a layer has seen, so that the next
// token costs one row of work, with the bits of the call over all of them.
#include <algorithm>
#include <cstdint>
#include <iostream>

#include <eigenheads/eigenheads.hpp>
#include <eigenheads/kv_cache.hpp>

namespace eh = eigenheads;

constexpr eh::Index E = 128;

// Tokens [first, first + count) of one sequence.
eh::Tensor<float, 3> tokens(const eh::Tensor<float, 3>& x, eh::Index first, eh::Index count) {
  eh::Tensor<float, 3> part(1, count, E);
  std::copy_n(&x(0, first, 0), count * E, part.data());
  return part;
}
bool same(const eh::Tensor<float, 3>& y, const eh::Tensor<float, 3>& whole, eh::Index first) {
  return std::equal(y.data(), y.data() + y.size(), &whole(0, first, 0));
}

int main() {
  constexpr eh::Index length = 300, prompt = 200;
  const eh::MultiHeadAttention<float> layer({.num_hiddens = E,
                                             .num_heads = 8,
                                             .query_size = E,
                                             .key_size = E,
                                             .value_size = E,
                                             .num_kv_heads = 2,
                                             .rotary = eh::RotaryOptions{.max_positions = length}});
  eh::Tensor<float, 3> x(1, length, E);
  for (eh::Index i = 0; i < x.size(); ++i)
    x.data()[i] = static_cast<float>(eh::random_symmetric(/*seed=*/1, /*stream=*/0, i));
  const eh::Tensor<float, 3> whole = layer(x, x, x, {.causal = eh::Causal::top_left});

  // A prompt at once, then token by token.
  eh::KvCache<float> cache(
      {.batch_size = 1, .num_kv_heads = 2, .head_size = 16, .capacity = length});
  bool holds = same(layer.step(tokens(x, 0, prompt), cache), whole, 0);
  for (eh::Index t = prompt; t < length; ++t)
    holds = holds && same(layer.step(tokens(x, t, 1), cache), whole, t);
  std::cout << "After a prompt of " << prompt << " tokens, " << length - prompt
            << " steps of one have " << (holds ? "the bits" : "other bits than those")
            << " of the call over all " << length << ".\n";

  // A draft that was not taken is cut off again.
  cache.truncate(0, prompt);
  holds = holds && same(layer.step(tokens(x, prompt, 3), cache), whole, prompt);
  std::cout << "Cut back to " << prompt << " tokens, it holds " << cache.length(0)
            << " after three more.\n";

  // A ring keeps what a window needs, of a sequence of any length.
  const eh::Mask window{.causal = eh::Causal::top_left, .window = {.left = 31}};
  const eh::Tensor<float, 3> within = layer(x, x, x, window);
  eh::KvCache<float> ring(
      {.batch_size = 1, .num_kv_heads = 2, .head_size = 16, .capacity = 32, .window = 32});
  for (eh::Index t = 0; t < length; t += 10)
    holds = holds && same(layer.step(tokens(x, t, 10), ring), within, t);
  std::cout << "A ring of 32 tokens has seen " << ring.length(0) << ".\n";

  return holds ? 0 : 1;
}
