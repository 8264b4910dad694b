// SPDX-License-Identifier: MIT
// Measures of heads against their definitions, from weights and outputs in twice the precision, and
// against what is known without a computation.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/head_importance.hpp>

#include "head_measures.hpp"
#include "support.hpp"
#include "textbook.hpp"

namespace {

using namespace support;
using eh::Causal, eh::HeadImportance, eh::Mask, eh::PlainScore;

template <class T>
class Importance : public testing::Test {};
TYPED_TEST_SUITE(Importance, Scalars, ScalarNames);

// A score function of the library, and the same in twice the precision.
template <class Score, class WideScore>
struct Functions {
  Score score;
  WideScore wide;
};
using Plain = Functions<PlainScore, ScoreAsItIs>;

// A measure, and how far a computation in T may be off.
struct Bounded {
  long double value = 0, bound = 0;
  void add(long double x, long double off) {
    value += x;
    bound += off;
  }
};

// Of one head. Every p is off by a factor of 1 + d at most, d the textbook's bound of the
// log-sum-exp, and so is every sum of them; where they cancel, by d times what cancels.
struct Expected {
  long double rows = 0, queries = 0;
  Bounded l1_norm, l2_norm, entropy, variance, confidence, previous, next, same, norm;
  std::vector<std::vector<long double>> contributions;
  long double off = 0;  // of any contribution
};

template <class T, class Pair = Plain>
void expect_definitions(const eh::MultiHeadAttention<T>& layer,
                        const std::vector<Batch<T>>& batches, const Pair& functions = {}) {
  using W = long double;
  const Index H = layer.num_heads(), G = layer.num_kv_heads(), V = layer.head_size(),
              E = layer.num_hiddens();
  const W u = W(Limits<T>::epsilon()) / 2;
  const Tensor<T, 2> w = layer.W_o.weight();
  std::vector<Expected> expected(static_cast<std::size_t>(H));
  for (const Batch<T>& batch : batches) {
    const auto q = heads_apart(layer.W_q(batch.queries), H),
               k = heads_apart(layer.W_k(batch.keys), G),
               v = heads_apart(layer.W_v(batch.values), G);
    const Index B = q.dimension(0), Q = q.dimension(2), K = k.dimension(2);
    const T scale = eh::detail::default_scale<T>(V);
    const auto book = textbook<T>(q, k, v, batch.pairs, Wide<T>(scale), functions.wide);
    const Mask mask = batch.pairs.mask();
    // Bits of the layer's own heads.
    const auto heads = eh::scaled_dot_product_attention(q, k, v, mask, {.score = functions.score});
    for (Index b = 0; b < B; ++b)
      for (Index h = 0; h < H; ++h)
        for (Index i = 0; i < Q; ++i) {
          Expected& of = expected[static_cast<std::size_t>(h)];
          const Index beside = batch.pairs.aligned(b, i);
          if (book.lse(b, h, i) != -kInf<Wide<T>>) {
            W n = 0, l1 = 0, squares = 0, entropy = 0, top = -1, second = -1;
            Index at = -1;
            for (Index key = 0; key < K; ++key) {
              // Told from a key that is hidden by its bound.
              if (book.weights_bound(b, h, i, key) == 0) continue;
              const W p = book.weights(b, h, i, key);
              n += 1;
              l1 += p;
              squares += p * p;
              entropy -= p > 0 ? p * std::log(p) : 0;
              if (p > top) {
                second = top;
                top = p;
                at = key;
              } else {
                second = std::max(second, p);
              }
            }
            const W mean = 1 / n;
            W variance = 0;
            for (Index key = 0; key < K; ++key)
              if (book.weights_bound(b, h, i, key) != 0) {
                const W p = book.weights(b, h, i, key);
                variance += (p - mean) * (p - mean) / n;
              }
            const W d = 2 * W(book.lse_bound(b, h, i));
            const W tie = second > top * (1 - 2 * d) ? 1 : 0;
            of.rows += 1;
            of.l1_norm.add(l1, d);
            of.l2_norm.add(std::sqrt(squares), d);
            of.entropy.add(entropy, d * (1 + entropy));
            of.variance.add(variance, 2 * d * (squares + mean) / n);
            of.confidence.add(top, d);
            of.previous.add(at == beside - 1 ? 1 : 0, tie);
            of.next.add(at == beside + 1 ? 1 : 0, tie);
            of.same.add(at == beside ? 1 : 0, tie);
          }
          if (!batch.pairs.query_lens.empty() &&
              i >= batch.pairs.query_lens[static_cast<std::size_t>(b)])
            continue;
          const auto& gates = layer.gates();
          const W gate = gates.size() == 0 ? T(1) : gates(gates.dimension(0) > 1 ? b : 0, h);
          std::vector<W> c(static_cast<std::size_t>(E));
          W square = 0, off_square = 0;
          for (Index e = 0; e < E; ++e) {
            W sum = 0, size = 0;
            for (Index d = 0; d < V && gate != 0; ++d) {
              const W term = gate * W(w(e, h * V + d)) * W(heads.output(b, h, i, d));
              sum += term;
              size += std::abs(term);
            }
            c[static_cast<std::size_t>(e)] = sum;
            square += sum * sum;
            // A chain of V multiply-adds.
            off_square += std::pow(u * (2 + 2 * std::sqrt(W(V))) * size, W(2));
          }
          const W norm = std::sqrt(square), off = std::sqrt(off_square);
          of.queries += 1;
          of.norm.add(norm, off + norm * u * (4 + 2 * std::sqrt(W(E))));
          // And of the mean of a block of rows.
          of.off = std::max(of.off, 2 * off + norm * u * (4 + 2 * std::sqrt(W(48))));
          of.contributions.push_back(std::move(c));
        }
  }

  const auto got = measures_of(layer, batches, functions.score);
  ASSERT_EQ(got.size(), expected.size());
  for (std::size_t h = 0; h < got.size(); ++h) {
    SCOPED_TRACE("head " + std::to_string(h));
    const Expected& of = expected[h];
    const auto expect = [](const char* name, double value, const Bounded& sum, W count) {
      if (count == 0) {
        EXPECT_TRUE(std::isnan(value)) << name;
        return;
      }
      // u of a double for each of the sums over rows.
      const W off = sum.bound / count + W(1e-14) * (1 + std::abs(sum.value / count));
      EXPECT_LE(std::abs(W(value) - sum.value / count), off)
          << name << " is " << value << ", not " << sum.value / count;
    };
    expect("l1_norm", got[h].l1_norm, of.l1_norm, of.rows);
    expect("l2_norm", got[h].l2_norm, of.l2_norm, of.rows);
    expect("entropy", got[h].entropy, of.entropy, of.rows);
    expect("variance", got[h].variance, of.variance, of.rows);
    expect("confidence", got[h].confidence, of.confidence, of.rows);
    expect("previous", got[h].previous, of.previous, of.rows);
    expect("next", got[h].next, of.next, of.rows);
    expect("same", got[h].same, of.same, of.rows);
    expect("contribution_norm", got[h].contribution_norm, of.norm, of.queries);

    Bounded variance;
    for (Index e = 0; e < E; ++e) {
      W mean = 0;
      for (const auto& c : of.contributions) mean += c[static_cast<std::size_t>(e)] / of.queries;
      for (const auto& c : of.contributions)
        variance.value += std::pow(c[static_cast<std::size_t>(e)] - mean, W(2));
    }
    // (x + o)^2 is off by 2 x o + o^2, in the mean by 2 sqrt(variance) o + o^2 at most.
    const W deviation = of.queries == 0 ? 0 : std::sqrt(variance.value / of.queries);
    variance.bound = of.queries * (2 * deviation * of.off + of.off * of.off +
                                   deviation * deviation * u * (4 + 2 * std::sqrt(W(E))));
    expect("contribution_variance", got[h].contribution_variance, variance, of.queries);
  }
}

TYPED_TEST(Importance, IsAsDefinedUnderEveryMask) {
  using T = TypeParam;
  for (const auto& layer : {make_layer<T>(2, 2, 5, false), make_layer<T>(4, 2, 3, true)})
    for (const auto& [Q, K] : {std::pair<Index, Index>{1, 1}, {5, 9}, {9, 5}, {17, 17}, {50, 70}})
      for (PairMask pairs : example_masks(3, Q, K, static_cast<std::uint64_t>(Q * K)))
        for (const int more : {0, 1, 2}) {
          if (more == 1) pairs.query_lens = {Q, 0, (Q + 1) / 2};
          if (more == 2) {
            pairs.allowed = constant_tensor<bool>(true, 3, layer.num_heads(), Q, K);
            for (Index i = 0; i < pairs.allowed.size(); ++i)
              pairs.allowed.data()[i] = i * 7919 % 11 < 5;
          }
          SCOPED_TRACE(pairs.text());
          expect_definitions<T>(layer, {make_batch<T>(3, pairs, 5)});
          if (testing::Test::HasFailure()) return;
        }
}

TYPED_TEST(Importance, IsAsDefinedForAnySize) {
  using T = TypeParam;
  for (const Index D : {1, 8, 33}) {
    const auto layer = make_layer<T>(3, 1, D, true, D + 2);
    for (const auto& [Q, K] : {std::pair<Index, Index>{2, 15},
                               {15, 16},
                               {16, 17},
                               {47, 127},
                               {48, 128},
                               {49, 129},
                               {3, 255},
                               {1, 256},
                               {2, 257},
                               {97, 513}})
      for (const Causal causal : {Causal::none, Causal::bottom_right}) {
        const PairMask pairs{.Q = Q, .K = K, .causal = causal};
        SCOPED_TRACE(pairs.text());
        expect_definitions<T>(layer, {make_batch<T>(1, pairs, 3)});
        if (testing::Test::HasFailure()) return;
      }
  }
}

TYPED_TEST(Importance, CountsEveryBatchByItsRows) {
  using T = TypeParam;
  std::vector<Batch<T>> batches;
  for (const auto& [B, Q, K] :
       {std::array<Index, 3>{2, 5, 7}, {1, 60, 33}, {3, 1, 300}, {2, 13, 13}}) {
    PairMask pairs{.Q = Q, .K = K};
    pairs.query_lens.assign(static_cast<std::size_t>(B), Q / 2 + 1);
    batches.push_back(make_batch<T>(B, pairs, static_cast<std::uint64_t>(Q)));
  }
  expect_definitions<T>(make_layer<T>(4, 2, 5, true), batches);
}

TYPED_TEST(Importance, TakesScoresThroughTheScoreFunction) {
  using T = TypeParam;
  const Index H = 4, Q = 50, K = 140;
  const auto layer = make_layer<T>(H, 2, 5, true);
  const auto slopes = random_tensor<T>(9, H);
  for (const Causal causal : {Causal::none, Causal::bottom_right}) {
    PairMask pairs{.Q = Q, .K = K, .causal = causal};
    const auto batch = make_batch<T>(2, pairs, 5);
    const auto far = [&](Wide<T> score, eh::ScorePosition at) {
      return score - Wide<T>(slopes(at.h)) * Wide<T>(std::abs(at.aligned - at.k));
    };
    expect_definitions<T>(layer, {batch},
                          Functions<eh::Alibi<T>, decltype(far)>{eh::Alibi(slopes), far});

    // Some keys hidden, and all of query 7.
    auto bias = random_tensor<T>(10, 1, H, Q, K);
    for (Index i = 0; i < bias.size(); ++i)
      if (i % 3 == 0 || i / K % Q == 7) bias.data()[i] = -kInf<T>;
    const auto biased = [&](Wide<T> score, eh::ScorePosition at) {
      return score + Wide<T>(bias(0, at.h, at.q, at.k));
    };
    expect_definitions<T>(
        layer, {batch},
        Functions<eh::ScoreBias<T>, decltype(biased)>{eh::ScoreBias<T>(bias), biased});
  }
}

TYPED_TEST(Importance, WeighsContributionsWithTheGates) {
  using T = TypeParam;
  auto layer = make_layer<T>(4, 2, 5, true);
  PairMask pairs{.Q = 50, .K = 21};
  pairs.query_lens = {50, 12, 49};
  const auto batch = make_batch<T>(3, pairs, 6);
  const auto whole = measures_of<T>(layer, {batch});
  auto gates = random_tensor<T>(3, 3, 4);
  gates(1, 0) = gates(0, 3) = gates(1, 3) = gates(2, 3) = T(0);
  gates(2, 2) = T(1);
  layer.set_gates(gates);
  expect_definitions<T>(layer, {batch});
  const auto gated = measures_of<T>(layer, {batch});
  for (std::size_t h = 0; h < 4; ++h) {
    EXPECT_EQ(gated[h].entropy, whole[h].entropy);
    EXPECT_EQ(gated[h].next, whole[h].next);
  }
  EXPECT_EQ(gated[3].contribution_norm, 0);
  EXPECT_EQ(gated[3].contribution_variance, 0);
  layer.set_gates(std::vector<T>(4, T(1)));
  EXPECT_TRUE(same_measures(measures_of<T>(layer, {batch}), whole));
}

// dL/dgate is the sum over queries of a head's output times what the loss says of it.
TYPED_TEST(Importance, TakesTheSizeOfTheSlopesOfTheGates) {
  using T = TypeParam;
  using W = long double;
  const Index H = 4, V = 5, E = 10;
  auto layer = make_layer<T>(H, 2, V, true, E);
  layer.set_gates(std::vector<T>{T(0.5), 0, 1, -2});
  const auto w = layer.W_o.weight();
  HeadImportance<T> importance(layer);
  std::array<W, 4> sum{}, off{};
  for (const auto& [B, Q] : {std::pair<Index, Index>{2, 30}, {3, 7}}) {
    const auto batch = make_batch<T>(B, {.Q = Q, .K = 9}, 2);
    const auto dy = random_tensor<T>(8, B, Q, E);
    typename eh::MultiHeadAttention<T>::Activations saved;
    layer.forward(batch.queries, batch.keys, batch.values, {}, saved);
    importance.add(layer.backward(dy, saved));
    const auto heads = eh::scaled_dot_product_attention(heads_apart(layer.W_q(batch.queries), H),
                                                        heads_apart(layer.W_k(batch.keys), 2),
                                                        heads_apart(layer.W_v(batch.values), 2));
    for (Index h = 0; h < H; ++h)
      for (Index b = 0; b < B; ++b) {
        W slope = 0, size = 0;
        for (Index i = 0; i < Q; ++i)
          for (Index d = 0; d < V; ++d)
            for (Index e = 0; e < E; ++e) {
              const W term = W(heads.output(b, h, i, d)) * W(w(e, h * V + d)) * W(dy(b, i, e));
              slope += term;
              size += std::abs(term);
            }
        sum[static_cast<std::size_t>(h)] += std::abs(slope);
        // Chains of E and of V multiply-adds.
        off[static_cast<std::size_t>(h)] += W(Limits<T>::epsilon()) * W(E + V + 4) * size;
      }
  }
  W norm = 0, norm_off = 0;
  for (std::size_t h = 0; h < 4; ++h) {
    norm += sum[h] * sum[h];
    norm_off += off[h] * off[h];
  }
  norm = std::sqrt(norm);
  norm_off = std::sqrt(norm_off);
  double squares = 0;
  const auto got = importance.measures();
  for (std::size_t h = 0; h < 4; ++h) {
    EXPECT_LE(std::abs(W(got[h].gradient) - sum[h] / norm), (off[h] + norm_off) / norm);
    EXPECT_GT(got[h].gradient, 0);  // a gate of 0 has a slope
    EXPECT_TRUE(std::isnan(got[h].entropy) && std::isnan(got[h].contribution_norm));
    squares += got[h].gradient * got[h].gradient;
  }
  EXPECT_NEAR(squares, 1, 1e-14);
}

TEST(ImportanceGradients, AreAllZeroIfNoHeadHasAny) {
  const auto layer = make_layer<double>(2, 2, 3, false);
  const auto batch = make_batch<double>(2, {.Q = 4, .K = 5}, 2);
  eh::MultiHeadAttention<double>::Activations saved;
  layer.forward(batch.queries, batch.keys, batch.values, {}, saved);
  HeadImportance<double> importance(layer);
  importance.add(layer.backward(constant_tensor<double>(0, 2, 4, 10), saved));
  for (const auto& head : importance.measures()) EXPECT_EQ(head.gradient, 0);
}

// ---- What is known without a computation -------------------------------------------------------

TYPED_TEST(Importance, KnowsRowsThatAreAllAlikeAndRowsOfOneKey) {
  using T = TypeParam;
  auto layer = make_layer<T>(2, 2, 4, false);
  layer.W_q.set_weight(constant_tensor<T>(0, 8, kInputSize));
  const Index Q = 20;
  for (const Index K : {1, 2, 20, 300}) {
    const auto head =
        measures_of<T>(layer, {make_batch<T>(2, PairMask{.Q = Q, .K = K}, 1)}).front();
    const double n = static_cast<double>(K), eps = 64 * static_cast<double>(Limits<T>::epsilon());
    EXPECT_NEAR(head.l1_norm, 1, eps);
    EXPECT_NEAR(head.l2_norm, 1 / std::sqrt(n), eps);
    EXPECT_NEAR(head.entropy, std::log(n), eps);
    EXPECT_GE(head.entropy, 0);
    EXPECT_LE(head.entropy, std::log(n) * (1 + 1e-14));
    EXPECT_NEAR(head.variance, 0, eps / (n * n));
    EXPECT_NEAR(head.confidence, 1 / n, eps);
    // The first of equals: key 0, which stands beside query 0 and before query 1.
    EXPECT_DOUBLE_EQ(head.same, 1.0 / Q);
    EXPECT_DOUBLE_EQ(head.previous, 1.0 / Q);
    EXPECT_EQ(head.next, 0);
  }
}

// A score function that has its maximum `offset` keys from the one beside the query.
template <class T>
struct Pointing {
  static constexpr bool adds = true;
  Index offset;
  T operator()(T score, eh::ScorePosition at) const {
    return score + (at.k == at.q + offset ? T(50) : T(0));
  }
};

TYPED_TEST(Importance, SeesWhereHeadsLook) {
  using T = TypeParam;
  const auto layer = make_layer<T>(2, 1, 4, false);
  const Index Q = 150, K = 170;
  const auto share = [](Index count) { return static_cast<double>(count) / Q; };
  for (const auto& [causal, shift] :
       {std::pair<Causal, Index>{Causal::none, 0}, {Causal::bottom_right, K - Q}}) {
    const std::vector<Batch<T>> batch{make_batch<T>(1, {.Q = Q, .K = K, .causal = causal}, 1)};
    for (const auto& head : measures_of<T>(layer, batch, Pointing<T>{shift})) {
      EXPECT_EQ(head.same, 1);
      EXPECT_EQ(head.previous + head.next, 0);
      EXPECT_NEAR(head.confidence, 1, 1e-6);
      EXPECT_NEAR(head.entropy, 0, 1e-6);
    }
    // Query 0 has no key before it where none are there.
    for (const auto& head : measures_of<T>(layer, batch, Pointing<T>{shift - 1}))
      EXPECT_GE(head.previous, share(shift == 0 ? Q - 1 : Q));
    for (const auto& head : measures_of<T>(layer, batch, Pointing<T>{shift + 1}))
      EXPECT_EQ(head.next, causal == Causal::none ? 1 : 0);
    for (const auto& head : measures_of<T>(layer, batch, Pointing<T>{shift - 2}))
      EXPECT_LE(head.previous + head.next + head.same, share(2));
  }
}

TYPED_TEST(Importance, StaysWithinItsRanges) {
  using T = TypeParam;
  const auto layer = make_layer<T>(4, 4, 5, true);
  const double eps = 64 * static_cast<double>(Limits<T>::epsilon());
  for (const Index K : {1, 2, 3, 40, 400})
    for (const auto& head : measures_of<T>(layer, {make_batch<T>(2, {.Q = 40, .K = K}, 8)})) {
      const double n = static_cast<double>(K);
      EXPECT_GE(head.entropy, 0);
      EXPECT_LE(head.entropy, std::log(n) * (1 + 1e-14));
      EXPECT_GE(head.l2_norm, 1 / std::sqrt(n) - eps);
      EXPECT_LE(head.l2_norm, 1 + eps);
      EXPECT_GE(head.variance, 0);
      EXPECT_LE(head.variance, (n - 1) / (n * n) + eps);
      EXPECT_GE(head.confidence, 1 / n - eps);
      EXPECT_LE(head.confidence, 1 + eps);
      EXPECT_LE(head.previous + head.next + head.same, 1);
    }
}

// A mean a million times the spread: their difference has no digits left, the measure has.
TEST(ImportanceContributions, DoNotCancel) {
  auto layer = make_layer<double>(2, 2, 4, true);
  const std::vector<Batch<double>> batches{make_batch<double>(2, {.Q = 70, .K = 9}, 1),
                                           make_batch<double>(1, {.Q = 31, .K = 12}, 4)};
  layer.W_v.set_bias(constant_tensor<double>(0, 8));
  const auto without = measures_of(layer, batches);
  layer.W_v.set_bias(constant_tensor<double>(1e6, 8));
  const auto with = measures_of(layer, batches);
  for (std::size_t h = 0; h < with.size(); ++h) {
    EXPECT_GT(with[h].contribution_norm, 1e5 * std::sqrt(without[h].contribution_variance));
    EXPECT_NEAR(with[h].contribution_variance, without[h].contribution_variance,
                1e-8 * without[h].contribution_variance);
  }
}

}  // namespace
