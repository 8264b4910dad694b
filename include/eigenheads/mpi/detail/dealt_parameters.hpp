// SPDX-License-Identifier: MIT
#pragma once
// Gradients of a layer's parameters from rows that are spread over ranks: which parts they are cut into,
// what adds the rows of a rank to one (gradient_chain.hpp), and how all ranks get the sums.
#include <algorithm>
#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <vector>

#include <eigenheads/context.hpp>       // Context
#include <eigenheads/detail/arena.hpp>  // Frame
#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kernels/schedule/backward.hpp>  // parameter_gradients
#include <eigenheads/mpi/detail/gradient_chain.hpp>  // ChainPart

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// One projection: rows of a rank, those of dy that are not 0, and where the gradients go.
template <class T>
struct DealtProjection {
  Projected<T> y;
  KeptRows kept;
  T *dW, *db;  // [out, in]; [out], or null

  [[nodiscard]] Index inputs() const { return y.weight.columns; }
  [[nodiscard]] Index outputs() const { return y.weight.rows; }
};

// Outputs of a part: as many as a task of the kernel takes, or a multiple, so that there are about
// eight parts a rank.
[[nodiscard]] inline Index outputs_per_part(Index all_outputs, Index outputs_per_task, int ranks) {
  const Index tasks = blocks_of(all_outputs, outputs_per_task);
  return outputs_per_task * (std::max)(tasks / (8 * Index{ranks}), Index{1});
}

template <class T>
class DealtParameters {
 public:
  DealtParameters(std::span<const DealtProjection<T>> projections, int ranks, Context& context)
      : projections_(projections), context_(context) {
    Index outputs = 0;
    for (const auto& projection : projections) outputs += projection.outputs();
    part_ = outputs_per_part(outputs, backward_kernels<T>().gradient_outputs, ranks);
  }

  // Refer to this object.
  void add_parts(std::vector<ChainPart>& parts) {
    for (std::size_t p = 0; p < projections_.size(); ++p) {
      const DealtProjection<T>& projection = projections_[p];
      for (Index first = 0; first < projection.outputs(); first += part_) {
        const Range outputs{first, (std::min)(first + part_, projection.outputs())};
        const Index in = projection.inputs(), count = outputs.count();
        const auto bytes = [](T* sums, Index n) {
          return std::as_writable_bytes(std::span<T>(sums, static_cast<std::size_t>(n)));
        };
        parts.push_back({{bytes(projection.dW + first * in, count * in),
                          projection.db == nullptr ? std::span<std::byte>{}
                                                   : bytes(projection.db + first, count)},
                         [this, p, outputs](const RowRun& run) { add(p, outputs, run); }});
      }
    }
  }

  // Gives back what parts have packed.
  void unpack() { frame_.reset(); }

 private:
  void add(std::size_t p, Range outputs, const RowRun& run) {
    const DealtProjection<T>& projection = projections_[p];
    if (p != packed_of_ || run.begin() != packed_from_ || !frame_) {
      frame_.reset();
      frame_.emplace(context_);
      const auto rows = projection.kept.rows;
      const auto from = std::lower_bound(rows.begin(), rows.end(), run.begin());
      const auto to = std::lower_bound(from, rows.end(), run.end());
      packed_ = pack_gradient_rows(projection.y, {from, to}, *frame_, context_);
      packed_of_ = p;
      packed_from_ = run.begin();
    }
    parameter_gradients<T>(
        projection.y, packed_, outputs,
        {.dW = projection.dW, .db = projection.db, .adds = false, .goes_on = run.before >= 0},
        context_);
  }

  std::span<const DealtProjection<T>> projections_;
  Context& context_;
  Index part_ = 1;
  // Rows of the projection that was added to last, which all of its parts read.
  std::optional<Frame> frame_;
  PackedGradientRows<T> packed_{};
  std::size_t packed_of_ = 0;
  Index packed_from_ = 0;
};

// ---- From the rank that has them, `root`, to all ----

template <class T>
[[nodiscard]] std::span<T> numbers(T* first, Index count) {
  return {first, static_cast<std::size_t>(count)};
}
template <class T>
void broadcast_gradients(const DealtProjection<T>& of, int root, mpi::Ranks& ranks) {
  ranks.broadcast(root, numbers(of.dW, of.inputs() * of.outputs()));
  if (of.db != nullptr) ranks.broadcast(root, numbers(of.db, of.outputs()));
}

// The outputs of a projection whose gradients are a rank's share.
[[nodiscard]] inline Range share_of(Index outputs, int ranks, int rank) {
  return {outputs * rank / ranks, outputs * (rank + 1) / ranks};
}
template <class T>
void clear(const DealtProjection<T>& of, Range outputs) {
  std::fill_n(of.dW + outputs.begin * of.inputs(), outputs.count() * of.inputs(), T(0));
  if (of.db != nullptr) std::fill_n(of.db + outputs.begin, outputs.count(), T(0));
}
// To each rank its share; what it has of others is 0.
template <class T>
void scatter_gradients(const DealtProjection<T>& of, int root, mpi::Ranks& ranks) {
  const auto share = [&](int rank) { return share_of(of.outputs(), ranks.size(), rank); };
  const auto weights = [&](Range outputs) {
    return numbers(of.dW + outputs.begin * of.inputs(), outputs.count() * of.inputs());
  };
  const auto biases = [&](Range outputs) {
    return of.db == nullptr ? std::span<T>{} : numbers(of.db + outputs.begin, outputs.count());
  };
  std::vector<mpi::Ranks::Pending> pending;
  const Range mine = share(ranks.rank());
  for (int rank = 0; ranks.rank() == root && rank < ranks.size(); ++rank)
    for (const auto& part : {weights(share(rank)), biases(share(rank))})
      if (rank != root) pending.push_back(ranks.send(rank, std::as_bytes(part)));
  for (const auto& part : {weights(mine), biases(mine)})
    if (ranks.rank() != root) pending.push_back(ranks.receive(root, std::as_writable_bytes(part)));
  ranks.wait(pending);
  clear(of, {0, mine.begin});
  clear(of, {mine.end, of.outputs()});
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
