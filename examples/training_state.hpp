// SPDX-License-Identifier: MIT
#pragma once
// What a checkpoint of a training run holds besides the model:
//   "adam." and what the optimizer remembers, "step" and "options": how many steps are done, and of
//   what run
#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <iterator>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <eigenheads/io/safetensors.hpp>  // Safetensors
#include <eigenheads/tensor.hpp>          // TensorView
#include <eigenheads/train/optim.hpp>     // OptimizerState

namespace training_state {

inline constexpr std::string_view kOptimizer = "adam.";

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
