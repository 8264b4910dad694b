// SPDX-License-Identifier: MIT
#pragma once
// All parameters of a module as one row of numbers, one parameter after the other, of which a rank
// may have a slice.
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>  // Range
#include <eigenheads/error.hpp>          // refuse
#include <eigenheads/parameter.hpp>      // Parameter, HasParameters

namespace eigenheads::inline EIGENHEADS_ABI::mpi::detail {

using eigenheads::detail::Range, eigenheads::detail::refuse;

class FlatParameters {
 public:
  struct Part {
    std::string name;
    std::vector<Index> shape;
    Range range;
  };

  // Throws std::logic_error while the module is lazy.
  template <HasParameters Module>
  explicit FlatParameters(const Module& module) {
    module.for_each_parameter([&](const auto& parameter) {
      const auto shape = parameter.shape();
      parts_.push_back(
          {parameter.name(), {shape.begin(), shape.end()}, {size_, size_ + parameter.size()}});
      size_ += parameter.size();
    });
  }

  [[nodiscard]] Index size() const { return size_; }
  [[nodiscard]] const std::vector<Part>& parts() const { return parts_; }
  // visit(parameter, part) for all parameters of a module or its gradients. Throws
  // std::invalid_argument where they are not as those that this was made of.
  template <class Module, class Visit>
  void for_each(Module& module, std::string_view what, const Visit& visit) const {
    std::size_t next = 0;
    module.for_each_parameter([&](const auto& parameter) {
      const std::string& name = parameter.name();
      if (next == parts_.size()) refuse({what, " have ", name, ", which is no parameter"});
      const Part& part = parts_[next++];
      if (name != part.name)
        refuse({what, " have ", name, " where the parameters have ", part.name});
      if (!std::ranges::equal(parameter.shape(), part.shape))
        refuse({what, " have ", name, " of shape ", parameter.shape(), "; expected ",
                std::span<const Index>(part.shape)});
      visit(parameter, part);
    });
    if (next < parts_.size()) refuse({what, " end before ", parts_[next].name});
  }
  template <class Module>
  void require_same(const Module& module, std::string_view what) const {
    for_each(module, what, [](const auto&, const Part&) {});
  }

  // Those of a slice, with what else is in the parameters that it begins and ends in. all: [size()]
  template <class T, class Module>
  void read(const Module& module, Range slice, std::span<T> all) const {
    for_each(module, "the parameters", [&](const auto& parameter, const Part& part) {
      if (part.range.begin < slice.end && part.range.end > slice.begin)
        parameter.copy_to(values_of(part, all));
    });
  }

  template <class T>
  [[nodiscard]] static std::span<T> values_of(const Part& part, std::span<T> all) {
    return all.subspan(static_cast<std::size_t>(part.range.begin),
                       static_cast<std::size_t>(part.range.count()));
  }

 private:
  std::vector<Part> parts_;
  Index size_ = 0;
};

// FNV-1a, of a number at a time. Its products carry upwards alone, so that two flips of the highest
// bit, the sign of a double, would cancel: the high half is folded down after each.
class Hash {
 public:
  void add(std::uint64_t number) {
    hash_ = (hash_ ^ number) * 0x100000001B3u;
    hash_ ^= hash_ >> 32;
  }
  // As a Term has it.
  [[nodiscard]] Index term() const { return static_cast<Index>(hash_ >> 1); }

 private:
  std::uint64_t hash_ = 0xCBF29CE484222325u;
};

// Of the parameters' names and shapes, and of their bits if asked for.
template <HasParameters Module>
[[nodiscard]] Index hash_of(const Module& module, bool with_values) {
  Hash hash;
  module.for_each_parameter([&]<class T>(const Parameter<T>& parameter) {
    using Value = typename Parameter<T>::Value;
    using Bits = std::conditional_t<sizeof(Value) == 4, std::uint32_t, std::uint64_t>;
    for (const char c : parameter.name()) hash.add(static_cast<unsigned char>(c));
    for (const Index length : parameter.shape()) hash.add(static_cast<std::uint64_t>(length));
    if (!with_values) return;
    std::vector<Value> values(static_cast<std::size_t>(parameter.size()));
    parameter.copy_to(values);
    for (const Value value : values) hash.add(std::bit_cast<Bits>(value));
  });
  return hash.term();
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi::detail

#include <eigenheads/detail/macros_on.inl>
