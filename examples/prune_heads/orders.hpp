// SPDX-License-Identifier: MIT
#pragma once
// The orders in which heads are pruned: by a measure, by chance, and by a greedy search.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "../dates/dice.hpp"  // Dice
#include "data.hpp"           // Sample, Worker, loss_of
#include "heads.hpp"          // without, close_gates

namespace pruning {

// Places in the list of all heads, in the order in which they go.
using Order = std::vector<std::size_t>;

[[nodiscard]] inline Order random_order(std::size_t count, std::uint64_t seed) {
  Order order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  dates::Dice dice(seed, 0x4EAD5, 0);
  for (std::size_t i = count; i-- > 1;)
    std::swap(order[i], order[static_cast<std::size_t>(dice.below(static_cast<int>(i) + 1))]);
  return order;
}

// At each step the head goes without which the loss is least; `tell` hears of every step. What is
// chosen is really gone, so that later steps are faster; what is tried is behind a gate.
template <class Tell>
[[nodiscard]] Order greedy_order(const Model& whole, const Sample& sample, std::size_t steps,
                                 Worker& worker, const Tell& tell) {
  Order removed, left(heads_of(whole).size());
  std::iota(left.begin(), left.end(), std::size_t{0});
  for (std::size_t step = 0; step < steps; ++step) {
    Model model = without(whole, removed);  // whose heads are those in `left`, in their order
    std::size_t best = 0;
    double least = HUGE_VAL;
    for (std::size_t i = 0; i < left.size(); ++i) {
      close_gates(model, std::array{i});
      if (const double loss = loss_of(model, sample, worker); loss < least) {
        least = loss;
        best = i;
      }
    }
    removed.push_back(left[best]);
    left.erase(left.begin() + static_cast<Index>(best));
    tell(static_cast<double>(left.size() + 1));
  }
  return removed;
}

}  // namespace pruning
