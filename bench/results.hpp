// SPDX-License-Identifier: MIT
#pragma once
// What was measured: one sample a repetition, kept as lines of tab-separated text, and what a row
// of a table says of them. Lines that begin with '#' tell what it was measured on and with. A file
// is one run; several runs of the same are told together.
#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <fstream>
#include <map>
#include <ostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

namespace bench {

struct Sample {
  std::string work{}, group{}, scalar{}, implementation{};
  int threads = 1;
  double milliseconds = 0;
  double flops = 0, unmasked = 0;  // that the mask leaves, and as if there were none
  double bytes = 0;                // that are read, where memory is the bound; otherwise 0
  double peak = 0;                 // GFLOP/s, or GB/s where memory is the bound
  double scratch = 0;              // bytes; -1: not known
  double error = 0;                // relative, against the library's output
  int run = 0;                     // which file it was read from
};

struct Results {
  std::vector<std::string> notes;
  std::vector<Sample> samples;
  int runs = 0;  // files that were read
};

inline constexpr std::string_view column_names =
    "work\tgroup\tscalar\timplementation\tthreads\tmilliseconds\tflops\tunmasked\tbytes\tpeak\t"
    "scratch\terror";

inline void write(std::ostream& out, const Results& results) {
  for (const std::string& note : results.notes) out << "# " << note << '\n';
  out << column_names << '\n';
  out.precision(17);
  for (const Sample& s : results.samples)
    out << s.work << '\t' << s.group << '\t' << s.scalar << '\t' << s.implementation << '\t'
        << s.threads << '\t' << s.milliseconds << '\t' << s.flops << '\t' << s.unmasked << '\t'
        << s.bytes << '\t' << s.peak << '\t' << s.scratch << '\t' << s.error << '\n';
}
// path: "" for none. Throws std::runtime_error if it cannot be written.
inline void write(const std::string& path, const Results& results) {
  if (path.empty()) return;
  std::ofstream file(path);
  write(file, results);
  if (!file.flush()) throw std::runtime_error("cannot write " + path);
}

// Appends what the file holds.
inline void read(const std::string& path, Results& results) {
  std::ifstream file(path);
  if (!file) throw std::runtime_error("cannot read " + path);
  ++results.runs;
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("# ")) {
      const std::string note = line.substr(2);
      if (std::ranges::find(results.notes, note) == results.notes.end())
        results.notes.push_back(note);
    } else if (line != column_names) {
      std::istringstream fields(line);
      Sample s;
      std::getline(fields, s.work, '\t');
      std::getline(fields, s.group, '\t');
      std::getline(fields, s.scalar, '\t');
      std::getline(fields, s.implementation, '\t');
      fields >> s.threads >> s.milliseconds >> s.flops >> s.unmasked >> s.bytes >> s.peak >>
          s.scratch >> s.error;
      if (!fields) throw std::runtime_error(path + " holds a line that is no result: " + line);
      s.run = results.runs;
      results.samples.push_back(std::move(s));
    }
  }
}

// ---- Repetitions together ----------------------------------------------------------------------

struct Summary {
  Sample sample;  // its time is the median of runs' medians, its peak the best
  double lower_quartile = 0, upper_quartile = 0;  // of all repetitions

  [[nodiscard]] bool is_read() const { return sample.bytes > 0; }
  // GFLOP/s or GB/s
  [[nodiscard]] double rate() const {
    return 1e-6 * (is_read() ? sample.bytes : sample.flops) / sample.milliseconds;
  }
  [[nodiscard]] double share() const { return rate() / sample.peak; }
  [[nodiscard]] double share_as_if_unmasked() const {
    return share() * sample.unmasked / sample.flops;
  }
};

// The number that a share of them is below; a straight line between neighbours.
[[nodiscard]] inline double quantile(std::vector<double> numbers, double share) {
  std::ranges::sort(numbers);
  const double at = share * static_cast<double>(numbers.size() - 1);
  const auto below = static_cast<std::size_t>(at);
  const std::size_t above = (std::min)(below + 1, numbers.size() - 1);
  return numbers[below] + (at - static_cast<double>(below)) * (numbers[above] - numbers[below]);
}

[[nodiscard]] inline double median(const std::vector<double>& numbers) {
  return quantile(numbers, 0.5);
}

// samples: of one work, scalar, number of threads and implementation.
[[nodiscard]] inline Summary summary_of(const std::vector<Sample>& samples) {
  std::vector<double> times, medians;
  std::map<int, std::vector<double>> times_of_run;
  Summary summary{samples.at(0)};
  for (const Sample& s : samples) {
    times.push_back(s.milliseconds);
    times_of_run[s.run].push_back(s.milliseconds);
    summary.sample.peak = (std::max)(summary.sample.peak, s.peak);
  }
  for (const auto& [run, of_run] : times_of_run) medians.push_back(median(of_run));
  summary.sample.milliseconds = median(medians);
  summary.lower_quartile = quantile(times, 0.25);
  summary.upper_quartile = quantile(times, 0.75);
  return summary;
}

// In the order of their first appearance.
[[nodiscard]] inline std::vector<Summary> summaries_of(const std::vector<Sample>& samples) {
  const auto key = [](const Sample& s) {
    return std::tie(s.scalar, s.threads, s.work, s.implementation);
  };
  std::vector<std::vector<Sample>> groups;
  for (const Sample& s : samples) {
    const auto group =
        std::ranges::find_if(groups, [&](const auto& g) { return key(g[0]) == key(s); });
    if (group == groups.end())
      groups.push_back({s});
    else
      group->push_back(s);
  }
  std::vector<Summary> summaries;
  for (const auto& group : groups) summaries.push_back(summary_of(group));
  return summaries;
}

// ---- As text -----------------------------------------------------------------------------------

// printf's %.*g without exponents for what is printed here, and with zeros at the end: "0.0115",
// "35.1", "1290".
[[nodiscard]] inline std::string digits(double value, int significant) {
  char text[64];
  double limit = 1;
  int decimals = significant;
  while (decimals > 0 && value >= limit) limit *= 10, --decimals;
  for (limit = 0.1; value > 0 && value < limit && decimals < 9; limit /= 10) ++decimals;
  std::snprintf(text, sizeof text, "%.*f", decimals, value);
  return text;
}

[[nodiscard]] inline std::string time_text(const Summary& s) {
  return digits(s.sample.milliseconds, 3) + " [" + digits(s.lower_quartile, 3) + ".." +
         digits(s.upper_quartile, 3) + ']';
}

[[nodiscard]] inline std::string rate_text(const Summary& s) {
  return digits(s.rate(), 3) + (s.is_read() ? " GB/s" : " GFLOP/s");
}

[[nodiscard]] inline std::string share_text(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3f", share);
  return text;
}

[[nodiscard]] inline std::string bytes_text(double bytes) {
  return bytes < 0           ? ""
         : bytes < 10 * 1024 ? digits(bytes / 1024, 2) + " KiB"
         : bytes < 1 << 20   ? digits(bytes / 1024, 3) + " KiB"
                             : digits(bytes / (1 << 20), 3) + " MiB";
}

}  // namespace bench
