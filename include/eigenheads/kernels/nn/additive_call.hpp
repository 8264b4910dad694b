// SPDX-License-Identifier: MIT
#pragma once
// What the kernels of additive attention are given (additive_attention.hpp).
//   Keys lie in groups of 16, feature by feature: [K / 16][H][16], keys beyond the last are 0. So a
// register holds one feature of several keys, each score is a chain over the features, whatever the
// register's width, and sums over keys run in the 16 lanes in which a softmax's do.
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>  // Range, blocks_of
#include <eigenheads/dropout.hpp>        // DropoutMask
#include <eigenheads/mask.hpp>           // BoundMask

namespace eigenheads::inline EIGENHEADS_ABI::detail {

inline constexpr Index group_keys = 16;

struct AdditiveShape {
  Index B, Q, K, H, V;  // H: features that are compared, V: of a value

  [[nodiscard]] Index groups() const { return blocks_of(K, group_keys); }
  [[nodiscard]] Index grouped(Index features) const { return groups() * features * group_keys; }
};

template <class T>
struct AdditiveCall {
  AdditiveShape shape;
  const BoundMask* mask;
  const T* q;                               // [B, Q, H]: W_q queries
  const T* k;                               // [B, K, H], in groups: W_k keys
  const T* w;                               // [H]: w_v
  const T* values;                          // [B, K, V]
  const DropoutMask<T>* dropout = nullptr;  // null: none
  T* output;                                // [B, Q, V]
  T* lse = nullptr;                         // [B, Q], or null
  T* weights = nullptr;                     // [B, Q, K], before dropout, or null

  [[nodiscard]] const T* k_of(Index b, Index group) const {
    return k + b * shape.grouped(shape.H) + group * shape.H * group_keys;
  }
};

// Of a call that was made, whose output and lse are its results.
template <class T>
struct AdditiveBackwardCall {
  AdditiveShape shape;
  const BoundMask* mask;
  const T *q, *k, *w;
  const T* values;  // [B, K, V], in groups
  const DropoutMask<T>* dropout;
  const T *lse, *output, *grad_output;
  T* grad_q;       // [B, Q, H]
  T* grad_w;       // [B, Q, H], a row for each query
  T* grad_k;       // [B, K, H], in groups
  T* grad_values;  // [B, K, V]
};

// Queries and keys (whole groups) of a sequence, and whose gradients are wanted: grad_q and grad_w
// need all keys, grad_k and grad_values all queries.
struct AdditiveBackwardTask {
  Index b;
  Range queries, keys;
  bool for_queries, for_keys;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
