// SPDX-License-Identifier: MIT
// Results as Markdown, a summary first, and as bars. Each file of results is a run of its own.
//   bench_table OUT.md OUT.svg RESULTS.tsv...
#include <exception>
#include <fstream>
#include <iostream>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "bars.hpp"
#include "markdown.hpp"
#include "results.hpp"
#include "rows.hpp"
#include "summary.hpp"

namespace {

using bench::Row;
using bench::Rows;
using bench::Summary;
using bench::write_head;
using bench::write_line;

std::vector<std::string> name_cells(const Row& row) {
  return {row.what().work, row.what().scalar, std::to_string(row.what().threads)};
}

std::string share(std::optional<double> value) { return value ? bench::share_text(*value) : ""; }

std::string ratio(const Summary* numerator, const Summary* denominator) {
  if (numerator == nullptr || denominator == nullptr) return "";
  return bench::digits(numerator->sample.milliseconds / denominator->sample.milliseconds, 3) + 'x';
}

// The library, and how much longer the others take.
void write_library(std::ostream& out, const Rows& all) {
  const std::string& library = all.implementations.front();
  std::vector<std::string> head{"work",
                                "type",
                                "threads",
                                "ms median [quartiles]",
                                "rate",
                                "share of peak",
                                "as if unmasked",
                                "time / unmasked",
                                "speed / 1 thread",
                                "of the peaks'",
                                "scratch"};
  for (std::size_t i = 1; i < all.implementations.size(); ++i)
    head.push_back(all.implementations[i] + " takes");
  write_head(out, head);
  for (const Row& row : all.rows) {
    const Summary* s = row.of(library);
    if (s == nullptr) continue;
    const bool is_masked = s->sample.unmasked > s->sample.flops;
    std::vector<std::string> cells = name_cells(row);
    cells.insert(cells.end(),
                 {bench::time_text(*s), bench::rate_text(*s),
                  bench::share_text(s->share()) + (s->is_read() ? " of read" : ""),
                  is_masked ? bench::share_text(s->share_as_if_unmasked()) : "",
                  ratio(s, all.without_mask(s->sample)), ratio(all.on_one_thread(s->sample), s),
                  share(bench::share_of_peaks(*s, all)), bench::bytes_text(s->sample.scratch)});
    for (std::size_t i = 1; i < all.implementations.size(); ++i)
      cells.push_back(ratio(row.of(all.implementations[i]), s));
    write_line(out, cells);
  }
}

void write_everybody(std::ostream& out, const Rows& all) {
  write_head(out, {"work", "type", "threads", "who", "ms median [quartiles]", "rate",
                   "share of peak", "peak", "differs by"});
  for (const Row& row : all.rows)
    for (const Summary& s : row.summaries) {
      std::vector<std::string> cells = name_cells(row);
      std::ostringstream error;
      error.precision(2);
      error << s.sample.error;
      cells.insert(cells.end(), {s.sample.implementation, bench::time_text(s), bench::rate_text(s),
                                 bench::share_text(s.share()), bench::digits(s.sample.peak, 3),
                                 &s == row.of(all.implementations.front()) ? "" : error.str()});
      write_line(out, cells);
    }
}

std::string markdown(const bench::Results& results, const Rows& all) {
  std::ostringstream out;
  out << "# Benchmarks\n\n";
  bench::write_summary(out, all);
  out << "\n## Rows\n\n";
  for (const std::string& note : results.notes) out << "- " << note << '\n';
  out << "- 2 flops a multiply-add; attention 4 D a visible (query, key) pair; softmax, packing "
         "and masks 0. Backward: attention 10 D, a projection twice as much as forward, whatever "
         "is computed again.\n- Peak: register-only chains of multiply-adds, on as many threads, "
         "in the same process, before every repetition. For decoding it is a loop that reads the "
         "same memory, or as much.\n- Times are medians of runs' medians. Of the peaks': the speed "
         "over one "
         "thread as a share of what the peak gains by the same threads.\n\n";
  write_library(out, all);
  out << "\n## Everybody\n\n";
  write_everybody(out, all);
  return std::move(out).str();
}

void write_file(const char* path, const std::string& text) {
  std::ofstream file(path);
  if (!(file << text).flush()) throw std::runtime_error(std::string("cannot write ") + path);
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc < 4) throw std::runtime_error("expected OUT.md OUT.svg RESULTS.tsv...");
  bench::Results results;
  for (int i = 3; i < argc; ++i) bench::read(argv[i], results);
  if (results.samples.empty()) throw std::runtime_error("there are no results");
  const Rows rows = bench::rows_of(results.samples);
  write_file(argv[1], markdown(results, rows));
  write_file(argv[2],
             bench::bars(rows, rows.rows.front().what().scalar, rows.rows.front().what().threads));
  return 0;
} catch (const std::exception& error) {
  std::cerr << argv[0] << ": " << error.what() << '\n';
  return 1;
}
