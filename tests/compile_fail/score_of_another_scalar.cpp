// SPDX-License-Identifier: MIT
// expects: This is not a score function for tensors of this scalar type
// each of: OWN CHAIN DERIVATIVE
#include <eigenheads/score.hpp>

namespace eh = eigenheads;
using eh::detail::require_score_function;

void call(const eh::ScoreBias<double>& bias) {
  (void)bias;
  const auto own = [](double score, eh::ScorePosition) { return score; };
#if defined(OWN)
  require_score_function<decltype(own), float>();
#elif defined(CHAIN)
  require_score_function<eh::ScoreChain<eh::Softcap<float>, eh::Alibi<double> >, float>();
#elif defined(DERIVATIVE)
  (void)eh::score_derivative(own, 1.0f, {});
#else
  require_score_function<decltype(own), double>();
  require_score_function<eh::ScoreChain<eh::Softcap<float>, eh::Alibi<float> >, float>();
#endif
}
