// SPDX-License-Identifier: MIT
// A score function of your own: what happens to a score, q . k / sqrt(D), before the softmax. It
// is compiled into the kernel, so that it costs what it computes.
#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <iostream>
#include <limits>

#include <eigenheads/eigenheads.hpp>

namespace eh = eigenheads;

// Words fade with their distance: score - rate |q - k|. `adds` says that all it does is to add to
// the score, so its derivative is 1 and a layer can be trained through it. A function that does
// more has a member `float derivative(float score, eh::ScorePosition at) const` instead.
struct Fading {
  static constexpr bool adds = true;
  float rate;

  float operator()(float score, eh::ScorePosition at) const {
    return score - rate * static_cast<float>(std::abs(at.q - at.k));
  }
};

int main() {
  constexpr eh::Index T = 12, E = 32;
  const eh::MultiHeadAttention<float> attention(
      {.num_hiddens = E, .num_heads = 4, .query_size = E, .key_size = E, .value_size = E});
  eh::Tensor<float, 3> x(1, T, E);
  x.setConstant(0.5f);  // words that are all alike: only the score function tells them apart

  const Fading fading{.rate = 0.25f};
  const auto [y, weights] = attention.with_weights(x, x, x, {}, {.score = fading});
  std::cout << "What word 3 sees of each word:";
  for (eh::Index k = 0; k < T; ++k) std::cout << ' ' << weights(0, 0, 3, k);
  std::cout << '\n';

  // One step further away, a word has exp(-rate) of the weight.
  bool fades = true;
  for (eh::Index k = 4; k < T; ++k)
    fades &=
        std::abs(weights(0, 0, 3, k) / weights(0, 0, 3, k - 1) - std::exp(-fading.rate)) < 1e-5f;

  // For inference alone, a lambda is enough: here, that a word sees each second word.
  const auto each_second = [](float score, eh::ScorePosition at) {
    return (at.q - at.k) % 2 == 0 ? score : -std::numeric_limits<float>::infinity();
  };
  const auto seconds = attention.with_weights(x, x, x, {}, {.score = each_second}).weights;
  bool hides = true;
  for (eh::Index k = 0; k < T; ++k) hides &= (seconds(0, 0, 3, k) == 0) == (k % 2 == 0);
  std::cout << "A score of minus infinity " << (hides ? "hides" : "does not hide") << " a word.\n";

  return fades && hides ? 0 : 1;
}
