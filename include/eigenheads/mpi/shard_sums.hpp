// SPDX-License-Identifier: MIT
#pragma once
// The gradients of all shards of a batch, added up: by each rank those of its own, in the order of
// the tree, and by each rank the slice of all that it has the parameters of (DataParallelPlan).
#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/kernels/nn/chosen.hpp>       // row_kernels
#include <eigenheads/mpi/data_parallel_plan.hpp>  // DataParallelPlan
#include <eigenheads/mpi/flat_parameters.hpp>     // FlatParameters
#include <eigenheads/mpi/ranks.hpp>               // Ranks
#include <eigenheads/mpi/shard_tree.hpp>          // ShardTree, ShardNode
#include <eigenheads/version.hpp>                 // Index

namespace eigenheads::inline EIGENHEADS_ABI::mpi::detail {

// Its memory is as many rows of gradients as the tree is high, and is kept from step to step.
template <class T>
class ShardSums {
 public:
  // gradients_of(shard), for this rank's shards, in turn: gradients that are like the parameters.
  template <class GradientsOf>
  void add_up(Range shards, Index shard_count, const FlatParameters& parameters,
              const GradientsOf& gradients_of) {
    ShardTree tree(shard_count);
    count_ = 0;
    for (Index shard = shards.begin; shard < shards.end; ++shard) {
      const auto& gradients = gradients_of(shard);
      int merges = tree.add({0, shard});
      add_gradients(gradients, parameters, merges > 0);
      for (; merges > 1; --merges) {
        --count_;
        add(sums_[count_].data(), sums_[count_ - 1].data(), parameters.size());
      }
    }
  }

  // This rank's slice of the sum of all. `ranks` is null if there is but one.
  [[nodiscard]] std::span<T> reduce(const DataParallelPlan& plan, Index batch_size, Ranks* ranks) {
    const int size = plan.sizes().ranks, rank = size > 1 ? ranks->rank() : 0;
    std::vector<ShardNode> nodes;
    std::vector<int> owners;
    for (int r = 0; r < size; ++r)
      for (const ShardNode& node : plan.nodes(r, batch_size)) {
        nodes.push_back(node);
        owners.push_back(r);
      }
    const auto slice_size = static_cast<std::size_t>(plan.slice(rank).count());
    received_.resize(slice_size * (nodes.size() - count_));
    std::span<T> room(received_);
    std::vector<std::span<T>> sums;
    std::vector<Ranks::Pending> pending;
    std::size_t own = 0;
    for (const int owner : owners) {
      if (owner == rank) {
        sums.push_back(part(own++, plan.slice(rank)));
        continue;
      }
      sums.push_back(room.first(slice_size));
      room = room.subspan(slice_size);
      pending.push_back(ranks->receive(owner, std::as_writable_bytes(sums.back())));
    }
    for (int step = 1; step < size; ++step) {  // not all to rank 0 at first
      const int to = (rank + step) % size;
      for (std::size_t i = 0; i < count_; ++i)
        pending.push_back(ranks->send(to, std::as_bytes(part(i, plan.slice(to)))));
    }
    if (!pending.empty()) ranks->wait(pending);
    ShardTree tree(plan.shards(batch_size));
    std::size_t last = 0;
    for (std::size_t i = 0; i < nodes.size(); ++i) {
      sums[last++] = sums[i];
      for (int merges = tree.add(nodes[i]); merges > 0; --merges) {
        --last;
        add(sums[last].data(), sums[last - 1].data(), std::ssize(sums[last]));
      }
    }
    return sums.front();
  }

 private:
  // To the last sum, or as a new one.
  template <class Gradients>
  void add_gradients(const Gradients& gradients, const FlatParameters& parameters, bool to_last) {
    if (!to_last && ++count_ > sums_.size())
      sums_.emplace_back(static_cast<std::size_t>(parameters.size()));
    T* const sum = sums_[count_ - 1].data();
    parameters.for_each(gradients, "DataParallel: the gradients",
                        [&](const auto& gradient, const auto& part) {
                          const std::span<const T> values = gradient.elements();
                          if (to_last)
                            add(values.data(), sum + part.range.begin, part.range.count());
                          else
                            std::ranges::copy(values, sum + part.range.begin);
                        });
  }
  void add(const T* more, T* sum, Index count) const { kernels_.add_array(sum, more, sum, count); }

  [[nodiscard]] std::span<T> part(std::size_t i, Range slice) {
    return std::span(sums_[i]).subspan(static_cast<std::size_t>(slice.begin),
                                       static_cast<std::size_t>(slice.count()));
  }

  eigenheads::detail::RowKernels<T> kernels_ = eigenheads::detail::row_kernels<T>();
  std::vector<std::vector<T>> sums_;  // of this rank's nodes, the first count_
  std::size_t count_ = 0;
  std::vector<T> received_;  // the slice, of the others' nodes
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi::detail

#include <eigenheads/detail/macros_on.inl>
