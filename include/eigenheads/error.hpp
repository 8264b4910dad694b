// SPDX-License-Identifier: MIT
#pragma once
// How the library refuses: one sentence that names what is wrong, what it is and what was expected,
//   eigenheads: queries has shape [2, 4, 99]; expected [B, Q, query_size] = [*, *, 100]
// thrown as std::invalid_argument unless another type is named. Built without exceptions, the
// library prints the sentence and aborts.
#include <array>
#include <charconv>
#include <concepts>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/version.hpp>  // Index

namespace eigenheads::inline EIGENHEADS_ABI {

// An axis of any length, in the shape that require_shape expects.
inline constexpr Index any_size = -1;

namespace detail {

// The one place that refuses. Built without exceptions, it prints the sentence and aborts.
template <class Exception>
[[noreturn, gnu::cold]] void raise(const std::string& message) {
#if defined(__cpp_exceptions)
  throw Exception(std::string("eigenheads: ").append(message));
#else
  std::fprintf(stderr, "eigenheads: %s\n", message.c_str());
  std::abort();
#endif
}

[[nodiscard, gnu::cold]] inline std::string shape_text(std::span<const Index> shape) {
  std::string text = "[";
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    if (axis > 0) text += ", ";
    text += std::to_string(shape[axis]);
  }
  text += ']';
  return text;
}

// The same for a shape that is asked for: `any_size` is a star.
[[nodiscard, gnu::cold]] inline std::string expected_text(std::span<const Index> shape) {
  std::string text = "[";
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    if (axis > 0) text += ", ";
    text += shape[axis] == any_size ? "*" : std::to_string(shape[axis]);
  }
  text += ']';
  return text;
}

// What a sentence is made of: text, a number or a shape. It points to what it was made from. Doors
// are templates; that they put no strings together saves a second a translation unit.
class Word {
 public:
  template <class Text>
  requires std::convertible_to<const Text&, std::string_view>
  Word(const Text& text)  // NOLINT
      : text_(text) {}
  template <std::integral Number>
  Word(Number number) : kind_(Kind::number), number_(static_cast<Index>(number)) {}  // NOLINT
  Word(std::span<const Index> shape) : kind_(Kind::shape), shape_(shape) {}          // NOLINT
  template <std::size_t Rank>
  Word(const std::array<Index, Rank>& shape) : Word(std::span<const Index>(shape)) {}  // NOLINT

  [[nodiscard]] std::string text() const {
    if (kind_ == Kind::number) return std::to_string(number_);
    return kind_ == Kind::shape ? shape_text(shape_) : std::string(text_);
  }

 private:
  enum class Kind { text, number, shape } kind_ = Kind::text;
  std::string_view text_;
  Index number_ = 0;
  std::span<const Index> shape_;
};

template <class Exception = std::invalid_argument>
[[noreturn, gnu::cold, gnu::noinline]] void refuse(std::initializer_list<Word> words) {
  std::string sentence;
  for (const Word& word : words) sentence += word.text();
  raise<Exception>(sentence);
}

// The shortest text that reads back as this number, whatever the locale.
[[nodiscard]] inline std::string number_text(double x) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, x).ptr};
}

}  // namespace detail
}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
