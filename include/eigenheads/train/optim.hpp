// SPDX-License-Identifier: MIT
#pragma once
// Optimizers, and what stands around them in a training loop:
//   eh::Adam<float> adam({.learning_rate = 1e-3});
//   for (...) {
//     adam.set_learning_rate(eh::warmup_then_cosine(adam.step_count(), 100, 10000, 1e-3));
//     auto gradients = ...;
//     eh::clip_gradient_norm(1.0, gradients);
//     adam.step(layer, gradients);
//   }
// Every product that feeds a sum is a fused multiply-add, and of libm there is only sqrt besides,
// which IEEE 754 fixes: the same numbers give the same bits from every compiler on every machine,
// as long as -ffast-math does not let it divide in other ways.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include <eigenheads/detail/float_bits.hpp>  // is_finite
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>            // refuse
#include <eigenheads/parameter.hpp>        // HasParameters
#include <eigenheads/tensor.hpp>           // Scalar, Index
#include <eigenheads/train/optimizer.hpp>  // Optimizer, require_option

namespace eigenheads::inline EIGENHEADS_ABI {

struct SgdOptions {
  double learning_rate = 1e-3;
  double momentum = 0;
  double weight_decay = 0;  // in the gradient, as L2 regularisation
  bool nesterov = false;
};

// As torch.optim.SGD (dampening = 0) computes it:
//   g = g + weight_decay x;   u = momentum u + g;   g = nesterov ? g + momentum u : u
//   x = x - learning_rate g
// https://pytorch.org/docs/stable/generated/torch.optim.SGD.html
template <Scalar T>
class SgdRule {
 public:
  using Value = T;
  using Options = SgdOptions;
  static constexpr std::string_view name = "Sgd";
  static constexpr std::array<std::string_view, 1> moments{"momentum"};  // u

  static void require_valid(const SgdOptions& o) {
    using detail::require_number;
    using detail::require_option;
    require_number<T>(name, "learning_rate", o.learning_rate, o.learning_rate > 0, "more than 0");
    require_option(name, "momentum", o.momentum, o.momentum >= 0 && o.momentum < 1,
                   "0 <= momentum < 1");
    require_option(name, "momentum", o.momentum, static_cast<T>(o.momentum) < 1,
                   "one that the element type does not round to 1");
    require_number<T>(name, "weight_decay", o.weight_decay, o.weight_decay >= 0, "0 or more");
    if (o.nesterov && o.momentum == 0)
      detail::refuse({name, ": nesterov is asked for; expected a momentum of more than 0 then"});
  }
  static std::array<double, 4> numbers(const SgdOptions& o) {
    return {o.learning_rate, o.momentum, o.weight_decay, o.nesterov ? 1.0 : 0.0};
  }
  static std::size_t moment_count(const SgdOptions& o) { return o.momentum > 0 ? 1 : 0; }

  SgdRule(const SgdOptions& o, std::int64_t)
      : rate_(static_cast<T>(o.learning_rate)),
        momentum_(static_cast<T>(o.momentum)),
        decay_(static_cast<T>(o.weight_decay)),
        has_momentum_(o.momentum > 0),
        nesterov_(o.nesterov) {}

  T operator()(T x, T g, const std::array<T*, 1>& moment, Index i) const {
    g = std::fma(decay_, x, g);
    if (has_momentum_) {
      T& u = moment[0][i];
      u = std::fma(momentum_, u, g);
      g = nesterov_ ? std::fma(momentum_, u, g) : u;
    }
    return std::fma(-rate_, g, x);
  }

 private:
  T rate_, momentum_, decay_;
  bool has_momentum_, nesterov_;
};

struct AdamOptions {
  double learning_rate = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double epsilon = 1e-8;
  double weight_decay = 0;  // decoupled from the gradient: then this is AdamW
};

namespace detail {

// 1 - beta^step without the power, which would cancel and which compilers would contract: with
// c_n = 1 - beta^n, c_(m + n) = c_m + c_n (1 - c_m).
[[nodiscard]] inline double bias_correction(double beta, std::int64_t step) {
  double result = 0, doubled = 1 - beta;
  for (; step > 0; step /= 2) {
    if (step % 2 == 1) result = std::fma(doubled, 1 - result, result);
    doubled = std::fma(doubled, 1 - doubled, doubled);
  }
  return result;
}

}  // namespace detail

// Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1; the decay of the
// weights as Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2:
//   m = beta1 m + (1 - beta1) g;   v = beta2 v + (1 - beta2) g^2
//   x = x - learning_rate weight_decay x
//         - learning_rate (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)
// where the schedule multiplies the decay too, as in
// https://pytorch.org/docs/stable/generated/torch.optim.AdamW.html
template <Scalar T>
class AdamRule {
 public:
  using Value = T;
  using Options = AdamOptions;
  static constexpr std::string_view name = "Adam";
  static constexpr std::array<std::string_view, 2> moments{"m", "v"};

  static void require_valid(const AdamOptions& o) {
    using detail::require_number;
    using detail::require_option;
    require_option(name, "beta1", o.beta1, o.beta1 >= 0 && o.beta1 < 1, "0 <= beta1 < 1");
    require_option(name, "beta2", o.beta2, o.beta2 >= 0 && o.beta2 < 1, "0 <= beta2 < 1");
    require_number<T>(name, "learning_rate", o.learning_rate, o.learning_rate > 0, "more than 0");
    // The first step's.
    require_option(name, "learning_rate", o.learning_rate,
                   detail::has_number<T>(o.learning_rate / (1 - o.beta1)),
                   "one of which learning_rate / (1 - beta1) is a number of the element type");
    require_option(name, "epsilon", o.epsilon, detail::has_number<T>(o.epsilon),
                   "a number that the element type has");
    // Where a gradient was always 0, epsilon alone divides.
    require_option(name, "epsilon", o.epsilon, static_cast<T>(o.epsilon) > 0,
                   "more than 0, and not too small for the element type");
    require_number<T>(name, "weight_decay", o.weight_decay, o.weight_decay >= 0, "0 or more");
  }
  static std::array<double, 5> numbers(const AdamOptions& o) {
    return {o.learning_rate, o.beta1, o.beta2, o.epsilon, o.weight_decay};
  }
  static std::size_t moment_count(const AdamOptions&) { return 2; }

  AdamRule(const AdamOptions& o, std::int64_t step)
      : beta1_(static_cast<T>(o.beta1)),
        beta2_(static_cast<T>(o.beta2)),
        new1_(static_cast<T>(1 - o.beta1)),
        new2_(static_cast<T>(1 - o.beta2)),
        step_size_(static_cast<T>(o.learning_rate / detail::bias_correction(o.beta1, step))),
        root_scale_(static_cast<T>(1 / std::sqrt(detail::bias_correction(o.beta2, step)))),
        epsilon_(static_cast<T>(o.epsilon)),
        kept_(static_cast<T>(std::fma(-o.learning_rate, o.weight_decay, 1.0))) {}

  T operator()(T x, T g, const std::array<T*, 2>& moment, Index i) const {
    T &m = moment[0][i], &v = moment[1][i];
    m = std::fma(beta1_, m, new1_ * g);
    v = std::fma(beta2_, v, new2_ * g * g);
    return std::fma(-step_size_, m / std::fma(std::sqrt(v), root_scale_, epsilon_), kept_ * x);
  }

 private:
  T beta1_, beta2_, new1_, new2_, step_size_, root_scale_, epsilon_, kept_;
};

template <Scalar T>
using Sgd = Optimizer<SgdRule<T>>;
template <Scalar T>
using Adam = Optimizer<AdamRule<T>>;

// Scales the gradients so that all of them together have at most the norm max_norm, to a rounding of
// each number, and returns the norm that they had: sqrt(sum of squares), added up in double in the order
// of the arguments, their parameters and elements. If it is not finite, which is for the caller to see,
// they stay as they are. Throws std::invalid_argument unless max_norm is finite and more than 0.
template <HasParameters... Gradients>
requires(sizeof...(Gradients) > 0)
double clip_gradient_norm(double max_norm, Gradients&... gradients) {
  detail::require_option("clip_gradient_norm", "max_norm", max_norm, max_norm > 0, "more than 0");
  double sum = 0;
  const auto add = [&sum](const auto& parameter) {
    detail::run_on_this_cpu([&sum, elements = parameter.elements()] {
      double total = sum;
      for (const auto g : elements)
        total = std::fma(static_cast<double>(g), static_cast<double>(g), total);
      sum = total;
    });
  };
  (gradients.for_each_parameter(add), ...);
  const double norm = std::sqrt(sum);
  if (!detail::is_finite(norm) || norm <= max_norm) return norm;
  const double scale = max_norm / norm;
  const auto shrink = [scale](const auto& parameter) {
    for (auto& g : parameter.elements())
      g = static_cast<std::remove_reference_t<decltype(g)>>(scale * static_cast<double>(g));
  };
  (gradients.for_each_parameter(shrink), ...);
  return norm;
}

// The learning rate of a step, counted from 0: it rises in `warmup` steps to the peak, and falls
// along half a cosine to 0 at `total`. Throws std::invalid_argument unless step >= 0 and
// 0 <= warmup <= total.
[[nodiscard]] inline double warmup_then_cosine(std::int64_t step, std::int64_t warmup,
                                               std::int64_t total, double peak) {
  if (step < 0 || warmup < 0 || total < warmup)
    detail::refuse({"warmup_then_cosine: step is ", step, ", warmup ", warmup, ", total ", total,
                    "; expected step >= 0 and 0 <= warmup <= total"});
  if (step < warmup) return peak * static_cast<double>(step + 1) / static_cast<double>(warmup);
  if (step >= total) return 0;
  // cos(pi p) = -sin(z) with z = pi (p - 1/2): Taylor's series up to z^21, since libm's differ.
  constexpr double pi = 3.14159265358979323846;
  const double z =
      pi * (static_cast<double>(step - warmup) / static_cast<double>(total - warmup) - 0.5);
  double series = 1;
  for (int n = 20; n >= 2; n -= 2) series = std::fma(-z * z / (n * (n + 1)), series, 1.0);
  // The last of many steps are a rounding below 0.
  return peak * 0.5 * (std::max)(std::fma(-z, series, 1.0), 0.0);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
