// SPDX-License-Identifier: MIT
#define EIGEN_USE_THREADS
#include "all_headers_backwards.hpp"
// Eigen's comes last.
#include <unsupported/Eigen/CXX11/Tensor>

Eigen::Index size_seen_elsewhere(eigenheads::TensorView<float, 2> x);
Eigen::Index size_seen_elsewhere(eigenheads::TensorView<float, 2> x) { return x.size(); }
