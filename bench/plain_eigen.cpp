// SPDX-License-Identifier: MIT
// Attention composed of Eigen's own products.
#include "plain_eigen.hpp"

#include <string>

namespace {

struct EigenProducts {
  template <class Y, class T, class A, class B>
  static void multiply_transposed(Y& y, T scale, const A& a, const B& b) {
    y.noalias() = scale * (a * b.transpose());
  }
  template <class Y, class A, class B>
  static void multiply(Y& y, const A& a, const B& b) {
    y.noalias() = a * b;
  }
  template <class Y, class A, class B>
  static void multiply_add(Y& y, const A& a, const B& b) {
    y.noalias() += a * b;
  }
};

std::string version() {
  return std::to_string(EIGEN_WORLD_VERSION) + '.' + std::to_string(EIGEN_MAJOR_VERSION) + '.' +
         std::to_string(EIGEN_MINOR_VERSION) + " with " + Eigen::SimdInstructionSetsInUse();
}

}  // namespace

bench::Composer bench::composer() { return make_composer<EigenProducts>("Eigen", version()); }
