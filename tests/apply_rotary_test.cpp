// SPDX-License-Identifier: MIT
// apply_rotary: ONNX's cases of its operator RotaryEmbedding, and what is refused.
// tests/golden/make_rotary_golden.py made the references.
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>

#include <eigenheads/apply_rotary.hpp>
#include <eigenheads/io/npy.hpp>
#include <eigenheads/rotary.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::ApplyRotaryOptions, eh::Context, eh::RotaryLayout;

constexpr auto kInterleaved = RotaryLayout::interleaved;

template <class T>
class ApplyRotary : public testing::Test {};
TYPED_TEST_SUITE(ApplyRotary, Scalars, ScalarNames);

struct OnnxCase {
  std::string name;
  ApplyRotaryOptions options;
};

template <class T, int Rank>
void check(const OnnxCase& given) {
  SCOPED_TRACE(given.name);
  const auto folder =
      std::filesystem::path(EIGENHEADS_SOURCE_DIR) / "tests/golden/rotary" / given.name;
  const auto x = eh::load_npy<T, Rank>(folder / "x.npy");
  const auto applied = [&](const ApplyRotaryOptions& options) -> Tensor<T, Rank> {
    if (std::filesystem::exists(folder / "positions.npy"))
      return eh::apply_rotary(x, eh::load_npy<T, 2>(folder / "cos.npy"),
                              eh::load_npy<T, 2>(folder / "sin.npy"),
                              eh::load_npy<std::int64_t, 2>(folder / "positions.npy"), options);
    return eh::apply_rotary(x, eh::load_npy<T, 3>(folder / "cos.npy"),
                            eh::load_npy<T, 3>(folder / "sin.npy"), options);
  };
  const Tensor<T, Rank> y = applied(given.options);
  const auto expected = eh::load_npy<float, Rank>(folder / "y.npy");
  ASSERT_EQ(y.dimensions(), expected.dimensions());
  // Of numbers on [0, 1): ours is rounded twice, ONNX's in float three times, to at most 2.
  for (Index i = 0; i < y.size(); ++i)
    ASSERT_NEAR(y.data()[i], expected.data()[i], 4 * Limits<float>::epsilon()) << i;
  Context three(3, kAnyWork);
  ApplyRotaryOptions on_three = given.options;
  on_three.context = three;
  EXPECT_TRUE(same_bits(applied(on_three), y));
}

TYPED_TEST(ApplyRotary, IsOnnxsInAllOfItsCases) {
  using T = TypeParam;
  check<T, 4>({"onnx", {}});
  check<T, 3>({"onnx_3d_input", {.num_heads = 4}});
  check<T, 4>({"onnx_interleaved", {.layout = kInterleaved}});
  check<T, 4>({"onnx_no_position_ids", {}});
  check<T, 4>({"onnx_no_position_ids_interleaved", {.layout = kInterleaved}});
  check<T, 4>({"onnx_no_position_ids_rotary_dim", {}});
  check<T, 4>({"onnx_with_interleaved_rotary_dim", {.layout = kInterleaved}});
  check<T, 4>({"onnx_with_rotary_dim", {}});
}

// Tables of a Rotary, in either layout, of heads apart and side by side.
TYPED_TEST(ApplyRotary, HasTheBitsOfARotaryAndTheWayBack) {
  using T = TypeParam;
  const Index B = 2, H = 3, rows = 70, D = 40;
  for (const RotaryLayout layout : {RotaryLayout::half_split, kInterleaved}) {
    const eh::Rotary<T> rotary(
        {.head_size = D, .max_positions = rows, .rotated = 36, .layout = layout});
    Tensor<T, 2> cos(rows, 18), sin(rows, 18);
    for (Index p = 0; p < rows; ++p)
      for (Index i = 0; i < 18; ++i) {
        cos(p, i) = rotary.cos(p, i);
        sin(p, i) = rotary.sin(p, i);
      }
    const auto x = random_tensor<T>(1, B, H, rows, D);
    EXPECT_TRUE(same_bits(eh::apply_rotary(x, cos, sin, {.layout = layout}), rotary(x)));
    EXPECT_TRUE(same_bits(eh::apply_rotary(x, cos, sin, {.layout = layout, .is_inverse = true}),
                          rotary.backward(x)));
    Tensor<std::uint16_t, 2> backwards(B, rows);
    for (Index i = 0; i < backwards.size(); ++i)
      backwards.data()[i] = static_cast<std::uint16_t>(rows - 1 - i % rows);
    const Tensor<T, 4> y = eh::apply_rotary(x, cos, sin, backwards, {.layout = layout});
    Tensor<T, 3> together(B, rows, H * D);
    for (Index b = 0; b < B; ++b)
      for (Index t = 0; t < rows; ++t)
        for (Index i = 0; i < H * D; ++i) together(b, t, i) = x(b, i / D, t, i % D);
    const Tensor<T, 3> z =
        eh::apply_rotary(together, cos, sin, backwards, {.layout = layout, .num_heads = H});
    for (Index b = 0; b < B; ++b)
      for (Index h = 0; h < H; ++h)
        for (Index t = 0; t < rows; ++t) {
          Tensor<T, 4> one(1, 1, 1, D);
          for (Index d = 0; d < D; ++d) {
            one.data()[d] = x(b, h, t, d);
            ASSERT_EQ(bits(z(b, t, h * D + d)), bits(y(b, h, t, d)));
          }
          const Tensor<T, 4> expected = rotary(one, rows - 1 - t);
          for (Index d = 0; d < D; ++d)
            ASSERT_EQ(bits(y(b, h, t, d)), bits(expected.data()[d])) << t << ' ' << d;
        }
  }
}

// T2.03
TYPED_TEST(ApplyRotary, APositionThatTheTablesDoNotHaveIsRefused) {
  using T = TypeParam;
  const auto x = random_tensor<T>(1, 1, 2, 3, 4);
  const auto cos = random_tensor<T>(2, 8, 2), sin = random_tensor<T>(3, 8, 2);
  for (const std::int64_t position : {std::int64_t{8}, std::int64_t{-1},
                                      Limits<std::int64_t>::min(), Limits<std::int64_t>::max()}) {
    Tensor<std::int64_t, 2> positions(1, 3);
    positions.setValues({{0, 7, position}});
    EXPECT_EQ(refusal([&] { return eh::apply_rotary(x, cos, sin, positions); }),
              "eigenheads: apply_rotary: positions[0, 2] is " + std::to_string(position) +
                  "; expected 0 or more and below 8, the rows of the tables");
  }
  EXPECT_EQ(
      refusal([&] { return eh::apply_rotary(random_tensor<T>(1, 1, 2, 9, 4), cos, sin); }),
      "eigenheads: apply_rotary: x reaches position 8; expected positions below 8, the rows of "
      "the tables");
}

TEST(ApplyRotaryRefusals, SayWhatDoesNotFit) {
  const auto x = random_tensor<float>(1, 2, 3, 4, 6);
  const auto refused = [&](const auto& cos, const auto& sin, const ApplyRotaryOptions& options) {
    return refusal([&] { return eh::apply_rotary(x, cos, sin, options); });
  };
  const auto table = [](auto... sizes) { return random_tensor<float>(2, sizes...); };
  EXPECT_EQ(
      refused(table(9, 4), table(9, 4), {}),
      "eigenheads: apply_rotary: the tables have 4 columns; expected at most 3, half of a head "
      "of size 6");
  EXPECT_EQ(refused(table(9, 3), table(9, 2), {}),
            "eigenheads: sin has shape [9, 2]; expected cos's = [9, 3]");
  EXPECT_EQ(refused(table(2, 5, 3), table(2, 5, 3), {}),
            "eigenheads: cos has shape [2, 5, 3]; expected [B, T, rotated / 2] = [2, 4, *]");
  EXPECT_EQ(refused(table(9, 3), table(9, 3), {.num_heads = 2}),
            "eigenheads: x has shape [2, 3, 4, 6]; expected [B, H, T, D] = [*, 2, *, *]");
  for (const Index num_heads : {0, -1, 5})
    EXPECT_EQ(refusal([&] {
                return eh::apply_rotary(random_tensor<float>(1, 2, 4, 6), table(9, 1), table(9, 1),
                                        {.num_heads = num_heads});
              }),
              "eigenheads: apply_rotary: num_heads is " + std::to_string(num_heads) +
                  "; expected a divisor of the last axis of x, 6");
  Tensor<int, 2> positions(2, 3);
  positions.setZero();
  EXPECT_EQ(refusal([&] { return eh::apply_rotary(x, table(9, 3), table(9, 3), positions); }),
            "eigenheads: positions has shape [2, 3]; expected [B, T] = [2, 4]");
}

}  // namespace
