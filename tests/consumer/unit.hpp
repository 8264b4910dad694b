// SPDX-License-Identifier: MIT
#pragma once
// What a unit.cpp tells about its layer, in types that no compiler flag changes.
#include <array>

struct Report {
  bool has_fixed_bits = true;  // which is not promised under -ffast-math
  long num_heads = 0;
  std::array<float, 24> output{};    // [B, Q, num_hiddens] = [2, 3, 4]
  std::array<float, 60> weights{};   // [B, H, Q, K] = [2, 2, 3, 5]
  std::array<float, 24> threaded{};  // the output once more, on two threads
  std::array<float, 12> nothing{};   // the first sequence's, once more, without keys
};
