// SPDX-License-Identifier: MIT
#pragma once
// Norms of the last axis:
//   LayerNorm  y = (x - mean) / sqrt(variance + eps) * weight + bias,  variance = mean of (x - mean)^2
//              (Ba, Kiros, Hinton, 2016)
//   RmsNorm    y = x / sqrt(mean of x^2 + eps) * weight                (Zhang and Sennrich, 2019)
//   LayerNorm<float> norm({.size = 384, .eps = 1e-12});
//   y = norm.add_norm(attended, x);   // of the sum
// The mean is taken of the distances from the row's first number, and the variance of those from the
// mean: a constant row gives exactly the bias under any eps above 0, and a mean that is large beside the
// spread costs no digits. They are called, and trained, as norm.hpp says: [..., size] of any rank, packed
// rows among them; a row's bits are its own.
#include <cmath>
#include <limits>
#include <optional>
#include <ostream>
#include <string>

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

// As Python writes it: 1e-05, 0.001, 1e-12.
[[nodiscard]] inline std::string python_text(double eps) {
  const std::string text = number_text(eps);
  if (eps < 1e-4 || text.find('e') == std::string::npos) return text;
  std::string fixed = std::to_string(eps);  // six digits
  fixed.erase(fixed.find_last_not_of('0') + 1);
  return std::stod(fixed) == eps ? fixed : text;
}

inline std::ostream& print_norm(std::ostream& out, const char* name, Index size,
                                const std::string& rest) {
  return out << (size == 0 ? "Lazy" : "") << name << "((" << std::to_string(size) << ",), " << rest
             << ')';
}
[[nodiscard]] inline const char* python_bool(bool value) { return value ? "True" : "False"; }

}  // namespace detail

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

  // As PyTorch prints it: LayerNorm((384,), eps=1e-05, elementwise_affine=True, bias=True)
  friend std::ostream& operator<<(std::ostream& out, const LayerNorm& norm) {
    return detail::print_norm(out, "LayerNorm", norm.size(),
                              "eps=" + detail::python_text(norm.eps()) +
                                  ", elementwise_affine=" + detail::python_bool(norm.has_weight()) +
                                  ", bias=" + detail::python_bool(norm.has_bias()));
  }
};

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
             .is_centered = false}),
        has_eps_(options.eps.has_value()) {}

  // As PyTorch prints it: RMSNorm((384,), eps=None, elementwise_affine=True)
  friend std::ostream& operator<<(std::ostream& out, const RmsNorm& norm) {
    return detail::print_norm(
        out, "RMSNorm", norm.size(),
        "eps=" + (norm.has_eps_ ? detail::python_text(norm.eps()) : std::string("None")) +
            ", elementwise_affine=" + detail::python_bool(norm.has_weight()));
  }

 private:
  bool has_eps_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
