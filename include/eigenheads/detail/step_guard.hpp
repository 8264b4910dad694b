// SPDX-License-Identifier: MIT
#pragma once
// A step of several parts: what fails after one of them has taken its own.
#include <eigenheads/detail/arena.hpp>  // Frame
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/version.hpp>  // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// Takes the tokens of a step that did not end out of its caches again; heads_of(i): the CachedHeads of
// layer i. If one of them, a ring, has let go of what a sequence saw before, the sequence is empty in
// all: it must neither hold part of a step, nor different tokens in different layers.
template <class HeadsOf>
class StepGuard {
 public:
  StepGuard(Index layers, const HeadsOf& heads_of, const Frame& frame)
      : layers_(layers),
        sequences_(heads_of(0).size().sequences),
        heads_of_(heads_of),
        lengths_(frame.template take<Index>(layers * sequences_)),
        oldest_(frame.template take<Index>(layers * sequences_)) {
    for (Index i = 0; i < layers; ++i)
      for (Index b = 0; b < sequences_; ++b) {
        lengths_[i * sequences_ + b] = heads_of(i).length(b);
        oldest_[i * sequences_ + b] = heads_of(i).oldest(b);
      }
  }
  StepGuard(const StepGuard&) = delete;
  StepGuard& operator=(const StepGuard&) = delete;
  ~StepGuard() {
    for (Index b = 0; !is_done && b < sequences_; ++b) {
      bool can_go_back = true;
      for (Index i = 0; i < layers_; ++i)
        can_go_back = can_go_back && heads_of_(i).can_go_back(b, lengths_[i * sequences_ + b]);
      for (Index i = 0, at = b; i < layers_; ++i, at += sequences_)
        if (can_go_back)
          heads_of_(i).go_back(b, lengths_[at], oldest_[at]);
        else
          heads_of_(i).reset(b);
    }
  }

  bool is_done = false;

 private:
  Index layers_, sequences_;
  const HeadsOf heads_of_;
  Index *lengths_, *oldest_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
