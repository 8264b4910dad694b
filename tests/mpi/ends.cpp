// SPDX-License-Identifier: MIT
// ends HOW: a program of 3 ranks that ends otherwise than it should; ends_test.sh looks at it from the
// outside.
#include <chrono>
#include <cstdio>
#include <fstream>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <unistd.h>
#include <vector>

#include <eigenheads/mpi/environment.hpp>

namespace {

namespace mpi = eigenheads::mpi;

// Each writes its process's number, and hands its numbers on for ever.
int loop(mpi::Ranks& ranks, const std::string& folder) {
  const int n = ranks.size(), me = ranks.rank();
  std::vector<double> mine(30'000), theirs(30'000);
  for (int round = 0;; ++round) {
    if (round == 10) std::ofstream(folder + "/" + std::to_string(me)) << getpid() << std::endl;
    ranks.together("loop", {}, [&] {
      mpi::Ranks::Pending received =
          ranks.receive((me + n - 1) % n, std::as_writable_bytes(std::span(theirs)));
      mpi::Ranks::Pending sent = ranks.send((me + 1) % n, std::as_bytes(std::span(mine)));
      ranks.wait(received);
      ranks.wait(sent);
    });
  }
}

int end(mpi::Ranks& ranks, std::string_view how) {
  const bool is_culprit = ranks.rank() == 1;
  if (how == "within") {
    ranks.together("attend", {}, [&] {
      if (is_culprit) throw std::runtime_error("eigenheads: the keys are gone");
    });
  }
  if (how == "between" && is_culprit) throw std::runtime_error("no such file");
  if (how == "late" && is_culprit) std::this_thread::sleep_for(std::chrono::seconds(60));
  std::vector<float> values(9);
  ranks.together("broadcast", {{"values", how == "differ" && is_culprit ? 8 : 9}},
                 [&] { ranks.broadcast<float>(0, values); });
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string how = argc > 1 ? argv[1] : "", folder = argc > 2 ? argv[2] : ".";
  if (how == "uninitialized") {
    try {
      mpi::MpiTransport{MPI_COMM_NULL};
    } catch (const std::logic_error& error) {
      std::fprintf(stderr, "%s\n", error.what());
      return 2;
    }
  }
  if (how == "single") MPI_Init(&argc, &argv);
  mpi::Environment environment(argc, argv);
  if (how == "null") mpi::MpiTransport{MPI_COMM_NULL};
  if (how == "main") {
    mpi::Ranks ranks(std::make_unique<mpi::MpiTransport>(MPI_COMM_WORLD));
    if (ranks.rank() == 1) throw std::runtime_error("nobody catches this");
    ranks.together("main", {}, [] {});
  }
  return environment.run(
      [&](mpi::Ranks& ranks) { return how == "loop" ? loop(ranks, folder) : end(ranks, how); },
      {.patience = std::chrono::seconds(how == "late" ? 2 : 60)});
}
