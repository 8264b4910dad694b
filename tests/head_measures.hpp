// SPDX-License-Identifier: MIT
#pragma once
// What the tests of head_importance.hpp share: layers, batches under masks, and their measures.
#include <cstddef>
#include <cstdint>
#include <vector>

#include <eigenheads/head_importance.hpp>

#include "layers.hpp"
#include "support.hpp"
#include "textbook.hpp"

namespace support {

inline constexpr Index kInputSize = 6;

template <class T>
[[nodiscard]] eh::MultiHeadAttention<T> make_layer(Index H, Index G, Index D, bool bias,
                                                   Index E = 10) {
  auto layer = make_layer<T>(
      kInputSize,
      {.num_hiddens = E, .num_heads = H, .bias = bias, .num_kv_heads = G, .head_size = D}, 7);
  // Sharper than a fresh layer's, or all rows would look alike.
  auto weight = layer.W_q.weight();
  for (Index i = 0; i < weight.size(); ++i) weight.data()[i] *= 4;
  layer.W_q.set_weight(weight);
  return layer;
}

template <class T>
struct Batch {
  Tensor<T, 3> queries, keys, values;
  PairMask pairs;
};
template <class T>
[[nodiscard]] Batch<T> make_batch(Index B, const PairMask& pairs, std::uint64_t seed) {
  return {random_tensor<T>(seed, B, pairs.Q, kInputSize),
          random_tensor<T>(seed + 1, B, pairs.K, kInputSize),
          random_tensor<T>(seed + 2, B, pairs.K, kInputSize), pairs};
}

template <class T, class Score = eh::PlainScore>
void add_batch(eh::HeadImportance<T>& importance, const eh::MultiHeadAttention<T>& layer,
               const Batch<T>& batch, const Score& score = {},
               eh::Context& context = eh::default_context()) {
  typename eh::MultiHeadAttention<T>::Activations saved;
  layer.forward(batch.queries, batch.keys, batch.values, batch.pairs.mask(), saved,
                {.score = score, .context = context});
  importance.add(layer, saved, context);
}

template <class T, class Score = eh::PlainScore>
[[nodiscard]] std::vector<eh::HeadMeasures> measures_of(const eh::MultiHeadAttention<T>& layer,
                                                        const std::vector<Batch<T>>& batches,
                                                        const Score& score = {}, int threads = 1) {
  eh::Context context(threads, kAnyWork);
  eh::HeadImportance<T> importance(layer);
  for (const Batch<T>& batch : batches) add_batch(importance, layer, batch, score, context);
  return importance.measures();
}

[[nodiscard]] inline testing::AssertionResult same_measures(
    const std::vector<eh::HeadMeasures>& a, const std::vector<eh::HeadMeasures>& b) {
  if (a.size() != b.size()) return testing::AssertionFailure() << "another number of heads";
  for (std::size_t h = 0; h < a.size(); ++h)
    for (const auto& [name, value] : eh::head_measures)
      if (bits(a[h].*value) != bits(b[h].*value))
        return testing::AssertionFailure()
               << "head " << h << ", " << name << ": " << a[h].*value << " is not " << b[h].*value;
  return testing::AssertionSuccess();
}

template <class T>
[[nodiscard]] Tensor<T, 4> heads_apart(const Tensor<T, 3>& x, Index n) {
  const Index B = x.dimension(0), rows = x.dimension(1), D = x.dimension(2) / n;
  Tensor<T, 4> apart(B, n, rows, D);
  for (Index b = 0; b < B; ++b)
    for (Index h = 0; h < n; ++h)
      for (Index r = 0; r < rows; ++r)
        for (Index d = 0; d < D; ++d) apart(b, h, r, d) = x(b, r, h * D + d);
  return apart;
}

}  // namespace support
