// SPDX-License-Identifier: MIT
// 50 steps of training, by ranks that are processes of MPI, end in the bits of one process.
#include <algorithm>
#include <stdexcept>

#include <eigenheads/mpi/environment.hpp>

#include "mpi/training.hpp"

namespace {

namespace mpi = eigenheads::mpi;

template <class T>
void train(mpi::Ranks& ranks) {
  const auto trained = [](mpi::Ranks* on) {
    training::Task<T> task;
    mpi::DataParallel<eigenheads::AdamRule<T>> adam(task.model, {}, {.gradient_norm = 0.05}, on);
    while (adam.step_count() < 50) task.step(adam, 11);
    return task.parameters();
  };
  const eigenheads::Tensor<T, 1> of_ranks = trained(&ranks), alone = trained(nullptr);
  if (!std::equal(of_ranks.data(), of_ranks.data() + of_ranks.size(), alone.data()))
    throw std::runtime_error("the model that ranks make is not that of one process");
}

}  // namespace

int main(int argc, char** argv) {
  mpi::Environment environment(argc, argv);
  return environment.run([](mpi::Ranks& ranks) {
    train<float>(ranks);
    train<double>(ranks);
    return 0;
  });
}
