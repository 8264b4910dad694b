// SPDX-License-Identifier: MIT
#pragma once
// All parameters of a module, or of its gradients, at once: how many numbers they are, and their copy
// into a module of the same parameters, from float to double and back:
//   copy_parameters(floats, doubles);
#include <algorithm>
#include <cstddef>
#include <span>
#include <tuple>
#include <variant>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>      // refuse
#include <eigenheads/parameter.hpp>  // Parameter, HasParameters
#include <eigenheads/tensor.hpp>     // Index

namespace eigenheads::inline EIGENHEADS_ABI {

// Of all parameters together. Throws std::logic_error while the module is lazy.
template <HasParameters Module>
[[nodiscard]] Index count_parameters(const Module& module) {
  Index count = 0;
  module.for_each_parameter([&](const auto& parameter) { count += parameter.size(); });
  return count;
}

namespace detail {

using ReadParameter = std::variant<Parameter<const float>, Parameter<const double>>;

template <class T>
void require_same_parameter(const ReadParameter& from, const Parameter<T>& to) {
  std::visit(
      [&](const auto& parameter) {
        if (parameter.name() != to.name() || !std::ranges::equal(parameter.shape(), to.shape()))
          refuse({"copy_parameters: from ", parameter.name(), " of shape ", parameter.shape(),
                  " to ", to.name(), " of shape ", to.shape(),
                  "; expected modules with the same parameters"});
      },
      from);
}

using WrittenParameter = std::variant<Parameter<float>, Parameter<double>>;

// Room for the elements of one parameter.
class ParameterRoom {
 public:
  template <class T>
  [[nodiscard]] std::span<T> of(const Parameter<const T>& parameter) {
    auto& all = std::get<std::vector<T>>(all_);
    const auto size = static_cast<std::size_t>(parameter.size());
    if (all.size() < size) all.resize(size);
    return std::span(all).first(size);
  }

 private:
  std::tuple<std::vector<float>, std::vector<double>> all_;
};

template <class From, class T>
void copy_parameter(const Parameter<const From>& from, const Parameter<T>& to,
                    ParameterRoom& room) {
  const std::span<From> values = room.of(from);
  from.copy_to(values);
  to.update([&](Index i, T) { return static_cast<T>(values[static_cast<std::size_t>(i)]); });
}

}  // namespace detail

// Every parameter of `to` becomes that of `from`: exactly from float to double, and from double to
// float rounded to the nearest, halfway cases to even, numbers beyond the largest to infinity. Needs
// memory for a copy of one parameter. Throws std::invalid_argument, and writes nothing, unless both
// have the same parameters by name, shape and order; std::logic_error while one of them is lazy.
template <HasParameters From, HasParameters To>
void copy_parameters(const From& from, To& to) {
  std::vector<detail::ReadParameter> sources;
  from.for_each_parameter([&](const auto& parameter) { sources.emplace_back(parameter); });
  std::vector<detail::WrittenParameter> targets;
  std::size_t count = 0;
  to.for_each_parameter([&](const auto& parameter) {
    if (count < sources.size()) detail::require_same_parameter(sources[count], parameter);
    ++count;
    targets.emplace_back(parameter);
  });
  if (count != sources.size())
    detail::refuse({"copy_parameters: from a module with ", sources.size(),
                    " parameters to one with ", count,
                    "; expected modules with the same parameters"});
  detail::ParameterRoom room;  // for the largest, before anything is written
  for (const detail::ReadParameter& any : sources)
    std::visit([&](const auto& source) { static_cast<void>(room.of(source)); }, any);
  for (std::size_t i = 0; i < count; ++i)
    std::visit([&](const auto& source,
                   const auto& target) { detail::copy_parameter(source, target, room); },
               sources[i], targets[i]);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
