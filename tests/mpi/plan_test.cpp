// SPDX-License-Identifier: MIT
// What plans say is sent is what is sent, to the byte; that of data parallel training is tested in
// data_parallel_test.cpp.
#include <gtest/gtest.h>
#include <sstream>

#include <eigenheads/explain.hpp>
#include <eigenheads/mpi/data_plan.hpp>
#include <eigenheads/mpi/local_transport.hpp>
#include <eigenheads/mpi/network.hpp>
#include <eigenheads/mpi/sequence_layer.hpp>
#include <eigenheads/mpi/sequence_plan.hpp>
#include <eigenheads/mpi/tensor_attention.hpp>
#include <eigenheads/mpi/tensor_plan.hpp>

#include "../layers.hpp"
#include "../support.hpp"

namespace {

namespace eh = eigenheads;
namespace mpi = eigenheads::mpi;
using eh::Index, mpi::Deal, mpi::Ranks;

constexpr mpi::LayerSizes kSizes{
    .num_hiddens = 24, .num_heads = 6, .num_kv_heads = 3, .head_size = 4};

eh::MultiHeadAttention<float> small_layer() {
  return support::make_layer<float>(24, {.num_hiddens = 24, .num_heads = 6, .num_kv_heads = 3});
}

void expect_sent(const Ranks& ranks, const mpi::RankPlan& plan) {
  EXPECT_EQ(ranks.traffic().messages_sent, plan.traffic.messages_sent);
  EXPECT_EQ(ranks.traffic().bytes_sent, plan.traffic.bytes_sent);
  EXPECT_EQ(ranks.traffic().messages_received, plan.traffic.messages_received);
  EXPECT_EQ(ranks.traffic().bytes_received, plan.traffic.bytes_received);
}

TEST(SequencePlan, SaysWhatIsSentComputedAndHeld) {
  const auto layer = small_layer();
  const eh::Sequences sequences{2100, 300, 0};
  const auto x = support::random_tensor<float>(1, sequences.rows(), 24);
  for (const eh::Mask& mask : {eh::Mask{}, eh::Mask{.causal = eh::Causal::top_left},
                               eh::Mask{.causal = eh::Causal::top_left, .window = {.left = 300}}})
    for (const Deal deal : {Deal::contiguous, Deal::early_and_late, Deal::cyclic})
      for (const int size : {1, 3, 8}) {
        const auto dealing = mpi::Dealing::of<float>(sequences, size, deal);
        const mpi::SequencePlan<float> plan(kSizes, dealing, mask);
        mpi::run_locally(size, [&](Ranks& ranks) {
          eh::Context context;
          const mpi::SequenceParallel<float> parallel(layer, ranks);
          const auto mine = mpi::take_rows(x, dealing, ranks.rank());
          static_cast<void>(parallel(mine, dealing, mask, context));
          const mpi::RankPlan of_rank = plan.of(ranks.rank());
          expect_sent(ranks, of_rank);
          // x and y are the caller's.
          const double scratch = of_rank.data_bytes + of_rank.buffer_bytes -
                                 static_cast<double>(2 * mine.size() * Index{sizeof(float)});
          EXPECT_GE(static_cast<double>(context.scratch_bytes()), 0.95 * scratch);
          EXPECT_LE(static_cast<double>(context.scratch_bytes()), 1.2 * scratch + 65536);
        });
        // One process computes what all ranks do.
        EXPECT_DOUBLE_EQ(mpi::explain(plan).flops,
                         mpi::explain(mpi::SequencePlan<float>(
                                          kSizes, mpi::Dealing::of<float>(sequences, 1), mask))
                             .flops);
      }
}

TEST(SequencePlan, ComputesWhatTheLayerExplains) {
  const auto layer = small_layer();
  const eh::Sequences sequences{700};
  const auto x = support::random_tensor<float>(1, 700, 24);
  const eh::Mask mask{.causal = eh::Causal::top_left};
  const eh::Explanation whole = eh::explain<float>(layer, x, sequences, mask);
  const auto dealing = mpi::Dealing::of<float>(sequences, 4);
  EXPECT_DOUBLE_EQ(mpi::explain(mpi::SequencePlan<float>(kSizes, dealing, mask)).flops,
                   whole.attention_flops + whole.projection_flops);
}

TEST(TensorPlan, SaysWhatIsSent) {
  const auto whole = small_layer();
  const auto x = support::random_tensor<float>(1, 2, 11, 24);
  for (const int size : {1, 2, 3, 4, 8}) {
    const mpi::TensorPlan plan(kSizes, {.rows = 22, .visible_pairs = 2 * 11 * 11}, size);
    mpi::run_locally(size, [&](Ranks& ranks) {
      const mpi::TensorParallelAttention<float> layer(whole, ranks);
      ranks.reset_traffic();
      static_cast<void>(layer(x, x, x));
      expect_sent(ranks, plan.of(ranks.rank()));
    });
    const eh::Explanation one = eh::explain<float>(whole, x, x);
    EXPECT_DOUBLE_EQ(mpi::explain(plan).flops, one.attention_flops + one.projection_flops);
  }
}

TEST(DataPlan, CountsTheWholeBatchOnce) {
  for (const int size : {1, 3, 8, 64}) {
    const mpi::DataParallelPlan plan({.parameters = 1'000'000, .shards = 24, .ranks = size});
    const mpi::PlanSummary all =
        mpi::explain(mpi::DataPlan(plan, {.batch_size = 100, .flops_per_member = 5}));
    EXPECT_EQ(all.flops, 500);
    EXPECT_EQ(mpi::DataPlan(plan, {.batch_size = 100}).of(0).traffic.control_messages_sent, 0);
    EXPECT_EQ(all.most.traffic.bytes_sent > 0, size > 1);
  }
}

TEST(RankPlan, HoldsWhatItNames) {
  mpi::RankPlan plan;
  plan.weight_bytes = 100;
  plan.data_bytes = 20;
  plan.buffer_bytes = 3;
  EXPECT_EQ(plan.memory_bytes(), 123);
}

TEST(DataPlan, NeedsARankAndAShard) {
  EXPECT_EQ(support::refusal([] { return mpi::DataParallelPlan({.parameters = 5, .ranks = 0}); }),
            "eigenheads: DataParallel: there are 0 ranks; expected 1 or more");
  EXPECT_EQ(support::refusal([] { return mpi::DataParallelPlan({.parameters = 5, .shards = 0}); }),
            "eigenheads: DataParallel: shards is 0; expected 1 or more");
}

TEST(PlanSummary, IsPrinted) {
  const auto dealing = mpi::Dealing::of<float>({1024}, 2, Deal::contiguous);
  std::ostringstream out;
  out << mpi::explain(mpi::SequencePlan<float>(kSizes, dealing, {.causal = eh::Causal::top_left}));
  const std::string text = out.str();
  EXPECT_NE(text.find("ranks            2, which compute 53.9197 Mflop"), std::string::npos)
      << text;
  EXPECT_NE(text.find("\nsent             0 to 0.046875 MiB"), std::string::npos) << text;
  EXPECT_NE(text.find("\nin messages      0 to 2\n"), std::string::npos) << text;
}

TEST(Network, TakesTheLongerOfWhatIsDoneAtOnce) {
  mpi::RankPlan plan;
  plan.traffic.messages_received = 10;
  plan.traffic.bytes_received = 1000;
  plan.flops = 300;
  plan.flops_meanwhile = 200;
  const auto seconds = [&](double latency, double bytes, int ranks) {
    return mpi::predict(plan, ranks, {{latency, bytes}, 100}).seconds;
  };
  EXPECT_DOUBLE_EQ(seconds(0, 1e9, 1), 1 + 2);
  EXPECT_DOUBLE_EQ(seconds(0, 100, 1), 1 + 10);
  EXPECT_DOUBLE_EQ(seconds(1, 100, 1), 1 + 20);
  EXPECT_DOUBLE_EQ(seconds(1, 100, 4), 1 + 20 + 8);
  plan.hops = 3;
  plan.hop_bytes = 100;
  EXPECT_DOUBLE_EQ(seconds(1, 100, 4), 1 + 20 + 8 + 3 * 2);
}

}  // namespace
