// SPDX-License-Identifier: MIT
// Every mask of up to three queries and three keys: all pairs that `allowed` may leave, times all
// lengths, causality and windows (P44). Scores are equal, so that an output is the mean of the values
// that are seen, and a weight one over their number. Once as a call of its own, in one block of keys;
// and once where an edge between two blocks lies among the keys, behind hidden ones, so that blocks of
// one key and of two are merged.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_backward.hpp>

#include "../support.hpp"

namespace {

using namespace support;
using eh::Causal;

template <class T>
class SmallMasks : public testing::Test {};
TYPED_TEST_SUITE(SmallMasks, Scalars, ScalarNames);

struct Parts {
  Index Q, K, length;
  Causal causal;
  Index left, right;
};

// What the words say, written down once more: query i of Q and key j of K.
bool is_visible(const Parts& parts, std::size_t pairs, Index i, Index j) {
  const auto& [Q, K, length, causal, left, right] = parts;
  const Index beside = causal == Causal::bottom_right ? i + K - Q : i;
  if ((pairs >> (i * K + j) & 1) == 0 || j >= length) return false;
  if (causal != Causal::none && j > beside) return false;
  if (left >= 0 && j < beside - left) return false;
  return right < 0 || j <= beside + right;
}

// All 2^(Q K) sets of pairs are the sequences of one call; `before` hidden keys stand before the others.
template <class T>
void expect_means(const Parts& parts, Index before) {
  const auto& [Q, K, length, causal, left, right] = parts;
  const Index B = Index{1} << (Q * K), all = before + K;
  static constexpr std::array<T, 3> numbers{1, 2, 4};  // of which all means differ
  auto allowed = constant_tensor<bool>(false, B, 1, Q, all);
  const auto zeros = constant_tensor<T>(0, B, 1, std::max(Q, all), 2);
  auto v = constant_tensor<T>(kNan<T>, B, 1, all, 1), dy = constant_tensor<T>(1, B, 1, Q, 1);
  for (Index b = 0; b < B; ++b) {
    for (Index j = 0; j < K; ++j) {
      v(b, 0, before + j, 0) = numbers[static_cast<std::size_t>(j)];
      for (Index i = 0; i < Q; ++i)
        allowed(b, 0, i, before + j) = (static_cast<std::size_t>(b) >> (i * K + j) & 1) != 0;
    }
  }
  eh::Mask mask{.causal = causal, .window = {left, right}, .allowed = allowed};
  const std::vector<Index> lens(static_cast<std::size_t>(B), before + length),
      positions(static_cast<std::size_t>(B), before);
  mask.valid_lens = lens;
  // Where none says which key stands beside which query.
  if (causal == Causal::none || (before > 0 && causal == Causal::top_left))
    mask.first_positions = positions;
  const eh::AttentionOptions<T> options{.weights = true};
  const TensorView<T, 4> q(zeros.data(), {B, 1, Q, 2}), k(zeros.data(), {B, 1, all, 2});
  const auto got = eh::scaled_dot_product_attention(q, k, v, mask, options);
  const auto gradients =
      eh::scaled_dot_product_attention_backward<T>(dy, q, k, v, got, mask, options);
  const T unit = 4 * Limits<T>::epsilon();
  for (Index b = 0; b < B; ++b) {
    std::array<T, 3> of_values{};
    for (Index i = 0; i < Q; ++i) {
      T n = 0, sum = 0;
      for (Index j = 0; j < K; ++j)
        if (is_visible(parts, static_cast<std::size_t>(b), i, j))
          n += 1, sum += numbers[static_cast<std::size_t>(j)];
      const T output = got.output(b, 0, i, 0);
      const auto where = [&] { return testing::Message() << "pairs " << b << ", query " << i; };
      if (n == 0) {
        ASSERT_EQ(bits(output), bits(T(0))) << where();
        ASSERT_EQ(got.lse(b, 0, i), -kInf<T>) << where();
      } else {
        ASSERT_NEAR(output, sum / n, unit * sum / n) << where();
        ASSERT_NEAR(got.lse(b, 0, i), std::log(n), unit) << where();
      }
      for (Index j = 0; j < all; ++j) {
        const T weight = got.weights(b, 0, i, j);
        if (j >= before && is_visible(parts, static_cast<std::size_t>(b), i, j - before)) {
          ASSERT_NEAR(weight, 1 / n, unit) << where() << ", key " << j;
          of_values[static_cast<std::size_t>(j - before)] += 1 / n;
        } else {
          ASSERT_EQ(bits(weight), bits(T(0))) << where() << ", key " << j;
        }
      }
    }
    for (Index j = 0; j < all; ++j) {
      const T expected = j < before ? T(0) : of_values[static_cast<std::size_t>(j - before)];
      ASSERT_NEAR(gradients.values(b, 0, j, 0), expected, expected * 2 * unit) << "key " << j;
    }
  }
}

template <class T>
void for_all_parts(Index most, const std::vector<Index>& places_before) {
  for (Index Q = 1; Q <= most; ++Q)
    for (Index K = 1; K <= most; ++K)
      for (Index length = 0; length <= K; ++length)
        for (const Causal causal : {Causal::none, Causal::top_left, Causal::bottom_right})
          for (const Index left : {-1, 0, 1, 2})
            for (const Index right : {-1, 0, 1, 2})
              for (const Index before : places_before) {
                if (testing::Test::HasFatalFailure()) return;
                SCOPED_TRACE(testing::Message()
                             << "Q " << Q << ", K " << K << ", length " << length << ", causal "
                             << static_cast<int>(causal) << ", window " << left << ' ' << right
                             << ", " << before << " keys before");
                expect_means<T>({Q, K, length, causal, left, right}, before);
              }
}

TYPED_TEST(SmallMasks, OfEveryKindAreWhatTheySay) { for_all_parts<TypeParam>(3, {0}); }

// A block is 256 keys of float, and 128 of double.
TYPED_TEST(SmallMasks, AreTheSameWhereverKeysAreCutIntoBlocks) {
  const Index block = sizeof(TypeParam) == 4 ? 256 : 128;
  for_all_parts<TypeParam>(2, {block - 1});
  const Parts three{3, 3, 3, Causal::none, -1, -1}, causal{3, 3, 3, Causal::top_left, 1, -1};
  for (const Parts& parts : {three, causal})
    for (const Index before : {block - 1, block - 2}) expect_means<TypeParam>(parts, before);
}

}  // namespace
