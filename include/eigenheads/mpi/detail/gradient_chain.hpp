// SPDX-License-Identifier: MIT
#pragma once
// Sums over the rows of all ranks, added up in the order of the rows, whoever has them: gradients of
// parameters. A sum goes from rank to rank as the rows do, and each adds its own to what the ranks
// before it have added: the bits are those of one process.
//
// One rank at a time adds to a sum, but a gradient is cut into parts, which follow each other from rank
// to rank. With n runs of rows on P ranks and S parts, this takes n / P + (P - 1) / S times as long as
// a run by itself. For each run that ends, the gradient is sent once: 4 E^2 numbers for a layer of
// width E. If rows traveled instead, and each rank added up a part for all of them, those would be
// 6 E numbers a row: more from 2 E / 3 rows a run on, and each rank would pack them all anew.
#include <array>
#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kernels/matmul_call.hpp>  // gradient_rows
#include <eigenheads/mpi/block_stream.hpp>     // StreamCost
#include <eigenheads/mpi/dealing.hpp>          // Dealing
#include <eigenheads/mpi/ranks.hpp>            // Ranks

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// Rows that follow each other and have one owner, in pieces of sequences; and who has those before and
// after them.
struct RowRun {
  int owner, before = -1, after = -1;  // -1: there are none
  std::vector<mpi::Dealing::Block> pieces{};

  [[nodiscard]] Index begin() const { return pieces.front().local; }  // among the owner's rows
  [[nodiscard]] Index end() const { return pieces.back().local + pieces.back().count(); }
};

// Of all ranks.
[[nodiscard]] inline std::vector<RowRun> runs_of(const mpi::Dealing& dealing) {
  std::vector<RowRun> runs;
  for (const mpi::Dealing::Block& block : dealing.blocks()) {
    if (runs.empty() || runs.back().owner != block.owner) {
      RowRun run{.owner = block.owner};
      if (!runs.empty()) {
        run.before = runs.back().owner;
        runs.back().after = block.owner;
      }
      runs.push_back(run);
    }
    std::vector<mpi::Dealing::Block>& pieces = runs.back().pieces;
    if (!pieces.empty() && pieces.back().b == block.b)
      pieces.back().end = block.end;
    else
      pieces.push_back(block);
  }
  return runs;
}

// Throws unless every block of rows that a gradient is a sum of is of one rank.
inline void require_whole_gradient_blocks(const mpi::Dealing& dealing) {
  const mpi::Dealing::Block* before = nullptr;
  for (const mpi::Dealing::Block& block : dealing.blocks()) {
    if (before != nullptr && before->b == block.b && before->owner != block.owner &&
        block.begin % gradient_rows != 0)
      refuse({"the dealing gives rank ", block.owner, " rows from ", block.begin,
              " of a sequence on, after those of rank ", before->owner, "; expected a multiple of ",
              gradient_rows, ", where blocks of gradients begin"});
    before = &block;
  }
}

// What adds up a part of a gradient. The first rank's run begins it, from zero.
struct ChainPart {
  std::array<std::span<std::byte>, 2> sums;  // of a weight and of a bias: either may be empty
  std::function<void(const RowRun& run)> add;
};

// Ends with the sums of all rows on the owner of the last run; without any row, writes nothing. No rank
// waits for another to take what it sends: each part has memory of its own, whose next receive is
// posted before the rank adds anything of that run.
inline void run_chain(mpi::Ranks& ranks, std::span<const RowRun> runs,
                      std::span<const ChainPart> parts) {
  std::vector<mpi::Ranks::Pending> sent(2 * parts.size()), received(2 * parts.size());
  for (const RowRun& run : runs) {
    if (run.owner != ranks.rank()) continue;
    for (std::size_t i = 0; i < received.size(); ++i) {
      ranks.wait(sent[i]);
      if (run.before >= 0) received[i] = ranks.receive(run.before, parts[i / 2].sums[i % 2]);
    }
    for (std::size_t i = 0; i < parts.size(); ++i) {
      for (const std::size_t j : {2 * i, 2 * i + 1}) ranks.wait(received[j]);
      parts[i].add(run);
      for (const std::size_t j : {2 * i, 2 * i + 1})
        if (run.after >= 0) sent[j] = ranks.send(run.after, parts[i].sums[j % 2]);
    }
  }
  ranks.wait(sent);
}

// What a rank sends and receives in it, of parts that have so many bytes together, in so many messages.
[[nodiscard]] inline mpi::StreamCost chain_cost(std::span<const RowRun> runs, int rank, Index bytes,
                                                Index messages) {
  mpi::StreamCost cost;
  for (const RowRun& run : runs) {
    if (run.owner != rank) continue;
    if (run.after >= 0) cost.bytes_sent += bytes, cost.messages_sent += messages;
    if (run.before >= 0) cost.bytes_received += bytes, cost.messages_received += messages;
  }
  return cost;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
