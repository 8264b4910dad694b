// SPDX-License-Identifier: MIT
#pragma once
// What each rank does in a call of TensorParallelAttention (tensor_attention.hpp): its heads of all
// rows, and after these are gathered, its outputs. By formulas beside the code that they describe, of a
// forward pass in which all rows and heads take part: with padding less is computed and sent, with closed
// heads less is computed, and a backward pass sends more.
#include <algorithm>
#include <vector>

#include <eigenheads/detail/head_set.hpp>  // HeadSet
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/mpi/collective_traffic.hpp>  // all_gather_traffic
#include <eigenheads/mpi/plan.hpp>                // LayerSizes, RankPlan
#include <eigenheads/mpi/shares.hpp>              // Shares, head_shares

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

// What is computed, and how often a query sees a key: rows * rows, or about half of that if causal.
struct TensorCall {
  Index rows = 0;
  double visible_pairs = 0;
  Index element_bytes = 4;
};

class TensorPlan {
 public:
  TensorPlan(const LayerSizes& sizes, const TensorCall& call, int ranks)
      : sizes_(sizes),
        call_(call),
        heads_(
            head_shares(eigenheads::detail::HeadSet(sizes.num_heads, sizes.num_kv_heads), ranks)),
        outputs_(Shares::even(sizes.num_hiddens, ranks)) {}

  [[nodiscard]] int ranks() const { return outputs_.ranks(); }

  [[nodiscard]] RankPlan of(int rank) const {
    const auto number = [](Index count) { return static_cast<double>(count); };
    const double n = number(call_.rows), element = number(call_.element_bytes),
                 E = number(sizes_.num_hiddens), D = number(sizes_.head_size);
    const double columns = number(heads_.heads.count(rank)) * D,
                 kv_columns = number(heads_.kv_heads.count(rank)) * D,
                 outputs = number(outputs_.count(rank));
    const double weights = E * (columns + 2 * kv_columns) + number(sizes_.columns()) * outputs;
    RankPlan plan;
    plan.traffic = gathered(heads_.heads.times(sizes_.head_size), rank);
    plan.traffic += gathered(outputs_, rank);
    plan.flops = 2 * n * weights + 4 * columns * call_.visible_pairs;
    plan.weight_bytes = element * weights;
    // x and y, all heads, and this rank's q, k, v, heads and outputs.
    plan.data_bytes =
        element * n * (2 * E + number(sizes_.columns()) + 2 * columns + 2 * kv_columns + outputs);
    // What is gathered lies by ranks before it lies by rows.
    plan.buffer_bytes = element * n * number((std::max)(sizes_.columns(), sizes_.num_hiddens));
    return plan;
  }

 private:
  [[nodiscard]] Traffic gathered(const Shares& shares, int rank) const {
    std::vector<Index> bytes;
    bytes.reserve(static_cast<std::size_t>(ranks()));
    for (int r = 0; r < ranks(); ++r)
      bytes.push_back(call_.rows * shares.count(r) * call_.element_bytes);
    return all_gather_traffic(bytes, rank);
  }

  LayerSizes sizes_;
  TensorCall call_;
  HeadShares heads_;
  Shares outputs_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
