// SPDX-License-Identifier: MIT
#pragma once
// Which pages of a cache belong to which sequence: numbers only. Sequences may share pages; one that
// is to be written must first be the sequence's own. There are as many pages as all tables have
// places together: a page that is shared leaves another free, so there is always one to take.
#include <algorithm>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/version.hpp>  // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

class PageTable {
 public:
  PageTable(Index sequences, Index most_pages)
      : most_(most_pages),
        pages_(static_cast<std::size_t>(sequences * most_pages)),
        spare_pages_(pages_.size()),
        owners_(pages_.size()),
        counts_(static_cast<std::size_t>(sequences)),
        spare_counts_(counts_.size()) {
    free_.reserve(pages_.size());
    for (Index page = total(); page > 0; --page) free_.push_back(page - 1);
  }

  [[nodiscard]] Index total() const { return std::ssize(pages_); }
  [[nodiscard]] Index most() const { return most_; }  // of a sequence
  [[nodiscard]] Index count(Index b) const { return counts_[at(b)]; }
  [[nodiscard]] Index page(Index b, Index i) const { return pages_[at(b * most_ + i)]; }
  [[nodiscard]] bool is_shared(Index page) const { return owners_[at(page)] > 1; }

  // A page of the sequence's own, behind those that it has.
  Index append(Index b) {
    Index& count = counts_[at(b)];
    return pages_[at(b * most_ + count++)] = take();
  }
  // A page of its own in the place of one that it shares; what is in it is the caller's to copy.
  Index replace(Index b, Index i) {
    Index& page = pages_[at(b * most_ + i)];
    --owners_[at(page)];
    return page = take();
  }
  void drop(Index b, Index i) {  // the others close up
    Index* const pages = of(b);
    give_back(pages[i]);
    std::copy(pages + i + 1, pages + count(b), pages + i);
    --counts_[at(b)];
  }
  void keep(Index b, Index count) {  // the first ones
    for (Index i = count; i < this->count(b); ++i) give_back(page(b, i));
    counts_[at(b)] = (std::min)(count, this->count(b));
  }
  // Sequence b gets the pages that parents[b] had, all sequences at once.
  void reorder(std::span<const Index> parents) {
    for (std::size_t b = 0; b < parents.size(); ++b) {
      const Index parent = parents[b];
      std::copy_n(of(parent), count(parent), spare_pages_.data() + static_cast<Index>(b) * most_);
      spare_counts_[b] = count(parent);
      for (Index i = 0; i < count(parent); ++i) ++owners_[at(page(parent, i))];
    }
    for (Index b = 0; b < std::ssize(parents); ++b) keep(b, 0);
    std::swap(pages_, spare_pages_);
    std::swap(counts_, spare_counts_);
  }
  void fork(Index from, Index to) {
    if (from == to) return;
    for (Index i = 0; i < count(from); ++i) ++owners_[at(page(from, i))];
    keep(to, 0);
    std::copy_n(of(from), count(from), of(to));
    counts_[at(to)] = count(from);
  }

 private:
  [[nodiscard]] static std::size_t at(Index i) { return static_cast<std::size_t>(i); }
  [[nodiscard]] Index* of(Index b) { return pages_.data() + b * most_; }
  [[nodiscard]] Index take() {
    const Index page = free_.back();
    free_.pop_back();
    owners_[at(page)] = 1;
    return page;
  }
  void give_back(Index page) {
    if (--owners_[at(page)] == 0) free_.push_back(page);
  }

  Index most_;
  std::vector<Index> pages_, spare_pages_;  // [sequences, most]
  std::vector<Index> owners_;               // [total]: how many sequences have a page
  std::vector<Index> counts_, spare_counts_;
  std::vector<Index> free_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
