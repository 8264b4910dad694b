// SPDX-License-Identifier: MIT
// On finite inputs whose scores and sums are finite no floating-point exception is raised but inexact
// and underflow: a program may unmask the others. Each call is looked at twice: by the flags that it
// leaves, which say what was raised, and unmasked, which also holds for the threads that it starts.
#include <cfenv>
#include <malloc.h>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include <eigenheads/eigenheads.hpp>

#include "layers.hpp"
#include "lesser_isas.hpp"
#include "support.hpp"

namespace {

using namespace support;

constexpr int kWrong = FE_INVALID | FE_OVERFLOW | FE_DIVBYZERO;

// Where the system can: then what is wrong ends the program, with SIGFPE.
class Unmasked {
 public:
  Unmasked() {
    std::feclearexcept(FE_ALL_EXCEPT);
#if defined(__GLIBC__)
    feenableexcept(kWrong);
#endif
  }
  Unmasked(const Unmasked&) = delete;
  Unmasked& operator=(const Unmasked&) = delete;
  ~Unmasked() {
#if defined(__GLIBC__)
    fedisableexcept(kWrong);
#endif
  }
};

// New memory is full of large numbers, so that arithmetic on what nobody has written is seen.
#if defined(__GLIBC__)
[[maybe_unused]] const int filled = mallopt(M_PERTURB, 0x80);  // with the other bits: 0x7F
#endif

template <class Call>
void expect_quiet(const std::string& name, const Call& call) {
  std::feclearexcept(FE_ALL_EXCEPT);
  call();
  const int raised = std::fetestexcept(kWrong);
  EXPECT_EQ(raised, 0) << name << ':' << ((raised & FE_INVALID) != 0 ? " invalid" : "")
                       << ((raised & FE_OVERFLOW) != 0 ? " overflow" : "")
                       << ((raised & FE_DIVBYZERO) != 0 ? " division by zero" : "");
  if (raised != 0) return;
  const Unmasked unmasked;
  call();
}

// A quarter of the largest number: sums of a few terms, and differences, are finite.
template <class T>
constexpr T kBig = Limits<T>::max() / 4;

template <class T, class... Lengths>
auto numbers(std::uint64_t seed, T size, Lengths... lengths) {
  auto x = random_tensor<T>(seed, lengths...);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] *= size;
  return x;
}

// Masks of two sequences and two heads, with rows that see nothing, holes, and hidden blocks.
struct NamedMask {
  std::string name;
  eh::Mask mask;
};
std::vector<NamedMask> masks(Index Q, Index K) {
  Tensor<Index, 2> lens(2, Q);
  for (Index i = 0; i < lens.size(); ++i) lens.data()[i] = i * 7919 % (K + 1);
  Tensor<bool, 4> pairs(1, 2, Q, K);
  for (Index i = 0; i < pairs.size(); ++i) pairs.data()[i] = i * 7919 % 11 < 6 && i % K > K / 2;
  return {{"all", {}},
          {"valid_lens", {.valid_lens = {K / 3, 0}}},
          {"lens of each query", {.valid_lens = lens}},
          {"causal", {.causal = eh::Causal::bottom_right}},
          {"window", {.causal = eh::Causal::top_left, .window = {3, 0}}},
          {"query_lens", {.query_lens = {Q / 2, 0}}},
          {"allowed", {.allowed = pairs}},
          {"together", {.valid_lens = lens, .causal = eh::Causal::bottom_right, .allowed = pairs}}};
}

template <class T>
struct Sizes {
  const char* name;
  T queries, keys, values;
};
template <class T>
std::vector<Sizes<T>> sizes(Index D) {
  const T big = kBig<T> / static_cast<T>(D), root = std::sqrt(big), tiny = T(1e-38);
  return {{"ordinary", 4, 4, 4},
          {"scores of 1e38, by the queries", big, 1, 1},
          {"by the keys", 1, big, 1},
          {"by both", root, root, 1},
          {"all tiny", tiny, tiny, tiny},
          {"tiny beside large", tiny, big, tiny},
          {"scores of 1e6", 1e3, 1e3, 1e3},
          {"large values", 1, 1, kBig<T> / 1024}};
}

template <class T>
class FloatingPointExceptions : public testing::Test {};
TYPED_TEST_SUITE(FloatingPointExceptions, Scalars, ScalarNames);

// Rows in one tile and in many; keys in one block and in several.
TYPED_TEST(FloatingPointExceptions, NoneFromAttentionUnderAnyMaskAndOfAnySize) {
  using T = TypeParam;
  for (const auto& [Q, K, D, V] :
       {std::tuple<Index, Index, Index, Index>{1, 3, 1, 1}, {5, 300, 3, 16}, {49, 600, 8, 5}})
    for (const Sizes<T>& size : sizes<T>(D)) {
      const auto q = numbers<T>(1, size.queries, 2, 2, Q, D);
      const auto k = numbers<T>(2, size.keys, 2, 1, K, D);
      const auto v = numbers<T>(3, size.values, 2, 1, K, V);
      for (const auto& of : masks(Q, K))
        for (const bool weights : {false, true})
          expect_quiet(std::string(size.name) + ", " + of.name + ", Q = " + std::to_string(Q), [&] {
            eh::Context context(1);
            (void)eh::scaled_dot_product_attention(
                q, k, v, of.mask,
                {.scale = 1.0, .dropout = weights ? 0.5 : 0.0, .weights = weights}, context);
          });
    }
}

// The distance of two scores may be too large for a number: e to its power is 0.
TYPED_TEST(FloatingPointExceptions, NoneFromTheLargestAndTheLowestScores) {
  using T = TypeParam;
  constexpr T most = Limits<T>::max();
  for (const Index K : {2, 20, 700}) {
    Tensor<T, 4> k(1, 1, K, 1), v(1, 1, K, 2), q(1, 1, 3, 1);
    for (Index i = 0; i < K; ++i) k(0, 0, i, 0) = i % 300 == 1 ? most : i % 2 == 0 ? -most : T(i);
    for (Index i = 0; i < v.size(); ++i) v.data()[i] = static_cast<T>(i);
    q.setValues({{{{1}, {-1}, {T(0.5)}}}});
    for (const bool weights : {false, true})
      for (const int threads : {1, 4})
        expect_quiet(std::to_string(K) + " keys", [&] {
          eh::Context context(threads, kAnyWork);
          const auto result = eh::scaled_dot_product_attention(
              q, k, v, {}, {.scale = 1.0, .weights = weights}, context);
          EXPECT_EQ(result.lse(0, 0, 0), most);
        });
    Tensor<T, 3> scores(1, 1, K);
    std::copy_n(k.data(), K, scores.data());
    expect_quiet("masked_softmax", [&] { (void)eh::masked_softmax(scores); });
  }
}

// One sequence and key/value head: each block of keys is a task of its own, in another thread.
TYPED_TEST(FloatingPointExceptions, NoneWhereAttentionIsCutAlongKeys) {
  using T = TypeParam;
  const Index K = 1500, D = 4;
  for (const Sizes<T>& size : sizes<T>(D)) {
    const auto q = numbers<T>(1, size.queries, 1, 1, 2, D),
               k = numbers<T>(2, size.keys, 1, 1, K, D);
    const auto v = numbers<T>(3, size.values / 2, 1, 1, K, 16);
    for (const Index length : {Index{0}, Index{1}, Index{700}, K})
      expect_quiet(size.name, [&] {
        eh::Context context(4, kAnyWork);
        (void)eh::scaled_dot_product_attention(q, k, v, {.valid_lens = {length}}, {.scale = 1.0},
                                               context);
      });
  }
}

template <class T>
struct NamedScore {
  std::string name;
  eh::ScoreRef<T> score;
};

TYPED_TEST(FloatingPointExceptions, NoneFromScoreFunctions) {
  using T = TypeParam;
  const Index Q = 19, K = 300, D = 2;
  const auto slopes = numbers<T>(4, T(1), 2);
  const auto large = numbers<T>(5, kBig<T>, 1, 2, Q, K);
  const auto small = numbers<T>(5, T(3), 1, 2, 1, K);
  const eh::Softcap<T> softcap(T(30));
  const eh::Alibi<T> alibi(slopes);
  const eh::ScoreBias<T> of_large(large), of_small(small);
  const auto chained = eh::chain(softcap, alibi, of_small);
  const std::vector<NamedScore<T>> scores{{"Softcap", softcap},
                                          {"Alibi", alibi},
                                          {"a large bias", of_large},
                                          {"a bias for all queries", of_small},
                                          {"one after another", chained}};
  for (const Sizes<T>& size : sizes<T>(D)) {
    const auto q = numbers<T>(1, size.queries, 2, 2, Q, D),
               k = numbers<T>(2, size.keys, 2, 1, K, D);
    const auto v = numbers<T>(3, size.values, 2, 1, K, 7);
    for (const auto& of : masks(Q, K))
      for (const NamedScore<T>& function : scores)
        expect_quiet(std::string(size.name) + ", " + of.name + ", " + function.name, [&] {
          eh::Context context(1);
          (void)eh::scaled_dot_product_attention(q, k, v, of.mask,
                                                 {.scale = 1.0,
                                                  .score = function.score,
                                                  .weights = true,
                                                  .scores_after = function.score},
                                                 context);
        });
  }
}

// Log-sum-exps from the lowest number to the largest, and of parts that saw no key.
TYPED_TEST(FloatingPointExceptions, NoneFromMergedAttention) {
  using T = TypeParam;
  const auto q = constant_tensor(T(1), 1, 2, 9, 1), v = random_tensor<T>(3, 1, 1, 20, 5);
  std::vector<eh::AttentionResult<T>> parts;
  for (const T score : {T(1e-38), T(1), Limits<T>::max(), Limits<T>::lowest()})
    for (const Index length : {0, 20})
      parts.push_back(eh::scaled_dot_product_attention(q, constant_tensor(score, 1, 1, 20, 1), v,
                                                       {.valid_lens = {length}}, {.scale = 1.0}));
  for (const auto& first : parts)
    for (const auto& second : parts)
      expect_quiet("merge_attention", [&] { (void)eh::merge_attention(first, second); });
}

TYPED_TEST(FloatingPointExceptions, NoneFromTheSoftmaxByItself) {
  using T = TypeParam;
  for (const Index K : {1, 17, 300, 1000})
    for (const T size : {T(1e-38), T(1), T(100), kBig<T>}) {
      auto scores = numbers<T>(1, size, 2, 3, K);
      for (Index i = 0; i < scores.size(); i += 3) scores.data()[i] = -kInf<T>;
      for (const eh::ValidLens& lens :
           {eh::ValidLens(), eh::ValidLens{0, K}, eh::ValidLens{{K / 2, 0, 1}, {K, K / 3, 0}}})
        expect_quiet("masked_softmax", [&] {
          const auto weights = eh::masked_softmax(scores, lens);
          (void)eh::masked_softmax_backward(weights, numbers<T>(2, T(1), 2, 3, K));
        });
    }
}

TYPED_TEST(FloatingPointExceptions, NoneFromExpAndLog) {
  using T = TypeParam;
  std::vector<T> x{0,         T(-0.0),  1,       -1,       T(80),
                   T(-1e-38), T(1e-38), T(-1e4), -kBig<T>, -Limits<T>::max()};
  std::vector<T> y(x.size());
  expect_quiet("exp", [&] { eh::exp(x, y); });
  x = {T(1e-37), 1, 2, kBig<T>, Limits<T>::max(), T(0.5), 0, -1, kInf<T>};
  y.resize(x.size());
  expect_quiet("log", [&] { eh::log(x, y); });
}

// Of the layers below: inputs whose projections make finite scores.
template <class T>
std::vector<T> layer_sizes() {
  return {T(1e-38), T(1e-3), 1, 30, std::sqrt(kBig<T>) / 1024};
}

TYPED_TEST(FloatingPointExceptions, NoneFromALayer) {
  using T = TypeParam;
  auto layer =
      make_layer<T>(24, {.num_hiddens = 24, .num_heads = 4, .bias = true, .num_kv_heads = 2});
  const auto run = [&](const auto& used, const char* kind) {
    for (const Index Q : {1, 30})
      for (const T size : layer_sizes<T>()) {
        const auto x = numbers<T>(1, size, 2, Q, 24), m = numbers<T>(2, size, 2, 300, 24);
        for (const auto& of : masks(Q, 300)) {
          if (of.mask.allowed.is_given()) continue;  // of two heads
          expect_quiet(std::string(kind) + ", " + of.name, [&] {
            eh::Context context(2, kAnyWork);
            (void)used(x, m, m, of.mask, context);
            (void)used(x, m, m, of.mask, {.score = eh::Softcap<T>(T(20)), .context = context});
            (void)used.with_weights(x, m, m, of.mask, context);
          });
        }
      }
  };
  run(layer, "plain");
  layer.set_gates(eh::Tensor<T, 1>(4).setValues({T(0.5), 0, 1, -2}));
  run(layer, "gated");
}

TYPED_TEST(FloatingPointExceptions, NoneFromTheForwardPassInTrainingAndFromImportance) {
  using T = TypeParam;
  auto layer = make_layer<T>(24, {.num_hiddens = 24, .num_heads = 2, .dropout = 0.25});
  for (const T size : {T(1e-38), T(1), T(1e3), T(1e6)}) {
    const auto x = numbers<T>(1, size, 2, 30, 24), m = numbers<T>(2, size, 2, 300, 24);
    for (const auto& of : masks(30, 300))
      expect_quiet(of.name, [&] {
        eh::Context context(2, kAnyWork);
        typename eh::MultiHeadAttention<T>::Activations saved;
        (void)layer.forward(x, m, m, of.mask, saved,
                            {.seed = eh::DropoutSeed{3}, .context = context});
        eh::HeadImportance<T> importance(layer);
        importance.add(layer, saved, context);
        (void)importance.measures();
      });
  }
}

TYPED_TEST(FloatingPointExceptions, NoneFromTheImportanceOfTheLargestAndTheLowestScores) {
  using T = TypeParam;
  eh::MultiHeadAttention<T> layer({.num_hiddens = 1, .num_heads = 1});
  const auto one = constant_tensor(T(1), 1, 1);
  for (auto* linear : {&layer.W_q, &layer.W_k, &layer.W_v, &layer.W_o}) linear->set_weight(one);
  auto keys = random_tensor<T>(1, 1, 300, 1);
  keys(0, 5, 0) = Limits<T>::max();
  keys(0, 6, 0) = keys(0, 290, 0) = Limits<T>::lowest();
  const auto values = random_tensor<T>(2, 1, 300, 1);
  expect_quiet("importance", [&] {
    eh::Context context(1);
    typename eh::MultiHeadAttention<T>::Activations saved;
    (void)layer.forward(constant_tensor(T(1), 1, 3, 1), keys, values, {}, saved,
                        {.context = context});
    eh::HeadImportance<T> importance(layer);
    importance.add(layer, saved, context);
    EXPECT_EQ(importance.measures()[0].confidence, 1);
  });
}

TYPED_TEST(FloatingPointExceptions, NoneFromTheBackwardPass) {
  using T = TypeParam;
  auto layer = make_layer<T>(24, {.num_hiddens = 24, .num_heads = 2, .dropout = 0.25});
  for (const T size : layer_sizes<T>()) {
    const auto x = numbers<T>(1, size, 2, 30, 24), m = numbers<T>(2, size, 2, 300, 24);
    const auto grad_output = numbers<T>(3, T(1) / (1 + size), 2, 30, 24);
    for (const auto& of : masks(30, 300))
      for (const bool caps : {false, true})
        expect_quiet(of.name + (caps ? ", with a score function" : ""), [&] {
          eh::Context context(2, kAnyWork);
          typename eh::MultiHeadAttention<T>::Activations saved;
          if (caps)
            (void)layer.forward(
                x, m, m, of.mask, saved,
                {.score = eh::Softcap<T>(T(20)), .seed = eh::DropoutSeed{3}, .context = context});
          else
            (void)layer.forward(x, m, m, of.mask, saved,
                                {.seed = eh::DropoutSeed{3}, .context = context});
          (void)layer.backward(grad_output, saved, context);
        });
  }
}

// All of the above once more, on each instruction set that this CPU has beside the best: a process
// runs on one of them.
TEST(FloatingPointExceptionsElsewhere, NoneOnLesserInstructionSets) {
  run_on_lesser_instruction_sets("FloatingPointExceptionsElsewhere*");
}

}  // namespace
