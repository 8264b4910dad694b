// SPDX-License-Identifier: MIT
// Fused attention: a few rows of queries against one block of keys after the other. The scores of a
// block are in the second-level cache and nowhere else.
//   S = Q K^T                      m_b = max S, P = exp(S - m_b), l_b = sum P, O_b = P V
//   m' = max(m, m_b)               l' = l e^(m - m') + l_b e^(m_b - m')      and so O'
// Dao et al., "FlashAttention", 2022, with one difference: a block starts at a multiple of
// key_block and is computed by itself, its sums from zero, and merged from left to right. So a row
// is one fixed sequence of operations, whoever computes its blocks (contract C3), and long rows
// stay accurate.

// Keys [begin, end) of one block, begin a multiple of key_block, as the products read them.
template <class T>
struct KeyBlock {
  Index begin, end;
  // With nothing to merge with, its product is O: what the merge would give, to the bit.
  bool is_first;
  KeyRange seen;                           // by any row, relative to begin
  const T *keys, *values;                  // of key `begin`
  bool are_keys_packed;                    // in panels; else they are rows
  Index value_stride, value_panel_stride;  // from one key to the next, from one panel to the next
  bool hides_by_range;  // keys are hidden by ranges alone: neither one by one nor by scores of -inf
  bool finite;          // all values that are seen are
};

// Rows that are multiplied together, and the keys of the block at hand that any of them sees.
struct Tile {
  Index first, count;
  KeyRange seen;
};

template <class T>
[[nodiscard]] bool alike(const RowBlock<T>& block, Index first, Index count) {
  for (Index i = first + 1; i < first + count; ++i)
    if (block.ranges[i].begin != block.ranges[first].begin ||
        block.ranges[i].end != block.ranges[first].end)
      return false;
  return true;
}

// S = Q K^T. Panel outer, rows inner: panels are read from the first-level cache, into which they
// are packed here if that was not done before.
template <class T>
void multiply_keys(const RowBlock<T>& rows, const KeyBlock<T>& block, Index D,
                   std::span<const Tile> tiles) {
  constexpr Index W = panel_width<T>, KB = key_block<T>, step = panels_a_row * W;
  for (Index first = block.seen.begin / W * W; first < block.seen.end; first += step) {
    const Index end = (std::min)(first + step, block.seen.end);
    const T* keys = block.keys + first * D;
    if (!block.are_keys_packed) {
      pack_panels(keys, D, (std::max)(block.seen.begin - first, Index{0}), end - first, D,
                  rows.packed_keys);
      keys = rows.packed_keys;
    }
    if (rows.count <= few_rows) {
      for (Index i = 0; i < rows.count; ++i)
        row_products<T>[static_cast<std::size_t>((end - first - 1) / W)](
            rows.queries + i * D, D, keys, W, D, rows.scores + i * KB + first, KB, false, W * D);
      continue;
    }
    for (Index panel = first; panel < end; panel += W)
      for (const Tile& tile : tiles)
        if (tile.seen.begin < panel + W && panel < tile.seen.end)
          tile_products<T>[static_cast<std::size_t>(tile.count - 1)](
              rows.queries + tile.first * D, D, keys + (panel - first) * D, W, D,
              rows.scores + tile.first * KB + panel, KB, false, 0);
  }
}

// Row i's scores of the keys of its range, relative to the block, through the score function; and
// which of them it sees.
template <class T>
[[nodiscard]] SeenKeys see_keys(const AttentionCall<T>& call, const RowsOf& which,
                                const RowBlock<T>& rows, const KeyBlock<T>& block, Index i,
                                KeyRange range) {
  const Index h = call.heads.number(which.head(call, i)), q = which.query(call.shape, i);
  if (call.score.apply != nullptr)
    call.score.apply(call.score.score, rows.scores + i * key_block<T>, range.begin, range.end,
                     score_position(which.b, h, q, block.begin, call.mask->aligned(which.b, q)));
  const std::uint8_t* allowed = call.mask->allowed_row(which.b, h, q);
  if (allowed == nullptr) return {range.begin, range.end, nullptr};
  std::uint8_t* seen = rows.seen + i * key_block<T>;
  std::fill_n(seen, key_block<T>, std::uint8_t{0});
  std::copy(allowed + block.begin + range.begin, allowed + block.begin + range.end,
            seen + range.begin);
  return {range.begin, range.end, seen};
}

// P = exp(S - m_b), with m_b and l_b of every row.
template <class T>
void softmax_rows(const AttentionCall<T>& call, const RowsOf& which, const RowBlock<T>& rows,
                  const KeyBlock<T>& block) {
  constexpr Index KB = key_block<T>;
  std::fill_n(rows.block_maximum, query_block, std::numeric_limits<T>::lowest());
  std::fill_n(rows.block_sum, query_block, T(0));
  for (Index i = 0; i < rows.count; ++i) {
    const KeyRange range = within(rows.ranges[i], block.begin, 0, block.end - block.begin);
    if (range.begin == range.end) continue;
    const SeenKeys keys = see_keys(call, which, rows, block, i, range);
    T* scores = rows.scores + i * KB;
    std::uint8_t* seen = rows.seen + i * KB;
    if (!block.finite)  // then it matters that a score of -inf hides its key too
      for (Index k = range.begin; k < range.end; ++k)
        seen[k] =
            (keys.allowed == nullptr || seen[k] != 0) && !detail::is_negative_infinity(scores[k]);
    softmax_block(scores, keys, rows.block_maximum[i], rows.block_sum[i]);
  }
}

// Dropout: the weights that the values are multiplied with, and no others, are its.
template <class T>
void drop_weights(const AttentionCall<T>& call, const RowsOf& which, const RowBlock<T>& rows,
                  const KeyBlock<T>& block) {
  T factors[key_block<T>];
  for (Index i = 0; i < rows.count; ++i) {
    const KeyRange range = within(rows.ranges[i], block.begin, 0, block.end - block.begin);
    if (range.begin == range.end) continue;
    T* weights = rows.scores + i * key_block<T>;
    call.dropout->factors(which.b, call.heads.number(which.head(call, i)),
                          which.query(call.shape, i), block.begin + range.begin,
                          block.begin + range.end, factors);
    for (Index k = range.begin; k < range.end; ++k) weights[k] *= factors[k - range.begin];
  }
}

// One row of weights times one panel of values, of which only those that the row sees are touched:
// the same chain as in a whole tile, where the others add exact zeros.
template <class T>
void multiply_seen(const RowBlock<T>& rows, const KeyBlock<T>& block, Index row, const T* panel,
                   T* product) {
  const KeyRange range = within(rows.ranges[row], block.begin, 0, block.end - block.begin);
  const T* weights = rows.scores + row * key_block<T>;
  const std::uint8_t* seen = rows.seen + row * key_block<T>;
  std::fill_n(product, panel_width<T>, T(0));
  for (Index k = range.begin, run = k; k < range.end; k = run + 1) {
    for (run = k; run < range.end && seen[run] != 0;) ++run;
    tile_products<T>[0](weights + k, 0, panel + k * block.value_stride, block.value_stride, run - k,
                        product, 0, true, 0);
  }
}

// Few rows take so many values at a time, all their columns: what the first fetched is still in the
// first-level cache for the others.
inline constexpr Index keys_at_once = 64;

// O = O e^(m - m') + P V e^(m_b - m'), for one tile of rows.
template <class T>
void multiply_values(const AttentionCall<T>& call, const RowBlock<T>& rows,
                     const KeyBlock<T>& block, const Tile& tile) {
  constexpr Index W = panel_width<T>, KB = key_block<T>;
  const auto [from, to] = tile.seen;
  // Hidden weights are exact zeros, so a whole tile may be multiplied where 0 * value is 0.
  const bool whole = block.finite || (block.hides_by_range && alike(rows, tile.first, tile.count));
  for (Index i = tile.first; i < tile.first + tile.count; ++i) {
    const KeyRange range = within(rows.ranges[i], block.begin, from, to);
    T* weights = rows.scores + i * KB;
    std::fill(weights + from, weights + range.begin, T(0));
    std::fill(weights + range.end, weights + to, T(0));
  }
  if (!whole) call.row_by_row->fetch_add(tile.count, std::memory_order_relaxed);
  T* product = block.is_first ? rows.output + tile.first * rows.padded_V : rows.product;
  if (!whole) {
    for (Index i = 0; i < tile.count; ++i)
      for (Index column = 0; column < rows.padded_V; column += W)
        multiply_seen(rows, block, tile.first + i,
                      block.values + column / W * block.value_panel_stride,
                      product + i * rows.padded_V + column);
  } else if (rows.count <= few_rows) {
    for (Index k = from; k < to; k += keys_at_once)
      for (Index i = 0; i < tile.count; ++i)
        for (Index column = 0; column < rows.padded_V; column += panels_a_row * W)
          row_products<T>[static_cast<std::size_t>(
              (std::min)(panels_a_row, (rows.padded_V - column) / W) - 1)](
              rows.scores + (tile.first + i) * KB + k, KB,
              block.values + column / W * block.value_panel_stride + k * block.value_stride,
              block.value_stride, (std::min)(keys_at_once, to - k),
              product + i * rows.padded_V + column, 0, k > from, block.value_panel_stride);
  } else {
    for (Index column = 0; column < rows.padded_V; column += W)
      tile_products<T>[static_cast<std::size_t>(tile.count - 1)](
          rows.scores + tile.first * KB + from, KB,
          block.values + column / W * block.value_panel_stride + from * W, W, to - from,
          product + column, rows.padded_V, false, 0);
  }
  if (!block.is_first) merge_output(rows, tile.first, tile.count);
}

template <class T>
void attend_block(const AttentionCall<T>& call, const RowsOf& which, const RowBlock<T>& rows,
                  const KeyBlock<T>& block) {
  std::array<Tile, query_block> storage;
  std::size_t tile_count = 0;
  for_each_tile(rows.count, [&](Index first, Index count) {
    const KeyRange seen = seen_by(rows, first, count, block.begin, block.end);
    if (seen.begin < seen.end)
      storage[tile_count++] = {first, count, {seen.begin - block.begin, seen.end - block.begin}};
    else if (block.is_first)
      std::fill_n(rows.output + first * rows.padded_V, count * rows.padded_V, T(0));
  });
  const std::span<const Tile> tiles(storage.data(), tile_count);

  multiply_keys(rows, block, call.shape.D, tiles);
  softmax_rows(call, which, rows, block);
  if (call.weights != nullptr) keep_weights(call, which, rows, block.begin, block.end);
  if (call.dropout != nullptr) drop_weights(call, which, rows, block);
  merge_sums(rows);
  for (const Tile& tile : tiles) multiply_values(call, rows, block, tile);
}

// Where the products find the keys and values of a block. Values that are not packed yet are packed
// here, or, for few rows, read as they are.
template <class T>
[[nodiscard]] KeyBlock<T> find_keys(const AttentionCall<T>& call, const RowsOf& which,
                                    const RowBlock<T>& rows, const PackedHead<T>& packed,
                                    Index begin, Index end, bool is_first) {
  constexpr Index W = panel_width<T>, KB = key_block<T>;
  const AttentionShape& shape = call.shape;
  const KeyRange any_row = seen_by(rows, 0, rows.count, begin, end);
  KeyBlock<T> block{};
  block.begin = begin;
  block.end = end;
  block.is_first = is_first;
  block.hides_by_range = !call.mask->hides_single_keys() && call.score.apply == nullptr;
  block.seen = {any_row.begin - begin, (std::max)(any_row.end, any_row.begin) - begin};
  if (packed.keys != nullptr) {
    block.keys = packed.keys + begin * shape.D;
    block.are_keys_packed = true;
    block.values = packed.values + begin * W;
    block.value_stride = W;
    block.value_panel_stride = shape.K * W;
    block.finite = packed.finite[begin / KB];
    return block;
  }
  const Index head = which.b * shape.G + which.g;
  block.keys = call.keys + (head * shape.K + begin) * shape.D;
  const T* values = call.values + (head * shape.K + begin) * shape.V;
  const auto [from, to] = block.seen;
  if (rows.count <= few_rows && shape.V % W == 0) {
    block.values = values;
    block.value_stride = shape.V;
    block.value_panel_stride = W;
    block.finite = (block.hides_by_range && alike(rows, 0, rows.count)) ||
                   all_finite(values + from * shape.V, (to - from) * shape.V);
  } else {
    block.values = rows.packed_values;
    block.value_stride = W;
    block.value_panel_stride = KB * W;
    block.finite = pack_columns(values + from * shape.V, shape.V, to - from, shape.V,
                                rows.packed_values + from * W, KB * W);
  }
  return block;
}

// A task: some rows of one sequence and key/value head, over the keys [begin, end) of a call, begin
// a multiple of key_block.
template <class T>
void attend_keys(const AttentionCall<T>& call, const RowsOf& which, const RowBlock<T>& rows,
                 const PackedHead<T>& packed, Index begin, Index end) {
  const KeyRange seen = seen_by(rows, 0, rows.count, begin, end);
  bool is_first = true;
  for (Index first = seen.begin / key_block<T> * key_block<T>; first < seen.end;
       first += key_block<T>) {
    attend_block(call, which, rows,
                 find_keys(call, which, rows, packed, first,
                           (std::min)(first + key_block<T>, seen.end), is_first));
    is_first = false;
  }
}

template <class T>
void attend_rows(const AttentionCall<T>& call, const RowsOf& which, RowBlock<T>& rows,
                 const PackedHead<T>& packed) {
  begin_rows(call, which, rows);
  attend_keys(call, which, rows, packed, 0, call.shape.K);
  end_rows(call, which, rows);
}

// The same task in pieces: one block of keys by itself, then all of them from left to right.
template <class T>
void attend_one_block(const AttentionCall<T>& call, const RowsOf& which, RowBlock<T>& rows,
                      Index number, T* partial) {
  begin_rows(call, which, rows);
  std::fill_n(rows.output, rows.count * rows.padded_V, T(0));
  const Index begin = number * key_block<T>;
  attend_keys(call, which, rows, PackedHead<T>{}, begin,
              (std::min)(begin + key_block<T>, call.shape.K));
  save_rows(rows, partial);
}

template <class T>
void merge_blocks(const AttentionCall<T>& call, const RowsOf& which, RowBlock<T>& rows,
                  const T* partials) {
  begin_rows(call, which, rows);
  const KeyRange seen = seen_by(rows, 0, rows.count, 0, call.shape.K);
  const Index first = seen.begin / key_block<T>;
  for (Index number = first; number * key_block<T> < seen.end; ++number)
    merge_rows(rows, partials + number * partial_size<T>(call.shape), number == first);
  end_rows(call, which, rows);
}
