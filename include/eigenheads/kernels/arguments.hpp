// SPDX-License-Identifier: MIT
#pragma once
// What the kernels are given: plain structs of pointers, sizes and strides, the same for every
// instruction set.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

#include <eigenheads/dropout.hpp>  // DropoutMask
#include <eigenheads/mask.hpp>     // BoundMask
#include <eigenheads/score.hpp>    // ScorePosition
#include <eigenheads/tensor.hpp>   // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// A matrix [B * Q, H * D] that lies in memory as [B, Q, H * D], as [B, H, Q, D], or otherwise:
// where transpose_qkv and transpose_output happen, at no cost.
template <class T>
struct HeadLayout {
  T* data;
  Index rows_per_sequence, head_size;
  Index sequence_stride, row_stride, head_stride;

  static HeadLayout heads_apart(T* data, Index Q, Index H, Index D) {
    return {data, Q, D, H * Q * D, D, Q * D};
  }
  static HeadLayout heads_together(T* data, Index Q, Index H, Index D) {
    return {data, Q, D, Q * H * D, H * D, D};
  }

  [[nodiscard]] T* at(Index b, Index h, Index row) const {
    return data + b * sequence_stride + row * row_stride + h * head_stride;
  }
  [[nodiscard]] Index row_offset(Index row) const {
    return row / rows_per_sequence * sequence_stride + row % rows_per_sequence * row_stride;
  }
  [[nodiscard]] Index column_offset(Index column) const {
    return column / head_size * head_stride + column % head_size;
  }
  [[nodiscard]] Index columns_left_in_head(Index column) const {
    return head_size - column % head_size;
  }
};

// Rows [first, first + count) of the matrix that is multiplied: what a mask leaves of it is a few
// of them.
struct RowPiece {
  Index first, count;
};

// The sizes of one call of attention.
struct AttentionShape {
  Index B, H, G, Q, K, D, V;

  [[nodiscard]] Index group() const { return G == 0 ? 0 : H / G; }  // query heads a key/value head
};

// Which query heads read which key/value head, where some were pruned or are not wanted. Null:
// all of them, group() side by side.
struct HeadTable {
  const Index* begin = nullptr;    // [B * G + 1]: where those of key/value head g of sequence b
  const Index* heads = nullptr;    // begin in this list, at b * G + g
  const Index* numbers = nullptr;  // [H]: what masks, score functions and dropout call a head

  [[nodiscard]] Index count(const AttentionShape& shape, Index b, Index g) const {
    const Index at = b * shape.G + g;
    return begin == nullptr ? shape.group() : begin[at + 1] - begin[at];
  }
  [[nodiscard]] Index head(const AttentionShape& shape, Index b, Index g, Index i) const {
    return begin == nullptr ? g * shape.group() + i : heads[begin[b * shape.G + g] + i];
  }
  [[nodiscard]] Index most(const AttentionShape& shape) const {
    Index most = begin == nullptr ? shape.group() : 0;
    for (Index i = 0; begin != nullptr && i < shape.B * shape.G; ++i)
      most = (std::max)(most, begin[i + 1] - begin[i]);
    return most;
  }
  [[nodiscard]] Index number(Index h) const { return numbers == nullptr ? h : numbers[h]; }
};

// What each head's output is multiplied with, [B, H] or [1, H]. Null: 1.
template <class T>
struct GateTable {
  const T* gates = nullptr;
  Index sequence_stride = 0;

  [[nodiscard]] T at(Index b, Index h) const {
    return gates == nullptr ? T(1) : gates[b * sequence_stride + h];
  }
};

// A score function without its type: all but the function itself is compiled once, for all of them.
template <class T>
struct ScoreRow {
  const void* score = nullptr;
  // Takes scores [begin, end) of a row through it; `at` is the position of score 0. Null:
  // PlainScore.
  void (*apply)(const void* score, T* scores, Index begin, Index end,
                const ScorePosition& at) = nullptr;
};

// One call. queries: [B, H, Q, D], keys: [B, G, K, D], values: [B, G, K, V]; lse and weights may be
// null: asking for them changes no bit of the output.
template <class T>
struct AttentionCall {
  AttentionShape shape;
  T scale;
  const BoundMask* mask;
  const T *queries, *keys, *values;
  HeadLayout<T> output;
  T* lse;      // [B, H, Q]
  T* weights;  // [B, H, Q, K]
  ScoreRow<T> score{};
  const DropoutMask<T>* dropout = nullptr;   // null: none
  std::atomic<Index>* row_by_row = nullptr;  // counts rows that take the slow edge
  HeadTable heads{};                         // of others, nothing is read or written
  GateTable<T> gates{};

  [[nodiscard]] Index row(Index b, Index h, Index q) const {
    return (b * shape.H + h) * shape.Q + q;
  }
  [[nodiscard]] T* lse_of(Index b, Index h, Index q) const { return lse + row(b, h, q); }
  [[nodiscard]] T* weights_of(Index b, Index h, Index q) const {
    return weights + row(b, h, q) * shape.K;
  }
};

// The same behind it, for one key and a run of queries: scores[i], of query at.q + i, becomes the
// function's, and slopes[i] its derivative, for i in [begin, end).
template <class T>
struct ScoreColumn {
  const void* score = nullptr;
  void (*apply)(const void* score, T* scores, T* slopes, Index begin, Index end,
                const ScorePosition& at) = nullptr;
  T* grad_bias = nullptr;  // to which the gradients of the scores are added, at these strides
  std::array<Index, 4> bias_strides{};

  [[nodiscard]] bool is_shared(std::size_t axis) const {
    return grad_bias != nullptr && bias_strides[axis] == 0;
  }
};

// The gradients of one call, from those of its output. lse, output: what the call gave.
template <class T>
struct AttentionBackwardCall {
  AttentionShape shape;
  T scale;
  const BoundMask* mask;
  const T *queries, *keys, *values, *lse;
  HeadLayout<const T> output, grad_output;
  HeadLayout<T> grad_queries, grad_keys, grad_values;
  const DropoutMask<T>* dropout;
  ScoreColumn<T> score{};
  HeadTable heads{};
  GateTable<T> gates{};     // output and grad_output are those before and behind them
  T* grad_gates = nullptr;  // [B, H], added to
};

// What one row of attention weights p, over the n keys that it sees, is like, or the sum of that
// over rows: sum p, sqrt(sum p^2), -sum p ln p, sum (p - 1/n)^2 / n, max p, and whether the first
// maximum is at the key before, after or at the one that stands beside the query.
struct RowStatistics {
  double rows = 0;  // that see a key: 0 of one that does not
  double l1_norm = 0, l2_norm = 0, entropy = 0, variance = 0, confidence = 0;
  double previous = 0, next = 0, same = 0;
};

// The rows of a call that was made, before dropout.
template <class T>
struct AttentionStatisticsCall {
  AttentionCall<T> attention;  // no values, V = 0, and nothing to write to
  const T* lse;                // [B, H, Q]
  RowStatistics* rows;         // [B, H, Q]
};

// Rows c of what one head adds to an output: how many, sum |c|, sum |c - mean|^2 and their mean, of
// E numbers.
struct Contributions {
  double rows = 0, norms = 0, squares = 0;
  double* mean = nullptr;
};

template <class T>
struct ContributionCall {
  AttentionShape shape;
  const BoundMask* mask;
  const T* heads;   // [B, Q, H * V], before the gates
  const T* panels;  // of W_o, [E, H * V]
  Index E;
  GateTable<T> gates{};
};

// Rows of a projection that share a panel while it is in the first-level cache.
inline constexpr Index matmul_rows = 96;

// Rows of attention that one task works on at once: scores of 48 KiB, and a multiple of every tile.
inline constexpr Index query_block = 48;

// The rows of a task: row r is query r % Q of the query head r / Q of those that read g, so that
// query heads that share keys share their tiles too.
struct RowsOf {
  Index b, g, first, count;

  template <class Call>
  [[nodiscard]] Index head(const Call& call, Index row) const {
    return call.heads.head(call.shape, b, g, (first + row) / call.shape.Q);
  }
  [[nodiscard]] Index query(const AttentionShape& shape, Index row) const {
    return (first + row) % shape.Q;
  }
};

// As few rows as in decoding read the values from where they are: to copy them would take longer.
inline constexpr Index few_rows = 4;

// Keys and values of one key/value head, packed as the tiles read them. Without them (null), every
// block is packed when it is reached: cheaper when there are few queries.
template <class T>
struct PackedHead {
  const T* keys;       // panels of pack_panels
  const T* values;     // panels of pack_columns, [V / panel_width][K][panel_width]
  const bool* finite;  // of every block of values, whether all that are seen are finite
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail
