// SPDX-License-Identifier: MIT
#pragma once
// What a case computes, and how far apart two computations of it are.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <span>
#include <vector>

#include "cases.hpp"

namespace bench {

template <class T>
using Outputs = std::vector<std::span<const T>>;

template <class Tensor>
[[nodiscard]] auto span_of(const Tensor& tensor) {
  return std::span(tensor.data(), static_cast<std::size_t>(tensor.size()));
}

// max |a - b| / max |b| over the rows that count.
template <class T>
[[nodiscard]] double relative_error(const Case& c, std::span<const T> a, std::span<const T> b) {
  const bool is_padded = c.masking == Masking::query_lens;
  const Index sequences = is_padded ? c.B : 1;
  const auto sequence = static_cast<Index>(a.size()) / sequences;
  double difference = 0, largest = 0;
  for (Index s = 0; s < sequences; ++s) {
    const Index counted = is_padded ? rows_that_count(c, s) * (sequence / c.Q) : sequence;
    for (Index i = s * sequence; i < s * sequence + counted; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const double apart = std::abs(static_cast<double>(a[at]) - b[at]);
      if (!(apart <= std::numeric_limits<T>::max())) return HUGE_VAL;
      difference = (std::max)(difference, apart);
      largest = (std::max)(largest, std::abs(static_cast<double>(b[at])));
    }
  }
  return largest > 0 ? difference / largest : HUGE_VAL;
}

// The worst of them.
template <class T>
[[nodiscard]] double relative_error(const Case& c, const Outputs<T>& a, const Outputs<T>& b) {
  double worst = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    worst = (std::max)(worst, relative_error<T>(c, a[i], b.at(i)));
  return worst;
}

}  // namespace bench
