// SPDX-License-Identifier: MIT
#pragma once
// Sums over the rows of all ranks that are added up in the order of the rows, whoever has them: those of
// the gradients of parameters. A sum goes from rank to rank as the rows do; each adds its own to what
// the ranks before it have added, so that the bits are those of one process.
//
// One rank at a time adds to a sum, but a gradient is many sums, its parts. They follow each other: with
// n runs of rows, P ranks and S parts, all is added up in (n + (P - 1) P / S) / P times the work of a
// run, instead of n. A rank sends as many bytes for a run as the gradient has, whatever the number of
// rows. To let the rows travel instead, and each rank add up a part for all of them, would send 6 E
// numbers for a row of a layer of width E, where this sends 4 E E for a run: less from 2 E / 3 rows on.
#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/mpi/dealing.hpp>  // Dealing
#include <eigenheads/mpi/ranks.hpp>    // Ranks

namespace eigenheads::inline EIGENHEADS_ABI::mpi::detail {

// Blocks of rows that follow each other and have one owner, in pieces of sequences; and who has the rows
// before and after them.
struct RowRun {
  int owner, before = -1, after = -1;  // -1: there are none
  std::vector<Dealing::Block> pieces;

  [[nodiscard]] Index begin() const { return pieces.front().local; }  // among the owner's rows
  [[nodiscard]] Index end() const { return pieces.back().local + pieces.back().count(); }
};

// Of all ranks.
[[nodiscard]] inline std::vector<RowRun> runs_of(const Dealing& dealing) {
  std::vector<RowRun> runs;
  for (const Dealing::Block& block : dealing.blocks()) {
    if (runs.empty() || runs.back().owner != block.owner) {
      RowRun run{.owner = block.owner};
      if (!runs.empty()) {
        run.before = runs.back().owner;
        runs.back().after = block.owner;
      }
      runs.push_back(run);
    }
    std::vector<Dealing::Block>& pieces = runs.back().pieces;
    if (!pieces.empty() && pieces.back().b == block.b)
      pieces.back().end = block.end;
    else
      pieces.push_back(block);
  }
  return runs;
}

// A sum, and what adds the rows of a run to it: from zero if it is the first run.
struct ChainPart {
  std::span<std::byte> sum;
  std::function<void(const RowRun& run)> add;
};

// Ends with the sums of all rows on the owner of the last run. Without any row, nothing is written. Each
// part has memory of its own, so no rank waits for another to take what it sends: a receive is posted
// before the rank adds to any part of a run.
inline void run_chain(Ranks& ranks, std::span<const RowRun> runs, std::span<ChainPart> parts) {
  std::vector<Ranks::Pending> sent(parts.size()), received(parts.size());
  for (const RowRun& run : runs) {
    if (run.owner != ranks.rank()) continue;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      ranks.wait(sent[i]);
      if (run.before >= 0) received[i] = ranks.receive(run.before, parts[i].sum);
    }
    for (std::size_t i = 0; i < parts.size(); ++i) {
      ranks.wait(received[i]);
      parts[i].add(run);
      if (run.after >= 0) sent[i] = ranks.send(run.after, parts[i].sum);
    }
  }
  ranks.wait(sent);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi::detail

#include <eigenheads/detail/macros_on.inl>
