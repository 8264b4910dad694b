// SPDX-License-Identifier: MIT
#pragma once
// Gradients of a layer's parameters from rows that are spread over ranks: which parts they are cut into,
// and what adds the rows of a rank to one (gradient_chain.hpp).
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

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
