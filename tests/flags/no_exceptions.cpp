// SPDX-License-Identifier: MIT
// Compiled with -fno-exceptions: calls give what they give elsewhere, and what would be thrown is a
// sentence on the standard error, after which the program aborts.
#include <csignal>
#include <gtest/gtest.h>
#include <limits>

#include <eigenheads/head_importance.hpp>
#include <eigenheads/multi_head_attention.hpp>
#include <eigenheads/prune_heads.hpp>

#if defined(__cpp_exceptions)
#error "this test is about a build without exceptions"
#endif

namespace {

namespace eh = eigenheads;
using eh::Context, eh::Index, eh::Mask, eh::Tensor;
using Layer = eh::MultiHeadAttention<float>;

Tensor<float, 3> numbers(Index B, Index rows, Index columns) {
  Tensor<float, 3> x(B, rows, columns);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = static_cast<float>(i * 7919 % 101) / 50 - 1;
  return x;
}

Layer make_layer() {
  return Layer({.num_hiddens = 8,
                .num_heads = 4,
                .query_size = 8,
                .key_size = 8,
                .value_size = 8,
                .num_kv_heads = 2});
}

bool same_bits(const Tensor<float, 3>& a, const Tensor<float, 3>& b) {
  if (a.size() != b.size()) return false;
  for (Index i = 0; i < a.size(); ++i)
    if (!(a.data()[i] == b.data()[i])) return false;
  return true;
}

TEST(WithoutExceptions, WhatIsHiddenIsAbsentAndThreadsChangeNothing) {
  const Layer layer = make_layer();
  const auto q = numbers(2, 5, 8);
  auto k = numbers(2, 300, 8);
  const Mask mask{.valid_lens = {270, 0}};
  const auto y = layer(q, k, k, mask);
  for (Index i = 0; i < 30 * 8; ++i)
    k.data()[270 * 8 + i] = std::numeric_limits<float>::quiet_NaN();
  Context many(5, 0);  // any work is shared
  EXPECT_TRUE(same_bits(layer(q, k, k, mask, many), y));
  for (Index i = 5 * 8; i < y.size(); ++i) EXPECT_EQ(y.data()[i], 0);
  Layer::Activations saved;
  EXPECT_TRUE(same_bits(layer.forward(q, k, k, mask, saved), y));
  const auto gradients = layer.backward(y, saved);
  for (Index i = 0; i < 30 * 8; ++i) EXPECT_EQ(gradients.keys.data()[270 * 8 + i], 0);
}

// The end of the program: by abort, after the sentence.
#define EXPECT_ABORT(statement, sentence) \
  EXPECT_EXIT(statement, testing::KilledBySignal(SIGABRT), "^eigenheads: " sentence "\n$")

TEST(WithoutExceptionsDeathTest, ARefusalIsASentenceAndAnAbort) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const Layer layer = make_layer();
  const auto x = numbers(2, 3, 8), narrow = numbers(2, 3, 7);
  EXPECT_ABORT((void)layer(narrow, x, x),
               "queries has shape .2, 3, 7.; expected .B, Q, query_size. = .\\*, \\*, 8.");
  EXPECT_ABORT((void)layer(x, x, x, {.valid_lens = {3, 4}}),
               "valid_lens.1. is 4; expected 0 to the number of keys, 3");
  EXPECT_ABORT((void)Layer({.num_hiddens = 8}),
               "MultiHeadAttention: num_heads is 0; expected 1 or more");
  EXPECT_ABORT((void)Context(0), "Context: threads is 0; expected 1 or more");
  EXPECT_ABORT((void)eh::prune_heads(layer, {9}),
               "prune_heads: there is no head 9; the layer has 4 heads, counted from 0");
}

// A misuse that would be a std::logic_error elsewhere.
TEST(WithoutExceptionsDeathTest, AMisuseIsASentenceAndAnAbort) {
  testing::FLAGS_gtest_death_test_style = "threadsafe";
  const Layer layer = make_layer();
  Layer::Activations saved;
  EXPECT_ABORT((void)layer.backward(numbers(2, 3, 8), saved),
               "MultiHeadAttention: backward needs the activations of a forward call");
  EXPECT_ABORT((void)eh::HeadImportance<float>(layer).measures(),
               "HeadImportance: measures needs a batch; add one first");
}

}  // namespace
