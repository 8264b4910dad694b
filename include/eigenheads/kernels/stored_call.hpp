// SPDX-License-Identifier: MIT
#pragma once
// Keys and values that are stored in 16 bits, as the kernels read them. Whoever stores them so hands
// the kernels over with them: a program that does not, compiles none of these.
#include <array>
#include <cstdint>
#include <span>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/tensor.hpp>  // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// One row meets so many panels at once: it has enough chains for the latency of multiply-adds only
// with several.
inline constexpr Index panels_per_row = 4;

// One row by n panels of numbers that are stored in 16 bits, widened on the way to the registers:
// panels that are widened to memory first are read in one stream, not n, and take twice as long.
template <class T>
struct StoredRowCall {
  const T* a;
  const std::uint16_t* b;
  Index b_stride, depth;
  T* c;
  bool goes_on;  // from what c holds
  Index panel_stride;
  Index ahead;  // numbers so far on are asked for; floats, the CPU itself foresees
};

template <class T>
struct StoredKernels {  // stored.inl
  // multiply_row[n - 1]: n panels
  std::array<void (*)(const StoredRowCall<T>& call), panels_per_row> multiply_row;
  // Numbers from number `first` on, as of type T. There are whole registers of them.
  void (*widen)(const void* stored, Index first, std::span<T> to);
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
