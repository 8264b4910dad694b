// SPDX-License-Identifier: MIT
// Where packed sequences begin and end, and the ways from padding and back.
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/sequences.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::Sequences;

TEST(Sequences, SayWhereEachBeginsAndHowLongItIs) {
  const Sequences sequences{3, 0, 2};
  EXPECT_EQ(sequences.count(), 3);
  EXPECT_EQ(sequences.rows(), 5);
  EXPECT_EQ(sequences.longest(), 3);
  EXPECT_EQ(sequences.offsets(), (std::vector<Index>{0, 3, 3, 5}));
  EXPECT_EQ(sequences.begin(1), 3);
  EXPECT_EQ(sequences.length(1), 0);
  EXPECT_EQ(sequences.length(2), 2);
  EXPECT_EQ(sequences, Sequences(std::vector<std::int16_t>{3, 0, 2}));
  EXPECT_EQ(sequences, Sequences::from_offsets(std::vector<std::int32_t>{0, 3, 3, 5}));
}

TEST(Sequences, MayBeNone) {
  for (const Sequences& none : {Sequences(), Sequences(std::vector<Index>{}),
                                Sequences::from_offsets(std::vector<Index>{0})}) {
    EXPECT_EQ(none.count(), 0);
    EXPECT_EQ(none.rows(), 0);
    EXPECT_EQ(none.longest(), 0);
  }
}

TEST(Sequences, AreNoneWhereTheyWereMovedFrom) {
  Sequences from{3, 2};
  const Sequences to = std::move(from);
  EXPECT_EQ(to.rows(), 5);
  EXPECT_EQ(from.count(), 0);  // NOLINT
  EXPECT_EQ(from.rows(), 0);
  from = Sequences{4};
  EXPECT_EQ(from.rows(), 4);
}

TEST(Sequences, RefuseWhatAreNoLengthsOrOffsets) {
  EXPECT_EQ(refusal([] { return Sequences{3, -1}; }),
            "eigenheads: Sequences: length 1 is -1; expected 0 or more");
  const auto most = std::numeric_limits<Index>::max();
  EXPECT_EQ(refusal([&] { return Sequences{Index{1}, most}; }),
            "eigenheads: Sequences: the lengths add up to more than " + std::to_string(most) +
                ", the most rows that can be counted");
  using Offsets = std::vector<Index>;
  for (const Offsets& offsets : {Offsets{}, Offsets{1, 2}})
    EXPECT_EQ(refusal([&] { return Sequences::from_offsets(offsets); }),
              "eigenheads: Sequences: the offsets do not begin with 0; expected where each "
              "sequence begins, and "
              "at the end the number of rows");
  EXPECT_EQ(refusal([] { return Sequences::from_offsets(Offsets{0, 4, 3}); }),
            "eigenheads: Sequences: offset 2 is 3; expected 4, the one before it, or more");
}

TEST(Sequences, PackLeavesOutThePaddingAndUnpackPutsZerosThere) {
  const Sequences sequences{2, 3, 0, 1};
  Tensor<float, 3> padded(4, 4, 2);
  for (Index i = 0; i < padded.size(); ++i) padded.data()[i] = static_cast<float>(i + 1);
  const Tensor<float, 2> packed = eh::pack(padded, sequences);
  ASSERT_EQ(packed.dimension(0), 6);
  ASSERT_EQ(packed.dimension(1), 2);
  const std::vector<float> expected{1, 2, 3, 4, 9, 10, 11, 12, 13, 14, 25, 26};
  EXPECT_EQ(std::vector<float>(packed.data(), packed.data() + packed.size()), expected);

  const std::vector<Index> lens{2, 3, 0, 1};
  EXPECT_TRUE(same_bits(eh::pack(padded, lens), packed));
  const Tensor<float, 3> unpacked = eh::unpack(packed, lens);
  ASSERT_EQ(unpacked.dimension(0), 4);
  ASSERT_EQ(unpacked.dimension(1), 3);
  for (Index b = 0; b < 4; ++b)
    for (Index t = 0; t < 3; ++t)
      for (Index e = 0; e < 2; ++e)
        EXPECT_EQ(unpacked(b, t, e), t < sequences.length(b) ? padded(b, t, e) : 0);
}

TEST(Sequences, PackAndUnpackRefuseRowsThatDoNotAddUp) {
  const Tensor<float, 3> padded(2, 4, 2);
  const Tensor<float, 2> packed(5, 2);
  EXPECT_EQ(refusal([&] { return eh::pack(padded, {1, 2, 3}); }),
            "eigenheads: padded has shape [2, 4, 2]; expected [B, L, E] = [3, *, *]");
  EXPECT_EQ(refusal([&] { return eh::pack(padded, {1, 5}); }),
            "eigenheads: padded has room for 4 rows a sequence; expected 5 or more, the longest "
            "sequence");
  EXPECT_EQ(refusal([&] { return eh::unpack(packed, {4, 2}); }),
            "eigenheads: packed has 5 rows; expected 6, those of its 2 sequences");
  EXPECT_EQ(refusal([&] { return eh::unpack(eh::TensorView<float, 2>(nullptr, {3, 2}), {3}); }),
            "eigenheads: packed has shape [3, 2] but its data pointer is null");
}

}  // namespace
