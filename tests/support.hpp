// SPDX-License-Identifier: MIT
#pragma once
// What the tests share: numbers made by integer arithmetic, comparison to the bit, and the sentence
// that a call is refused with.
#include <algorithm>
#include <bit>
#include <chrono>
#include <concepts>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <future>
#include <gtest/gtest.h>
#include <iostream>
#include <limits>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <typeinfo>
#include <utility>

#include <eigenheads/detail/float_bits.hpp>
#include <eigenheads/tensor.hpp>

namespace support {

namespace eh = eigenheads;
using eh::Index, eh::Tensor, eh::TensorView;

using Scalars = testing::Types<float, double>;
struct ScalarNames {
  template <class T>
  static std::string GetName(int) {
    if (std::is_integral_v<T>) return "Int";
    return std::is_same_v<T, float> ? "Float" : "Double";
  }
};

template <class T>
using Limits = std::numeric_limits<T>;
template <class T>
using Narrow = std::conditional_t<std::is_same_v<T, float>, float, double>;
template <class T>
inline constexpr T kNan = static_cast<T>(eigenheads::detail::quiet_nan<Narrow<T>>);
template <class T>
inline constexpr T kInf = static_cast<T>(eigenheads::detail::infinity<Narrow<T>>);

// For a Context whose threads share even the smallest call.
inline constexpr double kAnyWork = 0;

// ---- Numbers -----------------------------------------------------------------------------------

// splitmix64 (Steele, Lea, Flood, 2014).
class Numbers {
 public:
  explicit Numbers(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    std::uint64_t x = state_ += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
  }
  Index between(Index first, Index last) {
    return first + static_cast<Index>(next() % static_cast<std::uint64_t>(last - first + 1));
  }
  // On [-1, 1), with every bit of the mantissa in use.
  template <class T>
  T symmetric() {
    constexpr int digits = Limits<T>::digits;
    constexpr std::int64_t one = std::int64_t{1} << (digits - 1);
    const auto steps = static_cast<std::int64_t>(next() >> (64 - digits));
    return static_cast<T>(steps - one) / static_cast<T>(one);
  }

 private:
  std::uint64_t state_;
};

template <class T, std::convertible_to<Index>... Lengths>
[[nodiscard]] auto random_tensor(std::uint64_t seed, Lengths... lengths) {
  Tensor<T, static_cast<int>(sizeof...(Lengths))> x(static_cast<Index>(lengths)...);
  Numbers numbers(seed);
  for (Index i = 0; i < x.size(); ++i) x.data()[i] = numbers.symmetric<T>();
  return x;
}

template <class T, std::convertible_to<Index>... Lengths>
[[nodiscard]] auto constant_tensor(T value, Lengths... lengths) {
  Tensor<T, static_cast<int>(sizeof...(Lengths))> x(static_cast<Index>(lengths)...);
  std::fill_n(x.data(), x.size(), value);  // g++ 12 warns of Eigen's own setConstant here
  return x;
}

// ---- Parts of a tensor, not copied -------------------------------------------------------------

// Sequence b of [B, ...] as a batch of its own.
template <class X>
[[nodiscard]] auto sequence(const X& x, Index b) {
  const TensorView all(x);
  auto shape = all.dimensions();
  shape[0] = 1;
  const Index size = all.size() / std::max(all.dimension(0), Index{1});
  return TensorView<eh::element_of<X>, eh::rank_of<X>>(all.data() + b * size, shape);
}

// The last axis at x(leading..., :).
template <class X, std::convertible_to<Index>... Leading>
[[nodiscard]] auto row(const X& x, Leading... leading) {
  const TensorView all(x);
  static_assert(sizeof...(Leading) + 1 == eh::rank_of<X>);
  Index i = 0;
  std::size_t axis = 0;
  ((i = i * all.dimension(axis++) + static_cast<Index>(leading)), ...);
  const Index length = all.dimension(axis);
  return TensorView<eh::element_of<X>, 1>(all.data() + i * length, {length});
}

// ---- To the bit --------------------------------------------------------------------------------

// The bits of the number: -0 is +0, and NaN is NaN. Integers, so that no compiler flag matters.
template <class T>
[[nodiscard]] auto bits(T x) {
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  const auto u = std::bit_cast<Bits>(x);
  const auto magnitude = static_cast<Bits>(u << 1);
  if (magnitude > static_cast<Bits>(std::bit_cast<Bits>(kInf<T>) << 1)) return ~Bits{0};
  return magnitude == 0 ? Bits{0} : u;
}

template <class A, class B>
[[nodiscard]] testing::AssertionResult same_bits(const A& a, const B& b) {
  const TensorView x(a);
  const TensorView y(b);
  const auto shape_text = [](const auto& view) {
    return testing::PrintToString(view.dimensions());
  };
  if (x.dimensions() != y.dimensions())
    return testing::AssertionFailure() << shape_text(x) << " is not of shape " << shape_text(y);
  for (Index i = 0; i < x.size(); ++i)
    if (bits(x.data()[i]) != bits(y.data()[i]))
      return testing::AssertionFailure() << "element " << i << " of " << shape_text(x) << ": "
                                         << x.data()[i] << " is not " << y.data()[i];
  return testing::AssertionSuccess();
}

// Of what attention gives: the output and the log-sum-exp.
template <class Result>
requires requires(const Result& result) { result.output, result.lse; }
[[nodiscard]] testing::AssertionResult same_bits(const Result& a, const Result& b) {
  if (auto same = same_bits(a.output, b.output); !same) return same << ", of the output";
  if (auto same = same_bits(a.lse, b.lse); !same) return same << ", of the lse";
  return testing::AssertionSuccess();
}

template <class X>
[[nodiscard]] testing::AssertionResult all_are(const X& x, eh::element_of<X> value) {
  const TensorView view(x);
  for (Index i = 0; i < view.size(); ++i)
    if (bits(view.data()[i]) != bits(value))
      return testing::AssertionFailure()
             << "element " << i << " is " << view.data()[i] << ", not " << value;
  return testing::AssertionSuccess();
}

// ---- Refusals and time limits ------------------------------------------------------------------

// What the call is refused with: an exception of this very type. One of a type that derives from it
// is another refusal.
template <class Exception = std::invalid_argument, class Call>
[[nodiscard]] std::string refusal(const Call& call) {
  try {
    (void)call();
  } catch (const Exception& error) {
    if (typeid(error) == typeid(Exception)) return error.what();
    return std::string("refused with a ") + typeid(error).name() + ": " + error.what();
  }
  return "not refused";
}

// Ends the program if the call does not return in ten seconds: its threads would never join.
inline void finishes(std::function<void()> call) {
  std::packaged_task<void()> task(std::move(call));
  auto done = task.get_future();
  std::thread thread(std::move(task));
  if (done.wait_for(std::chrono::seconds(10)) != std::future_status::ready) {
    std::cerr << "did not finish within 10 s" << std::endl;
    std::abort();
  }
  thread.join();
  done.get();
}

// The options with this score function.
template <class Options, class Score>
[[nodiscard]] Options with_score(Options options, const Score& score) {
  options.score = score;
  return options;
}

}  // namespace support
