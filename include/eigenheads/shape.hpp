// SPDX-License-Identifier: MIT
#pragma once
// What every public door checks, and the sentences it refuses with:
//   queries has shape [2, 4, 99]; expected [B, Q, query_size] = [*, *, 100]
#include <array>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#include <eigenheads/tensor.hpp>  // Index, Tensor, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

// An axis of any length, in the shape that require_shape expects.
inline constexpr Index any = -1;

namespace detail {

// The one place that refuses. Built without exceptions, it prints the sentence and aborts.
template <class Exception>
[[noreturn]] void raise(const std::string& message) {
#if defined(__cpp_exceptions)
  throw Exception("eigenheads: " + message);
#else
  std::fprintf(stderr, "eigenheads: %s\n", message.c_str());
  std::abort();
#endif
}

[[noreturn]] inline void refuse(const std::string& message) {
  raise<std::invalid_argument>(message);
}

[[nodiscard]] inline std::string shape_text(std::span<const Index> shape) {
  std::string text = "[";
  for (std::size_t axis = 0; axis < shape.size(); ++axis)
    text += (axis > 0 ? ", " : "") + std::to_string(shape[axis]);
  return text + "]";
}

// The same for a shape that is asked for: `any` is a star.
[[nodiscard]] inline std::string expected_text(std::span<const Index> shape) {
  std::string text = "[";
  for (std::size_t axis = 0; axis < shape.size(); ++axis)
    text += (axis > 0 ? ", " : "") + (shape[axis] == any ? "*" : std::to_string(shape[axis]));
  return text + "]";
}

// How many elements the shape has; refuses a shape that no memory can hold, before anything is
// allocated or read.
template <class T>
Index require_size(std::string_view name, std::span<const Index> shape) {
  constexpr Index limit = (std::numeric_limits<Index>::max)() / static_cast<Index>(sizeof(T));
  Index size = 1;
  bool empty = false;
  for (const Index n : shape) {
    if (n < 0) refuse(std::string(name) + " has a negative dimension: " + shape_text(shape));
    empty = empty || n == 0;
    if (n == 0) continue;  // but it does not excuse the others: Eigen multiplies them in any order
    if (size > limit / n)
      refuse(std::string(name) + " would have shape " + shape_text(shape) +
             ", more than memory can hold");
    size *= n;
  }
  return empty ? 0 : size;
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
// "[B, Q, E]"; an expected length of `any` fits every length. O(rank), allocates only to refuse.
template <class T, int Rank>
void require_shape(std::string_view name, TensorView<T, Rank> tensor, std::string_view axes,
                   const std::array<Index, static_cast<std::size_t>(Rank)>& expected) {
  const auto& shape = tensor.dimensions();
  for (std::size_t axis = 0; axis < shape.size(); ++axis)
    if (expected[axis] != any && shape[axis] != expected[axis])
      detail::refuse(std::string(name) + " has shape " + detail::shape_text(shape) + "; expected " +
                     std::string(axes) + " = " + detail::expected_text(expected));
  if (detail::require_size<T>(name, shape) > 0 && tensor.data() == nullptr)
    detail::refuse(std::string(name) + " has shape " + detail::shape_text(shape) +
                   " but its data pointer is null");
}

namespace detail {

// Refuses a result that would be written over one of its inputs.
template <class T, class U, int Rank, int OtherRank>
void require_disjoint(std::string_view name, TensorView<T, Rank> result,
                      std::string_view other_name, TensorView<U, OtherRank> input) {
  const std::less<const void*> before;
  if (result.size() > 0 && input.size() > 0 && before(result.data(), input.data() + input.size()) &&
      before(input.data(), result.data() + result.size()))
    refuse(std::string(name) + " overlaps " + std::string(other_name) + " in memory");
}

}  // namespace detail

}  // namespace eigenheads::inline EIGENHEADS_ABI
