// SPDX-License-Identifier: MIT
// expects: evaluate it
// each of: TENSOR MATRIX
#include <eigenheads/tensor.hpp>

void take(eigenheads::TensorView<float, 3> x);
void take_matrix(eigenheads::TensorView<float, 2> x);

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

void call(const eigenheads::Tensor<float, 3>& a, const Matrix& m) {
  (void)a, (void)m;
#if defined(TENSOR)
  take(a + a);
#elif defined(MATRIX)
  take_matrix(m + m);
#endif
}
