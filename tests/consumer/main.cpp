// SPDX-License-Identifier: MIT
#include <cstdio>
#include <unsupported/Eigen/CXX11/Tensor>

// Eigen's threads are asked for after its first header, and in other.cpp before.
#define EIGEN_USE_THREADS
#include "all_headers.hpp"

// In other.cpp, which includes the same headers: a function that is not inline would be defined
// twice.
Eigen::Index size_seen_elsewhere(eigenheads::TensorView<float, 2> x);

int main() {
  const eigenheads::Tensor<float, 2> x(2, 3);
  std::printf("eigenheads %d.%d.%d, %d elements\n", EIGENHEADS_VERSION_MAJOR,
              EIGENHEADS_VERSION_MINOR, EIGENHEADS_VERSION_PATCH,
              static_cast<int>(size_seen_elsewhere(x)));
}
