// SPDX-License-Identifier: MIT
#pragma once
// What may happen to a score before the softmax. A score function is any
//   T operator()(T score, ScorePosition) const
// It is inlined into the kernel, and sees only scores that the mask leaves. For training it has
//   T derivative(T score, ScorePosition) const    by the score it is given, or
//   static constexpr bool adds = true             if all it does is to add: then that is 1
// Several are applied in the order in which chain() lists them; Gemma 2 and ONNX take a softcap
// before a bias.
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>

#include <eigenheads/detail/float_bits.hpp>  // is_finite
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/scalar_math.hpp>  // tanh
#include <eigenheads/error.hpp>               // refuse, any_size
#include <eigenheads/shape.hpp>               // require_shape
#include <eigenheads/tensor.hpp>              // Scalar, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

// Sequence, query head, query and key, counted within the call; and the key that stands beside the
// query, by the mask: aligned - k is how far back the key lies. 32-bit, so that arithmetic with
// positions is vectorised with the scores.
struct ScorePosition {
  std::int32_t b = 0, h = 0, q = 0, k = 0, aligned = 0;
};

namespace detail {

[[nodiscard]] constexpr ScorePosition score_position(Index b, Index h, Index q, Index k,
                                                     Index aligned) {
  return {static_cast<std::int32_t>(b), static_cast<std::int32_t>(h), static_cast<std::int32_t>(q),
          static_cast<std::int32_t>(k), static_cast<std::int32_t>(aligned)};
}

}  // namespace detail

template <class Function, class T>
concept ScoreFunction = requires(const Function& function, T score, ScorePosition position) {
  { function(score, position) } -> std::same_as<T>;
};

namespace detail {

// For doors that take any type: says what a score function is, where T is the tensors' scalar.
template <class Function, class T>
constexpr void require_score_function() {
  static_assert(
      ScoreFunction<Function, T>,
      "This is not a score function for tensors of this scalar type: expected `T "
      "operator()(T score, ScorePosition) const`, where T, float or double, is that of the "
      "queries (so Softcap(30.0f) for float, Softcap(30.0) for double).");
}

}  // namespace detail

// Score functions that only add something to the score.
template <class Function>
concept AddsToScore = requires { requires Function::adds; };

// What a change of the score before the function does to the score after it.
template <class Function, Scalar T>
[[nodiscard]] EIGEN_ALWAYS_INLINE T score_derivative(const Function& function, T score_before,
                                                     ScorePosition position) {
  detail::require_score_function<Function, T>();
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

namespace detail {

// Score functions refer to their tensors, which must outlive the call, and in training backward.
template <class X>
constexpr void require_lasting() {
  static_assert(
      !OwningTemporary<X>,
      "This tensor is a temporary, which is gone before the score function is used, and "
      "the function only refers to it: give the tensor a name that outlives the function.");
}

}  // namespace detail

// score - slope[h] * |aligned - k|, by the distance between the key and the one that stands beside
// the query. Press, Smith, Lewis, "Train Short, Test Long", 2022.
template <Scalar T>
class Alibi {
 public:
  static constexpr bool adds = true;

  // slopes: [H], and must outlive it. The paper's for 2^n heads: 2^(-8 (h + 1) / H).
  explicit Alibi(TensorView<T, 1> slopes) : slopes_(slopes.data()), heads_(slopes.dimension(0)) {
    require_shape("Alibi: slopes", slopes, "[H]", {any_size});
  }
  template <detail::OwningTemporary Slopes>
  explicit Alibi(Slopes&& slopes) : Alibi(TensorView<T, 1>(slopes)) {
    detail::require_lasting<Slopes>();
  }

  // Throws std::invalid_argument unless there is a slope a head.
  void require_fits(const std::array<Index, 4>& call) const {
    if (heads_ != call[1])
      detail::refuse({"Alibi: slopes has shape ", std::array{heads_},
                      "; expected [H] = ", std::array{call[1]}});
  }
  EIGEN_ALWAYS_INLINE T operator()(T score, ScorePosition at) const {
    return std::fma(-slopes_[at.h], static_cast<T>(std::abs(at.aligned - at.k)), score);
  }

 private:
  const T* slopes_;
  Index heads_;
};
template <TensorOfRank<1> Slopes>
Alibi(Slopes&&) -> Alibi<element_of<Slopes>>;

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
  template <detail::OwningTemporary Bias>
  explicit ScoreBias(Bias&& bias) : ScoreBias(TensorView<T, 4>(bias)) {
    detail::require_lasting<Bias>();
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
template <TensorOfRank<4> Bias>
ScoreBias(Bias&&) -> ScoreBias<element_of<Bias>>;

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

#include <eigenheads/detail/macros_on.inl>
