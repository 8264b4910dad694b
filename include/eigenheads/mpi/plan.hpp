// SPDX-License-Identifier: MIT
#pragma once
// What ranks would do in a call or a step, for any number of them, of which none need be there: what
// each sends, computes and holds. The plans are those that the code executes, but TensorPlan counts by
// formulas of its own:
//   mpi::SequencePlan<float>   sequence_plan.hpp: a layer whose rows are spread over ranks
//   mpi::TensorPlan            tensor_plan.hpp: a layer whose heads and outputs are
//   mpi::DataPlan              data_plan.hpp: a step of training whose batch is
//   std::cout << mpi::explain(mpi::SequencePlan<float>(sizes, dealing, mask));
// How long that takes on a network: network.hpp.
#include <algorithm>
#include <ostream>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/mpi/traffic.hpp>  // Traffic

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

// Of an attention layer: W_q [E, H * D], W_k and W_v [E, G * D], W_o [H * D, E]. G is H
// unless it is given.
struct LayerSizes {
  Index num_hiddens = 0, num_heads = 1, num_kv_heads = num_heads, head_size = 0;

  [[nodiscard]] Index columns() const { return num_heads * head_size; }        // of q
  [[nodiscard]] Index kv_columns() const { return num_kv_heads * head_size; }  // of k, and of v
  // Multiply-adds of all four projections of one row; as many as weights.
  [[nodiscard]] Index weights() const { return 2 * num_hiddens * (columns() + kv_columns()); }
};

// What one rank sends, computes and holds.
struct RankPlan {
  Traffic traffic;  // of data
  // 2 for a multiply-add; of them, those that are computed while data comes.
  double flops = 0, flops_meanwhile = 0;
  double weight_bytes = 0;
  double data_bytes = 0;    // inputs, outputs, and what is computed in between
  double buffer_bytes = 0;  // for what is under way, and for the work itself
  // Before this rank can begin, data passes so many others, with so many bytes at a time.
  Index hops = 0, hop_bytes = 0;

  [[nodiscard]] double memory_bytes() const { return weight_bytes + data_bytes + buffer_bytes; }
};

// The least and the most of any rank.
struct PlanSummary {
  int ranks = 0;
  RankPlan least, most;
  double flops = 0;  // of all ranks
  double bytes = 0;  // that all send
};

// plan.ranks(), plan.of(rank)
template <class Plan>
[[nodiscard]] PlanSummary explain(const Plan& plan) {
  PlanSummary summary{.ranks = plan.ranks(), .least = plan.of(0), .most = plan.of(0)};
  const auto join = [&](auto value, const RankPlan& one) {
    value(summary.least) = (std::min)(value(summary.least), value(one));
    value(summary.most) = (std::max)(value(summary.most), value(one));
  };
  for (int rank = 0; rank < plan.ranks(); ++rank) {
    const RankPlan one = plan.of(rank);
    summary.flops += one.flops;
    summary.bytes += static_cast<double>(one.traffic.bytes_sent);
    join([](auto& of) -> auto& { return of.traffic.messages_sent; }, one);
    join([](auto& of) -> auto& { return of.traffic.bytes_sent; }, one);
    join([](auto& of) -> auto& { return of.traffic.messages_received; }, one);
    join([](auto& of) -> auto& { return of.traffic.bytes_received; }, one);
    join([](auto& of) -> auto& { return of.flops; }, one);
    join([](auto& of) -> auto& { return of.flops_meanwhile; }, one);
    join([](auto& of) -> auto& { return of.weight_bytes; }, one);
    join([](auto& of) -> auto& { return of.data_bytes; }, one);
    join([](auto& of) -> auto& { return of.buffer_bytes; }, one);
    join([](auto& of) -> auto& { return of.hops; }, one);
    join([](auto& of) -> auto& { return of.hop_bytes; }, one);
  }
  return summary;
}

inline std::ostream& operator<<(std::ostream& out, const PlanSummary& plan) {
  const auto line = [&](const char* name, double least, double most, const char* unit) {
    out << '\n' << name << least;
    if (most != least) out << " to " << most;
    out << unit;
  };
  const auto count = [](Index number) { return static_cast<double>(number); };
  constexpr double mega = 1e6, mebi = 1 << 20;
  out << "ranks            " << plan.ranks << ", which compute " << plan.flops / mega
      << " Mflop and send " << plan.bytes / mebi << " MiB; of each rank";
  line("computed         ", plan.least.flops / mega, plan.most.flops / mega, " Mflop");
  line("sent             ", count(plan.least.traffic.bytes_sent) / mebi,
       count(plan.most.traffic.bytes_sent) / mebi, " MiB");
  line("in messages      ", count(plan.least.traffic.messages_sent),
       count(plan.most.traffic.messages_sent), "");
  line("received         ", count(plan.least.traffic.bytes_received) / mebi,
       count(plan.most.traffic.bytes_received) / mebi, " MiB");
  line("in messages      ", count(plan.least.traffic.messages_received),
       count(plan.most.traffic.messages_received), "");
  line("weights          ", plan.least.weight_bytes / mebi, plan.most.weight_bytes / mebi, " MiB");
  line("data             ", plan.least.data_bytes / mebi, plan.most.data_bytes / mebi, " MiB");
  line("buffers          ", plan.least.buffer_bytes / mebi, plan.most.buffer_bytes / mebi, " MiB");
  return out;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
