// SPDX-License-Identifier: MIT
// Who takes part in a call, without a layer.
#include <gtest/gtest.h>
#include <vector>

#include <eigenheads/context.hpp>
#include <eigenheads/layer/participation.hpp>

#include "../support.hpp"

namespace {

using namespace eigenheads::detail;
using eigenheads::Index, eigenheads::Mask, eigenheads::BoundMask, eigenheads::Tensor;
using Ranges = std::vector<std::pair<Index, Index>>;

Ranges ranges(std::span<const Range> of) {
  Ranges result;
  for (const Range& range : of) result.emplace_back(range.begin, range.end);
  return result;
}

// Two sequences of 5 queries and 7 keys, 4 heads of 3 numbers over 2 key/value heads.
class ParticipationTest : public testing::Test {
 protected:
  static constexpr AttentionShape kShape{2, 4, 2, 5, 7, 3, 3};

  Participation of(const Mask& mask, Mode mode) {
    mask_ = mask;
    bound_.emplace(mask_, kShape.B, kShape.Q, kShape.K, kShape.H);
    return participation<float>({kShape, *bound_, heads_, gates_, mode}, frame_);
  }
  void set_gates(const std::vector<std::vector<float>>& rows) {
    Tensor<float, 2> gates(static_cast<Index>(rows.size()), kShape.H);
    for (Index b = 0; b < gates.dimension(0); ++b)
      for (Index h = 0; h < kShape.H; ++h)
        gates(b, h) = rows[static_cast<std::size_t>(b)][static_cast<std::size_t>(h)];
    gates_.set(gates, kShape.H);
  }
  // The heads that read key/value head g in sequence b.
  static std::vector<Index> readers(const HeadTable& table, Index b, Index g) {
    std::vector<Index> heads;
    for (Index i = 0; i < table.count(kShape, b, g); ++i)
      heads.push_back(table.head(kShape, b, g, i));
    return heads;
  }

  HeadSet heads_{4, 2};
  HeadGates<float> gates_;
  eigenheads::Context context_;
  Frame frame_{context_};
  Mask mask_;
  std::optional<BoundMask> bound_;
};

TEST_F(ParticipationTest, WithoutMaskAndGatesEverythingDoes) {
  for (const Mode mode : {Mode::inference, Mode::weights, Mode::training}) {
    const Participation part = of({}, mode);
    EXPECT_EQ(ranges(part.queries), (Ranges{{0, 10}}));
    EXPECT_EQ(ranges(part.keys), (Ranges{{0, 14}}));
    EXPECT_EQ(ranges(part.columns), (Ranges{{0, 12}}));
    EXPECT_EQ(ranges(part.kv_columns), (Ranges{{0, 6}}));
    EXPECT_EQ(part.heads.begin, nullptr);
    EXPECT_EQ(readers(part.heads, 1, 1), (std::vector<Index>{2, 3}));
    ASSERT_EQ(part.outputs.size(), 1u);
    EXPECT_EQ(ranges(part.outputs[0].rows), (Ranges{{0, 10}}));
    EXPECT_EQ(ranges(part.outputs[0].inputs), (Ranges{{0, 12}}));
  }
}

TEST_F(ParticipationTest, AMaskLeavesRowsOut) {
  const Participation part =
      of({.valid_lens = {3, 7}, .window = {}, .query_lens = {2, 5}}, Mode::training);
  EXPECT_EQ(ranges(part.queries), (Ranges{{0, 2}, {5, 10}}));
  EXPECT_EQ(ranges(part.keys), (Ranges{{0, 3}, {7, 14}}));
  ASSERT_EQ(part.outputs.size(), 1u);
  EXPECT_EQ(ranges(part.outputs[0].rows), (Ranges{{0, 2}, {5, 10}}));
}

TEST_F(ParticipationTest, AClosedHeadCostsNothingInInference) {
  set_gates({{1, 0, 0, 0}});
  const Participation part = of({}, Mode::inference);
  EXPECT_EQ(ranges(part.columns), (Ranges{{0, 3}}));
  EXPECT_EQ(ranges(part.kv_columns), (Ranges{{0, 3}}));  // nobody reads key/value head 1
  EXPECT_EQ(readers(part.heads, 0, 0), (std::vector<Index>{0}));
  EXPECT_EQ(readers(part.heads, 0, 1), (std::vector<Index>{}));
  ASSERT_EQ(part.outputs.size(), 1u);
  EXPECT_EQ(ranges(part.outputs[0].inputs), (Ranges{{0, 3}}));
}

TEST_F(ParticipationTest, AClosedHeadTakesPartWhereItIsLookedAt) {
  set_gates({{1, 0, 0, 0}});
  for (const Mode mode : {Mode::weights, Mode::training}) {
    const Participation part = of({}, mode);
    EXPECT_EQ(ranges(part.columns), (Ranges{{0, 12}}));
    EXPECT_EQ(readers(part.heads, 0, 1), (std::vector<Index>{2, 3}));
    // But nothing of it reaches the output.
    EXPECT_EQ(ranges(part.outputs[0].inputs), (Ranges{{0, 3}}));
  }
}

TEST_F(ParticipationTest, SequencesWithOtherGatesAreOtherGroups) {
  set_gates({{1, 1, 0, 1}, {0, 0, 0, 0}});
  const Participation part = of({}, Mode::inference);
  EXPECT_EQ(ranges(part.queries), (Ranges{{0, 5}}));  // the second has no head
  EXPECT_EQ(ranges(part.keys), (Ranges{{0, 7}}));
  EXPECT_EQ(ranges(part.columns), (Ranges{{0, 6}, {9, 12}}));
  EXPECT_EQ(readers(part.heads, 0, 1), (std::vector<Index>{3}));
  EXPECT_EQ(readers(part.heads, 1, 0), (std::vector<Index>{}));
  ASSERT_EQ(part.outputs.size(), 2u);
  EXPECT_EQ(ranges(part.outputs[0].rows), (Ranges{{0, 5}}));
  EXPECT_EQ(ranges(part.outputs[0].inputs), (Ranges{{0, 6}, {9, 12}}));
  EXPECT_EQ(ranges(part.outputs[1].rows), (Ranges{{5, 10}}));
  EXPECT_TRUE(part.outputs[1].inputs.empty());
}

TEST_F(ParticipationTest, WhatPruningLeftIsCalledByItsOriginalNumbers) {
  heads_ = HeadSet(8, 2);
  heads_ = heads_.part(heads_.without({0, 3, 5, 6}));
  const Participation part = of({}, Mode::inference);
  EXPECT_EQ(readers(part.heads, 1, 0), (std::vector<Index>{0, 1}));
  EXPECT_EQ(part.heads.original(0), 1);
  EXPECT_EQ(part.heads.original(3), 7);
}

}  // namespace
