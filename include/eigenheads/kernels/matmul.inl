// SPDX-License-Identifier: MIT
// Rows times panels: y = x W^T + b, written to wherever the next step reads it.

// How much of a panel is multiplied at once: every tile reads it from the second-level cache, which
// takes less time than to put the tile's sums down and take them up again (1 to 3 % of a projection).
inline constexpr Index matmul_depth = 1024;

// A few numbers, less than a panel is wide: by whole registers, of which the last may overlap, or by
// pieces. One by one they took a tenth of the chapter's example.
template <class T>
EIGEN_ALWAYS_INLINE void copy_few(const T* from, Index count, T* to) {
  constexpr Index S = Register<T>::width, piece = 4;
  if (count >= S) {
    const Register<T> last = load(from + count - S);
    store(to, load(from));
    store(to + count - S, last);
    return;
  }
  Index j = 0;
  for (; j + piece <= count; j += piece) std::memcpy(to + j, from + j, piece * sizeof(T));
  for (; j < count; ++j) to[j] = from[j];
}

// Some rows and columns of y, which lie in one head, from a panel's product. Rows are counted and not
// divided: divisions would cost more than the stores.
template <class T>
void store_columns(const T* product, Range rows, Range columns, const StridedMatrix<T>& y) {
  constexpr Index W = panel_width<T>, S = Register<T>::width;
  const Index width = columns.count();
  T* to = y.data + y.row_offset(rows.begin) + y.column_offset(columns.begin);
  Index in_sequence = rows.begin % y.rows_per_sequence;
  for (Index row = rows.begin; row < rows.end; ++row, product += W) {
    if (width == W) {
      store(to, load(product));
      store(to + S, load(product + S));
    } else {
      copy_few(product, width, to);
    }
    to += y.row_stride;
    if (++in_sequence == y.rows_per_sequence) {
      in_sequence = 0;
      to += y.sequence_stride - y.rows_per_sequence * y.row_stride;
    }
  }
}

// A tile of rows of a call: they begin with row `row` of y, in range number `range` of the call's.
struct MatmulTile {
  Index first, count, row;
  std::size_t range;
  bool is_together;  // they follow each other in one sequence of y
  Index offset;      // of `row` in y: found once, and not by a division for every panel
};

// Returns how many there are. tiles: room for matmul_rows.
template <class T>
[[nodiscard]] std::size_t find_tiles(const MatmulCall<T>& call, MatmulTile* tiles) {
  std::size_t found = 0, range = 0;
  Index range_begin = 0;  // the first of the call's rows in `range`
  for_each_tile(detail::total(call.rows), [&](Index first, Index count) {
    while (range_begin + call.rows[range].count() <= first)
      range_begin += call.rows[range++].count();
    const Index row = call.rows[range].begin + first - range_begin;
    const bool is_together = row + count <= call.rows[range].end &&
                             row % call.y.rows_per_sequence + count <= call.y.rows_per_sequence;
    tiles[found++] = {first, count, row, range, is_together, call.y.row_offset(row)};
  });
  return found;
}

// The product of a tile, [count, panel_width], to the columns of y that are `columns`.
template <class T>
void store_tile(const MatmulCall<T>& call, const MatmulTile& tile, const T* product,
                Range columns) {
  for (Range part = columns; part.begin < columns.end; part.begin = part.end) {
    part.end = (std::min)(columns.end, part.begin + call.y.columns_left_in_head(part.begin));
    const T* from = product + part.begin - columns.begin;
    Range rows{tile.row, 0};
    std::size_t range = tile.range;
    for (Index left = tile.count; left > 0; left -= rows.count()) {
      if (left < tile.count) rows.begin = call.rows[++range].begin;
      rows.end = (std::min)(rows.begin + left, call.rows[range].end);
      store_columns(from, rows, part, call.y);
      from += rows.count() * panel_width<T>;
    }
  }
}

// To `count` rows of a panel's width, or of half of it.
template <class T>
void add_bias(T* rows, Index stride, Index count, const T* bias, bool is_half) {
  constexpr Index S = Register<T>::width;
  const Register<T> low = load(bias), high = load(bias + S);
  for (Index i = 0; i < count; ++i) {
    T* const row = rows + i * stride;
    store(row, add(load(row), low));
    if (!is_half) store(row + S, add(load(row + S), high));
  }
}

// A tile's chains, `stride` apart, become rows of y: with the bias, and, where they are not in y yet,
// put there. Without any inputs they are 0.
template <class T>
struct TileSums {
  T* data;
  Index stride;
  bool is_in_y, has_inputs;
};
template <class T>
void finish_tile(const MatmulCall<T>& call, const MatmulTile& tile, Index panel,
                 const TileSums<T>& sums) {
  constexpr Index W = panel_width<T>;
  const Index column = panel * W, width = (std::min)(W, call.weight.rows - column);
  for (Index i = 0; !sums.has_inputs && i < tile.count; ++i)
    std::fill_n(sums.data + i * sums.stride, W, T(0));
  if (call.bias != nullptr) {
    T bias[W] = {};
    std::copy_n(call.bias + column, width, bias);
    add_bias(sums.data, sums.stride, tile.count, bias, width <= W / 2);
  }
  if (!sums.is_in_y) store_tile(call, tile, sums.data, {column, column + width});
}

// One row meets several panels at once, or it would wait for its own multiply-adds.
template <class T>
void matmul_row(const MatmulCall<T>& call, const MatmulTile& row, Range panels, T* scratch) {
  constexpr Index W = panel_width<T>;
  const Index depth = call.weight.columns;
  for (Index p = panels.begin; p < panels.end; p += panels_per_row) {
    const Index count = (std::min)(panels_per_row, panels.end - p);
    bool adds = false;
    for (const Range& input : call.inputs) {
      if (input.count() == 0) continue;
      multiply_row<T>(count, {.a = call.x + input.begin,
                              .a_stride = 0,
                              .b = call.weight.panel(p) + input.begin * W,
                              .b_stride = W,
                              .depth = input.count(),
                              .c = scratch,
                              .c_stride = 0,
                              .goes_on = adds,
                              .panel_stride = depth * W});
      adds = true;
    }
    for (Index i = 0; i < count; ++i)
      finish_tile<T>(call, row, p + i, {scratch + i * W, W, false, adds});
  }
}

// The panels [panels.begin, panels.end) of W, for all rows of the call. scratch: matmul_rows *
// panel_width, for tiles that do not go to y at once.
template <class T>
void matmul(const MatmulCall<T>& call, Range panels, T* scratch) {
  constexpr Index W = panel_width<T>;
  const Index depth = call.weight.columns;
  MatmulTile storage[matmul_rows];
  const std::span<const MatmulTile> tiles(storage, find_tiles(call, storage));
  if (tiles.size() == 1 && tiles[0].count == 1) {
    matmul_row(call, tiles[0], panels, scratch);
    return;
  }
  // The weights of all of a model's layers are more than caches keep, and the first tile that reads a
  // panel waits for it. With 6 layers of E = 512, 4 to 16 rows take 0.5 to 0.75 of the time without,
  // and 128 rows 0.91 (Zen 5, AVX-512; AVX2 alike); 4 rows of one layer that the third-level cache
  // keeps take 10 % longer.
  constexpr Index least = Index{1} << 18;  // bytes
  // Of a last panel, half may do; not where its sums are taken up again.
  const bool is_one_pass = call.inputs.size() == 1 && call.inputs[0].count() <= matmul_depth;
  const bool is_stream = call.weight.rows * depth * Index{sizeof(T)} >= least;
  for (Index p = panels.begin; p < panels.end; ++p) {
    const T* panel = call.weight.panel(p);
    // A product goes to y at once where it fits, else by way of `scratch`.
    const Index column = p * W;
    const bool is_whole =
        column + W <= call.weight.rows && call.y.columns_left_in_head(column) >= W;
    const bool is_half = is_one_pass && call.weight.rows - column <= W / 2;
    T* const y = call.y.data + call.y.column_offset(column);
    const auto sums = [&](const MatmulTile& tile, bool has_inputs) -> TileSums<T> {
      if (is_whole && tile.is_together)
        return {y + tile.offset, call.y.row_stride, true, has_inputs};
      return {scratch + tile.first * W, W, false, has_inputs};
    };
    bool adds = false;
    for (const Range& input : call.inputs)
      for (Index k = input.begin; k < input.end; k += matmul_depth, adds = true)
        for (const MatmulTile& tile : tiles) {
          const TileSums<T> to = sums(tile, true);
          const TileCall<T> product{.a = call.x + tile.first * depth + k,
                                    .a_stride = depth,
                                    .b = panel + k * W,
                                    .b_stride = W,
                                    .depth = (std::min)(matmul_depth, input.end - k),
                                    .c = to.data,
                                    .c_stride = to.stride,
                                    .goes_on = adds};
          if (is_half)
            run_tile<T>(tile_products<T, 1, Into::set>[static_cast<std::size_t>(tile.count - 1)],
                        product);
          else
            multiply_first_tile<T>(tile.count, is_stream && tile.first == 0, product);
        }
    for (const MatmulTile& tile : tiles) finish_tile(call, tile, p, sums(tile, adds));
  }
}
