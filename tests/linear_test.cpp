// SPDX-License-Identifier: MIT
// y = x W^T + b: its weights are the same everywhere, its rows do not know each other.
#include <array>
#include <sstream>
#include <string>
#include <vector>

#include <eigenheads/linear.hpp>

#include "support.hpp"
#include "textbook.hpp"

namespace {

using namespace support;
using eh::Linear;

template <class T>
class LinearTest : public testing::Test {
 protected:
  // Whole numbers: every sum of their products is exact, in whatever order.
  template <class... Lengths>
  static auto whole(std::uint64_t seed, Lengths... lengths) {
    auto x = random_tensor<T>(seed, lengths...);
    Numbers numbers(seed);
    for (Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<T>(numbers.between(-9, 9));
    return x;
  }
  static Linear<T> whole_layer(Index in, Index out) {
    Linear<T> linear({.in_features = in, .out_features = out, .bias = true});
    linear.set_weight(whole(1, out, in));
    linear.set_bias(whole(2, out));
    return linear;
  }
};
TYPED_TEST_SUITE(LinearTest, Scalars, ScalarNames);

// Philox, FNV-1a and Xavier's bound, computed apart in Python.
TYPED_TEST(LinearTest, TheSeededWeightsAreTheseNumbers) {
  using T = TypeParam;
  const Linear<T> linear({.in_features = 5, .out_features = 3}, 2026, "W_q");
  constexpr std::array<double, 15> expected{
      -0x1.5788ea8c4ad49p-2, 0x1.46c63483fa3fdp-4,  0x1.15d0f96c2963fp-2,  -0x1.3082c7a4226aep-1,
      -0x1.b10359265a1b8p-1, 0x1.a9d8148fb4433p-2,  -0x1.6e3d35acc903ap-5, 0x1.402fb3ee40abap-1,
      -0x1.9e7ab6a17f2ffp-2, 0x1.1f67249d6394cp-2,  0x1.b9eddf471d9c5p-1,  -0x1.94cf9796c611ap-1,
      0x1.5a77d1b167efep-4,  -0x1.0281e993178c1p-1, 0x1.3a7596afaac38p-3};
  const Tensor<T, 2> weight = linear.weight();
  ASSERT_EQ(TensorView(weight).dimensions(), (std::array<Index, 2>{3, 5}));
  for (std::size_t i = 0; i < expected.size(); ++i)
    EXPECT_EQ(weight.data()[i], static_cast<T>(expected[i])) << i;

  const Tensor<T, 2> large =
      Linear<T>({.in_features = 48, .out_features = 64}, 2026, "W_q").weight();
  std::uint64_t digest = 0xcbf29ce484222325;
  for (Index i = 0; i < large.size(); ++i)
    digest = (digest ^ std::bit_cast<decltype(bits(T{}))>(large.data()[i])) * 0x100000001b3;
  EXPECT_EQ(digest, sizeof(T) == 4 ? 0xe632f56e77de8c19 : 0x3fcadf14d346ab94);
}

TYPED_TEST(LinearTest, TheWeightsFillXaviersInterval) {
  using T = TypeParam;
  const Tensor<T, 2> weight = Linear<T>({.in_features = 300, .out_features = 200}, 1).weight();
  const double bound = std::sqrt(6.0 / 500);
  double sum = 0, most = 0;
  for (Index i = 0; i < weight.size(); ++i) {
    sum += static_cast<double>(weight.data()[i]);
    most = std::max(most, std::abs(static_cast<double>(weight.data()[i])));
  }
  EXPECT_LE(most, bound * (1 + static_cast<double>(Limits<T>::epsilon())));
  EXPECT_GT(most, 0.999 * bound);
  EXPECT_NEAR(sum / 60000, 0, 5 * bound / std::sqrt(3.0 * 60000));
}

TYPED_TEST(LinearTest, SeedAndNameGiveOtherWeightsAndLazinessTheSame) {
  using T = TypeParam;
  const eh::LinearOptions options{.in_features = 7, .out_features = 4, .bias = true};
  const Linear<T> eager(options, 5, "W_k");
  EXPECT_FALSE(same_bits(eager.weight(), Linear<T>(options, 6, "W_k").weight()));
  EXPECT_FALSE(same_bits(eager.weight(), Linear<T>(options, 5, "W_v").weight()));
  EXPECT_TRUE(all_are(eager.bias(), 0));

  const auto x = random_tensor<T>(1, 3, 7);
  Linear<T> lazy({.out_features = 4, .bias = true}, 5, "W_k");
  EXPECT_TRUE(lazy.is_lazy());
  EXPECT_EQ(lazy.in_features(), 0);
  EXPECT_TRUE(same_bits(lazy(x), eager(x)));
  EXPECT_FALSE(lazy.is_lazy());
  EXPECT_EQ(lazy.in_features(), 7);
  EXPECT_TRUE(same_bits(lazy.weight(), eager.weight()));
  Linear<T> initialized({.out_features = 4}, 5, "W_k");
  initialized.initialize(7);
  initialized.initialize(7);  // again changes nothing
  EXPECT_TRUE(same_bits(initialized.weight(), eager.weight()));
}

TYPED_TEST(LinearTest, ItIsTheSumOfProductsAndTheBiasInEveryRank) {
  using T = TypeParam;
  for (const Index in : {1, 2, 3, 16, 17, 64, 65, 1025, 2049})
    for (const Index out : {1, 3, 5, 9, 16, 17, 20, 33}) {
      const Linear<T> linear = this->whole_layer(in, out);
      const Tensor<T, 2> weight = linear.weight();
      const auto expect = [&](const auto& x) {
        const auto y = linear(x);
        ASSERT_EQ(y.size(), x.size() / in * out);
        EXPECT_EQ(TensorView(y).dimensions().back(), out);
        for (Index i = 0; i < y.size(); ++i) {
          T sum = linear.bias()(i % out);
          for (Index j = 0; j < in; ++j) sum += x.data()[i / out * in + j] * weight(i % out, j);
          ASSERT_EQ(y.data()[i], sum) << in << ' ' << out << ' ' << i;
        }
      };
      expect(this->whole(3, in));
      expect(this->whole(4, 5, in));
      expect(this->whole(5, 2, 3, in));
      expect(this->whole(6, 2, 1, 4, in));
    }
}

TYPED_TEST(LinearTest, ItIsAsExactAsOneChainOfSums) {
  using T = TypeParam;
  using W = Wide<T>;
  constexpr Index in = 257, out = 9;
  const Linear<T> linear({.in_features = in, .out_features = out}, 3);
  const auto x = random_tensor<T>(8, 6, in);
  const Tensor<T, 2> weight = linear.weight();
  Tensor<W, 2> exact(6, out), bound(6, out);
  for (Index r = 0; r < 6; ++r)
    for (Index o = 0; o < out; ++o) {
      exact(r, o) = bound(r, o) = 0;
      for (Index i = 0; i < in; ++i) {
        exact(r, o) += W(x(r, i)) * W(weight(o, i));
        bound(r, o) += std::abs(W(x(r, i)) * W(weight(o, i))) * W(in) * W(Limits<T>::epsilon());
      }
    }
  EXPECT_TRUE(within(linear(x), exact, bound));
}

TYPED_TEST(LinearTest, ARowsBitsAreItsOwn) {
  using T = TypeParam;
  const Linear<T> linear({.in_features = 19, .out_features = 21, .bias = true}, 1);
  const auto x = random_tensor<T>(2, 13, 19);
  const Tensor<T, 2> y = linear(x);
  for (Index r = 0; r < 13; ++r) EXPECT_TRUE(same_bits(linear(row(x, r)), row(y, r)));
  for (const int threads : {1, 2, 3}) {
    eh::Context context(threads, kAnyWork);
    EXPECT_TRUE(same_bits(linear(x, context), y));
  }
}

// So a head gated to zero and a head cut away give the same bits.
TYPED_TEST(LinearTest, AnInputOfZeroIsAsIfItWereNotThere) {
  using T = TypeParam;
  Linear<T> linear({.in_features = 9, .out_features = 5, .bias = true}, 1),
      without({.in_features = 6, .out_features = 5, .bias = true});
  linear.set_bias(random_tensor<T>(2, 5));
  without.set_bias(linear.bias());
  const Tensor<T, 2> weight = linear.weight();
  auto x = random_tensor<T>(3, 9);
  Tensor<T, 2> kept_weight(5, 6);
  Tensor<T, 1> kept_x(6);
  for (Index i = 0; i < 9; ++i) {
    const Index kept = i < 3 ? i : i - 3;
    if (i >= 3 && i < 6) {
      x(i) = 0;
    } else {
      kept_x(kept) = x(i);
      for (Index o = 0; o < 5; ++o) kept_weight(o, kept) = weight(o, i);
    }
  }
  without.set_weight(kept_weight);
  EXPECT_TRUE(same_bits(linear(x), without(kept_x)));
}

TYPED_TEST(LinearTest, NoRowsGiveNoRows) {
  using T = TypeParam;
  const Linear<T> linear({.in_features = 3, .out_features = 2});
  const Tensor<T, 3> y = linear(TensorView<T, 3>(nullptr, {4, 0, 3}));
  EXPECT_EQ(TensorView(y).dimensions(), (std::array<Index, 3>{4, 0, 2}));
}

TYPED_TEST(LinearTest, WeightAndBiasAreWhatTheyWereSetTo) {
  using T = TypeParam;
  const auto weight = random_tensor<T>(1, 4, 7);
  const auto bias = random_tensor<T>(2, 4);
  Linear<T> linear({.out_features = 4, .bias = true});
  linear.set_weight(weight);  // gives a lazy layer its size
  linear.set_bias(bias);
  EXPECT_EQ(linear.in_features(), 7);
  EXPECT_TRUE(same_bits(linear.weight(), weight));
  EXPECT_TRUE(same_bits(linear.bias(), bias));
  Linear<T> copy = linear;
  copy.set_weight(constant_tensor<T>(1, 4, 7));
  linear.set_bias(linear.bias());
  EXPECT_TRUE(same_bits(linear.weight(), weight));
  EXPECT_TRUE(same_bits(linear.bias(), bias));
}

TYPED_TEST(LinearTest, PrintsAsPyTorchDoes) {
  using T = TypeParam;
  std::ostringstream out;
  out << std::hex << Linear<T>({.in_features = 100, .out_features = 20}) << '\n'
      << Linear<T>({.out_features = 100, .bias = true});
  EXPECT_EQ(out.str(),
            "Linear(in_features=100, out_features=20, bias=False)\n"
            "LazyLinear(in_features=0, out_features=100, bias=True)");
}

}  // namespace
