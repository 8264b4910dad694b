// SPDX-License-Identifier: MIT
// The rounds of rounds.hpp, by ranks that are processes of MPI.
#include "../rounds.hpp"

#include <cstdio>

#include <eigenheads/mpi/environment.hpp>

int main(int argc, char** argv) {
  namespace mpi = eigenheads::mpi;
  mpi::Environment environment(argc, argv);
  return environment.run([](mpi::Ranks& ranks) {
    rounds::ring(ranks, 5, 1);
    rounds::ring(ranks, 500'000, 1);
    rounds::one_throws(ranks);
    rounds::two_throw(ranks);
    rounds::something_else_is_thrown(ranks);
    if (ranks.size() > 2) rounds::nobody_receives(ranks);
    rounds::calls_differ(ranks);
    rounds::random_failures(ranks, 200);
    return 0;
  });
}
