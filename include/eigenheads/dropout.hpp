// SPDX-License-Identifier: MIT
#pragma once
// Dropout of attention weights: a setting of the layer. Inference never drops.
#include <charconv>
#include <ostream>
#include <string>
#include <string_view>

#include <eigenheads/float_bits.hpp>  // is_finite
#include <eigenheads/shape.hpp>       // refuse

namespace eigenheads::inline EIGENHEADS_ABI {

namespace detail {

// The shortest text that reads back as this number, whatever the locale.
[[nodiscard]] inline std::string number_text(double x) {
  char text[32];
  return {text, std::to_chars(text, text + sizeof text, x).ptr};
}

}  // namespace detail

class Dropout {
 public:
  // Throws std::invalid_argument unless 0 <= p < 1.
  explicit Dropout(double p = 0) : p_(p) {
    if (!detail::is_finite(p) || p < 0 || p >= 1)
      detail::refuse({"dropout is ", detail::number_text(p), "; expected 0 <= dropout < 1"});
  }

  [[nodiscard]] double p() const { return p_; }

 private:
  double p_;
};

inline std::ostream& operator<<(std::ostream& out, const Dropout& dropout) {
  return out << "Dropout(p=" << detail::number_text(dropout.p()) << ", inplace=False)";
}

}  // namespace eigenheads::inline EIGENHEADS_ABI
