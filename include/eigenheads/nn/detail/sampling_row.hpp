// SPDX-License-Identifier: MIT
#pragma once
// What sampling does to one row of logits: which ids are kept, what they weigh, and which of them a
// random number means. In double for every type of logits, sums in a fixed order.
#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include <eigenheads/detail/arena.hpp>       // Cutter
#include <eigenheads/detail/float_bits.hpp>  // is_finite, infinity_bits
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>  // blocks_of
#include <eigenheads/elementary.hpp>     // exp
#include <eigenheads/version.hpp>        // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// Of a token that is in the text already: less likely for a penalty above 1, whatever the sign. What
// is finite stays so.
[[nodiscard]] inline double penalized(double logit, double penalty) {
  if (!is_finite(logit)) return logit;
  // + 0, for a compiler would contract the product with a sum in which it is next.
  const double changed = logit > 0 ? logit / penalty : std::fma(logit, penalty, 0.0);
  constexpr double most = (std::numeric_limits<double>::max)();
  return std::clamp(changed, -most, most);
}

struct Candidate {
  double value;  // a logit, later a weight
  Index id;
};

struct SamplingScratch {
  double *values, *weights;  // [vocabulary]: logits after the penalty, and what they weigh
  Candidate* candidates;     // [vocabulary]
  double* block_sums;

  static constexpr Index block = 256;
  SamplingScratch(Cutter<double>& memory, Index vocabulary)
      : values(memory.take(vocabulary)),
        weights(memory.take(vocabulary)),
        candidates(memory.take_as<Candidate>(vocabulary)),
        block_sums(memory.take(blocks_of(vocabulary, block))) {}
  [[nodiscard]] static Index size(Index vocabulary) {
    Cutter<double> counted(nullptr);
    (void)SamplingScratch(counted, vocabulary);
    return counted.used();
  }
};

// The best k of the values above minus infinity, the largest first and of equal ones the lower id.
// Returns how many. One comparison a value, and a selection each time that the room is full: a value
// that only equals the worst of k kept ones comes too late, for its id is higher.
[[nodiscard]] inline Index best_candidates(std::span<const double> values, Index k,
                                           Candidate* best) {
  const auto ranks_before = [](const Candidate& a, const Candidate& b) {
    return a.value > b.value || (a.value == b.value && a.id < b.id);
  };
  const Index V = std::ssize(values), room = (std::min)(V, 2 * k + 1024);
  double worst = -infinity<double>;
  Index count = 0;
  for (Index id = 0; id < V; ++id) {
    const double value = values[static_cast<std::size_t>(id)];
    if (!(value > worst)) continue;
    if (count == room) {
      std::nth_element(best, best + k - 1, best + count, ranks_before);
      count = k;
      worst = best[k - 1].value;
    }
    best[count++] = {value, id};
  }
  if (count > k) std::nth_element(best, best + k - 1, best + count, ranks_before);
  count = (std::min)(k, count);
  std::sort(best, best + count, ranks_before);
  return count;
}

// weights[i] = e^((values[i] - maximum) / temperature), at most 1; of infinite ones the limit. No
// temperature above 0 makes NaN of it: what is divided is finite or minus infinity.
inline void weigh(std::span<double> weights, double maximum, double temperature) {
  if (!is_finite(maximum)) {
    for (double& weight : weights) weight = weight == maximum ? 1 : 0;
    return;
  }
  for (double& weight : weights) weight = (weight - maximum) / temperature;
  exp(std::span<const double>(weights), weights);
}

// The sum of a block in 16 lanes, folded in a fixed order.
[[nodiscard]] inline double sum_of_block(const double* x, Index count) {
  constexpr Index width = 16;
  double lanes[width] = {};
  Index i = 0;
  for (; i + width <= count; i += width)
    for (Index lane = 0; lane < width; ++lane) lanes[lane] += x[i + lane];
  for (; i < count; ++i) lanes[i % width] += x[i];
  for (Index half = width / 2; half > 0; half /= 2)
    for (Index lane = 0; lane < half; ++lane) lanes[lane] += lanes[lane + half];
  return lanes[0];
}
// Of any number of them: blocks from left to right. block_sums gets those of the blocks.
inline double sum_of(std::span<const double> x, double* block_sums) {
  constexpr Index block = SamplingScratch::block;
  double total = 0;
  for (Index begin = 0, count = std::ssize(x); begin < count; begin += block) {
    const double sum = sum_of_block(x.data() + begin, (std::min)(block, count - begin));
    block_sums[begin / block] = sum;
    total += sum;
  }
  return total;
}

// How many of the candidates, the heaviest first, it takes to weigh `mass`; 0 if all weigh less.
[[nodiscard]] inline Index shortest_prefix(std::span<const Candidate> candidates, double mass) {
  double sum = 0;
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    sum += candidates[i].value;
    if (sum >= mass) return static_cast<Index>(i + 1);
  }
  return 0;
}

// The ids that are kept, and what they weigh: ids are 0, 1, ... where `candidates` is null.
struct KeptIds {
  std::span<double> weights;
  const Candidate* candidates = nullptr;

  [[nodiscard]] Index id(Index i) const { return candidates == nullptr ? i : candidates[i].id; }
};

// The filters for one row, whose logits after the penalty are scratch.values.
class SamplingRow {
 public:
  // A mass that is met exactly is met whatever the rounding of the weights and of their sum.
  static constexpr double slack = 0x1p-36;

  SamplingRow(Index vocabulary, const SamplingScratch& scratch) : V_(vocabulary), to_(scratch) {}

  // Of the largest value alone, the lowest id that has it.
  [[nodiscard]] KeptIds largest() const {
    const auto best = std::max_element(to_.values, to_.values + V_);
    to_.candidates[0] = {*best, best - to_.values};
    to_.weights[0] = 1;
    return {{to_.weights, 1}, to_.candidates};
  }

  [[nodiscard]] KeptIds kept(double temperature, Index top_k, double top_p, double min_p) const {
    const double maximum = *std::max_element(to_.values, to_.values + V_);
    Index count = 0;
    if (top_k > 0 && top_k < V_) {
      count = best_candidates(values(), top_k, to_.candidates);
      for (Index i = 0; i < count; ++i) to_.weights[i] = to_.candidates[i].value;
      weigh(weights(count), maximum, temperature);
      for (Index i = 0; i < count; ++i) to_.candidates[i].value = to_.weights[i];
      if (top_p < 1) count = keep_mass(count, mass_of(count, top_p));
    } else {
      std::copy_n(to_.values, V_, to_.weights);
      weigh(weights(V_), maximum, temperature);
      if (!(top_p < 1)) return all_but_unlikely(min_p);
      count = most_likely(mass_of(V_, top_p));
    }
    return in_order_of_ids(count, min_p);
  }

 private:
  [[nodiscard]] std::span<const double> values() const {
    return {to_.values, static_cast<std::size_t>(V_)};
  }
  [[nodiscard]] std::span<double> weights(Index count) const {
    return {to_.weights, static_cast<std::size_t>(count)};
  }
  [[nodiscard]] double mass_of(Index count, double top_p) const {
    return top_p * sum_of(weights(count), to_.block_sums) * (1 - slack);
  }
  [[nodiscard]] Index keep_mass(Index count, double mass) const {
    const Index kept = shortest_prefix({to_.candidates, static_cast<std::size_t>(count)}, mass);
    return kept == 0 ? count : kept;
  }

  // As many candidates as have the mass. A text's next token is mostly among few, so only so many are
  // sorted at first: 16 times as many as long as these do not do.
  [[nodiscard]] Index most_likely(double mass) const {
    for (Index k = (std::min)(V_, Index{64});; k = k > V_ / 16 ? V_ : 16 * k) {
      const Index count = best_candidates(values(), k, to_.candidates);
      for (Index i = 0; i < count; ++i) to_.candidates[i].value = to_.weights[to_.candidates[i].id];
      const Index kept = shortest_prefix({to_.candidates, static_cast<std::size_t>(count)}, mass);
      if (kept > 0) return kept;
      if (k == V_) return count;
    }
  }

  // The heaviest weighs 1.
  [[nodiscard]] KeptIds all_but_unlikely(double min_p) const {
    if (min_p > 0)
      for (double& weight : weights(V_)) weight = weight < min_p ? 0 : weight;
    return {weights(V_), nullptr};
  }
  [[nodiscard]] KeptIds in_order_of_ids(Index count, double min_p) const {
    Candidate* const end =
        std::remove_if(to_.candidates, to_.candidates + count,
                       [min_p](const Candidate& candidate) { return candidate.value < min_p; });
    std::sort(to_.candidates, end,
              [](const Candidate& a, const Candidate& b) { return a.id < b.id; });
    count = end - to_.candidates;
    for (Index i = 0; i < count; ++i) to_.weights[i] = to_.candidates[i].value;
    return {weights(count), to_.candidates};
  }

  Index V_;
  const SamplingScratch& to_;
};

// Which one `uniform`, on [0, 1), means: the first whose weight, added to those before it, exceeds
// that part of the sum. So none without weight is ever drawn.
[[nodiscard]] inline Index drawn_of(std::span<const double> weights, double uniform,
                                    double* block_sums) {
  constexpr Index block = SamplingScratch::block;
  const Index count = std::ssize(weights), last_block = (count - 1) / block;
  const double mark = uniform * sum_of(weights, block_sums);
  double before = 0;
  Index b = 0;
  for (; b < last_block && !(before + block_sums[b] > mark); ++b) before += block_sums[b];
  Index drawn = b * block;
  for (Index i = b * block, end = (std::min)(i + block, count); i < end; ++i) {
    const double weight = weights[static_cast<std::size_t>(i)];
    if (weight > 0) drawn = i;  // in a block's last ones, where its sum was rounded up
    before += weight;
    if (before > mark) break;
  }
  return drawn;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
