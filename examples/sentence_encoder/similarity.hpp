// SPDX-License-Identifier: MIT
#pragma once
// How alike vectors are, and which of many are most like one.
#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <span>
#include <vector>

#include <eigenheads/tensor.hpp>  // Index, Tensor

namespace sentences {

using eigenheads::Index, eigenheads::Tensor;

// In the order of the elements; a product of floats is exact as a double.
[[nodiscard]] inline double dot(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

// -1 to 1; 0 if one of the two is 0, which has no direction.
[[nodiscard]] inline double cosine(std::span<const float> a, std::span<const float> b) {
  const double lengths = std::sqrt(dot(a, a) * dot(b, b));
  return lengths > 0 ? std::clamp(dot(a, b) / lengths, -1.0, 1.0) : 0;
}

[[nodiscard]] inline std::span<const float> row(const Tensor<float, 2>& matrix, Index i) {
  const Index size = matrix.dimension(1);
  return {matrix.data() + i * size, static_cast<std::size_t>(size)};
}

struct Hit {
  std::size_t text = 0;
  double score = 0;
};

// The rows that are most like `query`, at most `count` of them, the best first; of equals, the first.
[[nodiscard]] inline std::vector<Hit> nearest(const Tensor<float, 2>& vectors,
                                              std::span<const float> query, std::size_t count) {
  std::vector<Hit> hits;
  for (Index i = 0; i < vectors.dimension(0); ++i)
    hits.push_back({static_cast<std::size_t>(i), cosine(row(vectors, i), query)});
  const auto middle = hits.begin() + static_cast<Index>((std::min)(count, hits.size()));
  std::ranges::partial_sort(hits, middle, [](const Hit& a, const Hit& b) {
    return a.score > b.score || (a.score == b.score && a.text < b.text);
  });
  hits.erase(middle, hits.end());
  return hits;
}

}  // namespace sentences
