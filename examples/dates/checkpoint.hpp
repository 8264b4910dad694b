// SPDX-License-Identifier: MIT
#pragma once
// Models and half-done training runs in files:
//   metadata   the sizes of the model
//   tensors    "model." and its parameters, by name; in a checkpoint also what training_state.hpp
//              says
#include <charconv>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <eigenheads/io/module.hpp>       // add_parameters, set_parameters
#include <eigenheads/io/safetensors.hpp>  // Safetensors

#include "../command_line.hpp"    // said
#include "../training_state.hpp"  // add, on_first, read, restore_optimizer
#include "model.hpp"              // Model, ModelOptions
#include "train.hpp"              // Trainer

namespace dates {

namespace detail {

using Safetensors = eigenheads::Safetensors;

inline constexpr std::string_view kModel = "model.";

// visit(name, size) for all of them.
template <class Options, class Visit>
void for_each_size(Options& options, const Visit& visit) {
  visit("num_hiddens", options.num_hiddens);
  visit("num_heads", options.num_heads);
  visit("num_layers", options.num_layers);
  visit("inner", options.inner);
  visit("reach", options.reach);
}

[[nodiscard]] inline ModelOptions options_in(const Safetensors& file) {
  ModelOptions options;
  for_each_size(options, [&](const char* name, Index& size) {
    const auto found = file.metadata().find(name);
    const std::string text = found == file.metadata().end() ? "" : found->second;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size);
    // reach may be 0; nothing is so large that a product of two of them overflows.
    if (error != std::errc() || end != text.data() + text.size() || size < 0 || size > 4096)
      throw std::runtime_error(file.path().string() + ": not a model of dates: metadata \"" +
                               std::string(name) + "\" is \"" + text +
                               "\"; expected a number from 0 to 4096");
  });
  return options;
}

inline void add_model(Safetensors& file, const Model<float>& model, const ModelOptions& options) {
  for_each_size(options, [&](const char* name, Index size) {
    file.set_metadata(name, std::to_string(size));
  });
  eigenheads::add_parameters(file, model, kModel);
}

// All that the bits of a run depend on.
[[nodiscard]] inline std::vector<double> options_of(const TrainOptions& options) {
  std::vector<double> values{options.learning_rate, options.beta2, options.weight_decay,
                             options.gradient_norm};
  const auto add = [&](auto value) { values.push_back(static_cast<double>(value)); };
  const Mix& mix = options.mix;
  for (const int share : {mix.impossible, mix.incomplete, mix.numbers, mix.wrong_year, mix.other})
    add(share);
  for (const Index count : {options.steps, options.batch_size, options.warmup}) add(count);
  add(options.seed);
  for_each_size(options.model, [&](const char*, Index size) { add(size); });
  return values;
}

}  // namespace detail

// All of these throw eigenheads::FileError for files that cannot be read or written or hold
// something else, and std::runtime_error for those of another run.
inline void save_model(const std::filesystem::path& path, const Model<float>& model,
                       const ModelOptions& options) {
  eigenheads::Safetensors file;
  detail::add_model(file, model, options);
  eigenheads::write_safetensors(path, file);
}

// Also from a checkpoint.
[[nodiscard]] inline Model<float> load_model(const eigenheads::Safetensors& file) {
  const ModelOptions options = detail::options_in(file);
  try {
    Model<float> model(options, 0);
    eigenheads::set_parameters(model, file, detail::kModel);
    return model;
  } catch (const std::invalid_argument& error) {  // sizes that do not fit each other
    throw std::runtime_error(file.path().string() +
                             ": not a model of dates: " + command_line::said(error));
  }
}

[[nodiscard]] inline Model<float> load_model(const std::filesystem::path& path) {
  return load_model(eigenheads::read_safetensors(path));
}

// On many ranks a round of all.
inline void save_checkpoint(const std::filesystem::path& path, const Trainer<float>& trainer) {
  eigenheads::Safetensors file;
  detail::add_model(file, trainer.model, trainer.options().model);
  training_state::add(file, trainer, detail::options_of(trainer.options()));
  training_state::on_first(trainer.ranks(), [&] { eigenheads::write_safetensors(path, file); });
}

// Goes on from there, to the same bits as if it had never stopped, on any number of ranks.
inline void load_checkpoint(const eigenheads::Safetensors& file, Trainer<float>& trainer) {
  training_state::require_options(file, detail::options_of(trainer.options()), file.path(),
                                  "other options");
  Model<float> model(trainer.options().model, 0);
  eigenheads::set_parameters(model, file, detail::kModel);
  training_state::restore_optimizer(file, trainer);
  trainer.model = std::move(model);
}
inline void load_checkpoint(const std::filesystem::path& path, Trainer<float>& trainer) {
  load_checkpoint(training_state::read(path, trainer.ranks()), trainer);
}

}  // namespace dates
