// SPDX-License-Identifier: MIT
#pragma once
// Summaries side by side: a row for each work, scalar and number of threads.
#include <algorithm>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "results.hpp"

namespace bench {

struct Row {
  std::vector<Summary> summaries;  // of different implementations, at least one

  [[nodiscard]] const Sample& what() const { return summaries.front().sample; }
  [[nodiscard]] bool is_of(std::string_view work, std::string_view scalar, int threads) const {
    return what().work == work && what().scalar == scalar && what().threads == threads;
  }
  // Null where this implementation was not measured.
  [[nodiscard]] const Summary* of(std::string_view implementation) const {
    const auto found = std::ranges::find_if(
        summaries, [&](const Summary& s) { return s.sample.implementation == implementation; });
    return found == summaries.end() ? nullptr : &*found;
  }
};

struct Rows {
  std::vector<Row> rows;                     // by scalar, threads, and first appearance
  std::vector<std::string> implementations;  // the library is the first

  // What an implementation did in another row; null where it was not measured.
  [[nodiscard]] const Summary* find(std::string_view work, const Sample& like) const {
    return find(work, like.scalar, like.threads, like.implementation);
  }
  [[nodiscard]] const Summary* find(std::string_view work, std::string_view scalar, int threads,
                                    std::string_view implementation) const {
    const auto row =
        std::ranges::find_if(rows, [&](const Row& r) { return r.is_of(work, scalar, threads); });
    return row == rows.end() ? nullptr : row->of(implementation);
  }

  // The same on one thread; the same without its mask, whose name is that of the work less the
  // mask's.
  [[nodiscard]] const Summary* on_one_thread(const Sample& s) const {
    return s.threads == 1 ? nullptr : find(s.work, s.scalar, 1, s.implementation);
  }
  // How much more the machine can do on this row's threads than on one, by the library's own
  // measurements: of multiply-adds the best of all rows, of reading the row's own. 0: not measured.
  [[nodiscard]] double peaks_ratio(const Sample& s) const {
    const auto peak = [&](int threads) {
      double best = 0;
      for (const Row& row : rows)
        if (const Summary* other = row.of(implementations.front());
            other != nullptr && other->sample.scalar == s.scalar &&
            other->sample.threads == threads && other->is_read() == (s.bytes > 0) &&
            (s.bytes == 0 || other->sample.work == s.work))
          best = (std::max)(best, other->sample.peak);
      return best;
    };
    const double one = peak(1);
    return one > 0 ? peak(s.threads) / one : 0;
  }
  [[nodiscard]] const Summary* without_mask(const Sample& s) const {
    for (std::size_t space = s.work.rfind(' '); space != s.work.npos && space > 0;
         space = s.work.rfind(' ', space - 1))
      if (const Summary* found = find(std::string_view(s.work).substr(0, space), s)) return found;
    return nullptr;
  }
};

[[nodiscard]] inline Rows rows_of(const std::vector<Sample>& samples) {
  Rows result;
  for (Summary& summary : summaries_of(samples)) {
    const Sample& s = summary.sample;
    if (std::ranges::find(result.implementations, s.implementation) == result.implementations.end())
      result.implementations.push_back(s.implementation);
    auto row = std::ranges::find_if(
        result.rows, [&](const Row& r) { return r.is_of(s.work, s.scalar, s.threads); });
    if (row == result.rows.end()) row = result.rows.insert(row, Row{});
    row->summaries.push_back(std::move(summary));
  }
  std::ranges::stable_sort(result.rows, {}, [](const Row& row) {
    return std::tuple{row.what().scalar != "float", row.what().threads};
  });
  return result;
}

}  // namespace bench
