// SPDX-License-Identifier: MIT
// Results as a Markdown table and as bars.
//   bench_table OUT.md OUT.svg RESULTS.tsv...
#include <exception>
#include <fstream>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "bars.hpp"
#include "results.hpp"
#include "rows.hpp"

namespace {

using bench::Row;
using bench::Rows;
using bench::Summary;

void write_line(std::ostream& out, const std::vector<std::string>& cells) {
  for (const std::string& cell : cells) out << "| " << cell << ' ';
  out << "|\n";
}

void write_head(std::ostream& out, const std::vector<std::string>& cells) {
  write_line(out, cells);
  write_line(out, std::vector<std::string>(cells.size(), "---"));
}

std::vector<std::string> name_cells(const Row& row) {
  return {row.what().work, row.what().scalar, std::to_string(row.what().threads)};
}

std::string ratio(const Summary* numerator, const Summary* denominator) {
  if (numerator == nullptr || denominator == nullptr) return "";
  return bench::digits(numerator->sample.milliseconds / denominator->sample.milliseconds, 3) + 'x';
}

// The library, and how much longer the others take.
void write_library(std::ostream& out, const Rows& all) {
  const std::string& library = all.implementations.front();
  std::vector<std::string> head{
      "work",          "type",           "threads",         "ms median [min..max]", "rate",
      "share of peak", "as if unmasked", "time / unmasked", "speed / 1 thread",     "scratch"};
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
                  bench::bytes_text(s->sample.scratch)});
    for (std::size_t i = 1; i < all.implementations.size(); ++i)
      cells.push_back(ratio(row.of(all.implementations[i]), s));
    write_line(out, cells);
  }
}

void write_losses(std::ostream& out, const Rows& all) {
  const std::string& library = all.implementations.front();
  std::size_t count = 0;
  for (const Row& row : all.rows) {
    const Summary* s = row.of(library);
    if (s == nullptr) continue;
    for (const Summary& other : row.summaries) {
      if (other.sample.milliseconds >= s->sample.milliseconds) continue;
      const auto cells = name_cells(row);
      out << (count++ == 0 ? "Rows in which somebody is faster:\n\n" : "") << "- " << cells[0]
          << ", " << cells[1] << ", " << cells[2] << " thread(s): " << other.sample.implementation
          << ' ' << bench::digits(other.sample.milliseconds, 3) << " ms, " << library << ' '
          << bench::digits(s->sample.milliseconds, 3) << " ms\n";
    }
  }
  if (count == 0) out << "Nobody is faster in any row.\n";
}

void write_everybody(std::ostream& out, const Rows& all) {
  write_head(out, {"work", "type", "threads", "who", "ms median [min..max]", "rate",
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
  for (const std::string& note : results.notes) out << "- " << note << '\n';
  out << "- 2 flops a multiply-add; attention 4 D a visible (query, key) pair; softmax, packing "
         "and masks 0. Backward: attention 10 D, a projection twice as much as forward, whatever "
         "is computed again.\n- Peak: register-only chains of multiply-adds, on as many threads, "
         "in the "
         "same process, before every repetition. For decoding it is a loop that reads the same "
         "memory.\n\n";
  write_library(out, all);
  out << '\n';
  write_losses(out, all);
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
