// SPDX-License-Identifier: MIT
#include <array>
#include <cstdint>
#include <vector>

#include <eigenheads/nn/left_padding.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::Sequences;

// T1.06: attention rows as other libraries make them.
template <class Number>
[[nodiscard]] Tensor<Number, 2> mask_of(const std::vector<std::vector<int>>& rows) {
  Tensor<Number, 2> mask(std::ssize(rows), rows.empty() ? 0 : std::ssize(rows[0]));
  Number* to = mask.data();
  for (const auto& row : rows)
    for (const int number : row) *to++ = static_cast<Number>(number);
  return mask;
}

template <class Number>
class LeftPadding : public testing::Test {};
using MaskNumbers = testing::Types<bool, std::int32_t, std::int64_t, std::uint8_t, float, double>;
TYPED_TEST_SUITE(LeftPadding, MaskNumbers);

TYPED_TEST(LeftPadding, BecomesPackedSequencesThatBeginAt0) {
  const auto mask = mask_of<TypeParam>({{0, 0, 0, 1, 1}, {1, 1, 1, 1, 1}, {0, 0, 0, 0, 0}});
  Tensor<std::int64_t, 2> ids(3, 5);
  for (Index i = 0; i < ids.size(); ++i) ids.data()[i] = 10 + i;
  const auto [packed, sequences] = eh::remove_padding(ids, mask);
  EXPECT_EQ(sequences, (Sequences{2, 5, 0}));
  EXPECT_EQ(std::vector<std::int64_t>(packed.data(), packed.data() + packed.size()),
            (std::vector<std::int64_t>{13, 14, 15, 16, 17, 18, 19}));
}

TYPED_TEST(LeftPadding, WithAHoleIsRefusedByItsRow) {
  const auto mask = mask_of<TypeParam>({{0, 0, 0, 1, 1}, {1, 0, 0, 1, 1}});
  EXPECT_EQ(
      refusal([&] { return eh::remove_padding(Tensor<int, 2>(2, 5), mask); }),
      "eigenheads: attention_mask: row 1 has padding from 1 to 2 between its tokens; expected "
      "padding at the ends alone");
}

TEST(LeftPadding, OnTheRightAndOnBothSidesGoesAsWell) {
  const auto mask = mask_of<int>({{1, 1, 0, 0}, {0, 1, 1, 0}, {0, 0, 0, 1}, {1, 1, 1, 1}});
  const auto x = random_tensor<float>(1, 4, 4, 3);
  const auto [rows, sequences] = eh::remove_padding(x, mask);
  ASSERT_EQ(sequences, (Sequences{2, 2, 1, 4}));
  ASSERT_EQ(rows.dimension(1), 3);
  const std::array<Index, 4> begins{0, 1, 3, 0};
  for (Index b = 0; b < 4; ++b)
    for (Index i = 0; i < sequences.length(b); ++i)
      EXPECT_TRUE(same_bits(row(rows, sequences.begin(b) + i),
                            row(x, b, begins[static_cast<std::size_t>(b)] + i)));
}

TEST(LeftPadding, MayBeAllThereIsOrNothing) {
  EXPECT_EQ(
      eh::remove_padding(Tensor<int, 2>(2, 3), mask_of<int>({{0, 0, 0}, {0, 0, 0}})).sequences,
      (Sequences{0, 0}));
  EXPECT_EQ(eh::remove_padding(Tensor<int, 2>(2, 0), Tensor<int, 2>(2, 0)).sequences,
            (Sequences{0, 0}));
  EXPECT_EQ(eh::remove_padding(Tensor<float, 3>(0, 4, 7), Tensor<int, 2>(0, 4)).sequences.count(),
            0);
}

TEST(LeftPadding, OfOtherNumbersOrAnotherShapeIsRefused) {
  const auto refused = [](const auto& mask) {
    return refusal([&] { return eh::remove_padding(Tensor<int, 2>(2, 3), mask); });
  };
  EXPECT_EQ(refused(mask_of<int>({{0, 1, 1}, {0, 2, 1}})),
            "eigenheads: attention_mask[1, 1] is another number; expected 1 for a token and 0 for "
            "padding");
  auto additive = constant_tensor(0.0f, 2, 3);
  additive(0, 2) = kNan<float>;
  EXPECT_EQ(refused(additive),
            "eigenheads: attention_mask[0, 2] is another number; expected 1 for a token and 0 for "
            "padding");
  EXPECT_EQ(refused(mask_of<int>({{0, 1, 1}})),
            "eigenheads: attention_mask has shape [1, 3]; expected [B, L] = [2, 3]");
}

}  // namespace
