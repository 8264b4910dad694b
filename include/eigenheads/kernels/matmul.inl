// SPDX-License-Identifier: MIT
// Rows times panels: y = x W^T + b, written to wherever the next step reads it.

// How much of a panel is multiplied at once: 16 KiB of the first-level cache (AVX2), which leaves
// room for a tile's rows.
inline constexpr Index matmul_depth = 256;

// `width` columns of a panel's product, which lie in one head, to where they belong. Rows are
// counted and not divided: divisions would cost more than the stores.
template <class T>
void store_columns(const T* product, Index rows, Index width, const HeadLayout<T>& y,
                   Index first_row, Index column) {
  constexpr Index W = panel_width<T>, S = Register<T>::width;
  T* to = y.data + y.row_offset(first_row) + y.column_offset(column);
  Index in_sequence = first_row % y.rows_per_sequence;
  for (Index row = 0; row < rows; ++row, product += W) {
    if (width == W) {
      store(to, load(product));
      store(to + S, load(product + S));
    } else {
      for (Index j = 0; j < width; ++j) to[j] = product[j];
    }
    to += y.row_stride;
    if (++in_sequence == y.rows_per_sequence) {
      in_sequence = 0;
      to += y.sequence_stride - y.rows_per_sequence * y.row_stride;
    }
  }
}

// x: rows of `depth`, as many as the pieces have together, at most matmul_rows; the pieces say
// which rows of y they are. Of each, what lies outside `inputs` counts as 0. Panels [panel_begin,
// panel_end) of W; bias: null or [columns]. scratch: matmul_rows * panel_width.
template <class T>
void matmul(const T* x, std::span<const RowPiece> pieces, std::span<const RowPiece> inputs,
            const T* panels, Index depth, Index columns, const T* bias, Index panel_begin,
            Index panel_end, const HeadLayout<T>& y, T* scratch) {
  constexpr Index W = panel_width<T>, S = Register<T>::width;
  Index rows = 0;
  for (const RowPiece& piece : pieces) rows += piece.count;
  for (Index p = panel_begin; p < panel_end; ++p) {
    const T* panel = panels + p * W * depth;
    bool adds = false;
    for (const RowPiece& input : inputs)
      for (Index k = input.first, end = k + input.count; k < end; k += matmul_depth) {
        for_each_tile(rows, [&](Index first, Index count) {
          tile_products<T>[static_cast<std::size_t>(count - 1)](
              x + first * depth + k, depth, panel + k * W, W, (std::min)(matmul_depth, end - k),
              scratch + first * W, W, adds, 0);
        });
        adds = true;
      }
    if (!adds) std::fill_n(scratch, rows * W, T(0));
    const Index column = p * W, width = (std::min)(W, columns - column);
    if (bias != nullptr) {
      T padded[W] = {};
      std::copy_n(bias + column, width, padded);
      const Register<T> low = load(padded), high = load(padded + S);
      for (Index row = 0; row < rows; ++row) {
        store(scratch + row * W, add(load(scratch + row * W), low));
        store(scratch + row * W + S, add(load(scratch + row * W + S), high));
      }
    }
    for (Index done = 0; done < width;) {
      const Index run = (std::min)(width - done, y.columns_left_in_head(column + done));
      const T* product = scratch + done;
      for (const RowPiece& piece : pieces) {
        store_columns(product, piece.count, run, y, piece.first, column + done);
        product += piece.count * W;
      }
      done += run;
    }
  }
}
