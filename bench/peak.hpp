// SPDX-License-Identifier: MIT
#pragma once
// What the machine can do, measured beside what is measured against it:
//   peak       register-only loops of twelve independent chains of multiply-adds, 2 flops each
//   bandwidth  loads of every byte of the memory that a work reads, or of as much, and nothing else
// Both on the instruction set that the library has chosen. The loops are assembly: of the same in
// C++, one compiler spills the chains at -O2 (and shows a quarter of the peak), another drops one
// and counts it (and shows more than there is).
#include <algorithm>
#include <atomic>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <thread>
#include <vector>

#include <eigenheads/kernels/targets.hpp>  // instruction_set

namespace bench {

namespace eh = eigenheads;
using Memory = std::span<const std::byte>;

// ---- The loops ---------------------------------------------------------------------------------

// run(x, n): n times twelve multiply-adds of `bytes` bytes each; x: 64 bytes of numbers.
struct MultiplyAdds {
  void (*run)(const void* x, std::int64_t n);
  std::size_t bytes;
};

// (memory, n): reads n blocks.
using Reads = void (*)(const void* memory, std::int64_t n);
inline constexpr std::int64_t read_block = 512;

namespace loops {

#define FOR_TWELVE(instruction) ".irp i,0,1,2,3,4,5,6,7,8,9,10,11\n" instruction "\n.endr\n"
#define FOR_BLOCK(instruction) \
  ".irp at,0,32,64,96,128,160,192,224,256,288,320,352,384,416,448,480\n" instruction "\n.endr\n"

#if defined(EIGENHEADS_X86)

#define ASSEMBLY(pointer, before, body, after)                                                   \
  asm volatile(before ".p2align 5\n1:\n" body "dec %[n]\njnz 1b\n" after                         \
               : [n] "+r"(n), [p] "+r"(pointer)                                                  \
               :                                                                                 \
               : "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", \
                 "xmm10", "xmm11", "xmm15", "memory", "cc")

// c = x * c + x: with x = 1/2 every chain ends at 1, so that no number is ever a special one.
#define MULTIPLY_ADDS(reg, type)                                                               \
  ASSEMBLY(x, "vmovups (%[p]), %%" reg "15\n" FOR_TWELVE("vmovaps %%" reg "15, %%" reg "\\i"), \
           FOR_TWELVE("vfmadd213" type " %%" reg "15, %%" reg "15, %%" reg "\\i"), "vzeroupper\n")
#define MULTIPLIES_AND_ADDS(type)                                           \
  ASSEMBLY(                                                                 \
      x, "movups (%[p]), %%xmm15\n" FOR_TWELVE("movaps %%xmm15, %%xmm\\i"), \
      FOR_TWELVE("mul" type " %%xmm15, %%xmm\\i") FOR_TWELVE("add" type " %%xmm15, %%xmm\\i"), "")

inline void avx2_float(const void* x, std::int64_t n) { MULTIPLY_ADDS("ymm", "ps"); }
inline void avx2_double(const void* x, std::int64_t n) { MULTIPLY_ADDS("ymm", "pd"); }
inline void avx512_float(const void* x, std::int64_t n) { MULTIPLY_ADDS("zmm", "ps"); }
inline void avx512_double(const void* x, std::int64_t n) { MULTIPLY_ADDS("zmm", "pd"); }
inline void portable_float(const void* x, std::int64_t n) { MULTIPLIES_AND_ADDS("ps"); }
inline void portable_double(const void* x, std::int64_t n) { MULTIPLIES_AND_ADDS("pd"); }
template <class T>
inline constexpr std::size_t portable_bytes = 16;

inline void avx2_read(const void* memory, std::int64_t n) {
  ASSEMBLY(memory, "", FOR_BLOCK("vmovups \\at(%[p]), %%ymm0") "add $512, %[p]\n", "vzeroupper\n");
}
// Asks for the next page early: hardware that fetches ahead stops at the end of a page.
inline void avx2_read_ahead(const void* memory, std::int64_t n) {
  ASSEMBLY(memory, "",
           FOR_BLOCK("prefetcht0 \\at+4096(%[p])\nvmovups \\at(%[p]), %%ymm0") "add $512, %[p]\n",
           "vzeroupper\n");
}
inline void portable_read(const void* memory, std::int64_t n) {
  ASSEMBLY(memory, "",
           FOR_BLOCK("movups \\at(%[p]), %%xmm0\nmovups \\at+16(%[p]), %%xmm1") "add $512, %[p]\n",
           "");
}

#undef MULTIPLIES_AND_ADDS
#undef MULTIPLY_ADDS
#undef ASSEMBLY

#elif defined(EIGENHEADS_NEON)

#define ASSEMBLY(pointer, before, body)                                                           \
  asm volatile(before ".p2align 5\n1:\n" body "subs %[n], %[n], #1\nb.ne 1b\n"                    \
               : [n] "+r"(n), [p] "+r"(pointer)                                                   \
               :                                                                                  \
               : "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11", "v15", \
                 "memory", "cc")

// c = c + x * x
#define MULTIPLY_ADDS(lanes)                                               \
  ASSEMBLY(x, "ldr q15, [%[p]]\n" FOR_TWELVE("mov v\\i\\().16b, v15.16b"), \
           FOR_TWELVE("fmla v\\i\\()." lanes ", v15." lanes ", v15." lanes))

inline void neon_float(const void* x, std::int64_t n) { MULTIPLY_ADDS("4s"); }
inline void neon_double(const void* x, std::int64_t n) { MULTIPLY_ADDS("2d"); }
inline void portable_read(const void* memory, std::int64_t n) {
  ASSEMBLY(memory, "", FOR_BLOCK("ldp q0, q1, [%[p], #\\at]") "add %[p], %[p], #512\n");
}

#undef MULTIPLY_ADDS
#undef ASSEMBLY

#else

inline void portable_read(const void* memory, std::int64_t n) {
  const auto* words = static_cast<const volatile std::uint64_t*>(memory);
  for (std::int64_t i = 0; i < n * read_block / 8; ++i) static_cast<void>(words[i]);
}

#endif

#if !defined(EIGENHEADS_X86)

template <class T>
void portable(const void* x, std::int64_t n) {
  const T factor = *static_cast<const T*>(x);
  T chains[12] = {};
  for (std::int64_t i = 0; i < n; ++i)
    for (T& chain : chains) chain = factor * chain + factor;
  volatile T used = 0;
  for (const T chain : chains) used = used + chain;
}
inline void portable_float(const void* x, std::int64_t n) { portable<float>(x, n); }
inline void portable_double(const void* x, std::int64_t n) { portable<double>(x, n); }
template <class T>
inline constexpr std::size_t portable_bytes = sizeof(T);

#endif

#undef FOR_BLOCK
#undef FOR_TWELVE

}  // namespace loops

template <std::floating_point T>
[[nodiscard]] MultiplyAdds multiply_adds() {
  constexpr bool is_float = std::same_as<T, float>;
  switch (eh::instruction_set()) {
#if defined(EIGENHEADS_X86)
    case eh::InstructionSet::avx512:
      return {is_float ? loops::avx512_float : loops::avx512_double, 64};
    case eh::InstructionSet::avx2:
      return {is_float ? loops::avx2_float : loops::avx2_double, 32};
#elif defined(EIGENHEADS_NEON)
    case eh::InstructionSet::neon:
      return {is_float ? loops::neon_float : loops::neon_double, 16};
#endif
    default:
      return {is_float ? loops::portable_float : loops::portable_double, loops::portable_bytes<T>};
  }
}

// Loads of 32 bytes are enough for AVX-512 too: two of them a cycle.
[[nodiscard]] inline std::vector<Reads> reads() {
#if defined(EIGENHEADS_X86)
  if (eh::instruction_set() >= eh::InstructionSet::avx2)
    return {loops::avx2_read, loops::avx2_read_ahead};
#endif
  return {loops::portable_read};
}

// ---- Measuring ---------------------------------------------------------------------------------

// Of several runs of body(thread) on all threads at once, the shortest, from the first thread's
// start to the last one's end.
template <class Body>
[[nodiscard]] double best_seconds(int threads, int runs, const Body& body) {
  using Clock = std::chrono::steady_clock;
  std::vector<Clock::time_point> begin(static_cast<std::size_t>(threads)), end(begin);
  std::atomic<int> arrived{0};
  double best = std::numeric_limits<double>::infinity();
  const auto take_part = [&](int thread) {
    int meetings = 0;
    const auto meet = [&] {  // spins: all are to start at once
      ++arrived;
      for (++meetings; arrived < meetings * threads;) std::this_thread::yield();
    };
    for (int run = 0; run < runs; ++run) {
      meet();
      begin[static_cast<std::size_t>(thread)] = Clock::now();
      body(thread);
      end[static_cast<std::size_t>(thread)] = Clock::now();
      meet();
      if (thread == 0) {
        const std::chrono::duration<double> time = std::ranges::max(end) - std::ranges::min(begin);
        best = (std::min)(best, time.count());
      }
    }
  };
  std::vector<std::jthread> others;
  for (int thread = 1; thread < threads; ++thread) others.emplace_back(take_part, thread);
  take_part(0);
  return best;
}

// GFLOP/s. About 10 ms.
template <std::floating_point T>
[[nodiscard]] double peak_gflops(int threads) {
  constexpr std::int64_t iterations = 500'000;
  alignas(64) T x[64 / sizeof(T)];
  std::ranges::fill(x, T(0.5));
  const MultiplyAdds loop = multiply_adds<T>();
  const double seconds = best_seconds(threads, 8, [&](int) { loop.run(x, iterations); });
  const auto flops = static_cast<double>(2 * 12 * loop.bytes / sizeof(T));
  return 1e-9 * flops * static_cast<double>(iterations) * threads / seconds;
}

// Blocks of a piece that one of the threads reads.
struct Part {
  std::int64_t first, count;
};
[[nodiscard]] inline Part part_of(std::int64_t blocks, int thread, int threads) {
  const std::int64_t first = blocks * thread / threads;
  return {first, blocks * (thread + 1) / threads - first};
}

// GB/s, by the loop that is the fastest here. Every thread reads its part of each piece of memory, as
// one stream, or as two or four in turns, which may keep more of the memory busy.
[[nodiscard]] inline double read_gigabytes(std::span<const Memory> pieces, int threads) {
  constexpr std::int64_t turn = 2;  // blocks
  double best = 0;
  for (const int streams : {1, 2, 4})
    for (const Reads read : reads()) {
      std::int64_t blocks = 0;
      for (const Memory piece : pieces) {
        const auto count = static_cast<std::int64_t>(piece.size()) / read_block;
        for (int thread = 0; thread < threads; ++thread)
          blocks += part_of(count, thread, threads).count / (streams * turn) * (streams * turn);
      }
      const double seconds = best_seconds(threads, 4, [&](int thread) {
        for (const Memory piece : pieces) {
          const auto count = static_cast<std::int64_t>(piece.size()) / read_block;
          const auto [first, own] = part_of(count, thread, threads);
          const std::byte* const from = piece.data() + first * read_block;
          const std::int64_t each = own / (streams * turn) * turn;
          if (streams == 1 && each > 0) read(from, each);
          for (std::int64_t i = 0; streams > 1 && i < each; i += turn)
            for (int stream = 0; stream < streams; ++stream)
              read(from + (stream * each + i) * read_block, turn);
        }
      });
      best = (std::max)(best, 1e-9 * static_cast<double>(blocks * read_block) / seconds);
    }
  return best;
}

}  // namespace bench
