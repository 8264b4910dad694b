// SPDX-License-Identifier: MIT
#pragma once
// Attention as one writes it in plain Eigen: a map for each head, and three lines.
//   scores = scale * Q K^T,   every row its softmax,   output = scores V
// Products is who multiplies: Eigen itself, or a BLAS on the same maps.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <memory>
#include <string>
#include <unsupported/Eigen/CXX11/ThreadPool>
#include <utility>
#include <vector>

#include "composed.hpp"

namespace bench {

template <class T>
using Matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
template <class T>
using ConstMap = Eigen::Map<const Matrix<T>, 0, Eigen::OuterStride<>>;
template <class T>
using MutableMap = Eigen::Map<Matrix<T>, 0, Eigen::OuterStride<>>;

// A pool and a loop over it.
class Threads {
 public:
  explicit Threads(int count) : count_(count) {
    if (count > 1) pool_ = std::make_unique<Eigen::ThreadPool>(count - 1);
  }

  [[nodiscard]] int count() const { return count_; }

  // body(i, thread) for i in [0, count)
  template <class Body>
  void for_each(Index count, const Body& body) {
    std::atomic<Index> next{0};
    const auto work = [&](int thread) {
      for (Index i = next++; i < count; i = next++) body(i, thread);
    };
    const auto helpers = static_cast<int>((std::min)(count, Index{count_})) - 1;
    if (helpers <= 0) return work(0);
    Eigen::Barrier all_left(static_cast<unsigned>(helpers));
    for (int thread = 1; thread <= helpers; ++thread)
      pool_->Schedule([&, thread] { work(thread), all_left.Notify(); });
    work(0);
    all_left.Wait();
  }

 private:
  int count_;
  std::unique_ptr<Eigen::ThreadPool> pool_;
};

template <class T, class Products>
class PlainEigen final : public Composed<T> {
 public:
  explicit PlainEigen(int threads)
      : threads_(threads), scores_(static_cast<std::size_t>(threads)) {}

  void project(const T* x, const T* w, T* y, Index rows, Index in, Index out) override {
    threads_.for_each(threads_.count(), [&](Index i, int) {
      const Index first = rows * i / threads_.count(), last = rows * (i + 1) / threads_.count();
      MutableMap<T> part(y + first * out, last - first, out, Eigen::OuterStride<>(out));
      Products::multiply_transposed(
          part, T(1), ConstMap<T>(x + first * in, last - first, in, Eigen::OuterStride<>(in)),
          ConstMap<T>(w, out, in, Eigen::OuterStride<>(in)));
    });
  }

  void attend(const AttentionCall<T>& call) override {
    threads_.for_each(call.B * call.H, [&](Index i, int thread) {
      attend_head(call, i / call.H, i % call.H, scores_[static_cast<std::size_t>(thread)]);
    });
  }

 private:
  static void attend_head(const AttentionCall<T>& call, Index b, Index h, Matrix<T>& scores) {
    const Index g = h / (call.H / call.G);
    const Index* seen = call.seen + b * call.Q;
    const Index keys = *std::max_element(seen, seen + call.Q);  // no query sees more
    const ConstMap<T> q = head<ConstMap<T>>(call.queries, b, h, call.Q, call.D);
    const ConstMap<T> k = head<ConstMap<T>>(call.keys, b, g, keys, call.D);
    const ConstMap<T> v = head<ConstMap<T>>(call.values, b, g, keys, call.D);
    MutableMap<T> output = head<MutableMap<T>>(call.output, b, h, call.Q, call.D);

    scores.resize(call.Q, keys);
    Products::multiply_transposed(scores, T(1) / std::sqrt(static_cast<T>(call.D)), q, k);
    if (call.bias != nullptr)
      scores +=
          ConstMap<T>(call.bias + h * call.Q * call.K, call.Q, keys, Eigen::OuterStride<>(call.K));
    for (Index i = 0; i < call.Q; ++i) {
      auto row = scores.row(i).head(seen[i]);
      row = (row.array() - row.maxCoeff()).exp();
      row /= row.sum();
      scores.row(i).tail(keys - seen[i]).setZero();
    }
    Products::multiply(output, scores, v);
  }

  template <class Map, class U>
  static Map head(const HeadRows<U>& x, Index b, Index h, Index rows, Index D) {
    return Map(x.data + b * x.sequence_stride + h * x.head_stride, rows, D,
               Eigen::OuterStride<>(x.row_stride));
  }

  Threads threads_;
  std::vector<Matrix<T>> scores_;
};

template <class Products>
[[nodiscard]] Composer make_composer(const char* name, std::string version) {
  return {name, std::move(version),
          [](int threads) -> std::unique_ptr<Composed<float>> {
            return std::make_unique<PlainEigen<float, Products>>(threads);
          },
          [](int threads) -> std::unique_ptr<Composed<double>> {
            return std::make_unique<PlainEigen<double, Products>>(threads);
          }};
}

}  // namespace bench
