// SPDX-License-Identifier: MIT
#pragma once
// Calls of attention, made from the bytes of an input: shapes, a mask of any parts, queries, keys and
// values. What is said here of a mask (which fit a call, which pairs are visible) is said without the
// library.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/mask.hpp>

#include "input.hpp"
#include "support.hpp"
#include "textbook.hpp"

namespace fuzz {

using eh::Causal, eh::Tensor, eh::TensorView;
using support::PairMask;

struct Shape {
  Index B, H, G, Q, K, D, V;
};

[[nodiscard]] inline std::string text_of(const Shape& shape, const PairMask& mask) {
  const auto [B, H, G, Q, K, D, V] = shape;
  std::string text = "a call of [B, H, G, Q, K, D, V] = ";
  for (const Index n : {B, H, G, Q, K, D, V}) text += std::to_string(n) + ' ';
  return text + "under the mask " + mask.text();
}

// Around the sizes of registers, tiles and blocks (256 keys); so small together that an input takes
// little more than a millisecond.
[[nodiscard]] inline Shape shape_from(Input& input) {
  const auto length = [&] {
    return input.flag() ? input.between(0, 9)
                        : input.one_of<Index>({1,  2,  15, 16,  17,  31,  33,  47,  48,  49, 63,
                                               64, 65, 97, 128, 129, 255, 256, 257, 300, 513});
  };
  Shape shape{};
  shape.B = input.between(0, 3);
  shape.G = input.between(1, 2);
  shape.H = shape.G * input.between(1, 3);
  shape.Q = length();
  shape.K = length();
  shape.D = input.one_of<Index>({1, 2, 3, 4, 5, 8, 15, 16, 17});
  shape.V = input.one_of<Index>({0, 1, 2, 3, 4, 7, 8, 16, 17});
  const auto work = [&] { return shape.B * shape.H * shape.Q * shape.K * (shape.D + shape.V + 8); };
  if (work() > 200'000) shape.B = 1;
  if (work() > 200'000) shape.H = shape.G = 1;
  if (work() > 200'000) shape.Q = 1 + shape.Q % 7;
  return shape;
}

[[nodiscard]] inline std::vector<Index> lengths_from(Input& input, Index B, Index most) {
  std::vector<Index> lengths(static_cast<std::size_t>(B));
  for (Index& length : lengths)
    length = input.between(0, 63) == 63 ? most + 1 : input.between(0, most);
  return lengths;
}

// Any parts, which may not fit each other.
[[nodiscard]] inline PairMask mask_from(Input& input, const Shape& shape) {
  const auto [B, H, G, Q, K, D, V] = shape;
  PairMask mask{.Q = Q, .K = K};
  const Index parts = input.between(0, 511);
  const auto has = [&](int part) { return (parts >> part & 1) != 0; };
  mask.causal = input.one_of({Causal::none, Causal::top_left, Causal::bottom_right});
  if (has(0)) {
    mask.lens_rank = has(1) ? 2 : 1;
    mask.lens = Tensor<Index, 2>(B, has(1) ? Q : 1);
    const Index count = mask.lens.size();
    for (Index i = 0; i < count; ++i) mask.lens.data()[i] = lengths_from(input, 1, K)[0];
  }
  const auto side = [&] {
    return input.flag() ? input.between(-2, 5) : input.between(-1, mask.K + 1);
  };
  if (has(2)) mask.window = {side(), side()};
  if (has(3)) mask.query_lens = lengths_from(input, B, Q);
  if (has(4)) mask.key_lens = lengths_from(input, B, K);
  if (has(5)) mask.first_positions = lengths_from(input, B, K + 2);
  if (has(6)) mask.sinks = input.between(-1, 8);
  if (has(7)) mask.prefix_lens = lengths_from(input, B, K);
  if (has(8)) {
    const auto axis = [&](Index length) {
      const Index which = input.between(0, 31);
      return which == 31 ? length + 1 : which % 2 == 0 ? Index{1} : length;
    };
    const Index axes[] = {axis(B), axis(H), axis(Q), axis(K)};
    mask.allowed = Tensor<bool, 4>(axes[0], axes[1], axes[2], axes[3]);
    support::Numbers numbers(input.raw<std::uint16_t>());
    const Index density = input.between(0, 8);
    for (Index i = 0; i < mask.allowed.size(); ++i)
      mask.allowed.data()[i] = numbers.between(1, 8) <= density;
  }
  return mask;
}

[[nodiscard]] inline bool fits(const PairMask& mask, const Shape& shape) {
  const auto [B, H, G, Q, K, D, V] = shape;
  const bool is_causal = mask.causal != Causal::none, has_positions = !mask.first_positions.empty();
  const auto at_most = [](const auto& lengths, Index most) {
    return std::all_of(lengths.begin(), lengths.end(), [=](Index n) { return n <= most; });
  };
  const std::vector<Index> lens(mask.lens.data(), mask.lens.data() + mask.lens.size());
  if (mask.lens_rank > 0 && !at_most(lens, K)) return false;
  if (!at_most(mask.query_lens, Q) || !at_most(mask.key_lens, K)) return false;
  if (mask.sinks < 0 || mask.window.left < -1 || mask.window.right < -1) return false;
  if (has_positions && mask.causal == Causal::bottom_right) return false;
  const bool has_window = mask.window.left >= 0 || mask.window.right >= 0;
  if (has_window && !is_causal && !has_positions && Q != K) return false;
  if (!mask.prefix_lens.empty() && !is_causal) return false;
  for (std::size_t b = 0; b < mask.prefix_lens.size(); ++b)
    if (mask.prefix_lens[b] > (mask.key_lens.empty() ? K : mask.key_lens[b])) return false;
  if (mask.allowed.size() > 0) {
    const Index call[] = {B, H, Q, K};
    for (std::size_t axis = 0; axis < 4; ++axis)
      if (const Index length = mask.allowed.dimension(axis); length != 1 && length != call[axis])
        return false;
  }
  return true;
}

struct Tensors {
  Tensor<float, 4> queries, keys, values;
};

// Numbers on [-scale, scale), by a seed.
[[nodiscard]] inline Tensors tensors_from(Input& input, const Shape& shape) {
  const auto [B, H, G, Q, K, D, V] = shape;
  const auto seed = input.raw<std::uint16_t>();
  Tensors x{support::random_tensor<float>(seed, B, H, Q, D),
            support::random_tensor<float>(seed + 1u, B, G, K, D),
            support::random_tensor<float>(seed + 2u, B, G, K, V)};
  const float scale = input.one_of({1.0f, 0.0f, 4.0f, 16.0f, 0.001f});
  for (Index i = 0; i < x.queries.size(); ++i) x.queries.data()[i] *= scale;
  return x;
}

// Whether some query of a head that reads key/value head g sees the key.
[[nodiscard]] inline bool is_seen(const PairMask& mask, const Shape& shape, Index b, Index g,
                                  Index k) {
  const Index group = shape.H / shape.G;
  for (Index h = g * group; h < (g + 1) * group; ++h)
    for (Index q = 0; q < shape.Q; ++q)
      if (mask.visible(b, h, q, k)) return true;
  return false;
}

// NaN and infinities wherever no query sees them.
inline void poison_hidden(const PairMask& mask, const Shape& shape, Tensors& x) {
  for (Index b = 0; b < shape.B; ++b)
    for (Index g = 0; g < shape.G; ++g)
      for (Index k = 0; k < shape.K; ++k) {
        if (is_seen(mask, shape, b, g, k)) continue;
        for (Index d = 0; d < shape.D; ++d)
          x.keys(b, g, k, d) = d % 2 == 0 ? support::kNan<float> : support::kInf<float>;
        for (Index v = 0; v < shape.V; ++v)
          x.values(b, g, k, v) = v % 2 == 0 ? -support::kInf<float> : support::kNan<float>;
      }
}

}  // namespace fuzz
