// SPDX-License-Identifier: MIT
#pragma once
// Inputs by integer arithmetic: the same numbers in every language, with any compiler and flags.
// peers/protocol.py says the same in Python.
#include <cstdint>

#include <eigenheads/tensor.hpp>  // Index

namespace bench {

using eigenheads::Index;

enum class Stream : std::uint32_t {
  queries,
  keys,
  values,
  w_q,
  w_k,
  w_v,
  w_o,
  lens,
  allowed,
  bias,
  grad_output
};

// 32 well-mixed bits: number i of a stream.
[[nodiscard]] constexpr std::uint32_t bits(Stream stream, Index i) {
  std::uint32_t x = static_cast<std::uint32_t>(i) * 0x9E3779B1u +
                    (static_cast<std::uint32_t>(stream) + 1) * 0x85EBCA6Bu;
  x = (x ^ x >> 16) * 0x7FEB352Du;
  x = (x ^ x >> 15) * 0x846CA68Bu;
  return x ^ x >> 16;
}

// A multiple of 2^-22 in [-2, 2), exact in float.
template <class T>
[[nodiscard]] constexpr T number(Stream stream, Index i) {
  const auto steps = static_cast<std::int32_t>(bits(stream, i) >> 8) - (1 << 23);
  return static_cast<T>(steps) * T(0x1p-22);
}

[[nodiscard]] constexpr Index number_below(Index end, Stream stream, Index i) {
  return static_cast<Index>(
      static_cast<std::uint64_t>(bits(stream, i)) * static_cast<std::uint64_t>(end) >> 32);
}

// Weights of that size keep the size of what they multiply, near enough.
inline constexpr double weight_scale = 0x1p-5;

}  // namespace bench
