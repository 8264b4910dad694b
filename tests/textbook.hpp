// SPDX-License-Identifier: MIT
#pragma once
// What the library is held against: a mask as a question about one query and one key, and attention
// as a textbook writes it, in twice the precision.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include <eigenheads/mask.hpp>

#include "support.hpp"

namespace support {

// ---- Masks -------------------------------------------------------------------------------------

// A mask, and the same said as a question about one query and one key.
struct PairMask {
  Index Q = 0, K = 0;
  int lens_rank = 0;            // 0: none, 1: lens [B, 1], 2: lens [B, Q]
  Tensor<Index, 2> lens{0, 0};  // NOLINT
  eh::Causal causal = eh::Causal::none;
  eh::Window window{};

  [[nodiscard]] bool visible(Index b, Index q, Index k) const {
    if (lens_rank > 0 && k >= lens(b, lens_rank == 2 ? q : 0)) return false;
    const Index beside = causal == eh::Causal::bottom_right ? q + K - Q : q;
    if (causal != eh::Causal::none && k > beside) return false;
    if (window.left >= 0 && beside - k > window.left) return false;
    return window.right < 0 || k - beside <= window.right;
  }
  [[nodiscard]] bool any_visible(Index b, Index q) const {
    for (Index k = 0; k < K; ++k)
      if (visible(b, q, k)) return true;
    return false;
  }

  [[nodiscard]] std::string text() const {
    return "Q " + std::to_string(Q) + ", K " + std::to_string(K) + ", lens of rank " +
           std::to_string(lens_rank) + ", causal " + std::to_string(static_cast<int>(causal)) +
           ", window " + std::to_string(window.left) + ' ' + std::to_string(window.right);
  }

  [[nodiscard]] eh::Mask mask() const {
    eh::Mask mask{.causal = causal, .window = window};
    if (lens_rank == 1)
      mask.valid_lens = eh::ValidLens(TensorView<Index, 1>(lens.data(), {lens.dimension(0)}));
    if (lens_rank == 2) mask.valid_lens = eh::ValidLens(lens);
    return mask;
  }
  [[nodiscard]] PairMask of_sequence(Index b) const {
    PairMask alone = *this;
    if (lens_rank > 0) {
      const TensorView<Index, 2> one = sequence(lens, b);
      alone.lens = Tensor<Index, 2>(1, one.dimension(1));
      std::copy_n(one.data(), one.size(), alone.lens.data());
    }
    return alone;
  }
};

// Every kind of mask once, in a call of B sequences: sequence 0 has length 0 where there are any.
[[nodiscard]] inline std::vector<PairMask> example_masks(Index B, Index Q, Index K,
                                                         std::uint64_t seed) {
  using eh::Causal;
  Numbers numbers(seed);
  std::vector<PairMask> masks;
  const auto add = [&](int lens_rank, Causal causal, eh::Window window) {
    PairMask mask{.Q = Q, .K = K, .lens_rank = lens_rank, .causal = causal, .window = window};
    mask.lens = Tensor<Index, 2>(B, lens_rank == 2 ? Q : 1);
    for (Index i = 0; i < mask.lens.size(); ++i)
      mask.lens.data()[i] = i == 0 ? 0 : numbers.between(0, K);
    masks.push_back(mask);
  };
  add(0, Causal::none, {});
  add(1, Causal::none, {});
  add(2, Causal::none, {});
  add(0, Causal::top_left, {});
  add(0, Causal::bottom_right, {});
  add(1, Causal::bottom_right, {});
  add(0, Causal::top_left, {numbers.between(0, K), -1});
  add(2, Causal::bottom_right, {2, 0});
  if (Q == K) add(1, Causal::none, {1, 2});
  return masks;
}

// ---- Attention as a textbook writes it ---------------------------------------------------------

template <class T>
using Wide = std::conditional_t<sizeof(T) == 4, double, long double>;

template <class T>
struct Textbook {
  Tensor<Wide<T>, 4> output, weights;
  Tensor<Wide<T>, 3> lse;
  // How far a computation in T may be off. With u half a unit in the last place, A the largest
  // sum_d |scale q_d k_d| of a visible key and n the number of visible keys: rounding moves a score
  // by some u A and a sum of n terms by some u sqrt(n), so a weight p by
  // p * u (8 (1 + A) + 2 sqrt(n)); and K subnormals may be lost.
  Tensor<Wide<T>, 4> output_bound, weights_bound;
  Tensor<Wide<T>, 3> lse_bound;
};

// queries [B, H, Q, D], keys [B, G, K, D], values [B, G, K, V]
template <class T>
[[nodiscard]] Textbook<T> textbook(TensorView<T, 4> queries, TensorView<T, 4> keys,
                                   TensorView<T, 4> values, const PairMask& mask, Wide<T> scale) {
  using W = Wide<T>;
  const Index B = queries.dimension(0), H = queries.dimension(1), Q = queries.dimension(2),
              D = queries.dimension(3), G = keys.dimension(1), K = keys.dimension(2),
              V = values.dimension(3);
  Textbook<T> result{{B, H, Q, V}, {B, H, Q, K}, {B, H, Q}, {B, H, Q, V}, {B, H, Q, K}, {B, H, Q}};
  const W u = W(Limits<T>::epsilon()) / 2, lost = W(Limits<T>::min()) * W(K + 1);
  Tensor<W, 1> score(K), weight(K);
  for (Index b = 0; b < B; ++b)
    for (Index h = 0; h < H; ++h)
      for (Index q = 0; q < Q; ++q) {
        const Index g = h * G / H;
        W top = -kInf<W>, A = 0, sum = 0;
        Index n = 0;
        for (Index k = 0; k < K; ++k) {
          if (!mask.visible(b, q, k)) continue;
          W dot = 0, magnitude = 0;
          for (Index d = 0; d < D; ++d) {
            const W term = scale * W(queries(b, h, q, d)) * W(keys(b, g, k, d));
            dot += term;
            magnitude += std::abs(term);
          }
          score(k) = dot;
          top = std::max(top, dot);
          A = std::max(A, magnitude);
          ++n;
        }
        for (Index k = 0; k < K; ++k) {
          weight(k) = mask.visible(b, q, k) ? std::exp(score(k) - top) : W(0);
          sum += weight(k);
        }
        const W off = u * (8 * (1 + A) + 2 * std::sqrt(W(n)));
        result.lse(b, h, q) = n == 0 ? -kInf<W> : top + std::log(sum);
        result.lse_bound(b, h, q) = off;
        for (Index k = 0; k < K; ++k) {
          const W p = mask.visible(b, q, k) ? weight(k) / sum : W(0);
          result.weights(b, h, q, k) = p;
          result.weights_bound(b, h, q, k) = mask.visible(b, q, k) ? off * p + lost : W(0);
        }
        for (Index v = 0; v < V; ++v) {
          W mean = 0, magnitude = 0;
          for (Index k = 0; k < K; ++k) {
            if (!mask.visible(b, q, k)) continue;
            const W term = result.weights(b, h, q, k) * W(values(b, g, k, v));
            mean += term;
            magnitude += std::abs(term);
          }
          result.output(b, h, q, v) = mean;
          result.output_bound(b, h, q, v) = n == 0 ? W(0) : off * magnitude + lost;
        }
      }
  return result;
}

template <class Got, class Exact>
[[nodiscard]] testing::AssertionResult within(const Got& got, const Exact& exact,
                                              const Exact& bound) {
  using W = eh::element_of<Exact>;
  const TensorView x(got);
  const TensorView y(exact), off(bound);
  if (x.dimensions() != y.dimensions()) return testing::AssertionFailure() << "another shape";
  for (Index i = 0; i < x.size(); ++i) {
    const auto value = static_cast<W>(x.data()[i]);
    const bool holds = value == y.data()[i] || std::abs(value - y.data()[i]) <= off.data()[i];
    if (!holds)
      return testing::AssertionFailure() << "element " << i << " is " << value << ", not "
                                         << y.data()[i] << " +- " << off.data()[i];
  }
  return testing::AssertionSuccess();
}

}  // namespace support
