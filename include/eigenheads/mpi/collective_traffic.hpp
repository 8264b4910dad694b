// SPDX-License-Identifier: MIT
#pragma once
// What a rank sends and receives in the collectives of Ranks, for any number of ranks, of which none
// need be there: in messages of at most Traffic::most_bytes, longer ones count as several.
#include <cstddef>
#include <span>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/mpi/traffic.hpp>  // Traffic

namespace eigenheads::inline EIGENHEADS_ABI::mpi {

// `bytes` from the root to all.
[[nodiscard]] inline Traffic broadcast_traffic(Index bytes, int root, int rank, int ranks) {
  Traffic traffic;
  if (bytes == 0) return traffic;
  const int place = (rank - root + ranks) % ranks;
  int responsible = 1;
  while (place == 0 ? responsible < ranks : (place & responsible) == 0) responsible *= 2;
  if (place > 0) traffic.receive(bytes);
  for (int half = responsible / 2; half > 0; half /= 2)
    if (place + half < ranks) traffic.send(bytes);
  return traffic;
}

// bytes: of each rank's part. A rank hands on all but what the next one began with.
[[nodiscard]] inline Traffic all_gather_traffic(std::span<const Index> bytes, int rank) {
  Traffic traffic;
  const auto ranks = static_cast<int>(bytes.size());
  for (int r = 0; r < ranks; ++r) {
    const Index part = bytes[static_cast<std::size_t>(r)];
    if (r != (rank + 1) % ranks) traffic.send(part);
    if (r != rank) traffic.receive(part);
  }
  return traffic;
}

[[nodiscard]] inline Traffic gather_traffic(std::span<const Index> bytes, int root, int rank) {
  Traffic traffic;
  if (rank != root) traffic.send(bytes[static_cast<std::size_t>(rank)]);
  for (int r = 0; r < static_cast<int>(bytes.size()); ++r)
    if (rank == root && r != root) traffic.receive(bytes[static_cast<std::size_t>(r)]);
  return traffic;
}

// What a round says besides the data: its begin and its end, through rank 0.
[[nodiscard]] inline Traffic round_traffic(int rank, int ranks) {
  Traffic traffic;
  traffic.control_messages_sent = Index{2} * (rank == 0 ? ranks - 1 : 1);
  return traffic;
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::mpi

#include <eigenheads/detail/macros_on.inl>
