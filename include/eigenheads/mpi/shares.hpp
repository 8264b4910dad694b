// SPDX-License-Identifier: MIT
#pragma once
// Who has which heads, or which outputs of a projection.
//   Shares::even(10, 4)               3, 3, 2, 2
//   head_shares(heads, 2).heads       8 heads of which each 4 read one key/value head: 4, 4
// Where there are fewer than ranks, the last ranks have none: they are idle, and take part in what all
// do with nothing of their own.
#include <algorithm>
#include <cstddef>
#include <utility>
#include <vector>

#include <eigenheads/detail/head_set.hpp>  // HeadSet
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>  // Range
#include <eigenheads/error.hpp>          // refuse
#include <eigenheads/tensor.hpp>         // Index

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

// [0, total()) cut into a range for each rank, in their order.
class Shares {
 public:
  // As even as can be: the first total % ranks ranks have one more. Throws std::invalid_argument for
  // less than nothing, or no ranks.
  [[nodiscard]] static Shares even(Index total, int ranks) {
    if (total < 0 || ranks < 1)
      eigenheads::detail::refuse({"Shares: ", total, " things are shared out over ", ranks,
                                  " ranks; expected 0 or more, over 1 or more"});
    Shares shares;
    const Index least = total / ranks, longer = total % ranks;
    for (Index rank = 0; rank <= ranks; ++rank)
      shares.begins_.push_back(rank * least + (std::min)(rank, longer));
    return shares;
  }
  // Rank r has [begins[r], begins[r + 1]). Throws std::invalid_argument unless they begin with 0 and do
  // not fall.
  [[nodiscard]] static Shares from_begins(std::vector<Index> begins) {
    if (begins.size() < 2 || begins[0] != 0 || !std::ranges::is_sorted(begins))
      eigenheads::detail::refuse(
          {"Shares: expected where the share of each rank begins, and at the end the total"});
    Shares shares;
    shares.begins_ = std::move(begins);
    return shares;
  }
  // Every thing becomes `width` of them: those of heads are those of their columns.
  [[nodiscard]] Shares times(Index width) const {
    Shares shares(*this);
    for (Index& begin : shares.begins_) begin *= width;
    return shares;
  }

  friend bool operator==(const Shares&, const Shares&) = default;

  [[nodiscard]] int ranks() const { return static_cast<int>(begins_.size()) - 1; }
  [[nodiscard]] Index total() const { return begins_.back(); }
  [[nodiscard]] eigenheads::detail::Range of(int rank) const {
    const auto at = static_cast<std::size_t>(rank);
    return {begins_[at], begins_[at + 1]};
  }
  [[nodiscard]] Index count(int rank) const { return of(rank).count(); }

 private:
  Shares() = default;
  std::vector<Index> begins_;  // [ranks + 1]
};

struct HeadShares {
  Shares heads, kv_heads;
};

// Key/value heads as even as can be, each with all query heads that read it: no key is projected twice.
[[nodiscard]] inline HeadShares head_shares(const eigenheads::detail::HeadSet& heads, int ranks) {
  const Shares kv_heads = Shares::even(heads.kv_count(), ranks);
  std::vector<Index> begins{0};
  for (int rank = 0; rank < ranks; ++rank) {
    const auto& read = heads.kv_heads();  // ascends
    begins.push_back(std::ranges::lower_bound(read, kv_heads.of(rank).end) - read.begin());
  }
  return {Shares::from_begins(std::move(begins)), kv_heads};
}

// [range.begin, range.end), one by one.
[[nodiscard]] inline std::vector<Index> each_of(eigenheads::detail::Range range) {
  std::vector<Index> all;
  for (Index i = range.begin; i < range.end; ++i) all.push_back(i);
  return all;
}

// The heads of a rank, which go on being called by their numbers in the whole layer.
[[nodiscard]] inline eigenheads::detail::HeadSet heads_of(const eigenheads::detail::HeadSet& heads,
                                                          const HeadShares& shares, int rank) {
  return heads.part({each_of(shares.heads.of(rank)), each_of(shares.kv_heads.of(rank))});
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
