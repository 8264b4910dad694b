// SPDX-License-Identifier: MIT
#pragma once
// A matrix of weights in panels: the only copy of it, in the order in which the tiles read it.
#include <array>
#include <cstddef>
#include <new>
#include <string_view>
#include <vector>

#include <eigenheads/detail/arena.hpp>  // line_bytes
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/panels.hpp>   // Panels
#include <eigenheads/kernels/chosen.hpp>  // projection_kernels
#include <eigenheads/shape.hpp>           // make_tensor
#include <eigenheads/tensor.hpp>          // Tensor, TensorView

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// Memory that begins where a cache line and the widest register do.
template <class T>
struct LineAllocator {
  using value_type = T;
  LineAllocator() = default;
  template <class U>
  LineAllocator(const LineAllocator<U>&) {}  // NOLINT
  [[nodiscard]] T* allocate(std::size_t count) {
    return static_cast<T*>(::operator new(count * sizeof(T), std::align_val_t{line_bytes}));
  }
  void deallocate(T* memory, std::size_t) {
    ::operator delete(memory, std::align_val_t{line_bytes});
  }
  friend bool operator==(const LineAllocator&, const LineAllocator&) { return true; }
};

template <class T>
class PackedMatrix {
 public:
  PackedMatrix() = default;  // [0, 0]

  explicit PackedMatrix(TensorView<T, 2> matrix) {  // [rows, columns]
    const ProjectionKernels<T> kernels = projection_kernels<T>();
    panels_.rows = matrix.dimension(0);
    panels_.columns = matrix.dimension(1);
    panels_.width = kernels.panel_width;
    memory_.resize(static_cast<std::size_t>(panels_.size()));
    kernels.pack_panels(matrix.data(), panels_.columns, {0, panels_.rows}, panels_.columns,
                        memory_.data());
  }

  [[nodiscard]] Index rows() const { return panels_.rows; }
  [[nodiscard]] Index columns() const { return panels_.columns; }

  [[nodiscard]] Panels<T> panels() { return {memory_.data(), rows(), columns(), panels_.width}; }
  [[nodiscard]] Panels<const T> panels() const {
    return {memory_.data(), rows(), columns(), panels_.width};
  }

  [[nodiscard]] Tensor<T, 2> unpacked(std::string_view name) const {
    auto matrix = make_tensor<T>(name, std::array{rows(), columns()});
    const Panels<const T> packed = panels();
    for (Index row = 0; row < rows(); ++row)
      for (Index column = 0; column < columns(); ++column)
        matrix(row, column) = packed.at(row, column);
    return matrix;
  }

 private:
  Panels<T> panels_;  // the sizes; its pointer stays null, so that copies are right
  std::vector<T, LineAllocator<T>> memory_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
