// SPDX-License-Identifier: MIT
#pragma once
// Which rank has which rows of a batch that is too long for one: rows are cut where blocks of keys
// begin, so that a block, which is a term of the sums by itself, lies on one rank.
//   const auto dealing = mpi::Dealing::of<float>({100'000, 3'000}, ranks.size());
//   Tensor<float, 2> mine = mpi::take_rows(x, dealing, ranks.rank());    // [N, E] -> [n, E]
// A rank's blocks lie one below the other, in the order that they have in the batch.
#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>        // Range, blocks_of
#include <eigenheads/kernels/matmul_call.hpp>  // gradient_rows
#include <eigenheads/kernels/rows.hpp>         // key_block
#include <eigenheads/mask.hpp>                 // BoundMask
#include <eigenheads/sequences.hpp>            // Sequences

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

enum class Deal {
  // Each rank has neighbouring blocks: least is sent, but with a causal mask the last rank computes
  // nearly twice its share.
  contiguous,
  // 2 P chunks of each sequence, of which rank r has chunks r and 2 P - 1 - r: with a causal mask every
  // rank computes the same in all, but not at every moment, since keys come from left to right.
  early_and_late,
  // Unit i goes to rank i mod P, counted over all sequences: ranks have the same to compute at every
  // moment, whatever the mask. Every rank has late rows, so nearly all keys reach all ranks.
  cyclic
};

struct DealingOptions {
  int ranks = 1;
  Index block = 0;  // keys of a block
  Deal deal = Deal::cyclic;
  Index together = 1;  // blocks that are dealt as one: a unit
};

class Dealing {
 public:
  // One block of rows and keys: rows [begin, end) of sequence b, which the owner has from row `local`
  // of its own on.
  struct Block {
    Index b, begin, end, local;
    int owner;

    [[nodiscard]] Index count() const { return end - begin; }
  };

  Dealing() : Dealing(Sequences(), {.ranks = 1, .block = 1}) {}  // of nothing
  // For attention of numbers of type T. Throws std::invalid_argument below 1 rank.
  template <class T>
  [[nodiscard]] static Dealing of(const Sequences& sequences, int ranks, Deal deal = Deal::cyclic) {
    // Gradients are sums of blocks of rows, which lie on one rank too.
    using eigenheads::detail::blocks_of, eigenheads::detail::gradient_rows;
    constexpr Index block = eigenheads::detail::key_block<T>;
    return Dealing(sequences, {.ranks = ranks,
                               .block = block,
                               .deal = deal,
                               .together = blocks_of(gradient_rows, block)});
  }
  // Of a padded batch, [B, L, E] read as [B * L, E]: the mask may then say how long each sequence is.
  template <class T>
  [[nodiscard]] static Dealing of_padded(Index B, Index L, int ranks, Deal deal = Deal::cyclic) {
    if (B < 0 || L < 0)
      eigenheads::detail::refuse(
          {"Dealing: of_padded gets B = ", B, " and L = ", L, "; expected 0 or more of both"});
    Dealing dealing = of<T>(std::vector<Index>(static_cast<std::size_t>(B), L), ranks, deal);
    dealing.is_padded_ = true;
    return dealing;
  }
  Dealing(const Sequences& sequences, const DealingOptions& options)
      : sequences_(sequences), options_(options) {
    if (options.ranks < 1)
      eigenheads::detail::refuse({"Dealing: ranks is ", options.ranks, "; expected 1 or more"});
    if (options.block < 1)
      eigenheads::detail::refuse({"Dealing: block is ", options.block, "; expected 1 or more"});
    if (options.together < 1)
      eigenheads::detail::refuse(
          {"Dealing: together is ", options.together, "; expected 1 or more"});
    local_rows_.resize(static_cast<std::size_t>(options.ranks));
    first_block_.push_back(0);
    first_unit_.push_back(0);
    for (Index b = 0; b < sequences.count(); ++b) {
      const Index blocks = eigenheads::detail::blocks_of(sequences.length(b), options.block);
      first_block_.push_back(first_block_.back() + blocks);
      first_unit_.push_back(first_unit_.back() +
                            eigenheads::detail::blocks_of(blocks, options.together));
    }
    blocks_.reserve(static_cast<std::size_t>(first_block_.back()));
    for (Index b = 0; b < sequences.count(); ++b)
      for (Index i = first_block_[static_cast<std::size_t>(b)]; i < end_block(b); ++i) {
        const Index begin = (i - first_block(b)) * options.block;
        const int owner = owner_of(b, first_unit(b) + (i - first_block(b)) / options.together);
        Index& rows = local_rows_[static_cast<std::size_t>(owner)];
        const Index end = (std::min)(begin + options.block, sequences.length(b));
        blocks_.push_back({b, begin, end, rows, owner});
        rows += end - begin;
      }
  }

  [[nodiscard]] const Sequences& sequences() const { return sequences_; }
  [[nodiscard]] int ranks() const { return options_.ranks; }
  [[nodiscard]] Index block_size() const { return options_.block; }
  [[nodiscard]] Deal deal() const { return options_.deal; }
  [[nodiscard]] Index together() const { return options_.together; }
  [[nodiscard]] bool is_padded() const { return is_padded_; }
  // For a BoundMask. Refers to this object.
  [[nodiscard]] eigenheads::detail::SequenceRows as_rows() const {
    return is_padded_ ? eigenheads::detail::SequenceRows(sequences_.count(), sequences_.longest())
                      : sequences_.as_rows();
  }

  // Of all sequences, in their order; an empty sequence has none. Those of sequence b are
  // [first_block(b), end_block(b)).
  [[nodiscard]] const std::vector<Block>& blocks() const { return blocks_; }
  [[nodiscard]] Index first_block(Index b) const {
    return first_block_[static_cast<std::size_t>(b)];
  }
  [[nodiscard]] Index end_block(Index b) const { return first_block(b + 1); }

  [[nodiscard]] Index local_rows(int rank) const {
    return local_rows_[static_cast<std::size_t>(rank)];
  }
  // [ranks]
  [[nodiscard]] const std::vector<Index>& local_rows() const { return local_rows_; }

  // What a rank has of one sequence without a gap: blocks that follow each other, in one.
  [[nodiscard]] std::vector<Block> pieces_of(int rank) const {
    std::vector<Block> pieces;
    for (const Block& block : blocks_) {
      if (block.owner != rank) continue;
      if (!pieces.empty() && pieces.back().b == block.b && pieces.back().end == block.begin)
        pieces.back().end = block.end;
      else
        pieces.push_back(block);
    }
    return pieces;
  }
  // The same as ranges of the rows of all sequences, [N, E].
  [[nodiscard]] std::vector<eigenheads::detail::Range> rows_of(int rank) const {
    std::vector<eigenheads::detail::Range> ranges;
    for (const Block& piece : pieces_of(rank)) {
      const Index first = sequences_.begin(piece.b);
      ranges.push_back({first + piece.begin, first + piece.end});
    }
    return ranges;
  }

 private:
  [[nodiscard]] Index first_unit(Index b) const { return first_unit_[static_cast<std::size_t>(b)]; }
  // Unit i of blocks that are dealt as one, counted over all sequences, is one of sequence b.
  [[nodiscard]] int owner_of(Index b, Index i) const {
    const Index P = options_.ranks, all = first_unit_.back();
    // The rank whose share [n r / P, n (r + 1) / P) of n holds i.
    const auto share_of = [](Index at, Index n, Index shares) {
      return ((at + 1) * shares - 1) / n;
    };
    switch (options_.deal) {
      case Deal::contiguous:
        return static_cast<int>(share_of(i, all, P));
      case Deal::early_and_late: {
        const Index first = first_unit(b);
        const Index chunk = share_of(i - first, first_unit(b + 1) - first, 2 * P);
        // Short sequences do not all begin on the same rank.
        return static_cast<int>(((std::min)(chunk, 2 * P - 1 - chunk) + first) % P);
      }
      case Deal::cyclic:
        break;
    }
    return static_cast<int>(i % P);
  }

  Sequences sequences_;
  DealingOptions options_;
  bool is_padded_ = false;
  std::vector<Index> first_block_, first_unit_;  // [B + 1]
  std::vector<Block> blocks_;
  std::vector<Index> local_rows_;
};

// x: [N, E], the rows of all -> [n, E], those of a rank.
template <eigenheads::detail::TensorLike X>
requires(rank_of<X> == 2)
[[nodiscard]] Tensor<element_of<X>, 2> take_rows(const X& x, const Dealing& dealing, int rank) {
  using T = element_of<X>;
  const TensorView<T, 2> all(x);
  eigenheads::detail::require_rows("x", all, dealing.sequences());
  const Index E = all.dimension(1);
  auto mine = eigenheads::detail::make_tensor<T>("rows", std::array{dealing.local_rows(rank), E});
  T* to = mine.data();
  for (const eigenheads::detail::Range& range : dealing.rows_of(rank))
    to = std::copy_n(all.data() + range.begin * E, range.count() * E, to);
  return mine;
}

// The way back: those of a rank, to where they are among all. x: [N, E], mine: [n, E].
template <eigenheads::detail::TensorLike X, eigenheads::detail::TensorLike Mine>
requires(rank_of<X> == 2 && rank_of<Mine> == 2)
void put_rows(X& x, const Mine& mine, const Dealing& dealing, int rank) {
  using T = element_of<X>;
  const TensorSpan<T, 2> all(x);
  const TensorView<T, 2> from(mine);
  eigenheads::detail::require_rows("x", TensorView<T, 2>(x), dealing.sequences());
  require_shape("rows", from, "[n, E]", {dealing.local_rows(rank), all.dimension(1)});
  const Index E = all.dimension(1);
  const T* next = from.data();
  for (const eigenheads::detail::Range& range : dealing.rows_of(rank)) {
    std::copy_n(next, range.count() * E, all.data() + range.begin * E);
    next += range.count() * E;
  }
}

// Pairs of a query of the rank and a key that it sees, by lengths, causality and window.
[[nodiscard]] inline Index visible_pairs(const BoundMask& mask, const Dealing& dealing, int rank) {
  Index pairs = 0;
  for (const Dealing::Block& piece : dealing.pieces_of(rank))
    for (Index q = piece.begin; q < piece.end; ++q)
      pairs += mask.key_range(piece.b, q).count() - mask.gap(piece.b, q).count();
  return pairs;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
