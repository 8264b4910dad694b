// SPDX-License-Identifier: MIT
// Rotary: its frequencies, its table and what it does to pairs, against the formulas in long double, and
// against numpy in float64: tests/golden/make_rotary_golden.py made the references.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/io/npy.hpp>
#include <eigenheads/isa.hpp>
#include <eigenheads/rotary.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::Context, eh::Rotary, eh::RotaryLayout, eh::RotaryOptions;

constexpr auto kLayouts = {RotaryLayout::half_split, RotaryLayout::interleaved};

template <class T>
class RotaryTest : public testing::Test {};
TYPED_TEST_SUITE(RotaryTest, Scalars, ScalarNames);

// 1 to D at position 1.
template <class T>
[[nodiscard]] Tensor<T, 4> count_up(Index D) {
  Tensor<T, 4> x(1, 1, 1, D);
  for (Index i = 0; i < D; ++i) x.data()[i] = static_cast<T>(i + 1);
  return x;
}
template <class T>
void expect_near(const Tensor<T, 4>& y, const std::vector<double>& expected) {
  ASSERT_EQ(y.size(), std::ssize(expected));
  for (Index i = 0; i < y.size(); ++i)
    EXPECT_NEAR(y.data()[i], expected[static_cast<std::size_t>(i)], sizeof(T) == 4 ? 5e-7 : 6e-9);
}

// T2.01
TYPED_TEST(RotaryTest, TurnsThePairsOfEitherLayout) {
  using T = TypeParam;
  const auto turned = [](RotaryLayout layout) {
    return Rotary<T>({.head_size = 4, .layout = layout})(count_up<T>(4), 1);
  };
  expect_near(turned(RotaryLayout::half_split), {-1.98411065, 1.95990067, 2.46237790, 4.01979967});
  expect_near(turned(RotaryLayout::interleaved), {-1.14263966, 1.92207560, 2.95985067, 4.02979950});
}

// T2.02
TYPED_TEST(RotaryTest, PartOfAHeadHasPairsAndFrequenciesOfItsOwn) {
  using T = TypeParam;
  const Rotary<T> rotary({.head_size = 8, .rotated = 4});
  EXPECT_NEAR(rotary.frequencies()[1], 0.01, 1e-17);
  Tensor<T, 4> x = count_up<T>(8);
  x(0, 0, 0, 7) = kNan<T>;  // is not touched
  const Tensor<T, 4> y = rotary(x, 1);
  for (Index i = 4; i < 8; ++i) EXPECT_EQ(bits(y(0, 0, 0, i)), bits(x(0, 0, 0, i)));
  Tensor<T, 4> first(1, 1, 1, 4);
  std::copy_n(y.data(), 4, first.data());
  expect_near(first, {-1.98411065, 1.95990067, 2.46237790, 4.01979967});
}

// T2.03
TYPED_TEST(RotaryTest, APositionBeyondTheTableIsRefusedBeforeAnythingIsWritten) {
  using T = TypeParam;
  const Rotary<T> rotary({.head_size = 4, .max_positions = 8});
  const auto x = random_tensor<T>(1, 2, 1, 2, 4);
  auto y = constant_tensor<T>(T(7), 2, 1, 2, 4);
  const auto at = [&](Index first) {
    return refusal([&] { rotary.forward_into(y, x, std::vector<Index>{0, first}); });
  };
  EXPECT_EQ(at(6), "not refused");
  y = constant_tensor<T>(T(7), 2, 1, 2, 4);
  EXPECT_EQ(at(7),
            "eigenheads: Rotary: the rows of sequence 1 reach position 8; expected positions below "
            "8, max_positions");
  for (const Index first : {Index{-1}, Limits<Index>::min(), Limits<Index>::max()})
    EXPECT_EQ(at(first), "eigenheads: first_positions[1] is " + std::to_string(first) +
                             "; expected 0 to max_positions, 8");
  EXPECT_TRUE(all_are(y, T(7)));
}

// T2.04
TYPED_TEST(RotaryTest, AnglesAreRightAtLargePositions) {
  using T = TypeParam;
  const auto expect = [](Index D, Index position, double cosine, double sine) {
    eh::detail::RotaryRows<T> rows(
        {.head_size = D, .rotated = D});  // of no table: it would be large
    std::vector<T> row(static_cast<std::size_t>(rows.size()));
    rows.write(position, row.data());
    EXPECT_NEAR(row[1], cosine, 0x1p-23) << position;
    EXPECT_NEAR(row[static_cast<std::size_t>(D / 2 + 1)], sine, 0x1p-23) << position;
  };
  expect(32, 1857, 0.306692810, 0.951808552);
  expect(64, 1000003, -0.136176049, -0.990684654);
  const long double angle = 99999999 / std::pow(10000.0L, 1.0L / 32);
  expect(64, 99999999, static_cast<double>(std::cos(angle)), static_cast<double>(std::sin(angle)));
  const Rotary<T> rotary({.head_size = 32});
  EXPECT_NEAR(rotary.cos(1857, 1), 0.306692810, 0x1p-23);
  EXPECT_NEAR(rotary.sin(1857, 1), 0.951808552, 0x1p-23);
}

TYPED_TEST(RotaryTest, EntriesAreThoseOfLongDouble) {
  using T = TypeParam;
  for (const RotaryLayout layout : kLayouts) {
    const Rotary<T> rotary({.head_size = 34, .max_positions = 30000, .layout = layout});
    for (Index position = 0; position < 30000; position += position < 70 ? 1 : 997)
      for (Index i = 0; i < 17; ++i) {
        const long double angle =
            static_cast<long double>(position) / std::pow(10000.0L, 2.0L * i / 34);
        const long double bound =
            0x1p-51L * static_cast<long double>(position) + Limits<T>::epsilon() / 2 + 0x1p-51L;
        ASSERT_LE(std::abs(rotary.cos(position, i) - std::cos(angle)), bound)
            << position << ' ' << i;
        ASSERT_LE(std::abs(rotary.sin(position, i) - std::sin(angle)), bound)
            << position << ' ' << i;
      }
  }
}

[[nodiscard]] std::vector<double> frequencies_of(const RotaryOptions& options) {
  return Rotary<double>(options).frequencies();
}
void expect_ratio(double x, double expected, double bound = 1e-10) {
  EXPECT_LE(std::abs(x / expected - 1), bound) << x << " is not " << expected;
}

// T2.05
TEST(RotaryScalings, Llama3SlowsLongWavesAndKeepsShortOnes) {
  const RotaryOptions plain{.head_size = 64, .max_positions = 1, .base = 500000};
  RotaryOptions scaled = plain;
  scaled.scaling = eh::Llama3Scaling{.factor = 32, .original_positions = 8192};
  const auto w = frequencies_of(plain), s = frequencies_of(scaled);
  for (std::size_t i = 0; i < 15; ++i) EXPECT_EQ(s[i], w[i]);
  expect_ratio(s[15], 1.29054792821e-3);
  expect_ratio(s[16], 4.29556796559e-4);
  expect_ratio(s[17], 9.70828780263e-5);
  for (std::size_t i = 18; i < 32; ++i) EXPECT_EQ(s[i], w[i] / 32);
  expect_ratio(s[31], 9.41830672543e-8);
  scaled.scaling = eh::Llama3Scaling{.factor = 32,
                                     .low_frequency_factor = 4,
                                     .high_frequency_factor = 4,
                                     .original_positions = 8192};
  EXPECT_EQ(
      refusal([&] { return Rotary<float>(scaled); }),
      "eigenheads: Rotary: low_frequency_factor and high_frequency_factor of Llama3Scaling are "
      "4 and 4; expected 0 < low < high");
}

// T2.06
TEST(RotaryScalings, YarnRampsFromKeptToSlowedAndScalesByItsFactor) {
  const RotaryOptions plain{.head_size = 64, .max_positions = 2};
  const auto made = [&](const eh::YarnScaling& scaling) {
    RotaryOptions options = plain;
    options.scaling = scaling;
    return Rotary<double>(options);
  };
  const auto w = frequencies_of(plain);
  const Rotary<double> yarn = made({.factor = 4, .original_positions = 4096});
  const auto& s = yarn.frequencies();
  for (std::size_t i = 0; i <= 10; ++i) EXPECT_EQ(s[i], w[i]);
  expect_ratio(s[10], 0.05623413252);
  expect_ratio(s[15], 9.488517883e-3, 1e-9);
  expect_ratio(s[20], 1.337886702e-3, 1e-9);
  for (std::size_t i = 23; i < 32; ++i) EXPECT_EQ(s[i], w[i] / 4);
  expect_ratio(s[23], 3.33380358e-4, 1e-8);
  expect_ratio(yarn.attention_factor(), 1.138629436, 1e-9);
  EXPECT_EQ(yarn.cos(0, 31), yarn.attention_factor());
  // One that is given replaces the product, and of both mscales the ratio is taken.
  eh::YarnScaling scaling{.factor = 4, .original_positions = 4096, .attention_factor = 1.0};
  EXPECT_EQ(made(scaling).attention_factor(), 1);
  scaling.attention_factor.reset();
  scaling.mscale = scaling.mscale_all_dim = 0.707;
  EXPECT_EQ(made(scaling).attention_factor(), 1);
  scaling.mscale_all_dim = 0.5;
  expect_ratio(made(scaling).attention_factor(),
               (0.0707 * std::log(4.0) + 1) / (0.05 * std::log(4.0) + 1), 1e-14);
}

// T2.07
TEST(RotaryScalings, NtkChangesTheBaseAndADynamicOneOnlyBeyondTheTrainedLength) {
  const auto of = [](Index D, double base, const eh::RotaryScaling& scaling) {
    return frequencies_of({.head_size = D, .max_positions = 1, .base = base, .scaling = scaling});
  };
  const auto expect = [&](const eh::RotaryScaling& scaling, double base) {
    const auto w = of(64, 10000, scaling), expected = of(64, base, {});
    for (std::size_t i = 0; i < 32; ++i) expect_ratio(w[i], expected[i], 1e-11);
  };
  expect(eh::NtkScaling{.factor = 8}, 85550.3758857);
  const auto dynamic = [](Index length) {
    return eh::DynamicNtkScaling{.factor = 2, .original_positions = 2048, .length = length};
  };
  expect(dynamic(4096), 31082.2366672);
  for (const Index length : {1, 512, 2048})
    EXPECT_EQ(of(64, 10000, dynamic(length)), of(64, 10000, {}));
  for (const eh::RotaryScaling& scaling :
       {eh::RotaryScaling(eh::NtkScaling{.factor = 8}), eh::RotaryScaling(dynamic(4096))})
    EXPECT_EQ(refusal([&] { return of(2, 10000, scaling); }),
              "eigenheads: Rotary: rotated is 2; expected 4 or more for NtkScaling, whose base is "
              "multiplied by factor^(rotated / (rotated - 2))");
}

template <class T>
void check_golden(const std::string& name, RotaryOptions options) {
  SCOPED_TRACE(name);
  const auto folder = std::filesystem::path(EIGENHEADS_SOURCE_DIR) / "tests/golden/rotary";
  options.head_size = 32;
  const Rotary<T> rotary(options);
  const auto w = eh::load_npy<double, 1>(folder / name / "frequencies.npy");
  ASSERT_EQ(w.size(), std::ssize(rotary.frequencies()));
  for (Index i = 0; i < w.size(); ++i)
    expect_ratio(rotary.frequencies()[static_cast<std::size_t>(i)], w(i), 1e-14);
  expect_ratio(rotary.attention_factor(),
               eh::load_npy<double, 1>(folder / name / "attention_factor.npy")(0), 1e-15);
  const auto y = rotary(eh::load_npy<T, 4>(folder / "scalings/x.npy"),
                        eh::load_npy<std::int64_t, 1>(folder / "scalings/first.npy"));
  const auto expected = eh::load_npy<double, 4>(folder / name / "y.npy");
  // Numbers of at most 4: two roundings, and those of a cosine and a sine.
  for (Index i = 0; i < y.size(); ++i)
    ASSERT_NEAR(y.data()[i], expected.data()[i], sizeof(T) == 4 ? 1e-6 : 4e-12) << i;
}

TYPED_TEST(RotaryTest, IsNumpysInFloat64) {
  using T = TypeParam;
  const auto scaled = [](const eh::RotaryScaling& scaling) {
    return RotaryOptions{.scaling = scaling};
  };
  check_golden<T>("plain", {});
  check_golden<T>("interleaved", {.layout = RotaryLayout::interleaved});
  check_golden<T>("partial", {.rotated = 12});
  check_golden<T>("partial_interleaved", {.rotated = 12, .layout = RotaryLayout::interleaved});
  check_golden<T>("linear", scaled(eh::LinearScaling{.factor = 4}));
  check_golden<T>("ntk", scaled(eh::NtkScaling{.factor = 8}));
  check_golden<T>("dynamic_ntk", scaled(eh::DynamicNtkScaling{
                                     .factor = 2, .original_positions = 2048, .length = 4096}));
  check_golden<T>("yarn", scaled(eh::YarnScaling{.factor = 4, .original_positions = 4096}));
  check_golden<T>("yarn_untruncated", {.layout = RotaryLayout::interleaved,
                                       .scaling = eh::YarnScaling{.factor = 40,
                                                                  .original_positions = 4096,
                                                                  .mscale = 0.7,
                                                                  .mscale_all_dim = 0.3,
                                                                  .truncate = false}});
  check_golden<T>(
      "llama3",
      {.base = 500000, .scaling = eh::Llama3Scaling{.factor = 8, .original_positions = 8192}});
}

// a b + c, rounded once; of the portable kernels, a compiler's flags say whether once or twice.
template <class T>
[[nodiscard]] testing::AssertionResult is_multiply_add(T got, T a, T b, T c) {
  volatile T product = a * b;
  const T once = std::fma(a, b, c), twice = product + c;
  const bool may_be_twice = eh::instruction_set() == eh::InstructionSet::portable;
  if (bits(got) == bits(once) || (may_be_twice && bits(got) == bits(twice)))
    return testing::AssertionSuccess();
  return testing::AssertionFailure() << got << ", not " << once;
}

// Two roundings a number, which are the same whatever the layout, the size, the place in a register,
// the alignment and the number of threads.
TYPED_TEST(RotaryTest, BitsAreThoseOfTwoWrittenMultiplyAdds) {
  using T = TypeParam;
  const Index B = 2, H = 3, rows = 67;
  Context three(3, kAnyWork);
  for (const Index D : {2, 3, 8, 30, 32, 34, 64, 66, 130})
    for (const Index rotated : {D / 2 * 2, D / 4 * 2})
      for (const RotaryLayout layout : kLayouts) {
        if (rotated == 0) continue;
        const bool is_split = layout == RotaryLayout::half_split;
        const Rotary<T> rotary(
            {.head_size = D, .max_positions = 197, .rotated = rotated, .layout = layout});
        std::vector<T> memory(static_cast<std::size_t>(B * H * rows * D + 1));
        Numbers numbers(static_cast<std::uint64_t>(D));
        for (T& x : memory) x = numbers.symmetric<T>();
        const TensorView<T, 4> x(memory.data() + 1, {B, H, rows, D});
        const std::vector<Index> first{0, 130};
        const Tensor<T, 4> y = rotary(x, first), back = rotary.backward(x, first);
        for (Index b = 0; b < B; ++b)
          for (Index h = 0; h < H; ++h)
            for (Index t = 0; t < rows; ++t)
              for (Index d = 0; d < D; ++d) {
                if (d >= rotated) {
                  ASSERT_EQ(bits(y(b, h, t, d)), bits(x(b, h, t, d)));
                  ASSERT_EQ(bits(back(b, h, t, d)), bits(x(b, h, t, d)));
                } else {
                  const Index half = rotated / 2, i = is_split ? d % half : d / 2;
                  const bool is_first = is_split ? d < half : d % 2 == 0;
                  const Index step = is_split ? half : 1;
                  const T other = x(b, h, t, is_first ? d + step : d - step);
                  const Index position = first[static_cast<std::size_t>(b)] + t;
                  const T c = rotary.cos(position, i), s = rotary.sin(position, i);
                  const T own = x(b, h, t, d) * c;
                  ASSERT_TRUE(is_multiply_add(y(b, h, t, d), other, is_first ? -s : s, own))
                      << D << ' ' << rotated << ' ' << d;
                  ASSERT_TRUE(is_multiply_add(back(b, h, t, d), other, is_first ? s : -s, own))
                      << D << ' ' << rotated << ' ' << d;
                }
              }
        EXPECT_TRUE(same_bits(rotary(x, first, three), y));
        Tensor<T, 4> in_place(B, H, rows, D);
        std::copy_n(x.data(), x.size(), in_place.data());
        rotary.forward_into(in_place, in_place, first, three);
        EXPECT_TRUE(same_bits(in_place, y));
      }
}

// However far both have gone.
TYPED_TEST(RotaryTest, ProductsTellHowFarApartRowsStand) {
  using T = TypeParam;
  const Index D = 64;
  for (const RotaryLayout layout : kLayouts) {
    const Rotary<T> rotary({.head_size = D, .max_positions = 100001, .layout = layout});
    const auto q = random_tensor<T>(1, 1, 1, 1, D), k = random_tensor<T>(2, 1, 1, 1, D);
    const auto product = [&](Index of_query, Index of_key) {
      const Tensor<T, 4> a = rotary(q, of_query), b = rotary(k, of_key);
      double sum = 0;
      for (Index i = 0; i < D; ++i) sum += static_cast<double>(a.data()[i]) * b.data()[i];
      return sum;
    };
    for (const Index apart : {0, 1, 17, 1000}) {
      const double near_begin = product(apart, 0);
      for (const Index place : {1, 100, 4096, 99000})
        EXPECT_NEAR(product(place + apart, place), near_begin,
                    static_cast<double>(D) * (4 * Limits<T>::epsilon() + 0x1p-50 * 1e5));
    }
  }
}

TYPED_TEST(RotaryTest, ANumberThatIsNotFiniteReachesItsOwnRowAlone) {
  using T = TypeParam;
  for (const RotaryLayout layout : kLayouts) {
    const Rotary<T> rotary({.head_size = 40, .layout = layout});
    const auto clean = random_tensor<T>(1, 1, 1, 5, 40);
    Tensor<T, 4> x = clean;
    x(0, 0, 2, 7) = kNan<T>;
    x(0, 0, 3, 39) = kInf<T>;
    const Tensor<T, 4> y = rotary(x, 3), expected = rotary(clean, 3);
    for (const Index t : {0, 1, 4})
      EXPECT_TRUE(same_bits(row(y, Index{0}, Index{0}, t), row(expected, Index{0}, Index{0}, t)));
    EXPECT_TRUE(std::isnan(y(0, 0, 2, 7)));
    EXPECT_FALSE(std::isfinite(y(0, 0, 3, 39)));
  }
}

TYPED_TEST(RotaryTest, TakesEmptyTensors) {
  using T = TypeParam;
  const Rotary<T> rotary({.head_size = 4, .max_positions = 3});
  EXPECT_EQ(rotary(Tensor<T, 4>(0, 2, 9, 4)).size(), 0);
  EXPECT_EQ(rotary(Tensor<T, 4>(2, 0, 3, 4)).size(), 0);
  EXPECT_EQ(rotary(Tensor<T, 4>(2, 2, 0, 4), std::vector<Index>{3, 0}).size(), 0);
}

TEST(RotaryRefusals, SayWhatIsWrong) {
  const auto refused = [](const RotaryOptions& options) {
    const std::string sentence = refusal([&] { return Rotary<float>(options); });
    const std::string start = "eigenheads: Rotary: ";
    return sentence.starts_with(start) ? sentence.substr(start.size()) : sentence;
  };
  EXPECT_EQ(refused({}), "head_size is 0; expected 1 or more");
  EXPECT_EQ(refused({.head_size = 4, .max_positions = 0}),
            "max_positions is 0; expected 1 or more");
  for (const double base : {0.0, -1.0, kInf<double>, kNan<double>})
    EXPECT_NE(refused({.head_size = 4, .base = base}).find("expected a number above 0"),
              std::string::npos);
  for (const double base : {1e-308, 4e-324})
    EXPECT_EQ(refused({.head_size = 128, .base = base}),
              "base is " + eh::detail::number_text(base) +
                  "; expected a number that positions can be divided by");
  EXPECT_EQ(refused({.head_size = 7}),
            "rotated is 7; expected an even number from 2 to head_size, 7");
  for (const Index rotated : {-2, 1, 3, 10})
    EXPECT_EQ(refused({.head_size = 8, .rotated = rotated}),
              "rotated is " + std::to_string(rotated) +
                  "; expected an even number from 2 to head_size, 8");
  EXPECT_NE(refused({.head_size = 8, .max_positions = Limits<Index>::max()})
                .find("more than memory can hold"),
            std::string::npos);
  const auto scaled = [&](const eh::RotaryScaling& scaling) {
    return refused({.head_size = 8, .max_positions = 1, .scaling = scaling});
  };
  EXPECT_EQ(scaled(eh::LinearScaling{.factor = 0.5}),
            "the factor of LinearScaling is 0.5; expected 1 or more");
  EXPECT_EQ(scaled(eh::NtkScaling{.factor = kNan<double>}),
            "the factor of NtkScaling is nan; expected 1 or more");
  EXPECT_EQ(scaled(eh::YarnScaling{.factor = 2}),
            "original_positions of YarnScaling is 0; expected 1 or more, the positions that the "
            "model was trained on");
  EXPECT_EQ(
      scaled(eh::YarnScaling{.factor = 2, .original_positions = 9, .beta_fast = 1}),
      "beta_fast and beta_slow of YarnScaling are 1 and 1; expected beta_fast > beta_slow > 0");
  EXPECT_EQ(scaled(eh::YarnScaling{.factor = 2, .original_positions = 9, .attention_factor = 0.0}),
            "the attention factor of YarnScaling is 0; expected a number above 0");
  for (const double factor : {1e300, 1e-300})
    EXPECT_EQ(refusal([&] {
                return eh::Rotary<float>(
                    {.head_size = 4,
                     .scaling = eh::YarnScaling{
                         .factor = 2, .original_positions = 9, .attention_factor = factor}});
              }),
              "eigenheads: Rotary: the attention factor of YarnScaling is " +
                  eh::detail::number_text(factor) +
                  "; expected a number that the element type has");
  EXPECT_EQ(refused({.head_size = 8,
                     .base = 1,
                     .scaling = eh::YarnScaling{.factor = 2, .original_positions = 9}}),
            "base is 1; expected above 1 for YarnScaling, which divides by its logarithm");
  EXPECT_EQ(
      scaled(eh::DynamicNtkScaling{.factor = 2, .original_positions = 9}),
      "length of DynamicNtkScaling is 0; expected 1 or more, the positions of the sequences to "
      "come");
  const Rotary<float> rotary({.head_size = 4});
  EXPECT_EQ(refusal([&] { return rotary(random_tensor<float>(1, 2, 3, 4, 5)); }),
            "eigenheads: x has shape [2, 3, 4, 5]; expected [B, H, T, head_size] = [*, *, *, 4]");
}

TEST(RotaryText, NamesWhatItIsMadeOf) {
  std::ostringstream out;
  out << Rotary<float>({.head_size = 8, .max_positions = 9, .rotated = 6});
  EXPECT_EQ(out.str(),
            "Rotary(head_size=8, rotated=6, base=10000, max_positions=9, layout=half_split, "
            "scaling=none)");
  out.str("");
  out << Rotary<double>({.head_size = 8,
                         .max_positions = 9,
                         .base = 5e5,
                         .layout = RotaryLayout::interleaved,
                         .scaling = eh::Llama3Scaling{.factor = 2, .original_positions = 8}});
  EXPECT_EQ(out.str(),
            "Rotary(head_size=8, rotated=8, base=5e+05, max_positions=9, layout=interleaved, "
            "scaling=llama3)");
}

}  // namespace
