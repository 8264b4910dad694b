// SPDX-License-Identifier: MIT
#pragma once
// What backward passes give for a projection (linear.hpp).
#include <string>
#include <string_view>
#include <type_traits>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/parameter.hpp>  // Parameter
#include <eigenheads/tensor.hpp>     // Tensor

namespace eigenheads::inline EIGENHEADS_ABI {

// The gradients of a Linear's parameters, with their shapes, names and order.
template <Scalar T>
struct LinearGradients {
  Tensor<T, 2> weight{0, 0};  // [out_features, in_features]
  Tensor<T, 1> bias{0};       // [out_features], or empty: the layer has none

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
    using Element = std::conditional_t<std::is_const_v<Self>, const T, T>;
    visit(Parameter<Element>(std::string(prefix) + "weight", self.weight));
    if (self.bias.size() > 0) visit(Parameter<Element>(std::string(prefix) + "bias", self.bias));
  }
};

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
