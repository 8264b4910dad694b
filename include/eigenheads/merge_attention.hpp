// SPDX-License-Identifier: MIT
#pragma once
// Attention over some keys and over others, joined by their log-sum-exp.
#include <eigenheads/attention_result.hpp>  // AttentionResult
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kernels/chosen.hpp>  // elementary_kernels
#include <eigenheads/shape.hpp>           // require_shape, make_tensor

namespace eigenheads::inline EIGENHEADS_ABI {

// As if it had been over all of the keys, up to rounding; `first` and `second` in either order give
// the same bits. A part that saw no key (lse = -inf) changes nothing, and its output is not read:
// two of them give 0 and -inf. The result has no weights and no scores. Throws std::invalid_argument
// unless the shapes agree.
template <Scalar T>
[[nodiscard]] AttentionResult<T> merge_attention(const AttentionResult<T>& first,
                                                 const AttentionResult<T>& second) {
  const TensorView<T, 4> o1(first.output), o2(second.output);
  const TensorView<T, 3> lse1(first.lse), lse2(second.lse);
  const auto [B, H, Q, V] = o1.dimensions();
  require_shape("merge_attention: first.lse", lse1, "[B, H, Q]", {B, H, Q});
  require_shape("merge_attention: second.output", o2, "[B, H, Q, V]", {B, H, Q, V});
  require_shape("merge_attention: second.lse", lse2, "[B, H, Q]", {B, H, Q});
  AttentionResult<T> merged{detail::make_tensor<T>("output", o1.dimensions()),
                            detail::make_tensor<T>("lse", lse1.dimensions())};
  const Index columns = V;
  const auto merge_parts = detail::elementary_kernels<T>().merge_parts;
  for (Index row = 0; row < lse1.size(); ++row) {
    const Index at = row * columns;
    merge_parts({o1.data() + at, lse1.data()[row]}, {o2.data() + at, lse2.data()[row]}, columns,
                merged.output.data() + at, merged.lse.data()[row]);
  }
  return merged;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
