// SPDX-License-Identifier: MIT
// Optimizers compute what their papers and PyTorch say, continue from a checkpoint to the bit, and
// refuse gradients that are not the layer's.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <eigenheads/multi_head_attention.hpp>
#include <eigenheads/train/optim.hpp>

#include "support.hpp"
#include "textbook.hpp"

namespace {

using namespace support;
using eh::Adam, eh::Linear, eh::LinearGradients, eh::MultiHeadAttention, eh::Parameter, eh::Sgd;

template <class T>
[[nodiscard]] std::span<const T> elements(const Tensor<T, 1>& x) {
  return {x.data(), static_cast<std::size_t>(x.size())};
}

template <class T>
struct AttentionGradients {
  LinearGradients<T> W_q{}, W_k{}, W_v{}, W_o{};

  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") {
    const std::string start(prefix);
    W_q.for_each_parameter(visit, start + "W_q.");
    W_k.for_each_parameter(visit, start + "W_k.");
    W_v.for_each_parameter(visit, start + "W_v.");
    W_o.for_each_parameter(visit, start + "W_o.");
  }
  template <class Visitor>
  void for_each_parameter(Visitor&& visit, std::string_view prefix = "") const {
    const std::string start(prefix);
    W_q.for_each_parameter(visit, start + "W_q.");
    W_k.for_each_parameter(visit, start + "W_k.");
    W_v.for_each_parameter(visit, start + "W_v.");
    W_o.for_each_parameter(visit, start + "W_o.");
  }
};

// Two layers that go by one name.
template <class T>
struct Twins {
  LinearGradients<T> a, b;
  void for_each_parameter(auto&& visit, std::string_view prefix) const {
    a.for_each_parameter(visit, prefix);
    b.for_each_parameter(visit, prefix);
  }
  void for_each_parameter(auto&& visit, std::string_view prefix) {
    a.for_each_parameter(visit, prefix);
    b.for_each_parameter(visit, prefix);
  }
};

template <class T>
[[nodiscard]] LinearGradients<T> random_gradients(const Linear<T>& linear, std::uint64_t seed) {
  LinearGradients<T> gradients{random_tensor<T>(seed, linear.out_features(), linear.in_features())};
  if (linear.has_bias()) gradients.bias = random_tensor<T>(seed + 1000, linear.out_features());
  return gradients;
}
template <class T>
[[nodiscard]] AttentionGradients<T> random_gradients(const MultiHeadAttention<T>& layer,
                                                     std::uint64_t seed) {
  return {random_gradients(layer.W_q, 10 * seed), random_gradients(layer.W_k, 10 * seed + 1),
          random_gradients(layer.W_v, 10 * seed + 2), random_gradients(layer.W_o, 10 * seed + 3)};
}

// All numbers of a module, in order.
template <class T, class Module>
[[nodiscard]] std::vector<T> numbers_of(const Module& module) {
  std::vector<T> all;
  module.for_each_parameter([&](const auto& parameter) {
    std::vector<T> values(static_cast<std::size_t>(parameter.size()));
    parameter.copy_to(values);
    all.insert(all.end(), values.begin(), values.end());
  });
  return all;
}
template <class T>
[[nodiscard]] testing::AssertionResult same_numbers(const std::vector<T>& a,
                                                    const std::vector<T>& b) {
  return same_bits(TensorView<T, 1>(a.data(), {static_cast<Index>(a.size())}),
                   TensorView<T, 1>(b.data(), {static_cast<Index>(b.size())}));
}

template <class Optimizer>
[[nodiscard]] auto states_of(const Optimizer& optimizer) {
  std::vector<eh::OptimizerState<typename Optimizer::T>> states;
  optimizer.for_each_state([&](const std::string& name, auto values) {
    states.push_back({name, {values.begin(), values.end()}});
  });
  return states;
}

template <class T>
class OptimTest : public testing::Test {
 protected:
  // The parameter and the gradients that make_torch_numbers, below, has.
  static Tensor<T, 1> start() {
    Tensor<T, 1> x(6);
    for (Index i = 0; i < 6; ++i) x(i) = static_cast<T>(7 * i % 11 - 5) / 8;
    return x;
  }
  static Tensor<T, 1> gradient(Index step) {
    Tensor<T, 1> g(6);
    for (Index i = 0; i < 6; ++i) g(i) = static_cast<T>((5 * i + 3 * step) % 13 - 6) / 16;
    return g;
  }
  template <class Optimizer>
  static Tensor<T, 1> after(Optimizer optimizer, Index steps) {
    Tensor<T, 1> x = start();
    for (Index step = 1; step <= steps; ++step) {
      optimizer.begin_step();
      optimizer.update(Parameter<T>("x", x), elements(gradient(step)));
    }
    return x;
  }
  template <class Optimizer>
  static void expect_near(const Optimizer& optimizer, const std::array<double, 6>& expected) {
    const Tensor<T, 1> x = after(optimizer, 5);
    for (Index i = 0; i < 6; ++i)
      EXPECT_NEAR(static_cast<double>(x(i)), expected[static_cast<std::size_t>(i)],
                  8 * static_cast<double>(Limits<T>::epsilon()))
          << i;
  }
};
TYPED_TEST_SUITE(OptimTest, Scalars, ScalarNames);

// ---- Their formulas ----------------------------------------------------------------------------

/* PyTorch 2.15.0:
import torch
def after(make):
    x = torch.tensor([(7 * i % 11 - 5) / 8 for i in range(6)], dtype=torch.float64,
requires_grad=True) optimizer = make([x]) for step in range(1, 6): x.grad = torch.tensor([((5 * i +
3 * step) % 13 - 6) / 16 for i in range(6)], dtype=torch.float64) optimizer.step() print(",
".join(v.hex() for v in x.tolist())) after(lambda p: torch.optim.SGD(p, lr=0.1)) after(lambda p:
torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.05)) after(lambda p: torch.optim.SGD(p,
lr=0.1, momentum=0.9, weight_decay=0.05, nesterov=True)) after(lambda p: torch.optim.Adam(p,
lr=0.02)) after(lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.5, 0.9), eps=0.01)) after(lambda p:
torch.optim.AdamW(p, lr=0.02, weight_decay=0.1))
*/
TYPED_TEST(OptimTest, TheyAreTorchs) {
  using T = TypeParam;
  this->expect_near(Sgd<T>({.learning_rate = 0.1}),
                    {-0x1.4666666666666p-1, 0x1.f333333333333p-3, -0x1.0000000000000p-2,
                     0x1.4333333333333p-1, 0x1.199999999999ap-3, -0x1.6cccccccccccdp-2});
  this->expect_near(Sgd<T>({.learning_rate = 0.1, .momentum = 0.9, .weight_decay = 0.05}),
                    {-0x1.362428f6504b3p-1, 0x1.6ed1fe57c72cdp-3, -0x1.7c14ca8c6a56cp-4,
                     0x1.1bfd51d48d4f5p-1, 0x1.67abbd899b9c4p-3, -0x1.29c6725f603b4p-2});
  this->expect_near(
      Sgd<T>({.learning_rate = 0.1, .momentum = 0.9, .weight_decay = 0.05, .nesterov = true}),
      {-0x1.3624f2a919820p-1, 0x1.67f7544a17fc8p-3, -0x1.b5b05667e5cedp-4, 0x1.1b89867f4ffe2p-1,
       0x1.6f7e6a833f38ep-3, -0x1.17dc2e08459c2p-2});
  this->expect_near(Adam<T>({.learning_rate = 0.02}),
                    {-0x1.364c2db562aacp-1, 0x1.af59d923c1348p-3, -0x1.8d14af9fb8c85p-3,
                     0x1.4038dd352d4c9p-1, 0x1.03ce246c85518p-3, -0x1.56d44691a8e89p-2});
  this->expect_near(Adam<T>({.learning_rate = 0.02, .beta1 = 0.5, .beta2 = 0.9, .epsilon = 0.01}),
                    {-0x1.3fe068d91a451p-1, 0x1.cf8495b8eab68p-3, -0x1.cd3808fcfc1edp-3,
                     0x1.4095c87eb17aap-1, 0x1.0a75b2e2fa9adp-3, -0x1.6a7dd730206fcp-2});
  this->expect_near(Adam<T>({.learning_rate = 0.02, .weight_decay = 0.1}),
                    {-0x1.333813231c632p-1, 0x1.aad17d9ef4880p-3, -0x1.88addf6e9d96ap-3,
                     0x1.3d014089dc577p-1, 0x1.016c8839ba4efp-3, -0x1.53488b79d972fp-2});
}

// As the papers write them, in twice the precision.
TYPED_TEST(OptimTest, TheyAreThePapers) {
  using T = TypeParam;
  using W = Wide<T>;
  constexpr Index steps = 40;
  const W lr = W(1) / 64, b1 = W(7) / 8, b2 = W(31) / 32, eps = W(1) / 1024, decay = W(1) / 8;
  const Tensor<T, 1> adam =
      this->after(Adam<T>({1.0 / 64, 7.0 / 8, 31.0 / 32, 1.0 / 1024, 1.0 / 8}), steps);
  const Tensor<T, 1> sgd = this->after(Sgd<T>({1.0 / 64, 7.0 / 8, 1.0 / 8}), steps);
  for (Index i = 0; i < 6; ++i) {
    W x = W(this->start()(i)), y = x, m = 0, v = 0, u = 0;
    for (Index t = 1; t <= steps; ++t) {
      const W g = W(this->gradient(t)(i));
      m = b1 * m + (1 - b1) * g;
      v = b2 * v + (1 - b2) * g * g;
      const W m_hat = m / (1 - std::pow(b1, W(t))), v_hat = v / (1 - std::pow(b2, W(t)));
      x -= lr * (m_hat / (std::sqrt(v_hat) + eps) + decay * x);
      u = b1 * u + (g + decay * y);
      y -= lr * u;
    }
    const W bound = steps * W(Limits<T>::epsilon());
    EXPECT_NEAR(static_cast<double>(W(adam(i)) - x), 0, static_cast<double>(bound)) << i;
    EXPECT_NEAR(static_cast<double>(W(sgd(i)) - y), 0, static_cast<double>(bound)) << i;
  }
}

TYPED_TEST(OptimTest, FirstStepsByHand) {
  using T = TypeParam;
  Tensor<T, 1> x = constant_tensor<T>(1, 3), g(3);
  g.setValues({T(0.5), T(-4), T(0)});
  // m / (1 - beta1) = g and v / (1 - beta2) = g^2, so each step goes as far, up or down.
  Adam<T> adam({.learning_rate = 0.25});
  adam.begin_step();
  adam.update(Parameter<T>("x", x), elements(g));
  const T off = 4 * Limits<T>::epsilon();
  EXPECT_NEAR(x(0), 1 - 0.25 / (1 + 2e-8), off);
  EXPECT_NEAR(x(1), 1 + 0.25 / (1 + 0.25e-8), off);
  EXPECT_EQ(x(2), T(1));
  // No gradient: the weights decay, and nothing else.
  x = constant_tensor<T>(1, 3);
  Adam<T> decaying({.learning_rate = 0.25, .weight_decay = 0.5});
  for (int step = 0; step < 2; ++step) {
    decaying.begin_step();
    decaying.update(Parameter<T>("x", x), elements(constant_tensor<T>(0, 3)));
  }
  EXPECT_TRUE(all_are(x, T(0.875) * T(0.875)));
  // u = 1, then 1.5; x = 1 - 0.25 * 1 - 0.25 * 1.5.
  x = constant_tensor<T>(1, 3);
  Sgd<T> sgd({.learning_rate = 0.25, .momentum = 0.5});
  for (int step = 0; step < 2; ++step) {
    sgd.begin_step();
    sgd.update(Parameter<T>("x", x), elements(constant_tensor<T>(1, 3)));
  }
  EXPECT_TRUE(all_are(x, T(0.375)));
}

TEST(BiasCorrection, IsOneMinusThePower) {
  for (const double beta : {0.0, 0.5, 0.9, 0.999, 0.9999999})
    for (const std::int64_t step : {1, 2, 3, 7, 64, 1000, 123456789}) {
      const long double exact =
          -std::expm1(static_cast<long double>(step) * std::log(static_cast<long double>(beta)));
      EXPECT_NEAR(eh::detail::bias_correction(beta, step) / static_cast<double>(exact), 1, 1e-14)
          << beta << ' ' << step;
    }
}

// What every compiler, flag and CPU must agree on (found with one, checked with the others).
TYPED_TEST(OptimTest, TheBitsAreTheseEverywhere) {
  using T = TypeParam;
  const auto digest_of = [](auto optimizer) {
    Linear<T> layer({.in_features = 37, .out_features = 21, .bias = true}, 5);
    for (std::uint64_t step = 0; step < 20; ++step) {
      optimizer.set_learning_rate(
          eh::warmup_then_cosine(optimizer.step_count(), 5, 20, 0.0123456789));
      auto gradients = random_gradients(layer, step);
      eh::clip_gradient_norm(7.3, gradients);
      optimizer.step(layer, gradients);
    }
    std::uint64_t digest = 0xcbf29ce484222325;
    for (const T x : numbers_of<T>(layer)) digest = (digest ^ bits(x)) * 0x100000001b3;
    return digest;
  };
  const bool single = sizeof(T) == 4;
  EXPECT_EQ(digest_of(Sgd<T>({.momentum = 0.9, .weight_decay = 0.03, .nesterov = true})),
            single ? 0xec0e902a62b3450 : 0xfdfbc6cac8e23826);
  EXPECT_EQ(digest_of(Adam<T>({.weight_decay = 0.03})),
            single ? 0x29f6cfc0ad6b2836 : 0x3de4b7f6a9e7b1ee);
}

TYPED_TEST(OptimTest, WhereTheNumbersLieMakesNoDifference) {
  using T = TypeParam;
  Linear<T> layer({.in_features = 70, .out_features = 37, .bias = true}, 3);
  LinearGradients<T> plain{layer.weight(), layer.bias()};  // a module like any other
  Adam<T> adam({.weight_decay = 0.1}), other = adam;
  for (std::uint64_t step = 1; step <= 3; ++step) {
    const auto gradients = random_gradients(layer, step);
    adam.step(layer, gradients);
    other.step(plain, gradients);
  }
  EXPECT_TRUE(same_bits(layer.weight(), plain.weight));
  EXPECT_TRUE(same_bits(layer.bias(), plain.bias));
}

// ---- A model of several modules ----------------------------------------------------------------

TYPED_TEST(OptimTest, ModulesShareAStepAndNothingElse) {
  using T = TypeParam;
  Linear<T> first({.in_features = 5, .out_features = 3, .bias = true}, 1),
      second({.in_features = 3, .out_features = 3}, 2), first_alone = first, second_alone = second;
  Adam<T> together, one, two;
  for (std::uint64_t step = 1; step <= 3; ++step) {
    const auto g1 = random_gradients(first, step), g2 = random_gradients(second, step + 50);
    together.begin_step();
    together.update(first, g1, "first.");
    together.update(second, g2, "second.");
    one.step(first_alone, g1);
    two.step(second_alone, g2);
  }
  EXPECT_EQ(together.step_count(), 3);
  EXPECT_TRUE(same_numbers(numbers_of<T>(first), numbers_of<T>(first_alone)));
  EXPECT_TRUE(same_numbers(numbers_of<T>(second), numbers_of<T>(second_alone)));
}

TYPED_TEST(OptimTest, AParameterMayBeLeftOutOfAStep) {
  using T = TypeParam;
  Tensor<T, 1> x = constant_tensor<T>(1, 2), y = x;
  Sgd<T> sgd({.learning_rate = 0.5});
  for (int step = 0; step < 4; ++step) {
    sgd.begin_step();
    sgd.update(Parameter<T>("x", x), elements(constant_tensor<T>(1, 2)));
    if (step % 2 == 1) sgd.update(Parameter<T>("y", y), elements(constant_tensor<T>(1, 2)));
  }
  EXPECT_TRUE(all_are(x, T(-1)));
  EXPECT_TRUE(all_are(y, T(0)));
}

// ---- Training ----------------------------------------------------------------------------------

// How far the layer ends from the one that the targets were made with.
template <class T, class Optimizer>
[[nodiscard]] double distance_after(Optimizer optimizer, std::int64_t steps, double peak) {
  constexpr Index N = 32, in = 4, out = 3;
  Linear<T> truth({.in_features = in, .out_features = out, .bias = true}, 1),
      layer({.in_features = in, .out_features = out, .bias = true}, 2);
  truth.set_bias(random_tensor<T>(3, out));
  const auto x = random_tensor<T>(4, N, in);
  const Tensor<T, 2> target = truth(x);
  for (std::int64_t step = 0; step < steps; ++step) {
    const Tensor<T, 2> y = layer(x);
    LinearGradients<T> gradients{constant_tensor<T>(0, out, in), constant_tensor<T>(0, out)};
    for (Index n = 0; n < N; ++n)
      for (Index o = 0; o < out; ++o) {
        const T slope = (y(n, o) - target(n, o)) / T(N);
        gradients.bias(o) += slope;
        for (Index i = 0; i < in; ++i) gradients.weight(o, i) += slope * x(n, i);
      }
    optimizer.set_learning_rate(eh::warmup_then_cosine(step, steps / 10, steps, peak));
    optimizer.step(layer, gradients);
  }
  double most = 0;
  const std::vector<T> got = numbers_of<T>(layer), expected = numbers_of<T>(truth);
  for (std::size_t i = 0; i < got.size(); ++i)
    most = std::max(most, static_cast<double>(std::abs(got[i] - expected[i])));
  return most;
}

TYPED_TEST(OptimTest, LeastSquaresConverges) {
  using T = TypeParam;
  EXPECT_LT((distance_after<T>(Sgd<T>(), 2000, 0.5)), 1e-5);
  EXPECT_LT((distance_after<T>(Sgd<T>({.momentum = 0.9}), 500, 0.3)), 1e-5);
  EXPECT_LT((distance_after<T>(Sgd<T>({.momentum = 0.9, .nesterov = true}), 500, 0.3)), 1e-5);
  EXPECT_LT((distance_after<T>(Adam<T>(), 1500, 0.05)), 1e-5);
}

// ---- Checkpoints -------------------------------------------------------------------------------

TYPED_TEST(OptimTest, ResumedIsAsIfNeverStopped) {
  using T = TypeParam;
  const auto check = [](auto optimizer) {
    MultiHeadAttention<T> layer({.num_hiddens = 6,
                                 .num_heads = 2,
                                 .bias = true,
                                 .query_size = 5,
                                 .key_size = 4,
                                 .value_size = 3},
                                9);
    for (std::uint64_t step = 1; step <= 3; ++step)
      optimizer.step(layer, random_gradients(layer, step));

    auto layer_again = layer;
    decltype(optimizer) again(optimizer.options());
    again.restore(optimizer.step_count(), states_of(optimizer));
    EXPECT_EQ(again.step_count(), 3);
    for (std::uint64_t step = 4; step <= 7; ++step) {
      optimizer.step(layer, random_gradients(layer, step));
      again.step(layer_again, random_gradients(layer, step));
    }
    EXPECT_TRUE(same_numbers(numbers_of<T>(layer), numbers_of<T>(layer_again)));
    const auto states = states_of(optimizer), states_again = states_of(again);
    ASSERT_EQ(states.size(), states_again.size());
    for (std::size_t i = 0; i < states.size(); ++i) {
      EXPECT_EQ(states[i].name, states_again[i].name);
      EXPECT_TRUE(same_numbers(states[i].values, states_again[i].values)) << states[i].name;
    }
  };
  check(Adam<T>({.learning_rate = 0.1, .weight_decay = 0.01}));
  check(Sgd<T>({.learning_rate = 0.1, .momentum = 0.9}));
  check(Sgd<T>({.learning_rate = 0.1}));
}

TYPED_TEST(OptimTest, StatesAreNamedInTheOrderOfFirstUse) {
  using T = TypeParam;
  Linear<T> layer({.in_features = 2, .out_features = 3, .bias = true}, 1);
  const auto names_of = [&](auto optimizer) {
    optimizer.step(layer, random_gradients(layer, 1));
    std::vector<std::string> names;
    optimizer.for_each_state([&](const std::string& name, std::span<const T> values) {
      names.push_back(name + ' ' + std::to_string(values.size()));
    });
    return names;
  };
  using Names = std::vector<std::string>;
  EXPECT_EQ(names_of(Adam<T>()), (Names{"weight.m 6", "weight.v 6", "bias.m 3", "bias.v 3"}));
  EXPECT_EQ(names_of(Sgd<T>({.momentum = 0.5})), (Names{"weight.momentum 6", "bias.momentum 3"}));
  EXPECT_EQ(names_of(Sgd<T>()), Names{});
}

// ---- Refusals ----------------------------------------------------------------------------------

TYPED_TEST(OptimTest, OptionsThatCannotBeAreRefused) {
  using T = TypeParam;
  constexpr double nan = kNan<double>, inf = kInf<double>;
  const auto adam = [](const eh::AdamOptions& options) {
    return refusal([&] { return Adam<T>(options); });
  };
  const auto sgd = [](const eh::SgdOptions& options) {
    return refusal([&] { return Sgd<T>(options); });
  };
  EXPECT_EQ(adam({.learning_rate = 0}),
            "eigenheads: Adam: learning_rate is 0; expected more than 0");
  EXPECT_EQ(adam({.learning_rate = nan}),
            "eigenheads: Adam: learning_rate is nan; expected more than 0");
  EXPECT_EQ(adam({.learning_rate = inf}),
            "eigenheads: Adam: learning_rate is inf; expected more than 0");
  const std::string too_large =
      sizeof(T) == 8 ? "not refused"
                     : ": learning_rate is 1e+300; expected a number that the element type has";
  const std::string start = sizeof(T) == 8 ? "" : "eigenheads: ";
  EXPECT_EQ(adam({.learning_rate = 1e300}),
            sizeof(T) == 8 ? too_large : start + "Adam" + too_large);
  EXPECT_EQ(sgd({.learning_rate = 1e300}), sizeof(T) == 8 ? too_large : start + "Sgd" + too_large);
  const double rate = 0.5 * static_cast<double>(Limits<T>::max());
  EXPECT_NE(adam({.learning_rate = rate})
                .find("expected one of which learning_rate / (1 - beta1) is a number"),
            std::string::npos);
  EXPECT_EQ(adam({.learning_rate = rate, .beta1 = 0}), "not refused");
  EXPECT_EQ(adam({.beta1 = 1}), "eigenheads: Adam: beta1 is 1; expected 0 <= beta1 < 1");
  EXPECT_EQ(adam({.beta1 = -0.5}), "eigenheads: Adam: beta1 is -0.5; expected 0 <= beta1 < 1");
  EXPECT_EQ(adam({.beta2 = 1.5}), "eigenheads: Adam: beta2 is 1.5; expected 0 <= beta2 < 1");
  EXPECT_EQ(adam({.beta2 = nan}), "eigenheads: Adam: beta2 is nan; expected 0 <= beta2 < 1");
  EXPECT_EQ(adam({.epsilon = 0}),
            "eigenheads: Adam: epsilon is 0; expected more than 0, and not too small for the "
            "element type");
  EXPECT_EQ(adam({.epsilon = 1e-60}) == "not refused", sizeof(T) == 8);
  EXPECT_EQ(adam({.epsilon = 1e60}) == "not refused", sizeof(T) == 8);
  EXPECT_EQ(adam({.weight_decay = 1e60}) == "not refused", sizeof(T) == 8);
  EXPECT_EQ(sgd({.weight_decay = 1e60}) == "not refused", sizeof(T) == 8);
  EXPECT_EQ(sgd({.momentum = 1 - 1e-12}) == "not refused", sizeof(T) == 8);
  EXPECT_EQ(adam({.weight_decay = -1}), "eigenheads: Adam: weight_decay is -1; expected 0 or more");
  EXPECT_EQ(adam({.beta1 = 0, .beta2 = 0}), "not refused");

  EXPECT_EQ(sgd({.learning_rate = -1}),
            "eigenheads: Sgd: learning_rate is -1; expected more than 0");
  EXPECT_EQ(sgd({.momentum = 1}), "eigenheads: Sgd: momentum is 1; expected 0 <= momentum < 1");
  EXPECT_EQ(sgd({.weight_decay = nan}), "eigenheads: Sgd: weight_decay is nan; expected 0 or more");
  EXPECT_EQ(sgd({.nesterov = true}),
            "eigenheads: Sgd: nesterov is asked for; expected a momentum of more than 0 then");

  Adam<T> running({.learning_rate = 0.5});
  EXPECT_EQ(refusal([&] { return running.set_learning_rate(-1), 0; }),
            "eigenheads: Adam: learning_rate is -1; expected 0 or more");
  EXPECT_EQ(refusal([&] { return running.set_learning_rate(nan), 0; }),
            "eigenheads: Adam: learning_rate is nan; expected 0 or more");
  EXPECT_NE(refusal([&] { return running.set_learning_rate(rate), 0; }).find("1 - beta1"),
            std::string::npos);
  EXPECT_EQ(running.options().learning_rate, 0.5);
  running.set_learning_rate(0);
  EXPECT_EQ(running.options().learning_rate, 0);
}

TYPED_TEST(OptimTest, GradientsThatAreNotTheLayersAreRefusedAndChangeNothing) {
  using T = TypeParam;
  Linear<T> layer({.in_features = 2, .out_features = 3, .bias = true}, 1);
  const auto before = numbers_of<T>(layer);
  Adam<T> adam;
  const auto refused = [&](const auto& gradients) {
    return refusal([&] { return adam.step(layer, gradients), 0; });
  };
  const auto weight = random_tensor<T>(1, 3, 2);
  EXPECT_EQ(refused(LinearGradients<T>{random_tensor<T>(1, 2, 3), random_tensor<T>(1, 3)}),
            "eigenheads: Adam: the gradient of weight has shape [2, 3]; expected [3, 2]");
  EXPECT_EQ(refused(LinearGradients<T>{weight, random_tensor<T>(1, 2)}),
            "eigenheads: Adam: the gradient of bias has shape [2]; expected [3]");
  EXPECT_EQ(refused(LinearGradients<T>{weight}),
            "eigenheads: Adam: the gradients end before that of bias");
  EXPECT_EQ(refused(AttentionGradients<T>{{weight}, {weight}, {weight}, {weight}}),
            "eigenheads: Adam: the gradients have W_q.weight where the parameters have weight");
  Linear<T> unbiased({.in_features = 2, .out_features = 3});
  EXPECT_EQ(refusal([&] { return adam.step(unbiased, random_gradients(layer, 1)), 0; }),
            "eigenheads: Adam: the gradients have bias, which is no parameter");
  EXPECT_TRUE(same_numbers(numbers_of<T>(layer), before));
  EXPECT_EQ(adam.step_count(), 0);
  EXPECT_TRUE(states_of(adam).empty());
}

TYPED_TEST(OptimTest, UpdatesThatCannotBeAreRefused) {
  using T = TypeParam;
  Tensor<T, 1> x = constant_tensor<T>(1, 3), longer = constant_tensor<T>(1, 4);
  const auto three = constant_tensor<T>(1, 3), four = constant_tensor<T>(1, 4);
  Adam<T> adam;
  const auto update = [&](Tensor<T, 1>& parameter, const Tensor<T, 1>& gradient) {
    return adam.update(Parameter<T>("x", parameter), elements(gradient)), 0;
  };
  EXPECT_EQ(refusal<std::logic_error>([&] { return update(x, three); }),
            "eigenheads: Adam: call begin_step() before update()");
  adam.begin_step();
  EXPECT_EQ(refusal([&] { return update(x, four); }),
            "eigenheads: Adam: the gradient of x has 4 elements; expected 3");
  EXPECT_TRUE(all_are(x, T(1)));
  update(x, three);
  const Tensor<T, 1> once = x;
  EXPECT_EQ(refusal([&] { return update(x, three); }),
            "eigenheads: Adam: parameter x comes twice in step 1; give every layer a prefix of its "
            "own");
  EXPECT_TRUE(same_bits(x, once));
  adam.begin_step();
  EXPECT_EQ(refusal([&] { return update(longer, four); }),
            "eigenheads: Adam: parameter x has 4 elements; in earlier steps it had 3");
  EXPECT_TRUE(all_are(longer, T(1)));

  Twins<T> twins{{random_tensor<T>(1, 2, 2)}, {random_tensor<T>(2, 2, 2)}};
  const Twins<T> gradients = twins;
  EXPECT_EQ(refusal([&] { return adam.step(twins, gradients), 0; }),
            "eigenheads: Adam: parameter weight comes twice in step 3; give every layer a prefix "
            "of its own");
  EXPECT_EQ(adam.step_count(), 2);
}

TYPED_TEST(OptimTest, StatesThatCannotBeAreRefusedAndChangeNothing) {
  using T = TypeParam;
  using States = std::vector<eh::OptimizerState<T>>;
  Linear<T> layer({.in_features = 2, .out_features = 1}, 1);
  Adam<T> adam;
  adam.step(layer, random_gradients(layer, 1));
  const States before = states_of(adam);
  const auto refused = [&](std::int64_t step_count, const States& states) {
    return refusal([&] { return adam.restore(step_count, states), 0; });
  };
  EXPECT_EQ(refused(-1, {}),
            "eigenheads: Adam: step_count is -1; expected 0 to 4611686018427387903");
  EXPECT_NE(refused(std::numeric_limits<std::int64_t>::max(), {}).find("; expected 0 to "),
            std::string::npos);
  EXPECT_EQ(refused(1, {{"w.m", {1, 2}}}), "eigenheads: Adam: state w.v is missing after w.m");
  EXPECT_EQ(refused(1, {{"w.m", {1, 2}}, {"b.m", {1, 2}}}),
            "eigenheads: Adam: state w.v is missing after w.m");
  EXPECT_EQ(refused(1, {{"w.m", {1, 2}}, {"w.v", {1}}}),
            "eigenheads: Adam: state w.v has 1 elements; expected 2");
  EXPECT_EQ(refused(1, {{"w.momentum", {1}}}),
            "eigenheads: Adam: state w.momentum is none that these options have here");
  EXPECT_EQ(refused(1, {{"w.m", {1}}, {"w.v", {1}}, {"w.m", {1}}, {"w.v", {1}}}),
            "eigenheads: Adam: state w.m is there twice");
  Sgd<T> sgd;
  EXPECT_EQ(refusal([&] { return sgd.restore(1, {{"w.momentum", {T(1)}}}), 0; }),
            "eigenheads: Sgd: state w.momentum is none that these options have here");
  EXPECT_EQ(adam.step_count(), 1);
  ASSERT_EQ(states_of(adam).size(), 2u);
  for (std::size_t k = 0; k < 2; ++k)
    EXPECT_TRUE(same_numbers(states_of(adam)[k].values, before[k].values));

  adam.set_learning_rate(0);  // is no reason to refuse
  adam.restore(1, before);
  Linear<T> wider({.in_features = 3, .out_features = 1}, 1);
  EXPECT_EQ(refusal([&] { return adam.step(wider, random_gradients(wider, 1)), 0; }),
            "eigenheads: Adam: parameter weight has 3 elements; in earlier steps it had 2");
}

// ---- Clipping and schedule ---------------------------------------------------------------------

TYPED_TEST(OptimTest, ClippingScalesAllOfThemToTheNorm) {
  using T = TypeParam;
  LinearGradients<T> a{constant_tensor<T>(0, 1, 2), constant_tensor<T>(0, 1)}, b = a;
  EXPECT_EQ(eh::clip_gradient_norm(1, a, b), 0);
  EXPECT_TRUE(all_are(a.weight, 0));

  a.weight.setValues({{T(2), T(-4)}});
  a.bias(0) = T(5);
  b.bias(0) = T(6);  // 4 + 16 + 25 + 36 = 81
  const auto before = a;
  EXPECT_EQ(eh::clip_gradient_norm(9.5, a, b), 9);
  EXPECT_EQ(eh::clip_gradient_norm(9, a, b), 9);
  EXPECT_TRUE(same_bits(a.weight, before.weight));
  EXPECT_EQ(b.bias(0), T(6));
  EXPECT_EQ(eh::clip_gradient_norm(4.5, a, b), 9);
  EXPECT_EQ(a.weight(0, 0), T(1));
  EXPECT_EQ(a.weight(0, 1), T(-2));
  EXPECT_EQ(a.bias(0), T(2.5));
  EXPECT_EQ(b.bias(0), T(3));
  EXPECT_EQ(eh::clip_gradient_norm(100, a, b), 4.5);

  AttentionGradients<T> attention{before, before, before, before};  // 4 * 45 = 180
  EXPECT_NEAR(eh::clip_gradient_norm(1, attention), std::sqrt(180.0), 1e-14);
  EXPECT_NEAR(eh::clip_gradient_norm(1, attention), 1,
              4 * static_cast<double>(Limits<T>::epsilon()));
}

TYPED_TEST(OptimTest, ANormThatIsNotFiniteIsReportedAndChangesNothing) {
  using T = TypeParam;
  for (const T wrong : {kNan<T>, kInf<T>, -kInf<T>}) {
    LinearGradients<T> a{random_tensor<T>(1, 3, 2)}, b{random_tensor<T>(2, 3, 2)};
    b.weight(1, 1) = wrong;
    const auto a_before = a, b_before = b;
    const double norm = eh::clip_gradient_norm(0.001, a, b);
    EXPECT_EQ(bits(norm), bits(std::isnan(wrong) ? kNan<double> : kInf<double>));
    EXPECT_TRUE(same_bits(a.weight, a_before.weight));
    EXPECT_TRUE(same_bits(b.weight, b_before.weight));
  }
  LinearGradients<T> g{random_tensor<T>(1, 3, 2)};
  EXPECT_EQ(refusal([&] { return eh::clip_gradient_norm(0, g); }),
            "eigenheads: clip_gradient_norm: max_norm is 0; expected more than 0");
  EXPECT_EQ(refusal([&] { return eh::clip_gradient_norm(kNan<double>, g); }),
            "eigenheads: clip_gradient_norm: max_norm is nan; expected more than 0");
}

TEST(WarmupThenCosine, RisesInALineAndFallsInHalfACosine) {
  using eh::warmup_then_cosine;
  EXPECT_EQ(warmup_then_cosine(0, 4, 20, 2), 0.5);
  EXPECT_EQ(warmup_then_cosine(3, 4, 20, 2), 2);
  EXPECT_EQ(warmup_then_cosine(20, 4, 20, 2), 0);
  EXPECT_EQ(warmup_then_cosine(1000, 4, 20, 2), 0);
  EXPECT_EQ(warmup_then_cosine(0, 0, 0, 2), 0);
  for (std::int64_t step = 4; step < 1000; ++step) {
    const double angle = std::acos(-1.0) * static_cast<double>(step - 4) / 996;
    EXPECT_NEAR(warmup_then_cosine(step, 4, 1000, 1), 0.5 * (1 + std::cos(angle)), 3e-16) << step;
    EXPECT_LE(warmup_then_cosine(step + 1, 4, 1000, 1), warmup_then_cosine(step, 4, 1000, 1));
  }
  // The last of very many steps: a rounding below 0 is none.
  for (const std::int64_t total : {223'000'369, 1'000'000'000})
    EXPECT_GE(warmup_then_cosine(total - 1, 0, total, 1e-3), 0) << total;
  constexpr std::int64_t huge = std::int64_t{1} << 62;
  EXPECT_GE(warmup_then_cosine(huge, huge / 2, huge + 1, 1), 0);
  const auto refused = [](std::int64_t step, std::int64_t warmup, std::int64_t total) {
    return refusal([&] { return warmup_then_cosine(step, warmup, total, 1); });
  };
  const std::string expected = "; expected step >= 0 and 0 <= warmup <= total";
  EXPECT_EQ(refused(-1, 2, 3),
            "eigenheads: warmup_then_cosine: step is -1, warmup 2, total 3" + expected);
  EXPECT_EQ(refused(0, -2, 3),
            "eigenheads: warmup_then_cosine: step is 0, warmup -2, total 3" + expected);
  EXPECT_EQ(refused(0, 4, 3),
            "eigenheads: warmup_then_cosine: step is 0, warmup 4, total 3" + expected);
}

}  // namespace
