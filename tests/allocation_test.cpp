// SPDX-License-Identifier: MIT
// Once warm, a call allocates nothing, counted where all memory comes from, on all threads; with
// one thread it takes no lock; and memory grows with queries plus keys, never with their product.
#include <array>
#include <chrono>
#include <cstdlib>
#include <mutex>
#include <new>
#include <thread>
#include <utility>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/attention_backward.hpp>
#include <eigenheads/multi_head_attention.hpp>
#include <eigenheads/prune_heads.hpp>

#include "context.hpp"
#include "counting.hpp"
#include "layers.hpp"
#include "support.hpp"

namespace {

using namespace support;
using eh::Context, eh::Mask;

TEST(Counting, SeesAllocationsAndLocks) {
  std::mutex mutex;
  void* volatile kept = nullptr;
  const auto seen = counted([&] {
    const std::lock_guard lock(mutex);
    for (const auto make : {+[] { return std::malloc(100); }, +[] { return std::calloc(10, 10); },
                            +[] { return std::aligned_alloc(64, 128); }}) {
      kept = make();
      std::free(kept);
    }
    kept = ::operator new(100);
    ::operator delete(kept);
    kept = ::operator new(100, std::align_val_t{64});
    ::operator delete(kept, std::align_val_t{64});
    const Eigen::Tensor<float, 1> tensor(25);
    kept = const_cast<float*>(tensor.data());
    EXPECT_EQ(posix_memalign(const_cast<void**>(&kept), 64, 100), 0);
    std::free(kept);
  });
  EXPECT_GE(seen.allocations, kCountsAll ? 7 : 4);
  EXPECT_GE(seen.bytes, 100 * seen.allocations);
  EXPECT_EQ(seen.locks, kCountsLocks ? 1 : 0);
}

// ---- Warm calls --------------------------------------------------------------------------------

template <class T>
class Allocation : public testing::Test {};
TYPED_TEST_SUITE(Allocation, Scalars, ScalarNames);

struct Shape {
  Index B, Q, K, E, H, G;
};

// Of calls of a shape that the context has seen.
template <class T>
void expect_none(const Shape& shape, const Mask& mask, int threads,
                 const eh::ScoreRef<T>& score = {}) {
  const auto& [B, Q, K, E, H, G] = shape;
  SCOPED_TRACE(testing::Message() << B << " x " << Q << " x " << K << ", " << threads
                                  << " threads");
  const auto layer =
      make_layer<T>(E, {.num_hiddens = E, .num_heads = H, .bias = true, .num_kv_heads = G});
  const auto q = random_tensor<T>(1, B, Q, E), k = random_tensor<T>(2, B, K, E);
  Tensor<T, 3> y(B, Q, E);
  Context context(threads, kAnyWork);
  const auto call = [&] {
    layer.forward_into(y, q, k, k, mask, {.score = score, .context = context});
  };
  start_threads(context);
  for (int warm = 0; warm < 3; ++warm) call();
  for (int repeat = 0; repeat < 20; ++repeat) {
    const Counted seen = counted(call);
    ASSERT_EQ(seen.allocations, 0) << seen.bytes << " bytes";
    ASSERT_TRUE(seen.locks == 0 || threads > 1) << seen.locks;
  }
}

TYPED_TEST(Allocation, AWarmCallDoesNoneUnderAnyMaskAndScore) {
  using T = TypeParam;
  const Index Q = 70, K = 90;
  const Shape shape{2, Q, K, 24, 4, 2};
  const auto pairs = constant_tensor<bool>(true, 2, 1, Q, K);
  const auto slopes = random_tensor<T>(3, 4);
  const auto bias = random_tensor<T>(4, 1, 4, Q, K);
  const std::vector<Mask> masks{{},
                                {.valid_lens = {K, 5}},
                                {.causal = eh::Causal::bottom_right, .window = {7, -1}},
                                {.query_lens = {Q, 3}},
                                {.allowed = pairs},
                                {.valid_lens = {0, K},
                                 .causal = eh::Causal::top_left,
                                 .query_lens = {3, Q},
                                 .allowed = pairs}};
  for (const int threads : {1, 2})
    for (const Mask& mask : masks) {
      expect_none<T>(shape, mask, threads);
      expect_none<T>(shape, mask, threads, eh::Softcap<T>(T(5)));
      expect_none<T>(shape, mask, threads, eh::chain(eh::Alibi<T>(slopes), eh::ScoreBias<T>(bias)));
    }
}

// Among them decoding: one query, few or many keys, in several blocks.
TYPED_TEST(Allocation, AWarmCallDoesNoneInAnyShape) {
  using T = TypeParam;
  for (const int threads : {1, 2})
    for (const Shape& shape : std::vector<Shape>{{1, 1, 1, 8, 1, 1},
                                                 {1, 1, 1500, 32, 4, 4},
                                                 {4, 1, 700, 32, 4, 1},
                                                 {2, 4, 600, 16, 2, 2},
                                                 {1, 49, 3, 16, 2, 2},
                                                 {3, 200, 700, 16, 2, 1},
                                                 {8, 128, 1, 48, 6, 3}})
      for (const Mask& mask : {Mask{}, Mask{.causal = eh::Causal::bottom_right}})
        expect_none<T>(shape, mask, threads);
}

TYPED_TEST(Allocation, ShapesThatWereSeenBeforeMayComeInAnyOrder) {
  using T = TypeParam;
  const auto layer = make_layer<T>(32, {.num_hiddens = 32, .num_heads = 4});
  Context context(2, kAnyWork);
  start_threads(context);
  for (const bool is_warm : {false, true})
    for (const Index n :
         is_warm ? std::array<Index, 4>{1, 300, 40, 150} : std::array<Index, 4>{150, 1, 300, 40}) {
      const auto x = random_tensor<T>(1, 2, n, 32);
      auto y = x;
      const auto seen = counted([&] { layer.forward_into(y, x, x, x, Mask{}, context); });
      EXPECT_TRUE(seen.allocations == 0 || !is_warm) << n;
    }
}

// Those that follow may be on both threads, of which the first was on one.
TYPED_TEST(Allocation, SmallCallsDoNoneWhenTheyFollowEachOther) {
  using T = TypeParam;
  const Index E = 64, rows = sizeof(T) == sizeof(float) ? 80 : 40;
  const auto layer = make_layer<T>(E, {.num_hiddens = E, .num_heads = 4});
  const auto x = random_tensor<T>(1, 1, rows, E);
  auto y = x;
  // A projection has 3.6e5 multiply-adds of floats or more: by itself too few to wake a thread, and
  // enough for one that is awake.
  Context context(2, 6e5);
  start_threads(context);
  std::this_thread::sleep_for(std::chrono::milliseconds(5));
  layer.forward_into(y, x, x, x, Mask{}, context);
  const auto seen = counted([&] {
    for (int repeat = 0; repeat < 50; ++repeat) layer.forward_into(y, x, x, x, Mask{}, context);
  });
  EXPECT_EQ(seen.allocations, 0) << seen.bytes << " bytes";
}

TYPED_TEST(Allocation, AWarmCallDoesNoneWithGatesOrPruned) {
  using T = TypeParam;
  auto layer = make_layer<T>(32, {.num_hiddens = 32, .num_heads = 8, .num_kv_heads = 4});
  auto gates = random_tensor<T>(5, 3, 8);
  gates(0, 1) = gates(1, 2) = gates(1, 3) = gates(2, 1) = 0;
  layer.set_gates(gates);
  const auto x = random_tensor<T>(1, 3, 60, 32);
  auto y = x;
  for (const int threads : {1, 2})
    for (const auto& of : std::vector{layer, eh::prune_heads(layer, {0, 4, 5})}) {
      Context context(threads, kAnyWork);
      start_threads(context);
      const auto call = [&] { of.forward_into(y, x, x, x, Mask{}, context); };
      for (int warm = 0; warm < 3; ++warm) call();
      EXPECT_EQ(counted(call).allocations, 0);
    }
}

TYPED_TEST(Allocation, AWarmCallDoesNoneForPackedSequences) {
  using T = TypeParam;
  const auto layer = make_layer<T>(32, {.num_hiddens = 32, .num_heads = 4, .num_kv_heads = 2});
  const eh::Sequences queries{5, 0, 700, 49}, keys{1, 7, 600, 130};
  const auto q = random_tensor<T>(1, queries.rows(), 32), k = random_tensor<T>(2, keys.rows(), 32);
  Tensor<T, 2> y(queries.rows(), 32);
  const Mask mask{.causal = eh::Causal::bottom_right};
  for (const int threads : {1, 2}) {
    Context context(threads, kAnyWork);
    start_threads(context);
    const auto call = [&] { layer.forward_into(y, q, queries, k, k, keys, mask, context); };
    for (int warm = 0; warm < 3; ++warm) call();
    const Counted seen = counted(call);
    EXPECT_EQ(seen.allocations, 0);
    EXPECT_TRUE(seen.locks == 0 || threads > 1) << seen.locks;
  }
}

// ---- How much ----------------------------------------------------------------------------------

// Of packed sequences: no more than what they take alone, one beside the other.
TYPED_TEST(Allocation, PackedSequencesTakeNoMoreThanAlone) {
  using T = TypeParam;
  const auto layer = make_layer<T>(32, {.num_hiddens = 32, .num_heads = 4});
  const eh::Sequences sequences{5, 0, 700, 49, 1, 300, 299, 298};
  const auto x = random_tensor<T>(1, sequences.rows(), 32);
  const auto scratch_of = [&](const auto& call) {
    Context context;
    call(context);
    return context.scratch_bytes();
  };
  Index alone = 0;
  for (Index b = 0; b < sequences.count(); ++b) {
    const TensorView<T, 3> one(x.data(), {1, sequences.length(b), 32});
    alone += scratch_of([&](Context& context) { (void)layer(one, one, one, Mask{}, context); });
  }
  EXPECT_LE(scratch_of([&](Context& context) { (void)layer(x, sequences, Mask{}, context); }),
            alone);
}

// One head of 64: besides the result, packed keys and values, and 2 MiB a thread. A window keeps it
// short; memory knows nothing of it.
TYPED_TEST(Allocation, LongSequencesTakeLittleMoreThanTheirKeysAndValues) {
  using T = TypeParam;
  constexpr Index D = 64;
  for (const auto& [Q, K] : {std::pair<Index, Index>{16384, 16384}, {96, 65536}, {1, 65536}}) {
    const auto q = random_tensor<T>(1, 1, 1, Q, D), k = random_tensor<T>(2, 1, 1, K, D);
    const Mask mask{.causal = eh::Causal::bottom_right, .window = {64, -1}};
    for (const int threads : {1, 2}) {
      Context context(threads, kAnyWork);
      const long packed = 2 * K * D * Index{sizeof(T)};
      const long result = Q * (D + 1) * Index{sizeof(T)};
      const Counted seen =
          counted([&] { (void)eh::scaled_dot_product_attention(q, k, k, mask, {}, context); });
      const long most = packed + threads * (2L << 20);
      EXPECT_LE(context.scratch_bytes(), most) << Q << " x " << K;
      EXPECT_LE(seen.peak, most + result + 4096) << Q << " x " << K;
    }
  }
}

// Before anything of that size is asked for; a sentence is.
TYPED_TEST(Allocation, AShapeThatNoMemoryHoldsIsRefusedBeforeAnyIsTaken) {
  using T = TypeParam;
  constexpr Index big = Index{1} << 40;
  const T one = 1;
  const auto view = [&one](Index rows, Index columns) {
    return TensorView<T, 4>(&one, {1, 1, rows, columns});
  };
  const auto refused = [](TensorView<T, 4> q, TensorView<T, 4> k, TensorView<T, 4> v) {
    std::string sentence;
    Context context;
    const Counted seen = counted([&] {
      sentence =
          refusal([&] { return eh::scaled_dot_product_attention(q, k, v, {}, {}, context); });
    });
    EXPECT_NE(sentence.find("more than memory can hold"), std::string::npos) << sentence;
    EXPECT_LT(seen.bytes, 4096);
    EXPECT_EQ(context.scratch_bytes(), 0);
  };
  refused(view(big, big), view(1, big), view(1, 1));
  refused(view(1, big), view(big, big), view(big, 1));
  refused(view(1, 1), view(big, 1), view(big, big));
  refused(view(8, 8), view(0, 8), view(0, Index{1} << 59));  // the output's
}

// What a call of `train` takes with n queries and n keys, the results and scratch memory among it.
template <class Train>
void expect_linear(const char* what, const Train& train) {
  const Counted of_n = counted([&] { train(1024); });
  const Counted of_2n = counted([&] { train(2048); });
  const Counted of_4n = counted([&] { train(4096); });
  // Were it a term n^2, the second step would be four times the first. It may be more than twice it:
  // the most at one time is now one step of the call's, now another.
  EXPECT_LE(of_4n.peak - of_2n.peak, 3 * (of_2n.peak - of_n.peak)) << what;
  EXPECT_LT(of_4n.peak, 4096L * 4096) << what;
}

// C10, in training: of attention and of the layer, with what makes others build the whole matrix. A
// window keeps it short; memory knows nothing of it.
TYPED_TEST(Allocation, BackwardIsLinearInQueriesAndKeys) {
  using T = TypeParam;
  const Mask mask{.causal = eh::Causal::bottom_right, .window = {64, -1}};
  const eh::Softcap<T> score(T(20));
  const auto kept = random_tensor<T>(1, 1, 4096, 16);
  const auto first = [&](Index n) { return TensorView<T, 3>(kept.data(), {1, n, 16}); };
  expect_linear("attention", [&](Index n) {
    const TensorView<T, 4> x(kept.data(), {1, 2, n, 8});
    const eh::AttentionOptions<T> options{.dropout = 0.25, .seed = eh::DropoutSeed{3}};
    Context context;
    const auto result =
        eh::scaled_dot_product_attention(x, x, x, mask, with_score(options, score), context);
    (void)eh::scaled_dot_product_attention_backward<T>(x, x, x, x, result, mask,
                                                       with_score(options, score), context);
  });
  const auto layer = make_layer<T>(16, {.num_hiddens = 16, .num_heads = 2, .dropout = 0.25});
  expect_linear("layer", [&](Index n) {
    Context context;
    typename eh::MultiHeadAttention<T>::Activations saved;
    (void)layer.forward(first(n), first(n), first(n), mask, saved,
                        {.score = score, .seed = eh::DropoutSeed{3}, .context = context});
    (void)layer.backward(first(n), saved, context);
  });
}

// What a further thread takes for backward is a few blocks, however many queries and keys there are.
TYPED_TEST(Allocation, BackwardTakesLittleMoreOnMoreThreads) {
  using T = TypeParam;
  constexpr Index n = 8192, D = 16;
  const auto x = random_tensor<T>(1, 1, 2, n, D);
  const Mask mask{.causal = eh::Causal::bottom_right, .window = {64, -1}};
  const auto result = eh::scaled_dot_product_attention(x, x, x, mask);
  const auto bytes = [&](int threads) {
    Context context(threads, kAnyWork);
    (void)eh::scaled_dot_product_attention_backward<T>(x, x, x, x, result, mask, {}, context);
    return context.scratch_bytes();
  };
  const Index one = bytes(1);
  EXPECT_LE(bytes(2), one + (Index{1} << 20));
  EXPECT_LE(bytes(5), one + (Index{4} << 20));
}

}  // namespace
