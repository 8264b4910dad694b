// SPDX-License-Identifier: MIT
// What the machine can do, for peers in other languages: they measure it in their own process,
// beside themselves.
#include "../peak.hpp"

#include <cstddef>
#include <vector>

#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED const char* bench_instruction_set() {
  return eigenheads::name_of(eigenheads::instruction_set());
}

EXPORTED double bench_peak_gflops(int threads, bool is_float) {
  return is_float ? bench::peak_gflops<float>(threads) : bench::peak_gflops<double>(threads);
}

EXPORTED double bench_read_gigabytes(const void* const* memory, const std::size_t* sizes,
                                     std::size_t count, int threads) {
  std::vector<bench::Memory> pieces;
  for (std::size_t i = 0; i < count; ++i)
    pieces.emplace_back(static_cast<const std::byte*>(memory[i]), sizes[i]);
  return bench::read_gigabytes(pieces, threads);
}
