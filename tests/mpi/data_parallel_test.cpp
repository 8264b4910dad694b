// SPDX-License-Identifier: MIT
// Training on any number of ranks makes one model, to the bit; and sends what its plan says.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <gtest/gtest.h>
#include <new>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/dot_product_attention.hpp>
#include <eigenheads/linear.hpp>
#include <eigenheads/mpi/data_parallel.hpp>
#include <eigenheads/mpi/local_transport.hpp>
#include <eigenheads/train/optim.hpp>

#include "mpi/training.hpp"
#include "support.hpp"

namespace {

using namespace support;
using eh::mpi::DataParallel, eh::mpi::DataParallelOptions, eh::mpi::Ranks, training::Task;

template <class T>
using Adam = DataParallel<eh::AdamRule<T>>;
template <class T>
using States = std::vector<eh::OptimizerState<T>>;

template <class T>
struct Trained {
  Tensor<T, 1> parameters;
  std::vector<double> losses, norms;
  States<T> states;
  std::int64_t step_count = 0;
};

struct Training {
  int ranks = 0;  // 0: without any
  int threads = 1;
  Index steps = 50, batch_size = 11;
  DataParallelOptions options{};
};

// What comes of it, which is the same on all ranks; it goes on from `begun` if there is such.
template <class T>
[[nodiscard]] Trained<T> train(const Training& training, const Trained<T>* begun = nullptr) {
  std::vector<Trained<T>> of_ranks(static_cast<std::size_t>(std::max(training.ranks, 1)));
  const auto be_rank = [&](Ranks* ranks) {
    Trained<T>& trained = of_ranks[ranks == nullptr ? 0 : static_cast<std::size_t>(ranks->rank())];
    Task<T> task(training.threads);
    Adam<T> adam(task.model, {.weight_decay = 0.1}, training.options, ranks);
    if (begun != nullptr) {
      trained = *begun;
      Index next = 0;
      task.model.for_each_parameter([&](const auto& parameter) {
        parameter.update([&](Index i, T) { return begun->parameters(next + i); });
        next += parameter.size();
      });
      adam.restore(begun->step_count, begun->states);
    }
    while (adam.step_count() < training.steps) {
      const auto [loss, norm] = task.step(adam, training.batch_size);
      trained.losses.push_back(loss);
      trained.norms.push_back(norm);
    }
    trained.parameters = task.parameters();
    trained.step_count = adam.step_count();
    trained.states.clear();
    adam.for_each_state([&](const std::string& name, std::span<const T> values) {
      trained.states.push_back({name, {values.begin(), values.end()}});
    });
  };
  if (training.ranks == 0)
    be_rank(nullptr);
  else
    eh::mpi::run_locally(training.ranks, [&](Ranks& ranks) { be_rank(&ranks); });
  for (const Trained<T>& other : of_ranks) {
    EXPECT_TRUE(same_bits(other.parameters, of_ranks[0].parameters));
    EXPECT_EQ(other.losses, of_ranks[0].losses);
    EXPECT_EQ(other.norms, of_ranks[0].norms);
  }
  return of_ranks[0];
}

template <class T>
void expect_same(const Trained<T>& a, const Trained<T>& b) {
  EXPECT_TRUE(same_bits(a.parameters, b.parameters));
  EXPECT_EQ(a.losses, b.losses);
  EXPECT_EQ(a.norms, b.norms);
  ASSERT_EQ(a.states.size(), b.states.size());
  for (std::size_t i = 0; i < a.states.size(); ++i) {
    EXPECT_EQ(a.states[i].name, b.states[i].name);
    EXPECT_EQ(a.states[i].values, b.states[i].values);
  }
}

template <class T>
class DataParallelOf : public testing::Test {};
TYPED_TEST_SUITE(DataParallelOf, Scalars, ScalarNames);

TYPED_TEST(DataParallelOf, AnyNumberOfRanksMakesTheSameModel) {
  for (const double gradient_norm : {0.0, 0.05}) {
    Training training{.options = {.gradient_norm = gradient_norm}};
    const auto expected = train<TypeParam>(training);
    EXPECT_LT(expected.losses.back(), expected.losses[1] / 2);
    EXPECT_GT(std::ranges::count_if(expected.norms, [](double norm) { return norm > 0.05; }), 10);
    for (const int ranks : {1, 2, 3, 4, 5, 8, 9}) {
      training.ranks = ranks;
      training.threads = ranks == 3 ? 3 : 1;
      expect_same(train<TypeParam>(training), expected);
    }
  }
}

// Members and shards without a row, and fewer members than shards.
TYPED_TEST(DataParallelOf, BatchesOfAnySizeAreCut) {
  for (const Index batch_size : {1, 2, 5}) {
    Training training{.steps = 7, .batch_size = batch_size};
    training.options.shards = batch_size == 2 ? 1000 : 8;
    const auto expected = train<TypeParam>(training);
    for (const int ranks : {2, 3, 8}) {
      training.ranks = ranks;
      expect_same(train<TypeParam>(training), expected);
    }
  }
}

TYPED_TEST(DataParallelOf, OneShardIsWhatTheOptimizerMakesAlone) {
  Trained<TypeParam> expected;
  Task<TypeParam> task;
  eh::Adam<TypeParam> adam({.weight_decay = 0.1});
  while (adam.step_count() < 20) {
    const auto i = static_cast<Index>(adam.step_count());
    expected.losses.push_back(task.loss(i, 6, 0, 6));
    expected.norms.push_back(eh::clip_gradient_norm(0.05, task.gradients));
    adam.set_learning_rate(eh::warmup_then_cosine(i, 5, 60, 1e-2));
    adam.step(task.model, task.gradients);
  }
  adam.for_each_state([&](const std::string& name, std::span<const TypeParam> values) {
    expected.states.push_back({name, {values.begin(), values.end()}});
  });
  expected.parameters = task.parameters();
  Training training{.steps = 20, .batch_size = 6, .options = {.shards = 1, .gradient_norm = 0.05}};
  for (const int ranks : {0, 1, 3}) {
    training.ranks = ranks;
    expect_same(train<TypeParam>(training), expected);
  }
}

TYPED_TEST(DataParallelOf, AnotherNumberOfRanksGoesOn) {
  Training training{.steps = 12, .options = {.gradient_norm = 0.05}};
  const auto expected = train<TypeParam>(training);
  for (const auto& [before, after] : {std::pair{3, 4}, {1, 8}, {8, 0}, {0, 2}}) {
    training.ranks = before;
    training.steps = 5;
    const auto begun = train<TypeParam>(training);
    training.ranks = after;
    training.steps = 12;
    expect_same(train<TypeParam>(training, &begun), expected);
  }
}

// The bits of the sums are those of the tree: another order has others.
TEST(DataParallelTest, ShardsDecideTheBits) {
  const auto parameters = [](Index shards) {
    return train<float>({.steps = 5, .options = {.shards = shards}}).parameters;
  };
  EXPECT_FALSE(same_bits(parameters(1), parameters(8)));
}

TEST(DataParallelTest, AnOptimizerWithoutStateHasNone) {
  std::vector<Tensor<float, 1>> trained;
  for (const int size : {1, 3})
    eh::mpi::run_locally(size, [&](Ranks& ranks) {
      Task<float> task;
      DataParallel<eh::SgdRule<float>> sgd(task.model, {}, {}, &ranks);
      for (int i = 0; i < 5; ++i) task.step(sgd, 4);
      sgd.for_each_state(
          [](const std::string& name, std::span<const float>) { ADD_FAILURE() << name; });
      sgd.restore(5, {});
      task.step(sgd, 4);
      if (ranks.rank() == 0) trained.push_back(task.parameters());
    });
  EXPECT_TRUE(same_bits(trained[0], trained[1]));
}

TEST(DataParallelTest, WhatIsSentIsWhatThePlanSays) {
  for (const int size : {1, 2, 3, 4, 8, 9})
    for (const Index batch_size : {11, 3})
      for (const Index shards : {8, 1})
        eh::mpi::run_locally(size, [&](Ranks& ranks) {
          Task<float> task;
          Adam<float> adam(task.model, {}, {.shards = shards}, &ranks);
          task.step(adam, batch_size);
          ranks.reset_traffic();
          task.step(adam, batch_size);
          const eh::mpi::Traffic traffic = ranks.traffic();
          const auto expected = adam.plan().step_traffic(ranks.rank(), batch_size, sizeof(float));
          EXPECT_EQ(traffic, expected) << "rank " << ranks.rank() << " of " << size;
        });
}

// Of 8 shards each rank of 2, 4 or 8 sends its gradients once, less what is its own, and as much of
// the parameters; numbers of blocks and shards come on top.
TEST(DataParallelTest, APlanKnowsRanksThatAreNotThere) {
  constexpr Index count = 1024 * 64;
  for (const int ranks : {2, 4, 8}) {
    const eh::mpi::DataParallelPlan plan({.parameters = count, .shards = 8, .ranks = ranks});
    const auto traffic = plan.step_traffic(0, 64, sizeof(float));
    const Index slice = count / ranks;
    EXPECT_EQ(plan.slice(1).count(), slice);
    EXPECT_EQ(traffic.bytes_sent, 2 * 4 * (count - slice) + 8 * (64 + 8) * (ranks - 1) / ranks);
    EXPECT_EQ(traffic.bytes_received, traffic.bytes_sent);
    EXPECT_EQ(traffic.messages_sent, 3 * (ranks - 1));
  }
}

// ---- Refusals and failures
// -----------------------------------------------------------------------

// Sentences of step() on all ranks, where change(rank, task) makes one of them other than the rest.
struct Sentences {
  std::vector<std::string> of_rank;
  std::vector<std::int64_t> step_counts;
};
[[nodiscard]] Sentences refusals(const std::function<Index(int rank, Task<float>&)>& change) {
  Sentences sentences{std::vector<std::string>(3), std::vector<std::int64_t>(3)};
  eh::mpi::run_locally(3, [&](Ranks& ranks) {
    const auto r = static_cast<std::size_t>(ranks.rank());
    Task<float> task;
    Adam<float> adam(task.model, {}, {}, &ranks);
    const Index batch_size = change(ranks.rank(), task);
    sentences.of_rank[r] = refusal([&] { return task.step(adam, batch_size); });
    sentences.step_counts[r] = adam.step_count();
  });
  return sentences;
}

TEST(DataParallelTest, RanksThatDifferAreRefused) {
  const auto expect = [](const std::string& part, const auto& change) {
    const Sentences sentences = refusals(change);
    EXPECT_NE(sentences.of_rank[0].find(part), std::string::npos) << sentences.of_rank[0];
    EXPECT_EQ(sentences.of_rank[1], sentences.of_rank[0]);
    EXPECT_EQ(sentences.of_rank[2], sentences.of_rank[0]);
    EXPECT_EQ(sentences.step_counts, std::vector<std::int64_t>(3, 0));
  };
  expect("DataParallel::step has batch_size = 4 on rank 0 and batch_size = 5 on rank 2",
         [](int rank, Task<float>&) { return rank == 2 ? 5 : 4; });
  expect("the hash of the parameters", [](int rank, Task<float>& task) {
    if (rank == 1) task.model.for_each_parameter([](const auto& p) { p.set(0, 0.125F); });
    return 4;
  });
}

TEST(DataParallelTest, ModelsOfOtherSizesAreRefused) {
  std::vector<std::string> sentences(2);
  eh::mpi::run_locally(2, [&](Ranks& ranks) {
    Task<float> task(1, 2 + ranks.rank());
    Adam<float> adam(task.model, {}, {}, &ranks);
    sentences[static_cast<std::size_t>(ranks.rank())] = refusal([&] { return task.step(adam, 4); });
  });
  EXPECT_NE(sentences[0].find("elements of the parameters = "), std::string::npos) << sentences[0];
  EXPECT_EQ(sentences[0], sentences[1]);
}

// The signs of two weights: bit 63 of doubles, of which a product of odd numbers keeps no trace.
TYPED_TEST(DataParallelOf, AnEvenNumberOfOtherSignsIsSeen) {
  Task<TypeParam> task;
  const Index before = eh::mpi::detail::hash_of(std::as_const(task.model), true);
  bool is_first = true;
  task.model.for_each_parameter([&](const auto& parameter) {
    if (!std::exchange(is_first, false)) return;
    for (const Index i : {0, 5}) parameter.set(i, -parameter.get(i));
  });
  EXPECT_NE(eh::mpi::detail::hash_of(std::as_const(task.model), true), before);
}

TEST(DataParallelTest, OptimizersOfOtherOptionsAreRefused) {
  std::vector<std::string> sentences(2);
  eh::mpi::run_locally(2, [&](Ranks& ranks) {
    Task<float> task;
    Adam<float> adam(task.model, {.weight_decay = ranks.rank() == 0 ? 0.1 : 0.0}, {}, &ranks);
    sentences[static_cast<std::size_t>(ranks.rank())] = refusal([&] { return task.step(adam, 4); });
    EXPECT_EQ(adam.step_count(), 0);
  });
  EXPECT_NE(sentences[0].find("the hash of the optimizer's options = "), std::string::npos)
      << sentences[0];
  EXPECT_EQ(sentences[0], sentences[1]);
}

TEST(DataParallelTest, WhatOneRankCannotRestoreNoneDoes) {
  const auto begun = train<float>({.ranks = 3, .steps = 2, .batch_size = 6});
  eh::mpi::run_locally(3, [&](Ranks& ranks) {
    Task<float> task;
    Adam<float> adam(task.model, {.weight_decay = 0.1}, {}, &ranks);
    adam.for_each_state([](const std::string& name, auto) { ADD_FAILURE() << name; });
    // The first rank has them all.
    States<float> states = begun.states;
    if (ranks.rank() == 1) states[1].name = "none";
    const auto restore = [&] {
      adam.restore(2, states);
      return 0;
    };
    const std::string sentence =
        ranks.rank() == 1 ? refusal(restore) : refusal<eh::mpi::RankError>(restore);
    EXPECT_EQ(sentence, std::string("eigenheads: ") + (ranks.rank() == 1 ? "" : "rank 1 threw: ") +
                            "Adam: state " + begun.states[1].name + " is missing");
    EXPECT_EQ(adam.step_count(), 0);
    task.step(adam, 6);
    EXPECT_EQ(adam.step_count(), 1);
  });
}

TEST(DataParallelTest, BadCallsAreRefused) {
  Task<float> task;
  const auto make = [&](const DataParallelOptions& options) {
    return refusal([&] { return Adam<float>(task.model, {}, options).step_count(); });
  };
  EXPECT_EQ(make({.shards = 0}), "eigenheads: DataParallel: shards is 0; expected 1 or more");
  EXPECT_EQ(make({.gradient_norm = -1}),
            "eigenheads: DataParallel: gradient_norm is -1; expected 0 or more");
  EXPECT_EQ(make({.gradient_norm = kNan<double>}),
            "eigenheads: DataParallel: gradient_norm is nan; expected 0 or more");
  Adam<float> adam(task.model, {});
  EXPECT_EQ(refusal([&] { return task.step(adam, 0); }),
            "eigenheads: DataParallel: batch_size is 0; expected 1 or more");
  for (const int ranks : {1, 2})
    EXPECT_EQ(refusal([&] {
                const eh::mpi::DataParallelPlan plan({.parameters = 5, .ranks = ranks});
                return plan.step_traffic(0, 0, sizeof(float)).bytes_sent;
              }),
              "eigenheads: DataParallel: batch_size is 0; expected 1 or more");
  Task<float> other(1, 3);
  const Tensor<float, 1> before = task.parameters();
  EXPECT_NE(refusal([&] {
              return adam.step(task.model, other.gradients, 4, [&](Index first, Index last) {
                return other.loss(0, 4, first, last);
              });
            }).find("DataParallel: the gradients have layers.2."),
            std::string::npos);
  EXPECT_NE(refusal([&] {
              return other.step(adam, 4);
            }).find("DataParallel: the module's parameters have layers.2."),
            std::string::npos);
  EXPECT_TRUE(same_bits(task.parameters(), before));
  EXPECT_EQ(adam.step_count(), 0);
  const eh::mpi::detail::FlatParameters flat(eh::Linear<float>({3, 2, true}));
  const auto differs = [&](const auto& module) {
    return refusal([&] { flat.require_same(module, "they"); });
  };
  EXPECT_EQ(differs(eh::Linear<float>({3, 4, true})),
            "eigenheads: they have weight of shape [4, 3]; expected [2, 3]");
  EXPECT_EQ(differs(eh::Linear<float>({3, 2})), "eigenheads: they end before bias");
  EXPECT_EQ(differs(eh::DotProductAttention<float>({.sink_logits = true})),
            "eigenheads: they have sink_logits where the parameters have weight");

  const auto restore = [&](std::int64_t step_count, const States<float>& states) {
    return refusal([&] {
      adam.restore(step_count, states);
      return 0;
    });
  };
  task.step(adam, 4);
  States<float> states;
  adam.for_each_state([&](const std::string& name, std::span<const float> values) {
    states.push_back({name, {values.begin(), values.end()}});
  });
  EXPECT_NE(restore(1, {}).find("Adam: there are 0 states; expected "), std::string::npos);
  EXPECT_NE(restore(-1, {}).find("step_count is -1; expected 0 to "), std::string::npos);
  States<float> wrong = states;
  wrong[1].name = "none";
  EXPECT_NE(restore(1, wrong).find(states[1].name + " is missing"), std::string::npos);
  wrong = states;
  wrong[2].values.pop_back();
  EXPECT_NE(restore(1, wrong).find(states[2].name + " has "), std::string::npos);
  EXPECT_EQ(adam.step_count(), 1);
}

// Whatever a rank throws in its part of a batch, the step has not been, on any rank; it can be made
// again.
TEST(DataParallelTest, AStepThatARankThrowsInHasNotBeen) {
  const auto expected = train<float>({.steps = 6, .batch_size = 6}).parameters;
  for (const int thrower : {0, 2})
    eh::mpi::run_locally(3, [&](Ranks& ranks) {
      Task<float> task;
      Adam<float> adam(task.model, {.weight_decay = 0.1}, {}, &ranks);
      for (int i = 0; i < 3; ++i) task.step(adam, 6);
      const Tensor<float, 1> before = task.parameters();
      const auto lose = [&] {
        return adam.step(task.model, task.gradients, 6, [&](Index first, Index last) {
          if (ranks.rank() == thrower && last == (thrower == 0 ? 2 : 6))
            throw std::out_of_range("a part is lost");
          return task.loss(3, 6, first, last);
        });
      };
      if (ranks.rank() == thrower) {
        EXPECT_EQ(refusal<std::out_of_range>(lose), "a part is lost");
      } else {
        EXPECT_EQ(refusal<eh::mpi::RankError>(lose),
                  "eigenheads: rank " + std::to_string(thrower) + " threw: a part is lost");
      }
      EXPECT_EQ(adam.step_count(), 3);
      EXPECT_TRUE(same_bits(task.parameters(), before));
      while (adam.step_count() < 6) task.step(adam, 6);
      EXPECT_TRUE(same_bits(task.parameters(), expected));
    });
}

// A model whose parameters cannot be listed for writing, which is the last thing that a step does.
struct FragileModel {
  Task<float>::Model& model;
  bool is_broken;

  template <class Visit>
  void for_each_parameter(Visit&& visit, std::string_view prefix = "") {
    if (is_broken) throw std::bad_alloc();
    model.for_each_parameter(visit, prefix);
  }
  template <class Visit>
  void for_each_parameter(Visit&& visit, std::string_view prefix = "") const {
    std::as_const(model).for_each_parameter(visit, prefix);
  }
};

TEST(DataParallelTest, AStepThatFailsAfterTheGradientsHasNotBeen) {
  const auto expected = train<float>({.steps = 4, .batch_size = 6}).parameters;
  for (const std::int64_t step : {0, 2})
    eh::mpi::run_locally(3, [&](Ranks& ranks) {
      Task<float> task;
      Adam<float> adam(task.model, {.weight_decay = 0.1}, {}, &ranks);
      while (adam.step_count() < step) task.step(adam, 6);
      const Tensor<float, 1> before = task.parameters();
      FragileModel model{task.model, ranks.rank() == 1};
      const auto i = static_cast<Index>(step);
      adam.set_learning_rate(eh::warmup_then_cosine(i, 5, 60, 1e-2));
      const auto fail = [&] {
        return adam.step(model, task.gradients, 6,
                         [&](Index first, Index last) { return task.loss(i, 6, first, last); });
      };
      if (ranks.rank() == 1)
        EXPECT_THROW(fail(), std::bad_alloc);
      else
        EXPECT_THROW(fail(), eh::mpi::RankError);
      EXPECT_EQ(adam.step_count(), step);
      EXPECT_TRUE(same_bits(task.parameters(), before));
      while (adam.step_count() < 4) task.step(adam, 6);
      EXPECT_TRUE(same_bits(task.parameters(), expected));
    });
}

}  // namespace
