// SPDX-License-Identifier: MIT
#pragma once
// One number per head, by which its output is multiplied before W_o: 1 lets a head through, 0
// leaves it out. Of all sequences, or of each.
//   y = W_o [g_1 head_1; ...; g_h head_h]
// Michel, Levy and Neubig, "Are Sixteen Heads Really Better than One?", 2019, section 2.3.
#include <algorithm>
#include <array>
#include <cstddef>
#include <iterator>
#include <utility>
#include <vector>

#include <eigenheads/detail/float_bits.hpp>  // is_finite
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>          // number_text, refuse
#include <eigenheads/kernels/heads.hpp>  // GateTable
#include <eigenheads/shape.hpp>          // require_shape, refuse
#include <eigenheads/tensor.hpp>         // Tensor, TensorView

namespace eigenheads::inline EIGENHEADS_ABI::detail {

template <Scalar T>
class HeadGates {
 public:
  HeadGates() = default;
  HeadGates(const HeadGates&) = default;
  HeadGates(HeadGates&&) noexcept = default;
  HeadGates& operator=(const HeadGates& other) { return *this = HeadGates(other); }
  HeadGates& operator=(HeadGates&&) noexcept = default;

  // values: [1, H] for all sequences, or [B, H]; without any row, none are set. Throws
  // std::invalid_argument for another number of heads, or a gate that is not finite.
  void set(TensorView<T, 2> values, Index num_heads);

  // Those of these heads alone.
  [[nodiscard]] HeadGates part(const std::vector<Index>& heads) const {
    HeadGates kept;
    const Index rows = values_.dimension(0), count = std::ssize(heads);
    if (rows == 0 || count == 0) return kept;
    Tensor<T, 2> values(rows, count);
    for (Index b = 0; b < rows; ++b)
      for (Index i = 0; i < count; ++i) values(b, i) = at(b, heads[static_cast<std::size_t>(i)]);
    kept.set(values, count);
    return kept;
  }

  [[nodiscard]] const Tensor<T, 2>& values() const { return values_; }  // [1 | B, H], or empty
  [[nodiscard]] bool closes_any() const { return closes_any_; }
  [[nodiscard]] bool are_one() const { return are_one_; }

  [[nodiscard]] T at(Index b, Index h) const { return table().at(b, h); }
  [[nodiscard]] bool is_open(Index b, Index h) const { return at(b, h) != 0; }
  [[nodiscard]] GateTable<T> table() const {
    if (are_one_) return {};
    return {values_.data(), values_.dimension(0) == 1 ? 0 : values_.dimension(1)};
  }

  // Throws std::invalid_argument for gates of another number of sequences.
  void require_fits(Index B, Index H) const {
    if (values_.dimension(0) > 1 && values_.dimension(0) != B)
      refuse({"gates has shape ", std::array{values_.dimension(0), H},
              "; expected [B, H] = ", std::array{B, H}, ", or one row for all sequences"});
  }

  // x: [Q, H * V], every head times its gate in sequence b.
  void multiply(const T* x, Index b, Index Q, Index H, Index V, T* to) const {
    for (Index q = 0; q < Q; ++q)
      for (Index h = 0; h < H; ++h, x += V, to += V) {
        const T gate = at(b, h);
        for (Index v = 0; v < V; ++v) to[v] = gate == 0 ? T(0) : gate * x[v];
      }
  }

 private:
  Tensor<T, 2> values_{0, 0};
  bool closes_any_ = false, are_one_ = true;
};

template <Scalar T>
void HeadGates<T>::set(TensorView<T, 2> values, Index num_heads) {
  if (values.dimension(0) == 0) {
    *this = {};
    return;
  }
  require_shape("gates", values, "[B, H]", {any_size, num_heads});
  for (Index i = 0; i < values.size(); ++i)
    if (!is_finite(values.data()[i]))
      refuse({"gates: that of sequence ", i / num_heads, ", head ", i % num_heads, " is ",
              number_text(static_cast<double>(values.data()[i])), "; expected a finite number"});
  Tensor<T, 2> kept(values.dimension(0), num_heads);  // not in place: they may be these
  std::copy_n(values.data(), values.size(), kept.data());
  values_ = std::move(kept);
  closes_any_ = std::count(values_.data(), values_.data() + values_.size(), T(0)) > 0;
  are_one_ = std::count(values_.data(), values_.data() + values_.size(), T(1)) == values_.size();
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
