// SPDX-License-Identifier: MIT
// Trains one layer: from a word and its place, it learns to tell the word before. All of training
// is here: forward, the gradient of a loss, backward, a step of Adam.
#include <algorithm>
#include <cstdint>
#include <iostream>

#include <eigenheads/eigenheads.hpp>
#include <eigenheads/train/optim.hpp>

namespace eh = eigenheads;

constexpr eh::Index B = 16, T = 8, word = 8, E = word + T;  // a word's numbers, and its place

// [B, T, E]: random words, and a 1 that says at which place of its sentence each stands.
eh::Tensor<float, 3> sentences(std::uint64_t seed) {
  eh::Tensor<float, 3> x(B, T, E);
  x.setZero();
  for (eh::Index b = 0; b < B; ++b)
    for (eh::Index t = 0; t < T; ++t) {
      for (eh::Index i = 0; i < word; ++i)
        x(b, t, i) =
            static_cast<float>(eh::random_symmetric(seed, /*stream=*/1, (b * T + t) * word + i));
      x(b, t, word + t) = 1;
    }
  return x;
}

// The mean square of y's distance from the word before, and its gradient. Place 0 has no word
// before it, and does not count.
float loss(const eh::Tensor<float, 3>& y, const eh::Tensor<float, 3>& x,
           eh::Tensor<float, 3>& grad_y) {
  constexpr float count = B * (T - 1) * word;
  grad_y.setZero();
  float sum = 0;
  for (eh::Index b = 0; b < B; ++b)
    for (eh::Index t = 1; t < T; ++t)
      for (eh::Index i = 0; i < word; ++i) {
        const float error = y(b, t, i) - x(b, t - 1, i);
        sum += error * error;
        grad_y(b, t, i) = 2 * error / count;
      }
  return sum / count;
}

int main() {
  eh::MultiHeadAttention<float> attention({.num_hiddens = E, .num_heads = 1});
  eh::MultiHeadAttention<float>::Activations saved;  // what backward needs of forward
  eh::Adam<float> adam({.learning_rate = 1e-2});
  eh::Tensor<float, 3> grad_y(B, T, E);
  float first = 0, last = 0;
  for (int step = 0; step <= 400; ++step) {
    const auto x = sentences(static_cast<std::uint64_t>(step));  // never the same twice
    const auto y = attention.forward(x, x, x, {}, saved);
    last = loss(y, x, grad_y);
    if (step == 0) first = last;
    if (step % 100 == 0) std::cout << "step " << step << ": loss " << last << '\n';
    auto gradients = attention.backward(grad_y, saved);
    eh::clip_gradient_norm(1.0, gradients);
    adam.step(attention, gradients);
  }

  // Inference is a plain call. Which place does each look at?
  const auto x = sentences(12345);
  const auto [y, weights] = attention.with_weights(x, x, x);  // [B, T, E], [B, H, T, T]
  float before = 1;
  for (eh::Index b = 0; b < B; ++b)
    for (eh::Index t = 1; t < T; ++t)
      if (const float weight = weights(b, 0, t, t - 1); !(weight >= before)) before = weight;
  std::cout << "The word before has at least " << before << " of the attention.\n";
  return last < first / 100 && before > 0.5f ? 0 : 1;
}
