// SPDX-License-Identifier: MIT
#include <algorithm>
#include <array>
#include <cstdint>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include <eigenheads/linear.hpp>
#include <eigenheads/nn/embedding.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::Context, eh::Embedding, eh::Sequences;

template <class T>
class EmbeddingOf : public testing::Test {};
TYPED_TEST_SUITE(EmbeddingOf, Scalars, ScalarNames);

template <class Number = Index, class... Lengths>
[[nodiscard]] auto random_ids(std::uint64_t seed, Index count, Lengths... lengths) {
  Tensor<Number, static_cast<int>(sizeof...(Lengths))> ids(static_cast<Index>(lengths)...);
  Numbers numbers(seed);
  for (Index i = 0; i < ids.size(); ++i)
    ids.data()[i] = static_cast<Number>(numbers.between(0, count - 1));
  return ids;
}

TYPED_TEST(EmbeddingOf, LooksUpIdsOfAnyIntegerType) {
  using T = TypeParam;
  const Embedding<T> embedding({.num_embeddings = 11, .embedding_dim = 5}, 1);
  const auto check = [&]<class Number>(Number) {
    const auto ids = random_ids<Number>(2, 11, 3, 4);
    const Tensor<T, 3> y = embedding(ids);
    for (Index b = 0; b < 3; ++b)
      for (Index i = 0; i < 4; ++i)
        ASSERT_TRUE(
            same_bits(row(y, b, i), row(embedding.weight(), static_cast<Index>(ids(b, i)))));
    const TensorView<Number, 1> packed(ids.data(), {12});
    EXPECT_TRUE(same_bits(embedding(packed), TensorView<T, 2>(y.data(), {12, 5})));
    Tensor<T, 3> into(3, 4, 5);
    embedding.forward_into(into, ids);
    EXPECT_TRUE(same_bits(into, y));
  };
  check(std::int16_t{});
  check(std::uint16_t{});
  check(std::int32_t{});
  check(std::uint32_t{});
  check(std::int64_t{});
  check(std::uint64_t{});
  const std::vector<int> ids{3, 0, 10};
  EXPECT_TRUE(same_bits(row(embedding(ids), 2), row(embedding.weight(), 10)));
}

TYPED_TEST(EmbeddingOf, TakesNoIds) {
  using T = TypeParam;
  const Embedding<T> embedding({.num_embeddings = 3, .embedding_dim = 5}, 1);
  typename Embedding<T>::Activations saved;
  for (const auto& ids : {Tensor<Index, 2>(0, 4), Tensor<Index, 2>(4, 0)}) {
    const Tensor<T, 3> y = embedding.forward(ids, saved);
    EXPECT_EQ(y.size(), 0);
    EXPECT_TRUE(all_are(embedding.backward(y, saved).weight, T(0)));
  }
  EXPECT_EQ(embedding(std::vector<int>{}).dimension(0), 0);
}

// T4.07 of the edge cases: ids -1 and V are never wrapped to the last row.
TYPED_TEST(EmbeddingOf, RefusesIdsThatTheTableDoesNotHave) {
  using T = TypeParam;
  const Embedding<T> embedding({.num_embeddings = 30, .embedding_dim = 2});
  Tensor<Index, 2> ids(2, 3);
  ids.setZero();
  Tensor<T, 3> y = constant_tensor<T>(T(7), 2, 3, 2);
  ids(1, 2) = -1;
  EXPECT_EQ(refusal([&] { embedding.forward_into(y, ids); }),
            "eigenheads: ids[1, 2] is -1; expected 0 to 29, the last of the 30 embeddings");
  ids(1, 2) = 30;
  EXPECT_EQ(refusal([&] { embedding.forward_into(y, ids); }),
            "eigenheads: ids[1, 2] is 30; expected 0 to 29, the last of the 30 embeddings");
  EXPECT_TRUE(all_are(y, T(7)));
  EXPECT_EQ(refusal([&] { return embedding(std::vector<std::uint64_t>{1, ~std::uint64_t{0}}); }),
            "eigenheads: ids[1] is 18446744073709551615; expected 0 to 29, the last of the 30 "
            "embeddings");
}

TYPED_TEST(EmbeddingOf, RefusesSizesAndShapesThatDoNotFit) {
  using T = TypeParam;
  using Made = Embedding<T>;
  EXPECT_EQ(refusal([] { return Made({.num_embeddings = 0, .embedding_dim = 2}); }),
            "eigenheads: Embedding: num_embeddings is 0; expected 1 or more");
  EXPECT_EQ(refusal([] { return Made({.num_embeddings = 2, .embedding_dim = -1}); }),
            "eigenheads: Embedding: embedding_dim is -1; expected 1 or more");
  EXPECT_EQ(
      refusal([] { return Made({.num_embeddings = 2, .embedding_dim = 1, .padding_idx = 2}); }),
      "eigenheads: Embedding: padding_idx is 2; expected 0 to 1");
  Made embedding({.num_embeddings = 3, .embedding_dim = 2});
  EXPECT_EQ(
      refusal([&] { embedding.set_weight(Tensor<T, 2>(2, 3)); }),
      "eigenheads: weight has shape [2, 3]; expected [num_embeddings, embedding_dim] = [3, 2]");
  const auto ids = random_ids(1, 3, 2, 4);
  Tensor<T, 3> y(2, 4, 3);
  EXPECT_EQ(refusal([&] { embedding.forward_into(y, ids); }),
            "eigenheads: y has shape [2, 4, 3]; expected [..., embedding_dim] = [2, 4, 2]");
  typename Made::Activations saved;
  EXPECT_NE(refusal<std::logic_error>([&] { return embedding.backward(y, saved); }), "not refused");
  (void)embedding.forward(ids, saved);
  EXPECT_EQ(refusal([&] { return embedding.backward(y, saved); }),
            "eigenheads: grad_y has shape [2, 4, 3]; expected [..., embedding_dim] = [2, 4, 2]");
  EXPECT_EQ(refusal([&] { return embedding.backward(Tensor<T, 2>(8, 2), saved); }),
            "eigenheads: grad_y has 2 axes; expected 3, one more than the ids of the forward call");
  const Made shorter({.num_embeddings = 1, .embedding_dim = 2});
  EXPECT_EQ(
      refusal<std::logic_error>([&] { return shorter.backward(Tensor<T, 3>(2, 4, 2), saved); }),
      "eigenheads: Embedding: the activations are those of a table of more embeddings");
  const TensorView<Index, 1> packed(ids.data(), {8});
  EXPECT_EQ(refusal([&] { return embedding.forward(packed, Sequences{3, 4}, saved); }),
            "eigenheads: ids has 8 rows; expected 7, those of its 2 sequences");
}

// T4.07: every id is 0, and long inputs are no other case.
TYPED_TEST(EmbeddingOf, TheGradientCountsEveryPlace) {
  using T = TypeParam;
  for (const bool pads : {false, true}) {
    Embedding<T> embedding({.num_embeddings = 4, .embedding_dim = 3});
    if (pads) embedding = Embedding<T>({.num_embeddings = 4, .embedding_dim = 3, .padding_idx = 0});
    typename Embedding<T>::Activations saved;
    (void)embedding.forward(constant_tensor<Index>(0, 769), saved);
    const auto ones = constant_tensor<T>(T(1), 769, 3);
    auto gradients = embedding.backward(ones, saved);
    EXPECT_TRUE(all_are(row(gradients.weight, 0), pads ? T(0) : T(769)));
    for (Index v = 1; v < 4; ++v) EXPECT_TRUE(all_are(row(gradients.weight, v), T(0)));
    gradients.weight = constant_tensor<T>(T(2), 4, 3);
    embedding.backward_into(gradients, ones, saved, true);
    EXPECT_TRUE(all_are(row(gradients.weight, 0), pads ? T(2) : T(771)));
    EXPECT_TRUE(all_are(row(gradients.weight, 1), T(2)));
  }
}

TYPED_TEST(EmbeddingOf, TheGradientIsThatOfAProjectionOfOneHotRows) {
  using T = TypeParam;
  const Index B = 2, L = 600, V = 7, E = 37;
  const Embedding<T> embedding({.num_embeddings = V, .embedding_dim = E}, 1);
  const auto ids = random_ids(2, V, B, L);
  const auto grad_y = random_tensor<T>(3, B, L, E);
  typename Embedding<T>::Activations saved;
  (void)embedding.forward(ids, saved);
  const Tensor<T, 2> weight = embedding.backward(grad_y, saved).weight;
  Tensor<T, 3> x(B, L, V);
  x.setZero();
  for (Index b = 0; b < B; ++b)
    for (Index i = 0; i < L; ++i) x(b, i, ids(b, i)) = 1;
  eh::LinearGradients<T> gradients;
  (void)eh::Linear<T>({.in_features = V, .out_features = E}).backward(x, grad_y, gradients);
  const Tensor<T, 2> across = gradients.weight.shuffle(std::array{1, 0});
  EXPECT_TRUE(same_bits(weight, across));
}

TYPED_TEST(EmbeddingOf, PackedPaddedAndAnyThreadsGiveTheSameBits) {
  using T = TypeParam;
  const std::vector<Index> lens{400, 0, 257, 1, 256};
  const Sequences sequences(lens);
  const Index V = 600, L = 400;  // more than one task of ids
  for (const Index E : {1, 32, 33, 130}) {
    const Embedding<T> embedding({.num_embeddings = V, .embedding_dim = E}, 1);
    auto ids = random_ids(2, V, 5, L);
    for (Index i = 0; i < ids.size(); ++i)
      if (i % 3 != 0) ids.data()[i] = 17;  // one that is in all blocks
    Tensor<T, 3> grad_y = random_tensor<T>(3, 5, L, E);
    for (Index b = 0; b < 5; ++b)
      for (Index i = lens[static_cast<std::size_t>(b)]; i < L; ++i)
        for (Index e = 0; e < E; ++e) grad_y(b, i, e) = 0;
    Tensor<Index, 1> packed(sequences.rows());
    for (Index b = 0; b < 5; ++b)
      std::copy_n(&ids(b, 0), sequences.length(b), packed.data() + sequences.begin(b));
    Context three(3, kAnyWork);
    typename Embedding<T>::Activations saved, of_packed;
    const Tensor<T, 3> y = embedding.forward(ids, saved);
    EXPECT_TRUE(
        same_bits(embedding.forward(packed, sequences, of_packed, three), eh::pack(y, sequences)));
    const auto gradients = embedding.backward(grad_y, saved);
    EXPECT_TRUE(same_bits(embedding.backward(grad_y, saved, three).weight, gradients.weight));
    auto again = embedding.backward(eh::pack(grad_y, sequences), of_packed, three);
    EXPECT_TRUE(same_bits(again.weight, gradients.weight));
    embedding.backward_into(again, grad_y, saved, true);
    const Tensor<T, 2> twice = gradients.weight + gradients.weight;
    EXPECT_TRUE(same_bits(again.weight, twice));
  }
}

TYPED_TEST(EmbeddingOf, TheTableDependsOnSeedAndNameAndIsSpreadAsPyTorchs) {
  using T = TypeParam;
  const eh::EmbeddingOptions options{.num_embeddings = 100, .embedding_dim = 50, .padding_idx = 7};
  const Embedding<T> first(options, 1, "tokens"), same(options, 1, "tokens"),
      other(options, 1, "positions");
  EXPECT_TRUE(same_bits(first.weight(), same.weight()));
  EXPECT_FALSE(same_bits(first.weight(), other.weight()));
  EXPECT_TRUE(all_are(row(first.weight(), 7), T(0)));
  double sum = 0, squares = 0;
  for (Index i = 0; i < first.weight().size(); ++i) {
    const auto value = static_cast<double>(first.weight().data()[i]);
    sum += value;
    squares += value * value;
  }
  EXPECT_NEAR(sum / 4950, 0, 0.05);
  EXPECT_NEAR(squares / 4950, 1, 0.05);
}

TYPED_TEST(EmbeddingOf, PrintsAndIsVisitedAsPyTorchs) {
  using T = TypeParam;
  Embedding<T> embedding({.num_embeddings = 10, .embedding_dim = 4});
  std::ostringstream text;
  text << embedding << ' '
       << Embedding<T>({.num_embeddings = 10, .embedding_dim = 4, .padding_idx = 0});
  EXPECT_EQ(text.str(), "Embedding(10, 4) Embedding(10, 4, padding_idx=0)");
  std::vector<std::string> names;
  embedding.for_each_parameter([&](const auto& p) { names.push_back(p.name()); }, "tokens.");
  EXPECT_EQ(names, std::vector<std::string>{"tokens.weight"});
}

}  // namespace
