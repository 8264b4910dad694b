// SPDX-License-Identifier: MIT
// One block of keys: where it lies, which rows see it, and its scores.

template <class T>
[[nodiscard]] TileList seeing_tiles(const RowState<T>& rows, Index begin, Index end) {
  TileList list;
  for_each_tile(rows.count, [&](Index first, Index count) {
    const Range seen = seen_by(rows, first, count, begin, end);
    if (seen.begin >= seen.end) return;
    list.tiles[list.count++] = {first, count, {seen.begin - begin, seen.end - begin}};
    list.rows += count;
  });
  return list;
}

// The scores of one row and S keys that are rows, `stride` apart: squares of them are transposed in
// registers, since nobody else would read what is packed. Each score is the chain of a tile.
template <class T>
void multiply_key_rows(const T* query, const T* keys, Index stride, Index D, T* scores) {
  constexpr Index S = Register<T>::width;
  Register<T> sum = broadcast(T(0));
  RowsAhead<T> ahead(keys + S * stride, stride, D);
  Index d = 0;
  for (; d + S <= D; d += S) {
    Register<T> square[S];
    ahead.ask();
    load_transposed(keys + d, stride, square);
#pragma GCC unroll 16
    for (Index j = 0; j < S; ++j) sum = fma(broadcast(query[d + j]), square[j], sum);
  }
  for (; d < D; ++d) {
    T column[S];
    for (Index j = 0; j < S; ++j) column[j] = keys[j * stride + d];
    sum = fma(broadcast(query[d]), load(column), sum);
  }
  store(scores, sum);
}

// How far on keys that are stored in 16 bits are asked for: the same place of the next panels, since a
// shorter way on lie those that are read beside these, and 32768 keys took a quarter longer (Zen 5,
// AVX-512). More than 16 KiB on they would push out of the first-level cache what is read before
// them: 4096 keys of D = 128 took 8 % longer.
template <class T>
[[nodiscard]] constexpr Index keys_ahead(Index D) {
  constexpr Index step = panels_per_row * panel_width<T>, most = 8192;
  return step * D <= most ? step * D : Index{1024};
}

// S = Q K^T. Panel outer, rows inner: panels are read from the first-level cache, into which they
// are packed here if that was not done before. A last panel of which half would do is multiplied by
// half: 16, 40 or 48 keys take 5 to 11 % longer without (AVX-512), and 24 or 40 with AVX2.
template <class T>
void multiply_keys(const RowState<T>& rows, const KeyBlock<T>& block, Index D,
                   std::span<const Tile> tiles) {
  constexpr Index W = panel_width<T>, step = panels_per_row * W;
  constexpr Index S = Register<T>::width;
  if (rows.count == 1 && !block.are_keys_packed && block.seen.count() >= S) {
    for (Index first = block.seen.begin; first < block.seen.end; first += S) {
      const Index at = (std::min)(first, block.seen.end - S);  // the last ones may come twice
      multiply_key_rows(rows.queries, block.keys + at * block.key_stride, block.key_stride, D,
                        rows.scores + at);
    }
    return;
  }
  for (Index first = block.seen.begin / W * W; first < block.seen.end; first += step) {
    const Index end = (std::min)(first + step, block.seen.end);
    const T* keys;
    if (block.stored_keys != nullptr && rows.count <= few_rows) {
      for (Index i = 0; i < rows.count; ++i)
        block.stored->multiply_row[static_cast<std::size_t>(blocks_of(end - first, W) - 1)](
            {.a = rows.queries + i * D,
             .b = static_cast<const std::uint16_t*>(block.stored_keys) + first * D,
             .b_stride = W,
             .depth = D,
             .c = rows.score_row(i) + first,
             .goes_on = false,
             .panel_stride = W * D,
             .ahead = keys_ahead<T>(D)});
      continue;
    }
    if (block.stored_keys != nullptr) {
      block.stored->widen(
          block.stored_keys, first * D,
          {rows.packed_keys, static_cast<std::size_t>(blocks_of(end - first, W) * W * D)});
      keys = rows.packed_keys;
    } else if (block.are_keys_packed) {
      keys = block.keys + first * D;
    } else {
      const Range seen{(std::max)(block.seen.begin - first, Index{0}), end - first};
      pack_panels(block.keys + first * block.key_stride, block.key_stride, seen, D,
                  rows.packed_keys);
      keys = rows.packed_keys;
    }
    if (rows.count <= few_rows) {
      const auto panels = static_cast<std::size_t>((end - first - 1) / W);
      for (Index i = 0; i < rows.count; ++i)
        run_tile<T>(block.is_stream && i == 0 ? row_products<T, Into::stream>[panels]
                                              : row_products<T, Into::chain>[panels],
                    {
                      .a = rows.queries + i * D, .a_stride = D, .b = keys, .b_stride = W,
                      .depth = D, .c = rows.score_row(i) + first, .c_stride = rows.score_stride,
                      .panel_stride = W * D
                    });
      continue;
    }
    for (Index panel = first; panel < end; panel += W) {
      for (const Tile& tile : tiles) {
        if (tile.seen.begin >= panel + W || panel >= tile.seen.end) continue;
        const TileCall<T> product{.a = rows.queries + tile.first * D,
                                  .a_stride = D,
                                  .b = keys + (panel - first) * D,
                                  .b_stride = W,
                                  .depth = D,
                                  .c = rows.score_row(tile.first) + panel,
                                  .c_stride = rows.score_stride};
        if (end - panel <= W / 2)
          run_tile<T>(tile_products<T, 1, Into::set>[static_cast<std::size_t>(tile.count - 1)],
                      product);
        else
          multiply_first_tile(tile.count, block.is_stream && tile.first == 0, product);
      }
    }
  }
}

// The values of the keys that any row sees.
template <class T>
[[nodiscard]] bool are_values_finite(const AttentionCall<T>& call, const RowTask& task,
                                     const KeyBlock<T>& block) {
  const auto [from, to] = block.seen;
  return all_finite(call.values.at(task.b, task.g, block.begin + from), call.values.row_stride,
                    to - from, call.shape.V);
}

// The values of some keys, as numbers of type T, into panels of a block.
template <class T>
void widen_values(const RowState<T>& rows, const KeyBlock<T>& block, Range keys) {
  constexpr Index W = panel_width<T>;
  const auto count = static_cast<std::size_t>(keys.count() * W);
  for (Index panel = 0; panel < rows.padded_V / W; ++panel)
    block.stored->widen(block.stored_values, panel * block.value_panel_stride + keys.begin * W,
                        {rows.packed_values + panel * key_block<T> * W + keys.begin * W, count});
}

// Where the products find the keys and values [range.begin, range.end) of a block. Values that are
// not packed yet are packed here, or, for few rows, read where they are.
template <class T>
[[nodiscard]] KeyBlock<T> find_keys(const AttentionCall<T>& call, const RowTask& task,
                                    const RowState<T>& rows, const PackedHead<T>& packed,
                                    Range range) {
  constexpr Index W = panel_width<T>, KB = key_block<T>;
  const auto [begin, end] = range;
  const Range seen = seen_by(rows, 0, rows.count, begin, end);
  const Index from = seen.begin - begin, to = (std::max)(seen.end, seen.begin) - begin;
  KeyBlock<T> block{};
  block.begin = begin;
  block.end = end;
  block.seen = {from, to};
  block.hides_by_range =
      !call.mask->hides_single_keys() && call.score.apply == nullptr && !has_gap_in(rows, range);
  if (packed.blocks != nullptr) {
    const PackedBlock<T>& found = packed.block(begin / KB);
    block.are_keys_packed = true;
    block.value_stride = W;
    block.value_panel_stride = found.value_panel_stride;
    block.is_finite = found.is_finite;
    block.stored = packed.stored;
    if (packed.stored == nullptr) {
      block.keys = static_cast<const T*>(found.keys);
      block.values = static_cast<const T*>(found.values);
      block.is_stream = is_stream(call);
      return block;
    }
    block.stored_keys = found.keys;
    block.stored_values = found.values;
    if (rows.count <= few_rows && found.is_finite) return block;  // on the way to the registers
    widen_values(rows, block, {from, to});
    block.values = rows.packed_values;
    block.stored_values = nullptr;
    block.value_panel_stride = KB * W;
    return block;
  }
  block.keys = call.keys.at(task.b, task.g, begin);
  block.key_stride = call.keys.row_stride;
  const Index V = call.shape.V, stride = call.values.row_stride;
  const T* values = call.values.at(task.b, task.g, begin);
  if (rows.count <= few_rows && V % W == 0) {
    block.values = values;
    block.value_stride = stride;
    block.value_panel_stride = W;
    block.is_taken_to_be_finite = block.hides_by_range && have_one_range(rows, 0, rows.count);
    block.is_finite = block.is_taken_to_be_finite || are_values_finite(call, task, block);
  } else {
    block.values = rows.packed_values;
    block.value_stride = W;
    block.value_panel_stride = KB * W;
    block.is_finite = pack_columns<T>({.matrix = values + from * stride,
                                       .stride = stride,
                                       .rows = to - from,
                                       .columns = V,
                                       .panels = rows.packed_values + from * W,
                                       .panel_stride = KB * W});
  }
  return block;
}

// Whether a score that a row sees is -inf, and so hides its key from this row: a product may overflow
// to it, or a key be infinite.
template <class T>
[[nodiscard]] bool hides_by_score(const RowState<T>& rows, const KeyBlock<T>& block) {
  for (Index i = 0; i < rows.count; ++i) {
    const auto [begin, end] = keys_of_row(rows, i, block);
    const T* const scores = rows.score_row(i);
    if (all_finite(scores + begin, 0, 1, end - begin)) continue;
    if (has_negative_infinity(scores + begin, end - begin)) return true;
  }
  return false;
}
