// SPDX-License-Identifier: MIT
#pragma once
// Heads side by side, and heads apart:
//   [B, Q, H * D]  <->  [B * H, Q, D],   x(b, q, h * D + d) == heads(b * H + h, q, d)
// as transpose_qkv and transpose_output of Dive into Deep Learning, section 11.5.
#include <algorithm>
#include <array>
#include <string>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/shape.hpp>   // require_shape, make_tensor
#include <eigenheads/tensor.hpp>  // TensorOfRank, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

// x: [B, Q, E] -> [B * num_heads, Q, E / num_heads]. Throws std::invalid_argument unless num_heads
// is positive and divides E.
template <TensorOfRank<3> X>
[[nodiscard]] auto transpose_qkv(const X& x, Index num_heads) -> Tensor<element_of<X>, 3> {
  const TensorView view(x);
  require_shape("transpose_qkv: x", view, "[B, Q, E]", {any_size, any_size, any_size});
  const Index B = view.dimension(0), Q = view.dimension(1), E = view.dimension(2);
  if (num_heads < 1 || E % num_heads != 0)
    detail::refuse(
        {"transpose_qkv: num_heads is ", num_heads, "; expected a positive divisor of E = ", E});
  const Index H = num_heads, D = E / H;
  detail::require_size<element_of<X>>("heads", std::array{B, H, Q, D});
  auto heads = detail::make_tensor<element_of<X>>("heads", std::array{B * H, Q, D});
  for (Index b = 0; b < B; ++b)
    for (Index h = 0; h < H; ++h)
      for (Index q = 0; q < Q; ++q)
        std::copy_n(view.data() + (b * Q + q) * E + h * D, D,
                    heads.data() + ((b * H + h) * Q + q) * D);
  return heads;
}

// heads: [B * num_heads, Q, D] -> [B, Q, num_heads * D], the inverse of transpose_qkv. Throws
// std::invalid_argument unless num_heads is positive and divides the first dimension.
template <TensorOfRank<3> X>
[[nodiscard]] auto transpose_output(const X& heads, Index num_heads) -> Tensor<element_of<X>, 3> {
  const TensorView view(heads);
  require_shape("transpose_output: heads", view, "[B * H, Q, D]", {any_size, any_size, any_size});
  if (num_heads < 1 || view.dimension(0) % num_heads != 0)
    detail::refuse({"transpose_output: num_heads is ", num_heads,
                    "; expected a positive divisor of B * H = ", view.dimension(0)});
  const Index H = num_heads, B = view.dimension(0) / H, Q = view.dimension(1),
              D = view.dimension(2);
  auto x = detail::make_tensor<element_of<X>>("output", std::array{B, Q, H * D});
  for (Index b = 0; b < B; ++b)
    for (Index h = 0; h < H; ++h)
      for (Index q = 0; q < Q; ++q)
        std::copy_n(view.data() + ((b * H + h) * Q + q) * D, D,
                    x.data() + (b * Q + q) * H * D + h * D);
  return x;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
