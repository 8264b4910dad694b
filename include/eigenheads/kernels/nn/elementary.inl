// SPDX-License-Identifier: MIT
// What the activations are made of, in registers. As in math.inl every product that feeds a sum is a
// written fma, and coefficients are minimax in relative error, by Remez exchange, highest power
// first.

// y[i] = function(x[i]); y may be x. The function stands here once, so that it is inlined.
template <class T, class Function>
EIGEN_ALWAYS_INLINE void map_array(const T* x, T* y, Index count, const Function& function) {
  constexpr Index S = Register<T>::width;
  for (Index i = 0; i < count; i += S) {
    T lanes[S];
    const bool is_full = i + S <= count;
    if (!is_full) std::fill(std::copy_n(x + i, count - i, lanes), lanes + S, T(0));
    store(is_full ? y + i : lanes, function(load(is_full ? x + i : lanes)));
    if (!is_full) std::copy_n(lanes, count - i, y + i);
  }
}

template <class T, std::size_t N>
EIGEN_ALWAYS_INLINE Register<T> polynomial(const std::array<T, N>& coefficients, Register<T> x) {
  Register<T> y = broadcast(coefficients[0]);
#pragma GCC unroll 32
  for (std::size_t i = 1; i < N; ++i) y = fma(y, x, broadcast(coefficients[i]));
  return y;
}

template <class T>
EIGEN_ALWAYS_INLINE Register<T> negative(Register<T> x) {
  return sub(broadcast(T(0)), x);
}
// y, but NaN where x is: a compiler that assumes that there is no NaN may make a comparison and a
// choice the maximum of two numbers, of which the processor then takes the one that is a number. For
// any other it is y, at no cost.
template <class T>
EIGEN_ALWAYS_INLINE Register<T> nan_kept(Register<T> x, Register<T> y) {
  if constexpr (detail::compiler_assumes_no_nan) {
    using Bits = detail::BitsOf<T>;
    constexpr Bits size = std::numeric_limits<Bits>::max() >> 1;
    Bits of_x[Register<T>::width], of_y[Register<T>::width];
    std::memcpy(of_x, &x, sizeof of_x);
    std::memcpy(of_y, &y, sizeof of_y);
    for (Index i = 0; i < Register<T>::width; ++i)
      of_y[i] |= (of_x[i] & size) > detail::infinity_bits<T> ? size : Bits{0};
    std::memcpy(&y, of_y, sizeof of_y);
  }
  return y;
}
// |x|, but at most `limit`; NaN for NaN.
template <class T>
EIGEN_ALWAYS_INLINE Register<T> limited_size(Register<T> x, T limit) {
  const Register<T> size = absolute(x), most = broadcast(limit);
  return nan_kept(x, select_below(most, size, most, size));
}

// Tails fall like e^-t, and times something large they are normal where e^-t is not. So it comes
// 2^tail_lift times as large, and for t up to tail_limit, where it is still normal: divided by that,
// it is so small that its product with t is 0.
template <class T>
inline constexpr int tail_lift = sizeof(T) == 4 ? 40 : 72;
template <class T>
inline constexpr T tail_limit = T(sizeof(T) == 4 ? 114 : 757);
template <class T>
inline constexpr T tail_unit = T(sizeof(T) == 4 ? 0x1p-40 : 0x1p-72);

// 2^tail_lift e^t for t in [-tail_limit, 0].
template <class T>
EIGEN_ALWAYS_INLINE Register<T> exp_tail(Register<T> t) {
  const Register<T> n = round(mul(t, broadcast(log2_e<T>)));
  const Register<T> r = fma(n, broadcast(-ln2_low<T>), fma(n, broadcast(-ln2_high<T>), t));
  return scale_by_power(polynomial(ExpCoefficients<T>::value, r),
                        add(n, broadcast(T(tail_lift<T>))));
}
// 2^tail_lift e^(-part size^2), of whose exponent no digit is lost: it may be 100, and an error of a
// unit in it is one of 100 units in the power. part is 1 or 1/2.
template <class T>
EIGEN_ALWAYS_INLINE Register<T> exp_of_square(Register<T> size, T part) {
  const Register<T> square = mul(size, size), lost = fma(size, size, negative(square));
  const Register<T> less = broadcast(-part), t = mul(square, less);
  const Register<T> n = round(mul(t, broadcast(log2_e<T>)));
  const Register<T> r =
      fma(lost, less, fma(n, broadcast(-ln2_low<T>), fma(n, broadcast(-ln2_high<T>), t)));
  return scale_by_power(polynomial(ExpCoefficients<T>::value, r),
                        add(n, broadcast(T(tail_lift<T>))));
}

// The normal distribution's tail, Phi(-t) = e^(-t^2 / 2) R(t): R(t) = w Q(w), w = 1 / (t + shift),
// falls from 1/2 to 0 like 1 / (sqrt(2 pi) t). Relative error of Q: 8.9e-9 (float), 9.3e-18 (double)
// for t in [0, limit].
template <class T>
struct NormalTail;
template <>
struct NormalTail<float> {
  static constexpr float limit = 15.0f, shift = 4.0f;
  static constexpr std::array<float, 2> slope = {-9.2f, -0.8f};  // within 0.1, of minus it
  static constexpr std::array<float, 10> Q = {
      17871.672902319445914061f,  -17138.6589501644128960315f, 3795.2259137241152918397f,
      324.796826049997773760732f, 82.4371009477917680791041f,  84.5032425133101848749166f,
      18.8133558091176357032007f, 6.09160911540640505847764f,  1.5925576719585240618764f,
      0.398982426260013850943472f};
};
template <>
struct NormalTail<double> {
  static constexpr double limit = 38.9, shift = 4.5;
  static constexpr std::array<double, 2> slope = {-14.4, -0.35};
  static constexpr std::array<double, 23> Q = {
      622746374064.638565516744,  -1463872764554.68169007285, 1516866507555.62813994478,
      -886688800031.662332581521, 300640256724.218644911498,  -44831063399.0917257125705,
      -8395125297.64503945882437, 6600020460.27094466267327,  -1972793067.89228918539488,
      398141609.291609144865572,  -59702158.9045541058070968, 6637246.62963231792322733,
      -679822.758908962306172938, 45476.3821601813998648933,  2623.31128952074429338975,
      3203.21837785841615920202,  1211.71631839178299021635,  399.688277063601409109359,
      116.313650187074307702313,  30.9679419462546791622124,  7.67963837411643405116473,
      1.79524026535456780503703,  0.398942280390335315496342};
};
// Near 0 a rounding of t + shift, or of w, is one of R that is three times as large, for of R the relative
// change is `slope` times that of w. Both roundings are known, so they are taken back.
template <class T>
EIGEN_ALWAYS_INLINE Register<T> normal_tail_ratio(Register<T> t) {
  const Register<T> shift = broadcast(NormalTail<T>::shift), sum = add(t, shift);
  const Register<T> w = div(broadcast(T(1)), sum), lost = sub(t, sub(sum, shift));
  const Register<T> excess = fma(w, lost, fma(w, sum, broadcast(T(-1))));
  const Register<T> slope =
      fma(w, broadcast(NormalTail<T>::slope[0]), broadcast(NormalTail<T>::slope[1]));
  const Register<T> ratio = mul(w, polynomial(NormalTail<T>::Q, w));
  return fma(mul(ratio, slope), excess, ratio);
}

// erf(x) = x + x P(x^2) for |x| < 1. Relative error of P + 1: 3.4e-11 (float), 1.3e-19 (double).
template <class T>
struct ErfCoefficients;
template <>
struct ErfCoefficients<float> {
  static constexpr std::array<float, 8> value = {
      -0.00000964151945167347817176368f, 0.000112569490901661549304047f,
      -0.000848282900820965809208992f,   0.00522094544397722480355607f,
      -0.0268654000460785496301317f,     0.112837819741718901081666f,
      -0.376126384346552773733164f,      0.12837916705802270788237f};
};
template <>
struct ErfCoefficients<double> {
  static constexpr std::array<double, 13> value = {
      5.94525927466964015747151e-11,   -1.13656644853532171376548e-9,
      1.46578794587803114509854e-8,    -0.000000163500251658141253388678,
      0.00000164609728117215025243628, -0.0000149255935065659417204605,
      0.000120553310368864825642181,   -0.000854832697874185572276392,
      0.00522397762478086084483351,    -0.0268661706450728943064188,
      0.112837916709548574891335,      -0.376126389031837476041354,
      0.1283791670955125737498};
};
// Within 2 ulp. Beyond 1 it is 1 - 2 e^(-x^2) R(sqrt(2) x), and exactly 1 from where no digit is left.
template <class T>
EIGEN_ALWAYS_INLINE Register<T> erf_register(Register<T> x) {
  constexpr T limit = T(sizeof(T) == 4 ? 10 : 27);  // of sqrt(2) of it, R knows
  const Register<T> one = broadcast(T(1)), size = limited_size(x, limit);
  const Register<T> square = mul(size, size);
  const Register<T> near_zero = fma(size, polynomial(ErfCoefficients<T>::value, square), size);
  const Register<T> power = exp_of_square(size, T(1));
  // + 0, for a compiler would contract the product with the sum in which it is next.
  const Register<T> t = fma(size, broadcast(T(1.414213562373095048801688724)), broadcast(T(0)));
  const Register<T> ratio = normal_tail_ratio(t);
  const Register<T> far = fma(mul(power, ratio), broadcast(-2 * tail_unit<T>), one);
  return with_sign(select_below(size, one, near_zero, far), x);
}

// The operations of detail::tanh, so the same bits.
template <class T>
EIGEN_ALWAYS_INLINE Register<T> tanh_register(Register<T> x) {
  using Coefficients = TanhCoefficients<T>;
  const Register<T> one = broadcast(T(1)), rate = broadcast(T(-2 * 1.442695040888963407359924681));
  const Register<T> size = limited_size(x, T(22)), square = mul(size, size);
  const Register<T> near_zero =
      fma(mul(size, square), polynomial(Coefficients::near_zero, square), size);
  const Register<T> n = round(mul(size, rate));
  const Register<T> power = polynomial(Coefficients::exp2, fma(size, rate, negative(n)));
  const Register<T> e = scale_by_power(power, n);
  const Register<T> far = div(sub(one, e), add(one, e));
  return with_sign(select_below(size, broadcast(T(0.625)), near_zero, far), x);
}

template <class T>
void erf_array(const T* x, T* y, Index count) {
  map_array(x, y, count, [](Register<T> a) { return erf_register(a); });
}
template <class T>
void tanh_array(const T* x, T* y, Index count) {
  map_array(x, y, count, [](Register<T> a) { return tanh_register(a); });
}
