// SPDX-License-Identifier: MIT
#pragma once
// The backward pass of attention whose rows are spread over ranks, with the bits of one process. Blocks
// travel twice (block_stream.hpp), each time past sums that they are added to in the order in which one
// process adds them up (kernels/backward_call.hpp):
//   keys and values, past the queries      dQ          query_gradients.hpp
//   queries and dO, past the keys          dK, dV      key_gradients.hpp
// So scores and dP are computed twice, 7 products for a pair where one process has 5. To compute them
// once, dQ, or dK and dV, would have to travel along, and every block wait for the one before it in two
// orders at once.
#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <eigenheads/context.hpp>       // Context
#include <eigenheads/detail/arena.hpp>  // Frame
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kernels/schedule/backward_packed.hpp>  // attend_backward_packed
#include <eigenheads/mpi/block_stream.hpp>                  // BlockStream
#include <eigenheads/mpi/detail/gradient_chain.hpp>         // ChainPart, RowRun
#include <eigenheads/mpi/detail/key_gradients.hpp>          // KeyGradients
#include <eigenheads/mpi/detail/query_gradients.hpp>        // QueryGradients
#include <eigenheads/mpi/detail/rank_backward.hpp>          // RankBackward

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// One pass: `blocks` is the plan, `sums` packs and uses what travels.
template <class Plan, class Sums>
void pass_blocks(const Plan& blocks, Sums& sums, mpi::Ranks& ranks, Context& context) {
  const std::vector<mpi::BlockStep> steps = mpi::steps_of(blocks, ranks.rank(), ranks.size());
  const Frame frame(context);
  const Index bytes = mpi::stream_buffers * mpi::buffer_bytes(steps);
  auto* const buffers = frame.take<std::byte>(bytes);
  const auto pack = [&](Index i, std::span<std::byte> to) { sums.pack(i, to); };
  mpi::BlockStream stream(ranks, steps, {buffers, static_cast<std::size_t>(bytes)}, pack);
  stream.run([&](Index i, std::span<const std::byte> block) {
    sums.use(i, block, [&] { stream.advance(); });
  });
}

// Writes dQ, dK and dV of this rank's rows. local.call.delta is given. Within a round of the ranks.
template <class T>
void attend_backward(const RankBackward<T>& local, mpi::Ranks& ranks, Context& context) {
  if (ranks.size() == 1) {
    if (local.call.mask->is_packed())
      attend_backward_packed(local.whole(), context);
    else
      attend_backward(local.whole(), context);
    return;
  }
  const Frame frame(context);
  RankTasks<T> tasks(local, frame, context);
  {
    const Frame sums(context);
    QueryGradients<T> queries(local, tasks, sums);
    pass_blocks(local.needed, queries, ranks, context);
    queries.finish();
  }
  const QueryBlocks<T> blocks({local.call.shape, local.call.heads, local.call.gates}, local.needed,
                              local.rows.dealing());
  KeyGradients<T> keys(local, blocks, tasks);
  pass_blocks(blocks, keys, ranks, context);
}

// Who has the last row of sequence b; -1: there is none.
[[nodiscard]] inline int last_owner(const mpi::Dealing& dealing, Index b) {
  const Index end = dealing.end_block(b);
  if (end == dealing.first_block(b)) return -1;
  return dealing.blocks()[static_cast<std::size_t>(end - 1)].owner;
}
// Of each rank: how many numbers it has for all others in the end, those of a gate and of a sink for
// each of `heads` heads of its sequences.
[[nodiscard]] inline std::vector<Index> count_head_sums(const mpi::Dealing& dealing, Index heads) {
  std::vector<Index> counts(static_cast<std::size_t>(dealing.ranks()));
  for (Index b = 0; b < dealing.sequences().count(); ++b)
    if (const int owner = last_owner(dealing, b); owner >= 0)
      counts[static_cast<std::size_t>(owner)] += 2 * heads;
  return counts;
}

// The gradients of gates and sinks, which one process adds up over the queries of each head in turn, in
// double: so they go from rank to rank as those of parameters do, and are gathered in the end.
template <class T>
class HeadSumChain {
 public:
  HeadSumChain(const RankBackward<T>& local, const Frame& frame, Context& context)
      : local_(local), context_(context) {
    const Index B = local.call.shape.B, H = local.call.shape.H;
    sums_ = frame.take<HeadSums>(H);
    gates_ = frame.take<T>(B * H);
    sinks_ = frame.take<double>(B * H);
    std::fill_n(sums_, H, HeadSums{});
    std::fill_n(gates_, B * H, T(0));
    std::fill_n(sinks_, B * H, 0.0);
  }

  [[nodiscard]] ChainPart part() {
    const std::span<HeadSums> sums(sums_, static_cast<std::size_t>(local_.call.shape.H));
    return {{std::as_writable_bytes(sums), {}}, [this](const RowRun& run) { add(run); }};
  }
  // Whoever has the last rows of a sequence has the sums of its heads: now all ranks do.
  void gather(mpi::Ranks& ranks) {
    const Index B = local_.call.shape.B, H = local_.call.shape.H;
    const mpi::Dealing& dealing = local_.rows.dealing();
    const std::vector<Index> counts = count_head_sums(dealing, H);
    std::vector<double> mine, all;
    for (Index b = 0; b < B; ++b)
      for (Index i = b * H; last_owner(dealing, b) == ranks.rank() && i < (b + 1) * H; ++i)
        mine.insert(mine.end(), {static_cast<double>(gates_[i]), sinks_[i]});
    Index total = 0;
    for (const Index count : counts) total += count;
    all.resize(static_cast<std::size_t>(total));
    ranks.all_gather<double>(mine, counts, all);
    auto next = all.begin();
    for (int rank = 0; rank < ranks.size(); ++rank)
      for (Index b = 0; b < B; ++b)
        for (Index i = b * H; last_owner(dealing, b) == rank && i < (b + 1) * H; ++i) {
          gates_[i] = static_cast<T>(*next++);
          sinks_[i] = *next++;
        }
  }

  [[nodiscard]] const T* gates() const { return gates_; }       // [B, H]
  [[nodiscard]] const double* sinks() const { return sinks_; }  // [B, H]

 private:
  void add(const RowRun& run) {
    const Frame frame(context_);
    RankTasks<T> tasks(local_, frame, context_);
    for (const mpi::Dealing::Block& piece : run.pieces) {
      AttentionBackwardCall<T> call = local_.of_sequence(piece.b);
      local_.place_queries(call, piece);
      call.grad_gates = gates_;
      call.grad_sinks = call.sinks == nullptr ? nullptr : sinks_;
      tasks.set_call(call);
      const Index per_head = call.blocks_per_head(), first = piece.begin / backward_queries;
      for (Index g = 0; g < call.shape.G; ++g)
        for (Index i = 0; i < call.heads.count(call.shape, piece.b, g); ++i) {
          const Index begin = i * per_head + first;
          tasks.add({.b = piece.b,
                     .g = g,
                     .keys = {0, 0},  // of no key: what begins the sums of queries is all there is
                     .blocks = {begin, begin + blocks_of(piece.count(), backward_queries)},
                     .cut = {.of_head = sums_ + call.heads.head(call.shape, piece.b, g, i)}});
        }
      tasks.run();
    }
  }

  const RankBackward<T>& local_;
  Context& context_;
  HeadSums* sums_;
  T* gates_;
  double* sinks_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
