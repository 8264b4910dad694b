// SPDX-License-Identifier: MIT
#pragma once
// Numbers of 16 bits, in which keys and values may be stored: half the memory of float, and half the
// time to read it. Arithmetic is in float. Rounding is to nearest even and widening exact, both by
// integer arithmetic: the same bits on every machine, whatever it does with subnormal numbers.
#include <bit>
#include <cstdint>
#include <type_traits>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/version.hpp>  // EIGENHEADS_ABI

namespace eigenheads::inline EIGENHEADS_ABI {

// The upper half of a float: its range, and 8 bits of precision.
struct BFloat16 {
  std::uint16_t bits = 0;

  [[nodiscard]] static constexpr BFloat16 rounded(const float& x) {
    const auto u = std::bit_cast<std::uint32_t>(x);
    if ((u & 0x7FFFFFFFu) > 0x7F800000u)  // NaN, which stays one
      return {static_cast<std::uint16_t>((u >> 16) | 0x0040u)};
    return {static_cast<std::uint16_t>((u + 0x7FFFu + ((u >> 16) & 1u)) >> 16)};
  }
  [[nodiscard]] constexpr float value() const {
    return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16);
  }
  [[nodiscard]] constexpr bool is_finite() const { return (bits & 0x7F80u) != 0x7F80u; }
};

// IEEE 754's binary16: 11 bits of precision, up to 65504, subnormal below 2^-14.
struct Half {
  std::uint16_t bits = 0;

  [[nodiscard]] static constexpr Half rounded(const float& x) {
    const auto u = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t sign = (u >> 16) & 0x8000u, size = u & 0x7FFFFFFFu;
    if (size > 0x7F800000u) return {static_cast<std::uint16_t>(sign | 0x7E00u)};   // NaN
    if (size >= 0x477FF000u) return {static_cast<std::uint16_t>(sign | 0x7C00u)};  // from 65520
    if (size < 0x33000000u) return {static_cast<std::uint16_t>(sign)};  // below half the least
    // Of a normal result 13 bits are cut off, of a subnormal one more.
    const std::uint32_t exponent = size >> 23;
    const std::uint32_t cut = exponent >= 113 ? 13 : 126 - exponent;
    const std::uint32_t from =
        exponent >= 113 ? size - (112u << 23) : (size & 0x7FFFFFu) | 0x800000u;
    const std::uint32_t odd = (from >> cut) & 1u;
    return {static_cast<std::uint16_t>(sign | ((from + (1u << (cut - 1)) - 1 + odd) >> cut))};
  }
  [[nodiscard]] constexpr float value() const {
    const std::uint32_t sign = (bits & 0x8000u) * 0x10000u, size = bits & 0x7FFFu;
    if (size >= 0x7C00u) return std::bit_cast<float>(sign | 0x7F800000u | ((size & 0x3FFu) << 13));
    if (size >= 0x0400u) return std::bit_cast<float>(sign | ((size << 13) + (112u << 23)));
    // A multiple of 2^-24: no float is subnormal on the way.
    const float magnitude = static_cast<float>(size) * 0x1p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
  }
  [[nodiscard]] constexpr bool is_finite() const { return (bits & 0x7C00u) != 0x7C00u; }
};

namespace detail {

// How numbers of a type T are stored: as they are, or as one of these.
enum class StoredAs : std::uint8_t { itself, bfloat16, half };

template <class T, class Storage>
inline constexpr StoredAs stored_as = StoredAs::itself;
template <>
inline constexpr StoredAs stored_as<float, BFloat16> = StoredAs::bfloat16;
template <>
inline constexpr StoredAs stored_as<float, Half> = StoredAs::half;

template <class T, class Storage>
[[nodiscard]] constexpr StoredAs checked_storage() {
  static_assert(std::is_same_v<T, Storage> || stored_as<T, Storage> != StoredAs::itself,
                "Numbers are stored as they are, or floats as BFloat16 or Half.");
  return stored_as<T, Storage>;
}

}  // namespace detail

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
