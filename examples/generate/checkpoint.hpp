// SPDX-License-Identifier: MIT
#pragma once
// Models and half-done training runs in files:
//   metadata   the sizes of the model
//   tensors    "model." and its parameters, by name; in a checkpoint also what training_state.hpp
//              says
#include <charconv>
#include <cstdint>
#include <filesystem>
#include <stdexcept>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include <eigenheads/io/module.hpp>       // add_parameters, set_parameters
#include <eigenheads/io/safetensors.hpp>  // Safetensors
#include <eigenheads/random.hpp>          // random_stream

#include "../training_state.hpp"  // add, on_first, read, restore_optimizer
#include "model.hpp"              // Model, ModelOptions
#include "train.hpp"              // Trainer

namespace byte_model {

namespace detail {

using eigenheads::Safetensors;

inline constexpr std::string_view kModel = "model.";

// visit(name, size) for all of them.
template <class Options, class Visit>
void for_each_size(Options& options, const Visit& visit) {
  visit("num_hiddens", options.num_hiddens);
  visit("num_heads", options.num_heads);
  visit("num_kv_heads", options.num_kv_heads);
  visit("num_layers", options.num_layers);
  visit("inner", options.inner);
  visit("window", options.window);
}

// name: of the file, for what is wrong with it.
[[nodiscard]] inline ModelOptions options_in(const Safetensors& file, const std::string& name) {
  ModelOptions options;
  for_each_size(options, [&](const char* key, Index& size) {
    const auto found = file.metadata().find(key);
    if (found == file.metadata().end())
      throw std::runtime_error(name + ": not a model of this program: it does not say \"" + key +
                               "\"");
    const std::string& text = found->second;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), size);
    // Nothing is so large that a product of two of them overflows.
    if (error != std::errc() || end != text.data() + text.size() || size < 1 || size > 4096)
      throw std::runtime_error(name + ": not a model of this program: \"" + key + "\" is \"" +
                               text + "\"; expected a number from 1 to 4096");
  });
  return options;
}

inline void add_model(Safetensors& file, const Model<float>& model) {
  for_each_size(model.options(), [&](const char* name, Index size) {
    file.set_metadata(name, std::to_string(size));
  });
  eigenheads::add_parameters(file, model, kModel);
}

// All that the bits of a run depend on.
[[nodiscard]] inline std::vector<double> options_of(const Trainer<float>& trainer) {
  const TrainOptions& options = trainer.options();
  const std::uint64_t text = eigenheads::random_stream(trainer.text());  // FNV-1a
  std::vector<double> values{options.learning_rate, options.beta2, options.weight_decay,
                             options.gradient_norm};
  const auto add = [&](auto value) { values.push_back(static_cast<double>(value)); };
  for (const Index count : {options.steps, options.batch_size, options.warmup}) add(count);
  for (const std::uint64_t bits : {options.seed, text >> 32, text & 0xFFFFFFFFu}) add(bits);
  for_each_size(options.model, [&](const char*, Index size) { add(size); });
  return values;
}

}  // namespace detail

// All of these throw eigenheads::FileError for files that cannot be read or written or hold
// something else, and std::runtime_error for those of another run.
inline void save_model(const std::filesystem::path& path, const Model<float>& model) {
  eigenheads::Safetensors file;
  detail::add_model(file, model);
  eigenheads::write_safetensors(path, file);
}

// Also from a checkpoint.
[[nodiscard]] inline Model<float> load_model(const eigenheads::Safetensors& file,
                                             const std::string& name) {
  const ModelOptions options = detail::options_in(file, name);
  Model<float> model = [&] {
    try {
      return Model<float>(options, 0);
    } catch (const std::invalid_argument& error) {  // sizes that do not go together
      throw std::runtime_error(name + ": not a model of this program: " + error.what());
    }
  }();
  eigenheads::set_parameters(model, file, detail::kModel);
  return model;
}

[[nodiscard]] inline Model<float> load_model(const std::filesystem::path& path) {
  return load_model(eigenheads::read_safetensors(path), path.string());
}

// On many ranks a round of all.
inline void save_checkpoint(const std::filesystem::path& path, const Trainer<float>& trainer) {
  eigenheads::Safetensors file;
  detail::add_model(file, trainer.model);
  training_state::add(file, trainer, detail::options_of(trainer));
  training_state::on_first(trainer.ranks(), [&] { eigenheads::write_safetensors(path, file); });
}

// Goes on from there, to the same bits as if it had never stopped, on any number of ranks.
inline void load_checkpoint(const eigenheads::Safetensors& file, Trainer<float>& trainer) {
  training_state::require_options(file, detail::options_of(trainer), file.path(),
                                  "other options or another text");
  Model<float> model(trainer.options().model, 0);
  eigenheads::set_parameters(model, file, detail::kModel);
  training_state::restore_optimizer(file, trainer);
  trainer.model = std::move(model);
}
inline void load_checkpoint(const std::filesystem::path& path, Trainer<float>& trainer) {
  load_checkpoint(training_state::read(path, trainer.ranks()), trainer);
}

}  // namespace byte_model
