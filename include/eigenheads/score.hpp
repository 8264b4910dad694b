// SPDX-License-Identifier: MIT
#pragma once
// What may happen to a score before the softmax. A score function is any
//   T operator()(T score, ScorePosition) const
// It is inlined into the kernel, and sees only scores that the mask leaves. For training it has
//   T derivative(T score, ScorePosition) const    by the score it is given, or
//   static constexpr bool adds = true             if all it does is to add: then that is 1
// Order: scale, softcap, bias, mask.
#include <array>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <tuple>
#include <type_traits>
#include <utility>

#include <eigenheads/detail/float_bits.hpp>  // BitsOf
#include <eigenheads/error.hpp>              // refuse
#include <eigenheads/shape.hpp>              // require_shape
#include <eigenheads/tensor.hpp>             // Scalar, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

// Sequence, query head, query and key. 32-bit, so that arithmetic with positions is vectorised with
// the scores.
struct ScorePosition {
  std::int32_t b, h, q, k;
};

namespace detail {

[[nodiscard]] constexpr ScorePosition score_position(Index b, Index h, Index q, Index k) {
  return {static_cast<std::int32_t>(b), static_cast<std::int32_t>(h), static_cast<std::int32_t>(q),
          static_cast<std::int32_t>(k)};
}

}  // namespace detail

template <class Function, class T>
concept ScoreFunction = requires(const Function& function, T score, ScorePosition position) {
  { function(score, position) } -> std::same_as<T>;
};

// Score functions that only add something to the score.
template <class Function>
concept AddsToScore = requires { requires Function::adds; };

// What a change of the score before the function does to the score after it.
template <class Function, Scalar T>
requires ScoreFunction<Function, T>
[[nodiscard]] EIGEN_ALWAYS_INLINE T score_derivative(const Function& function, T score_before,
                                                     ScorePosition position) {
  if constexpr (requires { function.derivative(score_before, position); }) {
    return function.derivative(score_before, position);
  } else {
    static_assert(AddsToScore<Function>,
                  "This score function is for inference. To train through it, give it a member "
                  "`T derivative(T score, ScorePosition) const`, or `static constexpr bool adds = "
                  "true` if all it does is to add to the score.");
    return T(1);
  }
}

// The score itself: what every call uses that is given no other function.
struct PlainScore {
  static constexpr bool adds = true;

  template <Scalar T>
  EIGEN_ALWAYS_INLINE T operator()(T score, ScorePosition) const {
    return score;
  }
};

namespace detail {

// The scalar forms of the kernels' functions, for score functions: std::fma becomes one instruction
// where they are inlined into a kernel. Minimax coefficients, highest power first.
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
  static constexpr float lowest_exponent = -126;
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
  static constexpr double lowest_exponent = -1022;
};

template <Scalar T, std::size_t N>
EIGEN_ALWAYS_INLINE T polynomial(const std::array<T, N>& coefficients, T x) {
  T y = coefficients[0];
  for (std::size_t i = 1; i < N; ++i) y = std::fma(y, x, coefficients[i]);
  return y;
}

// Within 2 ulp; NaN for NaN. Without branches, so that it is vectorised.
template <Scalar T>
EIGEN_ALWAYS_INLINE T tanh(T x) {
  using Coefficients = TanhCoefficients<T>;
  constexpr int mantissa = std::numeric_limits<T>::digits - 1;
  const T size = std::abs(x), square = x * x;
  const T near_zero = std::fma(x * square, polynomial(Coefficients::near_zero, square), x);

  // (1 - e) / (1 + e), e = exp(-2 |x|), of which less than a rounding is left beyond |x| = 22.
  const T limited = size < T(22) ? size : T(22);
  constexpr T rate = T(-2 * 1.442695040888963407359924681);
  const T n = std::rint(limited * rate);
  const T power = polynomial(Coefficients::exp2, std::fma(limited, rate, -n));
  const auto shift = static_cast<BitsOf<T>>(static_cast<std::int32_t>(n));
  const T e = std::bit_cast<T>(
      static_cast<BitsOf<T>>(std::bit_cast<BitsOf<T>>(power) + (shift << mantissa)));
  const T far = std::copysign((1 - e) / (1 + e), x);
  const T result = size < T(0.625) ? near_zero : far;
  return is_nan(x) ? x : result;
}

}  // namespace detail

// cap * tanh(score / cap): scores stay within +-cap. Bello et al., 2016; Gemma 2.
template <Scalar T>
class Softcap {
 public:
  // Throws std::invalid_argument unless cap is finite and above 0.
  explicit Softcap(T cap) : cap_(cap) {
    if (!detail::is_finite(cap) || !(cap > 0))
      detail::refuse({"Softcap: cap is ", std::to_string(cap), "; expected more than 0"});
  }
  EIGEN_ALWAYS_INLINE T operator()(T score, ScorePosition) const {
    return cap_ * detail::tanh(score / cap_);  // 1 / cap may overflow
  }
  // 1 - tanh^2(score / cap), which would lose its last bits to the 1.
  EIGEN_ALWAYS_INLINE T derivative(T score, ScorePosition) const {
    const T t = detail::tanh(score / cap_);
    return (1 - t) * (1 + t);
  }

 private:
  T cap_;
};

// score - slope[h] * |q - k|, with q counted from `first_query`: that of query 0 among the keys, K
// - Q for queries at the end of the keys. Press, Smith, Lewis, "Train Short, Test Long", 2022.
template <Scalar T>
class Alibi {
 public:
  static constexpr bool adds = true;

  // slopes: [H], and must outlive it. The paper's for 2^n heads: 2^(-8 (h + 1) / H).
  explicit Alibi(TensorView<T, 1> slopes, Index first_query = 0)
      : slopes_(slopes.data()),
        heads_(slopes.dimension(0)),
        first_query_(static_cast<std::int32_t>(first_query)) {
    require_shape("Alibi: slopes", slopes, "[H]", {any_size});
  }

  // Throws std::invalid_argument unless there is a slope a head.
  void require_fits(const std::array<Index, 4>& call) const {
    if (heads_ != call[1])
      detail::refuse({"Alibi: slopes has shape ", std::array{heads_},
                      "; expected [H] = ", std::array{call[1]}});
  }
  EIGEN_ALWAYS_INLINE T operator()(T score, ScorePosition at) const {
    return std::fma(-slopes_[at.h], static_cast<T>(std::abs(at.q + first_query_ - at.k)), score);
  }

 private:
  const T* slopes_;
  Index heads_;
  std::int32_t first_query_;
};

// score + bias(b, h, q, k). bias: [B, H, Q, K], where any axis may also be 1 and then counts for
// all; it must outlive the call. -inf hides a key, +inf makes the query's row NaN.
template <Scalar T>
class ScoreBias {
 public:
  static constexpr bool adds = true;

  explicit ScoreBias(TensorView<T, 4> bias) : bias_(bias) {
    require_shape("score bias", bias, "[B, H, Q, K]", {any_size, any_size, any_size, any_size});
    Index stride = 1;
    for (std::size_t axis = 4; axis-- > 0; stride *= bias.dimension(axis))
      strides_[axis] = bias.dimension(axis) == 1 ? 0 : stride;
  }
  EIGEN_ALWAYS_INLINE T operator()(T score, ScorePosition at) const {
    return score + row(at)[at.k * strides_[3]];
  }

  // Throws std::invalid_argument unless every axis is as long as the call's, or 1.
  void require_fits(const std::array<Index, 4>& call) const {
    for (std::size_t axis = 0; axis < 4; ++axis)
      if (bias_.dimension(axis) != 1 && bias_.dimension(axis) != call[axis])
        detail::refuse({"score bias has shape ", bias_.dimensions(),
                        "; expected [B, H, Q, K] = ", call, ", or 1 for any of them"});
  }

  // The biases of a query, and whether they lie next to each other, which the kernel makes use of.
  [[nodiscard]] EIGEN_ALWAYS_INLINE const T* row(ScorePosition at) const {
    return bias_.data() + at.b * strides_[0] + at.h * strides_[1] + at.q * strides_[2];
  }
  [[nodiscard]] bool is_contiguous() const { return strides_[3] == 1; }
  [[nodiscard]] Index row_stride() const { return strides_[2]; }

  [[nodiscard]] const std::array<Index, 4>& shape() const { return bias_.dimensions(); }
  [[nodiscard]] const std::array<Index, 4>& strides() const { return strides_; }  // 0: for all

 private:
  TensorView<T, 4> bias_;
  std::array<Index, 4> strides_{};
};

// One after the other: chain(Softcap(30.0f), Alibi(slopes)).
template <class... Functions>
class ScoreChain {
 public:
  static constexpr bool adds = (AddsToScore<Functions> && ...);

  explicit ScoreChain(Functions... functions) : functions_(std::move(functions)...) {}

  template <Scalar T>
  requires(ScoreFunction<Functions, T> && ...)
  EIGEN_ALWAYS_INLINE T operator()(T score, ScorePosition at) const {
    std::apply([&](const auto&... function) { ((score = function(score, at)), ...); }, functions_);
    return score;
  }
  // The product of theirs, each at the score that reaches it.
  template <Scalar T>
  requires(ScoreFunction<Functions, T> && ...)
  EIGEN_ALWAYS_INLINE T derivative(T score, ScorePosition at) const {
    T product = 1;
    const auto pass = [&](const auto& function) {
      product *= score_derivative(function, score, at);
      score = function(score, at);
    };
    std::apply([&](const auto&... function) { (pass(function), ...); }, functions_);
    return product;
  }
  // The kernels apply one after the other to a row of scores: in one expression a compiler would
  // contract the product that ends one with the sum that begins the next, or would not.
  [[nodiscard]] const std::tuple<Functions...>& functions() const { return functions_; }

  void require_fits(const std::array<Index, 4>& call) const {
    std::apply(
        [&](const auto&... function) {
          const auto check = [&](const auto& one) {
            if constexpr (requires { one.require_fits(call); }) one.require_fits(call);
          };
          (check(function), ...);
        },
        functions_);
  }

 private:
  std::tuple<Functions...> functions_;
};

namespace detail {

// The ScoreBias that a function adds last, whose gradient is that of the scores; null without one.
template <Scalar T, class Score>
[[nodiscard]] const ScoreBias<T>* last_bias(const Score& score) {
  if constexpr (std::is_same_v<Score, ScoreBias<T>>) return &score;
  const ScoreBias<T>* bias = nullptr;
  if constexpr (requires { score.functions(); })
    std::apply(
        [&](const auto&... function) {
          const auto pass = [&](const auto& one) {
            const ScoreBias<T>* last = last_bias<T>(one);
            if (last != nullptr || !AddsToScore<std::decay_t<decltype(one)>>) bias = last;
          };
          (pass(function), ...);
        },
        score.functions());
  return bias;
}

}  // namespace detail

template <class... Functions>
[[nodiscard]] ScoreChain<Functions...> chain(Functions... functions) {
  return ScoreChain<Functions...>(std::move(functions)...);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI
