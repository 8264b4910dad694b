// SPDX-License-Identifier: MIT
// Fused attention: a few rows of queries against one block of keys after the other. The scores of a
// block are in the second-level cache and nowhere else.
//   S = Q K^T                      m_b = max S, P = exp(S - m_b), l_b = sum P, O_b = P V
//   m' = max(m, m_b)               l' = l e^(m - m') + l_b e^(m_b - m')      and so O'
// Dao et al., "FlashAttention", 2022, with one difference: a block starts at a multiple of
// key_block and is computed by itself, its sums from zero, and merged from left to right. So a row
// is one fixed sequence of operations, whoever computes its blocks (contract C3), and long rows
// stay accurate.

// P = exp(S - m_b), with m_b and l_b of every row.
template <class T>
void softmax_rows(const AttentionCall<T>& call, const RowTask& task, const RowState<T>& rows,
                  const KeyBlock<T>& block) {
  constexpr Index S = Register<T>::width;
  SeenKeys keys[S];
  // As nearly always: to ask every row took 3 % of a head of 32 keys.
  const bool are_alike =
      rows.have_one_range && block.is_finite && block.hides_by_range && !call.scores.is_given();
  if (are_alike) std::fill_n(keys, S, seen_keys(call, task, rows, block, 0));
  for (Index first = 0; first < rows.count; first += S) {
    const Index count = (std::min)(S, rows.count - first);
    for (Index i = first; !are_alike && i < first + count; ++i)
      keys[i - first] = seen_keys(call, task, rows, block, i);
    softmax_block<T>(rows.score_row(first), rows.score_stride,
                     {keys, static_cast<std::size_t>(count)}, rows.block_maximum + first,
                     rows.block_sum + first);
  }
}

// One row of weights times one panel of values, of task only those that the row sees are touched:
// the same chain as in a whole tile, where the others add exact zeros.
template <class T>
void multiply_seen(const RowState<T>& rows, const KeyBlock<T>& block, Index row, const T* panel,
                   T* product) {
  const Range range = keys_of_row(rows, row, block);
  const T* weights = rows.score_row(row);
  const std::uint8_t* seen = rows.seen + row * key_block<T>;
  std::fill_n(product, panel_width<T>, T(0));
  for (Index k = range.begin, run = k; k < range.end; k = run + 1) {
    for (run = k; run < range.end && seen[run] != 0;) ++run;
    multiply_tile<T>(1, {.a = weights + k,
                         .a_stride = 0,
                         .b = panel + k * block.value_stride,
                         .b_stride = block.value_stride,
                         .depth = run - k,
                         .c = product,
                         .c_stride = 0,
                         .goes_on = true});
  }
}

// Few rows take so many values at a time, all their columns: what the first fetched is still in the
// first-level cache for the others.
inline constexpr Index keys_at_once = 64;
// Of values that are stored in 16 bits: so far on in each panel the next ones are asked for.
inline constexpr Index values_ahead = 1024;

// Few rows, all of which see the same or lie in finite values: `keys_at_once` keys, then all their
// columns, so that a value is fetched once.
template <class T>
void multiply_few(const RowState<T>& rows, const KeyBlock<T>& block, const Tile& tile, T* product) {
  constexpr Index W = panel_width<T>;
  const auto [from, to] = tile.seen;
  for (Index k = from; k < to; k += keys_at_once)
    for (Index i = 0; i < tile.count; ++i)
      for (Index column = 0; column < rows.padded_V; column += panels_per_row * W) {
        const Index panels = (std::min)(panels_per_row, (rows.padded_V - column) / W);
        const Index at = column / W * block.value_panel_stride + k * block.value_stride;
        const T* const weights = rows.score_row(tile.first + i) + k;
        T* const to_columns = product + i * rows.padded_V + column;
        const Index depth = (std::min)(keys_at_once, to - k);
        if (block.stored_values != nullptr)
          block.stored->multiply_row[static_cast<std::size_t>(panels - 1)](
              {.a = weights,
               .b = static_cast<const std::uint16_t*>(block.stored_values) + at,
               .b_stride = block.value_stride,
               .depth = depth,
               .c = to_columns,
               .goes_on = k > from,
               .panel_stride = block.value_panel_stride,
               .ahead = values_ahead});
        else
          multiply_row<T>(panels, {.a = weights,
                                   .a_stride = rows.score_stride,
                                   .b = block.values + at,
                                   .b_stride = block.value_stride,
                                   .depth = depth,
                                   .c = to_columns,
                                   .c_stride = 0,
                                   .goes_on = k > from,
                                   .panel_stride = block.value_panel_stride});
      }
}

// O = O e^(m - m') + P V e^(m_b - m'), for one tile of rows. Hidden weights are exact zeros, so a
// tile may be multiplied whole wherever 0 * value is 0:
//   all values seen are finite                           whole tile
//   else, ranges alone hide, and all rows have the same  whole tile: no row meets a hidden value
//   else                                                 row by row, over the keys that it sees
template <class T>
void multiply_values(const AttentionCall<T>& call, const RowState<T>& rows,
                     const KeyBlock<T>& block, const Tile& tile) {
  constexpr Index W = panel_width<T>;
  const auto [from, to] = tile.seen;
  const bool is_whole =
      block.is_finite || (block.hides_by_range && have_one_range(rows, tile.first, tile.count));
  if (!rows.have_one_range) zero_unseen(rows, block, tile);
  T* product = block.is_first ? rows.output + tile.first * rows.padded_V : rows.product;
  if (!is_whole) {
    call.row_by_row->fetch_add(tile.count, std::memory_order_relaxed);
    for (Index i = 0; i < tile.count; ++i)
      for (Index column = 0; column < rows.padded_V; column += W)
        multiply_seen(rows, block, tile.first + i,
                      block.values + column / W * block.value_panel_stride,
                      product + i * rows.padded_V + column);
  } else if (rows.count <= few_rows) {
    multiply_few(rows, block, tile, product);
  } else {
    for (Index column = 0; column < rows.padded_V; column += W)
      multiply_first_tile<T>(tile.count, block.is_stream && tile.first == 0,
                             {.a = rows.score_row(tile.first) + from,
                              .a_stride = rows.score_stride,
                              .b = block.values + column / W * block.value_panel_stride + from * W,
                              .b_stride = W,
                              .depth = to - from,
                              .c = product + column,
                              .c_stride = rows.padded_V});
  }
  if (!block.is_first) merge_output(rows, tile.first, tile.count);
}

template <class T>
void attend_block(const AttentionCall<T>& call, const RowTask& task, const RowState<T>& rows,
                  KeyBlock<T>& block) {
  const TileList list = seeing_tiles(rows, block.begin, block.end);
  if (block.is_first && list.rows < rows.count)  // some see none of its keys
    for_each_tile(rows.count, [&](Index first, Index count) {
      const Range seen = seen_by(rows, first, count, block.begin, block.end);
      if (seen.begin >= seen.end)
        std::fill_n(rows.output + first * rows.padded_V, count * rows.padded_V, T(0));
    });

  multiply_keys(rows, block, call.shape.D, list.span());
  // Where values are not finite, a score of -inf must keep them out of its row.
  if ((!block.is_finite || block.is_taken_to_be_finite) && block.hides_by_range &&
      hides_by_score(rows, block)) {
    block.hides_by_range = false;
    if (block.is_taken_to_be_finite) block.is_finite = are_values_finite(call, task, block);
  }
  softmax_rows(call, task, rows, block);
  if (call.weights.is_given()) keep_weights(call, task, rows, block.begin, block.end);
  if (call.dropout != nullptr) drop_weights(call, task, rows, block);
  merge_sums(rows);
  for (const Tile& tile : list.span()) multiply_values(call, rows, block, tile);
}

// Some rows of one sequence and key/value head, over the keys [keys.begin, keys.end) of a call,
// keys.begin a multiple of key_block.
template <class T>
void attend_keys(const AttentionCall<T>& call, const RowTask& task, const RowState<T>& rows,
                 const PackedHead<T>& packed, Range keys) {
  bool is_first = true;
  for_each_block(rows, keys, [&](Range range) {
    KeyBlock<T> block = find_keys(call, task, rows, packed, range);
    block.is_first = is_first;
    attend_block(call, task, rows, block);
    is_first = false;
  });
}

template <class T>
[[nodiscard]] RowState<T> begin_task(const AttentionCall<T>& call, const RowTask& task,
                                     RowNeeds needs, T* scratch) {
  RowState<T> rows;
  lay_out(rows, call.shape, needs, tile_size<T>, scratch);
  rows.count = task.count;
  begin_rows(call, task, rows);
  return rows;
}

// Elements of scratch memory that a task takes.
template <class T>
[[nodiscard]] Index attend_scratch(const AttentionCall<T>& call, bool packs) {
  RowState<T> rows;
  return lay_out<T>(rows, call.shape, {packs, call.weights.is_given()}, tile_size<T>, nullptr);
}

// A task of attention.
template <class T>
void attend_rows(const AttentionCall<T>& call, const RowTask& task, const PackedHead<T>& packed,
                 T* scratch) {
  const RowNeeds needs{packed.needs_packing(), call.weights.is_given()};
  const RowState<T> rows = begin_task(call, task, needs, scratch);
  attend_keys(call, task, rows, packed, {0, call.shape.K});
  end_rows(call, task, rows);
}

// The same task in pieces: one block of keys by itself, then all of them from left to right.
template <class T>
void attend_block_alone(const AttentionCall<T>& call, const RowTask& task, Index number, T* partial,
                        T* scratch) {
  const PackedHead<T> packed = call.cached_head(task.b, task.g);
  const RowState<T> rows = begin_task(call, task, {.packs = packed.needs_packing()}, scratch);
  std::fill_n(rows.output, rows.count * rows.padded_V, T(0));
  const Index begin = number * key_block<T>;
  attend_keys(call, task, rows, packed, {begin, (std::min)(begin + key_block<T>, call.shape.K)});
  save_rows(rows, partial);
}

template <class T>
void merge_blocks(const AttentionCall<T>& call, const RowTask& task, const T* partials,
                  T* scratch) {
  const RowNeeds needs{.packs = call.cached_head(task.b, task.g).needs_packing()};
  const RowState<T> rows = begin_task(call, task, needs, scratch);
  const Range seen = seen_by(rows, 0, rows.count, 0, call.shape.K);
  const Index first = seen.begin / key_block<T>;
  const Index all = call.mask->seen_keys(task.b).begin / key_block<T>;  // of any row
  for (Index number = first; number * key_block<T> < seen.end; ++number)
    merge_rows(rows, partials + (number - all) * partial_size<T>(call.shape), number == first);
  end_rows(call, task, rows);
}

// (o, lse) of the keys of both parts: o = (o1 e^(lse1 - m) + o2 e^(lse2 - m)) / (the factors' sum).
template <class T>
void merge_parts(MergePart<T> first, MergePart<T> second, Index V, T* output, T& lse) {
  // The larger first, so that the order of the two makes no difference.
  if (second.lse > first.lse) std::swap(first, second);
  if (detail::is_negative_infinity(second.lse)) {
    if (detail::is_negative_infinity(first.lse))
      std::fill_n(output, V, T(0));
    else
      std::copy_n(first.output, V, output);
    lse = first.lse;
    return;
  }
  const T factor = exp_far_difference(second.lse, first.lse), sum = T(1) + factor;
  const T reciprocal = T(1) / sum;
  for (Index v = 0; v < V; ++v)
    output[v] = std::fma(factor, second.output[v], first.output[v]) * reciprocal;
  lse = first.lse + natural_log(sum);
}
