// SPDX-License-Identifier: MIT
// What explain says is what the call does: its plan is the one that is executed, its memory what the
// context then holds.
#include <gtest/gtest.h>
#include <sstream>

#include <eigenheads/explain.hpp>
#include <eigenheads/multi_head_attention.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::Mask, eh::detail::AttentionPath;

struct Sizes {
  Index B, Q, K, H, G;
  int threads = 1;
};

class Explain : public testing::Test {
 protected:
  static constexpr Index kSize = 16;

  static eh::MultiHeadAttention<float> layer(const Sizes& sizes) {
    return eh::MultiHeadAttention<float>({.num_hiddens = 16,
                                          .num_heads = sizes.H,
                                          .query_size = kSize,
                                          .key_size = kSize,
                                          .value_size = kSize,
                                          .num_kv_heads = sizes.G,
                                          .head_size = 20});
  }
  static eh::Explanation explained(const Sizes& sizes, const Mask& mask = {}) {
    eh::Context context(sizes.threads, kAnyWork);
    return eh::explain<float>(layer(sizes), random_tensor<float>(1, sizes.B, sizes.Q, kSize),
                              random_tensor<float>(2, sizes.B, sizes.K, kSize), mask, context);
  }
};

TEST_F(Explain, NamesThePathThatRuns) {
  EXPECT_EQ(explained({2, 4, 6, 5, 5}).path, AttentionPath::packed_by_task);
  EXPECT_EQ(explained({2, 100, 6, 2, 2}).path, AttentionPath::packed_once);
  EXPECT_EQ(explained({1, 30, 600, 2, 1}).path, AttentionPath::packed_once);  // 60 rows
  // Few rows over several blocks of keys are cut along them, where there are threads for it.
  EXPECT_EQ(explained({1, 1, 600, 2, 2}).path, AttentionPath::packed_by_task);
  EXPECT_EQ(explained({1, 1, 600, 2, 2, 3}).path, AttentionPath::cut_along_keys);
  EXPECT_EQ(explained({1, 1, 600, 2, 2, 2}).path, AttentionPath::packed_by_task);
  EXPECT_EQ(explained({1, 1, 200, 2, 2, 3}).path, AttentionPath::packed_by_task);
}

TEST_F(Explain, CountsTasks) {
  EXPECT_EQ(explained({2, 4, 6, 5, 5}).tasks, 10);
  EXPECT_EQ(explained({2, 100, 6, 2, 2}).tasks, 4);  // a head each
  EXPECT_EQ(explained({2, 100, 6, 2, 2, 2}).tasks, 2 + 2 * 3);
  EXPECT_EQ(explained({1, 1, 600, 2, 2, 3}).tasks, 2 * 3);
}

TEST_F(Explain, TellsHowManyThreadsTheWorkIsWorth) {
  eh::Context context(2);
  const auto explained = [&](Index n) {
    const auto x = random_tensor<float>(1, 2, n, kSize);
    return eh::explain<float>(layer({2, n, n, 4, 4}), x, x, {}, context);
  };
  EXPECT_EQ(explained(6).threads, 1);
  EXPECT_EQ(explained(6).projection_threads, 1);
  EXPECT_EQ(explained(300).threads, 2);
  EXPECT_EQ(explained(300).projection_threads, 1);  // 16 to 80 features, 600 rows
  EXPECT_EQ(explained(600).projection_threads, 2);  // if the other one is awake
}

TEST_F(Explain, MemoryIsWhatTheContextHoldsAfterwards) {
  for (const Sizes& sizes : std::vector<Sizes>{{2, 4, 6, 5, 5},
                                               {2, 100, 300, 2, 2},
                                               {1, 1, 600, 2, 2, 3},
                                               {3, 70, 257, 4, 2, 2},
                                               {1, 700, 700, 1, 1}}) {
    const auto attention = layer(sizes);
    eh::Context context(sizes.threads, kAnyWork);
    const auto x = random_tensor<float>(1, sizes.B, sizes.Q, kSize),
               y = random_tensor<float>(2, sizes.B, sizes.K, kSize);
    const auto explanation = eh::explain<float>(attention, x, y, {}, context);
    (void)attention(x, y, y, {}, context);
    EXPECT_GE(context.scratch_bytes(), explanation.scratch_bytes);
    // Beside it there are tables of ranges, whole cache lines, and a tile of a projection a thread.
    EXPECT_LE(context.scratch_bytes(),
              explanation.scratch_bytes + 64 * 32 + 64 * sizes.B * 8 + sizes.threads * 96 * 32 * 4);
  }
}

TEST_F(Explain, NoAttentionTakesNoMemory) {
  auto attention = layer({2, 300, 300, 2, 2});
  Tensor<float, 1> gates(2);
  gates.setConstant(0.0f);
  attention.set_gates(gates);
  eh::Context context(2, kAnyWork);
  const auto x = random_tensor<float>(1, 2, 300, kSize);
  const auto explanation = eh::explain<float>(attention, x, x, {}, context);
  (void)attention(x, x, x, {}, context);
  EXPECT_EQ(explanation.tasks, 0);
  EXPECT_GE(context.scratch_bytes(), explanation.scratch_bytes);
}

TEST_F(Explain, CountsOnlyWhatTheMaskLeaves) {
  const auto all = explained({2, 8, 8, 2, 2});
  EXPECT_EQ(all.projected_queries, 16);
  EXPECT_EQ(all.projected_keys, 16);
  EXPECT_EQ(all.attention_flops, 4.0 * 20 * 2 * 2 * 64);
  const auto masked = explained({2, 8, 8, 2, 2}, {.valid_lens = {3, 8}, .query_lens = {8, 2}});
  EXPECT_EQ(masked.projected_queries, 10);
  EXPECT_EQ(masked.projected_keys, 11);
  EXPECT_EQ(masked.attention_flops, 4.0 * 20 * 2 * (8 * 3 + 2 * 8));
  const auto causal = explained({1, 8, 8, 2, 2}, {.causal = eh::Causal::top_left});
  EXPECT_EQ(causal.attention_flops, 4.0 * 20 * 2 * 36);
  const auto holes = constant_tensor<bool>(false, 1, 1, 8, 8);
  EXPECT_EQ(explained({1, 8, 8, 2, 2}, {.allowed = holes}).attention_flops, 0);
}

TEST_F(Explain, LeavesOutSequencesWithoutHeads) {
  auto attention = layer({2, 8, 8, 2, 2});
  Tensor<float, 2> gates(2, 2);
  gates.setConstant(0.0f);
  gates(1, 1) = 1.0f;
  attention.set_gates(gates);
  const auto x = random_tensor<float>(1, 2, 8, kSize);
  const auto explanation = eh::explain<float>(attention, x, x);
  EXPECT_EQ(explanation.projected_queries, 8);
  EXPECT_EQ(explanation.attention_flops, 4.0 * 20 * 64);
}

TEST_F(Explain, RefusesWhatTheCallRefuses) {
  const eh::MultiHeadAttention<float> lazy({.num_hiddens = 16, .num_heads = 2});
  const auto x = random_tensor<float>(1, 1, 3, 16), wrong = random_tensor<float>(1, 1, 3, 15);
  EXPECT_NE(refusal<std::logic_error>([&] {
              return eh::explain<float>(lazy, x, x);
            }).find("the input size of W_q is not known yet"),
            std::string::npos);
  EXPECT_EQ(refusal([&] { return eh::explain<float>(layer({1, 3, 3, 2, 2}), x, wrong); }),
            "eigenheads: keys has shape [1, 3, 15]; expected [B, K, key_size] = [1, *, 16]");
}

TEST_F(Explain, PrintsALineForEachPart) {
  std::ostringstream out;
  out << explained({1, 1, 600, 2, 2, 3});
  const std::string text = out.str();
  for (const char* part :
       {"instruction set  ",
        "\nattention        6 tasks on 3 threads, keys packed "
        "by each task, which is one block of them, ",
        "\nprojections      1 rows of queries, 600 of keys, on 3 threads, ", "\nscratch memory   "})
    EXPECT_NE(text.find(part), std::string::npos) << text;
}

}  // namespace
