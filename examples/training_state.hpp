// SPDX-License-Identifier: MIT
#pragma once
// What a checkpoint of a training run holds besides the model:
//   "adam." and what the optimizer remembers, "step" and "options": how many steps are done, and of
//   what run; "shards" of its batches, if there is more than one
// Of many ranks the first one reads and writes for all: no other needs the folder.
#include <algorithm>
#include <array>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <eigenheads/io/file.hpp>         // read_file
#include <eigenheads/io/safetensors.hpp>  // Safetensors
#include <eigenheads/mpi/ranks.hpp>       // Ranks
#include <eigenheads/tensor.hpp>          // TensorView
#include <eigenheads/train/optim.hpp>     // OptimizerState

namespace training_state {

inline constexpr std::string_view kOptimizer = "adam.";
// What a run writes.
inline const std::array<std::string, 3> kFiles{"weights.safetensors", "loss.svg",
                                               "checkpoint.safetensors"};

using eigenheads::mpi::Ranks;

// run() on the first rank, or alone if there are none. What it throws, all do.
template <class Run>
void on_first(Ranks* ranks, const Run& run) {
  if (ranks == nullptr) return run();
  ranks->together("the first rank's work", {}, [&] {
    if (ranks->rank() == 0) run();
  });
}

[[nodiscard]] inline std::string read_bytes(const std::filesystem::path& path, Ranks* ranks) {
  if (ranks == nullptr) return eigenheads::read_file(path);
  std::string bytes;
  ranks->together("a file", {}, [&] {
    if (ranks->rank() == 0) bytes = eigenheads::read_file(path);
    std::uint64_t size = bytes.size();
    ranks->broadcast(0, std::span(&size, 1));
    bytes.resize(static_cast<std::size_t>(size));
    ranks->broadcast(0, std::span(bytes));
  });
  return bytes;
}
[[nodiscard]] inline eigenheads::Safetensors read(const std::filesystem::path& path, Ranks* ranks) {
  if (ranks == nullptr) return eigenheads::read_safetensors(path);
  return eigenheads::parse_safetensors(read_bytes(path, ranks), path);
}

[[nodiscard]] inline std::int64_t shards_in(const eigenheads::Safetensors& file) {
  return file.contains("shards") ? file.value<std::int64_t>("shards") : 1;
}

// A round of all ranks, after which the first one has the whole in `file`.
template <class Trainer>
void add(eigenheads::Safetensors& file, const Trainer& trainer,
         const std::vector<double>& options) {
  const auto add = [&](const std::string& name, const auto& values) {
    file.add(name, eigenheads::TensorView(values.data(), {std::ssize(values)}));
  };
  trainer.adam.for_each_state([&](const std::string& name, std::span<const float> values) {
    add(std::string(kOptimizer) + name, values);
  });
  file.add("step", std::int64_t{trainer.step_count()});
  add("options", options);
  const std::int64_t shards = trainer.options().shards;
  if (shards != 1) file.add("shards", shards);
}

// Throws std::runtime_error unless the file is of a run with these options; `others` says which may
// differ.
inline void require_options(const eigenheads::Safetensors& file,
                            const std::vector<double>& expected, const std::filesystem::path& path,
                            std::string_view others) {
  const auto options = file.tensor<double, 1>("options", {std::ssize(expected)});
  if (!std::equal(expected.begin(), expected.end(), options.data()))
    throw std::runtime_error(path.string() + ": a checkpoint of a run with " + std::string(others));
}

template <class Trainer>
void restore_optimizer(const eigenheads::Safetensors& file, Trainer& trainer) {
  const std::int64_t shards = trainer.options().shards;
  if (shards_in(file) != shards)
    throw std::runtime_error(file.path().string() + ": a checkpoint of a run with " +
                             std::to_string(shards_in(file)) + " shards; this one has " +
                             std::to_string(shards));
  std::vector<eigenheads::OptimizerState<float>> states;
  for (const std::string& name : file.names())
    if (name.starts_with(kOptimizer)) {
      const auto values = file.tensor<float, 1>(name);
      states.push_back(
          {name.substr(kOptimizer.size()), {values.data(), values.data() + values.size()}});
    }
  trainer.adam.restore(file.value<std::int64_t>("step"), states);
}

}  // namespace training_state
