// SPDX-License-Identifier: MIT
// The library's own elementary functions: the same bits on every CPU with a fused multiply-add,
// where libm's differ from version to version. Every product that feeds a sum is a written fma, so
// nothing is left for a compiler to contract. Coefficients: minimax in relative error, by Remez
// exchange.

template <class T>
inline constexpr T log2_e = T(1.442695040888963407359924681001892137);

// ln(2) in two parts; the first has so few digits that a product with an exponent is exact.
template <class T>
inline constexpr T ln2_high = sizeof(T) == 4 ? T(0x1.62e4p-1) : T(0x1.62e42fefa38p-1);
template <class T>
inline constexpr T ln2_low = sizeof(T) == 4 ? T(0x1.7f7d1cp-20) : T(0x1.ef35793c7673p-45);

// e^r on [-ln(2) / 2, ln(2) / 2], highest power first. Relative error 1.8571e-9 (float), 3.0582e-18
// (double) before rounding; `limit` is the first number whose e^t is normal, `infinite` the first
// whose e^t is not finite, and `last_finite` the number before it.
template <class T>
struct ExpCoefficients;
template <>
struct ExpCoefficients<float> {
  static constexpr float limit = -0x1.5d589ep+6f, infinite = 0x1.62e43p+6f;
  static constexpr float last_finite = 0x1.62e42ep+6f;
  static constexpr std::array<float, 7> value = {
      0.001383683574479838540624145f, 0.008374824030662807959614219f, 0.04166822618847283933946994f,
      0.1666642007244513939257986f,   0.4999999207510098284414351f,   1.000000036344639804081919f,
      1.000000000554606254157008f};
};
template <>
struct ExpCoefficients<double> {
  static constexpr double limit = -0x1.6232bdd7abcd2p+9, infinite = 0x1.62e42fefa39fp+9;
  static constexpr double last_finite = 0x1.62e42fefa39efp+9;
  static constexpr std::array<double, 12> value = {
      2.49943032738143951237368e-8,    0.0000002763230817489448581777201,
      0.00000275576226204719803904613, 0.00002480148648143640087134352,
      0.000198412694324704883441868,   0.001388888895126104161471934,
      0.008333333333559433932005683,   0.04166666666649262968416565,
      0.16666666666666168203886,       0.500000000000001770310766,
      1.000000000000000030394514,      0.9999999999999999970969711};
};

// e^t for t <= 0: within 2 ulp where the result is normal, exactly 0 below, NaN for NaN. Where the
// result is 0, the power is that of `limit`: no product overflows, and every n is in range.
//   e^t = 2^n e^r,   n = round(t / ln(2)),   r = t - n ln(2)
template <class T>
EIGEN_ALWAYS_INLINE Register<T> exp_register(Register<T> t) {
  using Coefficients = ExpCoefficients<T>;
  const Register<T> limit = broadcast(Coefficients::limit), near = max(limit, t);
  const Register<T> n = round(mul(near, broadcast(log2_e<T>)));
  const Register<T> r = fma(n, broadcast(-ln2_low<T>), fma(n, broadcast(-ln2_high<T>), near));
  Register<T> y = broadcast(Coefficients::value[0]);
#pragma GCC unroll 16
  for (std::size_t i = 1; i < Coefficients::value.size(); ++i)
    y = fma(y, r, broadcast(Coefficients::value[i]));
  return zero_if_below(scale_by_power(y, n), t, limit);
}

// e^(s - m) for s <= m, whose difference does not overflow.
template <class T>
EIGEN_ALWAYS_INLINE Register<T> exp_difference(Register<T> s, Register<T> m) {
  return exp_register(sub(s, m));
}
// The same bits for any two finite numbers, s <= m, at the cost of three more operations: halves
// cannot overflow. A half is exact, or the power is 1 with it and without.
template <class T>
EIGEN_ALWAYS_INLINE Register<T> exp_far_difference(Register<T> s, Register<T> m) {
  const Register<T> half = broadcast(T(0.5)), limit = broadcast(ExpCoefficients<T>::limit);
  const Register<T> distance = sub(mul(s, half), mul(m, half));
  const Register<T> near = zero_if_below(distance, distance, limit);
  return zero_if_below(exp_register(add(near, near)), distance, limit);
}
template <class T>
EIGEN_ALWAYS_INLINE T exp_far_difference(T s, T m) {
  T lanes[Register<T>::width];
  store(lanes, exp_far_difference(broadcast(s), broadcast(m)));
  return lanes[0];
}

// log(1 + f) = 2s + s z R(z), s = f / (2 + f), z = s^2, for 1 + f in [1/sqrt(2), sqrt(2)]. Relative
// error of R: 1.1e-9 (float), 2.0e-18 (double).
template <class T>
struct LogCoefficients;
template <>
struct LogCoefficients<float> {
  static constexpr std::array<float, 4> value = {
      0.2333238298332600888262483f, 0.2855073710904799835965267f, 0.4000012275374166578052056f,
      0.6666666655302046143729922f};
};
template <>
struct LogCoefficients<double> {
  static constexpr std::array<double, 8> value = {
      0.1308794965480994830112057, 0.1326863783500900197573958, 0.1538624513638542455300898,
      0.1818179553194475186994967, 0.2222222239281956997328184, 0.285714285707982319616172,
      0.4000000000000088679666969, 0.6666666666666646201851};
};

// The natural logarithm of a normal number above 0, within 2 ulp; NaN for NaN.
template <class T>
[[nodiscard]] EIGEN_ALWAYS_INLINE T natural_log(T x) {
  using Bits = detail::BitsOf<T>;
  using Coefficients = LogCoefficients<T>;
  constexpr int mantissa = std::numeric_limits<T>::digits - 1;
  constexpr Bits fraction = (Bits(1) << mantissa) - 1;
  constexpr Bits root_half = std::bit_cast<Bits>(T(0.70710678118654752440));
  if (detail::is_nan(x)) return x;
  // x = 2^n (1 + f): the exponent of x / sqrt(1/2), rounded down.
  const Bits shifted = std::bit_cast<Bits>(x) - root_half;
  const T n = static_cast<T>(static_cast<std::make_signed_t<Bits>>(shifted) >> mantissa);
  const T f = std::bit_cast<T>(static_cast<Bits>((shifted & fraction) + root_half)) - T(1);
  const T s = f / (T(2) + f), z = s * s, half = T(0.5) * f;
  T R = Coefficients::value[0];
#pragma GCC unroll 16
  for (std::size_t i = 1; i < Coefficients::value.size(); ++i)
    R = std::fma(R, z, Coefficients::value[i]);
  // 2s = f - s f, so log(1 + f) = f - (f^2 / 2 - s (f^2 / 2 + z R)): small corrections to exact
  // terms.
  const T correction = std::fma(s, std::fma(R, z, half * f), n * ln2_low<T>);
  return std::fma(n, ln2_high<T>, f - std::fma(half, f, -correction));
}

// The same of `width` numbers; anything for NaN.
template <class T>
[[nodiscard]] EIGEN_ALWAYS_INLINE Register<T> log_register(Register<T> x) {
  using Bits = detail::BitsOf<T>;
  using Words [[gnu::vector_size(sizeof(Register<T>))]] = Bits;
  using Integers [[gnu::vector_size(sizeof(Register<T>))]] = std::make_signed_t<Bits>;
  using Numbers [[gnu::vector_size(sizeof(Register<T>))]] = T;
  using Coefficients = LogCoefficients<T>;
  constexpr int mantissa = std::numeric_limits<T>::digits - 1;
  constexpr Bits fraction = (Bits(1) << mantissa) - 1;
  constexpr Bits root_half = std::bit_cast<Bits>(T(0.70710678118654752440));
  Words words;
  std::memcpy(&words, &x, sizeof words);
  words -= root_half;
  Integers shifted;
  std::memcpy(&shifted, &words, sizeof shifted);
  const Numbers exponents = __builtin_convertvector(shifted >> mantissa, Numbers);
  words = (words & fraction) + root_half;
  Register<T> n, mantissas;
  std::memcpy(&n, &exponents, sizeof n);
  std::memcpy(&mantissas, &words, sizeof mantissas);
  const Register<T> f = sub(mantissas, broadcast(T(1)));
  const Register<T> s = div(f, add(broadcast(T(2)), f)), z = mul(s, s);
  const Register<T> half = mul(broadcast(T(0.5)), f);
  Register<T> R = broadcast(Coefficients::value[0]);
#pragma GCC unroll 16
  for (std::size_t i = 1; i < Coefficients::value.size(); ++i)
    R = fma(R, z, broadcast(Coefficients::value[i]));
  const Register<T> correction = fma(s, fma(R, z, mul(half, f)), mul(n, broadcast(ln2_low<T>)));
  const Register<T> opposite = mul(correction, broadcast(T(-1)));
  return fma(n, broadcast(ln2_high<T>), sub(f, fma(half, f, opposite)));
}

// e^t for any t: infinity where it is too large for a T, and else as above, with the same bits.
template <class T>
EIGEN_ALWAYS_INLINE Register<T> exp_of_any(Register<T> t) {
  constexpr T infinite = ExpCoefficients<T>::infinite;
  // `excess` is 0 where e^t is finite, and the largest number where it is not.
  const Register<T> excess =
      zero_if_below(broadcast((std::numeric_limits<T>::max)()), t, broadcast(infinite));
  const Register<T> opposite = sub(broadcast(T(0)), t);
  const Register<T> finite =
      zero_if_below(t, opposite, broadcast(-ExpCoefficients<T>::last_finite));
  return add(add(exp_register(finite), excess), excess);
}

// y[i] = e^x[i]; y may be x.
template <class T>
void exp_array(const T* x, T* y, Index count) {
  constexpr Index S = Register<T>::width;
  for (Index i = 0; i < count; i += S) {
    T lanes[S] = {};
    std::copy_n(x + i, (std::min)(S, count - i), lanes);
    store(lanes, exp_of_any(load(lanes)));
    std::copy_n(lanes, (std::min)(S, count - i), y + i);
  }
}
// y[i] = ln x[i]; y may be x. Of 0 and of subnormal numbers minus infinity, of infinity infinity, of
// what lies below 0 NaN: written as bits, which no flag takes away.
template <class T>
void log_array(const T* x, T* y, Index count) {
  using Bits = detail::BitsOf<T>;
  constexpr Index S = Register<T>::width;
  constexpr Bits sign = std::bit_cast<Bits>(T(-0.0)), infinity = detail::infinity_bits<T>;
  constexpr Bits normal = std::bit_cast<Bits>((std::numeric_limits<T>::min)());
  constexpr Bits nan = infinity | infinity >> 1;
  for (Index first = 0; first < count; first += S) {
    const Index width = (std::min)(S, count - first);
    T from[S] = {}, lanes[S];
    std::copy_n(x + first, width, from);
    store(lanes, log_register(load(from)));
    for (Index i = 0; i < width; ++i) {
      const auto bits = std::bit_cast<Bits>(from[i]), size = static_cast<Bits>(bits & ~sign);
      if (size < normal)
        lanes[i] = std::bit_cast<T>(static_cast<Bits>(sign | infinity));
      else if (bits > infinity)  // below 0, or NaN
        lanes[i] = std::bit_cast<T>(nan);
      else if (bits == infinity)
        lanes[i] = from[i];
    }
    std::copy_n(lanes, width, y + first);
  }
}
