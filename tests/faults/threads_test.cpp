// SPDX-License-Identifier: MIT
// Score functions that throw, at each query and head and so on each thread, and threads that the system
// does not start: the exception reaches who called, nobody waits for ever, and the next call gives the
// right bits.
#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstddef>
#include <dlfcn.h>
#include <pthread.h>
#include <span>
#include <stdexcept>
#include <string>
#include <system_error>
#include <utility>
#include <vector>

#include <eigenheads/attention.hpp>
#include <eigenheads/kv_cache.hpp>
#include <eigenheads/mpi/local_transport.hpp>
#include <eigenheads/multi_head_attention.hpp>

#include "context.hpp"
#include "faults/failing_memory.hpp"
#include "layers.hpp"
#include "support.hpp"

namespace {

// Threads that start before one does not; negative: all do.
std::atomic<int> startable{-1};
std::atomic<int> started{0};

}  // namespace

#if defined(EIGENHEADS_TEST_SANITIZER)
extern "C" int __interceptor_pthread_create(pthread_t*, const pthread_attr_t*, void* (*)(void*),
                                            void*);
#endif

extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes,
                              void* (*run)(void*), void* of) {
  if (startable >= 0 && started >= startable) return EAGAIN;
  ++started;
#if defined(EIGENHEADS_TEST_SANITIZER)
  return __interceptor_pthread_create(thread, attributes, run, of);
#else
  static const auto next =
      reinterpret_cast<decltype(&pthread_create)>(dlsym(RTLD_NEXT, "pthread_create"));
  return next(thread, attributes, run, of);
#endif
}

namespace {

using namespace support;
using eh::Context, eh::Mask;

// ---- Threads that do not start -----------------------------------------------------------------

// While it lives, no more than `most` threads start.
class FewThreads {
 public:
  explicit FewThreads(int most) {
    started = 0;
    startable = most;
  }
  ~FewThreads() { startable = -1; }
};

TEST(Threads, AContextThatGetsTooFewSaysSoAndKeepsNone) {
  for (int most = 0; most < 4; ++most) {
    const FewThreads few(most);
    EXPECT_EQ(refusal<std::runtime_error>([&] { Context context(5); }),
              "eigenheads: Context: the system starts no more threads; asked for 4 beside the "
              "calling one");
    started = 0;
    Context context(most + 1, kAnyWork);  // as many as there are
    EXPECT_TRUE(each_once(context, 50));
  }
}

TEST(Threads, RanksThatGetTooFewAllEnd) {
  for (int most = 0; most < 3; ++most) {
    std::atomic<int> returned{0};
    finishes([&] {
      const FewThreads few(most);
      EXPECT_THROW(eh::mpi::run_locally(4,
                                        [&](eh::mpi::Ranks& ranks) {
                                          ranks.together("a round", {}, [] {});
                                          ++returned;
                                        }),
                   std::system_error);
    });
    EXPECT_EQ(returned, 0);
  }
}

// One rank finds no memory: that, or that another did, is what all throw.
TEST(Threads, RanksWithoutMemoryAllEnd) {
  if (!kThreadsCanFail) return;
  using namespace eh::mpi;
  std::array<std::vector<float>, 3> got;
  const auto run = [&](int patience_in_seconds) {
    run_locally(3,
                [&](Ranks& ranks) {
                  std::vector<float> values(3000,
                                            static_cast<float>(ranks.rank()));  // none is copied
                  ranks.together("a round", {}, [&] {
                    ranks.broadcast(1, std::span(values));
                    ranks.broadcast(2, std::span(values).first(3));
                  });
                  got[static_cast<std::size_t>(ranks.rank())] = std::move(values);
                },
                {.patience = std::chrono::seconds(patience_in_seconds)});
  };
  run(60);
  const auto expected = got;
  const long count = fails_at_each_allocation<RankError>(
      [] { return 1; }, [&](int& patience) { run(std::exchange(patience, 60)); }, [](int) {},
      [&](int) { EXPECT_EQ(got, expected); }, false, true);
  EXPECT_GE(count, 30);
}

// ---- Score functions that throw ----------------------------------------------------------------

struct Thrown : std::runtime_error {
  using std::runtime_error::runtime_error;
};
// Of one head and query, or of all if they are negative; in the backward pass, if `is_derivative`.
struct Throws {
  int h, q;
  bool is_derivative = false;

  void look(eh::ScorePosition at) const {
    if ((h < 0 || at.h == h) && (q < 0 || at.q == q)) throw Thrown("no score");
  }
  float operator()(float score, eh::ScorePosition at) const {
    if (!is_derivative) look(at);
    return score;
  }
  float derivative(float, eh::ScorePosition at) const {
    if (is_derivative) look(at);
    return 1;
  }
};

using T = float;
constexpr Index kB = 2, kE = 8, kH = 2;

class Scores : public testing::Test {
 protected:
  // call(y, score, context) throws and leaves y alone; then, without a score, it gives its bits.
  template <class Call>
  void expect_to_reach_the_caller(Index B, Index L, const Call& call) {
    Tensor<T, 3> expected(B, L, kE), y(B, L, kE);
    for (const int threads : {1, 3}) {
      Context context(threads, kAnyWork);
      call(expected, {}, context);
      for (int h = -1; h < kH; ++h)
        for (int q = -1; q < L; q += std::max(1, static_cast<int>(L) / 5)) {
          SCOPED_TRACE(testing::Message() << threads << " threads, head " << h << ", query " << q);
          const Throws score{h, q};
          std::fill_n(y.data(), y.size(), T(77));
          finishes([&] { EXPECT_THROW(call(y, score, context), Thrown); });
          EXPECT_TRUE(all_are(y, 77));
          call(y, {}, context);
          ASSERT_TRUE(same_bits(y, expected));
        }
    }
  }

  const eh::MultiHeadAttention<T> layer_ =
      make_layer<T>(kE, {.num_hiddens = kE, .num_heads = kH, .num_kv_heads = 1});
};

TEST_F(Scores, ThatThrowInACallReachTheCaller) {
  for (const Index L : {Index{3}, Index{70}, Index{300}}) {
    const auto x = random_tensor<T>(1, kB, L, kE);
    expect_to_reach_the_caller(kB, L, [&](auto& y, const eh::ScoreRef<T>& score, Context& context) {
      layer_.forward_into(y, x, x, x, {}, {.score = score, .context = context});
    });
  }
  // Few queries of many keys: heads are cut along their keys.
  const auto x = random_tensor<T>(1, 1, 2, kE), keys = random_tensor<T>(2, 1, 1200, kE);
  expect_to_reach_the_caller(1, 2, [&](auto& y, const eh::ScoreRef<T>& score, Context& context) {
    layer_.forward_into(y, x, keys, keys, {}, {.score = score, .context = context});
  });
}

TEST_F(Scores, ThatThrowInAStepLeaveTheCache) {
  const auto prompt = random_tensor<T>(1, kB, 300, kE), x = random_tensor<T>(2, kB, 3, kE);
  eh::KvCache<T> cache(
      {.batch_size = kB, .num_kv_heads = 1, .head_size = kE / kH, .capacity = 310});
  (void)layer_.step(prompt, cache);
  expect_to_reach_the_caller(kB, 3, [&](auto& y, const eh::ScoreRef<T>& score, Context& context) {
    for (Index b = 0; b < kB; ++b) ASSERT_EQ(cache.length(b), 300);
    layer_.step_into(y, x, cache, {}, {.score = score, .context = context});
    for (Index b = 0; b < kB; ++b) cache.truncate(b, 300);
  });
}

TEST_F(Scores, ThatThrowInTrainingKeepNothing) {
  for (const Index L : {Index{3}, Index{600}})
    for (const int threads : {1, 3}) {
      Context context(threads, kAnyWork);
      const auto x = random_tensor<T>(1, 1, L, kE), grad_y = random_tensor<T>(2, 1, L, kE);
      const Throws never{kH, 0}, forward{1, 2}, backward{1, 2, true};
      eh::MultiHeadAttention<T>::Activations saved, other;
      const auto train = [&](const Throws& score, auto& to) {
        return layer_.forward(x, x, x, {}, to, {.score = score, .context = context});
      };
      const auto y = train(never, saved);
      const auto gradients = layer_.backward(grad_y, saved, context);
      finishes([&] { EXPECT_THROW((void)train(forward, saved), Thrown); });
      EXPECT_FALSE(saved.is_saved());
      EXPECT_THROW((void)layer_.backward(grad_y, saved, context), std::logic_error);
      EXPECT_TRUE(same_bits(train(backward, other), y));
      finishes([&] { EXPECT_THROW((void)layer_.backward(grad_y, other, context), Thrown); });
      EXPECT_TRUE(same_bits(train(never, saved), y));
      EXPECT_TRUE(same_bits(layer_.backward(grad_y, saved, context).queries, gradients.queries));
    }
}

}  // namespace
