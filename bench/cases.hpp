// SPDX-License-Identifier: MIT
#pragma once
// What is measured: the table of cases, what each mask leaves of one, and what that costs.
//   2 flops a multiply-add; attention 4 D a visible (query, key) pair; all else counts 0.
//   Backward: a projection twice as much, attention 10 D, whatever is computed again.
#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include <eigenheads/tensor.hpp>  // Index

#include "inputs.hpp"

namespace bench {

using eigenheads::Index;

enum class Kind { projection, attention, layer, attention_backward, training };
enum class Masking {
  none,
  causal,
  valid_lens,      // `lens`: keys of each sequence
  query_lens,      // the same, and as many queries
  length_a_query,  // 1 to K, by integer arithmetic
  allowed,         // half of the pairs, by integer arithmetic
  score_bias,      // no mask: a number added to every score, [H, Q, K]
  alibi,           // no mask: such a number that falls with the distance, by a slope of the head
};

// What a row belongs to: a summary keeps them apart.
enum class Group { general, short_sentences };

// projection: [B * Q, E] by [E, E]. layer: inputs [B, Q, E] and [B, K, E]. E is H * D.
// attention_backward: after its forward pass. training: a layer forward and backward, Q = K.
struct Case {
  Kind kind;
  Index B = 1, H = 1, G = 0, Q = 0, K = 0, D = 0;  // axes as in tensor.hpp; G = 0: H
  Masking masking = Masking::none;
  std::vector<Index> lens{};
  Group group = Group::general;

  [[nodiscard]] Index E() const { return H * D; }
  [[nodiscard]] Index kv_heads() const { return G == 0 ? H : G; }
  [[nodiscard]] bool has_layer() const { return kind == Kind::layer || kind == Kind::training; }
  [[nodiscard]] bool is_decode() const { return kind == Kind::attention && Q == 1; }
};

// Sentences as they come: 5 to 60 tokens each, padded to the longest.
[[nodiscard]] inline Case sentences(Index count, Index H, Index D) {
  std::vector<Index> lens;
  for (Index b = 0; b < count; ++b) lens.push_back(5 + number_below(56, Stream::lens, b));
  const Index longest = std::ranges::max(lens);
  return {Kind::layer,           count, H, 0, longest, longest, D, Masking::query_lens, lens,
          Group::short_sentences};
}

[[nodiscard]] inline std::vector<Case> all_cases() {
  using enum Kind;
  using enum Masking;
  const std::vector<Index> padded{128, 100, 64, 32, 128, 90, 17, 5};
  std::vector<Case> all{
      // B, H, G, Q, K, D
      {projection, 1, 12, 0, 1024, 0, 64},
      {attention, 1, 8, 0, 4096, 4096, 64},
      {attention, 1, 8, 0, 4096, 4096, 64, causal},
      {attention, 1, 8, 0, 128, 128, 64},
      {attention, 1, 8, 0, 1024, 1024, 64},
      {attention, 1, 8, 0, 1024, 1024, 128},
      {layer, 8, 12, 0, 128, 128, 64},
      {layer, 8, 12, 0, 128, 128, 64, valid_lens, padded},
      {layer, 8, 12, 0, 128, 128, 64, query_lens, padded},
      {layer, 32, 12, 0, 64, 64, 32},
      {layer, 2, 5, 0, 4, 6, 20, valid_lens, {3, 2}},  // the documented example
      {attention, 1, 8, 0, 1024, 1024, 32},
      {attention, 1, 8, 0, 1024, 1024, 80},
      {attention, 1, 8, 2, 1024, 1024, 64},
      {attention, 1, 8, 0, 1024, 1024, 64, causal},
      {attention, 1, 8, 0, 1024, 1024, 64, length_a_query},
      {attention, 1, 8, 0, 1024, 1024, 64, allowed},
      {attention, 1, 8, 0, 1024, 1024, 64, score_bias},
      {attention, 1, 8, 0, 1024, 1024, 64, alibi},
      {attention, 1, 16, 0, 1, 4096, 64},
      {attention, 8, 16, 0, 1, 4096, 64},
      {training, 8, 8, 0, 128, 128, 64},
      {training, 8, 8, 0, 128, 128, 64, valid_lens, padded},
      {attention_backward, 1, 8, 0, 4096, 4096, 64},
      {attention_backward, 1, 8, 0, 4096, 4096, 64, causal},
      sentences(32, 12, 32),
      sentences(32, 12, 64),
  };
  for (const Index T : {16, 24, 32, 40, 48, 56, 64})
    all.push_back({attention, 8, 12, 0, T, T, 32, none, {}, Group::short_sentences});
  return all;
}

[[nodiscard]] inline const std::vector<Case>& cases() {
  static const std::vector<Case> all = all_cases();
  return all;
}

[[nodiscard]] inline std::string name_of(Group group) {
  return group == Group::general ? "general" : "short sentences";
}

// "layer B=8 T=128 E=768 H=12 valid_lens". T: as many queries as keys.
[[nodiscard]] inline std::string name_of(const Case& c) {
  const auto axis = [](const char* name, Index size) {
    return ' ' + std::string(name) + '=' + std::to_string(size);
  };
  if (c.kind == Kind::projection)
    return "projection " + std::to_string(c.B * c.Q) + 'x' + std::to_string(c.E()) + 'x' +
           std::to_string(c.E());
  constexpr const char* kinds[] = {"", "attention", "layer", "attention backward",
                                   "training layer"};
  std::string name = c.is_decode() ? "decode" : kinds[static_cast<int>(c.kind)];
  if (c.B > 1 || c.is_decode()) name += axis("B", c.B);
  const std::string rows = c.Q == c.K ? axis("T", c.Q) : axis("Q", c.Q) + axis("K", c.K);
  if (c.has_layer())
    name += rows + axis("E", c.E()) + axis("H", c.H);
  else
    name += axis("H", c.H) + (c.G > 0 ? axis("G", c.G) : "") + rows + axis("D", c.D);
  constexpr const char* maskings[] = {
      "",         " causal",     " valid_lens", " query_lens", " length a query",
      " allowed", " score bias", " ALiBi"};
  return name + maskings[static_cast<int>(c.masking)];
}

// ---- What a mask leaves ------------------------------------------------------------------------

// [B, Q]: a query sees keys [0, n), and of them those that are allowed.
[[nodiscard]] inline std::vector<Index> seen_keys(const Case& c) {
  std::vector<Index> seen;
  for (Index b = 0; b < c.B; ++b)
    for (Index q = 0; q < c.Q; ++q)
      seen.push_back(c.masking == Masking::causal           ? q + 1
                     : c.masking == Masking::length_a_query ? 1 + number_below(c.K, Stream::lens, q)
                     : c.lens.empty()                       ? c.K
                                                            : c.lens[static_cast<std::size_t>(b)]);
  return seen;
}

[[nodiscard]] inline bool is_allowed(const Case& c, Index q, Index k) {
  return c.masking != Masking::allowed || number_below(2, Stream::allowed, q * c.K + k) == 0;
}

// Query rows of sequence b that count; the others are padding.
[[nodiscard]] inline Index rows_that_count(const Case& c, Index b) {
  return c.masking == Masking::query_lens ? c.lens[static_cast<std::size_t>(b)] : c.Q;
}

// 2^(-8 (h + 1) / H) for H = 8
[[nodiscard]] inline double alibi_slope(Index h) { return 1 / static_cast<double>(Index{2} << h); }

// What is added to a score.
[[nodiscard]] inline double score_bias(const Case& c, Index h, Index q, Index k) {
  if (c.masking == Masking::score_bias)
    return number<double>(Stream::bias, (h * c.Q + q) * c.K + k);
  if (c.masking != Masking::alibi) return 0;
  const Index distance = q < k ? k - q : q - k;
  return -alibi_slope(h) * static_cast<double>(distance);
}

// ---- What it costs -----------------------------------------------------------------------------

struct Cost {
  double flops = 0;     // that the mask leaves
  double unmasked = 0;  // as if there were no mask
  Index elements = 0;   // of keys and values, that decoding reads; 0 where arithmetic is the bound
};

[[nodiscard]] inline Cost cost_of(const Case& c) {
  Index rows = 0, kv_rows = 0, pairs = 0;
  const std::vector<Index> seen = seen_keys(c);
  for (Index b = 0; b < c.B; ++b) {
    Index most = 0;
    rows += rows_that_count(c, b);
    for (Index q = 0; q < rows_that_count(c, b); ++q) {
      const Index n = seen[static_cast<std::size_t>(b * c.Q + q)];
      most = (std::max)(most, n);
      if (c.masking != Masking::allowed)
        pairs += n;
      else
        for (Index k = 0; k < n; ++k) pairs += is_allowed(c, q, k);
    }
    kv_rows += most;
  }
  constexpr Index of_a_pair[] = {0, 4, 4, 10, 4 + 10};  // of each kind, times D
  const auto flops = [&](Index of_queries, Index of_keys, Index of_pairs) {
    const Index projected = c.kind == Kind::projection ? of_queries
                            : c.kind == Kind::training ? (1 + 2) * 2 * (of_queries + of_keys)
                            : c.has_layer()            ? 2 * (of_queries + of_keys)
                                                       : 0;
    return static_cast<double>(2 * projected * c.E() * c.E() +
                               of_a_pair[static_cast<int>(c.kind)] * of_pairs * c.E());
  };
  return {flops(rows, kv_rows, pairs), flops(c.B * c.Q, c.B * c.K, c.B * c.Q * c.K),
          c.is_decode() ? 2 * c.B * c.kv_heads() * c.K * c.D : 0};
}

}  // namespace bench
