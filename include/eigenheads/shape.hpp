// SPDX-License-Identifier: MIT
#pragma once
// Shapes: what every public door checks of its tensors before anything is read or written.
#include <algorithm>
#include <array>
#include <cstddef>
#include <functional>
#include <limits>
#include <span>
#include <string_view>
#include <tuple>
#include <type_traits>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>   // refuse, any_size
#include <eigenheads/tensor.hpp>  // Index, Tensor, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

namespace detail {

// How many elements of so many bytes the shape has; refuses a shape that no memory can hold, before
// anything is allocated or read.
[[gnu::noinline]] inline Index require_size(std::string_view name, std::span<const Index> shape,
                                            Index bytes) {
  const Index limit = (std::numeric_limits<Index>::max)() / bytes;
  Index size = 1;
  bool is_empty = false;
  for (const Index n : shape) {
    if (n < 0) refuse({name, " has a negative dimension: ", shape});
    is_empty = is_empty || n == 0;
    if (n == 0) continue;  // but it does not excuse the others: Eigen multiplies them in any order
    if (__builtin_mul_overflow(size, n, &size) || size > limit)
      refuse({name, " would have shape ", shape, ", more than memory can hold"});
  }
  return is_empty ? 0 : size;
}
template <class T>
Index require_size(std::string_view name, std::span<const Index> shape) {
  return require_size(name, shape, static_cast<Index>(sizeof(T)));
}

// Not inline, for the compiler's time: a call has a dozen of these.
[[gnu::noinline]] inline void require_shape(std::string_view name, std::span<const Index> shape,
                                            Index bytes, const void* data, std::string_view axes,
                                            std::span<const Index> expected) {
  for (std::size_t axis = 0; axis < shape.size(); ++axis)
    if (expected[axis] != any_size && shape[axis] != expected[axis])
      refuse({name, " has shape ", shape, "; expected ", axes, " = ", expected_text(expected)});
  if (require_size(name, shape, bytes) > 0 && data == nullptr)
    refuse({name, " has shape ", shape, " but its data pointer is null"});
}

// An uninitialised tensor of that shape, for a result.
template <class T, std::size_t Rank>
[[nodiscard]] Tensor<T, static_cast<int>(Rank)> make_tensor(std::string_view name,
                                                            const std::array<Index, Rank>& shape) {
  require_size<T>(name, shape);
  Eigen::array<Index, Rank> dimensions{};
  for (std::size_t axis = 0; axis < Rank; ++axis) dimensions[axis] = shape[axis];
  return Tensor<T, static_cast<int>(Rank)>(dimensions);
}

}  // namespace detail

// Throws std::invalid_argument unless `tensor` has the expected shape. `axes` names the axes, as in
// "[B, Q, E]"; an expected length of `any_size` fits every length. O(rank), allocates only to refuse.
template <class T, int Rank>
void require_shape(std::string_view name, TensorView<T, Rank> tensor, std::string_view axes,
                   const std::array<Index, static_cast<std::size_t>(Rank)>& expected) {
  detail::require_shape(name, tensor.dimensions(), static_cast<Index>(sizeof(T)), tensor.data(),
                        axes, expected);
}

namespace detail {

// Memory that fits is used again; other memory goes before the new is taken, not beside it. Without
// memory for it the tensor is empty: Eigen's own resize, and its copy assignment, would leave it with
// a pointer to what it freed.
template <class T, int Rank>
void resize(std::string_view name, Tensor<T, Rank>& tensor,
            const std::array<Index, static_cast<std::size_t>(Rank)>& shape) {
  if (require_size<T>(name, shape) != tensor.size()) tensor = Tensor<T, Rank>();
  if (tensor.size() == 0)
    tensor = make_tensor<T>(name, shape);
  else
    std::apply([&](auto... lengths) { tensor.resize(lengths...); }, shape);
}
// A copy, in the same way.
template <class T, int Rank>
void assign(std::string_view name, Tensor<T, Rank>& tensor,
            std::type_identity_t<TensorView<T, Rank>> from) {
  resize(name, tensor, from.dimensions());
  std::copy_n(from.data(), from.size(), tensor.data());
}

// Gives a gradient its shape, or, if it is added to, refuses another. Memory that fits is used again.
template <class T, int Rank>
void fit_gradient(std::string_view name, Tensor<T, Rank>& gradient, std::string_view axes,
                  const std::array<Index, static_cast<std::size_t>(Rank)>& expected, bool adds) {
  const TensorView<T, Rank> view(gradient);
  if (adds)
    require_shape(name, view, axes, expected);
  else if (view.dimensions() != expected)
    gradient = make_tensor<T>(name, expected);
}

// Refuses a result that would be written over one of its inputs.
template <class T, class U, int Rank, int OtherRank>
void require_disjoint(std::string_view name, TensorView<T, Rank> result,
                      std::string_view other_name, TensorView<U, OtherRank> input) {
  const std::less<const void*> before;
  if (result.size() > 0 && input.size() > 0 && before(result.data(), input.data() + input.size()) &&
      before(input.data(), result.data() + result.size()))
    refuse({name, " overlaps ", other_name, " in memory"});
}
// Unless the result is the input itself.
template <class T, int Rank>
void require_same_or_disjoint(std::string_view name, TensorView<T, Rank> result,
                              std::string_view other_name, TensorView<T, Rank> input) {
  if (result.data() != input.data() || result.dimensions() != input.dimensions())
    require_disjoint(name, result, other_name, input);
}

}  // namespace detail

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
