// SPDX-License-Identifier: MIT
#pragma once
// What the tests of nn/ share: its kernels for every instruction set that runs here, and how far a number
// is from the exact one.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <vector>

#include <eigenheads/detail/float_bits.hpp>
#include <eigenheads/kernels/nn/targets.hpp>

#include "../support.hpp"

namespace support {

// visit(NnKernels<T>, InstructionSet): those with a fused multiply-add, then the portable ones.
template <class T, class Visit>
void for_each_nn_kernels(const Visit& visit) {
  using Set = eh::InstructionSet;
#if defined(EIGENHEADS_X86)
  if (eh::detail::runs_here(Set::avx2)) visit(eh::detail::avx2::NnDoor::kernels<T>(), Set::avx2);
  if (eh::detail::runs_here(Set::avx512))
    visit(eh::detail::avx512::NnDoor::kernels<T>(), Set::avx512);
#elif defined(EIGENHEADS_NEON)
  visit(eh::detail::neon::NnDoor::kernels<T>(), Set::neon);
#endif
  visit(eh::detail::portable::NnDoor::kernels<T>(), Set::portable);
}

// glibc's double functions are good to less than a unit of double, its long double ones to one.
template <class T>
using Exact = std::conditional_t<sizeof(T) == 4, double, long double>;

// How far y is from the exact value, in units of the last place of T there; where that is below the
// normal numbers, 0 is right too, and units are those of the smallest one.
template <class T>
double ulps(T y, Exact<T> exact) {
  if (std::abs(exact) < Exact<T>(Limits<T>::min()) && y == 0) return 0;
  const int least = Limits<T>::min_exponent - 1;
  const int exponent =
      std::max(exact == 0 ? least : std::ilogb(exact), least) - (Limits<T>::digits - 1);
  return static_cast<double>(std::abs(std::ldexp(static_cast<Exact<T>>(y) - exact, -exponent)));
}

// Numbers of either sign from `first` to `last`, `count` of them spread evenly over their bits: as many
// in [1, 2) as in [2, 4).
template <class T>
std::vector<T> spread_numbers(T first, T last, std::uint64_t count) {
  using Bits = eh::detail::BitsOf<T>;
  const std::uint64_t begin = std::bit_cast<Bits>(first), end = std::bit_cast<Bits>(last);
  const std::uint64_t step = std::max(std::uint64_t{1}, (end - begin) / count | 1);
  std::vector<T> x;
  for (std::uint64_t bits = begin; bits <= end; bits += step) {
    x.push_back(std::bit_cast<T>(static_cast<Bits>(bits)));
    x.push_back(-x.back());
  }
  return x;
}

}  // namespace support
