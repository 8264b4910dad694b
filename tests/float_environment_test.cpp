// SPDX-License-Identifier: MIT
// Whichever way a program rounds, and whether it has subnormal numbers: calls leave that as they found
// it, all paths are one function in it, and threads that were started before compute in it too.
#include <algorithm>
#include <atomic>
#include <cfenv>
#include <cmath>
#include <future>
#include <optional>
#include <thread>
#include <unsupported/Eigen/CXX11/ThreadPool>
#include <utility>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_reference.hpp>
#include <eigenheads/kv_cache.hpp>
#include <eigenheads/multi_head_attention.hpp>
#include <eigenheads/score.hpp>

#include "context.hpp"
#include "layers.hpp"
#include "lesser_isas.hpp"
#include "subnormals.hpp"
#include "support.hpp"

namespace {

using namespace support;

// Rounds another way, or loses subnormal numbers, while it lives.
class Environment {
 public:
  explicit Environment(int mode) { std::fesetround(mode); }
  Environment() { subnormals_.emplace(); }
  Environment(const Environment&) = delete;
  Environment& operator=(const Environment&) = delete;
  ~Environment() { std::fesetround(before_); }

 private:
  int before_ = std::fegetround();
  std::optional<SubnormalsAreLost> subnormals_;
};

constexpr std::pair<const char*, int> kModes[] = {
    {"upward", FE_UPWARD}, {"downward", FE_DOWNWARD}, {"toward zero", FE_TOWARDZERO}};

// test(name) in each of them.
template <class Test>
void in_each_environment(const Test& test) {
  for (const auto& [name, mode] : kModes) {
    const Environment environment(mode);
    test(name);
  }
  const Environment environment;
  test("without subnormal numbers");
}

// One third, by the processor: it says which way it rounds. Least: whether it has subnormal numbers.
std::pair<float, float> of_this_thread() {
  volatile float one = 1, three = 3, least = Limits<float>::min();
  return {one / three, least / three};
}

template <class T>
class FloatEnvironmentTest : public testing::Test {};
TYPED_TEST_SUITE(FloatEnvironmentTest, Scalars, ScalarNames);

// Keys in several blocks, and more threads than heads; `size` may make products that are subnormal.
template <class T>
struct Inputs {
  Tensor<T, 3> x = random_tensor<T>(1, 1, 600, 24);
  eh::MultiHeadAttention<T> layer =
      make_layer<T>(24, {.num_hiddens = 24, .num_heads = 2, .bias = true});
  explicit Inputs(T size = 1) {
    for (Index i = 0; i < x.size(); ++i) x.data()[i] *= size;
  }
};

TEST(FloatEnvironment, ThreadsThatWereStartedBeforeHaveTheCallers) {
  eh::Context context(3, kAnyWork);
  start_threads(context);
  const auto usual = of_this_thread();
  const auto expect_of_all = [&](std::pair<float, float> expected, const char* name) {
    std::vector<std::pair<float, float>> seen(3);
    std::atomic<int> here{0};  // each has one
    context.parallel_for(3, [&](Index i) {
      ++here;
      while (here < 3) std::this_thread::yield();
      seen[static_cast<std::size_t>(i)] = of_this_thread();
    });
    for (const auto& of : seen) EXPECT_EQ(of, expected) << name;
  };
  in_each_environment([&](const char* name) { expect_of_all(of_this_thread(), name); });
  expect_of_all(usual, "as it was");
}

TEST(FloatEnvironment, ThreadsOfTheCallersPoolHaveTheirOwnAgainAfterACall) {
  Eigen::ThreadPool pool(1);
  eh::Context context(pool);
  const auto usual = of_this_thread();
  in_each_environment([&](const char* name) {
    start_threads(context);  // ends when the pool's thread has taken part too
    std::promise<std::pair<float, float>> of_the_pool;
    pool.Schedule([&] { of_the_pool.set_value(of_this_thread()); });
    EXPECT_EQ(of_the_pool.get_future().get(), usual) << name;
  });
}

TYPED_TEST(FloatEnvironmentTest, IsAfterACallWhatItWasBefore) {
  using T = TypeParam;
  Inputs<T> in;
  eh::Context context(3, kAnyWork);
  in_each_environment([&](const char* name) {
    const int mode = std::fegetround();
    const auto before = of_this_thread();
    typename eh::MultiHeadAttention<T>::Activations saved;
    const auto y = in.layer.forward(in.x, in.x, in.x, {}, saved, {.context = context});
    (void)in.layer.backward(y, saved, context);
    EXPECT_EQ(std::fegetround(), mode) << name;
    EXPECT_EQ(of_this_thread(), before) << name;
  });
}

// On any number of threads, alone, with weights, and token by token: one function.
TYPED_TEST(FloatEnvironmentTest, EveryPathGivesTheSameBits) {
  using T = TypeParam;
  for (const T size : {T(1), std::sqrt(Limits<T>::min())}) {
    const Inputs<T> in(size);
    eh::Context one(1), three(3, kAnyWork);
    start_threads(three);
    const eh::Mask causal{.causal = eh::Causal::top_left};
    in_each_environment([&](const char* name) {
      const auto y = in.layer(in.x, in.x, in.x, causal, one);
      EXPECT_TRUE(same_bits(in.layer(in.x, in.x, in.x, causal, three), y)) << name;
      EXPECT_TRUE(same_bits(in.layer.with_weights(in.x, in.x, in.x, causal, one).output, y))
          << name;
      eh::KvCache<T> cache({.batch_size = 1, .num_kv_heads = 2, .head_size = 12, .capacity = 600});
      for (Index begin = 0, length = 0; begin < 600; begin += length) {
        length = std::min(Index{250}, 600 - begin);
        const TensorView<T, 3> part(in.x.data() + begin * 24, {1, length, 24});
        const TensorView<T, 3> of(y.data() + begin * 24, {1, length, 24});
        EXPECT_TRUE(same_bits(in.layer.step(part, cache, one), of)) << name << ' ' << begin;
      }
    });
  }
}

// Rounded the other way, a result is as far from the true one as numbers of its size are apart.
TYPED_TEST(FloatEnvironmentTest, ResultsAreThoseOfTheReferenceToRounding) {
  using T = TypeParam;
  const auto q = random_tensor<T>(1, 1, 2, 40, 8), k = random_tensor<T>(2, 1, 2, 300, 8),
             v = random_tensor<T>(3, 1, 2, 300, 8);
  const auto expected = eh::attention_reference<T>(q, k, v, {}, T(0.25)).output;
  in_each_environment([&](const char* name) {
    const auto result = eh::scaled_dot_product_attention(q, k, v, {}, {.scale = 0.25}).output;
    for (Index i = 0; i < result.size(); ++i)
      ASSERT_NEAR(result.data()[i], expected.data()[i], 300 * Limits<T>::epsilon())
          << name << ' ' << i;
  });
}

// What a soft cap's tanh loses where rounding is not to the nearest: its exponent is rounded likewise.
TYPED_TEST(FloatEnvironmentTest, ASoftcapLosesDigitsOfItsOwn) {
  using T = TypeParam;
  std::vector<T> scores, expected;
  for (int i = -4000; i <= 4000; ++i) {
    scores.push_back(T(i) / 200);
    expected.push_back(static_cast<T>(std::tanh(static_cast<long double>(scores.back()))));
  }
  const eh::Softcap<T> softcap(T(1));
  in_each_environment([&](const char* name) {
    for (std::size_t i = 0; i < scores.size(); ++i)
      ASSERT_NEAR(softcap(scores[i], {}), expected[i], sizeof(T) == 4 ? 1e-5 : 2e-11)
          << name << ' ' << scores[i];
  });
}

// Each rounds to an integer in its own way.
TEST(FloatEnvironmentElsewhere, IsTheSameOnLesserInstructionSets) {
  run_on_lesser_instruction_sets("FloatEnvironmentElsewhere*");
}

}  // namespace
