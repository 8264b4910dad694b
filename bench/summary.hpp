// SPDX-License-Identifier: MIT
#pragma once
// Who is ahead: rows led and lost, how much longer the others take, and what a second thread gives.
//   lost       somebody is more than 2 % faster, and the two ranges do not overlap
//   led        nobody's median is shorter
//   undecided  everything between
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <optional>
#include <ostream>
#include <string>
#include <tuple>
#include <vector>

#include "markdown.hpp"
#include "results.hpp"
#include "rows.hpp"

namespace bench {

enum class Verdict { led, undecided, lost };

[[nodiscard]] inline Verdict verdict_between(const Summary& library, const Summary& peer) {
  if (peer.sample.milliseconds >= library.sample.milliseconds) return Verdict::led;
  const bool is_slower = library.sample.milliseconds > 1.02 * peer.sample.milliseconds;
  const bool is_apart = library.lower_quartile > peer.upper_quartile;
  return is_slower && is_apart ? Verdict::lost : Verdict::undecided;
}

// Against whoever is worst for the library; nothing where nobody else was measured.
[[nodiscard]] inline std::optional<Verdict> verdict_of(const Row& row, const Summary& library) {
  std::optional<Verdict> worst;
  for (const Summary& peer : row.summaries)
    if (&peer != &library)
      worst = (std::max)(worst.value_or(Verdict::led), verdict_between(library, peer));
  return worst;
}

// The geometric mean of how many times as long somebody takes.
class Factor {
 public:
  void add(const Summary& peer, const Summary& library) {
    logarithms_ += std::log(peer.sample.milliseconds / library.sample.milliseconds);
    ++count_;
  }
  // "1.31x", and of how many rows where that is not all of them.
  [[nodiscard]] std::string text(std::size_t all) const {
    if (count_ == 0) return "";
    const std::string mean = digits(std::exp(logarithms_ / static_cast<double>(count_)), 3) + 'x';
    return count_ == all ? mean : mean + " of " + std::to_string(count_);
  }

 private:
  double logarithms_ = 0;
  std::size_t count_ = 0;
};

// Rows of one group, scalar and number of threads.
struct Standing {
  std::map<Verdict, std::size_t> counts;
  std::map<std::string, Factor> factors;  // by implementation
  Factor best;                            // against the fastest of each row
  std::size_t rows = 0;

  void add(const Row& row, const Summary& library) {
    const std::optional<Verdict> verdict = verdict_of(row, library);
    if (!verdict) return;
    ++rows;
    ++counts[*verdict];
    const Summary* fastest = nullptr;
    for (const Summary& peer : row.summaries) {
      if (&peer == &library) continue;
      factors[peer.sample.implementation].add(peer, library);
      if (fastest == nullptr || peer.sample.milliseconds < fastest->sample.milliseconds)
        fastest = &peer;
    }
    best.add(*fastest, library);
  }
};

inline void write_standings(std::ostream& out, const Rows& all) {
  std::map<std::tuple<std::string, bool, int>, Standing> standings;
  for (const Row& row : all.rows)
    if (const Summary* library = row.of(all.implementations.front()))
      standings[{row.what().group, row.what().scalar != "float", row.what().threads}].add(row,
                                                                                          *library);
  std::vector<std::string> head{"rows", "type", "threads", "rows", "led", "lost", "undecided"};
  for (std::size_t i = 1; i < all.implementations.size(); ++i)
    head.push_back(all.implementations[i] + " takes");
  head.push_back("the fastest takes");
  write_head(out, head);
  for (auto& [key, standing] : standings) {
    const auto& [group, is_double, threads] = key;
    std::vector<std::string> cells{group, is_double ? "double" : "float", std::to_string(threads),
                                   std::to_string(standing.rows)};
    for (const Verdict verdict : {Verdict::led, Verdict::lost, Verdict::undecided})
      cells.push_back(std::to_string(standing.counts[verdict]));
    for (std::size_t i = 1; i < all.implementations.size(); ++i)
      cells.push_back(standing.factors[all.implementations[i]].text(standing.rows));
    cells.push_back(standing.best.text(standing.rows));
    write_line(out, cells);
  }
}

inline void write_rows_behind(std::ostream& out, const Rows& all) {
  std::size_t count = 0;
  for (const Verdict verdict : {Verdict::lost, Verdict::undecided})
    for (const Row& row : all.rows) {
      const Summary* library = row.of(all.implementations.front());
      if (library == nullptr) continue;
      for (const Summary& peer : row.summaries) {
        if (&peer == library || verdict_between(*library, peer) != verdict) continue;
        ++count;
        out << "- " << (verdict == Verdict::lost ? "lost: " : "undecided: ") << row.what().work
            << ", " << row.what().scalar << ", " << row.what().threads
            << (row.what().threads == 1 ? " thread: " : " threads: ") << peer.sample.implementation
            << ' ' << time_text(peer) << " ms, " << library->sample.implementation << ' '
            << time_text(*library) << " ms\n";
      }
    }
  if (count == 0) out << "Nobody is faster in any row.\n";
}

// ---- More threads than one ---------------------------------------------------------------------

// How many times as fast as on one thread; nothing where that was not measured.
[[nodiscard]] inline std::optional<double> speed_of_threads(const Summary& s, const Rows& all) {
  const Summary* one = all.on_one_thread(s.sample);
  if (one == nullptr) return std::nullopt;
  return one->sample.milliseconds / s.sample.milliseconds;
}

// That, as a share of what the machine gains.
[[nodiscard]] inline std::optional<double> share_of_peaks(const Summary& s, const Rows& all) {
  const std::optional<double> speed = speed_of_threads(s, all);
  const double ratio = all.peaks_ratio(s.sample);
  if (!speed || !(ratio > 0)) return std::nullopt;
  return *speed / ratio;
}

inline void write_threads(std::ostream& out, const Rows& all) {
  struct Gain {
    double ratio = 0;
    std::size_t rows = 0, good = 0, slower = 0;
    std::optional<double> lowest;
    std::string lowest_work;
  };
  std::map<std::tuple<bool, int, bool>, Gain> gains;  // by scalar, threads, reading
  for (const Row& row : all.rows) {
    const Summary* s = row.of(all.implementations.front());
    if (s == nullptr) continue;
    const auto speed = speed_of_threads(*s, all), share = share_of_peaks(*s, all);
    if (!share) continue;
    Gain& gain = gains[{s->sample.scalar != "float", s->sample.threads, s->is_read()}];
    gain.ratio = (std::max)(gain.ratio, all.peaks_ratio(s->sample));
    const Summary& one = *all.on_one_thread(s->sample);
    gain.slower += *speed < 1 && s->lower_quartile > one.upper_quartile;
    if (one.sample.milliseconds < 1) continue;
    ++gain.rows;
    gain.good += *share >= 0.95;
    if (!gain.lowest || *share < *gain.lowest)
      gain.lowest = share, gain.lowest_work = row.what().work;
  }
  if (gains.empty()) return;
  out << '\n';
  write_head(out, {"type", "threads", "bound by", "ratio of the peaks", "rows above 1 ms",
                   "at 0.95 of it or more", "the lowest", "of any size, slower than on one"});
  for (const auto& [key, gain] : gains) {
    const auto& [is_double, threads, is_read] = key;
    write_line(out, {is_double ? "double" : "float", std::to_string(threads),
                     is_read ? "reading" : "multiply-adds", digits(gain.ratio, 3) + 'x',
                     std::to_string(gain.rows), std::to_string(gain.good),
                     gain.lowest ? share_text(*gain.lowest) + ", " + gain.lowest_work : "",
                     std::to_string(gain.slower)});
  }
}

inline void write_summary(std::ostream& out, const Rows& all) {
  out << "Lost: somebody is more than 2 % faster, and the ranges (quartiles of all repetitions) do "
         "not overlap. Led: nobody's median is shorter. Undecided: between the two. Others take so "
         "many times as long, geometric mean.\n\n";
  write_standings(out, all);
  write_threads(out, all);
  out << '\n';
  write_rows_behind(out, all);
}

}  // namespace bench
