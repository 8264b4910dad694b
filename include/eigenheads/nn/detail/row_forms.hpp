// SPDX-License-Identifier: MIT
#pragma once
// The rows of a call, padded or packed, for layers that are made of others: how each form is handed
// on to a module, so that the layer's steps are written once.
#include <array>

#include <eigenheads/context.hpp>  // Context
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/saved_sequences.hpp>  // SavedSequences
#include <eigenheads/sequences.hpp>               // Sequences, require_rows
#include <eigenheads/shape.hpp>                   // require_shape
#include <eigenheads/tensor.hpp>                  // TensorView, TensorSpan

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// [B, L, size]
template <class T>
struct PaddedForm {
  static constexpr int rank = 3;
  Index B, L, size;

  [[nodiscard]] Index rows() const { return B * L; }
  [[nodiscard]] Index elements() const { return rows() * size; }
  [[nodiscard]] SavedSequences sequences() const { return SavedSequences(std::array{B, L, size}); }
  [[nodiscard]] TensorView<T, 3> view(const T* x) const { return {x, {B, L, size}}; }
  [[nodiscard]] TensorSpan<T, 3> span(T* x) const { return {x, {B, L, size}}; }

  // What follows the queries in a call, `memory` being of another such form.
  template <class Attend>
  decltype(auto) with_self(const T* x, const Attend& attend) const {
    return attend(view(x), view(x), view(x));
  }
  template <class Attend>
  decltype(auto) with_memory(const T* x, const PaddedForm& memory_form, const T* memory,
                             const Attend& attend) const {
    return attend(view(x), memory_form.view(memory), memory_form.view(memory));
  }
  template <class Module, class Saved>
  [[nodiscard]] auto train(const Module& module, const T* x, Saved& saved, Context& context) const {
    return module.forward(view(x), saved, context);
  }
};

// [N, size], of these sequences.
template <class T>
struct PackedForm {
  static constexpr int rank = 2;
  const Sequences& packed;
  Index size;

  [[nodiscard]] Index rows() const { return packed.rows(); }
  [[nodiscard]] Index elements() const { return rows() * size; }
  [[nodiscard]] SavedSequences sequences() const { return SavedSequences(packed.as_rows()); }
  [[nodiscard]] TensorView<T, 2> view(const T* x) const { return {x, {packed.rows(), size}}; }
  [[nodiscard]] TensorSpan<T, 2> span(T* x) const { return {x, {packed.rows(), size}}; }

  template <class Attend>
  decltype(auto) with_self(const T* x, const Attend& attend) const {
    return attend(view(x), packed);
  }
  template <class Attend>
  decltype(auto) with_memory(const T* x, const PackedForm& memory_form, const T* memory,
                             const Attend& attend) const {
    const auto keys = memory_form.view(memory);
    return attend(view(x), packed, keys, keys, memory_form.packed);
  }
  template <class Module, class Saved>
  [[nodiscard]] auto train(const Module& module, const T* x, Saved& saved, Context& context) const {
    return module.forward(view(x), packed, saved, context);
  }
};

// Throw std::invalid_argument unless x is of `size` features, and has the rows of its sequences.
template <class T>
[[nodiscard]] PaddedForm<T> padded_form(const char* name, TensorView<T, 3> x, Index size) {
  require_shape(name, x, "[B, L, size]", {any_size, any_size, size});
  return {x.dimension(0), x.dimension(1), size};
}
template <class T>
[[nodiscard]] PackedForm<T> packed_form(const char* name, TensorView<T, 2> x,
                                        const Sequences& sequences, Index size) {
  require_shape(name, x, "[N, size]", {any_size, size});
  require_rows(name, x, sequences);
  return {sequences, size};
}

// call(view) with the rows of a saved call, in its form.
template <class T, class Call>
decltype(auto) with_saved_form(const SavedSequences& sequences, Index size, const T* rows,
                               const Call& call) {
  const auto [B, L, E] = sequences.shape(size);
  if (sequences.is_packed()) return call(TensorView<T, 2>(rows, {L, E}));
  return call(TensorView<T, 3>(rows, {B, L, E}));
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
