// SPDX-License-Identifier: MIT
// Somebody's program that is run by mpirun, or alone as one rank.
#include <cstdio>
#include <vector>

#include <eigenheads/mpi/environment.hpp>

int main(int argc, char** argv) {
  namespace mpi = eigenheads::mpi;
  mpi::Environment environment(argc, argv);
  return environment.run([](mpi::Ranks& ranks) {
    std::vector<float> values(6, static_cast<float>(ranks.rank()));
    ranks.together("a consumer", {{"values", 6}}, [&] { ranks.broadcast<float>(0, values); });
    return values[5] == 0 ? 0 : 1;
  });
}
