// SPDX-License-Identifier: MIT
#pragma once
// The experiment from its first measure to its last. Candidates run side by side, each on one
// thread and on nothing that another one writes, so that the numbers (but the times) depend on the
// seed alone.
#include <algorithm>
#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>  // Context

#include "../progress.hpp"  // Progress
#include "data.hpp"         // Source, Sample, evaluate
#include "fine_tune.hpp"    // fine_tune
#include "heads.hpp"        // heads_of, without
#include "measures.hpp"     // measure_heads, try_heads
#include "orders.hpp"       // order_by, random_order, greedy_order
#include "pages.hpp"        // mean
#include "results.hpp"      // Results, Settings
#include "speed.hpp"        // time_model, time_large_layer
#include "work.hpp"         // Work

namespace pruning {

class Experiment {
 public:
  Experiment(const Model& whole, const Settings& settings)
      : whole_(whole),
        work_{settings, heads_of(whole).size(), attention_layers(whole).size()},
        context_(settings.threads) {
    results_.settings = settings;
    results_.heads = heads_of(whole);
    results_.layers = layer_names(whole);
    for (int i = 0; i < settings.threads; ++i) workers_.push_back(std::make_unique<Worker>());
    Source source(settings.seed);
    for (std::size_t s = 0; s < settings.splits; ++s) test_.push_back(source.next(settings.test));
    for (std::size_t s = 0; s < settings.splits; ++s)
      calibration_.push_back(source.next(settings.calibration));
    validation_ = source.next(settings.validation);
    progress_ = std::make_unique<Progress>(work_.all());
  }

  [[nodiscard]] Results run() && {
    const auto start = std::chrono::steady_clock::now();
    measure();
    prune();
    choose_threshold();
    verify_threshold();
    time();
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start;
    results_.seconds = passed.count();
    return std::move(results_);
  }

 private:
  struct Task {
    double work;
    std::function<void(Worker&)> run;
    bool tells = false;  // the progress itself, as it goes
  };
  using Tasks = std::vector<Task>;
  static constexpr const char* kMeasuring = "measuring the heads";

  [[nodiscard]] std::size_t splits() const { return results_.settings.splits; }
  [[nodiscard]] std::size_t count() const { return results_.heads.size(); }

  // All of them, the longest first.
  void run_all(Tasks tasks, const std::string& what) {
    std::ranges::stable_sort(tasks, std::greater{}, &Task::work);
    context_.parallel_for(static_cast<Index>(tasks.size()), [&](Index i, int thread) {
      const Task& task = tasks[static_cast<std::size_t>(i)];
      task.run(*workers_[static_cast<std::size_t>(thread)]);
      if (!task.tells) progress_->add(task.work, what);
    });
  }

  // Importance by every measure, greedy orders, and what each head alone is worth on the test.
  void measure() {
    results_.importance.assign(kMeasures.size(), {});
    for (auto& of_measure : results_.importance) of_measure.resize(splits());
    results_.alone.assign(splits(), {});
    results_.whole.resize(splits());
    greedy_.resize(splits());
    std::vector<Measured> measured(splits());
    const std::size_t layers = results_.layers.size();
    const auto per_layer = [&] {
      return std::vector(splits(), std::vector<std::vector<double>>(layers));
    };
    auto rises = per_layer(), drops = per_layer();
    Tasks tasks;
    for (std::size_t s = 0; s < splits(); ++s) {
      const Sample &calibration = calibration_[s], &test = test_[s];
      tasks.push_back({5.0 * work_.size(calibration), [&, s](Worker& worker) {
                         measured[s] = measure_heads(whole_, calibration, worker);
                       }});
      tasks.push_back({work_.size(test), [&, s](Worker& worker) {
                         results_.whole[s] = evaluate(whole_, test, worker);
                       }});
      tasks.push_back({work_.greedy(),
                       [&, s](Worker& worker) {
                         greedy_[s] = greedy_order(
                             whole_, calibration, results_.count_at(kLevels.back()), worker,
                             [&](double evaluations) {
                               progress_->add(evaluations * work_.size(calibration), kMeasuring);
                             });
                       },
                       true});
      for (std::size_t l = 0; l < layers; ++l) {
        const double tries = 1 + static_cast<double>(count()) / static_cast<double>(layers);
        tasks.push_back({tries * work_.size(calibration), [&, s, l](Worker& worker) {
                           rises[s][l] = try_heads(whole_, l, [&](const Model& model) {
                             return -loss_of(model, calibration, worker);
                           });
                         }});
        tasks.push_back({tries * work_.size(test), [&, s, l](Worker& worker) {
                           drops[s][l] = try_heads(whole_, l, [&](const Model& model) {
                             return evaluate(model, test, worker).accuracy();
                           });
                         }});
      }
    }
    run_all(std::move(tasks), kMeasuring);
    for (std::size_t s = 0; s < splits(); ++s) {
      for (std::size_t l = 0; l < layers; ++l) {
        auto& trial = measured[s].values.back();
        trial.insert(trial.end(), rises[s][l].begin(), rises[s][l].end());
        auto& alone = results_.alone[s];
        alone.insert(alone.end(), drops[s][l].begin(), drops[s][l].end());
      }
      for (std::size_t m = 0; m < kMeasures.size(); ++m)
        results_.importance[m][s] = std::move(measured[s].values[m]);
      results_.gradient_of_few.push_back(measured[s].of_few);
    }
  }

  [[nodiscard]] Order order_of(const std::string& name, std::size_t split) const {
    if (name == "random") return random_order(count(), results_.settings.seed * 1000 + split);
    if (name == "oracle") return greedy_[split];
    const std::size_t m = measure_index(name);
    return order_by(kMeasures[m], results_.importance[m][split]);
  }

  // Every order at every level, on the test; some of them with fine-tuning; every measure head by
  // head on the validation.
  void prune() {
    const Settings& settings = results_.settings;
    std::vector<std::string> orders{"random", "oracle"};
    for (const Measure& measure : kMeasures) orders.emplace_back(measure.name);
    for (const std::string& order : orders)
      for (std::size_t s = 0; s < splits(); ++s)
        for (const int level : kLevels) {
          Order removed = order_of(order, s);
          removed.resize(results_.count_at(level));
          results_.candidates.push_back({order, level, s, std::move(removed), {}});
        }
    for (std::size_t s = 0; s < settings.tuning_seeds; ++s) {
      results_.tuned.push_back({"none", 0, s, {}, {}, {}});
      for (const char* order : {kGradient, "random"})
        for (const Candidate& c : results_.candidates)
          if (c.order == order && c.split == s)
            results_.tuned.push_back({c.order, c.level, s, c.removed, {}, {}});
    }
    results_.sweep.assign(kMeasures.size(), std::vector<double>(count() - 1));

    Tasks tasks;
    for (Candidate& c : results_.candidates)
      tasks.push_back({work_.size(test_[c.split]), [&](Worker& worker) {
                         c.quality = evaluate(without(whole_, c.removed), test_[c.split], worker);
                       }});
    for (Tuned& t : results_.tuned)
      tasks.push_back(
          {work_.size(settings.tuning) + 2 * work_.size(test_[t.seed]), [&](Worker& worker) {
             Model model = without(whole_, t.removed);
             t.before = evaluate(model, test_[t.seed], worker);
             tune(model, settings.tuning, t.seed, worker);
             t.after = evaluate(model, test_[t.seed], worker);
           }});
    tasks.push_back({work_.size(validation_), [&](Worker& worker) {
                       results_.whole_validation = evaluate(whole_, validation_, worker);
                     }});
    for (std::size_t m = 0; m < kMeasures.size(); ++m) {
      const Order order = order_by(kMeasures[m], results_.mean_importance(m));
      for (std::size_t n = 1; n < count(); ++n)
        tasks.push_back(
            {work_.size(validation_), [this, m, n, order](Worker& worker) {
               results_.sweep[m][n - 1] =
                   evaluate(without(whole_, {order.data(), n}), validation_, worker).accuracy();
             }});
    }
    run_all(std::move(tasks), "pruning and judging");
    for (auto& of_measure : results_.sweep)
      for (double& accuracy : of_measure)
        accuracy = results_.whole_validation.accuracy() - accuracy;
  }

  void tune(Model& model, const FineTuning& tuning, std::size_t seed, Worker& worker) const {
    fine_tune(model, tuning, results_.settings.seed * 1000 + seed, worker);
  }

  // How many leading entries are below kMostLost.
  [[nodiscard]] static std::size_t leading(const std::vector<double>& lost) {
    return static_cast<std::size_t>(
        std::ranges::find_if(lost, [](double x) { return x >= kMostLost; }) - lost.begin());
  }

  // The measure by which most heads can go; of equals, the one that loses least on the way there.
  void choose_threshold() {
    Threshold& chosen = results_.threshold;
    const FineTuning tuning = results_.settings.longer_tuning();
    double least = HUGE_VAL;
    for (std::size_t m = 0; m < kMeasures.size(); ++m) {
      const std::size_t n = leading(results_.sweep[m]);
      const double lost = mean({results_.sweep[m].data(), n});
      if (n > chosen.count || (n == chosen.count && lost < least)) {
        chosen.measure = m;
        chosen.count = n;
        least = lost;
      }
    }
    chosen.order = order_by(kMeasures[chosen.measure], results_.mean_importance(chosen.measure));
    chosen.tuned_lost.resize(count() - chosen.count);
    progress_->leave_out(static_cast<double>(chosen.count) *
                         (work_.size(tuning) + work_.size(validation_)));
    Tasks tasks;
    for (std::size_t i = 0; i < chosen.tuned_lost.size(); ++i)
      tasks.push_back({work_.size(tuning) + work_.size(validation_), [&, i](Worker& worker) {
                         Model model = without(whole_, {chosen.order.data(), chosen.count + i});
                         tune(model, tuning, splits(), worker);
                         chosen.tuned_lost[i] = results_.whole_validation.accuracy() -
                                                evaluate(model, validation_, worker).accuracy();
                       }});
    run_all(std::move(tasks), "choosing a threshold");
    const std::size_t fine = leading(chosen.tuned_lost);
    chosen.tuned_count = chosen.count + (fine > 0 ? fine - 1 : 0);
  }

  void verify_threshold() {
    Threshold& chosen = results_.threshold;
    const FineTuning tuning = results_.settings.longer_tuning();
    for (auto* lost : {&chosen.test_lost, &chosen.tuned_same, &chosen.tuned_larger})
      lost->resize(splits());
    const auto verify = [&](std::size_t n, bool is_tuned, std::vector<double>& lost) {
      return Task{work_.size(tuning), [&, n, is_tuned](Worker& worker) {
                    Model model = without(whole_, {chosen.order.data(), n});
                    if (is_tuned) tune(model, tuning, splits(), worker);
                    for (std::size_t s = 0; s < splits(); ++s)
                      lost[s] = results_.whole[s].accuracy() -
                                evaluate(model, test_[s], worker).accuracy();
                  }};
    };
    run_all({verify(chosen.count, false, chosen.test_lost),
             verify(chosen.count, true, chosen.tuned_same),
             verify(chosen.tuned_count, true, chosen.tuned_larger)},
            "verifying the threshold");
  }

  void time() {
    Worker& worker = *workers_.front();
    const std::size_t gradient = measure_index(kGradient);
    const Order order = order_by(kMeasures[gradient], results_.mean_importance(gradient));
    const Sample& test = test_.front();
    results_.speed =
        time_model(whole_, order, results_, test.batches[test.batches.size() / 2], worker);
    const auto large = time_large_layer((results_.settings.repetitions + 1) / 2, worker);
    results_.speed.insert(results_.speed.end(), large.begin(), large.end());
    progress_->add(work_.timing(), "timing");
  }

  const Model& whole_;
  Work work_;
  Results results_;
  eh::Context context_;
  std::vector<std::unique_ptr<Worker>> workers_;  // one a thread
  std::vector<Sample> calibration_, test_;
  Sample validation_;
  std::vector<Order> greedy_;  // [split]
  std::unique_ptr<Progress> progress_;
};

}  // namespace pruning
