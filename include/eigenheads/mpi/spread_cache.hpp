// SPDX-License-Identifier: MIT
#pragma once
// A cache of keys and values that is spread over ranks (kv_cache.hpp is one process's): block j of the
// keys of sequence b is on rank (b + j) mod P, so each rank holds its share of every long sequence.
#include <algorithm>
#include <cstddef>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kv_cache.hpp>   // KvCacheOptions, CachedHeads
#include <eigenheads/mpi/ranks.hpp>  // Ranks

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

template <Scalar T>
class SpreadCache {
 public:
  static constexpr Index key_block = eigenheads::detail::key_block<T>;

  // The sizes of the whole, the same on all ranks; a window has to come from the mask of each step.
  // Takes this rank's share of the memory at once. Throws std::invalid_argument for sizes that are none.
  SpreadCache(const KvCacheOptions& options, const Ranks& ranks)
      : rank_(ranks.rank()),
        ranks_(ranks.size()),
        capacity_(options.capacity),
        heads_(share_of(options, ranks)),  // which refuses sizes that are none
        lengths_(static_cast<std::size_t>(options.batch_size)) {}

  // Whether it was made for this rank of so many.
  [[nodiscard]] bool is_for(const Ranks& ranks) const {
    return rank_ == ranks.rank() && ranks_ == ranks.size();
  }
  void require_for(const Ranks& ranks) const {
    if (!is_for(ranks))
      eigenheads::detail::refuse({"step: the cache is rank ", rank_, "'s of ", ranks_,
                                  " ranks; expected one of rank ", ranks.rank(), " of ",
                                  ranks.size(), " ranks"});
  }
  [[nodiscard]] Index batch_size() const { return std::ssize(lengths_); }
  [[nodiscard]] Index num_kv_heads() const { return heads_.size().heads; }
  [[nodiscard]] Index head_size() const { return heads_.size().head_size; }
  [[nodiscard]] Index capacity() const { return capacity_; }
  [[nodiscard]] Index bytes() const { return heads_.bytes(); }  // of this rank
  [[nodiscard]] Index length(Index b) const {
    require_sequence("length", b);
    return lengths_[static_cast<std::size_t>(b)];
  }

  // Cuts sequence b down to its first `length` tokens: by all ranks, as none asks another.
  void truncate(Index b, Index length) {
    require_sequence("truncate", b);
    if (length < 0 || length > this->length(b))
      eigenheads::detail::refuse({"truncate: sequence ", b, " has ", this->length(b),
                                  " tokens; expected a length of 0 to ", this->length(b), ", got ",
                                  length});
    heads_.truncate(b, tokens_here(b, length));
    lengths_[static_cast<std::size_t>(b)] = length;
  }
  void reset() {
    heads_.reset();
    std::fill(lengths_.begin(), lengths_.end(), 0);
  }

  // ---- For steps (spread_step.hpp) ---------------------------------------------------------------

  [[nodiscard]] int owner(Index b, Index block) const {
    return static_cast<int>((b + block) % ranks_);
  }
  [[nodiscard]] bool is_here(Index b, Index block) const { return owner(b, block) == rank_; }
  // Which of this rank's blocks of its sequence that is.
  [[nodiscard]] Index place_here(Index block) const { return block / ranks_; }
  // How many of the first `length` tokens of a sequence are on this rank: its first ones there.
  [[nodiscard]] Index tokens_here(Index b, Index length) const {
    const Index whole = length / key_block;
    const Index first = ((rank_ - b) % ranks_ + ranks_) % ranks_;  // its first block here
    const Index blocks = eigenheads::detail::blocks_of((std::max)(whole - first, Index{0}), ranks_);
    return blocks * key_block + (is_here(b, whole) ? length % key_block : 0);
  }
  [[nodiscard]] eigenheads::detail::CachedHeads<T>& heads() { return heads_; }
  // The tokens are written.
  void commit(Index b, Index count) {
    const Index length = this->length(b);
    heads_.commit(b, tokens_here(b, length + count) - tokens_here(b, length));
    lengths_[static_cast<std::size_t>(b)] = length + count;
  }

 private:
  [[nodiscard]] static eigenheads::detail::CacheSize share_of(const KvCacheOptions& options,
                                                              const Ranks& ranks) {
    if (options.window != 0)
      eigenheads::detail::refuse({"SpreadCache: window is ", options.window,
                                  "; expected 0: all tokens are kept, and masks have windows"});
    auto size = eigenheads::detail::checked_size(options, eigenheads::detail::StoredAs::itself);
    using eigenheads::detail::blocks_of;
    size.capacity = blocks_of(blocks_of(options.capacity, key_block), ranks.size()) * key_block;
    return size;
  }
  void require_sequence(const char* what, Index b) const {
    if (b < 0 || b >= batch_size())
      eigenheads::detail::refuse(
          {what, ": there is no sequence ", b, "; expected 0 to less than ", batch_size()});
  }

  Index rank_, ranks_, capacity_;
  eigenheads::detail::CachedHeads<T> heads_;
  std::vector<Index> lengths_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
