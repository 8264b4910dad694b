// SPDX-License-Identifier: MIT
// What gates, pruning and the measures of heads cost, against the plain call of the same run.
//   heads_bench [Google Benchmark's flags]
#include <algorithm>
#include <benchmark/benchmark.h>
#include <cstddef>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>          // Context
#include <eigenheads/head_importance.hpp>  // HeadImportance, importance_by_trial
#include <eigenheads/multi_head_attention.hpp>
#include <eigenheads/prune_heads.hpp>  // prune_heads

#include "work.hpp"  // filled

namespace bench {
namespace {

namespace eh = eigenheads;
using eh::Index;
using Layer = eh::MultiHeadAttention<float>;

constexpr Index B = 8, Q = 128;

// Self-attention with weights that are drawn.
struct Setting {
  Index E, H;
  Layer layer{{.num_hiddens = E, .num_heads = H, .query_size = E, .key_size = E, .value_size = E},
              1};
  eh::Tensor<float, 3> x = filled<float, 3>(Stream::queries, {B, Q, E});
  eh::Tensor<float, 3> grad_y = filled<float, 3>(Stream::grad_output, {B, Q, E});
  eh::Tensor<float, 3> y{B, Q, E};
  eh::Context context{1};
};

// One call, and what it is compared with: the first of its group.
struct Measured {
  std::string group, name;
  std::function<void()> run;
};

std::vector<Index> every_other(Index count) {
  std::vector<Index> heads;
  for (Index h = 0; h < count; h += 2) heads.push_back(h);
  return heads;
}

// Gates that are `other` for every other head, 1 for the rest.
Layer gated(Layer layer, float other) {
  std::vector<float> gates(static_cast<std::size_t>(layer.num_heads()), 1.0f);
  for (const Index h : every_other(layer.num_heads())) gates[static_cast<std::size_t>(h)] = other;
  layer.set_gates(gates);
  return layer;
}

void add_inference(Setting& s, std::vector<Measured>& works) {
  const std::string group = "layer B=8 T=128 E=768 H=12";
  const auto add = [&](const char* name, Layer layer) {
    works.push_back({group, name, [&s, layer = std::move(layer)] {
                       layer.forward_into(s.y, s.x, s.x, s.x, eh::Mask{}, s.context);
                     }});
  };
  add("whole", s.layer);
  add("gates of 1", gated(s.layer, 1.0f));
  add("gates of 1 and 1/2", gated(s.layer, 0.5f));
  add("half of the heads gated off", gated(s.layer, 0.0f));
  add("half of the heads pruned", eh::prune_heads(s.layer, every_other(s.H)));
}

void add_training(Setting& s, std::vector<Measured>& works) {
  const std::string group = "forward and backward B=8 T=128 E=512 H=8";
  struct State {
    Layer::Activations saved;
    Layer::Gradients gradients;
  };
  const auto train = [&s](const Layer& layer, State& state) {
    s.y = layer.forward(s.x, s.x, s.x, eh::Mask{}, state.saved, s.context);
    layer.backward_into(state.gradients, s.grad_y, state.saved, false, s.context);
  };
  const auto state = std::make_shared<State>();
  works.push_back({group, "plain", [=, &s] { train(s.layer, *state); }});
  works.push_back(
      {group, "gates of 1 and 1/2", [=, layer = gated(s.layer, 0.5f)] { train(layer, *state); }});
  works.push_back(
      {group, "half of the heads pruned",
       [=, layer = eh::prune_heads(s.layer, every_other(s.H))] { train(layer, *state); }});
  works.push_back({group, "and the heads' importance (attention, outputs, loss)", [=, &s] {
                     train(s.layer, *state);
                     eh::HeadImportance<float> importance(s.layer);
                     importance.add(s.layer, state->saved, s.context);
                     importance.add(state->gradients);
                     benchmark::DoNotOptimize(importance.measures());
                   }});
  works.push_back({group, "importance by trial alone: H + 1 forward calls", [=, &s] {
                     const auto metric = [&s] {
                       s.layer.forward_into(s.y, s.x, s.x, s.x, eh::Mask{}, s.context);
                       return static_cast<double>(s.y(0, 0, 0));
                     };
                     benchmark::DoNotOptimize(eh::importance_by_trial(s.layer, metric));
                   }});
}

class Reporter final : public benchmark::BenchmarkReporter {
 public:
  explicit Reporter(const std::vector<Measured>& works) : works_(works) {}

  bool ReportContext(const Context&) override { return true; }
  void ReportRuns(const std::vector<Run>& runs) override {
    for (const Run& run : runs)
      if (run.run_type == Run::RT_Iteration)
        milliseconds_[run.run_name.function_name].push_back(1e3 * run.real_accumulated_time /
                                                            static_cast<double>(run.iterations));
  }
  void Finalize() override {
    std::printf(
        "| work | ms median [min..max] | time / first | speed / first |\n"
        "| --- | --- | --- | --- |\n");
    double first = 0;
    std::string group;
    for (const Measured& work : works_) {
      auto times = milliseconds_[work.group + '/' + work.name];
      if (times.empty()) continue;
      std::ranges::sort(times);
      const double median = times[times.size() / 2];
      if (work.group != group) first = median;
      group = work.group;
      std::printf("| %s: %s | %.3g [%.3g..%.3g] | %.3fx | %.2fx |\n", work.group.c_str(),
                  work.name.c_str(), median, times.front(), times.back(), median / first,
                  first / median);
    }
  }

 private:
  const std::vector<Measured>& works_;
  std::map<std::string, std::vector<double>> milliseconds_;
};

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  // Defaults, which the command line may follow with others. Interleaved, so that a slow minute
  // is one for all.
  std::vector<std::string> flags{argv[0], "--benchmark_repetitions=15", "--benchmark_min_time=0.1",
                                 "--benchmark_enable_random_interleaving=true"};
  flags.insert(flags.end(), argv + 1, argv + argc);
  std::vector<char*> pointers;
  for (std::string& flag : flags) pointers.push_back(flag.data());
  int count = static_cast<int>(pointers.size());
  benchmark::Initialize(&count, pointers.data());

  bench::Setting inference{768, 12}, training{512, 8};
  std::vector<bench::Measured> works;
  bench::add_inference(inference, works);
  bench::add_training(training, works);
  for (const bench::Measured& work : works)
    benchmark::RegisterBenchmark((work.group + '/' + work.name).c_str(),
                                 [&work](benchmark::State& state) {
                                   for (auto _ : state) work.run();
                                 })
        ->Unit(benchmark::kMillisecond)
        ->UseRealTime();
  bench::Reporter reporter(works);
  benchmark::RunSpecifiedBenchmarks(&reporter);
}
