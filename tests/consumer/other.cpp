// SPDX-License-Identifier: MIT
#include "all_headers_backwards.hpp"

Eigen::Index size_seen_elsewhere(eigenheads::TensorView<float, 2> x);
Eigen::Index size_seen_elsewhere(eigenheads::TensorView<float, 2> x) { return x.size(); }
