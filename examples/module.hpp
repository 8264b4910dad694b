// SPDX-License-Identifier: MIT
#pragma once
// A layer that is made of others says what its parts are called, and is then visited as the
// library's own are: for optimizers, checkpoints and checks. Its gradients have the same parts.
#include <string>
#include <string_view>

namespace examples {

// Layer has a static for_each_part(self, visit), which calls visit(name, part) for every layer in
// self: a Layer or its gradients.
template <class Self, class Layer = Self>
class Module {
 public:
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    visit_parts(static_cast<Self&>(*this), visit, prefix);
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    visit_parts(static_cast<const Self&>(*this), visit, prefix);
  }

 private:
  template <class AnySelf, class Visitor>
  static void visit_parts(AnySelf& self, Visitor& visit, std::string_view prefix) {
    Layer::for_each_part(self, [&](std::string_view name, auto& part) {
      part.for_each_parameter(visit, std::string(prefix).append(name) + '.');
    });
  }
};

}  // namespace examples
