// SPDX-License-Identifier: MIT
#pragma once
// What a rank throws because of another one.
#include <stdexcept>
#include <string>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/version.hpp>  // EIGENHEADS_ABI

#if !defined(__cpp_exceptions)
#error "Eigenheads' mpi/ needs exceptions: by them one rank's failure reaches all."
#endif

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

// Another rank threw, or did not answer, or has left; `sentence` says which.
class RankError : public std::runtime_error {
 public:
  RankError(int rank, const std::string& sentence) : std::runtime_error(sentence), rank_(rank) {}
  // The one that is to blame.
  [[nodiscard]] int rank() const { return rank_; }

 private:
  int rank_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
