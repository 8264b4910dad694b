// SPDX-License-Identifier: MIT
// Threads, and calls that allocate nothing: a Context holds both the threads and the memory that a
// call works in. It serves one call at a time, so each thread that makes calls has its own.
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdlib>
#include <iostream>
#include <new>

#include <eigenheads/eigenheads.hpp>

namespace eh = eigenheads;

// Counts what this program takes from operator new. (tests/allocation_test.cpp counts malloc too.)
// Not inlined: where g++ sees malloc on one side alone, it warns that the two do not match.
std::atomic<int> allocations{0};

[[gnu::noinline]] void* operator new(std::size_t bytes) {
  ++allocations;
  if (void* memory = std::malloc(bytes)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t bytes, std::align_val_t alignment) {
  ++allocations;
  const auto line = static_cast<std::size_t>(alignment);
  if (void* memory = std::aligned_alloc(line, (bytes + line - 1) / line * line)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::align_val_t) noexcept {
  std::free(memory);
}
[[gnu::noinline]] void operator delete(void* memory, std::size_t, std::align_val_t) noexcept {
  std::free(memory);
}

int main() {
  constexpr eh::Index B = 4, T = 64, E = 128;
  const eh::MultiHeadAttention<float> attention(
      {.num_hiddens = E, .num_heads = 8, .query_size = E, .key_size = E, .value_size = E});
  eh::Tensor<float, 3> x(B, T, E), one(B, T, E), four(B, T, E);
  for (eh::Index i = 0; i < x.size(); ++i)
    x.data()[i] = static_cast<float>(eh::random_symmetric(/*seed=*/1, /*stream=*/0, i));
  const eh::Mask mask{.valid_lens = {64, 50, 33, 7}};  // made once: it holds its lengths

  eh::Context alone;       // the calling thread
  eh::Context threads(4);  // the calling thread and three more, which wait until they are needed
  attention.forward_into(one, x, x, x, mask, alone);
  attention.forward_into(four, x, x, x, mask, threads);  // the first call takes its memory

  const int before = allocations;
  for (int call = 0; call < 10; ++call) {
    attention.forward_into(one, x, x, x, mask, alone);
    attention.forward_into(four, x, x, x, mask, threads);
  }
  const int made = allocations - before;

  const bool same = std::equal(one.data(), one.data() + one.size(), four.data());
  std::cout << "20 calls allocated " << made << " times; one thread and four give "
            << (same ? "the same bits" : "other bits") << ".\nThe contexts keep "
            << alone.scratch_bytes() << " and " << threads.scratch_bytes() << " bytes.\n";
  return made == 0 && same ? 0 : 1;
}
