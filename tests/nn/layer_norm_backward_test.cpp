// SPDX-License-Identifier: MIT
// Gradients of LayerNorm and RmsNorm: against differences and PyTorch; one order of sums, packed or
// padded, on any number of threads and for every instruction set; rows that are left out.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/io/npy.hpp>
#include <eigenheads/nn/layer_norm.hpp>

#include "../counting.hpp"
#include "nn_kernels.hpp"

namespace {

using namespace support;
using eh::LayerNorm, eh::RmsNorm, eh::NormGradients, eh::Sequences;

template <class T>
class LayerNormBackwardTest : public testing::Test {};
TYPED_TEST_SUITE(LayerNormBackwardTest, Scalars, ScalarNames);

// visit(norm) for one of either kind, with random parameters.
template <class T, class Visit>
void for_each_norm(Index size, const Visit& visit, double eps = 1e-5) {
  LayerNorm<T> norm({.size = size, .eps = eps});
  norm.set_weight(random_tensor<T>(1, size));
  norm.set_bias(random_tensor<T>(2, size));
  visit(std::as_const(norm));
  RmsNorm<T> rms({.size = size, .eps = eps});
  rms.set_weight(random_tensor<T>(3, size));
  visit(std::as_const(rms));
}

template <class T>
testing::AssertionResult same_gradients(const NormGradients<T>& a, const NormGradients<T>& b) {
  if (auto same = same_bits(a.weight, b.weight); !same) return same << ", of the weight";
  if (auto same = same_bits(a.bias, b.bias); !same) return same << ", of the bias";
  return testing::AssertionSuccess();
}

// T4.03
TYPED_TEST(LayerNormBackwardTest, OfAConstantRowAndOfOneToFour) {
  using T = TypeParam;
  const auto expect = [](double eps, bool is_constant, const std::array<double, 4>& expected) {
    const LayerNorm<T> norm({.size = 4, .eps = eps});
    Tensor<T, 1> x(4), grad_y(4);
    for (Index i = 0; i < 4; ++i) {
      x(i) = is_constant ? T(3) : T(i + 1);
      grad_y(i) = i == 0 ? T(1) : T(0);
    }
    NormGradients<T> gradients;
    const Tensor<T, 1> dx = norm.backward(x, grad_y, gradients);
    double sum = 0, most = 0;
    for (Index i = 0; i < 4; ++i) {
      const double value = expected[static_cast<std::size_t>(i)];
      EXPECT_NEAR(dx(i), value, 2e-7 * std::abs(value) + 2e-8);
      sum += static_cast<double>(dx(i));
      most = std::max(most, std::abs(static_cast<double>(dx(i))));
    }
    EXPECT_LE(std::abs(sum), 2 * static_cast<double>(Limits<T>::epsilon()) * most);
  };
  expect(1e-5, true, {237.170825, -79.0569415, -79.0569415, -79.0569415});
  expect(1e-30, false, {0.268328157, -0.357770876, -0.0894427191, 0.178885438});
}

TEST(LayerNormBackward, IsThatOfDifferences) {
  constexpr Index N = 3, E = 21;
  const double step = 0x1p-16;
  const auto x = random_tensor<double>(4, N, E), grad_y = random_tensor<double>(5, N, E);
  for_each_norm<double>(E, [&](const auto& norm) {
    const auto loss = [&](const auto& layer, const Tensor<double, 2>& input) {
      const Tensor<double, 2> y = layer(input);
      double sum = 0;
      for (Index i = 0; i < y.size(); ++i) sum += y.data()[i] * grad_y.data()[i];
      return sum;
    };
    NormGradients<double> gradients;
    const Tensor<double, 2> dx = norm.backward(x, grad_y, gradients);
    for (Index i = 0; i < x.size(); ++i) {
      Tensor<double, 2> above = x, below = x;
      above.data()[i] += step;
      below.data()[i] -= step;
      EXPECT_NEAR(dx.data()[i], (loss(norm, above) - loss(norm, below)) / (2 * step), 1e-7);
    }
    auto changed = norm;
    std::vector<std::vector<double>> differences;
    changed.for_each_parameter([&](const auto& parameter) {
      differences.emplace_back();
      for (Index i = 0; i < parameter.size(); ++i) {
        const double value = parameter.get(i);
        parameter.set(i, value + step);
        const double above = loss(changed, x);
        parameter.set(i, value - step);
        differences.back().push_back((above - loss(changed, x)) / (2 * step));
        parameter.set(i, value);
      }
    });
    std::size_t number = 0;
    gradients.for_each_parameter([&](const auto& gradient) {
      for (Index i = 0; i < E; ++i)
        EXPECT_NEAR(gradient.get(i), differences[number][static_cast<std::size_t>(i)], 1e-7);
      ++number;
    });
    EXPECT_EQ(number, differences.size());
  });
}

TYPED_TEST(LayerNormBackwardTest, AsPyTorch) {
  using T = TypeParam;
  const std::string folder = std::string(EIGENHEADS_SOURCE_DIR) + "/tests/golden/elementwise/";
  const auto load = [&]<int Rank>(const std::string& name) {
    const auto from = eh::load_npy<float, Rank>(folder + name + ".npy");
    Tensor<T, Rank> to(from.dimensions());
    std::copy_n(from.data(), from.size(), to.data());
    return to;
  };
  const auto x = load.template operator()<3>("x"), grad_y = load.template operator()<3>("grad_y");
  const auto weight = load.template operator()<1>("weight"),
             bias = load.template operator()<1>("bias");
  const auto expect_near = [&](const auto& got, const std::string& name, double units) {
    const auto exact = eh::load_npy<double, eh::rank_of<decltype(got)>>(folder + name + ".npy");
    for (Index i = 0; i < got.size(); ++i)
      EXPECT_NEAR(
          got.data()[i], exact.data()[i],
          units * static_cast<double>(Limits<T>::epsilon()) * (1 + std::abs(exact.data()[i])))
          << name << ' ' << i;
  };
  LayerNorm<T> norm({.size = 37});
  norm.set_weight(weight);
  norm.set_bias(bias);
  NormGradients<T> gradients;
  expect_near(norm(x), "layer_norm", 8);
  expect_near(norm.backward(x, grad_y, gradients), "layer_norm_grad_x", 16);
  expect_near(gradients.weight, "layer_norm_grad_weight", 32);
  expect_near(gradients.bias, "layer_norm_grad_bias", 32);
  RmsNorm<T> rms({.size = 37, .eps = 1e-5});
  rms.set_weight(weight);
  expect_near(rms(x), "rms_norm", 8);
  expect_near(rms.backward(x, grad_y, gradients), "rms_norm_grad_x", 16);
  expect_near(gradients.weight, "rms_norm_grad_weight", 32);
  EXPECT_EQ(gradients.bias.size(), 0);
}

// Self-contained blocks of 256 rows of a sequence, added up one by one; and no other order on more
// threads.
TYPED_TEST(LayerNormBackwardTest, SumsAreThoseOfTheBlocksOneByOne) {
  using T = TypeParam;
  for (const Index E : {5, 16, 70, 130})
    for_each_norm<T>(E, [&](const auto& norm) {
      constexpr Index B = 2, L = 600, block = 256;
      const auto x = random_tensor<T>(6, B, L, E), grad_y = random_tensor<T>(7, B, L, E);
      NormGradients<T> whole, blocks, threaded;
      const Tensor<T, 3> dx = norm.backward(x, grad_y, whole);
      for (Index b = 0; b < B; ++b)
        for (Index first = 0; first < L; first += block) {
          const std::array<Index, 2> shape{std::min(block, L - first), E};
          const Index at = (b * L + first) * E;
          const Tensor<T, 2> part =
              norm.backward(TensorView<T, 2>(x.data() + at, shape),
                            TensorView<T, 2>(grad_y.data() + at, shape), blocks, b + first > 0);
          ASSERT_TRUE(same_bits(part, TensorView<T, 2>(dx.data() + at, shape)));
        }
      EXPECT_TRUE(same_gradients(blocks, whole)) << E;
      eh::Context three(3, kAnyWork);
      EXPECT_TRUE(same_bits(norm.backward(x, grad_y, threaded, false, three), dx));
      EXPECT_TRUE(same_gradients(threaded, whole)) << E;
    });
}

// With NaN in the padding, whose gradient is 0, and sequences of no row.
TYPED_TEST(LayerNormBackwardTest, PackedRowsGiveTheBitsOfPaddedOnes) {
  using T = TypeParam;
  constexpr Index E = 19;
  const Sequences sequences{300, 0, 7, 513};
  const auto x = random_tensor<T>(8, sequences.rows(), E);
  auto grad_y = random_tensor<T>(9, sequences.rows(), E);
  std::fill_n(grad_y.data() + 3 * E, E, T(0));  // and a row among the others
  Tensor<T, 3> padded_x = eh::unpack(x, sequences), padded_grad = eh::unpack(grad_y, sequences);
  for (Index b = 0; b < sequences.count(); ++b)
    std::fill(padded_x.data() + (b * 513 + sequences.length(b)) * E,
              padded_x.data() + (b + 1) * 513 * E, kNan<T>);
  for_each_norm<T>(E, [&](const auto& norm) {
    NormGradients<T> packed, padded;
    const Tensor<T, 2> dx = norm.backward(x, sequences, grad_y, packed);
    const Tensor<T, 3> padded_dx = norm.backward(padded_x, padded_grad, padded);
    EXPECT_TRUE(same_gradients(packed, padded));
    EXPECT_TRUE(same_bits(eh::unpack(dx, sequences), padded_dx));
    EXPECT_TRUE(all_are(row(dx, 3), T(0)));
  });
}

TYPED_TEST(LayerNormBackwardTest, TheSameBitsForEveryInstructionSetAndWhatIsAddedInPlace) {
  using T = TypeParam;
  for (const Index E : {1, 3, 16, 33, 100, 385}) {
    constexpr Index N = 37;
    const auto x = random_tensor<T>(10, N, E), grad_y = random_tensor<T>(11, N, E);
    const auto weight = random_tensor<T>(12, E), added = random_tensor<T>(13, N, E);
    for (const bool is_centered : {true, false}) {
      std::vector<Tensor<T, 2>> fused;
      for_each_nn_kernels<T>([&](const auto& kernels, eh::InstructionSet set) {
        if (set == eh::InstructionSet::portable) return;
        Tensor<T, 2> dx(N, E), joined = added, sums(2, E);
        std::vector<T> shifts(N), scales(N);
        std::vector<std::uint8_t> kept(N);
        eh::detail::NormBackwardCall<T> call{.x = x.data(),
                                             .grad_y = grad_y.data(),
                                             .weight = weight.data(),
                                             .added = nullptr,
                                             .grad_x = dx.data(),
                                             .shifts = shifts.data(),
                                             .scales = scales.data(),
                                             .kept = kept.data(),
                                             .size = E,
                                             .eps = T(1e-6),
                                             .is_centered = is_centered};
        kernels.norm_backward_rows(call, {0, N});
        call.added = call.grad_x = joined.data();
        kernels.norm_backward_rows(call, {0, N});
        sums.setZero();
        kernels.norm_parameter_sums(call, {0, N}, {0, E}, sums.data(), sums.data() + E);
        for (Index i = 0; i < dx.size(); ++i)
          ASSERT_NEAR(joined.data()[i], dx.data()[i] + added.data()[i],
                      2 * Limits<T>::epsilon() * (1 + std::abs(dx.data()[i])));
        if (fused.empty()) fused = {dx, joined, sums};
        EXPECT_TRUE(same_bits(dx, fused[0])) << eh::name_of(set) << ' ' << E;
        EXPECT_TRUE(same_bits(joined, fused[1])) << eh::name_of(set) << ' ' << E;
        EXPECT_TRUE(same_bits(sums, fused[2])) << eh::name_of(set) << ' ' << E;
      });
    }
  }
}

TYPED_TEST(LayerNormBackwardTest, WhatDoesNotFitIsRefusedAndNothingWritten) {
  using T = TypeParam;
  const LayerNorm<T> norm({.size = 4});
  const auto x = random_tensor<T>(14, 946, 4), other = random_tensor<T>(15, 946, 5);
  NormGradients<T> gradients, wrong{.weight = constant_tensor<T>(T(7), 3), .bias = {}};
  EXPECT_EQ(refusal([&] { return norm.backward(x, Sequences{144, 288, 512}, x, gradients); }),
            "eigenheads: x has 946 rows; expected 944, those of its 3 sequences");
  EXPECT_EQ(refusal([&] { return norm.backward(x, other, gradients); }),
            "eigenheads: grad_y has shape [946, 5]; expected that of x = [946, 4]");
  EXPECT_EQ(gradients.weight.size(), 0);
  EXPECT_EQ(refusal([&] { return norm.backward(x, x, wrong, true); }),
            "eigenheads: gradients: weight has shape [3]; expected [size] = [4]");
  EXPECT_TRUE(all_are(wrong.weight, T(7)));
  EXPECT_NE(refusal<std::logic_error>([&] { return LayerNorm<T>({}).backward(x, x, gradients); }),
            "not refused");
}

TYPED_TEST(LayerNormBackwardTest, WithoutParametersAndWithoutRows) {
  using T = TypeParam;
  const auto x = random_tensor<T>(16, 5, 20), grad_y = random_tensor<T>(17, 5, 20);
  NormGradients<T> gradients, none;
  const auto dx = LayerNorm<T>({.size = 20}).backward(x, grad_y, gradients);
  EXPECT_TRUE(same_bits(LayerNorm<T>({.size = 20, .affine = false}).backward(x, grad_y, none), dx));
  EXPECT_EQ(none.weight.size() + none.bias.size(), 0);
  const Tensor<T, 3> empty(2, 0, 20);
  EXPECT_EQ(LayerNorm<T>({.size = 20}).backward(empty, empty, gradients).size(), 0);
  EXPECT_TRUE(all_are(gradients.weight, T(0)));
}

TYPED_TEST(LayerNormBackwardTest, AWarmCallAllocatesNothing) {
  using T = TypeParam;
  const LayerNorm<T> norm({.size = 24});
  const auto x = random_tensor<T>(18, 100, 24);
  Tensor<T, 2> dx(100, 24);
  NormGradients<T> gradients;
  eh::Context context;
  const auto call = [&] {
    norm.fit(gradients, false);
    norm.backward({.x = x.data(), .grad_y = x.data(), .sequences = {1, 100}, .grad_x = dx.data()},
                  gradients, false, context);
  };
  call();
  EXPECT_EQ(counted(call).allocations, 0);
}

}  // namespace
