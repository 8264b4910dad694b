// SPDX-License-Identifier: MIT
#pragma once
// What a rotary position embedding is made of. Pair i of a head at position p is turned by the angle
// p w_i, w_i = base^(-2i / rotated), which a scaling stretches, for sequences longer than those that a
// model was trained on.
// Su et al., "RoFormer", 2021.
#include <memory>
#include <optional>
#include <variant>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/tensor.hpp>  // Index, Scalar

namespace eigenheads::inline EIGENHEADS_ABI {

// Which numbers of a head are a pair: i and i + rotated / 2 (as Llama's in other libraries, GPT-NeoX),
// or 2i and 2i + 1 (RoFormer, GPT-J). Weights go from one to the other by a permutation of the rows of
// W_q and W_k, and of their biases, within each head.
enum class RotaryLayout { half_split, interleaved };

// w_i / factor: positions lie closer together.
struct LinearScaling {
  double factor = 1;
};

// base * factor^(rotated / (rotated - 2)): the slowest pair is slowed by the factor, the first by
// nothing.
struct NtkScaling {
  double factor = 1;
};

// The same with the factor (factor * length / original_positions) - (factor - 1), if length is above
// original_positions; 1 if it is not. The length is given once: keys that were rotated for another have
// other angles, and cannot be used with these.
struct DynamicNtkScaling {
  double factor = 1;
  Index original_positions = 0, length = 0;
};

// Peng et al., "YaRN", 2023. Pairs that turn more than beta_fast times in original_positions keep
// their frequency, those that turn less than beta_slow times have it divided by the factor, and those
// between have some of both. Cosines and sines are multiplied by attention_factor: if none is given
// 0.1 ln(factor) + 1, or, if both are given, the ratio of 0.1 mscale ln(factor) + 1 and the same of
// mscale_all_dim.
struct YarnScaling {
  double factor = 1;
  Index original_positions = 0;
  double beta_fast = 32, beta_slow = 1;
  std::optional<double> attention_factor{}, mscale{}, mscale_all_dim{};
  bool truncate = true;  // the pairs between which the frequencies change are whole numbers
};

// As Llama 3.1: a wave longer than original_positions / low_frequency_factor is slowed by the factor,
// one shorter than original_positions / high_frequency_factor by nothing, and those between by some of
// it.
struct Llama3Scaling {
  double factor = 1, low_frequency_factor = 1, high_frequency_factor = 4;
  Index original_positions = 0;
};

using RotaryScaling = std::variant<std::monostate, LinearScaling, NtkScaling, DynamicNtkScaling,
                                   YarnScaling, Llama3Scaling>;

template <Scalar T>
class Rotary;
template <class>
struct BasicRotaryOptions;
using RotaryOptions = BasicRotaryOptions<void>;

namespace detail {

// How a layer comes to its rotary. Pointers: a program that makes no RotaryOptions compiles neither
// tables nor rotations, which would be a tenth of what a layer takes to compile.
struct RotaryMakers {
  std::shared_ptr<const Rotary<float>> (*of_float)(const RotaryOptions& options);
  std::shared_ptr<const Rotary<double>> (*of_double)(const RotaryOptions& options);
};
template <class = void>
[[nodiscard]] RotaryMakers rotary_makers();  // rotary.hpp

}  // namespace detail

// RotaryOptions. A template: the initializer of `makers` is then compiled where options are made, and
// not wherever this header is read.
template <class>
struct BasicRotaryOptions {
  Index head_size = 0;  // of a layer's own rotary, 0: the layer's
  // Of the table: 0 to max_positions - 1. It has `rotated` numbers for each of them, twice as many if
  // interleaved: 1 MiB for heads of 64 floats, which copies of a layer share.
  Index max_positions = 4096;
  double base = 10000;
  Index rotated = 0;  // the first so many numbers of a head; 0: all of them
  RotaryLayout layout = RotaryLayout::half_split;
  RotaryScaling scaling{};
  detail::RotaryMakers makers = detail::rotary_makers();  // to be left as they are
};

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
