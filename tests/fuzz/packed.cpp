// SPDX-License-Identifier: MIT
// A layer's packed sequences against the same sequences padded, and its other ways: with weights, in
// training, on three threads. The same bits.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include <eigenheads/multi_head_attention.hpp>
#include <eigenheads/sequences.hpp>

#include "calls.hpp"
#include "layers.hpp"

namespace {

namespace eh = eigenheads;
using eh::Causal, eh::Index, eh::Sequences, eh::Tensor, eh::TensorView;
using Layer = eh::MultiHeadAttention<float>;

constexpr Index kSize = 5;

const Layer& layer_of(Index which) {
  using eh::RotaryOptions;
  static const Layer layers[] = {
      support::make_layer<float>(kSize, {.num_hiddens = 6, .num_heads = 2, .bias = true}),
      support::make_layer<float>(
          kSize, {.num_hiddens = 8, .num_heads = 4, .num_kv_heads = 2, .head_size = 4}),
      support::make_layer<float>(kSize, {.num_hiddens = 4,
                                         .num_heads = 2,
                                         .head_size = 6,
                                         .sink_logits = true,
                                         .rotary = RotaryOptions{.max_positions = 1000}})};
  return layers[which];
}

std::vector<Index> some_lengths(fuzz::Input& input, std::size_t count) {
  std::vector<Index> lengths(count);
  for (Index& length : lengths)
    length = input.flag() ? input.between(0, 9)
                          : input.one_of<Index>({15, 16, 17, 31, 47, 48, 49, 64, 129, 257, 300});
  return lengths;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  fuzz::Input input(bytes, size);
  const Layer& layer = layer_of(input.between(0, 2));
  const auto count = static_cast<std::size_t>(input.between(0, 4));
  const std::vector<Index> query_lens = some_lengths(input, count);
  const std::vector<Index> key_lens = input.flag() ? query_lens : some_lengths(input, count);
  const Sequences queries(query_lens), keys(key_lens);
  eh::Mask mask{.causal = input.one_of({Causal::none, Causal::top_left, Causal::bottom_right})};
  if (input.flag()) mask.window = {input.between(-1, 9), input.between(-1, 9)};
  if (input.flag()) mask.sinks = input.between(0, 4);
  if (input.between(0, 3) == 3)
    mask.first_positions = fuzz::lengths_from(input, queries.count(), 9);
  if (input.between(0, 3) == 3) {
    std::vector<Index> prefix;
    for (const Index length : key_lens) prefix.push_back(input.between(0, length));
    mask.prefix_lens = prefix;
  }
  const auto seed = input.byte();
  const auto q = support::random_tensor<float>(seed, queries.rows(), kSize);
  const auto k = support::random_tensor<float>(seed + 1u, keys.rows(), kSize);
  eh::Context one, three(3, support::kAnyWork);

  Tensor<float, 2> y;
  if (!fuzz::succeeds<std::invalid_argument>([&] { y = layer(q, queries, k, k, keys, mask, one); }))
    return 0;
  fuzz::require(support::same_bits(y, layer(q, queries, k, k, keys, mask, three)), "three threads");
  const auto weighed = layer.with_weights(q, queries, k, k, keys, mask, one);
  fuzz::require(support::same_bits(y, weighed.output), "with weights");

  eh::Mask padded_mask = mask;
  padded_mask.query_lens = query_lens;
  padded_mask.key_lens = key_lens;
  const Tensor<float, 3> padded_q = eh::unpack(q, queries), padded_k = eh::unpack(k, keys);
  const bool has_window = mask.window.left >= 0 || mask.window.right >= 0;
  // Which key stands beside which query is then known of sequences that are as long, though their
  // longest are not.
  if (has_window && mask.causal == Causal::none && mask.first_positions.rank() == 0 &&
      queries.longest() != keys.longest())
    return 0;
  const Tensor<float, 3> padded = layer(padded_q, padded_k, padded_k, padded_mask, one);
  fuzz::require(support::same_bits(y, eh::pack(padded, queries)), "padded");
  const auto padded_weights = layer.with_weights(padded_q, padded_k, padded_k, padded_mask, one);
  for (Index b = 0; b < queries.count(); ++b) {
    const auto& weights = weighed.weights[static_cast<std::size_t>(b)];
    for (Index h = 0; h < layer.num_heads(); ++h)
      for (Index i = 0; i < queries.length(b); ++i)
        for (Index j = 0; j < keys.length(b); ++j)
          fuzz::require(
              support::bits(weights(h, i, j)) == support::bits(padded_weights.weights(b, h, i, j)),
              "weights, padded");
  }

  if (!input.flag()) return 0;
  Layer::Activations of_packed, of_three;
  fuzz::require(support::same_bits(y, layer.forward(q, queries, k, k, keys, mask, of_packed, one)),
                "in training");
  (void)layer.forward(q, queries, k, k, keys, mask, of_three, three);
  const auto grad = support::random_tensor<float>(seed + 2u, queries.rows(), layer.num_hiddens());
  const auto numbers = [](const Layer::Gradients& of) {
    std::vector<float> all;
    of.for_each_parameter([&](const auto& parameter) {
      for (Index i = 0; i < parameter.size(); ++i) all.push_back(parameter.get(i));
    });
    all.insert(all.end(), of.queries.data(), of.queries.data() + of.queries.size());
    all.insert(all.end(), of.keys.data(), of.keys.data() + of.keys.size());
    return all;
  };
  const auto a = numbers(layer.backward(grad, of_packed, one));
  const auto b = numbers(layer.backward(grad, of_three, three));
  fuzz::require(std::ranges::equal(a, b, {}, support::bits<float>, support::bits<float>),
                "gradients on three threads");
  return 0;
}
