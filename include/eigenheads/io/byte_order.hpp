// SPDX-License-Identifier: MIT
#pragma once
// Files are little-endian, here and in NumPy; this machine need not be.
#include <algorithm>
#include <bit>
#include <cstddef>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/version.hpp>  // EIGENHEADS_ABI

namespace eigenheads::inline EIGENHEADS_ABI::detail {

inline constexpr bool is_big_endian = std::endian::native == std::endian::big;
static_assert(is_big_endian || std::endian::native == std::endian::little);

// From little-endian to big-endian and back.
inline void reverse_each(char* bytes, std::size_t size, std::size_t width) {
  for (std::size_t i = 0; i < size; i += width) std::reverse(bytes + i, bytes + i + width);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
