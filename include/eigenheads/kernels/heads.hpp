// SPDX-License-Identifier: MIT
#pragma once
// Which heads take part in a call, and what their outputs are multiplied by.
#include <algorithm>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/version.hpp>  // Index

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// The sizes of one call of attention.
struct AttentionShape {
  Index B, H, G, Q, K, D, V;

  [[nodiscard]] Index group() const { return G == 0 ? 0 : H / G; }  // query heads per kv head
};

// Which query heads read which key/value head, where some were pruned or take no part. Null: all of
// them, group() side by side.
struct HeadTable {
  const Index* begin = nullptr;      // [B * G + 1]: where those of key/value head g of sequence b
  const Index* heads = nullptr;      // begin in this list, at b * G + g
  const Index* originals = nullptr;  // [H]: what masks, score functions and dropout call a head

  [[nodiscard]] Index count(const AttentionShape& shape, Index b, Index g) const {
    const Index at = b * shape.G + g;
    return begin == nullptr ? shape.group() : begin[at + 1] - begin[at];
  }
  [[nodiscard]] Index head(const AttentionShape& shape, Index b, Index g, Index i) const {
    return begin == nullptr ? g * shape.group() + i : heads[begin[b * shape.G + g] + i];
  }
  // Of any key/value head of shape.B sequences, from the first one on.
  [[nodiscard]] Index most(const AttentionShape& shape, Index first_sequence) const {
    Index most = begin == nullptr ? shape.group() : 0;
    const Index first = first_sequence * shape.G;
    for (Index i = first; begin != nullptr && i < first + shape.B * shape.G; ++i)
      most = (std::max)(most, begin[i + 1] - begin[i]);
    return most;
  }
  [[nodiscard]] Index original(Index h) const { return originals == nullptr ? h : originals[h]; }
};

// What each head's output is multiplied by, [B, H] or [1, H]. Null: 1.
template <class T>
struct GateTable {
  const T* gates = nullptr;
  Index sequence_stride = 0;

  [[nodiscard]] T at(Index b, Index h) const {
    return gates == nullptr ? T(1) : gates[b * sequence_stride + h];
  }
};

// The rows of a task: row r is query r % Q of the query head r / Q of those that read g, so that
// query heads that share keys share their tiles too.
struct RowTask {
  Index b, g, first, count;

  template <class Call>
  [[nodiscard]] Index head(const Call& call, Index row) const {
    return call.heads.head(call.shape, b, g, (first + row) / call.shape.Q);
  }
  [[nodiscard]] Index query(const AttentionShape& shape, Index row) const {
    return (first + row) % shape.Q;
  }
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
