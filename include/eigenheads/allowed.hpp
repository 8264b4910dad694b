// SPDX-License-Identifier: MIT
#pragma once
// Masks that are no range of keys: a boolean for every pair of query and key.
#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>   // refuse, any_size
#include <eigenheads/shape.hpp>   // require_shape
#include <eigenheads/tensor.hpp>  // Index, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

// Which pairs of query and key may attend, true = may: [B, H, Q, K], where any axis may also be 1
// and then counts for all, or [Q, K].
class Allowed {
 public:
  Allowed() = default;

  template <detail::TensorLike Pairs>
  requires(std::same_as<element_of<Pairs>, bool> && (rank_of<Pairs> == 4 || rank_of<Pairs> == 2))
  Allowed(const Pairs& pairs) {  // NOLINT: implicit, for {.allowed = pairs}
    const TensorView view(pairs);
    if constexpr (rank_of<Pairs> == 2)
      require_shape("allowed", view, "[Q, K]", {any_size, any_size});
    else
      require_shape("allowed", view, "[B, H, Q, K]", {any_size, any_size, any_size, any_size});
    std::copy(view.dimensions().begin(), view.dimensions().end(), shape_.end() - rank_of<Pairs>);
    bytes_.assign(view.data(), view.data() + view.size());
    is_given_ = true;
  }

  [[nodiscard]] bool is_given() const { return is_given_; }
  [[nodiscard]] const std::array<Index, 4>& shape() const { return shape_; }

  // A byte for every key, 0 = hidden; one byte for all of them if shape()[3] is 1.
  [[nodiscard]] const std::uint8_t* row(Index b, Index h, Index q) const {
    const auto at = [this](std::size_t axis, Index i) { return shape_[axis] == 1 ? 0 : i; };
    return bytes_.data() + ((at(0, b) * shape_[1] + at(1, h)) * shape_[2] + at(2, q)) * shape_[3];
  }

  // Throws std::invalid_argument unless every axis is as long as the call's, or 1.
  void require_fits(const std::array<Index, 4>& call) const {
    if (!is_given_) return;
    for (std::size_t axis = 0; axis < 4; ++axis)
      if (shape_[axis] != 1 && shape_[axis] != call[axis])
        detail::refuse({"allowed has shape ", shape_, "; expected [B, H, Q, K] = ", call,
                        ", or 1 for any of them"});
  }

 private:
  bool is_given_ = false;
  std::array<Index, 4> shape_{1, 1, 1, 1};
  std::vector<std::uint8_t> bytes_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
