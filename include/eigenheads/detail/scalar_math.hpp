// SPDX-License-Identifier: MIT
#pragma once
// The scalar forms of the kernels' functions, for score functions: no libm result decides a bit, and
// std::fma becomes one instruction where they are inlined into a kernel.
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include <eigenheads/detail/float_bits.hpp>  // BitsOf, is_nan
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/tensor.hpp>  // Scalar

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// Minimax coefficients, highest power first.
template <Scalar T>
struct TanhCoefficients;
template <>
struct TanhCoefficients<float> {
  static constexpr std::array<float, 7> exp2 = {0.00015345812161311629759f,
                                                0.0013399931177239737967f,
                                                0.0096184889563311816196f,
                                                0.05550328777105324799f,
                                                0.24022646890645520696f,
                                                0.69314720573719575134f,
                                                1.0f};
  static constexpr std::array<float, 5> near_zero = {
      -0.006113192880712604083171482f, 0.02101008254051881476720464f, -0.0538540700627366274311535f,
      0.1333279454998278684012129f, -0.3333332924959496892340096f};
};
template <>
struct TanhCoefficients<double> {
  static constexpr std::array<double, 12> exp2 = {
      4.435282706957277151105565e-10,   7.074105613508142796256455e-9,
      0.000000101781980216719308437407, 0.000001321543308967639917985653,
      0.00001525273348998852564857959,  0.000154035304625144320622701,
      0.001333355814678992172153563,    0.009618129107588335244311101,
      0.0555041086648199216047576,      0.2402265069591015620409356,
      0.6931471805599453304599054,      1.0};
  static constexpr std::array<double, 12> near_zero = {
      0.000006502696288434603185715506, -0.00003123879962833345042484917,
      0.00009260616568818231949960692,  -0.0002376090193997466764753939,
      0.0005896666441592882552938104,   -0.001455776665365494284629623,
      0.003592121919687434371675709,    -0.008863235117371095820030274,
      0.021869488519699572860213,       -0.05396825396791433998569482,
      0.1333333333333305859044128,      -0.3333333333333333296540326};
};

// Without a loop: one in the caller's loop keeps g++ -O2 from vectorising that, which makes a Softcap
// of attention's scores four times as slow.
template <Scalar T, std::size_t N>
EIGEN_ALWAYS_INLINE T polynomial(const std::array<T, N>& coefficients, T x) {
  return [&]<std::size_t... I>(std::index_sequence<I...>) {
    T y = coefficients[0];
    ((y = std::fma(y, x, coefficients[I + 1])), ...);
    return y;
  }(std::make_index_sequence<N - 1>());
}

// condition ? yes : no, by bits: of a conditional g++ makes a branch with all that only one side needs
// or knows to be constant, and then vectorises nothing.
template <Scalar T>
EIGEN_ALWAYS_INLINE T choose(bool condition, T yes, T no) {
  using Bits = BitsOf<T>;
  const Bits mask = Bits(0) - static_cast<Bits>(condition);
  return std::bit_cast<T>(
      static_cast<Bits>((std::bit_cast<Bits>(yes) & mask) | (std::bit_cast<Bits>(no) & ~mask)));
}

// Within 2 ulp; NaN for NaN. Without branches, so that it is vectorised: both forms are reckoned, of
// a size that overflows in neither.
template <Scalar T>
EIGEN_ALWAYS_INLINE T tanh(T x) {
  using Coefficients = TanhCoefficients<T>;
  constexpr int mantissa = std::numeric_limits<T>::digits - 1;
  // (1 - e) / (1 + e), e = exp(-2 |x|), of which less than a rounding is left beyond |x| = 22.
  const T size = std::abs(x), limited = choose(size < T(22), size, T(22)),
          square = limited * limited;
  const T near_zero =
      std::fma(limited * square, polynomial(Coefficients::near_zero, square), limited);
  constexpr T rate = T(-2 * 1.442695040888963407359924681);
  const T n = std::rint(limited * rate);
  const T power = polynomial(Coefficients::exp2, std::fma(limited, rate, -n));
  const auto shift = static_cast<BitsOf<T>>(static_cast<std::int32_t>(n));
  const T e = std::bit_cast<T>(
      static_cast<BitsOf<T>>(std::bit_cast<BitsOf<T>>(power) + (shift << mantissa)));
  const T far = (1 - e) / (1 + e);
  return choose(is_nan(x), x, std::copysign(choose(size < T(0.625), near_zero, far), x));
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
