// SPDX-License-Identifier: MIT
// expects: This tensor is column-major
// each of: TENSOR MATRIX MATRIX_MAP FIXED
#include <eigenheads/tensor.hpp>

namespace eh = eigenheads;

void take(eh::TensorView<float, 3> x);
void take_matrix(eh::TensorView<float, 2> x);
void write(eh::TensorSpan<float, 2> x);

void call(const Eigen::Tensor<float, 3>& tensor, Eigen::MatrixXf& matrix) {
  (void)tensor, (void)matrix;
#if defined(TENSOR)
  take(tensor);
#elif defined(MATRIX)
  take_matrix(matrix);
#elif defined(MATRIX_MAP)
  take_matrix(Eigen::Map<Eigen::MatrixXf>(matrix.data(), 2, 3));
#elif defined(FIXED)
  take_matrix(Eigen::TensorFixedSize<float, Eigen::Sizes<2, 3> >());
#else
  take_matrix(matrix.transpose());
#endif
}
