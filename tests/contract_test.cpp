// SPDX-License-Identifier: MIT
// What holds on every path, to the bit, over a grid of masks, sizes and threads: for attention
// itself, and for the whole layer.
//   Masked means absent.  A query without keys gets nothing.  A row's bits are its own.
//   Asking for weights changes nothing.  NaN is neither lost nor spread.  Const is thread-safe.
#include "contract.hpp"

#include <algorithm>
#include <thread>
#include <unsupported/Eigen/CXX11/ThreadPool>
#include <vector>

#include <eigenheads/multi_head_attention.hpp>

#include "support.hpp"
#include "textbook.hpp"

namespace {

using namespace support;
using eh::Causal, eh::Context, eh::Mask;

template <class T>
class ContractTest : public testing::Test {};
TYPED_TEST_SUITE(ContractTest, Scalars, ScalarNames);

// Overwrites a key with what would be noticed.
template <class T>
void poison(Tensor<T, 3>& x, Index b, Index key) {
  static constexpr T kinds[] = {kNan<T>,          kInf<T>,  -kInf<T>,
                                Limits<T>::max(), -kNan<T>, Limits<T>::signaling_NaN()};
  for (Index i = 0; i < kFeatures; ++i) x(b, key, i) = kinds[(key + i) % 6];
}

TYPED_TEST(ContractTest, C1WhatLiesAtKeysThatNoQuerySeesIsNotObservable) {
  using T = TypeParam;
  for_each_call<T>([](const Call<T>& call) {
    auto k = call.k, v = call.v;
    for (Index b = 0; b < call.B; ++b)
      for (Index key = 0; key < call.mask.K; ++key) {
        bool seen = false;
        for (Index i = 0; i < call.mask.Q; ++i) seen = seen || call.mask.visible(b, i, key);
        if (seen) continue;
        poison(k, b, key);
        poison(v, b, key);
      }
    EXPECT_TRUE(same_bits(call.again(call.q, k, v, call.mask.mask()), call.y));
  });
}

TYPED_TEST(ContractTest, C1WhatLiesAtAKeyHiddenFromAQueryIsNotObservableThere) {
  using T = TypeParam;
  for_each_call<T>([](const Call<T>& call) {
    for (const Index i : {Index{0}, call.mask.Q / 2, call.mask.Q - 1}) {
      auto k = call.k, v = call.v;
      for (Index b = 0; b < call.B; ++b)
        for (Index key = 0; key < call.mask.K; ++key)
          if (!call.mask.visible(b, i, key)) {
            poison(k, b, key);
            poison(v, b, key);
          }
      const Tensor<T, 3> y = call.again(call.q, k, v, call.mask.mask());
      for (Index b = 0; b < call.B; ++b)
        ASSERT_TRUE(same_bits(row(y, b, i), row(call.y, b, i))) << "query " << i;
    }
  });
}

TYPED_TEST(ContractTest, C1AHiddenEndMayBeCutOff) {
  using T = TypeParam;
  for_each_call<T>([](const Call<T>& call) {
    if (call.mask.causal == Causal::bottom_right) return;  // it stands at the end
    for (Index b = 0; b < call.B; ++b) {
      Index kept = 0;
      for (Index i = 0; i < call.mask.Q; ++i) kept = std::max(kept, call.end(b, i));
      PairMask cut = call.mask.of_sequence(b);
      cut.K = kept;
      for (Index i = 0; i < cut.lens.size(); ++i)
        cut.lens.data()[i] = std::min(cut.lens.data()[i], kept);
      for (Index& prefix : cut.prefix_lens) prefix = std::min(prefix, kept);
      // Without a causal mask a window needs as many keys as queries: this one is in the lengths.
      if (cut.causal == Causal::none && kept != call.mask.Q && cut.window.left >= 0) continue;
      const auto first = [&](const Tensor<T, 3>& x) {
        return TensorView<T, 3>(sequence(x, b).data(), {1, kept, kFeatures});
      };
      ASSERT_TRUE(
          same_bits(call.again(sequence(call.q, b), first(call.k), first(call.v), cut.mask()),
                    sequence(call.y, b)))
          << "sequence " << b << " cut to " << kept;
    }
  });
}

TYPED_TEST(ContractTest, C2AQueryWithoutKeysGetsNothing) {
  using T = TypeParam;
  for_each_call<T>([](const Call<T>& call) {
    for (Index b = 0; b < call.B; ++b)
      for (Index i = 0; i < call.mask.Q; ++i)
        if (!call.mask.any_visible(b, i)) {
          ASSERT_TRUE(same_bits(row(call.y, b, i), call.subject.nothing)) << b << ' ' << i;
        }
  });
}

TYPED_TEST(ContractTest, C3ThreadsChangeNothing) {
  using T = TypeParam;
  Context two(2, kAnyWork), three(3, kAnyWork);
  for_each_call<T>([&](const Call<T>& call) {
    for (Context* context : {&call.context, &two, &three})
      ASSERT_TRUE(same_bits(call.subject.attend(call.q, call.k, call.v, call.mask.mask(), *context),
                            call.y));
  });
}

TYPED_TEST(ContractTest, C3ASequenceAloneHasTheSameBits) {
  using T = TypeParam;
  for_each_call<T>([](const Call<T>& call) {
    for (Index b = 0; b < call.B; ++b)
      ASSERT_TRUE(same_bits(call.again(sequence(call.q, b), sequence(call.k, b),
                                       sequence(call.v, b), call.mask.of_sequence(b).mask()),
                            sequence(call.y, b)));
  });
}

// Alone it stands beside the last key; a length, a window and sinks say which keys it sees.
TYPED_TEST(ContractTest, C3AQueryAloneHasTheSameBits) {
  using T = TypeParam;
  for_each_call<T>([](const Call<T>& call) {
    const Index K = call.mask.K;
    for (Index b = 0; b < call.B; ++b)
      for (Index i = 0; i < call.mask.Q; ++i) {
        const bool has_gap = call.gap_end(b, i) < call.end(b, i);
        const Index begin = has_gap ? call.gap_end(b, i) : call.begin(b, i);
        const Mask keys{.valid_lens = {{call.end(b, i)}},
                        .causal = Causal::bottom_right,
                        .window = {std::max(K - 1 - begin, Index{0}), -1},
                        .sinks = has_gap ? call.gap_begin(b, i) : 0};
        const TensorView<T, 3> alone(row(call.q, b, i).data(), {1, 1, kFeatures});
        const Tensor<T, 3> y = call.again(alone, sequence(call.k, b), sequence(call.v, b), keys);
        ASSERT_TRUE(same_bits(row(y, 0, 0), row(call.y, b, i))) << b << ' ' << i;
      }
  });
}

// Queries from last to first, and sequences as well: the same rows, in that order.
TYPED_TEST(ContractTest, C3TheOrderOfQueriesAndSequencesChangesNothing) {
  using T = TypeParam;
  for_each_call<T>([](const Call<T>& call) {
    if (call.mask.window.left >= 0 || call.mask.window.right >= 0) return;
    const Index B = call.B, Q = call.mask.Q, K = call.mask.K;
    Tensor<T, 3> q(B, Q, kFeatures), k(B, K, kFeatures), v(B, K, kFeatures);
    PairMask mask{.Q = Q, .K = K, .lens_rank = 2, .lens = Tensor<Index, 2>(B, Q)};
    for (Index b = 0; b < B; ++b) {
      for (Index i = 0; i < Q; ++i) {
        mask.lens(B - 1 - b, Q - 1 - i) = call.end(b, i);
        std::copy_n(row(call.q, b, i).data(), kFeatures, &q(B - 1 - b, Q - 1 - i, 0));
      }
      std::copy_n(sequence(call.k, b).data(), K * kFeatures, &k(B - 1 - b, 0, 0));
      std::copy_n(sequence(call.v, b).data(), K * kFeatures, &v(B - 1 - b, 0, 0));
    }
    const Tensor<T, 3> y = call.again(q, k, v, mask.mask());
    for (Index b = 0; b < B; ++b)
      for (Index i = 0; i < Q; ++i)
        ASSERT_TRUE(same_bits(row(y, B - 1 - b, Q - 1 - i), row(call.y, b, i))) << b << ' ' << i;
  });
}

TYPED_TEST(ContractTest, C3WhereTheInputsLieInMemoryChangesNothing) {
  using T = TypeParam;
  for_each_call<T>([](const Call<T>& call) {
    for (const Index offset : {1, 3, 7, 15}) {
      std::vector<Tensor<T, 1>> memory;
      const auto moved = [&](const Tensor<T, 3>& x) {
        memory.push_back(Tensor<T, 1>(x.size() + offset));
        std::copy_n(x.data(), x.size(), memory.back().data() + offset);
        return Eigen::TensorMap<const Tensor<T, 3>>(memory.back().data() + offset, x.dimensions());
      };
      memory.reserve(3);
      ASSERT_TRUE(same_bits(
          call.again(moved(call.q), moved(call.k), moved(call.v), call.mask.mask()), call.y))
          << "offset " << offset;
    }
  });
}

TYPED_TEST(ContractTest, C4WeightsChangeNothingAndSumToOneOverWhatIsSeen) {
  using T = TypeParam;
  const auto layer = make_layer<T>();
  for_each_call<T>([&](const Call<T>& call) {
    if (call.subject.name != "layer") return;
    const auto [output, weights] =
        layer.with_weights(call.q, call.k, call.v, call.mask.mask(), call.context);
    ASSERT_TRUE(same_bits(output, call.y));
    for (Index b = 0; b < call.B; ++b)
      for (Index h = 0; h < layer.num_heads(); ++h)
        for (Index i = 0; i < call.mask.Q; ++i) {
          double sum = 0, seen = 0;
          for (Index key = 0; key < call.mask.K; ++key) {
            const T weight = weights(b, h, i, key);
            sum += static_cast<double>(weight);
            seen += call.mask.visible(b, i, key);
            ASSERT_TRUE(weight >= 0 && (weight == 0 || call.mask.visible(b, i, key)));
          }
          ASSERT_NEAR(sum, seen > 0 ? 1 : 0, seen * static_cast<double>(Limits<T>::epsilon()));
        }
  });
}

// In any context, and of a sequence alone.
TYPED_TEST(ContractTest, C3WeightsHaveTheSameBits) {
  using T = TypeParam;
  const auto layer = make_layer<T>();
  for_each_call<T>([&](const Call<T>& call) {
    if (call.subject.name != "layer") return;
    const Mask mask = call.mask.mask();
    const Tensor<T, 4> weights = layer.with_weights(call.q, call.k, call.v, mask).weights;
    ASSERT_TRUE(
        same_bits(layer.with_weights(call.q, call.k, call.v, mask, call.context).weights, weights));
    for (Index b = 0; b < call.B; ++b)
      ASSERT_TRUE(
          same_bits(layer
                        .with_weights(sequence(call.q, b), sequence(call.k, b), sequence(call.v, b),
                                      call.mask.of_sequence(b).mask(), call.context)
                        .weights,
                    sequence(weights, b)));
  });
}

TYPED_TEST(ContractTest, C8NanReachesExactlyTheQueriesThatSeeIt) {
#if defined(__FAST_MATH__)
  GTEST_SKIP() << "a compiler that may assume that there is no NaN need not hand it on";
#endif
  using T = TypeParam;
  for_each_call<T>([](const Call<T>& call) {
    for (const bool in_values : {false, true}) {
      const Index K = call.mask.K, b = 1;
      for (const Index key : {Index{0}, K / 2, Index{128}, Index{255}, K - 1}) {
        if (key >= K) continue;  // of the first block, of another, and at their edges
        auto k = call.k, v = call.v;
        (in_values ? v : k)(b, key, key % kFeatures) = kNan<T>;
        const Tensor<T, 3> y = call.again(call.q, k, v, call.mask.mask());
        for (Index i = 0; i < call.mask.Q; ++i) {
          const auto got = row(y, b, i), clean = row(call.y, b, i);
          if (!call.mask.visible(b, i, key))
            ASSERT_TRUE(same_bits(got, clean)) << "key " << key << ", query " << i;
          else if (in_values && call.subject.name == "attention")  // only its column
            for (Index c = 0; c < kFeatures; ++c)
              ASSERT_EQ(bits(got(c)), bits(c == key % kFeatures ? kNan<T> : clean(c)));
          else
            ASSERT_TRUE(all_are(got, kNan<T>)) << "key " << key << ", query " << i;
        }
        for (const Index other : {0, 2})
          ASSERT_TRUE(same_bits(sequence(y, other), sequence(call.y, other)));
      }
    }
  });
}

// Four threads, each with a context of its own, one of them with threads of its own.
TYPED_TEST(ContractTest, C9OneConstLayerServesManyThreads) {
  using T = TypeParam;
  const auto layer = make_layer<T>();
  const auto q = random_tensor<T>(1, 3, 17, kFeatures), k = random_tensor<T>(2, 3, 33, kFeatures),
             v = random_tensor<T>(3, 3, 33, kFeatures);
  const Mask mask{.valid_lens = {0, 20, 33}, .causal = Causal::bottom_right};
  const Tensor<T, 3> y = layer(q, k, v, mask);
  std::vector<std::thread> threads;
  std::vector<int> wrong(4, 0);
  for (int& count : wrong)
    threads.emplace_back([&] {
      Context context(&count == &wrong[0] ? 2 : 1);
      for (int repeat = 0; repeat < 50; ++repeat) {
        count += !same_bits(layer(q, k, v, mask, context), y);
        count += !same_bits(layer.with_weights(q, k, v, mask).output, y);  // default_context()
      }
    });
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

TYPED_TEST(ContractTest, ACallFromATaskOfTheCallersPoolHasTheSameBits) {
  using T = TypeParam;
  const auto layer = make_layer<T>();
  const auto x = random_tensor<T>(1, 3, 9, kFeatures);
  const Tensor<T, 3> y = layer(x, x, x);
  for (const int size : {1, 2})
    finishes([&, size] {
      Tensor<T, 3> in_task;
      std::promise<void> done;
      Eigen::ThreadPool pool(size);
      pool.Schedule([&] {
        Context context(pool, kAnyWork);
        in_task = layer(x, x, x, {}, context);
        done.set_value();
      });
      done.get_future().wait();
      EXPECT_TRUE(same_bits(in_task, y));
      Context outside(pool, kAnyWork);
      EXPECT_TRUE(same_bits(layer(x, x, x, {}, outside), y));
    });
}

}  // namespace
