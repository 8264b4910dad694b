// SPDX-License-Identifier: MIT
#pragma once
// Who does what in a step of data parallel training, and what is sent: data_parallel.hpp goes by
// it, and it answers for any number of ranks, of which none need be there:
//   const eh::mpi::DataParallelPlan plan({.parameters = 7'000'000'000, .shards = 64, .ranks = 64});
//   plan.step_traffic(0, 1024, sizeof(float)).bytes_sent
#include <algorithm>
#include <cstddef>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>           // Range, blocks_of
#include <eigenheads/error.hpp>                   // refuse
#include <eigenheads/mpi/collective_traffic.hpp>  // all_gather_traffic, round_traffic
#include <eigenheads/mpi/shard_tree.hpp>          // even_part, nodes_of
#include <eigenheads/mpi/traffic.hpp>             // Traffic
#include <eigenheads/version.hpp>                 // Index

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

struct DataParallelSizes {
  Index parameters = 0;  // elements of all of them
  Index shards = 8;      // of a batch
  int ranks = 1;
};

class DataParallelPlan {
 public:
  using Range = eigenheads::detail::Range;

  // Throws std::invalid_argument unless there are a shard and a rank.
  explicit DataParallelPlan(const DataParallelSizes& sizes) : sizes_(sizes) {
    if (sizes.shards < 1)
      eigenheads::detail::refuse(
          {"DataParallel: shards is ", sizes.shards, "; expected 1 or more"});
    if (sizes.ranks < 1)
      eigenheads::detail::refuse(
          {"DataParallel: there are ", sizes.ranks, " ranks; expected 1 or more"});
  }

  [[nodiscard]] const DataParallelSizes& sizes() const { return sizes_; }

  // Squares of gradients are added up in blocks of so many elements, each from zero, and the
  // blocks' sums in their order. Of one shard there is one block, as clip_gradient_norm has it.
  [[nodiscard]] Index block_size() const {
    return sizes_.shards == 1 ? (std::max)(sizes_.parameters, Index{1}) : 1024;
  }
  // The parameters that a rank has the optimizer's state of: whole blocks.
  [[nodiscard]] Range slice(int rank) const {
    const Index blocks = eigenheads::detail::blocks_of(sizes_.parameters, block_size());
    const Range mine = detail::even_part(blocks, sizes_.ranks, rank);
    const auto begin = [&](Index block) {
      return (std::min)(block * block_size(), sizes_.parameters);
    };
    return {begin(mine.begin), begin(mine.end)};
  }
  [[nodiscard]] Index blocks(int rank) const {
    return eigenheads::detail::blocks_of(slice(rank).count(), block_size());
  }

  // A batch that has fewer members has a shard for each. Throws std::invalid_argument, as all that
  // follow do, for a batch without members.
  [[nodiscard]] Index shards(Index batch_size) const {
    if (batch_size < 1)
      eigenheads::detail::refuse(
          {"DataParallel: batch_size is ", batch_size, "; expected 1 or more"});
    return (std::min)(sizes_.shards, batch_size);
  }
  [[nodiscard]] Range shards_of(int rank, Index batch_size) const {
    return detail::even_part(shards(batch_size), sizes_.ranks, rank);
  }
  [[nodiscard]] Range members_of(Index shard, Index batch_size) const {
    return detail::even_part(batch_size, shards(batch_size), shard);
  }
  // The sums that a rank has once it has added up its shards.
  [[nodiscard]] std::vector<detail::ShardNode> nodes(int rank, Index batch_size) const {
    return detail::nodes_of(shards_of(rank, batch_size), shards(batch_size));
  }

  // What a rank sends and receives in a step: each of its sums to whom has a slice of it; then
  // round a ring the losses of shards and the squares of blocks, as double; and round a ring the
  // slices of the parameters.
  [[nodiscard]] Traffic step_traffic(int rank, Index batch_size, std::size_t element_bytes) const {
    if (shards(batch_size) < 1 || sizes_.ranks == 1) return {};
    std::vector<Index> numbers, values;
    for (int r = 0; r < sizes_.ranks; ++r) {
      numbers.push_back(8 * (shards_of(r, batch_size).count() + blocks(r)));
      values.push_back(static_cast<Index>(element_bytes) * slice(r).count());
    }
    Traffic traffic = round_traffic(rank, sizes_.ranks);
    traffic += all_gather_traffic(numbers, rank);
    traffic += all_gather_traffic(values, rank);
    const std::size_t own = nodes(rank, batch_size).size();
    for (int r = 0; r < sizes_.ranks; ++r) {
      if (r == rank) continue;
      for (std::size_t i = 0; i < own; ++i) traffic.send(values[static_cast<std::size_t>(r)]);
      for (std::size_t i = nodes(r, batch_size).size(); i > 0; --i)
        traffic.receive(values[static_cast<std::size_t>(rank)]);
    }
    return traffic;
  }

 private:
  DataParallelSizes sizes_;
};

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
