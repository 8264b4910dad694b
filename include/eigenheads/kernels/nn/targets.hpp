// SPDX-License-Identifier: MIT
#pragma once
// The kernels of nn/, once for every instruction set: the regions of kernels/targets.hpp, opened
// again, so that only who includes a header of nn/ has more to compile.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/scalar_math.hpp>  // TanhCoefficients
#include <eigenheads/kernels/nn/table.hpp>    // NnKernels
#include <eigenheads/kernels/targets.hpp>     // the registers, exp
// Sizes are signed in here, as Eigen's; an array of such a length is not worth a cast each time.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion"

// A region begins before what is in it.
// clang-format off
#if defined(EIGENHEADS_X86)

#include <eigenheads/kernels/simd/avx2_begin.inl>
namespace eigenheads::inline EIGENHEADS_ABI::detail::avx2 {
#include <eigenheads/kernels/nn/kernels.inl>
}  // namespace eigenheads::inline EIGENHEADS_ABI::detail::avx2
#include <eigenheads/kernels/simd/target_end.inl>

#include <eigenheads/kernels/simd/avx512_begin.inl>
namespace eigenheads::inline EIGENHEADS_ABI::detail::avx512 {
#include <eigenheads/kernels/nn/kernels.inl>
}  // namespace eigenheads::inline EIGENHEADS_ABI::detail::avx512
#include <eigenheads/kernels/simd/target_end.inl>

#elif defined(EIGENHEADS_NEON)

namespace eigenheads::inline EIGENHEADS_ABI::detail::neon {
#include <eigenheads/kernels/nn/kernels.inl>
}  // namespace eigenheads::inline EIGENHEADS_ABI::detail::neon

#endif

namespace eigenheads::inline EIGENHEADS_ABI::detail::portable {
#include <eigenheads/kernels/nn/kernels.inl>
}  // namespace eigenheads::inline EIGENHEADS_ABI::detail::portable
// clang-format on
#pragma GCC diagnostic pop

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// run(NnDoor) with the door of this process.
template <class Run>
decltype(auto) with_nn_door(const Run& run) {
  switch (instruction_set()) {
#if defined(EIGENHEADS_X86)
    case InstructionSet::avx512:
      return run(avx512::NnDoor{});
    case InstructionSet::avx2:
      return run(avx2::NnDoor{});
#elif defined(EIGENHEADS_NEON)
    case InstructionSet::neon:
      return run(neon::NnDoor{});
#endif
    default:
      return run(portable::NnDoor{});
  }
}

template <class T>
[[nodiscard]] NnKernels<T> nn_kernels() {
  return with_nn_door([]<class Door>(Door) { return Door::template kernels<T>(); });
}
template <class T>
[[nodiscard]] RowKernels<T> row_kernels() {
  return with_nn_door([]<class Door>(Door) { return Door::template rows<T>(); });
}
template <class T>
[[nodiscard]] AdditiveKernels<T> additive_kernels() {
  return with_nn_door([]<class Door>(Door) { return Door::template additive<T>(); });
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
