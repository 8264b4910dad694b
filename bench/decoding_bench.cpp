// SPDX-License-Identifier: MIT
// Measures decoding: a language model of 6 layers that reads a prompt and writes on, token by token,
// and single steps over caches of many keys. Peers measure the same by peers/decoding_*.py, with
// weights and outputs that this program writes.
//   decoding_bench [--tsv=FILE] [--threads=1,2] [--rows=REGEX] [--benchmark_repetitions=7]
//                  [--benchmark_min_time=0.05] | --export=DIRECTORY
#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <exception>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <regex>
#include <stdexcept>
#include <string>
#include <vector>

#include <eigenheads/context.hpp>               // Context
#include <eigenheads/kv_cache.hpp>              // KvCache
#include <eigenheads/multi_head_attention.hpp>  // MultiHeadAttention

#include "cached_step.hpp"
#include "decoding_cases.hpp"
#include "language_model.hpp"
#include "options.hpp"
#include "peak.hpp"
#include "results.hpp"

namespace bench {
namespace {

using Clock = std::chrono::steady_clock;

double milliseconds_since(Clock::time_point start) {
  return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

// What reading that many bytes can reach, over memory of its own: of more than 512 MiB, which no cache
// holds, the first so many.
double read_gigabytes_of(double bytes, int threads) {
  const double most = 512.0 * (1 << 20);
  static std::vector<std::byte> memory;
  const auto size = static_cast<std::size_t>((std::min)(bytes, most));
  if (memory.size() < size) memory.assign(size, std::byte{1});
  return read_gigabytes(std::array{Memory(memory.data(), size)}, threads);
}

std::string of_threads(int threads) {
  return ", " + std::to_string(threads) + (threads == 1 ? " thread" : " threads");
}

void tell(const Summary& s, const std::string& more, Results& results) {
  const std::string text = s.sample.work + of_threads(s.sample.threads) + ": " + more;
  std::cout << s.sample.work << of_threads(s.sample.threads) << ": " << time_text(s) << " ms, "
            << rate_text(s) << ", " << share_text(s.share()) << " of " << digits(s.sample.peak, 3)
            << (more.empty() ? "" : "; " + more) << std::endl;
  if (!more.empty()) results.notes.push_back(text);
}

// ---- A model that writes -----------------------------------------------------------------------

void measure(const ModelCase& c, int threads, const Options& options, Results& results) {
  eh::Context context(threads);
  LanguageModel model(c);
  model.read_prompt(context);
  model.write_on(context);
  std::vector<Sample> whole, step;
  double flops_peak = 0, read_peak = 0;
  for (int i = 0; i < options.repetitions; ++i) {
    const double flops = peak_gflops<float>(threads);
    const double read = read_gigabytes_of(step_bytes(c), threads);
    flops_peak = (std::max)(flops_peak, flops);
    read_peak = (std::max)(read_peak, read);
    const auto start = Clock::now();
    model.read_prompt(context);
    const double of_prompt = milliseconds_since(start);
    model.write_on(context);
    const double all = milliseconds_since(start);
    Sample sample{.work = name_of(c),
                  .group = "decoding",
                  .scalar = "float",
                  .implementation = "Eigenheads",
                  .threads = threads,
                  .milliseconds = all,
                  .flops = flops_of(c),
                  .unmasked = flops_of(c),
                  .peak = flops,
                  .scratch = static_cast<double>(context.scratch_bytes())};
    whole.push_back(sample);
    sample.work = step_name_of(c);
    sample.milliseconds = (all - of_prompt) / static_cast<double>(c.steps());
    sample.flops = sample.unmasked = step_flops(c);
    sample.bytes = step_bytes(c);
    sample.peak = read;
    step.push_back(sample);
  }
  const Summary of_whole = summary_of(whole), of_step = summary_of(step);
  const double tokens = static_cast<double>(c.B * c.written);
  tell(of_whole,
       digits(1e3 * tokens / of_whole.sample.milliseconds, 4) +
           " tokens/s, the prompt's time and all",
       results);
  const double took = of_step.sample.milliseconds;
  tell(of_step,
       digits(1e3 * static_cast<double>(c.B) / took, 4) + " tokens/s; it reads " +
           digits(1e-6 * step_bytes(c) / took, 3) + " GB/s of weights, keys and values, " +
           share_text(1e-6 * step_bytes(c) / took / read_peak) + " of what reading reaches (" +
           digits(read_peak, 3) + "), and multiplies at " +
           share_text(1e-6 * step_flops(c) / took / flops_peak) + " of the peak (" +
           digits(flops_peak, 3) + "); not faster than " +
           digits((std::max)(1e-6 * step_bytes(c) / read_peak, 1e-6 * step_flops(c) / flops_peak),
                  3) +
           " ms for either",
       results);
  results.samples.insert(results.samples.end(), whole.begin(), whole.end());
  results.samples.insert(results.samples.end(), step.begin(), step.end());
}

// ---- Steps over a cache ------------------------------------------------------------------------

void measure(const StepCase& c, int threads, const Options& options, Results& results) {
  eh::Context context(threads);
  with_cached_step(c, [&](auto& step) {
    std::vector<Sample> samples;
    const double bytes = step_bytes(c, step.mean_keys()), flops = step_flops(c, step.mean_keys());
    for (int i = 0; i < options.repetitions; ++i) {
      Sample sample{.work = name_of(c),
                    .group = "decoding",
                    .scalar = "float",
                    .implementation = "Eigenheads",
                    .threads = threads,
                    .flops = flops,
                    .unmasked = flops,
                    .bytes = bytes,
                    .peak = read_gigabytes_of(bytes, threads)};
      static_cast<void>(step.milliseconds(0, context));
      sample.milliseconds = step.milliseconds(options.min_time, context);
      sample.scratch = static_cast<double>(context.scratch_bytes());
      samples.push_back(sample);
    }
    const Summary s = summary_of(samples);
    const double floor =
        (std::max)(1e-6 * bytes / s.sample.peak, 1e-6 * flops / peak_gflops<float>(threads));
    tell(s,
         c.E > 16 ? "1.3 times the larger of what reading and multiplying take, and 1 us, are " +
                        digits(1.3e3 * floor + 1, 3) + " us"
                  : "",
         results);
    results.samples.insert(results.samples.end(), samples.begin(), samples.end());
  });
}

// A token costs what its window costs, however many have been: microseconds of a step of a small layer
// over a ring of 256 tokens.
void measure_ring(const Options& options, Results& results) {
  constexpr Index E = 16, D = 64, window = 256, steps = 200;
  const eh::MultiHeadAttention<float> layer({.num_hiddens = E,
                                             .num_heads = 2,
                                             .query_size = E,
                                             .key_size = E,
                                             .value_size = E,
                                             .head_size = D},
                                            1);
  eh::KvCache<float> cache(
      {.batch_size = 1, .num_kv_heads = 2, .head_size = D, .capacity = window, .window = window});
  eh::Context context(1);
  eh::Tensor<float, 3> many(1, steps, E), x(1, 1, E), y(x);
  many.setConstant(0.5f);
  x.setConstant(0.5f);
  const auto microseconds_at = [&](Index token) {
    while (cache.length(0) < token - steps) static_cast<void>(layer.step(many, cache));
    std::vector<double> times;
    for (int i = 0; i < options.repetitions * 10; ++i) {
      const auto start = Clock::now();
      for (Index k = 0; k < steps / 10; ++k) layer.step_into(y, x, cache, {}, {.context = context});
      times.push_back(1e3 * milliseconds_since(start) / static_cast<double>(steps / 10));
    }
    return median(times);
  };
  const double early = microseconds_at(1000), late = microseconds_at(100'000);
  results.notes.push_back("token 100,000 of a ring takes " + digits(late, 3) + " us, token 1,000 " +
                          digits(early, 3) + " us");
  std::cout << results.notes.back() << std::endl;
}

// A prompt that another sequence goes on with is not copied.
void measure_fork(const Options& options, Results& results) {
  constexpr Index tokens = 32768, G = 16, D = 64;
  eh::KvCache<float> cache(
      {.batch_size = 2, .num_kv_heads = G, .head_size = D, .capacity = tokens + 1});
  const std::vector<float> rows(static_cast<std::size_t>(tokens * D), 0.5f);
  auto& heads = cache.heads();
  heads.reserve(0, tokens);
  for (Index g = 0; g < G; ++g) heads.write({0, g, tokens, rows.data(), rows.data(), D});
  heads.commit(0, tokens);
  std::vector<double> times;
  for (int i = 0; i < options.repetitions * 10; ++i) {
    cache.reset(1);
    const auto start = Clock::now();
    cache.fork(0, 1);
    times.push_back(1e3 * milliseconds_since(start));
  }
  results.notes.push_back("a fork of 32,768 tokens of 16 heads, D=64, takes " +
                          digits(median(times), 3) + " us");
  std::cout << results.notes.back() << std::endl;
}

// ---- For the peers -----------------------------------------------------------------------------

void write_all(const std::filesystem::path& directory) {
  std::filesystem::create_directories(directory);
  std::ofstream out(directory / "decoding.json");
  out.precision(17);
  out << "{\"models\": [";
  for (std::size_t i = 0; i < model_cases().size(); ++i) {
    const ModelCase& c = model_cases()[i];
    const std::string file = "model" + std::to_string(i);
    LanguageModel(c).write_files(directory / file);
    out << (i == 0 ? "\n" : ",\n") << "{\"name\": \"" << name_of(c) << "\", \"step_name\": \""
        << step_name_of(c) << "\", \"file\": \"" << file << "\", \"B\": " << c.B
        << ", \"layers\": " << c.layers << ", \"E\": " << c.E << ", \"H\": " << c.H
        << ", \"G\": " << c.G << ", \"hidden\": " << c.hidden
        << ", \"vocabulary\": " << c.vocabulary << ", \"prompt\": " << c.prompt
        << ", \"written\": " << c.written << ", \"flops\": " << flops_of(c)
        << ", \"step_flops\": " << step_flops(c) << ", \"step_bytes\": " << step_bytes(c) << '}';
  }
  out << "],\n\"steps\": [";
  constexpr const char* types[] = {"float32", "bfloat16", "float16"};
  for (std::size_t i = 0; i < step_cases().size(); ++i) {
    const StepCase& c = step_cases()[i];
    const std::string file = "step" + std::to_string(i);
    with_cached_step(c, [&](auto& step) { step.write_files(directory / file); });
    const auto keys = static_cast<double>(c.K);
    out << (i == 0 ? "\n" : ",\n") << "{\"name\": \"" << name_of(c) << "\", \"file\": \"" << file
        << "\", \"B\": " << c.B << ", \"H\": " << c.H << ", \"G\": " << c.G << ", \"K\": " << c.K
        << ", \"D\": " << c.D << ", \"E\": " << c.E << ", \"stored\": \""
        << types[static_cast<int>(c.storage)] << "\", \"flops\": " << step_flops(c, keys)
        << ", \"bytes\": " << step_bytes(c, keys) << '}';
  }
  out << "]}\n";
  if (!out.flush()) throw std::runtime_error("cannot write " + directory.string());
}

int run(int argc, char** argv) {
  const Options options = parse(argc, argv);
  if (!options.directory.empty()) {
    write_all(options.directory);
    return 0;
  }
  const std::regex rows(options.rows);
  Results results;
  const auto measure_all = [&](const auto& cases, int threads) {
    for (const auto& c : cases)
      if (std::regex_search(name_of(c), rows)) measure(c, threads, options, results);
  };
  for (const int threads : options.threads) {
    measure_all(model_cases(), threads);
    measure_all(step_cases(), threads);
  }
  if (std::regex_search("ring", rows)) measure_ring(options, results);
  if (std::regex_search("fork", rows)) measure_fork(options, results);
  write(options.tsv, results);
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
