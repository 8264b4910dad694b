// SPDX-License-Identifier: MIT
#pragma once
// Tensors whose rows are contiguous and lie anywhere: heads side by side, [B, Q, H, D], or queries,
// keys and values of one projection in one tensor, [B, T, 3, H, D], seen as [B, H, rows, D] where
// they are.
#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <limits>
#include <span>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>   // refuse, any_size
#include <eigenheads/shape.hpp>   // require_shape, require_size
#include <eigenheads/tensor.hpp>  // Index, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

// Read-only, and like TensorView it does not own. Element (i, j, ...) is data[i * strides[0] + j *
// strides[1] + ...]. Strides are counted in elements and positive; that of the last axis is 1.
template <class T, int Rank = 4>
class StridedView {
  static_assert(Rank > 0);

 public:
  using Dimensions = std::array<Index, static_cast<std::size_t>(Rank)>;

  // Throws std::invalid_argument for strides that are not as above, or that reach beyond any memory.
  StridedView(const T* data, const Dimensions& dimensions, const Dimensions& strides)
      : data_(data), dimensions_(dimensions), strides_(strides) {
    detail::require_size<T>("strided view", dimensions);
    require_strides();
    if (size() > 0 && data == nullptr)
      detail::refuse({"strided view has shape ", dimensions, " but its data pointer is null"});
  }
  // The same, and for what reaches beyond this memory.
  StridedView(std::span<const T> memory, const Dimensions& dimensions, const Dimensions& strides)
      : StridedView(memory.data(), dimensions, strides) {
    if (reach() > static_cast<Index>(memory.size()))
      detail::refuse({"strided view of shape ", dimensions, " with strides ", strides, " reaches ",
                      reach(), " elements, of ", memory.size()});
  }
  // Any contiguous tensor. The call that takes it checks its shape, under the tensor's name.
  StridedView(TensorView<T, Rank> x)  // NOLINT: implicit, so that calls take tensors
      : data_(x.data()), dimensions_(x.dimensions()) {
    Index stride = 1;
    for (std::size_t axis = dimensions_.size(); axis-- > 0;) {
      strides_[axis] = stride;
      // A shape beyond all memory is refused by that call: here it only must not overflow.
      if (__builtin_mul_overflow(stride, (std::max)(dimensions_[axis], Index{1}), &stride))
        stride = 1;
    }
  }
  template <class X>
  requires(detail::TensorLike<X> || detail::TensorExpression<X>)
  StridedView(const X& x) : StridedView(TensorView<T, Rank>(x)) {}  // NOLINT

  [[nodiscard]] const T* data() const { return data_; }
  [[nodiscard]] Index dimension(std::size_t axis) const { return dimensions_[axis]; }
  [[nodiscard]] const Dimensions& dimensions() const { return dimensions_; }
  [[nodiscard]] Index stride(std::size_t axis) const { return strides_[axis]; }
  [[nodiscard]] const Dimensions& strides() const { return strides_; }
  [[nodiscard]] Index size() const {
    Index size = 1;
    for (const Index n : dimensions_) size *= n;
    return size;
  }
  // How many elements of memory lie between the first and the last, both included.
  [[nodiscard]] Index reach() const {
    if (size() == 0) return 0;
    Index last = 0;
    for (std::size_t axis = 0; axis < dimensions_.size(); ++axis)
      last += (dimensions_[axis] - 1) * strides_[axis];
    return last + 1;
  }
  template <std::convertible_to<Index>... Indices>
  requires(sizeof...(Indices) == Rank)
  [[nodiscard]] const T& operator()(Indices... indices) const {
    Index offset = 0;
    std::size_t axis = 0;
    ((offset += stride(axis++) * static_cast<Index>(indices)), ...);
    return data_[offset];
  }

 private:
  void require_strides() const {
    const Index limit = (std::numeric_limits<Index>::max)() / static_cast<Index>(sizeof(T));
    Index reached = 1;
    for (std::size_t axis = 0; axis < dimensions_.size(); ++axis) {
      if (strides_[axis] < 1)
        detail::refuse({"strided view has strides ", strides_, "; expected 1 or more"});
      const Index steps = (std::max)(dimensions_[axis] - 1, Index{0});
      if (steps > 0 && strides_[axis] > (limit - reached) / steps)
        detail::refuse({"strided view of shape ", dimensions_, " with strides ", strides_,
                        " reaches beyond what memory can hold"});
      reached += steps * strides_[axis];
    }
    if (strides_.back() != 1)
      detail::refuse({"strided view has strides ", strides_,
                      "; expected 1 for the last axis: rows are contiguous"});
  }

  const T* data_;
  Dimensions dimensions_, strides_{};
};

template <detail::TensorLike X>
StridedView(const X&) -> StridedView<element_of<X>, rank_of<X>>;
template <class T, std::size_t Rank>
StridedView(const T*, const Index (&)[Rank],
            const Index (&)[Rank]) -> StridedView<T, static_cast<int>(Rank)>;

// x: [B, rows, H, D], as a projection leaves its heads: side by side in each row. -> [B, H, rows, D]
template <TensorOfRank<4> X>
[[nodiscard]] StridedView<element_of<X>> heads_side_by_side(const X& x) {
  const TensorView<element_of<X>, 4> view(x);
  require_shape("heads_side_by_side: x", view, "[B, rows, H, D]",
                {any_size, any_size, any_size, any_size});
  const auto [B, rows, H, D] = view.dimensions();
  const auto at_least_one = [](Index n) { return (std::max)(n, Index{1}); };
  const Index row = at_least_one(H * D);
  return {view.data(), {B, H, rows, D}, {at_least_one(rows) * row, at_least_one(D), row, 1}};
}

template <class T>
struct QueriesKeysValues {
  StridedView<T> queries, keys, values;  // [B, H, T, D]
};

// x: [B, T, 3, H, D]: for each of T tokens, queries, keys and values of all heads one after the
// other, as one projection of 3 * H * D columns leaves them.
template <TensorOfRank<5> X>
[[nodiscard]] QueriesKeysValues<element_of<X>> unpack_qkv(const X& x) {
  using T = element_of<X>;
  const TensorView<T, 5> view(x);
  require_shape("unpack_qkv: x", view, "[B, T, 3, H, D]",
                {any_size, any_size, 3, any_size, any_size});
  const auto [B, tokens, three, H, D] = view.dimensions();
  const auto at_least_one = [](Index n) { return (std::max)(n, Index{1}); };
  const Index part = H * D, row = at_least_one(3 * part);
  const typename StridedView<T>::Dimensions shape{B, H, tokens, D},
      strides{at_least_one(tokens) * row, at_least_one(D), row, 1};
  const auto view_of = [&](Index number) {
    const T* data = view.data() == nullptr ? nullptr : view.data() + number * part;
    return StridedView<T>(data, shape, strides);
  };
  return {view_of(0), view_of(1), view_of(2)};
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
