// SPDX-License-Identifier: MIT
#pragma once
// Rows as they travel between ranks: without what lies between them in memory.
#include <algorithm>
#include <cstddef>
#include <span>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/detail/ranges.hpp>             // Range
#include <eigenheads/kernels/layout.hpp>            // StridedMatrix
#include <eigenheads/mpi/detail/needed_blocks.hpp>  // NeededBlocks

namespace eigenheads::inline EIGENHEADS_ABI::detail {

// Rows of one head, to be next to each other in a message.
template <class T>
T* copy_rows(const StridedMatrix<const T>& from, Index h, Range rows, T* to) {
  for (Index row = rows.begin; row < rows.end; ++row)
    to = std::copy_n(from.at(0, h, row), from.head_size, to);
  return to;
}

// Those of this rank's rows, in `heads` heads.
template <class T>
struct KeysAndValues {
  const StridedMatrix<const T>&keys, &values;
  Index heads;
};

// The keys of block i that are seen, then their values: [G, keys, D], [G, keys, V].
template <class T>
void pack_seen_keys(const KeysAndValues<T>& from, const NeededBlocks& needed, Index i,
                    std::span<std::byte> bytes) {
  const mpi::Dealing::Block& block = needed.block(i);
  const Range seen = needed.seen(i);
  const Index first = block.local - block.begin;
  T* to = reinterpret_cast<T*>(bytes.data());
  for (const auto* matrix : {&from.keys, &from.values})
    for (Index g = 0; g < from.heads; ++g)
      to = copy_rows(*matrix, g, {first + seen.begin, first + seen.end}, to);
}

}  // namespace eigenheads::inline EIGENHEADS_ABI::detail

#include <eigenheads/detail/macros_on.inl>
