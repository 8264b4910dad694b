// SPDX-License-Identifier: MIT
#pragma once
// Which heads of a sentence encoder matter, by the user's own texts: all measures on one half of them,
// pruning by each measure, the best order head by head on both halves, and the speed. Candidates run
// side by side, each on one thread, so the numbers (but the times) depend on the texts alone.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>  // Context
#include <eigenheads/random.hpp>   // random_bits

#include "../pages/time_in_turn.hpp"  // time_in_turn
#include "../progress.hpp"            // Progress
#include "head_measures.hpp"          // kMeasures, measure_heads
#include "head_sample.hpp"            // Sample, Loss, heads_of

namespace sentences {

inline constexpr std::array<int, 5> kLevels{10, 30, 50, 70, 90};  // percent of the heads pruned
inline constexpr std::size_t kRandomOrders = 3;

[[nodiscard]] inline std::size_t count_at(int level, std::size_t heads) {
  return static_cast<std::size_t>(std::lround(static_cast<double>(heads) * level / 100.0));
}

// What is asked for: heads that are left, or the distance that may be lost.
struct Wanted {
  std::optional<std::size_t> heads{};
  double distance = 0.05;
};

struct Candidate {
  std::string order;  // a measure's name, or "random"
  int level;
  Heads removed;
  Loss loss;
};

struct HeadResults {
  std::size_t choosing = 0, judging = 0;  // texts
  std::vector<std::string> layers{};
  std::vector<Head> heads{};
  std::vector<std::vector<double>> importance{};  // [measure][head]
  std::vector<Candidate> candidates{};            // on the texts that choose
  std::size_t best = 0;                           // the measure that loses the least distance
  Heads order{};                                  // of it, the least important first
  std::vector<Loss> chosen{}, judged{};           // [pruned]: of both halves, from none pruned on
  std::vector<std::size_t> timed{};               // heads pruned
  std::vector<double> speed{};                    // texts a second on one thread
  std::size_t count = 0;                          // heads pruned, as was wanted
  double seconds = 0;

  // With a sign that makes the important heads the higher ones.
  [[nodiscard]] std::vector<double> oriented_importance(std::size_t measure) const {
    std::vector<double> values = importance[measure];
    if (!kMeasures[measure].is_high_important)
      for (double& value : values) value = -value;
    return values;
  }
  [[nodiscard]] Heads removed() const {
    return {order.begin(), order.begin() + static_cast<std::ptrdiff_t>(count)};
  }
  // Of an order at a level, the mean over its candidates.
  [[nodiscard]] Loss at(const std::string& name, int level) const {
    Loss sum;
    double all = 0;
    for (const Candidate& c : candidates)
      if (c.order == name && c.level == level) {
        sum.distance += c.loss.distance;
        sum.neighbours += c.loss.neighbours;
        ++all;
      }
    return {sum.distance / all, sum.neighbours / all};
  }
  // The distance lost by an order, the mean over all levels.
  [[nodiscard]] double over_levels(const std::string& name) const {
    double sum = 0;
    for (const int level : kLevels) sum += at(name, level).distance;
    return sum / static_cast<double>(kLevels.size());
  }
};

namespace detail {

[[nodiscard]] inline Heads random_order(std::size_t count, std::uint64_t seed) {
  Heads order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  for (std::size_t i = count; i-- > 1;)
    std::swap(order[i],
              order[eigenheads::random_bits(seed, 0x4EAD5, static_cast<Index>(i)) % (i + 1)]);
  return order;
}

[[nodiscard]] inline std::span<const std::size_t> first_of(const Heads& order, std::size_t count) {
  return std::span(order).first(count);
}

}  // namespace detail

class HeadExperiment {
 public:
  // Texts of which the vectors differ, two or more in each half.
  HeadExperiment(const SentenceEncoder& model, std::span<const Ids> choosing,
                 std::span<const Ids> judging, Wanted wanted, Context& context)
      : model_(model),
        wanted_(wanted),
        context_(context),
        start_(Clock::now()),
        choosing_(model, choosing, context),
        judging_(model, judging, context) {
    for (int i = 0; i < context.threads(); ++i) workers_.push_back(std::make_unique<Context>());
    results_.choosing = choosing_.size();
    results_.judging = judging_.size();
    results_.heads = heads_of(model.encoder);
    for (std::size_t l = 1; l <= model.encoder.num_layers(); ++l)
      results_.layers.push_back("layer " + std::to_string(l));
    const auto heads = static_cast<double>(results_.heads.size());
    const auto levels = static_cast<double>(kLevels.size() * (kMeasures.size() + kRandomOrders));
    progress_ = std::make_unique<Progress>((4 + heads + levels + heads) *
                                               static_cast<double>(choosing_.size()) +
                                           heads * static_cast<double>(judging_.size()) + timing());
  }

  [[nodiscard]] HeadResults run() && {
    measure();
    prune_by_measures();
    prune_head_by_head();
    choose();
    time();
    results_.seconds = std::chrono::duration<double>(Clock::now() - start_).count();
    return std::move(results_);
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr int kRepetitions = 5;

  [[nodiscard]] std::size_t count() const { return results_.heads.size(); }
  [[nodiscard]] double timing() const {
    return static_cast<double>((kRepetitions + 1) * (kLevels.size() + 1) * timed_texts());
  }
  [[nodiscard]] std::size_t timed_texts() const {
    return (std::min)(choosing_.size(), std::size_t{100});
  }

  // loss(i, context of one thread) of each, side by side.
  template <class LossOf>
  [[nodiscard]] std::vector<Loss> losses(std::size_t tasks, const Sample& sample,
                                         const std::string& what, const LossOf& loss) {
    std::vector<Loss> result(tasks);
    context_.parallel_for(static_cast<Index>(tasks), [&](Index i, int thread) {
      const auto task = static_cast<std::size_t>(i);
      result[task] = loss(task, *workers_[static_cast<std::size_t>(thread)]);
      progress_->add(static_cast<double>(sample.size()), what);
    });
    return result;
  }

  void measure() {
    constexpr const char* what = "measuring the heads";
    results_.importance = measure_heads(model_, choosing_, context_, [&](std::size_t texts) {
      progress_->add(4 * static_cast<double>(texts), what);
    });
    const auto trials = losses(count(), choosing_, what, [&](std::size_t head, Context& context) {
      return choosing_.without(std::array{head}, context);
    });
    for (const Loss& loss : trials) {
      results_.importance[kMeasures.size() - 2].push_back(loss.neighbours);
      results_.importance[kMeasures.size() - 1].push_back(loss.distance);
    }
  }

  void prune_by_measures() {
    std::vector<std::pair<std::string, Heads>> orders;
    for (std::size_t m = 0; m < kMeasures.size(); ++m)
      orders.emplace_back(kMeasures[m].name, pages::order_by(kMeasures[m], results_.importance[m]));
    for (std::size_t seed = 1; seed <= kRandomOrders; ++seed)
      orders.emplace_back("random", detail::random_order(count(), seed));
    for (const auto& [name, order] : orders)
      for (const int level : kLevels) {
        const auto removed = detail::first_of(order, count_at(level, count()));
        results_.candidates.push_back({name, level, {removed.begin(), removed.end()}, {}});
      }
    auto& candidates = results_.candidates;
    const auto found = losses(candidates.size(), choosing_, "pruning by each measure",
                              [&](std::size_t i, Context& context) {
                                return choosing_.without(candidates[i].removed, context);
                              });
    for (std::size_t i = 0; i < candidates.size(); ++i) candidates[i].loss = found[i];
    double least = HUGE_VAL;
    for (std::size_t m = 0; m < kMeasures.size(); ++m) {
      if (const double distance = results_.over_levels(kMeasures[m].name); distance < least) {
        least = distance;
        results_.best = m;
        results_.order = orders[m].second;
      }
    }
  }

  void prune_head_by_head() {
    const std::string what = std::string("pruning by ") + kMeasures[results_.best].name;
    for (const auto& [sample, losses_of] :
         {std::pair{&choosing_, &results_.chosen}, {&judging_, &results_.judged}}) {
      *losses_of =
          losses(count(), *sample, what, [&, half = sample](std::size_t i, Context& context) {
            return half->without(detail::first_of(results_.order, i + 1), context);
          });
      losses_of->insert(losses_of->begin(), Loss{});
    }
  }

  // By the half that chooses alone.
  void choose() {
    if (wanted_.heads) {
      results_.count = count() - (std::min)(*wanted_.heads, count());
      return;
    }
    while (results_.count < count() &&
           results_.chosen[results_.count + 1].distance <= wanted_.distance)
      ++results_.count;
  }

  void time() {
    results_.timed = {0, results_.count};
    for (const int level : kLevels) results_.timed.push_back(count_at(level, count()));
    std::ranges::sort(results_.timed);
    results_.timed.erase(std::unique(results_.timed.begin(), results_.timed.end()),
                         results_.timed.end());
    std::vector<std::unique_ptr<LayersWithout>> models;
    std::vector<std::function<void()>> runs;
    Context& context = *workers_.front();
    std::size_t texts = 0, batches = 0;
    while (batches < choosing_.batches.size() && texts < timed_texts())
      texts += choosing_.batches[batches++].texts.size();
    for (const std::size_t pruned : results_.timed) {
      models.push_back(std::make_unique<LayersWithout>(model_.encoder,
                                                       detail::first_of(results_.order, pruned)));
      runs.emplace_back([&, layers = models.back().get()] {
        for (std::size_t b = 0; b < batches; ++b) {
          const Batch& batch = choosing_.batches[b];
          Tensor<float, 2> x = model_.encoder.embed(batch.ids, batch.sequences, context);
          layers->run(x, batch.sequences, 0, context);
          static_cast<void>(model_.pool(x, batch.sequences, context));
        }
      });
    }
    for (const double milliseconds : pages::time_in_turn(runs, kRepetitions))
      results_.speed.push_back(1000 * static_cast<double>(texts) / milliseconds);
    progress_->add(timing(), "timing");
  }

  const SentenceEncoder& model_;
  Wanted wanted_;
  Context& context_;
  Clock::time_point start_;
  Sample choosing_, judging_;
  std::vector<std::unique_ptr<Context>> workers_;
  std::unique_ptr<Progress> progress_;
  HeadResults results_;
};

}  // namespace sentences
