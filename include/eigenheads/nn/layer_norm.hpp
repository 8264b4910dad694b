// SPDX-License-Identifier: MIT
#pragma once
// Norms of the last axis:
//   LayerNorm  y = (x - mean) / sqrt(variance + eps) * weight + bias,  variance = mean of (x - mean)^2
//              (Ba, Kiros, Hinton, 2016)
//   RmsNorm    y = x / sqrt(mean of x^2 + eps) * weight                (Zhang and Sennrich, 2019)
//   LayerNorm<float> norm({.size = 384, .eps = 1e-12});
//   y = norm.add_norm(attended, x);   // of the sum
// The mean is taken of the distances from the row's first number, and the variance of those from the
// mean: a constant row gives exactly the bias under any eps above 0, and a mean that is large beside
// the spread costs no digits. With an eps of 0 a row without spread is NaN, and so is, of RmsNorm, a
// row of zeros, as in PyTorch; a row whose squares are subnormal is then inexact or infinite. Squares
// may be too large for a T: a row of numbers around 1e30 is as exact as one of numbers around 1 (in
// PyTorch it is NaN or 0), of LayerNorm as long as the distances from its first number, and their sum,
// are finite; the flag of an overflow is raised on the way. They are called, and trained, as norm.hpp
// says: [..., size] of any rank, packed rows among them; a row's bits are its own.
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>
#include <ostream>
#include <string>
#include <utility>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/nn/norm.hpp>  // Norm, NormGradients

namespace eigenheads::inline EIGENHEADS_ABI {

struct LayerNormOptions {
  Index size = 0;  // 0: lazy, taken from the first input
  double eps = 1e-5;
  bool affine = true;  // whether there are parameters
  bool bias = true;    // and, of these, a bias
};

struct RmsNormOptions {
  Index size = 0;                            // 0: lazy, taken from the first input
  std::optional<double> eps = std::nullopt;  // without one, that of T: numeric_limits<T>::epsilon()
  bool affine = true;                        // whether there is a weight
};

namespace detail {

// As Python writes it: 1e-05, 0.001, 1e-12, 1.0.
[[nodiscard]] inline std::string python_text(double eps) {
  char text[32];
  const bool is_fixed = eps == 0 || (eps >= 1e-4 && eps < 1e16);
  const auto format = is_fixed ? std::chars_format::fixed : std::chars_format::scientific;
  const std::string digits(text, std::to_chars(text, text + sizeof text, eps, format).ptr);
  const bool is_whole = is_fixed && digits.find('.') == std::string::npos;
  return is_whole ? digits + ".0" : digits;
}

[[nodiscard]] inline const char* python_bool(bool value) { return value ? "True" : "False"; }

// As PyTorch prints it: LayerNorm((384,), eps=1e-05, elementwise_affine=True, bias=True) and
// RMSNorm((384,), eps=None, elementwise_affine=True).
template <Scalar T>
std::ostream& operator<<(std::ostream& out, const Norm<T>& norm) {
  const NormSettings& of = norm.settings();
  out << (norm.is_lazy() ? "Lazy" : "") << (of.is_centered ? "LayerNorm" : "RMSNorm") << "(("
      << std::to_string(norm.size())
      << ",), eps=" << (of.is_eps_given ? python_text(of.eps) : "None")
      << ", elementwise_affine=" << python_bool(of.has_weight);
  if (of.is_centered) out << ", bias=" << python_bool(of.has_bias);
  return out << ')';
}

}  // namespace detail

// y = (x - mean) / sqrt(variance + eps) * weight + bias, of each row.
template <Scalar T>
class LayerNorm : public detail::Norm<T> {
 public:
  // The weight is 1 and the bias 0. Throws std::invalid_argument for an invalid size or eps.
  explicit LayerNorm(const LayerNormOptions& options)
      : detail::Norm<T>({.name = "LayerNorm",
                         .size = options.size,
                         .eps = options.eps,
                         .has_weight = options.affine,
                         .has_bias = options.affine && options.bias,
                         .is_centered = true}) {}
};

// y = x / sqrt(mean of x^2 + eps) * weight, of each row.
template <Scalar T>
class RmsNorm : public detail::Norm<T> {
 public:
  // The weight is 1. Throws std::invalid_argument for an invalid size or eps.
  explicit RmsNorm(const RmsNormOptions& options)
      : detail::Norm<T>(
            {.name = "RmsNorm",
             .size = options.size,
             .eps = options.eps.value_or(static_cast<double>(std::numeric_limits<T>::epsilon())),
             .has_weight = options.affine,
             .has_bias = false,
             .is_centered = false,
             .is_eps_given = options.eps.has_value()}) {}
};

// Either of the two, for modules whose options say which.
enum class NormKind { layer_norm, rms_norm };

// A LayerNorm or an RmsNorm.
template <Scalar T>
class AnyNorm : public detail::Norm<T> {
 public:
  AnyNorm(LayerNorm<T> norm) : detail::Norm<T>(std::move(norm)) {}  // NOLINT: implicit
  AnyNorm(RmsNorm<T> norm) : detail::Norm<T>(std::move(norm)) {}    // NOLINT: implicit
};

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
