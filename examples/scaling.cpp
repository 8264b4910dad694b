// SPDX-License-Identifier: MIT
// What the plans of mpi/ predict for clusters that are not there: the tables of
// include/eigenheads/mpi/README.md.
#include <algorithm>
#include <cstdio>
#include <string>

#include <eigenheads/mpi/data_plan.hpp>
#include <eigenheads/mpi/network.hpp>
#include <eigenheads/mpi/sequence_plan.hpp>
#include <eigenheads/mpi/tensor_plan.hpp>

namespace {

namespace eh = eigenheads;
namespace mpi = eigenheads::mpi;
using eh::Index, mpi::Deal;

// A rank is a machine of 32 cores that computes 2 Tflop/s in float.
constexpr double kFlopsPerSecond = 2e12;
// 100 Gbit/s Ethernet with RoCE v2, and 200 Gbit/s InfiniBand HDR.
constexpr mpi::Network kEthernet{.latency = 3e-6, .bytes_per_second = 0.9 * 12.5e9};
constexpr mpi::Network kInfiniBand{.latency = 1.2e-6, .bytes_per_second = 0.9 * 25e9};
constexpr mpi::LayerSizes kLayer{
    .num_hiddens = 4096, .num_heads = 32, .num_kv_heads = 8, .head_size = 128};

std::string seconds(double s) {
  char text[32];
  std::snprintf(text, sizeof text,
                s < 0.01 ? "%.2g ms"
                : s < 10 ? "%.3g s"
                         : "%.0f s",
                s < 0.01 ? 1000 * s : s);
  return text;
}

// The busiest of a few ranks, as all are nearly alike.
template <class Plan>
mpi::RankPlan busiest(const Plan& plan, const mpi::Cluster& cluster) {
  mpi::RankPlan found = plan.of(0);
  for (const int quarter : {1, 2, 3, 4}) {
    const int rank = (std::max)(plan.ranks() * quarter / 4 - 1, 0);
    const mpi::RankPlan one = plan.of(rank);
    if (mpi::predict(one, plan.ranks(), cluster).seconds >
        mpi::predict(found, plan.ranks(), cluster).seconds)
      found = one;
  }
  return found;
}

// One rank's time over the ranks' and their number.
double efficiency(double one_rank_flops, int ranks, double time) {
  return one_rank_flops / kFlopsPerSecond / ranks / time;
}

template <class Plan>
void print_row(const std::string& what, const Plan& plan, double one_rank_flops) {
  std::printf("| %s | %d |", what.c_str(), plan.ranks());
  const mpi::RankPlan rank = busiest(plan, {kEthernet, kFlopsPerSecond});
  const double gigabytes = rank.memory_bytes() / 1e9;
  std::printf(gigabytes < 10 ? " %.1f GB |" : " %.0f GB |", gigabytes);
  for (const mpi::Network& network : {kEthernet, kInfiniBand}) {
    const mpi::Cluster cluster{network, kFlopsPerSecond};
    const mpi::Prediction time = mpi::predict(busiest(plan, cluster), plan.ranks(), cluster);
    std::printf(" %s (sending %s) | %.0f %% |", seconds(time.seconds).c_str(),
                seconds(time.sending).c_str(),
                100 * efficiency(one_rank_flops, plan.ranks(), time.seconds));
  }
  std::printf("\n");
}

void print_head(const char* what) {
  std::printf(
      "\n| %s | ranks | memory of a rank | Ethernet | efficiency | InfiniBand | efficiency "
      "|\n|---|---|---|---|---|---|---|\n",
      what);
}

// Of a causal mask: the last `left` keys and the query's own, or all of them.
double visible_pairs(Index tokens, Index left) {
  const auto T = static_cast<double>(tokens), full = static_cast<double>(left < 0 ? tokens : left);
  return full < T ? full * (full + 1) / 2 + (T - full) * (full + 1) : T * (T + 1) / 2;
}
double layer_flops(Index tokens, double pairs) {
  return 2 * static_cast<double>(tokens) * static_cast<double>(kLayer.weights()) +
         4 * static_cast<double>(kLayer.columns()) * pairs;
}

struct SequenceTable {
  const char* name;
  Deal deal;
  Index left;  // -1: all keys before
};
void print_sequences(const SequenceTable& table) {
  print_head(table.name);
  const eh::Mask mask{.causal = eh::Causal::top_left, .window = {.left = table.left}};
  for (const Index mebi : {1, 4, 16})
    for (const int ranks : {8, 64, 256, 1024}) {
      const Index tokens = mebi << 20;
      print_row(std::to_string(mebi) + " Mi tokens",
                mpi::SequencePlan<float>(
                    kLayer, mpi::Dealing::of<float>({tokens}, ranks, table.deal), mask),
                layer_flops(tokens, visible_pairs(tokens, table.left)));
    }
}

void print_tensors() {
  print_head("heads and outputs shared out");
  for (const Index tokens : {4096, 65'536})
    for (const int ranks : {2, 4, 8, 16, 64}) {
      const double pairs = visible_pairs(tokens, -1);
      print_row(std::to_string(tokens) + " tokens",
                mpi::TensorPlan(kLayer, {.rows = tokens, .visible_pairs = pairs}, ranks),
                layer_flops(tokens, pairs));
    }
}

// A step of a batch of 1024 sequences of 4096 tokens: 6 operations for each parameter and token.
void print_training() {
  constexpr Index parameters = 1'300'000'000, batch = 1024;
  print_head("batch shared out");
  for (const Index shards : {8, 64, 1024})
    for (const int ranks : {8, 64, 256, 1024}) {
      const double flops = 6.0 * parameters * 4096;
      print_row(std::to_string(shards) + " shards",
                mpi::DataPlan(mpi::DataParallelPlan(
                                  {.parameters = parameters, .shards = shards, .ranks = ranks}),
                              {.batch_size = batch, .flops_per_member = flops}),
                flops * batch);
    }
}

}  // namespace

int main() {
  print_sequences({"all keys before, dealt cyclically", Deal::cyclic, -1});
  print_sequences({"all keys before, neighbouring rows", Deal::contiguous, -1});
  print_sequences({"4096 keys before, neighbouring rows", Deal::contiguous, 4096});
  print_tensors();
  print_training();
  return 0;
}
