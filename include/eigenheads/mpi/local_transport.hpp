// SPDX-License-Identifier: MIT
#pragma once
// Ranks that are threads of one process: to try out and to test what is to run on many machines.
#include <functional>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/mpi/ranks.hpp>  // Ranks

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

// run(ranks) on `size` threads, each a rank of its own. Returns when all have; throws what the lowest
// rank that failed by itself (not by a RankError) threw.
void run_locally(int size, const std::function<void(Ranks&)>& run, RanksOptions options = {});

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
