// SPDX-License-Identifier: MIT
// expects: This tensor is read-only
#include <eigenheads/tensor.hpp>

void fill(eigenheads::TensorSpan<float, 3> x);

void call(const eigenheads::Tensor<float, 3>& a) { fill(a); }
