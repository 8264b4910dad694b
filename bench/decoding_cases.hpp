// SPDX-License-Identifier: MIT
#pragma once
// What is measured of decoding, and what it costs: a language model that reads a prompt and writes on,
// and single steps over a cache of many keys. 2 flops a multiply-add, attention 4 D a pair that is
// seen; a step reads all weights once, and the keys and values of every sequence.
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include <eigenheads/tensor.hpp>  // Index

namespace bench {

using eigenheads::Index;

struct ModelCase {
  Index B;
  Index layers = 6, E = 512, H = 8, G = 2, hidden = 2048, vocabulary = 256;
  Index prompt = 128, written = 128;  // tokens of each sequence

  [[nodiscard]] Index D() const { return E / H; }
  [[nodiscard]] Index capacity() const { return prompt + written; }
  // The prompt gives the first of the tokens that are written, and the last is not read again.
  [[nodiscard]] Index steps() const { return written - 1; }
};

enum class Storage { itself, bfloat16, half };

// One attention layer's step, its token the last of K. With E=16 nearly all of it is the attention.
struct StepCase {
  Index B, G, K;
  Storage storage = Storage::itself;
  Index E = 16, H = 16, D = 64;
};

[[nodiscard]] inline const std::vector<ModelCase>& model_cases() {
  static const std::vector<ModelCase> all{{.B = 1}, {.B = 8}};
  return all;
}

[[nodiscard]] inline std::vector<StepCase> all_step_cases() {
  std::vector<StepCase> all{{.B = 1, .G = 8, .K = 128, .E = 512, .H = 8}};
  for (const Index K : {4096, 32768})
    for (const Index B : {1, 8})
      for (const Index G : {16, 2}) all.push_back({.B = B, .G = G, .K = K});
  for (const Index B : {1, 8})
    for (const Storage storage : {Storage::bfloat16, Storage::half})
      all.push_back({.B = B, .G = 16, .K = 32768, .storage = storage});
  return all;
}
[[nodiscard]] inline const std::vector<StepCase>& step_cases() {
  static const std::vector<StepCase> all = all_step_cases();
  return all;
}

// ---- Names -------------------------------------------------------------------------------------

[[nodiscard]] inline std::string axes(
    std::initializer_list<std::pair<const char*, Index>> named_sizes) {
  std::string text;
  for (const auto& [name, size] : named_sizes)
    text += ' ' + std::string(name) + '=' + std::to_string(size);
  return text;
}

// "language model of 6 layers E=512 H=8 G=2 B=1, 128 tokens after 128"
[[nodiscard]] inline std::string name_of(const ModelCase& c) {
  return "language model of " + std::to_string(c.layers) + " layers" +
         axes({{"E", c.E}, {"H", c.H}, {"G", c.G}, {"B", c.B}}) + ", " + std::to_string(c.written) +
         " tokens after " + std::to_string(c.prompt);
}
[[nodiscard]] inline std::string step_name_of(const ModelCase& c) {
  return name_of(c) + ", a step of them";
}

// "step over a cache of bfloat16 B=1 H=16 G=2 K=32768 D=64"
[[nodiscard]] inline std::string name_of(const StepCase& c) {
  constexpr const char* storages[] = {"", " of bfloat16", " of half"};
  return (c.E > 16 ? "layer's step" + axes({{"E", c.E}})
                   : std::string("step over a cache") + storages[static_cast<int>(c.storage)]) +
         axes({{"B", c.B}, {"H", c.H}, {"G", c.G}, {"K", c.K}, {"D", c.D}});
}

// ---- Costs -------------------------------------------------------------------------------------

// Of the layers' matrices, without what the vocabulary's take.
[[nodiscard]] inline double layer_weights(const ModelCase& c) {
  return static_cast<double>(c.layers *
                             (2 * c.E * c.E + 2 * c.E * c.G * c.D() + 2 * c.E * c.hidden));
}
// Keys that a step sees, in the mean.
[[nodiscard]] inline double mean_keys(const ModelCase& c) {
  return static_cast<double>(c.prompt) + 0.5 * static_cast<double>(c.steps() + 1);
}
[[nodiscard]] inline double step_flops(const ModelCase& c) {
  const auto E = static_cast<double>(c.E), vocabulary = static_cast<double>(c.vocabulary);
  return static_cast<double>(c.B) * (2 * (layer_weights(c) + E * vocabulary) +
                                     4 * static_cast<double>(c.layers) * E * mean_keys(c));
}
[[nodiscard]] inline double step_bytes(const ModelCase& c) {
  const double kept = static_cast<double>(2 * c.layers * c.G * c.D()) * mean_keys(c);
  return sizeof(float) * (layer_weights(c) + static_cast<double>(c.E * c.vocabulary) +
                          static_cast<double>(c.B) * kept);
}
// Of the prompt, after which only its last token is asked for the next, and of all steps.
[[nodiscard]] inline double flops_of(const ModelCase& c) {
  const auto E = static_cast<double>(c.E), prompt = static_cast<double>(c.prompt);
  const double pairs = 0.5 * prompt * (prompt + 1);
  return static_cast<double>(c.B) *
             (2 * (prompt * layer_weights(c) + E * static_cast<double>(c.vocabulary)) +
              4 * static_cast<double>(c.layers) * E * pairs) +
         static_cast<double>(c.steps()) * step_flops(c);
}

[[nodiscard]] inline double layer_weights(const StepCase& c) {
  return static_cast<double>(2 * c.E * (c.H + c.G) * c.D);
}
// keys: that the token sees, itself among them.
[[nodiscard]] inline double step_flops(const StepCase& c, double keys) {
  return static_cast<double>(c.B) *
         (2 * layer_weights(c) + 4 * static_cast<double>(c.H * c.D) * keys);
}
[[nodiscard]] inline double step_bytes(const StepCase& c, double keys) {
  const double number = c.storage == Storage::itself ? sizeof(float) : 2;
  return sizeof(float) * layer_weights(c) +
         number * static_cast<double>(2 * c.B * c.G * c.D) * keys;
}

}  // namespace bench
