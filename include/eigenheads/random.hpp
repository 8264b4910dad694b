// SPDX-License-Identifier: MIT
#pragma once
// Random numbers without state: the i-th number of a stream is a function of (seed, stream, i)
// alone, so it is the same on every platform, in every order and on any number of threads.
//   Philox4x32-10: Salmon, Moraes, Dror, Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC
//   2011.
#include <array>
#include <cstdint>
#include <string_view>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/tensor.hpp>  // Index

namespace eigenheads::inline EIGENHEADS_ABI {

[[nodiscard]] constexpr std::array<std::uint32_t, 4> philox4x32(
    std::array<std::uint32_t, 4> counter, std::array<std::uint32_t, 2> key) {
  constexpr int rounds = 10;
  for (int round = 0; round < rounds; ++round) {
    const std::uint64_t even = std::uint64_t{0xD2511F53} * counter[0];
    const std::uint64_t odd = std::uint64_t{0xCD9E8D57} * counter[2];
    counter = {static_cast<std::uint32_t>(odd >> 32) ^ counter[1] ^ key[0],
               static_cast<std::uint32_t>(odd),
               static_cast<std::uint32_t>(even >> 32) ^ counter[3] ^ key[1],
               static_cast<std::uint32_t>(even)};
    key = {key[0] + 0x9E3779B9u, key[1] + 0xBB67AE85u};
  }
  return counter;
}

// A stream's number from its name (FNV-1a).
[[nodiscard]] constexpr std::uint64_t random_stream(std::string_view name) {
  std::uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  return hash;
}

// 64 random bits: number i of a stream.
[[nodiscard]] constexpr std::uint64_t random_bits(std::uint64_t seed, std::uint64_t stream,
                                                  Index i) {
  const auto pair = static_cast<std::uint64_t>(i) / 2;
  const auto words =
      philox4x32({static_cast<std::uint32_t>(pair), static_cast<std::uint32_t>(pair >> 32),
                  static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32)},
                 {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)});
  return i % 2 == 0 ? words[0] | std::uint64_t{words[1]} << 32
                    : words[2] | std::uint64_t{words[3]} << 32;
}

// The seed of modules whose weights are not drawn, but 0: for those that are filled at once, from a file.
// To draw takes as long as to read them several times over.
inline constexpr std::uint64_t undrawn = 0x6E'77'61'72'64'6E'75'21u;

// Uniform on [-1, 1), a multiple of 2^-52, exact in double.
[[nodiscard]] constexpr double random_symmetric(std::uint64_t seed, std::uint64_t stream, Index i) {
  const auto steps = static_cast<std::int64_t>(random_bits(seed, stream, i) >> 11);
  return static_cast<double>(steps - (std::int64_t{1} << 52)) * 0x1p-52;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
