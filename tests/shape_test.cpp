// SPDX-License-Identifier: MIT
// What is refused at every door, and the sentence it is refused with.
#include <any>
#include <array>
#include <stdexcept>

#include <eigenheads/shape.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::any_size, eh::require_shape;

template <class T>
class ShapeTest : public testing::Test {
 protected:
  static std::string refused(TensorView<T, 3> x, const std::array<Index, 3>& expected) {
    return refusal([&] {
      require_shape("queries", x, "[B, Q, query_size]", expected);
      return 0;
    });
  }
};
TYPED_TEST_SUITE(ShapeTest, Scalars, ScalarNames);

TYPED_TEST(ShapeTest, AFittingShapeIsAccepted) {
  const auto x = random_tensor<TypeParam>(1, 2, 4, 99);
  for (const auto& expected :
       {std::array<Index, 3>{2, 4, 99}, {any_size, 4, any_size}, {any_size, any_size, any_size}})
    EXPECT_EQ(this->refused(x, expected), "not refused");
}

TYPED_TEST(ShapeTest, EveryAxisIsCheckedAndTheSentenceNamesAllOfThem) {
  const auto x = random_tensor<TypeParam>(1, 2, 4, 99);
  const std::string start = "eigenheads: queries has shape [2, 4, 99]; expected [B, Q, query_size]";
  EXPECT_EQ(this->refused(x, {any_size, any_size, 100}), start + " = [*, *, 100]");
  EXPECT_EQ(this->refused(x, {3, 4, 99}), start + " = [3, 4, 99]");
  EXPECT_EQ(this->refused(x, {2, 0, any_size}), start + " = [2, 0, *]");
}

TYPED_TEST(ShapeTest, ANullPointerIsFineOnlyWhereThereIsNothing) {
  const auto at_null = [&](const std::array<Index, 3>& shape) {
    return this->refused({nullptr, shape}, {any_size, any_size, any_size});
  };
  EXPECT_EQ(at_null({2, 4, 0}), "not refused");
  EXPECT_EQ(at_null({2, 4, 1}),
            "eigenheads: queries has shape [2, 4, 1] but its data pointer is null");
}

// A dimension of -1 is not "any", but the mistake that the sentence is about.
TYPED_TEST(ShapeTest, ANegativeDimensionIsRefusedAndShown) {
  TypeParam x = 0;
  EXPECT_EQ(this->refused({&x, {2, -3, 4}}, {any_size, any_size, any_size}),
            "eigenheads: queries has a negative dimension: [2, -3, 4]");
  EXPECT_EQ(this->refused({&x, {2, -1, 4}}, {any_size, any_size, any_size}),
            "eigenheads: queries has a negative dimension: [2, -1, 4]");
  EXPECT_EQ(this->refused({&x, {2, -1, 4}}, {any_size, 5, any_size}),
            "eigenheads: queries has shape [2, -1, 4]; expected [B, Q, query_size] = [*, 5, *]");
}

TYPED_TEST(ShapeTest, AShapeThatNoMemoryHoldsIsRefused) {
  using T = TypeParam;
  constexpr Index most = Limits<Index>::max() / static_cast<Index>(sizeof(T)), big = Index{1} << 40;
  T x = 0;
  const auto of_shape = [&](const std::array<Index, 3>& shape) {
    return this->refused({&x, shape}, {any_size, any_size, any_size});
  };
  EXPECT_EQ(of_shape({1, most, 1}), "not refused");
  EXPECT_EQ(of_shape({1, most + 1, 1}), "eigenheads: queries would have shape [1, " +
                                            std::to_string(most + 1) +
                                            ", 1], more than memory can hold");
  EXPECT_EQ(of_shape({big, big, 1}),
            "eigenheads: queries would have shape [1099511627776, 1099511627776, 1], more than "
            "memory can hold");
}

// There is nothing to hold, but loops count the other lengths, and their product overflows.
TYPED_TEST(ShapeTest, AShapeWithoutElementsIsRefusedIfItsOtherLengthsAreTooMany) {
  TypeParam x = 0;
  constexpr Index big = Index{1} << 40;
  EXPECT_EQ(this->refused({&x, {big, 1, 0}}, {any_size, any_size, any_size}), "not refused");
  EXPECT_EQ(this->refused({&x, {big, big, 0}}, {any_size, any_size, any_size}),
            "eigenheads: queries would have shape [1099511627776, 1099511627776, 0], more than "
            "memory can hold");
}

TYPED_TEST(ShapeTest, AResultIsMadeWithTheShapeThatWasAskedFor) {
  using T = TypeParam;
  const auto x = eh::detail::make_tensor<T>("output", std::array<Index, 3>{2, 0, 5});
  EXPECT_EQ(TensorView(x).dimensions(), (std::array<Index, 3>{2, 0, 5}));
  EXPECT_EQ(refusal([] {
              return eh::detail::make_tensor<T>("output",
                                                std::array{Index{1} << 32, Index{1} << 31});
            }),
            "eigenheads: output would have shape [4294967296, 2147483648], more than memory can "
            "hold");
}

TYPED_TEST(ShapeTest, AResultMayTouchAnInputButNotOverlapIt) {
  using T = TypeParam;
  const auto memory = random_tensor<T>(1, 30);
  const auto part = [&](Index begin, Index size) {
    return TensorView<T, 1>(memory.data() + begin, {size});
  };
  const auto refused = [](TensorView<T, 1> result, TensorView<T, 1> input) {
    return refusal([&] {
      eh::detail::require_disjoint("output", result, "keys", input);
      return 0;
    });
  };
  const std::string overlap = "eigenheads: output overlaps keys in memory";
  EXPECT_EQ(refused(part(0, 10), part(10, 20)), "not refused");
  EXPECT_EQ(refused(part(10, 20), part(0, 10)), "not refused");
  EXPECT_EQ(refused(part(0, 11), part(10, 20)), overlap);
  EXPECT_EQ(refused(part(10, 20), part(0, 11)), overlap);
  EXPECT_EQ(refused(part(0, 30), part(7, 1)), overlap);
  EXPECT_EQ(refused(part(7, 1), part(0, 30)), overlap);
  EXPECT_EQ(refused(part(5, 5), part(5, 5)), overlap);
  EXPECT_EQ(refused(part(7, 0), part(0, 30)), "not refused");
}

TEST(Shape, OtherExceptionsKeepTheirSentence) {
  EXPECT_EQ(refusal<std::logic_error>([] {
              eh::detail::raise<std::logic_error>("not ready");
              return 0;
            }),
            "eigenheads: not ready");
}

// With std::any, which is not one of the library's names.
TEST(AnySize, IsFoundUnderTwoUsingDirectives) {
  using namespace std;         // NOLINT
  using namespace eigenheads;  // NOLINT
  const any nothing;
  EXPECT_FALSE(nothing.has_value());
  EXPECT_EQ(any_size, -1);
}

}  // namespace
