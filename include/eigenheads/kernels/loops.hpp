// SPDX-License-Identifier: MIT
#pragma once
// Loops over functions whose type is known to the caller alone (score functions, an optimizer's
// rule), compiled for every instruction set like the kernels. They need no registers: a program that
// has its kernels compiled elsewhere (prebuilt.hpp) reads these and no intrinsics.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <type_traits>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/isa.hpp>                    // instruction_set
#include <eigenheads/kernels/backward_call.hpp>  // ScoreForward, ScoreBackward
#include <eigenheads/score.hpp>                  // ScorePosition, PlainScore, score_derivative

// A region begins before what is in it.
// clang-format off
#if defined(EIGENHEADS_X86)

#include <eigenheads/kernels/simd/avx2_begin.inl>
namespace eigenheads::inline EIGENHEADS_ABI::detail::avx2 {
#include <eigenheads/kernels/loops.inl>
}  // namespace eigenheads::inline EIGENHEADS_ABI::detail::avx2
#include <eigenheads/kernels/simd/target_end.inl>

#include <eigenheads/kernels/simd/avx512_begin.inl>
namespace eigenheads::inline EIGENHEADS_ABI::detail::avx512 {
#include <eigenheads/kernels/loops.inl>
}  // namespace eigenheads::inline EIGENHEADS_ABI::detail::avx512
#include <eigenheads/kernels/simd/target_end.inl>

#endif

namespace eigenheads::inline EIGENHEADS_ABI::detail::portable {
#include <eigenheads/kernels/loops.inl>
}  // namespace eigenheads::inline EIGENHEADS_ABI::detail::portable
// clang-format on

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// run(Loops) with the loops of this process. NEON is in every AArch64 compiler's baseline.
template <class Run>
decltype(auto) with_loops(const Run& run) {
  switch (instruction_set()) {
#if defined(EIGENHEADS_X86)
    case InstructionSet::avx512:
      return run(avx512::Loops{});
    case InstructionSet::avx2:
      return run(avx2::Loops{});
#endif
    default:
      return run(portable::Loops{});
  }
}

template <class T, class Score>
[[nodiscard]] ScoreForward<T> score_forward(const Score& score) {
  if constexpr (std::is_same_v<Score, PlainScore>) return {};
  return with_loops([&]<class Loops>(Loops) {
    return ScoreForward<T>{&score, Loops::template score_forward<T, Score>};
  });
}
template <class T, class Score>
[[nodiscard]] ScoreBackward<T> score_backward(const Score& score) {
  if constexpr (std::is_same_v<Score, PlainScore>) return {};
  return with_loops([&]<class Loops>(Loops) {
    return ScoreBackward<T>{&score, Loops::template score_backward<T, Score>, nullptr, {}};
  });
}

// Without flags std::fma is a call into libm: a step of Adam took 6 ns an element, not 2 (768 x 768
// floats, Zen 3).
template <class Body>
void run_on_this_cpu(const Body& body) {
  with_loops([&]<class Loops>(Loops) { Loops::run(body); });
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
