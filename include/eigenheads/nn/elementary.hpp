// SPDX-License-Identifier: MIT
#pragma once
// More of the library's own elementary functions (see elementary.hpp): the same bits on every CPU with
// a fused multiply-add and under any compiler flags, and within 2 units in the last place for any number.
//   sin(angles, table);  erf(x, x);
// y may be x, and may not overlap with it otherwise. Throws std::invalid_argument unless both have one
// length. NaN stays NaN.
#include <iterator>
#include <span>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/elementary.hpp>         // require_same_length
#include <eigenheads/kernels/nn/chosen.hpp>  // nn_kernels

namespace eigenheads::inline EIGENHEADS_ABI {
namespace detail {

template <Scalar T>
void erf_of(std::span<const T> x, std::span<T> y) {
  require_same_length("erf", x, y);
  nn_kernels<T>().erf_array(x.data(), y.data(), std::ssize(x));
}
template <Scalar T>
void tanh_of(std::span<const T> x, std::span<T> y) {
  require_same_length("tanh", x, y);
  nn_kernels<T>().tanh_array(x.data(), y.data(), std::ssize(x));
}
template <Scalar T>
void sin_of(std::span<const T> x, std::span<T> y) {
  require_same_length("sin", x, y);
  nn_kernels<T>().sin_array(x.data(), y.data(), std::ssize(x));
}
template <Scalar T>
void cos_of(std::span<const T> x, std::span<T> y) {
  require_same_length("cos", x, y);
  nn_kernels<T>().cos_array(x.data(), y.data(), std::ssize(x));
}

}  // namespace detail

// y[i] = 2 / sqrt(pi) times the integral of e^(-t^2) from 0 to x[i].
inline void erf(std::span<const float> x, std::span<float> y) { detail::erf_of(x, y); }
inline void erf(std::span<const double> x, std::span<double> y) { detail::erf_of(x, y); }

// y[i] = tanh x[i], with the bits of a Softcap's.
inline void tanh(std::span<const float> x, std::span<float> y) { detail::tanh_of(x, y); }
inline void tanh(std::span<const double> x, std::span<double> y) { detail::tanh_of(x, y); }

// y[i] = sin x[i] or cos x[i], of any finite number, however large: it is reduced by as many digits of
// pi as it takes. NaN for infinity.
inline void sin(std::span<const float> x, std::span<float> y) { detail::sin_of(x, y); }
inline void sin(std::span<const double> x, std::span<double> y) { detail::sin_of(x, y); }
inline void cos(std::span<const float> x, std::span<float> y) { detail::cos_of(x, y); }
inline void cos(std::span<const double> x, std::span<double> y) { detail::cos_of(x, y); }

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
