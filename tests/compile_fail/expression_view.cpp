// SPDX-License-Identifier: MIT
// expects: evaluate it
#include <eigenheads/tensor.hpp>

void take(eigenheads::TensorView<float, 3> x);

void call(const eigenheads::Tensor<float, 3>& a) { take(a + a); }
