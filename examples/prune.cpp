// SPDX-License-Identifier: MIT
// Which heads of a layer matter, and the layer without the others: measure the heads, try it with
// gates, cut for good.
#include <algorithm>
#include <iostream>
#include <numeric>
#include <vector>

#include <eigenheads/eigenheads.hpp>

namespace eh = eigenheads;

template <class Layer>
eh::Index parameter_count(const Layer& layer) {
  eh::Index count = 0;
  layer.for_each_parameter([&](const auto& parameter) { count += parameter.size(); });
  return count;
}

int main() {
  constexpr eh::Index B = 8, T = 20, E = 64, H = 8;
  eh::MultiHeadAttention<float> attention({.num_hiddens = E, .num_heads = H});
  eh::Tensor<float, 3> x(B, T, E);
  for (eh::Index i = 0; i < x.size(); ++i)
    x.data()[i] = static_cast<float>(eh::random_symmetric(/*seed=*/1, /*stream=*/0, i));

  // What each head adds to the output, over as many batches as there are: here, one.
  eh::MultiHeadAttention<float>::Activations saved;
  attention.forward(x, x, x, {}, saved);
  eh::HeadImportance<float> importance(attention);
  importance.add(attention, saved);
  const auto measures = importance.measures();
  for (std::size_t h = 0; h < measures.size(); ++h)
    std::cout << "head " << h << " adds " << measures[h].contribution_norm << ", its entropy is "
              << measures[h].entropy << '\n';

  // The half that adds least.
  std::vector<eh::Index> heads(H);
  std::iota(heads.begin(), heads.end(), 0);
  std::ranges::sort(heads, {}, [&](eh::Index h) {
    return measures[static_cast<std::size_t>(h)].contribution_norm;
  });
  const std::vector<eh::Index> least(heads.begin(), heads.begin() + H / 2);

  // To try it: a gate of 0 is as if the head were not there.
  std::vector<float> gates(H, 1);
  for (const eh::Index h : least) gates[static_cast<std::size_t>(h)] = 0;
  attention.set_gates(gates);
  const eh::Tensor<float, 3> gated = attention(x, x, x);
  attention.clear_gates();

  // And for good: a smaller layer, with the same bits.
  const auto smaller = eh::prune_heads(attention, least);
  const eh::Tensor<float, 3> pruned = smaller(x, x, x);
  const bool same = std::equal(gated.data(), gated.data() + gated.size(), pruned.data());
  const eh::Index before = parameter_count(attention), after = parameter_count(smaller);
  std::cout << "With " << smaller.num_heads() << " heads it has " << after << " parameters, not "
            << before << ", and " << (same ? "the bits of the gated layer.\n" : "other bits.\n");
  return same && after * 2 == before ? 0 : 1;
}
