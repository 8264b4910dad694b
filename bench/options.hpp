// SPDX-License-Identifier: MIT
#pragma once
// The command line of the programs that measure whole models, and their clock.
#include <algorithm>
#include <chrono>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

namespace bench {

struct Options {
  std::string tsv, rows, directory;
  std::vector<int> threads{1, 2};
  int repetitions = 7;
  double min_time = 0.05;
};

[[nodiscard]] inline Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i], name = argument.substr(0, argument.find('='));
    const std::string value = argument.substr((std::min)(name.size() + 1, argument.size()));
    if (name == "--tsv") {
      options.tsv = value;
    } else if (name == "--export") {
      options.directory = value;
    } else if (name == "--rows") {
      options.rows = value;
    } else if (name == "--benchmark_repetitions") {
      options.repetitions = std::stoi(value);
    } else if (name == "--benchmark_min_time") {
      options.min_time = std::stod(value);
    } else if (name == "--threads") {
      options.threads.clear();
      std::istringstream in(value);
      for (std::string item; std::getline(in, item, ',');)
        options.threads.push_back(std::stoi(item));
    } else if (name != "--scalars") {  // there is float alone
      throw std::runtime_error("unknown argument " + argument);
    }
  }
  return options;
}

// Milliseconds of one call, in the mean over as many as take the least time.
[[nodiscard]] inline double milliseconds(const std::function<void()>& run, double min_time) {
  using Clock = std::chrono::steady_clock;
  const auto start = Clock::now();
  double seconds = 0;
  int count = 0;
  for (; seconds < min_time; ++count) {
    run();
    seconds = std::chrono::duration<double>(Clock::now() - start).count();
  }
  return 1e3 * seconds / count;
}

}  // namespace bench
