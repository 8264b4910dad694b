// SPDX-License-Identifier: MIT
#pragma once
// What the backward kernels of attention are given.
#include <array>
#include <atomic>
#include <thread>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>           // Range, blocks_of
#include <eigenheads/kernels/attention_call.hpp>  // AttentionShape, HeadTable, GateTable

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// The gradients of queries, keys and values are sums of blocks, each from zero, added up from left to
// right. Blocks begin at multiples of these, so that what is cut there can be shared out:
//   dQ[q]        over blocks of keys
//   dK[k], dV[k] over the query heads that read them and, in each, blocks of queries
// The gradient of a bias is added up by query heads, blocks of queries, blocks of keys, keys and
// queries, from zero in each key/value head if heads share it; those of a gate and of a sink in
// double, by queries.
inline constexpr Index backward_keys = 96, backward_queries = 128;
static_assert(backward_keys <= largest_key_block);

// Backward form of ScoreForward: for one key and queries at.q + i, i in [begin, end), scores[i]
// becomes the function's value and slopes[i] its derivative.
template <class T>
struct ScoreBackward {
  const void* score = nullptr;
  void (*apply)(const void* score, T* scores, T* slopes, Index begin, Index end,
                const ScorePosition& at) = nullptr;
  // The gradient of the bias, to which those of the scores are added. A stride of 0 is that of an
  // axis of length 1: all the call's sequences, heads, queries or keys add to the same elements.
  T* grad_bias = nullptr;
  std::array<Index, 4> bias_strides{};
  Index bias_plane_size = 0;  // what it has for one head of one sequence, next to each other

  // h: as masks call the head.
  [[nodiscard]] T* plane(Index b, Index h) const {
    return grad_bias + b * bias_strides[0] + h * bias_strides[1];
  }
  [[nodiscard]] bool has_plane_per_head() const { return bias_strides[1] != 0; }
};

// The gradients of one call, from those of its output. lse, output: what the call gave, before the
// gates; grad_output: after them.
template <class T>
struct AttentionBackwardCall {
  AttentionShape shape;
  T scale;
  const BoundMask* mask;
  StridedMatrix<const T> queries, keys, values;
  StridedMatrix<const T> lse;  // [B, H, Q, 1]
  StridedMatrix<const T> output, grad_output;
  StridedMatrix<T> grad_queries, grad_keys, grad_values;
  const DropoutMask<T>* dropout = nullptr;
  ScoreBackward<T> score{};
  HeadTable heads{};
  GateTable<T> gates{};
  const T* sinks = nullptr;        // [H]; null: none
  StridedMatrix<const T> delta{};  // [B, H, Q, 1], as find_deltas() makes it; else of `output`
  T* grad_gates = nullptr;         // [B, H], added to
  double* grad_sinks = nullptr;    // [B, H], where there are sinks
  Index first_sequence = 0;        // of shape.B

  [[nodiscard]] Index blocks_per_head() const { return blocks_of(shape.Q, backward_queries); }
  [[nodiscard]] Index most_heads() const { return heads.most(shape, first_sequence); }
};

// A packed call as its sequence b sees it, for which alone the kernels are called. Its number stays b.
template <class T>
[[nodiscard]] AttentionBackwardCall<T> call_of(const AttentionBackwardCall<T>& call, Index b) {
  const SequenceRows &queries = call.mask->query_rows(), &keys = call.mask->key_rows();
  AttentionBackwardCall<T> one = call;
  one.shape.B = 1;
  one.shape.Q = queries.length(b);
  one.shape.K = keys.length(b);
  one.first_sequence = b;
  for (auto* matrix : {&one.queries, &one.output, &one.grad_output, &one.lse, &one.delta})
    *matrix = matrix->of_sequence(queries.begin(b));
  for (auto* matrix : {&one.keys, &one.values}) *matrix = matrix->of_sequence(keys.begin(b));
  one.grad_queries = call.grad_queries.of_sequence(queries.begin(b));
  for (auto* matrix : {&one.grad_keys, &one.grad_values})
    *matrix = matrix->of_sequence(keys.begin(b));
  return one;
}

// Sums over the queries of one query head, so far: the gradients of its gate and of its sink.
struct HeadSums {
  double of_gate = 0, of_sink = 0;
};

// What the tasks of one key/value head share, where it is cut into ranges of keys and blocks of
// queries. A task adds to dK and dV after that of its keys and the block before, and to dQ after
// those of its queries and the ranges before. They were taken up earlier, so it waits for tasks that
// run.
template <class T>
struct CutHead {
  // By range: how many blocks of queries it is through with. Null: the head is not cut.
  std::atomic<Index>* done = nullptr;
  HeadSums* of_head = nullptr;
  T* sums = nullptr;  // of dQ: [query heads, blocks, backward_queries, padded D]
  Index range = 0;

  void wait_for_keys(Index block) const {
    if (done != nullptr) wait(done[range], block);
  }
  void wait_for_queries(Index block) const {
    for (Index i = 0; i < range; ++i) wait(done[i], block + 1);
  }

 private:
  static void wait(const std::atomic<Index>& done, Index blocks) {
    while (done.load(std::memory_order_acquire) < blocks) std::this_thread::yield();
  }
};

// What of a task's sums is computed. One side alone goes on from what its sums hold, neither begins
// nor ends them, and has the same bits: scores are computed again for the other.
enum class BackwardSide { both, queries, keys };

// A task: key/value head g of sequence b and all queries that read it, or, of a head that is cut, some
// keys and one block of queries. Blocks are counted through all query heads.
template <class T>
struct BackwardTask {
  Index b, g;
  Range keys{}, blocks{};
  CutHead<T> cut{};
  // Null: gradients of the bias are added to call.score.grad_bias. Else to these planes, one for
  // each query head of the task in turn, or a single one if the bias has no plane a head.
  T* bias_planes = nullptr;
  BackwardSide side = BackwardSide::both;

  // Of the task's query head i; null where nobody asks for the gradient of a bias.
  [[nodiscard]] T* bias_plane(const AttentionBackwardCall<T>& call, Index i) const {
    const ScoreBackward<T>& score = call.score;
    if (score.grad_bias == nullptr) return nullptr;
    if (bias_planes == nullptr)
      return score.plane(b, call.heads.original(call.heads.head(call.shape, b, g, i)));
    return bias_planes + (score.has_plane_per_head() ? i * score.bias_plane_size : 0);
  }
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
