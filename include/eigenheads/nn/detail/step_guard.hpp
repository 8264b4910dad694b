// SPDX-License-Identifier: MIT
#pragma once
// A step of a module that is made of others: what fails after a part of it has taken its own.
#include <eigenheads/detail/arena.hpp>  // Frame
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/version.hpp>  // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// Takes the tokens of a step that did not end out of the cache again. A sequence of a ring that has
// let go of what it saw before is empty then: its layers must not hold different tokens.
template <class Cache>
class StepGuard {
 public:
  StepGuard(Cache& cache, const Frame& frame)
      : cache_(cache), lengths_(frame.template take<Index>(cache.batch_size())) {
    for (Index b = 0; b < cache.batch_size(); ++b) lengths_[b] = cache.length(b);
  }
  StepGuard(const StepGuard&) = delete;
  StepGuard& operator=(const StepGuard&) = delete;
  ~StepGuard() {
    for (Index b = 0; !is_done && b < cache_.batch_size(); ++b)
      if (lengths_[b] < cache_.shortest(b))
        cache_.reset(b);
      else
        cache_.truncate(b, lengths_[b]);
  }

  bool is_done = false;

 private:
  Cache& cache_;
  Index* lengths_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
