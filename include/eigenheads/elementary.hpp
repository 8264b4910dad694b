// SPDX-License-Identifier: MIT
#pragma once
// The library's own exp and log, for code around attention that must give the same bits as it does:
// on every CPU with a fused multiply-add and under any compiler flags (contract C6), where those of
// libm differ from version to version.
//   exp(logits, logits);  log({&sum, 1}, {&log_sum, 1});
#include <iterator>
#include <span>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/error.hpp>           // refuse
#include <eigenheads/kernels/chosen.hpp>  // elementary_kernels
#include <eigenheads/tensor.hpp>          // Scalar

namespace eigenheads::inline EIGENHEADS_ABI {
namespace detail {

template <Scalar T>
void require_same_length(const char* function, std::span<const T> x, std::span<T> y) {
  if (x.size() != y.size())
    refuse({function, ": y has ", y.size(), " elements; expected as many as x, ", x.size()});
}
template <Scalar T>
void exp_of(std::span<const T> x, std::span<T> y) {
  require_same_length("exp", x, y);
  elementary_kernels<T>().exp_array(x.data(), y.data(), std::ssize(x));
}
template <Scalar T>
void log_of(std::span<const T> x, std::span<T> y) {
  require_same_length("log", x, y);
  elementary_kernels<T>().log_array(x.data(), y.data(), std::ssize(x));
}

}  // namespace detail

// y[i] = e^x[i], within 2 units in the last place, for any number: where the result is below the
// smallest normal number it is 0, where it is above the largest infinity, and NaN stays NaN. y may
// be x, and may not overlap with it otherwise. Throws std::invalid_argument unless both have one
// length. Templates, so that the kernels are compiled for those who call it alone.
template <class = void>
void exp(std::span<const float> x, std::span<float> y) {
  detail::exp_of(x, y);
}
template <class = void>
void exp(std::span<const double> x, std::span<double> y) {
  detail::exp_of(x, y);
}

// y[i] = ln x[i], within 2 units in the last place, for any number: minus infinity for 0, as which
// subnormal numbers count, NaN for what lies below. Otherwise as exp.
template <class = void>
void log(std::span<const float> x, std::span<float> y) {
  detail::log_of(x, y);
}
template <class = void>
void log(std::span<const double> x, std::span<double> y) {
  detail::log_of(x, y);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
