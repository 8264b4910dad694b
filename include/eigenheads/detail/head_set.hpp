// SPDX-License-Identifier: MIT
#pragma once
// Which of the heads that a layer was made with are left, and which key/value head each reads.
#include <algorithm>
#include <cstddef>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>   // refuse
#include <eigenheads/tensor.hpp>  // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

class HeadSet {
 public:
  // All of them; heads / kv_heads side by side read the same key/value head.
  HeadSet(Index heads, Index kv_heads) : original_count_(heads), kv_count_(kv_heads) {
    for (Index h = 0; h < heads; ++h) {
      originals_.push_back(h);
      kv_heads_.push_back(h / (heads / kv_heads));
    }
  }

  friend bool operator==(const HeadSet&, const HeadSet&) = default;

  [[nodiscard]] Index original_count() const { return original_count_; }  // before pruning
  [[nodiscard]] Index count() const { return static_cast<Index>(originals_.size()); }
  [[nodiscard]] Index kv_count() const { return kv_count_; }
  [[nodiscard]] bool is_whole() const { return count() == original_count_; }

  // Of each head that is left, which it was, and what it reads. Both ascend.
  [[nodiscard]] const std::vector<Index>& originals() const { return originals_; }
  [[nodiscard]] const std::vector<Index>& kv_heads() const { return kv_heads_; }
  [[nodiscard]] Index kv_head(Index h) const { return kv_heads_[static_cast<std::size_t>(h)]; }

  // Positions in this set, in order: the heads that stay without `heads`, and the key/value heads
  // that they read. Throws std::invalid_argument for a head that is not here, or is named twice.
  struct Kept {
    std::vector<Index> heads, kv_heads;
  };
  [[nodiscard]] Kept without(const std::vector<Index>& heads) const {
    std::vector<Index> goes(originals_.size());  // 1, or 0
    for (const Index h : heads) {
      if (h < 0 || h >= count())
        refuse({"prune_heads: there is no head ", h, "; the layer has ", count(),
                " heads, counted from 0"});
      if (goes[static_cast<std::size_t>(h)] != 0)
        refuse({"prune_heads: head ", h, " is named twice"});
      goes[static_cast<std::size_t>(h)] = 1;
    }
    Kept kept;
    for (Index h = 0; h < count(); ++h) {
      if (goes[static_cast<std::size_t>(h)] != 0) continue;
      kept.heads.push_back(h);
      if (kept.kv_heads.empty() || kept.kv_heads.back() != kv_head(h))
        kept.kv_heads.push_back(kv_head(h));
    }
    return kept;
  }
  [[nodiscard]] HeadSet part(const Kept& kept) const {
    HeadSet set(*this);
    set.originals_.clear();
    set.kv_heads_.clear();
    set.kv_count_ = static_cast<Index>(kept.kv_heads.size());
    for (const Index h : kept.heads) {
      set.originals_.push_back(originals_[static_cast<std::size_t>(h)]);
      const auto read = std::ranges::find(kept.kv_heads, kv_head(h));
      set.kv_heads_.push_back(read - kept.kv_heads.begin());
    }
    return set;
  }

 private:
  Index original_count_, kv_count_;
  std::vector<Index> originals_, kv_heads_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
