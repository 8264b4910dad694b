// SPDX-License-Identifier: MIT
#pragma once
// The frequencies of a rotary position embedding's pairs, in double, by the library's own functions.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <variant>
#include <vector>

#include <eigenheads/detail/float_bits.hpp>  // is_finite
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>           // refuse, number_text
#include <eigenheads/rotary_options.hpp>  // RotaryOptions

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// Options whose zeros have been replaced by what they stand for. Throws std::invalid_argument for
// invalid ones.
[[nodiscard]] inline RotaryOptions completed(RotaryOptions options) {
  if (options.head_size < 1)
    refuse({"Rotary: head_size is ", options.head_size, "; expected 1 or more"});
  if (options.max_positions < 1)
    refuse({"Rotary: max_positions is ", options.max_positions, "; expected 1 or more"});
  if (!is_finite(options.base) || !(options.base > 0))
    refuse({"Rotary: base is ", number_text(options.base), "; expected a number above 0"});
  if (options.rotated == 0) options.rotated = options.head_size;
  if (options.rotated < 2 || options.rotated > options.head_size || options.rotated % 2 != 0)
    refuse({"Rotary: rotated is ", options.rotated,
            "; expected an even number from 2 to head_size, ", options.head_size});
  return options;
}

// exp and log of the kernels, of one number.
struct DoubleFunctions {
  using Function = void (*)(const double* x, double* y, Index count);
  Function exp_array, log_array;

  [[nodiscard]] double log(double x) const {
    log_array(&x, &x, 1);
    return x;
  }
};

struct RotaryFrequencies {
  std::vector<double> frequencies;  // [rotated / 2]
  double attention_factor = 1;      // of all cosines and sines
};

inline constexpr double two_pi = 6.283185307179586476925;

inline void require_factor(const char* scaling, double factor) {
  if (!is_finite(factor) || !(factor >= 1))
    refuse(
        {"Rotary: the factor of ", scaling, " is ", number_text(factor), "; expected 1 or more"});
}
inline void require_original_positions(const char* scaling, Index original_positions) {
  if (original_positions < 1)
    refuse({"Rotary: original_positions of ", scaling, " is ", original_positions,
            "; expected 1 or more, the positions that the model was trained on"});
}

// ln(base factor^(rotated / (rotated - 2))). Every sum of a product is a written fma, so that no flag
// moves a bit.
[[nodiscard]] inline double ntk_log_base(const RotaryOptions& options, double factor,
                                         const DoubleFunctions& functions) {
  if (options.rotated == 2)
    refuse(
        {"Rotary: rotated is 2; expected 4 or more for NtkScaling, whose base is multiplied by "
         "factor^(rotated / (rotated - 2))"});
  const auto rotated = static_cast<double>(options.rotated);
  return std::fma(functions.log(factor), rotated / (rotated - 2), functions.log(options.base));
}

[[nodiscard]] inline double log_base(const RotaryOptions& options,
                                     const DoubleFunctions& functions) {
  if (const auto* ntk = std::get_if<NtkScaling>(&options.scaling)) {
    require_factor("NtkScaling", ntk->factor);
    return ntk_log_base(options, ntk->factor, functions);
  }
  if (const auto* ntk = std::get_if<DynamicNtkScaling>(&options.scaling)) {
    require_factor("DynamicNtkScaling", ntk->factor);
    require_original_positions("DynamicNtkScaling", ntk->original_positions);
    if (ntk->length < 1)
      refuse({"Rotary: length of DynamicNtkScaling is ", ntk->length,
              "; expected 1 or more, the positions of the sequences to come"});
    const double longer =
        static_cast<double>(ntk->length) / static_cast<double>(ntk->original_positions);
    const double factor = longer > 1 ? std::fma(ntk->factor, longer, 1 - ntk->factor) : 1;
    return ntk_log_base(options, factor, functions);
  }
  return functions.log(options.base);
}

// Of frequency w as it is and divided by the factor, as much as `kept` says: 1 and 0 are exact.
[[nodiscard]] inline double blended(double w, double factor, double kept, double slowed) {
  return std::fma(kept, w, slowed * (w / factor));
}

inline void scale(const YarnScaling& yarn, const RotaryOptions& options,
                  const DoubleFunctions& functions, RotaryFrequencies& made) {
  require_factor("YarnScaling", yarn.factor);
  require_original_positions("YarnScaling", yarn.original_positions);
  if (!(yarn.beta_slow > 0) || !(yarn.beta_fast > yarn.beta_slow))
    refuse({"Rotary: beta_fast and beta_slow of YarnScaling are ", number_text(yarn.beta_fast),
            " and ", number_text(yarn.beta_slow), "; expected beta_fast > beta_slow > 0"});
  if (!(options.base > 1))
    refuse({"Rotary: base is ", number_text(options.base),
            "; expected above 1 for YarnScaling, which divides by its logarithm"});
  // The pair that turns so many times in original_positions.
  const auto pair_of = [&](double turns) {
    const double wave = static_cast<double>(yarn.original_positions) / (turns * two_pi);
    return static_cast<double>(options.rotated) * functions.log(wave) /
           (2 * functions.log(options.base));
  };
  double first = pair_of(yarn.beta_fast), last = pair_of(yarn.beta_slow);
  if (yarn.truncate) {
    first = std::floor(first);
    last = std::ceil(last);
  }
  first = (std::max)(first, 0.0);
  last = (std::min)(last, static_cast<double>(options.rotated - 1));
  if (!(first < last)) last = first + 0.001;
  double i = 0;
  for (double& w : made.frequencies) {
    const double slowed = (std::clamp)((i++ - first) / (last - first), 0.0, 1.0);
    w = blended(w, yarn.factor, 1 - slowed, slowed);
  }
  const auto factor_of = [&](double mscale) {
    return std::fma(0.1 * mscale, functions.log(yarn.factor), 1.0);
  };
  made.attention_factor = yarn.attention_factor ? *yarn.attention_factor
                          : yarn.mscale && yarn.mscale_all_dim
                              ? factor_of(*yarn.mscale) / factor_of(*yarn.mscale_all_dim)
                              : factor_of(1);
  if (!is_finite(made.attention_factor) || !(made.attention_factor > 0))
    refuse({"Rotary: the attention factor of YarnScaling is ", number_text(made.attention_factor),
            "; expected a number above 0"});
}

inline void scale(const Llama3Scaling& llama, RotaryFrequencies& made) {
  require_factor("Llama3Scaling", llama.factor);
  require_original_positions("Llama3Scaling", llama.original_positions);
  const double low = llama.low_frequency_factor, high = llama.high_frequency_factor;
  if (!(low > 0) || !(high > low) || !is_finite(high))
    refuse({"Rotary: low_frequency_factor and high_frequency_factor of Llama3Scaling are ",
            number_text(low), " and ", number_text(high), "; expected 0 < low < high"});
  const auto positions = static_cast<double>(llama.original_positions);
  for (double& w : made.frequencies) {
    const double turns = positions / (two_pi / w);  // in original_positions
    const double kept = (std::clamp)((turns - low) / (high - low), 0.0, 1.0);
    w = blended(w, llama.factor, kept, 1 - kept);
  }
}

// `options` are completed ones. Throws std::invalid_argument for a scaling that does not fit.
[[nodiscard]] inline RotaryFrequencies rotary_frequencies(const RotaryOptions& options,
                                                          const DoubleFunctions& functions) {
  const Index pairs = options.rotated / 2;
  RotaryFrequencies made;
  made.frequencies.resize(static_cast<std::size_t>(pairs));
  const double of_base = log_base(options, functions);
  double i = 0;
  for (double& w : made.frequencies)
    w = -(2 * i++ / static_cast<double>(options.rotated)) * of_base;
  functions.exp_array(made.frequencies.data(), made.frequencies.data(), pairs);
  if (const auto* linear = std::get_if<LinearScaling>(&options.scaling)) {
    require_factor("LinearScaling", linear->factor);
    for (double& w : made.frequencies) w /= linear->factor;
  } else if (const auto* yarn = std::get_if<YarnScaling>(&options.scaling)) {
    scale(*yarn, options, functions, made);
  } else if (const auto* llama = std::get_if<Llama3Scaling>(&options.scaling)) {
    scale(*llama, made);
  }
  for (const double w : made.frequencies)
    if (!is_finite(w * static_cast<double>(options.max_positions)))
      refuse({"Rotary: base is ", number_text(options.base),
              "; expected a number that positions can be divided by"});
  return made;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
