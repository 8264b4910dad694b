// SPDX-License-Identifier: MIT
#pragma once
// An enumeration's variable may hold any number: static_cast<Activation>(99) is one. A door that chose
// by it would do something else than was asked for.
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>    // refuse
#include <eigenheads/version.hpp>  // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// Throws std::invalid_argument unless `value` is one of the enumeration's, which are 0 to `last`.
template <class Enumeration>
constexpr void require_known(const char* name, Enumeration value, Enumeration last) {
  const auto number = static_cast<Index>(value), most = static_cast<Index>(last);
  if (number < 0 || number > most)
    refuse({name, " is number ", number, "; expected one of 0 to ", most});
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
