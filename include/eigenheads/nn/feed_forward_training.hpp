// SPDX-License-Identifier: MIT
#pragma once
// What a forward pass of a feed-forward network (feed_forward.hpp) keeps in training, and the gradients
// that the backward pass makes of it.
#include <string>
#include <string_view>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/saved_sequences.hpp>            // SavedSequences
#include <eigenheads/kernels/nn/schedule/feed_forward.hpp>  // FeedForwardParts
#include <eigenheads/linear_gradients.hpp>                  // LinearGradients
#include <eigenheads/tensor.hpp>                            // Tensor, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

// What backward needs of a call, and owns. Memory is used again by the next.
template <Scalar T>
class FeedForwardActivations {
 public:
  [[nodiscard]] bool is_saved() const { return size_ > 0; }

  // Before the activation, [rows, hidden_size]; `gate` is empty where there is none.
  [[nodiscard]] TensorView<T, 2> up() const { return up_; }
  [[nodiscard]] TensorView<T, 2> gate() const { return gate_; }

  // For the steps of the passes.

  [[nodiscard]] const T* x() const { return x_.data(); }
  [[nodiscard]] Index size() const { return size_; }
  [[nodiscard]] const detail::SavedSequences& sequences() const { return sequences_; }

  struct Kept {
    T *x, *up, *gate;  // to be filled; gate is null where there is none
  };
  [[nodiscard]] Kept keep(const detail::SavedSequences& sequences,
                          const detail::FeedForwardParts<T>& parts) {
    size_ = 0;  // nothing is saved until complete() says so
    sequences_ = sequences;
    const Index rows = sequences_.rows().total(), hidden = parts.hidden();
    detail::resize("x", x_, {rows, parts.size()});
    detail::resize("up", up_, {rows, hidden});
    detail::resize("gate", gate_, {parts.is_gated() ? rows : 0, parts.is_gated() ? hidden : 0});
    return {x_.data(), up_.data(), parts.is_gated() ? gate_.data() : nullptr};
  }
  // When what keep() gave room to is filled.
  void complete() { size_ = x_.dimension(1); }

 private:
  Index size_ = 0;
  detail::SavedSequences sequences_;
  Tensor<T, 2> x_{0, 0}, up_{0, 0}, gate_{0, 0};
};

// Of the parameters, with the layer's names and order, and of the input: [B, L, size], where what
// the last two axes of x held is a sequence; packed, [1, N, size].
template <Scalar T>
struct FeedForwardGradients {
  Tensor<T, 3> x{0, 0, 0};
  LinearGradients<T> up, gate, down;  // gate is empty where there is none

  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    visit_parameters(*this, visit, prefix);
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    visit_parameters(*this, visit, prefix);
  }

 private:
  template <class Self, class Visitor>
  static void visit_parameters(Self& self, Visitor& visit, std::string_view prefix) {
    const std::string start(prefix);
    self.up.for_each_parameter(visit, start + "up.");
    if (self.gate.weight.size() > 0) self.gate.for_each_parameter(visit, start + "gate.");
    self.down.for_each_parameter(visit, start + "down.");
  }
};

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
