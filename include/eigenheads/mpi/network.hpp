// SPDX-License-Identifier: MIT
#pragma once
// How long a plan (plan.hpp) takes on a network: a message takes its latency and its bytes' time, and a
// rank sends and receives at once (Hockney, "The communication challenge for MPP", 1994). It knows
// nothing of switches that are shared, of memory, or of ranks of which one is late.
#include <algorithm>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/mpi/plan.hpp>  // RankPlan

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

struct Network {
  double latency = 0;           // seconds, from a send to its receive
  double bytes_per_second = 1;  // of one rank, in each direction
};

struct Cluster {
  Network network;
  double flops_per_second = 1;  // of one rank
};

struct Prediction {
  double computing = 0, sending = 0;  // seconds, each by itself
  double seconds = 0;                 // of both, of which some is done at once
};

[[nodiscard]] inline Prediction predict(const RankPlan& plan, int ranks, const Cluster& cluster) {
  const Network& network = cluster.network;
  const auto seconds_of = [&](Index messages, Index bytes) {
    return static_cast<double>(messages) * network.latency +
           static_cast<double>(bytes) / network.bytes_per_second;
  };
  const Traffic& traffic = plan.traffic;
  Prediction prediction;
  prediction.computing = plan.flops / cluster.flops_per_second;
  prediction.sending = (std::max)(seconds_of(traffic.messages_sent, traffic.bytes_sent),
                                  seconds_of(traffic.messages_received, traffic.bytes_received));
  const double meanwhile = plan.flops_meanwhile / cluster.flops_per_second;
  // At its begin and its end all ranks say something to rank 0, which it hears one after the other.
  const double rounds = ranks > 1 ? 2 * seconds_of(ranks, 0) : 0;
  prediction.seconds = prediction.computing - meanwhile +
                       (std::max)(meanwhile, prediction.sending) +
                       static_cast<double>(plan.hops) * seconds_of(1, plan.hop_bytes) + rounds;
  return prediction;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
