// SPDX-License-Identifier: MIT
// Sizes 0, 1, n - 1, n, n + 1 and 2n + 1 around every edge of a tile, a panel and a block, with
// inputs and outputs at the edge of memory: projections and attention against a textbook, and the
// layer against its parts.
#include <cmath>
#include <tuple>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_reference.hpp>
#include <eigenheads/multi_head_attention.hpp>
#include <eigenheads/transpose.hpp>

#include "guarded.hpp"
#include "layers.hpp"
#include "support.hpp"
#include "textbook.hpp"

namespace {

using namespace support;
using eh::Causal, eh::Context, eh::Linear, eh::scaled_dot_product_attention;

template <class T>
class TileEdges : public testing::Test {};
TYPED_TEST_SUITE(TileEdges, Scalars, ScalarNames);

// Tiles of 4, 6 or 12 rows; tasks of 48 or 96.
constexpr Index kRows[] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  11, 12,
                           13, 23, 24, 25, 47, 48, 49, 95, 96, 97, 193};
// Registers of 2 to 16 elements, panels of two of them.
constexpr Index kColumns[] = {1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 65};

// A chain of n multiply-adds is off by some u sqrt(n) sum_i |x_i w_i|; u is half a unit in the last
// place.
template <class T>
void expect_projection(TensorView<T, 2> y, const Tensor<T, 2>& x, const Tensor<T, 2>& w,
                       const Tensor<T, 1>& b) {
  const Wide<T> u = Wide<T>(Limits<T>::epsilon()) / 2;
  const Index depth = x.dimension(1);
  for (Index row = 0; row < y.dimension(0); ++row)
    for (Index column = 0; column < y.dimension(1); ++column) {
      Wide<T> exact = b(column), size = std::abs(exact);
      for (Index i = 0; i < depth; ++i) {
        const Wide<T> term = Wide<T>(x(row, i)) * Wide<T>(w(column, i));
        exact += term;
        size += std::abs(term);
      }
      const Wide<T> bound = u * (2 + 2 * std::sqrt(Wide<T>(depth))) * size;
      ASSERT_LE(std::abs(Wide<T>(y(row, column)) - exact), bound) << row << ' ' << column;
    }
}

TYPED_TEST(TileEdges, Projections) {
  using T = TypeParam;
  using Matrix = Guarded<T, 2>;
  Context one(1), three(3);
  for (const Index depth : {1, 2, 7, 255, 256, 257, 513})
    for (const Index columns : kColumns) {
      Linear<T> linear({.in_features = depth, .out_features = columns, .bias = true});
      const auto w = random_tensor<T>(1, columns, depth);
      const auto b = random_tensor<T>(2, columns);
      linear.set_weight(Guarded<T, 2>(w).view());
      linear.set_bias(Guarded<T, 1>(b).view());
      ASSERT_TRUE(same_bits(linear.weight(), w));
      for (const Index rows : kRows) {
        SCOPED_TRACE(testing::Message() << rows << " x " << depth << " x " << columns);
        const auto x = random_tensor<T>(3, rows, depth);
        auto y = Matrix::result({rows, columns});
        auto again = Matrix::result({rows, columns}, Matrix::Edge::begin);
        linear.forward_into(y.span(), Matrix(x).view(), one);
        linear.forward_into(again.span(), Matrix(x, Matrix::Edge::begin).view(), three);
        ASSERT_TRUE(y.canaries_live() && again.canaries_live());
        ASSERT_TRUE(same_bits(y.view(), again.view()));
        expect_projection<T>(y.view(), x, w, b);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
}

struct Sizes {
  Index H, G, Q, K, D, V;
};

// Two sequences under every kind of mask.
template <class T>
void expect_attention(const Sizes& sizes) {
  const auto& [H, G, Q, K, D, V] = sizes;
  const auto q = random_tensor<T>(1, 2, H, Q, D), k = random_tensor<T>(2, 2, G, K, D),
             v = random_tensor<T>(3, 2, G, K, V);
  using Edge = typename Guarded<T, 4>::Edge;
  const Guarded<T, 4> q_end(q), k_end(k), v_end(v), q_begin(q, Edge::begin),
      k_begin(k, Edge::begin), v_begin(v, Edge::begin);
  const T scale = 1 / std::sqrt(static_cast<T>(D));
  const eh::AttentionOptions<T> options{.scale = static_cast<double>(scale)};
  for (const PairMask& pairs : example_masks(2, Q, K, static_cast<std::uint64_t>(Q + K))) {
    SCOPED_TRACE(testing::Message()
                 << "H " << H << ", G " << G << ", D " << D << ", V " << V << ", " << pairs.text());
    const eh::Mask mask = pairs.mask();
    Context fresh;
    const auto got = scaled_dot_product_attention(q_end.view(), k_end.view(), v_end.view(), mask,
                                                  options, fresh);
    const auto exact = textbook<T>(q, k, v, pairs, scale);
    ASSERT_TRUE(within(got.output, exact.output, exact.output_bound));
    ASSERT_TRUE(within(got.lse, exact.lse, exact.lse_bound));
    const auto begin =
        scaled_dot_product_attention(q_begin.view(), k_begin.view(), v_begin.view(), mask, options);
    ASSERT_TRUE(same_bits(begin, got));
  }
}

template <class T>
void expect_attention_of_all(const std::vector<Sizes>& all) {
  for (const Sizes& sizes : all) {
    expect_attention<T>(sizes);
    if (testing::Test::HasFatalFailure()) return;
  }
}

TYPED_TEST(TileEdges, AttentionOfAnyNumberOfQueries) {
  std::vector<Sizes> all;
  for (const Index Q : kRows)
    for (const Index K : {0, 1, 33, 130}) {
      all.push_back({2, 2, Q, K, 5, 3});
      all.push_back({3, 1, Q, K, 4, 8});  // three query heads share their tiles
    }
  expect_attention_of_all<TypeParam>(all);
}

TYPED_TEST(TileEdges, AttentionOverAnyNumberOfKeys) {
  std::vector<Sizes> all;
  for (const Index K : {1,  2,  3,  4,  5,  7,   8,   9,   15,  16,  17,  31,  32,  33,
                        48, 63, 64, 65, 97, 127, 128, 129, 255, 256, 257, 511, 512, 513})
    for (const Index Q : {1, 3, 7, 50}) all.push_back({1, 1, Q, K, 6, 5});
  expect_attention_of_all<TypeParam>(all);
}

TYPED_TEST(TileEdges, AttentionOfAnyHeadSize) {
  std::vector<Sizes> all;
  for (Index D = 1; D <= 67; ++D)
    for (const Index Q : {1, 5, 49}) all.push_back({1, 1, Q, 35, D, 68 - D});
  for (const Index D : {80, 96, 128})
    for (const Index V : {1, 31, 64, 80, 96, 128, 129})
      for (const Index Q : {1, 4, 49}) all.push_back({2, 1, Q, 130, D, V});
  expect_attention_of_all<TypeParam>(all);
}

// Threads share out a row's blocks of keys where there are too few rows for them.
TYPED_TEST(TileEdges, FewQueriesOverManyKeysOnAnyNumberOfThreads) {
  using T = TypeParam;
  Context two(2, kAnyWork), three(3, kAnyWork), five(5, kAnyWork);
  for (const Index Q : {1, 2, 5, 48})
    for (const Index K : {128, 129, 257, 513, 1100})
      for (PairMask& pairs : example_masks(2, Q, K, static_cast<std::uint64_t>(Q + K)))
        for (const bool has_holes : {false, true}) {
          if (has_holes) {
            pairs.allowed = constant_tensor<bool>(true, 2, 1, Q, K);
            for (Index i = 0; i < pairs.allowed.size(); ++i)
              pairs.allowed.data()[i] = i * 7919 % 11 < 3;
          }
          SCOPED_TRACE(pairs.text());
          const auto q = random_tensor<T>(1, 2, 1, Q, 8), k = random_tensor<T>(2, 2, 1, K, 8);
          auto v = random_tensor<T>(3, 2, 1, K, 33);
          for (Index i = 0; i < v.size() && has_holes;
               ++i)  // some rows of the values go row by row
            if (i / 33 % 50 == 7) v.data()[i] = kInf<T>;
          const eh::Mask mask = pairs.mask();
          const auto one = scaled_dot_product_attention(q, k, v, mask);
          for (Context* context : {&two, &three, &five}) {
            const auto got = scaled_dot_product_attention(q, k, v, mask, {}, *context);
            ASSERT_TRUE(same_bits(got, one)) << context->threads() << " threads";
          }
        }
}

// Its layouts are transpose_qkv and transpose_output: the same bits as in separate steps.
TYPED_TEST(TileEdges, TheLayerIsItsPartsForAnyHeadSize) {
  using T = TypeParam;
  const auto expect = [](Index B, Index Q, Index K, Index H, Index G, Index D) {
    SCOPED_TRACE(testing::Message() << B << ' ' << Q << ' ' << K << ' ' << H << ' ' << D);
    const Index E = 9;
    const auto layer = make_layer<T>(
        E, {.num_hiddens = E, .num_heads = H, .bias = true, .num_kv_heads = G, .head_size = D});
    const auto x = random_tensor<T>(1, B, Q, E), k = random_tensor<T>(2, B, K, E),
               v = random_tensor<T>(3, B, K, E);
    auto y = Guarded<T, 3>::result({B, Q, E});
    layer.forward_into(y.span(), Guarded<T, 3>(x).view(), Guarded<T, 3>(k).view(),
                       Guarded<T, 3>(v).view());
    ASSERT_TRUE(y.canaries_live());

    const auto heads = [&](const Tensor<T, 3>& z, Index n) {
      const Tensor<T, 3> split = eh::transpose_qkv(z, n);  // [B * n, rows, D]
      Tensor<T, 4> apart(B, n, z.dimension(1), D);
      std::copy_n(split.data(), split.size(), apart.data());
      return apart;
    };
    const auto attended =
        scaled_dot_product_attention(heads(layer.W_q(x), H), heads(layer.W_k(k), G),
                                     heads(layer.W_v(v), G))
            .output;
    Tensor<T, 3> together(B * H, Q, D);
    std::copy_n(attended.data(), attended.size(), together.data());
    ASSERT_TRUE(same_bits(y.view(), layer.W_o(eh::transpose_output(together, H))));
  };
  for (Index D = 1; D <= 67; ++D) expect(2, 3, 5, 4, 2, D);
  for (const Index D : {80, 96, 128}) expect(1, 7, 13, 2, 1, D);
  for (const Index Q : kRows) expect(2, Q, 17, 3, 1, 5);
}

}  // namespace
