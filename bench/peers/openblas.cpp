// SPDX-License-Identifier: MIT
// Attention composed of OpenBLAS's products; the softmax is Eigen's. OpenBLAS itself runs on one
// thread: the heads, and the rows of a projection, are shared out by the caller.
#include <cblas.h>
#include <type_traits>

#include "../plain_eigen.hpp"

namespace {

struct BlasProducts {
  // y = scale * a b^T
  template <class Y, class T, class A, class B>
  static void multiply_transposed(Y& y, T scale, const A& a, const B& b) {
    run<T>(true, y, scale, a, b, T(0));
  }
  // y = a b; a may be a transpose
  template <class Y, class A, class B>
  static void multiply(Y& y, const A& a, const B& b) {
    run<typename Y::Scalar>(false, y, 1, a, b, 0);
  }
  // y += a b
  template <class Y, class A, class B>
  static void multiply_add(Y& y, const A& a, const B& b) {
    run<typename Y::Scalar>(false, y, 1, a, b, 1);
  }

 private:
  template <class T, class Y, class A, class B>
  static void run(bool transposed, Y& y, T scale, const A& a, const B& b, T kept) {
    constexpr bool is_float = std::is_same_v<T, float>;
    constexpr bool is_row_by_row = A::IsRowMajor;  // otherwise it is a transpose
    const auto size = [](Eigen::Index n) { return static_cast<blasint>(n); };
    if (is_row_by_row && y.rows() == 1) {  // y^T = scale * op(b) a^T, by the routine for one row
      constexpr auto gemv = [] {
        if constexpr (is_float)
          return cblas_sgemv;
        else
          return cblas_dgemv;
      }();
      gemv(CblasRowMajor, transposed ? CblasNoTrans : CblasTrans, size(b.rows()), size(b.cols()),
           scale, b.data(), size(b.outerStride()), a.data(), 1, kept, y.data(), 1);
      return;
    }
    constexpr auto gemm = [] {
      if constexpr (is_float)
        return cblas_sgemm;
      else
        return cblas_dgemm;
    }();
    gemm(CblasRowMajor, is_row_by_row ? CblasNoTrans : CblasTrans,
         transposed ? CblasTrans : CblasNoTrans, size(y.rows()), size(y.cols()), size(a.cols()),
         scale, a.data(), size(a.outerStride()), b.data(), size(b.outerStride()), kept, y.data(),
         size(y.outerStride()));
  }
};

}  // namespace

bench::Composer bench::composer() {
  openblas_set_num_threads(1);
  return make_composer<BlasProducts>("OpenBLAS", openblas_get_config());
}
