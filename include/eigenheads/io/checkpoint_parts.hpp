// SPDX-License-Identifier: MIT
#pragma once
// Modules that are one model, for as long as a call takes: references to their parameters, by the
// names that they have in that model.
//   ModuleParts parts;
//   parts.add("token_embedding.", tokens).add("encoder.", encoder);
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/parameter.hpp>       // Parameter, HasParameters
#include <eigenheads/rotary_options.hpp>  // RotaryOptions
#include <eigenheads/tensor.hpp>          // Index

namespace eigenheads::inline EIGENHEADS_ABI {

// How the heads of an attention lie in its weights, where a module's type tells.
struct HeadsLayout {
  Index head_size = 0;
  std::optional<RotaryOptions> rotary{};
};

namespace detail {

template <class Module>
[[nodiscard]] HeadsLayout heads_layout_of(const Module& module) {
  if constexpr (requires { module.layers.front().self_attention; }) {
    if (!module.layers.empty()) return heads_layout_of(module.layers.front());
  } else if constexpr (requires { module.self_attention; }) {
    return {module.self_attention.head_size(), module.options().rotary};
  } else if constexpr (requires {
                         module.head_size();
                         module.rotary();
                       }) {
    HeadsLayout layout{module.head_size(), {}};
    if constexpr (requires { module.rotary()->options(); })  // rotary.hpp is there
      if (module.rotary() != nullptr) layout.rotary = module.rotary()->options();
    return layout;
  } else if constexpr (requires { module.encoder.layers; }) {
    return heads_layout_of(module.encoder);
  }
  return {};
}

using AnyParameter = std::variant<Parameter<float>, Parameter<double>>;
using AnyConstParameter = std::variant<Parameter<const float>, Parameter<const double>>;

}  // namespace detail

// Of a parameter in a file the rows [first, first + those of the module's), of `all`.
struct RowShare {
  Index first, all;
};

// Element: detail::AnyParameter, or AnyConstParameter for modules that are only read.
template <class Element>
class BasicModuleParts {
 public:
  BasicModuleParts() = default;

  // name: what the module is called in the model, "" if it is the model. Throws std::logic_error while
  // the module is lazy.
  template <class Module>
  requires HasParameters<Module>
  BasicModuleParts& add(std::string_view name, Module& module) {
    heads_.push_back(detail::heads_layout_of(module));
    const auto keep_share = [&](const auto& parameter, Index first, Index all) {
      parameters_.emplace_back(parameter);
      shares_.push_back({first, all});
      module_of_.push_back(heads_.size() - 1);
    };
    const auto keep = [&](const auto& parameter) {
      keep_share(parameter, 0, parameter.shape()[0]);
    };
    constexpr bool is_saved = std::is_same_v<Element, detail::AnyConstParameter>;
    static_assert(!is_saved || !detail::SharedModule<std::remove_const_t<Module>>,
                  "This module has a share of the rows: nobody has the whole, to save it.");
    if constexpr (detail::SharedModule<Module>)
      module.for_each_share(keep_share, name);
    else if constexpr (is_saved)
      std::as_const(module).for_each_parameter(keep, name);
    else
      module.for_each_parameter(keep, name);
    names_.emplace_back(name);
    return *this;
  }

  [[nodiscard]] const std::vector<Element>& parameters() const { return parameters_; }
  [[nodiscard]] const std::vector<RowShare>& shares() const { return shares_; }
  // Of the module of parameter i; a head_size of 0 where its type does not tell.
  [[nodiscard]] const HeadsLayout& heads(std::size_t i) const { return heads_[module_of_[i]]; }
  // Whether a parameter of that name would be one of these modules'.
  [[nodiscard]] bool covers(std::string_view parameter) const {
    for (const std::string& name : names_)
      if (parameter.starts_with(name)) return true;
    return false;
  }

 private:
  std::vector<Element> parameters_;
  std::vector<RowShare> shares_;        // of each parameter
  std::vector<std::size_t> module_of_;  // likewise
  std::vector<HeadsLayout> heads_;      // of each module
  std::vector<std::string> names_;
};

using ModuleParts = BasicModuleParts<detail::AnyParameter>;
using ConstModuleParts = BasicModuleParts<detail::AnyConstParameter>;

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
