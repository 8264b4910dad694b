// SPDX-License-Identifier: MIT
#pragma once
// Elements as a .safetensors file holds them, made into those of another type.
#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/io/byte_order.hpp>          // is_big_endian, reverse_each
#include <eigenheads/io/safetensors_header.hpp>  // SafetensorsType
#include <eigenheads/storage.hpp>                // BFloat16, Half
#include <eigenheads/tensor.hpp>                 // Scalar

namespace eigenheads::inline EIGENHEADS_ABI {

// What a tensor of one type may be read as another by: `exact` if the other has every value of the
// one, whatever the tensor's own are; `rounded` to nearest, halfway cases to even, if it has not.
enum class Conversion { exact, rounded };

namespace detail {

template <class To, class From>
inline constexpr bool has_every_value_of = [] {
  if (!std::is_arithmetic_v<From>) return true;  // 16 bits: every float has more of them
  return std::numeric_limits<From>::digits <= std::numeric_limits<To>::digits;
}();

// call.template operator()<From>() with the type that elements of `type` have in memory.
template <class Call>
decltype(auto) with_element_type(SafetensorsType type, const Call& call) {
  switch (type) {
    case SafetensorsType::boolean:
    case SafetensorsType::uint8:
      return call.template operator()<std::uint8_t>();
    case SafetensorsType::int8:
      return call.template operator()<std::int8_t>();
    case SafetensorsType::int16:
      return call.template operator()<std::int16_t>();
    case SafetensorsType::uint16:
      return call.template operator()<std::uint16_t>();
    case SafetensorsType::float16:
      return call.template operator()<Half>();
    case SafetensorsType::bfloat16:
      return call.template operator()<BFloat16>();
    case SafetensorsType::int32:
      return call.template operator()<std::int32_t>();
    case SafetensorsType::uint32:
      return call.template operator()<std::uint32_t>();
    case SafetensorsType::float32:
      return call.template operator()<float>();
    case SafetensorsType::int64:
      return call.template operator()<std::int64_t>();
    case SafetensorsType::uint64:
      return call.template operator()<std::uint64_t>();
    case SafetensorsType::float64:
    case SafetensorsType::unsupported:  // which no caller comes here with
      break;
  }
  return call.template operator()<double>();
}

template <Scalar T>
[[nodiscard]] bool is_exact(SafetensorsType from) {
  return with_element_type(from, []<class From>() { return has_every_value_of<T, From>; });
}

// bytes: `count` elements, little-endian, at any alignment.
template <Scalar T>
void convert_elements(const char* bytes, SafetensorsType type, T* to, std::size_t count) {
  with_element_type(type, [&]<class From>() {
    for (std::size_t i = 0; i < count; ++i) {
      char element[sizeof(From)];
      std::memcpy(element, bytes + i * sizeof(From), sizeof(From));
      if constexpr (is_big_endian) std::reverse(element, element + sizeof(From));
      From value;
      std::memcpy(&value, element, sizeof(From));
      if constexpr (std::is_arithmetic_v<From>)
        to[i] = static_cast<T>(value);
      else
        to[i] = static_cast<T>(value.value());
    }
  });
}

}  // namespace detail
}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
