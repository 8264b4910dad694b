// SPDX-License-Identifier: MIT
// What lies in a context's scratch memory before a call is not observable: whatever an earlier call left
// there, be it NaN, moves no bit.
#include <algorithm>
#include <cstddef>
#include <cstring>
#include <gtest/gtest.h>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_backward.hpp>
#include <eigenheads/detail/arena.hpp>
#include <eigenheads/multi_head_attention.hpp>

#include "layers.hpp"
#include "support.hpp"
#include "textbook.hpp"

namespace {

using namespace support;
using eh::Context;

// A context whose memory holds this byte everywhere: 0 is 0, and 0xFF is NaN.
struct Filled : Context {
  Filled(int threads, int byte) : Context(threads, kAnyWork) {
    constexpr Index size = Index{4} << 20;
    const eh::detail::Frame frame(*this);
    std::memset(frame.take<std::byte>(size), byte, static_cast<std::size_t>(size));
  }
};

template <class T>
class ScratchMemory : public testing::Test {
 protected:
  // run(context) gives a list of tensors.
  template <class Run>
  static void expect_unseen(const Run& run) {
    for (const int threads : {1, 3}) {
      Filled zeros(threads, 0), nans(threads, 0xFF);
      const auto expected = run(zeros), got = run(nans);
      for (std::size_t i = 0; i < expected.size(); ++i)
        ASSERT_TRUE(same_bits(got[i], expected[i])) << i << " on " << threads;
    }
  }
  template <int Rank>
  static TensorView<T, 1> flat(const Tensor<T, Rank>& x) {
    return TensorView<T, 1>(x.data(), {x.size()});
  }
  static Tensor<T, 1> copy(const TensorView<T, 1>& x) {
    Tensor<T, 1> y(x.size());
    std::copy_n(x.data(), x.size(), y.data());
    return y;
  }
  template <int... Ranks>
  static std::vector<Tensor<T, 1>> list(const Tensor<T, Ranks>&... each) {
    return {copy(flat(each))...};
  }
};
TYPED_TEST_SUITE(ScratchMemory, Scalars, ScalarNames);

TYPED_TEST(ScratchMemory, IsNotSeenByAttentionAndItsGradients) {
  using T = TypeParam;
  for (const Index Q : {1, 5, 49})
    for (const Index K : {3, 40, 300}) {
      const auto q = random_tensor<T>(1, 2, 2, Q, 5), k = random_tensor<T>(2, 2, 1, K, 5);
      const auto v = random_tensor<T>(3, 2, 1, K, 9), dy = random_tensor<T>(4, 2, 2, Q, 9);
      for (const PairMask& pairs : example_masks(2, Q, K, static_cast<std::uint64_t>(Q + K))) {
        SCOPED_TRACE(pairs.text());
        const eh::Mask mask = pairs.mask();
        this->expect_unseen([&](Context& context) {
          const auto seen = eh::scaled_dot_product_attention(q, k, v, mask, {}, context);
          const auto with =
              eh::scaled_dot_product_attention(q, k, v, mask, {.weights = true}, context);
          const auto grad =
              eh::scaled_dot_product_attention_backward(dy, q, k, v, seen, mask, {}, context);
          return this->list(seen.output, seen.lse, with.output, with.weights, grad.queries,
                            grad.keys, grad.values);
        });
        if (this->HasFatalFailure()) return;
      }
    }
}

TYPED_TEST(ScratchMemory, IsNotSeenByALayerSomeOfWhoseHeadsAreClosed) {
  using T = TypeParam;
  auto layer = make_layer<T>(
      7, {.num_hiddens = 12, .num_heads = 4, .bias = true, .num_kv_heads = 2, .head_size = 3});
  auto gates = constant_tensor<T>(1, 2, 4);
  gates(0, 1) = gates(1, 0) = gates(1, 1) = 0;
  gates(1, 2) = T(0.5);
  layer.set_gates(gates);
  const auto x = random_tensor<T>(1, 2, 30, 7), dy = random_tensor<T>(2, 2, 30, 12);
  for (const PairMask& pairs : example_masks(2, 30, 30, 1)) {
    SCOPED_TRACE(pairs.text());
    const eh::Mask mask = pairs.mask();
    this->expect_unseen([&](Context& context) {
      typename eh::MultiHeadAttention<T>::Activations saved;
      const auto y = layer(x, x, x, mask, context);
      const auto trained = layer.forward(x, x, x, mask, saved, context);
      const auto grad = layer.backward(dy, saved, context);
      return this->list(y, trained, grad.queries, grad.keys, grad.values, grad.W_q.weight,
                        grad.W_k.bias, grad.W_v.weight, grad.W_o.weight, grad.gates);
    });
    if (this->HasFatalFailure()) return;
  }
}

}  // namespace
