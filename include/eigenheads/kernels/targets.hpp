// SPDX-License-Identifier: MIT
#pragma once
// The kernels, once for every instruction set, and the choice between them at run time: a plain -O2
// build runs AVX2 or AVX-512 code where the CPU has it. Each copy lives in a namespace of its own
// and is compiled inside a target region, so it does not depend on the flags of the translation
// unit. What is included inside a region is compiled for its instruction set: standard headers come
// before.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>

#include <eigenheads/detail/arena.hpp>       // Cutter
#include <eigenheads/detail/float_bits.hpp>  // is_finite, BitsOf
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/isa.hpp>                      // instruction_set
#include <eigenheads/kernels/key_blocks.hpp>       // KeyBlock, RowState
#include <eigenheads/kernels/simd/intrinsics.hpp>  // what the files of simd/ call
#include <eigenheads/kernels/table.hpp>            // AttentionKernels, the calls
#include <eigenheads/mask.hpp>                     // BoundMask
#include <eigenheads/storage.hpp>                  // StoredAs, BFloat16, Half
// Sizes are signed in here, as Eigen's; an array of such a length is not worth a cast each time.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion"

// The register comes before what is written with it.
// clang-format off
#if defined(EIGENHEADS_X86)

#include <eigenheads/kernels/simd/avx2_begin.inl>
namespace eigenheads::inline EIGENHEADS_ABI::detail::avx2 {
#include <eigenheads/kernels/simd/avx2.inl>
#include <eigenheads/kernels/kernels.inl>
}  // namespace eigenheads::inline EIGENHEADS_ABI::detail::avx2
#include <eigenheads/kernels/simd/target_end.inl>

#include <eigenheads/kernels/simd/avx512_begin.inl>
namespace eigenheads::inline EIGENHEADS_ABI::detail::avx512 {
#include <eigenheads/kernels/simd/avx512.inl>
#include <eigenheads/kernels/kernels.inl>
}  // namespace eigenheads::inline EIGENHEADS_ABI::detail::avx512
#include <eigenheads/kernels/simd/target_end.inl>

#elif defined(EIGENHEADS_NEON)

namespace eigenheads::inline EIGENHEADS_ABI::detail::neon {
#include <eigenheads/kernels/simd/neon.inl>
#include <eigenheads/kernels/kernels.inl>
}  // namespace eigenheads::inline EIGENHEADS_ABI::detail::neon

#endif

namespace eigenheads::inline EIGENHEADS_ABI::detail::portable {
#include <eigenheads/kernels/simd/portable.inl>
#include <eigenheads/kernels/kernels.inl>
}  // namespace eigenheads::inline EIGENHEADS_ABI::detail::portable
// clang-format on
#pragma GCC diagnostic pop

namespace eigenheads::inline EIGENHEADS_ABI {

namespace detail {

// run(Kernels) with the kernels of this process.
template <class Run>
decltype(auto) with_kernels(const Run& run) {
  switch (instruction_set()) {
#if defined(EIGENHEADS_X86)
    case InstructionSet::avx512:
      return run(avx512::Kernels{});
    case InstructionSet::avx2:
      return run(avx2::Kernels{});
#elif defined(EIGENHEADS_NEON)
    case InstructionSet::neon:
      return run(neon::Kernels{});
#endif
    default:
      return run(portable::Kernels{});
  }
}

template <class T>
[[nodiscard]] ProjectionKernels<T> projection_kernels() {
  return with_kernels([]<class Kernels>(Kernels) { return Kernels::template projection<T>(); });
}
template <class T>
[[nodiscard]] ElementaryKernels<T> elementary_kernels() {
  return with_kernels([]<class Kernels>(Kernels) { return Kernels::template elementary<T>(); });
}
template <class T>
[[nodiscard]] RotaryKernels<T> rotary_kernels() {
  return with_kernels([]<class Kernels>(Kernels) { return Kernels::template rotary<T>(); });
}
template <class T>
[[nodiscard]] AttentionKernels<T> attention_kernels() {
  return with_kernels([]<class Kernels>(Kernels) { return Kernels::template attention<T>(); });
}
template <class T>
[[nodiscard]] AttentionPartKernels<T> attention_part_kernels() {
  return with_kernels(
      []<class Kernels>(Kernels) { return Kernels::template attention_parts<T>(); });
}
template <class T>
[[nodiscard]] const StoredKernels<T>* stored_kernels(StoredAs stored_as) {
  return with_kernels(
      [&]<class Kernels>(Kernels) { return Kernels::template stored<T>(stored_as); });
}
template <class T>
[[nodiscard]] BackwardKernels<T> backward_kernels() {
  return with_kernels([]<class Kernels>(Kernels) { return Kernels::template backward<T>(); });
}
template <class T>
[[nodiscard]] StatisticsKernels<T> statistics_kernels() {
  return with_kernels([]<class Kernels>(Kernels) { return Kernels::template statistics<T>(); });
}

}  // namespace detail
}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
