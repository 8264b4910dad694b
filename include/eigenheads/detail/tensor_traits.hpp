// SPDX-License-Identifier: MIT
#pragma once
// What a type tells about itself as a tensor, and the sentence that a type is refused with which
// cannot be looked at as one: Eigen's tensors, maps, matrices, arrays and vectors.
#include <array>
#include <concepts>
#include <cstddef>
#include <type_traits>
#include <unsupported/Eigen/CXX11/Tensor>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>    // refuse
#include <eigenheads/version.hpp>  // EIGENHEADS_ABI, Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// Eigen::Matrix, Array, Map, Ref, Block and expressions of them.
template <class X>
concept EigenDense = std::derived_from<X, Eigen::DenseBase<X>>;
// Those whose elements lie in memory.
template <class X>
concept EigenMatrix = EigenDense<X> && (int{X::Flags} & int{Eigen::DirectAccessBit}) != 0;

// Whether it is a tensor, its element, rank and layout, and whether the memory is its own.
template <class X>
struct TensorTraits {
  static constexpr bool is_tensor = false, is_owner = false;
};
template <class T, int Rank, int Options>
struct EigenTensorTraits {
  static constexpr bool is_tensor = true, is_owner = true, is_const = false;
  static constexpr bool is_row_major = (Options & Eigen::RowMajor) != 0;
  static constexpr int rank = Rank;
  using Element = T;
  using Axis = std::size_t;  // what Eigen asks dimensions() with
};
template <class T, int Rank, int Options, class IndexType>
struct TensorTraits<Eigen::Tensor<T, Rank, Options, IndexType>>
    : EigenTensorTraits<T, Rank, Options> {};
template <class T, class Sizes, int Options, class IndexType>
struct TensorTraits<Eigen::TensorFixedSize<T, Sizes, Options, IndexType>>
    : EigenTensorTraits<T, static_cast<int>(Sizes::count), Options> {
  using Axis = std::ptrdiff_t;
};
template <class Plain, int Options, template <class> class Pointer>
struct TensorTraits<Eigen::TensorMap<Plain, Options, Pointer>>
    : TensorTraits<std::remove_const_t<Plain>> {
  static constexpr bool is_owner = false, is_const = std::is_const_v<Plain>;
};
// A matrix has rank 2, a row or column that is one by its type has rank 1.
template <EigenMatrix X>
struct TensorTraits<X> {
  static constexpr bool is_vector = X::RowsAtCompileTime == 1 || X::ColsAtCompileTime == 1;
  static constexpr bool is_tensor = true;
  static constexpr bool is_owner = std::derived_from<X, Eigen::PlainObjectBase<X>>;
  static constexpr bool is_const = (int{X::Flags} & int{Eigen::LvalueBit}) == 0;
  static constexpr bool is_row_major = is_vector || (int{X::Flags} & int{Eigen::RowMajorBit}) != 0;
  static constexpr int rank = is_vector ? 1 : 2;
  using Element = typename X::Scalar;
};

template <class X>
concept TensorLike = TensorTraits<std::remove_cvref_t<X>>::is_tensor;

// a + b, t.slice(...): values that are not in memory yet.
template <class X>
concept TensorExpression =
    !TensorLike<X> &&
    (std::derived_from<std::remove_cvref_t<X>,
                       Eigen::TensorBase<std::remove_cvref_t<X>, Eigen::ReadOnlyAccessors>> ||
     EigenDense<std::remove_cvref_t<X>>);

// What a forwarding parameter X&& is given: a tensor that is gone at the end of the statement. A map
// or a view may go, what it refers to stays.
template <class X>
concept OwningTemporary =
    !std::is_lvalue_reference_v<X> && TensorTraits<std::remove_cvref_t<X>>::is_owner;

template <class X, class T, int Rank>
constexpr void require_viewable() {
  static_assert(!TensorExpression<X>,
                "This is an Eigen expression, its values are not in memory yet: evaluate it into a "
                "eigenheads::Tensor first.");
  if constexpr (TensorLike<X>) {
    using Traits = TensorTraits<std::remove_cvref_t<X>>;
    static_assert(Traits::is_row_major,
                  "This tensor is column-major. Eigenheads takes row-major tensors, as NumPy's: "
                  "use eigenheads::Tensor, or Eigen::Tensor<T, Rank, Eigen::RowMajor>, or an "
                  "Eigen::Matrix with Eigen::RowMajor.");
    static_assert(Traits::rank == Rank,
                  "This tensor has another number of dimensions than the parameter asks for.");
    static_assert(std::same_as<std::remove_const_t<typename Traits::Element>, T>,
                  "This tensor has another element type than the parameter asks for.");
  }
}

// Throws std::invalid_argument for a matrix whose rows, or a vector whose elements, do not lie next
// to each other: whether they do is known of tensors by their type, and of a Map or Block only here.
template <int Rank, class X>
[[nodiscard]] std::array<Index, static_cast<std::size_t>(Rank)> dimensions_of(const X& x) {
  std::array<Index, static_cast<std::size_t>(Rank)> dimensions{};
  if constexpr (EigenMatrix<X>) {
    const Index rows = x.rows(), columns = x.cols();
    if constexpr (Rank == 1) dimensions = {rows * columns};
    if constexpr (Rank == 2) dimensions = {rows, columns};
    if (rows * columns > 1 &&
        (x.innerStride() != 1 || (Rank == 2 && rows > 1 && x.outerStride() != columns)))
      refuse({"a matrix of shape ", std::array{rows, columns}, " has strides ",
              std::array<Index, 2>{x.outerStride(), x.innerStride()},
              "; expected its elements next to each other in memory, row by row: copy it first"});
  } else if constexpr (TensorLike<X>) {
    using Axis = typename TensorTraits<X>::Axis;
    for (std::size_t axis = 0; axis < dimensions.size(); ++axis)
      dimensions[axis] = Index{x.dimensions()[static_cast<Axis>(axis)]};
  }
  return dimensions;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
