// SPDX-License-Identifier: MIT
// Lengths, in every way to write them. What must not be taken for lengths is in compile_fail/.
#include <cstdint>
#include <string>
#include <type_traits>
#include <vector>

#include <eigenheads/mask.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::Mask, eh::ValidLens;
using Rows = std::vector<std::vector<Index>>;

// Lengths [B, 1] of rank 1, or [B, Q] of rank 2.
void expect_lens(const ValidLens& lens, int rank, const Rows& rows) {
  ASSERT_EQ(lens.rank(), rank);
  ASSERT_EQ(lens.sequences(), static_cast<Index>(rows.size()));
  for (std::size_t b = 0; b < rows.size(); ++b) {
    if (rank == 2) {
      ASSERT_EQ(lens.queries(), static_cast<Index>(rows[b].size()));
    }
    for (std::size_t q = 0; q < rows[b].size(); ++q)
      EXPECT_EQ(lens.length(static_cast<Index>(b), static_cast<Index>(q)), rows[b][q]);
  }
}

TEST(ValidLens, OneLengthForEachSequence) {
  const int three = 3;
  expect_lens({3, 2}, 1, {{3}, {2}});
  expect_lens({3}, 1, {{3}});
  expect_lens({three, 2u, std::int64_t{0}}, 1, {{3}, {2}, {0}});
  expect_lens(Mask{.valid_lens = {3, 2}}.valid_lens, 1, {{3}, {2}});
  expect_lens(Mask{.valid_lens = {3}}.valid_lens, 1, {{3}});
}

TEST(ValidLens, OneLengthForEachQuery) {
  const int three = 3;
  expect_lens({{1, 4}, {2, 2}}, 2, {{1, 4}, {2, 2}});
  expect_lens({{1}, {2}}, 2, {{1}, {2}});
  expect_lens({{three}}, 2, {{3}});
  expect_lens({{1, 2, 3}}, 2, {{1, 2, 3}});
  expect_lens(ValidLens{{1}, {2}}, 2, {{1}, {2}});
  expect_lens(ValidLens{{3}}, 2, {{3}});
  expect_lens(Mask{.valid_lens = {{1, 4}, {2, 2}}}.valid_lens, 2, {{1, 4}, {2, 2}});
  expect_lens(Mask{.valid_lens = {{1}, {2}}}.valid_lens, 2, {{1}, {2}});
  expect_lens(Mask{.valid_lens = {{3}}}.valid_lens, 2, {{3}});
}

template <class Length>
class ValidLensOf : public testing::Test {};
using Integers = testing::Types<std::int16_t, std::int32_t, Index, unsigned, std::uint64_t>;
struct IntegerNames {
  template <class T>
  static std::string GetName(int) {
    return (std::is_signed_v<T> ? "Int" : "Unsigned") + std::to_string(8 * sizeof(T));
  }
};
TYPED_TEST_SUITE(ValidLensOf, Integers, IntegerNames);

TYPED_TEST(ValidLensOf, Vectors) {
  using Length = TypeParam;
  const std::vector<Length> lens{3, 2}, none;
  const std::vector<std::vector<Length>> rows{{1, 4}, {2, 2}}, no_queries{{}, {}};
  expect_lens(lens, 1, {{3}, {2}});
  expect_lens(rows, 2, {{1, 4}, {2, 2}});
  expect_lens(no_queries, 2, {{}, {}});
  expect_lens(none, 1, {});  // no sequences, which is not "no lengths"
  expect_lens(Mask{.valid_lens = lens}.valid_lens, 1, {{3}, {2}});
  expect_lens(Mask{.valid_lens = rows}.valid_lens, 2, {{1, 4}, {2, 2}});
  expect_lens(Mask{.valid_lens = none}.valid_lens, 1, {});
}

TYPED_TEST(ValidLensOf, Tensors) {
  using Length = TypeParam;
  Tensor<Length, 1> lens(2);
  lens.setValues({3, 2});
  Tensor<Length, 2> rows(2, 3);
  rows.setValues({{1, 4, 2}, {2, 0, 5}});
  expect_lens(lens, 1, {{3}, {2}});
  expect_lens(rows, 2, {{1, 4, 2}, {2, 0, 5}});
  expect_lens(Eigen::TensorMap<const Tensor<Length, 1>>(lens.data(), 2), 1, {{3}, {2}});
  expect_lens(TensorView(rows), 2, {{1, 4, 2}, {2, 0, 5}});
  expect_lens(Eigen::VectorX<Length>(Eigen::Map<const Eigen::VectorX<Length>>(lens.data(), 2)), 1,
              {{3}, {2}});
  expect_lens(Tensor<Length, 1>(0), 1, {});
  expect_lens(Tensor<Length, 2>(2, 0), 2, {{}, {}});
  expect_lens(Mask{.valid_lens = rows}.valid_lens, 2, {{1, 4, 2}, {2, 0, 5}});
}

TEST(ValidLens, NoneIsNoRestriction) {
  EXPECT_EQ(ValidLens().rank(), 0);
  EXPECT_EQ(ValidLens{}.rank(), 0);
  EXPECT_EQ(Mask{}.valid_lens.rank(), 0);
  EXPECT_EQ(Mask{.valid_lens = {}}.valid_lens.rank(), 0);
  EXPECT_NO_THROW(ValidLens().require_fits(2, 3, 4));
  EXPECT_NO_THROW(ValidLens().require_fits("query_lens", 2, 3, ""));
}

TEST(ValidLens, RepeatInterleaveRepeatsEverySequence) {
  expect_lens(ValidLens{3, 2}.repeat_interleave(3), 1, {{3}, {3}, {3}, {2}, {2}, {2}});
  expect_lens(ValidLens{{1, 4}, {2, 2}}.repeat_interleave(2), 2, {{1, 4}, {1, 4}, {2, 2}, {2, 2}});
  expect_lens(ValidLens{{1}, {2}}.repeat_interleave(1), 2, {{1}, {2}});
  EXPECT_EQ(ValidLens().repeat_interleave(3).rank(), 0);
  expect_lens(ValidLens{3, 2}.repeat_interleave(0), 1, {});
  const ValidLens none = ValidLens{{1, 4}, {2, 2}}.repeat_interleave(0);
  expect_lens(none, 2, {});
  EXPECT_EQ(none.queries(), 2);
  expect_lens(ValidLens(Rows{{}, {}}).repeat_interleave(2), 2, {{}, {}, {}, {}});
  EXPECT_EQ(refusal([] { return ValidLens{3}.repeat_interleave(-1); }),
            "eigenheads: repeat_interleave: n is -1; expected 0 or more");
}

// Nor of any other rank than 1 or 2.
static_assert(!std::is_constructible_v<ValidLens, const Tensor<Index, 3>&>);
static_assert(!std::is_constructible_v<ValidLens, const Tensor<Index, 0>&>);

TEST(ValidLens, RaggedRowsAreRefused) {
  EXPECT_EQ(refusal([] { return ValidLens{{1, 2}, {3}}; }),
            "eigenheads: valid_lens: row 1 has 1 lengths; expected 2 as in the rows before it");
  EXPECT_EQ(refusal([] { return ValidLens{{}, {3}}; }),
            "eigenheads: valid_lens: row 1 has 1 lengths; expected 0 as in the rows before it");
  EXPECT_EQ(refusal([] { return ValidLens(Rows{{1}, {2}, {}}); }),
            "eigenheads: valid_lens: row 2 has 0 lengths; expected 1 as in the rows before it");
}

TEST(ValidLens, ATensorOfNegativeLengthIsRefused) {
  const std::vector<Index> lengths(8, 1);
  EXPECT_EQ(refusal([&] { return ValidLens(TensorView<Index, 1>(&lengths[4], {-3})); }),
            "eigenheads: valid_lens has a negative dimension: [-3]");
}

// The last test: what is not refused here reads from address 0.
TEST(ValidLens, ANullPointerIsRefused) {
  EXPECT_EQ(refusal([] { return ValidLens(TensorView<Index, 1>(nullptr, {3})); }),
            "eigenheads: valid_lens has shape [3] but its data pointer is null");
}

}  // namespace
