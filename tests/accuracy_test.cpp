// SPDX-License-Identifier: MIT
// How exact attention and its gradients are: the largest and the mean error over a tensor are at
// most twice those of attention_reference in the same precision, both against twice the precision;
// and on long rows no more than sums by blocks may lose.
#include <algorithm>
#include <cmath>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_backward.hpp>
#include <eigenheads/attention_reference.hpp>

#include "support.hpp"
#include "textbook.hpp"

namespace {

using namespace support;

template <class T>
class Accuracy : public testing::Test {};
TYPED_TEST_SUITE(Accuracy, Scalars, ScalarNames);

struct Errors {
  double largest = 0, mean = 0;
};

template <class Got, class Exact>
Errors errors_of(const Got& got, const Exact& exact) {
  Errors errors;
  for (Index i = 0; i < got.size(); ++i) {
    const auto error = static_cast<double>(
        std::abs(static_cast<eh::element_of<Exact>>(got.data()[i]) - exact.data()[i]));
    errors.largest = std::max(errors.largest, error);
    errors.mean += error / static_cast<double>(got.size());
  }
  return errors;
}

void expect_at_most_twice(const char* what, const Errors& got, const Errors& reference) {
  EXPECT_LE(got.largest, 2 * reference.largest) << what;
  EXPECT_LE(got.mean, 2 * reference.mean) << what;
}

template <class T>
struct Inputs {
  Inputs(Index H, Index Q, Index K, Index D)
      : q(random_tensor<T>(1, 1, H, Q, D)),
        k(random_tensor<T>(2, 1, H, K, D)),
        v(random_tensor<T>(3, 1, H, K, D)) {}

  Tensor<T, 4> q, k, v;
  T scale = T(1) / std::sqrt(static_cast<T>(q.dimension(3)));
};

// Changes every element of a tensor.
template <class X, class Function>
void each(X& x, const Function& function) {
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = function(x.data()[i], i);
}

template <class T>
void expect_accurate(const Inputs<T>& inputs) {
  const auto& [q, k, v, scale] = inputs;
  for (const eh::Causal causal : {eh::Causal::none, eh::Causal::bottom_right}) {
    const PairMask pairs{.Q = q.dimension(2), .K = k.dimension(2), .causal = causal};
    const auto exact = textbook<T>(q, k, v, pairs, scale);
    const auto got = eh::scaled_dot_product_attention(q, k, v, pairs.mask(),
                                                      {.scale = static_cast<double>(scale)});
    const auto reference = eh::attention_reference<T>(q, k, v, pairs.mask(), scale);
    expect_at_most_twice("output", errors_of(got.output, exact.output),
                         errors_of(reference.output, exact.output));
    expect_at_most_twice("lse", errors_of(got.lse, exact.lse), errors_of(reference.lse, exact.lse));
  }
}

TYPED_TEST(Accuracy, OnRandomNumbers) {
  for (const Index D : {8, 64, 80, 128})
    for (const Index K : {64, 300}) {
      SCOPED_TRACE(testing::Message() << "D " << D << ", K " << K);
      expect_accurate(Inputs<TypeParam>(2, 60, K, D));
    }
}

// What adds up instead of cancelling.
TYPED_TEST(Accuracy, OnValuesOfOneSign) {
  using T = TypeParam;
  for (const Index K : {64, 300, 2000}) {
    SCOPED_TRACE(testing::Message() << "K " << K);
    Inputs<T> inputs(2, 20, K, 32);
    each(inputs.v, [](T x, Index) { return std::abs(x) + T(0.5); });
    expect_accurate(inputs);
  }
}

// Scores up to +-1e4: spread out, and close together, where their rounding is all that is seen.
TYPED_TEST(Accuracy, OnLargeScores) {
  using T = TypeParam;
  constexpr Index D = 64;
  for (const T size : {T(16), T(400), T(10000)}) {
    SCOPED_TRACE(testing::Message() << "size " << size);
    Inputs<T> spread(2, 60, 300, D);
    each(spread.q, [size](T x, Index) { return size * x; });
    expect_accurate(spread);
    for (const Index place : {Index{0}, D / 2, D - 1}) {  // of the one large product in the sum
      SCOPED_TRACE(testing::Message() << "place " << place);
      Inputs<T> close(2, 60, 300, D);
      each(close.q,
           [&](T x, Index i) { return i % D != place ? x : (x < 0 ? -size : size) / close.scale; });
      each(close.k, [&](T x, Index i) { return i % D == place ? T(1) : x; });
      expect_accurate(close);
    }
  }
}

TYPED_TEST(Accuracy, OnAHundredThousandKeys) {
  using T = TypeParam;
  for (const bool is_positive : {false, true}) {
    SCOPED_TRACE(is_positive);
    Inputs<T> inputs(1, 6, 100'000, 8);
    if (is_positive) each(inputs.v, [](T x, Index) { return std::abs(x); });
    expect_accurate(inputs);
  }
}

// Equal scores over same-sign values. One sum over all of them loses 254 u here, with u half
// a unit in the last place; blocks of at most 256 keys, merged, may lose 2 sqrt(256 + 512) u.
TYPED_TEST(Accuracy, LongRowsAreSummedByBlocks) {
  using T = TypeParam;
  const Index K = 131'072, V = 16;
  const auto q = constant_tensor<T>(0, 1, 1, 1, 4), k = random_tensor<T>(1, 1, 1, K, 4);
  auto v = random_tensor<T>(2, 1, 1, K, V);
  each(v, [](T x, Index) { return std::abs(x); });
  const auto got = eh::scaled_dot_product_attention(q, k, v);
  const Wide<T> u = Wide<T>(Limits<T>::epsilon()) / 2;
  for (Index column = 0; column < V; ++column) {
    Wide<T> mean = 0;
    for (Index key = 0; key < K; ++key) mean += Wide<T>(v(0, 0, key, column)) / Wide<T>(K);
    EXPECT_LE(std::abs(Wide<T>(got.output(0, 0, 0, column)) - mean),
              u * (8 + 2 * std::sqrt(Wide<T>(256 + 512))) * mean);
  }
  EXPECT_LE(std::abs(Wide<T>(got.lse(0, 0, 0)) - std::log(Wide<T>(K))), 64 * u);
}

// ---- Gradients ---------------------------------------------------------------------------------

// Of one sequence, as textbooks write them: dV = P^T dO, dP = dO V^T, dS = P (dP - sum P dP),
// dQ = scale dS K, dK = scale dS^T Q.
template <class T>
struct TextbookGradients {
  Tensor<Wide<T>, 4> queries, keys, values;
};
template <class T>
TextbookGradients<T> textbook_backward(const Tensor<T, 4>& grad_output, const Inputs<T>& inputs,
                                       const PairMask& pairs) {
  using W = Wide<T>;
  const auto& [q, k, v, scale] = inputs;
  const Tensor<W, 4> weights = textbook<T>(q, k, v, pairs, scale).weights;
  const Index H = q.dimension(1), Q = pairs.Q, K = pairs.K, D = q.dimension(3);
  TextbookGradients<T> gradients{constant_tensor<W>(0, 1, H, Q, D),
                                 constant_tensor<W>(0, 1, H, K, D),
                                 constant_tensor<W>(0, 1, H, K, D)};
  for (Index h = 0; h < H; ++h)
    for (Index i = 0; i < Q; ++i) {
      Tensor<W, 1> slopes(K);
      W mean = 0;
      for (Index j = 0; j < K; ++j) {
        slopes(j) = 0;
        for (Index d = 0; d < D; ++d) {
          slopes(j) += W(grad_output(0, h, i, d)) * W(v(0, h, j, d));
          gradients.values(0, h, j, d) += weights(0, h, i, j) * W(grad_output(0, h, i, d));
        }
        mean += weights(0, h, i, j) * slopes(j);
      }
      for (Index j = 0; j < K; ++j)
        for (Index d = 0; d < D; ++d) {
          const W of_score = W(scale) * weights(0, h, i, j) * (slopes(j) - mean);
          gradients.queries(0, h, i, d) += of_score * W(k(0, h, j, d));
          gradients.keys(0, h, j, d) += of_score * W(q(0, h, i, d));
        }
    }
  return gradients;
}

template <class T>
void expect_accurate_gradients(const Inputs<T>& inputs) {
  const auto& [q, k, v, scale] = inputs;
  const auto grad_output = random_tensor<T>(4, 1, q.dimension(1), q.dimension(2), v.dimension(3));
  for (const eh::Causal causal : {eh::Causal::none, eh::Causal::bottom_right}) {
    const PairMask pairs{.Q = q.dimension(2), .K = k.dimension(2), .causal = causal};
    const eh::Mask mask = pairs.mask();
    const eh::AttentionOptions<T> options{.scale = static_cast<double>(scale)};
    const auto exact = textbook_backward<T>(grad_output, inputs, pairs);
    const auto got = eh::scaled_dot_product_attention_backward<T>(
        grad_output, q, k, v, eh::scaled_dot_product_attention(q, k, v, mask, options), mask,
        options);
    const auto reference = eh::attention_reference_backward<T>(grad_output, q, k, v, mask, scale);
    const auto expect = [](const char* what, const auto& ours, const auto& theirs, const auto& of) {
      expect_at_most_twice(what, errors_of(ours, of), errors_of(theirs, of));
      EXPECT_GT(errors_of(theirs, of).mean, 0) << what;
    };
    expect("queries", got.queries, reference.queries, exact.queries);
    expect("keys", got.keys, reference.keys, exact.keys);
    expect("values", got.values, reference.values, exact.values);
  }
}

TYPED_TEST(Accuracy, OfGradientsOnRandomNumbers) {
  struct Shape {
    Index Q, K, D;
  };
  for (const auto& [Q, K, D] : {Shape{60, 64, 8}, {60, 300, 64}, {150, 60, 64}, {270, 520, 8}}) {
    SCOPED_TRACE(testing::Message() << "Q " << Q << ", K " << K << ", D " << D);
    expect_accurate_gradients(Inputs<TypeParam>(2, Q, K, D));
  }
}

TYPED_TEST(Accuracy, OfGradientsOnValuesOfOneSign) {
  using T = TypeParam;
  for (const Index K : {64, 500}) {
    SCOPED_TRACE(testing::Message() << "K " << K);
    Inputs<T> inputs(2, 60, K, 32);
    each(inputs.v, [](T x, Index) { return std::abs(x) + T(0.5); });
    expect_accurate_gradients(inputs);
  }
}

// So that most weights are near 0 and one is near 1.
TYPED_TEST(Accuracy, OfGradientsOnLargeScores) {
  using T = TypeParam;
  for (const T size : {T(16), T(64)}) {
    SCOPED_TRACE(testing::Message() << "size " << size);
    Inputs<T> inputs(2, 60, 300, 64);
    each(inputs.q, [size](T x, Index) { return size * x; });
    expect_accurate_gradients(inputs);
  }
}

}  // namespace
