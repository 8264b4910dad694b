// SPDX-License-Identifier: MIT
#pragma once
// What the attention kernels are given: plain structs of pointers, sizes and strides, the same for
// every instruction set. Filled by designated initialisers: many of their members are of one type.
#include <atomic>
#include <cmath>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/dropout.hpp>              // DropoutMask
#include <eigenheads/kernels/heads.hpp>        // AttentionShape, HeadTable, GateTable
#include <eigenheads/kernels/layout.hpp>       // StridedMatrix
#include <eigenheads/kernels/stored_call.hpp>  // StoredKernels
#include <eigenheads/mask.hpp>                 // BoundMask
#include <eigenheads/score.hpp>                // ScorePosition

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// Rows of attention that one task works on at once: scores of 48 KiB, and a multiple of every tile.
inline constexpr Index query_block = 48;

// Up to this many query rows (decoding), values are multiplied where they are: packing a block of
// them would cost more than the product. Keys are packed all the same.
inline constexpr Index few_rows = 4;

// 1 / sqrt(D), for every call that is given no other scale.
template <class T>
[[nodiscard]] T default_scale(Index head_size) {
  return static_cast<T>(1 / std::sqrt(static_cast<double>(head_size)));
}

// A score function without its type: all but the function itself is compiled once, for all of them.
template <class T>
struct ScoreForward {
  const void* score = nullptr;
  // Takes scores [begin, end) of a row through the function; `at` is the position of score 0. Null:
  // PlainScore.
  void (*apply)(const void* score, T* scores, Index begin, Index end,
                const ScorePosition& at) = nullptr;
};

// One block of keys and values, packed as the tiles read them. It stands by itself: a block that is
// full never moves, whoever owns it.
template <class T>
struct PackedBlock {
  const void* keys;          // panels of keys: [key / W][D][W]
  const void* values;        // panels of columns: [V / W][key][W]
  Index value_panel_stride;  // from one panel of values to the next
  bool is_finite;            // all values that are seen are
};

// Keys and values of one key/value head, block after block. Without them (null), every block is
// packed when it is reached: cheaper when there are few queries.
template <class T>
struct PackedHead {
  const PackedBlock<T>* blocks = nullptr;
  Index stride = 1;  // from one block to the next
  // Of a ring: the blocks of a sequence that are there are its first `kept`, and those from
  // kept + dropped on.
  Index kept = 0, dropped = 0;
  const StoredKernels<T>* stored = nullptr;  // for the numbers of all of them; null: of type T

  // Whether a task needs memory to pack keys and values in, or to widen them.
  [[nodiscard]] bool needs_packing() const { return blocks == nullptr || stored != nullptr; }

  [[nodiscard]] const PackedBlock<T>& block(Index number) const {
    return blocks[(number < kept ? number : number - dropped) * stride];
  }
};

// One call; lse, weights and scores may be absent: asking for them changes no bit of the output.
template <class T>
struct AttentionCall {
  AttentionShape shape;
  T scale;
  const BoundMask* mask;
  StridedMatrix<const T> queries, keys, values;  // [B, H, Q, D], [B, G, K, D], [B, G, K, V]
  StridedMatrix<T> output;                       // [B, H, Q, V]
  StridedMatrix<T> lse{};                        // [B, H, Q, 1]
  StridedMatrix<T> weights{};                    // [B, H, Q, K], before dropout
  StridedMatrix<T> scores{};                     // [B, H, Q, K], after scores_after; hidden: -inf
  ScoreForward<T> score{}, scores_after{};
  const DropoutMask<T>* dropout = nullptr;   // null: none
  std::atomic<Index>* row_by_row = nullptr;  // counts rows that take the slow edge
  HeadTable heads{};                         // of others, nothing is read or written
  GateTable<T> gates{};
  const T* sinks = nullptr;  // [H]: a learnt score of no key, in its head's sum; null: none
  // Of a packed call: [B], where the weights of each sequence go, [H, Q, K] of its own lengths.
  T* const* packed_weights = nullptr;
  Index first_sequence = 0;  // of shape.B
  // [B * G], where keys and values were packed before the call: then they are nowhere else.
  const PackedHead<T>* cached = nullptr;

  [[nodiscard]] PackedHead<T> cached_head(Index b, Index g) const {
    return cached == nullptr ? PackedHead<T>{} : cached[b * shape.G + g];
  }
};

// Whether keys and values that were packed before a call are more than caches keep: then they come from
// memory. Those that the second-level cache holds take 4 % longer if they are read so.
template <class T>
[[nodiscard]] bool is_stream(const AttentionCall<T>& call) {
  constexpr Index least = Index{8} << 20;  // bytes
  const AttentionShape& shape = call.shape;
  return call.cached != nullptr &&
         shape.B * shape.G * shape.K * (shape.D + shape.V) * Index{sizeof(T)} >= least;
}

// A packed call as its sequence b sees it, for which alone the kernels are called. Its number stays b.
template <class T>
[[nodiscard]] AttentionCall<T> call_of(const AttentionCall<T>& call, Index b) {
  const SequenceRows &queries = call.mask->query_rows(), &keys = call.mask->key_rows();
  AttentionCall<T> one = call;
  one.shape.B = 1;
  one.shape.Q = queries.length(b);
  one.shape.K = call.mask->keys(b);
  one.first_sequence = b;
  one.queries = call.queries.of_sequence(queries.begin(b));
  one.keys = call.keys.of_sequence(keys.begin(b));
  one.values = call.values.of_sequence(keys.begin(b));
  one.output = call.output.of_sequence(queries.begin(b));
  one.lse = call.lse.of_sequence(queries.begin(b));
  if (call.packed_weights != nullptr)
    one.weights =
        StridedMatrix<T>::heads_apart(call.packed_weights[b], one.shape.Q, one.shape.H, one.shape.K)
            .of_sequence(0);
  return one;
}

// Of a task whose keys come in parts: what lies between two of them, and what one takes.
template <class T>
struct PartMemory {
  T *state, *scratch;
};

// A row of attention over some of the keys, to be merged with that over others. One that saw no key
// has an lse of -inf, and its output is not read.
template <class T>
struct MergePart {
  const T* output;  // [V]
  T lse;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
