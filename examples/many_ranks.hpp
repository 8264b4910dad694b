// SPDX-License-Identifier: MIT
#pragma once
// Training in as many processes as mpirun starts, or in one:
//   mpirun -n 4 PROGRAM train --threads 1
// Built without MPI, a program is one process, and says so where mpirun has started more.
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <optional>
#include <stdexcept>
#include <string>

#include <eigenheads/io/safetensors.hpp>  // Safetensors
#include <eigenheads/mpi/rank_error.hpp>  // RankError
#include <eigenheads/mpi/ranks.hpp>       // Ranks
#if defined(EXAMPLES_HAVE_MPI)
#include <eigenheads/mpi/environment.hpp>  // Environment
#endif

#include "command_line.hpp"    // CommandLine, Option
#include "training_state.hpp"  // shards_in

namespace many_ranks {

using eigenheads::mpi::Ranks;

// How many processes mpirun has started with this one: as Open MPI or MPICH tell it. 0: this one
// was started alone.
[[nodiscard]] inline int started_together() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE"})
    if (const char* const size = std::getenv(name)) return std::atoi(size);
  return 0;
}

// run(ranks) with the ranks of mpirun, or with none. What all ranks were given, a command line or a
// checkpoint, all refuse: the first one speaks. What another one throws alone the first one hears
// of, as it leaves, and says.
template <class Run>
int run_on_ranks(const Run& run) {
  if (started_together() == 0) return run(static_cast<Ranks*>(nullptr));
#if defined(EXAMPLES_HAVE_MPI)
  int argc = 0;
  char** argv = nullptr;
  eigenheads::mpi::Environment environment(argc, argv);
  return environment.run([&](Ranks& ranks) {
    try {
      return run(&ranks);
    } catch (const eigenheads::mpi::RankError&) {
      throw;
    } catch (const std::exception& error) {
      if (ranks.rank() == 0) throw;
      ranks.leave(error.what());
      throw eigenheads::mpi::RankError(ranks.rank(), error.what());
    }
  });
#else
  if (started_together() == 1) return run(static_cast<Ranks*>(nullptr));
  throw std::runtime_error("mpirun has started " + std::to_string(started_together()) +
                           " processes; expected one, as this program was built without MPI");
#endif
}

[[nodiscard]] inline bool is_first(const Ranks* ranks) {
  return ranks == nullptr || ranks->rank() == 0;
}

inline constexpr command_line::Option kShards{
    "--shards", "N",
    "that a batch is cut into, and ranks share out: other weights (1; 8 of\nmany ranks)"};

// As was asked for, or as the run was that goes on.
[[nodiscard]] inline std::int64_t shards_of(const command_line::CommandLine& line,
                                            const std::optional<eigenheads::Safetensors>& begun,
                                            const Ranks* ranks) {
  if (line.has("--shards")) return line.count("--shards", 65536);
  if (begun) return training_state::shards_in(*begun);
  return ranks != nullptr && ranks->size() > 1 ? 8 : 1;
}

}  // namespace many_ranks
