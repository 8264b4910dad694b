// SPDX-License-Identifier: MIT
#pragma once
// Tensors and the two ways to look at one without copying it.
//   Axes, written the same way in every comment of this library:
//     B batch   H heads   G key/value heads   Q queries   K keys   D head size   V value head size
//     E num_hiddens
//   Tensors are row-major and contiguous, as NumPy's: the last axis is next to itself in memory.
#include <array>
#include <concepts>
#include <cstddef>
#include <type_traits>
#include <unsupported/Eigen/CXX11/Tensor>

#include <eigenheads/version.hpp>  // EIGENHEADS_ABI

namespace eigenheads::inline EIGENHEADS_ABI {

template <class T, int Rank>
using Tensor = Eigen::Tensor<T, Rank, Eigen::RowMajor, Index>;

template <class T>
concept Scalar = std::same_as<T, float> || std::same_as<T, double>;

template <class T, int Rank>
class TensorView;
template <class T, int Rank>
class TensorSpan;

namespace detail {

// What a type tells about itself as a tensor: whether it is one, its element, rank and layout.
template <class X>
struct TensorTraits {
  static constexpr bool is_tensor = false;
};
template <class T, int Rank, int Options, class IndexType>
struct TensorTraits<Eigen::Tensor<T, Rank, Options, IndexType>> {
  static constexpr bool is_tensor = true, is_const = false;
  static constexpr bool is_row_major = (Options & Eigen::RowMajor) != 0;
  static constexpr int rank = Rank;
  using Element = T;
};
template <class Plain, int Options, template <class> class Pointer>
struct TensorTraits<Eigen::TensorMap<Plain, Options, Pointer>>
    : TensorTraits<std::remove_const_t<Plain>> {
  static constexpr bool is_const = std::is_const_v<Plain>;
};
template <class T, int Rank>
struct TensorTraits<TensorView<T, Rank>> : TensorTraits<Tensor<T, Rank>> {
  static constexpr bool is_const = true;
};
template <class T, int Rank>
struct TensorTraits<TensorSpan<T, Rank>> : TensorTraits<Tensor<T, Rank>> {};

template <class X>
concept TensorLike = TensorTraits<std::remove_cvref_t<X>>::is_tensor;

// a + b, t.slice(...): values that are not in memory yet.
template <class X>
concept TensorExpression =
    !TensorLike<X> &&
    std::derived_from<std::remove_cvref_t<X>,
                      Eigen::TensorBase<std::remove_cvref_t<X>, Eigen::ReadOnlyAccessors>>;

template <class X, class T, int Rank>
constexpr void require_viewable() {
  static_assert(!TensorExpression<X>,
                "This is an Eigen expression, its values are not in memory yet: evaluate it into a "
                "eigenheads::Tensor first.");
  if constexpr (TensorLike<X>) {
    using Traits = TensorTraits<std::remove_cvref_t<X>>;
    static_assert(Traits::is_row_major,
                  "This tensor is column-major. Eigenheads takes row-major tensors, as NumPy's: "
                  "use eigenheads::Tensor, or Eigen::Tensor<T, Rank, Eigen::RowMajor>.");
    static_assert(Traits::rank == Rank,
                  "This tensor has another number of dimensions than the parameter asks for.");
    static_assert(std::same_as<std::remove_const_t<typename Traits::Element>, T>,
                  "This tensor has another element type than the parameter asks for.");
  }
}

template <int Rank, class X>
[[nodiscard]] std::array<Index, static_cast<std::size_t>(Rank)> dimensions_of(const X& x) {
  std::array<Index, static_cast<std::size_t>(Rank)> dimensions{};
  if constexpr (TensorLike<X>)
    for (std::size_t axis = 0; axis < dimensions.size(); ++axis)
      dimensions[axis] = static_cast<Index>(x.dimensions()[axis]);
  return dimensions;
}

// What TensorView and TensorSpan share: a pointer, the dimensions, and element access.
template <class Element, int Rank>
class ContiguousView {
 public:
  using Dimensions = std::array<Index, static_cast<std::size_t>(Rank)>;

  [[nodiscard]] Element* data() const { return data_; }
  [[nodiscard]] Index dimension(std::size_t axis) const { return dimensions_[axis]; }
  [[nodiscard]] const Dimensions& dimensions() const { return dimensions_; }
  [[nodiscard]] Index size() const {
    Index size = 1;
    for (const Index n : dimensions_) size *= n;
    return size;
  }
  template <std::convertible_to<Index>... Indices>
  requires(sizeof...(Indices) == Rank)
  [[nodiscard]] Element& operator()(Indices... indices) const {
    Index offset = 0;
    std::size_t axis = 0;
    ((offset = offset * dimension(axis++) + static_cast<Index>(indices)), ...);
    return data_[offset];
  }

 protected:
  ContiguousView(Element* data, const Dimensions& dimensions)
      : data_(data), dimensions_(dimensions) {}

 private:
  Element* data_;
  Dimensions dimensions_;
};

}  // namespace detail

// Any contiguous tensor of this rank: Tensor, TensorMap, TensorView or TensorSpan. Column-major
// ones satisfy it too, so that the view they are turned into can say what is wrong with them.
template <class X, int Rank>
concept TensorOfRank =
    detail::TensorLike<X> && detail::TensorTraits<std::remove_cvref_t<X>>::rank == Rank;

template <detail::TensorLike X>
using element_of =
    std::remove_const_t<typename detail::TensorTraits<std::remove_cvref_t<X>>::Element>;

template <detail::TensorLike X>
inline constexpr int rank_of = detail::TensorTraits<std::remove_cvref_t<X>>::rank;

// Read-only. Like std::string_view it does not own: the tensor must outlive it.
template <class T, int Rank>
class TensorView : public detail::ContiguousView<const T, Rank> {
  using Base = detail::ContiguousView<const T, Rank>;

 public:
  TensorView(const T* data, const typename Base::Dimensions& dimensions) : Base(data, dimensions) {}

  template <class X>
  requires(detail::TensorLike<X> || detail::TensorExpression<X>)
  TensorView(const X& x)  // NOLINT: implicit, so that calls take tensors
      : Base(pointer_to(x), detail::dimensions_of<Rank>(x)) {}

 private:
  template <class X>
  static const T* pointer_to(const X& x) {
    detail::require_viewable<X, T, Rank>();
    if constexpr (detail::TensorLike<X>) return x.data();
  }
};

// Writable.
template <class T, int Rank>
class TensorSpan : public detail::ContiguousView<T, Rank> {
  using Base = detail::ContiguousView<T, Rank>;

 public:
  TensorSpan(T* data, const typename Base::Dimensions& dimensions) : Base(data, dimensions) {}

  template <class X>
  requires(detail::TensorLike<X> || detail::TensorExpression<X>)
  TensorSpan(X&& x)  // NOLINT: implicit, so that calls take tensors
      : Base(pointer_to(x), detail::dimensions_of<Rank>(x)) {}

 private:
  template <class X>
  static T* pointer_to(X& x) {
    detail::require_viewable<X, T, Rank>();
    static_assert(!std::is_const_v<X> && !detail::TensorTraits<std::remove_cvref_t<X>>::is_const,
                  "This tensor is read-only, and the parameter is written to.");
    if constexpr (detail::TensorLike<X>) return x.data();
  }
};

template <detail::TensorLike X>
TensorView(const X&) -> TensorView<element_of<X>, rank_of<X>>;
template <detail::TensorLike X>
TensorSpan(X&&) -> TensorSpan<element_of<X>, rank_of<X>>;

}  // namespace eigenheads::inline EIGENHEADS_ABI
