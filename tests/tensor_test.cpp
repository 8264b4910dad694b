// SPDX-License-Identifier: MIT
// Views and spans see the tensor that they were made from. What must not compile is in
// compile_fail/.
#include <array>
#include <concepts>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <eigenheads/tensor.hpp>

#include "support.hpp"

namespace {

using namespace support;
using eh::TensorSpan;

using Cube = Tensor<float, 3>;
using Sum = decltype(std::declval<Cube>() + std::declval<Cube>());

static_assert(eh::Scalar<float> && eh::Scalar<double>);
static_assert(!eh::Scalar<int> && !eh::Scalar<long double> && !eh::Scalar<const float>);

static_assert(eh::TensorOfRank<Cube, 3> && !eh::TensorOfRank<Cube, 2>);
static_assert(eh::TensorOfRank<const Cube&, 3>);
static_assert(eh::TensorOfRank<Eigen::TensorMap<Cube>, 3>);
static_assert(eh::TensorOfRank<Eigen::TensorMap<const Cube, Eigen::Aligned>, 3>);
static_assert(eh::TensorOfRank<TensorView<float, 3>, 3>);
static_assert(eh::TensorOfRank<TensorSpan<float, 3>, 3>);
static_assert(eh::TensorOfRank<Eigen::Tensor<float, 3>, 3>);  // column-major: the view says so
static_assert(!eh::TensorOfRank<Sum, 3> && !eh::TensorOfRank<std::vector<float>, 3>);

static_assert(std::same_as<eh::element_of<Eigen::TensorMap<const Cube>>, float>);
static_assert(std::same_as<eh::element_of<TensorView<double, 2>>, double>);
static_assert(eh::rank_of<const Tensor<int, 4>&> == 4);

static_assert(std::is_trivially_copyable_v<TensorView<float, 3>>);
static_assert(std::convertible_to<Cube&, TensorSpan<float, 3>>);
static_assert(std::convertible_to<TensorSpan<float, 3>, TensorView<float, 3>>);
static_assert(!std::convertible_to<TensorView<float, 3>, Cube>);  // a copy is never silent
static_assert(!std::constructible_from<TensorView<float, 3>, std::vector<float>>);

template <class T>
class TensorTest : public testing::Test {
 protected:
  Tensor<T, 3> x = random_tensor<T>(1, 2, 3, 5);
};
TYPED_TEST_SUITE(TensorTest, Scalars, ScalarNames);

TYPED_TEST(TensorTest, AViewSeesEveryElementWhereTheTensorHasIt) {
  using T = TypeParam;
  const TensorView<T, 3> view = this->x;
  EXPECT_EQ(view.data(), this->x.data());
  EXPECT_EQ(view.size(), 30);
  for (Index i = 0; i < 2; ++i)
    for (Index j = 0; j < 3; ++j)
      for (Index k = 0; k < 5; ++k) EXPECT_EQ(&view(i, j, k), &this->x(i, j, k));
}

TYPED_TEST(TensorTest, EveryRankHasItsDimensions) {
  using T = TypeParam;
  const auto expect = [](const auto& tensor, const std::vector<Index>& shape) {
    const TensorView view(tensor);
    static_assert(std::same_as<decltype(view), const TensorView<T, eh::rank_of<decltype(tensor)>>>);
    EXPECT_EQ(std::vector<Index>(view.dimensions().begin(), view.dimensions().end()), shape);
    for (std::size_t axis = 0; axis < shape.size(); ++axis)
      EXPECT_EQ(view.dimension(axis), shape[axis]);
    EXPECT_EQ(view.size(), tensor.size());
    EXPECT_TRUE(same_bits(view, tensor));
  };
  expect(random_tensor<T>(1), {});
  expect(random_tensor<T>(2, 7), {7});
  expect(random_tensor<T>(3, 2, 3), {2, 3});
  expect(random_tensor<T>(4, 2, 0, 3), {2, 0, 3});
  expect(random_tensor<T>(5, 2, 3, 1, 4), {2, 3, 1, 4});
}

// A map of any kind: read-only, said to be aligned, or with dimensions of int.
TYPED_TEST(TensorTest, MapsAreViewedWhereTheyAre) {
  using T = TypeParam;
  T* const data = this->x.data();
  const Eigen::TensorMap<Tensor<T, 3>> map(data, 2, 3, 5);
  const Eigen::TensorMap<const Tensor<T, 3>, Eigen::Aligned> constant(data, 2, 3, 5);
  const Eigen::TensorMap<Eigen::Tensor<T, 3, Eigen::RowMajor, int>> of_int(data, 2, 3, 5);
  for (const TensorView<T, 3> view :
       {TensorView<T, 3>(map), TensorView<T, 3>(constant), TensorView<T, 3>(of_int),
        TensorView<T, 3>(data, {2, 3, 5})}) {
    EXPECT_EQ(view.data(), data);
    EXPECT_TRUE(same_bits(view, this->x));
  }
}

TYPED_TEST(TensorTest, WhatIsWrittenThroughASpanIsInTheTensor) {
  using T = TypeParam;
  TensorSpan<T, 3> span = this->x;
  span(1, 2, 4) = T(7);
  EXPECT_EQ(this->x(1, 2, 4), T(7));
  Eigen::TensorMap<Tensor<T, 3>> map(this->x.data(), 2, 3, 5);
  const TensorSpan of_map(map);
  of_map(0, 0, 0) = T(8);
  EXPECT_EQ(this->x(0, 0, 0), T(8));
  TensorSpan<T, 3> again(span);
  again(0, 1, 0) = T(9);
  EXPECT_EQ(TensorView(span)(0, 1, 0), T(9));
}

TYPED_TEST(TensorTest, AViewMayBeMadeOfAnEmptyTensorAndOfNothing) {
  using T = TypeParam;
  const TensorView<T, 2> nothing(nullptr, {0, 3});
  EXPECT_EQ(nothing.size(), 0);
  EXPECT_EQ(nothing.data(), nullptr);
  const Tensor<T, 2> empty(3, 0);
  EXPECT_EQ(TensorView(empty).size(), 0);
  EXPECT_EQ(TensorView(empty).dimension(0), 3);
}

// n and e of any integer type, and no rank to be written.
TYPED_TEST(TensorTest, APointerAndSizesSayTheRank) {
  using T = TypeParam;
  T* const data = this->x.data();
  const int n = 6, e = 5;
  const TensorView matrix(data, {n, e});
  static_assert(std::same_as<decltype(matrix), const TensorView<T, 2>>);
  EXPECT_EQ(&matrix(5, 4), data + 29);
  const TensorView cube(data, this->x.dimensions());
  static_assert(std::same_as<decltype(cube), const TensorView<T, 3>>);
  EXPECT_TRUE(same_bits(cube, this->x));
  const TensorView row(static_cast<const T*>(data), {30});
  static_assert(std::same_as<decltype(row), const TensorView<T, 1>>);
  const TensorSpan written(data, {2, 15});
  static_assert(std::same_as<decltype(written), const TensorSpan<T, 2>>);
  written(1, 14) = T(3);
  EXPECT_EQ(row(29), T(3));
}

// ---- Eigen's matrices, arrays, vectors and tensors of fixed size --------------------------------

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

TYPED_TEST(TensorTest, RowMajorMatricesAreViewedWhereTheyAre) {
  using T = TypeParam;
  T* const data = this->x.data();
  const Eigen::Map<Matrix<T>> map(data, 6, 5);
  const Matrix<T> matrix = map;
  const Eigen::Array<T, 2, 3, Eigen::RowMajor> array = map.template topLeftCorner<2, 3>();
  const Eigen::Ref<const Matrix<T>> ref(matrix);
  const Eigen::MatrixX<T> column_major = map;
  const auto expect = [](const auto& m, const T* where) {
    const TensorView view(m);
    static_assert(std::same_as<decltype(view), const TensorView<T, 2>>);
    EXPECT_EQ(view.data(), where);
    EXPECT_EQ(view.dimensions(), (std::array<Index, 2>{m.rows(), m.cols()}));
    for (Index i = 0; i < m.rows(); ++i)
      for (Index j = 0; j < m.cols(); ++j) EXPECT_EQ(view(i, j), m(i, j));
  };
  expect(map, data);
  expect(matrix, matrix.data());
  expect(array, array.data());
  expect(ref, matrix.data());
  expect(matrix.middleRows(2, 3), matrix.data() + 10);
  expect(Matrix<T>(3, 0), nullptr);
  // The rows of its transpose are its columns.
  const Eigen::Transpose<const Eigen::MatrixX<T>> transposed(column_major);
  expect(transposed, column_major.data());
  Eigen::Map<Matrix<T>> writable(data, 6, 5);
  const TensorSpan span(writable);
  span(5, 4) = T(7);
  EXPECT_EQ(this->x(1, 2, 4), T(7));
}

TYPED_TEST(TensorTest, VectorsAndTensorsOfFixedSizeAreViewedToo) {
  using T = TypeParam;
  Eigen::VectorX<T> column(3);
  column << T(1), T(2), T(3);
  const Eigen::RowVector4<T> row(T(1), T(2), T(3), T(4));
  const TensorView<T, 1> of_column = column, of_row = row;
  EXPECT_EQ(of_column.data(), column.data());
  EXPECT_EQ(of_row.dimension(0), 4);
  const TensorSpan column_span(column);
  column_span(2) = T(9);
  EXPECT_EQ(column(2), T(9));

  Eigen::TensorFixedSize<T, Eigen::Sizes<2, 3>, Eigen::RowMajor> fixed;
  fixed.setValues({{T(1), T(2), T(3)}, {T(4), T(5), T(6)}});
  const TensorView view(fixed);
  static_assert(std::same_as<decltype(view), const TensorView<T, 2>>);
  EXPECT_EQ(view.dimensions(), (std::array<Index, 2>{2, 3}));
  EXPECT_EQ(view(1, 2), T(6));
  const TensorSpan fixed_span(fixed);
  fixed_span(0, 1) = T(8);
  EXPECT_EQ(fixed(0, 1), T(8));
}

TYPED_TEST(TensorTest, WhatHasGapsInMemoryIsRefused) {
  using T = TypeParam;
  const Eigen::Map<const Matrix<T>> map(this->x.data(), 6, 5);
  const std::string end =
      "; expected its elements next to each other in memory, row by row: copy it first";
  EXPECT_EQ(refusal([&] { return TensorView(map.leftCols(3)); }),
            "eigenheads: a matrix of shape [6, 3] has strides [5, 1]" + end);
  EXPECT_EQ(refusal([&] { return TensorView(map.col(2)); }),
            "eigenheads: a matrix of shape [6, 1] has strides [1, 5]" + end);
  EXPECT_EQ(refusal([&] { return TensorView(map.row(2)).dimension(0); }), "not refused");
  EXPECT_EQ(refusal([&] { return TensorView(map.topRows(1).leftCols(3)).size(); }), "not refused");
}

}  // namespace
