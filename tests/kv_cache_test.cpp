// SPDX-License-Identifier: MIT
// Decoding through a cache: the bits of one causal call over the whole sequence, whatever was cut off,
// forked and reordered on the way, and a refusal leaves everything as it was.
#include <algorithm>
#include <array>
#include <cfenv>
#include <cmath>
#include <numeric>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <eigenheads/kv_cache.hpp>
#include <eigenheads/prune_heads.hpp>
#include <eigenheads/rotary.hpp>
#include <eigenheads/score.hpp>

#include "layers.hpp"
#include "support.hpp"

namespace {

using namespace support;
using eh::Causal, eh::Context, eh::KvCache, eh::Mask, eh::MultiHeadAttention, eh::Sequences;
using Lens = std::vector<Index>;

constexpr Index kSize = 12;

template <class T>
class Decoding : public testing::Test {};
TYPED_TEST_SUITE(Decoding, Scalars, ScalarNames);

template <class T>
[[nodiscard]] MultiHeadAttention<T> layer_of(Index H, Index G, Index D = 5) {
  return make_layer<T>(
      kSize,
      {.num_hiddens = kSize, .num_heads = H, .bias = true, .num_kv_heads = G, .head_size = D});
}

template <class T>
[[nodiscard]] KvCache<T> cache_for(const MultiHeadAttention<T>& layer, Index B, Index capacity,
                                   Index window = 0) {
  return KvCache<T>({.batch_size = B,
                     .num_kv_heads = layer.num_kv_heads(),
                     .head_size = layer.head_size(),
                     .capacity = capacity,
                     .window = window});
}

[[nodiscard]] Mask causal(Index window = 0) {
  return {.causal = Causal::top_left, .window = {.left = window - 1}};
}

// Tokens [first, first + count) of every sequence.
template <class T>
[[nodiscard]] Tensor<T, 3> part(const Tensor<T, 3>& x, Index first, Index count) {
  Tensor<T, 3> tokens(x.dimension(0), count, x.dimension(2));
  for (Index b = 0; b < x.dimension(0); ++b)
    std::copy_n(x.data() + (b * x.dimension(1) + first) * x.dimension(2), count * x.dimension(2),
                tokens.data() + b * count * x.dimension(2));
  return tokens;
}

// ---- Against a model -----------------------------------------------------------------------------

// What a cache stands for: each sequence is a list of tokens, and a step is the end of a causal call
// over the whole list.
template <class T>
class Model {
 public:
  Model(const MultiHeadAttention<T>& layer, Index B, Mask mask)
      : layer_(layer), mask_(std::move(mask)), tokens_(static_cast<std::size_t>(B)) {}

  [[nodiscard]] std::vector<Lens>& tokens() { return tokens_; }
  [[nodiscard]] Index length(Index b) const { return std::ssize(tokens_[at(b)]); }

  // The row of a token: a function of its number.
  [[nodiscard]] static Tensor<T, 1> row_of(Index token) {
    return random_tensor<T>(static_cast<std::uint64_t>(token) + 1000, kSize);
  }
  // Outputs of the last `count` tokens of sequence b, [count, kSize].
  [[nodiscard]] Tensor<T, 2> last(Index b, Index count) const {
    const Index length = this->length(b);
    Tensor<T, 3> x(1, length, kSize);
    for (Index t = 0; t < length; ++t)
      std::copy_n(row_of(tokens_[at(b)][at(t)]).data(), kSize, x.data() + t * kSize);
    const Tensor<T, 3> y = layer_(x, x, x, mask_);
    Tensor<T, 2> rows(count, kSize);
    std::copy_n(y.data() + (length - count) * kSize, count * kSize, rows.data());
    return rows;
  }

 private:
  [[nodiscard]] static std::size_t at(Index i) { return static_cast<std::size_t>(i); }

  const MultiHeadAttention<T>& layer_;
  Mask mask_;
  std::vector<Lens> tokens_;
};

struct Sizes {
  Index H, G, B, capacity, window;
  int threads;
  Index sinks = 0;
};

template <class T>
void random_operations(const Sizes& sizes, int operations, std::uint64_t seed) {
  SCOPED_TRACE(testing::Message() << "window " << sizes.window << ", capacity " << sizes.capacity
                                  << ", " << sizes.threads << " threads");
  const auto [H, G, B, capacity, window, threads, sinks] = sizes;
  const auto layer = layer_of<T>(H, G);
  KvCache<T> cache({.batch_size = B,
                    .num_kv_heads = G,
                    .head_size = layer.head_size(),
                    .capacity = capacity,
                    .window = window,
                    .sinks = sinks});
  Mask mask = causal(window);
  mask.sinks = sinks;
  Model<T> model(layer, B, mask);
  Context context(threads, kAnyWork);
  Numbers numbers(seed);
  Lens oldest(static_cast<std::size_t>(B), 0);  // token that a ring has for certain
  Index next = 0, steps = 0;
  for (int i = 0; i < operations; ++i) {
    const Index b = numbers.between(0, B - 1);
    switch (numbers.between(0, 9)) {
      case 0: {  // back, as far as it goes
        const Index kept = oldest[static_cast<std::size_t>(b)];
        const Index least = kept == 0 ? 0 : kept + window - 1;
        const Index length = numbers.between(least, model.length(b));
        cache.truncate(b, length);
        model.tokens()[static_cast<std::size_t>(b)].resize(static_cast<std::size_t>(length));
        break;
      }
      case 1: {
        const Index to = numbers.between(0, B - 1);
        cache.fork(b, to);
        model.tokens()[static_cast<std::size_t>(to)] =
            Lens(model.tokens()[static_cast<std::size_t>(b)]);
        oldest[static_cast<std::size_t>(to)] = oldest[static_cast<std::size_t>(b)];
        break;
      }
      case 2: {
        Lens parents, kept;
        std::vector<Lens> tokens;
        for (Index child = 0; child < B; ++child) {
          parents.push_back(numbers.between(0, B - 1));
          tokens.push_back(model.tokens()[static_cast<std::size_t>(parents.back())]);
          kept.push_back(oldest[static_cast<std::size_t>(parents.back())]);
        }
        cache.reorder(parents);
        model.tokens() = tokens;
        oldest = kept;
        break;
      }
      case 3:
        cache = cache.copy();
        break;
      default: {  // a step, of a few tokens or of many
        Lens counts;
        const Index most = std::array<Index, 6>{
            1, 1, 3, 7, 64, 300}[static_cast<std::size_t>(numbers.between(0, 5))];
        for (Index s = 0; s < B; ++s) {
          const Index room = window > 0 ? most : std::min(most, capacity - model.length(s));
          counts.push_back(numbers.between(0, room));
          for (Index t = 0; t < counts.back(); ++t)
            model.tokens()[static_cast<std::size_t>(s)].push_back(next++ % 997);
        }
        const Sequences sequences(counts);
        Tensor<T, 2> x(sequences.rows(), kSize);
        for (Index s = 0, row = 0; s < B; ++s)
          for (Index t = model.length(s) - counts[static_cast<std::size_t>(s)]; t < model.length(s);
               ++t, ++row)
            std::copy_n(
                Model<T>::row_of(
                    model.tokens()[static_cast<std::size_t>(s)][static_cast<std::size_t>(t)])
                    .data(),
                kSize, x.data() + row * kSize);
        Tensor<T, 2> y;
        if (numbers.between(0, 1) == 0) {
          y = layer.step(x, sequences, cache, {}, context);
        } else {  // padded
          const Tensor<T, 3> padded =
              layer.step(eh::unpack(x, sequences), cache, {.query_lens = counts}, context);
          y = eh::pack(padded, sequences);
        }
        for (Index s = 0; s < B; ++s) {
          const Index count = counts[static_cast<std::size_t>(s)];
          auto& kept = oldest[static_cast<std::size_t>(s)];
          if (window > 0) kept = std::max(kept, model.length(s) - capacity);
          if (count == 0) continue;
          const TensorView<T, 2> rows(y.data() + sequences.begin(s) * kSize, {count, kSize});
          ASSERT_TRUE(same_bits(rows, model.last(s, count)))
              << "operation " << i << ", sequence " << s << ", length " << model.length(s);
        }
        ++steps;
      }
    }
    for (Index s = 0; s < B; ++s) ASSERT_EQ(cache.length(s), model.length(s));
  }
  ASSERT_GT(steps, operations / 3);
}

TYPED_TEST(Decoding, AnyOrderOfOperationsIsAListOfTokens) {
  using T = TypeParam;
  std::uint64_t seed = 1;
  for (const Sizes& sizes : std::vector<Sizes>{{4, 2, 3, 700, 0, 1},
                                               {2, 2, 1, 300, 0, 3},
                                               {3, 1, 4, 90, 0, 2},
                                               {4, 2, 3, 40, 33, 1},
                                               {2, 1, 2, 300, 270, 3},
                                               {1, 1, 1, 1, 1, 2},
                                               {4, 2, 3, 40, 33, 1, 2},
                                               {2, 1, 2, 300, 270, 3, 300},
                                               {2, 2, 2, 20, 20, 2, 5}})
    random_operations<T>(sizes, 120, seed++);
}

// ---- Steps ---------------------------------------------------------------------------------------

TYPED_TEST(Decoding, ScoreFunctionsGatesAndPrunedHeadsAreThoseOfTheWholeCall) {
  using T = TypeParam;
  const Index B = 2, length = 280;
  auto layer = eh::prune_heads(layer_of<T>(6, 3), {1});
  Tensor<T, 2> gates(B, layer.num_heads());
  for (Index i = 0; i < gates.size(); ++i) gates.data()[i] = T(i % 3) / 2;
  layer.set_gates(gates);
  const auto x = random_tensor<T>(1, B, length, kSize);
  const auto slopes = random_tensor<T>(2, 6);
  const auto score = eh::chain(eh::Alibi<T>(slopes), eh::Softcap<T>(T(3)));
  const Tensor<T, 3> whole = layer(x, x, x, causal(), {.score = score});
  for (const int threads : {1, 3}) {
    Context context(threads, kAnyWork);
    KvCache<T> cache = cache_for(layer, B, length);
    for (Index t = 0, n = 0; t < length; t += n) {
      n = std::min(std::array<Index, 5>{130, 1, 2, 3, 64}[static_cast<std::size_t>(t % 5)],
                   length - t);
      EXPECT_TRUE(
          same_bits(layer.step(part(x, t, n), cache, {}, {.score = score, .context = context}),
                    part(whole, t, n)));
    }
  }
}

TYPED_TEST(Decoding, ARotaryTurnsTokensByTheirPlaceInTheWholeSequence) {
  using T = TypeParam;
  const Index B = 2, length = 290;
  const auto layer = make_layer<T>(kSize, {.num_hiddens = kSize,
                                           .num_heads = 4,
                                           .num_kv_heads = 2,
                                           .head_size = 6,
                                           .rotary = eh::RotaryOptions{.max_positions = 290}});
  const auto x = random_tensor<T>(1, B, length, kSize);
  for (const Index window : {0, 33}) {
    const Tensor<T, 3> whole = layer(x, x, x, causal(window));
    KvCache<T> cache = cache_for(layer, B, window > 0 ? window : length + 1, window);
    // Sequence 1 is behind by 5 tokens, and catches up in steps of its own.
    (void)layer.step(eh::pack(x, Lens{15, 10}), Lens{15, 10}, cache);
    for (Index t = 15; t < length; t += 5) {
      Tensor<T, 2> tokens(10, kSize);
      std::copy_n(&x(0, t, 0), 5 * kSize, tokens.data());
      std::copy_n(&x(1, t - 5, 0), 5 * kSize, tokens.data() + 5 * kSize);
      const Tensor<T, 2> y = layer.step(tokens, Lens{5, 5}, cache);
      for (Index i = 0; i < 5; ++i) {
        ASSERT_TRUE(same_bits(row(y, i), row(whole, Index{0}, t + i)));
        ASSERT_TRUE(same_bits(row(y, 5 + i), row(whole, Index{1}, t - 5 + i)));
      }
    }
    EXPECT_NE(refusal([&] { (void)layer.step(part(x, 0, 1), cache); }).find("tokens"),
              std::string::npos);
    EXPECT_EQ(cache.length(0), length);
  }
}

TYPED_TEST(Decoding, AGateThatOpensLaterFindsTheKeysOfItsHead) {
  using T = TypeParam;
  auto layer = layer_of<T>(2, 2);
  const auto x = random_tensor<T>(1, 1, 4, kSize);
  const Tensor<T, 3> whole = layer(x, x, x, causal());
  KvCache<T> cache = cache_for(layer, 1, 4);
  layer.set_gates(std::vector<T>{0, 1});
  (void)layer.step(part(x, 0, 3), cache);
  layer.clear_gates();
  EXPECT_TRUE(same_bits(layer.step(part(x, 3, 1), cache), part(whole, 3, 1)));
}

TYPED_TEST(Decoding, WeightsAreThoseOfTheWholeCall) {
  using T = TypeParam;
  const Index B = 2, length = 300, n = 5;
  const auto layer = layer_of<T>(4, 2);
  const auto x = random_tensor<T>(1, B, length, kSize);
  for (const Index window : {0, 20}) {
    const auto whole = layer.with_weights(x, x, x, causal(window));
    KvCache<T> cache = cache_for(layer, B, window > 0 ? window : length, window);
    (void)layer.step(part(x, 0, length - n), cache);
    const auto step = layer.step_with_weights(part(x, length - n, n), cache);
    EXPECT_TRUE(same_bits(step.output, part(whole.output, length - n, n)));
    for (Index b = 0; b < B; ++b)
      for (Index h = 0; h < 4; ++h)
        for (Index q = 0; q < n; ++q)
          EXPECT_TRUE(
              same_bits(row(step.weights, b, h, q), row(whole.weights, b, h, length - n + q)));
    // Of packed sequences, each its own.
    KvCache<T> packed = cache_for(layer, B, window > 0 ? window : length, window);
    const auto rows = eh::pack(x, Lens{length, 7});
    const auto all = layer.step_with_weights(rows, Lens{length, 7}, packed);
    ASSERT_EQ(all.weights.size(), 2u);
    EXPECT_TRUE(
        same_bits(all.weights[0], TensorView<T, 3>(whole.weights.data(), {4, length, length})));
    EXPECT_EQ(all.weights[1].dimension(2), 7);
  }
}

TYPED_TEST(Decoding, AWindowOfTheMaskIsOneOfTheWholeCall) {
  using T = TypeParam;
  const auto layer = layer_of<T>(2, 1);
  const auto x = random_tensor<T>(1, 1, 290, kSize);
  const Tensor<T, 3> whole = layer(x, x, x, causal(9));
  KvCache<T> cache = cache_for(layer, 1, 290);
  for (Index t = 0; t < 290; t += 10)
    EXPECT_TRUE(
        same_bits(layer.step(part(x, t, 10), cache, {.window = {.left = 8}}), part(whole, t, 10)));
}

// The cache's part of T5.05, too: a chunk that ends inside the prefix has not its bits.
TYPED_TEST(Decoding, SinksAndAPrefixAreThoseOfTheWholeCall) {
  using T = TypeParam;
  const Index B = 2, length = 600;
  const auto layer = make_layer<T>(kSize, {.num_hiddens = kSize,
                                           .num_heads = 4,
                                           .num_kv_heads = 2,
                                           .head_size = 6,
                                           .sink_logits = true});
  const auto x = random_tensor<T>(1, B, length, kSize);
  for (const Mask& mask :
       {Mask{.window = {.left = 20}, .sinks = 3}, Mask{.window = {.left = 20}, .sinks = 300},
        Mask{.prefix_lens = {70, 9}}, Mask{}}) {
    Mask of_whole = mask;
    of_whole.causal = Causal::top_left;
    const Tensor<T, 3> whole = layer(x, x, x, of_whole);
    for (const int threads : {1, 5}) {
      Context context(threads, kAnyWork);
      KvCache<T> cache = cache_for(layer, B, length);
      if (mask.prefix_lens.rank() != 0) {
        EXPECT_NE(refusal([&] {
                    (void)layer.step(part(x, 0, 69), cache, mask);
                  }).find("prefix_lens[0] is 70"),
                  std::string::npos);
      }
      for (Index t = 0, n = 0; t < length; t += n) {
        n = t == 0 ? 70 : std::min(1 + t % 37, length - t);
        ASSERT_TRUE(same_bits(layer.step(part(x, t, n), cache, mask, context), part(whole, t, n)))
            << "from token " << t;
      }
    }
  }
  KvCache<T> ring = cache_for(layer, B, 9, 9);
  EXPECT_NE(refusal([&] {
              (void)layer.step(part(x, 0, 1), ring, {.sinks = 2});
            }).find("2 sinks; expected 0, those of the ring"),
            std::string::npos);
  // What it has let go of cannot be seen again.
  EXPECT_NE(refusal([&] {
              (void)layer.step(part(x, 0, 1), ring, {.window = {.left = 9}});
            }).find("a window of 9 keys to the left; expected at most 8, or -1"),
            std::string::npos);
  EXPECT_EQ(ring.length(0), 0);
  (void)layer.step(part(x, 0, 1), ring, {.window = {.left = 8}});
  EXPECT_NE(refusal([&] {
              (void)layer.step(part(x, 0, 1), ring, {.prefix_lens = {1, 1}});
            }).find("prefix_lens"),
            std::string::npos);
}

TYPED_TEST(Decoding, WhatWasCutOffMayHaveBeenAnything) {
  using T = TypeParam;
  const auto layer = layer_of<T>(2, 2);
  const Index length = 20;
  auto x = random_tensor<T>(1, 1, length, kSize);
  const Tensor<T, 3> whole = layer(x, x, x, causal());
  for (const T poison : {kNan<T>, kInf<T>}) {
    Context context;
    KvCache<T> cache = cache_for(layer, 1, 40);
    (void)layer.step(part(x, 0, 15), cache, context);
    (void)layer.step(constant_tensor<T>(poison, 1, 9, kSize), cache, context);
    cache.truncate(0, 15);
    const auto slow = context.row_by_row_count();
    for (Index t = 15; t < length; ++t)
      EXPECT_TRUE(same_bits(layer.step(part(x, t, 1), cache, context), part(whole, t, 1)));
    EXPECT_EQ(context.row_by_row_count(), slow);  // nor does it slow down what comes
  }
}

TYPED_TEST(Decoding, WhatWasCutOffRaisesNoException) {
  using T = TypeParam;
  const auto layer = layer_of<T>(2, 2);
  const auto x = random_tensor<T>(1, 1, 20, kSize);
  auto infinite = random_tensor<T>(2, 1, 9, kSize);
  for (Index t = 0; t < 9; ++t) infinite(0, t, 0) = kInf<T>;  // so that no key is NaN
  KvCache<T> cache = cache_for(layer, 1, 40);
  (void)layer.step(part(x, 0, 13), cache);
  (void)layer.step(infinite, cache);
  cache.truncate(0, 13);  // in the midst of a panel of any width
  std::feclearexcept(FE_ALL_EXCEPT);
  for (Index t = 13; t < 20; ++t) (void)layer.step(part(x, t, 1), cache);
  EXPECT_EQ(std::fetestexcept(FE_INVALID | FE_OVERFLOW), 0);
}

TYPED_TEST(Decoding, ATokenOfInfinityIsSeenByNoTokenBeforeIt) {
  using T = TypeParam;
  const auto layer = layer_of<T>(2, 2);
  auto x = random_tensor<T>(1, 1, 20, kSize);
  x(0, 13, 0) = kInf<T>;  // the one before it is multiplied with it, whatever the tile
  const Tensor<T, 3> whole = layer(x, x, x, causal());
  EXPECT_FALSE(std::isnan(whole(0, 12, 0)));
  KvCache<T> cache = cache_for(layer, 1, 40);
  for (const auto& [t, n] : {std::pair<Index, Index>{0, 10}, {10, 5}, {15, 5}})
    EXPECT_TRUE(same_bits(layer.step(part(x, t, n), cache), part(whole, t, n))) << t;
}

TYPED_TEST(Decoding, AStepMayWriteOverItsInputAndBringNoTokens) {
  using T = TypeParam;
  const auto layer = layer_of<T>(2, 1);
  auto x = random_tensor<T>(1, 2, 3, kSize);
  KvCache<T> cache = cache_for(layer, 2, 8), other = cache.copy();
  const Tensor<T, 3> y = layer.step(x, cache);
  layer.step_into(x, x, other);
  EXPECT_TRUE(same_bits(x, y));
  EXPECT_EQ(layer.step(Tensor<T, 3>(2, 0, kSize), cache).size(), 0);
  EXPECT_EQ(cache.length(0), 3);
  const auto layer_of_none = cache_for(layer, 0, 8);
  EXPECT_EQ(layer_of_none.bytes(), 0);
}

// ---- Named rows ----------------------------------------------------------------------------------

// S5.03
TYPED_TEST(Decoding, TokensOneAtATimeAreTheRowsOfTheWholeCall) {
  using T = TypeParam;
  const auto layer = layer_of<T>(4, 2);
  const auto x = random_tensor<T>(1, 2, 130, kSize);
  const Tensor<T, 3> whole = layer(x, x, x, causal());
  for (const int threads : {1, 4}) {
    Context context(threads, kAnyWork);
    KvCache<T> cache = cache_for(layer, 2, 130);
    for (Index t = 0; t < 130; ++t)
      ASSERT_TRUE(same_bits(layer.step(part(x, t, 1), cache, context), part(whole, t, 1))) << t;
  }
}

// S5.07
TYPED_TEST(Decoding, SequencesOfOtherLengthsAreWhatTheyAreAlone) {
  using T = TypeParam;
  const auto layer = layer_of<T>(4, 2);
  const Lens lengths{0, 1, 7};
  const auto x = random_tensor<T>(1, 3, 7, kSize), next = random_tensor<T>(2, 3, 1, kSize);
  KvCache<T> cache = cache_for(layer, 3, 9);
  (void)layer.step(eh::pack(x, lengths), lengths, cache);
  const Tensor<T, 3> y = layer.step(next, cache);
  for (Index b = 0; b < 3; ++b) {
    KvCache<T> alone = cache_for(layer, 1, 9);
    const auto first = [](TensorView<T, 3> of, Index count) {
      Tensor<T, 3> tokens(1, count, kSize);
      std::copy_n(of.data(), count * kSize, tokens.data());
      return tokens;
    };
    (void)layer.step(first(sequence(x, b), lengths[static_cast<std::size_t>(b)]), alone);
    EXPECT_TRUE(same_bits(layer.step(first(sequence(next, b), 1), alone), sequence(y, b))) << b;
  }
}

// T1.01
TYPED_TEST(Decoding, ARingIsAFullCacheUnderItsWindowWhateverTheSteps) {
  using T = TypeParam;
  const auto layer = layer_of<T>(2, 2);
  const auto x = random_tensor<T>(1, 1, 20, kSize);
  KvCache<T> ring = cache_for(layer, 1, 4, 4), full = cache_for(layer, 1, 20);
  const Index bytes = ring.bytes();
  Index t = 0;
  for (const Index n : {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3, 6, 1}) {
    EXPECT_TRUE(same_bits(layer.step(part(x, t, n), ring),
                          layer.step(part(x, t, n), full, {.window = {.left = 3}})));
    t += n;
  }
  EXPECT_EQ(ring.length(0), 20);
  EXPECT_EQ(ring.bytes(), bytes);
}

// The ring's part of T5.04.
TYPED_TEST(Decoding, ARingKeepsItsSinks) {
  using T = TypeParam;
  MultiHeadAttention<T> layer(
      {.num_hiddens = 1, .num_heads = 1, .query_size = 1, .key_size = 1, .value_size = 1});
  layer.W_q.set_weight(constant_tensor<T>(T(0), 1, 1));
  layer.W_v.set_weight(constant_tensor<T>(T(1), 1, 1));
  layer.W_o.set_weight(constant_tensor<T>(T(1), 1, 1));
  Tensor<T, 3> x(1, 10, 1);
  std::iota(x.data(), x.data() + 10, T(0));
  KvCache<T> ring(
      {.batch_size = 1, .num_kv_heads = 1, .head_size = 1, .capacity = 3, .window = 3, .sinks = 2});
  const std::vector<T> expected{0, T(0.5), 1, T(1.5), 2, T(2.6), T(3.2), T(3.8), T(4.4), 5};
  for (Index t = 0; t < 10; ++t)
    EXPECT_NEAR(layer.step(part(x, t, 1), ring)(0, 0, 0), expected[static_cast<std::size_t>(t)],
                20 * Limits<T>::epsilon() * 5);
}

// Beyond some blocks of keys.
TYPED_TEST(Decoding, ARingKeepsItsSinksWhenItLetsGoOfPages) {
  using T = TypeParam;
  const auto layer = layer_of<T>(2, 1);
  const Index length = 1000, n = 90;
  const auto x = random_tensor<T>(1, 1, length, kSize);
  const Tensor<T, 3> whole =
      layer(x, x, x, {.causal = eh::Causal::bottom_right, .window = {.left = 99}, .sinks = 3});
  KvCache<T> ring({.batch_size = 1,
                   .num_kv_heads = 1,
                   .head_size = layer.head_size(),
                   .capacity = 130,
                   .window = 100,
                   .sinks = 3});
  for (Index t = 0; t < length; t += n) {
    const Index count = std::min(n, length - t);
    EXPECT_TRUE(same_bits(layer.step(part(x, t, count), ring), part(whole, t, count))) << t;
  }
}

// T1.02
TYPED_TEST(Decoding, ARingGoesBackAsFarAsItsCapacityReaches) {
  using T = TypeParam;
  const auto layer = layer_of<T>(2, 2);
  const auto x = random_tensor<T>(1, 1, 12, kSize);
  const Tensor<T, 3> whole = layer(x, x, x, causal(4));
  KvCache<T> ring = cache_for(layer, 1, 6, 4);
  (void)layer.step(part(x, 0, 10), ring);
  KvCache<T> cut = ring.copy();
  cut.truncate(0, 7);
  EXPECT_EQ(cut.length(0), 7);
  EXPECT_TRUE(same_bits(layer.step(part(x, 7, 5), cut), part(whole, 7, 5)));
  EXPECT_EQ(
      refusal([&] { ring.truncate(0, 6); }),
      "eigenheads: truncate: sequence 0 is cut to 6 tokens, and the ring has dropped some that "
      "the next would see; expected 7 to 10");
  EXPECT_EQ(ring.length(0), 10);
  EXPECT_TRUE(same_bits(layer.step(part(x, 10, 1), ring), part(whole, 10, 1)));
  ring.truncate(0, 8);
  EXPECT_TRUE(same_bits(layer.step(part(x, 8, 4), ring), part(whole, 8, 4)));
}

// T1.03
TYPED_TEST(Decoding, ATokenOfAStepSeesThoseBeforeItAndNoLater) {
  using T = TypeParam;
  MultiHeadAttention<T> layer(
      {.num_hiddens = 1, .num_heads = 1, .query_size = 1, .key_size = 1, .value_size = 1});
  const auto one = constant_tensor<T>(T(1), 1, 1);
  layer.W_q.set_weight(constant_tensor<T>(T(0), 1, 1));
  layer.W_v.set_weight(one);
  layer.W_o.set_weight(one);
  Tensor<T, 3> x(1, 7, 1);
  std::iota(x.data(), x.data() + 7, T(0));
  KvCache<T> cache = cache_for(layer, 1, 7);
  (void)layer.step(part(x, 0, 5), cache);
  const Tensor<T, 3> y = layer.step(part(x, 5, 2), cache);
  // The sum of 7 terms, each of a product and a weight that is rounded.
  EXPECT_NEAR(y(0, 0, 0), T(2.5), 14 * Limits<T>::epsilon() * 3);
  EXPECT_NEAR(y(0, 1, 0), T(3), 14 * Limits<T>::epsilon() * 3);
}

// T1.04
TYPED_TEST(Decoding, ASequenceWithoutRoomIsNamedAndNothingWritten) {
  using T = TypeParam;
  const auto layer = layer_of<T>(2, 2);
  const auto x = random_tensor<T>(1, 10, kSize);
  KvCache<T> cache = cache_for(layer, 2, 8);
  (void)layer.step(x, Lens{7, 3}, cache);
  KvCache<T> before = cache.copy();
  const auto next = random_tensor<T>(2, 4, kSize);
  EXPECT_EQ(refusal([&] { (void)layer.step(next, Lens{2, 2}, cache); }),
            "eigenheads: step: sequence 0 has 7 tokens and gets 2; expected no more than 8, the "
            "cache's capacity");
  EXPECT_EQ(cache.length(0), 7);
  EXPECT_EQ(cache.length(1), 3);
  const auto fitting = random_tensor<T>(3, 3, kSize);
  EXPECT_TRUE(
      same_bits(layer.step(fitting, Lens{1, 2}, cache), layer.step(fitting, Lens{1, 2}, before)));
}

// T1.05
TYPED_TEST(Decoding, BeamsAreReorderedAllAtOnce) {
  using T = TypeParam;
  const auto layer = layer_of<T>(2, 2);
  const auto x = random_tensor<T>(1, 3, 5, kSize);
  const auto next = random_tensor<T>(2, 1, 1, kSize);
  for (const Lens& parents : {Lens{1, 0, 2}, Lens{2, 2, 0}}) {
    KvCache<T> cache = cache_for(layer, 3, 8), old = cache.copy();
    (void)layer.step(x, cache);
    (void)layer.step(x, old);
    cache.reorder(parents);
    Tensor<T, 3> same(3, 1, kSize);
    for (Index b = 0; b < 3; ++b) std::copy_n(next.data(), kSize, same.data() + b * kSize);
    const Tensor<T, 3> now = layer.step(same, cache), before = layer.step(same, old);
    for (Index b = 0; b < 3; ++b)
      EXPECT_TRUE(same_bits(row(now, b, 0), row(before, parents[static_cast<std::size_t>(b)], 0)));
  }
}

TYPED_TEST(Decoding, ACacheGoesOnWhereItWasMovedToAndWhatItWasMovedFromIsRefused) {
  using T = TypeParam;
  const auto layer = layer_of<T>(2, 2);
  const auto x = random_tensor<T>(1, 2, 8, kSize);
  const Tensor<T, 3> whole = layer(x, x, x, causal());
  KvCache<T> from = cache_for(layer, 2, 8);
  (void)layer.step(part(x, 0, 5), from);
  std::vector<KvCache<T>> moved;
  moved.push_back(std::move(from));
  moved.push_back(cache_for(layer, 1, 1));
  std::swap(moved[0], moved[1]);
  EXPECT_EQ(refusal([&] { (void)layer.step(part(x, 5, 1), from); }),
            "eigenheads: the cache is made for 0 sequences; expected 2, as x has");
  EXPECT_EQ(refusal([&] { from.reset(0); }),
            "eigenheads: reset: there is no sequence 0; expected 0 to less than 0");
  from.reset();
  EXPECT_EQ(from.copy().batch_size(), 0);
  from = moved[1].copy();
  EXPECT_TRUE(same_bits(layer.step(part(x, 5, 3), from), part(whole, 5, 3)));
  EXPECT_TRUE(same_bits(layer.step(part(x, 5, 3), moved[1]), part(whole, 5, 3)));
}

// ---- Refusals ------------------------------------------------------------------------------------

// Heads that share keys and values read them as a stream where all of them are more than 8 MiB: here
// four sequences of 4100 tokens, and not one.
TYPED_TEST(Decoding, KeysThatAreReadAsAStreamGiveTheSameBits) {
  using T = TypeParam;
  constexpr Index L = 4100, D = 64;
  const auto layer = layer_of<T>(6, 1, D);
  const auto x = random_tensor<T>(1, Index{1}, L, kSize), next = random_tensor<T>(2, 4, 1, kSize);
  KvCache<T> one = cache_for(layer, 1, L + 1), four = cache_for(layer, 4, L + 1);
  Context context(2);
  static_cast<void>(layer.step(x, one, context));
  const Tensor<T, 2> rows = x.reshape(std::array{L, kSize});
  static_cast<void>(layer.step(rows, Sequences(Lens{L, 0, 0, 0}), four, {}, context));
  for (Index b = 1; b < 4; ++b) four.fork(0, b);
  const Tensor<T, 3> y = layer.step(next, four, context);
  for (Index b = 0; b < 4; ++b) {
    Tensor<T, 3> token(1, 1, kSize);
    std::copy_n(next.data() + b * kSize, kSize, token.data());
    const Tensor<T, 3> alone = layer.step(token, one, context);
    EXPECT_TRUE(std::equal(alone.data(), alone.data() + kSize, y.data() + b * kSize)) << b;
    one.truncate(0, L);
  }
}

TYPED_TEST(Decoding, WhatDoesNotFitIsRefusedInASentenceAndNothingWritten) {
  using T = TypeParam;
  const auto layer = layer_of<T>(4, 2);
  const auto x = random_tensor<T>(1, 2, 3, kSize);
  const auto refused = [&](const eh::KvCacheOptions& options) {
    KvCache<T> cache(options);
    return refusal([&] { (void)layer.step(x, cache); });
  };
  EXPECT_EQ(refused({.batch_size = 3, .num_kv_heads = 2, .head_size = 5, .capacity = 9}),
            "eigenheads: the cache is made for 3 sequences; expected 2, as x has");
  EXPECT_EQ(refused({.batch_size = 2, .num_kv_heads = 4, .head_size = 5, .capacity = 9}),
            "eigenheads: the cache is made for 4 key/value heads; expected 2, as the layer has");
  EXPECT_EQ(refused({.batch_size = 2, .num_kv_heads = 2, .head_size = 6, .capacity = 9}),
            "eigenheads: the cache is made for 12 numbers in all key/value heads; expected 10, as "
            "W_k makes");

  KvCache<T> cache = cache_for(layer, 2, 9);
  (void)layer.step(part(x, 0, 1), cache);
  KvCache<T> before = cache.copy();
  const auto allowed = constant_tensor<bool>(true, 1, 1, 3, 4);
  const auto step = [&](const Mask& mask) {
    return refusal([&] { (void)layer.step(x, cache, mask); });
  };
  for (const Mask& mask : std::vector<Mask>{{.valid_lens = {1, 1}},
                                            {.key_lens = {1, 1}},
                                            {.first_positions = {1, 1}},
                                            {.allowed = allowed}})
    EXPECT_NE(step(mask).find("expected no more than window, sinks, prefix_lens and query_lens"),
              std::string::npos);
  EXPECT_NE(step({.query_lens = {4, 1}}).find("query_lens[0] is 4"), std::string::npos);
  EXPECT_NE(step({.query_lens = {{1, 1, 1}, {1, 1, 1}}}).find("one length a query"),
            std::string::npos);
  EXPECT_NE(refusal([&] {
              (void)layer.step(random_tensor<T>(1, 2, 3, kSize + 1), cache);
            }).find("x has shape [2, 3, 13]"),
            std::string::npos);
  EXPECT_NE(refusal([&] {
              (void)layer.step(random_tensor<T>(1, 4, kSize), Lens{2, 1}, cache);
            }).find("x has 4 rows; expected 3"),
            std::string::npos);
  auto of_other_keys = layer;
  of_other_keys.W_k = eh::Linear<T>({.in_features = kSize - 1, .out_features = 10});
  EXPECT_NE(refusal([&] {
              (void)of_other_keys.step(x, cache);
            }).find("step: the layer takes queries of 12 numbers, keys of 11 and values of 12"),
            std::string::npos);
  Tensor<T, 3> y(2, 3, kSize + 1);
  EXPECT_NE(refusal([&] { layer.step_into(y, x, cache); }).find("y has shape [2, 3, 13]"),
            std::string::npos);
  const auto bias = random_tensor<T>(1, 1, 4, 3, 3);
  EXPECT_NE(refusal([&] {
              (void)layer.step(x, cache, {}, {.score = eh::ScoreBias<T>(bias)});
            }).find("bias"),
            std::string::npos);
  EXPECT_TRUE(same_bits(layer.step(x, cache), layer.step(x, before)));

  EXPECT_EQ(refusal([&] { cache.truncate(0, 5); }),
            "eigenheads: truncate: sequence 0 has 4 tokens; expected a length of 0 to 4, got 5");
  EXPECT_NE(refusal([&] { cache.truncate(2, 0); }).find("no sequence 2"), std::string::npos);
  EXPECT_NE(refusal([&] { cache.fork(0, -1); }).find("no sequence -1"), std::string::npos);
  EXPECT_NE(refusal([&] { cache.reorder(Lens{0}); }).find("1 parents; expected 2"),
            std::string::npos);
  EXPECT_NE(refusal([&] { cache.reorder(Lens{0, 2}); }).find("no sequence 2"), std::string::npos);
  EXPECT_EQ(cache.length(0), 4);

  const auto made = [](const eh::KvCacheOptions& options) {
    return refusal([&] { const KvCache<T> none(options); });
  };
  EXPECT_NE(made({.batch_size = 1, .num_kv_heads = 1, .head_size = 0, .capacity = 1})
                .find("head_size is 0"),
            std::string::npos);
  EXPECT_NE(made({.batch_size = 1, .num_kv_heads = 1, .head_size = 1, .capacity = 3, .window = 4})
                .find("capacity is 3; expected 4 or more, the window"),
            std::string::npos);
  EXPECT_NE(made({.batch_size = 1, .num_kv_heads = 1, .head_size = 1, .capacity = 3, .sinks = 1})
                .find("sinks is 1 without a window; expected 0"),
            std::string::npos);
  const Index huge = Index{1} << 30;
  EXPECT_NE(made({.batch_size = huge, .num_kv_heads = huge, .head_size = 64, .capacity = huge})
                .find("more than memory can hold"),
            std::string::npos);
  constexpr Index most = Limits<Index>::max();
  EXPECT_NE(made({.batch_size = most, .num_kv_heads = 1, .head_size = 1, .capacity = 1})
                .find("batch_size is " + std::to_string(most) + "; expected 0 to 2147483646"),
            std::string::npos);
  const MultiHeadAttention<T> lazy({.num_hiddens = kSize, .num_heads = 1});
  EXPECT_NE(refusal<std::logic_error>([&] { (void)lazy.step(x, cache); }).find("initialize"),
            std::string::npos);
}

// A function that throws when it meets a certain key.
template <class T>
struct Throws {
  Index from;
  T operator()(T score, eh::ScorePosition at) const {
    if (at.k >= from) throw std::runtime_error("no further");
    return score;
  }
};

TYPED_TEST(Decoding, AScoreFunctionThatThrowsLeavesTheCacheAsItWas) {
  using T = TypeParam;
  const auto layer = layer_of<T>(2, 2);
  const auto x = random_tensor<T>(1, 2, 300, kSize);
  const Tensor<T, 3> whole = layer(x, x, x, causal());
  KvCache<T> cache = cache_for(layer, 2, 300);
  (void)layer.step(part(x, 0, 200), cache);
  for (const int threads : {1, 3}) {
    Context context(threads, kAnyWork);
    EXPECT_EQ(refusal<std::runtime_error>([&] {
                (void)layer.step(part(x, 100, 90), cache, {},
                                 {.score = Throws<T>{250}, .context = context});
              }),
              "no further");
    EXPECT_EQ(cache.length(0), 200);
  }
  cache.fork(0, 1);  // what the step had reserved is shared now
  Tensor<T, 3> same(2, 100, kSize);
  for (Index b = 0; b < 2; ++b)
    std::copy_n(part(x, 200, 100).data(), 100 * kSize, same.data() + b * 100 * kSize);
  const Tensor<T, 3> y = layer.step(same, cache);
  for (Index b = 0; b < 2; ++b)
    for (Index t = 0; t < 100; ++t)
      ASSERT_TRUE(same_bits(row(y, b, t), row(whole, Index{0}, 200 + t)));
}

// A function that throws when it meets a certain key of a sequence.
template <class T>
struct ThrowsIn {
  Index b, from;
  T operator()(T score, eh::ScorePosition at) const {
    if (at.b == b && at.k >= from) throw std::runtime_error("no further");
    return score;
  }
};

// Three sequences of 10 tokens bring 3, 790 and 2. Those that were through before the second throws, and
// those that had not begun, are as they were; of the second, what it held is gone.
TYPED_TEST(Decoding, AStepThatFailsLeavesARingWithoutRoomForItEmptyAndOthersAsTheyWere) {
  using T = TypeParam;
  const auto layer = layer_of<T>(2, 1);
  const Lens counts{3, 790, 2};
  const auto x = random_tensor<T>(1, 795, kSize), next = random_tensor<T>(3, 3, kSize);
  for (const Index sinks : {0, 2})
    for (const auto& [b, from, left] :
         std::vector<std::tuple<Index, Index, Lens>>{{1, 780, {10, 0, 10}},
                                                     {2, 0, {10, 0, 10}},
                                                     {1, 0, {10, 10, 10}},
                                                     {0, 12, {10, 10, 10}}}) {
      KvCache<T> cache({.batch_size = 3,
                        .num_kv_heads = 1,
                        .head_size = layer.head_size(),
                        .capacity = 4,
                        .window = 4,
                        .sinks = sinks});
      (void)layer.step(random_tensor<T>(2, 3, 10, kSize), cache);
      KvCache<T> before = cache.copy();
      const ThrowsIn<T> fails{b, from};
      EXPECT_EQ(refusal<std::runtime_error>(
                    [&] { (void)layer.step(x, counts, cache, {}, {.score = fails}); }),
                "no further");
      for (Index s = 0; s < 3; ++s) {
        EXPECT_EQ(cache.length(s), left[static_cast<std::size_t>(s)]);
        if (cache.length(s) == 0) before.reset(s);
        EXPECT_EQ(cache.shortest(s), before.shortest(s));
      }
      EXPECT_TRUE(same_bits(layer.step(next, Lens{1, 1, 1}, cache),
                            layer.step(next, Lens{1, 1, 1}, before)));
    }
}

}  // namespace
