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
#include <eigenheads/score.hpp>

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
  std::vector<Index> query_lens{};      // [B]; empty: none
  Tensor<bool, 4> allowed{0, 0, 0, 0};  // NOLINT: [B, H, Q, K], any of them 1; empty: none
  std::vector<Index> key_lens{}, first_positions{};  // [B]; empty: none
  Index sinks = 0;
  std::vector<Index> prefix_lens{};  // [B]; empty: none

  // The key that stands beside a query.
  [[nodiscard]] Index aligned(Index b, Index q) const {
    const auto i = static_cast<std::size_t>(b);
    if (!first_positions.empty()) return first_positions[i] + q;
    if (causal != eh::Causal::bottom_right) return q;
    if (key_lens.empty()) return q + K - Q;
    return q + key_lens[i] - (query_lens.empty() ? Q : query_lens[i]);
  }

  // By the parts that are the same for all heads.
  [[nodiscard]] bool visible(Index b, Index q, Index k) const {
    if (!query_lens.empty() && q >= query_lens[static_cast<std::size_t>(b)]) return false;
    if (lens_rank > 0 && k >= lens(b, lens_rank == 2 ? q : 0)) return false;
    if (!key_lens.empty() && k >= key_lens[static_cast<std::size_t>(b)]) return false;
    const Index beside = aligned(b, q);
    const bool is_in_prefix = !prefix_lens.empty() && beside >= 0 &&
                              std::max(beside, k) < prefix_lens[static_cast<std::size_t>(b)];
    if (causal != eh::Causal::none && k > beside && !is_in_prefix) return false;
    if (k < sinks) return true;
    if (window.left >= 0 && beside - k > window.left) return false;
    return window.right < 0 || k - beside <= window.right;
  }
  [[nodiscard]] bool visible(Index b, Index h, Index q, Index k) const {
    const auto at = [this](std::size_t axis, Index i) {
      return allowed.dimension(axis) == 1 ? 0 : i;
    };
    return visible(b, q, k) &&
           (allowed.size() == 0 || allowed(at(0, b), at(1, h), at(2, q), at(3, k)));
  }
  [[nodiscard]] bool any_visible(Index b, Index q) const {
    for (Index k = 0; k < K; ++k)
      if (visible(b, q, k)) return true;
    return false;
  }

  [[nodiscard]] std::string text() const {
    return "Q " + std::to_string(Q) + ", K " + std::to_string(K) + ", lens of rank " +
           std::to_string(lens_rank) + ", causal " + std::to_string(static_cast<int>(causal)) +
           ", window " + std::to_string(window.left) + ' ' + std::to_string(window.right) +
           (query_lens.empty() ? "" : ", query_lens") + (allowed.size() == 0 ? "" : ", allowed") +
           (key_lens.empty() ? "" : ", key_lens") +
           (first_positions.empty() ? "" : ", first_positions") + ", sinks " +
           std::to_string(sinks) + (prefix_lens.empty() ? "" : ", prefix_lens");
  }

  [[nodiscard]] eh::Mask mask() const {
    eh::Mask mask{.causal = causal, .window = window, .sinks = sinks};
    if (!prefix_lens.empty()) mask.prefix_lens = prefix_lens;
    if (lens_rank == 1)
      mask.valid_lens = eh::ValidLens(TensorView<Index, 1>(lens.data(), {lens.dimension(0)}));
    if (lens_rank == 2) mask.valid_lens = eh::ValidLens(lens);
    if (!query_lens.empty()) mask.query_lens = query_lens;
    if (!key_lens.empty()) mask.key_lens = key_lens;
    if (!first_positions.empty()) mask.first_positions = first_positions;
    if (allowed.size() > 0) mask.allowed = allowed;
    return mask;
  }
  [[nodiscard]] PairMask of_sequence(Index b) const {
    PairMask alone = *this;
    if (lens_rank > 0) {
      const TensorView<Index, 2> one = sequence(lens, b);
      alone.lens = Tensor<Index, 2>(1, one.dimension(1));
      std::copy_n(one.data(), one.size(), alone.lens.data());
    }
    for (auto* of_each :
         {&alone.query_lens, &alone.key_lens, &alone.first_positions, &alone.prefix_lens})
      if (!of_each->empty()) *of_each = {(*of_each)[static_cast<std::size_t>(b)]};
    if (allowed.dimension(0) > 1) {
      alone.allowed =
          Tensor<bool, 4>(1, allowed.dimension(1), allowed.dimension(2), allowed.dimension(3));
      std::copy_n(sequence(allowed, b).data(), alone.allowed.size(), alone.allowed.data());
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
  const auto some = [&](Index most) {
    std::vector<Index> numbers_of_each(static_cast<std::size_t>(B));
    for (Index& number : numbers_of_each) number = numbers.between(0, most);
    return numbers_of_each;
  };
  add(0, Causal::bottom_right, {});
  masks.back().key_lens = some(K);
  add(1, Causal::top_left, {numbers.between(0, K), -1});
  masks.back().first_positions = some(K + 2);
  add(0, Causal::bottom_right, {2, -1});
  masks.back().sinks = 2;
  add(1, Causal::top_left, {K / 4, -1});
  masks.back().sinks = 1;
  masks.back().prefix_lens = some(K);
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
  // sum_d |scale q_d k_d| of a visible key, together with what the score function adds to it, and n
  // the number of visible keys: rounding moves a score by some u A and a sum of n terms by some
  // u sqrt(n), so a weight p by p * u (8 (1 + A) + 2 sqrt(n)); and K subnormals may be lost.
  Tensor<Wide<T>, 4> output_bound, weights_bound;
  Tensor<Wide<T>, 3> lse_bound;
};

struct ScoreAsItIs {
  template <class W>
  W operator()(W score, eh::ScorePosition) const {
    return score;
  }
};

// queries [B, H, Q, D], keys [B, G, K, D], values [B, G, K, V]. A key whose score is -inf is
// hidden.
template <class T, class Score = ScoreAsItIs>
[[nodiscard]] Textbook<T> textbook(TensorView<T, 4> queries, TensorView<T, 4> keys,
                                   TensorView<T, 4> values, const PairMask& mask, Wide<T> scale,
                                   const Score& score_function = {}) {
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
          score(k) = -kInf<W>;
          if (!mask.visible(b, h, q, k)) continue;
          W dot = 0, magnitude = 0;
          for (Index d = 0; d < D; ++d) {
            const W term = scale * W(queries(b, h, q, d)) * W(keys(b, g, k, d));
            dot += term;
            magnitude += std::abs(term);
          }
          score(k) =
              score_function(dot, eh::detail::score_position(b, h, q, k, mask.aligned(b, q)));
          if (score(k) == -kInf<W>) continue;
          top = std::max(top, score(k));
          A = std::max(A, magnitude + std::abs(score(k) - dot));
          ++n;
        }
        const auto seen = [&](Index k) { return score(k) != -kInf<W>; };
        for (Index k = 0; k < K; ++k) {
          weight(k) = seen(k) ? std::exp(score(k) - top) : W(0);
          sum += weight(k);
        }
        const W off = u * (8 * (1 + A) + 2 * std::sqrt(W(n)));
        result.lse(b, h, q) = n == 0 ? -kInf<W> : top + std::log(sum);
        result.lse_bound(b, h, q) = off;
        for (Index k = 0; k < K; ++k) {
          const W p = seen(k) ? weight(k) / sum : W(0);
          result.weights(b, h, q, k) = p;
          result.weights_bound(b, h, q, k) = seen(k) ? off * p + lost : W(0);
        }
        for (Index v = 0; v < V; ++v) {
          W mean = 0, magnitude = 0;
          for (Index k = 0; k < K; ++k) {
            if (!seen(k)) continue;
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
