// SPDX-License-Identifier: MIT
#pragma once
// Attention as one writes it in plain Eigen: a map for each head, and three lines.
//   scores = scale * Q K^T,   every row its softmax P,   output = P V
// Backward, from a P that was kept:
//   dV = P^T dO,   dP = dO V^T,   dS = scale * P * (dP - sum_k P dP),   dQ = dS K,   dK = dS^T Q
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
    for_each_part(rows, [&](Index first, Index count) {
      auto part = rows_of(y + first * out, count, out);
      Products::multiply_transposed(part, T(1), rows_of(x + first * in, count, in),
                                    rows_of(w, out, in));
    });
  }

  void project_backward(const ProjectionBackwardCall<T>& call) override {
    const Index rows = call.rows, in = call.in, out = call.out;
    for_each_part(rows, [&](Index first, Index count) {
      auto part = rows_of(call.grad_x + first * in, count, in);
      const auto grad_rows = rows_of(call.grad_y + first * out, count, out);
      if (call.adds)
        Products::multiply_add(part, grad_rows, rows_of(call.w, out, in));
      else
        Products::multiply(part, grad_rows, rows_of(call.w, out, in));
    });
    for_each_part(out, [&](Index first, Index count) {
      auto part = rows_of(call.grad_w + first * in, count, in);
      const ConstMap<T> grad_columns(call.grad_y + first, rows, count, Eigen::OuterStride<>(out));
      Products::multiply(part, grad_columns.transpose(), rows_of(call.x, rows, in));
    });
  }

  void attend(const AttentionCall<T>& call) override {
    threads_.for_each(call.B * call.H, [&](Index i, int thread) {
      attend_head(call, i / call.H, i % call.H, scores_[static_cast<std::size_t>(thread)]);
    });
  }

  void attend_backward(const AttentionBackwardCall<T>& call) override {
    const Index H = call.forward.H;
    threads_.for_each(call.forward.B * H, [&](Index i, int thread) {
      attend_head_backward(call, i / H, i % H, scores_[static_cast<std::size_t>(thread)]);
    });
  }

 private:
  static void attend_head(const AttentionCall<T>& call, Index b, Index h, Matrix<T>& unkept) {
    const Index g = h / (call.H / call.G);
    const Index* seen = call.seen + b * call.Q;
    const Index keys = keys_seen(call, b);
    const ConstMap<T> q = head<ConstMap<T>>(call.queries, b, h, call.Q, call.D);
    const ConstMap<T> k = head<ConstMap<T>>(call.keys, b, g, keys, call.D);
    const ConstMap<T> v = head<ConstMap<T>>(call.values, b, g, keys, call.D);
    MutableMap<T> output = head<MutableMap<T>>(call.output, b, h, call.Q, call.D);

    if (call.weights == nullptr) unkept.resize(call.Q, keys);
    MutableMap<T> scores = call.weights == nullptr ? rows_of(unkept.data(), call.Q, keys)
                                                   : weights_of(call, b, h, keys);
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

  static void attend_head_backward(const AttentionBackwardCall<T>& backward, Index b, Index h,
                                   Matrix<T>& grad_scores) {
    const AttentionCall<T>& call = backward.forward;
    const Index Q = call.Q, K = call.K, D = call.D;
    const Index* seen = call.seen + b * Q;
    const Index keys = keys_seen(call, b);
    const MutableMap<T> weights = weights_of(call, b, h, keys);
    const ConstMap<T> grad_output = head<ConstMap<T>>(backward.grad_output, b, h, Q, D);
    MutableMap<T> grad_q = head<MutableMap<T>>(backward.grad_queries, b, h, Q, D);
    MutableMap<T> grad_k = head<MutableMap<T>>(backward.grad_keys, b, h, K, D);
    MutableMap<T> grad_v = head<MutableMap<T>>(backward.grad_values, b, h, K, D);
    MutableMap<T> seen_grad_k = head<MutableMap<T>>(backward.grad_keys, b, h, keys, D);
    MutableMap<T> seen_grad_v = head<MutableMap<T>>(backward.grad_values, b, h, keys, D);

    Products::multiply(seen_grad_v, weights.transpose(), grad_output);
    grad_scores.resize(Q, keys);
    Products::multiply_transposed(grad_scores, T(1), grad_output,
                                  head<ConstMap<T>>(call.values, b, h, keys, D));
    const T scale = T(1) / std::sqrt(static_cast<T>(D));
    for (Index i = 0; i < Q; ++i) {
      auto row = grad_scores.row(i).head(seen[i]);
      const auto p = weights.row(i).head(seen[i]);
      const T sum = p.dot(row);
      row = scale * p.array() * (row.array() - sum);
      grad_scores.row(i).tail(keys - seen[i]).setZero();
    }
    Products::multiply(grad_q, grad_scores, head<ConstMap<T>>(call.keys, b, h, keys, D));
    Products::multiply(seen_grad_k, grad_scores.transpose(),
                       head<ConstMap<T>>(call.queries, b, h, Q, D));
    grad_k.bottomRows(K - keys).setZero();
    grad_v.bottomRows(K - keys).setZero();
  }

  // No query of the sequence sees more.
  static Index keys_seen(const AttentionCall<T>& call, Index b) {
    const Index* seen = call.seen + b * call.Q;
    return *std::max_element(seen, seen + call.Q);
  }

  static MutableMap<T> weights_of(const AttentionCall<T>& call, Index b, Index h, Index keys) {
    return MutableMap<T>(call.weights + (b * call.H + h) * call.Q * call.K, call.Q, keys,
                         Eigen::OuterStride<>(call.K));
  }

  static MutableMap<T> rows_of(T* x, Index rows, Index columns) {
    return MutableMap<T>(x, rows, columns, Eigen::OuterStride<>(columns));
  }
  static ConstMap<T> rows_of(const T* x, Index rows, Index columns) {
    return ConstMap<T>(x, rows, columns, Eigen::OuterStride<>(columns));
  }

  template <class Map, class U>
  static Map head(const HeadRows<U>& x, Index b, Index h, Index rows, Index D) {
    return Map(x.data + b * x.sequence_stride + h * x.head_stride, rows, D,
               Eigen::OuterStride<>(x.row_stride));
  }

  // body(first, count): one part for each thread
  template <class Body>
  void for_each_part(Index rows, const Body& body) {
    const Index parts = threads_.count();
    threads_.for_each(parts, [&](Index i, int) {
      const Index first = rows * i / parts;
      body(first, rows * (i + 1) / parts - first);
    });
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
