// SPDX-License-Identifier: MIT
#pragma once
// A rank's rows as the steps of a layer take them: pieces of sequences, one below the other, each of
// which knows where it stands in its sequence.
#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>         // Range
#include <eigenheads/detail/sequence_rows.hpp>  // SequenceRows
#include <eigenheads/kernels/layout.hpp>        // StridedMatrix
#include <eigenheads/layer/participation.hpp>   // Participation
#include <eigenheads/mpi/dealing.hpp>           // Dealing

namespace eigenheads::inline EIGENHEADS_ABI::detail {

class DealtRows {
 public:
  DealtRows(const mpi::Dealing& dealing, int rank)
      : dealing_(dealing),
        pieces_(dealing.pieces_of(rank)),
        of_sequence_(static_cast<std::size_t>(dealing.sequences().count()), Range{0, 0}) {
    begins_.reserve(pieces_.size() + 1);
    begins_.push_back(0);
    for (const mpi::Dealing::Block& piece : pieces_) {
      begins_.push_back(begins_.back() + piece.count());
      longest_ = (std::max)(longest_, piece.count());
      Range& rows = of_sequence_[static_cast<std::size_t>(piece.b)];
      if (rows.count() == 0) rows.begin = piece.local;
      rows.end = piece.local + piece.count();
    }
  }

  [[nodiscard]] const mpi::Dealing& dealing() const { return dealing_; }
  [[nodiscard]] Index count() const { return begins_.back(); }
  [[nodiscard]] std::span<const mpi::Dealing::Block> pieces() const { return pieces_; }
  // This rank's rows of sequence b: they lie one below the other.
  [[nodiscard]] const Range& of_sequence(Index b) const {
    return of_sequence_[static_cast<std::size_t>(b)];
  }
  // Pieces as if they were packed sequences. Refers to this object.
  [[nodiscard]] SequenceRows as_rows() const {
    return {std::ssize(pieces_), longest_, begins_.data()};
  }

  // What of `ranges` of all rows, in order, this rank has, as ranges of its own rows. They are kept in
  // `storage`, which is not to grow afterwards.
  [[nodiscard]] std::span<const Range> local(std::span<const Range> ranges,
                                             std::vector<Range>& storage) const {
    storage.clear();
    auto range = ranges.begin();
    for (const mpi::Dealing::Block& piece : pieces_) {
      const Index first = dealing_.sequences().begin(piece.b) + piece.begin;
      const Index last = first + piece.count();
      while (range != ranges.end() && range->end <= first) ++range;
      for (auto next = range; next != ranges.end() && next->begin < last; ++next) {
        const Range part{piece.local + (std::max)(next->begin, first) - first,
                         piece.local + (std::min)(next->end, last) - first};
        if (!storage.empty() && storage.back().end == part.begin)
          storage.back().end = part.end;
        else
          storage.push_back(part);
      }
    }
    return storage;
  }

 private:
  const mpi::Dealing& dealing_;
  std::vector<mpi::Dealing::Block> pieces_;
  std::vector<Index> begins_;       // [pieces + 1]
  std::vector<Range> of_sequence_;  // [B]
  Index longest_ = 0;
};

// Who takes part in a call of all rows, as far as it is of this rank's.
class DealtParticipation {
 public:
  DealtParticipation(const Participation& all, const DealtRows& rows) : part_(all) {
    part_.queries = rows.local(all.queries, queries_);
    part_.keys = rows.local(all.keys, keys_);
    group_rows_.resize(all.outputs.size());
    groups_.reserve(all.outputs.size());
    for (const OutputGroup& group : all.outputs)
      groups_.push_back({rows.local(group.rows, group_rows_[groups_.size()]), group.inputs});
    part_.outputs = groups_;
  }
  DealtParticipation(const DealtParticipation&) = delete;
  DealtParticipation& operator=(const DealtParticipation&) = delete;

  [[nodiscard]] const Participation& get() const { return part_; }

 private:
  Participation part_;
  std::vector<Range> queries_, keys_;
  std::vector<std::vector<Range>> group_rows_;
  std::vector<OutputGroup> groups_;
};

// Rows of a rank, so that at(b, h, q) is row q of the sequence that the piece is of. Only those of the
// piece are there.
template <class T>
[[nodiscard]] StridedMatrix<T> of_piece(const StridedMatrix<T>& rows,
                                        const mpi::Dealing::Block& piece) {
  return rows.of_sequence(piece.local - piece.begin);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
