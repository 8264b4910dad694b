// SPDX-License-Identifier: MIT
#pragma once
// From values to levels of colour.
//   level(x) = round((x - minimum) / (maximum - minimum) * 254), the ends for what lies outside
#include <algorithm>
#include <charconv>
#include <cmath>
#include <optional>
#include <string>
#include <string_view>

#include <eigenheads/detail/float_bits.hpp>  // is_finite, is_nan, is_negative_infinity
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>          // refuse
#include <eigenheads/plot/colormap.hpp>  // level_count, nan_level
#include <eigenheads/plot/svg.hpp>       // number
#include <eigenheads/tensor.hpp>         // Index, Scalar, TensorView

namespace eigenheads::inline EIGENHEADS_ABI::detail::plot {

// Beyond this a value counts as infinite, so that no difference of two overflows.
inline constexpr double largest = 1e300;

// An element as it is plotted: infinities become the largest numbers, NaN is told apart.
struct Sample {
  double value;
  bool is_nan, is_infinite;
};

// By reference: under -ffast-math a compiler may assume that a value it is passed is no NaN.
template <Scalar T>
[[nodiscard]] Sample sample_of(const T& x) {
  if (detail::is_nan(x)) return {0, true, false};
  if (!detail::is_finite(x))
    return {detail::is_negative_infinity(x) ? -largest : largest, false, true};
  return {std::clamp(static_cast<double>(x), -largest, largest), false, false};
}

// "0.1234": four significant digits.
[[nodiscard]] inline std::string value_text(const Sample& sample) {
  if (sample.is_nan) return "NaN";
  if (sample.is_infinite) return sample.value > 0 ? "inf" : "-inf";
  return number(sample.value, std::chars_format::general, 4);
}

struct Scale {
  double minimum = 0, maximum = 1;

  [[nodiscard]] int level(const Sample& sample) const {
    if (sample.is_nan) return nan_level;
    const double inside = std::clamp(sample.value, minimum, maximum);
    const double fraction = (inside - minimum) / (maximum - minimum);
    return static_cast<int>(std::lround(fraction * (level_count - 1)));
  }
};

// Closer than one part in a million are values that differ by rounding, such as uniform weights:
// a scale between those would show noise.
[[nodiscard]] inline bool far_apart(double low, double high) {
  return high - low > (std::max)(1e-6 * (std::max)(std::abs(low), std::abs(high)), 1 / largest);
}

inline void require_end(std::string_view name, const std::optional<double>& end) {
  if (end && !(detail::is_finite(*end) && std::abs(*end) <= largest))
    refuse({name, " is ", value_text(sample_of(*end)),
            "; expected a number between -1e300 and 1e300"});
}

// The given ends, and else the least and greatest finite value of `matrices`. Constant matrices
// get a scale that reaches from their value to 0 (all 0: to 1).
template <Scalar T>
[[nodiscard]] Scale scale_of(TensorView<T, 4> matrices, const std::optional<double>& minimum,
                             const std::optional<double>& maximum) {
  require_end("minimum", minimum);
  require_end("maximum", maximum);
  if (minimum && maximum && !far_apart(*minimum, *maximum))
    refuse({"minimum is ", value_text(sample_of(*minimum)), " and maximum is ",
            value_text(sample_of(*maximum)),
            "; expected minimum < maximum, by more than one part in a million"});
  double low = largest, high = -largest;
  for (Index i = 0; i < matrices.size(); ++i) {
    const Sample sample = sample_of(matrices.data()[i]);
    if (sample.is_nan || sample.is_infinite) continue;
    low = (std::min)(low, sample.value);
    high = (std::max)(high, sample.value);
  }
  if (low > high) low = high = 0;
  low = minimum.value_or(low);
  high = maximum.value_or(high);
  if (far_apart(low, high)) return {low, high};
  if (minimum) return {low, low + (std::max)(std::abs(low), 1.0)};
  if (maximum) return {high - (std::max)(std::abs(high), 1.0), high};
  low = (std::min)(low, 0.0);
  high = (std::max)(high, 0.0);
  return far_apart(low, high) ? Scale{low, high} : Scale{0, 1};
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail::plot

#include <eigenheads/detail/macros_on.inl>
