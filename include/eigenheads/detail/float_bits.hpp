// SPDX-License-Identifier: MIT
#pragma once
// Questions about a number that must be answered from its bits: -ffast-math lets the compiler
// assume that NaN and infinity do not exist, and then x != x and std::isnan are false. By
// reference, because newer compilers assume the same of every number that is passed by value.
#include <bit>
#include <cstdint>
#include <type_traits>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/tensor.hpp>  // Scalar

namespace eigenheads::inline EIGENHEADS_ABI::detail {

#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__
inline constexpr bool compiler_assumes_no_nan = true;
#else
inline constexpr bool compiler_assumes_no_nan = false;
#endif

template <Scalar T>
using BitsOf = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;

template <Scalar T>
inline constexpr BitsOf<T> infinity_bits =
    static_cast<BitsOf<T>>(sizeof(T) == 4 ? 0x7F800000 : 0x7FF0000000000000);

// As std::numeric_limits has them, of which clang warns where it may assume that there are none.
template <Scalar T>
inline constexpr T infinity = std::bit_cast<T>(infinity_bits<T>);
template <Scalar T>
inline constexpr T quiet_nan =
    std::bit_cast<T>(static_cast<BitsOf<T>>(sizeof(T) == 4 ? 0x7FC00000 : 0x7FF8000000000000));

// Where the compiler assumes something of numbers, by way of memory that it must read: clang 19 makes a
// question about these bits one about the number again, and answers that as it assumes.
template <Scalar T>
[[nodiscard]] constexpr BitsOf<T> bits_of(const T& x) {
  const auto bits = std::bit_cast<BitsOf<T>>(x);
  if constexpr (compiler_assumes_no_nan) {
    if (!std::is_constant_evaluated()) {
      const volatile BitsOf<T> read = bits;
      return read;
    }
  }
  return bits;
}

template <Scalar T>
[[nodiscard]] constexpr bool is_finite(const T& x) {
  return (bits_of(x) & infinity_bits<T>) != infinity_bits<T>;
}

template <Scalar T>
[[nodiscard]] constexpr bool is_nan(const T& x) {
  return static_cast<BitsOf<T>>(bits_of(x) << 1) > static_cast<BitsOf<T>>(infinity_bits<T> << 1);
}

// Of either sign. x == 0 may also hold for NaN.
template <Scalar T>
[[nodiscard]] constexpr bool is_zero(const T& x) {
  return static_cast<BitsOf<T>>(bits_of(x) << 1) == 0;
}

template <Scalar T>
[[nodiscard]] constexpr bool is_negative_infinity(const T& x) {
  return bits_of(x) == std::bit_cast<BitsOf<T>>(-infinity<T>);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
