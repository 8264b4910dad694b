// SPDX-License-Identifier: MIT
// expects: This tensor is column-major
#include <eigenheads/tensor.hpp>

void take(eigenheads::TensorView<float, 3> x);

void call(const Eigen::Tensor<float, 3>& column_major) { take(column_major); }
