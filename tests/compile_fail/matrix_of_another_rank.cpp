// SPDX-License-Identifier: MIT
// expects: This tensor has another number of dimensions
// each of: MAP FIXED
#include <eigenheads/tensor.hpp>

void take(eigenheads::TensorView<float, 3> x);

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

void call(const Matrix& m) {
  (void)m;
#if defined(MAP)
  take(Eigen::Map<const Matrix>(m.data(), 2, 3));
#elif defined(FIXED)
  take(Eigen::TensorFixedSize<float, Eigen::Sizes<2, 3>, Eigen::RowMajor>());
#endif
}
