// SPDX-License-Identifier: MIT
#pragma once
// What is measured of whole encoders: sentences in batches, and what they cost. 2 flops a
// multiply-add, attention 4 E a pair of tokens, backward twice a projection and 10 E a pair, all else
// 0; no padding counts.
#include <algorithm>
#include <string>
#include <vector>

#include <eigenheads/tensor.hpp>  // Index

#include "inputs.hpp"

namespace bench {

using eigenheads::Index;

struct EncoderCase {
  std::string what;                         // the sentences
  std::vector<std::vector<Index>> batches;  // of which each has so many tokens
  Index layers = 6, E = 384, H = 12, hidden = 1536;
  bool is_training = false;  // one layer, forward and backward
};

inline constexpr Index sentences_per_batch = 32;

[[nodiscard]] inline std::vector<std::vector<Index>> batches_of(const std::vector<Index>& lens) {
  std::vector<std::vector<Index>> batches;
  for (auto next = lens.begin(); next != lens.end(); next += sentences_per_batch)
    batches.emplace_back(next, next + sentences_per_batch);
  return batches;
}

[[nodiscard]] inline std::vector<EncoderCase> all_encoder_cases() {
  std::vector<Index> lens;
  for (Index i = 0; i < 4 * sentences_per_batch; ++i)
    lens.push_back(5 + number_below(56, Stream::lens, i));
  std::vector<Index> sorted = lens;
  std::ranges::sort(sorted);
  return {{"128 sentences of 5 to 60 tokens", batches_of(lens)},
          {"128 sentences sorted by length", batches_of(sorted)},
          {"32 sentences of 64 tokens", batches_of(std::vector<Index>(sentences_per_batch, 64))},
          {.what = "B=8 T=128",
           .batches = {std::vector<Index>(8, 128)},
           .layers = 1,
           .E = 512,
           .H = 8,
           .hidden = 2048,
           .is_training = true}};
}

[[nodiscard]] inline const std::vector<EncoderCase>& encoder_cases() {
  static const std::vector<EncoderCase> all = all_encoder_cases();
  return all;
}

// "encoder of 6 layers E=384 H=12, 128 sentences of 5 to 60 tokens"
[[nodiscard]] inline std::string name_of(const EncoderCase& c) {
  const std::string size = "E=" + std::to_string(c.E) + " H=" + std::to_string(c.H);
  return c.is_training
             ? "training transformer layer " + c.what + ' ' + size
             : "encoder of " + std::to_string(c.layers) + " layers " + size + ", " + c.what;
}

[[nodiscard]] inline Index sentences_of(const EncoderCase& c) {
  Index count = 0;
  for (const auto& lens : c.batches) count += std::ssize(lens);
  return count;
}

[[nodiscard]] inline double flops_of(const EncoderCase& c) {
  double rows = 0, pairs = 0;
  for (const auto& lens : c.batches)
    for (const Index n : lens) {
      rows += static_cast<double>(n);
      pairs += static_cast<double>(n * n);
    }
  const auto E = static_cast<double>(c.E), hidden = static_cast<double>(c.hidden);
  const double projections = c.is_training ? 3 : 1, attention = c.is_training ? 4 + 10 : 4;
  return static_cast<double>(c.layers) *
         (projections * 2 * rows * (4 * E * E + 2 * E * hidden) + attention * E * pairs);
}

}  // namespace bench
