// SPDX-License-Identifier: MIT
#pragma once
// How modules that hold others are printed, as PyTorch does: a member a line, two spaces further in.
#include <ostream>
#include <sstream>
#include <string>
#include <string_view>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/version.hpp>  // EIGENHEADS_ABI

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// A line of a module that is being printed, "  (name): what it is".
template <class Module>
void print_member(std::ostream& out, std::string_view name, const Module& module) {
  std::ostringstream text;
  text << module;
  out << "\n  (" << name << "): ";
  for (const char c : text.str()) {
    out << c;
    if (c == '\n') out << "  ";
  }
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
