// SPDX-License-Identifier: MIT
#pragma once
// What the tests of transformer layers and of their stacks share.
#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <numeric>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <eigenheads/context.hpp>
#include <eigenheads/nn/transformer_options.hpp>
#include <eigenheads/sequences.hpp>

#include "../support.hpp"

namespace support {

using eh::Context, eh::Sequences, eh::TransformerLayerOptions;

// Every parameter is felt: a fresh module's biases are 0.
template <class Module>
void disturb(Module& module, std::uint64_t seed = 9) {
  Numbers numbers(seed);
  module.for_each_parameter([&](const auto& parameter) {
    parameter.update(
        [&](Index, auto value) { return value + numbers.symmetric<decltype(value)>() / 4; });
  });
}
template <class Module, class Options>
[[nodiscard]] Module make(const Options& options) {
  Module module(options, 3);
  disturb(module);
  return module;
}

[[nodiscard]] inline TransformerLayerOptions options_of(bool norm_first, double dropout = 0) {
  return {
      .num_hiddens = 24,
      .num_heads = 3,
      .feed_forward_size = 40,
      .activation = eh::Activation::gelu,
      .norm_first = norm_first,
      .dropout = dropout,
      .memory_size = 15,
      .rotary = norm_first ? std::optional(eh::RotaryOptions{.max_positions = 400}) : std::nullopt};
}
[[nodiscard]] inline eh::TransformerStackOptions stack_of(bool norm_first, double dropout = 0) {
  return {.layer = options_of(norm_first, dropout), .num_layers = 3, .final_norm = norm_first};
}
[[nodiscard]] inline eh::TransformerStackOptions rms_stack_of(bool norm_first, double dropout = 0) {
  auto options = stack_of(norm_first, dropout);
  options.layer.norm = eh::NormKind::rms_norm;
  return options;
}

// Every gradient of a module, one after the other, by name.
template <class T>
using Named = std::vector<std::pair<std::string, std::vector<T>>>;
template <class T, class Module>
[[nodiscard]] Named<T> values_of(const Module& module) {
  Named<T> values;
  module.for_each_parameter([&](const auto& parameter) {
    values.emplace_back(parameter.name(),
                        std::vector<T>(static_cast<std::size_t>(parameter.size())));
    parameter.copy_to(values.back().second);
  });
  return values;
}
template <class T, class Module>
void expect_same_parameters(const Module& a, const Module& b) {
  const auto x = values_of<T>(a), y = values_of<T>(b);
  ASSERT_EQ(x.size(), y.size());
  for (std::size_t i = 0; i < x.size(); ++i) {
    EXPECT_EQ(x[i].first, y[i].first);
    EXPECT_TRUE(same_bits(TensorView<T, 1>(x[i].second.data(), {std::ssize(x[i].second)}),
                          TensorView<T, 1>(y[i].second.data(), {std::ssize(y[i].second)})))
        << x[i].first;
  }
}

// [1, N, size] -> [N, size]
template <class T>
[[nodiscard]] TensorView<T, 2> as_rows(const Tensor<T, 3>& x) {
  EXPECT_EQ(x.dimension(0), 1);
  return {x.data(), {x.dimension(1), x.dimension(2)}};
}

// Rows of padding hold NaN.
template <class T>
[[nodiscard]] Tensor<T, 3> padded_with(T padding, const Tensor<T, 2>& packed,
                                       const Sequences& sequences) {
  Tensor<T, 3> padded = unpack(packed, sequences);
  for (Index b = 0; b < sequences.count(); ++b)
    for (Index row = sequences.length(b); row < sequences.longest(); ++row)
      for (Index i = 0; i < padded.dimension(2); ++i) padded(b, row, i) = padding;
  return padded;
}
[[nodiscard]] inline std::vector<Index> lens_of(const Sequences& sequences) {
  std::vector<Index> lens;
  for (Index b = 0; b < sequences.count(); ++b) lens.push_back(sequences.length(b));
  return lens;
}

inline void start_threads(Context& context) {
  std::atomic<int> here{0};
  context.parallel_for(context.threads(), [&](Index) {
    ++here;
    while (here < context.threads()) std::this_thread::yield();
  });
}

inline const Sequences kSequences{5, 0, 131, 1, 300};
inline const Sequences kMemories{7, 3, 0, 260, 12};

// ---- Gradients ----------------------------------------------------------------------------------

// Along a direction in all inputs and parameters at once, with dropout.
template <class Module, class Forward, class Gradients, class Inputs>
void expect_slope(Module& module, const Inputs& inputs, const Forward& forward,
                  const Gradients& gradients,
                  const std::vector<const Tensor<double, 3>*>& input_gradients) {
  constexpr double step = 1e-6;
  double slope = 0;
  Numbers numbers(21);
  std::vector<std::vector<double>> directions;
  const auto direction = [&](const double* gradient, Index size) {
    auto& values = directions.emplace_back();
    for (Index i = 0; i < size; ++i) {
      values.push_back(numbers.symmetric<double>());
      slope += values.back() * gradient[i];
    }
  };
  for (const auto* gradient : input_gradients) direction(gradient->data(), gradient->size());
  for (const auto& [name, values] : values_of<double>(gradients))
    direction(values.data(), std::ssize(values));
  const auto move = [&](double by) {
    std::size_t next = 0;
    for (auto* input : inputs) {
      const auto& values = directions[next++];
      for (Index i = 0; i < input->size(); ++i)
        input->data()[i] += by * values[static_cast<std::size_t>(i)];
    }
    module.for_each_parameter([&](const auto& parameter) {
      const auto& values = directions[next++];
      parameter.update(
          [&](Index i, double value) { return value + by * values[static_cast<std::size_t>(i)]; });
    });
    EXPECT_EQ(next, directions.size());
  };
  move(step);
  const double ahead = forward();
  move(-2 * step);
  const double behind = forward();
  move(step);
  EXPECT_NEAR((ahead - behind) / (2 * step), slope, 1e-6 * (1 + std::abs(slope)));
}

[[nodiscard]] inline double dot(const Tensor<double, 3>& a, const Tensor<double, 3>& b) {
  return std::inner_product(a.data(), a.data() + a.size(), b.data(), 0.0);
}

}  // namespace support
