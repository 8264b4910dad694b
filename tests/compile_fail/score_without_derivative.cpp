// SPDX-License-Identifier: MIT
// expects: To train through it, give it a member `T derivative(T score, ScorePosition) const`
#include <eigenheads/score.hpp>

float derivative(float score) {
  const auto squared = [](float s, eigenheads::ScorePosition) { return s * s; };
  return eigenheads::score_derivative(squared, score, {});
}
