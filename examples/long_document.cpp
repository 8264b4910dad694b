// SPDX-License-Identifier: MIT
// A document that is too long for one process: its tokens are dealt to the ranks of mpirun, of which
// each reads, keeps and computes its own. The numbers are those of one process, to the bit.
//   mpirun -n 4 long_document --tokens 100000
#include <algorithm>
#include <array>
#include <bit>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <optional>
#include <string>
#include <sys/resource.h>
#include <vector>

#include <eigenheads/eigenheads.hpp>
#include <eigenheads/mpi/environment.hpp>
#include <eigenheads/mpi/sequence_layer.hpp>

#include "command_line.hpp"
#include "progress.hpp"

namespace {

namespace eh = eigenheads;
namespace mpi = eigenheads::mpi;
using command_line::CommandLine, command_line::Takes, command_line::UsageError;
using eh::Index;

constexpr Index kWidth = 256;

constexpr std::array<command_line::Option, 8> kOptions{{
    {"--tokens", "N", "of the document; without it, 16384"},
    {"--layers", "N", "of attention, one after the other; without it, 2"},
    {"--window", "N", "tokens that each sees before itself; without it, all"},
    {"--deal", "HOW", "contiguous, early-and-late or cyclic; without it, cyclic"},
    {"--threads", "N", "of each rank; without it, 1"},
    {"--no-causal", "", "each token sees all others", Takes::nothing},
    {"--one-process", "", "on one rank: by the layer's own call, without ranks", Takes::nothing},
    {"--help", "", "print this", Takes::nothing},
}};

// A token is a row of numbers that its place alone decides: each rank makes its own.
eh::Tensor<float, 2> tokens(const mpi::Dealing& dealing, int rank) {
  eh::Tensor<float, 2> x(dealing.local_rows(rank), kWidth);
  float* to = x.data();
  for (const auto& range : dealing.rows_of(rank))
    for (Index i = range.begin * kWidth; i < range.end * kWidth; ++i)
      *to++ = static_cast<float>(eh::random_symmetric(/*seed=*/1, /*stream=*/0, i));
  return x;
}

// A sum over all rows, of a number that each row's place and bits decide: whoever has them.
std::uint64_t fingerprint(const eh::Tensor<float, 2>& y, const mpi::Dealing& dealing, int rank) {
  std::uint64_t sum = 0;
  const float* next = y.data();
  for (const auto& range : dealing.rows_of(rank))
    for (Index row = range.begin; row < range.end; ++row) {
      auto hash = static_cast<std::uint64_t>(row) + 0x9E3779B97F4A7C15u;
      for (Index i = 0; i < kWidth; ++i)
        hash = (hash ^ std::bit_cast<std::uint32_t>(*next++)) * 0x100000001B3u;
      sum += hash ^ (hash >> 32);
    }
  return sum;
}

struct Report {  // of a rank
  Index rows, bytes_sent, bytes_received, scratch_bytes, peak_bytes;
  double seconds;
  std::uint64_t fingerprint;
};

void print(const std::vector<Report>& reports) {
  constexpr double mega = 1e6;
  std::uint64_t sum = 0;
  std::printf("rank     rows  seconds  sent/MB  received/MB  scratch/MB  peak/MB\n");
  for (std::size_t r = 0; r < reports.size(); ++r) {
    const Report& of = reports[r];
    const auto in_mega = [](Index bytes) { return static_cast<double>(bytes) / mega; };
    std::printf("%4zu %8td %8.2f %8.1f %12.1f %11.1f %8.1f\n", r, of.rows, of.seconds,
                in_mega(of.bytes_sent), in_mega(of.bytes_received), in_mega(of.scratch_bytes),
                in_mega(of.peak_bytes));
    sum += of.fingerprint;
  }
  std::printf("fingerprint of the output: %016llx\n", static_cast<unsigned long long>(sum));
}

mpi::Deal deal_of(const std::string& name) {
  if (name == "contiguous") return mpi::Deal::contiguous;
  if (name == "early-and-late") return mpi::Deal::early_and_late;
  if (name == "cyclic") return mpi::Deal::cyclic;
  throw UsageError("--deal is '" + name + "'; expected contiguous, early-and-late or cyclic");
}

struct Job {
  Index length;
  int layers, threads;
  bool is_one_process;
  mpi::Deal deal;
  eh::Mask mask;
};

Job job_of(const CommandLine& line) {
  const auto count = [&](const char* name, int most, int otherwise) {
    return line.has(name) ? line.count(name, most) : otherwise;
  };
  constexpr int most = 100'000'000;
  return {.length = count("--tokens", most, 16384),
          .layers = count("--layers", most, 2),
          .threads = count("--threads", 1024, 1),
          .is_one_process = line.has("--one-process"),
          .deal = deal_of(line.value("--deal", "cyclic")),
          .mask = {.causal = line.has("--no-causal") ? eh::Causal::none : eh::Causal::top_left,
                   .window = {.left = count("--window", most, -1)}}};
}

int run(const Job& job, mpi::Ranks& ranks) {
  if (job.is_one_process && ranks.size() > 1)
    throw UsageError("--one-process is given to " + std::to_string(ranks.size()) +
                     " ranks; expected one");
  const auto dealing = mpi::Dealing::of<float>({job.length}, ranks.size(), job.deal);
  const eh::MultiHeadAttention<float> layer(
      {.num_hiddens = kWidth,
       .num_heads = 4,
       .query_size = kWidth,
       .key_size = kWidth,
       .value_size = kWidth,
       .num_kv_heads = 2,
       .rotary = eh::RotaryOptions{.max_positions = job.length}});
  eh::Context context(job.threads);
  eh::Tensor<float, 2> x = tokens(dealing, ranks.rank());

  mpi::SequenceParallel parallel(layer, ranks);
  std::optional<Progress> progress;  // of the first rank: the others are as far
  double done = 0;
  if (ranks.rank() == 0) {
    progress.emplace(job.layers);
    parallel.on_progress([&](double of_layer) {
      progress->add(of_layer - done, std::to_string(job.length) + " tokens");
      done = of_layer < 1 ? of_layer : 0;
    });
  }
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < job.layers; ++i)
    if (job.is_one_process)
      x = layer(x, dealing.sequences(), job.mask, context);
    else
      parallel.forward_into(x, x, dealing, job.mask, context);
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begin;

  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const std::array mine{Report{.rows = x.dimension(0),
                               .bytes_sent = ranks.traffic().bytes_sent,
                               .bytes_received = ranks.traffic().bytes_received,
                               .scratch_bytes = context.scratch_bytes(),
                               .peak_bytes = usage.ru_maxrss * 1024,
                               .seconds = took.count(),
                               .fingerprint = fingerprint(x, dealing, ranks.rank())}};
  const std::vector<Index> one(static_cast<std::size_t>(ranks.size()), 1);
  std::vector<Report> all(ranks.rank() == 0 ? one.size() : 0);
  ranks.together("report", {}, [&] { ranks.gather<Report>(0, mine, one, all); });
  if (ranks.rank() == 0) print(all);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  mpi::Environment environment(argc, argv);
  return command_line::run_program(
      "long_document", argc, argv, [&](const std::vector<std::string>& words) {
        const CommandLine line(kOptions, words);
        if (!line.has("--help")) {
          const Job job = job_of(line);
          return environment.run([&](mpi::Ranks& ranks) { return run(job, ranks); });
        }
        std::cout << "Usage: mpirun -n RANKS long_document [OPTION...]\n";
        command_line::print_options(std::cout, kOptions);
        return 0;
      });
}
