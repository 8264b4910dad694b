// SPDX-License-Identifier: MIT
#pragma once
// What each rank does in a step of data parallel training (data_parallel.hpp).
#include <algorithm>
#include <cstddef>
#include <iterator>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/mpi/data_parallel_plan.hpp>  // DataParallelPlan
#include <eigenheads/mpi/plan.hpp>                // RankPlan

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

struct DataStep {
  Index batch_size = 1;
  double flops_per_member = 0;  // forward and backward; about 6 for each parameter and token
  double bytes_per_member = 0;  // activations of one, as shards are computed one after the other
  Index moments = 2;            // of the optimizer: 2 for Adam
  Index element_bytes = 4;
};

class DataPlan {
 public:
  DataPlan(const DataParallelPlan& plan, const DataStep& step) : plan_(plan), step_(step) {}

  [[nodiscard]] int ranks() const { return plan_.sizes().ranks; }

  [[nodiscard]] RankPlan of(int rank) const {
    const auto number = [](Index count) { return static_cast<double>(count); };
    Index members = 0, longest = 0;
    const auto shards = plan_.shards_of(rank, step_.batch_size);
    for (Index shard = shards.begin; shard < shards.end; ++shard) {
      const Index count = plan_.members_of(shard, step_.batch_size).count();
      members += count;
      longest = (std::max)(longest, count);
    }
    const double parameters = number(plan_.sizes().parameters),
                 element = number(step_.element_bytes), slice = number(plan_.slice(rank).count());
    Index all_nodes = 0;
    for (int r = 0; r < ranks(); ++r) all_nodes += std::ssize(plan_.nodes(r, step_.batch_size));
    const auto nodes = static_cast<Index>(plan_.nodes(rank, step_.batch_size).size());
    RankPlan plan;
    plan.traffic =
        plan_.step_traffic(rank, step_.batch_size, static_cast<std::size_t>(step_.element_bytes));
    plan.traffic.control_messages_sent = 0;
    plan.flops = number(members) * step_.flops_per_member;
    // The parameters, once more without gaps, and the slice's moments.
    plan.weight_bytes = element * (2 * parameters + number(step_.moments) * slice);
    // Gradients of a shard, the sums of shards, and activations.
    plan.data_bytes =
        element * parameters * number(1 + nodes) + number(longest) * step_.bytes_per_member;
    plan.buffer_bytes = element * slice * number(all_nodes - nodes);
    return plan;
  }

 private:
  DataParallelPlan plan_;
  DataStep step_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
