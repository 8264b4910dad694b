// SPDX-License-Identifier: MIT
// sin and cos of any finite number, one number at a time: what takes them (positions, rotations) does
// so once, for a table.
//   x = q pi/2 + r, |r| <= pi/4, q whole: sin x is, by q mod 4, sin r, cos r, -sin r or -cos r.
// The reduction is exact for every x in the same way (Payne and Hanek, 1983), in integers: x is
// M 2^(E - 63) with M of 64 bits, and of 2/pi only 192 bits matter, those below which M's product is no
// multiple of 4. They give q mod 4 and 126 bits of the fraction, of which no more than 61 are zeros that
// lead, for a double, and 31 for a float.

// 2/pi after 128 zeros: bit k has the weight 2^(127 - k).
inline constexpr std::array<std::uint64_t, 21> two_over_pi = {0,
                                                              0,
                                                              0xA2F9836E4E441529,
                                                              0xFC2757D1F534DDC0,
                                                              0xDB6295993C439041,
                                                              0xFE5163ABDEBBC561,
                                                              0xB7246E3A424DD2E0,
                                                              0x06492EEA09D1921C,
                                                              0xFE1DEB1CB129A73E,
                                                              0xE88235F52EBB4484,
                                                              0xE99C7026B45F7E41,
                                                              0x3991D639835339F4,
                                                              0x9C845F8BBDF9283B,
                                                              0x1FF897FFDE05980F,
                                                              0xEF2F118B5A0A6D1F,
                                                              0x6D367ECF27CB09B7,
                                                              0x4F463F669E5FEA2D,
                                                              0x7527BAC7EBE5F17B,
                                                              0x3D0739F78A5292EA,
                                                              0x6BFB5FB11F8D5D08,
                                                              0x56033046FC7B6BAB};

struct WideProduct {
  std::uint64_t high, low;
};
[[nodiscard]] EIGEN_ALWAYS_INLINE WideProduct multiply(std::uint64_t a, std::uint64_t b) {
  constexpr std::uint64_t half = 0xFFFFFFFFu;
  const std::uint64_t low = (a & half) * (b & half), cross = (a >> 32) * (b & half) + (low >> 32);
  const std::uint64_t other = (a & half) * (b >> 32) + (cross & half);
  return {(a >> 32) * (b >> 32) + (cross >> 32) + (other >> 32), (other << 32) | (low & half)};
}

template <class T>
struct QuarterTurns {
  T r;
  unsigned q;
};
// For a finite x of at least 1/2.
template <class T>
[[nodiscard]] QuarterTurns<T> quarter_turns(T x) {
  using Bits = detail::BitsOf<T>;
  constexpr int digits = std::numeric_limits<T>::digits;
  constexpr int bias = std::numeric_limits<T>::max_exponent - 1;
  const auto bits = std::bit_cast<Bits>(x);
  const int exponent = static_cast<int>(bits >> (digits - 1)) - bias;
  const std::uint64_t mantissa = std::uint64_t{bits} << (64 - digits) | std::uint64_t{1} << 63;

  const auto first = static_cast<unsigned>(exponent + 63), word = first / 64, shift = first % 64;
  const auto bits_from = [&](unsigned i) {
    const std::uint64_t* from = two_over_pi.data() + word + i;
    return shift == 0 ? from[0] : from[0] << shift | from[1] >> (64 - shift);
  };
  // The product's lowest 192 bits, of which the first two are q and the last 64 are not wanted.
  const WideProduct low = multiply(mantissa, bits_from(2)),
                    middle = multiply(mantissa, bits_from(1));
  const std::uint64_t second = low.high + middle.low;
  const std::uint64_t top = mantissa * bits_from(0) + middle.high + (second < low.high ? 1 : 0);
  std::uint64_t high = top << 2 | second >> 62, rest = second << 2;
  // To the nearest q: what is over half a quarter is short of the next.
  const bool is_short = high >> 63 != 0;
  if (is_short) {
    high = ~high + (rest == 0 ? 1 : 0);
    rest = 0 - rest;
  }
  int zeros = 0;
  if (high == 0) {
    zeros = 64;
    high = rest;
    rest = 0;
  }
  if (const int more = std::countl_zero(high); more > 0) {
    zeros += more;
    high = high << more | rest >> (64 - more);
  }
  constexpr std::uint64_t half_pi = 0xC90FDAA22168C235;  // times 2^63
  const T r = static_cast<T>(multiply(high, half_pi).high);
  const T power = std::bit_cast<T>(static_cast<Bits>(bias - 63 - zeros) << (digits - 1));
  return {is_short ? -(r * power) : r * power, static_cast<unsigned>(top >> 62) + is_short};
}

// sin r = r + r^3 S(r^2), cos r = 1 + r^2 C(r^2) for |r| <= pi/4. Relative error: 5.2e-12 and 6.4e-11
// (float), 2.1e-21 and 3.9e-20 (double).
template <class T>
struct SineCoefficients;
template <>
struct SineCoefficients<float> {
  static constexpr std::array<float, 4> sine = {
      0.00000271811411543876030571475f, -0.000198393114851412406070688f,
      0.00833332930241634190601845f, -0.16666666640776230002533f};
  static constexpr std::array<float, 4> cosine = {
      0.0000243834827949021112278916f, -0.00138866807508464724724795f, 0.0416666203287660121243597f,
      -0.499999996942251255881808f};
};
template <>
struct SineCoefficients<double> {
  static constexpr std::array<double, 7> sine = {
      -7.57852670031396191899311e-13, 1.60583628949013741283435e-10,
      -2.50521048797655118570535e-8,  0.00000275573192140569678853218,
      -0.000198412698412547845855636, 0.00833333333333332249283746,
      -0.166666666666666666402174};
  static constexpr std::array<double, 7> cosine = {
      -1.13532575526195128871011e-11,    2.0875581751763153552062e-9,
      -0.000000275573131135787631859569, 0.0000248015872840804193271223,
      -0.00138888888888619725752822,     0.041666666666666469607928,
      -0.499999999999999995091238};
};
template <class T, std::size_t N>
[[nodiscard]] EIGEN_ALWAYS_INLINE T polynomial(const std::array<T, N>& coefficients, T x) {
  T y = coefficients[0];
#pragma GCC unroll 16
  for (std::size_t i = 1; i < N; ++i) y = std::fma(y, x, coefficients[i]);
  return y;
}

// sin(x) for shift 0, cos(x) for shift 1, which is sin(x + pi/2). Within 2 ulp; NaN for infinity.
template <class T>
[[nodiscard]] T shifted_sine(T x, unsigned shift) {
  using Bits = detail::BitsOf<T>;
  constexpr T tiny = T(sizeof(T) == 4 ? 0x1p-12 : 0x1p-27);  // sin x rounds to x, cos x to 1
  constexpr Bits nan = detail::infinity_bits<T> | detail::infinity_bits<T> >> 1;
  if (!detail::is_finite(x)) return std::bit_cast<T>(nan);
  const T size = std::abs(x);
  if (size < tiny) return shift == 0 ? x : T(1);
  QuarterTurns<T> turns{size, 0};
  if (!(size < T(0.785))) turns = quarter_turns(size);
  const T r = turns.r, square = r * r;
  const unsigned q = turns.q + shift;
  const T y = q % 2 != 0 ? std::fma(square, polynomial(SineCoefficients<T>::cosine, square), T(1))
                         : std::fma(r * square, polynomial(SineCoefficients<T>::sine, square), r);
  const bool is_odd = shift == 0 && std::signbit(x);
  return (q % 4 >= 2) != is_odd ? -y : y;
}

template <class T>
void sin_array(const T* x, T* y, Index count) {
  for (Index i = 0; i < count; ++i) y[i] = shifted_sine(x[i], 0);
}
template <class T>
void cos_array(const T* x, T* y, Index count) {
  for (Index i = 0; i < count; ++i) y[i] = shifted_sine(x[i], 1);
}
