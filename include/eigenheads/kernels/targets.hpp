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

#include <eigenheads/detail/float_bits.hpp>        // is_finite, BitsOf
#include <eigenheads/isa.hpp>                      // instruction_set
#include <eigenheads/kernels/arguments.hpp>        // AttentionCall, HeadLayout
#include <eigenheads/kernels/simd/intrinsics.hpp>  // what the files of simd/ call
#include <eigenheads/mask.hpp>                     // KeyRange
#include <eigenheads/score.hpp>                    // ScorePosition, PlainScore

// Sizes are signed in here, as Eigen's; an array of such a length is not worth a cast each time.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wsign-conversion"

// The register comes before what is written with it.
// clang-format off
#if defined(EIGENHEADS_X86)

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace eigenheads::inline EIGENHEADS_ABI::detail::avx2 {
#include <eigenheads/kernels/simd/avx2.inl>
#include <eigenheads/kernels/all.inl>
}  // namespace eigenheads::inline EIGENHEADS_ABI::detail::avx2
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")
#endif
namespace eigenheads::inline EIGENHEADS_ABI::detail::avx512 {
#include <eigenheads/kernels/simd/avx512.inl>
#include <eigenheads/kernels/all.inl>
}  // namespace eigenheads::inline EIGENHEADS_ABI::detail::avx512
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#elif defined(EIGENHEADS_NEON)

namespace eigenheads::inline EIGENHEADS_ABI::detail::neon {
#include <eigenheads/kernels/simd/neon.inl>
#include <eigenheads/kernels/all.inl>
}  // namespace eigenheads::inline EIGENHEADS_ABI::detail::neon

#endif

namespace eigenheads::inline EIGENHEADS_ABI::detail::portable {
#include <eigenheads/kernels/simd/portable.inl>
#include <eigenheads/kernels/all.inl>
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

// The kernels of this process behind pointers: what calls them is compiled once, not once for every
// instruction set.
template <class T>
struct ProjectionKernels {
  Index panel_width;
  decltype(&portable::Kernels::pack_rows<T>) pack_rows;
  decltype(&portable::Kernels::multiply<T>) multiply;
};
template <class T>
[[nodiscard]] ProjectionKernels<T> projection_kernels() {
  return with_kernels([]<class Kernels>(Kernels) {
    return ProjectionKernels<T>{Kernels::template width<T>, Kernels::template pack_rows<T>,
                                Kernels::template multiply<T>};
  });
}

template <class T>
struct AttentionKernels {
  Index panel_width, key_block, tile_rows;
  decltype(&portable::Kernels::pack_rows<T>) pack_rows;
  decltype(&portable::Kernels::pack_values<T>) pack_values;
  decltype(&portable::Kernels::task_size<T>) task_size;
  decltype(&portable::Kernels::partial_elements<T>) partial_elements;
  decltype(&portable::Kernels::attend<T>) attend;
  decltype(&portable::Kernels::attend_block_alone<T>) attend_block_alone;
  decltype(&portable::Kernels::merge<T>) merge;
};
template <class T>
[[nodiscard]] AttentionKernels<T> attention_kernels() {
  return with_kernels([]<class Kernels>(Kernels) {
    return AttentionKernels<T>{Kernels::template width<T>,
                               Kernels::template keys_a_block<T>,
                               Kernels::rows_a_tile,
                               Kernels::template pack_rows<T>,
                               Kernels::template pack_values<T>,
                               Kernels::template task_size<T>,
                               Kernels::template partial_elements<T>,
                               Kernels::template attend<T>,
                               Kernels::template attend_block_alone<T>,
                               Kernels::template merge<T>};
  });
}

template <class T>
struct BackwardKernels {
  Index panel_width, outputs_a_task, turned_block;
  decltype(&portable::Kernels::turn<T>) turn;
  decltype(&portable::Kernels::pack_values<T>) pack_columns;
  decltype(&portable::Kernels::multiply_weights<T>) multiply_weights;
  decltype(&portable::Kernels::backward_size<T>) backward_size;
  decltype(&portable::Kernels::attend_backward<T>) attend_backward;
};
template <class T>
[[nodiscard]] BackwardKernels<T> backward_kernels() {
  return with_kernels([]<class Kernels>(Kernels) {
    return BackwardKernels<T>{Kernels::template width<T>,
                              Kernels::outputs_a_task,
                              Kernels::turned_block,
                              Kernels::template turn<T>,
                              Kernels::template pack_values<T>,
                              Kernels::template multiply_weights<T>,
                              Kernels::template backward_size<T>,
                              Kernels::template attend_backward<T>};
  });
}

template <class T>
struct StatisticsKernels {
  decltype(&portable::Kernels::statistics_size<T>) statistics_size;
  decltype(&portable::Kernels::measure<T>) measure;
  decltype(&portable::Kernels::contribution_size<T>) contribution_size;
  decltype(&portable::Kernels::contribute_to<T>) contribute_to;
  decltype(&portable::Kernels::merge_contributions) merge_contributions;
};
template <class T>
[[nodiscard]] StatisticsKernels<T> statistics_kernels() {
  return with_kernels([]<class Kernels>(Kernels) {
    return StatisticsKernels<T>{Kernels::template statistics_size<T>, Kernels::template measure<T>,
                                Kernels::template contribution_size<T>,
                                Kernels::template contribute_to<T>, Kernels::merge_contributions};
  });
}

template <class T, class Score>
[[nodiscard]] ScoreRow<T> score_row(const Score& score) {
  if constexpr (std::is_same_v<Score, PlainScore>) return {};
  return with_kernels([&]<class Kernels>(Kernels) {
    return ScoreRow<T>{&score, Kernels::template take_through<T, Score>};
  });
}
template <class T, class Score>
[[nodiscard]] ScoreColumn<T> score_column(const Score& score) {
  if constexpr (std::is_same_v<Score, PlainScore>) return {};
  return with_kernels([&]<class Kernels>(Kernels) {
    return ScoreColumn<T>{&score, Kernels::template take_back<T, Score>};
  });
}

}  // namespace detail
}  // namespace eigenheads::inline EIGENHEADS_ABI
