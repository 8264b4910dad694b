// SPDX-License-Identifier: MIT
#pragma once
// Prompts of different lengths as other libraries make them, padded on the left to one length with an
// attention mask of 1 for tokens and 0 for padding, become packed sequences. Every sequence then has
// positions from 0 and the bits that it has alone.
//   auto [ids, sequences] = remove_padding(input_ids, attention_mask);  // [B, L] -> [N]
#include <algorithm>
#include <array>
#include <concepts>
#include <utility>
#include <vector>

#include <eigenheads/detail/macros_off.inl>
#include <eigenheads/sequences.hpp>  // Sequences
#include <eigenheads/shape.hpp>      // require_shape, make_tensor
#include <eigenheads/tensor.hpp>     // Tensor, TensorView

namespace eigenheads::inline EIGENHEADS_ABI {

// rows: [N] or [N, E]
template <class T, int Rank>
struct PackedRows {
  Tensor<T, Rank> rows;
  Sequences sequences;
};

namespace detail {

// Where the ones of each row begin, one behind the other.
struct TokenRuns {
  std::vector<Index> begins, lengths;
};

template <class Number>
[[nodiscard]] TokenRuns token_runs(TensorView<Number, 2> attention_mask) {
  const Index B = attention_mask.dimension(0), L = attention_mask.dimension(1);
  TokenRuns runs;
  for (Index b = 0; b < B; ++b) {
    const Number* const row = attention_mask.data() + b * L;
    for (Index i = 0; i < L; ++i)
      if (!(row[i] == Number(0) || row[i] == Number(1)))
        refuse({"attention_mask", std::array{b, i},
                " is another number; expected 1 for a token and 0 for padding"});
    const Number* const first = std::find(row, row + L, Number(1));
    const Number* const end = std::find(first, row + L, Number(0));
    const Number* const next = std::find(end, row + L, Number(1));
    if (next != row + L)
      refuse({"attention_mask: row ", b, " has padding from ", end - row, " to ", next - row - 1,
              " between its tokens; expected padding at the ends alone"});
    runs.begins.push_back(first - row);
    runs.lengths.push_back(end - first);
  }
  return runs;
}

}  // namespace detail

// padded: [B, L], ids, or [B, L, E]; attention_mask: [B, L], of integers, booleans or numbers that are
// 0 or 1. Padding on the right or on both sides goes as well, and a row without tokens becomes a
// sequence without rows. What stands in padding is not read. Throws std::invalid_argument for another
// shape, for other numbers, and for padding between tokens, which would have no position.
template <detail::TensorLike Padded, TensorOfRank<2> AttentionMask>
requires((rank_of<Padded> == 2 || rank_of<Padded> == 3) &&
         (std::integral<element_of<AttentionMask>> || Scalar<element_of<AttentionMask>>))
[[nodiscard]] auto remove_padding(const Padded& padded, const AttentionMask& attention_mask)
    -> PackedRows<element_of<Padded>, rank_of<Padded> - 1> {
  using T = element_of<Padded>;
  constexpr int rank = rank_of<Padded>;
  const TensorView<T, rank> from(padded);
  const TensorView<element_of<AttentionMask>, 2> mask(attention_mask);
  require_shape("padded", from, "its own shape", from.dimensions());
  const Index B = from.dimension(0), L = from.dimension(1);
  require_shape("attention_mask", mask, "[B, L]", {B, L});
  const detail::TokenRuns runs = detail::token_runs(mask);
  Sequences sequences(runs.lengths);
  const Index width = rank == 3 ? from.dimension(rank - 1) : 1;
  auto rows = [&] {
    if constexpr (rank == 3)
      return detail::make_tensor<T>("packed rows", std::array{sequences.rows(), width});
    else
      return detail::make_tensor<T>("packed rows", std::array{sequences.rows()});
  }();
  for (Index b = 0; b < B; ++b)
    std::copy_n(from.data() + (b * L + runs.begins[static_cast<std::size_t>(b)]) * width,
                sequences.length(b) * width, rows.data() + sequences.begin(b) * width);
  return {std::move(rows), std::move(sequences)};
}

}  // namespace eigenheads::inline EIGENHEADS_ABI

#include <eigenheads/detail/macros_on.inl>
