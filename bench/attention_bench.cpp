// SPDX-License-Identifier: MIT
// Measures every case of cases.hpp: the library, and the same composed of the products that this
// program is linked with, in float and double, on one thread and on two. Each repetition begins
// with a measurement of what the machine can do at that moment.
//   attention_bench [--tsv=FILE] [--threads=1,2] [--scalars=float,double] [--rows=REGEX]
//                   [--only=IMPLEMENTATION] [Google Benchmark's flags]
#include <algorithm>
#include <benchmark/benchmark.h>
#include <exception>
#include <iostream>
#include <map>
#include <memory>
#include <regex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>          // Context
#include <eigenheads/kernels/targets.hpp>  // instruction_set
#include <eigenheads/version.hpp>          // EIGENHEADS_VERSION_MAJOR

#include "cases.hpp"
#include "composed.hpp"
#include "make_work.hpp"
#include "peak.hpp"
#include "results.hpp"
#include "work.hpp"

namespace bench {
namespace {

constexpr const char* library = "Eigenheads";

// ---- A case that is ready to run ---------------------------------------------------------------

class Ready {
 public:
  virtual ~Ready() = default;
  virtual void run(bool is_library) = 0;
  virtual void measure_peak() = 0;
  // All but who was measured, and the time.
  [[nodiscard]] virtual Sample sample() const = 0;
};

template <class T>
class ReadyIn final : public Ready {
 public:
  ReadyIn(const Case& c, int threads) : work_(make_work<T>(c)), context_(threads) {
    if constexpr (std::is_same_v<T, float>)
      composed_ = composer().make_float(threads);
    else
      composed_ = composer().make_double(threads);
    run(true);
    run(false);
    const double error = relative_error<T>(c, work_->composed_output(), work_->library_output());
    if (!(error < 1e3 * static_cast<double>(std::numeric_limits<T>::epsilon())))
      throw std::runtime_error(name_of(c) + ": outputs differ by " + std::to_string(error));
    const Cost cost = cost_of(c);
    sample_ = {.work = name_of(c),
               .group = name_of(c.group),
               .scalar = std::is_same_v<T, float> ? "float" : "double",
               .threads = threads,
               .flops = cost.flops,
               .unmasked = cost.unmasked,
               .bytes = static_cast<double>(cost.elements) * sizeof(T),
               .scratch = static_cast<double>(context_.scratch_bytes()),
               .error = error};
  }

  void run(bool is_library) override {
    is_library ? work_->run_library(context_) : work_->run_composed(*composed_);
  }
  // The best of all measurements beside this case.
  void measure_peak() override {
    const double now = sample_.bytes > 0 ? read_gigabytes(work_->memory(), context_.threads())
                                         : peak_gflops<T>(context_.threads());
    sample_.peak = (std::max)(sample_.peak, now);
  }
  [[nodiscard]] Sample sample() const override { return sample_; }

 private:
  std::unique_ptr<Work<T>> work_;
  eh::Context context_;
  std::unique_ptr<Composed<T>> composed_;
  Sample sample_;
};

// Built when its turn comes, and kept until the next one's.
Ready& ready(const Case& c, bool is_float, int threads) {
  static std::unique_ptr<Ready> current;
  static std::tuple<const Case*, bool, int> which{nullptr, false, 0};
  if (which != std::tuple{&c, is_float, threads}) {
    current.reset();  // before the next one, not beside it
    if (is_float)
      current = std::make_unique<ReadyIn<float>>(c, threads);
    else
      current = std::make_unique<ReadyIn<double>>(c, threads);
    which = {&c, is_float, threads};
  }
  return *current;
}

// ---- Measuring ---------------------------------------------------------------------------------

// What each benchmark is: Google Benchmark passes numbers only on to the reporter.
std::map<std::string, Sample> measured;

struct Measurement {
  const Case* what;
  bool is_float;
  int threads;
  bool is_library;

  [[nodiscard]] std::string implementation() const {
    return is_library ? library : composer().name;
  }
  [[nodiscard]] std::string name() const {
    return name_of(*what) + '/' + (is_float ? "float" : "double") + '/' + std::to_string(threads) +
           '/' + implementation();
  }
  void operator()(benchmark::State& state) const {
    Ready& work = ready(*what, is_float, threads);
    work.measure_peak();
    for (auto _ : state) work.run(is_library);
    Sample sample = work.sample();
    sample.implementation = implementation();
    if (!is_library) sample.scratch = -1;
    const double giga = 1e-9 * (sample.bytes > 0 ? sample.bytes : sample.flops);
    constexpr auto rate = benchmark::Counter::kIsIterationInvariantRate;
    state.counters[sample.bytes > 0 ? "GB/s" : "GFLOP/s"] = {giga, rate};
    state.counters["share"] = {giga / sample.peak, rate};
    measured[name()] = std::move(sample);
  }
};

// Keeps every repetition, and prints a line for each benchmark.
class Reporter final : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context&) override { return true; }

  void ReportRuns(const std::vector<Run>& runs) override {
    std::vector<Sample> samples;
    for (const Run& run : runs) {
      if (run.run_type != Run::RT_Iteration) continue;
      samples.push_back(measured.at(run.run_name.function_name));
      samples.back().milliseconds =
          1e3 * run.real_accumulated_time / static_cast<double>(run.iterations);
    }
    if (samples.empty()) return;  // the aggregates of what came before
    const Summary s = summary_of(samples);
    std::cout << s.sample.work << ", " << s.sample.scalar << ", " << s.sample.threads
              << (s.sample.threads == 1 ? " thread, " : " threads, ") << s.sample.implementation
              << ": " << time_text(s) << " ms, " << rate_text(s) << ", " << share_text(s.share())
              << " of " << digits(s.sample.peak, 3);
    if (s.sample.implementation != library) std::cout << ", differs by " << s.sample.error;
    std::cout << std::endl;
    samples_.insert(samples_.end(), samples.begin(), samples.end());
  }

  [[nodiscard]] const std::vector<Sample>& samples() const { return samples_; }

 private:
  std::vector<Sample> samples_;
};

// ---- The command line --------------------------------------------------------------------------

struct Options {
  std::string tsv, only, rows;
  std::vector<std::string> threads{"1", "2"}, scalars{"float", "double"};
};

std::vector<std::string> list_of(std::string_view text) {
  std::vector<std::string> items;
  std::istringstream in{std::string(text)};
  for (std::string item; std::getline(in, item, ',');) items.push_back(item);
  return items;
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const std::size_t equals = argument.find('=');
    const std::string_view name = argument.substr(0, equals);
    const std::string_view value = equals == name.npos ? "" : argument.substr(equals + 1);
    if (name == "--tsv")
      options.tsv = value;
    else if (name == "--only")
      options.only = value;
    else if (name == "--rows")
      options.rows = value;
    else if (name == "--threads")
      options.threads = list_of(value);
    else if (name == "--scalars")
      options.scalars = list_of(value);
    else
      throw std::runtime_error("unknown argument " + std::string(argument));
  }
  return options;
}

void register_all(const Options& options) {
  const std::regex rows(options.rows);
  for (const std::string& scalar : options.scalars)
    for (const std::string& threads : options.threads)
      for (const Case& c : cases())
        for (const bool is_library : {true, false}) {
          if (!std::regex_search(name_of(c), rows)) continue;
          const Measurement measurement{&c, scalar == "float", std::stoi(threads), is_library};
          if (!options.only.empty() && options.only != measurement.implementation()) continue;
          benchmark::RegisterBenchmark(measurement.name().c_str(), measurement)
              ->Unit(benchmark::kMillisecond)
              ->UseRealTime();
        }
}

std::vector<std::string> notes() {
#if defined(__clang__)
  const std::string compiler = __VERSION__;
#else
  const std::string compiler = "g++ " __VERSION__;
#endif
  const std::string version = std::to_string(EIGENHEADS_VERSION_MAJOR) + '.' +
                              std::to_string(EIGENHEADS_VERSION_MINOR) + '.' +
                              std::to_string(EIGENHEADS_VERSION_PATCH);
  const Composer composed = composer();
  return {library + (' ' + version) + ", kernels " + eh::name_of(eh::instruction_set()) + ", " +
              compiler,
          composed.name + (' ' + composed.version)};
}

int run(int argc, char** argv) {
  // Defaults, which the command line may follow with others.
  std::vector<std::string> flags{argv[0], "--benchmark_repetitions=7", "--benchmark_min_time=0.05"};
  flags.insert(flags.end(), argv + 1, argv + argc);
  std::vector<char*> pointers;
  for (std::string& flag : flags) pointers.push_back(flag.data());
  int count = static_cast<int>(pointers.size());
  benchmark::Initialize(&count, pointers.data());
  const Options options = parse(count, pointers.data());

  register_all(options);
  Reporter reporter;
  benchmark::RunSpecifiedBenchmarks(&reporter);
  write(options.tsv, {notes(), reporter.samples()});
  return 0;
}

}  // namespace
}  // namespace bench

int main(int argc, char** argv) {
  try {
    return bench::run(argc, argv);
  } catch (const std::exception& error) {
    std::cerr << argv[0] << ": " << error.what() << '\n';
    return 1;
  }
}
