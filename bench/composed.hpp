// SPDX-License-Identifier: MIT
#pragma once
// Attention composed of somebody else's matrix products, for comparison. It lives in a shared
// object of its own, compiled for the CPU that it runs on (-O3 -march=native): nothing inline is
// shared with a program that is compiled without such flags, so neither changes the other's code.
// Only pointers and numbers pass between them.
#include <Eigen/Core>  // Index
#include <memory>
#include <string>

namespace bench {

using Eigen::Index;

// One tensor [B, H, rows, D] in memory, the last axis next to itself.
template <class T>
struct HeadRows {
  T* data;
  Index sequence_stride, head_stride, row_stride;

  static HeadRows heads_apart(T* data, Index H, Index rows, Index D) {
    return {data, H * rows * D, rows * D, D};
  }
  static HeadRows heads_together(T* data, Index H, Index rows, Index D) {
    return {data, rows * H * D, D, H * D};
  }
};

template <class T>
struct AttentionCall {
  Index B, H, G, Q, K, D;
  HeadRows<const T> queries, keys, values;  // [B, H, Q, D], [B, G, K, D], [B, G, K, D]
  HeadRows<T> output;                       // [B, H, Q, D]
  const Index* seen;                        // [B, Q]: the query sees keys [0, n) ...
  const T* bias;                            // [H, Q, K], added to scores, -inf hides; or null
  T* weights;                               // [B, H, Q, K], kept for backward; or null
};

template <class T>
struct AttentionBackwardCall {
  AttentionCall<T> forward;  // as it was, with its weights; G = H
  HeadRows<const T> grad_output;
  HeadRows<T> grad_queries, grad_keys, grad_values;
};

// Of y = x W^T, shapes as below.
template <class T>
struct ProjectionBackwardCall {
  const T *x, *w, *grad_y;
  T *grad_x, *grad_w;
  Index rows, in, out;
  bool adds;  // to what grad_x holds
};

template <class T>
class Composed {
 public:
  virtual ~Composed() = default;
  // y = x W^T; x: [rows, in], w: [out, in], y: [rows, out]
  virtual void project(const T* x, const T* w, T* y, Index rows, Index in, Index out) = 0;
  virtual void attend(const AttentionCall<T>& call) = 0;
  virtual void project_backward(const ProjectionBackwardCall<T>& call) = 0;
  virtual void attend_backward(const AttentionBackwardCall<T>& call) = 0;
};

// Whoever's products this program is linked with.
struct Composer {
  const char* name;
  std::string version;
  std::unique_ptr<Composed<float>> (*make_float)(int threads);
  std::unique_ptr<Composed<double>> (*make_double)(int threads);
};
[[nodiscard]] __attribute__((visibility("default"))) Composer composer();

}  // namespace bench
