// SPDX-License-Identifier: MIT
// A feed-forward network is its projections and its activation one after the other, to the bit, in
// whatever blocks and on however many threads.
#include <atomic>
#include <cmath>
#include <numeric>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <eigenheads/context.hpp>
#include <eigenheads/nn/feed_forward.hpp>

#include "counting.hpp"
#include "support.hpp"

namespace {

using namespace support;
using eh::Activation, eh::Context, eh::FeedForward, eh::FeedForwardOptions, eh::Sequences;

template <class T>
class FeedForwards : public testing::Test {};
TYPED_TEST_SUITE(FeedForwards, Scalars, ScalarNames);

// Fresh biases are 0.
template <class T>
void set_random_biases(FeedForward<T>& layer, std::uint64_t seed = 77) {
  const auto set = [&](eh::Linear<T>& linear) {
    if (linear.has_bias()) linear.set_bias(random_tensor<T>(seed++, linear.out_features()));
  };
  set(layer.up);
  if (layer.gate) set(*layer.gate);
  set(layer.down);
}
template <class T>
[[nodiscard]] FeedForward<T> make(const FeedForwardOptions& options) {
  FeedForward<T> layer(options, 5);
  set_random_biases(layer);
  return layer;
}

template <class T>
[[nodiscard]] Tensor<T, 2> activated(Activation activation, const Tensor<T, 2>& x) {
  Tensor<T, 2> y(x.dimension(0), x.dimension(1));
  eh::detail::nn_kernels<T>().activate(activation, x.data(), y.data(), x.size());
  return y;
}

template <class T>
[[nodiscard]] Tensor<T, 2> step_by_step(const FeedForward<T>& layer, const Tensor<T, 2>& x) {
  Tensor<T, 2> h = layer.up(x);
  if (layer.gate) {
    const Tensor<T, 2> gates = activated<T>(layer.activation(), (*layer.gate)(x));
    for (Index i = 0; i < h.size(); ++i) h.data()[i] = gates.data()[i] * h.data()[i];
  } else {
    h = activated(layer.activation(), h);
  }
  return layer.down(h);
}

TYPED_TEST(FeedForwards, IsItsStepsOneAfterTheOther) {
  using T = TypeParam;
  for (const bool gated : {false, true})
    for (const Activation activation :
         {Activation::relu, Activation::gelu, Activation::silu, Activation::identity}) {
      const auto layer =
          make<T>({.size = 19, .hidden_size = 67, .activation = activation, .gated = gated});
      for (const int threads : {1, 3}) {
        Context context(threads, kAnyWork);
        for (const Index rows : {0, 1, 2, 5, 71, 72, 73, 96, 97, 193, 400}) {
          const auto x = random_tensor<T>(static_cast<std::uint64_t>(rows), rows, 19);
          const auto expected = step_by_step(layer, x);
          EXPECT_TRUE(same_bits(layer(x, context), expected)) << rows << " rows";
          typename FeedForward<T>::Activations saved;
          EXPECT_TRUE(same_bits(layer.forward(x, saved, context), expected)) << rows << " rows";
          Tensor<T, 2> in_place = x;
          layer.forward_into(in_place, in_place, context);
          EXPECT_TRUE(same_bits(in_place, expected)) << rows << " rows, in place";
        }
      }
    }
}

TYPED_TEST(FeedForwards, TakesTensorsOfAnyRank) {
  using T = TypeParam;
  const auto layer = make<T>({.size = 8, .hidden_size = 20});
  const auto x = random_tensor<T>(1, 2, 3, 4, 8);
  const auto y = layer(x);
  const auto rows = layer(TensorView<T, 2>(x.data(), {24, 8}));
  EXPECT_TRUE(same_bits(TensorView<T, 2>(y.data(), {24, 8}), rows));
  EXPECT_TRUE(same_bits(layer(row(x, 0, 0, 0)), row(y, 0, 0, 0)));
}

TYPED_TEST(FeedForwards, ARowOfNanReachesNoOther) {
  using T = TypeParam;
  const auto layer = make<T>({.size = 8, .hidden_size = 20, .activation = Activation::gelu});
  auto x = random_tensor<T>(1, 5, 8);
  const auto y = layer(x);
  for (Index i = 0; i < 8; ++i) x(2, i) = kNan<T>;
  const auto with_nan = layer(x);
  for (const Index r : {0, 1, 3, 4}) EXPECT_TRUE(same_bits(row(with_nan, r), row(y, r)));
  EXPECT_TRUE(all_are(row(with_nan, 2), kNan<T>));
}

TYPED_TEST(FeedForwards, AWarmCallAllocatesNothing) {
  using T = TypeParam;
  for (const bool gated : {false, true})
    for (const int threads : {1, 2})
      for (const Index rows : {3, 200}) {
        const auto layer = make<T>({.size = 16, .hidden_size = 48, .gated = gated});
        const auto x = random_tensor<T>(1, rows, 16);
        auto y = x;
        Context context(threads, kAnyWork);
        std::atomic<int> here{0};  // a thread allocates when it starts
        context.parallel_for(threads, [&](Index) {
          ++here;
          while (here < threads) std::this_thread::yield();
        });
        const auto call = [&] { layer.forward_into(y, x, context); };
        for (int warm = 0; warm < 3; ++warm) call();
        const Counted seen = counted(call);
        EXPECT_EQ(seen.allocations, 0);
        EXPECT_TRUE(seen.locks == 0 || threads > 1);
      }
}

// Scratch memory holds blocks of rows, however many rows there are.
TYPED_TEST(FeedForwards, NoTensorOfAllHiddenRowsIsMade) {
  using T = TypeParam;
  const Index rows = 5000, hidden = 256;
  const auto layer = make<T>({.size = 8, .hidden_size = hidden});
  Context context;
  (void)layer(random_tensor<T>(1, rows, 8), context);
  EXPECT_LT(context.scratch_bytes(), rows * hidden * Index{sizeof(T)} / 8);
}

// ---- Gradients ----------------------------------------------------------------------------------

template <class T>
[[nodiscard]] double dot(const Tensor<T, 2>& a, const Tensor<T, 2>& b) {
  return std::inner_product(a.data(), a.data() + a.size(), b.data(), 0.0);
}

TEST(FeedForwardGradient, IsTheCentralDifference) {
  for (const bool gated : {false, true}) {
    auto layer =
        make<double>({.size = 5, .hidden_size = 7, .activation = Activation::gelu, .gated = gated});
    auto x = random_tensor<double>(1, 6, 5);
    const auto grad_y = random_tensor<double>(2, 6, 5);
    FeedForward<double>::Activations saved;
    (void)layer.forward(x, saved);
    const auto gradients = layer.backward(grad_y, saved);
    constexpr double step = 1e-6;
    const auto expect = [&](double got, const auto& set, double at, const std::string& name) {
      set(at + step);
      const double ahead = dot(layer(x), grad_y);
      set(at - step);
      const double behind = dot(layer(x), grad_y);
      set(at);
      EXPECT_NEAR(got, (ahead - behind) / (2 * step), 1e-8) << name;
    };
    for (Index i = 0; i < x.size(); ++i)
      expect(gradients.x.data()[i], [&](double value) { x.data()[i] = value; }, x.data()[i], "x");
    std::vector<std::pair<std::string, std::vector<double>>> got;
    gradients.for_each_parameter([&](const auto& gradient) {
      got.emplace_back(gradient.name(),
                       std::vector<double>(static_cast<std::size_t>(gradient.size())));
      gradient.copy_to(got.back().second);
    });
    std::size_t number = 0;
    layer.for_each_parameter([&](const auto& parameter) {
      ASSERT_EQ(parameter.name(), got[number].first);
      ASSERT_EQ(static_cast<std::size_t>(parameter.size()), got[number].second.size());
      for (Index i = 0; i < parameter.size(); ++i)
        expect(
            got[number].second[static_cast<std::size_t>(i)],
            [&](double value) { parameter.set(i, value); }, parameter.get(i), parameter.name());
      ++number;
    });
    EXPECT_EQ(number, gated ? 6u : 4u);
  }
}

template <class T>
void expect_same_gradients(const eh::FeedForwardGradients<T>& a,
                           const eh::FeedForwardGradients<T>& b) {
  EXPECT_TRUE(same_bits(a.up.weight, b.up.weight));
  EXPECT_TRUE(same_bits(a.up.bias, b.up.bias));
  EXPECT_TRUE(same_bits(a.gate.weight, b.gate.weight));
  EXPECT_TRUE(same_bits(a.gate.bias, b.gate.bias));
  EXPECT_TRUE(same_bits(a.down.weight, b.down.weight));
  EXPECT_TRUE(same_bits(a.down.bias, b.down.bias));
}

TYPED_TEST(FeedForwards, GradientsAreTheSameOnAnyNumberOfThreadsAndMayBeAddedUp) {
  using T = TypeParam;
  for (const bool gated : {false, true}) {
    const auto layer =
        make<T>({.size = 9, .hidden_size = 40, .activation = Activation::silu, .gated = gated});
    const auto x = random_tensor<T>(1, 2, 300, 9), grad_y = random_tensor<T>(2, 2, 300, 9);
    typename FeedForward<T>::Activations saved;
    (void)layer.forward(x, saved);
    const auto alone = layer.backward(grad_y, saved);
    Context context(3, kAnyWork);
    typename FeedForward<T>::Activations saved_by_three;
    (void)layer.forward(x, saved_by_three, context);
    auto gradients = layer.backward(grad_y, saved_by_three, context);
    EXPECT_TRUE(same_bits(gradients.x, alone.x));
    expect_same_gradients(gradients, alone);

    layer.backward_into(gradients, grad_y, saved, true, context);
    EXPECT_TRUE(same_bits(gradients.x, alone.x));
    for (Index i = 0; i < alone.down.weight.size(); ++i)
      ASSERT_EQ(gradients.down.weight.data()[i], 2 * alone.down.weight.data()[i]);
  }
}

// Padding may hold anything: its gradient is 0.
TYPED_TEST(FeedForwards, PackedRowsHaveTheGradientsOfPaddedOnes) {
  using T = TypeParam;
  const Sequences sequences{300, 0, 1, 260};
  for (const bool gated : {false, true}) {
    const auto layer =
        make<T>({.size = 9, .hidden_size = 23, .activation = Activation::gelu, .gated = gated});
    auto x = random_tensor<T>(1, 4, 300, 9), grad_y = random_tensor<T>(2, 4, 300, 9);
    const auto packed_x = pack(x, sequences), packed_grad_y = pack(grad_y, sequences);
    for (Index b = 0; b < 4; ++b)
      for (Index r = sequences.length(b); r < 300; ++r)
        for (Index i = 0; i < 9; ++i) {
          x(b, r, i) = kNan<T>;
          grad_y(b, r, i) = 0;
        }
    typename FeedForward<T>::Activations saved;
    const auto y = layer.forward(x, saved);
    const auto padded = layer.backward(grad_y, saved);
    const auto packed_y = layer.forward(packed_x, sequences, saved);
    const auto packed = layer.backward(packed_grad_y, saved);
    EXPECT_TRUE(same_bits(packed_y, pack(y, sequences)));
    EXPECT_TRUE(same_bits(TensorView<T, 2>(packed.x.data(), {561, 9}), pack(padded.x, sequences)));
    for (Index i = 0; i < 9; ++i) EXPECT_EQ(padded.x(2, 1, i), 0);
    expect_same_gradients(packed, padded);
  }
}

// ---- Sizes, names and refusals -------------------------------------------------------------------

TYPED_TEST(FeedForwards, ALazyOneEndsAsAnEagerOne) {
  using T = TypeParam;
  FeedForward<T> lazy({.hidden_size = 12, .gated = true}, 3);
  const FeedForward<T> eager({.size = 7, .hidden_size = 12, .gated = true}, 3);
  const auto x = random_tensor<T>(1, 4, 7);
  const auto& as_const = lazy;
  EXPECT_EQ(refusal<std::logic_error>([&] { return as_const(x); }),
            "eigenheads: FeedForward: size is not known yet; call it once on a non-const layer, or "
            "initialize(size)");
  EXPECT_TRUE(same_bits(lazy(x), eager(x)));
  EXPECT_EQ(lazy.size(), 7);
}

TYPED_TEST(FeedForwards, RefusesWhatDoesNotFit) {
  using T = TypeParam;
  FeedForward<T> layer({.size = 7, .hidden_size = 12});
  Tensor<T, 2> x = random_tensor<T>(1, 4, 7), narrow(4, 6), y(4, 7);
  EXPECT_EQ(refusal([&] { return layer(narrow); }),
            "eigenheads: x has shape [4, 6]; expected [..., size] = [4, 7]");
  EXPECT_EQ(refusal([&] { return layer.forward_into(narrow, x), 0; }),
            "eigenheads: y has shape [4, 6]; expected [..., size] = [4, 7]");
  typename FeedForward<T>::Activations saved;
  EXPECT_EQ(refusal<std::logic_error>([&] { return layer.backward(x, saved); }),
            "eigenheads: FeedForward: backward needs the activations of a forward call");
  EXPECT_EQ(refusal([&] { return layer.forward(x, Sequences{2, 3}, saved); }),
            "eigenheads: x has 4 rows; expected 5, those of its 2 sequences");
  (void)layer.forward(x, saved);
  EXPECT_EQ(refusal([&] { return layer.backward(random_tensor<T>(1, 5, 7), saved); }),
            "eigenheads: grad_y has shape [5, 7]; expected 4 rows of 1 sequences, those of the "
            "forward call");
  EXPECT_EQ(refusal([&] { return layer.backward(narrow, saved); }),
            "eigenheads: grad_y has shape [4, 6]; expected [..., size] = [4, 7]");
  const FeedForward<T> other({.size = 7, .hidden_size = 12, .gated = true});
  EXPECT_EQ(refusal<std::logic_error>([&] { return other.backward(x, saved); }),
            "eigenheads: FeedForward: the activations are those of a layer of other sizes");
  layer.down = eh::Linear<T>({.in_features = 11, .out_features = 7});
  EXPECT_EQ(refusal([&] { return layer(x); }),
            "eigenheads: FeedForward: down.in_features is 11; expected 12");
  EXPECT_EQ(refusal([] { return FeedForward<T>({.size = 7}); }),
            "eigenheads: FeedForward: hidden_size is 0; expected 1 or more");
  EXPECT_EQ(
      refusal([] { return FeedForward<T>({.size = -1, .hidden_size = 1}); }),
      "eigenheads: FeedForward: size is -1; expected 1 or more, or 0 to take it from the first "
      "input");
  EXPECT_EQ(refusal([] {
              FeedForward<T>({.size = 2, .hidden_size = 1}).initialize(3);
              return 0;
            }),
            "eigenheads: FeedForward: size is 3; expected 2");
}

// Weights that were set are not thrown away for drawn ones, and a refusal gives no sizes.
TYPED_TEST(FeedForwards, ALazyOneOfWhichAPartWasSetIsRefused) {
  using T = TypeParam;
  const auto x = random_tensor<T>(1, 2, 4);
  const auto refused = [&](FeedForward<T>& layer) {
    const std::string sentence = refusal<std::logic_error>([&] { return layer(x); });
    EXPECT_TRUE(layer.is_lazy());
    return sentence;
  };
  const std::string rest = " has none; call initialize(size) before, and set weights then";
  FeedForward<T> layer({.hidden_size = 6});
  layer.up.set_weight(random_tensor<T>(2, 6, 4));
  EXPECT_EQ(refused(layer), "eigenheads: FeedForward: up was given a size, and down" + rest);
  layer.down = eh::Linear<T>({.in_features = 6, .out_features = 4, .bias = true});
  EXPECT_EQ(layer(x).dimension(1), 4);  // all of them are set
  layer = FeedForward<T>({.hidden_size = 6});
  layer.down = eh::Linear<T>({.in_features = 6, .out_features = 4, .bias = true});
  EXPECT_EQ(refused(layer), "eigenheads: FeedForward: down was given a size, and up" + rest);
  layer = FeedForward<T>({.hidden_size = 6, .gated = true});
  layer.gate = eh::Linear<T>({.in_features = 4, .out_features = 5});
  EXPECT_EQ(refused(layer), "eigenheads: FeedForward: gate was given a size, and up" + rest);
  layer.gate = eh::Linear<T>({.out_features = 5});
  EXPECT_EQ(refusal([&] { return layer(x); }),
            "eigenheads: FeedForward: gate.out_features is 5; expected 6");
  EXPECT_TRUE(layer.is_lazy());
  layer = FeedForward<T>({.hidden_size = 6});
  layer.down.set_bias(constant_tensor(T(7), 1));
  EXPECT_EQ(
      refusal<std::logic_error>([&] {
        layer.initialize(1);
        return 0;
      }),
      "eigenheads: FeedForward: down was given a bias, and has no size; call initialize(size) "
      "before, and set biases then");
}

// As many rows, but the sums of gradients would run over others.
TYPED_TEST(FeedForwards, AGradientOfOtherSequencesIsRefused) {
  using T = TypeParam;
  const FeedForward<T> layer({.size = 7, .hidden_size = 12});
  typename FeedForward<T>::Activations saved;
  (void)layer.forward(random_tensor<T>(1, 3, 2, 7), saved);
  EXPECT_EQ(refusal([&] { return layer.backward(random_tensor<T>(1, 2, 3, 7), saved); }),
            "eigenheads: grad_y has shape [2, 3, 7]; expected 6 rows of 3 sequences, those of the "
            "forward call");
  EXPECT_EQ(refusal([&] { return layer.backward(random_tensor<T>(1, 6, 7), saved); }),
            "eigenheads: grad_y has shape [6, 7]; expected 6 rows of 3 sequences, those of the "
            "forward call");
  (void)layer.forward(random_tensor<T>(1, 5, 7), Sequences{2, 3}, saved);
  EXPECT_EQ(refusal([&] { return layer.backward(random_tensor<T>(1, 1, 5, 7), saved); }),
            "eigenheads: grad_y has shape [1, 5, 7]; expected 5 rows of 2 sequences, those of the "
            "forward call");
}

// They would stay behind as those of a parameter that there is not.
TYPED_TEST(FeedForwards, GradientsOfAGateDoNotOutliveIt) {
  using T = TypeParam;
  const auto x = random_tensor<T>(1, 4, 7);
  const FeedForward<T> gated({.size = 7, .hidden_size = 12, .gated = true});
  const FeedForward<T> plain({.size = 7, .hidden_size = 12});
  typename FeedForward<T>::Activations saved;
  (void)gated.forward(x, saved);
  auto gradients = gated.backward(x, saved);
  (void)plain.forward(x, saved);
  EXPECT_EQ(refusal([&] { return plain.backward_into(gradients, x, saved, true), 0; }),
            "eigenheads: gradients: there are some of a gate; expected none, of a layer without "
            "one");
  plain.backward_into(gradients, x, saved);
  int count = 0;
  gradients.for_each_parameter([&](const auto&) { ++count; });
  EXPECT_EQ(count, 4);
}

TEST(FeedForwardText, IsPyTorchs) {
  std::ostringstream text;
  text << FeedForward<float>(
      {.size = 4, .hidden_size = 6, .activation = Activation::silu, .gated = true});
  EXPECT_EQ(text.str(),
            "FeedForward(\n"
            "  (up): Linear(in_features=4, out_features=6, bias=True)\n"
            "  (gate): Linear(in_features=4, out_features=6, bias=True)\n"
            "  (activation): SiLU()\n"
            "  (down): Linear(in_features=6, out_features=4, bias=True)\n"
            ")");
}

}  // namespace
