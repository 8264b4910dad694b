// SPDX-License-Identifier: MIT
#pragma once
// The grid that the contract is tested on: attention itself, the whole layer, and the layer asked for
// its weights, under every kind of mask. Sizes are around those of a register and of a tile; and
// beyond one block of keys, on one thread and on more threads than there are heads, which then share
// out the blocks of keys of a few queries. EIGENHEADS_EVERY=N asks for one in N of the calls, for builds
// in which all of them take minutes.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/multi_head_attention.hpp>

#include "layers.hpp"
#include "support.hpp"
#include "textbook.hpp"

namespace support {

// queries [B, Q, D], keys [B, K, D], values [B, K, D] -> [B, Q, E]
template <class T>
using Attend = std::function<Tensor<T, 3>(TensorView<T, 3>, TensorView<T, 3>, TensorView<T, 3>,
                                          const eh::Mask&, eh::Context&)>;

template <class T>
struct Subject {
  std::string name;
  Attend<T> attend;
  Tensor<T, 1> nothing;  // what a query gets that sees no key, [E]

  Tensor<T, 3> operator()(TensorView<T, 3> q, TensorView<T, 3> k, TensorView<T, 3> v,
                          const eh::Mask& mask) const {
    eh::Context context;
    return attend(q, k, v, mask, context);
  }
};

inline constexpr Index kFeatures = 17;

template <class T>
[[nodiscard]] Subject<T> core() {
  const auto one_head = [](TensorView<T, 3> x) {
    return TensorView<T, 4>(x.data(), {x.dimension(0), 1, x.dimension(1), x.dimension(2)});
  };
  return {"attention",
          [one_head](TensorView<T, 3> q, TensorView<T, 3> k, TensorView<T, 3> v,
                     const eh::Mask& mask, eh::Context& context) {
            const auto output = eh::scaled_dot_product_attention(one_head(q), one_head(k),
                                                                 one_head(v), mask, {}, context)
                                    .output;
            Tensor<T, 3> y(q.dimension(0), q.dimension(1), v.dimension(2));
            std::copy_n(output.data(), output.size(), y.data());
            return y;
          },
          constant_tensor<T>(0, kFeatures)};
}

template <class T>
[[nodiscard]] eh::MultiHeadAttention<T> make_layer() {
  return make_layer<T>(
      kFeatures,
      {.num_hiddens = 10, .num_heads = 4, .bias = true, .num_kv_heads = 2, .head_size = 5}, 11);
}

template <class T>
[[nodiscard]] Subject<T> layer_with_weights() {
  const auto layer = make_layer<T>();
  return {
      "layer with weights",
      [layer](TensorView<T, 3> q, TensorView<T, 3> k, TensorView<T, 3> v, const eh::Mask& mask,
              eh::Context& context) { return layer.with_weights(q, k, v, mask, context).output; },
      layer.W_o.bias()};
}

template <class T>
[[nodiscard]] Subject<T> whole_layer() {
  const auto layer = make_layer<T>();
  return {"layer",
          [layer](TensorView<T, 3> q, TensorView<T, 3> k, TensorView<T, 3> v, const eh::Mask& mask,
                  eh::Context& context) { return layer(q, k, v, mask, context); },
          layer.W_o.bias()};
}

// A call of three sequences, its result on one thread, and where others are made to be compared.
template <class T>
struct Call {
  static constexpr Index B = 3;
  const Subject<T>& subject;
  PairMask mask;
  eh::Context& context;
  Tensor<T, 3> q = random_tensor<T>(1, B, mask.Q, kFeatures);
  Tensor<T, 3> k = random_tensor<T>(2, B, mask.K, kFeatures);
  Tensor<T, 3> v = random_tensor<T>(3, B, mask.K, kFeatures);
  Tensor<T, 3> y = subject(q, k, v, mask.mask());

  [[nodiscard]] Tensor<T, 3> again(TensorView<T, 3> queries, TensorView<T, 3> keys,
                                   TensorView<T, 3> values, const eh::Mask& other) const {
    return subject.attend(queries, keys, values, other, context);
  }

  // The keys that a query may see are those from `begin` to before `end`, but for those from
  // `gap_begin` to before `gap_end`.
  [[nodiscard]] Index begin(Index b, Index i) const {
    Index key = 0;
    while (key < mask.K && !mask.visible(b, i, key)) ++key;
    return key;
  }
  [[nodiscard]] Index end(Index b, Index i) const {
    Index key = mask.K;
    while (key > 0 && !mask.visible(b, i, key - 1)) --key;
    return key;
  }
  [[nodiscard]] Index gap_begin(Index b, Index i) const {
    Index key = begin(b, i);
    while (key < mask.K && mask.visible(b, i, key)) ++key;
    return key;
  }
  [[nodiscard]] Index gap_end(Index b, Index i) const {
    Index key = gap_begin(b, i);
    while (key < mask.K && !mask.visible(b, i, key)) ++key;
    return key;
  }
};

// With ranges that begin inside of the first block of keys, and after it.
[[nodiscard]] inline std::vector<PairMask> masks_over_blocks(Index B, Index Q, Index K) {
  auto masks = example_masks(B, Q, K, static_cast<std::uint64_t>(100 * Q + K));
  const auto add = [&](Index left, Index sinks) {
    masks.push_back(
        {.Q = Q, .K = K, .causal = eh::Causal::bottom_right, .window = {left, -1}, .sinks = sinks});
  };
  for (const Index left : {K / 3, K - K / 4}) add(left, 0);
  // A gap inside of a block, over blocks, and at the end of one.
  add(0, 1);
  add(3, 4);
  add(K / 3, 130);
  return masks;
}

// Stops at the first call that fails.
template <class T>
void for_each_call(const std::function<void(const Call<T>&)>& expect) {
  constexpr Index B = Call<T>::B, sizes[] = {1, 2, 3, 15, 16, 17, 63, 64, 65};
  eh::Context one, many(7);  // of 3 sequences, and 2 heads of keys and values
  const char* asked = std::getenv("EIGENHEADS_EVERY");
  const auto every = static_cast<unsigned>(asked == nullptr ? 1 : std::max(1, std::atoi(asked)));
  std::minstd_rand dice;
  const auto visit = [&](const Subject<T>& subject, const PairMask& mask, eh::Context& context) {
    if (testing::Test::HasFailure() || dice() % every != 0) return;
    SCOPED_TRACE(subject.name + ": " + mask.text() + ", " + std::to_string(context.threads()) +
                 " threads");
    expect(Call<T>{subject, mask, context});
  };
  for (const Subject<T>& subject : {core<T>(), whole_layer<T>()})
    for (const Index Q : sizes)
      for (const Index K : sizes)
        for (const PairMask& mask : example_masks(B, Q, K, static_cast<std::uint64_t>(100 * Q + K)))
          visit(subject, mask, one);
  // A block is 256 keys of float, and 128 of double; 48 rows of queries are one task.
  for (const Subject<T>& subject : {core<T>(), whole_layer<T>(), layer_with_weights<T>()})
    for (const Index Q : {1, 5, 49})
      for (const Index K : {129, 257, 300, 600})
        for (const PairMask& mask : masks_over_blocks(B, Q, K))
          for (eh::Context* context : {&one, &many}) visit(subject, mask, *context);
}

}  // namespace support
