// SPDX-License-Identifier: MIT
// One unit of a program whose units are compiled with different flags: a layer is made, called and
// gone again. UNIT names its function; `run` beside this file makes the units and links them.
#include "unit.hpp"

#include <algorithm>

#include <eigenheads/eigenheads.hpp>

namespace {

namespace eh = eigenheads;
using eh::Index;

// Exact in float, so that every unit begins with the same bits.
eh::Tensor<float, 3> numbers(Index seed, Index n0, Index n1, Index n2) {
  eh::Tensor<float, 3> x(n0, n1, n2);
  for (Index i = 0; i < x.size(); ++i)
    x.data()[i] = static_cast<float>((i * 37 + seed * 101) % 257 - 128) / 64.0f;
  return x;
}

void set_weight(eh::Linear<float>& linear, Index seed, Index in_features) {
  const auto weight = numbers(seed, 1, linear.out_features(), in_features);
  linear.set_weight({weight.data(), {linear.out_features(), in_features}});
}

}  // namespace

Report UNIT();
Report UNIT() {
  eh::MultiHeadAttention<float> layer({.num_hiddens = 4, .num_heads = 2});
  set_weight(layer.W_q, 1, 3);
  set_weight(layer.W_k, 2, 6);
  set_weight(layer.W_v, 3, 7);
  set_weight(layer.W_o, 4, 4);
  const auto queries = numbers(5, 2, 3, 3);
  const auto keys = numbers(6, 2, 5, 6);
  const auto values = numbers(7, 2, 5, 7);
  const eh::Mask mask{.valid_lens = {3, 5}};

  Report report;
#if defined(__FAST_MATH__)
  report.has_fixed_bits = false;
#endif
  report.num_heads = layer.num_heads();
  const auto [output, weights] = layer.with_weights(queries, keys, values, mask);
  std::copy_n(output.data(), report.output.size(), report.output.begin());
  std::copy_n(weights.data(), report.weights.size(), report.weights.begin());
  eh::Context context(2);
  const auto threaded = layer(queries, keys, values, mask, context);
  std::copy_n(threaded.data(), report.threaded.size(), report.threaded.begin());
  const auto nothing = layer(queries, keys, values, {.valid_lens = {0, 5}});
  std::copy_n(nothing.data(), report.nothing.size(), report.nothing.begin());
  return report;
}
