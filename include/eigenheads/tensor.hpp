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

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/tensor_traits.hpp>  // TensorTraits, TensorLike
#include <eigenheads/version.hpp>               // EIGENHEADS_ABI, Index

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

template <class T, int Rank>
struct TensorTraits<TensorView<T, Rank>> : EigenTensorTraits<T, Rank, Eigen::RowMajor> {
  static constexpr bool is_owner = false, is_const = true;
};
template <class T, int Rank>
struct TensorTraits<TensorSpan<T, Rank>> : EigenTensorTraits<T, Rank, Eigen::RowMajor> {
  static constexpr bool is_owner = false;
};

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

// Any contiguous tensor of this rank: Tensor, TensorFixedSize, TensorMap, TensorView or TensorSpan,
// and Eigen's matrices (rank 2) and vectors (rank 1). Column-major ones satisfy it too, so that the
// view they are turned into can say what is wrong with them.
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
// TensorView(pointer, {n, e})
template <class T, std::size_t Rank>
TensorView(const T*, const Index (&)[Rank]) -> TensorView<T, static_cast<int>(Rank)>;
template <class T, std::size_t Rank>
TensorSpan(T*, const Index (&)[Rank]) -> TensorSpan<T, static_cast<int>(Rank)>;
template <class T, std::size_t Rank>
TensorView(const T*, const std::array<Index, Rank>&) -> TensorView<T, static_cast<int>(Rank)>;
template <class T, std::size_t Rank>
TensorSpan(T*, const std::array<Index, Rank>&) -> TensorSpan<T, static_cast<int>(Rank)>;

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
