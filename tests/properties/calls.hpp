// SPDX-License-Identifier: MIT
#pragma once
// Random calls of attention in which no option is left as it is, and what is done to them. A call is a
// function of its number alone. EIGENHEADS_CASES says on how many of them each property is tried.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_backward.hpp>
#include <eigenheads/score.hpp>

#include "../support.hpp"
#include "../textbook.hpp"

namespace support {

inline constexpr int kUsualCases = 50;

[[nodiscard]] inline int cases() {
  const char* asked = std::getenv("EIGENHEADS_CASES");
  return asked == nullptr ? kUsualCases : std::max(1, std::atoi(asked));
}

// holds(seed) for seeds that no other property has; stops at the first that fails.
template <class Property>
void for_each_case(std::uint64_t property, const Property& holds) {
  for (int i = 0; i < cases() && !testing::Test::HasFailure(); ++i) {
    SCOPED_TRACE("case " + std::to_string(i));
    holds(property << 32 | static_cast<std::uint64_t>(i));
  }
}

template <std::size_t N>
[[nodiscard]] Index one_of(Numbers& numbers, const std::array<Index, N>& choices) {
  return choices[static_cast<std::size_t>(numbers.between(0, static_cast<Index>(N) - 1))];
}
[[nodiscard]] inline bool coin(Numbers& numbers) { return numbers.between(0, 1) == 1; }

// Lengths of up to `most`, few of them short.
[[nodiscard]] inline std::vector<Index> lengths(Numbers& numbers, Index count, Index most) {
  std::vector<Index> result(static_cast<std::size_t>(count));
  for (Index& length : result)
    for (int draw = 0; draw < 3; ++draw) length = std::max(length, numbers.between(0, most));
  return result;
}

// Any parts together that may stand together.
[[nodiscard]] inline PairMask random_mask(Numbers& numbers, Index B, Index H, Index Q, Index K) {
  PairMask mask{.Q = Q, .K = K, .lens_rank = static_cast<int>(numbers.between(0, 2))};
  mask.lens = Tensor<Index, 2>(B, mask.lens_rank == 2 ? Q : 1);
  std::ranges::copy(lengths(numbers, mask.lens.size(), K), mask.lens.data());
  if (coin(numbers)) mask.query_lens = lengths(numbers, B, Q);
  if (coin(numbers)) mask.key_lens = lengths(numbers, B, K);
  mask.causal =
      std::array{eh::Causal::none, eh::Causal::top_left,
                 eh::Causal::bottom_right}[static_cast<std::size_t>(numbers.between(0, 2))];
  if (mask.causal != eh::Causal::bottom_right && coin(numbers))
    mask.first_positions = lengths(numbers, B, K + 1);
  const bool is_aligned =
      mask.causal != eh::Causal::none || !mask.first_positions.empty() || Q == K;
  if (is_aligned && coin(numbers))
    mask.window = {numbers.between(-1, K), mask.causal == eh::Causal::none || coin(numbers)
                                               ? numbers.between(-1, 3)
                                               : Index{-1}};
  if (coin(numbers)) mask.sinks = numbers.between(0, std::min(K, Index{3}));
  if (mask.causal != eh::Causal::none && coin(numbers))
    for (Index b = 0; b < B; ++b)
      mask.prefix_lens.push_back(numbers.between(
          0, mask.key_lens.empty() ? K : mask.key_lens[static_cast<std::size_t>(b)]));
  if (coin(numbers)) {
    const auto one_or = [&](Index n) { return coin(numbers) ? n : Index{1}; };
    mask.allowed = Tensor<bool, 4>(one_or(B), one_or(H), one_or(Q), one_or(K));
    for (Index i = 0; i < mask.allowed.size(); ++i)
      mask.allowed.data()[i] = numbers.between(0, 3) != 0;
  }
  return mask;
}

// Of one axis, these places in this order.
template <class T>
[[nodiscard]] Tensor<T, 4> taken(const Tensor<T, 4>& x, std::size_t axis,
                                 const std::vector<Index>& places) {
  auto shape = x.dimensions();
  shape[axis] = std::ssize(places);
  Tensor<T, 4> y(shape);
  for (Index a = 0; a < shape[0]; ++a)
    for (Index b = 0; b < shape[1]; ++b)
      for (Index c = 0; c < shape[2]; ++c)
        for (Index d = 0; d < shape[3]; ++d) {
          std::array from{a, b, c, d};
          from[axis] = places[static_cast<std::size_t>(from[axis])];
          y(a, b, c, d) = x(from);
        }
  return y;
}
[[nodiscard]] inline std::vector<Index> shuffled(Numbers& numbers, Index n) {
  std::vector<Index> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), Index{0});
  for (Index i = n - 1; i > 0; --i)
    std::swap(order[static_cast<std::size_t>(i)],
              order[static_cast<std::size_t>(numbers.between(0, i))]);
  return order;
}

// Scores go through a softcap and get a bias; heads share keys, and have learnt sinks unless `sinks`
// is empty.
template <class T>
struct RandomCall {
  Index B, H, G, Q, K, D, V;
  int threads;
  PairMask mask;
  double scale;
  T cap;
  Tensor<T, 4> q, k, v, bias, dy;
  Tensor<T, 1> sinks;
  double dropout = 0;
  eh::DropoutSeed seed;

  // With at most so many scores.
  explicit RandomCall(std::uint64_t number, Index most_scores = 20'000)
      : RandomCall(Numbers(number), number, most_scores) {}

  [[nodiscard]] eh::AttentionOptions<T> options(const auto& score) const {
    eh::AttentionOptions<T> options{
        .scale = scale, .score = score, .dropout = dropout, .seed = seed};
    if (sinks.size() > 0) options.sink_logits = sinks;
    return options;
  }
  [[nodiscard]] auto score() const {
    return eh::chain(eh::Softcap<T>(cap), eh::ScoreBias<T>(bias));
  }
  [[nodiscard]] auto exact_score() const {
    return [this](Wide<T> score, eh::ScorePosition at) {
      const auto wide = static_cast<Wide<T>>(cap);
      return wide * std::tanh(score / wide) + Wide<T>(bias(at.b, at.h, at.q, at.k));
    };
  }

  [[nodiscard]] eh::AttentionResult<T> attend(eh::Context& context,
                                              bool has_weights = false) const {
    const auto function = score();
    auto asked = options(function);
    asked.weights = has_weights;
    return eh::scaled_dot_product_attention(q, k, v, mask.mask(), asked, context);
  }
  [[nodiscard]] eh::AttentionResult<T> attend(bool has_weights = false) const {
    eh::Context context;
    return attend(context, has_weights);
  }
  [[nodiscard]] eh::AttentionGradients<T> backward(eh::Context& context) const {
    const auto function = score();
    return eh::scaled_dot_product_attention_backward<T>(dy, q, k, v, attend(context), mask.mask(),
                                                        options(function), context);
  }
  [[nodiscard]] eh::AttentionGradients<T> backward() const {
    eh::Context context;
    return backward(context);
  }
  [[nodiscard]] Textbook<T> exact() const {
    return textbook<T>(q, k, v, mask, Wide<T>(scale), exact_score());
  }

  // The same pairs, said pair by pair.
  [[nodiscard]] RandomCall materialised() const {
    RandomCall call = *this;
    call.mask = {.Q = Q, .K = K};
    call.mask.allowed = Tensor<bool, 4>(B, H, Q, K);
    for (Index b = 0; b < B; ++b)
      for (Index h = 0; h < H; ++h)
        for (Index i = 0; i < Q; ++i)
          for (Index j = 0; j < K; ++j) call.mask.allowed(b, h, i, j) = mask.visible(b, h, i, j);
    return call;
  }
  [[nodiscard]] RandomCall without_sinks() const {
    RandomCall call = *this;
    call.sinks = Tensor<T, 1>(0);
    return call;
  }
  [[nodiscard]] RandomCall of_sequence(Index b) const {
    RandomCall call = *this;
    call.B = 1;
    call.mask = mask.of_sequence(b);
    for (auto part :
         {&RandomCall::q, &RandomCall::k, &RandomCall::v, &RandomCall::bias, &RandomCall::dy})
      call.*part = taken(this->*part, 0, {b});
    return call;
  }
  // For masks that are materialised.
  [[nodiscard]] RandomCall of_keys(const std::vector<Index>& keys) const {
    RandomCall call = *this;
    call.K = call.mask.K = std::ssize(keys);
    call.k = taken(k, 2, keys);
    call.v = taken(v, 2, keys);
    call.bias = taken(bias, 3, keys);
    call.mask.allowed = taken(mask.allowed, 3, keys);
    return call;
  }
  [[nodiscard]] bool sees(Index b, Index h, Index i) const {
    for (Index j = 0; j < K; ++j)
      if (mask.visible(b, h, i, j)) return true;
    return false;
  }

 private:
  RandomCall(Numbers numbers, std::uint64_t number, Index most_scores) {
    constexpr std::array<Index, 12> rows{1, 1, 2, 3, 5, 7, 11, 13, 17, 31, 53, 101},
        keys{1, 2, 3, 5, 7, 17, 31, 61, 131, 257, 263, 521},
        sizes{1, 2, 3, 5, 7, 11, 13, 16, 17, 31, 37, 67};
    do {
      B = numbers.between(1, 3);
      G = numbers.between(1, 3);
      H = G * one_of(numbers, std::array<Index, 4>{1, 2, 3, 5});
      Q = one_of(numbers, rows);
      K = numbers.between(0, 3) == 0 ? Q : one_of(numbers, keys);
    } while (B * H * Q * K > most_scores);
    D = one_of(numbers, sizes);
    V = one_of(numbers, sizes);
    threads = static_cast<int>(numbers.between(2, 16));
    mask = random_mask(numbers, B, H, Q, K);
    scale = (coin(numbers) ? 1 : -1) * static_cast<double>(numbers.between(3, 64)) / 32;
    cap = static_cast<T>(numbers.between(5, 40)) / T(8);
    const auto made = [&](auto... lengths) {
      return random_tensor<T>(number * 8 + numbers.next(), lengths...);
    };
    q = made(B, H, Q, D);
    k = made(B, G, K, D);
    v = made(B, G, K, V);
    bias = made(B, H, Q, K);
    dy = made(B, H, Q, V);
    sinks = made(H);
    seed = eh::DropoutSeed{numbers.next()};
  }
};

// visit(b, h, i) for every query of every head.
template <class T>
void for_each_query(const RandomCall<T>& call, const auto& visit) {
  for (Index b = 0; b < call.B; ++b)
    for (Index h = 0; h < call.H; ++h)
      for (Index i = 0; i < call.Q; ++i) visit(b, h, i);
}

// Half a unit in the last place.
template <class T>
inline constexpr Wide<T> kUnit = Wide<T>(Limits<T>::epsilon()) / 2;

template <class T>
[[nodiscard]] testing::AssertionResult same_gradients(const eh::AttentionGradients<T>& a,
                                                      const eh::AttentionGradients<T>& b) {
  if (auto same = same_bits(a.queries, b.queries); !same) return same << ", of the queries";
  if (auto same = same_bits(a.keys, b.keys); !same) return same << ", of the keys";
  if (auto same = same_bits(a.values, b.values); !same) return same << ", of the values";
  if (auto same = same_bits(a.score_bias, b.score_bias); !same) return same << ", of the bias";
  if (auto same = same_bits(a.sink_logits, b.sink_logits); !same) return same << ", of the sinks";
  return testing::AssertionSuccess();
}

}  // namespace support
