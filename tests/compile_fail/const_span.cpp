// SPDX-License-Identifier: MIT
// expects: This tensor is read-only
// each of: TENSOR MATRIX
#include <eigenheads/tensor.hpp>

void fill(eigenheads::TensorSpan<float, 3> x);
void fill_matrix(eigenheads::TensorSpan<float, 2> x);

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

void call(const eigenheads::Tensor<float, 3>& a, const Matrix& m) {
  (void)a, (void)m;
#if defined(TENSOR)
  fill(a);
#elif defined(MATRIX)
  fill_matrix(m);
#endif
}
