// SPDX-License-Identifier: MIT
#pragma once
// How a trainer reaches the numbers of a layer, in whatever order the layer keeps them:
//   layer.for_each_parameter([](auto parameter) { std::cout << parameter.name() << '\n'; });
// Elements are counted as in a row-major tensor of the parameter's shape; a weight is [out, in].
#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/panels.hpp>  // Panels
#include <eigenheads/shape.hpp>          // require_shape, refuse
#include <eigenheads/tensor.hpp>         // Index, Scalar, TensorSpan, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

// f(i, value) of the same type as the value, which may be written.
template <class F, class T>
concept ElementFunction =
    !std::is_const_v<T> && std::is_same_v<std::invoke_result_t<const F&, Index, T>, T>;

// A reference to one parameter, as std::span is one to an array: what it refers to must outlive it
// and keep its size, and Parameter<const T> is the read-only kind.
template <class T>
requires Scalar<std::remove_const_t<T>>
class Parameter {
 public:
  using Value = std::remove_const_t<T>;

  // A plain tensor, [n] or [rows, columns].
  template <detail::TensorLike X>
  requires(rank_of<X> == 1 || rank_of<X> == 2)
  Parameter(std::string name, X&& tensor) : name_(std::move(name)), rank_(rank_of<X>) {
    using View = std::conditional_t<std::is_const_v<T>, TensorView<Value, rank_of<X>>,
                                    TensorSpan<Value, rank_of<X>>>;
    const View view(tensor);
    require_shape(name_, TensorView<Value, rank_of<X>>(view), "its own shape", view.dimensions());
    std::copy_n(view.dimensions().begin(), view.dimensions().size(), shape_.begin());
    // One row, whatever the shape, in a panel of one: its elements are side by side.
    elements_ = {view.data(), 1, view.size(), 1};
  }
  // A matrix in panels.
  Parameter(std::string name, detail::Panels<T> panels)
      : name_(std::move(name)),
        rank_(2),
        shape_{panels.rows, panels.columns},
        is_packed_(true),
        elements_(panels) {}

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::span<const Index> shape() const { return {shape_.data(), rank_}; }
  [[nodiscard]] Index size() const { return elements_.rows * elements_.columns; }

  // Element i; each takes a division.
  [[nodiscard]] Value get(Index i) const { return element(i); }
  void set(Index i, Value value) const
  requires(!std::is_const_v<T>)
  {
    element(i) = value;
  }

  // Element i becomes f(i, element i), each once, in order. (Inlined whatever the compiler thinks
  // of it, so that a loop in a target region is compiled for that target.)
  template <ElementFunction<T> F>
  [[gnu::always_inline]] void update(const F& f) const {
    visit([&f](Index i, T& element) { element = f(i, element); });
  }

  // All elements in their order, size() of them.
  void copy_to(std::span<Value> values) const {
    require_count(values.size());
    visit([to = values.data()](Index i, const T& element) { to[i] = element; });
  }
  void copy_from(std::span<const Value> values) const
  requires(!std::is_const_v<T>)
  {
    require_count(values.size());
    visit([from = values.data()](Index i, T& element) { element = from[i]; });
  }

  // The elements of a plain tensor, not copied. Throws std::logic_error for a matrix in panels.
  [[nodiscard]] std::span<T> elements() const {
    if (is_packed_)
      detail::refuse<std::logic_error>(
          {name_, " does not lie in memory as a tensor does; use get() or copy_to()"});
    return {elements_.data, static_cast<std::size_t>(size())};
  }

 private:
  [[nodiscard]] T& element(Index i) const {
    eigen_assert(i >= 0 && i < size());
    return elements_.at(i / elements_.columns, i % elements_.columns);
  }

  // visitor(i, element) for all elements, row by row. (To go through a panel in pieces that stay in
  // the cache was slower: it breaks up the rows of the gradient and the moments.)
  template <class Visitor>
  [[gnu::always_inline]] void visit(const Visitor& visitor) const {
    const Index width = elements_.width, columns = elements_.columns;
    for (Index row = 0; columns > 0 && row < elements_.rows; ++row) {
      T* const first = elements_.row_data(row);
      for (Index k = 0; k < columns; ++k) visitor(row * columns + k, first[k * width]);
    }
  }

  void require_count(std::size_t count) const {
    if (static_cast<Index>(count) != size())
      detail::refuse({name_, " has ", size(), " elements; got ", count});
  }

  std::string name_;
  std::size_t rank_;
  std::array<Index, 2> shape_{};
  bool is_packed_ = false;
  detail::Panels<T> elements_;
};

namespace detail {
struct IgnoreParameter {
  template <class T>
  void operator()(const Parameter<T>&) const {}
};
}  // namespace detail

// Linear, MultiHeadAttention, their gradients, and every type with such a member: it calls
// visit(Parameter) for all its parameters, in an order that does not change, under names that all
// begin with the prefix.
template <class Module>
concept HasParameters = requires(Module& module) {
  module.for_each_parameter(detail::IgnoreParameter{}, std::string_view());
};

namespace detail {
struct IgnoreShare {
  template <class T>
  void operator()(const Parameter<T>&, Index, Index) const {}
};
// A module that has some rows of what it is part of (mpi/tensor_attention.hpp).
template <class Module>
concept SharedModule =
    requires(Module& module) { module.for_each_share(IgnoreShare{}, std::string_view()); };
}  // namespace detail

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
